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
    sleep 0.3
    kill -INT $pid 2>/dev/null
    wait $pid
}
interrupt run c.yaml --no-plots --jobs 1 --output-dir out
rc=$?
if [ $rc = 0 ]; then
    echo "skipped: the run was faster than the signal"
else
    [ $rc = 1 ] || fail "status $rc"
    grep -qE 'interrupted: [0-9]+ of 800 points' said || grep -q 'before the first point' said || fail "it says: $(cat said)"
    ! grep -q 'of 800 points' said || [ "$(grep -c '^[0-9]' out-interrupted/points.csv)" -gt 0 ] || fail "nothing kept"
fi
[ "$(sha256sum out/points.csv)" = "$old" ] || fail "the old results changed"
exit $failed
