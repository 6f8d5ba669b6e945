/* `tbo`, two-batch overlap: two half batches A and B take turns, so that the bytes of one fly while
 * the other computes. Decode with low-latency kernels keeps one stream; prefill with normal kernels
 * puts communication on a stream of its own. */
#include "model/policy/layer.h"

static const struct opt tbo_knobs[] = {
    KNOB_INT(num_sms, 4, 1024, "24", "prefill: SMs that the normal kernels hold"),
    KNOB_ENUM(tbo_order, "deepseek|sglang", "deepseek", "prefill: order of the compute stages"),
    KNOB_END,
};

static const struct knob_search tbo_search[] = {
    {.key = "num_sms", .from = 4, .step = 4, .prefill = true},
    KNOB_SEARCH_END,
};

#define TBO_STAGES 6

static int tbo_check(const struct layer_spec *spec, const struct knobs *k, char *why, size_t size)
{
    if (spec->tokens < 2)
        return layer_infeasible(why, size, "a batch of %d cannot be halved", spec->tokens);
    if (plan_comm_traits(spec->comm)->beside == COMM_BESIDE_NOTHING)
        return layer_infeasible(why, size,
                                "tbo needs kernels that receive apart or hold SMs of their own: "
                                "comm low_latency, normal or deepep_v2, not %s",
                                plan_comm_traits(spec->comm)->text);
    if (k->num_sms >= spec->num_sms)
        return layer_infeasible(why, size, "num_sms %d leaves no SM of %d to the GEMMs", k->num_sms,
                                spec->num_sms);
    return layer_check(spec, k, why, size);
}

struct tbo {
    struct layer_builder b;
    int main_stream, comm, compute_sms, comm_sms;
    int sent[2];            /* decode: the dispatch send, then the combine send in flight */
    int attn[2], shared[2]; /* prefill: last op of each stage of each half */
    int dispatched[2], mlp[2], combined[2];
};

static void enter(struct tbo *t, int half, int layer)
{
    t->b.batch = half;
    t->b.buffer = half;
    t->b.layer = layer;
}

/* Stages of a decode half as SGLang cuts them; stage 5 (output, residual) launches no kernel of its
 * own: the residual add is fused into the next norm. */
static void decode_stage(struct tbo *t, int half, int layer, int stage)
{
    const struct layer_round whole = {0, 1};
    enum plan_gemm gemm = layer_default_gemm(t->b.spec);
    int N = t->b.sms_all, m = t->main_stream;
    struct layer_ffn f = {N, N, N, gemm, gemm, 0, 0};

    enter(t, half, layer);
    switch (stage) {
    case 0:
        layer_attn_proj(&t->b, m, N, -1);
        break;
    case 1:
        layer_attn_core(&t->b, m, N, -1);
        layer_router(&t->b, m, N, -1);
        break;
    case 2:
        t->sent[half] = layer_dispatch_send(&t->b, whole, m, N, -1);
        layer_shared(&t->b, m, N, -1);
        break;
    case 3:
        layer_dispatch_recv(&t->b, whole, m, N, t->sent[half], -1);
        layer_ffn(&t->b, whole, m, &f, -1, -1);
        t->sent[half] = layer_combine_send(&t->b, whole, m, N, -1);
        break;
    case 4:
        layer_combine_recv(&t->b, m, N, &t->sent[half], 1, -1);
        layer_latent_up(&t->b, m, N, -1);
        break;
    default:
        break;
    }
}

static void decode_layers(struct tbo *t)
{
    int steps = t->b.spec->layers * TBO_STAGES;

    for (int step = 0; step < steps + 2; step++) {
        if (step < steps)
            decode_stage(t, 0, step / TBO_STAGES, step % TBO_STAGES);
        if (step >= 2)
            decode_stage(t, 1, (step - 2) / TBO_STAGES, (step - 2) % TBO_STAGES);
    }
}

static void prefill_attn(struct tbo *t, int x, int layer)
{
    enter(t, x, layer);
    layer_attn_proj(&t->b, t->main_stream, t->compute_sms, t->combined[x]);
    layer_also_after(&t->b, t->shared[x], DEP_END);
    layer_attn_core(&t->b, t->main_stream, t->compute_sms, -1);
    t->attn[x] = layer_router(&t->b, t->main_stream, t->compute_sms, -1);
}

static void prefill_dispatch(struct tbo *t, int x, int layer)
{
    enter(t, x, layer);
    t->dispatched[x] = layer_dispatch(&t->b, t->comm, t->comm_sms, t->attn[x]);
}

static void prefill_mlp(struct tbo *t, int x, int layer)
{
    const struct layer_round whole = {0, 1};
    enum plan_gemm gemm = layer_default_gemm(t->b.spec);
    int sms = t->compute_sms;
    struct layer_ffn f = {sms, sms, sms, gemm, gemm, 0, 0};

    enter(t, x, layer);
    t->mlp[x] = layer_ffn(&t->b, whole, t->main_stream, &f, t->dispatched[x], -1);
}

static void prefill_combine(struct tbo *t, int x, int layer)
{
    enter(t, x, layer);
    t->combined[x] = layer_combine(&t->b, t->comm, t->comm_sms, t->mlp[x]);
    t->combined[x] = layer_latent_up(&t->b, t->main_stream, t->compute_sms, t->combined[x]);
}

static void prefill_shared(struct tbo *t, int x, int layer)
{
    enter(t, x, layer);
    t->shared[x] = layer_shared(&t->b, t->main_stream, t->compute_sms, t->attn[x]);
}

/* DeepSeek's order of a steady period: compute ATTN1 SHARED0 ATTN0 MLP1 MLP0 SHARED1 against
 * COMBINE0 DISPATCH1 DISPATCH0 COMBINE1, where COMBINE0 and SHARED0 belong to the layer before. */
static void prefill_deepseek(struct tbo *t)
{
    int layers = t->b.spec->layers;

    for (int l = 0; l <= layers; l++) {
        if (l > 0)
            prefill_combine(t, 0, l - 1);
        if (l < layers) {
            prefill_attn(t, 1, l);
            prefill_dispatch(t, 1, l);
        }
        if (l > 0)
            prefill_shared(t, 0, l - 1);
        if (l == layers)
            break;
        prefill_attn(t, 0, l);
        prefill_dispatch(t, 0, l);
        prefill_mlp(t, 1, l);
        prefill_combine(t, 1, l);
        prefill_mlp(t, 0, l);
        prefill_shared(t, 1, l);
    }
}

/* SGLang's order: each stage for A, then for B. */
static void prefill_sglang(struct tbo *t)
{
    for (int l = 0; l < t->b.spec->layers; l++) {
        for (int x = 0; x < 2; x++) {
            prefill_attn(t, x, l);
            prefill_dispatch(t, x, l);
        }
        for (int x = 0; x < 2; x++) {
            prefill_mlp(t, x, l);
            prefill_combine(t, x, l);
        }
        for (int x = 0; x < 2; x++)
            prefill_shared(t, x, l);
    }
}

static int tbo_build(const struct layer_spec *spec, const struct knobs *k, struct plan **out)
{
    struct tbo t = {.sent = {-1, -1},
                    .attn = {-1, -1},
                    .shared = {-1, -1},
                    .dispatched = {-1, -1},
                    .mlp = {-1, -1},
                    .combined = {-1, -1}};

    layer_begin(&t.b, &policy_tbo, spec, k, true);
    t.main_stream = layer_stream(&t.b, "main", 0);
    if (plan_comm_traits(spec->comm)->beside == COMM_BESIDE_HOOK) {
        decode_layers(&t);
    } else {
        t.comm = layer_stream(&t.b, "comm", -1);
        t.comm_sms = k->num_sms;
        t.compute_sms = spec->num_sms - k->num_sms;
        if (k->tbo_order == TBO_ORDER_DEEPSEEK)
            prefill_deepseek(&t);
        else
            prefill_sglang(&t);
    }
    return layer_finish(&t.b, out);
}

/* In prefill DeepEP's normal kernels take their SMs from
 * --deepep-config or Buffer.set_num_sms. */
static void tbo_settings(const struct knobs *k, const struct policy_place *place, FILE *f)
{
    fprintf(f, "SGLang (pull 4068, merged): --enable-two-batch-overlap");
    if (!place->decode)
        fprintf(f, "; DeepEP: Buffer.set_num_sms(%d)", k->num_sms);
    fprintf(f, "\n");
    fprintf(f, "RTP-LLM (merged): --enable_layer_micro_batch 1\n");
}

const struct policy policy_tbo = {
    .name = "tbo",
    .summary = "two-batch overlap: two half batches take turns",
    .knobs = tbo_knobs,
    .search = tbo_search,
    .settings = tbo_settings,
    .spans_layers = true,
    .check = tbo_check,
    .build = tbo_build,
};
