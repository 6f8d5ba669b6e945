/* calib/draws.h: rows of experts as aiconfigurator's collectors (095f58a) make them, drawn anew: a
 * row of their tables was measured with a draw that it does not store, so a prediction is the mean
 * over some of the same distribution. */
#ifndef PEOSIM_CALIB_DRAWS_H
#define PEOSIM_CALIB_DRAWS_H

#include <gsl/gsl_rng.h>

#include "calib/data.h"

/* Rows of all experts, count[r->experts]. ERR_NOMEM. */
int draws_power_law(gsl_rng *rng, double alpha, double tokens, const struct data_row *r,
                    double *count);
/* Those of the rank that has most, rows[local]. */
void draws_heaviest(const double *count, int ranks, int local, int32_t *rows);

/* Sets num_local, num_draws and expert_rows for "balanced" (each token's experts a fixed stride
 * apart), "power_law_<a>" or "power_law_sampled_<a>": with the popularities that the collector drew
 * (its seeds are known), so that only which tokens chose what is drawn anew. ERR_NOMEM. */
int draws_mega(struct data_set *set, struct data_row *r, const char *dist);

#endif
