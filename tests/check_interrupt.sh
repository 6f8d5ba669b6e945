#!/bin/bash
# Ctrl-C in a long run: what is done is shown and kept in a folder of its own, the old results stay, the
# status is not 0.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2
peosim=$(readlink -f "${PEOSIM:-build/peosim}") box=$(mktemp -d) failed=0
export PEOSIM_HOME=$PWD
trap 'rm -rf "$box"' EXIT
fail() { echo "FAILED: $*" && failed=1; }
cd "$box" || exit 2
{
    printf 'model: qwen3-30b\ncluster: {profile: h800, nodes: 1, gpus_per_node: 8}\npolicies: [none, sbo]\nbatch: [1'
    printf ', %d' {2..400}
    printf ']\n'
} >c.yaml
sed -e 's/^gpus:.*/gpus: [h200]/' -e '/^  \(h20\|h800\|b200\):/d' -e 's/ep: .*/ep: [8]/' \
    -e 's/batch: .*/batch: [16, 32, 64]/' "$PEOSIM_HOME/configs/capacity/dsv3.yaml" >capacity.yaml
"$peosim" run c.yaml --set batch=4 --no-plots --output-dir out >/dev/null 2>&1 || fail "no first run"
old=$(sha256sum out/points.csv)

# Bash gives its own children in the background an ignored SIGINT; env puts it back.
interrupt() {
    env --default-signal=INT "$peosim" "$@" >text 2>said &
    local pid=$! i
    for ((i = 0; i < 600; i++)); do
        # Points begin once the handler is there: SigBlk has bit 2 in run.
        grep -qE '^SigBlk:.*[2367abef]$' /proc/$pid/status 2>/dev/null && break
        sleep 0.02
    done
    sleep 0.1
    kill -INT $pid 2>/dev/null
    wait $pid
}
# Of a command that keeps nothing to go on with: what is done is shown, in a folder of its own.
shown() { # COMMAND, name
    interrupt "$1" c.yaml --no-plots --jobs 1 --output-dir out
    local rc=$?
    [ $rc != 0 ] || { echo "skipped: $1 was faster than the signal" && return; }
    [ $rc = 1 ] || fail "$1: status $rc"
    grep -qE 'interrupted: [0-9]+ of 800 points' said || grep -q 'before the first point' said || fail "$1 says: $(cat said)"
    ! grep -q 'of 800 points' said || [ "$(grep -c '^[0-9]' out-interrupted/$2)" -gt 0 ] || fail "$1: nothing kept"
    rm -rf out-interrupted
}
# Of one with a journal: another run ends with the same bytes as one that was never interrupted.
resumed() { # COMMAND, configuration, what it says of reuse
    "$peosim" "$1" "$2" --no-plots --quiet --output-dir "$1-whole" >/dev/null 2>failed_run || fail "$1: $(tail -2 failed_run)"
    env --default-signal=INT "$peosim" "$1" "$2" --no-plots --jobs 1 --output-dir "$1-again" >/dev/null 2>said &
    local pid=$!
    sleep 0.15
    kill -INT $pid 2>/dev/null && wait $pid && echo "skipped: $1 was faster than the signal"
    "$peosim" "$1" "$2" --no-plots --output-dir "$1-again" >/dev/null 2>said || fail "$1: $(cat said)"
    cmp -s "$1-whole/points.csv" "$1-again/points.csv" || fail "$1: points differ after Ctrl-C"
}
shown run points.csv
shown pass pass.csv
resumed sweep c.yaml
resumed capacity capacity.yaml
[ "$(sha256sum out/points.csv)" = "$old" ] || fail "the old results changed"
exit $failed
