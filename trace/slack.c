/* How late each span could end: a pass backwards over what waited for what. */
#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "trace/trace.h"

struct slack {
    const struct trace *trace;
    const struct plan *plan;
    const struct trace_span **at; /* [ranks * num_ops] */
    double *ns;                   /* [ranks * num_ops] */
};

static size_t index_of(const struct slack *s, int rank, int op)
{
    return (size_t)rank * (size_t)s->plan->num_ops + (size_t)op;
}

static bool is_span(const struct slack *s, int rank, int op)
{
    return rank >= 0 && rank < s->trace->ranks && op >= 0 && op < s->plan->num_ops &&
           s->at[index_of(s, rank, op)];
}

/* Successors are seen before what they waited for: spans by end, the last first. */
static int span_cmp(const void *va, const void *vb)
{
    const struct trace_span *a = *(const struct trace_span *const *)va;
    const struct trace_span *b = *(const struct trace_span *const *)vb;

    if (a->end_ns != b->end_ns)
        return a->end_ns < b->end_ns ? 1 : -1;
    if (a->start_ns != b->start_ns)
        return a->start_ns < b->start_ns ? 1 : -1;
    return a->rank != b->rank ? a->rank - b->rank : b->op - a->op;
}

static void limit(struct slack *s, int rank, int op, double ns)
{
    if (is_span(s, rank, op))
        s->ns[index_of(s, rank, op)] = fmin(s->ns[index_of(s, rank, op)], fmax(0, ns));
}

/* An op that had to end before this one began, with the time to spare that others left it. */
static void limit_before(struct slack *s, const struct trace_span *span, int op, double own_ns)
{
    double binding_ns = span->ready_ns;

    if (!is_span(s, span->rank, op) || op == span->op)
        return;
    if ((span->cause == CAUSE_STREAM || span->cause == CAUSE_DEP) &&
        is_span(s, span->rank, span->cause_op))
        binding_ns = s->at[index_of(s, span->rank, span->cause_op)]->end_ns;
    limit(s, span->rank, op,
          own_ns + fmax(0, binding_ns - s->at[index_of(s, span->rank, op)]->end_ns));
}

static int stream_before(const struct plan *plan, int op)
{
    for (int i = op - 1; i >= 0; i--)
        if (plan->ops[i].stream == plan->ops[op].stream)
            return i;
    return -1;
}

static void span_back(struct slack *s, const struct trace_span *span)
{
    const struct plan_op *op = &s->plan->ops[span->op];
    double own_ns = s->ns[index_of(s, span->rank, span->op)];

    for (int i = 0; i < op->num_deps; i++) {
        const struct plan_dep *d = &s->plan->deps[op->first_dep + i];

        if (d->kind == DEP_END)
            limit_before(s, span, d->op, own_ns);
    }
    limit_before(s, span, stream_before(s->plan, span->op), own_ns);
    if (span->cause != CAUSE_UNKNOWN && span->cause_op >= 0)
        limit(s, span->rank, span->cause_op, own_ns);
    if (span->wait_ns > 0 && span->data_op >= 0)
        limit(s, span->data_rank, span->data_op, own_ns);
}

int trace_slack(const struct trace *trace, const struct plan *plan, double *slack_ns)
{
    size_t n = (size_t)trace->ranks * (size_t)plan->num_ops;
    struct slack s = {.trace = trace, .plan = plan, .ns = slack_ns};
    const struct trace_span **order = malloc((trace->num_spans + 1) * sizeof *order);
    double end_ns = 0;
    int err = 0;

    s.at = calloc(n + 1, sizeof *s.at);
    if (!order || !s.at) {
        log_error("out of memory for the slack of a trace");
        err = ERR_NOMEM;
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        slack_ns[i] = NAN;
    for (size_t i = 0; i < trace->num_spans; i++) {
        order[i] = &trace->spans[i];
        end_ns = fmax(end_ns, order[i]->end_ns);
    }
    for (size_t i = 0; i < trace->num_spans; i++) {
        s.at[index_of(&s, order[i]->rank, order[i]->op)] = order[i];
        slack_ns[index_of(&s, order[i]->rank, order[i]->op)] = end_ns - order[i]->end_ns;
    }
    qsort(order, trace->num_spans, sizeof *order, span_cmp);
    for (size_t i = 0; i < trace->num_spans; i++)
        span_back(&s, order[i]);
out:
    free(order);
    free(s.at);
    return err;
}
