/* An engine's fused expert layer, priced: plan shapes to model/law/fused.h. */
#include <math.h>

#include "model/law/cost_laws.h"
#include "model/law/ffn_family.h"

/* Engines compute the shared expert as one more routed one, or on a stream beside them: it costs
 * its weights and rows, and no start of its own. */
static void shared_add(const struct plan_op *op, struct law_fused *in)
{
    double share = op->n > 0 ? (double)op->shared_n / op->n : 0;

    in->rows += share * op->rows;
    in->active += share;
    for (int b = 0; b < LAW_FUSED_BLOCKS; b++) {
        double block = 8 << b;

        in->padded[b] += share * ceil(op->rows / block) * block;
    }
}

void cost_op_experts(const struct law_cost *c, const struct plan *plan, int rank, int op,
                     struct cost_work *out)
{
    const struct plan_op *o = &plan->ops[op];
    const struct plan_batch *batch = &plan->batches[o->batch];
    const int32_t *rows = batch->rows + (size_t)rank * plan->experts_per_rank;
    struct law_fused in = {.dtype = o->dtype,
                           .gated = true,
                           .experts = o->chosen_among,
                           .hidden = o->k,
                           .inter = o->n};

    for (int e = 0; e < plan->experts_per_rank; e++) {
        double row = rows[e];

        law_fused_rows(&row, 1, &in);
    }
    in.tokens = o->rows;
    shared_add(o, &in);
    *out = (struct cost_work){.grid = o->sms, .waves = 1, .push_GBps = 1};
    out->hbm_GBps = c->v[HW_GPU_HBM_GBPS];
    out->head.fixed_ns = 1e3 * law_ffn_us(&c->ffn, c->v, plan->attn.engine, &in, &out->assumed);
    out->flops = 2 * in.rows * 3 * in.hidden * in.inter;
}
