/* report/plot.h: draws a picture with one of plots/NAME.gp, which come from the installation and
 * never from the folder one stands in. gnuplot is started directly, without a shell, with an
 * environment of its own, in a folder where table and pictures have fixed names: paths and titles
 * may hold anything. */
#ifndef PEOSIM_REPORT_PLOT_H
#define PEOSIM_REPORT_PLOT_H

#include <stdbool.h>

/* Draws OUT.png and OUT.svg from a CSV file: gnuplot -d -c plots/NAME.gp csv out title extra...
 * Beside NAMEspans.csv, NAMEcounters.csv is drawn too: the loads of links.
 * extra: what the script's first lines name, NULL-terminated; may be NULL. At most 5.
 * ERR_NOTFOUND if there is no gnuplot or no script, ERR_TIMEOUT after two minutes, ERR_IO with
 * gnuplot's own words if it fails; logged, as warnings, because results do not depend on pictures.
 */
int plot_draw(const char *name, const char *csv, const char *out, const char *title,
              const char *const *extra);

/* Whether gnuplot is there; to say once, not per picture, that pictures will be missing. */
bool plot_available(void);

#endif
