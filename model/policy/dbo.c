/* `dbo`, vLLM's dual batch overlap (pull 23693): two host threads, one a half batch, hand the GPU
 * to each other at yields inside the expert layer. The half that has sent registers its receive
 * with the other one, which runs it right in front of its own next send. With low-latency kernels
 * all runs on one stream: D0 send, A1, D0 recv, D1 send, MLP0, D1 recv, C0 send, S0, MLP1, C0 recv,
 * C1 send, S1, A0 of the next layer, C1 recv, D0 send ... (A: attention and gate, S: shared
 * expert). With normal kernels dispatch and combine run on a stream and SMs of their own, in the
 * same order. */
#include "model/policy/layer.h"

enum { DBO_THRESHOLD };
/* vLLM's defaults: tokens of a rank from which on it votes for two halves. */
enum { THRESHOLD_DECODE = 32, THRESHOLD_PREFILL = 512 };

static const struct opt dbo_knobs[] = {
    KNOB_INT(num_sms, 4, 1024, "20", "prefill: SMs that the normal kernels hold"),
    KNOB_OWN_INT(DBO_THRESHOLD, "dbo_threshold", 0, 65536, "0",
                 "tokens of every rank from which on the batch is halved; 0 = 32 in decode, 512 in "
                 "prefill"),
    KNOB_END,
};

static const struct knob_search dbo_search[] = {
    {.key = "num_sms", .from = 4, .step = 4, .prefill = true},
    KNOB_SEARCH_END,
};

static int threshold_of(const struct layer_spec *spec, const struct knobs *k)
{
    if (k->own[DBO_THRESHOLD])
        return k->own[DBO_THRESHOLD];
    return spec->decode ? THRESHOLD_DECODE : THRESHOLD_PREFILL;
}

static void dbo_settle(const struct layer_spec *spec, struct knobs *k)
{
    k->own[DBO_THRESHOLD] = threshold_of(spec, k);
}

static int dbo_check(const struct layer_spec *spec, const struct knobs *k, char *why, size_t size)
{
    int threshold = threshold_of(spec, k);

    if (spec->tokens < 2)
        return layer_infeasible(why, size, "a batch of %d cannot be halved", spec->tokens);
    if (spec->tokens < threshold)
        return layer_infeasible(why, size,
                                "every rank must vote for two halves, and below dbo_threshold %d "
                                "tokens none does: batch %d",
                                threshold, spec->tokens);
    if (plan_comm_traits(spec->comm)->beside == COMM_BESIDE_NOTHING)
        return layer_infeasible(why, size,
                                "dbo needs kernels that receive apart or hold SMs of their own: "
                                "comm low_latency, normal or deepep_v2, not %s",
                                plan_comm_traits(spec->comm)->text);
    if (k->num_sms >= spec->num_sms)
        return layer_infeasible(why, size, "num_sms %d leaves no SM of %d to the GEMMs", k->num_sms,
                                spec->num_sms);
    return layer_check(spec, k, why, size);
}

struct dbo {
    struct layer_builder b;
    int main_stream, comm, compute_sms, comm_sms;
    bool hook;       /* receives apart; else kernels on `comm` */
    int sent[2];     /* what a half has in flight: its dispatch or combine */
    int attended[2]; /* gate of each half */
    int back[2];     /* its combine has ended */
};

static const struct layer_round whole = {0, 1};

static void enter(struct dbo *d, int half, int layer)
{
    d->b.batch = d->b.buffer = half;
    d->b.layer = layer;
}

/* Attention and gate; what the half's last layer sent back has come. */
static void attend(struct dbo *d, int half, int layer)
{
    enter(d, half, layer);
    layer_attn_proj(&d->b, d->main_stream, d->compute_sms, d->back[half]);
    layer_attn_core(&d->b, d->main_stream, d->compute_sms, -1);
    d->attended[half] = layer_router(&d->b, d->main_stream, d->compute_sms, -1);
}

static void dispatch(struct dbo *d, int half, int layer)
{
    enter(d, half, layer);
    d->sent[half] = d->hook ? layer_dispatch_send(&d->b, whole, d->main_stream, d->compute_sms, -1)
                            : layer_dispatch(&d->b, d->comm, d->comm_sms, d->attended[half]);
}

static void dispatched(struct dbo *d, int half, int layer)
{
    enter(d, half, layer);
    if (d->hook)
        layer_dispatch_recv(&d->b, whole, d->main_stream, d->compute_sms, d->sent[half], -1);
}

static void experts(struct dbo *d, int half, int layer)
{
    enum plan_gemm gemm = layer_default_gemm(d->b.spec);
    int n = d->compute_sms;
    struct layer_ffn f = {n, n, n, gemm, gemm, 0, 0};

    enter(d, half, layer);
    d->attended[half] =
        layer_ffn(&d->b, whole, d->main_stream, &f, d->hook ? -1 : d->sent[half], -1);
}

/* And the shared expert while it is on its way. */
static void combine(struct dbo *d, int half, int layer)
{
    enter(d, half, layer);
    d->sent[half] = d->hook ? layer_combine_send(&d->b, whole, d->main_stream, d->compute_sms, -1)
                            : layer_combine(&d->b, d->comm, d->comm_sms, d->attended[half]);
    layer_shared(&d->b, d->main_stream, d->compute_sms, -1);
    d->back[half] = d->hook ? -1 : d->sent[half];
}

static void combined(struct dbo *d, int half, int layer)
{
    enter(d, half, layer);
    if (d->hook)
        layer_combine_recv(&d->b, d->main_stream, d->compute_sms, &d->sent[half], 1, -1);
    layer_latent_up(&d->b, d->main_stream, d->compute_sms, d->back[half]);
}

static void layers_build(struct dbo *d)
{
    int layers = d->b.spec->layers;

    for (int l = 0; l <= layers; l++) {
        if (l < layers)
            attend(d, 0, l);
        if (l > 0)
            combined(d, 1, l - 1);
        if (l == layers)
            break;
        dispatch(d, 0, l);
        attend(d, 1, l);
        dispatched(d, 0, l);
        dispatch(d, 1, l);
        experts(d, 0, l);
        dispatched(d, 1, l);
        combine(d, 0, l);
        experts(d, 1, l);
        combined(d, 0, l);
        combine(d, 1, l);
    }
}

static int dbo_build(const struct layer_spec *spec, const struct knobs *k, struct plan **out)
{
    struct dbo d = {.sent = {-1, -1}, .attended = {-1, -1}, .back = {-1, -1}};

    layer_begin(&d.b, &policy_dbo, spec, k, true);
    d.main_stream = layer_stream(&d.b, "main", 0);
    d.hook = plan_comm_traits(spec->comm)->beside == COMM_BESIDE_HOOK;
    d.compute_sms = spec->num_sms;
    if (!d.hook) {
        d.comm = layer_stream(&d.b, "comm", -1);
        d.comm_sms = k->num_sms;
        d.compute_sms = spec->num_sms - k->num_sms;
    }
    layers_build(&d);
    return layer_finish(&d.b, out);
}

static void dbo_settings(const struct knobs *k, const struct policy_place *place, FILE *f)
{
    fprintf(f, "vLLM (pull 23693, merged): --enable-dbo --dbo-%s-token-threshold %d",
            place->decode ? "decode" : "prefill",
            k->own[DBO_THRESHOLD] ? k->own[DBO_THRESHOLD]
            : place->decode       ? THRESHOLD_DECODE
                                  : THRESHOLD_PREFILL);
    fprintf(f, " --all2all-backend %s",
            place->decode ? "deepep_low_latency" : "deepep_high_throughput");
    if (!place->decode)
        fprintf(f, " with VLLM_DBO_COMM_SMS=%d", k->num_sms);
    fprintf(f, "\n");
}

const struct policy policy_dbo = {
    .name = "dbo",
    .summary = "vLLM's dual batch overlap: two half batches hand over at their sends",
    .knobs = dbo_knobs,
    .search = dbo_search,
    .settings = dbo_settings,
    .spans_layers = true,
    .settle = dbo_settle,
    .check = dbo_check,
    .build = dbo_build,
};
