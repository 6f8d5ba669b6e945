# plots/timeline.gp: one rank's timeline: a lane per stream, a box per kernel.
#
#   gnuplot -c plots/timeline.gp spans.csv OUT TITLE RANK NUM_SMS [FROM_US TO_US]
#
# Reads spans.csv (trace/csv.h): rank, stream, stream_name, kind, class, label, batch, round,
# start_us, end_us, wait_us, sms. Box height = SMs held; solid = compute, hatched = communication,
# white veil = waiting for data while holding SMs. Colours are rounds; half batches in a plan
# without rounds; phases in one with neither. FROM_US TO_US cut out a stretch of time.
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
lane_key(z) = strcol("stream")
lane_name(z) = strlen(strcol("stream_name")) ? strcol("stream_name") : "stream ".strcol("stream")
load here."lanes.gp"
