/* Order of ops on streams, launch gaps, and who gets a GPU's SMs. */
#include <stdlib.h>

#include "base/err.h"
#include "sim/sim_state.h"

/* When the op at the head of a stream may start, and what it waits for last. */
struct readiness {
    double ready_ns;  /* order and dependencies met */
    double launch_ns; /* and launched */
    enum trace_cause cause;
    int cause_op;
};

static void later(struct readiness *r, double ready_ns, double gap_ns, enum trace_cause cause,
                  int op)
{
    if (ready_ns > r->ready_ns)
        r->ready_ns = ready_ns;
    if (ready_ns + gap_ns > r->launch_ns) {
        r->launch_ns = ready_ns + gap_ns;
        r->cause = cause;
        r->cause_op = op;
    }
}

/* Does an op that others follow by units make any yet? Exchanges do once bytes are on their way. */
static bool units_begun(const struct sim *s, int rank, int op)
{
    int id = s->run_of[cell(s, rank, op)];

    return !plan_op_sends(s->plan->ops[op].kind) ||
           (id != SIM_NO_RUN && run_at(s, id)->phase >= PHASE_ISSUE);
}

/* A part waits for its kernel to run, for what is before it on its lane and for other parts;
 * nothing is launched. Where the kernel was last, its own cause is the part's. */
static bool part_readiness(const struct sim *s, const struct stream_state *st, int op,
                           struct readiness *out)
{
    const struct plan_op *o = &s->plan->ops[op];
    int id = s->run_of[cell(s, st->rank, s->kernel_of[op])];
    const struct run *kernel = id == SIM_NO_RUN ? NULL : run_at(s, id);

    if (!kernel || kernel->phase != PHASE_PARTS)
        return false;
    *out = (struct readiness){kernel->start_ns, kernel->start_ns, kernel->cause, kernel->cause_op};
    if (st->next > s->stream_first[st->stream])
        later(out, st->last_end_ns, 0, CAUSE_STREAM, s->stream_ops[st->next - 1]);
    for (int i = 0; i < o->num_deps; i++) {
        const struct plan_dep *d = &s->plan->deps[o->first_dep + i];
        double end = s->end_ns[cell(s, st->rank, d->op)];

        if (d->kind == DEP_UNIT && end < 0 && !units_begun(s, st->rank, d->op))
            return false;
        if (d->kind == DEP_UNIT && plan_op_sends(s->plan->ops[d->op].kind))
            later(out, s->issue_ns[cell(s, st->rank, d->op)], 0, CAUSE_DEP, d->op);
        if (d->kind != DEP_END)
            continue;
        if (end < 0)
            return false;
        later(out, end, 0, CAUSE_DEP, d->op);
    }
    return true;
}

/* False while a dependency has not ended; its end will ask again. */
static bool readiness_of(const struct sim *s, const struct stream_state *st, int op,
                         struct readiness *out)
{
    const struct plan_op *o = &s->plan->ops[op];
    double start = s->options.start_ns ? s->options.start_ns[st->rank] : 0;
    /* Back-to-back kernels are no closer without a graph than with one. */
    double gap = s->cost->graph_gap_ns;

    *out = (struct readiness){start, start, CAUSE_START, -1};
    if (s->kernel_of[op] >= 0)
        return part_readiness(s, st, op, out);
    if (st->next > s->stream_first[st->stream])
        later(out, st->last_end_ns, gap, CAUSE_STREAM, s->stream_ops[st->next - 1]);
    for (int i = 0; i < o->num_deps; i++) {
        const struct plan_dep *d = &s->plan->deps[o->first_dep + i];
        double end = s->end_ns[cell(s, st->rank, d->op)];

        if (d->kind == DEP_UNIT)
            continue;
        if (end < 0)
            return false;
        if (s->plan->ops[d->op].stream != st->stream)
            later(out, end, gap + s->cost->cross_stream_ns, CAUSE_DEP, d->op);
    }
    if (s->options.eager) {
        double host = start + (op + 1) * s->cost->eager_launch_ns;

        if (host > out->launch_ns) {
            out->launch_ns = host;
            out->cause = CAUSE_LAUNCH;
            out->cause_op = -1;
        }
    }
    return true;
}

static void queue_insert(struct sim *s, struct rank_state *rank, struct run *r)
{
    int priority = s->plan->streams[op_of(s, r)->stream].priority, at = rank->queued;

    if (rank->queued == rank->cap_queue) {
        int cap = rank->cap_queue ? 2 * rank->cap_queue : 8;
        int *queue = realloc(rank->queue, (size_t)cap * sizeof *queue);

        if (!queue) {
            sim_fail(s, ERR_NOMEM);
            return;
        }
        rank->queue = queue;
        rank->cap_queue = cap;
    }
    while (at > 0) {
        const struct run *before = run_at(s, rank->queue[at - 1]);

        if (s->plan->streams[op_of(s, before)->stream].priority <= priority)
            break;
        rank->queue[at] = rank->queue[at - 1];
        at--;
    }
    rank->queue[at] = r->id;
    rank->queued++;
}

/* The launch of the stream's next op: from here on it wants SMs. */
void stream_launch(struct sim *s, struct stream_state *st)
{
    int op = s->stream_ops[st->next];
    struct readiness ready;
    struct run *r = sim_run_new(s);

    if (!r || !readiness_of(s, st, op, &ready))
        return;
    r->rank = st->rank;
    r->op = op;
    r->ready_ns = ready.ready_ns;
    r->cause = ready.cause;
    r->cause_op = ready.cause_op;
    r->slow = s->jitter ? s->jitter[cell(s, st->rank, op)] : 1;
    r->placed = 1;
    s->cost->work(s->cost->self, s->plan, st->rank, op, &r->w);
    r->pending_ctas = r->w.grid;
    s->run_of[cell(s, st->rank, op)] = r->id;
    st->busy = true;
    if (s->kernel_of[op] >= 0) { /* on the CTAs of its kernel, which holds their SMs */
        r->sms = r->w.grid;
        r->pending_ctas = 0;
        run_begin(s, r);
        return;
    }
    queue_insert(s, &s->ranks[st->rank], r);
    work_dirty(s, st->rank);
}

void stream_poke(struct sim *s, int rank, int stream)
{
    struct stream_state *st = &s->streams[rank * s->plan->num_streams + stream];
    struct readiness ready;

    if (st->busy || st->next >= s->stream_first[stream + 1] || st->timer.node.at != SIM_HEAP_OUT ||
        !readiness_of(s, st, s->stream_ops[st->next], &ready))
        return;
    if (ready.launch_ns <= s->now_ns)
        stream_launch(s, st);
    else
        sim_timer_set(s, &st->timer, ready.launch_ns);
}

static bool is_cooperative(const struct sim *s, const struct run *r)
{
    return op_of(s, r)->cooperative || plan_op_kind_class(op_of(s, r)->kind) != OP_CLASS_COMPUTE;
}

static void grant(struct sim *s, struct rank_state *rank, struct run *r, int ctas)
{
    rank->free_sms -= ctas;
    r->pending_ctas -= ctas;
    r->sms += ctas;
    if (r->sms > r->most_sms)
        r->most_sms = r->sms;
    if (r->phase != PHASE_QUEUED) {
        work_more_ctas(s, r, ctas);
        return;
    }
    if (s->now_ns > r->phase_ns) {
        r->cause = CAUSE_SMS;
        r->cause_op = rank->last_release_op;
    }
    run_begin(s, r);
}

/* Serves the queue in order until somebody cannot be served: nobody overtakes. */
void sms_allocate(struct sim *s, int rank_index)
{
    struct rank_state *rank = &s->ranks[rank_index];

    while (rank->queued && !s->err) {
        struct run *r = run_at(s, rank->queue[0]);
        int ctas = rank->free_sms < r->pending_ctas ? rank->free_sms : r->pending_ctas;

        if (ctas < 1 || (is_cooperative(s, r) && ctas < r->pending_ctas))
            return;
        if (ctas == r->pending_ctas) {
            rank->queued--;
            for (int i = 0; i < rank->queued; i++)
                rank->queue[i] = rank->queue[i + 1];
        }
        grant(s, rank, r, ctas);
    }
}

void sms_release(struct sim *s, struct run *r, int ctas)
{
    struct rank_state *rank = &s->ranks[r->rank];

    r->sms -= ctas;
    rank->free_sms += ctas;
    rank->last_release_op = r->op;
    work_dirty(s, r->rank);
}
