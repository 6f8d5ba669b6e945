# plots/style.gp: what all pictures share. Loaded by each script, which has set `out` before.
#
# Every script is called as   gnuplot -c plots/NAME.gp CSV OUT TITLE [more]
# and writes OUT.png and OUT.svg. Colours: Okabe and Ito's, which colour-blind readers tell apart
# (and one of Tol's).
set datafile separator comma
set datafile columnheaders
set datafile missing "NaN"
set encoding utf8

# Tables of the program, written beside the data (report/plot.c).
load "kinds.gp"

font_name = "DejaVu Sans"
png_term = strstrt(GPVAL_TERMINALS, "pngcairo") ? "pngcairo" : "png"

# okabe(i, f): colour i (any integer >= 0), mixed with white: f = 1 pure, 0 white.
oi = "0072B2 E69F00 009E73 CC79A7 56B4E9 D55E00 882255 F0E442"
hex2(s) = int(sprintf("%.0f", 16.0 * (strstrt("0123456789ABCDEF", s[1:1]) - 1) + \
          (strstrt("0123456789ABCDEF", s[2:2]) - 1)))
oi_word(i) = word(oi, 1 + int(i) % 8)
mix(c, f) = int(255 - (255 - c) * f)
rgb_of(w, f) = 65536 * mix(hex2(w[1:2]), f) + 256 * mix(hex2(w[3:4]), f) + mix(hex2(w[5:6]), f)
okabe(i, f) = rgb_of(oi_word(i), f)
grey(f) = rgb_of("555555", f)

# term(ext, w, h): the command that opens a terminal of w x h pixels for OUT.png or OUT.svg.
term(ext, w, h) = (ext eq "png" ? "set terminal ".png_term." noenhanced" : \
                   "set terminal svg noenhanced dynamic background rgb 'white'"). \
    sprintf(" size %d,%d font '%s,%d'", w, h, font_name, ext eq "png" ? 11 : 13)

set border linecolor rgb "#444444"
set grid linecolor rgb "#DDDDDD" linetype 1 linewidth 0.6
set key noenhanced
set title noenhanced

# Distinct texts of a column, in order of appearance: a first pass calls name_note, then
# names[1..num_names] are the series.
array names[64]
num_names = 0
name_index(s) = num_names < 1 ? 0 : (sum [i = 1:num_names] (names[i] eq s ? i : 0))
name_note(s) = name_index(s) || num_names >= 64 ? 0 : \
    (num_names = num_names + 1, names[num_names] = s, 0)

# Distinct numbers, as a list of words; rank_in gives the place (1..) by size, for axes of categories.
list_note(list, x) = strstrt(list." ", sprintf(" %.6g ", x)) ? list : list.sprintf(" %.6g", x)
rank_in(list, x) = 1 + (sum [i = 1:words(list)] (real(word(list, i)) < x * (1 - 1e-6) ? 1 : 0))

min(a, b) = a < b ? a : b
max(a, b) = a > b ? a : b

point_of(i) = word("7 5 9 11 13 4 6 8 10 12", 1 + (i - 1) % 10) + 0
# The same for values that may be missing (NaN).
low_of(a, b) = b < a ? b : a
high_of(a, b) = b > a ? b : a

# A line per series. A policy has one colour in all pictures, by its row in the table of policies
# (policy_index of kinds.gp); `none`, which the others are held against, is grey. Methods of a policy
# ("peo 2") differ by their dashes.
policy_rgb(s, i, f) = word(s, 1) eq "none" ? rgb_of("777777", f) : \
    okabe(policy_index(word(s, 1)) > 0 ? policy_index(word(s, 1)) - 1 : i - 1, f)
line_rgb(i) = policy_rgb(names[i], i, 1)
line_dash(i) = names[i] eq "none" ? 2 : words(names[i]) > 1 ? 1 + (int(word(names[i], 2)) + 3) % 4 : 1

# heat(x, most): white at 0, blue for gains up to `most`, orange-red for losses down to -most.
heat(x, most) = x >= 0 ? rgb_of("0072B2", 0.75 * min(1.0, x / most)) : \
    rgb_of("D55E00", 0.85 * min(1.0, -x / most))
