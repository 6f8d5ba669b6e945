#!/bin/bash
# The README's two commands on a bare machine: a minimal Debian root, a clone of this tree in it, then
# `make demo` and `make test` there, which install what they need. Prints times and disk.
#   bare.sh RELEASE      bookworm (Debian 12) or trixie (13); needs root, debootstrap and a mirror
#   bare.sh RELEASE wheel    the same for the wheel of dist/: a venv, pip install, a run; no compiler
#   bare.sh --why-not    why it cannot run here: prints the reason and fails
# The mirror is that of this machine's apt configuration, or BARE_MIRROR.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2

mirror() {
    echo "${BARE_MIRROR:-$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        grep -oE '(https?|file)://[^ ]*/debian/?( |$)' | head -n 1 | tr -d ' ')}"
}

# Prints the reason and fails where there is one.
why_not() {
    [ "$(id -u)" = 0 ] || { echo "it needs root, for chroot"; return 1; }
    command -v debootstrap >/dev/null || { echo "debootstrap is not installed"; return 1; }
    [ -n "$(mirror)" ] || { echo "apt's configuration names no Debian mirror (BARE_MIRROR=)"; return 1; }
    mkdir -p "$1" && mknod "$1/null" c 1 3 2>/dev/null && : >"$1/null" 2>/dev/null ||
        { echo "device files cannot be made here"; return 1; }
}

work=$(mktemp -d "${TMPDIR:-/tmp}/bare.XXXXXX") || exit 2
root=$work/root
leave() {
    mountpoint -q "$root/proc" && umount "$root/proc"
    rm -rf --one-file-system "$work"
}
trap leave EXIT

if [ "${1:-}" = --why-not ]; then
    reason=$(why_not "$work/try") && exit 0
    echo "$reason"
    exit 1
fi
release=${1:?usage: bare.sh RELEASE}
reason=$(why_not "$work/try") || { echo "bare $release: skipped: $reason"; exit 77; }

include=make
commands=("make demo" "make test")
if [ "${2:-}" = wheel ]; then
    include=python3-venv
    wheel=$(ls -t dist/peosim-*.whl 2>/dev/null | head -n 1)
    [ -n "$wheel" ] || { echo "bare $release: no wheel: make wheel"; exit 1; }
    commands=("! command -v cc gcc make && python3 -m venv /venv && /venv/bin/pip install -q --no-index /*.whl"
        "mkdir /empty && cd /empty && /venv/bin/peosim run dpsk_ep64 --html --no-plots && test -s results/dpsk_ep64/report.html"
        "/venv/bin/python -c 'import peosim; print(len(peosim.run(\"dpsk_ep64\", set={\"batch\": 64})[\"results\"]), \"results\")'")
fi
mkdir "$root"
debootstrap --variant=minbase --include="$include" "$release" "$root" "$(mirror)" >"$work/log" 2>&1 ||
    { tail -n 5 "$work/log"; exit 1; }
cp /etc/resolv.conf "$root/etc/" 2>/dev/null
for conf in $(grep -l -i 'proxy\|Verify-Peer\|CAInfo' /etc/apt/apt.conf.d/* /etc/apt/apt.conf 2>/dev/null); do
    cp "$conf" "$root/etc/apt/apt.conf.d/"
done
mount -t proc proc "$root/proc" 2>/dev/null || echo "bare $release: no /proc in it"
git clone -q --no-hardlinks . "$root/peosim" || exit 1
[ -z "${wheel:-}" ] || cp "$wheel" "$root/"
used() {
    du -smx --exclude=./proc "$root" | cut -f 1
}

before=$(used) rc=0
for command in "${commands[@]}"; do
    start=$(date +%s)
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C \
        http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" ${TEST_TIMEOUT:+TEST_TIMEOUT=$TEST_TIMEOUT} \
        chroot "$root" sh -c "cd /peosim && $command" >"$work/log" 2>&1
    status=$?
    echo "bare $release: $command: exit $status, $(($(date +%s) - start)) s, disk $(used) MB (bare: $before MB)"
    grep -E '^[0-9]+ (passed|results)' "$work/log"
    grep -n 'pkg-config: not found' "$work/log" && status=1
    if [ $status != 0 ]; then
        grep -A 12 '^FAIL' "$work/log" | head -n 60
        tail -n 5 "$work/log"
        rc=1
    fi
done
# Nothing is left in the tree but what .gitignore names.
left=$(git -C "$root/peosim" -c safe.directory="*" status --porcelain)
[ -z "$left" ] || { echo "bare $release: left behind: $left"; rc=1; }
exit $rc
