#include "model/law/cost_attn.h"

#include <math.h>
#include <string.h>

#include "model/attn.h"
#include "model/law/law.h"

/* What of a plan's attention one op's requests ask for. */
static void load_of(const struct plan *plan, const struct plan_op *op, struct law_attn_load *out)
{
    const struct plan_attn *a = &plan->attn;
    double q = fmax(a->q_tokens, 1);

    *out = (struct law_attn_load){.shape = a->shape,
                                  .part = LAW_ATTN_CORE,
                                  .prefill = plan_attn_is_prefill(a),
                                  .requests = op->rows / q,
                                  .q_len = q,
                                  .kv_len = a->context_len + q,
                                  .kv_bytes = a->kv_element_bytes,
                                  .tensor_dtype = DTYPE_BF16,
                                  .weight_dtype = op->dtype,
                                  .sms = op->sms};
    /* Kernels of grouped queries multiply prompts in the cache's type (attn_gqa.csv). */
    if (!attn_is_latent(a->shape.kind) && out->prefill && out->kv_bytes < 2)
        out->tensor_dtype = DTYPE_FP8;
    out->expanded = out->prefill && a->shape.kind == ATTN_MLA;
}

const struct law_attn_family_entry *cost_attn_family(const struct law_attn_families *f,
                                                     const struct plan *plan,
                                                     const struct plan_op *op,
                                                     struct law_attn_load *load, bool *stands_in)
{
    load_of(plan, op, load);
    return law_attn_choose(f, plan->attn.engine, load, stands_in);
}

/* A part of the module that takes `us` besides its fixed time and moves so many bytes meanwhile. */
static void part_set(const double *v, const struct plan_op *op, double fixed_us, double us,
                     double bytes, double flops, struct cost_work *out)
{
    *out = (struct cost_work){.grid = op->sms, .push_GBps = 1, .waves = 1, .flops = flops};
    out->head.fixed_ns = fixed_us * 1e3;
    out->head.sm_ns = us * 1e3;
    /* What came from L2 takes no HBM time. */
    out->head.hbm_bytes = fmin(bytes, out->head.sm_ns * law_hbm_GBps(v));
    out->hbm_GBps = v[HW_GPU_HBM_GBPS];
}

/* The convolution in front of a delta rule runs inside the core op. */
static double conv_us(const double *v, const struct law_attn_families *f, const struct plan *plan,
                      const struct law_attn_load *core)
{
    struct law_attn_load load = *core;
    const struct law_attn_family_entry *e;
    double usual[LAW_ATTN_PARAM_COUNT];
    bool stands_in;

    if (!attn_kind_has_state(load.shape.kind) || load.shape.conv_kernel == 0)
        return 0;
    load.part = LAW_ATTN_CONV;
    e = law_attn_choose(f, plan->attn.engine, &load, &stands_in);
    law_attn_usual(usual);
    return law_attn_us(v, e ? e->table->y : usual, &load);
}

/* What stands before and behind the core, by the weights there. */
static void module_part(const double *v, const struct plan_op *op, const struct law_attn_load *load,
                        const struct law_attn_terms *t, const struct law_attn_time *time,
                        struct cost_work *out)
{
    double in = attn_params_in(&load->shape), share = in / (in + attn_params_out(&load->shape));

    if (op->kind == OP_ATTN_CORE) {
        part_set(v, op, 0, time->core + time->index,
                 t->bytes + t->io_bytes + t->cache_bytes + t->index_bytes, t->flops, out);
        return;
    }
    if (op->kind == OP_ATTN_OUT)
        share = 1 - share;
    part_set(v, op, time->fixed * share, time->linear * share,
             (t->weight_bytes + t->side_bytes) * share, t->linear_flops * share, out);
}

bool cost_attn_work(const double *v, const struct law_attn_families *f, const struct plan *plan,
                    const struct plan_op *op, struct cost_work *out)
{
    struct law_attn_load load;
    struct law_attn_terms t;
    struct law_attn_time time;
    bool stands_in;
    const struct law_attn_family_entry *e = cost_attn_family(f, plan, op, &load, &stands_in);
    const double *param = e ? e->table->y : NULL;

    if (!e || (load.part != LAW_ATTN_MODULE && op->kind != OP_ATTN_CORE))
        return false;
    law_attn_terms(&load, param[LAW_ATTN_TILE], param[LAW_ATTN_PACK] > 1.5, &t);
    law_attn_time(v, param, &load, &t, &time);
    if (load.part == LAW_ATTN_MODULE)
        module_part(v, op, &load, &t, &time, out);
    else
        part_set(v, op, time.fixed, time.core + time.index + conv_us(v, f, plan, &load),
                 t.bytes + t.io_bytes + t.index_bytes, t.flops, out);
    out->assumed = e->assumed || stands_in;
    return true;
}
