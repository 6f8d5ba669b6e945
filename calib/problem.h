/* calib/problem.h: one law, the rows that it is fitted to, and where its parameters stand: the
 * least squares of calib/fit.h. */
#ifndef PEOSIM_CALIB_PROBLEM_H
#define PEOSIM_CALIB_PROBLEM_H

#include <gsl/gsl_vector.h>

#include "calib/fit.h"
#include "calib/fit_laws.h"
#include "calib/fit_predict.h"

#define PROBLEM_PRIOR_SIGMA 2.0 /* of the transformed parameter: almost flat */

/* One law, the rows it is fitted to and where the parameters stand. */
struct problem {
    const struct fit_law *law;
    const struct data_row **rows;
    size_t n;
    int num;                   /* parameters still fitted; the others stay at their prior */
    int param[FIT_MAX_FIELDS]; /* index into law->param */
    double lo[FIT_MAX_FIELDS], hi[FIT_MAX_FIELDS]; /* logarithms */
    int law_fields;                                /* parameters of the law, fitted or not */
    double stand[FIT_MAX_FIELDS]; /* where they stood before: what stays when data say nothing */
    double prior[FIT_MAX_FIELDS]; /* the same, transformed */
    int threads;                  /* that share a Jacobian */
    struct predictor predictor;
};

/* Of the law's parameters as the predictor has them: all fitted. */
void problem_bounds(struct problem *p);
/* Takes parameter i out of the fit and holds it at `value`. */
void problem_freeze(struct problem *p, int i, double value);
int problem_param_id(const struct problem *p, int i); /* enum hw_field_id */
/* The parameter where its transform is q, and d value / d q. */
double problem_param_value(const struct problem *p, int i, double q);
double problem_param_slope(const struct problem *p, int i, double q);
/* Sets the predictor to the transformed parameters q. */
void problem_set(struct problem *p, const gsl_vector *q);
double problem_predicted(const struct problem *p, const struct data_row *r); /* us */
double problem_measured_of(enum fit_what what, const struct data_row *r);    /* us */
/* Softened, of every row, then of the prior: f has n + num members. A gsl callback on a problem. */
int problem_residuals(const gsl_vector *q, void *data, gsl_vector *f);
double problem_loss(const struct problem *p);
/* Leaves the best parameters in q and in the predictor. ERR_FIT, ERR_NOMEM. */
int problem_solve(struct problem *p, int starts, unsigned long seed, gsl_vector *q);
/* Errors of one prediction a row, us; and of the predictor's own. ERR_NOMEM. */
int problem_error(const struct problem *p, const double *prediction, struct stats_error *out);
int problem_in_sample(struct problem *p, struct fit_result *out);

#endif
