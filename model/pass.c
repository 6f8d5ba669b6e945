#include "model/pass.h"

#include "base/err.h"
#include "model/attn.h"
#include "model/law/cost.h"
#include "model/policy/layer.h"
#include "model/memory.h"

void pass_layers_of(const struct moe_model *m, int draft_tokens, struct pass_layers *out)
{
    *out = (struct pass_layers){
        .dense = m->num_layers - m->moe_layers, .moe = m->moe_layers, .mtp = draft_tokens};
}

void pass_work_of(const struct moe_model *m, double context, bool absorbed,
                  enum plan_dtype weight_dtype, double kv_bytes_per_element, struct pass_work *out)
{
    double kv = kv_bytes_per_element;

    *out = (struct pass_work){
        .linear_flops = 2 * moe_params_active(m),
        .weight_bytes = memory_weight_bytes(moe_params_total(m), weight_dtype),
        .active_bytes = memory_weight_bytes(moe_params_active(m), weight_dtype),
    };
    for (int i = 0; i < m->num_kinds; i++) {
        const struct moe_layer *l = &m->layer[i];
        double used = moe_layer_used(l);

        out->attention_flops += l->count * attn_flops(&l->attn, context, absorbed);
        out->kv_read_bytes += l->count * attn_read_bytes(&l->attn, context, kv);
        out->kv_write_bytes += l->count * attn_cache_bytes(&l->attn, context, kv) / context;
        out->state_bytes += l->count * attn_state_bytes(&l->attn);
        out->dispatch_bytes +=
            l->count * used * cost_message_bytes(FLOW_DISPATCH, DTYPE_FP8, l->expert_hidden);
        out->combine_bytes +=
            l->count * used * cost_message_bytes(FLOW_COMBINE, DTYPE_BF16, l->expert_hidden);
    }
}

int pass_ends_build(const struct layer_spec *spec, int head_rows, struct plan **out)
{
    struct layer_spec ends = *spec;
    struct layer_builder b;
    struct knobs none;
    int main_stream;

    ends.layers = ends.period_layers = 1;
    knobs_default(&policy_none, &none);
    layer_begin(&b, &policy_none, &ends, &none, false);
    main_stream = layer_stream(&b, "main", 0);
    layer_embedding(&b, main_stream, b.sms_all, -1);
    if (spec->model->vocab > 0)
        layer_lm_head(&b, main_stream, b.sms_all, head_rows, -1);
    return layer_finish(&b, out);
}

double pass_tokens_accepted(int draft_tokens, double acceptance)
{
    double sum = 1, chance = 1;

    for (int i = 0; i < draft_tokens; i++) {
        chance *= acceptance;
        sum += chance;
    }
    return sum;
}
