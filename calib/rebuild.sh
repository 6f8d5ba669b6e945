#!/bin/sh
# Fits every shipped profile again, from nothing but datasheet and directly measured fields and a
# folder of public measurements:
#   calib/rebuild.sh DATA [flags of calibrate, such as --cv]
# Profiles without data of a kind assume it: h100 and h200 from each other, h800 and h20 from those
# two, b200 from h200, the other Blackwell GPUs from b200. An assume step replaces only what has no data of its own; the last one wins.
set -eu
cd "$(dirname "$0")/.."
data=${1:?usage: calib/rebuild.sh DATA}
shift
peosim=${PEOSIM:-./peosim}

assume() { # profile from...
    target=$1
    shift
    for from in "$@"; do
        $peosim calibrate --profile "hw/profiles/$target.yaml" --assume-from "hw/profiles/$from.yaml" --overwrite
    done
}
fit() { # profile flags...
    target=$1
    shift
    $peosim calibrate --profile "hw/profiles/$target.yaml" --overwrite "$@" --from "$data/deepep_ll.csv" \
        "$data/deepep_ll_one_node.csv" "$data/deepep_normal.csv" "$data/deepep_normal_one_node.csv" \
        "$data/deepep_readme.csv" "$data/public_deepep_v1_ll.csv" "$data/public_deepep_v1_normal.csv" \
        "$data/nccl_229.csv" "$data/custom_allreduce.csv" "$data/a2a_nvl.csv" "$data/grouped_gemm.csv" \
        "$data/deepgemm_h200_masked.csv" "$data/deepgemm_h200_burst.csv" \
        "$data/deepgemm_h200_sustained.csv" "$data/peo_h200x4_spans.csv" \
        "$data/moe_ffn_masked.csv" "$data/moe_ffn.csv" "$data/gemm.csv" "$data/gemm_kernels.csv" \
        "$data/attn_gqa.csv" "$data/attn_mla.csv" "$data/attn_sparse.csv" "$data/attn_linear.csv"
}

for p in h100 h800 h20 h20-141 b200 b300 gb200 gb300; do
    $peosim calibrate --profile hw/profiles/$p.yaml --fresh --overwrite
done
fit h200 --fresh "$@"
assume h100 h200
fit h100 "$@"
assume h200 h100
assume h800 h200 h100
fit h800 "$@"
assume h20 h200 h800 h100
fit h20 "$@"
assume h20-141 h200 h100 h800 h20
assume b200 h100 h200
fit b200 "$@"
# These three take from b200 alone: side by side.
pids=
for p in b300 gb200 gb300; do
    (assume $p h100 h200 b200 && fit $p "$@") &
    pids="$pids $!"
done
for pid in $pids; do
    wait "$pid"
done

# MegaMoE's rows are of GB200 and GB300; B200 and B300 take that law alone from them, and B200 what a
# few traces of its own say.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for p in gb200 gb300; do
    $peosim calibrate --profile hw/profiles/$p.yaml --overwrite --only mega --groups=false \
        --from "$data/megamoe.csv"
    cp hw/profiles/$p.yaml "$tmp/$p.yaml"
    $peosim calibrate --profile "$tmp/$p.yaml" --fresh --overwrite --only mega --groups=false \
        --from "$data/megamoe.csv"
    $peosim calibrate --profile hw/profiles/${p#g}.yaml --assume-from "$tmp/$p.yaml" --overwrite
done
$peosim calibrate --profile hw/profiles/b200.yaml --overwrite --only mega_few --groups=false \
    --from "$data/public_megamoe.csv"
