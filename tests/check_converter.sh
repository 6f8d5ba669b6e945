#!/bin/bash
# calib/aiconfigurator.py on a table of each kind gives the rows beside it; the same from parquet where
# pyarrow is installed.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2
if ! command -v python3 >/dev/null; then # the converter is the one thing here that needs it
    echo "[  SKIPPED ] 1 test: there is no python3"
    exit 0
fi
box=$(mktemp -d) failed=0
trap 'rm -rf "$box"' EXIT
fail() { echo "FAILED: $*" && failed=1; }
python3 -c 'import pyarrow' 2>/dev/null && parquet=1 || { parquet= && echo "skipped: parquet (no pyarrow)"; }
for table in tests/corpus/aiconfigurator/*_perf.csv; do
    name=$(basename "$table" .csv)
    python3 calib/aiconfigurator.py "$table" h200 >"$box/out" 2>"$box/err" || fail "$name: $(cat "$box/err")"
    { cat "$box/out" && sed "s|^$table: ||" "$box/err"; } | diff "tests/corpus/aiconfigurator/$name.want" - || fail "$name"
    [ -z "$parquet" ] && continue
    python3 -c 'import sys, pyarrow.csv as c, pyarrow.parquet as p
p.write_table(c.read_csv(sys.argv[1]), sys.argv[2])' "$table" "$box/$name.parquet"
    python3 calib/aiconfigurator.py "$box/$name.parquet" h200 2>/dev/null | cmp - "$box/out" || fail "$name: parquet differs"
done
exit $failed
