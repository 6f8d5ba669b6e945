#include "trace/diff.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "trace/diff_side.h"

static const struct trace_record *stream_before(const struct diff_side *s,
                                                const struct trace_record *r)
{
    long at = s->before[diff_record_index(s, r)];

    return at < 0 ? NULL : &s->log->records[at];
}

/* Whether the pair's spans follow paired spans on their streams that are not partners: then another
 * op came first. */
static bool pair_reordered(const struct diff_side *a, const struct diff_side *b,
                           const struct trace_pair *p)
{
    const struct trace_record *before_a = stream_before(a, p->a);
    const struct trace_record *before_b = stream_before(b, p->b), *other;

    if (!before_a || !before_b)
        return false;
    other = diff_partner_of(a, b, before_a);
    /* Ops that changed streams say nothing about order. */
    return other && other != before_b && diff_partner_of(b, a, before_b) &&
           other->stream == p->b->stream;
}

static enum trace_divergence pair_divergence(const struct trace_pair *p,
                                             const struct trace_diff_opts *opts, double *by_ns)
{
    double start_ns, dur_ns, tol_ns;

    if (!p->a || !p->b) {
        *by_ns = trace_record_ns(p->a ? p->a : p->b);
        return p->a ? DIVERGE_ONLY_A : DIVERGE_ONLY_B;
    }
    start_ns = p->b->start_ns - p->a->start_ns;
    dur_ns = trace_record_ns(p->b) - trace_record_ns(p->a);
    tol_ns = fmax(opts->tolerance_ns, opts->tolerance_part * trace_record_ns(p->a));
    if (fabs(start_ns) > tol_ns) {
        *by_ns = start_ns;
        return DIVERGE_START;
    }
    *by_ns = dur_ns;
    return fabs(dur_ns) > tol_ns ? DIVERGE_DURATION : DIVERGE_NONE;
}

static void diff_divergence(struct trace_diff *d, const struct diff_side *a,
                            const struct diff_side *b, const struct trace_diff_opts *opts)
{
    for (size_t i = 0; i < d->num_pairs; i++) {
        const struct trace_pair *p = &d->pairs[i];
        bool swapped = p->a && p->b && pair_reordered(a, b, p);
        double by_ns = 0;
        enum trace_divergence what;

        d->reordered += swapped;
        if (d->first != DIVERGE_NONE)
            continue;
        what = pair_divergence(p, opts, &by_ns);
        if (swapped)
            what = DIVERGE_ORDER;
        if (what == DIVERGE_NONE)
            continue;
        d->first = what;
        d->first_pair = *p;
        d->first_ns = by_ns;
    }
}

/* Kernels' own names may be many; past this they are one kind together. */
#define DIFF_MAX_KINDS 1000

struct trace_diff_kind *diff_kind_at(struct trace_diff *d, const char *kind)
{
    for (size_t i = 0; i < d->num_kinds; i++)
        if (!strcmp(d->kinds[i].kind, kind))
            return &d->kinds[i];
    if (d->num_kinds == DIFF_MAX_KINDS)
        kind = "(others)";
    if (d->num_kinds > DIFF_MAX_KINDS)
        return &d->kinds[DIFF_MAX_KINDS];
    d->kinds[d->num_kinds] = (struct trace_diff_kind){.kind = kind};
    return &d->kinds[d->num_kinds++];
}

static const char *pair_kind(const struct trace_pair *p)
{
    return p->a ? p->a->kind : p->b->kind;
}

static int diff_kinds(struct trace_diff *d)
{
    d->kinds = calloc(DIFF_MAX_KINDS + 1, sizeof *d->kinds);
    if (!d->kinds) {
        log_error("out of memory for comparing traces");
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < d->num_pairs; i++) {
        const struct trace_pair *p = &d->pairs[i];
        struct trace_diff_kind *k = diff_kind_at(d, pair_kind(p));

        if (!p->a || !p->b) {
            k->only_a += p->a != NULL;
            k->only_b += p->b != NULL;
            continue;
        }
        k->pairs++;
        k->a_ns += trace_record_ns(p->a);
        k->b_ns += trace_record_ns(p->b);
        k->a_wait_ns += p->a->wait_ns;
        k->b_wait_ns += p->b->wait_ns;
    }
    for (size_t i = 0; i < d->num_kinds; i++) {
        int n = d->kinds[i].pairs ? d->kinds[i].pairs : 1;

        d->kinds[i].a_ns /= n;
        d->kinds[i].b_ns /= n;
        d->kinds[i].a_wait_ns /= n;
        d->kinds[i].b_wait_ns /= n;
    }
    return 0;
}

static bool has_rank(const struct trace_log *log, int rank)
{
    for (size_t i = 0; i < log->num_records; i++)
        if (log->records[i].rank == rank)
            return true;
    return false;
}

/* Where to split: B's slowest rank if A has it, else A's slowest. */
static int diff_ranks(struct trace_diff *d, bool any_rank)
{
    d->a_slowest = trace_log_slowest_rank(d->a);
    d->b_slowest = trace_log_slowest_rank(d->b);
    d->a_ns = trace_log_rank_end(d->a, d->a_slowest);
    d->b_ns = trace_log_rank_end(d->b, d->b_slowest);
    d->a_rank = d->b_rank = d->b_slowest;
    if (any_rank)
        d->a_rank = d->a_slowest;
    else if (!has_rank(d->a, d->b_slowest))
        d->a_rank = d->b_rank = d->a_slowest;
    if (!has_rank(d->a, d->a_rank) || !has_rank(d->b, d->b_rank)) {
        log_error("the traces have no rank in common on which to compare them");
        return ERR_DATA;
    }
    d->rank_ns = (trace_log_rank_end(d->a, d->a_rank) - d->a_ns) +
                 (d->b_ns - trace_log_rank_end(d->b, d->b_rank));
    return 0;
}

static int kind_cmp(const void *va, const void *vb)
{
    const struct trace_diff_kind *a = va, *b = vb;

    if (fabs(trace_diff_kind_ns(a)) != fabs(trace_diff_kind_ns(b)))
        return fabs(trace_diff_kind_ns(a)) > fabs(trace_diff_kind_ns(b)) ? -1 : 1;
    return strcmp(a->kind, b->kind);
}

int trace_diff_new(struct trace_diff **out, const struct trace_log *a, const struct trace_log *b,
                   const struct trace_diff_opts *opts)
{
    struct trace_diff *d = calloc(1, sizeof *d);
    struct diff_side sa = {0}, sb = {0};
    bool any_rank = diff_one_rank(a) && diff_one_rank(b);
    int err = 0;

    if (!d) {
        log_error("out of memory for comparing traces");
        return ERR_NOMEM;
    }
    d->a = a;
    d->b = b;
    if (!a->num_records || !b->num_records) {
        log_error("a trace without spans cannot be compared");
        err = ERR_DATA;
        goto out;
    }
    err = diff_ranks(d, any_rank);
    if (!err)
        err = diff_side_open(&sa, a, b, any_rank);
    if (!err)
        err = diff_side_open(&sb, b, a, any_rank);
    if (!err)
        err = diff_pairs(d, &sa, &sb);
    if (!err)
        err = diff_kinds(d);
    if (err)
        goto out;
    diff_divergence(d, &sa, &sb, opts);
    err = diff_split(d, &sa, &sb);
    if (err)
        goto out;
    qsort(d->kinds, d->num_kinds, sizeof *d->kinds, kind_cmp);
    *out = d;
    d = NULL;
out:
    diff_side_close(&sa);
    diff_side_close(&sb);
    trace_diff_free(d);
    return err;
}

void trace_diff_free(struct trace_diff *diff)
{
    if (!diff)
        return;
    free(diff->pairs);
    free(diff->kinds);
    free(diff);
}
