/* report/bars.h: a bar chart of a command's answer, with the CSV that it is drawn from. */
#ifndef PEOSIM_REPORT_BARS_H
#define PEOSIM_REPORT_BARS_H

#include "cmd/cmd.h"
#include "study/config.h"

struct bar {
    char label[96];
    double value, low, high; /* low = high = value: no interval */
};

/* Writes NAME.csv, and NAME.png and .svg by plots/bars.gp, into the command's output folder
 * (results/<config> unless --output-dir says otherwise). Without gnuplot, or with --no-plots, the
 * CSV alone. ERR_IO, logged. */
int bars_write(const struct cli *cli, const struct config *c, const char *name, const char *title,
               const char *xlabel, const struct bar *bars, int n);

#endif
