#!/bin/sh
# Layers of PEO on 4 H200 by a profile whose kernels were fitted to the spans of one batch only, for
# the layers of the other batch, and the reverse:
#   docs/tables/peo.sh DATA
set -eu
data=${1:?usage: docs/tables/peo.sh DATA}
peosim=${PEOSIM:-./peosim}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

for fitted in 128 32; do
    judged=$((160 - fitted))
    awk -F, -v t="$fitted" 'NR == 1 || $2 == t' "$data/peo_h200x4_spans.csv" >"$dir/spans.csv"
    awk -F, -v t="$judged" 'NR == 1 || $7 == t' "$data/peo_h200x4_layers.csv" >"$dir/layers.csv"
    cp hw/profiles/h200.yaml "$dir/h200.yaml"
    $peosim calibrate --profile hw/profiles/h200.yaml --fresh --out "$dir/h200.yaml" --overwrite \
        --from "$data/deepep_ll_one_node.csv" "$data/deepep_ll.csv" "$data/deepgemm_h200_masked.csv" \
        "$data/deepgemm_h200_burst.csv" "$dir/spans.csv" >/dev/null 2>&1
    echo "kernels fitted at $fitted tokens, layers judged at $judged"
    $peosim accuracy --profile "$dir/h200.yaml" "$dir/layers.csv" | tail -1
    awk -F, -v t="$judged" 'NR == 1 || $2 == t' "$data/peo_h200x4_spans.csv" >"$dir/spans.csv"
    $peosim accuracy --profile "$dir/h200.yaml" --rows "$dir/rows.csv" --overwrite "$dir/spans.csv" \
        >/dev/null 2>&1
    # group is "kind T R SMs": the median and the 90th percentile over spans of each kind
    awk -F, 'NR > 1 { split($5, g, "[\" ]+"); k = g[2]; e = $8 < 0 ? -$8 : $8; n[k]++; x[k, n[k]] = e }
        END { for (k in n) { m = n[k]; for (i = 2; i <= m; i++) { v = x[k, i]; for (j = i - 1; j > 0 &&
              x[k, j] > v; j--) x[k, j + 1] = x[k, j]; x[k, j + 1] = v }
              printf "  %-16s %4d spans, median %5.1f%%, p90 %5.1f%%\n", k, m,
                     100 * x[k, int((m + 1) / 2)], 100 * x[k, int(0.9 * m + 0.5)] } }' \
        "$dir/rows.csv" | sort
done
