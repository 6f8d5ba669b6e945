/* `none`: nothing overlaps; all ops on one stream with all SMs. The baseline of every gain. */
#include "model/policy/layer.h"

static const struct opt none_knobs[] = {
    KNOB_BOOL(split_phases, "false", "dispatch and combine as a send and a receive kernel each"),
    KNOB_SHARED,
    KNOB_END,
};

/* The baseline is as it is set. */
static const struct knob_search none_search[] = {KNOB_SEARCH_END};

static int none_check(const struct layer_spec *spec, const struct knobs *k, char *why, size_t size)
{
    if (k->split_phases && spec->comm != COMM_LOW_LATENCY)
        return layer_infeasible(why, size, "split_phases needs the low-latency kernels");
    return layer_check(spec, k, why, size);
}

static void none_layer(struct layer_builder *b, int main_stream)
{
    const struct layer_round whole = {0, 1};
    enum plan_gemm gemm = layer_default_gemm(b->spec);
    int N = b->sms_all, comm = layer_comm_all(b), send;
    struct layer_ffn ffn = {N, N, N, gemm, gemm, 0, 0};

    layer_head(b, main_stream, N, -1);
    if (b->knobs->split_phases) {
        send = layer_dispatch_send(b, whole, main_stream, comm, -1);
        layer_dispatch_recv(b, whole, main_stream, comm, send, -1);
    } else {
        layer_dispatch(b, main_stream, comm, -1);
    }
    layer_ffn(b, whole, main_stream, &ffn, -1, -1);
    if (b->knobs->split_phases) {
        send = layer_combine_send(b, whole, main_stream, comm, -1);
        layer_combine_recv(b, main_stream, comm, &send, 1, -1);
    } else {
        layer_combine(b, main_stream, comm, -1);
    }
    layer_tail(b, main_stream, N);
}

static void dense_layer(struct layer_builder *b, int main_stream)
{
    if (b->spec->attention)
        layer_attention(b, main_stream, b->sms_all, -1);
    if (b->spec->attention && b->spec->attention_tp > 1)
        layer_collective(
            b, OP_ALL_REDUCE, main_stream, layer_comm_all(b),
            (int64_t)b->spec->tokens * b->spec->attention_tp * b->spec->model->hidden * 2, -1);
    layer_dense_mlp(b, main_stream, b->sms_all, -1);
}

static int none_build(const struct layer_spec *spec, const struct knobs *k, struct plan **out)
{
    struct layer_builder b;
    int main_stream;

    layer_begin(&b, &policy_none, spec, k, false);
    main_stream = layer_stream(&b, "main", 0);
    for (b.layer = 0; b.layer < spec->layers; b.layer++) {
        b.buffer = b.layer % 2;
        if (spec->dense)
            dense_layer(&b, main_stream);
        else
            none_layer(&b, main_stream);
    }
    return layer_finish(&b, out);
}

const struct policy policy_none = {
    .name = "none",
    .summary = "no overlap: dispatch, experts, combine one after another with all SMs",
    .knobs = none_knobs,
    .same_bits = true,
    .search = none_search,
    .check = none_check,
    .build = none_build,
};
