#!/bin/bash
# Nothing cites a file that is not in the tree: paths that begin with a room or folder of the tree, in
# code, scripts and docs. Placeholders (X, NAME, test_x, mine) are none.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2
git rev-parse --git-dir >/dev/null 2>&1 || { echo "no git tree here: skipped"; exit 0; }
rooms='base|plan|trace|hw|model|sim|kernels|validate|calib|study|report|serve|cmd|docs|configs|plots|python|packaging|tests'
failed=0
while IFS=: read -r file line path; do
    [ -e "$path" ] && continue
    case $path in */X.* | */NAME.* | */test_x.* | */mine.*) continue ;; esac
    [ -n "$(git ls-files "$path*" "*/$path" 2>/dev/null | head -n 1)" ] && continue
    echo "FAIL: $file:$line cites $path, which is not in the tree"
    failed=1
done < <(git ls-files '*.c' '*.h' '*.cu' '*.sh' '*.md' '*.py' '*.gp' Makefile | grep -v -e '^CHANGELOG' -e '^tests/.*\.c$' -e '^tests/check_cites' -e '^validate/evidence' -e '^report/vendor' |
    xargs grep -noE "(^|[^A-Za-z0-9_./\$<>*{}-])($rooms)/[A-Za-z0-9_./-]+\.(c|h|cu|md|sh|yaml|json|py|gp|svg|diff)\b" |
    sed -E 's/^([^:]*:[0-9]+:)[^a-z]*/\1/' | sort -u)
exit $failed
