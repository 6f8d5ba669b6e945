/* The event loop: flows and timers, whichever is next. */
#include "sim/sim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>

#include "base/err.h"
#include "base/log.h"
#include "sim/sim_state.h"

void sim_fail(struct sim *s, int err)
{
    if (!s->err)
        s->err = err;
}

void sim_timer_set(struct sim *s, struct timer *t, double t_ns)
{
    int err = 0;

    if (t->node.at != SIM_HEAP_OUT)
        sim_heap_move(&s->heap, &t->node, t_ns);
    else
        err = sim_heap_push(&s->heap, &t->node, t_ns, s->seq++);
    if (err)
        sim_fail(s, err);
}

static void timer_init(struct timer *t, enum timer_kind kind)
{
    sim_heap_node_init(&t->node);
    t->kind = kind;
}

static int chunk_add(struct sim *s)
{
    struct run **chunks = realloc(s->chunks, (size_t)(s->num_chunks + 1) * sizeof(struct run *));

    if (!chunks)
        return ERR_NOMEM;
    s->chunks = chunks;
    chunks[s->num_chunks] = calloc(RUN_CHUNK, sizeof(struct run));
    if (!chunks[s->num_chunks])
        return ERR_NOMEM;
    for (int i = RUN_CHUNK - 1; i >= 0; i--) {
        chunks[s->num_chunks][i].id = s->num_chunks * RUN_CHUNK + i;
        chunks[s->num_chunks][i].next_free = s->free_run;
        s->free_run = s->num_chunks * RUN_CHUNK + i;
    }
    s->num_chunks++;
    return 0;
}

struct run *sim_run_new(struct sim *s)
{
    struct run *r;
    int id;

    if (s->free_run == SIM_NO_RUN && chunk_add(s)) {
        sim_fail(s, ERR_NOMEM);
        return NULL;
    }
    id = s->free_run;
    r = run_at(s, id);
    s->free_run = r->next_free;
    memset(r, 0, sizeof *r);
    r->id = id;
    r->phase = PHASE_QUEUED;
    r->phase_ns = s->now_ns;
    r->data_rank = r->data_op = -1;
    timer_init(&r->timer, TIMER_RUN);
    timer_init(&r->flags[0], TIMER_FLAGS);
    timer_init(&r->flags[1], TIMER_FLAGS);
    r->flags[1].off_node = true;
    return r;
}

void sim_run_free(struct sim *s, struct run *r)
{
    if (r->phase != PHASE_ENDED || r->flags[0].node.at != SIM_HEAP_OUT ||
        r->flags[1].node.at != SIM_HEAP_OUT || r->out_flows)
        return;
    s->run_of[cell(s, r->rank, r->op)] = SIM_NO_RUN;
    free(r->out);
    r->out = NULL;
    r->phase = PHASE_QUEUED; /* a second call must not free it again */
    r->next_free = s->free_run;
    s->free_run = r->id;
}

/* Ops of each stream, in launch order, and who follows whose units. */
static void order_ops(struct sim *s)
{
    const struct plan *p = s->plan;
    int at = 0;

    for (int i = 0; i < p->num_streams; i++) {
        s->stream_first[i] = at;
        for (int op = 0; op < p->num_ops; op++)
            if (p->ops[op].stream == i)
                s->stream_ops[at++] = op;
    }
    s->stream_first[p->num_streams] = at;
    for (int op = 0; op < p->num_ops; op++) {
        s->follower_op[op] = s->followed_op[op] = s->send_flow[op] = -1;
        s->kernel_of[op] = plan_op_kernel(p, op);
        if (s->kernel_of[op] >= 0)
            s->num_parts[s->kernel_of[op]]++;
    }
    for (int op = 0; op < p->num_ops; op++)
        for (int i = 0; i < p->ops[op].num_deps; i++) {
            const struct plan_dep *d = &p->deps[p->ops[op].first_dep + i];

            if (d->kind == DEP_UNIT) {
                s->follower_op[d->op] = op;
                s->followed_op[op] = d->op;
            }
        }
    for (int f = 0; f < p->num_flows; f++) {
        s->send_flow[p->flows[f].send_op] = f;
        for (int rank = 0; rank < s->W; rank++)
            sim_flow_gate_raise(s->net, gate_recv(s, p->flows[f].recv_op, rank), s->W);
    }
}

static void states_init(struct sim *s)
{
    size_t cells = (size_t)s->W * s->num_ops;

    for (int rank = 0; rank < s->W; rank++) {
        struct rank_state *r = &s->ranks[rank];

        r->rank = rank;
        r->free_sms = s->plan->num_sms;
        r->last_release_op = -1;
        timer_init(&r->work, TIMER_WORK);
        for (int i = 0; i < s->plan->num_streams; i++) {
            struct stream_state *st = &s->streams[rank * s->plan->num_streams + i];

            st->rank = rank;
            st->stream = i;
            st->next = s->stream_first[i];
            timer_init(&st->timer, TIMER_STREAM);
        }
    }
    for (size_t i = 0; i < cells; i++) {
        s->end_ns[i] = -1;
        s->run_of[i] = SIM_NO_RUN;
    }
}

static int jitter_init(struct sim *s)
{
    size_t cells = (size_t)s->W * s->num_ops;
    gsl_rng *rng;

    if (s->options.jitter_sigma <= 0)
        return 0;
    s->jitter = malloc(cells * sizeof *s->jitter);
    rng = gsl_rng_alloc(gsl_rng_mt19937);
    if (!s->jitter || !rng) {
        gsl_rng_free(rng);
        return ERR_NOMEM;
    }
    gsl_rng_set(rng, s->options.seed);
    for (size_t i = 0; i < cells; i++)
        s->jitter[i] = exp(gsl_ran_gaussian(rng, s->options.jitter_sigma));
    gsl_rng_free(rng);
    return 0;
}

static int sim_alloc(struct sim *s)
{
    size_t W = (size_t)s->W, ops = (size_t)s->num_ops, cells = W * ops;
    size_t streams = (size_t)s->plan->num_streams;

    s->ranks = calloc(W, sizeof *s->ranks);
    s->streams = calloc(W * streams, sizeof *s->streams);
    s->stream_ops = calloc(ops, sizeof *s->stream_ops);
    s->stream_first = calloc(streams + 1, sizeof *s->stream_first);
    s->follower_op = calloc(ops, sizeof *s->follower_op);
    s->followed_op = calloc(ops, sizeof *s->followed_op);
    s->send_flow = calloc(ops, sizeof *s->send_flow);
    s->kernel_of = calloc(ops, sizeof *s->kernel_of);
    s->num_parts = calloc(ops, sizeof *s->num_parts);
    s->parts_done = calloc(cells, sizeof *s->parts_done);
    s->legs = calloc(W, sizeof *s->legs);
    s->reach = calloc(W * W, sizeof *s->reach);
    s->met = calloc(cells, sizeof *s->met);
    s->end_ns = malloc(cells * sizeof *s->end_ns);
    s->issue_ns = calloc(cells, sizeof *s->issue_ns);
    s->run_of = malloc(cells * sizeof *s->run_of);
    s->rows = calloc(W, sizeof *s->rows);
    s->fwd = calloc(W, sizeof *s->fwd);
    s->dirty_ranks = calloc(W, sizeof *s->dirty_ranks);
    if (!s->ranks || !s->streams || !s->stream_ops || !s->stream_first || !s->follower_op ||
        !s->followed_op || !s->send_flow || !s->kernel_of || !s->num_parts || !s->parts_done ||
        !s->legs || !s->reach || !s->met || !s->end_ns || !s->issue_ns || !s->run_of || !s->rows ||
        !s->fwd || !s->dirty_ranks)
        return ERR_NOMEM;
    return 0;
}

static int sim_open(struct sim *s)
{
    struct sim_flow_cfg cfg = {.fidelity = s->options.fidelity, .tolerance = s->options.tolerance};
    int err;

    sim_heap_open(&s->heap);
    s->free_run = SIM_NO_RUN;
    err = sim_alloc(s);
    if (!err)
        err = jitter_init(s);
    if (!err)
        err = sim_flow_net_open(&cfg, &s->net);
    if (!err)
        err = sim_flow_gates_make(s->net, 2 * (uint32_t)s->W * (uint32_t)s->num_ops);
    if (!err)
        err = sim_topology_open(s->topo_cfg, s->net, &s->topo);
    if (!err)
        err = sim_pace_open(s);
    if (err)
        return err;
    sim_reach_set(s);
    order_ops(s);
    states_init(s);
    for (int i = 0; i < 4; i++)
        s->last_counter[i] = NAN;
    for (int rank = 0; rank < s->W; rank++)
        work_dirty(s, rank);
    return 0;
}

static void sim_close(struct sim *s)
{
    for (int i = 0; s->ranks && i < s->W; i++) {
        free(s->ranks[i].queue);
        free(s->ranks[i].running);
    }
    for (int i = 0; i < s->num_chunks; i++) {
        for (int j = 0; j < RUN_CHUNK; j++)
            free(s->chunks[i][j].out);
        free(s->chunks[i]);
    }
    free(s->chunks);
    free(s->ranks);
    free(s->streams);
    free(s->stream_ops);
    free(s->stream_first);
    free(s->follower_op);
    free(s->followed_op);
    free(s->send_flow);
    free(s->kernel_of);
    free(s->num_parts);
    free(s->parts_done);
    free(s->legs);
    free(s->reach);
    free(s->met);
    free(s->end_ns);
    free(s->issue_ns);
    free(s->run_of);
    free(s->jitter);
    free(s->rows);
    free(s->fwd);
    free(s->dirty_ranks);
    free(s->pace);
    sim_topology_close(s->topo);
    sim_heap_close(&s->heap);
    sim_flow_net_close(s->net);
}

static void timer_expire(struct sim *s, struct timer *t)
{
    switch (t->kind) {
    case TIMER_STREAM:
        stream_launch(s, sim_heap_entry(&t->node, struct stream_state, timer.node));
        break;
    case TIMER_WORK:
        work_expire(s, sim_heap_entry(&t->node, struct rank_state, work.node));
        break;
    case TIMER_RUN: {
        struct run *r = sim_heap_entry(&t->node, struct run, timer.node);

        r->posting = false;
        if (r->phase != PHASE_ISSUE || !sends_held(s, r))
            run_next(s, r);
        break;
    }
    case TIMER_FLAGS: {
        struct run *r = t->off_node ? sim_heap_entry(&t->node, struct run, flags[1].node)
                                    : sim_heap_entry(&t->node, struct run, flags[0].node);

        send_flags(s, r, t->off_node);
        break;
    }
    }
}

static int stalled(const struct sim *s)
{
    for (int rank = 0; rank < s->W; rank++)
        for (int op = 0; op < s->num_ops; op++) {
            int id = s->run_of[cell(s, rank, op)];
            char label[64];

            if (s->end_ns[cell(s, rank, op)] >= 0)
                continue;
            plan_op_label(s->plan, op, label, sizeof label);
            log_error("plan %s: rank %d hangs at %s (%s): the ops cannot all finish",
                      s->plan->policy, rank, label,
                      id == SIM_NO_RUN                       ? "not launched"
                      : run_at(s, id)->phase == PHASE_QUEUED ? "waits for SMs"
                                                             : "waits for data");
            return ERR_STALLED;
        }
    return ERR_INTERNAL;
}

static void counter_emit(struct sim *s, int which, double value)
{
    struct trace_counter c = {s->options.counter_rank, which, s->now_ns, value};
    int err;

    if (value == s->last_counter[which])
        return;
    s->last_counter[which] = value;
    err = s->sink->counter(s->sink->self, &c);
    if (err)
        sim_fail(s, err);
}

static double rate_of(struct sim *s, uint32_t link)
{
    return link ? sim_link_rate_GBps(s->net, link) : 0;
}

static bool counts(const struct sim *s)
{
    return s->options.counter_rank >= 0 && s->options.counter_rank < s->W && s->sink->counter;
}

static void counters(struct sim *s)
{
    int rank = s->options.counter_rank;
    uint32_t nics = s->topo_cfg->nics_per_node / s->topo_cfg->per_node;
    double nic = 0;

    if (!counts(s))
        return;
    for (uint32_t n = 0; n < (nics ? nics : 1); n++)
        nic += rate_of(s, sim_topology_nic(s->topo, (uint32_t)rank, n, true));
    counter_emit(s, 0, s->plan->num_sms - s->ranks[rank].free_sms);
    counter_emit(s, 1, rate_of(s, sim_topology_nvlink(s->topo, (uint32_t)rank, true)));
    counter_emit(s, 2, nic);
}

/* Where rates are counted, every change of them is looked at, whether it is an event or not. Flows
 * first: at one time, what was sent arrives before anything new begins. */
static int sim_loop(struct sim *s)
{
    int total = s->W * s->num_ops;

    work_settle(s);
    while (!s->err && s->done < total) {
        struct sim_heap_node *node = sim_heap_peek(&s->heap);
        struct sim_flow_event e;
        double next_ns = node ? node->t_ns : INFINITY;
        bool looks = counts(s) && sim_flow_next_ns(s->net) < next_ns;
        int got = sim_flow_pop(s->net, looks ? sim_flow_next_ns(s->net) : next_ns, &e);

        if (got < 0)
            return got;
        s->events++;
        if (got) {
            s->now_ns = e.t_ns;
            flow_event(s, &e);
        } else if (looks) {
            s->now_ns = sim_flow_now_ns(s->net);
        } else if (node) {
            s->now_ns = node->t_ns;
            sim_heap_pop(&s->heap);
            timer_expire(s, (struct timer *)(void *)node);
        } else {
            return stalled(s);
        }
        work_settle(s);
        counters(s);
    }
    return s->err;
}

int sim_run(const struct plan *plan, const struct cost *cost, const struct sim_topology_cfg *topo,
            const struct sim_options *options, struct trace_sink *sink, struct sim_stats *stats)
{
    struct sim s = {.plan = plan,
                    .cost = cost,
                    .topo_cfg = topo,
                    .options = *options,
                    .sink = sink,
                    .W = plan->ranks,
                    .num_ops = plan->num_ops};
    int err = cost->check ? cost->check(cost->self, plan) : 0;

    if (err)
        return err;
    err = sim_open(&s);

    if (!err)
        err = sim_loop(&s);
    if (!err && stats) {
        struct sim_flow_stats flows;

        sim_flow_stats_get(s.net, &flows);
        stats->events = s.events;
        stats->flows = flows.flows_started;
        stats->end_ns = 0;
        for (size_t i = 0; i < (size_t)s.W * s.num_ops; i++)
            stats->end_ns = fmax(stats->end_ns, s.end_ns[i]);
        stats->memory_bytes = flows.memory_bytes;
        stats->nvlink_bytes = s.nvlink_bytes;
        stats->nic_bytes = s.nic_bytes;
    }
    sim_close(&s);
    return err;
}
