"""Packs the wheel: python3 packaging/wheel.py PROGRAM GLIBC. Run from the top of the tree by
packaging/wheel.sh. Standard library only; the same tree gives the same bytes."""

import base64
import hashlib
import os
import re
import subprocess
import sys
import zipfile

NAME = "peosim"
SHIPPED = ["hw/profiles", "configs", "plots", "report/page", "report/vendor"]
# Linked into the program: name, Debian package whose copyright file is included, licence.
LINKED = [
    ("GNU Scientific Library", "libgsl-dev", "GPL-3.0-or-later"),
    ("libyaml", "libyaml-dev", "MIT"),
    ("jansson", "libjansson-dev", "MIT"),
    ("SQLite", "libsqlite3-0", "public domain"),
    ("libmd", "libmd-dev", "BSD-3-Clause"),
]


def version(program):
    text = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    return text.split()[1]


def tree(root):
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in ("gallery", "__pycache__"))
        for name in sorted(files):
            yield os.path.join(folder, name)


def notices(package):
    path = f"/usr/share/doc/{package}/copyright"
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def debian_version(package):
    out = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
    return out.stdout or "unknown"


def metadata(number):
    with open("packaging/README.wheel.md", encoding="utf-8") as f:
        text = f.read()
    rows = "\n".join(f"- {name} {debian_version(package)}: {licence}" for name, package, licence in LINKED)
    return (
        f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {number}\n"
        "Summary: Predicts how a Mixture-of-Experts layer behaves under expert parallelism when "
        "communication and computation overlap\n"
        "License: GPL-3.0-or-later\nRequires-Python: >=3.9\n"
        "Description-Content-Type: text/markdown\n\n" + text.replace("@@LINKED@@", rows)
    )


def contents(program, number):
    """(place in the wheel, bytes, executable) of every file but RECORD."""
    info = f"{NAME}-{number}.dist-info"
    with open(program, "rb") as f:
        yield f"{NAME}/program/bin/peosim", f.read(), True
    for root in SHIPPED:
        for path in tree(root):
            with open(path, "rb") as f:
                yield f"{NAME}/program/share/peosim/{path}", f.read(), False
    for path in tree(f"python/{NAME}"):
        with open(path, "rb") as f:
            yield f"{NAME}/{os.path.relpath(path, f'python/{NAME}')}", f.read(), False
    yield f"{info}/METADATA", metadata(number).encode(), False
    yield f"{info}/entry_points.txt", f"[console_scripts]\n{NAME} = {NAME}:main\n".encode(), False
    with open("LICENSE", "rb") as f:
        yield f"{info}/licenses/LICENSE.peosim-source", f.read(), False
    with open("/usr/share/common-licenses/GPL-3", "rb") as f:
        yield f"{info}/licenses/GPL-3.0", f.read(), False
    for _, package, _ in LINKED:
        yield f"{info}/licenses/{package}.copyright", notices(package).encode(), False


def main():
    program, glibc = sys.argv[1:3]
    number = version(program)
    tag = f"py3-none-manylinux_{glibc.replace('.', '_')}_x86_64"
    info = f"{NAME}-{number}.dist-info"
    os.makedirs("dist", exist_ok=True)
    out = f"dist/{NAME}-{number}-{tag}.whl"
    files = list(contents(program, number))
    wheel = f"Wheel-Version: 1.0\nGenerator: peosim\nRoot-Is-Purelib: false\nTag: {tag}\n"
    files.append((f"{info}/WHEEL", wheel.encode(), False))
    record = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
        for place, data, executable in files + [(f"{info}/RECORD", None, False)]:
            if data is None:
                data = ("\n".join(record) + f"\n{place},,\n").encode()
            entry = zipfile.ZipInfo(place, (2026, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100755 if executable else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            z.writestr(entry, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{place},sha256={digest},{len(data)}")
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)*", number):
        sys.exit(f"wheel: the program's version '{number}' is not a wheel's")
    print(f"{out} {os.path.getsize(out) / 1e6:.2f} MB")


main()
