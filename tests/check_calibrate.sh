#!/bin/sh
# What users rely on of `calibrate` and `accuracy`: nothing is overwritten unasked, a failed fit
# leaves the old profile, exit statuses. Says each fault and exits 1.
set -u
cd "$(dirname "$0")/.." || exit 2
peosim=${PEOSIM:-build/peosim}
[ -x "$peosim" ] || peosim=./peosim
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
faults=0
fault() {
    echo "$1"
    faults=1
}
want() { # status, what, command...
    status=$1 what=$2
    shift 2
    "$@" >"$dir/out" 2>"$dir/err"
    rc=$?
    [ $rc = "$status" ] || { fault "$what: exit $rc, want $status" && cat "$dir/err"; }
}

{
    echo system,nodes,ep,hidden,num_experts,topk,tokens_per_rank,phase,dtype,bytes_per_rank,latency_us
    for t in 1 2 4 8 16 32 64 128 256 512; do
        echo h200,1,8,7168,256,8,$t,dispatch,fp8,$((t * 59264)),$((12 + t / 5)).5
    done
} >"$dir/ll.csv"
echo 'system,dtype,m,n,k' >"$dir/short.csv"
cp hw/profiles/h200.yaml "$dir/p.yaml"

want 2 "an existing profile" "$peosim" calibrate --profile "$dir/p.yaml" --from "$dir/ll.csv"
grep -q -- --overwrite "$dir/err" || fault "the message does not name --overwrite"
cmp -s hw/profiles/h200.yaml "$dir/p.yaml" || fault "the profile changed without --overwrite"
want 0 "a new file" "$peosim" calibrate --profile "$dir/p.yaml" --from "$dir/ll.csv" --out "$dir/q.yaml"
[ -s "$dir/q.yaml" ] || fault "--out wrote nothing"
want 0 "the result reads" "$peosim" accuracy --profile "$dir/q.yaml" "$dir/ll.csv"
want 0 "a dry run" "$peosim" calibrate --profile "$dir/p.yaml" --from "$dir/ll.csv" --dry-run
cmp -s hw/profiles/h200.yaml "$dir/p.yaml" || fault "a dry run changed the profile"
want 2 "missing columns" "$peosim" calibrate --profile "$dir/p.yaml" --from "$dir/short.csv" --overwrite
cmp -s hw/profiles/h200.yaml "$dir/p.yaml" || fault "a failed read changed the profile"
want 1 "nothing to fit" "$peosim" calibrate --profile hw/profiles/h20.yaml --from "$dir/ll.csv" --out "$dir/r.yaml"
[ -e "$dir/r.yaml" ] && fault "a failed fit left a file"
awk -F, -v OFS=, 'NR > 1 { $NF *= 1000 } 1' "$dir/ll.csv" >"$dir/wrong.csv"
want 1 "a fit that fails" "$peosim" calibrate --profile "$dir/p.yaml" --from "$dir/wrong.csv" --overwrite
cmp -s hw/profiles/h200.yaml "$dir/p.yaml" || fault "a failed fit replaced the profile"
want 1 "a dry run of a fit that fails" "$peosim" calibrate --profile "$dir/p.yaml" --from "$dir/wrong.csv" --dry-run
keep() { # file, copy, what
    cmp -s "$1" "$2" || fault "$3 was overwritten"
}
cp "$dir/ll.csv" "$dir/ll.copy"
want 2 "rows over the measurements" "$peosim" accuracy --profile h200 "$dir/ll.csv" --rows "$dir/ll.csv" --overwrite
keep "$dir/ll.csv" "$dir/ll.copy" "a file of measurements"
want 2 "rows over the profile" "$peosim" accuracy --profile "$dir/p.yaml" "$dir/ll.csv" --rows "$dir/p.yaml" --overwrite
want 2 "rows over the profile of a fit" "$peosim" calibrate --profile "$dir/p.yaml" --from "$dir/ll.csv" --dry-run --rows "$dir/p.yaml" --overwrite
want 2 "rows where the profile goes" "$peosim" calibrate --profile "$dir/p.yaml" --from "$dir/ll.csv" --out "$dir/s" --rows "$dir/s"
want 2 "a profile over the measurements" "$peosim" calibrate --profile "$dir/p.yaml" --from "$dir/ll.csv" --out "$dir/ll.csv" --overwrite
keep "$dir/ll.csv" "$dir/ll.copy" "a file of measurements"
keep hw/profiles/h200.yaml "$dir/p.yaml" "the profile"
echo mine >"$dir/rows.csv"
want 2 "rows over another file" "$peosim" accuracy --profile h200 "$dir/ll.csv" --rows "$dir/rows.csv"
want 2 "rows of a fit over another file" "$peosim" calibrate --profile "$dir/p.yaml" --from "$dir/ll.csv" --dry-run --rows "$dir/rows.csv"
[ "$(cat "$dir/rows.csv")" = mine ] || fault "--rows replaced a file unasked"
want 0 "rows with --overwrite" "$peosim" accuracy --profile h200 "$dir/ll.csv" --rows "$dir/rows.csv" --overwrite
grep -q predicted_us "$dir/rows.csv" || fault "--overwrite wrote no rows"
want 2 "an unwritable folder" "$peosim" calibrate --profile "$dir/p.yaml" --from "$dir/ll.csv" --out "$dir/no/x.yaml"
want 2 "no files" "$peosim" accuracy
want 2 "an unknown flag" "$peosim" accuracy --profil h200 "$dir/ll.csv"
grep -q "did you mean" "$dir/err" || fault "an unknown flag names no other"
want 2 "strict" sh -c "sed 2s/12.5/-1/ '$dir/ll.csv' > '$dir/bad.csv'; '$peosim' accuracy --strict --profile h200 '$dir/bad.csv'"
grep -q 'bad.csv:2: ' "$dir/err" || fault "a bad row is not named by file and line"
want 0 "a table of fitted rows" "$peosim" accuracy --markdown --profile "$dir/q.yaml" "$dir/ll.csv"
grep -q 'll_dispatch | in sample' "$dir/out" || fault "fitted rows are not called in sample"
want 0 "a table of other rows" "$peosim" accuracy --markdown --profile "$dir/p.yaml" "$dir/ll.csv"
grep -q 'in sample' "$dir/out" && fault "rows that no fit saw are called in sample"
want 0 "json" "$peosim" accuracy --json --profile h200 "$dir/ll.csv"
grep -q '"median_ape"' "$dir/out" || fault "no median_ape in --json"
[ $(find "$dir" -name '*.tmp*' | wc -l) = 0 ] || fault "temporary files are left"
# Layers measured elsewhere: only of the same model, and with their times.
runs=validate/evidence/2026-11-21-h200x4/deepseek-v3
mkdir "$dir/untimed" && sed 1s/measured_us/time/ $runs/layers.csv >"$dir/untimed/layers.csv"
cp $runs/ops.csv "$dir/untimed/"
compare() { # status, what, CONFIG, FOLDER
    want "$1" "$2" "$peosim" validate "configs/$3.yaml" --measured "$4" --no-plots --quiet \
        --output-dir "$dir/validate"
}
compare 0 'validate --measured' h200x4 $runs
[ -s "$dir/validate/053-peo-b128-compare.csv" ] || fault 'validate --measured: no pair of timelines'
compare 2 'validate --measured of another model' h200x4_qwen3 $runs
grep -q 'measured with experts 256' "$dir/err" || fault 'another model: the reason is not said'
compare 2 'validate --measured without times' h200x4 "$dir/untimed"
grep -q 'no column measured_us' "$dir/err" || fault 'no times: the reason is not said'
exit $faults
