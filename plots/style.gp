# plots/style.gp: what all pictures share. Loaded by each script, which has set `out` before.
#
# Every script is called as   gnuplot -c plots/NAME.gp CSV OUT TITLE [more]
# and writes OUT.png and OUT.svg. Colours: Okabe and Ito's, which colour-blind readers tell apart
# (and one of Tol's).
set datafile separator comma
set datafile columnheaders
set datafile missing "NaN"
set encoding utf8

font_name = "DejaVu Sans"
png_term = strstrt(GPVAL_TERMINALS, "pngcairo") ? "pngcairo" : "png"

# okabe(i, f): colour i (any integer >= 0), mixed with white: f = 1 pure, 0 white.
oi = "0072B2 E69F00 009E73 CC79A7 56B4E9 D55E00 F0E442 882255"
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
