# plots/calibrate.gp: what is left after a fit: relative error against measured time, a panel's worth
# of colours, one per law. A trend along the axis is a law that misses something.
#
#   gnuplot -c plots/calibrate.gp rows.csv OUT TITLE
#
# Columns: law, measured_us, error (fraction), outside, as `peosim calibrate --rows` writes them.
csv = ARG1
out = ARG2
heading = ARG3
here = ARG0
while (strlen(here) && here[strlen(here):strlen(here)] ne "/") { here = here[1:strlen(here)-1] }
load here."style.gp"

look(z) = (name_note(strcol("law")), 0)
set xrange [-1:1]; set yrange [-1:1] # only to keep the first pass over the file quiet
set table $first
plot csv using (look(0)):(0) with points
unset table

set title heading
set xlabel "measured (us)"
set ylabel "predicted / measured - 1 (%)"
set logscale x
set autoscale x
set yrange [-60:60]
set grid
set border 3
set xtics nomirror
set ytics nomirror
set key outside right top Left reverse samplen 1.5 spacing 1.3
clip(e) = 100 * (e > 0.6 ? 0.6 : e < -0.6 ? -0.6 : e)

do for [ext in "png svg"] {
    eval term(ext, 1000, 600)
    set output out.".".ext
    plot 0 with lines linewidth 1.2 linecolor rgb "#333333" notitle, \
        for [i = 1:num_names] csv \
            using (strcol("law") eq names[i] ? column("measured_us") : NaN): \
            (clip(column("error"))) with points pointtype 7 pointsize 0.4 \
            linecolor rgb okabe(i - 1, 0.7) title names[i]
    unset output
}
