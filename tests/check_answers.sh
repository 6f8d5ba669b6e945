#!/bin/bash
# run, recommend, sweep and why say the same of the same point, each names its basis above its rows,
# all rows are set against one time without overlap, and recommend's JSON has the text's settings.
set -u -o pipefail
peosim=$(readlink -f "${PEOSIM:-build/peosim}")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
fail() { echo "FAIL: $*" && failed=1; }

config() { # PROFILE PHASE BATCH POLICY
    printf 'model: qwen3-30b\nphase: %s\nbatch: [%s]\nrouting: {kind: zipf}\nattention: {prompt_len: 1024}\n' "$2" "$3"
    printf 'cluster: {profile: %s, nodes: '"${NODES:-2}"'}\npolicies:\n  - policy: none\n  - %s\n' "$1" "$4"
}

# number KEY FILE: the value of the last such key in pretty JSON.
number() { grep -o "\"$1\": *-\?[0-9.]*" "$2" | tail -1 | grep -o '[0-9.-]*$'; }
same() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && (a - b) ^ 2 <= (2e-5 * a) ^ 2) }'; }

# one_none WHAT: the MoE parts of all rows are set against one time without overlap.
one_none() {
    awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i; next }
        $c["moe_us"] > 0 { t = $c["moe_us"] * (1 + $c["moe_gain_pct"] / 100)
                           if (none && (t / none - 1) ^ 2 > 1e-8) bad = 1; none = t }
        END { exit bad || !none }' "$dir/out/points.csv" || fail "$1: MoE parts are set against different times without overlap"
}

one() { # PROFILE PHASE BATCH POLICY
    local c=$dir/c.yaml out=(--no-plots --quiet --output-dir "$dir/out") what=$1/$2/$4 run other cmd
    config "$@" >"$c"
    rm -rf "$dir/out"
    "$peosim" run "$c" --json "${out[@]}" >"$dir/run.json" 2>"$dir/err" || { fail "$what: run"; cat "$dir/err"; return; }
    run=$(number layer_us "$dir/run.json")
    one_none "$what"
    for cmd in sweep why recommend; do
        "$peosim" $cmd "$c" --json "${out[@]}" >"$dir/$cmd.json" 2>"$dir/err" || { fail "$what: $cmd"; cat "$dir/err"; }
        other=$(grep -o '"layer_us": *[0-9.]*' "$dir/$cmd.json" | grep -o '[0-9.]*$')
        [ $cmd = sweep ] && other=$(tail -1 <<<"$other") || other=$(head -1 <<<"$other")
        [ $cmd = sweep ] && other=$(tr ',{' '\n\n' <"$dir/sweep.json" | grep '"layer_us"' | tail -1 | grep -o '[0-9.]*$')
        same "$run" "$other" || fail "$what: layer_us of run $run, of $cmd $other"
    done
    for cmd in run sweep why recommend; do
        "$peosim" $cmd "$c" "${out[@]}" 2>/dev/null >"$dir/$cmd.txt" || fail "$what: $cmd as text"
        grep -q '^  basis: a whole decoder layer with attention' "$dir/$cmd.txt" || fail "$what: $cmd names no basis"
        grep -q '"basis": *"layer"' "$dir/$cmd.json" || fail "$what: $cmd --json names no basis"
    done
    # One time without overlap for all rows of a scenario.
    [ "$(awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i; next } { print $c["none_us"] }' "$dir/out/points.csv" |
        sort -u | wc -l)" = 1 ] || fail "$what: rows are set against different times without overlap"
    [ "$(head -1 "$dir/out/points.csv")" = "$(head -1 "$dir/out/best.csv")" ] || fail "$what: points.csv and best.csv begin unlike"
    # What the text tells to set is what the JSON tells.
    grep -A9 '^settings' "$dir/recommend.txt" | grep '^    ' | sed 's/^    //' >"$dir/text"
    grep -o '"settings": "[^"]*"' "$dir/recommend.json" | sed 's/"settings": "//; s/"$//' | sed 's/\\n/\n/g' | grep . >"$dir/json"
    diff "$dir/text" "$dir/json" || fail "$what: settings of text and JSON differ"
    if [ -s "$dir/text" ]; then
        grep -q 'do not overlap' "$dir/run.txt" && fail "$what: recommend overlaps, run does not"
    elif ! grep -q 'do not overlap' "$dir/run.txt"; then
        fail "$what: run overlaps, recommend does not"
    fi
}

NODES=1 one h200 decode 64 '{policy: mega}' # its own collectives, the baseline of all
for profile in h200 b200; do
    one $profile decode 64 '{policy: peo, overlap_method: 3, num_rounds: 2, num_sms: 16}'
    one $profile decode 64 '{policy: sbo, combine_num_sms: 8, block_m: 64}'
    one $profile decode 64 '{policy: tbo}'
    one $profile prefill 2048 '{policy: eps, pipeline_num: 2, num_sms: 16, gate_up_gemm: group, down_gemm: group}'
done
# Left open, senders follow the architecture; an impossible policy does not end the rest.
config b200 decode 64 '{policy: sbo}' >"$dir/c.yaml"
"$peosim" run "$dir/c.yaml" --no-plots true --output-dir "$dir/out" >"$dir/run.txt" 2>&1
grep -q 'sbo .*combine_num_sms=32' "$dir/run.txt" || fail "sbo on Blackwell: $(grep 'sbo' "$dir/run.txt")"
printf '  - {policy: peo, num_rounds: 3}\n' >>"$dir/c.yaml"
"$peosim" run "$dir/c.yaml" --no-plots --output-dir "$dir/out" >"$dir/run.txt" 2>&1 || fail "an impossible policy ends the run"
grep -q 'peo .*cannot run here: 1 point skipped' "$dir/run.txt" || fail "an impossible policy is not listed"
# What none is does not depend on who is asked first.
printf 'model: qwen3-30b\nphase: decode\nbatch: [64]\ncluster: {profile: h200}\npolicies: [{policy: mega}, {policy: none}]\n' >"$dir/c.yaml"
"$peosim" run "$dir/c.yaml" --jobs 1 --no-plots --output-dir "$dir/out" >/dev/null 2>&1 || fail "mega, then none"
one_none "mega, then none"
exit $failed
