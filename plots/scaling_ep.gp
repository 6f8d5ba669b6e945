# plots/scaling_ep.gp: layer time and gain over the EP size, a line per policy.
#
#   gnuplot -c plots/scaling_ep.gp points.csv OUT TITLE
#
# Columns: ep (ranks), policy (the name of a line), layer_us, gain_pct. One row per policy and EP
# size (the best knobs), each policy's rows in order of ep.
csv = ARG1
out = ARG2
heading = ARG3
here = ARG0
while (strlen(here) && here[strlen(here):strlen(here)] ne "/") { here = here[1:strlen(here)-1] }
load here."style.gp"

eps = ""; low = 0.0; high = 0.0
look(z) = (name_note(strcol("policy")), eps = list_note(eps, column("ep")), \
    low = low_of(low, column("gain_pct")), high = high_of(high, column("gain_pct")), 0)
set xrange [-1:1]; set yrange [-1:1] # only to keep the first pass over the file quiet
set table $first
plot csv using (look(0)):(0) with points
unset table
pad = max(1.0, (high - low) * 0.08)

set xlabel "EP size (GPUs)"
set logscale x 2
set autoscale x
set xtics () nomirror
do for [i = 1:words(eps)] { set xtics add (word(eps, i) real(word(eps, i))) }
set ytics nomirror
set border 3

do for [ext in "png svg"] {
    eval term(ext, 1400, 520)
    set output out.".".ext
    set multiplot layout 1, 2 title heading
    set offsets graph 0.04, graph 0.04, graph 0.05, 0
    set yrange [0:*]
    set ylabel "layer time (µs)"
    unset object 1; unset arrow 1; unset label 1
    unset key
    plot for [i = 1:num_names] csv \
        using (strcol("policy") eq names[i] ? column("ep") : NaN):(column("layer_us")) \
        with linespoints linewidth 2 pointsize 1.2 pointtype point_of(i) \
        linecolor rgb line_rgb(i) dashtype line_dash(i)
    set offsets graph 0.04, graph 0.04, 0, 0
    set yrange [low - pad:high + pad]
    set ylabel "gain over no overlap (%)"
    set key outside right top Left reverse samplen 2 spacing 1.3
    set object 1 rectangle from graph 0, graph 0 to graph 1, first 0 \
        fillcolor rgb "#FBEEE6" fillstyle solid noborder behind
    set arrow 1 from graph 0, first 0 to graph 1, first 0 nohead linewidth 1.6 \
        linecolor rgb "#333333"
    set label 1 "overlap hurts" at graph 0.99, first 0 right offset 0, -0.7 \
        textcolor rgb "#A04000"
    plot for [i = 1:num_names] csv \
        using (strcol("policy") eq names[i] ? column("ep") : NaN): \
        (names[i] eq "none" ? 0 : column("gain_pct")) \
        with linespoints linewidth 2 pointsize 1.2 pointtype point_of(i) \
        linecolor rgb line_rgb(i) dashtype line_dash(i) title names[i]
    unset multiplot
    unset output
}
