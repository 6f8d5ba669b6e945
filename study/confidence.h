/* study/confidence.h: how sure a predicted layer time is: the same points again on profiles drawn
 * from the covariance of their fits. */
#ifndef PEOSIM_STUDY_CONFIDENCE_H
#define PEOSIM_STUDY_CONFIDENCE_H

#include "study/grid.h"

struct confidence_row {
    const struct grid_point *point;
    double low_us, high_us;       /* 5% and 95% quantiles of the layer time */
    double gain_low, gain_high;   /* of the gain, percent */
    double beats_none, beats_all; /* share of the draws in which it beats `none`, every other row */
    char outside[160]; /* why a law is used outside what it was fitted on; "" = it is not */
};

struct confidence {
    int draws;
    bool certain; /* no uncertainty is stated: no intervals */
    struct confidence_row *rows;
    size_t num_rows;
};

/* The best knobs of every policy in every scenario of a grid, `draws` times (> 1), on `jobs`
 * threads; equal for any number of threads. The caller frees. */
int confidence_run(const struct grid *g, int draws, int jobs, struct confidence **out);
void confidence_free(struct confidence *c); /* accepts NULL */

#endif
