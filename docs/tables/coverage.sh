#!/bin/sh
# docs/results/coverage.md: how much of a layer's time each shipped profile has measurements for.
#   docs/tables/coverage.sh > coverage.md
set -eu
cd "$(dirname "$0")/../.."
peosim=${PEOSIM:-./peosim}
cat <<'EOF'
# What the profiles have measurements for

Made by `make accuracy` from `peosim info profile X --coverage`: a layer of DeepSeek-V3 in FP8 without overlap, attention
included; decode with 128 tokens a rank over 4,096 in the cache, prefill with 4,096 a rank. Shares of the op time of the slowest rank:
*measured*, the law was fitted to measurements of this GPU; *transferred*, to those of another, scaled by nominal rates;
*assumed*, to none. *MoE part*: measured share from dispatch to combine. An exchange counts by what takes most of its time:
start, NVLink, NIC or SMs. Rows of Hopper GPUs that are not named count for h100 and h200.

| profile | phase | EP | nodes | exchange | measured | transferred | assumed | MoE part measured | largest gaps | what would close the largest |
|---|---|---:|---:|---|---:|---:|---:|---:|---|---|
EOF
for p in h20 h20-141 h800 h100 h200 b200 b300 gb200 gb300; do
    $peosim info profile $p --coverage --markdown
done
