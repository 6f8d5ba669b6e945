#include "trace/trace.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"

const char *trace_part_name(enum trace_part part)
{
    static const char *const names[PART_COUNT] = {"fixed",  "sm",  "hbm",  "push",
                                                  "nvlink", "nic", "wait", "blocked"};

    return (unsigned)part < PART_COUNT ? names[part] : "unknown";
}

const char *trace_cause_name(enum trace_cause cause)
{
    static const char *const names[] = {"start", "stream", "dep", "sms", "launch", "unknown"};

    return (unsigned)cause <= CAUSE_UNKNOWN ? names[cause] : "unknown";
}

int trace_new(struct trace **out, const char *backend, int ranks)
{
    struct trace *t = calloc(1, sizeof *t);

    if (!t) {
        log_error("out of memory for a trace");
        return ERR_NOMEM;
    }
    snprintf(t->backend, sizeof t->backend, "%.7s", backend);
    t->ranks = ranks;
    *out = t;
    return 0;
}

void trace_free(struct trace *trace)
{
    if (!trace)
        return;
    free(trace->spans);
    free(trace->counters);
    free(trace);
}

static int trace_grow(void **array, size_t *cap, size_t elem_bytes)
{
    size_t n = *cap ? *cap * 2 : 256;
    void *p = realloc(*array, n * elem_bytes);

    if (!p) {
        log_error("out of memory for a trace of %zu entries", n);
        return ERR_NOMEM;
    }
    *array = p;
    *cap = n;
    return 0;
}

static int trace_add_span(void *self, const struct trace_span *span)
{
    struct trace *t = self;
    void *p = t->spans;
    int err = 0;

    if (t->num_spans == t->cap_spans) {
        err = trace_grow(&p, &t->cap_spans, sizeof *t->spans);
        t->spans = p;
    }
    if (err)
        return err;
    t->spans[t->num_spans++] = *span;
    if (span->end_ns > t->end_ns)
        t->end_ns = span->end_ns;
    return 0;
}

/* A back end may report several values for one instant; only the last one lasts. They come in time
 * order, so the one to replace is near the tail. */
static int trace_add_counter(void *self, const struct trace_counter *counter)
{
    struct trace *t = self;
    void *p = t->counters;
    int err = 0;

    for (size_t i = t->num_counters; i-- > 0 && t->counters[i].t_ns == counter->t_ns;) {
        if (t->counters[i].rank != counter->rank || t->counters[i].which != counter->which)
            continue;
        t->counters[i].value = counter->value;
        return 0;
    }
    if (t->num_counters == t->cap_counters) {
        err = trace_grow(&p, &t->cap_counters, sizeof *t->counters);
        t->counters = p;
    }
    if (!err)
        t->counters[t->num_counters++] = *counter;
    return err;
}

struct trace_sink trace_collect(struct trace *trace)
{
    return (struct trace_sink){trace, trace_add_span, trace_add_counter};
}

static int cmp_double(double a, double b)
{
    return (a > b) - (a < b);
}

static int span_cmp(const void *va, const void *vb)
{
    const struct trace_span *a = va, *b = vb;
    int c = (a->rank > b->rank) - (a->rank < b->rank);

    if (!c)
        c = cmp_double(a->start_ns, b->start_ns);
    return c ? c : (a->op > b->op) - (a->op < b->op);
}

static int counter_cmp(const void *va, const void *vb)
{
    const struct trace_counter *a = va, *b = vb;
    int c = (a->rank > b->rank) - (a->rank < b->rank);

    if (!c)
        c = (a->which > b->which) - (a->which < b->which);
    if (!c)
        c = cmp_double(a->t_ns, b->t_ns);
    return c ? c : cmp_double(a->value, b->value);
}

void trace_sort(struct trace *trace)
{
    if (trace->num_spans)
        qsort(trace->spans, trace->num_spans, sizeof *trace->spans, span_cmp);
    if (trace->num_counters)
        qsort(trace->counters, trace->num_counters, sizeof *trace->counters, counter_cmp);
}

/* What trace_measure works on: spans by (rank, op), and the stretch of time it measures. */
struct measure {
    const struct trace *trace;
    const struct plan *plan;
    const struct trace_span **at; /* [ranks * num_ops], NULL where the op has no span */
    double from_ns, to_ns;
    struct trace_metrics *out;
    struct trace_step *steps; /* trace_path; else NULL */
    size_t num_steps;
};

static const struct trace_span *measure_span(const struct measure *m, int rank, int op)
{
    if (rank < 0 || rank >= m->trace->ranks || op < 0 || op >= m->plan->num_ops)
        return NULL;
    return m->at[(size_t)rank * m->plan->num_ops + op];
}

static int measure_index(struct measure *m)
{
    const struct trace *t = m->trace;
    size_t n = (size_t)t->ranks * m->plan->num_ops;

    m->at = calloc(n ? n : 1, sizeof *m->at);
    if (!m->at) {
        log_error("out of memory for the index of a trace");
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < t->num_spans; i++) {
        const struct trace_span *s = &t->spans[i];

        if (s->rank < 0 || s->rank >= t->ranks || s->op < 0 || s->op >= m->plan->num_ops ||
            !isfinite(s->start_ns) || !isfinite(s->end_ns) || s->end_ns < s->start_ns) {
            log_error("trace: span %zu (rank %d, op %d) does not belong to the plan", i, s->rank,
                      s->op);
            return ERR_DATA;
        }
        m->at[(size_t)s->rank * m->plan->num_ops + s->op] = s;
    }
    return 0;
}

/* The span that ends last over all ranks; of equals, the lowest rank and op. */
static const struct trace_span *measure_last(const struct measure *m)
{
    const struct trace_span *last = NULL;

    for (size_t i = 0; i < (size_t)m->trace->ranks * m->plan->num_ops; i++)
        if (m->at[i] && (!last || m->at[i]->end_ns > last->end_ns))
            last = m->at[i];
    return last;
}

/* The span of one rank that ends last among the ops up to a layer. */
static const struct trace_span *measure_layer_last(const struct measure *m, int rank, int layer)
{
    const struct trace_span *last = NULL;

    for (int op = 0; op < m->plan->num_ops; op++) {
        const struct trace_span *s = measure_span(m, rank, op);

        if (s && m->plan->ops[op].layer <= layer && (!last || s->end_ns > last->end_ns))
            last = s;
    }
    return last;
}

/* The end of all ops up to a layer on one rank; 0 if there is none. */
static double measure_layer_end(const struct measure *m, int rank, int layer)
{
    const struct trace_span *last = measure_layer_last(m, rank, layer);

    return last ? last->end_ns : 0;
}

struct interval {
    double from_ns, to_ns;
    bool comm;
};

static int interval_cmp(const void *va, const void *vb)
{
    const struct interval *a = va, *b = vb;

    return cmp_double(a->from_ns, b->from_ns);
}

/* One sweep over intervals sorted by start: comm_end and compute_end are how far each class reaches
 * so far; between two starts nothing new begins, so what is open is known. */
static void measure_unions(struct measure *m, const struct interval *iv, size_t n)
{
    double now = m->from_ns, comm_end = now, compute_end = now;

    for (size_t i = 0; i <= n; i++) {
        double next = i < n ? iv[i].from_ns : m->to_ns;
        double comm_ns = fmax(0, fmin(comm_end, next) - now);
        double compute_ns = fmax(0, fmin(compute_end, next) - now);

        m->out->comm_ns += comm_ns;
        m->out->compute_ns += compute_ns;
        m->out->exposed_comm_ns += fmax(0, comm_ns - compute_ns);
        now = next;
        if (i == n)
            break;
        if (iv[i].comm)
            comm_end = fmax(comm_end, iv[i].to_ns);
        else
            compute_end = fmax(compute_end, iv[i].to_ns);
    }
}

static int measure_classes(struct measure *m)
{
    struct interval *iv = malloc(((size_t)m->plan->num_ops + 1) * sizeof *iv);
    size_t n = 0;

    if (!iv) {
        log_error("out of memory for the intervals of a trace");
        return ERR_NOMEM;
    }
    for (int op = 0; op < m->plan->num_ops; op++) {
        const struct trace_span *s = measure_span(m, m->out->slowest_rank, op);
        struct interval v;

        if (!s || plan_op_kind_class(m->plan->ops[op].kind) == OP_CLASS_FUSED)
            continue; /* its parts are what computes and communicates */
        v.from_ns = fmax(s->start_ns, m->from_ns);
        v.to_ns = fmin(s->end_ns, m->to_ns);
        v.comm = plan_op_kind_class(m->plan->ops[op].kind) != OP_CLASS_COMPUTE;
        if (v.to_ns > v.from_ns)
            iv[n++] = v;
    }
    qsort(iv, n, sizeof *iv, interval_cmp);
    measure_unions(m, iv, n);
    free(iv);
    return 0;
}

static void measure_sm_util(struct measure *m)
{
    double held = 0, all = m->to_ns - m->from_ns;

    for (size_t i = 0; i < m->trace->num_spans; i++) {
        const struct trace_span *s = &m->trace->spans[i];
        double ns = fmin(s->end_ns, m->to_ns) - fmax(s->start_ns, m->from_ns);

        if (ns > 0)
            held += ns * s->sms;
    }
    all *= (double)m->trace->ranks * m->plan->num_sms;
    m->out->sm_util = all > 0 ? fmin(1, held / all) : 0;
}

/* The critical path is walked backwards in time; *t_ns is how far it has come. Every step books the
 * time down to `down_ns` on something, so that the parts add up to the time measured. */
static double path_step(const struct measure *m, double *t_ns, double down_ns)
{
    double to = fmax(fmin(down_ns, *t_ns), m->from_ns), ns = fmax(0, *t_ns - to);

    *t_ns = fmin(*t_ns, to);
    return ns;
}

static double span_part_sum(const struct trace_span *s, bool with_wait)
{
    double sum = 0;

    for (int p = 0; p < PART_COUNT; p++)
        if (with_wait || p != PART_WAIT)
            sum += s->part_ns[p];
    return sum;
}

/* Books the time down to down_ns on a span's parts, in proportion. */
static void path_book(const struct measure *m, const struct trace_span *s, bool with_wait,
                      double *t_ns, double down_ns)
{
    double ns = path_step(m, t_ns, down_ns), sum = span_part_sum(s, with_wait);

    m->out->kind_ns[m->plan->ops[s->op].kind] += ns;
    if (!(sum > 0)) { /* a measured span without parts: busy SMs are all that is known */
        m->out->part_ns[PART_SM] += ns;
        return;
    }
    for (int p = 0; p < PART_COUNT; p++)
        if (with_wait || p != PART_WAIT)
            m->out->part_ns[p] += ns * s->part_ns[p] / sum;
}

/* Time after the sender's kernel ended and before its data was there: bytes in flight. */
static enum trace_part path_flight_part(const struct measure *m, const struct trace_span *s,
                                        int from_rank)
{
    int per_node = m->plan->ranks_per_node;

    if (s->part_ns[PART_NIC] > s->part_ns[PART_NVLINK])
        return PART_NIC;
    if (s->part_ns[PART_NVLINK] > 0 || per_node <= 0)
        return PART_NVLINK;
    return s->rank / per_node == from_rank / per_node ? PART_NVLINK : PART_NIC;
}

/* Of the spans on a rank that ended before this one started, the last; for measured traces, which
 * do not say why a span started. */
static const struct trace_span *path_before(const struct measure *m, const struct trace_span *s)
{
    const struct trace_span *best = NULL;

    for (int op = 0; op < m->plan->num_ops; op++) {
        const struct trace_span *c = measure_span(m, s->rank, op);

        if (c && c != s && c->end_ns <= s->start_ns && (!best || c->end_ns > best->end_ns))
            best = c;
    }
    return best;
}

static const struct trace_span *path_cause(const struct measure *m, const struct trace_span *s)
{
    switch (s->cause) {
    case CAUSE_STREAM:
    case CAUSE_DEP:
    case CAUSE_SMS:
        return measure_span(m, s->rank, s->cause_op);
    case CAUSE_UNKNOWN:
        return path_before(m, s);
    case CAUSE_START:
    case CAUSE_LAUNCH:
        break;
    }
    return NULL;
}

/* Whose data this span waited for, if that is what held it up. A span reached because it SENT data
 * (as_sender) was not held up by what it received later, only by units of its own rank. */
static const struct trace_span *path_data(const struct measure *m, const struct trace_span *s,
                                          bool as_sender)
{
    const struct trace_span *d = NULL;

    if (s->wait_ns > 0 && (!as_sender || s->data_rank == s->rank))
        d = measure_span(m, s->data_rank, s->data_op);
    return d == s || (d && d->start_ns > s->end_ns) ? NULL : d;
}

static void path_wait(const struct measure *m, const struct trace_span *s, enum trace_part part,
                      double *t_ns, double down_ns)
{
    double ns = path_step(m, t_ns, down_ns);

    m->out->part_ns[part] += ns;
    m->out->kind_ns[m->plan->ops[s->op].kind] += ns;
}

/* The path's beginning: a rank's late start is a wait, the rest was the host's launching. */
static void path_begin(const struct measure *m, const struct trace_span *s, double *t_ns)
{
    if (s->cause == CAUSE_START) {
        m->out->launch_ns += path_step(m, t_ns, s->ready_ns);
        path_wait(m, s, PART_WAIT, t_ns, m->from_ns);
    }
    m->out->launch_ns += path_step(m, t_ns, m->from_ns);
}

/* What was booked since `before` is the step of span s. */
static void path_note(struct measure *m, const struct trace_span *s,
                      const struct trace_metrics *before)
{
    struct trace_step *step = &m->steps[m->num_steps++];

    step->rank = s->rank;
    step->op = s->op;
    for (int p = 0; p < PART_COUNT; p++)
        step->part_ns[p] = m->out->part_ns[p] - before->part_ns[p];
    step->launch_ns = m->out->launch_ns - before->launch_ns;
}

/* One step back from s, booked; returns the span that it leads to, or NULL at the beginning. */
static const struct trace_span *path_back(struct measure *m, const struct trace_span *s,
                                          double *t_ns, bool *as_sender)
{
    const struct trace_span *data = path_data(m, s, *as_sender), *cause;

    if (data) {
        double own_ns = span_part_sum(s, false);

        path_book(m, s, false, t_ns, fmax(data->start_ns, fmin(*t_ns, s->end_ns) - own_ns));
        if (data->rank != s->rank)
            path_wait(m, s, path_flight_part(m, s, data->rank), t_ns, data->end_ns);
        else
            m->out->launch_ns += path_step(m, t_ns, data->end_ns);
        /* A fused kernel ends with its last part, which may have waited for data itself. */
        *as_sender = m->plan->ops[s->op].kind != OP_FUSED;
        return data;
    }
    path_book(m, s, !*as_sender, t_ns, s->start_ns);
    cause = path_cause(m, s);
    if (cause)
        m->out->launch_ns += path_step(m, t_ns, cause->end_ns);
    else
        path_begin(m, s, t_ns);
    *as_sender = false;
    return cause;
}

/* Each step goes back in time; the bound only guards against spans of no length in a ring. */
static size_t path_bound(const struct measure *m)
{
    return 2 * m->trace->num_spans + 1;
}

static void measure_path(struct measure *m, const struct trace_span *s)
{
    double t_ns = m->to_ns;
    bool as_sender = false;

    for (size_t steps = 0; s && t_ns > m->from_ns && steps < path_bound(m); steps++) {
        struct trace_metrics before = *m->out;
        const struct trace_span *next = path_back(m, s, &t_ns, &as_sender);

        if (m->steps)
            path_note(m, s, &before);
        s = next;
    }
    m->out->launch_ns += path_step(m, &t_ns, m->from_ns);
}

static void measure_per_layer(struct trace_metrics *x, int layers)
{
    x->layer_ns /= layers;
    x->exposed_comm_ns /= layers;
    x->comm_ns /= layers;
    x->compute_ns /= layers;
    x->launch_ns /= layers;
    for (int p = 0; p < PART_COUNT; p++)
        x->part_ns[p] /= layers;
    for (int k = 0; k < OP_KIND_COUNT; k++)
        x->kind_ns[k] /= layers;
}

/* The span that ends last, and the stretch of time that a layer's time is measured over. */
static const struct trace_span *measure_window(struct measure *m)
{
    const struct trace_span *last = measure_last(m);
    int from, to;

    if (last && plan_period(m->plan, &from, &to)) {
        m->from_ns = measure_layer_end(m, last->rank, from);
        last = measure_layer_last(m, last->rank, to);
    }
    if (last)
        m->to_ns = last->end_ns;
    return last;
}

int trace_measure(const struct trace *trace, const struct plan *plan, struct trace_metrics *out)
{
    struct measure m = {.trace = trace, .plan = plan, .out = out};
    int layers = plan->num_layers > 0 ? plan->num_layers : 1;
    const struct trace_span *last;
    int err = measure_index(&m);

    *out = (struct trace_metrics){0};
    if (err)
        goto out;
    last = measure_window(&m);
    if (!last) {
        log_error("the trace has no spans");
        err = ERR_DATA;
        goto out;
    }
    out->slowest_rank = last->rank;
    if (m.from_ns > 0)
        layers = plan->period_layers;
    out->layer_ns = m.to_ns - m.from_ns;
    err = measure_classes(&m);
    if (err)
        goto out;
    measure_sm_util(&m);
    measure_path(&m, last);
    measure_per_layer(out, layers);
out:
    free(m.at);
    return err;
}

int trace_path(const struct trace *trace, const struct plan *plan, struct trace_step **steps,
               size_t *num)
{
    struct trace_metrics metrics = {0};
    struct measure m = {.trace = trace, .plan = plan, .out = &metrics};
    const struct trace_span *last;
    int err = measure_index(&m);

    if (!err) {
        m.steps = malloc((path_bound(&m) + 1) * sizeof *m.steps);
        err = m.steps ? 0 : ERR_NOMEM;
    }
    if (!err) {
        last = measure_window(&m);
        measure_path(&m, last);
    }
    free(m.at);
    if (err)
        return err;
    *steps = m.steps;
    *num = m.num_steps;
    return 0;
}
