/* trace/diff_pair.c: which spans of two traces are the same op. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "trace/diff_side.h"

static int stream_cmp(const void *va, const void *vb)
{
    const struct trace_record *const *a = va, *const *b = vb;

    if ((*a)->rank != (*b)->rank)
        return (*a)->rank < (*b)->rank ? -1 : 1;
    if ((*a)->stream != (*b)->stream)
        return (*a)->stream < (*b)->stream ? -1 : 1;
    return diff_start_cmp(*a, *b);
}

/* The keys of the three passes, from the strictest on. */
enum pass { PASS_STREAM_LABEL, PASS_LABEL, PASS_KIND, PASS_COUNT };

static int key_cmp(const struct trace_record *a, const struct trace_record *b, enum pass pass,
                   bool any_rank)
{
    if (!any_rank && a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    if (pass == PASS_STREAM_LABEL && a->stream != b->stream)
        return a->stream < b->stream ? -1 : 1;
    return pass == PASS_KIND ? strcmp(a->kind, b->kind) : strcmp(a->label, b->label);
}

struct sort_key {
    enum pass pass;
    bool any_rank;
};

static int rest_cmp(const void *va, const void *vb, void *arg)
{
    const struct trace_record *const *a = va, *const *b = vb;
    const struct sort_key *key = arg;
    int c = key_cmp(*a, *b, key->pass, key->any_rank);

    return c ? c : diff_start_cmp(*a, *b);
}

void diff_side_close(struct diff_side *s)
{
    free(s->rest);
    free(s->partner);
    free(s->on_path);
    free(s->before);
    free(s->common);
}

bool diff_one_rank(const struct trace_log *log)
{
    for (size_t i = 1; i < log->num_records; i++)
        if (log->records[i].rank != log->records[0].rank)
            return false;
    return true;
}

/* What is paired, or of a rank that the other trace has not, is not to be paired any more. */
static void side_drop(struct diff_side *s)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->num_rest; i++)
        if (s->partner[diff_record_index(s, s->rest[i])] < 0 && s->common[s->rest[i]->rank])
            s->rest[kept++] = s->rest[i];
    s->num_rest = kept;
}

static void side_common(struct diff_side *s, const struct trace_log *other)
{
    for (size_t i = 0; i < other->num_records; i++)
        if (other->records[i].rank < s->log->ranks)
            s->common[other->records[i].rank] = true;
    for (int rank = 0; s->any_rank && rank < s->log->ranks; rank++)
        s->common[rank] = true;
}

int diff_side_open(struct diff_side *s, const struct trace_log *log, const struct trace_log *other,
                   bool any_rank)
{
    size_t n = log->num_records;

    *s = (struct diff_side){.log = log, .num_rest = n, .any_rank = any_rank};
    s->rest = malloc(n * sizeof *s->rest);
    s->partner = malloc(n * sizeof *s->partner);
    s->on_path = calloc(n, sizeof *s->on_path);
    s->before = malloc(n * sizeof *s->before);
    s->common = calloc((size_t)log->ranks, sizeof *s->common);
    if (!s->rest || !s->partner || !s->on_path || !s->before || !s->common) {
        diff_side_close(s);
        *s = (struct diff_side){0};
        log_error("out of memory for comparing traces");
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        s->rest[i] = &log->records[i];
        s->partner[i] = -1;
        s->before[i] = -1;
    }
    qsort(s->rest, n, sizeof *s->rest, stream_cmp);
    for (size_t i = 1; i < n; i++)
        if (s->rest[i]->rank == s->rest[i - 1]->rank &&
            s->rest[i]->stream == s->rest[i - 1]->stream)
            s->before[diff_record_index(s, s->rest[i])] =
                (long)diff_record_index(s, s->rest[i - 1]);
    side_common(s, other);
    side_drop(s);
    return 0;
}

/* Both rests sorted by key and start: equal keys pair up one after another. */
static void pair_pass(struct diff_side *a, struct diff_side *b, enum pass pass)
{
    struct sort_key key = {pass, a->any_rank};
    size_t i = 0, j = 0;

    qsort_r(a->rest, a->num_rest, sizeof *a->rest, rest_cmp, &key);
    qsort_r(b->rest, b->num_rest, sizeof *b->rest, rest_cmp, &key);
    while (i < a->num_rest && j < b->num_rest) {
        int c = key_cmp(a->rest[i], b->rest[j], pass, a->any_rank);

        if (!c) {
            a->partner[diff_record_index(a, a->rest[i])] = (long)diff_record_index(b, b->rest[j]);
            b->partner[diff_record_index(b, b->rest[j])] = (long)diff_record_index(a, a->rest[i]);
        }
        i += c <= 0;
        j += c >= 0;
    }
    side_drop(a);
    side_drop(b);
}

static double pair_start(const struct trace_pair *p)
{
    if (!p->a)
        return p->b->start_ns;
    return p->b ? fmin(p->a->start_ns, p->b->start_ns) : p->a->start_ns;
}

static int pair_cmp(const void *va, const void *vb)
{
    const struct trace_pair *x = va, *y = vb;
    const struct trace_record *rx = x->a ? x->a : x->b, *ry = y->a ? y->a : y->b;
    double sx = pair_start(x), sy = pair_start(y);

    if (sx != sy)
        return sx < sy ? -1 : 1;
    if (rx->rank != ry->rank)
        return rx->rank < ry->rank ? -1 : 1;
    if (rx->op != ry->op)
        return rx->op < ry->op ? -1 : 1;
    return strcmp(rx->label, ry->label);
}

int diff_pairs(struct trace_diff *d, struct diff_side *a, struct diff_side *b)
{
    for (size_t i = 0; i < a->log->num_records; i++) /* sorted by rank */
        d->ranks += a->common[a->log->records[i].rank] &&
                    (i == 0 || a->log->records[i - 1].rank != a->log->records[i].rank);
    for (int pass = 0; pass < PASS_COUNT; pass++)
        pair_pass(a, b, (enum pass)pass);
    d->pairs = malloc((a->log->num_records + b->num_rest) * sizeof *d->pairs);
    if (!d->pairs) {
        log_error("out of memory for comparing traces");
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < a->log->num_records; i++) {
        const struct trace_record *r = &a->log->records[i];

        if (a->common[r->rank])
            d->pairs[d->num_pairs++] = (struct trace_pair){r, diff_partner_of(a, b, r)};
    }
    d->only_a = (int)a->num_rest;
    d->only_b = (int)b->num_rest;
    d->matched = (int)(d->num_pairs - a->num_rest);
    for (size_t i = 0; i < b->num_rest; i++)
        d->pairs[d->num_pairs++] = (struct trace_pair){NULL, b->rest[i]};
    qsort(d->pairs, d->num_pairs, sizeof *d->pairs, pair_cmp);
    return 0;
}
