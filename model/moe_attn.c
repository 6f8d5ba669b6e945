/* model/moe_attn.c: the attention and state-space modules of a config.json, by what stands in its
 * layers (plan/attn.h says what the shapes mean). */
#include <string.h>

#include "base/err.h"
#include "model/moe_read.h"

static int ask(struct moe_reader *r, const char *what, const char *names, int def, int max,
               int *out)
{
    const struct moe_ask a = {what, names, def, def == MOE_REQUIRED ? 1 : 0, max};

    return moe_int(r, &a, out);
}

static bool has(const struct moe_place *place, int layers, enum moe_mixer mixer)
{
    for (int l = 0; l < layers; l++)
        if (place[l].mixer == mixer)
            return true;
    return false;
}

/* The output gate of softmax attention, where the file or its type says that there is one. */
static int gate_read(struct moe_reader *r, struct attn_shape *s)
{
    bool gate, head_wise;
    int rc = moe_bool(r, "attn_output_gate|attention_output_gate|mla_use_output_gate",
                      moe_type_is(r, "qwen3_next"), &gate);

    if (!rc)
        rc = moe_bool(r, "use_head_wise_attn_gate", false, &head_wise);
    if (!rc && gate && moe_type_is(r, "qwen3_next"))
        moe_note(r, "attention has an output gate, as this type has");
    if (!rc)
        s->gate_width = gate ? s->heads * s->v_head_dim : head_wise ? s->heads : 0;
    return rc;
}

static int index_read(struct moe_reader *r, struct attn_shape *s)
{
    int rc = ask(r, "indexer heads", "index_n_heads", MOE_REQUIRED, 65536, &s->index_heads);

    if (!rc)
        rc = ask(r, "indexer head size", "index_head_dim", MOE_REQUIRED, 65536, &s->index_head_dim);
    if (!rc)
        rc = ask(r, "tokens attended to", "index_topk", MOE_REQUIRED, 1 << 24, &s->index_topk);
    return rc;
}

static int mla_read(struct moe_reader *r, const struct moe_numbers *k, struct attn_shape *s)
{
    if (!k->qk_nope || !k->qk_rope || !k->v_head)
        return moe_fault(r, NULL,
                         "kv_lora_rank is set; qk_nope_head_dim, qk_rope_head_dim and v_head_dim "
                         "are wanted with it");
    if (k->qk_head && k->qk_head != k->qk_nope + k->qk_rope)
        return moe_fault(r, moe_find(r, "qk_head_dim"),
                         "qk_head_dim is %d, but qk_nope_head_dim and qk_rope_head_dim add up to "
                         "%d",
                         k->qk_head, k->qk_nope + k->qk_rope);
    *s = (struct attn_shape){.kind = ATTN_MLA,
                             .hidden = k->hidden,
                             .heads = k->heads,
                             .kv_heads = 1,
                             .qk_head_dim = k->qk_nope + k->qk_rope,
                             .v_head_dim = k->v_head,
                             .q_lora_rank = k->q_lora,
                             .kv_lora_rank = k->kv_lora,
                             .qk_rope_head_dim = k->qk_rope};
    if (!moe_find(r, "index_topk"))
        return gate_read(r, s);
    s->kind = ATTN_DSA;
    return index_read(r, s);
}

/* DeepSeek-V4: head_dim is the latent's width, rotated part included. */
static int compressed_read(struct moe_reader *r, const struct moe_numbers *k, struct attn_shape *s)
{
    int rc;

    *s = (struct attn_shape){.kind = ATTN_COMPRESSED,
                             .hidden = k->hidden,
                             .heads = k->heads,
                             .kv_heads = 1,
                             .qk_head_dim = k->head_dim,
                             .v_head_dim = k->head_dim,
                             .q_lora_rank = k->q_lora,
                             .qk_rope_head_dim = k->qk_rope};
    rc = ask(r, "output rank", "o_lora_rank", MOE_REQUIRED, 1 << 20, &s->o_lora_rank);
    if (!rc)
        rc = ask(r, "output groups", "o_groups", MOE_REQUIRED, 65536, &s->o_groups);
    if (!rc)
        rc = ask(r, "window", "sliding_window", MOE_REQUIRED, 1 << 30, &s->window);
    if (!rc && (!k->head_dim || !k->q_lora))
        rc = moe_fault(r, NULL, "o_lora_rank is set; head_dim and q_lora_rank are wanted with it");
    return rc;
}

static int gqa_read(struct moe_reader *r, const struct moe_numbers *k, struct attn_shape *s)
{
    int kv = k->kv_heads ? k->kv_heads : k->heads;
    int dim = k->head_dim ? k->head_dim : k->hidden / k->heads;

    if (!k->head_dim && k->hidden % k->heads != 0)
        return moe_fault(r, NULL,
                         "hidden_size is not a multiple of the heads, and head_dim is missing");
    if (k->heads % kv != 0)
        return moe_fault(r, NULL, "the attention heads are not a multiple of the KV heads");
    *s = (struct attn_shape){.kind = ATTN_GQA,
                             .hidden = k->hidden,
                             .heads = k->heads,
                             .kv_heads = kv,
                             .qk_head_dim = dim,
                             .v_head_dim = k->v_head ? k->v_head : dim,
                             .sinks = moe_type_is(r, "gpt_oss")};
    return gate_read(r, s);
}

/* MiniMax-M3: blocks are scored by a few index heads of their own. */
static int msa_read(struct moe_reader *r, struct attn_shape *s)
{
    bool on;
    int rc = moe_bool(r, "use_sparse_attention", true, &on);

    if (!rc && !on)
        return moe_fault(r, moe_find(r, "use_sparse_attention"),
                         "use_sparse_attention is false beside layers of sparse attention");
    if (s->kind != ATTN_GQA)
        return moe_fault(r, moe_find(r, "sparse_attention_config"),
                         "sparse_attention_config beside another attention than GQA");
    s->kind = ATTN_MSA;
    if (!rc)
        rc = ask(r, "indexer heads", "sparse_num_index_heads|index_n_heads", MOE_REQUIRED, 65536,
                 &s->index_heads);
    if (!rc)
        rc = ask(r, "indexer head size", "sparse_index_dim|index_head_dim", MOE_REQUIRED, 65536,
                 &s->index_head_dim);
    if (!rc)
        rc = ask(r, "blocks attended to", "sparse_topk_blocks|index_topk_blocks", MOE_REQUIRED,
                 1 << 20, &s->index_topk);
    if (!rc)
        rc = ask(r, "tokens of a block", "sparse_block_size|index_block_size", MOE_REQUIRED,
                 1 << 20, &s->index_block);
    return rc;
}

/* Layers of a window may have heads of their own (MiMo), and so may those that see all (Gemma 4).
 */
static int window_read(struct moe_reader *r, struct attn_shape *s)
{
    int rc = ask(r, "window", "sliding_window|sliding_window_size|window_size", MOE_REQUIRED,
                 1 << 30, &s->window);
    bool sinks = s->sinks;

    s->kind = ATTN_WINDOW;
    if (!rc)
        rc = ask(r, "heads in a window", "swa_num_attention_heads", s->heads, 65536, &s->heads);
    if (!rc)
        rc = ask(r, "KV heads in a window", "swa_num_key_value_heads", s->kv_heads, 65536,
                 &s->kv_heads);
    if (!rc)
        rc =
            ask(r, "head size in a window", "swa_head_dim", s->qk_head_dim, 65536, &s->qk_head_dim);
    if (!rc)
        rc = ask(r, "value head size in a window", "swa_v_head_dim", s->v_head_dim, 65536,
                 &s->v_head_dim);
    if (!rc)
        rc = moe_bool(r, "add_swa_attention_sink_bias", sinks, &s->sinks);
    if (!rc && (s->kv_heads < 1 || s->heads % s->kv_heads))
        rc = moe_fault(r, moe_find(r, "swa_num_key_value_heads"),
                       "the heads in a window are not a multiple of their KV heads");
    if (!rc && s->gate_width)
        rc = gate_read(r, s);
    return rc;
}

static int global_read(struct moe_reader *r, struct attn_shape *s)
{
    int dim, rc = ask(r, "head size of layers that see all", "global_head_dim", 0, 65536, &dim);

    if (!rc && dim)
        s->qk_head_dim = s->v_head_dim = dim;
    if (!rc)
        rc = ask(r, "KV heads of layers that see all", "num_global_key_value_heads", s->kv_heads,
                 65536, &s->kv_heads);
    if (!rc)
        rc = moe_bool(r, "attention_k_eq_v", false, &s->keys_are_values);
    if (!rc && (s->kv_heads < 1 || s->heads % s->kv_heads))
        rc = moe_fault(r, moe_find(r, "num_global_key_value_heads"),
                       "the heads are not a multiple of num_global_key_value_heads");
    if (!rc && s->gate_width)
        rc = gate_read(r, s);
    return rc;
}

static int gated_delta_read(struct moe_reader *r, struct attn_shape *s)
{
    int rc =
        ask(r, "linear key heads", "linear_num_key_heads", MOE_REQUIRED, 65536, &s->state_k_heads);

    s->kind = ATTN_GATED_DELTA;
    if (!rc)
        rc = ask(r, "linear value heads", "linear_num_value_heads", MOE_REQUIRED, 65536,
                 &s->state_v_heads);
    if (!rc)
        rc = ask(r, "linear key head size", "linear_key_head_dim", MOE_REQUIRED, 65536,
                 &s->state_k_dim);
    if (!rc)
        rc = ask(r, "linear value head size", "linear_value_head_dim", MOE_REQUIRED, 65536,
                 &s->state_v_dim);
    if (!rc)
        rc = ask(r, "convolution", "linear_conv_kernel_dim", 4, 1024, &s->conv_kernel);
    return rc;
}

static int kda_read(struct moe_reader *r, const struct moe_numbers *k, const struct doc_node *map,
                    struct attn_shape *s)
{
    bool full;
    int heads, dim, rc;

    moe_scope_add(r, map);
    moe_find(r, "kda_layers|full_attn_layers|head_dim");
    rc = ask(r, "KDA heads", "num_heads", k->heads, 65536, &heads);
    if (!rc && !doc_get(map, "head_dim"))
        moe_note(r, "linear_attn_config does not say head_dim: taken as v_head_dim, %d", k->v_head);
    dim = k->v_head;
    if (!rc && doc_get(map, "head_dim")) {
        long long v;

        if (doc_to_int(doc_get(map, "head_dim"), &v) || v < 1 || v > 65536)
            return moe_fault(r, doc_get(map, "head_dim"), "head_dim is outside 1..65536");
        dim = (int)v;
        moe_says(r, "KDA head size: %d (head_dim, line %d)", dim, doc_get(map, "head_dim")->line);
    }
    if (!rc)
        rc = ask(r, "convolution", "short_conv_kernel_size", 4, 1024, &s->conv_kernel);
    if (!rc)
        rc = moe_bool(r, "use_full_rank_gate", false, &full);
    if (rc)
        return rc;
    s->kind = ATTN_KDA;
    s->state_k_heads = s->state_v_heads = heads;
    s->state_k_dim = s->state_v_dim = s->decay_rank = dim;
    s->gate_width = heads * dim;
    s->gate_rank = full ? 0 : dim;
    return 0;
}

static int mamba_read(struct moe_reader *r, struct attn_shape *s)
{
    int rc = ask(r, "Mamba heads", "mamba_num_heads|mamba_n_heads", MOE_REQUIRED, 65536,
                 &s->state_v_heads);

    s->kind = ATTN_MAMBA2;
    if (!rc)
        rc = ask(r, "Mamba head size", "mamba_head_dim|mamba_d_head", MOE_REQUIRED, 65536,
                 &s->state_v_dim);
    if (!rc)
        rc = ask(r, "state size", "ssm_state_size|mamba_d_state", MOE_REQUIRED, 65536,
                 &s->state_k_dim);
    if (!rc)
        rc = ask(r, "Mamba groups", "n_groups|mamba_n_groups", MOE_REQUIRED, 65536,
                 &s->state_k_heads);
    if (!rc)
        rc = ask(r, "convolution", "conv_kernel|mamba_d_conv", 4, 1024, &s->conv_kernel);
    return rc;
}

static void lightning_fill(const struct moe_numbers *k, struct attn_shape *s)
{
    s->kind = ATTN_LIGHTNING;
    s->state_k_heads = s->state_v_heads = k->heads;
    s->state_k_dim = s->state_v_dim = k->head_dim ? k->head_dim : k->hidden / k->heads;
    s->gate_width = s->state_v_heads * s->state_v_dim;
}

static int linear_read(struct moe_reader *r, const struct moe_numbers *k, struct attn_shape *s)
{
    const struct doc_node *kda = moe_find(r, "linear_attn_config");
    const char *type = moe_string(r, "mamba_ssm_dtype|mamba_ssm_cache_dtype");
    int rc = 0;

    *s = (struct attn_shape){.hidden = k->hidden, .state_bytes = 4};
    if (type && (!strcmp(type, "bfloat16") || !strcmp(type, "float16")))
        s->state_bytes = 2;
    else if (type && strcmp(type, "float32"))
        return moe_fault(r, NULL, "a state of type %s is not known", type);
    if (moe_find(r, "linear_num_value_heads"))
        rc = gated_delta_read(r, s);
    else if (kda && kda->type == DOC_MAP)
        rc = kda_read(r, k, kda, s);
    else if (moe_find(r, "mamba_num_heads|mamba_n_heads"))
        rc = mamba_read(r, s);
    else if (moe_type_is(r, "minimax"))
        lightning_fill(k, s);
    else
        rc = moe_fault(r, NULL,
                       "there are layers of linear attention, but no key says of what "
                       "kind (linear_num_value_heads, linear_attn_config, "
                       "mamba_num_heads)");
    return rc;
}

static int full_read(struct moe_reader *r, const struct moe_numbers *k, struct attn_shape *s)
{
    if (moe_find(r, "o_lora_rank"))
        return compressed_read(r, k, s);
    if (k->kv_lora)
        return mla_read(r, k, s);
    if (moe_find(r, "index_topk"))
        return moe_fault(r, moe_find(r, "index_topk"),
                         "index_topk is set, but neither kv_lora_rank nor o_lora_rank");
    return gqa_read(r, k, s);
}

static int compressed_kinds(struct moe_reader *r, struct moe_mixers *out)
{
    struct attn_shape *csa = &out->of[MIX_CSA], *hca = &out->of[MIX_HCA];

    out->of[MIX_WINDOW] = *csa;
    *hca = *csa;
    csa->compress_ratio = 4;
    hca->compress_ratio = 128;
    return index_read(r, csa);
}

static int chunk_read(struct moe_reader *r, struct attn_shape *s)
{
    s->kind = ATTN_WINDOW;
    return ask(r, "chunk", "attention_chunk_size", 8192, 1 << 30, &s->window);
}

/* A chunk size that no layer uses must be the window (MiMo repeats it so). */
static int chunk_check(struct moe_reader *r, const struct moe_mixers *m)
{
    const struct doc_node *node = moe_find(r, "attention_chunk_size");
    int chunk, rc = ask(r, "chunk", "attention_chunk_size", 0, 1 << 30, &chunk);

    if (!rc && node && chunk != m->of[MIX_WINDOW].window)
        rc = moe_fault(r, node, "attention_chunk_size is set, but no layer has chunks");
    return rc;
}

int moe_mixers_read(struct moe_reader *r, const struct moe_numbers *k,
                    const struct moe_place *place, struct moe_mixers *out)
{
    int n = k->layers, rc;
    struct attn_shape base;

    *out = (struct moe_mixers){0};
    rc = full_read(r, k, &base);
    for (int i = 0; i < MIX_NONE; i++)
        out->of[i] = base;
    if (!rc && base.kind == ATTN_COMPRESSED) {
        if (has(place, n, MIX_FULL))
            return moe_fault(r, NULL,
                             "o_lora_rank is set, but compress_ratios does not say how "
                             "each layer compresses");
        return compressed_kinds(r, out);
    }
    if (!rc && (has(place, n, MIX_CSA) || has(place, n, MIX_HCA)))
        return moe_fault(r, NULL, "compressed attention without o_lora_rank");
    if (!rc && has(place, n, MIX_SHARED_INDEX)) {
        if (base.kind != ATTN_DSA)
            return moe_fault(r, moe_find(r, "indexer_types"), "indexer_types without index_topk");
        out->of[MIX_SHARED_INDEX].index_shared = true;
    }
    if (!rc && has(place, n, MIX_SPARSE) && base.kind != ATTN_DSA)
        rc = msa_read(r, &out->of[MIX_SPARSE]);
    if (!rc && has(place, n, MIX_WINDOW))
        rc = base.kind == ATTN_GQA
                 ? window_read(r, &out->of[MIX_WINDOW])
                 : moe_fault(r, moe_find(r, "sliding_window"), "a window over %s is not known",
                             attn_kind_name(base.kind));
    if (!rc && has(place, n, MIX_CHUNK))
        rc = chunk_read(r, &out->of[MIX_CHUNK]);
    else if (!rc)
        rc = chunk_check(r, out);
    if (!rc)
        rc = global_read(r, &out->of[MIX_FULL]);
    if (!rc && has(place, n, MIX_LINEAR))
        rc = linear_read(r, k, &out->of[MIX_LINEAR]);
    return rc;
}
