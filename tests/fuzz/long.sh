#!/bin/bash
# Runs clang's libFuzzer on every reader and the flow engine, some seconds each (15 minutes unless told
# otherwise), one after another; what it finds worth keeping grows tests/corpus/fuzz/NAME, made as small
# as it goes. A finding ends with status 1 and lies in BUILD/findings.
#   long.sh BUILD SECONDS [NAME...]      NAME: data, csv, doc, moe, profile, routing, trace, flow
set -u -o pipefail
cd "$(dirname "$0")/../.." || exit 2
build=${1:?usage: long.sh BUILD SECONDS [NAME...]} seconds=${2:?usage: long.sh BUILD SECONDS [NAME...]}
shift 2
names=("$@") failed=0
[ ${#names[@]} -gt 0 ] || for f in tests/fuzz/fuzz_*.c; do
    f=${f##*/fuzz_} && names+=("${f%.c}")
done
mkdir -p "$build/findings"
for name in "${names[@]}"; do
    grown=$build/fuzz_corpus/$name kept=tests/corpus/fuzz/$name seeds=()
    mkdir -p "$grown" "$kept"
    for d in "tests/fuzz/seeds/$name" "$kept"; do [ -d "$d" ] && seeds+=("$d"); done
    [ "$name" = data ] && seeds+=(tests/corpus/data)
    [ "$name" = routing ] && [ -d tests/corpus/routing ] && seeds+=(tests/corpus/routing)
    [ "$name" = moe ] && seeds+=(configs/models)
    log=$build/findings/$name.log
    if "$build/tests/fuzz/fuzz_$name" -max_total_time="$seconds" -max_len=65536 -timeout=300 -rss_limit_mb=4096 \
        -artifact_prefix="$build/findings/$name-" -print_final_stats=1 "$grown" "${seeds[@]}" >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        echo "$name: $seconds s, ${runs:-?} inputs, nothing found"
    else
        failed=1
        echo "$name: FOUND, see $log"
        grep -aE 'ERROR|SUMMARY|Test unit' "$log" | head -5
    fi
    # The smallest set with the same coverage; big inputs are left out of the tree.
    "$build/tests/fuzz/fuzz_$name" -merge=1 -max_len=4096 -artifact_prefix="$build/findings/merge-" "$kept" "$grown" >/dev/null 2>&1
done
exit $failed
