#!/bin/sh
# The error tables of docs/model/attention.md, from a folder of public measurements:
#   docs/tables/attention.sh DATA
# Every kind of module, then every kernel, by GPU: rows, median / p90 of the error in percent in the
# fit and on head counts, batch sizes and context lengths left out. Takes some minutes a GPU.
set -eu
cd "$(dirname "$0")/../.."
data=${1:?usage: docs/tables/attention.sh DATA}
peosim=${PEOSIM:-./peosim}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for p in h100 h200 b200 b300 gb200 gb300; do
    $peosim calibrate --profile hw/profiles/$p.yaml --only attn --dry-run --cv --groups=false \
        --from "$data/attn_gqa.csv" "$data/attn_mla.csv" "$data/attn_sparse.csv" "$data/attn_linear.csv" \
        2>/dev/null >"$work/$p"
done
docs/tables/attention_table.sh "$work"
