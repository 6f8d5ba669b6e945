/* kernels/attention.h: attention over a KV cache, and the element-wise kernels around it, for
 * timing a layer with its attention: a library-quality baseline (two batched cuBLASLt GEMMs with a
 * softmax kernel between them, scores through memory), not a fused kernel such as FlashMLA.
 *
 * One batch of the products is one request and KV head: its queries are the q_tokens of the request
 * times the `group` = heads / kv_heads heads that share the KV head, token after token. In MLA all
 * heads share one cache row of latent and rope key (kv_heads 1, kv_width = qk_dim, the values are
 * the latent, v_first 0); in GQA and MHA a row holds the key, then the value. All operands are
 * BF16. With keys = context_len + q_tokens and P = keys rounded up to 8: q
 * [requests][kv_heads][q_tokens * group][qk_dim] kv    [requests][kv_heads][P][kv_width]; rows past
 * `keys` are read: finite values, weight 0 out   [requests][kv_heads][q_tokens * group][v_dim]
 * Query token t of a request attends to keys 0 .. context_len + t (causal mask). */
#ifndef PEOSIM_KERNELS_ATTENTION_H
#define PEOSIM_KERNELS_ATTENTION_H

#include <cuda_runtime_api.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kernel_stamp;

struct attention_shape {
    int requests, q_tokens, context_len;
    int heads, kv_heads; /* heads % kv_heads == 0 */
    int qk_dim, v_dim;   /* multiples of 8 */
    int kv_width, v_first;
    float scale; /* of the scores before the softmax */
    int num_sms; /* grid of the softmax and target of the GEMMs */
};

static inline int attention_keys(const struct attention_shape *s)
{
    return s->context_len + s->q_tokens;
}

static inline int attention_keys_padded(const struct attention_shape *s)
{
    return (attention_keys(s) + 7) / 8 * 8;
}

/* Bytes of the operands. */
static inline size_t attention_q_bytes(const struct attention_shape *s)
{
    return (size_t)s->requests * (size_t)s->q_tokens * (size_t)s->heads * (size_t)s->qk_dim * 2;
}

static inline size_t attention_kv_bytes(const struct attention_shape *s)
{
    return (size_t)s->requests * (size_t)s->kv_heads * (size_t)attention_keys_padded(s) *
           (size_t)s->kv_width * 2;
}

static inline size_t attention_out_bytes(const struct attention_shape *s)
{
    return (size_t)s->requests * (size_t)s->q_tokens * (size_t)s->heads * (size_t)s->v_dim * 2;
}

/* The scores of all requests are made in pieces of at most so many bytes, but at least one batch.
 */
#define ATTENTION_SCORES_BYTES ((size_t)1 << 30)

/* Bytes that kernels_attention_open allocates besides workspaces. */
size_t kernels_attention_scores_bytes(const struct attention_shape *shape);

struct attention;

/* Makes a plan with its scores and workspace on the current device. ERR_RANGE, ERR_UNSUPPORTED (no
 * algorithm), ERR_GPU, ERR_NOMEM. */
int kernels_attention_open(struct attention **plan, const struct attention_shape *shape);
/* Enqueues GEMM, softmax, GEMM, once per piece; capturable. Launches of one plan share its scores,
 * so they belong on one stream. 0, ERR_RANGE, ERR_GPU. */
int kernels_attention_launch(struct attention *plan, const void *q, const void *kv, void *out,
                             cudaStream_t stream);
/* Accepts NULL. The plan's launches must have finished. */
void kernels_attention_close(struct attention *plan);

/* All launchers below: one persistent kernel of `ctas` CTAs; several may share a stamp, which then
 * spans them. Pointers are device memory, 16-byte aligned. 0, ERR_RANGE, ERR_GPU. */

/* residual_out = x + residual, out = RMSNorm(residual_out) * weight, row by row; without residual
 * (NULL) out = RMSNorm(x) * weight. BF16 [rows][width], weight [width]; width % 8 == 0, <= 16384.
 */
struct attention_norm_args {
    int ctas, rows, width;
    const void *x, *residual, *weight;
    void *residual_out, *out;
    struct kernel_stamp *stamp;
};
int kernels_attention_norm_launch(const struct attention_norm_args *args, cudaStream_t stream);
#define ATTENTION_NORM_EPSILON 1e-6f

/* e4m3 and one float scale per 128 channels, as kernels/quant.h: in BF16 [rows][width],
 * out [rows][width], scale [width / 128][rows] (what a block-scaled GEMM reads). width % 128 == 0.
 */
struct attention_quant_args {
    int ctas, rows, width;
    const void *in;
    void *out;
    float *scale;
    struct kernel_stamp *stamp;
};
int kernels_attention_quant_launch(const struct attention_quant_args *args, cudaStream_t stream);

/* Rotary embedding of the queries' and the new keys' last (MLA) or all (GQA) channels, and the
 * write of the new tokens into the cache. Channel c of the first half of the `rope` channels is
 * rotated with channel c + rope / 2 by the angle whose cosine and sine stand in rotary.
 *   q_new   [requests * q_tokens][heads][rope]: into q at channel q_first of its head
 *   kv_new  [requests * q_tokens][kv_heads][kv_width]: into kv at key context_len + t; channels
 *           [k_first, k_first + rope) are rotated, the others copied
 *   rotary  float [q_tokens][rope / 2][2]
 * rope % 16 == 0, q_first % 8 == 0, k_first % 8 == 0. */
struct attention_append_args {
    int ctas;
    struct attention_shape shape;
    int rope, q_first, k_first;
    const void *q_new, *kv_new;
    const float *rotary;
    void *q, *kv;
    struct kernel_stamp *stamp;
};
int kernels_attention_append_launch(const struct attention_append_args *args, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
