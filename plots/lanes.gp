# plots/lanes.gp: what timeline.gp and compare.gp share: a lane per stream, a box per kernel. The
# caller has set csv, out, heading, rank, num_sms, from_us, to_us, lane_key(z), lane_name(z).
#
# First pass: which streams there are, how far time goes, what colours stand for.
array lane_names[64]
longest = 0
max_round = 0; max_batch = 0; max_sms = 0; last_us = 0.0
note_lane(key, name) = name_index(key) ? 0 : (name_note(key), \
    lane_names[num_names] = name, longest = max(longest, strlen(name)), 0)
on_rank(z) = int(column("rank")) == rank
look(z) = !on_rank(0) ? NaN : (note_lane(lane_key(0), lane_name(0)), \
    max_round = max(max_round, int(column("round"))), \
    max_batch = max(max_batch, int(column("batch"))), \
    max_sms = max(max_sms, int(column("sms"))), last_us = max(last_us, column("end_us")), 0)
set xrange [-1:1]; set yrange [-1:1] # only to keep the pass over the file quiet
set table $first
plot csv using (look(0)):(0) with points
unset table
if (num_sms <= 0) { num_sms = max_sms > 0 ? max_sms : 1 }
if (to_us < 0) { to_us = last_us }
if (to_us <= from_us) { to_us = from_us + 1 }
streams = max(1, num_names)
mode = max_round > 0 ? 2 : max_batch > 0 ? 1 : 0

# What leaves the rank on its links (kinds.gp names their table, if any), a lane per link that
# carries anything.
array load_counter[2] = ["nic_egress_GBps", "nvlink_egress_GBps"]
array load_name[2] = ["NIC out", "NVLink out"]
array load_most[2] = [0, 0]
# A link's load is a step function; steps narrower than a pixel are drawn as their mean.
load_from = 0.0; load_last = 0.0; load_value = 0.0; load_sum = 0.0
load_b0 = 0.0; load_b1 = 0.0; load_mean = 0.0; load_done = 0
load_start(z) = (load_from = from_us, load_last = from_us, load_value = 0.0, load_sum = 0.0, 0)
load_mine(i) = int(column("rank")) == rank && strcol("counter") eq load_counter[i]
load_box(t, v) = (load_sum = load_sum + load_value * max(0.0, t - load_last), \
    load_last = max(load_last, t), load_value = v, \
    load_b0 = load_from, load_b1 = load_last, load_done = load_last - load_from >= (to_us - from_us) / 1290.0, \
    load_mean = load_done ? load_sum / (load_last - load_from) : 0.0, \
    load_from = load_done ? load_last : load_from, load_sum = load_done ? 0.0 : load_sum, load_done && load_mean > 0)
load_x(i) = (column(0) < 1 ? load_start(0) : 0, load_mine(i)) && load_box(min(to_us, column("t_us")), column("value")) ? load_b0 : NaN
load_note(i) = (load_x(i), load_most[i] = max(load_most[i], load_done ? load_mean : 0.0), 0)
array load_lane[2] = [0, 0]
loaded = 0
if (strlen(loads)) {
    do for [i = 1:2] {
        set table $first
        plot loads using (load_note(i)):(0) with points
        unset table
        if (load_most[i] > 0) { loaded = loaded + 1; load_lane[i] = streams + loaded }
    }
}
lanes = streams + loaded
load_base(i) = lanes - load_lane[i] + 0.02

# Where a box stands. Lane 0 on top; a lane is 1 high and filled to 0.86 by all SMs.
lane(z) = name_index(lane_key(0)) - 1
y0(z) = lanes - 1 - lane(0) + 0.02
full = 0.86
height(z) = full * (column("sms") > 0 ? min(1.0, column("sms") / num_sms) : 1.0)
y1(z) = y0(0) + height(0)
x0(z) = max(from_us, column("start_us"))
x1(z) = min(to_us, column("end_us"))
seen(z) = on_rank(0) && column("end_us") > from_us && column("start_us") < to_us
comm(z) = strcol("class") ne "compute"
is(s) = strstrt(strcol("kind"), s) > 0
# Words tell kernels of other programs.
phase(z) = kind_colour(strcol("kind")) > -2 ? kind_colour(strcol("kind")) : \
    is("dispatch") ? 0 : is("combine") ? 2 : is("gemm") ? 1 : -1
colour(z) = mode == 2 ? int(column("round")) : \
           mode == 1 ? int(column("batch")) : phase(0)
tint(f) = colour(0) < 0 ? grey(f) : okabe(colour(0), f)

# A fused kernel sends first and waits in the middle; a receive waits first.
wait0(z) = column("start_us") + (kind_is_half(strcol("kind")) ? 0 : \
    (column("end_us") - column("start_us") - column("wait_us")) / 2)
waits(z) = seen(0) && column("wait_us") > 0
w0(z) = max(from_us, wait0(0))
w1(z) = min(to_us, wait0(0) + column("wait_us"))

# Labels: the op's name where it fits, else a short one, else upright, else none.
width_px = 1500; plot_px = 1290.0; lane_px = lanes > 4 ? 90 : 120
height_px = 165 + lanes * lane_px
char_px = 8.8
px(z) = (x1(0) - x0(0)) / (to_us - from_us) * plot_px
py(z) = height(0) * lane_px
bracket(z) = strstrt(strcol("label"), "[") ? strcol("label")[strstrt(strcol("label"), "["):*] : \
    strstrt(strcol("label"), ".") ? strcol("label")[strstrt(strcol("label"), "."):*] : \
    strstrt(strcol("label"), "/") ? strcol("label")[strstrt(strcol("label"), "/"):*] : ""
short_kind(z) = kind_brief(strcol("kind"))
short_label(z) = short_kind(0).bracket(0)
fits(s) = strlen(s) * char_px + 6 < px(0)
upright(s) = !fits(s) && strlen(s) * char_px + 4 < py(0) && px(0) > 13
level_text(z) = fits(strcol("label")) ? strcol("label") : fits(short_label(0)) ? short_label(0) : \
    !upright(short_label(0)) && fits(short_kind(0)) ? short_kind(0) : ""
upright_text(z) = upright(short_label(0)) ? short_label(0) : ""
cx(z) = seen(0) ? (x0(0) + x1(0)) / 2 : NaN
# A box that is too flat has its label on top of it.
cy(z) = py(0) > 15 ? (y0(0) + y1(0)) / 2 : y1(0) + 9.0 / lane_px

set title heading offset 0,0.3
set xlabel "time (µs)"
set xrange [from_us:to_us]
set yrange [0:lanes]
unset key
set key outside below center horizontal samplen 2 spacing 1.2 height 0.3
set lmargin max(12, longest + 3)
set rmargin 12
set bmargin 7.5
set grid xtics noytics
set ytics scale 0 ()
set y2range [0:lanes]
set y2tics scale 0.3 ()
set xtics nomirror out
do for [i = 1:lanes] {
    base = lanes - i + 0.02
    if (i <= streams) {
        set ytics add ((num_names ? lane_names[i] : "") base + full / 2)
        set y2tics add ("0" base, sprintf("%d SMs", num_sms) base + full)
    }
    set object i rectangle from graph 0, first base to graph 1, first base + full \
        fillcolor rgb "#F6F6F6" fillstyle solid noborder behind
    set arrow i from graph 0, first base to graph 1, first base nohead linecolor rgb "#AAAAAA"
}

do for [i = 1:2] {
    if (load_lane[i]) {
        set ytics add (load_name[i] load_base(i) + full / 2)
        set y2tics add ("0" load_base(i), sprintf("%.3g GB/s", load_most[i]) load_base(i) + full)
    }
}

# What the short names on boxes stand for, of those that are there.
brief_of(z) = !on_rank(0) ? NaN : (strstrt(briefs." ", " ".kind_brief(strcol("kind"))." ") ? 0 : \
    (briefs = briefs." ".kind_brief(strcol("kind"))), 0)
briefs = ""
set table $first
plot csv using (brief_of(0)):(0) with points
unset table
stands(b, text) = strstrt(briefs." ", " ".b." ") ? (strlen(meaning) ? ", " : "").b." = ".text : ""
meaning = ""
meaning = meaning.stands("Ds", "dispatch send")
meaning = meaning.stands("Dr", "dispatch receive")
meaning = meaning.stands("Cs", "combine send")
meaning = meaning.stands("Cr", "combine receive")
meaning = meaning.(mode == 2 && strlen(meaning) ? ", [r] = round" : "").", /L = layer"
set xlabel "time (µs)        ".meaning

keys = mode == 2 ? min(8, max_round + 1) : mode == 1 ? max_batch + 1 : 3
key_name(i) = mode == 2 ? sprintf(max_round > i + 7 ? "round %d, %d ..." : "round %d", i, i + 8) : mode == 1 ? sprintf("half %c", 65 + i) : \
    word("dispatch experts combine", i + 1)
rest_name = mode == 2 ? "not in rounds" : "other"
with_rest = mode == 1 ? 0 : 1

do for [ext in "png svg"] {
    eval term(ext, width_px, height_px)
    set output out.".".ext
    plot csv using (seen(0) && !comm(0) ? x0(0) : NaN):(y0(0)):(x0(0)):(x1(0)):(y0(0)):(y1(0)):(tint(0.62)) \
            with boxxyerror fillstyle solid 1 noborder linecolor rgb variable notitle, \
        csv using (seen(0) && comm(0) ? x0(0) : NaN):(y0(0)):(x0(0)):(x1(0)):(y0(0)):(y1(0)):(tint(0.38)) \
            with boxxyerror fillstyle solid 1 noborder linecolor rgb variable notitle, \
        csv using (seen(0) && comm(0) ? x0(0) : NaN):(y0(0)):(x0(0)):(x1(0)):(y0(0)):(y1(0)) \
            with boxxyerror fillstyle transparent pattern 4 noborder linecolor rgb "#999999" notitle, \
        csv using (waits(0) ? w0(0) : NaN):(y0(0)):(w0(0)):(w1(0)):(y0(0)):(y1(0)) \
            with boxxyerror fillstyle transparent solid 0.7 noborder fillcolor rgb "white" notitle, \
        csv using (seen(0) ? x0(0) : NaN):(y0(0)):(x0(0)):(x1(0)):(y0(0)):(y1(0)) \
            with boxxyerror fillstyle empty linecolor rgb "#333333" notitle, \
        csv using (cx(0)):(cy(0)):(level_text(0)) with labels notitle, \
        csv using (cx(0)):(cy(0)):(upright_text(0)) with labels rotate by 90 notitle, \
        for [i = 1:loaded ? 2 : 0] loads using (load_lane[i] ? load_x(i) : NaN):(load_base(i)):(load_b0):(load_b1): \
            (load_base(i)):(load_base(i) + full * load_mean / load_most[i]) \
            with boxxyerror fillstyle solid 1 noborder fillcolor rgb "#8899AA" notitle, \
        for [i = 0:keys - 1] keyentry with boxes fillstyle solid 1 border linecolor rgb "#333333" \
            fillcolor rgb okabe(i, 0.62) title key_name(i), \
        for [i = 1:with_rest] keyentry with boxes fillstyle solid 1 border linecolor rgb "#333333" \
            fillcolor rgb grey(0.62) title rest_name, \
        keyentry with boxes fillstyle pattern 4 border linecolor rgb "#333333" \
            fillcolor rgb "#999999" title "communication", \
        keyentry with boxes fillstyle pattern 0 border linecolor rgb "#333333" \
            fillcolor rgb "#FFFFFF" title "waiting for data"
    unset output
}
