# plots/bars.gp: a bar per row, the first on top: what each change would save, or each winner's gain.
#
#   gnuplot -c plots/bars.gp bars.csv OUT TITLE XLABEL
#
# Columns: label, value, low, high (low and high empty: no interval; else a whisker).
csv = ARG1
out = ARG2
heading = ARG3
xname = ARG4
here = ARG0
while (strlen(here) && here[strlen(here):strlen(here)] ne "/") { here = here[1:strlen(here)-1] }
load here."style.gp"

rows = 0; least = 0.0; most = 0.0
look(z) = (rows = rows + 1, least = low_of(low_of(least, column("value")), column("low")), \
    most = high_of(high_of(most, column("value")), column("high")), 0)
set xrange [-1:1]; set yrange [-1:1] # only to keep the first pass over the file quiet
set table $first
plot csv using (look(0)):(0) with points
unset table
span = max(most - least, 1e-6)

set title heading
set xlabel xname
set xrange [least - 0.12 * span * (least < 0):most + 0.14 * span]
set yrange [rows - 0.5:-0.6]
set ytics scale 0 nomirror
set xtics nomirror
set grid x
set border 3
set arrow 1 from 0, graph 0 to 0, graph 1 nohead linecolor rgb "#444444"
unset key
bar_rgb(x) = x < 0 ? rgb_of("D55E00", 0.8) : rgb_of("0072B2", 0.8)
text(z) = sprintf("%+.1f", column("value"))
end(z) = column("value") < 0 ? low_of(column("value"), column("low")) - 0.06 * span \
                             : high_of(column("value"), column("high")) + 0.06 * span

do for [ext in "png svg"] {
    eval term(ext, 900, 130 + 34 * rows)
    set output out.".".ext
    plot csv using (0.5 * column("value")):0:(0.5 * abs(column("value"))):(0.36): \
            (bar_rgb(column("value"))):ytic(strcol("label")) \
            with boxxyerror fillstyle solid 1 noborder linecolor rgb variable, \
        csv using (column("high") > column("low") ? column("value") : NaN):0: \
            (column("low")):(column("high")) \
            with xerrorbars pointtype 0 linewidth 2 linecolor rgb "#222222", \
        csv using (end(0)):0:(text(0)) with labels
    unset output
}
