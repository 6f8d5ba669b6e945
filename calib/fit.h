/* calib/fit.h: fits the laws of a profile to measurements.
 *
 * Robust nonlinear least squares (GSL's multifit_nlinear, soft-L1 loss) on log(predicted/measured),
 * with bounds by a logistic transform of the logarithm, a very weak prior at the starting values
 * (so that what the data do not determine stays where it was), and several starts. Standard errors
 * allow for errors that go together within a group of rows (a cluster-robust sandwich). */
#ifndef PEOSIM_CALIB_FIT_H
#define PEOSIM_CALIB_FIT_H

#include "base/stats.h"
#include "hw/profile.h"
#include "calib/data.h"

#define FIT_MAX_FIELDS 24

/* Which groups cross-validation leaves out, one at a time. */
enum fit_cv {
    FIT_CV_NONE,
    FIT_CV_SHAPE,
    FIT_CV_RANKS,
    FIT_CV_SMS,
    FIT_CV_TOKENS,
    FIT_CV_BATCH,
    FIT_CV_CONTEXT,
    FIT_CV_ROUTING,
    FIT_CV_COUNT
};
const char *fit_cv_name(enum fit_cv cv);

struct fit_field {
    int id; /* enum hw_field_id */
    double value, std_err;
    double spread; /* standard error on the fit's own scale, where the prior has 2 */
    bool at_bound;
};

struct fit_result {
    const char *law;
    const char *replaces; /* a law with fewer parameters that it stands for; NULL = none */
    size_t rows, groups;
    int num_fields;
    struct fit_field field[FIT_MAX_FIELDS];
    double cov[FIT_MAX_FIELDS * FIT_MAX_FIELDS];
    int num_held; /* fields that the data press against a bound, held there */
    struct fit_field held[FIT_MAX_FIELDS];
    int num_open; /* fields that these data cannot determine: left as they were */
    int open[FIT_MAX_FIELDS];
    struct stats_error in_sample;
    struct stats_error unseen[FIT_CV_COUNT]; /* n = 0: not done (one group only) */
};

struct fit_options {
    unsigned long seed;
    int starts;       /* random starts besides the current values */
    int threads;      /* that share the work; 0 = 1. The fit is the same whatever their number */
    bool cv;          /* also cross-validate */
    const char *only; /* fit laws whose name starts so; NULL = all */
    const char *date; /* for the sources, "2026-11-21" */
};

#define FIT_MAX_LAWS 256
struct fit_report {
    int num;
    struct fit_result law[FIT_MAX_LAWS];
};

/* Fits every law that the rows of the sets have data for, updates fields, tables, covariances and
 * ranges of p. On failure p is as it was. ERR_FIT (no convergence, or nothing to fit), ERR_NOMEM;
 * logged. */
int fit_profile(struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
                const struct fit_options *options, struct fit_report *report);

#endif
