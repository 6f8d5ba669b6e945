#!/bin/bash
# Installs the wheel of dist/ into a fresh virtual environment of every Python at hand and tries it as
# a user would: a shipped configuration by name from an empty folder, the page, the module's tests.
set -euo pipefail
cd "$(dirname "$0")/.."
wheel=$(ls -t dist/peosim-*.whl | head -1)
tests=$PWD/python/tests
[ "$(stat -c %s "$wheel")" -lt 8388608 ] || { echo "$wheel is over 8 MiB" && exit 1; }
tried=0
for python in ${PYTHONS:-python3 python3.9 python3.10 python3.11 python3.12 python3.13}; do
    command -v "$python" >/dev/null && "$python" -m venv --help >/dev/null 2>&1 || continue
    dir=$(mktemp -d)
    "$python" -m venv "$dir/venv" 2>/dev/null || { echo "skipped $python: no venv" && rm -rf "$dir" && continue; }
    "$dir/venv/bin/pip" install -q --disable-pip-version-check "$wheel" pytest
    mkdir "$dir/empty" && cd "$dir/empty"
    start=$(date +%s%N)
    env -u PEOSIM_HOME PATH="$dir/venv/bin:$PATH" peosim run dpsk_ep64 --no-plots --html --quiet >/dev/null
    [ -s results/dpsk_ep64/report.html ]
    ms=$((($(date +%s%N) - start) / 1000000))
    env -u PEOSIM -u PEOSIM_HOME "$dir/venv/bin/python" -m pytest -q "$tests" -p no:cacheprovider
    for config in "$dir"/venv/lib/python3*/site-packages/peosim/program/share/peosim/configs/*.yaml; do
        name=$(basename "$config" .yaml)
        "$dir/venv/bin/peosim" plan "$name" >/dev/null || { echo "$name does not run by its name" && exit 1; }
    done
    cd - >/dev/null
    rm -rf "$dir"
    tried=$((tried + 1))
    echo "$("$python" --version): ok, dpsk_ep64 with its page in $ms ms"
done
echo "wheel: $tried interpreters, $(stat -c %s "$wheel") bytes"
[ "$tried" -gt 0 ]
