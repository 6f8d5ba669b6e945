#include "calib/fit_cv.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "calib/fit_rows.h"
#include "calib/fit_spread.h"

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
        if (is_left_out(f, i) && rows_key_equal(f->cv, f->all->rows[i], r))
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
        base.predictor.v[problem_param_id(f->before, i)] =
            under.predictor.v[problem_param_id(f->before, i)];
    if (rc == 0) {
        struct folds own = *f;

        own.all = &base;
        rc = fit_fold(&own, &base, &part);
    }
    for (size_t i = 0; i < f->all->n && rc == 0; i++)
        if (is_left_out(f, i))
            prediction[i] = problem_predicted(&part, f->all->rows[i]);
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
    groups = rc == 0 ? rows_number_groups(cv, p->rows, p->n, f.group) : 0;
    if (groups < 0)
        rc = groups;
    f.num = groups < MAX_FOLDS ? groups : MAX_FOLDS;
    for (f.fold = 0; f.fold < f.num && f.num > 1 && rc == 0; f.fold++)
        rc = predict_fold(&f, x);
    if (rc == 0 && f.num > 1)
        rc = problem_error(p, x, out);
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
    return rows_gather(p, law, sets, num_sets, out);
}

static const struct fit_law *law_named(const char *name)
{
    for (int i = 0; name && i < fit_num_laws; i++)
        if (strcmp(fit_laws[i].name, name) == 0)
            return &fit_laws[i];
    return NULL;
}

int fit_cross_validate(const struct hw_profile *p, const struct fit_law *law,
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
