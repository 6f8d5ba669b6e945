/* `sbo`, Single Batch Overlap (DeepEP 390 and 483, DeepGEMM 183): the shared expert runs while the
 * dispatch flies, and the combine send follows the down GEMM tile by tile through signals. */
#include "model/policy/layer.h"

static const struct opt sbo_knobs[] = {
    KNOB_INT(combine_num_sms, 0, 1024, "0",
             "CTAs of the signalled combine send; 0 = 3 on Hopper, 32 on Blackwell"),
    KNOB_INT(block_m, 16, 1024, "64", "rows per unit of the down GEMM's signals"),
    KNOB_INT(block_n, 16, 1024, "128", "columns per tile of the down GEMM"),
    KNOB_END,
};

static const struct knob_search sbo_search[] = {
    {.key = "combine_num_sms", .values = KNOB_LIST, .list = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32}},
    {.key = "block_m", .from = 64, .to = 128, .step = 64},
    KNOB_SEARCH_END,
};

/* SGLang's defaults (pull request 9660). */
enum { SENDERS_HOPPER = 3, SENDERS_BLACKWELL = 32, FIRST_BLACKWELL = 100 };

static int senders_of(const struct layer_spec *spec, const struct knobs *k)
{
    if (k->combine_num_sms)
        return k->combine_num_sms;
    return spec->arch >= FIRST_BLACKWELL ? SENDERS_BLACKWELL : SENDERS_HOPPER;
}

static void sbo_settle(const struct layer_spec *spec, struct knobs *k)
{
    k->combine_num_sms = senders_of(spec, k);
}

static int sbo_check(const struct layer_spec *spec, const struct knobs *k, char *why, size_t size)
{
    if (spec->comm != COMM_LOW_LATENCY)
        return layer_infeasible(why, size, "sbo runs on the low-latency kernels");
    if (senders_of(spec, k) >= spec->num_sms)
        return layer_infeasible(why, size, "combine_num_sms %d leaves no SM of %d to the GEMM",
                                senders_of(spec, k), spec->num_sms);
    return layer_check(spec, k, why, size);
}

/* Combine send on K from the down GEMM's start: its activation has ended, its units arrive one by
 * one. */
static int signalled_combine(struct layer_builder *b, int comm, int act, int down)
{
    const struct layer_round whole = {0, 1};
    int send = layer_combine_send(b, whole, comm, senders_of(b->spec, b->knobs), act);

    if (!b->err) {
        b->plan->ops[send].block_m = b->knobs->block_m;
        b->plan->ops[send].block_n = b->knobs->block_n;
    }
    layer_also_after(b, down, DEP_UNIT);
    return send;
}

static void sbo_layer(struct layer_builder *b, int main_stream, int comm)
{
    const struct layer_round whole = {0, 1};
    int N = b->sms_all, n = senders_of(b->spec, b->knobs), sent, down, combined;
    enum plan_gemm gemm = layer_default_gemm(b->spec);
    struct layer_ffn f = {N, N, N - n, gemm, gemm, b->knobs->block_m, b->knobs->block_n};

    if (b->spec->attention)
        layer_attention(b, main_stream, N, -1);
    layer_router(b, main_stream, N, -1);
    sent = layer_dispatch_send(b, whole, main_stream, N, -1);
    layer_shared(b, main_stream, N, -1);
    layer_dispatch_recv(b, whole, main_stream, N, sent, -1);
    down = layer_ffn(b, whole, main_stream, &f, -1, -1);
    combined = signalled_combine(b, comm, down - 1, down);
    layer_combine_recv(b, main_stream, N, &combined, 1, combined);
    layer_latent_up(b, main_stream, N, -1);
}

static int sbo_build(const struct layer_spec *spec, const struct knobs *k, struct plan **out)
{
    struct layer_builder b;
    int main_stream, comm;

    layer_begin(&b, &policy_sbo, spec, k, false);
    main_stream = layer_stream(&b, "main", 0);
    comm = layer_stream(&b, "comm", -1);
    for (b.layer = 0; b.layer < spec->layers; b.layer++) {
        b.buffer = b.layer % 2;
        sbo_layer(&b, main_stream, comm);
    }
    return layer_finish(&b, out);
}

/* The variable's default is 3 on Hopper and 32 on Blackwell. */
static void sbo_settings(const struct knobs *k, const struct policy_place *place, FILE *f)
{
    fprintf(f, "SGLang (pull %s): --enable-single-batch-overlap",
            place->blackwell ? "10422, merged"
                             : "9660, merged; since issue 25664, closed, it needs the archived "
                               "branch of its DeepGEMM");
    if (k->combine_num_sms != (place->blackwell ? SENDERS_BLACKWELL : SENDERS_HOPPER))
        fprintf(f, " with SGLANG_DEEPEP_LL_COMBINE_SEND_NUM_SMS=%d", k->combine_num_sms);
    fprintf(f, "\n");
}

const struct policy policy_sbo = {
    .name = "sbo",
    .summary =
        "Single Batch Overlap: shared expert beside the dispatch, combine beside the down GEMM",
    .knobs = sbo_knobs,
    .follows_tiles = true,
    .same_bits = true,
    .sms_knob = "combine_num_sms",
    .search = sbo_search,
    .settings = sbo_settings,
    .settle = sbo_settle,
    .check = sbo_check,
    .build = sbo_build,
};
