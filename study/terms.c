#include "study/terms.h"

#include "base/err.h"

static enum terms_kind kind_of(enum plan_op_kind kind)
{
    switch (plan_op_traits(kind)->part) {
    case PLAN_PART_DISPATCH:
        return TERMS_DISPATCH;
    case PLAN_PART_EXPERTS:
        return TERMS_EXPERTS;
    case PLAN_PART_COMBINE:
        return TERMS_COMBINE;
    default:
        return TERMS_OTHER;
    }
}

/* Kernel time per kind on the slowest rank, without waiting for peers; a layer of it. */
static void kernels_add(const struct trace *trace, const struct plan *plan, int rank, double sign,
                        double us[TERMS_KINDS])
{
    for (size_t i = 0; i < trace->num_spans; i++) {
        const struct trace_span *s = &trace->spans[i];
        double ns = s->end_ns - s->start_ns - s->part_ns[PART_WAIT];

        if (s->rank == rank)
            us[kind_of(plan->ops[s->op].kind)] += sign * ns / 1e3 / plan->num_layers;
    }
}

/* All ops on one stream, in launch order; with every SM, or with what the policy gives them. */
static void serialise(struct plan *plan, bool all_sms)
{
    for (int i = 0; i < plan->num_ops; i++) {
        plan->ops[i].stream = 0;
        if (all_sms)
            plan->ops[i].sms = plan->num_sms;
    }
}

/* The parts of a fused kernel run beside each other or not at all. */
static bool has_fused(const struct plan *plan)
{
    for (int i = 0; i < plan->num_ops; i++)
        if (plan_op_kernel(plan, i) >= 0)
            return true;
    return false;
}

static int step(struct evaluator *e, const struct scenario *s, const struct policy *p,
                const struct knobs *k, int all_sms, double sign, double *layer_us,
                double us[TERMS_KINDS])
{
    struct plan *plan = NULL;
    struct trace *trace = NULL;
    struct evaluation ev;
    int err = evaluate_plan(e, s, p, k, &plan);

    if (!err && all_sms >= 0 && has_fused(plan))
        err = ERR_INFEASIBLE;
    if (!err && all_sms >= 0)
        serialise(plan, all_sms);
    if (!err)
        err = evaluate_simulate(e, s, plan, -1, &ev, &trace);
    if (!err) {
        *layer_us = ev.layer_us;
        if (us)
            kernels_add(trace, plan, ev.metrics.slowest_rank, sign, us);
    }
    trace_free(trace);
    plan_free(plan);
    return err;
}

int terms_of(struct evaluator *e, const struct scenario *s, const struct policy *p,
             const struct knobs *k, struct terms *out)
{
    struct evaluation ev;
    struct knobs none;
    double none_alone_us, sum = 0;
    int err;

    *out = (struct terms){0};
    knobs_default(&policy_none, &none);
    none.shared_expert = k->shared_expert;
    err = evaluate_point(e, s, p, k, -1, &ev, NULL, NULL);
    if (!err)
        err = step(e, s, &policy_none, &none, -1, -1, &none_alone_us, out->pieces_of_us);
    if (!err)
        err = step(e, s, p, k, 1, 1, &out->pieces_us, out->pieces_of_us);
    if (!err)
        err = step(e, s, p, k, 0, 0, &out->shared_us, NULL);
    if (err)
        return err;
    out->none_us = ev.none_us;
    out->layer_us = ev.layer_us;
    out->blocked_us = ev.metrics.part_ns[PART_BLOCKED] / 1e3;
    for (int i = 0; i < TERMS_KINDS; i++)
        sum += out->pieces_of_us[i];
    out->pieces_launch_us = out->pieces_us - out->none_us - sum;
    return 0;
}
