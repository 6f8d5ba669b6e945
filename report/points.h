/* report/points.h: points of a grid as records: what run, sweep and recommend print and keep. */
#ifndef PEOSIM_REPORT_POINTS_H
#define PEOSIM_REPORT_POINTS_H

#include <stdio.h>

#include "report/record.h"
#include "study/grid.h"

/* Head and results of a grid. For people, per scenario every policy with its best knobs; else every
 * point that can run. */
void report_grid(const struct grid *g, struct record *r);
/* Some points, in the same columns. */
void report_points(const struct config *c, const struct grid_point *points, size_t n,
                   struct record *r);
/* The head of a CSV of points and one of its lines; name: what stands in the policy column, NULL =
 * the policy's. */
void report_csv_head(const struct config *c, FILE *f);
void report_csv_row(const struct config *c, const struct grid_point *p, const char *name, FILE *f);
/* Best knobs per batch and policy: what the latency and gain pictures read. */
void report_best_csv(const struct grid *g, FILE *f);

#endif
