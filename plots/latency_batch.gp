# plots/latency_batch.gp: layer time against batch, a line per policy.
#
#   gnuplot -c plots/latency_batch.gp points.csv OUT TITLE
#
# Columns: batch (tokens per rank), policy (the name of a line), layer_us. One row per policy and
# batch (the best knobs), each policy's rows in order of batch; other columns are not read.
csv = ARG1
out = ARG2
heading = ARG3
here = ARG0
while (strlen(here) && here[strlen(here):strlen(here)] ne "/") { here = here[1:strlen(here)-1] }
load here."style.gp"

batches = ""
look(z) = (name_note(strcol("policy")), batches = list_note(batches, column("batch")), 0)
set xrange [-1:1]; set yrange [-1:1] # only to keep the first pass over the file quiet
set table $first
plot csv using (look(0)):(0) with points
unset table

set title heading
set xlabel "batch (tokens per rank)"
set ylabel "layer time (µs)"
set logscale x 2
set logscale y 10
set autoscale x
set offsets graph 0.04, graph 0.04, 0, 0
set yrange [*:*]
set mytics 10
set ytics (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
set xtics () nomirror
do for [i = 1:words(batches)] { set xtics add (word(batches, i) real(word(batches, i))) }
set grid
set border 3
set key outside right top Left reverse samplen 2 spacing 1.3

do for [ext in "png svg"] {
    eval term(ext, 900, 540)
    set output out.".".ext
    plot for [i = 1:num_names] csv \
        using (strcol("policy") eq names[i] ? column("batch") : NaN):(column("layer_us")) \
        with linespoints linewidth 2 pointsize 1.2 pointtype point_of(i) \
        linecolor rgb line_rgb(i) \
        dashtype line_dash(i) title names[i]
    unset output
}
