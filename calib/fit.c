#include "calib/fit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_blas.h>
#include <gsl/gsl_errno.h>
#include <gsl/gsl_linalg.h>
#include <gsl/gsl_multifit_nlinear.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>

#include "base/err.h"
#include "base/log.h"
#include "model/law/ll.h"
#include "calib/attn.h"
#include "calib/fit_laws.h"
#include "calib/fit_dense.h"
#include "calib/fused.h"
#include "calib/fit_table.h"
#include "calib/fit_predict.h"
#include "calib/slopes.h"

#define RESIDUAL_SCALE 0.05 /* a residual of 5% counts 1; beyond, the loss grows linearly */
#define PRIOR_SIGMA    2.0  /* of the transformed parameter: almost flat */
#define MAX_ITER       80
#define START_SPREAD   0.7
#define MAX_MEDIAN_APE 0.5 /* a fit worse than this has failed */

const char *fit_cv_name(enum fit_cv cv)
{
    static const char *const names[] = {"none",
                                        "a shape left out",
                                        "an EP size left out",
                                        "an SM or group count left out",
                                        "a number of tokens left out",
                                        "a batch size left out",
                                        "a context length left out",
                                        "a distribution left out"};

    return (unsigned)cv < FIT_CV_COUNT ? names[cv] : "?";
}

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

static int param_id(const struct problem *p, int i)
{
    return p->law->param[p->param[i]].id;
}

static double param_value(const struct problem *p, int i, double q)
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
static double param_slope(const struct problem *p, int i, double q)
{
    double s = 1 / (1 + exp(-q));

    return param_value(p, i, q) * (p->hi[i] - p->lo[i]) * s * (1 - s);
}

static void problem_set(struct problem *p, const gsl_vector *q)
{
    for (int i = 0; i < p->num; i++)
        p->predictor.v[param_id(p, i)] = param_value(p, i, gsl_vector_get(q, (size_t)i));
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

static double predicted(const struct problem *p, const struct data_row *r)
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

static double measured_of(enum fit_what what, const struct data_row *r)
{
    return what == FIT_NOTIFY ? r->notify_us : what == FIT_WAIT ? r->wait_us : r->latency_us;
}

static double measured(const struct problem *p, const struct data_row *r)
{
    return measured_of(p->law->what, r);
}

/* Soft-L1 as a transform: the square of the result is 2*(sqrt(1 + x^2) - 1). */
static double soften(double x)
{
    return copysign(sqrt(2 * (sqrt(1 + x * x) - 1)), x);
}

static double residual(const struct problem *p, const struct data_row *r)
{
    double scale = hypot(RESIDUAL_SCALE, r->sigma);
    double x = log(predicted(p, r) / measured(p, r)) / scale;

    return isfinite(x) ? soften(x) : 1e3;
}

static double problem_loss(const struct problem *p)
{
    double sum = 0;

    for (size_t i = 0; i < p->n; i++)
        sum += residual(p, p->rows[i]) * residual(p, p->rows[i]);
    return sum;
}

static int residuals(const gsl_vector *q, void *data, gsl_vector *f)
{
    struct problem *p = data;

    problem_set(p, q);
    for (size_t i = 0; i < p->n; i++)
        gsl_vector_set(f, i, residual(p, p->rows[i]));
    for (int i = 0; i < p->num; i++)
        gsl_vector_set(f, p->n + (size_t)i,
                       (gsl_vector_get(q, (size_t)i) - p->prior[i]) / PRIOR_SIGMA);
    return GSL_SUCCESS;
}

static int residual_slopes(const gsl_vector *q, void *data, gsl_matrix *jac)
{
    const struct problem *p = data;

    return slopes(residuals, p, sizeof *p, q, p->threads, jac) ? GSL_ENOMEM : GSL_SUCCESS;
}

static void problem_bounds(struct problem *p)
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
static void problem_freeze(struct problem *p, int i, double value)
{
    p->predictor.v[param_id(p, i)] = value;
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
    gsl_multifit_nlinear_fdf fdf = {.f = residuals,
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
static int problem_solve(struct problem *p, int starts, unsigned long seed, gsl_vector *q)
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

static bool row_key_equal(enum fit_cv cv, const struct data_row *a, const struct data_row *b)
{
    switch (cv) {
    case FIT_CV_RANKS:
        return a->ranks == b->ranks;
    case FIT_CV_TOKENS:
        return a->tokens == b->tokens;
    case FIT_CV_ROUTING:
        return strcmp(a->coll, b->coll) == 0;
    case FIT_CV_SMS:
        return a->num_sms == b->num_sms && a->groups == b->groups;
    default:
        return a->hidden == b->hidden && a->experts == b->experts && a->topk == b->topk &&
               a->n == b->n && a->k == b->k && a->inter == b->inter && a->rounds == b->rounds;
    }
}

/* Numbers the distinct keys in order of appearance; returns how many there are. */
static int number_groups(enum fit_cv cv, const struct data_row *const *rows, size_t n, int *group)
{
    size_t *first = malloc((n + 1) * sizeof *first);
    int num = 0;

    if (!first)
        return ERR_NOMEM;
    for (size_t i = 0; i < n; i++) {
        int g = 0;

        while (g < num && !row_key_equal(cv, rows[first[g]], rows[i]))
            g++;
        if (g == num)
            first[num++] = i;
        group[i] = g;
    }
    free(first);
    return num;
}

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
    residuals(q, p, f0);
    for (int j = 0; j < p->num; j++) {
        size_t c = (size_t)j;
        double h = 1e-4, at = gsl_vector_get(q, c);

        gsl_vector_set(q, c, at + h);
        residuals(q, p, f1);
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
        double qi = gsl_vector_get(q, (size_t)i), si = param_slope(p, i, qi);
        double var = gsl_matrix_get(cov, (size_t)i, (size_t)i);
        struct fit_field *f = &out->field[i];

        f->id = param_id(p, i);
        f->value = param_value(p, i, qi);
        f->std_err = sqrt(var) * si;
        f->spread = sqrt(var);
        f->at_bound = fabs(qi) > 5; /* within 0.7% of a bound, on the scale of logarithms */
        for (int j = 0; j < p->num; j++)
            out->cov[i * p->num + j] = gsl_matrix_get(cov, (size_t)i, (size_t)j) * si *
                                       param_slope(p, j, gsl_vector_get(q, (size_t)j));
    }
}

static int result_uncertainty(struct problem *p, gsl_vector *q, struct fit_result *out)
{
    size_t n = p->n + (size_t)p->num, num = (size_t)p->num;
    gsl_vector *f0 = gsl_vector_alloc(n), *f1 = gsl_vector_alloc(n);
    gsl_matrix *jac = gsl_matrix_alloc(n, num), *cov = gsl_matrix_alloc(num, num);
    int *group = malloc(p->n * sizeof *group + 1), groups = 0;
    int rc = f0 && f1 && jac && cov && group ? 0 : ERR_NOMEM;

    if (rc == 0 && (groups = number_groups(FIT_CV_SHAPE, p->rows, p->n, group)) < 0)
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

static int error_of(const struct problem *p, const double *prediction, struct stats_error *out)
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

static int in_sample_error(struct problem *p, struct fit_result *out)
{
    double *x = malloc(p->n * sizeof *x + 1);
    int rc;

    if (!x)
        return ERR_NOMEM;
    for (size_t i = 0; i < p->n; i++)
        x[i] = predicted(p, p->rows[i]);
    rc = error_of(p, x, &out->in_sample);
    free(x);
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
        double open = fmax(f->std_err / (0.67 * f->value), f->spread / (0.67 * PRIOR_SIGMA));

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

    at.predictor.v[param_id(q, i)] = q->stand[i];
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
static int fit_determined(struct problem *q, int starts, unsigned long seed, struct fit_result *out)
{
    bool alone = q->num == 1;
    int rc = 0, worst = 0;

    while (rc == 0 && worst >= 0 && q->num > 0) {
        gsl_vector *x = gsl_vector_alloc((size_t)q->num);

        rc = x ? problem_solve(q, starts, seed, x) : ERR_NOMEM;
        if (rc == 0)
            rc = result_uncertainty(q, x, out);
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

/* Fused low-latency kernels of one round say nothing of the parts; a GEMM on all SMs nothing of how
 * SMs slow each other. */
static bool row_varies(enum fit_needs needs, const struct data_row *r)
{
    if (needs == FIT_NEEDS_PARTS)
        return r->part != DATA_FUSED || r->rounds > 1;
    return needs == FIT_NEEDS_NOTHING || (r->num_sms > 0 && !r->deepgemm);
}

static const struct data_set *set_of(struct data_set *const *sets, size_t num_sets,
                                     const struct data_row *r)
{
    for (size_t s = 0; s < num_sets; s++)
        if (r >= sets[s]->rows && r < sets[s]->rows + sets[s]->n)
            return sets[s];
    return sets[0];
}

static bool row_fits(const struct hw_profile *p, const struct fit_law *law,
                     const struct data_row *r)
{
    int nodes = r->nodes > 0 ? r->nodes : 1;

    if (!(law->rows & (1ull << r->law)) || !r->reference || !predict_system(p, r->system))
        return false;
    if (law->coll && strcmp(law->coll, r->coll) != 0)
        return false;
    if (!(measured_of(law->what, r) > 0))
        return false;
    if (law->needs == FIT_NEEDS_NOTHING && law->what == FIT_LATENCY && r->part != DATA_FUSED &&
        (r->law == DATA_LL_DISPATCH || r->law == DATA_LL_COMBINE))
        return false; /* without the shares a part cannot be predicted */
    return nodes >= law->min_nodes && nodes <= law->max_nodes;
}

static int gather(const struct hw_profile *p, const struct fit_law *law,
                  struct data_set *const *sets, size_t num_sets, struct problem *out)
{
    size_t all = 0;

    for (size_t s = 0; s < num_sets; s++)
        all += sets[s]->n;
    out->rows = malloc((all + 1) * sizeof *out->rows);
    if (!out->rows)
        return ERR_NOMEM;
    for (size_t s = 0; s < num_sets; s++)
        for (size_t i = 0; i < sets[s]->n; i++)
            if (row_fits(p, law, &sets[s]->rows[i]))
                out->rows[out->n++] = &sets[s]->rows[i];
    return 0;
}

#define MAX_FOLDS 10

/* A way to leave rows out: whole groups of equal keys, one fold of them at a time. */
struct folds {
    enum fit_cv cv;
    const struct problem *all; /* every parameter free, at what does not come from these rows */
    struct problem *before;    /* the law that `all` builds on, or NULL: fitted anew in each fold */
    int *group;                /* [all->n] */
    int num, fold;
};

static bool is_left_out(const struct folds *f, size_t i)
{
    return f->group[i] % f->num == f->fold;
}

/* Has the row the key of one that is left out? It may be a row of the other law. */
static bool shares_key(const struct folds *f, const struct data_row *r)
{
    for (size_t i = 0; i < f->all->n; i++)
        if (is_left_out(f, i) && row_key_equal(f->cv, f->all->rows[i], r))
            return true;
    return false;
}

/* The rows of p that stay in the fold; part.rows is the caller's to free. */
static int fold_rows(const struct folds *f, const struct problem *p, struct problem *part)
{
    *part = *p;
    part->rows = malloc(p->n * sizeof *part->rows + 1);
    part->n = 0;
    if (!part->rows)
        return ERR_NOMEM;
    for (size_t i = 0; i < p->n; i++)
        if (p == f->all ? !is_left_out(f, i) : !shares_key(f, p->rows[i]))
            part->rows[part->n++] = p->rows[i];
    return 0;
}

/* The whole fit without the fold, down to which parameters are held. */
static int fit_fold(const struct folds *f, const struct problem *p, struct problem *part)
{
    struct fit_result scratch = {0};
    int rc = fold_rows(f, p, part);

    if (rc == 0)
        rc = part->n > 1 ? fit_determined(part, 0, 1, &scratch) : ERR_FIT;
    free(part->rows);
    part->rows = NULL;
    return rc;
}

/* Fits without the fold, first the law underneath, and predicts it. */
static int predict_fold(const struct folds *f, double *prediction)
{
    struct problem base = *f->all, under, part;
    int rc = f->before ? fit_fold(f, f->before, &under) : 0;

    for (int i = 0; f->before && rc == 0 && i < f->before->num; i++)
        base.predictor.v[param_id(f->before, i)] = under.predictor.v[param_id(f->before, i)];
    if (rc == 0) {
        struct folds own = *f;

        own.all = &base;
        rc = fit_fold(&own, &base, &part);
    }
    for (size_t i = 0; i < f->all->n && rc == 0; i++)
        if (is_left_out(f, i))
            prediction[i] = predicted(&part, f->all->rows[i]);
    return rc;
}

/* Errors on groups not used in the fit. A single group cannot be left out: n stays 0. */
static int cross_validate(const struct problem *p, struct problem *before, enum fit_cv cv,
                          struct stats_error *out)
{
    struct folds f = {.cv = cv, .all = p, .before = before};
    double *x = malloc(p->n * sizeof *x + 1);
    int groups, rc;

    f.group = malloc(p->n * sizeof *f.group + 1);
    rc = f.group && x ? 0 : ERR_NOMEM;
    groups = rc == 0 ? number_groups(cv, p->rows, p->n, f.group) : 0;
    if (groups < 0)
        rc = groups;
    f.num = groups < MAX_FOLDS ? groups : MAX_FOLDS;
    for (f.fold = 0; f.fold < f.num && f.num > 1 && rc == 0; f.fold++)
        rc = predict_fold(&f, x);
    if (rc == 0 && f.num > 1)
        rc = error_of(p, x, out);
    if (rc == ERR_FIT) /* too few rows without the fold: not an error of the fit itself */
        rc = 0;
    free(f.group);
    free(x);
    return rc;
}

/* The law with every parameter free. What an earlier fit said may come from these very rows: such a
 * parameter starts from, and leans on, the default instead. */
static int problem_unseen(const struct hw_profile *p, const struct fit_law *law,
                          struct data_set *const *sets, size_t num_sets, struct problem *out)
{
    *out = (struct problem){.law = law};
    predictor_init_bare(&out->predictor, p);
    for (int i = 0; law->param[i].hi > 0; i++)
        if (p->f[law->param[i].id].origin == HW_FITTED)
            out->predictor.v[law->param[i].id] =
                hw_field_default((enum hw_field_id)law->param[i].id);
    problem_bounds(out);
    return gather(p, law, sets, num_sets, out);
}

static const struct fit_law *law_named(const char *name)
{
    for (int i = 0; name && i < fit_num_laws; i++)
        if (strcmp(fit_laws[i].name, name) == 0)
            return &fit_laws[i];
    return NULL;
}

static int result_cv(const struct hw_profile *p, const struct fit_law *law,
                     struct data_set *const *sets, size_t num_sets, struct fit_result *out)
{
    const struct fit_law *under = law_named(law->builds_on);
    struct problem all = {0}, before = {0};
    int rc = problem_unseen(p, law, sets, num_sets, &all);

    if (rc == 0 && under)
        rc = problem_unseen(p, under, sets, num_sets, &before);
    for (int i = 0; i < 2 && rc == 0; i++)
        if (law->cv[i] != FIT_CV_NONE)
            rc = cross_validate(&all, under ? &before : NULL, law->cv[i], &out->unseen[law->cv[i]]);
    free(all.rows);
    free(before.rows);
    return rc;
}

static bool sets_hold(const struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
                      unsigned long long laws)
{
    for (size_t s = 0; laws && s < num_sets; s++)
        for (size_t i = 0; i < sets[s]->n; i++)
            if (laws & (1ull << sets[s]->rows[i].law) && predict_system(p, sets[s]->rows[i].system))
                return true;
    return false;
}

/* Does p take rows of the set; of them those of a GPU that is one of two? */
static bool takes_rows(const struct problem *p, const struct data_set *set, bool unnamed)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->rows[i] >= set->rows && p->rows[i] < set->rows + set->n &&
            (!unnamed || strcmp(p->rows[i]->system, "hopper") == 0))
            return true;
    return false;
}

/* "deepep_ll.csv sha256:0123456789ab, 2026-11-21" for all files that gave rows. */
static void source_text(const struct problem *p, struct data_set *const *sets, size_t num_sets,
                        const char *date, char *buf, size_t size)
{
    size_t at = 0;

    buf[0] = '\0';
    for (size_t s = 0; s < num_sets && at + 1 < size; s++) {
        const char *slash = strrchr(sets[s]->path, '/');

        if (takes_rows(p, sets[s], false))
            at += (size_t)snprintf(buf + at, size - at, "%s%s sha256:%.12s%s", at ? ", " : "",
                                   slash ? slash + 1 : sets[s]->path, sets[s]->sha256,
                                   takes_rows(p, sets[s], true) ? " (H100 or H200)" : "");
    }
    if (at + 1 < size && date)
        snprintf(buf + at, size - at, ", %s", date);
}

/* What of the law was seen, so that extrapolation can be marked. A later law may widen it. */
static int store_ranges(struct hw_profile *p, const struct problem *q)
{
    const char *name;
    double value;
    int rc = 0;

    for (size_t i = 0; i < q->n && rc == 0; i++) {
        const char *law = data_law_name(q->rows[i]->law);

        for (int j = 0; predict_variable(q->rows[i], j, &name, &value) && rc == 0; j++) {
            const struct hw_range *r = hw_range_find(p, law, name);

            if (value > 0)
                rc = hw_range_set(p, law, name, r ? fmin(r->min, value) : value,
                                  r ? fmax(r->max, value) : value);
        }
    }
    return rc;
}

static int store_result(struct hw_profile *p, const struct problem *q, const char *source,
                        const struct fit_result *r)
{
    int field[FIT_MAX_FIELDS], rc = 0;

    for (int i = 0; i < r->num_fields && rc == 0; i++) {
        const struct fit_field *f = &r->field[i];

        field[i] = f->id;
        rc = hw_field_set(p, (enum hw_field_id)f->id, f->value, f->std_err, HW_FITTED, source);
    }
    for (int i = 0; i < r->num_held && rc == 0; i++)
        rc = hw_field_set(p, (enum hw_field_id)r->held[i].id, r->held[i].value, 0, HW_FITTED,
                          source);
    for (int i = 0; i < r->num_held; i++)
        hw_covariance_drop(p, r->held[i].id);
    if (rc == 0)
        rc = hw_covariance_set(p, r->law, field, r->num_fields, r->cov);
    return rc ? rc : store_ranges(p, q);
}

/* A law that nowhere follows its rows, or whose every parameter the data push out of its bounds,
 * must not replace what stood there: the data are of something else, or in another unit. */
static int check_usable(const struct fit_law *law, const struct fit_result *r)
{
    if (r->num_fields == 0 && r->num_held > 0) {
        log_error("%s: these rows push every parameter against its bound", law->name);
        return ERR_FIT;
    }
    if (r->in_sample.median_ape > MAX_MEDIAN_APE) {
        log_error("%s: the best fit is still %.0f%% off at the median (at most %.0f%%)", law->name,
                  100 * r->in_sample.median_ape, 100 * MAX_MEDIAN_APE);
        return ERR_FIT;
    }
    return 0;
}

/* Rows that differ in what a law predicts by. Few are asked about: quadratic. */
static size_t count_shapes(const struct problem *q)
{
    size_t num = 0;

    for (size_t i = 0; i < q->n && num < FIT_MAX_FIELDS; i++) {
        bool seen = false;

        for (size_t j = 0; j < i && !seen; j++)
            seen = q->rows[i]->law == q->rows[j]->law && q->rows[i]->part == q->rows[j]->part &&
                   q->rows[i]->tokens == q->rows[j]->tokens &&
                   q->rows[i]->rows == q->rows[j]->rows && q->rows[i]->bytes == q->rows[j]->bytes &&
                   q->rows[i]->ranks == q->rows[j]->ranks &&
                   q->rows[i]->num_sms == q->rows[j]->num_sms &&
                   row_key_equal(FIT_CV_SHAPE, q->rows[i], q->rows[j]);
        num += !seen;
    }
    return num;
}

/* A shape determines one field at most: with fewer shapes than fields the first ones, which are the
 * fixed costs, are fitted and the others stay where they stood. */
static void keep_fields(struct problem *q, size_t shapes, struct fit_result *out)
{
    while (q->n < (size_t)q->law_fields && (size_t)q->num > shapes) {
        out->open[out->num_open++] = param_id(q, q->num - 1);
        problem_freeze(q, q->num - 1, q->stand[q->num - 1]);
    }
}

/* Says what a law needs and what it got. A log of a few shapes is fitted as far as it goes; tables
 * are fitted where there are rows enough, since one that is short mostly is so by mistake. */
static bool too_few(const struct problem *q, bool from_log)
{
    size_t shapes = count_shapes(q);
    bool usable = from_log && !q->law->rule && !q->law->builds_on;

    if (q->n == 0 || q->n >= (size_t)q->num)
        return q->n == 0;
    log_note("%s: its %d fields need rows of %d shapes; there %s %zu of %zu: %s", q->law->name,
             q->num, q->num, q->n == 1 ? "is" : "are", q->n, shapes,
             usable ? "the first are fitted, the others stay as they are" : "it stays as it is");
    return !usable;
}

/* The fit of a law with its rule as it stands in q's predictor. */
static int fit_solve(struct problem *q, const struct fit_options *o, struct fit_result *out)
{
    int rc;

    memset(out, 0, sizeof *out);
    problem_bounds(q);
    keep_fields(q, count_shapes(q), out);
    rc = fit_determined(q, o->starts, o->seed, out);
    if (rc == 0)
        rc = in_sample_error(q, out);
    return rc;
}

/* Which of the kernels that the field tells apart these rows are of: all are fitted. */
static int fit_rule(struct problem *q, const struct fit_options *o, struct fit_result *out)
{
    /* Rules differ by more than starts do: each is tried from one, the best then from all. */
    struct fit_options one = *o;
    double min, max, least = HUGE_VAL, best = 0;
    struct problem start = *q;
    int rc = 0;

    one.starts = 0;

    hw_field_bounds((enum hw_field_id)q->law->rule, &min, &max);
    for (double rule = min; rule <= max && rc == 0; rule++) {
        struct problem other = start;
        struct fit_result result;

        other.predictor.v[q->law->rule] = rule;
        rc = fit_solve(&other, &one, &result);
        if (rc == 0 && problem_loss(&other) < least) {
            least = problem_loss(&other);
            best = rule;
        }
    }
    *q = start;
    q->predictor.v[q->law->rule] = best;
    return rc ? rc : fit_solve(q, o, out);
}

static int fit_store(struct hw_profile *p, const struct fit_law *law, struct data_set *const *sets,
                     size_t num_sets, const struct fit_options *o, const struct problem *q,
                     struct fit_report *report)
{
    struct fit_result *out = &report->law[report->num];
    char source[256];
    int rc = 0;

    source_text(q, sets, num_sets, o->date, source, sizeof source);
    if (law->rule)
        rc = hw_field_set(p, (enum hw_field_id)law->rule, q->predictor.v[law->rule], 0, HW_FITTED,
                          source);
    if (rc == 0 && q->num > 0 && o->cv)
        rc = result_cv(p, law, sets, num_sets, out);
    if (rc != 0)
        return rc;
    out->law = law->name;
    out->replaces = law->instead_of;
    out->rows = q->n;
    report->num++;
    return store_result(p, q, source, out);
}

static int fit_one(struct hw_profile *p, const struct fit_law *law, struct data_set *const *sets,
                   size_t num_sets, const struct fit_options *o, struct fit_report *report)
{
    struct fit_result *out = &report->law[report->num];
    struct problem q = {.law = law, .threads = o->threads};
    int rc = gather(p, law, sets, num_sets, &q);
    bool few;

    predictor_init_bare(&q.predictor, p);
    problem_bounds(&q);
    q.law_fields = q.num;
    few = q.n < (size_t)q.num;
    if (rc == 0 && too_few(&q, q.n > 0 && set_of(sets, num_sets, q.rows[0])->runs))
        goto out;
    if (rc == 0)
        rc = law->rule ? fit_rule(&q, o, out) : fit_solve(&q, o, out);
    if (rc == 0 && few && out->num_fields == 0) {
        log_note("%s: these rows determine none of its fields; it stays as it is", law->name);
        goto out;
    }
    if (rc == 0 && (rc = check_usable(law, out)) != 0)
        goto out; /* says itself why */
    if (rc == 0)
        rc = fit_store(p, law, sets, num_sets, o, &q, report);
    if (rc != 0)
        log_error("fit of %s to %zu rows: %s", law->name, q.n, err_text(rc));
out:
    free(q.rows);
    return rc;
}

#define MIN_VARIED 6

/* Do the rows vary in what the law needs, often enough to determine its extra parameters? */
static bool needs_met(const struct hw_profile *p, const struct fit_law *law,
                      struct data_set *const *sets, size_t num_sets)
{
    size_t varied = 0;

    for (size_t s = 0; s < num_sets; s++)
        for (size_t i = 0; i < sets[s]->n; i++)
            varied +=
                row_fits(p, law, &sets[s]->rows[i]) && row_varies(law->needs, &sets[s]->rows[i]);
    return law->needs == FIT_NEEDS_NOTHING || varied >= MIN_VARIED;
}

static const char *replaced_by(const char *law)
{
    for (int i = 0; law && i < fit_num_laws; i++)
        if (strcmp(fit_laws[i].name, law) == 0)
            return fit_laws[i].instead_of;
    return NULL;
}

/* By a law with more parameters, or by one that stands for that one in turn. */
static bool already_fitted(const struct fit_report *report, const char *law)
{
    for (int i = 0; i < report->num; i++)
        for (const char *l = report->law[i].replaces; l; l = replaced_by(l))
            if (strcmp(l, law) == 0)
                return true;
    return false;
}

static bool selected(const struct fit_options *o, const char *name)
{
    return !o->only || strncmp(name, o->only, strlen(o->only)) == 0;
}

/* Moves the contents of `from` into `to` and frees what `to` held. */
static void profile_replace(struct hw_profile *to, struct hw_profile *from)
{
    struct hw_profile old = *to;

    *to = *from;
    *from = old;
    hw_profile_free(from);
}

int fit_profile(struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
                const struct fit_options *options, struct fit_report *report)
{
    gsl_error_handler_t *old = gsl_set_error_handler_off();
    struct hw_profile *work = NULL;
    int rc = hw_profile_copy(p, &work);

    report->num = 0;
    for (int i = 0; i < fit_num_laws && rc == 0; i++)
        if (selected(options, fit_laws[i].name) && !already_fitted(report, fit_laws[i].name) &&
            !sets_hold(p, sets, num_sets, fit_laws[i].unless) &&
            needs_met(p, &fit_laws[i], sets, num_sets))
            rc = fit_one(work, &fit_laws[i], sets, num_sets, options, report);
    if (rc == 0 && selected(options, "collective"))
        rc = fit_tables(work, sets, num_sets, options, report);
    if (rc == 0 && selected(options, "gemm"))
        rc = fit_dense(work, sets, num_sets, options, report);
    if (rc == 0 && selected(options, "fused"))
        rc = fit_fused(work, sets, num_sets, options, report);
    if (rc == 0 && selected(options, "attn"))
        rc = fit_attn(work, sets, num_sets, options, report);
    if (rc == 0 && report->num == 0) {
        log_error("no row of system %s that any law can be fitted to", p->name);
        rc = ERR_FIT;
    }
    if (rc == 0)
        profile_replace(p, work);
    else
        hw_profile_free(work);
    gsl_set_error_handler(old);
    return rc;
}
