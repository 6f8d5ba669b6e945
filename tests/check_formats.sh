#!/bin/bash
# --json, --csv and --format mean the same for every command: JSON that parses, with the version
# among its members; CSV of one table, every line with as many cells; lines of JSON; and a format
# that a command does not have is refused.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2
peosim=$(readlink -f "${PEOSIM:-build/peosim}")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
fail() { echo "FAIL: $*" && failed=1; }

cells() { # every line of CSV as its number of cells; commas in quotes do not count
    awk 'BEGIN { FS = "" } { n = 1; q = 0; for (i = 1; i <= NF; i++) { if ($i == "\"") q = !q; if ($i == "," && !q) n++ } print n }' "$1" | sort -u
}

all_formats() { # KEY COMMAND...: KEY is a table that JSON must have with rows
    local key=$1 lines
    shift
    "$peosim" "$@" --json >"$dir/a.json" 2>"$dir/err" || { fail "$* --json: $(tail -n 1 "$dir/err")"; return; }
    "$peosim" info json "$dir/a.json" >/dev/null || fail "$* --json does not parse"
    grep -q '^ "version": "' "$dir/a.json" || fail "$* --json: no version"
    grep -A 1 "^ \"$key\": \[" "$dir/a.json" | grep -q '{' || fail "$* --json: no rows of $key"
    "$peosim" "$@" --format json 2>/dev/null | cmp -s - "$dir/a.json" || fail "$*: --json is not --format json"
    "$peosim" "$@" --csv >"$dir/a.csv" 2>/dev/null || fail "$* --csv"
    [ "$(wc -l <"$dir/a.csv")" -ge 2 ] || fail "$* --csv: no rows"
    [ "$(cells "$dir/a.csv" | wc -l)" = 1 ] || fail "$* --csv: lines of different lengths"
    "$peosim" "$@" --format jsonl >"$dir/a.jsonl" 2>/dev/null || fail "$* --format jsonl"
    lines=$(grep -c "^{\"table\":\"$key\",.*}\$" "$dir/a.jsonl")
    [ "$lines" -ge 1 ] || fail "$* --format jsonl: no rows of $key"
}

no_format() { # FORMAT COMMAND...
    local format=$1
    shift
    "$peosim" "$@" --format "$format" >"$dir/said" 2>"$dir/err"
    [ $? = 2 ] || fail "$* --format $format is not refused"
    [ -s "$dir/said" ] && fail "$* --format $format prints something"
    grep -q "no output as $format" "$dir/err" || fail "$* --format $format: $(tail -n 1 "$dir/err")"
}

set -- configs/qwen_ep16.yaml --set policies=none,peo --set batch=32 --no-plots --quiet --output-dir "$dir/out"
all_formats results run "$@"
all_formats results sweep "$@" --restart
all_formats results recommend "$@"
all_formats changes why "$@"
all_formats results pass configs/dsv3_decode_ep128_h800.yaml --set policies=none --no-plots --quiet --output-dir "$dir/pass"
all_formats plans capacity dsv3 --set gpus=h800 --no-plots --quiet --output-dir "$dir/capacity"
all_formats names info
all_formats names info policy
all_formats knobs info policy peo
all_formats fields info profile h20
all_formats coverage info profile h20 --coverage
all_formats layers info model deepseek-v3
{
    echo system,nodes,ep,hidden,num_experts,topk,tokens_per_rank,phase,dtype,bytes_per_rank,latency_us
    echo h200,1,8,7168,256,8,32,dispatch,fp8,1896448,16.5
} >"$dir/ll.csv"
all_formats files accuracy --profile h200 "$dir/ll.csv"
grep -q '"median_ape": 0' "$dir/a.json" || fail "accuracy --json: no median_ape"

no_format jsonl map "$@"
for command in plan calibrate microbench report init man; do
    no_format json "$command"
    no_format csv "$command"
done
no_format jsonl validate "$@"
exit $failed
