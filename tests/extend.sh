#!/bin/bash
# The worked extensions of CONTRIBUTING.md, applied to a copy of the tree one by one, built and tried:
# each touches as few files as is promised, and appears wherever its kind appears.
#   extend.sh [BUILD]    BUILD: a built folder to begin with, so that little is compiled anew
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2
build=${1:-build}
work=$(mktemp -d) failed=0
trap 'rm -rf "$work"' EXIT
fail() {
    echo "FAILED: $*"
    failed=1
}
say() { # what a command of the trial program prints must hold a text
    local text=$1
    shift
    PEOSIM_HOME=$PWD build/peosim "$@" >"$work/out" 2>&1 || fail "peosim $*: $(tail -n 2 "$work/out")"
    grep -q -- "$text" "$work/out" || fail "peosim $*: says nothing of $text"
}

# Puts back what a diff has changed in the copy.
undo() {
    local file
    for file in $(sed -n 's/^+++ b\///p' "$1"); do
        if [ -e "$file" ]; then
            cp "$file" "$work/tree/$file"
        else
            rm -f "$work/tree/$file"
        fi
    done
}

try_policy() {
    say narrow info
    say narrow_num_sms info policy narrow
    say '^  narrow ' run configs/qwen_ep16.yaml --set policies=none,narrow --set batch=32 --no-plots --output-dir "$work/r"
    say narrow_num_sms recommend configs/qwen_ep16.yaml --set policies=narrow --set batch=32 --no-plots --output-dir "$work/r" --json
    say dispatch plan configs/qwen_ep16.yaml --set policies=narrow --set batch=32
    say narrow why configs/qwen_ep16.yaml --set policies=narrow --set batch=32 --no-plots --output-dir "$work/r"
    build/tests/study/test_tables >"$work/out" 2>&1 || fail "test_tables: $(grep -a ERROR "$work/out")"
}
try_format() {
    say '^| none | ' run configs/qwen_ep16.yaml --set policies=none,peo --set batch=32 --no-plots --output-dir "$work/r" --format markdown
    say '| none us | ' recommend configs/qwen_ep16.yaml --set policies=peo --set batch=32 --no-plots --output-dir "$work/r" --format markdown
    say '^| no jitter of ranks | ' why configs/qwen_ep16.yaml --set policies=none --set batch=32 --no-plots --output-dir "$work/r" --format markdown
    say 'markdown: ' help run
}
try_profile() {
    say h20-8nic info profile h20-8nic
    say '^  none ' run configs/qwen_ep16.yaml --set policies=none --set batch=32 --set cluster.profile=h20-8nic --no-plots --output-dir "$work/r"
    build/tests/study/test_tables >"$work/out" 2>&1 || fail "test_tables: $(grep -a ERROR "$work/out")"
}
try_op_kind() {
    build/tests/study/test_tables >"$work/out" 2>&1 || fail "test_tables: $(grep -a ERROR "$work/out")"
}
try_comm() {
    say '^  none ' run configs/qwen_ep16.yaml --set policies=none --set batch=32 --set comm=per_rank --no-plots --output-dir "$work/r"
    build/tests/study/test_tables >"$work/out" 2>&1 || fail "test_tables: $(grep -a ERROR "$work/out")"
}

mkdir "$work/tree"
git ls-files -z | xargs -0 cp -p --parents -t "$work/tree"
[ -d "$build" ] && cp -a "$build" "$work/tree/build"
for trial in "policy 2" "profile 1" "format 2" "op_kind 3" "comm 3"; do
    read -r name most <<<"$trial"
    diff=$PWD/tests/extend/$name.diff
    files=$(grep -c '^diff --git' "$diff")
    [ "$files" -le "$most" ] || fail "$name: $files files, promised $most"
    (
        cd "$work/tree" || exit 1
        git apply --unidiff-zero "$diff" || { fail "$name.diff does not apply"; exit 1; }
        make -s -j"$(nproc)" build/peosim build/tests/study/test_tables >"$work/log" 2>&1 ||
            { fail "$name does not build: $(grep -m 3 error "$work/log")"; exit 1; }
        "try_$name"
        exit $failed
    ) || failed=1
    undo "$diff"
    echo "$name: $files files"
done

# An op kind without its law is refused by name.
(
    cd "$work/tree" || exit 1
    git apply --unidiff-zero --include=plan/op_kinds.h "$OLDPWD/tests/extend/op_kind.diff" || fail "op_kinds.h alone"
    make -s -j"$(nproc)" build/tests/study/test_tables >"$work/log" 2>&1 ||
        fail "an op kind without a law does not build: $(grep -m 3 error "$work/log")"
    build/tests/study/test_tables >"$work/out" 2>&1
    grep -q 'no law prices ops of kind gate_bias' "$work/out" ||
        fail "an op kind without a law is not named"
    exit $failed
) || failed=1
exit $failed
