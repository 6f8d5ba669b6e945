/* Draws a profile from what its fits left uncertain. */
#include <math.h>
#include <stdlib.h>

#include <gsl/gsl_linalg.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>

#include "base/err.h"
#include "base/log.h"
#include "hw/profile.h"

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
        if (!drawn[i] && p->f[i].std_err > 0)
            q->f[i].value =
                clamp_to_field(i, p->f[i].value + gsl_ran_gaussian(rng, p->f[i].std_err));
    gsl_rng_free(rng);
    gsl_set_error_handler(old);
    if (rc != 0) {
        hw_profile_free(q);
        return rc;
    }
    *out = q;
    return 0;
}
