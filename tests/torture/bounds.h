/* What no schedule can beat, counted from the routing and the shapes alone, and kernels alone in
 * two worlds. */
#ifndef PEOSIM_TESTS_TORTURE_BOUNDS_H
#define PEOSIM_TESTS_TORTURE_BOUNDS_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/law/cost.h"
#include "model/law/gemm.h"
#include "study/evaluate.h"

enum { BOUNDS_WAVES = 64 };

/* Of one layer. */
struct bounds_load {
    double nic_bytes;           /* of all ranks, their rows */
    double flag_bytes;          /* counts and flags: left out where there are no rows */
    double out[1024], in[1024]; /* of each, over NICs */
    double flops;               /* of the rank with the most */
};

/* Bytes that a flow group carries from the ranks of the tokens to those of the experts, whatever
 * its direction. */
static void bounds_add_flow(const struct plan *plan, const struct plan_flow *g,
                            struct bounds_load *load)
{
    const struct plan_batch *b = &plan->batches[g->batch];
    int each = plan->experts_per_rank, node = plan->ranks_per_node;

    for (int src = 0; src < plan->ranks; src++)
        for (int dst = 0; dst < plan->ranks; dst++) {
            const int32_t *prefix = b->prefix + (size_t)src * (size_t)(plan->experts + 1);
            int first = dst * each + g->first_expert;
            double rows = prefix[first + g->num_experts] - prefix[first], bytes;
            bool back = g->dir == FLOW_COMBINE;

            if (src / node == dst / node)
                continue;
            bytes = rows * g->bytes_per_row / plan->num_layers;
            load->nic_bytes += bytes;
            load->flag_bytes += (double)g->num_experts * g->bytes_per_flag / plan->num_layers;
            load->out[back ? dst : src] += bytes;
            load->in[back ? src : dst] += bytes;
        }
}

static double bounds_flops(const struct plan *plan, int rank)
{
    double flops = 0;

    for (int i = 0; i < plan->num_ops; i++) {
        const struct plan_op *o = &plan->ops[i];
        const int32_t *rows =
            plan->batches[o->batch].rows + (size_t)rank * (size_t)plan->experts_per_rank;

        if (!plan_op_is_expert_gemm(o->kind))
            continue;
        for (int j = 0; j < o->num_experts; j++)
            flops += 2.0 * rows[o->first_expert + j] * o->n * o->k;
    }
    return flops / plan->num_layers;
}

static double bounds_nic_GBps(const struct hw_profile *p, const struct scenario *s)
{
    return hw_value(p, HW_NET_NIC_EFF) * s->nic_Gbitps / 8 * hw_value(p, HW_NET_FABRIC_DERATE);
}

/* Layers of several are measured over a steady period, which may be this much off their mean. */
static double bounds_slack(const struct plan *plan)
{
    return plan->num_layers > 1 ? 0.02 : 1e-6;
}

/* One message per row, and nodes are what NVLink joins. */
static bool bounds_plain(const struct plan *plan, const struct scenario *s)
{
    for (int i = 0; i < plan->num_flows; i++)
        if (plan->flows[i].pair || plan->ops[plan->flows[i].send_op].comm != COMM_LOW_LATENCY)
            return false;
    return plan->num_flows > 0 && s->nvlink_domain <= s->gpus_per_node;
}

static bool bounds_say(char *why, size_t size, const char *what, double a, double b)
{
    snprintf(why, size, "%s: %.6g, bound %.6g", what, a, b);
    return false;
}

/* `why` names the bound that is broken. Every rank of a plan that has fewer NICs than GPUs is given
 * a whole NIC here, which is the weaker bound. */
static bool bounds_hold(const struct plan *plan, const struct hw_profile *p,
                        const struct scenario *s, const struct evaluation *ev, char *why,
                        size_t size)
{
    static struct bounds_load load;
    double nic = bounds_nic_GBps(p, s), share, ns = ev->layer_us * 1e3, most = 0, sent, off;
    double nics = fmax(1, floor(hw_value(p, HW_NET_NICS_PER_GPU) * s->gpus_per_node + 0.5));
    double peak =
        hw_value(p, s->gemm_dtype == GEMM_TYPE_BF16 ? HW_GPU_BF16_TFLOPS : HW_GPU_FP8_TFLOPS);

    if (ev->nic_util > 1 + 1e-6 || ev->nvlink_util > 1 + 1e-6)
        return bounds_say(why, size, "links in use", fmax(ev->nic_util, ev->nvlink_util), 1);
    memset(&load, 0, sizeof load);
    for (int i = 0; i < plan->num_flows; i++)
        bounds_add_flow(plan, &plan->flows[i], &load);
    for (int r = 0; r < plan->ranks; r++) {
        most = fmax(most, fmax(load.out[r], load.in[r]));
        load.flops = fmax(load.flops, bounds_flops(plan, r));
    }
    share = ns * (1 + bounds_slack(plan));
    if (bounds_plain(plan, s) && share < most / nic)
        return bounds_say(why, size, "shorter than a NIC's bytes", ns, most / nic);
    if (share < load.flops / (peak * 1e3))
        return bounds_say(why, size, "shorter than a GPU's FLOPs", ns, load.flops / (peak * 1e3));
    sent = ev->nic_util * nic * nics / s->gpus_per_node * ns * plan->ranks;
    /* A send that follows a GEMM brings its flags with every wave. */
    if (!bounds_plain(plan, s))
        return true;
    if (ev->unsteady)
        return true; /* no period's bytes */
    off = plan->num_layers > 1 ? bounds_slack(plan) : 1e-9;
    if (sent < load.nic_bytes * (1 - off) ||
        sent > load.nic_bytes * (1 + off) + load.flag_bytes * BOUNDS_WAVES)
        return bounds_say(why, size, "bytes over NICs", sent, load.nic_bytes);
    return true;
}

static double bounds_alone_ns(const struct cost *c, const struct plan *plan, int rank, int op)
{
    struct cost_work w;
    double hbm;

    c->work(c->self, plan, rank, op, &w);
    hbm = fmin(w.hbm_GBps, c->hbm_GBps);
    return w.head.fixed_ns + fmax(w.head.sm_ns, w.head.hbm_bytes / hbm) + w.tail.fixed_ns +
           fmax(w.tail.sm_ns, w.tail.hbm_bytes / hbm);
}

static struct law_tile bounds_tile(const struct plan *plan, const struct plan_op *o, int rank)
{
    const int32_t *rows =
        plan->batches[o->batch].rows + (size_t)rank * (size_t)plan->experts_per_rank;
    struct law_grouped in = {.layout = o->gemm,
                             .dtype = o->dtype,
                             .groups = o->num_experts,
                             .n = o->n,
                             .k = o->k,
                             .sms = o->sms,
                             .num_sms = plan->num_sms};
    int64_t sum = 0;

    if (!plan_op_is_expert_gemm(o->kind))
        return law_fewest_waves_tile(o->rows, o->n, o->sms);
    for (int i = 0; i < o->num_experts; i++)
        sum += in.layout == GEMM_MASKED ? rows[o->first_expert + i]
                                        : (rows[o->first_expert + i] + 127) / 128 * 128;
    if (in.layout == GEMM_MASKED)
        sum = (sum + o->num_experts - 1) / o->num_experts;
    return law_deepgemm_tile(&in, sum < 1 ? 1 : (int)sum);
}

/* Tiles of the last pass over the SMs. */
static int64_t bounds_last_pass(const struct plan *plan, const struct plan_op *o, int rank,
                                const struct law_tile *t)
{
    const int32_t *rows = plan->batches[o->batch].rows +
                          (size_t)rank * (size_t)plan->experts_per_rank + o->first_expert;
    int64_t tiles = plan_op_is_expert_gemm(o->kind) ? 0 : (o->rows + t->m - 1) / t->m;

    for (int i = 0; plan_op_is_expert_gemm(o->kind) && i < o->num_experts; i++)
        tiles += (rows[i] + t->m - 1) / t->m;
    return tiles * ((o->n + t->n - 1) / t->n) % o->sms;
}

/* What a kernel that is slower with more SMs owes it to; NULL: nothing known. A last pass of few
 * tiles takes what a tile takes: with more SMs the passes before it are fuller, and wait longer for
 * HBM. */
static const char *bounds_tile_cause(const struct plan *a, const struct plan *b, int op, int rank,
                                     const struct hw_profile *p)
{
    const struct plan_op *o = &a->ops[op], *q = &b->ops[op];
    struct law_tile s, t;

    if (o->kind == OP_ATTN_CORE)
        return "attention cut anew"; /* into as many pieces of keys as there are SMs for */
    if (!plan_op_is_expert_gemm(o->kind) && (o->rows < 1 || o->n < 1))
        return NULL; /* no GEMM */
    s = bounds_tile(a, o, rank);
    t = bounds_tile(b, q, rank);
    if (hw_value(p, HW_GROUPED_TILE_RULE) > 0.5 && plan_op_is_expert_gemm(o->kind))
        return "tiles dealt anew";
    if (s.m != t.m || s.n != t.n || s.cluster_m != t.cluster_m || s.cluster_n != t.cluster_n)
        return "another tile";
    return bounds_last_pass(a, o, rank, &s) != bounds_last_pass(b, q, rank, &t)
               ? "another last pass"
               : NULL;
}

static bool bounds_other_waves(const struct plan *a, const struct plan *b)
{
    for (int i = 0; i < a->num_ops && a->num_ops == b->num_ops; i++)
        if (a->ops[i].num_experts != b->ops[i].num_experts)
            return true;
    return a->num_ops != b->num_ops;
}

static bool by_parts(const struct plan_dep *d)
{
    return d->kind == DEP_UNIT || d->kind == DEP_PART;
}

static int waves_of(const struct cost *c, const struct plan *plan, int rank, int op)
{
    struct cost_work w;

    c->work(c->self, plan, rank, op, &w);
    return w.waves;
}

/* What follows a GEMM's units gets them wave by wave: of fewer waves more comes with the last one.
 * A GEMM that follows a dispatch part by part needs more of it for each wave of its own. */
static bool bounds_fewer_waves(const struct plan *a, const struct hw_profile *at,
                               const struct plan *b, const struct hw_profile *q)
{
    struct cost ca, cb;
    bool fewer = false;

    if (bounds_other_waves(a, b))
        return false;
    if (cost_open(at, &ca) || cost_open(q, &cb))
        abort();
    for (int i = 0; i < a->num_ops; i++)
        for (int d = a->ops[i].first_dep; d < a->ops[i].first_dep + a->ops[i].num_deps; d++)
            for (int r = 0; r < a->ranks && by_parts(&a->deps[d]); r++)
                fewer |= waves_of(&cb, b, r, i) < waves_of(&ca, a, r, i) ||
                         waves_of(&cb, b, r, a->deps[d].op) < waves_of(&ca, a, r, a->deps[d].op);
    cost_close(&ca);
    cost_close(&cb);
    return fewer;
}

/* The compute kernel that loses most in world b, its SMs aside, into `slower`; "" if none does. */
static const char *bounds_slower_kernel(const struct plan *a, const struct hw_profile *at,
                                        const struct plan *b, const struct hw_profile *q,
                                        bool more_sms, char *slower, size_t size)
{
    struct cost ca, cb;
    double most = 1e-6;
    const char *cause = NULL;

    if (bounds_other_waves(a, b))
        return "another plan"; /* experts per wave of a fused kernel follow its SMs */
    if (cost_open(at, &ca) || cost_open(q, &cb))
        abort();
    for (int i = 0; i < a->num_ops; i++) {
        if (plan_op_kind_class(a->ops[i].kind) != OP_CLASS_COMPUTE)
            continue;
        for (int r = 0; r < a->ranks; r++) {
            double was = bounds_alone_ns(&ca, a, r, i), is = bounds_alone_ns(&cb, b, r, i);

            if (is <= was * (1 + most))
                continue;
            most = is / was - 1;
            snprintf(slower, size, "%s of rank %d: %.9g ns after %.9g",
                     plan_op_kind_name(a->ops[i].kind), r, is, was);
            cause = more_sms ? bounds_tile_cause(a, b, i, r, at) : NULL;
        }
    }
    cost_close(&ca);
    cost_close(&cb);
    return cause;
}

#endif
