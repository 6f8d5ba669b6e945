/* DeepEP V2 and one-sided exchanges, priced: plan shapes to model/law/v2.h and model/law/nvl.h. */
#include <math.h>

#include "model/law/cost.h"
#include "model/law/cost_laws.h"
#include "model/law/ll.h"
#include "model/law/nvl.h"
#include "model/law/v2.h"

static bool is_own(const struct law_cost *c, int field)
{
    return hw_origin_is_own(c->profile->f[field].origin);
}

void cost_comm_v2(const struct law_cost *c, const struct plan *plan, int rank, int op,
                  struct cost_work *out)
{
    const struct plan_op *o = &plan->ops[op];
    bool back = plan_op_dir(o->kind) == FLOW_COMBINE;
    struct law_v2 in = {.combine = back,
                        .sms = o->sms,
                        .ranks = plan->ranks,
                        .ranks_per_node = plan->ranks_per_node};
    struct cost_copies copies;

    cost_copies_of(plan, rank, op, &copies);
    in.copies = copies.near;
    in.rdma_rows = copies.far;
    in.copy_bytes = copies.bytes;
    in.rows = back ? plan->batches[o->batch].num_tokens : plan_op_rows(plan, op, rank, NULL);
    law_v2_work(c->v, &in, out);
    out->assumed = !is_own(c, HW_V2_PUSH_EFF);
}

/* What the law states as one time is a start and a rate here, so that links may be shared. */
void cost_comm_one_sided(const struct law_cost *c, const struct plan *plan, int rank, int op,
                         struct cost_work *out)
{
    const struct plan_op *o = &plan->ops[op];
    bool back = plan_op_dir(o->kind) == FLOW_COMBINE;
    struct cost_copies copies;
    struct law_nvl in = {.op = back ? LAW_NVL_1S_COMBINE : LAW_NVL_1S_DISPATCH,
                         .sms = o->sms,
                         .ranks = plan->ranks,
                         .tokens = plan->batches[o->batch].num_tokens};
    double transfer_ns;

    cost_copies_of(plan, rank, op, &copies);
    in.peer_rows = copies.near - copies.local;
    in.row_bytes = copies.bytes;
    law_nvl_work(c->v, &in, out);
    transfer_ns = out->issue_ns;
    out->issue_ns = 0;
    if (transfer_ns > 0 && copies.near > 0)
        out->push_GBps = copies.near * copies.bytes / transfer_ns;
    out->assumed = !is_own(c, law_nvl_field(in.op, HW_NVL_1S_DISP_FIXED_US));
}

void cost_comm_dedup(const struct law_cost *c, const struct plan *plan, int rank, int op,
                     struct cost_work *out)
{
    const struct plan_op *o = &plan->ops[op];
    const struct plan_batch *batch = &plan->batches[o->batch];
    struct law_dedup in = {.combine = plan_op_dir(o->kind) == FLOW_COMBINE,
                           .sms = o->sms,
                           .tokens = batch->num_tokens,
                           .topk = batch->routing->topk,
                           .ranks = plan->ranks,
                           .hidden = o->n,
                           .rows = plan_op_rows(plan, op, rank, NULL)};
    struct cost_copies copies;

    cost_copies_of(plan, rank, op, &copies);
    in.copies = copies.near;
    in.copy_bytes = copies.bytes;
    law_own_dedup(c->v, &in, out);
    out->assumed = !is_own(c, in.combine ? HW_DEDUP_COMB_FIXED_US : HW_DEDUP_DISP_FIXED_US);
}
