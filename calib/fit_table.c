#include "calib/fit_table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "calib/fit_predict.h"
#include "model/law/cost_coll.h"

struct curves {
    struct hw_profile *p;
    const struct data_row **rows; /* all reference rows, sorted by curve and size */
    size_t n;
    double *left_out, *measured; /* interpolated and measured, of points left out */
    size_t num_left_out;
};

static int curve_compare(const struct data_row *a, const struct data_row *b)
{
    int c = strcmp(a->coll, b->coll);

    return c ? c : (a->ranks > b->ranks) - (a->ranks < b->ranks);
}

static int row_compare(const void *a, const void *b)
{
    const struct data_row *x = *(const struct data_row *const *)a;
    const struct data_row *y = *(const struct data_row *const *)b;
    int c = curve_compare(x, y);

    return c ? c : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* Isotonic regression of log y: neighbours out of order are replaced by their mean. */
static void make_monotone(double *y, size_t n)
{
    size_t *weight = malloc((n + 1) * sizeof *weight), blocks = 0;
    double *level = malloc((n + 1) * sizeof *level);

    if (weight && level) {
        for (size_t i = 0; i < n; i++) {
            level[blocks] = log(y[i]);
            weight[blocks++] = 1;
            while (blocks > 1 && level[blocks - 2] > level[blocks - 1]) {
                double w0 = (double)weight[blocks - 2], w1 = (double)weight[blocks - 1];

                level[blocks - 2] = (level[blocks - 2] * w0 + level[blocks - 1] * w1) / (w0 + w1);
                weight[blocks - 2] += weight[blocks - 1];
                blocks--;
            }
        }
        for (size_t b = 0, i = 0; b < blocks; b++)
            for (size_t k = 0; k < weight[b]; k++)
                y[i++] = exp(level[b]);
    }
    free(weight);
    free(level);
}

/* Points of equal size become their mean; returns how many are left. */
static size_t merge_equal(const struct data_row *const *rows, size_t n, double *x, double *y)
{
    size_t m = 0;

    for (size_t i = 0; i < n;) {
        double sum = 0;
        size_t j = i;

        for (; j < n && rows[j]->bytes == rows[i]->bytes; j++)
            sum += rows[j]->latency_us;
        x[m] = rows[i]->bytes;
        y[m++] = sum / (double)(j - i);
        i = j;
    }
    return m;
}

/* Each inner point from its two neighbours alone. */
static void leave_out(struct curves *c, const double *x, const double *y, size_t n)
{
    for (size_t i = 1; i + 1 < n; i++) {
        double w = log(x[i] / x[i - 1]) / log(x[i + 1] / x[i - 1]);

        c->left_out[c->num_left_out] = exp(log(y[i - 1]) * (1 - w) + log(y[i + 1]) * w);
        c->measured[c->num_left_out++] = y[i];
    }
}

static int store_curve(struct curves *c, const struct data_row *const *rows, size_t n,
                       const char *source)
{
    double *x = malloc((n + 1) * sizeof *x), *y = malloc((n + 1) * sizeof *y);
    char name[64];
    int rc = x && y ? 0 : ERR_NOMEM;

    if (rc == 0) {
        size_t m = merge_equal(rows, n, x, y);

        leave_out(c, x, y, m);
        make_monotone(y, m);
        cost_coll_table(rows[0]->coll, rows[0]->ranks, name, sizeof name);
        rc = hw_table_set(c->p, name, x, y, m, HW_MEASURED, source);
    }
    free(x);
    free(y);
    return rc;
}

static int curves_gather(struct curves *c, struct data_set *const *sets, size_t num_sets)
{
    size_t all = 0;

    for (size_t s = 0; s < num_sets; s++)
        all += sets[s]->n;
    c->rows = malloc((all + 1) * sizeof *c->rows);
    c->left_out = malloc((all + 1) * sizeof *c->left_out);
    c->measured = malloc((all + 1) * sizeof *c->measured);
    if (!c->rows || !c->left_out || !c->measured)
        return ERR_NOMEM;
    for (size_t s = 0; s < num_sets; s++)
        for (size_t i = 0; i < sets[s]->n; i++) {
            const struct data_row *r = &sets[s]->rows[i];

            /* The tables are of one node: no network between. */
            if (r->law == DATA_COLLECTIVE && r->reference && r->nodes <= 1 &&
                predict_system(c->p, r->system))
                c->rows[c->n++] = r;
        }
    qsort(c->rows, c->n, sizeof *c->rows, row_compare);
    return 0;
}

static const struct data_set *set_of(struct data_set *const *sets, size_t num_sets,
                                     const struct data_row *r)
{
    for (size_t s = 0; s < num_sets; s++)
        if (r >= sets[s]->rows && r < sets[s]->rows + sets[s]->n)
            return sets[s];
    return sets[0];
}

int fit_tables(struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
               const struct fit_options *options, struct fit_report *report)
{
    struct curves c = {.p = p};
    struct fit_result *out = &report->law[report->num];
    int rc = curves_gather(&c, sets, num_sets);

    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < c.n && rc == 0;) {
        const struct data_set *set = set_of(sets, num_sets, c.rows[i]);
        const char *slash = strrchr(set->path, '/');
        char source[256];
        size_t j = i;

        while (j < c.n && curve_compare(c.rows[i], c.rows[j]) == 0)
            j++;
        snprintf(source, sizeof source, "%s sha256:%.12s, %s", slash ? slash + 1 : set->path,
                 set->sha256, options->date ? options->date : "");
        rc = store_curve(&c, c.rows + i, j - i, source);
        out->groups++;
        i = j;
    }
    if (rc == 0 && c.n > 0) {
        out->law = "collective (tables)";
        out->rows = c.n;
        stats_error_of(c.left_out, c.measured, c.num_left_out, &out->unseen[FIT_CV_SHAPE]);
        report->num++;
    }
    free(c.rows);
    free(c.left_out);
    free(c.measured);
    return rc;
}
