# plots/accuracy.gp: predicted against measured time, a colour per law, with lines at +-20%. Rows
# outside the range a law was fitted in are drawn hollow.
#
#   gnuplot -c plots/accuracy.gp rows.csv OUT TITLE
#
# Columns: law, measured_us, predicted_us, outside (1 = outside the fitted range), as
# `peosim accuracy --rows` and `peosim calibrate --rows` write them.
csv = ARG1
out = ARG2
heading = ARG3
here = ARG0
while (strlen(here) && here[strlen(here):strlen(here)] ne "/") { here = here[1:strlen(here)-1] }
load here."style.gp"

x_min = 1e30; x_max = 0.0
look(z) = (name_note(strcol("law")), x_min = min(x_min, column("measured_us")), \
    x_max = max(x_max, column("measured_us")), 0)
set xrange [-1:1]; set yrange [-1:1] # only to keep the first pass over the file quiet
set table $first
plot csv using (look(0)):(0) with points
unset table

set title heading
set xlabel "measured (us)"
set ylabel "predicted (us)"
set logscale xy
set xrange [x_min / 1.3:x_max * 1.3]
set yrange [x_min / 1.3:x_max * 1.3]
set size ratio 1
set grid
set border 3
set xtics nomirror
set ytics nomirror
set key outside right top Left reverse samplen 1.5 spacing 1.3

inside(z) = int(column("outside")) == 0
do for [ext in "png svg"] {
    eval term(ext, 900, 700)
    set output out.".".ext
    plot x with lines linewidth 1.2 linecolor rgb "#333333" title "exact", \
        x * 1.2 with lines dashtype 2 linecolor rgb "#999999" title "+-20%", \
        x / 1.2 with lines dashtype 2 linecolor rgb "#999999" notitle, \
        for [i = 1:num_names] csv \
            using (strcol("law") eq names[i] && inside(0) ? column("measured_us") : NaN): \
            (column("predicted_us")) with points pointtype 7 pointsize 0.4 \
            linecolor rgb okabe(i - 1, 0.8) title names[i], \
        for [i = 1:num_names] csv \
            using (strcol("law") eq names[i] && !inside(0) ? column("measured_us") : NaN): \
            (column("predicted_us")) with points pointtype 6 pointsize 0.7 \
            linecolor rgb okabe(i - 1, 1) notitle
    unset output
}
