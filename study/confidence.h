/* study/confidence.h: how sure a predicted layer time is: the same points again on drawn profiles
 * (study/draws.h). */
#ifndef PEOSIM_STUDY_CONFIDENCE_H
#define PEOSIM_STUDY_CONFIDENCE_H

#include "study/draws.h"
#include "study/grid.h"

struct confidence_row {
    const struct grid_point *point;
    struct interval layer_us, gain_pct;
    double beats_none, beats_all; /* share of the draws in which it beats `none`, every other row */
    char outside[160]; /* why a law is used outside what it was fitted on; "" = it is not */
};

struct confidence {
    int draws;
    struct confidence_row *rows;
    size_t num_rows;
};

/* The best knobs of every policy in every scenario of a grid, `draws` times (> 1), on `jobs`
 * threads; equal for any number of threads. The caller frees. */
int confidence_run(const struct grid *g, int draws, int jobs, struct confidence **out);
void confidence_free(struct confidence *c); /* accepts NULL */

#endif
