#include "model/law/cost_range.h"

#include <math.h>
#include <stdio.h>

#include "model/law/cost_attn.h"
#include "model/law/cost_laws.h"

/* The name under which `calibrate` stored the range; NULL: no law of its own. */
static const char *law_name(const struct plan_op *op)
{
    if (plan_op_kind_class(op->kind) == OP_CLASS_COMM)
        return cost_comm_law_of(op->comm)->range[plan_op_dir(op->kind)];
    if (plan_op_is_expert_gemm(op->kind) && op->gemm == GEMM_MASKED)
        return "grouped_masked";
    if (plan_op_is_expert_gemm(op->kind) && op->gemm == GEMM_CONTIGUOUS)
        return "grouped_contiguous";
    if (op->k > 0 && plan_op_kind_class(op->kind) == OP_CLASS_COMPUTE)
        return op->dtype == DTYPE_BF16 ? "gemm_bf16" : "gemm_fp8_block";
    return NULL;
}

static bool check(const struct hw_profile *p, const char *law, const char *variable, double value,
                  char *why, size_t size)
{
    const struct hw_range *r = hw_range_find(p, law, variable);

    if (!r || (value >= r->min && value <= r->max))
        return false;
    if (why)
        snprintf(why, size, "%s was fitted for %s %g..%g, here %g", law, variable, r->min, r->max,
                 value);
    return true;
}

static bool check_comm(const struct hw_profile *p, const struct plan *plan,
                       const struct plan_op *op, const char *law, char *why, size_t size)
{
    const struct plan_batch *b = &plan->batches[op->batch];

    return check(p, law, "tokens", b->num_tokens, why, size) ||
           check(p, law, "hidden", op->n, why, size) ||
           check(p, law, "experts", plan->experts, why, size) ||
           check(p, law, "topk", b->routing->topk, why, size) ||
           check(p, law, "ranks", plan->ranks, why, size) ||
           (plan_comm_traits(op->comm)->sms == COMM_SMS_HELD &&
            check(p, law, "num_sms", op->sms, why, size));
}

/* False too where no family holds the op: then it is marked as assumed. */
static bool check_attn(const struct hw_profile *p, const struct plan *plan,
                       const struct plan_op *op, char *why, size_t size)
{
    struct law_attn_families f;
    struct law_attn_load in;
    const struct law_attn_family_entry *e;
    bool stands_in, outside;

    if (law_attn_families_open(p, &f) != 0)
        return false;
    e = cost_attn_family(&f, plan, op, &in, &stands_in);
    outside = e && (check(p, e->table->name, "requests", in.requests, why, size) ||
                    check(p, e->table->name, "q_len", in.q_len, why, size) ||
                    check(p, e->table->name, "kv_len", in.kv_len, why, size) ||
                    check(p, e->table->name, "heads", fmax(in.shape.heads, in.shape.state_v_heads),
                          why, size));
    law_attn_families_close(&f);
    return outside;
}

bool cost_range_outside(const struct hw_profile *profile, const struct plan *plan, int op,
                        char *why, size_t size)
{
    const struct plan_op *o = &plan->ops[op];
    const char *law = law_name(o);

    if (o->kind == OP_ATTN_CORE)
        return check_attn(profile, plan, o, why, size);
    if (!law)
        return false;
    if (plan_op_kind_class(o->kind) == OP_CLASS_COMM)
        return check_comm(profile, plan, o, law, why, size);
    return check(profile, law, "n", o->n, why, size) || check(profile, law, "k", o->k, why, size) ||
           (o->rows > 0 && check(profile, law, "rows", o->rows, why, size));
}
