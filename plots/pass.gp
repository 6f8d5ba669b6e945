# plots/pass.gp: one whole pass of all layers on one rank: a lane per stage.
#
#   gnuplot -c plots/pass.gp pass_spans.csv OUT TITLE
#
# Reads spans.csv (trace/csv.h): stream, stream_name, batch, layer, start_us, end_us. Colours are
# half batches; every tenth layer is named at its first box.
csv = ARG1
out = ARG2
heading = ARG3
here = ARG0
while (strlen(here) && here[strlen(here):strlen(here)] ne "/") { here = here[1:strlen(here)-1] }
load here."style.gp"

array lane_names[16]
do for [i = 1:16] { lane_names[i] = "" }
last_us = 0.0; max_batch = 0; max_stream = 0; named = -1
layer_us = ""
look(z) = (lane_names[int(column("stream")) + 1] = strcol("stream_name"), \
    max_stream = max(max_stream, int(column("stream"))), \
    max_batch = max(max_batch, int(column("batch"))), last_us = max(last_us, column("end_us")), \
    (int(column("layer")) % 10 == 0 && int(column("layer")) != named) ? \
        (named = int(column("layer")), \
         layer_us = layer_us.sprintf(" %.1f", column("start_us"))) : 0, 0)
set xrange [-1:1]; set yrange [-1:1] # only to keep the pass over the file quiet
set table $first
plot csv using (look(0)):(0) with points
unset table
lanes = max_stream + 1
y0(z) = lanes - 1 - column("stream") + 0.08

set title heading offset 0,0.3
set xlabel "time (ms)"
set xrange [0:last_us / 1000]
set yrange [0:lanes]
set key outside below center horizontal samplen 2
set lmargin 16
set rmargin 6
set bmargin 6
set grid xtics noytics
set ytics scale 0 ()
set xtics nomirror out
do for [i = 1:lanes] { set ytics add (lane_names[i] lanes - i + 0.5) }
do for [i = 1:words(layer_us)] {
    set arrow i from first word(layer_us, i) / 1000, graph 0 to first word(layer_us, i) / 1000, graph 1 \
        nohead linecolor rgb "#BBBBBB" dashtype 3 back
    set label i sprintf("layer %d", (i - 1) * 10) at first word(layer_us, i) / 1000, graph 1.02 \
        left textcolor rgb "#777777"
}
do for [ext in "png svg"] {
    eval term(ext, 1500, 190 + 60 * lanes)
    set output out.".".ext
    plot for [b = 0:max_batch] csv \
        using (int(column("batch")) == b ? column("start_us") / 1000 : NaN):(y0(0)): \
            (column("start_us") / 1000):(column("end_us") / 1000):(y0(0)):(y0(0) + 0.84) \
            with boxxyerror fillstyle solid 1 noborder linecolor rgb okabe(b, 0.62) \
            title max_batch ? sprintf("half %c", 65 + b) : "whole batch"
    unset output
}
