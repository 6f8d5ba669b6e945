#include "trace/diff.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "trace/csv.h"

/* One trace while it is being paired: its records in the order of the pass's key. */
struct side {
    const struct trace_log *log;
    const struct trace_record **rest; /* not paired yet */
    size_t num_rest;
    long *partner; /* [num_records]: index in the other log, -1 */
    bool any_rank; /* both traces have one rank: its number says nothing */
    bool *common;  /* [log.ranks]: the other trace has this rank too */
    bool *on_path;
    long *before; /* [num_records]: the record before it on its stream, -1 */
};

static size_t record_index(const struct side *s, const struct trace_record *r)
{
    return (size_t)(r - s->log->records);
}

static int start_cmp(const struct trace_record *a, const struct trace_record *b)
{
    if (a->start_ns != b->start_ns)
        return a->start_ns < b->start_ns ? -1 : 1;
    return (a > b) - (a < b); /* same log: its order */
}

static int stream_cmp(const void *va, const void *vb)
{
    const struct trace_record *const *a = va, *const *b = vb;

    if ((*a)->rank != (*b)->rank)
        return (*a)->rank < (*b)->rank ? -1 : 1;
    if ((*a)->stream != (*b)->stream)
        return (*a)->stream < (*b)->stream ? -1 : 1;
    return start_cmp(*a, *b);
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

    return c ? c : start_cmp(*a, *b);
}

static void side_close(struct side *s)
{
    free(s->rest);
    free(s->partner);
    free(s->on_path);
    free(s->before);
    free(s->common);
}

static bool one_rank(const struct trace_log *log)
{
    for (size_t i = 1; i < log->num_records; i++)
        if (log->records[i].rank != log->records[0].rank)
            return false;
    return true;
}

/* What is paired, or of a rank that the other trace has not, is not to be paired any more. */
static void side_drop(struct side *s)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->num_rest; i++)
        if (s->partner[record_index(s, s->rest[i])] < 0 && s->common[s->rest[i]->rank])
            s->rest[kept++] = s->rest[i];
    s->num_rest = kept;
}

static void side_common(struct side *s, const struct trace_log *other)
{
    for (size_t i = 0; i < other->num_records; i++)
        if (other->records[i].rank < s->log->ranks)
            s->common[other->records[i].rank] = true;
    for (int rank = 0; s->any_rank && rank < s->log->ranks; rank++)
        s->common[rank] = true;
}

static int side_open(struct side *s, const struct trace_log *log, const struct trace_log *other,
                     bool any_rank)
{
    size_t n = log->num_records;

    *s = (struct side){.log = log, .num_rest = n, .any_rank = any_rank};
    s->rest = malloc(n * sizeof *s->rest);
    s->partner = malloc(n * sizeof *s->partner);
    s->on_path = calloc(n, sizeof *s->on_path);
    s->before = malloc(n * sizeof *s->before);
    s->common = calloc((size_t)log->ranks, sizeof *s->common);
    if (!s->rest || !s->partner || !s->on_path || !s->before || !s->common) {
        side_close(s);
        *s = (struct side){0};
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
            s->before[record_index(s, s->rest[i])] = (long)record_index(s, s->rest[i - 1]);
    side_common(s, other);
    side_drop(s);
    return 0;
}

/* Both rests sorted by key and start: equal keys pair up one after another. */
static void pair_pass(struct side *a, struct side *b, enum pass pass)
{
    struct sort_key key = {pass, a->any_rank};
    size_t i = 0, j = 0;

    qsort_r(a->rest, a->num_rest, sizeof *a->rest, rest_cmp, &key);
    qsort_r(b->rest, b->num_rest, sizeof *b->rest, rest_cmp, &key);
    while (i < a->num_rest && j < b->num_rest) {
        int c = key_cmp(a->rest[i], b->rest[j], pass, a->any_rank);

        if (!c) {
            a->partner[record_index(a, a->rest[i])] = (long)record_index(b, b->rest[j]);
            b->partner[record_index(b, b->rest[j])] = (long)record_index(a, a->rest[i]);
        }
        i += c <= 0;
        j += c >= 0;
    }
    side_drop(a);
    side_drop(b);
}

static const struct trace_record *partner_of(const struct side *s, const struct side *other,
                                             const struct trace_record *r)
{
    long at = s->partner[record_index(s, r)];

    return at < 0 ? NULL : &other->log->records[at];
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

static int diff_pairs(struct trace_diff *d, struct side *a, struct side *b)
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
            d->pairs[d->num_pairs++] = (struct trace_pair){r, partner_of(a, b, r)};
    }
    d->only_a = (int)a->num_rest;
    d->only_b = (int)b->num_rest;
    d->matched = (int)(d->num_pairs - a->num_rest);
    for (size_t i = 0; i < b->num_rest; i++)
        d->pairs[d->num_pairs++] = (struct trace_pair){NULL, b->rest[i]};
    qsort(d->pairs, d->num_pairs, sizeof *d->pairs, pair_cmp);
    return 0;
}

static double span_ns(const struct trace_record *r)
{
    return r->end_ns - r->start_ns;
}

static const struct trace_record *stream_before(const struct side *s, const struct trace_record *r)
{
    long at = s->before[record_index(s, r)];

    return at < 0 ? NULL : &s->log->records[at];
}

/* Whether the pair's spans follow paired spans on their streams that are not partners: then another
 * op came first. */
static bool pair_reordered(const struct side *a, const struct side *b, const struct trace_pair *p)
{
    const struct trace_record *before_a = stream_before(a, p->a);
    const struct trace_record *before_b = stream_before(b, p->b), *other;

    if (!before_a || !before_b)
        return false;
    other = partner_of(a, b, before_a);
    /* Ops that changed streams say nothing about order. */
    return other && other != before_b && partner_of(b, a, before_b) &&
           other->stream == p->b->stream;
}

static enum trace_divergence pair_divergence(const struct trace_pair *p,
                                             const struct trace_diff_opts *opts, double *by_ns)
{
    double start_ns, dur_ns, tol_ns;

    if (!p->a || !p->b) {
        *by_ns = span_ns(p->a ? p->a : p->b);
        return p->a ? DIVERGE_ONLY_A : DIVERGE_ONLY_B;
    }
    start_ns = p->b->start_ns - p->a->start_ns;
    dur_ns = span_ns(p->b) - span_ns(p->a);
    tol_ns = fmax(opts->tolerance_ns, opts->tolerance_part * span_ns(p->a));
    if (fabs(start_ns) > tol_ns) {
        *by_ns = start_ns;
        return DIVERGE_START;
    }
    *by_ns = dur_ns;
    return fabs(dur_ns) > tol_ns ? DIVERGE_DURATION : DIVERGE_NONE;
}

static void diff_divergence(struct trace_diff *d, const struct side *a, const struct side *b,
                            const struct trace_diff_opts *opts)
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

static struct trace_diff_kind *diff_kind(struct trace_diff *d, const char *kind)
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
        struct trace_diff_kind *k = diff_kind(d, pair_kind(p));

        if (!p->a || !p->b) {
            k->only_a += p->a != NULL;
            k->only_b += p->b != NULL;
            continue;
        }
        k->pairs++;
        k->a_ns += span_ns(p->a);
        k->b_ns += span_ns(p->b);
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

/* A walk back over one rank of one trace. */
struct walk {
    const struct side *side;
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
    return start_cmp(*a, *b);
}

static int end_cmp(const void *va, const void *vb)
{
    const struct trace_record *const *a = va, *const *b = vb;

    if ((*a)->end_ns != (*b)->end_ns)
        return (*a)->end_ns < (*b)->end_ns ? -1 : 1;
    return start_cmp(*a, *b);
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
        size_t i = record_index(w->side, r);
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

static int walk_open(struct walk *w, const struct side *s, int rank, bool causes)
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
static void split_one_sided(struct trace_diff *d, const struct walk *w, const struct side *other,
                            double sign)
{
    const struct side *s = w->side;

    for (const struct trace_record *r = w->first; r < w->end; r++) {
        size_t i = record_index(s, r);
        const struct trace_record *p = partner_of(s, other, r);
        struct trace_diff_kind *k;

        if (!s->on_path[i] || (p && other->on_path[record_index(other, p)]))
            continue;
        d->wait_ns += sign * w->wait_ns[i];
        k = diff_kind(d, r->kind);
        if (p)
            k->order_ns += sign * w->work_ns[i];
        else
            k->only_ns += sign * w->work_ns[i];
    }
}

static void split_both(struct trace_diff *d, const struct walk *wa, const struct walk *wb)
{
    for (const struct trace_record *r = wa->first; r < wa->end; r++) {
        size_t i = record_index(wa->side, r), j;
        const struct trace_record *p = partner_of(wa->side, wb->side, r);

        if (!p || !wa->side->on_path[i])
            continue;
        j = record_index(wb->side, p);
        if (!wb->side->on_path[j])
            continue;
        diff_kind(d, r->kind)->path_ns += wb->work_ns[j] - wa->work_ns[i];
        d->wait_ns += wb->wait_ns[j] - wa->wait_ns[i];
    }
}

static int diff_split(struct trace_diff *d, const struct side *a, const struct side *b)
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

static double kind_ns(const struct trace_diff_kind *k)
{
    return k->path_ns + k->only_ns + k->order_ns;
}

static int kind_cmp(const void *va, const void *vb)
{
    const struct trace_diff_kind *a = va, *b = vb;

    if (fabs(kind_ns(a)) != fabs(kind_ns(b)))
        return fabs(kind_ns(a)) > fabs(kind_ns(b)) ? -1 : 1;
    return strcmp(a->kind, b->kind);
}

int trace_diff_new(struct trace_diff **out, const struct trace_log *a, const struct trace_log *b,
                   const struct trace_diff_opts *opts)
{
    struct trace_diff *d = calloc(1, sizeof *d);
    struct side sa = {0}, sb = {0};
    bool any_rank = one_rank(a) && one_rank(b);
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
        err = side_open(&sa, a, b, any_rank);
    if (!err)
        err = side_open(&sb, b, a, any_rank);
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
    side_close(&sa);
    side_close(&sb);
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

static double pct(double part, double whole)
{
    return whole != 0 ? part / whole * 100 : 0;
}

static const char *divergence_name(enum trace_divergence what)
{
    static const char *const names[] = {"none", "start", "duration", "order", "only_a", "only_b"};

    return names[what];
}

static void print_where(const struct trace_record *r, FILE *f)
{
    fprintf(f, "rank %d, stream %d%s%s, %.120s", r->rank, r->stream, *r->stream_name ? " " : "",
            r->stream_name, r->label);
}

static void print_first(const struct trace_diff *d, FILE *f)
{
    const struct trace_record *a = d->first_pair.a, *b = d->first_pair.b, *r = a ? a : b;

    fputs("first divergence: ", f);
    if (d->first == DIVERGE_NONE) {
        fputs("none beyond the tolerance\n", f);
        return;
    }
    print_where(r, f);
    if (d->first == DIVERGE_ONLY_A || d->first == DIVERGE_ONLY_B)
        fprintf(f, ": only in %s (%.2f us at %.2f us)\n", a ? "A" : "B", span_ns(r) / 1e3,
                r->start_ns / 1e3);
    else if (d->first == DIVERGE_ORDER)
        fprintf(f, ": follows another op (starts at %.2f us in A, %.2f us in B)\n",
                a->start_ns / 1e3, b->start_ns / 1e3);
    else if (d->first == DIVERGE_START)
        fprintf(f, ": starts %.2f us %s in B (A %.2f us, B %.2f us)\n", fabs(d->first_ns) / 1e3,
                d->first_ns > 0 ? "later" : "earlier", a->start_ns / 1e3, b->start_ns / 1e3);
    else
        fprintf(f, ": takes %.2f us %s in B (A %.2f us, B %.2f us)\n", fabs(d->first_ns) / 1e3,
                d->first_ns > 0 ? "more" : "less", span_ns(a) / 1e3, span_ns(b) / 1e3);
}

/* A cause of the difference, also as a part of A's time; causes of nothing are left out. */
static bool print_cause(const struct trace_diff *d, const char *name, double ns, FILE *f)
{
    if (fabs(ns) < 0.5)
        return false;
    fprintf(f, "  %-36.36s %+10.2f  %+8.2f%%", name, ns / 1e3, pct(ns, d->a_ns));
    return true;
}

static void print_split(const struct trace_diff *d, FILE *f)
{
    fprintf(f, "\nwhere the difference comes from (critical path of rank %d)\n", d->b_rank);
    fprintf(f, "  %-36s %10s  %9s  %12s  %14s  %12s\n", "cause", "us", "of A", "same spans",
            "one trace only", "other order");
    for (size_t i = 0; i < d->num_kinds; i++) {
        const struct trace_diff_kind *k = &d->kinds[i];
        char name[64];

        snprintf(name, sizeof name, "work of %.55s", k->kind);
        if (print_cause(d, name, kind_ns(k), f))
            fprintf(f, "  %+12.2f  %+14.2f  %+12.2f\n", k->path_ns / 1e3, k->only_ns / 1e3,
                    k->order_ns / 1e3);
    }
    if (print_cause(d, "waiting for data", d->wait_ns, f))
        fputc('\n', f);
    if (print_cause(d, "gaps between spans (launch, skew)", d->gap_ns, f))
        fputc('\n', f);
    if (print_cause(d, "another rank is the slowest", d->rank_ns, f))
        fputc('\n', f);
    fprintf(f, "  %-36s %+10.2f  %+8.2f%%\n", "total", (d->b_ns - d->a_ns) / 1e3,
            pct(d->b_ns - d->a_ns, d->a_ns));
}

static void print_kinds(const struct trace_diff *d, FILE *f)
{
    fprintf(f, "\n%-24s %6s %10s %10s %9s %8s %10s %10s %6s %6s\n", "op (mean over pairs)", "pairs",
            "A us", "B us", "B-A us", "B/A-1", "A wait us", "B wait us", "only A", "only B");
    for (size_t i = 0; i < d->num_kinds; i++) {
        const struct trace_diff_kind *k = &d->kinds[i];

        if (!k->pairs) {
            fprintf(f, "%-24.24s %6d %10s %10s %9s %8s %10s %10s %6d %6d\n", k->kind, 0, "-", "-",
                    "-", "-", "-", "-", k->only_a, k->only_b);
            continue;
        }
        fprintf(f, "%-24.24s %6d %10.2f %10.2f %+9.2f %+7.1f%% %10.2f %10.2f %6d %6d\n", k->kind,
                k->pairs, k->a_ns / 1e3, k->b_ns / 1e3, (k->b_ns - k->a_ns) / 1e3,
                pct(k->b_ns - k->a_ns, k->a_ns), k->a_wait_ns / 1e3, k->b_wait_ns / 1e3, k->only_a,
                k->only_b);
    }
}

int trace_diff_print(const struct trace_diff *diff, const char *a_name, const char *b_name, FILE *f)
{
    double total_ns = diff->b_ns - diff->a_ns;

    fprintf(f, "A: %s: %zu spans, ends at %.2f us (slowest rank %d)\n", a_name,
            diff->a->num_records, diff->a_ns / 1e3, diff->a_slowest);
    fprintf(f, "B: %s: %zu spans, ends at %.2f us (slowest rank %d)\n", b_name,
            diff->b->num_records, diff->b_ns / 1e3, diff->b_slowest);
    fprintf(f,
            "B - A: %+.2f us (%+.2f%%); on %d common ranks %d spans paired, %d only in A, %d only "
            "in B, %d in "
            "another order\n",
            total_ns / 1e3, pct(total_ns, diff->a_ns), diff->ranks, diff->matched, diff->only_a,
            diff->only_b, diff->reordered);
    print_first(diff, f);
    print_split(diff, f);
    print_kinds(diff, f);
    return ferror(f) ? ERR_IO : 0;
}

static json_t *json_us(double ns)
{
    return json_real(round(ns * 10) / 1e4);
}

/* jansson refuses strings that are not UTF-8; a kernel's name may be anything. */
static json_t *json_name(const char *s)
{
    json_t *j = json_string(s);

    return j ? j : json_string("?");
}

static json_t *json_side(const struct trace_log *log, const char *name, double ns, int slowest)
{
    return json_pack("{s:o, s:i, s:o, s:i}", "name", json_name(name), "spans",
                     (int)log->num_records, "end_us", json_us(ns), "slowest_rank", slowest);
}

static json_t *json_first(const struct trace_diff *d)
{
    const struct trace_record *a = d->first_pair.a, *b = d->first_pair.b, *r = a ? a : b;

    if (d->first == DIVERGE_NONE)
        return json_null();
    return json_pack("{s:s, s:i, s:i, s:o, s:o, s:o, s:o}", "what", divergence_name(d->first),
                     "rank", r->rank, "stream", r->stream, "label", json_name(r->label), "by_us",
                     json_us(d->first_ns), "a_start_us", a ? json_us(a->start_ns) : json_null(),
                     "b_start_us", b ? json_us(b->start_ns) : json_null());
}

static json_t *json_kinds(const struct trace_diff *d)
{
    json_t *list = json_array();

    for (size_t i = 0; i < d->num_kinds; i++) {
        const struct trace_diff_kind *k = &d->kinds[i];

        json_array_append_new(
            list, json_pack("{s:o, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "kind",
                            json_name(k->kind), "pairs", k->pairs, "only_a", k->only_a, "only_b",
                            k->only_b, "a_us", json_us(k->a_ns), "b_us", json_us(k->b_ns),
                            "a_wait_us", json_us(k->a_wait_ns), "b_wait_us", json_us(k->b_wait_ns),
                            "path_us", json_us(k->path_ns), "path_only_us", json_us(k->only_ns),
                            "path_order_us", json_us(k->order_ns)));
    }
    return list;
}

int trace_diff_print_json(const struct trace_diff *diff, const char *a_name, const char *b_name,
                          FILE *f)
{
    json_t *causes = json_pack("{s:o, s:o, s:o}", "wait_us", json_us(diff->wait_ns), "gap_us",
                               json_us(diff->gap_ns), "slowest_rank_us", json_us(diff->rank_ns));
    json_t *root = json_pack("{s:o, s:o, s:o, s:i, s:i, s:i, s:i, s:i, s:i, s:o, s:o, s:o}", "a",
                             json_side(diff->a, a_name, diff->a_ns, diff->a_slowest), "b",
                             json_side(diff->b, b_name, diff->b_ns, diff->b_slowest), "diff_us",
                             json_us(diff->b_ns - diff->a_ns), "rank", diff->b_rank, "ranks",
                             diff->ranks, "paired", diff->matched, "only_a", diff->only_a, "only_b",
                             diff->only_b, "reordered", diff->reordered, "first_divergence",
                             json_first(diff), "causes", causes, "ops", json_kinds(diff));
    int err = 0;

    if (!root) {
        log_error("out of memory for JSON");
        return ERR_NOMEM;
    }
    if (json_dumpf(root, f, JSON_INDENT(2) | JSON_REAL_PRECISION(10)) || fputc('\n', f) == EOF)
        err = ERR_IO;
    json_decref(root);
    return err;
}

static void csv_times(const struct trace_record *r, FILE *f)
{
    if (r)
        fprintf(f, ",%.4f,%.4f,%.4f", r->start_ns / 1e3, r->end_ns / 1e3, r->wait_ns / 1e3);
    else
        fputs(",,,", f);
}

int trace_diff_write_csv(const struct trace_diff *diff, FILE *f)
{
    fputs("rank,stream,label,kind,a_start_us,a_end_us,a_wait_us,b_start_us,b_end_us,b_wait_us,"
          "diff_us\n",
          f);
    for (size_t i = 0; i < diff->num_pairs; i++) {
        const struct trace_pair *p = &diff->pairs[i];
        const struct trace_record *r = p->a ? p->a : p->b;

        fprintf(f, "%d,%d,", r->rank, r->stream);
        trace_csv_text(r->label, f);
        fputc(',', f);
        trace_csv_text(r->kind, f);
        csv_times(p->a, f);
        csv_times(p->b, f);
        if (p->a && p->b)
            fprintf(f, ",%.4f\n", (span_ns(p->b) - span_ns(p->a)) / 1e3);
        else
            fputs(",\n", f);
    }
    return ferror(f) ? ERR_IO : 0;
}

/* The k-th distinct stream of a rank in order of appearance, or -1. */
static int nth_stream(const struct trace_log *log, int rank, int nth)
{
    int seen[64], num = 0;

    for (size_t i = 0; i < log->num_records && num <= nth; i++) {
        const struct trace_record *r = &log->records[i];
        int k = 0;

        if (r->rank != rank)
            continue;
        while (k < num && seen[k] != r->stream)
            k++;
        if (k == num && num < 64)
            seen[num++] = r->stream;
    }
    return nth < num ? seen[nth] : -1;
}

/* as_rank: the picture shows one rank, whatever the traces call it. */
static void write_lane(const struct trace_log *log, int rank, int stream, int as_rank,
                       const char *name, FILE *f)
{
    for (size_t i = 0; i < log->num_records; i++) {
        struct trace_record r = log->records[i];

        if (r.rank != rank || r.stream != stream)
            continue;
        r.rank = as_rank;
        trace_csv_text(name, f);
        fputc(',', f);
        trace_csv_record(&r, f);
    }
}

int trace_diff_write_lanes(const struct trace_diff *diff, const char *a_name, const char *b_name,
                           FILE *f)
{
    fputs("trace,", f);
    trace_csv_header(f);
    for (int k = 0; k < 32; k++) {
        int a = nth_stream(diff->a, diff->a_rank, k), b = nth_stream(diff->b, diff->b_rank, k);

        if (a >= 0)
            write_lane(diff->a, diff->a_rank, a, diff->b_rank, a_name, f);
        if (b >= 0)
            write_lane(diff->b, diff->b_rank, b, diff->b_rank, b_name, f);
    }
    return ferror(f) ? ERR_IO : 0;
}
