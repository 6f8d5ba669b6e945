#include "calib/fit_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Fused low-latency kernels of one round say nothing of the parts; a GEMM on all SMs nothing of how
 * SMs slow each other. */
static bool row_varies(enum fit_needs needs, const struct data_row *r)
{
    if (needs == FIT_NEEDS_PARTS)
        return r->part != DATA_FUSED || r->rounds > 1;
    return needs == FIT_NEEDS_NOTHING || (r->num_sms > 0 && !r->deepgemm);
}

const struct data_set *rows_set_of(struct data_set *const *sets, size_t num_sets,
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
    if (!(problem_measured_of(law->what, r) > 0))
        return false;
    if (law->needs == FIT_NEEDS_NOTHING && law->what == FIT_LATENCY && r->part != DATA_FUSED &&
        (r->law == DATA_LL_DISPATCH || r->law == DATA_LL_COMBINE))
        return false; /* without the shares a part cannot be predicted */
    return nodes >= law->min_nodes && nodes <= law->max_nodes;
}

int rows_gather(const struct hw_profile *p, const struct fit_law *law, struct data_set *const *sets,
                size_t num_sets, struct problem *out)
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

#define MIN_VARIED 6

/* Do the rows vary in what the law needs, often enough to determine its extra parameters? */
bool rows_needs_met(const struct hw_profile *p, const struct fit_law *law,
                    struct data_set *const *sets, size_t num_sets)
{
    size_t varied = 0;

    for (size_t s = 0; s < num_sets; s++)
        for (size_t i = 0; i < sets[s]->n; i++)
            varied +=
                row_fits(p, law, &sets[s]->rows[i]) && row_varies(law->needs, &sets[s]->rows[i]);
    return law->needs == FIT_NEEDS_NOTHING || varied >= MIN_VARIED;
}

bool rows_any_of(const struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
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
void rows_source_text(const struct problem *p, struct data_set *const *sets, size_t num_sets,
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

bool rows_key_equal(enum fit_cv cv, const struct data_row *a, const struct data_row *b)
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
int rows_number_groups(enum fit_cv cv, const struct data_row *const *rows, size_t n, int *group)
{
    size_t *first = malloc((n + 1) * sizeof *first);
    int num = 0;

    if (!first)
        return ERR_NOMEM;
    for (size_t i = 0; i < n; i++) {
        int g = 0;

        while (g < num && !rows_key_equal(cv, rows[first[g]], rows[i]))
            g++;
        if (g == num)
            first[num++] = i;
        group[i] = g;
    }
    free(first);
    return num;
}

/* Rows that differ in what a law predicts by. Few are asked about: quadratic. */
size_t rows_count_shapes(const struct problem *q)
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
                   rows_key_equal(FIT_CV_SHAPE, q->rows[i], q->rows[j]);
        num += !seen;
    }
    return num;
}
