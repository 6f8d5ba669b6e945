/* report/bars.h: a bar chart of a command's answer, with the CSV that it is drawn from. */
#ifndef PEOSIM_REPORT_BARS_H
#define PEOSIM_REPORT_BARS_H

#include <stdbool.h>

struct bar {
    char label[96];
    double value, low, high; /* low = high = value: no interval */
};

/* Writes FOLDER/NAME.csv, and, where draw is set and gnuplot is there, NAME.png and .svg by
 * plots/bars.gp. ERR_IO, logged. */
int bars_write(const char *folder, bool draw, const char *name, const char *title,
               const char *xlabel, const struct bar *bars, int n);

#endif
