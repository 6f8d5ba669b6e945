# plots/gainmap.gp: where overlap pays and where it hurts: gain over batch and EP (or NIC speed ...),
# with the break-even line.
#
#   gnuplot -c plots/gainmap.gp points.csv OUT TITLE Y YLABEL
#
# Columns: batch, the column named by Y (ep, nic_Gbitps ...; numbers), gain_pct (of the best policy,
# not clipped at 0), policy (optional in meaning: shown in the cell; may be empty). One row per cell.
csv = ARG1
out = ARG2
heading = ARG3
ycol = ARGC >= 4 ? ARG4 : "ep"
yname = ARGC >= 5 ? ARG5 : ycol
here = ARG0
while (strlen(here) && here[strlen(here):strlen(here)] ne "/") { here = here[1:strlen(here)-1] }
load here."style.gp"

xs = ""; ys = ""
most = 1.0; low = 1e300; high = -1e300
look(z) = (xs = list_note(xs, column("batch")), ys = list_note(ys, column(ycol)), \
    most = high_of(most, abs(column("gain_pct"))), \
    low = low_of(low, column("gain_pct")), high = high_of(high, column("gain_pct")), 0)
set xrange [-1:1]; set yrange [-1:1] # only to keep the first pass over the file quiet
set table $first
plot csv using (look(0)):(0) with points
unset table

nx = words(xs); ny = words(ys)
cell_x(z) = rank_in(xs, column("batch"))
cell_y(z) = rank_in(ys, column(ycol))
has_line = low < 0 && high >= 0

# Break-even runs along the edges between cells that gain and cells that lose.
array sign[nx * ny]
do for [i = 1:nx * ny] { sign[i] = 0 }
keep(z) = column("gain_pct") == column("gain_pct") ? \
    (sign[int(cell_x(0) + nx * (cell_y(0) - 1))] = column("gain_pct") < 0 ? -1 : 1, 0) : 0
set table $second
plot csv using (keep(0)):(0) with points
unset table
do for [y = 1:ny] {
    do for [x = 1:nx] {
        at = x + nx * (y - 1)
        if (x < nx) { if (sign[at] * sign[at + 1] < 0) {
            set arrow from x + 0.5, y - 0.5 to x + 0.5, y + 0.5 nohead front linewidth 4
        } }
        if (y < ny) { if (sign[at] * sign[at + nx] < 0) {
            set arrow from x - 0.5, y + 0.5 to x + 0.5, y + 0.5 nohead front linewidth 4
        } }
    }
}

set title heading
set xlabel "batch (tokens per rank)"
set ylabel yname
set xrange [0.5:nx + 0.5]
set yrange [0.5:ny + 0.5]
set xtics scale 0 ()
set ytics scale 0 ()
do for [i = 1:nx] { set xtics add (word(xs, i) rank_in(xs, real(word(xs, i)))) }
do for [i = 1:ny] { set ytics add (word(ys, i) rank_in(ys, real(word(ys, i)))) }
set object 1 rectangle from graph 0, graph 0 to graph 1, graph 1 fillcolor rgb "#DDDDDD" \
    fillstyle solid noborder behind
set bmargin 5.5
set label 1 (has_line ? "cells: gain of the best overlap over none (%), and which; black line: break-even" : \
    low >= 0 ? "cells: gain of the best overlap over none (%); overlap pays everywhere here" : \
    "cells: gain of the best overlap over none (%); overlap hurts everywhere here") \
    at graph 0.5, screen 0 center offset 0, 0.8 textcolor rgb "#444444"
unset key
cell_text(z) = sprintf("%+.1f\n%s", column("gain_pct"), strcol("policy"))

do for [ext in "png svg"] {
    eval term(ext, max(760, 160 + 105 * nx), 190 + 70 * ny)
    set output out.".".ext
    plot csv using (cell_x(0)):(cell_y(0)):(0.49):(0.49):(heat(column("gain_pct"), most)) \
            with boxxyerror fillstyle solid 1 noborder linecolor rgb variable, \
        csv using (cell_x(0)):(cell_y(0)):(cell_text(0)) with labels
    unset output
}
