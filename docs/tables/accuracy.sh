#!/bin/sh
# The README's accuracy tables, in Markdown, from a folder of public measurements:
#   docs/tables/accuracy.sh DATA > accuracy.md
# First what the laws say about rows they were not fitted to (a shape, an EP size, an SM or group
# count left out), then how far the shipped profiles are off on every row of the files, in sample
# where the profile was fitted to that very file.
set -eu
cd "$(dirname "$0")/../.."
data=${1:?usage: docs/tables/accuracy.sh DATA}
peosim=${PEOSIM:-./peosim}
files() {
    for f in deepep_ll deepep_normal deepep_readme grouped_gemm moe_ffn_masked gemm nccl; do
        printf '%s\n' "$data/$f.csv"
    done
}
echo 'Error of the prediction in percent, median / p90:'
echo
echo '| profile | law | rows | fitted rows (in sample) | shape left out | EP size left out | SM or group count left out |'
echo '|---|---|---:|---:|---:|---:|---:|'
for p in h20 h800 h100 h200 b200; do
    # shellcheck disable=SC2046
    $peosim calibrate --profile hw/profiles/$p.yaml --dry-run --cv --markdown --from $(files)
done
echo
echo '`normal_*_nodes` include the notify kernels: each fold fits `normal_notify` anew, too.'
echo '`ffn_masked` is fitted to the uniform rows only; its power-law rows stand below.'
echo
echo 'Every row of the public files, by the shipped profiles. Rows in sample are those the profile was'
echo 'fitted to; the table above says what to expect of others:'
echo
# shellcheck disable=SC2046
$peosim accuracy --markdown $(files)
