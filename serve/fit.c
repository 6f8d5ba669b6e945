#include "serve/fit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_blas.h>
#include <gsl/gsl_multifit_nlinear.h>

#include "base/err.h"
#include "base/log.h"

enum { MAX_ITER = 200, FEW_ROWS = 10, TTFT_FIRST = ENGINE_START_MS };
#define TPOT_LOSS 0.1
#define TTFT_LOSS 0.2
/* Weight of the priors, in rows of an error as large as the loss: at the usual values, and of an
 * engine at the common ones. */
#define USUAL_WEIGHT  1.5
#define COMMON_WEIGHT 1.5
/* Engines do differ in how they queue, and rows say much of it: the same of what TTFT has alone. */
#define QUEUE_WEIGHT 0.2

struct problem {
    const struct judged_row **row;
    size_t n;
    double v[ENGINE_PARAM_COUNT]; /* what is not fitted here stays */
    double centre[ENGINE_PARAM_COUNT], weight;
    int first, num; /* parameters fitted */
};

static double clamp(double x, int i)
{
    return fmin(fmax(x, engine_param_info[i].lo), engine_param_info[i].hi);
}

/* Small errors as they are, large ones by their root. */
static double softened(double r, double loss)
{
    double z = r / loss;

    return copysign(loss * sqrt(2 * (sqrt(1 + z * z) - 1)), r);
}

static void params_of(const struct problem *p, const gsl_vector *x, double *v)
{
    memcpy(v, p->v, sizeof p->v);
    for (int i = 0; i < p->num; i++)
        v[p->first + i] = clamp(p->centre[p->first + i] + gsl_vector_get(x, (size_t)i) *
                                                              engine_param_info[p->first + i].scale,
                                p->first + i);
}

static int residuals(const gsl_vector *x, void *self, gsl_vector *f)
{
    const struct problem *p = self;
    bool ttft = p->first == TTFT_FIRST;
    double v[ENGINE_PARAM_COUNT], prior = p->weight * sqrt((double)p->n / 100);

    params_of(p, x, v);
    for (size_t i = 0; i < p->n; i++) {
        const struct judged_row *r = p->row[i];
        double said = ttft ? serve_ttft_ms(v, &r->load) : serve_tpot_ms(v, &r->load);
        double is = ttft ? r->row->ttft_ms : r->row->tpot_ms;

        gsl_vector_set(f, i, softened(log(fmax(said, 1e-6) / is), ttft ? TTFT_LOSS : TPOT_LOSS));
    }
    for (int i = 0; i < p->num; i++)
        gsl_vector_set(f, p->n + (size_t)i, prior * gsl_vector_get(x, (size_t)i));
    return GSL_SUCCESS;
}

/* Standard errors by the curvature at the minimum. */
static void errors_of(gsl_multifit_nlinear_workspace *w, const struct problem *p, double *std_err)
{
    size_t num = (size_t)p->num;
    gsl_matrix *cov = gsl_matrix_alloc(num, num);
    double chisq;

    if (!cov)
        return;
    gsl_blas_ddot(gsl_multifit_nlinear_residual(w), gsl_multifit_nlinear_residual(w), &chisq);
    gsl_multifit_nlinear_covar(gsl_multifit_nlinear_jac(w), 1e-9, cov);
    for (size_t i = 0; i < num; i++)
        std_err[p->first + (int)i] = engine_param_info[p->first + (int)i].scale *
                                     sqrt(gsl_matrix_get(cov, i, i) * chisq / (double)p->n);
    gsl_matrix_free(cov);
}

static int solve(struct problem *p, double *v, double *std_err)
{
    size_t num = (size_t)p->num, n = p->n + num;
    gsl_multifit_nlinear_parameters par = gsl_multifit_nlinear_default_parameters();
    gsl_multifit_nlinear_fdf fdf = {.f = residuals, .n = n, .p = num, .params = p};
    gsl_multifit_nlinear_workspace *w =
        gsl_multifit_nlinear_alloc(gsl_multifit_nlinear_trust, &par, n, num);
    gsl_vector *x = gsl_vector_calloc(num);
    int info, err = w && x ? 0 : ERR_NOMEM;

    if (!err && gsl_multifit_nlinear_init(x, &fdf, w) == GSL_SUCCESS)
        gsl_multifit_nlinear_driver(MAX_ITER, 1e-7, 1e-9, 1e-9, NULL, NULL, &info, w);
    if (!err) {
        params_of(p, gsl_multifit_nlinear_position(w), v);
        if (std_err)
            errors_of(w, p, std_err);
    }
    gsl_multifit_nlinear_free(w);
    gsl_vector_free(x);
    return err;
}

/* TPOT first, then what TTFT has besides. v: start and prior; result. */
static int fit_rows(const struct judged_row **row, size_t n, double weight, double *v,
                    double *std_err)
{
    struct problem p = {.row = row, .n = n, .weight = weight, .num = TTFT_FIRST};
    int err;

    memcpy(p.v, v, sizeof p.v);
    memcpy(p.centre, v, sizeof p.centre);
    err = solve(&p, v, std_err);
    if (err)
        return err;
    memcpy(p.v, v, sizeof p.v);
    p.first = TTFT_FIRST;
    p.num = ENGINE_PARAM_COUNT - TTFT_FIRST;
    p.weight = fmin(weight, QUEUE_WEIGHT);
    return solve(&p, v, std_err);
}

/* One architecture under several names is one model to be left out. */
static void fold_of(const struct judged_row *r, enum judge_by by, char *buf, size_t size)
{
    if (by == JUDGE_MODEL && r->answered)
        snprintf(buf, size, "%s", r->d.model);
    else
        judge_group(r, by, buf, size);
}

static size_t rows_of(const struct judged *j, int engine, enum judge_by by, const char *left_out,
                      const struct judged_row **out)
{
    size_t n = 0;
    char group[64];

    for (size_t i = 0; i < j->num; i++) {
        const struct judged_row *r = &j->row[i];

        fold_of(r, by, group, sizeof group);
        if (r->answered && judged_is_stated(r) && !r->apart &&
            (engine < 0 || (int)r->d.engine == engine) && (!left_out || strcmp(group, left_out)))
            out[n++] = r;
    }
    return n;
}

int serve_fit(const struct judged *j, enum judge_by by, const char *left_out,
              struct engine out[SERVE_ENGINES])
{
    const struct judged_row **row = calloc(j->num + 1, sizeof *row);
    struct engine common;
    size_t n = row ? rows_of(j, -1, by, left_out, row) : 0;
    int err = row ? 0 : ERR_NOMEM;

    engine_usual(&common);
    if (!err && n < FEW_ROWS) {
        log_error("%zu rows that state their configuration: too few to fit engines", n);
        err = ERR_FIT;
    }
    if (!err)
        err = fit_rows(row, n, USUAL_WEIGHT, common.v, common.std_err);
    for (int e = 0; e < SERVE_ENGINES && !err; e++) {
        memcpy(out[e].v, common.v, sizeof common.v);
        memcpy(out[e].std_err, common.std_err, sizeof common.std_err);
        n = rows_of(j, e, by, left_out, row);
        if (n >= FEW_ROWS)
            err = fit_rows(row, n, COMMON_WEIGHT, out[e].v, out[e].std_err);
    }
    free(row);
    return err;
}

static void predict_fold(struct judged *j, enum judge_by by, const char *fold,
                         const struct engine *engines)
{
    char group[64];

    for (size_t i = 0; i < j->num; i++) {
        struct judged_row *r = &j->row[i];

        fold_of(r, by, group, sizeof group);
        if (!r->answered || strcmp(group, fold))
            continue;
        r->tpot_ms = serve_tpot_ms(engines[r->d.engine].v, &r->load);
        r->ttft_ms = serve_ttft_ms(engines[r->d.engine].v, &r->load);
    }
}

int serve_cross_validate(struct judged *j, enum judge_by by)
{
    struct engine engines[SERVE_ENGINES];
    char fold[64], earlier[64];
    int err = 0;

    for (size_t i = 0; i < j->num && !err; i++) {
        bool first = true;

        fold_of(&j->row[i], by, fold, sizeof fold);
        for (size_t k = 0; k < i && first; k++) {
            fold_of(&j->row[k], by, earlier, sizeof earlier);
            first = strcmp(fold, earlier) != 0;
        }
        if (!first)
            continue;
        memcpy(engines, j->engine, sizeof engines);
        err = serve_fit(j, by, fold, engines);
        if (!err)
            predict_fold(j, by, fold, engines);
    }
    return err;
}
