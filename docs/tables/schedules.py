#!/usr/bin/env python3
"""Draws docs/pictures/*.svg: one rank's schedule under each policy, from simulated spans.

    docs/tables/schedules.py [PEOSIM]

A lane per stream, a box per kernel as long as it runs and as high as the SMs it holds; the pale end
of a box is time spent waiting for data while holding them. Routing is balanced and ranks start
together, so that a picture shows the schedule and not one step's luck.
"""
import csv
import html
import os
import subprocess
import sys
import tempfile

PEOSIM = sys.argv[1] if len(sys.argv) > 1 else "./peosim"
COMMON = ["--no-plots", "--quiet", "--set", "routing.kind=balanced", "--set", "skew.start_us=0"]
DECODE = ["--set", "batch=64", "--set", "attention.include=off"]
SHORT = {"dispatch_send": "Ds", "dispatch_recv": "Dr", "combine_send": "Cs", "combine_recv": "Cr",
         "dispatch": "D", "combine": "C", "gate_up_gemm": "G", "silu_mul_quant": "", "down_gemm": "G",
         "router": "router", "mlp_gate_up": "shared", "mlp_silu_mul": "", "mlp_down": "",
         "attn_proj": "", "attn_core": "attn ", "attn_out": "", "a2a_dispatch": "D", "a2a_combine": "C"}
COLOURS = ["#4878a8", "#d9822b", "#4f9a5b", "#a05a9c", "#8a6d4b"]
GREY = "#8c8c8c"
WIDTH, LEFT, LANE, GAP = 1000, 78, 40, 8


def spans(config, words):
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([PEOSIM, "run", config, *COMMON, *words, "--output-dir", out], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(os.path.join(out, "spans.csv")) as f:
            return [r for r in csv.DictReader(f) if r["rank"] == "0"]


def label_of(r):
    name = SHORT.get(r["kind"], r["kind"])
    if not name:
        return ""
    cut = r["label"].split("[")[1].split("]")[0] if "[" in r["label"] else ""
    half = "AB"[int(r["batch"])] if HALVES else ""
    return name + cut + half


def panel(rows, title, y, scale, sms, t0):
    """SVG of one schedule with its lanes; returns it and the y below."""
    lanes = sorted({(int(r["stream"]), r["stream_name"]) for r in rows})
    out = [f'<text x="4" y="{y + 14}" font-weight="bold">{html.escape(title)}</text>']
    y += 22
    for stream, name in lanes:
        out.append(f'<text x="{LEFT - 8}" y="{y + LANE / 2 + 4}" text-anchor="end">{name}</text>')
        out.append(f'<rect x="{LEFT}" y="{y}" width="{WIDTH - LEFT - 4}" height="{LANE}" fill="#f3f3f1"/>')
        for r in (r for r in rows if int(r["stream"]) == stream):
            a, b = float(r["start_us"]) - t0, float(r["end_us"]) - t0
            wait = float(r["wait_us"])
            if b <= 0:
                continue
            h = max(3, LANE * min(1, int(r["sms"]) / sms))
            part = int(r["batch"]) if HALVES else int(r["round"])
            fill = GREY if part < 0 or r["label"].split("[")[0] in ("router", "combine_recv") else COLOURS[part % 5]
            x, w = LEFT + a * scale, max(1, (b - a) * scale - 0.5)
            comm = r["class"] == "comm"
            out.append(f'<rect x="{x:.1f}" y="{y + LANE - h:.1f}" width="{w:.1f}" height="{h:.1f}" fill="{fill}"'
                       + (' stroke="#222" stroke-dasharray="3,2"' if comm else "") + "/>")
            if wait > 0:
                ww = min(w, wait * scale)
                out.append(f'<rect x="{x:.1f}" y="{y + LANE - h:.1f}" width="{ww:.1f}" height="{h:.1f}" '
                           'fill="#fff" fill-opacity="0.65"/>')
            text = label_of(r)
            if text and w > 6.2 * len(text):
                dark = h < 14 or wait * scale > w / 2
                ty = y + LANE - h - 2 if h < 14 else y + LANE - h / 2 + 4
                out.append(f'<text x="{x + w / 2:.1f}" y="{ty:.1f}" text-anchor="middle" '
                           f'fill="{"#222" if dark else "#fff"}">{html.escape(text)}</text>')
        y += LANE + 3
    end = max(float(r["end_us"]) for r in rows) - t0
    out.append(f'<line x1="{LEFT + end * scale:.1f}" y1="{y - len(lanes) * (LANE + 3)}" '
               f'x2="{LEFT + end * scale:.1f}" y2="{y}" stroke="#c00"/>')
    return "\n".join(out), y + GAP


def draw(name, panels, sms, t0=0, t1=None):
    end = t1 or max(float(r["end_us"]) for _, rows in panels for r in rows)
    scale = (WIDTH - LEFT - 10) / (end - t0)
    y, body = 4, []
    for title, rows in panels:
        rows = [r for r in rows if float(r["end_us"]) > t0 and (t1 is None or float(r["start_us"]) < t1)]
        for r in rows:
            if t1 is not None:
                r["end_us"] = str(min(float(r["end_us"]), t1))
            r["start_us"] = str(max(float(r["start_us"]), t0))
        text, y = panel(rows, title, y, scale, sms, t0)
        body.append(text)
    for i in range(0, 11):
        x = LEFT + (end - t0) * i / 10 * scale
        body.append(f'<text x="{x:.1f}" y="{y + 8}" text-anchor="{"end" if i == 10 else "middle"}" fill="#555">{(end - t0) * i / 10:.0f}</text>')
    y += 16
    with open(f"docs/pictures/{name}.svg", "w") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 4}" '
                'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>\n'
                + "\n".join(body) + "\n</svg>\n")


def title(text, rows):
    return f"{text}: {max(float(r['end_us']) for r in rows):.0f} us"


HALVES = False
H20 = "configs/dpsk_ep64.yaml"
none = spans(H20, DECODE + ["--set", "policies=none"])
peo = [spans(H20, DECODE + ["--set", "policies=peo", "--set", f"overlap_method={m}", "--set", "num_rounds=4",
                            "--set", "num_sms=16"]) for m in (1, 2, 3, 4)]
draw("peo", [(title("none", none), none)] + [(title(f"peo, method {m + 1}", r), r) for m, r in enumerate(peo)], 78)
draw("none", [(title("none", none), none)], 78)
sbo = spans(H20, DECODE + ["--set", "policies=sbo"])
draw("sbo", [(title("none", none), none), (title("sbo", sbo), sbo)], 78)
eps = spans("configs/eps_dsv2_8xh800.yaml", ["--set", "policies=eps", "--set", "pipeline_num=4", "--set", "batch=4096",
            "--set", "num_sms=16", "--set", "attention.include=off", "--set", "attention.tp=1", "--set", "gate_up_gemm=group",
            "--set", "down_gemm=group"])
draw("eps", [(title("eps, 4 groups of experts, 16 SMs", eps), eps)], 132)
HALVES = True
tbo = spans(H20, ["--set", "policies=tbo", "--set", "batch=128"])
mid = [r for r in tbo if int(r["layer"]) == 2]
t0 = min(float(r["start_us"]) for r in mid)
t1 = max(float(r["end_us"]) for r in mid)
draw("tbo", [("tbo in decode, one layer of the steady period", tbo)], 78, t0, t1)
dbo = spans(H20, ["--set", "policies=dbo", "--set", "batch=128"])
mid = [r for r in dbo if int(r["layer"]) == 2]
t0 = min(float(r["start_us"]) for r in mid)
t1 = max(float(r["end_us"]) for r in mid)
draw("dbo", [("dbo in decode, one layer of the steady period", dbo)], 78, t0, t1)
HALVES = False
mega = spans("configs/dsv4_b300_ep8.yaml", ["--set", "policies=mega", "--set", "batch=512", "--set", "attention.include=off"])
for r in mega:  # parts hold no SMs of their own
    r["sms"] = r["sms"] if int(r["sms"]) > 0 else "148"
draw("mega", [(title("mega: one kernel, its parts as lanes", mega), mega)], 148)
