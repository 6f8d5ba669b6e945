# plots/map.gp: which policy wins, over batch and one other key: a cell per scenario, coloured by
# its winner, paler where the lead is small; lines where one winner gives way to another.
#
#   gnuplot -c plots/map.gp map.csv OUT TITLE KEY
#
# Columns: row, KEY, batch, winner, layer_us, none_us, gain_pct, second, margin_pct, sure, within_pct. Break-even
# is drawn at the edge of the two cells that it lies between.
csv = ARG1
out = ARG2
heading = ARG3
ykey = ARG4
here = ARG0
while (strlen(here) && here[strlen(here):strlen(here)] ne "/") { here = here[1:strlen(here)-1] }
load here."style.gp"

xs = ""; rows = 0
array label[64]
look(z) = (xs = list_note(xs, column("batch")), name_note(stringcolumn("winner")), \
    rows = max(rows, int(column("row"))), label[int(column("row"))] = stringcolumn(ykey), 0)
set xrange [-1:1]; set yrange [-1:1]
set table $first
plot csv using (look(0)):(0) with points
unset table

nx = words(xs)
strength(s) = s eq "clear" ? 0.75 : s eq "likely" ? 0.5 : 0.25
colour(w, s) = policy_rgb(w, name_index(w), strength(s))
set title heading
set xlabel "batch (tokens per rank)"
set ylabel ykey eq "key" ? "" : ykey
set xrange [0.5:nx + 0.5]
set yrange [0.5:rows + 0.5]
set xtics scale 0 ()
set ytics scale 0 ()
do for [i = 1:nx] { set xtics add (word(xs, i) rank_in(xs, real(word(xs, i)))) }
do for [i = 1:rows] { if (strlen(label[i])) { set ytics add (label[i] i) } }
set label 1 "cells: winner, gain over no overlap, lead over the next; strong colour: clear, pale: a tie; hatched: within 10% of any schedule" \
    at graph 0.5, screen 0 center offset 0, 0.8 textcolor rgb "#444444"
set bmargin 5.5
unset key
cell_text(z) = sprintf("%s\n%+.1f%%\nby %.1f%%", stringcolumn("winner"), column("gain_pct"), \
    column("margin_pct"))
# A thick line between neighbours of different winners.
lx = 0; ly = 0; lw = ""
edge_x(z) = (changed = ly == int(column("row")) && lw ne stringcolumn("winner"), \
    at = rank_in(xs, column("batch")) - 0.5, ly = int(column("row")), \
    lw = stringcolumn("winner"), changed ? at : NaN)

do for [ext in "png svg"] {
    eval term(ext, max(760, 200 + 105 * nx), 210 + 85 * rows)
    set output out.".".ext
    ly = 0; lw = ""
    plot csv using (rank_in(xs, column("batch"))):(column("row")):(0.49):(0.48): \
            (colour(stringcolumn("winner"), stringcolumn("sure"))) \
            with boxxyerror fillstyle solid 1 noborder linecolor rgb variable, \
        csv using (column("within_pct") < 10 ? rank_in(xs, column("batch")) : NaN):(column("row")): \
            (0.49):(0.48) with boxxyerror fillstyle pattern 4 noborder linecolor rgb "#888888", \
        csv using (edge_x(0)):(column("row") - 0.5):(0):(1) \
            with vectors nohead linecolor rgb "black" linewidth 4, \
        csv using (rank_in(xs, column("batch"))):(column("row")):(cell_text(0)) with labels
    unset output
}
