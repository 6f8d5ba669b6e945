#include "calib/fit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_errno.h>

#include "base/err.h"
#include "base/log.h"
#include "calib/attn.h"
#include "calib/fit_cv.h"
#include "calib/fit_dense.h"
#include "calib/fit_laws.h"
#include "calib/fit_predict.h"
#include "calib/fit_rows.h"
#include "calib/fit_spread.h"
#include "calib/fit_table.h"
#include "calib/fused.h"
#include "calib/problem.h"

#define MAX_MEDIAN_APE 0.5 /* a fit worse than this has failed */

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

/* A shape determines one field at most: with fewer shapes than fields the first ones, which are the
 * fixed costs, are fitted and the others stay where they stood. */
static void keep_fields(struct problem *q, size_t shapes, struct fit_result *out)
{
    while (q->n < (size_t)q->law_fields && (size_t)q->num > shapes) {
        out->open[out->num_open++] = problem_param_id(q, q->num - 1);
        problem_freeze(q, q->num - 1, q->stand[q->num - 1]);
    }
}

/* Says what a law needs and what it got. A log of a few shapes is fitted as far as it goes; tables
 * are fitted where there are rows enough, since one that is short mostly is so by mistake. */
static bool too_few(const struct problem *q, bool from_log)
{
    size_t shapes = rows_count_shapes(q);
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
    keep_fields(q, rows_count_shapes(q), out);
    rc = fit_determined(q, o->starts, o->seed, out);
    if (rc == 0)
        rc = problem_in_sample(q, out);
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

    rows_source_text(q, sets, num_sets, o->date, source, sizeof source);
    if (law->rule)
        rc = hw_field_set(p, (enum hw_field_id)law->rule, q->predictor.v[law->rule], 0, HW_FITTED,
                          source);
    if (rc == 0 && q->num > 0 && o->cv)
        rc = fit_cross_validate(p, law, sets, num_sets, out);
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
    int rc = rows_gather(p, law, sets, num_sets, &q);
    bool few;

    predictor_init_bare(&q.predictor, p);
    problem_bounds(&q);
    q.law_fields = q.num;
    few = q.n < (size_t)q.num;
    if (rc == 0 && too_few(&q, q.n > 0 && rows_set_of(sets, num_sets, q.rows[0])->runs))
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
            !rows_any_of(p, sets, num_sets, fit_laws[i].unless) &&
            rows_needs_met(p, &fit_laws[i], sets, num_sets))
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
