#!/bin/bash
# A disk that is full at a random size (here a limit of every file's): the run says so and fails, the old
# results stay whole, nothing of the new ones is left, and a run with room then succeeds.   full.sh [TIMES] [SEED]
set -u -o pipefail
cd "$(dirname "$0")/../.." || exit 2
peosim=$(readlink -f "${PEOSIM:-build/peosim}") box=$(mktemp -d) failed=0 full=0
export PEOSIM_HOME=$PWD
trap 'rm -rf "$box"' EXIT
trap '' XFSZ # inherited: a write beyond the limit fails instead of killing
RANDOM=${2:-1}
fail() { echo "FAILED: $*" && failed=1; }
sums() { (cd "$box/out" && find . -type f | sort | xargs sha256sum) | sha256sum; }
run() {
    "$peosim" run configs/qwen_ep16.yaml --set batch="$1" --set policies=none,sbo --no-plots --html --output-dir "$box/out"
}
run 4 >/dev/null 2>&1 || exit 2
old=$(sums)
most=$(find "$box/out" -type f -printf '%s\n' | sort -n | tail -1)
for ((i = 0; i < ${1:-40}; i++)); do
    blocks=$((RANDOM % (most / 1024 + 2)))
    said=$( (ulimit -f $blocks && run 8) 2>&1 >/dev/null) && rc=0 || rc=$?
    if [ $rc = 0 ]; then # all of its files were smaller
        run 4 >/dev/null 2>&1 || fail "no run after a full one"
    else
        full=$((full + 1))
        [ $rc -le 2 ] || fail "status $rc with $blocks KiB"
        grep -qiE 'cannot write|file too large|disk' <<<"$said" || fail "with $blocks KiB it only says: $said"
    fi
    [ "$(sums)" = "$old" ] || fail "the old results changed with $blocks KiB"
    left=$(find "$box" -name '.part.*' -o -name '.out.peosim-new.*' -o -name '*.tmp.*')
    [ -z "$left" ] || fail "left $left"
done
echo "$full of $i runs met the limit"
exit $failed
