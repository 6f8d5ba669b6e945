#!/bin/bash
# Runs every CPU test of one build, some at a time, and says what passed.
#   run.sh BUILD [SUMMARY]    SUMMARY: a file that gets "passed failed skipped"
# Jobs are unit test programs, fuzz targets with a fixed generator, golden cases and the check of
# include directions. A log is shown only where a job failed.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2
export BUILD=${1:?usage: run.sh BUILD [SUMMARY]}
summary=${2:-$BUILD/test-summary}
export PEOSIM=$BUILD/peosim PEOSIM_HOME=$PWD LC_ALL=C
export PEOSIM_FUZZ_RUNS=${PEOSIM_FUZZ_RUNS:-3000}
export FUZZ_RUNS=${FUZZ_RUNS:-100000} TEST_TIMEOUT=${TEST_TIMEOUT:-110}
logs=$BUILD/logs
mkdir -p "$logs"

job_command() {
    case $1 in
    test_*) "$BUILD"/tests/*/"$1" ;;
    fuzz_*)
        shopt -s nullglob
        seeds=("tests/fuzz/seeds/${1#fuzz_}"/*)
        [ "$1" = fuzz_data ] && seeds+=(tests/corpus/data/*.txt tests/corpus/data/*.json tests/corpus/data/*.csv)
        [ "$1" = fuzz_routing ] && seeds+=(tests/corpus/routing/*)
        [ "$1" = fuzz_moe ] && seeds+=(configs/models/*.json)
        [ ${#seeds[@]} -gt 0 ] || seeds=(/dev/null)
        "$BUILD/tests/fuzz/$1" "$FUZZ_RUNS" "${seeds[@]}"
        ;;
    golden_*) tests/golden.sh "$PEOSIM" "${1#golden_}" ;;
    *.sh) "tests/$1" ;;
    esac
}

# Prints one line and leaves "passed failed skipped" in NAME.count.
run_job() {
    local name=$1 log=$BUILD/logs/$1.log passed failed skipped rc start
    start=$(date +%s%N)
    timeout -k 5 "$TEST_TIMEOUT" bash -c 'job_command "$0"' "$name" >"$log" 2>&1
    rc=$?
    passed=$(grep -aoE '^\[  PASSED  \] [0-9]+' "$log" | grep -oE '[0-9]+$')
    failed=$(grep -aoE '^\[  FAILED  \] [0-9]+' "$log" | grep -oE '[0-9]+$')
    skipped=$(grep -aoE '^\[  SKIPPED \] [0-9]+' "$log" | grep -oE '[0-9]+$')
    if [ -z "$passed$failed" ]; then # no unit test program, or one that did not get to its end
        passed=$((rc == 0)) failed=$((rc != 0))
    elif [ $rc != 0 ] && [ "${failed:-0}" = 0 ]; then
        failed=1
    fi
    echo "${passed:-0} ${failed:-0} ${skipped:-0}" >"$BUILD/logs/$name.count"
    printf '%-4s %-28s %4s tests %6s ms\n' "$([ $rc = 0 ] && echo ok || echo FAIL)" "$name" \
        "$((${passed:-0} + ${failed:-0}))" $((($(date +%s%N) - start) / 1000000))
    [ $rc = 0 ] && return
    [ $rc = 124 ] && echo "     out of time after $TEST_TIMEOUT s"
    tail -n 60 "$log" | cut -c 1-400 | sed 's/^/     /'
}
export -f job_command run_job

# A leak check needs ptrace, which some containers do not grant: see on the shortest test.
if [[ $BUILD == *asan* ]]; then
    export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1} UBSAN_OPTIONS=print_stacktrace=1
    if "$BUILD/tests/base/test_err" 2>&1 | grep -q 'LeakSanitizer has encountered a fatal error'; then
        echo "leak check off: this system does not let it run"
        ASAN_OPTIONS=detect_leaks=0
    fi
fi

rm -f "$logs"/*.count
{
    for t in $(ls tests/*/test_*.c | grep -v ^tests/gpu/) tests/fuzz/fuzz_*.c tests/golden/*.cmd tests/check_*.sh; do
        [ -e "$t" ] || continue
        name=$(basename "$t")
        case $t in
        *.c) echo "${name%.c}" ;;
        *.cmd) echo "golden_${name%.cmd}" ;;
        *) echo "$name" ;;
        esac
    done
} | xargs -P "${JOBS:-$(nproc)}" -I {} bash -c 'run_job "$0"' {}

cat "$logs"/*.count | awk '{p += $1; f += $2; s += $3} END {print p + 0, f + 0, s + 0}' >"$summary"
read -r passed failed skipped <"$summary"
[ "$skipped" = 0 ] || echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
