#include "calib/fit_dense.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "calib/fit_predict.h"
#include "model/law/dense_table.h"

#define MIN_ROWS       200  /* fewer do not fill a table */
#define RESIDUAL_SCALE 0.05 /* as in fit.c */
#define REWEIGHTS      4
#define CG_STEPS       200
#define CG_TOLERANCE   1e-8
#define NUM_FOLDS      5
#define LEAST_KERNEL   0.1 /* of a time with quantisation, the kernel's share at least */

/* How strongly neighbouring knots hold together, in residuals per factor e, for knots an octave
 * apart; along m kernels change more often than along n and k. */
static const double hold[LAW_DENSE_AXES] = {0.1, 0.2, 0.2};

struct dense_row {
    const struct data_row *row;
    int cell[LAW_DENSE_CORNERS];
    double weight[LAW_DENSE_CORNERS];
    double target;    /* log of measured over predicted */
    double law_us;    /* what the law says of the kernel */
    double before_us; /* quantisation in front of it */
    double robust;
    bool left_out;
};

struct dense {
    struct dense_row *rows;
    size_t n;
    double *x, *r, *d, *ad; /* [cells] */
    int cells;
};

static bool is_row(const struct hw_profile *p, const struct data_row *r, enum data_law law)
{
    return r->law == law && r->reference && r->num_sms == 0 && predict_system(p, r->system);
}

static void row_init(const struct predictor *p, const struct data_row *r, struct dense_row *out)
{
    const double shape[LAW_DENSE_AXES] = {r->rows, r->n, r->k};
    struct data_row kernel = *r;
    double all = predict_us(p, r);

    kernel.quantised = false;
    *out = (struct dense_row){.row = r};
    out->law_us = predict_us(p, &kernel);
    out->before_us = all - out->law_us;
    out->target =
        log(fmax(r->latency_us - out->before_us, LEAST_KERNEL * r->latency_us) / out->law_us);
    law_dense_corners(shape, out->cell, out->weight);
}

static int dense_open(const struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
                      enum data_law law, struct dense *d)
{
    struct predictor q;
    size_t all = 0;

    predictor_init_bare(&q, p);
    *d = (struct dense){.cells = law_dense_cells()};
    for (size_t s = 0; s < num_sets; s++)
        all += sets[s]->n;
    d->rows = malloc((all + 1) * sizeof *d->rows);
    d->x = calloc((size_t)d->cells * 4, sizeof *d->x);
    if (!d->rows || !d->x)
        return ERR_NOMEM;
    d->r = d->x + d->cells;
    d->d = d->r + d->cells;
    d->ad = d->d + d->cells;
    for (size_t s = 0; s < num_sets; s++)
        for (size_t i = 0; i < sets[s]->n; i++)
            if (is_row(p, &sets[s]->rows[i], law))
                row_init(&q, &sets[s]->rows[i], &d->rows[d->n++]);
    return 0;
}

static void dense_close(struct dense *d)
{
    free(d->rows);
    free(d->x);
}

static double row_value(const struct dense_row *r, const double *x)
{
    double sum = 0;

    for (int c = 0; c < LAW_DENSE_CORNERS; c++)
        sum += r->weight[c] * x[r->cell[c]];
    return sum;
}

/* out += what holds each knot to the next one of its axis, times x. */
static void hold_apply(int axis, const double *x, double *out)
{
    int num[LAW_DENSE_AXES], stride = 1;
    const double *knot = law_dense_knots(axis, &num[0]);

    for (int a = 0; a < LAW_DENSE_AXES; a++)
        law_dense_knots(a, &num[a]);
    for (int a = axis + 1; a < LAW_DENSE_AXES; a++)
        stride *= num[a];
    for (int i = 0; i < law_dense_cells(); i++) {
        int at = i / stride % num[axis];
        double octaves, pull;

        if (at + 1 == num[axis])
            continue;
        octaves = fmax(log2(knot[at + 1] / knot[at]), 0.3);
        pull = hold[axis] * hold[axis] / octaves * (x[i] - x[i + stride]);
        out[i] += pull;
        out[i + stride] -= pull;
    }
}

/* out = (A'WA + S'S) x of the rows that are not left out. */
static void normal_apply(const struct dense *d, const double *x, double *out)
{
    for (int i = 0; i < d->cells; i++)
        out[i] = 1e-6 * x[i];
    for (size_t i = 0; i < d->n; i++) {
        const struct dense_row *r = &d->rows[i];
        double value = r->left_out ? 0 : r->robust * row_value(r, x);

        for (int c = 0; c < LAW_DENSE_CORNERS && !r->left_out; c++)
            out[r->cell[c]] += r->weight[c] * value;
    }
    for (int a = 0; a < LAW_DENSE_AXES; a++)
        hold_apply(a, x, out);
}

static double dot(const double *a, const double *b, int n)
{
    double sum = 0;

    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Conjugate gradients from where d->x stands. */
static void normal_solve(struct dense *d)
{
    double rr, first;

    normal_apply(d, d->x, d->ad);
    memset(d->r, 0, (size_t)d->cells * sizeof *d->r);
    for (size_t i = 0; i < d->n; i++) {
        const struct dense_row *r = &d->rows[i];

        for (int c = 0; c < LAW_DENSE_CORNERS && !r->left_out; c++)
            d->r[r->cell[c]] += r->weight[c] * r->robust * r->target;
    }
    first = dot(d->r, d->r, d->cells);
    for (int i = 0; i < d->cells; i++)
        d->d[i] = d->r[i] -= d->ad[i];
    rr = dot(d->r, d->r, d->cells);
    for (int step = 0; step < CG_STEPS && rr > CG_TOLERANCE * first; step++) {
        double a, next;

        normal_apply(d, d->d, d->ad);
        a = rr / dot(d->d, d->ad, d->cells);
        for (int i = 0; i < d->cells; i++) {
            d->x[i] += a * d->d[i];
            d->r[i] -= a * d->ad[i];
        }
        next = dot(d->r, d->r, d->cells);
        for (int i = 0; i < d->cells; i++)
            d->d[i] = d->r[i] + next / rr * d->d[i];
        rr = next;
    }
}

/* Soft-L1 by reweighting. */
static void dense_solve(struct dense *d)
{
    memset(d->x, 0, (size_t)d->cells * sizeof *d->x);
    for (size_t i = 0; i < d->n; i++)
        d->rows[i].robust = 1;
    for (int pass = 0; pass < REWEIGHTS; pass++) {
        normal_solve(d);
        for (size_t i = 0; i < d->n; i++) {
            double e = (row_value(&d->rows[i], d->x) - d->rows[i].target) / RESIDUAL_SCALE;

            d->rows[i].robust = 1 / sqrt(1 + e * e);
        }
    }
}

static double row_us(const struct dense *d, size_t i)
{
    return d->rows[i].before_us + d->rows[i].law_us * exp(row_value(&d->rows[i], d->x));
}

static int fold_of(const struct data_row *r, enum fit_cv cv)
{
    uint32_t key = cv == FIT_CV_TOKENS ? (uint32_t)r->rows
                                       : (uint32_t)r->n * 2654435761u + (uint32_t)r->k * 40503u;

    key = (key ^ key >> 15) * 2246822519u;
    return (int)((key ^ key >> 13) % NUM_FOLDS);
}

static void dense_errors(struct dense *d, const struct fit_options *o, double *predicted,
                         double *measured, struct fit_result *out)
{
    static const enum fit_cv cvs[] = {FIT_CV_SHAPE, FIT_CV_TOKENS};

    for (size_t i = 0; i < d->n; i++)
        measured[i] = d->rows[i].row->latency_us;
    for (size_t k = 0; k < 2 && o->cv; k++) {
        for (int fold = 0; fold < NUM_FOLDS; fold++) {
            for (size_t i = 0; i < d->n; i++)
                d->rows[i].left_out = fold_of(d->rows[i].row, cvs[k]) == fold;
            dense_solve(d);
            for (size_t i = 0; i < d->n; i++)
                if (d->rows[i].left_out)
                    predicted[i] = row_us(d, i);
        }
        stats_error_of(predicted, measured, d->n, &out->unseen[cvs[k]]);
    }
    for (size_t i = 0; i < d->n; i++)
        d->rows[i].left_out = false;
    dense_solve(d);
    for (size_t i = 0; i < d->n; i++)
        predicted[i] = row_us(d, i);
    stats_error_of(predicted, measured, d->n, &out->in_sample);
}

static int dense_store(struct hw_profile *p, const struct dense *d, struct data_set *const *sets,
                       size_t num_sets, const char *date, const char *table)
{
    double *x = malloc((size_t)d->cells * sizeof *x), *y = malloc((size_t)d->cells * sizeof *y);
    char source[256];
    size_t at = 0;
    int rc = x && y ? 0 : ERR_NOMEM;

    for (size_t s = 0; s < num_sets && at + 1 < sizeof source; s++) {
        const char *slash = strrchr(sets[s]->path, '/');
        bool used = false;

        for (size_t i = 0; i < d->n && !used; i++)
            used = d->rows[i].row >= sets[s]->rows && d->rows[i].row < sets[s]->rows + sets[s]->n;
        if (used)
            at += (size_t)snprintf(source + at, sizeof source - at, "%s%s sha256:%.12s",
                                   at ? ", " : "", slash ? slash + 1 : sets[s]->path,
                                   sets[s]->sha256);
    }
    if (at + 1 < sizeof source && date)
        snprintf(source + at, sizeof source - at, ", %s", date);
    for (int i = 0; rc == 0 && i < d->cells; i++) {
        x[i] = i + 1;
        y[i] = round(exp(d->x[i]) * 1e3) / 1e3;
    }
    if (rc == 0)
        rc = hw_table_set(p, table, x, y, (size_t)d->cells, HW_FITTED, source);
    free(x);
    free(y);
    return rc;
}

static int fit_dtype(struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
                     const struct fit_options *o, enum data_law law, const char *name,
                     const char *table, struct fit_report *report)
{
    struct fit_result *out = &report->law[report->num];
    double *predicted = NULL, *measured = NULL;
    struct dense d;
    int rc = dense_open(p, sets, num_sets, law, &d);

    if (rc != 0 || d.n < MIN_ROWS || report->num == FIT_MAX_LAWS)
        goto out;
    predicted = malloc(d.n * sizeof *predicted);
    measured = malloc(d.n * sizeof *measured);
    rc = predicted && measured ? 0 : ERR_NOMEM;
    if (rc != 0)
        goto out;
    memset(out, 0, sizeof *out);
    dense_errors(&d, o, predicted, measured, out);
    out->law = name;
    out->rows = d.n;
    report->num++;
    rc = dense_store(p, &d, sets, num_sets, o->date, table);
out:
    free(predicted);
    free(measured);
    dense_close(&d);
    return rc;
}

int fit_dense(struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
              const struct fit_options *options, struct fit_report *report)
{
    static const struct {
        enum data_law law;
        const char *name, *table;
    } dtypes[] = {{DATA_DENSE_BF16, "gemm_bf16 (table)", "dense.bf16"},
                  {DATA_DENSE_FP8, "gemm_fp8 (table)", "dense.fp8"},
                  {DATA_DENSE_BLOCK, "gemm_fp8_block (table)", "dense.fp8_block"},
                  {DATA_DENSE_NVFP4, "gemm_nvfp4 (table)", "dense.nvfp4"}};
    int rc = 0;

    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes && rc == 0; i++)
        rc = fit_dtype(p, sets, num_sets, options, dtypes[i].law, dtypes[i].name, dtypes[i].table,
                       report);
    return rc;
}
