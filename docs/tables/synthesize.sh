#!/bin/sh
# The table of docs/results/synthesize.md: `peosim synthesize` on its suite of 12 scenarios.
#   docs/tables/synthesize.sh >> docs/results/synthesize.md
set -eu
cd "$(dirname "$0")/../.."
peosim=${PEOSIM:-./peosim}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
echo '| scenario | GPU | batch | best named | us | found us | gain | 5% to 95% | bound us | within | bound by |'
echo '|---|---|---|---|---|---|---|---|---|---|---|'
for name in synth_ep8 synth_ep32 synth_ep64 synth_prefill; do
    "$peosim" synthesize configs/$name.yaml --no_plots --csv --output_dir "$tmp/$name" |
        awk -F, -v name=${name#synth_} 'NR > 1 {
            between = $9 == "" ? "-" : sprintf("%+.1f to %+.1f%%", $9, $10)
            printf "| %s | %s | %s | %s | %.1f | %.1f | %+.1f%% | %s | %.1f | %.1f%% | %s |\n", name, $3, $4, $5, $6, $7,
                $8, between, $11, $12, $13 }'
done
