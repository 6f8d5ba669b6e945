#!/bin/bash
# The EPS-MoE paper's tables 1, 2, 6 and 7 (arXiv 2410.12247) beside ours, as Markdown, and its rule for
# PN beside the simulated optimum. Every row of the data file gets its own.
#   docs/tables/eps.sh DATA [1|2|6|7|batch|readings|rule]     DATA: eps_moe_paper.csv; without a table: all
# Nothing is fitted to these figures. Ours are whole passes (peosim pass) of configs/eps_*.yaml.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
data=${1:?usage: docs/tables/eps.sh DATA [1|2|6|7|batch|readings|rule]}
peosim=${PEOSIM:-./peosim}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# passes CONFIG [flags]: "policy pn layer_us tokens_s gate_up_us down_us", tokens/s of all GPUs, times a layer.
# Of `tp` the fastest form, of `eps` all.
passes() {
    local config=$1
    shift
    "$peosim" pass "configs/$config.yaml" --csv --no-plots --quiet --output-dir "$out/results" "$@" 2>/dev/null |
        awk -F, '/^scenario/ { for (i = 1; i <= NF; i++) c[$i] = i; next }
            { pn = 0; if (match($c["knobs"], /pipeline_num=[0-9]+/)) pn = substr($c["knobs"], RSTART + 13, RLENGTH - 13)
              layers = $c["moe_ms"] * 1e3 / $c["layer_us"]
              print $c["policy"], pn, $c["layer_us"], $c["tokens_s_gpu"] * $c["gpus"],
                    $c["gate_up_gemm_ms"] * 1e3 / layers, $c["down_gemm_ms"] * 1e3 / layers }' |
        sort -s -k1,1 -k2,2n -k4,4rn | awk '$1 != "tp" || !n++'
}

# best FILE POLICY [PN]: its tokens/s, the highest
best() { awk -v p="$2" -v pn="${3:-}" '$1 == p && (pn == "" || $2 == pn) && $4 > b { b = $4 } END { printf "%.0f", b }' "$1"; }
pct() { awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%+.1f%%", 100 * (a / b - 1); else printf "-" }'; }
paper() { # TABLE MODEL WHAT SEQ PN
    awk -F, -v t="$1" -v m="$2" -v w="$3" -v s="$4" -v p="$5" \
        '$1 == t && $2 == m && index($4, w) == 1 && (s == "" || $5 == s) && (p == "" || $7 == p) { print $9; exit }' "$data"
}

table1_row() { # MODEL CONFIG ATTENTION [flags]
    local model=$1 config=$2 attention=$3 base one eps pb pe
    shift 3
    passes "$config" --set attention.prompt_len=1024 "$@" >"$out/t1"
    base=$(best "$out/t1" tp) one=$(best "$out/t1" none) eps=$(best "$out/t1" eps)
    pb=$(paper T1 "$model" "prefill throughput base" "" "") pe=$(paper T1 "$model" "prefill throughput EPS" "" "")
    echo "| $model, $attention | $pb | $pe | $(pct "$pe" "$pb") | $base ($(pct "$base" "$pb")) |" \
        "$eps ($(pct "$eps" "$pe")) | $(pct "$one" "$base") | $(pct "$eps" "$one") | $(pct "$eps" "$base") |"
}

table1() {
    echo "| model, attention | base, published | EPS, published | gain, published | base | EPS | parallelism | pipeline | gain |"
    echo "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    table1_row DeepSeekV2 eps_dsv2_8xh800 "TP8, BF16"
    table1_row DeepSeekV2 eps_dsv2_8xh800 "DP, FP8" --set attention.tp=1 --set gemm_dtype=fp8 --set dispatch_dtype=fp8
    table1_row Mixtral-8x7B eps_mixtral_4xh800 DP --set attention.tp=1
    table1_row Mixtral-8x7B eps_mixtral_4xh800 TP4 --set attention.tp=4
    table1_row DBRX eps_dbrx_8xh800 DP --set attention.tp=1
    table1_row DBRX eps_dbrx_8xh800 TP8 --set attention.tp=8
}

table2() {
    local seq pn one eps
    echo "| sequence | PN | gain, published | of it over PN 1 | TP8, BF16: gain | over PN 1 | DP, FP8: gain | over PN 1 |"
    echo "|---:|---:|---:|---:|---:|---:|---:|---:|"
    for seq in 1024 2048 4096 8192; do
        passes eps_dsv2_8xh800 --set attention.prompt_len=$seq >"$out/a"
        passes eps_dsv2_8xh800 --set attention.prompt_len=$seq --set attention.tp=1 --set gemm_dtype=fp8 \
            --set dispatch_dtype=fp8 >"$out/b"
        for pn in 1 5 20; do
            awk -v s=$seq -v pn=$pn -v g="$(paper T2 DeepSeekV2 gain $seq $pn)" -v one="$(paper T2 DeepSeekV2 gain $seq 1)" '
                $1 == "tp" { tp[FILENAME] = $4 }
                $1 == "none" { p1[FILENAME] = $4; if (pn == 1) x[FILENAME] = $4 }
                $1 == "eps" && $2 == pn { x[FILENAME] = $4 }
                END { printf "| %d | %d | %+.2f%% | %+.1f%% |", s, pn, g, 100 * ((100 + g) / (100 + one) - 1)
                      for (i = 1; i < ARGC; i++) { f = ARGV[i]; printf " %+.1f%% | %+.1f%% |",
                          100 * (x[f] / tp[f] - 1), 100 * (x[f] / p1[f] - 1) }
                      printf "\n" }' "$out/a" "$out/b"
        done
    done
}

# Rows per expert are the tokens per rank here: 4 ranks, 8 experts, top-2, even routing.
table6() {
    local rows sms kind published
    echo "| rows per expert | SMs | published ms | to 132 | DenseGemm ms | to 132 | GroupGemm ms | to 132 | error of the ratio |"
    echo "|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for rows in 3072 768 192; do
        rm -f "$out/first"
        for sms in $(awk -F, -v r=$rows '$1 == "T6" && $6 == r { print $8 }' "$data"); do
            published=$(awk -F, -v r=$rows -v s="$sms" '$1 == "T6" && $6 == r && $8 == s { print $9 }' "$data")
            for kind in dense group; do
                echo "$(expert_gemms $rows "$sms" $kind)"
            done >"$out/six"
            echo "$rows $sms $published $(tr '\n' ' ' <"$out/six")"
        done | awk '{ if (!p) { p = $3; d = $4; g = $5 }
            printf "| %d | %d | %.3f | %.3f | %.3f | %.3f | %.3f | %.3f | %+.1f%%, %+.1f%% |\n", $1, $2, $3, $3 / p, $4, $4 / d, $5, $5 / g,
                100 * (($4 / d) / ($3 / p) - 1), 100 * (($5 / g) / ($3 / p) - 1) }'
    done
}

# Both GEMMs of one layer's two local experts on SMS SMs, ms; on 132 by as many as the GPU has.
expert_gemms() { # ROWS SMS KIND
    local left=$((132 - $2))
    [ "$left" -gt 0 ] || left=1 # one SM is the least that eps gives to communication
    passes eps_mixtral_4xh800 --set attention.prompt_len=1024 --set attention.tp=1 --set batch="$1" --set routing.kind=balanced \
        --set policies=eps --set pipeline_num=1 --set eps.num_sms=$left --set gate_up_gemm="$3" --set down_gemm="$3" |
        awk '{ printf "%.4f", ($5 + $6) / 1e3 }'
}

table7() {
    local rows reading
    echo "| rows | published: base ms, PN 2 ms, gain | rows of all ranks, layer with attention | rows of each rank, MoE part, a copy per expert | rows of each rank, MoE part, a copy per rank |"
    echo "|---:|---|---|---|---|"
    for rows in $(awk -F, '$1 == "T7" && $7 == "" { print $6 }' "$data"); do
        awk -F, -v r="$rows" '$1 == "T7" && $6 == r { v[$7] = $9 }
            END { printf "| %d | %.3f, %.3f, %+.1f%% |", r, v[""], v[2], 100 * (v[""] / v[2] - 1) }' "$data"
        layer7 "$((rows / 8))" nccl on
        layer7 "$rows" nccl off
        layer7 "$rows" nccl_rank off
        echo
    done
}

layer7() { # BATCH COMM ATTENTION: " none, PN 2, gain |"
    "$peosim" run configs/eps_dsv2_8xh800.yaml --csv --no-plots --quiet --output-dir "$out/results" --set policies=none,eps \
        --set attention.prompt_len=1024 --set attention.tp=1 --set gemm_dtype=fp8 --set dispatch_dtype=fp8 --set pipeline_num=2 \
        --set batch="$1" --set comm="$2" --set attention.include="$3" 2>/dev/null |
        awk -F, '/^#/ { next } !n++ { for (i = 1; i <= NF; i++) c[$i] = i; next } { us[$c["policy"]] = $c["layer_us"] }
            END { printf " %.3f, %.3f, %+.1f%% |", us["none"] / 1e3, us["eps"] / 1e3, 100 * (us["none"] / us["eps"] - 1) }'
}

# DeepSeekV2 under every reading of what the paper leaves open, sequence 1024.
readings() {
    local tp dtype comm
    echo "| attention | weights | copies | base | PN 1 | PN 2 | PN 5 | PN 20 | parallelism | PN 5 over PN 1 |"
    echo "|---|---|---|---:|---:|---:|---:|---:|---:|---:|"
    echo "| published | | | 100000 | 111830 | | 121810 | 121270 | +11.8% | +8.9% |"
    for tp in 8 1; do for dtype in bf16 fp8; do for comm in nccl nccl_rank; do
        passes eps_dsv2_8xh800 --set attention.prompt_len=1024 --set attention.tp=$tp --set gemm_dtype=$dtype \
            --set dispatch_dtype=$dtype --set comm=$comm >"$out/r" || true
        awk -v head="| $([ $tp = 1 ] && echo DP || echo TP8) | $dtype | $([ $comm = nccl ] && echo "per expert" || echo "per rank") |" '
            $1 == "tp" { b = $4 } $1 == "none" { p = $4 } $1 == "eps" { x[$2] = $4 }
            END { if (!b) { print head " does not fit | | | | | | |"; exit }
                  printf "%s %.0f | %.0f | %.0f | %.0f | %.0f | %+.1f%% | %+.1f%% |\n", head, b, p, x[2], x[5], x[20], 100 * (p / b - 1), 100 * (x[5] / p - 1) }' "$out/r"
    done; done; done
}

# Table 1's gains by the tokens per rank in a pass, which the paper does not state; DP attention, sequence 512.
batch() {
    local config tokens
    echo "| tokens per rank | Mixtral: base | EPS | gain | DBRX: base | EPS | gain |"
    echo "|---:|---:|---:|---:|---:|---:|---:|"
    for tokens in 512 1024 2048 4096 8192; do
        printf '| %d |' $tokens
        for config in eps_mixtral_4xh800 eps_dbrx_8xh800; do
            passes $config --set attention.prompt_len=512 --set attention.tp=1 --set batch=$tokens >"$out/b"
            printf ' %s | %s | %s |' "$(best "$out/b" tp)" "$(best "$out/b" eps)" "$(pct "$(best "$out/b" eps)" "$(best "$out/b" tp)")"
        done
        echo
    done
}

# The paper's rule (study/eps_rule.h) beside the best PN by simulation; != marks where they disagree.
rule() {
    local config tp
    echo "| configuration | tokens per rank | C us | k us | PN* of the rule | worthwhile by the rule | PN by simulation | gain over PN 1 | |"
    echo "|---|---:|---:|---:|---:|---|---:|---:|---|"
    for config in eps_dsv2_8xh800 eps_mixtral_4xh800 eps_dbrx_8xh800; do
        for batch in 128 256 512 1024 2048 4096 8192; do
            tp=1
            [ $config = eps_dsv2_8xh800 ] && tp=8
            "$peosim" run configs/$config.yaml --no-plots --quiet --output-dir "$out/results" --set policies=none,eps \
                --set attention.prompt_len=1024 --set attention.tp=$tp --set pipeline_num=0 --set batch=$batch 2>/dev/null |
                awk -v name=$config -v b=$batch '$1 == "eps" { gain = $6 }
                    /^EPS-MoE.s rule/ { for (i = 1; i < NF; i++) { if ($i == "C") C = $(i + 1); if ($i == "k") k = $(i + 1)
                            if ($i == "sqrt(C/k)") star = $(i + 2); if ($i == "PN" && $(i + 2) == "by") pn = $(i + 1) }
                        sub(/;.*/, "", star); yes = /: worthwhile/ }
                    END { says = yes ? "yes" : "no"; ours = pn > 1 && gain + 0 > 0 ? "yes" : "no"
                          printf "| `%s` | %d | %s | %s | %s | %s | %d | %s | %s |\n", name, b, C, k, star, says, pn, gain, says == ours ? "" : "!=" }'
        done
    done
}

section() { # NAME TITLE
    [ "$only" = all ] && printf '%s\n\n' "$2"
    [ "$only" = all ] || [ "$only" = "$1" ] || return 0
    case $1 in [0-9]) "table$1" ;; *) "$1" ;; esac
    [ "$only" = all ] && echo
    return 0
}
only=${2:-all}
section 1 "Table 1: prefill tokens/s"
section batch "Table 1 by the batch"
section 2 "Table 2: DeepSeekV2's gain over the base"
section 6 "Table 6: expert GEMMs by SMs, Mixtral's shape"
section 7 "Table 7: one layer of DeepSeekV2"
section readings "DeepSeekV2, every reading"
section rule "The rule for PN"
