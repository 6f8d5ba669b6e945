/* The least that expert ops take, however they are cut into kernels: cost.least. docs/bound.md says
 * why each is one. */
#include <math.h>

#include "model/law/cost.h"
#include "model/law/cost_laws.h"
#include "model/law/four_bit.h"
#include "model/law/gemm.h"

static const int32_t *rows_of(const struct plan *plan, const struct plan_op *o, int rank)
{
    return plan->batches[o->batch].rows + (size_t)rank * (size_t)plan->experts_per_rank +
           o->first_expert;
}

static double sum_of(const int32_t *rows, int n)
{
    double sum = 0;

    for (int i = 0; i < n; i++)
        sum += rows[i];
    return sum;
}

/* What no kernel passes. */
static double nominal_ns(const struct law_cost *c, const struct plan_op *o, double rows)
{
    return 2 * rows * o->n * o->k / (law_most_TFLOPS(c->v, o->dtype) * 1e3) * c->v[HW_GPU_NUM_SMS];
}

/* Library and fused GEMMs, and weights of four bits, have laws of other forms. */
static void gemm_least(const struct law_cost *c, const struct plan *plan, const struct plan_op *o,
                       const int32_t *rows, struct cost_least *out)
{
    struct law_grouped in = {.layout = o->gemm,
                             .dtype = o->dtype,
                             .rows = rows,
                             .groups = o->num_experts,
                             .n = o->n,
                             .k = o->k,
                             .num_sms = plan->num_sms};

    if ((o->gemm == GEMM_MASKED || o->gemm == GEMM_CONTIGUOUS) && !law_is_four_bit(o->dtype))
        law_grouped_least(c->v, &in, out);
    else
        out->sm_ns = nominal_ns(c, o, sum_of(rows, o->num_experts));
}

/* SiLU*mul: each row takes its time on one SM, and draws its bytes as fast as one SM can. */
static void act_least(const struct law_cost *c, const struct plan_op *o, double rows,
                      struct cost_least *out)
{
    struct cost_work w;
    double sm_GBps = c->v[HW_ACT_SM_GBPS] > 0 ? c->v[HW_ACT_SM_GBPS] : c->v[HW_GPU_SM_HBM_GBPS];

    law_act_work(c->v, rows, 1, o->n, o->dtype, 1, &w);
    out->hbm_bytes = w.head.hbm_bytes;
    out->fixed_ns = w.head.fixed_ns;
    out->sm_ns = fmax(rows * c->v[HW_ACT_ROW_NS], w.head.hbm_bytes / sm_GBps);
}

/* Copies that two kernels share are read by both: one kernel reads least. */
static void permute_least(const struct law_cost *c, const struct plan *plan, int rank, int op,
                          double rows, struct cost_least *out)
{
    const struct plan_op *o = &plan->ops[op];
    double copies = plan_op_copies(plan, op, rank);

    out->hbm_bytes = cost_permute_bytes(o->kind, copies, rows, o->dtype, o->n);
    out->fixed_ns = c->v[HW_ACT_FIXED_US] * 1e3;
    out->sm_ns = fmax(rows * c->v[HW_ACT_ROW_NS], out->hbm_bytes / c->v[HW_GPU_SM_HBM_GBPS]);
}

void cost_least_of(void *self, const struct plan *plan, int rank, int op, struct cost_least *out)
{
    const struct law_cost *c = self;
    const struct plan_op *o = &plan->ops[op];
    const int32_t *rows = rows_of(plan, o, rank);

    *out = (struct cost_least){0};
    if (plan_op_is_expert_gemm(o->kind))
        gemm_least(c, plan, o, rows, out);
    else if (o->kind == OP_ACT_QUANT)
        act_least(c, o, sum_of(rows, o->num_experts), out);
    else if (o->kind == OP_PERMUTE || o->kind == OP_UNPERMUTE)
        permute_least(c, plan, rank, op, sum_of(rows, o->num_experts), out);
}
