#!/usr/bin/env python3
"""How far fields of a profile are from h200's where both have data of their own: what a value that was
only transferred may be off by. Prints a Markdown table by section of the profile."""
import glob
import math
import os
import re

OWN = ("measured", "fitted")


def fields(path):
    section, out = "", {}
    with open(path) as f:
        for line in f:
            if m := re.match(r"(\w+):\s*$", line):
                section = m.group(1)
            elif m := re.match(r"\s+(\w+): \{value: ([-\d.e+]+),.*?origin: (\w+)", line):
                if m.group(3) in OWN and float(m.group(2)) > 0:
                    out[section, m.group(1)] = float(m.group(2))
    return out


def quantile(sorted_values, q):
    return sorted_values[int(q * (len(sorted_values) - 1))]


profiles = {os.path.basename(p)[:-5]: fields(p) for p in sorted(glob.glob("hw/profiles/*.yaml"))}
base = profiles.pop("h200")
profiles.pop("h200-own", None)
moved = {}
for own in profiles.values():
    for key, value in own.items():
        if key in base:
            moved.setdefault(key[0], []).append(abs(math.log(value / base[key])))
moved["all"] = [x for xs in list(moved.values()) for x in xs]
print("| section | fields | median factor | 68% within | 90% within |\n|---|---:|---:|---:|---:|")
for section, xs in moved.items():
    xs.sort()
    print(f"| {section} | {len(xs)} | {math.exp(quantile(xs, .5)):.2f} | {math.exp(quantile(xs, .68)):.2f} | "
          f"{math.exp(quantile(xs, .9)):.2f} |")
