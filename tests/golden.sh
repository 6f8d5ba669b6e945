#!/bin/sh
# Golden cases: tests/golden/NAME.cmd is a command line (run from the top of the tree, with
# `peosim` the program and $OUT a fresh folder), NAME.txt what it prints; a last line [exit N]
# stands for an exit status other than 0.
#   golden.sh PROGRAM [NAME]      compares all cases or one; shows the difference
#   golden.sh --update PROGRAM    rewrites the .txt files: look at the diff before you commit
set -u
update=
[ "${1:-}" = --update ] && update=1 && shift
program=$(readlink -f "${1:?usage: golden.sh [--update] PROGRAM [NAME]}")
only=${2:-}
cd "$(dirname "$0")/.." || exit 2

tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/bin" && ln -s "$program" "$tmp/bin/peosim"
PATH=$tmp/bin:$PATH
PEOSIM_HOME=$PWD
OUT=$tmp/out
export PATH PEOSIM_HOME OUT
failed=0

for cmd in tests/golden/*.cmd; do
    [ -e "$cmd" ] || break
    name=$(basename "$cmd" .cmd)
    [ -z "$only" ] || [ "$only" = "$name" ] || continue
    rm -rf "$OUT" && mkdir "$OUT"
    sh -eu "$cmd" >"$tmp/got" 2>"$tmp/err"
    status=$?
    [ $status = 0 ] || echo "[exit $status]" >>"$tmp/got"
    if [ -n "$update" ]; then
        cp "$tmp/got" "tests/golden/$name.txt"
    elif ! diff -u "tests/golden/$name.txt" "$tmp/got"; then
        cat "$tmp/err"
        failed=1
    fi
done
exit $failed
