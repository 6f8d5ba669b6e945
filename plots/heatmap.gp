# plots/heatmap.gp: gain (or time) over rounds and SMs, a cell per pair of knobs.
#
#   gnuplot -c plots/heatmap.gp points.csv OUT TITLE [X Y XLABEL YLABEL]
#
# Columns: num_rounds, num_sms, layer_us, gain_pct; one row per cell, cells without a row (a
# combination that is not possible) stay grey. X and Y name other columns of numbers to use in place
# of num_sms and num_rounds. The best cell has a thick frame.
csv = ARG1
out = ARG2
heading = ARG3
xcol = ARGC >= 5 ? ARG4 : "num_sms"
ycol = ARGC >= 5 ? ARG5 : "num_rounds"
xname = ARGC >= 6 ? ARG6 : ARGC >= 5 ? ARG4 : "SMs for communication"
yname = ARGC >= 7 ? ARG7 : ARGC >= 5 ? ARG5 : "rounds"
here = ARG0
while (strlen(here) && here[strlen(here):strlen(here)] ne "/") { here = here[1:strlen(here)-1] }
load here."style.gp"

xs = ""; ys = ""
most = 1.0; best = -1e300; best_x = 0; best_y = 0
look(z) = (xs = list_note(xs, column(xcol)), ys = list_note(ys, column(ycol)), \
    most = high_of(most, abs(column("gain_pct"))), \
    column("gain_pct") > best ? (best = column("gain_pct"), best_x = column(xcol), \
                                 best_y = column(ycol)) : 0, 0)
set xrange [-1:1]; set yrange [-1:1] # only to keep the first pass over the file quiet
set table $first
plot csv using (look(0)):(0) with points
unset table

nx = words(xs); ny = words(ys)
cell_x(z) = rank_in(xs, column(xcol))
cell_y(z) = rank_in(ys, column(ycol))
set title heading
set xlabel xname
set ylabel yname
set xrange [0.5:nx + 0.5]
set yrange [0.5:ny + 0.5]
set xtics scale 0 ()
set ytics scale 0 ()
do for [i = 1:nx] { set xtics add (word(xs, i) rank_in(xs, real(word(xs, i)))) }
do for [i = 1:ny] { set ytics add (word(ys, i) rank_in(ys, real(word(ys, i)))) }
set object 1 rectangle from graph 0, graph 0 to graph 1, graph 1 fillcolor rgb "#DDDDDD" \
    fillstyle solid noborder behind
bx = rank_in(xs, best_x); by = rank_in(ys, best_y)
set object 2 rectangle from bx - 0.47, by - 0.47 to bx + 0.47, by + 0.47 \
    fillstyle empty border linecolor rgb "black" linewidth 3 front
set label 1 "cells: gain over no overlap (%) and layer time (µs); blue: gain, orange: loss; frame: best" \
    at graph 0.5, screen 0 center offset 0, 0.8 textcolor rgb "#444444"
set bmargin 5.5
unset key
cell_text(z) = sprintf("%+.1f%%\n%.4g µs", column("gain_pct"), column("layer_us"))

do for [ext in "png svg"] {
    eval term(ext, max(760, 160 + 105 * nx), 190 + 80 * ny)
    set output out.".".ext
    plot csv using (cell_x(0)):(cell_y(0)):(0.49):(0.49):(heat(column("gain_pct"), most)) \
            with boxxyerror fillstyle solid 1 noborder linecolor rgb variable, \
        csv using (cell_x(0)):(cell_y(0)):(cell_text(0)) with labels
    unset output
}
