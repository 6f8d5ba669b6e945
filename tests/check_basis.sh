#!/bin/bash
# No table compares two bases: every command's table states one before its first row, every row of its
# CSV and JSON states the same, and the rows of a scenario are held against one baseline.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2
peosim=$(readlink -f "${PEOSIM:-build/peosim}") box=$(mktemp -d) failed=0
export PEOSIM_HOME=$PWD
trap 'rm -rf "$box"' EXIT
fail() { echo "FAILED: $*" && failed=1; }
cd "$box" || exit 2

# Of a CSV's column, its distinct values on one line.
values() { # FILE, column
    awk -F, -v name="$2" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) c = i; next } c { print $c }' "$1" |
        sort -u | paste -sd' '
}

for gpu in h200 b200; do
    for phase in decode prefill; do
        flags=(--set "cluster.profile=$gpu" --set "phase=$phase" --set policies=none,tbo --quiet --no-plots)
        [ $phase = decode ] && batch=32 || batch=4096
        rm -rf ./*-text ./*-json ./*-csv
        for command in run recommend sweep why pass; do
            own=(--set "batch=$batch") what="$command, $gpu, $phase"
            [ $command = why ] && own+=(--batch "$batch")
            "$peosim" $command qwen_ep16 "${flags[@]}" "${own[@]}" --output-dir "$command-text" >text 2>said ||
                fail "$what: $(tail -n 1 said)"
            [ "$(grep -c '^ *basis: ' text)" = 1 ] || fail "$what: states $(grep -c '^ *basis: ' text) bases"
            first=$(grep -nE '^ *(none|tbo) ' text | head -n 1 | cut -d: -f1)
            [ "$(grep -n '^ *basis: ' text | head -n 1 | cut -d: -f1)" -lt "${first:-1000000}" ] || fail "$what: rows before the basis"
            "$peosim" $command qwen_ep16 "${flags[@]}" "${own[@]}" --json --output-dir "$command-json" >json 2>/dev/null
            [ "$(grep -oE '"basis": "[a-z]*"' json | sort -u | wc -l)" -le 1 ] || fail "$what: JSON of several bases"
            case $command in
            why | pass) continue ;; # one row a change; whole passes, which have no other basis
            esac
            "$peosim" $command qwen_ep16 "${flags[@]}" "${own[@]}" --csv --output-dir "$command-csv" >csv 2>/dev/null
            [ "$(values csv basis)" = layer ] || fail "$what: CSV of bases '$(values csv basis)'"
            [ "$(values csv none_us | wc -w)" = 1 ] || fail "$what: baselines $(values csv none_us)"
        done
        "$peosim" map qwen_ep16 "${flags[@]}" --set "batch=$batch,$((2 * batch))" --output-dir map-text 2>/dev/null |
            grep -q '^ *basis: ' || fail "map, $gpu, $phase: states no basis"
    done
done
exit $failed
