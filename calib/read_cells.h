/* calib/read_cells.h: the cells of one row of a CSV file, checked as they are read. */
#ifndef PEOSIM_CALIB_READ_CELLS_H
#define PEOSIM_CALIB_READ_CELLS_H

#include "calib/read.h"

#define CELL_MAX_US 1e7 /* ten seconds: no kernel of ours takes that */
#define CELL_MIN_US 0.05

/* One row being read; err is set at the first bad cell and named. */
struct cells {
    struct data_set *set;
    const struct csv *csv;
    size_t row;
    bool err;
};

/* "" where the column is absent. */
const char *cell_text(struct cells *c, const char *col);
void cell_bad(struct cells *c, const char *col, const char *why);
/* 0 after any fault of the row. */
double cell_number(struct cells *c, const char *col, double min, double max);
int cell_int(struct cells *c, const char *col, int min, int max);
/* 0 when the column is absent or the cell empty. */
double cell_optional(struct cells *c, const char *col, double max);
void cell_latency(struct cells *c, const char *col, struct data_row *r);
void cell_system(struct cells *c, const char *col, struct data_row *r);
/* dtypes whose name says one of the two that the laws know; anything else is refused by name. */
enum plan_dtype cell_dtype(struct cells *c);

#endif
