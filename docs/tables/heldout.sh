#!/bin/bash
# Layers that no law and no profile was made from: measured once, predicted by a profile as it stood
# before, and by one fitted to that machine's own microbenchmarks.
#   docs/tables/heldout.sh measure DIR          on a host with 2 H200: microbenchmarks, then layers
#   docs/tables/heldout.sh table DIR [PROFILE]  anywhere: predicts them with PROFILE (hw/profiles/h200-own.yaml)
# Frozen: `git show COMMIT:hw/profiles/h200-own.yaml >frozen.yaml` of a commit older than the measurement, and
# `table DIR frozen.yaml` with the program of that commit. Fitted anew: `table DIR DIR/own.yaml`.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
. docs/tables/table_row.sh
peosim=${PEOSIM:-./peosim}
what=${1:?measure or table}
dir=${2:?a folder}

# Name, configuration, flags; slices carry one rank of 4 or 8 per GPU.
sets="ep2-deepseek-v3 h200x2
ep2-qwen3-235b h200x2_qwen3
ep2-qwen3-30b h200x2_qwen3_30b
ep2-mixtral h200x2_mixtral
ep4-deepseek-v3 h200x2 --gpus 2 --cluster.gpus_per_node=4 --batch=192
ep8-deepseek-v3 h200x2 --gpus 2 --cluster.gpus_per_node=8 --batch=192
ep4-qwen3-235b h200x2_qwen3 --gpus 2 --cluster.gpus_per_node=4 --batch=192
ep8-qwen3-235b h200x2_qwen3 --gpus 2 --cluster.gpus_per_node=8 --batch=192"

measure() {
    mkdir -p "$dir"
    "$peosim" microbench --gpus 2 --output "$dir/microbench.csv"
    while read -r name config flags; do
        # shellcheck disable=SC2086
        "$peosim" validate "configs/$config.yaml" --no-plots --output-dir "$dir/$name" $flags \
            >"$dir/$name.txt" </dev/null || echo "$name: exit $?"
        rm -f "$dir/$name"/*.json "$dir/$name"/*-spans.csv "$dir/$name"/*-compare.csv
    done <<<"$sets"
}

table() {
    local profile=${1:-hw/profiles/h200-own.yaml} out
    out=$(mktemp -d)
    trap "rm -rf '$out'" EXIT
    echo "| layers on 2 H200 | points | median error | p90 | largest | Kendall tau | pick is within |"
    echo "|---|---:|---:|---:|---:|---:|---:|"
    while read -r name config flags; do
        [ -s "$dir/$name/layers.csv" ] || continue
        # shellcheck disable=SC2086
        "$peosim" validate "configs/$config.yaml" --measured "$dir/$name" --no-plots $flags \
            --cluster.profile="$(readlink -f "$profile")" --output-dir "$out/$name" \
            >"$out/$name.txt" 2>/dev/null </dev/null
        table_row "$name" "$out/$name.txt"
    done <<<"$sets"
}

case $what in
measure) measure ;;
table) table "${3:-}" ;;
*)
    echo "measure or table, not $what" >&2
    exit 2
    ;;
esac
