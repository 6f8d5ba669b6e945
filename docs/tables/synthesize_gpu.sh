#!/bin/sh
# Synthesized against best named schedules on 2 H200, six scenarios: two models over NVLink, and over an
# emulated NIC of 25 and 47 GB/s, uniform and skewed routing in turn.
#   docs/tables/synthesize_gpu.sh predict OUT    # searches; plan files and predictions, before any run
#   docs/tables/synthesize_gpu.sh measure OUT    # on the GPUs: the best named and the found one, side by side
# Over an emulated NIC the search sees two nodes of one GPU with such a NIC; the GPUs hold receives back.
set -eu
cd "$(dirname "$0")/../.."
do=${1:?predict or measure}
out=${2:?a folder}
peosim=${PEOSIM:-./peosim}
one() { # name config batch routing GB/s
    if [ "$5" = 0 ]; then
        net="--set cluster.nodes=1 --set cluster.gpus_per_node=2"
        pace=
    else
        net="--set cluster.nodes=2 --set cluster.gpus_per_node=1 --set cluster.nic_Gbitps=$((8 * $5)) --set cluster.nics_per_gpu=1"
        pace="--pace-GBps $5"
    fi
    set -- "$1" "$2" "$3" "$4"
    common="configs/$2.yaml --set batch=$3 --set routing.kind=$4"
    if [ "$do" = predict ]; then
        # shellcheck disable=SC2086
        "$peosim" synthesize $common $net --no_plots --csv --output_dir "$out/$1" >"$out/$1.csv"
    elif [ -s "$out/$1/plan-1.txt" ]; then
        # shellcheck disable=SC2086
        "$peosim" validate $common --plan "$out/$1/plan-1.txt" $pace --output_dir "$out/$1-measured"
    fi
}
mkdir -p "$out"
one dsv3_nvlink h200x2 192 uniform 0
one qwen3_nvlink h200x2_qwen3_30b 320 lognormal 0
one dsv3_nic25 h200x2 192 lognormal 25
one qwen3_nic25 h200x2_qwen3_30b 320 uniform 25
one dsv3_nic47 h200x2 192 uniform 47
one qwen3_nic47 h200x2_qwen3_30b 320 lognormal 47
