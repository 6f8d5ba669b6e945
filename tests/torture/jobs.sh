#!/bin/bash
# Random configurations give the same bytes whatever the number of threads.   jobs.sh [TIMES] [SEED]
set -u -o pipefail
cd "$(dirname "$0")/../.." || exit 2
peosim=$(readlink -f "${PEOSIM:-build/peosim}") box=$(mktemp -d) failed=0
export PEOSIM_HOME=$PWD
trap 'rm -rf "$box"' EXIT
RANDOM=${2:-1}
pick() { local a=("$@"); echo "${a[RANDOM % $#]}"; }
# Everything but the line that names the folder.
sums() { (cd "$1" && find . -type f | sort | xargs sha256sum) | sha256sum; }
cd "$box" || exit 2
for ((i = 0; i < ${1:-20}; i++)); do
    cat >c.yaml <<X
model: $(pick qwen3-30b mixtral-8x7b deepseek-v3)
batch: [$((RANDOM % 128 + 1)), $((RANDOM % 128 + 129))]
cluster: {profile: $(pick h20 h800 h200), nodes: $(pick 1 2), gpus_per_node: $(pick 2 4 8)}
routing: {kind: $(pick balanced uniform lognormal zipf)}
seed: $RANDOM
policies: [none, sbo, {policy: peo, num_rounds: 2, num_sms: [8, 16]}]
X
    for jobs in 1 2 7; do
        "$peosim" run c.yaml --no-plots --quiet --jobs $jobs --output-dir out >text.$jobs 2>err.$jobs
        sums out >sums.$jobs
        "$peosim" sweep c.yaml --no-plots --quiet --jobs $jobs --output-dir sweep.$jobs >/dev/null 2>&1
        cmp -s sweep.1/points.csv sweep.$jobs/points.csv ||
            { echo "FAILED: sweep with $jobs threads differs" && cat c.yaml && failed=1; }
        { cmp -s text.1 text.$jobs && cmp -s sums.1 sums.$jobs; } ||
            { echo "FAILED: run with $jobs threads differs" && cat c.yaml && failed=1; }
    done
    rm -rf sweep.* out
done
echo "$i configurations with 1, 2 and 7 threads"
exit $failed
