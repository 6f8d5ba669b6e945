#!/bin/bash
# Whole commands beside the time they are to keep to, as CSV: medians of RUNS, the processor time of
# --jobs 1 and the wall time of --jobs 2.
#   bars.sh PROGRAM [RUNS]
set -u
program=${1:?usage: bars.sh PROGRAM [RUNS]}
runs=${2:-3}
cd "$(dirname "$0")/../.." || exit 2
out=$(mktemp -d) || exit 2
trap 'rm -rf "$out"' EXIT
TIMEFORMAT='%U %S %R'

median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# one JOBS ARG...: processor and wall seconds
one() {
    local jobs=$1
    shift
    rm -rf "$out/results"
    { time "$program" "$@" --jobs "$jobs" --no-plots --output-dir "$out/results" >/dev/null 2>"$out/err"; } 2>"$out/time" ||
        { cat "$out/err" >&2 && exit 1; }
    awk '{ print $1 + $2, $3 }' "$out/time"
}

# bar NAME SECONDS ARG...
bar() {
    local name=$1 limit=$2 i
    shift 2
    rm -f "$out/cpu" "$out/wall" "$out/wall1"
    for ((i = 0; i < runs; i++)); do
        one 1 "$@" >"$out/got" || exit 1
        cut -d' ' -f1 "$out/got" >>"$out/cpu"
        cut -d' ' -f2 "$out/got" >>"$out/wall1"
        one 2 "$@" >"$out/got" || exit 1
        cut -d' ' -f2 "$out/got" >>"$out/wall"
    done
    awk -v name="$name" -v n="$runs" -v limit="$limit" -v cpu="$(median <"$out/cpu")" \
        -v one="$(median <"$out/wall1")" -v two="$(median <"$out/wall")" \
        'BEGIN { printf "%s,%d,%.2f,%.2f,%.2f,%s,%s\n", name, n, cpu, two, one / two, limit, limit == "-" ? "" : two <= limit ? "met" : "not met" }'
}

echo "command,runs,cpu_s_jobs_1,wall_s_jobs_2,speedup,bar_s,bar"
bar "recommend dpsk_ep64: no draws" 1 recommend configs/dpsk_ep64.yaml --draws 0 --quiet
bar "recommend dpsk_ep64: 100 draws" 5 recommend configs/dpsk_ep64.yaml --draws 100 --quiet
bar "demo without pictures" 0.5 run configs/dpsk_ep64.yaml --quiet
bar "why dpsk_ep64: batch 128" - why configs/dpsk_ep64.yaml --batch 128 --quiet
bar "capacity dsv3" 8 capacity configs/capacity/dsv3.yaml --quiet
bar "sweep: 10400 layers of EP64" 12 sweep tests/bench/sweep_ep64.yaml --restart --quiet
