#!/bin/bash
# Kills runs at random moments: the folder of results then holds the old run's or the new one's, whole,
# and the next run leaves nothing of the killed ones.   kill.sh [TIMES]
set -u -o pipefail
cd "$(dirname "$0")/../.." || exit 2
peosim=$(readlink -f "${PEOSIM:-build/peosim}") box=$(mktemp -d)
export PEOSIM_HOME=$PWD
trap 'rm -rf "$box"' EXIT
run() { exec "$peosim" run configs/qwen_ep16.yaml --set batch="$1" --set policies=none,sbo --no-plots --output-dir "$box/out"; }
sums() { (cd "$box/out" && find . -type f ! -path './.part.*' | sort | xargs sha256sum) | sha256sum; }
(run 4) >/dev/null 2>&1 && old=$(sums) && (run 8) >/dev/null 2>&1 && new=$(sums) || exit 2
[ "$old" != "$new" ] || exit 2
failed=0 killed=0
for ((i = 0; i < ${1:-200}; i++)); do
    batch=$((i % 2 ? 4 : 8))
    run $batch >/dev/null 2>&1 &
    sleep 0.0$((RANDOM % 90 + 10))
    kill -9 $! 2>/dev/null && killed=$((killed + 1))
    wait $! 2>/dev/null
    now=$(sums)
    [ "$now" = "$old" ] || [ "$now" = "$new" ] || { echo "FAILED: neither the old results nor the new ones"; failed=1; }
done
(run 4) >/dev/null 2>&1
left=$(find "$box" -name '.part.*' -o -name '.out.peosim-new.*' -o -name '*.tmp.*')
[ -z "$left" ] || { echo "FAILED: left $left"; failed=1; }
echo "$killed of $i runs killed"
exit $failed
