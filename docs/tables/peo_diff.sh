#!/bin/bash
# Real PEO kernels on 4 H200 (DeepEP 492 and DeepGEMM; kernel spans of rank 0) beside the simulated schedule:
#   docs/tables/peo_diff.sh DATA [SCHEDULE ROUNDS SMS TOKENS]     DATA: peo_h200x4_spans.csv
# With a schedule (peo-2 4 16 128): `peosim diff` of the two traces. Without: one line a schedule, as Markdown.
# The replay with the median length stands for the measured; the simulated router, which was not measured, is taken off.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
data=${1:?usage: docs/tables/peo_diff.sh DATA [SCHEDULE ROUNDS SMS TOKENS]}
peosim=${PEOSIM:-./peosim}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
columns=rank,stream,stream_name,op,kind,class,label,layer,batch,round,ready_us,start_us,end_us,wait_us,sms,rows,bytes
columns=$columns,cause,cause_op,data_rank,data_op,part_fixed_us,part_sm_us,part_hbm_us,part_push_us,part_nvlink_us,part_nic_us,part_wait_us,part_blocked_us

cat >"$tmp/dpsk64.json" <<'MODEL'
{"model_type": "qwen3_moe", "hidden_size": 7168, "intermediate_size": 2048, "moe_intermediate_size": 2048, "num_experts": 64,
 "num_experts_per_tok": 8, "num_hidden_layers": 1, "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 1024}
MODEL
cat >"$tmp/layer.yaml" <<MODEL
model: $tmp/dpsk64.json
phase: decode
batch: 128
gemm_dtype: fp8
attention: {include: off}
cluster: {profile: h200, gpus_per_node: 4}
policies:
  - policy: none
MODEL

# measured SCHEDULE ROUNDS SMS TOKENS: which kernel is which follows from the order of start (calib/read_peo.c)
measured() {
    awk -F, -v s="$1" -v r="$2" -v n="$3" -v t="$4" '$2 == t && $3 == s && $4 == r && $5 == n { e = $9 + $10
            if (!($6 in end) || e > end[$6]) end[$6] = e }
        END { for (k in end) print end[k], k }' "$data" | sort -n | awk '{ k[NR] = $2 } END { print k[int((NR + 1) / 2)] }' >"$tmp/replay"
    echo "$columns"
    awk -F, -v s="$1" -v r="$2" -v n="$3" -v t="$4" -v k="$(cat "$tmp/replay")" \
        '$2 == t && $3 == s && $4 == r && $5 == n && $6 == k { print $9, $10, $7 }' "$data" | sort -n | awk -v s="$1" -v R="$2" '
        { i = seen[$3]++; round = -1; stream = 0; class = "comm"; m = substr(s, 5)
          if ($3 == "dispatch") { kind = "dispatch"
              if (R && m != 4) { recv = m == 1 ? i >= R : i % 2; kind = recv ? "dispatch_recv" : "dispatch_send"; round = m == 1 ? i % R : int(i / 2) } }
          else if ($3 == "combine") { kind = R ? (i < R ? "combine_send" : "combine_recv") : "combine"; if (R && i < R) round = i }
          else { class = "compute"; kind = $3 == "silu" ? "silu_mul_quant" : i % 2 ? "down_gemm" : "gate_up_gemm"
              if (R) { round = $3 == "silu" ? i : int(i / 2); stream = m == 4 && round == 0 ? 0 : 1 } }
          printf "0,%d,%s,-1,%s,%s,%s,0,0,%d,%.2f,%.2f,%.2f,0,0,0,0,start,-1,-1,-1,0,0,0,0,0,0,0,0\n", stream, stream ? "compute" : "main",
              kind, class, round < 0 ? kind : kind "[" round "]", round, $1, $1, $1 + $2 }'
}

# predicted SCHEDULE ROUNDS SMS TOKENS: rank 0, from its first dispatch
predicted() {
    local flags=(--set policies=none)
    [ "$1" = non-overlap ] || flags=(--set policies=peo --set overlap_method="${1#peo-}" --set num_rounds="$2" --set peo.num_sms="$3")
    "$peosim" run "$tmp/layer.yaml" --no-plots --quiet --output-dir "$tmp/o" --set batch="$4" "${flags[@]}" >/dev/null 2>&1
    awk -F, -v OFS=, 'NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i; print; next }
        $c["rank"] != 0 || $c["kind"] == "router" { next }
        !n++ { t = $c["start_us"] }
        { for (i = c["ready_us"]; i <= c["end_us"]; i++) $i = $i < t ? 0 : $i - t; $c["op"] = -1; print }' "$tmp/o/spans.csv"
}

pair() {
    predicted "$@" >"$tmp/predicted.csv"
    measured "$@" >"$tmp/measured.csv"
}

if [ $# -ge 5 ]; then
    pair "$2" "$3" "$4" "$5"
    "$peosim" diff "$tmp/predicted.csv" "$tmp/measured.csv" --names predicted,measured --output-dir "${OUT:-$tmp/diff}" | sed "s|$tmp/||g"
    exit
fi
echo "| T | schedule | rounds | SMs | predicted us | measured us | difference | where it comes from, us of the critical path |"
echo "|---:|---|---:|---:|---:|---:|---:|---|"
for t in 128 32; do
    tail -n +2 "$data" | awk -F, -v t=$t '$2 == t { print $3, $4, $5 }' | sort -u | while read -r s r n; do
        pair "$s" "$r" "$n" "$t"
        "$peosim" diff "$tmp/predicted.csv" "$tmp/measured.csv" --output-dir "$tmp/diff" 2>/dev/null >"$tmp/text"
        awk -v t=$t -v s="$s" -v r="$r" -v n="$n" '/^A: / { a = $0; sub(/.*ends at /, "", a); a += 0 } /^B: / { b = $0; sub(/.*ends at /, "", b); b += 0 }
            /^where the difference/ { on = 1; next } on && /^  total/ { on = 0 }
            on && /%/ { if (k++ < 3) { line = $0; sub(/^ +/, "", line); x = line; sub(/  +.*/, "", line); sub(/^[^+-]*/, "", x)
                words = words (words == "" ? "" : ", ") line " " sprintf("%+.0f", x + 0) } }
            END { printf "| %d | %s | %s | %s | %.1f | %.1f | %+.1f%% | %s |\n", t, s, r ? r : "-", n, a, b, 100 * (b / a - 1), words }' "$tmp/text"
    done
done
