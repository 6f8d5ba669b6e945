#!/bin/bash
# Do the claims of Per Expert Overlap (DeepEP pull 492) hold together anywhere? It states no hardware, EP, NIC, rounds
# or shapes, nor what a batch is. This searches them all and prints, as Markdown: a map, what would have
# to be true of the kernels, the nearest point, and where PEO loses.
#   docs/tables/peo_claims.sh [map|floors|nearest|lose]     without a word: all
# Claims: +11% at batch 4 and +31% at batch 128 (DPSK, read as DeepSeek-V3), up to +51%, at batch 16 (QWEN, read as
# Qwen3-Coder-480B), better than no overlap at all batch sizes, better than SBO. A claim's shortfall is by how many points
# the best knobs stay below it; a point's, the largest of its claims. Nothing is fitted. lose.csv and lose.png go to $OUT.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
peosim=${PEOSIM:-./peosim}
only=${1:-all}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
sed 's/"n_shared_experts": [0-9]*/"n_shared_experts": 0/' configs/models/deepseek-v3.json >"$tmp/out.json"

# simulate MODEL [flags]: "key ep batch policy gain_pct layer_us" a point; key: the axes but batch and nodes
simulate() {
    local model=$1
    shift
    "$peosim" run configs/peo_claims.yaml --csv --no-plots --quiet --output-dir "$tmp/o" --set model="$model" "$@" 2>/dev/null |
        awk -F, '/^#/ || /^  NICs/ { next }
            !n++ { for (i = 1; i <= NF; i++) { c[$i] = i; if ($i == "policy") axes = i - 1 } next }
            { key = ""; for (i = 1; i <= axes; i++) if (i != c["batch"] && i != c["cluster.nodes"]) key = key (key == "" ? "" : "|") $i
              print key == "" ? "-" : key, 8 * $c["cluster.nodes"], $c["batch"], $c["policy"], $c["gain_pct"], $c["layer_us"] }'
}

# join B4 B16 B128: of the points of DPSK ($tmp/d) and QWEN ($tmp/q), each at the EP with the least shortfall:
# "shortfall key ep_dpsk ep_qwen gain4 gain128 gain16 least_gain least_over_sbo"
join_models() {
    awk -v b4="$1" -v b16="$2" -v b128="$3" '
        function most(x, y) { return x > y ? x : y }
        function least(x, y) { return x < y ? x : y }
        FNR == 1 { m++ }
        { k = m SUBSEP $1 SUBSEP $2; keys[k]; if ($3 in seen == 0) { seen[$3]; b[++nb] = $3 }
          if ($4 == "peo" && (!((k, $3) in peo) || $5 > peo[k, $3])) { peo[k, $3] = $5; us[k, $3] = $6 }
          if ($4 == "sbo") sbo[k, $3] = $6 }
        END {
            for (k in keys) {
                split(k, p, SUBSEP); key = p[2]; low = 1e9; over = 1e9
                for (i = 1; i <= nb; i++) if ((k, b[i]) in peo) {
                    low = least(low, peo[k, b[i]]); over = least(over, 100 * (sbo[k, b[i]] / us[k, b[i]] - 1)) }
                if (low == 1e9) continue
                s = most(0, most(-low, -over))
                s = p[1] == 1 ? most(s, most(11 - peo[k, b4], 31 - peo[k, b128])) : most(s, 51 - peo[k, b16])
                if (!((p[1], key) in d) || s < d[p[1], key]) { d[p[1], key] = s; at[p[1], key] = k; low_at[k] = low; over_at[k] = over } }
            for (i in d) {
                split(i, p, SUBSEP); key = p[2]
                if (p[1] != 1 || !((2, key) in d)) continue
                x = at[1, key]; y = at[2, key]; split(x, ex, SUBSEP); split(y, ey, SUBSEP)
                printf "%.1f %s %d %d %.1f %.1f %.1f %.1f %.1f\n", most(d[1, key], d[2, key]), key, ex[3], ey[3],
                    peo[x, b4], peo[x, b128], peo[y, b16], least(low_at[x], low_at[y]), least(over_at[x], over_at[y]) } }' \
        "$tmp/d" "$tmp/q"
}

# reading SHARED DOMAIN FACTOR [flags]: every EP of one reading; FACTOR tokens per rank are one of the pull's batch
reading() {
    local shared=$1 domain=$2 factor=$3 dpsk=deepseek-v3 b4 b16 b64 b128
    shift 3
    [ "$shared" = in ] || dpsk=$tmp/out.json
    read -r b4 b16 b64 b128 < <(awk -v f="$factor" 'BEGIN { x = 4 * f; print x < 1 ? 1 : int(x), int(16 * f), int(64 * f), int(128 * f) }')
    simulate "$dpsk" --set cluster.nvlink_domain="$domain" --set cluster.nodes=2,4,8,16 --set batch="$b4,$b16,$b64,$b128" "$@" >"$tmp/d"
    simulate qwen3-coder-480b --set cluster.nvlink_domain="$domain" --set cluster.nodes=1,2,4 --set batch="$b4,$b16,$b64,$b128" "$@" >"$tmp/q"
    join_models "$b4" "$b16" "$b128"
}

# Shortfalls of all GPUs and NIC shares, each at its best EP, by where the shared expert is and whether DeepEP takes NVLink.
map() {
    local shared domain
    : >"$tmp/map"
    for shared in in out; do for domain in 0 1; do
        reading $shared $domain 1 --set cluster.profile=h20,h800,h100 --set cluster.nics_per_gpu=1 --set cluster.nic_Gbitps=100,200,400 |
            sed "s/^/$shared $domain /" >>"$tmp/map"
    done; done
    echo "| GPU | Gb/s a GPU | shared expert in | in, no NVLink | left out | left out, no NVLink |"
    echo "|---|---:|---|---|---|---|"
    awk '{ split($4, k, "|"); row = k[1] " | " k[2]; if (!(row in seen)) { seen[row]; order[++n] = row }
           cell[row, $1 $2] = sprintf("%.0f (EP%d, EP%d)", $3, $5, $6) }
         END { for (i = 1; i <= n; i++) { r = order[i]; print "| " r " | " cell[r, "in0"] " | " cell[r, "in1"] " | " cell[r, "out0"] " | " cell[r, "out1"] " |" } }' \
        <(sort -k4,4V "$tmp/map")
    echo
    heading "the nearest five of the map"
    sort -k3,3n "$tmp/map" | head -5 | while read -r shared domain point; do
        read -r _ point_key _ <<<"$point"
        line "${point_key/|/, } Gb/s, shared expert $shared, NVLink $([ "$domain" = 0 ] && echo yes || echo no)" "$point"
    done
}

# The unknowns, each with what else it may be; the first is where the search starts.
declare -A S=([profile]=h20 [nic]=200 [shared]=in [nvlink]=yes [tokens]=1 [launch]=graph [sigma]=0.3 [skew]=2 [dispatch]=fp8 [combine]=bf16)
declare -A MAY=([profile]="h20 h800 h100" [nic]="100 200 400" [shared]="in out" [nvlink]="yes no" [tokens]="0.125 1 2 4"
    [launch]="graph eager" [sigma]="0 0.3 0.6" [skew]="0 2 20 100" [dispatch]="fp8 bf16" [combine]="bf16 logfmt10")

# here: the line of the point S
here() {
    reading "${S[shared]}" "$([ "${S[nvlink]}" = yes ] && echo 0 || echo 1)" "${S[tokens]}" --set cluster.profile="$(profile_of)" \
        --set cluster.nics_per_gpu=1 --set cluster.nic_Gbitps="${S[nic]}" --set launch.eager="$([ "${S[launch]}" = eager ] && echo true || echo false)" \
        --set routing.sigma="${S[sigma]}" --set skew.start_us="${S[skew]}" --set dispatch_dtype="${S[dispatch]}" --set combine_dtype="${S[combine]}" "$@"
}
fields= # "section field value ..." that differ from the GPU's profile
# The profile, or a copy with those fields.
profile_of() {
    local section field value
    [ -n "$fields" ] || { echo "${S[profile]}"; return; }
    cp "hw/profiles/${S[profile]}.yaml" "$tmp/changed.yaml"
    while read -r section field value; do
        sed -i -e "/^$section:/,/^\$/{/^  $field:/d}" \
            -e "s/^$section:/$section:\n  $field: {value: $value, origin: assumed, source: \"what would have to be true\"}/" "$tmp/changed.yaml"
    done <<<"$fields"
    echo "$tmp/changed.yaml"
}
line() { # WHAT POINT
    local s key e1 e2 g4 g128 g16 low over
    read -r s key e1 e2 g4 g128 g16 low over <<<"$2"
    echo "| $1 | EP$e1, EP$e2 | $g4% | $g128% | $g16% | $low% | $over% | $s |"
}
heading() {
    echo "| $1 | EP of DPSK, QWEN | DPSK at 4: +11 | at 128: +31 | QWEN at 16: +51 | least gain: > 0 | least over SBO: > 0 | shortfall |"
    echo "|---|---|---:|---:|---:|---:|---:|---:|"
}

# Changes one unknown at a time, the one that helps most, until none does. What made it worse by over a point is not
# tried again.
nearest() {
    local best base point name value keep won
    declare -A worse
    heading "what is true"
    read -r best < <(here)
    line "start: H20, 200 Gb/s a GPU, tokens per rank, as configs/peo_claims.yaml" "$best"
    while :; do
        won= base=${best%% *}
        for name in profile nic shared nvlink tokens launch sigma skew dispatch combine; do
            keep=${S[$name]}
            for value in ${MAY[$name]}; do
                [ "$value" != "$keep" ] && [ -z "${worse[$name $value]:-}" ] || continue
                S[$name]=$value
                point=$(here)
                [ -n "$point" ] || continue
                case $(awk -v a="${point%% *}" -v b="${best%% *}" -v c="$base" 'BEGIN { print (a < b - 0.05) ? "won" : (a > c + 1) ? "worse" : "" }') in
                won) best=$point won="$name $value" ;;
                worse) worse[$name $value]=1 ;;
                esac
            done
            S[$name]=$keep
        done
        [ -n "$won" ] || break
        S[${won% *}]=${won#* }
        line "and ${won% *} ${won#* }" "$best"
    done
}

# What kernels other than those of the profile would do at the likeliest reading.
floors() {
    local us keep=${S[nic]}
    heading "H20, 200 Gb/s a GPU, tokens per rank, and"
    for us in 20 100; do
        fields="net nic_lat_us $us"$'\n'"net nvlink_lat_us $us"
        line "every path takes $us us" "$(here)"
    done
    fields=$'ll dispatch_fixed_us 37\nll combine_fixed_us 37'
    line "dispatch and combine kernels take 30 us more" "$(here)"
    for us in 400 800 1200 1600 2400; do
        fields="ll dispatch_flag_ns $us"
        line "a dispatch's count for each (expert, rank) takes $us ns" "$(here)"
    done
    fields="ll dispatch_flag_ns 1200"
    S[tokens]=2
    line "1200 ns, and two tokens for each of the pull's batch" "$(here)"
    fields="ll dispatch_flag_ns 2000"
    line "2000 ns, and two tokens for each of the pull's batch" "$(here)"
    fields="ll dispatch_flag_ns 1200"
    S[dispatch]=bf16
    line "1200 ns, two tokens, and BF16 dispatch" "$(here)"
    S[tokens]=1
    line "1200 ns, and BF16 dispatch" "$(here)"
    S[dispatch]=fp8 S[nic]=100
    line "1200 ns, and 100 Gb/s a GPU" "$(here)"
    fields=
    S[nic]=50
    line "50 Gb/s a GPU" "$(here)"
    S[nic]=$keep
}

# Where PEO loses to no overlap: the gain of its best knobs by batch, GPU and NIC share, DPSK, EP32, and why.
lose() {
    local gpu nic batches=1,4,8,16,32,64,128,256
    echo "| GPU, Gb/s a GPU | 1 | 4 | 8 | 16 | 32 | 64 | 128 | 256 |"
    echo "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    simulate deepseek-v3 --set cluster.nodes=4 --set batch=$batches --set cluster.profile=h20,h800,h100 --set cluster.nics_per_gpu=1 \
        --set cluster.nic_Gbitps=100,200,400 >"$tmp/l" || true
    awk '$4 == "peo" && (!(($1, $3) in g) || $5 > g[$1, $3]) { g[$1, $3] = $5 } !($1 in s) { s[$1]; o[++n] = $1 }
        END { m = split("1 4 8 16 32 64 128 256", b, " ")
              for (i = 1; i <= n; i++) { split(o[i], k, "|"); printf "| %s, %s |", k[1], k[2]
                  for (j = 1; j <= m; j++) printf " %+.1f%% |", g[o[i], b[j]]; printf "\n" } }' "$tmp/l"
    why_loses
    [ -z "${OUT:-}" ] && return
    awk 'BEGIN { print "batch,policy,gain_pct" } $4 == "peo" { if (!(($1, $3) in g) || $5 > g[$1, $3]) g[$1, $3] = $5; if (!(($1, $3) in s)) { s[$1, $3]; o[++n] = $1 SUBSEP $3 } }
        END { for (i = 1; i <= n; i++) { split(o[i], p, SUBSEP); split(p[1], k, "|"); print p[2] "," k[1] " " k[2] " Gb/s," g[p[1], p[2]] } }' "$tmp/l" >"$OUT/lose.csv"
    command -v gnuplot >/dev/null && gnuplot -d -c plots/gain_batch.gp "$OUT/lose.csv" "$OUT/lose" "PEO on DeepSeek-V3, EP32, by GPU and its NIC share"
    return 0
}

# The terms of `peosim why` at batch 4, its best knobs, us of a layer.
why_loses() {
    local gpu nic
    echo
    echo "| batch 4 | none us | cutting into pieces: dispatch | experts | combine | launches and waits | sharing the SMs | side by side | gain |"
    echo "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for gpu in h20 h800 h100; do for nic in 200 400; do
        "$peosim" why configs/peo_claims.yaml --batch 4 --set policies=peo --set cluster.profile=$gpu --set cluster.nics_per_gpu=1 \
            --set cluster.nic_Gbitps=$nic --no-plots --output-dir "$tmp/o" 2>/dev/null |
            awk -v name="$gpu, $nic" '/costs and hides/ { none = $NF; sub(/\)/, "", none) }
                /^  cutting/ { gsub(/,/, ""); for (i = 1; i < NF; i++) if ($i ~ /^(dispatch|experts|combine|waits)$/) t[$i] = $(i + 1) }
                /^  sharing/ { share = $4 } /^  running side/ { side = $5 } /^  together/ { gain = $5; sub(/,/, "", gain) }
                END { print "| " name " | " none " | " t["dispatch"] " | " t["experts"] " | " t["combine"] " | " t["waits"] " | " share " | " side " | " gain " |" }'
    done; done
}

part() { # NAME TITLE
    [ "$only" = all ] && printf '%s\n\n' "$2"
    [ "$only" != all ] && [ "$only" != "$1" ] && return
    "$1"
    [ "$only" = all ] && echo
    return 0
}
part map "Shortfall in points of the worst claim, at the best EP of DPSK and of QWEN"
part floors "What would have to be true of the kernels"
part nearest "From the likeliest reading to the nearest point, one unknown at a time"
part lose "DPSK, EP32: gain of the best knobs over no overlap, by batch"
