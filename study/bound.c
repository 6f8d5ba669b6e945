#include "study/bound.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "model/law/gemm.h"
#include "model/policy/program.h"
#include "study/bound_net.h"

static const char *const by_names[BOUND_BY_COUNT] = {[BOUND_NONE] = "none",
                                                     [BOUND_SMS] = "sms",
                                                     [BOUND_NIC_OUT] = "nic_out",
                                                     [BOUND_NIC_IN] = "nic_in",
                                                     [BOUND_NVLINK_OUT] = "nvlink_out",
                                                     [BOUND_NVLINK_IN] = "nvlink_in",
                                                     [BOUND_CHAIN] = "chain",
                                                     [BOUND_ALL_SMS] = "all_sms",
                                                     [BOUND_PHYSICAL] = "physical"};

const char *bound_by_name(enum bound_by by)
{
    return by_names[by];
}

double bound_gap_pct(const struct bound *b, double layer_us)
{
    return b->us > 0 ? (layer_us / b->us - 1) * 100 : NAN;
}

/* Which schedules a bound is over. */
struct family {
    bool rounds;  /* the library has kernels for a part of the experts */
    bool split;   /* and sends and receives of their own */
    bool halves;  /* two half batches */
    bool signals; /* the combine follows tiles of the down GEMM */
    bool period;  /* steady layers one behind another; else one from a common start */
};

/* One layer in canonical order, whose ops are changed in place to ask what they cost. */
struct calc {
    struct plan *plan;
    const struct cost *cost;
    const struct sim_topology_cfg *topo;
    struct family family;
    int dispatch, combine; /* ops; every op between them is the experts' */
    bool latent;           /* the op behind the combine widens its sum */
};

static void best(struct bound *b, enum bound_by by, int rank, double head, double body, double tail)
{
    double ns = head + body + tail;

    if (ns / 1e3 > b->us)
        *b = (struct bound){ns / 1e3, b->physical_us, by, rank, head / 1e3, body / 1e3, tail / 1e3};
}

static double segment_ns(const struct calc *c, const struct cost_work *w,
                         const struct cost_segment *s)
{
    return s->fixed_ns + fmax(s->sm_ns, s->hbm_bytes / fmin(w->hbm_GBps, c->cost->hbm_GBps));
}

static void work_at(const struct calc *c, int op, int sms, struct cost_work *w)
{
    c->plan->ops[op].sms = sms;
    c->cost->work(c->cost->self, c->plan, 0, op, w);
}

/* An op of all tokens: its shortest time, and its least SM time, over all SM counts. */
struct least {
    double ns, sm_ns;
};

static struct least least_of(const struct calc *c, int op)
{
    struct least l = {INFINITY, INFINITY};
    const struct plan_op was = c->plan->ops[op];

    /* Policies differ in the collectives of tensor-parallel attention. */
    if (plan_op_kind_class(was.kind) == OP_CLASS_COLL)
        return (struct least){0, 0};
    for (int n = 1; n <= c->plan->num_sms; n++) {
        struct cost_work w;
        double ns;

        work_at(c, op, n, &w);
        ns = segment_ns(c, &w, &w.head) + segment_ns(c, &w, &w.tail);
        l.ns = fmin(l.ns, ns);
        l.sm_ns = fmin(l.sm_ns, w.grid * ns);
    }
    c->plan->ops[op] = was;
    return l;
}

/* Of an exchange's kernels: what comes before the first byte leaves, and after the last came. */
struct ends {
    double send_ns, recv_ns, both_ns; /* each alone least, and least together */
};

static double send_ns(const struct cost_work *w)
{
    return w->head.fixed_ns + w->head.hbm_bytes / w->hbm_GBps;
}

/* `whole` ends: the receive works on all that it got, which is equal on all ranks. */
static double recv_ns(const struct calc *c, const struct cost_work *w, bool whole)
{
    return whole ? segment_ns(c, w, &w->tail) : w->tail.fixed_ns;
}

/* Over all SM counts, one expert or all. */
static void ends_try(const struct calc *c, int op, enum plan_op_kind send, enum plan_op_kind recv,
                     bool whole_recv, struct ends *e)
{
    const struct plan_op was = c->plan->ops[op];
    int most = c->plan->experts_per_rank;
    double s = INFINITY, r = INFINITY;

    for (int part = 0; part < (c->family.rounds && send != recv ? 2 : 1); part++)
        for (int n = 1; n <= c->plan->num_sms; n++) {
            struct plan_op *o = &c->plan->ops[op];
            struct cost_work w;

            o->num_experts = part ? 1 : most;
            o->kind = send;
            work_at(c, op, n, &w);
            s = fmin(s, send_ns(&w));
            if (whole_recv)
                o->num_experts = most;
            o->kind = recv;
            work_at(c, op, n, &w);
            r = fmin(r, recv_ns(c, &w, whole_recv));
        }
    c->plan->ops[op] = was;
    e->send_ns = fmin(e->send_ns, s);
    e->recv_ns = fmin(e->recv_ns, r);
    e->both_ns = fmin(e->both_ns, s + r);
}

static struct ends ends_of(const struct calc *c, int op, bool back)
{
    struct ends e = {INFINITY, INFINITY, INFINITY};
    enum plan_op_kind kind = c->plan->ops[op].kind;
    const struct plan_op was = c->plan->ops[op];

    ends_try(c, op, kind, kind, back, &e);
    if (kind == OP_A2A_DISPATCH || kind == OP_A2A_COMBINE) { /* groups of experts, fused */
        c->plan->ops[op].num_experts = 1;
        ends_try(c, op, kind, kind, false, &e);
        c->plan->ops[op] = was;
    }
    if (c->family.split && back)
        ends_try(c, op, OP_COMBINE_SEND, OP_COMBINE_RECV, true, &e);
    else if (c->family.split)
        ends_try(c, op, OP_DISPATCH_SEND, OP_DISPATCH_RECV, false, &e);
    return e;
}

/* What expert work takes at least: of one rank, of all experts or one. */
struct experts {
    double sm_ns, hbm_bytes;
    double fixed_ns; /* of one kernel of each kind, one after another */
    double up_ns;    /* of these, the first's */
    double longest_ns;
    double serial_ns;      /* longest_ns where each kind is one kernel, one after another */
    double before_last_ns; /* likewise, up to the start of the last kind's work */
};

static struct experts experts_of(const struct calc *c, int rank, int first, int num)
{
    struct experts x = {0};

    for (int op = c->dispatch + 1; op < c->combine; op++) {
        struct plan_op *o = &c->plan->ops[op];
        const struct plan_op was = *o;
        struct cost_least l = {0};

        o->first_expert = first;
        o->num_experts = num;
        if (c->cost->least)
            c->cost->least(c->cost->self, c->plan, rank, op, &l);
        *o = was;
        x.sm_ns += l.sm_ns;
        x.hbm_bytes += l.hbm_bytes;
        x.before_last_ns = x.serial_ns + l.fixed_ns;
        x.serial_ns = x.before_last_ns + c->cost->graph_gap_ns +
                      fmax(l.sm_ns / c->plan->num_sms, l.hbm_bytes / c->cost->hbm_GBps);
        if (op == c->dispatch + 1)
            x.up_ns = l.fixed_ns;
        x.fixed_ns += l.fixed_ns + (op > c->dispatch + 1 ? c->cost->graph_gap_ns : 0);
    }
    x.longest_ns = fmax(x.sm_ns / c->plan->num_sms, x.hbm_bytes / c->cost->hbm_GBps);
    x.serial_ns -= c->cost->graph_gap_ns + x.up_ns;
    return x;
}

/* The shortest way from rows received to rows that can be sent back, over all experts that have
 * rows; where there are no rounds, all the work of the rank that has least. */
static double first_done_ns(const struct calc *c)
{
    double least = INFINITY;
    int El = c->plan->experts_per_rank, num = c->family.rounds ? 1 : El;

    for (int rank = 0; rank < c->plan->ranks; rank++)
        for (int e = 0; e < El; e += num) {
            struct experts x;

            if (num == 1 && !plan_expert_rows(c->plan, c->plan->ops[c->dispatch].batch, rank, e))
                continue;
            x = experts_of(c, rank, e, num);
            least = fmin(least, c->family.signals ? x.before_last_ns : x.fixed_ns + x.longest_ns);
        }
    return isfinite(least) ? least : 0;
}

/* A batch's ops of all tokens. */
struct tokens {
    double before_ns, after_ns; /* chains in front of the dispatch and behind the combine */
    double sm_ns;               /* least SM time of these */
    double shared_sm_ns;        /* and of the shared expert, which has no fixed place */
};

static struct tokens tokens_of(const struct calc *c)
{
    struct tokens t = {0};
    double gap = c->cost->graph_gap_ns;

    for (int op = 0; op < c->plan->num_ops; op++) {
        bool shared =
            op > c->combine && plan_op_traits(c->plan->ops[op].kind)->part == PLAN_PART_MLP;
        struct least l;

        if (op >= c->dispatch && op <= c->combine)
            continue;
        l = least_of(c, op);
        if (shared && !(c->latent && op == c->combine + 1)) {
            t.shared_sm_ns += l.sm_ns;
            continue;
        }
        t.sm_ns += l.sm_ns;
        if (op > c->combine)
            t.after_ns += l.ns + gap;
        else
            t.before_ns += l.ns + (op || c->family.period ? gap : 0);
    }
    return t;
}

/* The least that every schedule spends in front of the experts' work, and behind it. */
struct frame {
    struct tokens t;
    struct ends d, r;
    double arrive_ns; /* rows of a first round are there */
    double first_ns;  /* the first rows back are on a link */
    double back_ns;   /* the last kernels' own time behind the experts */
};

static struct frame frame_of(const struct calc *c, const struct bound_net *net)
{
    struct frame f = {
        .t = tokens_of(c), .d = ends_of(c, c->dispatch, false), .r = ends_of(c, c->combine, true)};
    double gap = c->cost->graph_gap_ns;

    f.arrive_ns = f.t.before_ns + gap + f.d.both_ns + (c->family.period ? 0 : net->latency_ns);
    f.first_ns = f.arrive_ns + gap + first_done_ns(c);
    f.back_ns = f.r.recv_ns; /* a send that follows tiles starts beside their GEMM */
    if (!c->family.signals) {
        f.first_ns += gap + f.r.send_ns;
        f.back_ns = gap + f.r.both_ns;
    }
    return f;
}

/* The SMs of one rank. While they wait they may do the shared expert of a layer that is known to
 * begin here. Returns the SM time of its experts. */
static double rank_bound(const struct calc *c, const struct frame *f,
                         const struct bound_net_rank *net, int rank, struct bound *b)
{
    struct experts x = experts_of(c, rank, 0, c->plan->experts_per_rank);
    double gap = c->cost->graph_gap_ns, idle;
    double head = f->arrive_ns + gap + x.up_ns + (c->family.period ? 0 : net->first_in_ns);
    double tail = f->back_ns + net->last_out_ns + f->t.after_ns;

    idle = head - f->t.before_ns + tail;
    if (!c->family.period)
        head += fmax(f->t.shared_sm_ns / c->plan->num_sms - idle, 0);
    best(b, BOUND_SMS, rank, head, c->family.rounds ? x.longest_ns : x.serial_ns, tail);
    return x.sm_ns;
}

static void links_bound(const struct calc *c, const struct frame *f, const struct bound_net *net,
                        struct bound *b)
{
    double tail = f->r.recv_ns + f->t.after_ns;
    double head = f->t.before_ns + c->cost->graph_gap_ns + f->d.send_ns;

    for (int i = 0; i < BOUND_LINKS; i++) {
        const struct bound_link *l = &net->link[i];
        enum bound_by by = (enum bound_by)(BOUND_NIC_OUT + i);

        if (l->combine_ns > 0)
            best(b, by, l->combine_rank, f->first_ns, l->combine_ns, l->latency_ns + tail);
        if (l->both_ns > 0 && !c->family.period)
            best(b, by, l->both_rank, head, l->both_ns, l->latency_ns + fmin(f->d.recv_ns, tail));
    }
}

/* Head, body and tail of one batch's layer. *load_ns gets the SM time of its heaviest rank. */
static int batch_bound(const struct calc *c, int batch, struct bound *b, double *load_ns)
{
    struct bound_net net;
    struct frame f;
    double heaviest = 0;
    int err = bound_net_of(c->plan, c->topo, c->family.rounds, c->family.signals, batch, &net);

    if (err)
        return err;
    f = frame_of(c, &net);
    for (int rank = 0; rank < c->plan->ranks; rank++)
        heaviest = fmax(heaviest, rank_bound(c, &f, &net.rank[rank], rank, b));
    links_bound(c, &f, &net, b);
    *load_ns += f.t.sm_ns + f.t.shared_sm_ns + heaviest;
    bound_net_free(&net);
    return 0;
}

static void batch_use(struct calc *c, int batch)
{
    for (int op = 0; op < c->plan->num_ops; op++) {
        struct plan_op *o = &c->plan->ops[op];
        int was = c->plan->batches[o->batch].num_tokens;

        if (o->rows)
            o->rows = o->rows / was * c->plan->batches[batch].num_tokens;
        o->batch = batch;
    }
}

/* Each half is a chain that a period holds whole; SMs and links serve both. */
static int halves_bound(struct calc *c, const struct plan_routing *routing, struct bound *b)
{
    int T = c->plan->batches[0].num_tokens, half = (T + 1) / 2, err = 0;
    double load_ns = 0;
    struct bound_net net;

    for (int i = 0; i < 2 && !err; i++) {
        int batch = plan_batch_add(c->plan, routing, i ? half : 0, i ? T - half : half);

        if (batch < 0)
            return batch;
        batch_use(c, batch);
        err = batch_bound(c, batch, b, &load_ns);
    }
    if (!err)
        err = bound_net_of(c->plan, c->topo, false, false, 0, &net);
    if (err)
        return err;
    best(b, BOUND_ALL_SMS, -1, 0, load_ns / c->plan->num_sms, 0);
    for (int i = 0; i < BOUND_LINKS; i++)
        best(b, (enum bound_by)(BOUND_NIC_OUT + i), net.link[i].both_rank, 0, net.link[i].both_ns,
             0);
    bound_net_free(&net);
    return 0;
}

/* The roofline of a rank's compute: any order, any overlap. */
static double roofline_ns(const struct plan *plan, const struct cost *cost,
                          const struct hw_profile *p, int rank)
{
    double flops_ns = 0, bytes = 0, v[HW_FIELD_COUNT];

    for (int i = 0; i < HW_FIELD_COUNT; i++)
        v[i] = p->f[i].value;
    for (int op = 0; op < plan->num_ops; op++) {
        const struct plan_op *o = &plan->ops[op];
        struct cost_work w;

        if (plan_op_kind_class(o->kind) != OP_CLASS_COMPUTE)
            continue;
        cost->work(cost->self, plan, rank, op, &w);
        flops_ns += w.flops / (law_most_TFLOPS(v, o->dtype) * 1e3);
        bytes += w.head.hbm_bytes + w.tail.hbm_bytes;
    }
    return fmax(flops_ns, bytes / hw_value(p, HW_GPU_HBM_GBPS));
}

static void physical_bound(const struct plan *plan, const struct cost *cost,
                           const struct hw_profile *p, struct bound *b)
{
    double ns = 0;

    for (int rank = 0; rank < plan->ranks; rank++)
        ns = fmax(ns, roofline_ns(plan, cost, p, rank) / plan->num_layers);
    b->physical_us = ns / 1e3;
    best(b, BOUND_PHYSICAL, -1, 0, ns, 0);
}

static bool left_out(const struct policy *p, const struct knobs *k)
{
    return policy_knob(p, k, "shared_expert", SHARED_AFTER_COMBINE) == SHARED_LEFT_OUT;
}

bool bound_same(const struct knobs *a, const struct policy *p, const struct knobs *b,
                const struct policy *q)
{
    return p == q && left_out(p, a) == left_out(q, b) && !p->own_kernels;
}

/* The ops of one layer in the order of `none`, whatever the policy; its own where it has other
 * kernels: then only the physical bound holds. */
static int canonical_plan(const struct layer_spec *spec, const struct policy *p,
                          const struct knobs *k, bool own, struct plan **out)
{
    struct layer_spec one = *spec;
    struct knobs none;

    one.layers = one.period_layers = 1;
    knobs_default(&policy_none, &none);
    if (left_out(p, k))
        none.shared_expert = SHARED_LEFT_OUT;
    return own ? p->build(&one, k, out) : policy_none.build(&one, &none, out);
}

static void calc_fill(struct calc *c, const struct layer_spec *spec, const struct policy *p)
{
    const struct plan_comm_traits *comm = plan_comm_traits(spec->comm);

    for (int op = 0; op < c->plan->num_ops; op++) {
        enum plan_op_kind kind = c->plan->ops[op].kind;

        if (plan_op_sends(kind) && plan_op_dir(kind) == FLOW_DISPATCH)
            c->dispatch = op;
        else if (plan_op_sends(kind))
            c->combine = op;
        if (plan_op_is_expert_gemm(kind) && comm->kernels == COMM_KERNELS_A2A)
            c->plan->ops[op].gemm = GEMM_DENSE; /* eps may take library GEMMs instead */
    }
    c->latent = spec->model->expert_hidden && spec->model->expert_hidden != spec->model->hidden;
    c->family.signals =
        p->follows_tiles || (p == &policy_program && program_follows_tiles(spec->program));
    c->family.split = spec->comm == COMM_LOW_LATENCY;
    c->family.rounds =
        !p->follows_tiles && (spec->comm == COMM_LOW_LATENCY || comm->kernels == COMM_KERNELS_A2A);
    c->family.halves = p->spans_layers;
}

int bound_of(struct evaluator *e, const struct scenario *s, const struct policy *p,
             const struct knobs *k, struct bound *out)
{
    struct sim_topology_cfg topo;
    struct layer_spec spec;
    struct cost cost;
    struct calc c = {.cost = &cost, .topo = &topo};
    bool own = p->own_kernels;
    int err = evaluate_spec(e, s, p, &spec);

    *out = (struct bound){0};
    if (err || spec.dense || s->jitter > 0)
        return err;
    err = evaluate_machine(e, s, &cost, &topo);
    if (!err)
        err = canonical_plan(&spec, p, k, own, &c.plan);
    if (err)
        return err;
    c.family.period = evaluate_whole_layers(e, s) || p->spans_layers;
    physical_bound(c.plan, &cost, evaluate_profile(e), out);
    calc_fill(&c, &spec, p);
    if (!own && c.family.halves)
        err = halves_bound(&c, spec.routing, out);
    else if (!own) {
        double load_ns = 0;

        err = batch_bound(&c, 0, out, &load_ns);
    }
    plan_free(c.plan);
    return err;
}
