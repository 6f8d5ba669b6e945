#!/bin/bash
# docs/pictures/rooms.svg: which room includes which, read from the #include lines of the sources. An
# arrow that others imply (a room sees all that its parents see) is left out.
#   docs/tables/rooms.sh >docs/pictures/rooms.svg
set -eu -o pipefail
cd "$(dirname "$0")/../.."
export LC_ALL=C

# "from to", once each. Folders inside a room count as the room, but for sim/flow.
edges() {
    grep -rHo '^#include "[a-z_/]*/' --include='*.[ch]' --include='*.cu' \
        base plan trace hw model sim kernels validate calib study report cmd |
        sed 's/^\([^:]*\)\/[^:/]*:#include "\(.*\)\/$/\1 \2/; s/:.*"/ /' |
        awk '{
            for (i = 1; i <= 2; i++)
                if ($i !~ /^sim\/flow/)
                    sub(/\/.*/, "", $i)
            if ($1 != $2)
                print $1, $2
        }' | sort -u
}

edges | awk '
# Rows from the bottom: one above the highest of what the room includes.
function level(r,    o, l, best) {
    if (r in depth)
        return depth[r]
    for (o in room)
        if ((r, o) in sees && (l = level(o) + 1) > best)
            best = l
    return depth[r] = best + 0
}
function arrow(a, b) {
    x1 = px[a]; y1 = py[a] + 34; x2 = px[b]; y2 = py[b]
    printf "<path d=\"M%d %d C%d %d %d %d %d %d\" marker-end=\"url(#a)\"/>\n", \
        x1, y1, x1, y1 + 30, x2, y2 - 34, x2, y2 - 4
}
BEGIN {
    # From left to right within a row; rooms that are new stand behind them.
    n = split("sim/flow sim plan trace study serve report cmd base model hw calib kernels validate", order, " ")
    for (i = 1; i <= n; i++)
        known[order[i]] = 1
}
{
    sees[$1, $2] = 1
    for (i = 1; i <= 2; i++) {
        room[$i] = 1
        if (!($i in known)) {
            known[$i] = 1
            order[++n] = $i
        }
    }
}
END {
    for (i = 1; i <= n; i++) {
        l = level(order[i])
        row[l] = row[l] " " order[i]
        count[l]++
        top = l > top ? l : top
    }
    width = 640; height = 60 + top * 84
    for (l = 0; l <= top; l++) {
        k = split(row[l], in_row, " ")
        for (i = 1; i <= k; i++) {
            px[in_row[i]] = int(width * (2 * i - 1) / (2 * k))
            py[in_row[i]] = height - 46 - 84 * l
        }
    }
    for (k in room) for (a in room) for (b in room)
        if ((a, k) in sees && (k, b) in sees)
            implied[a, b] = 1
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"DejaVu Sans, sans-serif\" font-size=\"14\">\n", width, height
    print "<title>Rooms and what they include</title>"
    print "<defs><marker id=\"a\" markerWidth=\"8\" markerHeight=\"8\" refX=\"6\" refY=\"4\" orient=\"auto\"><path d=\"M0 0 L8 4 L0 8 z\" fill=\"#555\"/></marker></defs>"
    print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    print "<g fill=\"none\" stroke=\"#555\" stroke-width=\"1.3\">"
    for (i = 1; i <= n; i++) for (j = 1; j <= n; j++)
        if ((order[i], order[j]) in sees && !((order[i], order[j]) in implied))
            arrow(order[i], order[j])
    print "</g>\n<g text-anchor=\"middle\">"
    for (i = 1; i <= n; i++) {
        r = order[i]
        printf "<rect x=\"%d\" y=\"%d\" width=\"92\" height=\"34\" rx=\"4\" fill=\"#E8F0F8\" stroke=\"#335\"/>", px[r] - 46, py[r]
        printf "<text x=\"%d\" y=\"%d\">%s</text>\n", px[r], py[r] + 22, r
    }
    print "</g>\n</svg>"
}'
