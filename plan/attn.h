/* plan/attn.h: the shape of one attention or state-space module, as plans and models carry it.
 * Only shapes: parameters and bytes follow in model/attn.h, times in model/law/.
 *
 * Which fields a kind reads:
 *   GQA        heads, kv_heads, qk_head_dim, v_head_dim (MHA: kv_heads == heads)
 *   WINDOW     as GQA; a query sees the last `window` tokens (and a sink logit per head)
 *   MLA        heads, q_lora_rank, kv_lora_rank, qk_rope_head_dim, qk_head_dim (with rope),
 *              v_head_dim; the cache holds kv_lora_rank + qk_rope_head_dim a token
 *   DSA        as MLA, and an indexer: index_heads queries of index_head_dim score every token's
 *              one index key; index_topk tokens are attended to (DeepSeek-V3.2, GLM-5)
 *   COMPRESSED one latent of qk_head_dim a token, kept for the last `window` tokens; besides,
 *              compress_ratio tokens become one latent. With index_heads (CSA) an indexer picks
 *              index_topk of these, without (HCA) all are attended to. compress_ratio 0: window
 *              only. Output projection in o_groups groups through o_lora_rank (DeepSeek-V4)
 *   MSA        as GQA; index_heads queries score one index key a token by blocks of index_block;
 *              index_topk blocks are attended to (MiniMax-M3)
 *   GATED_DELTA, KDA, MAMBA2, LIGHTNING: a state of state_k_dim x state_v_dim for each of
 *              state_v_heads, whatever the context; a convolution over conv_kernel tokens (0 none)
 */
#ifndef PEOSIM_PLAN_ATTN_H
#define PEOSIM_PLAN_ATTN_H

#include <stdbool.h>

/* name, text, whether it keeps a state instead of a cache that grows with the context */
#define ATTN_KINDS(X)                                                                              \
    X(NONE, "none", false) /* a layer of experts or a dense FFN alone */                           \
    X(GQA, "GQA", false)                                                                           \
    X(WINDOW, "sliding window", false)                                                             \
    X(MLA, "MLA", false)                                                                           \
    X(DSA, "sparse MLA with indexer (DSA)", false)                                                 \
    X(COMPRESSED, "compressed (CSA, HCA)", false)                                                  \
    X(MSA, "block-sparse GQA with indexer (MSA)", false)                                           \
    X(GATED_DELTA, "gated delta net", true)                                                        \
    X(KDA, "Kimi delta attention", true)                                                           \
    X(MAMBA2, "Mamba2", true)                                                                      \
    X(LIGHTNING, "lightning", true)

enum attn_kind {
#define ATTN_ENUM(name, text, state) ATTN_##name,
    ATTN_KINDS(ATTN_ENUM)
#undef ATTN_ENUM
        ATTN_KIND_COUNT
};

struct attn_shape {
    enum attn_kind kind;
    int hidden;
    int heads, kv_heads;
    int qk_head_dim, v_head_dim;
    int gate_width; /* output gate from the hidden state: 0 none, heads, or heads * v_head_dim */
    bool keys_are_values; /* one projection serves both (the cache still holds both) */
    int window;           /* 0 = all tokens */
    bool sinks;           /* a learned logit per head joins the softmax */
    int q_lora_rank, kv_lora_rank, qk_rope_head_dim;
    int o_groups, o_lora_rank;
    int index_heads, index_head_dim;
    int index_topk;    /* tokens; COMPRESSED: latents; MSA: blocks */
    int index_block;   /* MSA: tokens in a block */
    bool index_shared; /* the choice of an earlier layer serves here too: no indexer runs */
    int compress_ratio;
    int state_k_heads, state_v_heads, state_k_dim, state_v_dim; /* Mamba2: groups, heads, state */
    int conv_kernel;
    int decay_rank;  /* KDA: rank of the decay's projection */
    int gate_rank;   /* KDA: rank of the output gate's projection; 0 = gate_width in one matrix */
    int state_bytes; /* of one element of the state: 4 or 2 */
};

const char *attn_kind_name(enum attn_kind kind);
/* Keeps a state of fixed size instead of a cache. */
bool attn_kind_has_state(enum attn_kind kind);
/* Caches one latent a token for all heads (MLA, DSA, COMPRESSED). */
static inline bool attn_is_latent(enum attn_kind kind)
{
    return kind == ATTN_MLA || kind == ATTN_DSA || kind == ATTN_COMPRESSED;
}

#endif
