#!/bin/bash
# Lines and branches that the CPU tests run, per room; fails where a room has fewer than FLOOR % of
# its lines.
#   coverage.sh BUILD [FLOOR]    BUILD: built and tested with --coverage (make coverage)
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2
build=${1:?usage: coverage.sh BUILD [FLOOR]}
floor=${2:-90}
rooms="base plan trace hw model sim calib study serve report validate cmd"

# Objects that no test ran leave no counts: gcov is told of every source that was built.
for note in $(find $(for r in $rooms; do [ -d "$build/$r" ] && echo "$build/$r"; done) -name '*.gcno' | sort); do
    gcov -n -b -o "$(dirname "$note")" "$note" 2>/dev/null
done | awk -v floor="$floor" -v rooms="$rooms" '
    /^File / { file = $2; gsub("\047", "", file); split(file, part, "/"); room = file ~ /^[a-z]+\// && file ~ /\.c$/ ? part[1] : ""; next }
    /^Lines executed:/ && room != "" { split($2, a, /[:%]/); lines[room] += $4; run[room] += a[2] * $4 / 100; next }
    /^Branches executed:/ { next }
    /^Taken at least once:/ && room != "" { split($4, a, /[:%]/); branches[room] += $6; taken[room] += a[2] * $6 / 100; room = "" }
    END {
        printf "%-9s %7s %7s %9s %7s\n", "room", "lines", "run", "branches", "taken"
        n = split(rooms, order, " ")
        for (i = 1; i <= n; i++) {
            r = order[i]
            if (!lines[r]) continue
            share = 100 * run[r] / lines[r]
            printf "%-9s %7d %6.1f%% %9d %6.1f%%%s\n", r, lines[r], share, branches[r],
                branches[r] ? 100 * taken[r] / branches[r] : 0, share < floor ? "  below " floor "%" : ""
            if (share < floor) bad = 1
            all++
        }
        exit bad || !all
    }'
