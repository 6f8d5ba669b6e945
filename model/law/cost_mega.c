/* The parts of fused expert kernels, priced: plan shapes to model/law/mega.h. */
#include <math.h>

#include "model/law/cost.h"
#include "model/law/cost_laws.h"
#include "model/law/mega.h"

static bool mega_assumed(const struct law_cost *c)
{
    return !hw_origin_is_own(c->profile->f[HW_MEGA_FIXED_US].origin);
}

/* The kernel itself holds SMs and waits for its parts. */
void cost_op_fused(const struct law_cost *c, const struct plan *plan, int rank, int op,
                   struct cost_work *out)
{
    (void)rank;
    *out = (struct cost_work){.grid = plan->ops[op].sms, .waves = 1, .push_GBps = 1};
    out->hbm_GBps = c->v[HW_GPU_HBM_GBPS];
}

void cost_mega_gemm(const struct law_cost *c, const struct plan *plan, int rank, int op,
                    struct cost_work *out)
{
    const struct plan_op *o = &plan->ops[op];
    struct law_mega_gemm in = {.dtype = o->dtype,
                               .rows = plan->batches[o->batch].rows +
                                       (size_t)rank * plan->experts_per_rank + o->first_expert,
                               .groups = o->num_experts,
                               .n = o->n,
                               .k = o->k,
                               .block_m = o->block_m,
                               .block_n = o->block_n,
                               .sms = o->sms,
                               .num_sms = plan->num_sms};

    law_mega_gemm_work(c->v, &in, o->kind == OP_GEMM_UP, out);
    out->assumed = mega_assumed(c);
}

/* Is there no pull before this one in its kernel? */
static bool is_first_pull(const struct plan *plan, int op)
{
    return op == 0 || plan->ops[op - 1].kind == OP_FUSED;
}

void cost_comm_mega(const struct law_cost *c, const struct plan *plan, int rank, int op,
                    struct cost_work *out)
{
    const struct plan_op *o = &plan->ops[op];
    const struct plan_batch *batch = &plan->batches[o->batch];

    (void)rank;
    if (o->kind == OP_COMBINE_RECV)
        law_mega_reduce_work(c->v, batch->num_tokens, batch->routing->topk, o->n, o->sms, out);
    else if (o->kind == OP_COMBINE_SEND)
        law_mega_store_work(c->v, o->sms, out);
    else
        law_mega_pull_work(c->v, plan->ranks, batch->num_tokens, is_first_pull(plan, op), o->sms,
                           out);
    out->assumed = mega_assumed(c);
}

/* Parts of one kernel were measured together: their laws know each other's traffic. */
double cost_beside_none(const struct law_cost *c, const struct plan *plan, int rank, int op,
                        int other)
{
    (void)c;
    (void)plan;
    (void)rank;
    (void)op;
    (void)other;
    return 1;
}
