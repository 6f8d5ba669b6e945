"""pytest of the module, against the program that it finds."""

import os

import pytest

import peosim

SMALL = {"batch": [16, 64], "cluster.nodes": 2, "cluster.profile": "h20"}


def test_run_gives_every_point(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = peosim.run("dpsk_ep64", set=SMALL)
    assert {p["batch"] for p in result["results"]} == {16, 64}
    assert all(p["layer_us"] > 0 for p in result["results"] if p["policy"] == "none")
    assert os.listdir(tmp_path) == []  # nothing is left where the user stands


def test_settings_reach_the_program():
    fast = peosim.run("dpsk_ep64", set={**SMALL, "batch": 128, "cluster.nic_Gbitps": 1600})
    slow = peosim.run("dpsk_ep64", set={**SMALL, "batch": 128, "cluster.nic_Gbitps": 100})
    none = [[p["layer_us"] for p in r["results"] if p["policy"] == "none"][0] for r in (fast, slow)]
    assert none[0] < none[1]


def test_sweep_gives_rows_with_numbers():
    rows = peosim.sweep("sweep_nic", set={"batch": [16], "cluster.nic_Gbitps": [100, 400]})
    assert len({r["nic_Gbitps"] if "nic_Gbitps" in r else r["cluster.nic_Gbitps"] for r in rows}) == 2
    assert all(isinstance(r["layer_us"], float) for r in rows)


def test_errors_carry_the_programs_words():
    with pytest.raises(peosim.Error, match="gb2000") as error:
        peosim.run("dpsk_ep64", set={"cluster.profile": "gb2000"})
    assert error.value.status == 2


def test_recommend_and_why():
    assert peosim.recommend("dpsk_ep64", set=SMALL)
    assert peosim.why("dpsk_ep64", set={**SMALL, "batch": 64})
