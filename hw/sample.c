/* Draws a profile from what its fits left uncertain and from what was never fitted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_linalg.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>

#include "base/err.h"
#include "base/log.h"
#include "hw/profile.h"
#include "hw/spread.h"

static double clamp_to_field(int id, double x)
{
    double min, max;

    hw_field_bounds((enum hw_field_id)id, &min, &max);
    return fmin(fmax(x, min), max);
}

/* The Cholesky factor of a covariance. A ridge of 1e-9 of the diagonal keeps fields that the data
 * tie together exactly from making the matrix singular. */
static int covariance_factor(const struct hw_covariance *c, gsl_matrix *l)
{
    size_t n = (size_t)c->n;

    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            gsl_matrix_set(l, i, j, c->cov[i * n + j] * (i == j ? 1 + 1e-9 : 1));
    return gsl_linalg_cholesky_decomp1(l) ? ERR_DATA : 0;
}

static int sample_covariance(struct hw_profile *p, const struct hw_covariance *c, gsl_rng *rng,
                             bool *drawn)
{
    size_t n = (size_t)c->n;
    gsl_matrix *l = gsl_matrix_alloc(n, n);
    gsl_vector *mu = gsl_vector_calloc(n), *x = gsl_vector_alloc(n);
    int rc = l && mu && x ? 0 : ERR_NOMEM;

    if (rc == 0)
        rc = covariance_factor(c, l);
    if (rc == ERR_DATA)
        log_error("%s: the covariance of law %s is not positive definite", p->name, c->law);
    if (rc == 0)
        gsl_ran_multivariate_gaussian(rng, mu, l, x);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        int id = c->field[i];

        p->f[id].value = clamp_to_field(id, p->f[id].value + gsl_vector_get(x, i));
        drawn[id] = true;
    }
    gsl_matrix_free(l);
    gsl_vector_free(mu);
    gsl_vector_free(x);
    return rc;
}

/* The law of error field id rests on tables of these names, and every one is another GPU's. */
static bool tables_transferred(const struct hw_profile *p, int id)
{
    static const struct {
        int field;
        const char *begins;
    } rests[] = {
        {HW_ERROR_ATTENTION, "attn."}, {HW_ERROR_DENSE, "dense."}, {HW_ERROR_COLLECTIVE, "nccl."}};
    const char *begins = NULL;
    bool any = false;

    for (size_t i = 0; i < sizeof rests / sizeof *rests; i++)
        if (rests[i].field == id)
            begins = rests[i].begins;
    for (int i = 0; begins && i < p->num_tables; i++)
        if (strncmp(p->tables[i].name, begins, strlen(begins)) == 0) {
            if (hw_origin_is_own(p->tables[i].origin))
                return false;
            any = true;
        }
    return any;
}

/* Values that cannot be below 1 (slowdowns, corners) move by what they are above it. */
static double sample_prior(const struct hw_field *f, int id, double within, gsl_rng *rng)
{
    double min, max, scale = log(within) / M_LN10, base;

    hw_field_bounds((enum hw_field_id)id, &min, &max);
    base = min == 1 ? 1 : 0;
    return base + (f->value - base) * exp(gsl_ran_laplace(rng, scale));
}

static void sample_alone(struct hw_profile *p, int id, gsl_rng *rng)
{
    struct hw_field *f = &p->f[id];
    double within =
        tables_transferred(p, id) ? HW_WITHIN_ALL : hw_field_within((enum hw_field_id)id);

    if (!hw_origin_is_own(f->origin) && within > 1)
        f->value = clamp_to_field(id, sample_prior(f, id, within, rng));
    else if (f->std_err > 0)
        f->value = clamp_to_field(id, f->value + gsl_ran_gaussian(rng, f->std_err));
}

int hw_profile_sample(const struct hw_profile *p, unsigned long seed, struct hw_profile **out)
{
    gsl_error_handler_t *old = gsl_set_error_handler_off();
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    struct hw_profile *q = NULL;
    bool drawn[HW_FIELD_COUNT] = {false};
    int rc = rng ? hw_profile_copy(p, &q) : ERR_NOMEM;

    if (rng)
        gsl_rng_set(rng, seed);
    for (int i = 0; rc == 0 && i < p->num_covs; i++)
        if (p->covs[i].n > 0)
            rc = sample_covariance(q, &p->covs[i], rng, drawn);
    for (int i = 0; rc == 0 && i < HW_FIELD_COUNT; i++)
        if (!drawn[i])
            sample_alone(q, i, rng);
    gsl_rng_free(rng);
    gsl_set_error_handler(old);
    if (rc != 0) {
        hw_profile_free(q);
        return rc;
    }
    *out = q;
    return 0;
}
