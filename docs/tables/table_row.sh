# Sourced by evidence.sh and heldout.sh.
# table_row NAME FILE [signs]: of a table that `peosim validate` printed, one row of Markdown: points,
# median, p90, largest error, Kendall tau, with `signs` also losses and gains right, and the pick.
table_row() {
    sed -nE "s/^layer time, ([0-9]+) points: median error ([0-9.]+%), p90 ([0-9.]+%), largest ([0-9.]+%).*/\1 | \2 | \3 | \4/p
             s/^order of the schedules: Kendall tau ([0-9.-]+),.*/\1/p
             ${3:+s/^sign of the gain.*: losses ([0-9]+) of ([0-9]+) right, gains ([0-9]+) of ([0-9]+) right.*/\1 of \2 | \3 of \4/p}
             s/^the schedule picked by prediction is at most ([0-9.]+%).*/\1/p" "$2" |
        paste -sd'|' | sed "s,|, | ,g;s,  *, ,g;s,^,| $1 | ,;s,\$, |,"
}
