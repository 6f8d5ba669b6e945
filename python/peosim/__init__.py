"""peosim from Python: the program does the work, this module passes arguments and reads JSON.

    import peosim
    result = peosim.run("dpsk_ep64", set={"batch": [64, 128]})
    rows = peosim.sweep("sweep_nic")

No state is kept: every call starts the program, gives it a folder of its own and removes it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

__all__ = ["Error", "call", "capacity", "main", "pass_", "program", "recommend", "run", "sweep", "why"]

Value = Union[str, int, float, bool, Sequence[Union[str, int, float]]]
Settings = Optional[Mapping[str, Value]]


class Error(Exception):
    """The program refused or failed; `status` is its exit status (1: the run, 2: usage or input)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def program() -> str:
    """The program's path: $PEOSIM, else the one in this package, else the one on the PATH."""
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program", "bin", "peosim")
    for path in (os.environ.get("PEOSIM"), here if os.access(here, os.X_OK) else None, shutil.which("peosim")):
        if path:
            return path
    raise Error("the program peosim is neither in this package nor on the PATH", 127)


def call(arguments: Sequence[str], timeout: Optional[float] = None) -> str:
    """Runs `peosim ARGUMENTS` and returns what it prints; Error carries what it said otherwise."""
    done = subprocess.run([program(), *arguments], capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise Error(done.stderr.strip() or f"peosim ended with status {done.returncode}", done.returncode)
    return done.stdout


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    return ",".join(str(v) for v in value)


def _flags(set: Settings) -> List[str]:
    flags: List[str] = []
    for key, value in (set or {}).items():
        flags += ["--set", f"{key}={_text(value)}"]
    return flags


def _json(command: str, config: str, set: Settings, more: Sequence[str], output: bool, timeout: Optional[float]) -> Dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="peosim-") as folder:
        place = ["--output-dir", os.path.join(folder, "out")] if output else []
        text = call([command, config, "--json", "--quiet", "--no-plots", *place, *_flags(set), *more], timeout)
    result: Dict[str, Any] = json.loads(text)
    return result


def run(config: str, set: Settings = None, flags: Sequence[str] = (), timeout: Optional[float] = None) -> Dict[str, Any]:
    """Predicts every point of a configuration (a file, or a shipped name such as "dpsk_ep64").

    set: keys of the configuration to change, e.g. {"batch": [64, 128], "cluster.nic_Gbitps": 800}.
    Returns what `peosim run --json` prints; times in us, gains in percent.
    """
    return _json("run", config, set, flags, True, timeout)


def recommend(config: str, set: Settings = None, flags: Sequence[str] = (), timeout: Optional[float] = None) -> Dict[str, Any]:
    """The best policy and knobs per batch, and what to set in the engine."""
    return _json("recommend", config, set, flags, True, timeout)


def why(config: str, set: Settings = None, flags: Sequence[str] = (), timeout: Optional[float] = None) -> Dict[str, Any]:
    """What one point's critical path is made of, and what each fix would be worth."""
    return _json("why", config, set, flags, True, timeout)


def pass_(config: str, set: Settings = None, flags: Sequence[str] = (), timeout: Optional[float] = None) -> Dict[str, Any]:
    """Whole decode steps or prefill passes (`pass` is a word of Python's)."""
    return _json("pass", config, set, flags, True, timeout)


def capacity(config: str, flags: Sequence[str] = (), timeout: Optional[float] = None) -> Dict[str, Any]:
    """The cheapest GPUs and pools that keep a traffic's TTFT and TPOT."""
    return _json("capacity", config, None, flags, True, timeout)


def _column(texts: List[str]) -> List[Any]:
    """A column has one type: int where all are, else float where all are, else text; '' is None."""
    for kind in (int, float):
        try:
            return [kind(t) if t else None for t in texts]
        except ValueError:
            pass
    return texts


def sweep(config: str, set: Settings = None, flags: Sequence[str] = (), timeout: Optional[float] = None) -> List[Dict[str, Any]]:
    """Every combination of a configuration's lists, one dict a point; keys are the CSV's columns."""
    with tempfile.TemporaryDirectory(prefix="peosim-") as folder:
        out = os.path.join(folder, "out")
        text = call(["sweep", config, "--csv", "--quiet", "--no-plots", "--output-dir", out, *_flags(set), *flags], timeout)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    for key in list(rows[0]) if rows else []:
        for row, value in zip(rows, _column([row[key] or "" for row in rows])):
            row[key] = value
    return rows


def main() -> None:
    """The command `peosim`: becomes the program."""
    try:
        path = program()
    except Error as error:
        sys.exit(f"peosim: {error}")
    os.execv(path, ["peosim", *sys.argv[1:]])
