/* Sends, receives and collectives: between ops and the flow engine. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "sim/sim_state.h"

/* Emulated ranks that share a GPU reach each other within its memory. */
static bool same_gpu(const struct sim *s, int src, int dst)
{
    int gpus = s->options.emulation.gpus;

    return src == dst || (gpus > 0 && src % gpus == dst % gpus);
}

static void path_of(const struct sim *s, int src, int dst, struct sim_path *path)
{
    *path = (struct sim_path){.kind = SIM_PATH_LOCAL};
    if (!same_gpu(s, src, dst))
        sim_topology_path(s->topo, (uint32_t)src, (uint32_t)dst, path);
}

void sim_reach_set(struct sim *s)
{
    for (int src = 0; src < s->W; src++)
        for (int dst = 0; dst < s->W; dst++) {
            struct sim_path path;

            path_of(s, src, dst, &path);
            s->reach[(size_t)src * (size_t)s->W + (size_t)dst] = (uint8_t)path.kind;
        }
}

int sim_pace_open(struct sim *s)
{
    double GBps = s->options.emulation.pace_GBps;

    if (s->options.emulation.gpus < 1 || GBps <= 0)
        return 0;
    s->pace = calloc((size_t)s->W, sizeof *s->pace);
    for (int rank = 0; s->pace && rank < s->W; rank++) {
        int link = sim_link_add(s->net, GBps, 0);

        if (link < 0)
            return link;
        s->pace[rank].link = (uint32_t)link;
    }
    return s->pace ? 0 : ERR_NOMEM;
}

static const struct plan_flow *group_of(const struct sim *s, int op)
{
    return &s->plan->flows[s->send_flow[op]];
}

static double flow_bytes(const struct plan_flow *g, int rows, int fwd)
{
    return ((double)rows + fwd) * g->bytes_per_row + (double)g->num_experts * g->bytes_per_flag;
}

/* Of what the run now sends to other ranks: all (dst < 0), or what has left by the time that the
 * last byte to dst has, since destinations take turns. */
static double pace_bytes(const struct sim *s, const struct run *r, int dst)
{
    const struct plan_flow *g = group_of(s, r->op);
    double most = dst < 0 ? INFINITY : flow_bytes(g, s->rows[dst], s->fwd[dst]), sum = 0;

    for (int to = 0; to < s->W; to++)
        if (to != r->rank && (s->rows[to] || s->fwd[to]))
            sum += fmin(flow_bytes(g, s->rows[to], s->fwd[to]), most);
    return sum;
}

/* Puts what the run now sends into its rank's queue, which may have had work since the kernel
 * began: its rows are posted one by one. */
static void pace_begin(struct sim *s, const struct run *r)
{
    struct pace *p = s->pace ? &s->pace[r->rank] : NULL;

    if (!p)
        return;
    p->from_ns = fmax(p->free_ns, r->start_ns);
    p->free_ns = p->from_ns + pace_bytes(s, r, -1) / s->options.emulation.pace_GBps;
}

/* The receiver waits for what was stored and for the queue, whose end is known: a flow without
 * bytes brings the news. */
static int pace_start(struct sim *s, struct run *r, int dst, double stored_bytes)
{
    const struct pace *p = &s->pace[r->rank];
    double left_ns = p->from_ns + pace_bytes(s, r, dst) / s->options.emulation.pace_GBps;
    struct sim_flow_spec spec = {
        .links = &p->link,
        .link_count = 1,
        .events = SIM_FLOW_DELIVERED,
        .cap_GBps = INFINITY,
        .latency_ns = fmax(left_ns - s->now_ns, 0) + s->options.emulation.pace_latency_ns,
        .tag = (uint64_t)cell(s, r->rank, r->op) * (uint64_t)s->W + (uint64_t)dst,
    };

    s->nic_bytes += stored_bytes;
    if (r->out) {
        r->out[dst]++;
        r->out_flows++;
    } else {
        sim_flow_gate_raise(s->net, gate_recv(s, group_of(s, r->op)->recv_op, dst), 1);
    }
    return sim_flow_start(s->net, &spec);
}

/* A path that is in no plane of the net: its flow tells its events itself. */
static int link_flow_start(struct sim *s, const struct run *r, const struct sim_flow_leg *leg)
{
    struct sim_path path;
    uint32_t links[SIM_FLOW_PATH_MAX];
    struct sim_flow_spec spec = {
        .links = links, .cap_GBps = INFINITY, .bytes = leg->bytes, .tag = leg->tag};

    path_of(s, r->rank, (int)(leg->tag % (uint64_t)s->W), &path);
    if (leg->limit)
        links[spec.link_count++] = leg->limit;
    for (uint32_t i = 0; i < path.link_count; i++)
        links[spec.link_count++] = path.links[i];
    spec.latency_ns = path.latency_ns;
    spec.events = SIM_FLOW_DELIVERED | (leg->drain != SIM_FLOW_NO_GATE ? SIM_FLOW_DRAINED : 0u);
    return sim_flow_start(s->net, &spec);
}

/* Where a flow stands in the planes; false: nowhere. Sets place->kind in any case. */
static bool place_of(const struct sim *s, int src, int dst, struct sim_place *place)
{
    bool local = same_gpu(s, src, dst);
    bool some =
        sim_topology_place(s->topo, (uint32_t)src, local ? (uint32_t)src : (uint32_t)dst, place);

    if (!some)
        place->kind = local                       ? SIM_PATH_LOCAL
                      : sim_off_node(s, src, dst) ? SIM_PATH_NIC
                                                  : SIM_PATH_NVLINK;
    return some;
}

/* What a send is about to store and to post, in bytes. */
struct sums {
    double off_node, nvlink, local;
};

/* Gathers a flow of the run; legs_go starts all of them under the run's limits. */
static void leg_add(struct sim *s, struct run *r, int dst, double bytes, struct sums *sums)
{
    struct sim_flow_leg *leg = &s->legs[s->num_legs++];
    struct sim_place place;
    bool off_node;

    if (!place_of(s, r->rank, dst, &place))
        place.plane = SIM_FLOW_NO_PORT;
    off_node = place.kind == SIM_PATH_NIC;
    if (off_node)
        sums->off_node += bytes;
    else if (place.kind == SIM_PATH_LOCAL)
        sums->local += bytes;
    else
        sums->nvlink += bytes;
    leg->plane = place.plane;
    leg->out = place.out;
    leg->in = place.in;
    leg->limit = 0;
    leg->bytes = bytes;
    leg->latency_ns = place.latency_ns;
    leg->drain = off_node ? SIM_FLOW_NO_GATE : gate_held(s, r->rank, r->op);
    leg->arrive = r->out ? SIM_FLOW_NO_GATE : gate_recv(s, group_of(s, r->op)->recv_op, dst);
    leg->who = (uint32_t)cell(s, r->rank, r->op);
    leg->events = r->out ? SIM_FLOW_DELIVERED : 0;
    leg->tag = (uint64_t)cell(s, r->rank, r->op) * (uint64_t)s->W + (uint64_t)dst;
    if (r->out) {
        r->out[dst]++;
        r->out_flows++;
    }
}

/* Starts what has been gathered; what is in no plane goes by itself, all in the order of peers. */
static void legs_go(struct sim *s, struct run *r)
{
    uint32_t from = 0, held = 0, count = s->num_legs;
    int err = 0;

    for (uint32_t i = 0; i < count; i++) {
        bool off_node = s->legs[i].drain == SIM_FLOW_NO_GATE;

        s->legs[i].limit = off_node ? r->post_link : r->push_link;
        held += !off_node;
    }
    if (held)
        sim_flow_gate_raise(s->net, gate_held(s, r->rank, r->op), (int)held);
    for (uint32_t i = 0; i < count && !err; i++) {
        if (s->legs[i].plane != SIM_FLOW_NO_PORT)
            continue;
        if (i > from)
            err = sim_flow_legs_start(s->net, s->legs + from, i - from);
        if (!err)
            err = link_flow_start(s, r, &s->legs[i]);
        from = i + 1;
    }
    if (!err && count > from)
        err = sim_flow_legs_start(s->net, s->legs + from, count - from);
    s->num_legs = 0;
    if (err)
        sim_fail(s, err);
}

/* Gathers flows for the rows at hand, to all peers that have some. */
static struct sums legs_add(struct sim *s, struct run *r)
{
    const struct plan_flow *g = group_of(s, r->op);
    struct sums sums = {0};
    int err = 0;

    r->all_peers = true;
    for (int dst = 0; dst < s->W && !err; dst++) {
        double bytes;

        if (!s->rows[dst] && !s->fwd[dst]) {
            r->all_peers = false;
            continue;
        }
        bytes = flow_bytes(g, s->rows[dst], s->fwd[dst]);
        leg_add(s, r, dst, bytes, &sums);
        if (s->pace && r->rank != dst)
            err = pace_start(s, r, dst, bytes);
    }
    s->nic_bytes += sums.off_node;
    s->nvlink_bytes += sums.nvlink;
    if (err)
        sim_fail(s, err);
    return sums;
}

static uint32_t own_link(struct sim *s, double GBps)
{
    int link = sim_link_add(s->net, GBps, 0);

    if (link < 0) {
        sim_fail(s, link);
        return 0;
    }
    return (uint32_t)link;
}

/* The same bytes without starting anything. */
static struct sums sums_of(const struct sim *s, const struct run *r)
{
    const struct plan_flow *g = group_of(s, r->op);
    struct sums sums = {0};

    for (int dst = 0; dst < s->W; dst++) {
        double bytes = flow_bytes(g, s->rows[dst], s->fwd[dst]);

        if (!s->rows[dst] && !s->fwd[dst])
            continue;
        if (same_gpu(s, r->rank, dst))
            sums.local += bytes;
        else if (sim_off_node(s, r->rank, dst))
            sums.off_node += bytes;
        else
            sums.nvlink += bytes;
    }
    return sums;
}

/* The run's own limits on what it sends, for as long as it sends. */
static void limits_open(struct sim *s, struct run *r, const struct sums *sums)
{
    double off_node = sums->off_node, nvlink = sums->nvlink, local = sums->local, push;

    if (local > 0)
        r->w.cap_GBps = cost_cap_GBps(&r->w, local / (nvlink + local));
    push = fmin(cost_push_GBps(&r->w, 1), PUSH_UNLIMITED_GBPS);
    r->push_link = own_link(s, push);
    r->push_slow = 1;
    work_dirty(s, r->rank); /* what runs beside it slows the push too */
    /* Posting that is faster than all NICs of the GPU holds nothing back. */
    r->posts = off_node > 0 && r->w.issue_ns > 0;
    if (r->posts && off_node / r->w.issue_ns < sim_topology_nics_GBps(s->topo))
        r->post_link = own_link(s, off_node / r->w.issue_ns);
    r->push_floor_ns = (nvlink + local) / push;
    r->nvlink_floor_ns = s->topo_cfg->nvlink_GBps > 0 ? nvlink / s->topo_cfg->nvlink_GBps : 0;
}

static void rows_of(struct sim *s, const struct run *r)
{
    plan_flow_rows(s->plan, s->send_flow[r->op], r->rank, s->rows, s->fwd);
}

void send_begin(struct sim *s, struct run *r)
{
    struct sums sums;

    s->issue_ns[cell(s, r->rank, r->op)] = s->now_ns;
    rows_of(s, r);
    if (s->followed_op[r->op] >= 0) {
        sums = sums_of(s, r);
        limits_open(s, r, &sums);
        r->units = plan_op_num_units(s->plan, r->op, r->rank);
        r->out = calloc((size_t)s->W, sizeof *r->out);
        if (!r->out)
            sim_fail(s, ERR_NOMEM);
        return;
    }
    pace_begin(s, r);
    sums = legs_add(s, r);
    limits_open(s, r, &sums);
    legs_go(s, r);
    r->posting = sums.off_node > 0 && r->w.issue_ns > 0;
    if (r->posting)
        sim_timer_set(s, &r->timer, s->now_ns + r->w.issue_ns);
}

/* Units of the followed GEMM that are done on this rank. */
static int units_ready(const struct sim *s, const struct run *r)
{
    int followed = s->followed_op[r->op], id = s->run_of[cell(s, r->rank, followed)];
    const struct run *gemm;

    if (s->end_ns[cell(s, r->rank, followed)] >= 0)
        return r->units;
    if (id == SIM_NO_RUN)
        return 0;
    gemm = run_at(s, id);
    return (int)((int64_t)r->units * gemm->wave / gemm->w.waves);
}

static void units_send(struct sim *s, struct run *r, int ready)
{
    double rows = 0, all = 0;

    memset(s->rows, 0, (size_t)s->W * sizeof *s->rows);
    memset(s->fwd, 0, (size_t)s->W * sizeof *s->fwd);
    for (int u = r->sent_units; u < ready; u++)
        plan_unit_rows(s->plan, r->op, r->rank, u, s->rows);
    pace_begin(s, r);
    for (int dst = 0; dst < s->W; dst++)
        rows += s->rows[dst];
    legs_add(s, r);
    legs_go(s, r);
    all = plan_op_rows(s->plan, r->op, r->rank, NULL);
    r->sent_units = ready;
    r->posting = r->posts && r->w.issue_ns > 0;
    if (r->posting)
        sim_timer_set(s, &r->timer, s->now_ns + r->w.issue_ns * rows / all);
}

/* Sends the units that are ready. True: it must wait, for its flows or for more units. */
bool units_step(struct sim *s, struct run *r)
{
    int ready = units_ready(s, r);

    if (ready == r->sent_units && ready < r->units)
        return true;
    if (ready > r->sent_units)
        units_send(s, r, ready);
    run_enter(s, r, PHASE_ISSUE);
    return r->posting || sends_held(s, r);
}

void issue_account(struct sim *s, struct run *r)
{
    double ns = s->now_ns - r->phase_ns, push = fmax(r->push_floor_ns, r->w.issue_ns);

    if (push >= r->nvlink_floor_ns) {
        run_spend(s, r, PART_PUSH, fmin(ns, push));
        ns -= fmin(ns, push);
    }
    run_spend(s, r, PART_NVLINK, ns);
}

/* Peers without rows learn so by a flag, one latency after the last row has left. */
static void flags_begin(struct sim *s, struct run *r)
{
    double latency_ns[2] = {-1, -1};

    if (!r->out && r->all_peers)
        return;
    if (!r->out)
        rows_of(s, r);
    for (int dst = 0; dst < s->W; dst++) {
        struct sim_path path;
        int off_node;

        if (r->out ? r->out[dst] > 0 : s->rows[dst] || s->fwd[dst])
            continue;
        if (r->out)
            r->out[dst] = -1;
        path_of(s, r->rank, dst, &path);
        off_node = path.kind == SIM_PATH_NIC;
        if (s->pace && r->rank != dst)
            path.latency_ns = fmax(path.latency_ns, s->options.emulation.pace_latency_ns);
        latency_ns[off_node] = fmax(latency_ns[off_node], path.latency_ns);
    }
    for (int i = 0; i < 2; i++)
        if (latency_ns[i] >= 0)
            sim_timer_set(s, &r->flags[i], s->now_ns + latency_ns[i]);
}

void send_finish(struct sim *s, struct run *r)
{
    sim_link_retire(s->net, r->push_link);
    if (r->post_link)
        sim_link_retire(s->net, r->post_link);
    r->push_link = r->post_link = 0;
    r->sent_all = true;
    flags_begin(s, r);
}

/* The last of what a receive waits for has come. */
static void arrived(struct sim *s, int src, int op, int dst)
{
    int id = s->run_of[cell(s, dst, group_of(s, op)->recv_op)];
    struct run *r;

    if (id == SIM_NO_RUN)
        return;
    r = run_at(s, id);
    if (r->phase != PHASE_WAIT)
        return;
    r->data_rank = src;
    r->data_op = op;
    run_next(s, r);
}

static void deliver(struct sim *s, int src, int op, int dst)
{
    int last = sim_flow_gate_drop(s->net, gate_recv(s, group_of(s, op)->recv_op, dst),
                                  (uint32_t)cell(s, src, op));

    if (last < 0)
        sim_fail(s, last);
    else if (last)
        arrived(s, src, op, dst);
}

void send_flags(struct sim *s, struct run *r, int off_node)
{
    int rank = r->rank, op = r->op;

    /* A delivery can end other runs, which reuses the scratch rows: count first. */
    int *peers = malloc((size_t)s->W * sizeof *peers), n = 0;

    if (!peers) {
        sim_fail(s, ERR_NOMEM);
        return;
    }
    if (!r->out)
        rows_of(s, r);
    for (int dst = 0; dst < s->W; dst++)
        if ((r->out ? r->out[dst] < 0 : !s->rows[dst] && !s->fwd[dst]) &&
            sim_off_node(s, rank, dst) == (off_node != 0))
            peers[n++] = dst;
    for (int i = 0; i < n; i++)
        deliver(s, rank, op, peers[i]);
    free(peers);
    sim_run_free(s, r);
}

/* All that held the SMs of a send has left. */
static void drained(struct sim *s, struct run *r)
{
    if (!r->posting && r->phase == PHASE_ISSUE)
        run_next(s, r);
}

static void gate_event(struct sim *s, const struct sim_flow_event *e)
{
    int cells = s->W * s->num_ops, gate = (int)e->tag, id;

    if (gate < cells) {
        arrived(s, (int)e->who / s->num_ops, (int)e->who % s->num_ops, gate % s->W);
        return;
    }
    id = s->run_of[gate - cells];
    if (id != SIM_NO_RUN)
        drained(s, run_at(s, id));
}

void flow_event(struct sim *s, const struct sim_flow_event *e)
{
    int dst = (int)(e->tag % (uint64_t)s->W);
    size_t c = (size_t)(e->tag / (uint64_t)s->W);
    int rank = (int)(c / (size_t)s->num_ops), op = (int)(c % (size_t)s->num_ops), last;
    struct run *r;

    if (e->kind == SIM_FLOW_GATE) {
        gate_event(s, e);
        return;
    }
    r = s->run_of[c] == SIM_NO_RUN ? NULL : run_at(s, s->run_of[c]);
    if (e->kind == SIM_FLOW_DRAINED) {
        last = sim_flow_gate_drop(s->net, gate_held(s, rank, op), 0);
        if (last < 0)
            sim_fail(s, last);
        else if (last && r)
            drained(s, r);
        return;
    }
    last = true; /* more may follow to this peer until all units are sent */
    if (r && r->out) {
        r->out_flows--;
        last = --r->out[dst] == 0 && r->sent_all;
    }
    if (last)
        deliver(s, rank, op, dst);
    if (r)
        sim_run_free(s, r);
}

bool recv_complete(struct sim *s, struct run *r)
{
    return sim_flow_gate_open(s->net, gate_recv(s, r->op, r->rank));
}

/* Time in a wait: before the last sender began to send it is waiting for a peer, then for bytes. */
void recv_account(struct sim *s, struct run *r)
{
    double ns = s->now_ns - r->phase_ns, flight = 0;

    r->wait_ns += ns;
    if (r->data_rank >= 0) {
        double sent = s->issue_ns[cell(s, r->data_rank, r->data_op)];

        flight = s->now_ns - fmax(r->phase_ns, sent);
        run_spend(s, r, sim_off_node(s, r->data_rank, r->rank) ? PART_NIC : PART_NVLINK, flight);
    }
    run_spend(s, r, PART_WAIT, ns - flight);
}

bool meet_arrive(struct sim *s, struct run *r)
{
    int size = op_of(s, r)->coll_ranks, group = r->rank / size, first = group * size;
    int *met = &s->met[(size_t)r->op * s->W + group];
    int members = first + size <= s->W ? size : s->W - first;

    if (++*met < members)
        return false;
    for (int rank = first; rank < first + members; rank++)
        if (rank != r->rank)
            run_next(s, run_at(s, s->run_of[cell(s, rank, r->op)]));
    return true;
}
