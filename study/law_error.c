#include "study/law_error.h"

static enum hw_field_id exchange_field(enum plan_comm comm)
{
    return comm == COMM_LOW_LATENCY || comm == COMM_LAYERED_LL ? HW_ERROR_LOW_LATENCY
                                                               : HW_ERROR_EXCHANGE;
}

static enum hw_field_id field_of(const struct plan_op *op)
{
    switch (plan_op_kind_class(op->kind)) {
    case OP_CLASS_COMM:
        return exchange_field(op->comm);
    case OP_CLASS_COLL:
        return HW_ERROR_COLLECTIVE;
    case OP_CLASS_FUSED:
        return HW_ERROR_EXCHANGE;
    case OP_CLASS_COMPUTE:
        break;
    }
    switch (op->kind) {
    case OP_ATTN_CORE:
        return HW_ERROR_ATTENTION;
    case OP_GEMM_UP:
    case OP_GEMM_DOWN:
    case OP_EXPERTS:
        return HW_ERROR_GROUPED;
    case OP_ACT_QUANT:
    case OP_MLP_ACT:
    case OP_PERMUTE:
    case OP_UNPERMUTE:
        return HW_ERROR_ROWWISE;
    default:
        return HW_ERROR_DENSE;
    }
}

static void segment_scale(struct cost_segment *s, double factor)
{
    s->fixed_ns *= factor;
    s->sm_ns *= factor;
    s->hbm_bytes *= factor;
}

void law_error_apply(const struct hw_profile *p, const struct plan_op *op, struct cost_work *w)
{
    double factor = hw_value(p, field_of(op));

    if (factor == 1)
        return;
    segment_scale(&w->head, factor);
    segment_scale(&w->tail, factor);
    w->issue_ns *= factor;
    w->poll_ns *= factor;
    w->push_GBps /= factor;
    w->cap_GBps /= factor;
    w->local_GBps /= factor;
}
