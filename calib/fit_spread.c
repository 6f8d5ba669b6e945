#include "calib/fit_spread.h"

#include <math.h>
#include <stdlib.h>

#include <gsl/gsl_blas.h>
#include <gsl/gsl_linalg.h>

#include "base/err.h"
#include "calib/fit_rows.h"

/* Sum over groups of (sum of J_i r_i)(...)^T: how much errors inside groups add up. */
static void cluster_meat(const gsl_matrix *jac, const gsl_vector *f, const int *group, size_t n,
                         int num_groups, gsl_matrix *meat)
{
    size_t num = jac->size2;
    gsl_vector *s = gsl_vector_calloc(num);

    gsl_matrix_set_zero(meat);
    for (int g = 0; s && g < num_groups; g++) {
        gsl_vector_set_zero(s);
        for (size_t i = 0; i < n; i++) {
            gsl_vector_const_view row = gsl_matrix_const_row(jac, i);

            if (group[i] == g)
                gsl_blas_daxpy(gsl_vector_get(f, i), &row.vector, s);
        }
        gsl_blas_dger(1, s, s, meat);
    }
    gsl_vector_free(s);
}

/* cov = A^-1 (A + M) A^-1 with A = J^T J and M the cluster term: never below what independent
 * residuals of the assumed scale would give. */
static int sandwich(const gsl_matrix *jac, const gsl_vector *f, const int *group, size_t n,
                    int num_groups, gsl_matrix *cov)
{
    size_t num = jac->size2;
    gsl_matrix *a = gsl_matrix_alloc(num, num), *inv = gsl_matrix_alloc(num, num);
    gsl_matrix *meat = gsl_matrix_alloc(num, num), *half = gsl_matrix_alloc(num, num);
    int rc = a && inv && meat && half ? 0 : ERR_NOMEM;

    if (rc == 0) {
        gsl_blas_dgemm(CblasTrans, CblasNoTrans, 1, jac, jac, 0, a);
        gsl_matrix_memcpy(inv, a);
        if (gsl_linalg_cholesky_decomp1(inv) || gsl_linalg_cholesky_invert(inv))
            rc = ERR_FIT;
    }
    if (rc == 0) {
        cluster_meat(jac, f, group, n, num_groups, meat);
        if (num_groups > 1)
            gsl_matrix_scale(meat, num_groups / (num_groups - 1.0));
        gsl_matrix_add(meat, a);
        gsl_blas_dgemm(CblasNoTrans, CblasNoTrans, 1, inv, meat, 0, half);
        gsl_blas_dgemm(CblasNoTrans, CblasNoTrans, 1, half, inv, 0, cov);
    }
    gsl_matrix_free(a);
    gsl_matrix_free(inv);
    gsl_matrix_free(meat);
    gsl_matrix_free(half);
    return rc;
}

/* Forward differences of the residuals at q. */
static void jacobian(struct problem *p, gsl_vector *q, gsl_vector *f0, gsl_vector *f1,
                     gsl_matrix *jac)
{
    problem_residuals(q, p, f0);
    for (int j = 0; j < p->num; j++) {
        size_t c = (size_t)j;
        double h = 1e-4, at = gsl_vector_get(q, c);

        gsl_vector_set(q, c, at + h);
        problem_residuals(q, p, f1);
        gsl_vector_set(q, c, at);
        for (size_t i = 0; i < f0->size; i++)
            gsl_matrix_set(jac, i, c, (gsl_vector_get(f1, i) - gsl_vector_get(f0, i)) / h);
    }
    problem_set(p, q);
}

static void result_fields(const struct problem *p, const gsl_vector *q, const gsl_matrix *cov,
                          struct fit_result *out)
{
    out->num_fields = p->num;
    for (int i = 0; i < p->num; i++) {
        double qi = gsl_vector_get(q, (size_t)i), si = problem_param_slope(p, i, qi);
        double var = gsl_matrix_get(cov, (size_t)i, (size_t)i);
        struct fit_field *f = &out->field[i];

        f->id = problem_param_id(p, i);
        f->value = problem_param_value(p, i, qi);
        f->std_err = sqrt(var) * si;
        f->spread = sqrt(var);
        f->at_bound = fabs(qi) > 5; /* within 0.7% of a bound, on the scale of logarithms */
        for (int j = 0; j < p->num; j++)
            out->cov[i * p->num + j] = gsl_matrix_get(cov, (size_t)i, (size_t)j) * si *
                                       problem_param_slope(p, j, gsl_vector_get(q, (size_t)j));
    }
}

int fit_uncertainty(struct problem *p, gsl_vector *q, struct fit_result *out)
{
    size_t n = p->n + (size_t)p->num, num = (size_t)p->num;
    gsl_vector *f0 = gsl_vector_alloc(n), *f1 = gsl_vector_alloc(n);
    gsl_matrix *jac = gsl_matrix_alloc(n, num), *cov = gsl_matrix_alloc(num, num);
    int *group = malloc(p->n * sizeof *group + 1), groups = 0;
    int rc = f0 && f1 && jac && cov && group ? 0 : ERR_NOMEM;

    if (rc == 0 && (groups = rows_number_groups(FIT_CV_SHAPE, p->rows, p->n, group)) < 0)
        rc = groups;
    if (rc == 0) {
        jacobian(p, q, f0, f1, jac);
        rc = sandwich(jac, f0, group, p->n, groups, cov);
    }
    if (rc == 0) {
        out->groups = (size_t)groups;
        result_fields(p, q, cov, out);
    }
    gsl_vector_free(f0);
    gsl_vector_free(f1);
    gsl_matrix_free(jac);
    gsl_matrix_free(cov);
    free(group);
    return rc;
}

/* Undetermined: the data leave the parameter open by more than two thirds of itself, or hardly
 * better known than the prior had it, or pressed against a bound. Returns the worst, or -1. */
static int undetermined(const struct fit_result *r)
{
    double worst = 1;
    int index = -1;

    for (int i = 0; i < r->num_fields; i++) {
        const struct fit_field *f = &r->field[i];
        double open =
            fmax(f->std_err / (0.67 * f->value), f->spread / (0.67 * PROBLEM_PRIOR_SIGMA));

        if (f->at_bound)
            open = fmax(open, 1.5);
        if (open > worst) {
            worst = open;
            index = i;
        }
    }
    return index;
}

#define WORSE_LOSS 4.0 /* two standard deviations */

/* Do the rows speak against the value that the parameter had before? They may say that a cost is
 * small without saying how small. */
static bool stand_refuted(const struct problem *q, int i)
{
    struct problem at = *q;
    double loss = problem_loss(q);

    at.predictor.v[problem_param_id(q, i)] = q->stand[i];
    return problem_loss(&at) > loss + WORSE_LOSS;
}

/* Holds one parameter: at the bound where the data press it against one (mostly a cost that is not
 * there: 0), or where the fit has it if they refute what it was before; else where it stood. */
static void hold(struct problem *q, int i, struct fit_result *out)
{
    struct fit_field f = out->field[i];

    if (f.at_bound || stand_refuted(q, i)) {
        out->held[out->num_held++] = f;
        problem_freeze(q, i, f.value);
    } else {
        out->open[out->num_open++] = f.id;
        problem_freeze(q, i, q->stand[i]);
    }
}

/* Fits, and as long as something is undetermined, holds the worst and fits again: what the data
 * cannot tell apart must not float. */
int fit_determined(struct problem *q, int starts, unsigned long seed, struct fit_result *out)
{
    bool alone = q->num == 1;
    int rc = 0, worst = 0;

    while (rc == 0 && worst >= 0 && q->num > 0) {
        gsl_vector *x = gsl_vector_alloc((size_t)q->num);

        rc = x ? problem_solve(q, starts, seed, x) : ERR_NOMEM;
        if (rc == 0)
            rc = fit_uncertainty(q, x, out);
        gsl_vector_free(x);
        starts = 0; /* from here on near a good point */
        worst = rc == 0 ? undetermined(out) : -1;
        /* What a few rows say of their law's only parameter stands, as unsure as it is. */
        if (worst >= 0 && alone && !out->field[worst].at_bound)
            worst = -1;
        if (worst >= 0)
            hold(q, worst, out);
    }
    if (rc == 0 && q->num == 0)
        out->num_fields = 0;
    return rc;
}
