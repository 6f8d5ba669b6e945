#include "model/attn.h"

#include <math.h>

static double mla_params_in(const struct attn_shape *s)
{
    double h = s->hidden, heads = s->heads, q_out = heads * s->qk_head_dim;
    double q = s->q_lora_rank ? s->q_lora_rank * (h + q_out) : h * q_out;
    double nope = s->qk_head_dim - s->qk_rope_head_dim;

    return q + h * (s->kv_lora_rank + s->qk_rope_head_dim) +
           s->kv_lora_rank * heads * (nope + s->v_head_dim);
}

/* Queries through a low rank; one latent a token; a compressor makes values and weights of it, two
 * of each where windows overlap (with an indexer), and a smaller one makes the index keys. */
static double compressed_params_in(const struct attn_shape *s)
{
    double h = s->hidden, d = s->qk_head_dim;
    double in = s->q_lora_rank * (h + s->heads * d) + h * d;

    if (s->compress_ratio > 0)
        in += (s->index_heads > 0 ? 4 : 2) * h * d;
    if (s->index_heads > 0)
        in += 4 * h * s->index_head_dim;
    return in;
}

static double index_params(const struct attn_shape *s)
{
    double h = s->hidden, queries = (double)s->index_heads * s->index_head_dim;

    if (s->index_heads == 0 || s->index_shared)
        return 0;
    if (s->kind == ATTN_MSA)
        return h * (queries + s->index_head_dim);
    if (s->kind == ATTN_COMPRESSED)
        return s->q_lora_rank * queries + h * s->index_heads;
    return (s->q_lora_rank ? s->q_lora_rank : h) * queries +
           h * (s->index_head_dim + s->index_heads);
}

static double state_params_in(const struct attn_shape *s)
{
    double h = s->hidden, k = (double)s->state_k_heads * s->state_k_dim;
    double v = (double)s->state_v_heads * s->state_v_dim;
    double conv = s->conv_kernel * (2 * k + v);

    switch (s->kind) {
    case ATTN_GATED_DELTA: /* q, k, v, output gate; beta and decay per head */
        return h * (2 * k + 2 * v + 2 * s->state_v_heads) + conv;
    case ATTN_KDA: /* q, k, v; decay through a low rank; beta per head; output gate */
        return h * (2 * k + v + s->state_v_heads) + s->decay_rank * (h + k) + conv +
               (s->gate_rank ? s->gate_rank * (h + v) : h * s->gate_width);
    case ATTN_MAMBA2: /* gate and x, B and C per group, time step per head */
        return h * (2 * v + 2 * k + s->state_v_heads) + conv;
    default: /* lightning: q, k, v, output gate */
        return h * (2 * k + v + s->gate_width);
    }
}

double attn_params_in(const struct attn_shape *s)
{
    double h = s->hidden, gate = h * s->gate_width;
    double values = s->keys_are_values ? 0 : (double)s->kv_heads * s->v_head_dim;

    switch (s->kind) {
    case ATTN_NONE:
        return 0;
    case ATTN_MLA:
    case ATTN_DSA:
        return mla_params_in(s) + index_params(s) + gate;
    case ATTN_COMPRESSED:
        return compressed_params_in(s) + index_params(s);
    case ATTN_GQA:
    case ATTN_WINDOW:
    case ATTN_MSA:
        return h * ((s->heads + s->kv_heads) * (double)s->qk_head_dim + values) + gate +
               index_params(s);
    default:
        return state_params_in(s);
    }
}

double attn_params_out(const struct attn_shape *s)
{
    double h = s->hidden;

    if (s->kind == ATTN_NONE)
        return 0;
    if (s->kind == ATTN_COMPRESSED)
        return s->o_lora_rank * ((double)s->heads * s->v_head_dim + s->o_groups * h);
    if (attn_kind_has_state(s->kind))
        return (double)s->state_v_heads * s->state_v_dim * h;
    return (double)s->heads * s->v_head_dim * h;
}

double attn_params(const struct attn_shape *s)
{
    return attn_params_in(s) + attn_params_out(s);
}

static int split(int n, int tp)
{
    return (n + tp - 1) / tp;
}

struct attn_shape attn_of_rank(const struct attn_shape *s, int tp)
{
    struct attn_shape r = *s;

    r.heads = split(s->heads, tp);
    r.kv_heads = split(s->kv_heads, tp);
    r.gate_width = split(s->gate_width, tp);
    r.o_groups = split(s->o_groups, tp);
    r.state_k_heads = split(s->state_k_heads, tp);
    r.state_v_heads = split(s->state_v_heads, tp);
    if (s->kind == ATTN_MSA) /* one index head a KV head */
        r.index_heads = split(s->index_heads, tp);
    return r;
}

static double within(const struct attn_shape *s, double context)
{
    return s->window > 0 ? fmin(context, s->window) : context;
}

double attn_cache_elements(const struct attn_shape *s, double context)
{
    switch (s->kind) {
    case ATTN_GQA:
    case ATTN_WINDOW:
    case ATTN_MSA:
        return (double)s->kv_heads * (s->qk_head_dim + s->v_head_dim) * within(s, context);
    case ATTN_MLA:
    case ATTN_DSA:
        return (double)(s->kv_lora_rank + s->qk_rope_head_dim) * context;
    case ATTN_COMPRESSED:
        return s->qk_head_dim *
               (within(s, context) + (s->compress_ratio ? context / s->compress_ratio : 0));
    default:
        return 0;
    }
}

double attn_index_elements(const struct attn_shape *s, double context)
{
    double keys = s->compress_ratio ? context / s->compress_ratio : context;

    return s->index_heads == 0 || s->index_shared ? 0 : keys * s->index_head_dim;
}

static double index_bytes(const struct attn_shape *s, double context)
{
    double elements = attn_index_elements(s, context);

    return elements > 0 ? elements * (1 + 4.0 / s->index_head_dim) : 0;
}

double attn_cache_bytes(const struct attn_shape *s, double context, double bytes_per_element)
{
    return attn_cache_elements(s, context) * bytes_per_element + index_bytes(s, context);
}

double attn_state_bytes(const struct attn_shape *s)
{
    double width = 2.0 * s->state_k_heads * s->state_k_dim + s->state_v_heads * s->state_v_dim;
    double state = (double)s->state_v_heads * s->state_k_dim * s->state_v_dim * s->state_bytes;

    if (!attn_kind_has_state(s->kind))
        return 0;
    return state + (s->conv_kernel > 1 ? 2 * width * (s->conv_kernel - 1) : 0);
}

double attn_keys(const struct attn_shape *s, double context)
{
    double latents = s->compress_ratio ? context / s->compress_ratio : 0;

    switch (s->kind) {
    case ATTN_DSA:
        return fmin(context, s->index_topk);
    case ATTN_MSA:
        return fmin(context, (double)s->index_topk * s->index_block);
    case ATTN_COMPRESSED:
        return within(s, context) + (s->index_heads ? fmin(latents, s->index_topk) : latents);
    default:
        return attn_kind_has_state(s->kind) ? 0 : within(s, context);
    }
}

double attn_read_bytes(const struct attn_shape *s, double context, double bytes_per_element)
{
    double a_key =
        attn_is_latent(s->kind)
            ? (s->kind == ATTN_COMPRESSED ? s->qk_head_dim : s->kv_lora_rank + s->qk_rope_head_dim)
            : (double)s->kv_heads * (s->qk_head_dim + s->v_head_dim);

    return attn_keys(s, context) * a_key * bytes_per_element + index_bytes(s, context) +
           2 * attn_state_bytes(s);
}

double attn_flops(const struct attn_shape *s, double context, bool absorbed)
{
    bool latent = absorbed && (s->kind == ATTN_MLA || s->kind == ATTN_DSA);
    double width = latent ? 2.0 * s->kv_lora_rank + s->qk_rope_head_dim
                          : (double)s->qk_head_dim + s->v_head_dim;
    double state = (double)s->state_v_heads * s->state_k_dim * s->state_v_dim;

    if (attn_kind_has_state(s->kind)) /* decay, read, correct, write: about 8 a state element */
        return 8 * state;
    return 2 * s->heads * width * attn_keys(s, context) +
           2 * s->index_heads * attn_index_elements(s, context);
}
