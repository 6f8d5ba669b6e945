/* calib/fit_spread.h: how sure a fit is of its parameters. */
#ifndef PEOSIM_CALIB_FIT_SPREAD_H
#define PEOSIM_CALIB_FIT_SPREAD_H

#include "calib/problem.h"

/* Fields with standard errors and covariances, for errors that go together within a shape; q: the
 * best transformed parameters. ERR_NOMEM, ERR_FIT: the rows leave a direction open. */
int fit_uncertainty(struct problem *p, gsl_vector *q, struct fit_result *out);
/* Fits, and as long as something is undetermined, holds the worst and fits again: what the data
 * cannot tell apart must not float. */
int fit_determined(struct problem *q, int starts, unsigned long seed, struct fit_result *out);

#endif
