#include "model/memory.h"

#include <math.h>

#include "model/attn.h"

/* Rings of the normal kernels in DeepEP's shipped configurations: tokens per channel and peer. */
#define NVL_RECV_TOKENS  512
#define RDMA_RECV_TOKENS 128
#define MAX_TOPK         128
#define MAX_SCALES       128
#define META_BYTES       8

double memory_weight_bytes(double params, enum plan_dtype dtype)
{
    return dtype == DTYPE_BF16 ? 2 * params : params * (1 + 4.0 / (128 * 128));
}

double memory_low_latency_bytes(int hidden, int experts, int ranks, int max_dispatch_tokens)
{
    double E = experts, T = max_dispatch_tokens, scales = hidden / 128;
    double dispatch = 16 + fmax(2.0 * hidden, hidden + 4 * scales);
    double combine = 2.0 * hidden + 4 * scales;
    double send = fmax(T * dispatch, E * T * combine), recv = E * T * fmax(dispatch, combine);

    (void)ranks; /* every rank keeps room for every expert: E does not shrink with EP */
    return 2 * (send + recv + 4 * E);
}

double memory_normal_bytes(int hidden, int ranks, int ranks_per_node, int num_sms)
{
    double channels = num_sms / 2, nvl = fmin(ranks, ranks_per_node);
    double nodes = ceil((double)ranks / ranks_per_node);
    double token = 2.0 * hidden + META_BYTES + MAX_TOPK * 12.0 + MAX_SCALES * 4.0;
    double bytes = channels * nvl * (NVL_RECV_TOKENS * token + 4 * (2 * nodes + 3));

    if (nodes > 1)
        bytes += 2 * channels * nodes * (RDMA_RECV_TOKENS * (token + 16) + 72);
    return bytes;
}

static double bytes_of(const struct memory_spec *s, enum moe_part part, double params)
{
    return s->typed ? params * s->model->part[part].bytes_per_param
                    : memory_weight_bytes(params, s->weight_dtype);
}

static double attention_bytes(const struct memory_spec *s, const struct moe_layer *l, int tp)
{
    struct attn_shape a = attn_of_rank(&l->attn, tp);

    return bytes_of(s, MOE_ATTN_IN, attn_params_in(&a)) +
           bytes_of(s, MOE_ATTN_OUT, attn_params_out(&a));
}

/* Copies of experts that the model holds besides its own. */
static int redundant(const struct moe_model *m)
{
    int own = 0;

    for (int i = 0; i < m->num_kinds; i++)
        if (m->layer[i].experts > own && m->layer[i].experts <= m->experts)
            own = m->layer[i].experts;
    return m->experts - own;
}

/* `count` layers of one kind. */
static void layer_add(const struct memory_spec *s, const struct moe_layer *l, int count, int tp,
                      struct memory_sum *out)
{
    double local = ceil((double)(l->experts + redundant(s->model)) / s->ranks);

    out->attention += count * attention_bytes(s, l, tp);
    out->dense += count * (bytes_of(s, MOE_DENSE, moe_layer_dense(l)) + 2 * s->model->mix_params);
    if (!l->experts)
        return;
    out->experts += count * local * bytes_of(s, MOE_EXPERTS, moe_layer_expert(l));
    out->shared += count * (bytes_of(s, MOE_SHARED, moe_layer_shared(l)) + 2 * moe_layer_gate(l));
}

/* The kind that most MoE layers are: what drafts tokens is taken to be alike. */
static const struct moe_layer *main_layer(const struct moe_model *m)
{
    const struct moe_layer *best = NULL;

    for (int i = 0; i < m->num_kinds; i++)
        if (m->layer[i].experts && (!best || m->layer[i].count > best->count))
            best = &m->layer[i];
    return best;
}

static void weights_sum(const struct memory_spec *s, int tp, struct memory_sum *out)
{
    const struct moe_model *m = s->model;
    double table = 2.0 * m->vocab * m->hidden / tp;

    for (int i = 0; i < m->num_kinds; i++)
        layer_add(s, &m->layer[i], m->layer[i].count, tp, out);
    layer_add(s, main_layer(m), s->mtp_layers, tp, out);
    out->dense += s->mtp_layers * bytes_of(s, MOE_DENSE, 2.0 * m->hidden * m->hidden);
    out->embedding = table * (m->tied_embeddings ? 1 : 2);
    out->weights = out->attention + out->dense + out->experts + out->shared + out->embedding;
}

/* One request's cache and state on a rank of tp, over all layers. */
static double request_bytes(const struct memory_spec *s, int tp)
{
    const struct moe_model *m = s->model;
    double sum = 0;

    for (int i = -1; i < m->num_kinds; i++) {
        const struct moe_layer *l = i < 0 ? main_layer(m) : &m->layer[i];
        struct attn_shape a = attn_of_rank(&l->attn, tp);

        sum +=
            (i < 0 ? s->mtp_layers : l->count) *
            (attn_cache_bytes(&a, s->context_len, s->kv_bytes_per_element) + attn_state_bytes(&a));
    }
    return sum;
}

/* Expert rows of one step: low-latency kernels have room for all tokens of all ranks in every local
 * expert; normal ones for what comes, here a quarter over the mean. */
static double expert_rows(const struct memory_spec *s)
{
    double local = ceil((double)s->model->experts / s->ranks);

    if (plan_comm_traits(s->comm)->buffers == COMM_BUFFERS_BOUND)
        return local * s->ranks * s->max_dispatch_tokens;
    return 1.25 * s->tokens * s->model->topk;
}

static double activations(const struct memory_spec *s, int tp)
{
    const struct moe_model *m = s->model;
    double qk = m->head_dim, v = m->v_head_dim, heads = (double)m->heads / tp, logits;
    double kv_heads =
        m->attention == MOE_ATTN_MLA ? (s->decode ? 0 : heads) : fmax(1, (double)m->kv_heads / tp);
    double attn = (double)s->tokens * tp * 2 * (heads * (qk + v) + kv_heads * (qk + v));
    /* FP8 rows in, BF16 gate and up, FP8 product, BF16 rows out. */
    double ffn =
        expert_rows(s) * (m->expert_hidden + 4.0 * m->inter + m->inter + 2.0 * m->expert_hidden);

    logits = (s->decode ? (double)s->tokens : fmax(1, s->requests)) * tp * m->vocab / tp * 4;
    return fmax(attn, fmax(ffn, logits)) + 3 * 2.0 * s->tokens * m->hidden;
}

void memory_sum(const struct memory_spec *s, struct memory_sum *out)
{
    const struct moe_model *m = s->model;
    int tp = s->attention_tp > 0 ? s->attention_tp : 1;

    *out = (struct memory_sum){.reserve = s->reserve_bytes, .capacity = s->capacity_bytes};
    weights_sum(s, tp, out);
    out->kv = (double)s->requests * tp * request_bytes(s, tp);
    if (plan_comm_traits(s->comm)->buffers == COMM_BUFFERS_BOUND)
        out->buffers = memory_low_latency_bytes(m->expert_hidden, m->experts, s->ranks,
                                                s->max_dispatch_tokens);
    else
        out->buffers =
            memory_normal_bytes(m->expert_hidden, s->ranks, s->ranks_per_node, s->normal_num_sms);
    out->activations = activations(s, tp);
    out->total = out->weights + out->kv + out->buffers + out->activations + out->reserve;
}

int memory_max_requests(const struct memory_spec *spec, int tokens_per_request)
{
    struct memory_spec s = *spec;
    struct memory_sum sum;
    int lo = 0, hi = 1 << 20;

    while (lo < hi) {
        int mid = lo + (hi - lo + 1) / 2;

        s.requests = mid;
        s.tokens = mid * tokens_per_request;
        memory_sum(&s, &sum);
        if (sum.total <= sum.capacity)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

void memory_text(const struct memory_sum *m, char *buf, size_t size)
{
    snprintf(buf, size,
             "weights %.1f + KV cache %.1f + buffers %.1f + activations %.1f + reserve %.1f = %.1f "
             "GB of %.1f",
             m->weights / 1e9, m->kv / 1e9, m->buffers / 1e9, m->activations / 1e9,
             m->reserve / 1e9, m->total / 1e9, m->capacity / 1e9);
}
