# plots/compare.gp: two timelines of one rank above each other, stream by stream, on one time axis.
#
#   gnuplot -c plots/compare.gp compare.csv OUT TITLE RANK NUM_SMS [FROM_US TO_US]
#
# Columns: trace (its name: "predicted", "measured"), and those of spans.csv that timeline.gp reads.
# Lanes stand in the order in which (trace, stream) first appear. Boxes as in timeline.gp.
csv = ARG1
out = ARG2
heading = ARG3
rank = int(ARG4)
num_sms = ARGC >= 5 ? int(ARG5) : 0
from_us = ARGC >= 7 ? real(ARG6) : 0.0
to_us = ARGC >= 7 ? real(ARG7) : -1.0
here = ARG0
while (strlen(here) && here[strlen(here):strlen(here)] ne "/") { here = here[1:strlen(here)-1] }
load here."style.gp"
lane_key(z) = strcol("trace")." ".strcol("stream")
lane_name(z) = strcol("trace")." ". \
    (strlen(strcol("stream_name")) ? strcol("stream_name") : "stream ".strcol("stream"))
load here."lanes.gp"
