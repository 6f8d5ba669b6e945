/* Parameters of attention families from their rows: robust least squares on log(predicted/measured)
 * as in fit.c, with every tile that a prefill kernel may have tried. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_blas.h>
#include <gsl/gsl_multifit_nlinear.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>

#include "base/err.h"
#include "calib/attn.h"
#include "calib/fit_predict.h"

#define RESIDUAL_SCALE 0.05 /* as in fit.c */
#define PRIOR_SIGMA    1.5  /* of the transformed parameter */
#define START_SPREAD   0.7
#define ITER_FIRST     15 /* of each tile tried */
#define ITER_BEST      60 /* of the one that stays */
#define MIN_ROWS       6  /* fewer say nothing of a family: the usual values stand */
#define NUM_FOLDS      5

/* One family. */
struct family {
    const struct data_row **rows;
    size_t n;
    struct law_attn_terms *terms; /* of the tile being tried */
    double param[LAW_ATTN_PARAM_COUNT];
    int free[LAW_ATTN_PARAM_COUNT], num; /* parameters that the fit moves */
    const double *v;
};

static double to_value(int id, double q)
{
    double lo = log(law_attn_param_info[id].lo), hi = log(law_attn_param_info[id].hi);

    return exp(lo + (hi - lo) / (1 + exp(-q)));
}

static double from_value(int id, double value)
{
    double lo = log(law_attn_param_info[id].lo), hi = log(law_attn_param_info[id].hi);
    double share = fmin(fmax((log(value) - lo) / (hi - lo), 1e-3), 1 - 1e-3);

    return log(share / (1 - share));
}

static double predicted(const struct family *f, const double *param, size_t i)
{
    struct law_attn_time time;

    law_attn_time(f->v, param, &f->rows[i]->attn->load, &f->terms[i], &time);
    return time.total;
}

/* Soft-L1 as a transform, as in fit.c. */
static double soften(double x)
{
    return copysign(sqrt(2 * (sqrt(1 + x * x) - 1)), x);
}

static int residuals(const gsl_vector *q, void *data, gsl_vector *out)
{
    struct family *f = data;

    for (int i = 0; i < f->num; i++)
        f->param[f->free[i]] = to_value(f->free[i], gsl_vector_get(q, (size_t)i));
    for (size_t i = 0; i < f->n; i++) {
        double x = log(predicted(f, f->param, i) / f->rows[i]->latency_us) / RESIDUAL_SCALE;

        gsl_vector_set(out, i, isfinite(x) ? soften(x) : 1e3);
    }
    for (int i = 0; i < f->num; i++) {
        double usual = from_value(f->free[i], law_attn_param_info[f->free[i]].usual);

        gsl_vector_set(out, f->n + (size_t)i, (gsl_vector_get(q, (size_t)i) - usual) / PRIOR_SIGMA);
    }
    return GSL_SUCCESS;
}

/* From where the parameters stand; they end at the best point, whose loss *cost becomes. */
static int descend(struct family *f, gsl_vector *q, int iterations, double *cost)
{
    gsl_multifit_nlinear_parameters par = gsl_multifit_nlinear_default_parameters();
    size_t n = f->n + (size_t)f->num, num = (size_t)f->num;
    gsl_multifit_nlinear_fdf fdf = {.f = residuals, .n = n, .p = num, .params = f};
    gsl_multifit_nlinear_workspace *w =
        gsl_multifit_nlinear_alloc(gsl_multifit_nlinear_trust, &par, n, num);
    int info, status;

    if (!w)
        return ERR_NOMEM;
    status = gsl_multifit_nlinear_init(q, &fdf, w);
    if (status == GSL_SUCCESS)
        gsl_multifit_nlinear_driver((size_t)iterations, 1e-5, 1e-6, 1e-6, NULL, NULL, &info, w);
    gsl_vector_memcpy(q, w->x);
    gsl_blas_ddot(w->f, w->f, cost);
    for (int i = 0; i < f->num; i++)
        f->param[f->free[i]] = to_value(f->free[i], gsl_vector_get(q, (size_t)i));
    gsl_multifit_nlinear_free(w);
    return 0;
}

/* The parameters that any row depends on; the tile is not among them: it is tried. */
static void family_free(struct family *f)
{
    f->num = 0;
    for (int id = 0; id < LAW_ATTN_TILE; id++) {
        bool used = false;

        for (size_t i = 0; i < f->n && !used; i++)
            used = law_attn_uses(&f->rows[i]->attn->load, (enum law_attn_param)id);
        if (used)
            f->free[f->num++] = id;
    }
}

static void family_terms(struct family *f)
{
    for (size_t i = 0; i < f->n; i++)
        law_attn_terms(&f->rows[i]->attn->load, f->param[LAW_ATTN_TILE],
                       f->param[LAW_ATTN_PACK] > 1.5, &f->terms[i]);
}

/* One start: from the usual values, or from random ones near them. */
static int family_start(struct family *f, gsl_rng *rng, int iterations, double *cost)
{
    gsl_vector *q = gsl_vector_alloc((size_t)f->num);
    int rc = q ? 0 : ERR_NOMEM;

    for (int i = 0; rc == 0 && i < f->num; i++)
        gsl_vector_set(q, (size_t)i,
                       from_value(f->free[i], f->param[f->free[i]]) +
                           (rng ? gsl_ran_gaussian(rng, START_SPREAD) : 0));
    if (rc == 0)
        rc = descend(f, q, iterations, cost);
    gsl_vector_free(q);
    return rc;
}

static bool tries_tiles(const struct family *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (law_attn_uses(&f->rows[i]->attn->load, LAW_ATTN_TILE))
            return true;
    return false;
}

static bool has_groups(const struct family *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->rows[i]->attn->load.shape.kv_heads > 0)
            return true;
    return false;
}

/* Every tile, with heads packed and not, for a few iterations; the best stays in f->param. */
static int family_tiles(struct family *f)
{
    static const double tiles[] = {64, 128, 192, 256};
    double best[LAW_ATTN_PARAM_COUNT], least = HUGE_VAL, cost;
    int rc = 0;

    for (size_t t = 0; t < sizeof tiles / sizeof *tiles && rc == 0; t++)
        for (int pack = 1; pack <= (has_groups(f) ? 2 : 1) && rc == 0; pack++) {
            law_attn_usual(f->param);
            f->param[LAW_ATTN_TILE] = tiles[t];
            f->param[LAW_ATTN_PACK] = pack;
            family_terms(f);
            rc = family_start(f, NULL, ITER_FIRST, &cost);
            if (rc == 0 && cost < least) {
                least = cost;
                memcpy(best, f->param, sizeof best);
            }
        }
    if (rc == 0)
        memcpy(f->param, best, sizeof best);
    return rc;
}

static int family_solve(struct family *f, const struct fit_options *o)
{
    double best[LAW_ATTN_PARAM_COUNT], first[LAW_ATTN_PARAM_COUNT], least = HUGE_VAL, cost;
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    int rc = rng ? 0 : ERR_NOMEM;

    law_attn_usual(f->param);
    family_free(f);
    if (rng)
        gsl_rng_set(rng, o->seed);
    if (rc == 0 && tries_tiles(f))
        rc = family_tiles(f);
    family_terms(f);
    memcpy(first, f->param, sizeof first);
    for (int s = 0; s <= o->starts && rc == 0; s++) {
        memcpy(f->param, first, sizeof first);
        rc = family_start(f, s ? rng : NULL, ITER_BEST, &cost);
        if (rc == 0 && cost < least) {
            least = cost;
            memcpy(best, f->param, sizeof best);
        }
    }
    if (rc == 0)
        memcpy(f->param, best, sizeof best);
    gsl_rng_free(rng);
    return rc;
}

/* What cross-validation leaves out together: numbers, equal where the key is. */
static unsigned key_of(enum fit_cv cv, const struct data_row *r)
{
    const struct law_attn_load *in = &r->attn->load;
    unsigned h = 2166136261u;

    if (cv == FIT_CV_BATCH)
        return (unsigned)in->requests;
    if (cv == FIT_CV_CONTEXT)
        return (unsigned)(in->kv_len / 2) * 2 + (unsigned)(in->q_len > 1);
    for (const char *c = r->group; *c; c++)
        h = (h ^ (unsigned char)*c) * 16777619u;
    return h;
}

/* The keys in order of appearance are dealt to the folds. Returns how many folds have rows. */
static int deal_folds(enum fit_cv cv, const struct family *f, int *fold, unsigned *key)
{
    int num = 0;

    for (size_t i = 0; i < f->n; i++) {
        unsigned k = key_of(cv, f->rows[i]);
        int at = 0;

        while (at < num && key[at] != k)
            at++;
        if (at == num)
            key[num++] = k;
        fold[i] = at % NUM_FOLDS;
    }
    return num < NUM_FOLDS ? num : NUM_FOLDS;
}

/* Predicts the fold's rows by a fit to the others, from one start: folds are many. */
static int predict_fold(const struct family *f, const int *fold, int which,
                        const struct fit_options *o, double *out)
{
    struct family part = {.v = f->v};
    struct fit_options once = *o;
    int rc;

    once.starts = 0;
    part.rows = malloc((f->n + 1) * sizeof *part.rows);
    part.terms = malloc((f->n + 1) * sizeof *part.terms);
    rc = part.rows && part.terms ? 0 : ERR_NOMEM;
    for (size_t i = 0; rc == 0 && i < f->n; i++)
        if (fold[i] != which)
            part.rows[part.n++] = f->rows[i];
    if (rc == 0 && part.n < MIN_ROWS)
        law_attn_usual(part.param);
    else if (rc == 0)
        rc = family_solve(&part, &once);
    for (size_t i = 0; rc == 0 && i < f->n; i++)
        if (fold[i] == which)
            out[i] = law_attn_us(f->v, part.param, &f->rows[i]->attn->load);
    free(part.rows);
    free(part.terms);
    return rc;
}

static int predict_unseen(enum fit_cv cv, const struct family *f, const struct fit_options *o,
                          double *out)
{
    int *fold = malloc((f->n + 1) * sizeof *fold);
    unsigned *key = malloc((f->n + 1) * sizeof *key);
    int rc = fold && key ? 0 : ERR_NOMEM, folds = rc == 0 ? deal_folds(cv, f, fold, key) : 0;

    for (size_t i = 0; i < f->n; i++)
        out[i] = NAN;
    for (int k = 0; k < folds && folds > 1 && rc == 0; k++)
        rc = predict_fold(f, fold, k, o, out);
    free(fold);
    free(key);
    return rc;
}

/* All rows of the profile's system, sorted by kind and family. */
struct attn_rows {
    const struct data_row **rows;
    size_t n;
    double *measured, *in_fit, *unseen[FIT_CV_COUNT]; /* by row */
};

static int row_compare(const void *x, const void *y)
{
    const struct data_row *a = *(const struct data_row *const *)x;
    const struct data_row *b = *(const struct data_row *const *)y;
    int c = strcmp(a->attn->kind, b->attn->kind);

    c = c ? c : strcmp(a->attn->family, b->attn->family);
    return c ? c : (a->line > b->line) - (a->line < b->line);
}

static int rows_gather(const struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
                       struct attn_rows *out)
{
    size_t all = 0;
    bool ok;

    for (size_t s = 0; s < num_sets; s++)
        all += sets[s]->n;
    out->rows = malloc((all + 1) * sizeof *out->rows);
    out->measured = malloc((all + 1) * sizeof *out->measured);
    out->in_fit = malloc((all + 1) * sizeof *out->in_fit);
    ok = out->rows && out->measured && out->in_fit;
    for (int k = 0; k < FIT_CV_COUNT; k++) {
        out->unseen[k] = malloc((all + 1) * sizeof **out->unseen);
        ok = ok && out->unseen[k];
    }
    for (size_t s = 0; ok && s < num_sets; s++)
        for (size_t i = 0; i < sets[s]->n; i++) {
            const struct data_row *r = &sets[s]->rows[i];

            if (data_is_attn(r->law) && r->reference && predict_system(p, r->system))
                out->rows[out->n++] = r;
        }
    if (ok)
        qsort(out->rows, out->n, sizeof *out->rows, row_compare);
    return ok ? 0 : ERR_NOMEM;
}

static void rows_free(struct attn_rows *a)
{
    free(a->rows);
    free(a->measured);
    free(a->in_fit);
    for (int k = 0; k < FIT_CV_COUNT; k++)
        free(a->unseen[k]);
}

/* Takes rows [from, to) out: too few for a family of their own. Returns from. */
static size_t rows_drop(struct attn_rows *a, size_t from, size_t to)
{
    memmove(a->rows + from, a->rows + to, (a->n - to) * sizeof *a->rows);
    a->n -= to - from;
    return from;
}

static const struct data_set *set_of(struct data_set *const *sets, const struct data_row *r)
{
    while (r < (*sets)->rows || r >= (*sets)->rows + (*sets)->n)
        sets++;
    return *sets;
}

static int range_store(struct hw_profile *p, const char *table, const struct family *f)
{
    const char *const names[] = {"requests", "q_len", "kv_len", "heads"};
    int rc = 0;

    for (size_t k = 0; k < sizeof names / sizeof *names && rc == 0; k++) {
        double lo = HUGE_VAL, hi = 0;

        for (size_t i = 0; i < f->n; i++) {
            const struct law_attn_load *in = &f->rows[i]->attn->load;
            double heads = fmax(in->shape.heads, in->shape.state_v_heads);
            double x = k == 0 ? in->requests : k == 1 ? in->q_len : k == 2 ? in->kv_len : heads;

            lo = fmin(lo, x);
            hi = fmax(hi, x);
        }
        rc = hw_range_set(p, table, names[k], lo, hi);
    }
    return rc;
}

static int family_store(struct hw_profile *p, struct data_set *const *sets, const struct family *f,
                        const char *date)
{
    const struct data_set *set = set_of(sets, f->rows[0]);
    const char *slash = strrchr(set->path, '/');
    double x[LAW_ATTN_PARAM_COUNT];
    char source[256], name[96];
    int rc;

    for (int i = 0; i < LAW_ATTN_PARAM_COUNT; i++)
        x[i] = i + 1;
    snprintf(name, sizeof name, "attn.%s", f->rows[0]->attn->family);
    snprintf(source, sizeof source, "%s sha256:%.12s, %zu rows, %s", slash ? slash + 1 : set->path,
             set->sha256, f->n, date ? date : "");
    rc = hw_table_set(p, name, x, f->param, LAW_ATTN_PARAM_COUNT, HW_FITTED, source);
    return rc ? rc : range_store(p, name, f);
}

/* Rows [from, to) of `a` are one family. */
static int family_fit(struct hw_profile *p, struct data_set *const *sets, struct attn_rows *a,
                      size_t from, size_t to, const struct fit_options *o)
{
    static const enum fit_cv cvs[] = {FIT_CV_SHAPE, FIT_CV_BATCH, FIT_CV_CONTEXT};
    double v[HW_FIELD_COUNT];
    struct family f = {.rows = a->rows + from, .n = to - from, .v = v};
    int rc;

    for (int i = 0; i < HW_FIELD_COUNT; i++)
        v[i] = p->f[i].value;
    f.terms = malloc((f.n + 1) * sizeof *f.terms);
    rc = f.terms ? family_solve(&f, o) : ERR_NOMEM;
    for (size_t i = 0; i < f.n && rc == 0; i++) {
        a->measured[from + i] = f.rows[i]->latency_us;
        a->in_fit[from + i] = law_attn_us(v, f.param, &f.rows[i]->attn->load);
    }
    for (size_t k = 0; k < sizeof cvs / sizeof *cvs && rc == 0 && o->cv; k++)
        rc = predict_unseen(cvs[k], &f, o, a->unseen[cvs[k]] + from);
    if (rc == 0)
        rc = family_store(p, sets, &f, o->date);
    free(f.terms);
    return rc;
}

/* A kind with a single head count has none left out: those rows do not count. */
static void unseen_error(const struct attn_rows *a, enum fit_cv cv, size_t from, size_t to,
                         struct stats_error *out)
{
    size_t n = 0;
    double *p = malloc((to - from + 1) * sizeof *p), *m = malloc((to - from + 1) * sizeof *m);

    for (size_t i = from; p && m && i < to; i++)
        if (isfinite(a->unseen[cv][i])) {
            p[n] = a->unseen[cv][i];
            m[n++] = a->measured[i];
        }
    if (n > 0)
        stats_error_of(p, m, n, out);
    free(p);
    free(m);
}

static void kind_report(const struct attn_rows *a, const char *name, size_t from, size_t to,
                        size_t families, const struct fit_options *o, struct fit_report *report)
{
    struct fit_result *out = &report->law[report->num];

    if (report->num == FIT_MAX_LAWS)
        return;
    report->num++;
    memset(out, 0, sizeof *out);
    out->law = name;
    out->rows = to - from;
    out->groups = families;
    stats_error_of(a->in_fit + from, a->measured + from, to - from, &out->in_sample);
    for (int k = 0; k < FIT_CV_COUNT && o->cv; k++)
        if (k == FIT_CV_SHAPE || k == FIT_CV_BATCH || k == FIT_CV_CONTEXT)
            unseen_error(a, (enum fit_cv)k, from, to, &out->unseen[k]);
}

/* The same over all kernels and phases of one kind of module: rows of one lie together. */
static void modules_report(const struct attn_rows *a, const struct fit_options *o,
                           struct fit_report *report)
{
    static const char *const modules[] = {"dsa", "dsv4_csa", "dsv4_hca", "gdn", "gqa",
                                          "kda", "mla",      "mla_kern", "msa"};

    for (size_t m = 0; m < sizeof modules / sizeof *modules; m++) {
        size_t len = strlen(modules[m]), from = 0, to;

        while (from < a->n && (strncmp(a->rows[from]->attn->kind, modules[m], len) != 0 ||
                               a->rows[from]->attn->kind[len] != ' '))
            from++;
        for (to = from; to < a->n && strncmp(a->rows[to]->attn->kind, modules[m], len) == 0 &&
                        a->rows[to]->attn->kind[len] == ' ';)
            to++;
        if (to > from)
            kind_report(a, modules[m], from, to, 0, o, report);
    }
}

int fit_attn(struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
             const struct fit_options *options, struct fit_report *report)
{
    struct attn_rows a = {0};
    int rc = rows_gather(p, sets, num_sets, &a);

    for (size_t i = 0, end; i < a.n && rc == 0; i = end) {
        size_t families = 0;

        for (end = i;
             end < a.n && rc == 0 && strcmp(a.rows[i]->attn->kind, a.rows[end]->attn->kind) == 0;) {
            size_t from = end;

            while (end < a.n && strcmp(a.rows[from]->attn->family, a.rows[end]->attn->family) == 0)
                end++;
            if (end - from >= MIN_ROWS)
                rc = family_fit(p, sets, &a, from, end, options);
            else
                end = rows_drop(&a, from, end);
            families += end > from;
        }
        if (rc == 0 && families > 0)
            kind_report(&a, a.rows[i]->attn->kind, i, end, families, options, report);
    }
    if (rc == 0)
        modules_report(&a, options, report);
    rows_free(&a);
    return rc;
}

double predict_attn_us(const struct hw_profile *profile, const double *v,
                       const struct data_row *row)
{
    bool assumed;
    const double *param = law_attn_family(profile, row->attn->family, &assumed);

    return param ? law_attn_us(v, param, &row->attn->load) : NAN;
}
