# plots/gain_batch.gp: gain over no overlap against batch, a line per policy; below zero it hurts.
#
#   gnuplot -c plots/gain_batch.gp points.csv OUT TITLE
#
# Columns: batch (tokens per rank), policy (the name of a line; `none` is the zero line), gain_pct =
# (none / policy - 1) * 100. One row per policy and batch (the best knobs), in order of batch.
csv = ARG1
out = ARG2
heading = ARG3
here = ARG0
while (strlen(here) && here[strlen(here):strlen(here)] ne "/") { here = here[1:strlen(here)-1] }
load here."style.gp"

batches = ""
low = 0.0; high = 0.0
look(z) = (name_note(strcol("policy")), batches = list_note(batches, column("batch")), \
    low = low_of(low, column("gain_pct")), high = high_of(high, column("gain_pct")), 0)
set xrange [-1:1]; set yrange [-1:1] # only to keep the first pass over the file quiet
set table $first
plot csv using (look(0)):(0) with points
unset table
pad = max(1.0, (high - low) * 0.08)

set title heading
set xlabel "batch (tokens per rank)"
set ylabel "gain over no overlap (%)"
set logscale x 2
set autoscale x
set offsets graph 0.04, graph 0.04, 0, 0
set yrange [low - pad:high + pad]
set xtics () nomirror
do for [i = 1:words(batches)] { set xtics add (word(batches, i) real(word(batches, i))) }
set ytics nomirror
set grid
set border 3
set key outside right top Left reverse samplen 2 spacing 1.3
set object 1 rectangle from graph 0, graph 0 to graph 1, first 0 \
    fillcolor rgb "#FBEEE6" fillstyle solid noborder behind
set arrow 1 from graph 0, first 0 to graph 1, first 0 nohead linewidth 1.6 linecolor rgb "#333333"
set label 1 "overlap hurts" at graph 0.99, first 0 right offset 0, -0.7 textcolor rgb "#A04000"

do for [ext in "png svg"] {
    eval term(ext, 900, 540)
    set output out.".".ext
    plot for [i = 1:num_names] csv \
        using (strcol("policy") eq names[i] ? column("batch") : NaN): \
        (names[i] eq "none" ? 0 : column("gain_pct")) \
        with linespoints linewidth 2 pointsize 1.2 pointtype point_of(i) \
        linecolor rgb line_rgb(i) \
        dashtype line_dash(i) \
        title names[i]
    unset output
}
