/* trace/diff_cause.c: where the difference of two traces comes from: a walk back over each. */
#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "trace/diff_side.h"

/* A walk back over one rank of one trace. */
struct walk {
    const struct diff_side *side;
    const struct trace_record *first; /* the rank's records: [first, end) */
    const struct trace_record *end;
    bool causes;                        /* go by recorded causes */
    double *work_ns, *wait_ns;          /* [records of the log]: booked on each span */
    const struct trace_record **sorted; /* the rank's records by op or by end */
    size_t num_sorted;
    double gap_ns;
};

static int op_cmp(const void *va, const void *vb)
{
    const struct trace_record *const *a = va, *const *b = vb;

    if ((*a)->op != (*b)->op)
        return (*a)->op < (*b)->op ? -1 : 1;
    return diff_start_cmp(*a, *b);
}

static int end_cmp(const void *va, const void *vb)
{
    const struct trace_record *const *a = va, *const *b = vb;

    if ((*a)->end_ns != (*b)->end_ns)
        return (*a)->end_ns < (*b)->end_ns ? -1 : 1;
    return diff_start_cmp(*a, *b);
}

static const struct trace_record *walk_by_op(const struct walk *w, int op)
{
    size_t lo = 0, hi = w->num_sorted;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (w->sorted[mid]->op < op)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < w->num_sorted && w->sorted[lo]->op == op ? w->sorted[lo] : NULL;
}

/* The last to end of the records that ended when r started. */
static const struct trace_record *walk_by_end(const struct walk *w, const struct trace_record *r)
{
    size_t lo = 0, hi = w->num_sorted;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (w->sorted[mid]->end_ns <= r->start_ns)
            lo = mid + 1;
        else
            hi = mid;
    }
    /* Spans of no length at this very instant do not lead back. */
    while (lo > 0 && w->sorted[lo - 1]->start_ns >= r->start_ns)
        lo--;
    return lo > 0 ? w->sorted[lo - 1] : NULL;
}

static const struct trace_record *walk_before(const struct walk *w, const struct trace_record *r)
{
    if (!w->causes)
        return walk_by_end(w, r);
    if (r->cause_op < 0 || r->cause == CAUSE_START || r->cause == CAUSE_LAUNCH)
        return NULL;
    return walk_by_op(w, r->cause_op);
}

static void walk_back(struct walk *w)
{
    const struct trace_record *r = NULL;
    double t_ns = 0;

    for (const struct trace_record *c = w->first; c < w->end; c++)
        if (!r || c->end_ns > r->end_ns)
            r = c;
    if (r)
        t_ns = r->end_ns;
    /* Starts never increase along causes; the bound guards against files that say otherwise. */
    for (long steps = w->end - w->first; r && steps > 0; steps--) {
        size_t i = diff_record_index(w->side, r);
        double to_ns = fmin(r->end_ns, t_ns), ns, wait;

        w->gap_ns += t_ns - to_ns;
        ns = fmax(0, to_ns - r->start_ns);
        wait = fmin(fmax(r->wait_ns, 0), ns);
        w->wait_ns[i] += wait;
        w->work_ns[i] += ns - wait;
        w->side->on_path[i] = true;
        t_ns = fmin(to_ns, r->start_ns);
        r = walk_before(w, r);
    }
    w->gap_ns += t_ns;
}

static int walk_open(struct walk *w, const struct diff_side *s, int rank, bool causes)
{
    const struct trace_log *log = s->log;

    *w = (struct walk){.side = s, .causes = causes};
    w->work_ns = calloc(log->num_records, sizeof *w->work_ns);
    w->wait_ns = calloc(log->num_records, sizeof *w->wait_ns);
    w->sorted = malloc(log->num_records * sizeof *w->sorted);
    if (!w->work_ns || !w->wait_ns || !w->sorted) {
        log_error("out of memory for comparing traces");
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < log->num_records; i++) {
        if (log->records[i].rank != rank)
            continue;
        if (!w->first)
            w->first = &log->records[i];
        w->end = &log->records[i] + 1;
        w->sorted[w->num_sorted++] = &log->records[i];
    }
    qsort(w->sorted, w->num_sorted, sizeof *w->sorted, causes ? op_cmp : end_cmp);
    return 0;
}

static void walk_close(struct walk *w)
{
    free(w->work_ns);
    free(w->wait_ns);
    free(w->sorted);
}

static bool rank_has_causes(const struct trace_log *log, int rank)
{
    for (size_t i = 0; i < log->num_records; i++)
        if (log->records[i].rank == rank &&
            (log->records[i].cause == CAUSE_UNKNOWN || log->records[i].op < 0))
            return false;
    return true;
}

/* Books what is on one path only (sign -1: A's path is what B has not). */
static void split_one_sided(struct trace_diff *d, const struct walk *w,
                            const struct diff_side *other, double sign)
{
    const struct diff_side *s = w->side;

    for (const struct trace_record *r = w->first; r < w->end; r++) {
        size_t i = diff_record_index(s, r);
        const struct trace_record *p = diff_partner_of(s, other, r);
        struct trace_diff_kind *k;

        if (!s->on_path[i] || (p && other->on_path[diff_record_index(other, p)]))
            continue;
        d->wait_ns += sign * w->wait_ns[i];
        k = diff_kind_at(d, r->kind);
        if (p)
            k->order_ns += sign * w->work_ns[i];
        else
            k->only_ns += sign * w->work_ns[i];
    }
}

static void split_both(struct trace_diff *d, const struct walk *wa, const struct walk *wb)
{
    for (const struct trace_record *r = wa->first; r < wa->end; r++) {
        size_t i = diff_record_index(wa->side, r), j;
        const struct trace_record *p = diff_partner_of(wa->side, wb->side, r);

        if (!p || !wa->side->on_path[i])
            continue;
        j = diff_record_index(wb->side, p);
        if (!wb->side->on_path[j])
            continue;
        diff_kind_at(d, r->kind)->path_ns += wb->work_ns[j] - wa->work_ns[i];
        d->wait_ns += wb->wait_ns[j] - wa->wait_ns[i];
    }
}

int diff_split(struct trace_diff *d, const struct diff_side *a, const struct diff_side *b)
{
    bool causes = rank_has_causes(a->log, d->a_rank) && rank_has_causes(b->log, d->b_rank);
    struct walk wa = {0}, wb = {0};
    int err = walk_open(&wa, a, d->a_rank, causes);

    if (!err)
        err = walk_open(&wb, b, d->b_rank, causes);
    if (err)
        goto out;
    walk_back(&wa);
    walk_back(&wb);
    d->gap_ns = wb.gap_ns - wa.gap_ns;
    split_both(d, &wa, &wb);
    split_one_sided(d, &wa, b, -1);
    split_one_sided(d, &wb, a, 1);
out:
    walk_close(&wa);
    walk_close(&wb);
    return err;
}
