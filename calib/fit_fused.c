/* Parameters of engines' fused expert layers, kernel by kernel: robust least squares on
 * log(predicted/measured), as in fit.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_blas.h>
#include <gsl/gsl_multifit_nlinear.h>

#include "base/err.h"
#include "calib/fit_predict.h"
#include "calib/fused.h"

#define RESIDUAL_SCALE 0.05 /* as in fit.c */
#define PRIOR_SIGMA    2.0
#define MAX_ITER       40
#define MIN_ROWS       40 /* fewer do not make a family */
#define NUM_FOLDS      4

struct family {
    const struct data_row **rows;
    size_t n;
    const bool *left_out; /* [n]; NULL = none */
    double v[HW_FIELD_COUNT], param[LAW_FUSED_PARAMS];
};

static double to_value(int id, double q)
{
    double lo = log(law_fused_info[id].lo), hi = log(law_fused_info[id].hi);

    return exp(lo + (hi - lo) / (1 + exp(-q)));
}

static double usual(int id)
{
    double lo = log(law_fused_info[id].lo), hi = log(law_fused_info[id].hi);
    double share = (log(law_fused_info[id].usual) - lo) / (hi - lo);

    return log(share / (1 - share));
}

static int residuals(const gsl_vector *q, void *data, gsl_vector *out)
{
    struct family *f = data;

    for (int i = 0; i < LAW_FUSED_PARAMS; i++)
        f->param[i] = to_value(i, gsl_vector_get(q, (size_t)i));
    for (size_t i = 0; i < f->n; i++) {
        const struct data_row *r = f->rows[i];
        double x = log(law_fused_us(f->v, f->param, &r->fused->load) / r->latency_us) /
                   hypot(RESIDUAL_SCALE, r->sigma);

        /* soft-L1 as a transform */
        x = copysign(sqrt(2 * (sqrt(1 + x * x) - 1)), x);
        gsl_vector_set(out, i, f->left_out && f->left_out[i] ? 0 : isfinite(x) ? x : 1e3);
    }
    for (int i = 0; i < LAW_FUSED_PARAMS; i++)
        gsl_vector_set(out, f->n + (size_t)i,
                       (gsl_vector_get(q, (size_t)i) - usual(i)) / PRIOR_SIGMA);
    return GSL_SUCCESS;
}

static int family_solve(struct family *f)
{
    gsl_multifit_nlinear_parameters par = gsl_multifit_nlinear_default_parameters();
    size_t n = f->n + LAW_FUSED_PARAMS;
    gsl_multifit_nlinear_fdf fdf = {.f = residuals, .n = n, .p = LAW_FUSED_PARAMS, .params = f};
    gsl_multifit_nlinear_workspace *w =
        gsl_multifit_nlinear_alloc(gsl_multifit_nlinear_trust, &par, n, LAW_FUSED_PARAMS);
    gsl_vector *q = gsl_vector_alloc(LAW_FUSED_PARAMS);
    int info, rc = w && q ? 0 : ERR_NOMEM;

    for (int i = 0; rc == 0 && i < LAW_FUSED_PARAMS; i++)
        gsl_vector_set(q, (size_t)i, usual(i));
    if (rc == 0 && gsl_multifit_nlinear_init(q, &fdf, w) == GSL_SUCCESS)
        gsl_multifit_nlinear_driver(MAX_ITER, 1e-5, 1e-6, 1e-6, NULL, NULL, &info, w);
    for (int i = 0; rc == 0 && i < LAW_FUSED_PARAMS; i++)
        f->param[i] = to_value(i, gsl_vector_get(w->x, (size_t)i));
    gsl_multifit_nlinear_free(w);
    gsl_vector_free(q);
    return rc;
}

static unsigned shape_key(const struct data_row *r)
{
    unsigned key = (unsigned)r->hidden * 2654435761u + (unsigned)r->inter * 40503u +
                   (unsigned)r->experts * 97u;

    key = (key ^ key >> 15) * 2246822519u;
    return (key ^ key >> 13) % NUM_FOLDS;
}

static int family_unseen(struct family *f, double *predicted, const double *measured,
                         struct fit_result *out)
{
    bool *left_out = calloc(f->n, sizeof *left_out), one = true;
    int rc = left_out ? 0 : ERR_NOMEM;

    for (size_t i = 1; i < f->n; i++)
        one = one && shape_key(f->rows[i]) == shape_key(f->rows[0]);
    for (unsigned fold = 0; fold < NUM_FOLDS && !one && rc == 0; fold++) {
        for (size_t i = 0; i < f->n; i++)
            left_out[i] = shape_key(f->rows[i]) == fold;
        f->left_out = left_out;
        rc = family_solve(f);
        for (size_t i = 0; i < f->n; i++)
            if (left_out[i])
                predicted[i] = law_fused_us(f->v, f->param, &f->rows[i]->fused->load);
    }
    if (rc == 0 && !one)
        stats_error_of(predicted, measured, f->n, &out->unseen[FIT_CV_SHAPE]);
    f->left_out = NULL;
    free(left_out);
    return rc;
}

static int family_store(struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
                        const struct family *f, const char *date)
{
    double x[LAW_FUSED_PARAMS], y[LAW_FUSED_PARAMS];
    const struct data_set *set = sets[0];
    const char *slash;
    char source[256];

    for (size_t s = 0; s < num_sets; s++)
        if (f->rows[0] >= sets[s]->rows && f->rows[0] < sets[s]->rows + sets[s]->n)
            set = sets[s];
    slash = strrchr(set->path, '/');
    snprintf(source, sizeof source, "%s sha256:%.12s, %zu rows, %s", slash ? slash + 1 : set->path,
             set->sha256, f->n, date ? date : "");
    for (int i = 0; i < LAW_FUSED_PARAMS; i++) {
        x[i] = i + 1;
        y[i] = f->param[i];
    }
    return hw_table_set(p, f->rows[0]->fused->family, x, y, LAW_FUSED_PARAMS, HW_FITTED, source);
}

static int family_fit(struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
                      struct family *f, const struct fit_options *o, struct fit_report *report)
{
    struct fit_result *out = &report->law[report->num];
    double *predicted = malloc(f->n * sizeof *predicted);
    double *measured = malloc(f->n * sizeof *measured);
    int rc = predicted && measured ? 0 : ERR_NOMEM;

    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < f->n && rc == 0; i++)
        measured[i] = f->rows[i]->latency_us;
    if (rc == 0 && o->cv)
        rc = family_unseen(f, predicted, measured, out);
    if (rc == 0)
        rc = family_solve(f);
    if (rc == 0) {
        for (size_t i = 0; i < f->n; i++)
            predicted[i] = law_fused_us(f->v, f->param, &f->rows[i]->fused->load);
        stats_error_of(predicted, measured, f->n, &out->in_sample);
        out->law = f->rows[0]->fused->family;
        out->rows = f->n;
        report->num++;
        rc = family_store(p, sets, num_sets, f, o->date);
    }
    free(predicted);
    free(measured);
    return rc;
}

static int by_family(const void *a, const void *b)
{
    const struct data_row *x = *(const struct data_row *const *)a;
    const struct data_row *y = *(const struct data_row *const *)b;
    int c = strcmp(x->fused->family, y->fused->family);

    return c ? c : (x > y) - (x < y);
}

int fit_fused(struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
              const struct fit_options *options, struct fit_report *report)
{
    const struct data_row **rows;
    size_t all = 0, n = 0;
    int rc = 0;

    for (size_t s = 0; s < num_sets; s++)
        all += sets[s]->n;
    rows = malloc((all + 1) * sizeof *rows);
    if (!rows)
        return ERR_NOMEM;
    for (size_t s = 0; s < num_sets; s++)
        for (size_t i = 0; i < sets[s]->n; i++) {
            const struct data_row *r = &sets[s]->rows[i];

            if (r->law == DATA_FFN_FUSED && r->reference && predict_system(p, r->system))
                rows[n++] = r;
        }
    qsort(rows, n, sizeof *rows, by_family);
    for (size_t from = 0, to; from < n && rc == 0; from = to) {
        struct family f = {.rows = rows + from};

        for (to = from; to < n && strcmp(rows[to]->fused->family, rows[from]->fused->family) == 0;)
            to++;
        f.n = to - from;
        for (int i = 0; i < HW_FIELD_COUNT; i++)
            f.v[i] = p->f[i].value;
        if (f.n >= MIN_ROWS && report->num < FIT_MAX_LAWS)
            rc = family_fit(p, sets, num_sets, &f, options, report);
    }
    free(rows);
    return rc;
}

double predict_fused_us(const struct hw_profile *profile, const double *v,
                        const struct data_row *row)
{
    const struct hw_table *t = hw_table_find(profile, row->fused->family);

    return t && t->n == LAW_FUSED_PARAMS ? law_fused_us(v, t->y, &row->fused->load) : NAN;
}
