#include "calib/problem.h"

#include <math.h>
#include <stdlib.h>

#include <gsl/gsl_blas.h>
#include <gsl/gsl_errno.h>
#include <gsl/gsl_multifit_nlinear.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>

#include "base/err.h"
#include "calib/slopes.h"
#include "model/law/ll.h"

#define RESIDUAL_SCALE 0.05 /* a residual of 5% counts 1; beyond, the loss grows linearly */
#define MAX_ITER       80
#define START_SPREAD   0.7

int problem_param_id(const struct problem *p, int i)
{
    return p->law->param[p->param[i]].id;
}

double problem_param_value(const struct problem *p, int i, double q)
{
    return exp(p->lo[i] + (p->hi[i] - p->lo[i]) / (1 + exp(-q)));
}

static double param_transform(const struct problem *p, int i, double value)
{
    /* A field that stands at 0 is off: it starts in the middle, not at the edge. */
    double share = value > 0 ? (log(value) - p->lo[i]) / (p->hi[i] - p->lo[i]) : 0.5;

    share = fmin(fmax(share, 1e-3), 1 - 1e-3);
    return log(share / (1 - share));
}

/* d value / d q */
double problem_param_slope(const struct problem *p, int i, double q)
{
    double s = 1 / (1 + exp(-q));

    return problem_param_value(p, i, q) * (p->hi[i] - p->lo[i]) * s * (1 - s);
}

void problem_set(struct problem *p, const gsl_vector *q)
{
    for (int i = 0; i < p->num; i++)
        p->predictor.v[problem_param_id(p, i)] =
            problem_param_value(p, i, gsl_vector_get(q, (size_t)i));
}

static double notify_us(const double *v, const struct data_row *r)
{
    struct law_normal in = {.combine = r->law == DATA_NORMAL_COMBINE,
                            .sms = r->num_sms,
                            .tokens = r->tokens,
                            .ranks = r->ranks,
                            .ranks_per_node = r->ranks / r->nodes};

    return law_normal_notify_ns(v, &in) / 1e3;
}

double problem_predicted(const struct problem *p, const struct data_row *r)
{
    switch (p->law->what) {
    case FIT_NOTIFY:
        return notify_us(p->predictor.v, r);
    case FIT_WAIT:
        return p->predictor.v[HW_LL_POLL_US];
    default:
        return predict_us(&p->predictor, r);
    }
}

double problem_measured_of(enum fit_what what, const struct data_row *r)
{
    return what == FIT_NOTIFY ? r->notify_us : what == FIT_WAIT ? r->wait_us : r->latency_us;
}

static double measured(const struct problem *p, const struct data_row *r)
{
    return problem_measured_of(p->law->what, r);
}

/* Soft-L1 as a transform: the square of the result is 2*(sqrt(1 + x^2) - 1). */
static double soften(double x)
{
    return copysign(sqrt(2 * (sqrt(1 + x * x) - 1)), x);
}

static double residual(const struct problem *p, const struct data_row *r)
{
    double scale = hypot(RESIDUAL_SCALE, r->sigma);
    double x = log(problem_predicted(p, r) / measured(p, r)) / scale;

    return isfinite(x) ? soften(x) : 1e3;
}

double problem_loss(const struct problem *p)
{
    double sum = 0;

    for (size_t i = 0; i < p->n; i++)
        sum += residual(p, p->rows[i]) * residual(p, p->rows[i]);
    return sum;
}

int problem_residuals(const gsl_vector *q, void *data, gsl_vector *f)
{
    struct problem *p = data;

    problem_set(p, q);
    for (size_t i = 0; i < p->n; i++)
        gsl_vector_set(f, i, residual(p, p->rows[i]));
    for (int i = 0; i < p->num; i++)
        gsl_vector_set(f, p->n + (size_t)i,
                       (gsl_vector_get(q, (size_t)i) - p->prior[i]) / PROBLEM_PRIOR_SIGMA);
    return GSL_SUCCESS;
}

static int residual_slopes(const gsl_vector *q, void *data, gsl_matrix *jac)
{
    const struct problem *p = data;

    return slopes(problem_residuals, p, sizeof *p, q, p->threads, jac) ? GSL_ENOMEM : GSL_SUCCESS;
}

void problem_bounds(struct problem *p)
{
    for (p->num = 0; p->law->param[p->num].hi > 0; p->num++) {
        const struct fit_param *param = &p->law->param[p->num];
        int i = p->num;

        p->param[i] = i;
        p->lo[i] = log(param->lo);
        p->hi[i] = log(param->hi);
        p->stand[i] = p->predictor.v[param->id];
        p->prior[i] = param_transform(p, i, fmax(p->stand[i], 1e-12));
    }
}

/* Takes parameter i out of the fit and holds it at `value`. */
void problem_freeze(struct problem *p, int i, double value)
{
    p->predictor.v[problem_param_id(p, i)] = value;
    p->num--;
    for (int j = i; j < p->num; j++) {
        p->param[j] = p->param[j + 1];
        p->lo[j] = p->lo[j + 1];
        p->hi[j] = p->hi[j + 1];
        p->stand[j] = p->stand[j + 1];
        p->prior[j] = p->prior[j + 1];
    }
}

/* One descent from q; the better of it and *best_cost is kept in best. */
static int descend(struct problem *p, gsl_multifit_nlinear_workspace *w, const gsl_vector *start,
                   gsl_vector *best, double *best_cost)
{
    gsl_multifit_nlinear_fdf fdf = {.f = problem_residuals,
                                    .df = residual_slopes,
                                    .n = p->n + (size_t)p->num,
                                    .p = (size_t)p->num,
                                    .params = p};
    double cost;
    int info, status = gsl_multifit_nlinear_init(start, &fdf, w);

    if (status == GSL_SUCCESS)
        status = gsl_multifit_nlinear_driver(MAX_ITER, 1e-6, 1e-8, 1e-8, NULL, NULL, &info, w);
    if (status == GSL_EBADFUNC || status == GSL_ENOMEM)
        return ERR_FIT;
    /* Running out of iterations or of progress still leaves the best point so far. */
    gsl_blas_ddot(w->f, w->f, &cost);
    if (isfinite(cost) && cost < *best_cost) {
        *best_cost = cost;
        gsl_vector_memcpy(best, w->x);
    }
    return 0;
}

static gsl_multifit_nlinear_workspace *workspace_new(const struct problem *p)
{
    gsl_multifit_nlinear_parameters par = gsl_multifit_nlinear_default_parameters();

    return gsl_multifit_nlinear_alloc(gsl_multifit_nlinear_trust, &par, p->n + (size_t)p->num,
                                      (size_t)p->num);
}

/* Leaves the best parameters in q and in the predictor. */
int problem_solve(struct problem *p, int starts, unsigned long seed, gsl_vector *q)
{
    gsl_multifit_nlinear_workspace *w = workspace_new(p);
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    gsl_vector *start = gsl_vector_alloc((size_t)p->num);
    double cost = HUGE_VAL;
    int rc = w && rng && start ? 0 : ERR_NOMEM;

    if (rng)
        gsl_rng_set(rng, seed);
    for (int s = 0; s <= starts && rc == 0; s++) {
        for (int i = 0; i < p->num; i++)
            gsl_vector_set(start, (size_t)i,
                           p->prior[i] + (s > 0 ? gsl_ran_gaussian(rng, START_SPREAD) : 0));
        rc = descend(p, w, start, q, &cost);
    }
    /* A single parameter that stood at its bound feels no slope there: once more from the middle.
     */
    if (p->num == 1 && rc == 0) {
        gsl_vector_set(start, 0, 0);
        rc = descend(p, w, start, q, &cost);
    }
    if (rc == 0 && !isfinite(cost))
        rc = ERR_FIT;
    if (rc == 0)
        problem_set(p, q);
    gsl_multifit_nlinear_free(w);
    if (rng)
        gsl_rng_free(rng);
    gsl_vector_free(start);
    return rc;
}

int problem_error(const struct problem *p, const double *prediction, struct stats_error *out)
{
    double *m = malloc(p->n * sizeof *m + 1);

    if (!m)
        return ERR_NOMEM;
    for (size_t i = 0; i < p->n; i++)
        m[i] = measured(p, p->rows[i]);
    stats_error_of(prediction, m, p->n, out);
    free(m);
    return 0;
}

int problem_in_sample(struct problem *p, struct fit_result *out)
{
    double *x = malloc(p->n * sizeof *x + 1);
    int rc;

    if (!x)
        return ERR_NOMEM;
    for (size_t i = 0; i < p->n; i++)
        x[i] = problem_predicted(p, p->rows[i]);
    rc = problem_error(p, x, &out->in_sample);
    free(x);
    return rc;
}
