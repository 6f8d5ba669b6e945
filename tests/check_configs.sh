#!/bin/bash
# Every shipped configuration runs as it stands, gives the same bytes with one thread and with two,
# and writes results that parse; then what a user does with a full disk, without gnuplot, installed.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2
peosim=$(readlink -f "${PEOSIM:-./peosim}")
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
failed=0
fail() {
    echo "FAILED: $*"
    failed=1
}
is_json() { # jansson's own reader, through the program
    "$peosim" info json "$1" >/dev/null
}

# The first and the last of a list of many batches say whether a large grid runs.
ends_of_batches() {
    sed -n 's/^batch: *\[\(.*\)\].*/\1/p' "$1" | tr -d ' ' | awk -F, 'NF > 3 {print $1 "," $NF}'
}
for config in configs/*.yaml; do
    name=$(basename "$config" .yaml)
    grep -q '^traffic:' "$config" && continue # `peosim capacity` reads these
    batches=$(ends_of_batches "$config")
    small=(${batches:+--set batch="$batches"})
    "$peosim" run "$config" "${small[@]}" --no-plots --jobs 2 --output-dir "$out/a" >"$out/a.txt" 2>"$out/a.err" ||
        { fail "$config: $(cat "$out/a.err")"; continue; }
    is_json "$out/a/summary.json" || fail "$config: summary.json does not parse"
    is_json "$out/a/trace.json" || fail "$config: trace.json does not parse"
    [ "$(wc -l <"$out/a/points.csv")" -gt 1 ] || fail "$config: no points"
    echo "ok $name"
    case $name in # phases and libraries that differ in what threads share
    qwen_ep16 | h200x4_tbo | mixtral_prefill_4xh800) ;;
    *) continue ;;
    esac
    "$peosim" run "$config" "${small[@]}" --no-plots --jobs 1 --output-dir "$out/b" >"$out/b.txt" 2>/dev/null
    for f in summary.json points.csv best.csv spans.csv trace.json; do
        cmp -s "$out/a/$f" "$out/b/$f" || fail "$config: $f differs between 1 and 2 threads"
    done
done

# Every shipped model has a cluster that it runs on.
for model in configs/models/*.json; do
    name=$(basename "$model" .json)
    "$peosim" pass "configs/serve/$name.yaml" --no-plots --quiet --output-dir "$out/p" >"$out/p.txt" 2>"$out/p.err" ||
        fail "configs/serve/$name.yaml: $(cat "$out/p.err")"
done
echo "ok configs/serve"

# --json and --csv carry the same points as the files.
"$peosim" run configs/qwen_ep16.yaml --set batch=4 --no-plots --output-dir "$out/c" --json >"$out/c.json" &&
    cmp -s "$out/c.json" "$out/c/summary.json" || fail "--json differs from summary.json"
"$peosim" run configs/qwen_ep16.yaml --set batch=4 --no-plots --output-dir "$out/c" --csv >"$out/c.csv" &&
    cmp -s "$out/c.csv" "$out/c/points.csv" || fail "--csv differs from points.csv"

# Nothing to draw with: results all the same, and a message.
mkdir "$out/bin"
PATH=$out/bin "$peosim" run configs/qwen_ep16.yaml --set policies=none --set batch=4 \
    --output-dir "$out/d" >/dev/null 2>"$out/d.err" || fail "without gnuplot: exit status $?"
[ -s "$out/d/summary.json" ] || fail "without gnuplot: no results"
grep -q gnuplot "$out/d.err" || fail "without gnuplot: no message"

# What is no JSON is said to be none.
echo '{"a": 1' >"$out/bad.json"
is_json "$out/bad.json" 2>/dev/null && fail "half a JSON object passes for one"

# An output folder that cannot be: one line, exit 2, nothing left.
touch "$out/file"
"$peosim" run configs/qwen_ep16.yaml --set policies=none --set batch=4 --output-dir "$out/file/x" \
    >/dev/null 2>"$out/e.err"
[ $? = 2 ] && [ "$(wc -l <"$out/e.err")" = 1 ] || fail "unwritable folder: $(cat "$out/e.err")"

# A full disk, where the machine lets us make one.
mkdir "$out/tiny"
if mount -t tmpfs -o size=24k tmpfs "$out/tiny" 2>/dev/null; then
    "$peosim" run configs/qwen_ep16.yaml --set policies=none --set batch=4 --no-plots \
        --output-dir "$out/tiny/r" >/dev/null 2>"$out/f.err"
    [ $? = 2 ] && [ -s "$out/f.err" ] || fail "full disk: no exit status 2 or no message"
    [ -z "$(ls -A "$out/tiny/r")" ] || fail "full disk: left $(ls -A "$out/tiny/r")"
    umount "$out/tiny"
else
    echo "skipped: full disk (cannot mount)"
fi

# Installed, it finds what it shipped from any folder.
make --no-print-directory -s install BUILD="${BUILD:-build}" PREFIX="$out/inst" >/dev/null 2>"$out/g.err" ||
    fail "make install: $(cat "$out/g.err")"
(cd / && env -u PEOSIM_HOME "$out/inst/bin/peosim" run "$out/inst/share/peosim/configs/qwen_ep16.yaml" \
    --set policies=none --set batch=4 --no-plots --output-dir "$out/h" >/dev/null) ||
    fail "the installed program"
exit $failed
