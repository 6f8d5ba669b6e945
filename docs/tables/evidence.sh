#!/bin/bash
# What hw/profiles/h200-own.yaml, fitted to microbenchmarks alone, predicts for the layers measured on H200s,
# as a Markdown table. No GPU is needed: the measured times are in validate/evidence.
#   docs/tables/evidence.sh [--update]     --update also writes the predictions into the evidence's files
set -eu -o pipefail
cd "$(dirname "$0")/../.."
. docs/tables/table_row.sh
peosim=${PEOSIM:-./peosim}
evidence=validate/evidence/2026-11-21
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# The layers on 4 GPUs were measured with the gate GEMM alone as router: without the top-k behind it.
sed '/^router:/,/^$/s/value: [0-9.e+-]*/value: 0/' hw/profiles/h200-own.yaml >"$out/h200x4.yaml"
cp hw/profiles/h200-own.yaml "$out/h200x2.yaml"

row() { # NAME MACHINE FOLDER CONFIG [flags]
    local name=$1 machine=$2 folder=$3 config=$4 from=$evidence-$2/$3
    shift 4
    "$peosim" validate "configs/$config.yaml" --measured "$from" --no-plots \
        --cluster.profile="$out/$machine.yaml" --output-dir "$out/$folder" "$@" 2>/dev/null >"$out/table.txt"
    sed -nE 's/^  ([a-z0-9_]+) +n +[0-9]+  median error +([0-9.]+%).*/\1 \2/p' "$out/table.txt" >"$out/kinds.$folder"
    [ -z "${update:-}" ] || {
        grep -v '^results: ' "$out/table.txt" >"$from/table.txt"
        cp "$out/$folder/layers.csv" "$out/$folder/ops.csv" "$from/"
    }
    table_row "$name" "$out/table.txt" signs
}

[ "${1:-}" = --update ] && update=1
{
echo "| layers on H200s | points | median error | p90 | largest | Kendall tau | losses right | gains right | pick is within |"
echo "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
row "4 GPUs: none; peo; sbo; DeepSeek-V3; batch 16 to 512" h200x4 deepseek-v3 h200x4
row "the same; Qwen3-235B" h200x4 qwen3-235b h200x4_qwen3
row "4 GPUs: eps; DeepSeek-V3; batch 512 to 2048" h200x4 eps h200x4_eps
row "4 GPUs: DeepSeek-V3 behind an emulated 47 GB/s NIC" h200x4 paced h200x4_paced --pace-GBps 47 --pace-us 5
row "2 GPUs: the same; each a rank of an emulated EP8" h200x2 paced_ep8 h200x4_paced --pace-GBps 47 --pace-us 5 \
    --cluster.nodes=8 --gpus 2 --batch=32,128
row "2 GPUs: tbo with attention; DeepSeek-V3; batch 32 to 256" h200x2 tbo h200x4_tbo --cluster.gpus_per_node=2
row "2 GPUs: eps with both kinds of GEMM; batch 1024" h200x2 eps2 h200x4_eps --cluster.gpus_per_node=2 --batch=1024

} | tee "$out/rows"
# The signs of all sets together.
awk -F ' *[|] *' 'NR > 2 { n += $3; split($8, l, " of "); split($9, g, " of "); lr += l[1]; l0 += l[2]; gr += g[1]; g0 += g[2] }
    END { printf "| all | %d | | | | | %d of %d | %d of %d | |\n", n, lr, l0, gr, g0 }' "$out/rows"

echo
echo "| median error by kind of op, waiting excluded | DeepSeek-V3 | Qwen3-235B | eps | emulated NIC | emulated EP8 | tbo | eps on 2 |"
echo "|---|---:|---:|---:|---:|---:|---:|---:|"
awk '{ if (!($1 in seen)) { seen[$1] = 1; order[++n] = $1 } v[$1, FILENAME] = $2 }
    END { for (i = 1; i <= n; i++) { printf "| %s |", order[i]
        for (f = 1; f < ARGC; f++) printf " %s |", v[order[i], ARGV[f]]
        printf "\n" } }' "$out"/kinds.deepseek-v3 "$out"/kinds.qwen3-235b "$out"/kinds.eps "$out"/kinds.paced \
    "$out"/kinds.paced_ep8 "$out"/kinds.tbo "$out"/kinds.eps2
