#!/bin/sh
# docs/results/accuracy.md and accuracy/PROFILE.md, from a folder of public measurements:
#   docs/tables/accuracy.sh DATA docs/results
# First what the laws say about rows they were not fitted to (a shape, an EP size, an SM or group
# count left out), then how far the shipped profiles are off on every row of the files, by law, and
# by group, in sample where the profile was fitted to that very file.
set -eu
cd "$(dirname "$0")/../.."
data=${1:?usage: docs/tables/accuracy.sh DATA OUT}
out=${2:?usage: docs/tables/accuracy.sh DATA OUT}
mkdir -p "$out/accuracy"
peosim=${PEOSIM:-./peosim}
# Files that fits use, and with them those that are only looked at.
fitted=$(grep -o '\$data/[a-zA-Z0-9_]*\.csv' calib/rebuild.sh | sed 's|^\$data/||' | sort -u)
shown="public_deepep_v2.csv public_other_a2a.csv public_nccl_tests.csv nccl.csv
public_trace_train_h800_ep64_kernels.csv public_trace_train_h800_ep64_summary.csv"
files() {
    for f in "$@"; do
        [ -s "$data/$f" ] && printf '%s\n' "$data/$f"
    done
}
summary() {
echo '# Accuracy on public measurements'
echo
echo 'Made by `make accuracy`. Error of the prediction in percent: median / p90 / bias. By group: accuracy/PROFILE.md.'
echo
echo '## On groups left out'
echo
echo 'Each fold is fitted anew without the rows of some shapes, EP sizes, SM or group counts, and predicts them.'
echo
echo '| profile | law | rows | fitted rows (in sample) | shape left out | EP size left out | SM or group count left out |'
echo '|---|---|---:|---:|---:|---:|---:|'
for p in h20 h800 h100 h200 b200 b300 gb200 gb300; do
    # shellcheck disable=SC2046,SC2086
    $peosim calibrate --profile hw/profiles/$p.yaml --dry-run --cv --markdown --from $(files $fitted) 2>/dev/null
done
echo
echo '`normal_*_nodes` include the notify kernels: each fold fits `normal_notify` anew, too.'
echo '`..._few` are laws with one parameter, for tables of a few rows: in sample only.'
echo 'h100 and h200 both take the rows of Hopper GPUs whose source does not say which of the two they are.'
echo
echo '## On every row'
echo
echo 'By the shipped profiles. Rows in sample are those the profile was fitted to. What no law has (other'
echo 'libraries and fused kernels) is read and counted by `peosim accuracy`, and not in this table.'
echo
# shellcheck disable=SC2046,SC2086
$peosim accuracy --markdown $(files $fitted $shown) 2>/dev/null
}
summary >"$out/accuracy.md.new" && mv "$out/accuracy.md.new" "$out/accuracy.md"
for p in h20 h800 h100 h200 b200 b300 gb200 gb300; do
    {
        echo "# Accuracy of the profile $p by group"
        echo
        echo 'Made by `make accuracy`; the laws over all rows: ../accuracy.md.'
        echo
        echo '```'
        # shellcheck disable=SC2046,SC2086
        $peosim accuracy --profile $p $(files $fitted $shown) 2>/dev/null
        echo '```'
    } >"$out/accuracy/$p.md.new"
    mv "$out/accuracy/$p.md.new" "$out/accuracy/$p.md"
done
