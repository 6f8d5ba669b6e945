#!/bin/bash
# The small inputs with a known right answer beside the data ($PEOSIM_CASES, or ../shared/cases): each
# stands for its kind. Prints case, what is right and what came out; skips where the folder is absent.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2
peosim=$(readlink -f "${PEOSIM:-build/peosim}") cases=$(readlink -f "${PEOSIM_CASES:-../shared/cases}")
export PEOSIM_HOME=$PWD
if [ ! -d "$cases" ]; then
    echo "skipped: no cases in ${PEOSIM_CASES:-../shared/cases}"
    exit 0
fi
if ! command -v python3 >/dev/null; then # reads figures out of JSON
    echo "[  SKIPPED ] 1 test: there is no python3"
    exit 0
fi
box=$(mktemp -d) failed=0
trap 'rm -rf "$box"' EXIT
cd "$box" || exit 2

# case NAME RIGHT PATTERN COMMAND...: what the command says holds PATTERN (and nothing of what !PATTERN names).
case_is() {
    local name=$1 right=$2 pattern=$3 got
    shift 3
    [ -e "$cases/$name" ] || { echo "skipped: $name" && return; }
    got=$("$peosim" "$@" 2>&1)
    if grep -qE -- "$pattern" <<<"$got"; then
        echo "ok   $name | $right | $(grep -E -m 1 -- "$pattern" <<<"$got" | cut -c 1-110)"
    else
        echo "FAIL $name | $right | $(head -3 <<<"$got")" && failed=1
    fi
}
us_of() {
    "$peosim" run "$1" --no-plots --quiet --json "${@:3}" 2>/dev/null |
        python3 -c 'import json, sys
print(next(r["layer_us"] for r in json.load(sys.stdin)["results"] if r["policy"] == sys.argv[1]))' "$2"
}
# holds NAME RIGHT TEST...: an awk condition on numbers a, b
holds() {
    awk -v a="$3" -v b="$4" "BEGIN {exit !(a > 0 && b > 0 && ($5))}" && echo "ok   $1 | $2 | $3 and $4" ||
        { echo "FAIL $1 | $2 | $3 and $4" && failed=1; }
}
there() { [ -e "$cases/$1" ] || { echo "skipped: $1" && false; }; }

there nccl_whole_us.txt && {
    "$peosim" accuracy --profile h200 "$cases/nccl_whole_us.txt" --rows rows.csv >/dev/null 2>&1
    holds nccl_whole_us.txt "the second row took 12800 us" "$(grep -c 12800 rows.csv)" 1 'a == b'
}
case_is nccl_two_hosts.txt "two hosts are kept apart" 'ran on 2 hosts: kept apart from tables of one node' accuracy --profile h200 "$cases/nccl_two_hosts.txt"
case_is alltoall_perf_tagged.txt "one row of all_to_all x2" 'all_to_all x2' accuracy --profile h200 "$cases/alltoall_perf_tagged.txt"
case_is deepep_internode.txt "asks for the ranks" 'give --ranks' accuracy --profile h20 "$cases/deepep_internode.txt"
case_is deepep_two_files.txt "EP16" 'EP16 ' accuracy --profile h20 "$cases/deepep_two_files.txt"
case_is deepep_variants.txt "two pairs of rows" 'll_dispatch +2 ' accuracy --profile h20 "$cases/deepep_variants.txt"

there scenario_balanced_slower.yaml && {
    c=$cases/scenario_balanced_slower.yaml
    holds scenario_balanced_slower.yaml "balanced routing is not slower than lognormal" \
        "$(us_of "$c" none --set routing.kind=balanced)" "$(us_of "$c" none)" 'a <= b'
}
there scenario_nvlink_domain.yaml && {
    c=$cases/scenario_nvlink_domain.yaml
    holds scenario_nvlink_domain.yaml "4 nodes x 4 GPUs in one domain are as 1 x 16" "$(us_of "$c" none)" \
        "$(us_of "$c" none --set cluster.nodes=1 --set cluster.gpus_per_node=16)" 'a / b < 1.005 && b / a < 1.005'
}
there scenario_recommend_6.8pct_worse.yaml && {
    c=$cases/scenario_recommend_6.8pct_worse.yaml
    named=$("$peosim" recommend "$c" --quiet --json 2>/dev/null | python3 -c 'import json, sys
def find(x):
    if isinstance(x, dict):
        return x["layer_us"] if "layer_us" in x else next(filter(None, map(find, x.values())), None)
    return next(filter(None, map(find, x)), None) if isinstance(x, list) else None
print(find(json.load(sys.stdin)))')
    best=$("$peosim" run "$c" --no-plots --quiet --csv 2>/dev/null | awk -F, '!/^#/ && n++ {if (!m || $6 < m) m = $6} END {print m}')
    holds scenario_recommend_6.8pct_worse.yaml "no point of the grid is faster than the one named" "$named" "$best" 'a <= b * 1.0001'
}
there sglang_expert_distribution.csv && {
    printf 'model: deepseek-v3\nbatch: 16\ncluster: {profile: h20, nodes: 1, gpus_per_node: 8}\nrouting: {kind: file, file: "%s"}\npolicies: [none]\n' \
        "$cases/sglang_expert_distribution.csv" >sglang.yaml
    holds sglang_expert_distribution.csv "read as layer, expert, count" "$(us_of sglang.yaml none)" 1 'a > b'
}
exit $failed
