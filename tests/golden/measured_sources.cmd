# Folders from before CUPTI name sources in a column `times`; both are read, and written as `source`.
# docs/tables/evidence.sh --update writes the evidence anew: its columns are cut back to what they were.
evidence=validate/evidence/2026-11-21-h200x4/eps
old=$OUT/old
mkdir "$old"
cut -d, -f1-16 $evidence/ops.csv | sed '1s/source$/times/; s/,stamp$/,stamped/' >"$old/ops.csv"
cut -d, -f1-22 $evidence/layers.csv >"$old/layers.csv"
sources() { # CSV COLUMN
    awk -F, -v name="$2" 'NR == 1 {for (i = 1; i <= NF; i++) if ($i == name) c = i; next}
        {print $10, $c}' "$1" | sort | uniq -c
}
read_back() { # FOLDER NAME
    peosim validate configs/h200x4_eps.yaml --measured "$1" --no-plots --quiet --output-dir "$OUT/$2" |
        sed -nE 's/^(none|eps) .*e-[0-9]+ +/\1 /p; s/^  (router|gate_up_gemm) .*%  /\1: /p; /^CUPTI/p' | uniq -c
    sources "$OUT/$2/ops.csv" source
}
sources $old/ops.csv times
read_back $old again
# As a run with CUPTI leaves it: some points' records used, some refused.
mkdir "$OUT/new"
sed '1s/times$/source/; s/stamped$/stamp/; /^none/s/inferred$/cupti/' $old/ops.csv >"$OUT/new/ops.csv"
awk -F, -v OFS=, 'NR == 1 {print $0, "cupti_version,cupti_ok,cupti_us,cupti_spread_us,cupti_kernels,cupti_longer_us,cupti_longer_most_us"; next}
    {print $0, 130001, $1 == "none", $10 * ($1 == "none" ? 1.01 : 1.06), 0.25, 100, $1 == "none" ? 1 : 1.2, -2.5}' \
    $old/layers.csv >"$OUT/new/layers.csv"
read_back "$OUT/new" third
