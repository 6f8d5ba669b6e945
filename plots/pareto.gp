# plots/pareto.gp: throughput per GPU against speed per user, with the Pareto front.
#
#   gnuplot -c plots/pareto.gp points.csv OUT TITLE [TARGET_TOKENS_S_USER]
#
# Columns: gpu (the kind; one colour and marker each), tokens_s_user, tokens_s_gpu, pareto (1 = on
# the front over all kinds), label (written at points on the front; may be empty). The front is drawn
# through its points in the order of the file: sort by tokens_s_user. A target draws a vertical line.
csv = ARG1
out = ARG2
heading = ARG3
target = ARGC >= 4 ? real(ARG4) : 0.0
here = ARG0
while (strlen(here) && here[strlen(here):strlen(here)] ne "/") { here = here[1:strlen(here)-1] }
load here."style.gp"

x_max = 0.0; y_max = 0.0
look(z) = (name_note(strcol("gpu")), x_max = max(x_max, column("tokens_s_user")), \
    y_max = max(y_max, column("tokens_s_gpu")), 0)
set xrange [-1:1]; set yrange [-1:1] # only to keep the first pass over the file quiet
set table $first
plot csv using (look(0)):(0) with points
unset table

set title heading
set xlabel "tokens/s per user"
set ylabel "tokens/s per GPU"
set autoscale x
set xrange [0:*]
set yrange [0:*]
set offsets 0, graph 0.12, graph 0.06, 0
set xtics nomirror
set ytics nomirror
set grid
set border 3
set key outside right top Left reverse samplen 1.5 spacing 1.3
if (target > 0) {
    set arrow 1 from first target, graph 0 to first target, graph 1 nohead dashtype 2 \
        linewidth 1.6 linecolor rgb "#333333"
    set label 1 sprintf("target %.4g", target) at first target, graph 0.97 left offset 0.5, 0
}
# A label that would lie on the one before is left out.
label_x = 0.0; label_y = 0.0
crowded(x, y) = abs(x - label_x) < 0.13 * x_max && abs(y - label_y) < 0.04 * y_max
label_text(z) = !front(0) || crowded(column("tokens_s_user"), column("tokens_s_gpu")) ? "" : \
    (label_x = column("tokens_s_user"), label_y = column("tokens_s_gpu"), strcol("label"))
front(z) = int(column("pareto")) == 1

do for [ext in "png svg"] {
    eval term(ext, 1000, 600)
    set output out.".".ext
    label_x = -x_max; label_y = -y_max
    plot csv using (front(0) ? column("tokens_s_user") : 1/0):(column("tokens_s_gpu")) \
            with lines linewidth 2.5 linecolor rgb "#999999" title "Pareto front", \
        for [i = 1:num_names] csv \
            using (strcol("gpu") eq names[i] ? column("tokens_s_user") : NaN): \
            (column("tokens_s_gpu")) with points pointtype point_of(i) pointsize 1 \
            linecolor rgb okabe(i - 1, 0.8) title names[i], \
        csv using (front(0) ? column("tokens_s_user") : NaN):(column("tokens_s_gpu")) \
            with points pointtype 6 pointsize 2 linewidth 1.5 linecolor rgb "black" notitle, \
        csv using (front(0) ? column("tokens_s_user") : NaN):(column("tokens_s_gpu")): \
            (label_text(0)) with labels left offset 1, 0.5 notitle
    unset output
}
