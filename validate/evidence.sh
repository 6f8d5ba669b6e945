#!/bin/bash
# What hw/h200-own.yaml, fitted to microbenchmarks alone, predicts for the layers measured on 4 H200,
# as a Markdown table. No GPU is needed: the measured times are in validate/evidence.
#   validate/evidence.sh [--update]     --update also writes the predictions into the evidence's files
set -eu -o pipefail
cd "$(dirname "$0")/.."
peosim=${PEOSIM:-./peosim}
evidence=validate/evidence/2026-11-21-h200x4
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# These layers were measured with the gate GEMM alone as their router: without the top-k behind it.
profile=$out/own.yaml
sed '/^router:/,/^$/s/value: [0-9.e+-]*/value: 0/' hw/h200-own.yaml >"$profile"

row() { # NAME FOLDER CONFIG [flags]
    local name=$1 folder=$2 config=$3
    shift 3
    "$peosim" validate "configs/$config.yaml" --measured "$evidence/$folder" --no-plots \
        --cluster.profile="$profile" --output-dir "$out/$folder" "$@" 2>/dev/null >"$out/table.txt"
    sed -nE 's/^  ([a-z0-9_]+) +n +[0-9]+  median error +([0-9.]+%).*/\1 \2/p' "$out/table.txt" >"$out/kinds.$folder"
    [ -z "${update:-}" ] || {
        grep -v '^results: ' "$out/table.txt" >"$evidence/$folder/table.txt"
        cp "$out/$folder/layers.csv" "$out/$folder/ops.csv" "$evidence/$folder/"
    }
    sed -nE "s/^layer time, ([0-9]+) points: median error ([0-9.]+%), p90 ([0-9.]+%), largest ([0-9.]+%).*/\1 | \2 | \3 | \4/p
             s/^order of the schedules: Kendall tau ([0-9.-]+),.*/\1/p
             s/^sign of the gain.*: losses ([0-9]+) of ([0-9]+) right, gains ([0-9]+) of ([0-9]+) right.*/\1 of \2 | \3 of \4/p
             s/^the schedule picked by prediction is at most ([0-9.]+%).*/\1/p" "$out/table.txt" |
        paste -sd'|' | sed "s,|, | ,g;s,  *, ,g;s,^,| $name | ,;s,\$, |,"
}

[ "${1:-}" = --update ] && update=1
echo "| layers on 4 H200 | points | median error | p90 | largest | Kendall tau | losses right | gains right | pick is within |"
echo "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
row "none; peo; sbo; DeepSeek-V3; batch 16 to 512" deepseek-v3 h200x4
row "the same; Qwen3-235B" qwen3-235b h200x4_qwen3
row "eps; DeepSeek-V3; batch 512 to 2048" eps h200x4_eps
row "the same behind an emulated 47 GB/s NIC" paced h200x4_paced --pace-GBps 47 --pace-us 5
row "emulated NIC and EP8 on 4 GPUs" paced_ep8 h200x4_paced --pace-GBps 47 --pace-us 5 --cluster.nodes=8 \
    --gpus 4 --batch=32,128

echo
echo "| median error by kind of op, waiting excluded | DeepSeek-V3 | Qwen3-235B | eps | emulated NIC | emulated EP8 |"
echo "|---|---:|---:|---:|---:|---:|"
awk '{ if (!($1 in seen)) { seen[$1] = 1; order[++n] = $1 } v[$1, FILENAME] = $2 }
    END { for (i = 1; i <= n; i++) { printf "| %s |", order[i]
        for (f = 1; f < ARGC; f++) printf " %s |", v[order[i], ARGV[f]]
        printf "\n" } }' "$out"/kinds.deepseek-v3 "$out"/kinds.qwen3-235b "$out"/kinds.eps "$out"/kinds.paced \
    "$out"/kinds.paced_ep8
