#!/bin/sh
# The kernels' speeds beside what they are held against, on all GPUs there are, in one file.
# $1: the file to write (speed.csv), $2: the build folder (build-gpu).
set -u
out=${1:-speed.csv}
build=${2:-build-gpu}
if ! ls /dev/nvidia[0-9]* >/dev/null 2>&1; then
    echo "speed: skipped: no GPU"
    exit 0
fi
rm -f "$out"
"$build/tests/gpu/bench_comm" --csv "$out" && "$build/tests/gpu/bench_gemm" --csv "$out"
