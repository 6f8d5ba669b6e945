/* report/points_line.h: a line of points.csv (report_csv_row) taken apart again: first a cell for
 * each key that varies, then those named here. */
#ifndef PEOSIM_REPORT_POINTS_LINE_H
#define PEOSIM_REPORT_POINTS_LINE_H

#include "study/config.h"

/* Cells of points.csv after those that vary, as report_csv_head writes them. */
enum {
    CELL_POLICY,
    CELL_METHOD,
    CELL_ROUNDS,
    CELL_SMS,
    CELL_LAYER_US,
    CELL_GAIN_PCT = CELL_LAYER_US + 2,
    CELL_KNOBS = 16,
    CELLS_MAX = 96
};

/* Cells before `policy`. */
int points_line_vary(const struct config *c);
/* Splits at commas, in place; quotes stay. Returns the number of cells, at most CELLS_MAX. */
int points_line_split(char *line, char **cells);
/* Takes a cell's quotes away, in place. */
void points_line_unquote(char *cell);
/* Reads FOLDER/NAME line by line, the head first; ends with fn's error. ERR_IO (logged). */
int points_line_each(const char *folder, const char *name,
                     int (*fn)(void *self, char *line, bool head), void *self);

#endif
