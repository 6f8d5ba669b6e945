#include "validate/shape.h"

#include <stdio.h>

#include "base/err.h"
#include "kernels/gemm_limits.h"
#include "kernels/slots.h"
#include "kernels/topk_ref.h"

#define MOST_HIDDEN 16384
#define MOST_TOKENS 65536

struct rule {
    const char *name;
    int value;
    int step;         /* it must be a multiple of; 0: of anything */
    int most;         /* 0: anything */
    const char *what; /* needs that */
};

static int rule_check(const struct rule *r, char *why, size_t size)
{
    if (r->value > 0 && r->step > 0 && r->value % r->step) {
        snprintf(why, size, "%s %d is no multiple of %d, which %s needs", r->name, r->value,
                 r->step, r->what);
        return ERR_UNSUPPORTED;
    }
    if (r->most > 0 && r->value > r->most) {
        snprintf(why, size, "%s %d is more than the %d that %s takes", r->name, r->value, r->most,
                 r->what);
        return ERR_UNSUPPORTED;
    }
    return 0;
}

static const struct plan_op *dispatch_of(const struct plan *plan)
{
    for (int i = 0; i < plan->num_flows; i++)
        if (plan->flows[i].dir == FLOW_DISPATCH)
            return &plan->ops[plan->flows[i].send_op];
    return NULL;
}

/* The widths of a shared expert. */
static int shared_check(const struct plan *plan, char *why, size_t size)
{
    const struct plan_op *act = plan_op_of_kind(plan, OP_MLP_ACT);
    struct rule rule = {.name = "the shared expert's inter", .step = 128, .what = "its activation"};

    if (!act)
        return 0;
    rule.value = act->n;
    return rule_check(&rule, why, size);
}

static int tokens_of(const struct plan *plan)
{
    int most = 0;

    for (int i = 0; i < plan->num_batches; i++)
        most = plan->batches[i].num_tokens > most ? plan->batches[i].num_tokens : most;
    return most;
}

int gpu_shape_check(const struct plan *plan, char *why, size_t size)
{
    const struct plan_op *dispatch = dispatch_of(plan), *act = plan_op_of_kind(plan, OP_ACT_QUANT);
    const struct plan_op *router = plan_op_of_kind(plan, OP_ROUTER);
    int topk = plan->num_batches > 0 ? plan->batches[0].routing->topk : 0, err = 0;
    bool fp8;

    if (!dispatch || !act) {
        snprintf(why, size, "it has no routed experts");
        return ERR_UNSUPPORTED;
    }
    fp8 = dispatch->dtype == DTYPE_FP8;
    const struct rule rules[] = {
        {"hidden", dispatch->n, fp8 ? 4 * SLOTS_CHANNELS : SLOTS_CHANNELS, MOST_HIDDEN,
         fp8 ? "FP8 dispatch" : "BF16 dispatch"},
        {"inter", act->n, 128, 0, "the grouped GEMM"},
        {"the number of experts", plan->experts, 0, SLOTS_MAX_EXPERTS, "an exchange"},
        {"experts of a rank", plan->experts_per_rank, 0, GROUPED_GEMM_MAX_EXPERTS,
         "a launch of the grouped GEMM"},
        {"top-k", topk, 0, SLOTS_MAX_TOPK, "dispatch"},
        {"the router's experts", router ? router->n : 0, 0, TOPK_MAX_EXPERTS, "the top-k kernel"},
        {"tokens per rank", tokens_of(plan), 0, MOST_TOKENS, "dispatch"}};

    for (size_t i = 0; !err && i < sizeof rules / sizeof *rules; i++)
        err = rule_check(&rules[i], why, size);
    return err ? err : shared_check(plan, why, size);
}
