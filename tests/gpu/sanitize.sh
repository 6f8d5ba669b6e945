#!/bin/sh
# The kernels' tests, in their small form, under compute-sanitizer: no bad access, no race.
# $1: the build folder (build-gpu), $2: how many GPUs the exchange may use (1).
set -u
build=${1:-build-gpu}
gpus=${2:-1}
if ! ls /dev/nvidia[0-9]* >/dev/null 2>&1; then
    echo "sanitize: skipped: no GPU"
    exit 0
fi
if ! command -v compute-sanitizer >/dev/null; then
    echo "sanitize: skipped: no compute-sanitizer in PATH"
    exit 0
fi
fail=0
check() {
    tool=$1
    shift
    echo "== $tool: $*"
    # NCCL probes for features and handles what fails, which is no error of these programs.
    compute-sanitizer --report-api-errors no --target-processes all --error-exitcode 9 \
        --tool "$tool" "$@" || fail=1
}
for tool in memcheck racecheck; do
    check $tool "$build/tests/gpu/test_gemm" small
    check $tool "$build/tests/gpu/test_attention" small
    check $tool "$build/tests/gpu/test_topk"
    # A kernel of microseconds takes tens of milliseconds here, and a rank's first ones seconds.
    check $tool "$build/tests/gpu/test_comm" --quick --deadline 60 --gpus "$gpus"
done
exit $fail
