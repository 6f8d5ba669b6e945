#!/bin/bash
# Predicted gains beside published ones (README): runs the configurations, prints a Markdown table.
# The published settings are not fully stated, so each row says what was simulated; nothing in the
# model was fitted to these figures.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
peosim=${PEOSIM:-./peosim}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# gains CONFIG POLICY BATCH: the best gain of the policy at that batch, and its layer time.
gains() {
    "$peosim" run "configs/$1.yaml" --csv --no-plots --output-dir "$out" \
        --set "policies=none,$2" --set "batch=$3" |
        grep -v '^#' | awk -F, -v policy="$2" 'NR == 1 { for (i = 1; i <= NF; i++) col[$i] = i; next }
            $col["policy"] == policy && (!n++ || $col["gain_pct"] > best) {
                best = $col["gain_pct"]; method = $col["method"]; rounds = $col["num_rounds"]
                sms = $col["num_sms"] }
            END { printf "%+.1f%% | method %s, %s rounds, %s SMs", best, method, rounds, sms }'
}

row() { # SYSTEM PUBLISHED CONFIG POLICY BATCH
    local predicted
    predicted=$(gains "$3" "$4" "$5")
    echo "| $1 | $2 | $predicted | \`configs/$3.yaml\`, batch $5 |"
}

echo "| published | gain published | gain predicted | best knobs | simulated |"
echo "|---|---|---|---|---|"
row "PEO, DPSK, batch 4" "+11%" dpsk_ep64 peo 4
row "PEO, DPSK, batch 128" "+31%" dpsk_ep64 peo 128
row "PEO, QWEN, batch 16" "up to +50%" qwen_ep16 peo 16
