/* model/moe_keys.c: keys of a config.json that nothing asked for. Those below change neither shapes
 * nor types; vision and audio parts are left out and said; a name that speaks of what matters is an
 * error; the rest is counted. */
#include "model/moe_read.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/log.h"

static const char *const irrelevant[] = {
    /* the file itself */
    "_name_or_path",
    "architectures",
    "auto_map",
    "transformers_version",
    "model_type",
    "tokenizer_class",
    "torchscript",
    "use_bfloat16",
    "task_specific_params",
    "problem_type",
    "finetuning_task",
    "prefix",
    "id2label",
    "label2id",
    "is_decoder",
    "use_cache",
    "return_dict",
    "_attn_implementation",
    "attn_implementation",
    "_attn_implementation_internal",
    "attn_impl",
    "auto_mapping",
    "ignore_index",
    "ignore_keys_at_rope_validation",
    "_experts_implementation",
    "experts_implementation",
    "use_flash_attn",
    "use_flash_attention",
    "use_kernels",
    "use_mamba_kernels",
    "num_logits_to_keep",
    "dtype",
    "torch_dtype",
    "params_dtype",
    "is_encoder_decoder",
    "tie_encoder_decoder",
    "tf_legacy_loss",
    "verbose",
    /* sampling defaults that old files repeat */
    "bad_words_ids",
    "begin_suppress_tokens",
    "suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_router_logits",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "pruned_heads",
    "chunk_size_feed_forward",
    "generation_config",
    "max_new_tokens",
    /* training */
    "initializer_range",
    "init_method",
    "attention_dropout",
    "attn_pdrop",
    "hidden_dropout",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "embd_pdrop",
    "resid_pdrop",
    "resid_dropout",
    "residual_dropout",
    "embedding_dropout",
    "output_dropout",
    "dropout",
    "classifier_dropout",
    "emb_pdrop",
    "ffn_dropout",
    "router_aux_loss_coef",
    "aux_loss_alpha",
    "router_z_loss_coef",
    "router_z_loss_coeff",
    "router_aux_loss_coeff",
    "moe_loss_weight",
    "moe_aux_loss_coef",
    "moe_z_loss_coef",
    "moe_router_aux_loss_coef",
    "router_jitter_noise",
    "router_jitter_eps",
    "input_jitter_noise",
    "moe_jitter_eps",
    "seq_aux",
    "pretraining_tp",
    "ep_size",
    "moe_token_drop",
    "moe_drop_tokens",
    "moe_eval_capacity_token_fraction",
    "moe_train_capacity_factor",
    "moe_eval_capacity_factor",
    "moe_min_capacity",
    "moe_capacity",
    "moe_random_routing_dropped_token",
    "enable_expert_tensor_parallelism",
    "moe_use_aux_free",
    "moe_multimodal_dispatch_use_allgather",
    "moe_gate_act",
    "moe_group_experts",
    "moe_orthogonal_loss_lambda",
    "moe_use_hard_gate",
    "moe_gate",
    "moe_layer_recompute",
    "gradient_checkpointing",
    "rescale_prenorm_residual",
    "z_loss_weight",
    "use_recompute",
    "moe_router_enable_expert_bias",
    "router_dtype",
    "moe_router_dtype",
    "router_bias",
    "moe_weight_smoothing",
    "moe_normalize_expert_weights",
    "time_step_floor",
    "time_step_limit",
    "time_step_max",
    "time_step_min",
    "mamba_dt_max",
    "mamba_dt_min",
    "mamba_dt_init_floor",
    "moe_shared_expert_overlap",
    "moe_router_load_balancing_type",
    "dense_attention_warmup",
    /* scores, scales and positions: no weights, no bytes, next to no work */
    "routed_scaling_factor",
    "moe_router_scaling_factor",
    "moe_routed_scaling_factor",
    "norm_topk_prob",
    "moe_renormalize",
    "norm_expert_weight",
    "scoring_func",
    "score_function",
    "moe_router_activation_func",
    "moe_router_activation",
    "moe_router_score_function",
    "scoring_function",
    "use_routing_bias",
    "use_moe_router_bias",
    "use_grouped_topk",
    "moe_router_use_expert_bias",
    "use_expert_bias",
    "expert_bias",
    "route_scale",
    "need_fp32_gate",
    "router_activation_func",
    "norm_topk",
    "norm_min",
    "gate_lower_bound",
    "rope_theta",
    "rotary_dim",
    "rotary_emb_base",
    "partial_rotary_factor",
    "rope_interleave",
    "partial_rotary_factors",
    "rotary_pct",
    "rope_pct",
    "swa_rope_theta",
    "rope_local_base_freq",
    "global_rope_theta",
    "local_rope_theta",
    "compress_rope_theta",
    "indexer_rope_interleave",
    "initial_context_length",
    "rope_percent",
    "use_rotary_pos_emb",
    "yarn_only_types",
    "rope_type",
    "mla_use_nope",
    "mla_scale_q_lora",
    "mla_scale_kv_lora",
    "attention_value_scale",
    "attention_multiplier",
    "embedding_multiplier",
    "logits_scaling",
    "residual_multiplier",
    "attn_temperature_tuning",
    "attn_scale",
    "floor_scale",
    "query_pre_attn_scalar",
    "final_logit_softcapping",
    "attn_logit_softcapping",
    "router_logit_softcapping",
    "attn_logit_softcap",
    "attention_logit_cap",
    "logit_scale",
    "mup_enabled",
    "clip_qkv",
    "embedding_multiplier_scale",
    "output_multiplier_scale",
    "swiglu_limit",
    "swiglu_alpha",
    "swiglu_limits",
    "swiglu_limits_shared",
    "activation_situ_beta",
    "activation_situ_linear_beta",
    "moe_token_choice",
    "cache_implementation",
    "use_qkv_bias",
    "scale_emb",
    "scale_depth",
    "dim_model_base",
    "sandwich_norm",
    "postnorm",
    "layernorm_epsilon",
    /* norms and biases: weights under 0.1% */
    "attention_bias",
    "qkv_bias",
    "mlp_bias",
    "use_bias",
    "add_bias",
    "no_bias",
    "bias",
    "mamba_proj_bias",
    "use_conv_bias",
    "mamba_conv_bias",
    "lm_head_bias",
    "attn_bias",
    "o_bias",
    "use_qk_norm",
    "qk_norm",
    "qk_norm_type",
    "qk_layernorm",
    "use_gemma_norm",
    "qk_ln",
    "latent_moe_use_norm",
    "norm_type",
    "use_post_norm",
    "residual_in_fp32",
    "norm_head",
    "rms_norm_eps",
    "norm_eps",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "rms_norm_epsilon",
    "add_full_attention_sink_bias",
    "rmsnorm",
    "use_rmsnorm",
    "group_norm_size",
    "hc_eps",
    "hc_sinkhorn_iters",
    "layernorm_full_attention_alpha",
    "layernorm_full_attention_beta",
    "layernorm_linear_attention_alpha",
    "layernorm_linear_attention_beta",
    "layernorm_mlp_alpha",
    "layernorm_mlp_beta",
    "full_attn_alpha_factor",
    "full_attn_beta_factor",
    "linear_attn_alpha_factor",
    "linear_attn_beta_factor",
    "mlp_alpha_factor",
    "mlp_beta_factor",
    "attn_res_block_size",
    "fc2_bias",
    "apply_residual_connection_post_layernorm",
    /* how kernels cut their work */
    "chunk_size",
    "mamba_chunk_size",
    "block_size",
    "expand",
    "mamba_expand",
    "mamba_hidden_act",
    "time_step_rank",
    "mamba_rms_norm",
    "mamba_norm_before_gate",
    /* how an indexer chooses; its sizes are read */
    "sparse_score_type",
    "sparse_init_block",
    "sparse_local_block",
    "sparse_disable_index_value",
    "index_share_for_mtp_iteration",
    "index_skip_topk_offset",
    /* what drafts tokens, beside how many layers do */
    "mtp_use_dedicated_embeddings",
    "mtp_transformer_layers",
    "use_mtp",
    "mtp_hybrid_override_pattern",
    "mtp_layers_block_type",
    "mtp_loss_scaling_factor",
    "mtp_num_layers_to_share",
    "keep_mtp_spec_layers",
    /* pictures and sound */
    "vision_feature_layer",
    "vision_feature_select_strategy",
    "vision_soft_tokens_per_image",
    "projector_hidden_act",
    "projector_hidden_size",
    "multimodal_projector_bias",
    "image_seq_length",
    "image_grid_pinpoints",
    "image_placeholder",
    "video_placeholder",
    "process_image_mode",
    "spatial_merge_size",
    "use_unified_vision_chunk",
    "image_size",
    "use_bidirectional_attention",
    "use_im_start_end",
    "vision_select_layer",
    "understand_projector_stride",
    "projector_bias",
    "vocab_size_per_layer_input",
    "deepstack_visual_indexes",
};

/* Towers and their like are not part of the text model. */
static const char *const left_out[] = {
    "vision_config",    "audio_config",        "visual",
    "vision_tower",     "video_config",        "talker_config",
    "code2wav_config",  "audio_encoder",       "img_token_compression_config",
    "projector_config", "vision_tower_config", "speech_config",
    "image_processor",  "vit_config",          "audio_tokenizer_config",
};

static const char *const dangerous[] = {
    "expert", "moe",   "latent", "quant", "attention", "attn",     "window", "layer", "nope",
    "dtype",  "_size", "_dim",   "rank",  "head",      "hidden",   "ffn",    "mlp",   "mamba",
    "ssm",    "conv_", "sparse", "index", "compress",  "mtp",      "nextn",  "block", "lora",
    "kv_",    "share", "width",  "inter", "residual",  "parallel",
};

static bool among(const char *name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(name, names[i]))
            return true;
    return false;
}

static bool ends(const char *name, const char *tail)
{
    size_t n = strlen(name), t = strlen(tail);

    return n >= t && !strcmp(name + n - t, tail);
}

static bool is_token(const char *name)
{
    return ends(name, "_token_id") || ends(name, "_token_ids") || ends(name, "_token_index") ||
           ends(name, "_token") || ends(name, "_token_len");
}

/* "act" as a word, not the start of "active" or the end of "factor". */
static bool has_act(const char *name)
{
    for (const char *at = strcasestr(name, "act"); at; at = strcasestr(at + 1, "act"))
        if ((at == name || at[-1] == '_') &&
            (at[3] == '\0' || at[3] == '_' || !strncasecmp(at, "activation", 10)))
            return true;
    return false;
}

static bool is_dangerous(const char *name)
{
    for (size_t i = 0; i < sizeof dangerous / sizeof *dangerous; i++)
        if (strcasestr(name, dangerous[i]))
            return true;
    return has_act(name);
}

static bool is_empty(const struct doc_node *n)
{
    return n->type == DOC_SCALAR ? !n->text : !n->num_children;
}

struct leftover {
    struct moe_reader *r;
    int unknown;
    char names[200]; /* the first of them */
};

static bool is_used(const struct moe_reader *r, const struct doc_node *node)
{
    for (size_t i = 0; i < r->num_used; i++)
        if (r->used[i] == node)
            return true;
    for (int i = 0; i < r->num_scopes; i++)
        if (r->scope[i] == node)
            return true;
    return false;
}

static const char *danger_inside(const struct doc_node *node, int depth)
{
    const char *found = NULL;

    if (node->key && is_dangerous(node->key) && !is_token(node->key) &&
        !among(node->key, irrelevant, sizeof irrelevant / sizeof *irrelevant))
        return node->key;
    for (const struct doc_node *c = node->child; c && !found && depth < 8; c = c->next)
        found = danger_inside(c, depth + 1);
    return found;
}

static int judge(struct leftover *left, const struct doc_node *node)
{
    struct moe_reader *r = left->r;
    const char *danger;
    size_t at = strlen(left->names);

    if (among(node->key, left_out, sizeof left_out / sizeof *left_out)) {
        if (!is_empty(node))
            moe_note(r, "%s is left out: the text model alone is counted", node->key);
        return 0;
    }
    if (is_empty(node) || is_token(node->key) || is_used(r, node) ||
        among(node->key, irrelevant, sizeof irrelevant / sizeof *irrelevant))
        return 0;
    if (moe_ignored(r, node->key)) {
        moe_note(r, "%s is ignored, as asked", node->key);
        return 0;
    }
    danger = danger_inside(node, 0);
    if (danger)
        return moe_fault(r, node,
                         "%s%s%s is not known, and its name says that it matters; "
                         "--ignore-key %s lets it through",
                         node->key, danger == node->key ? "" : " holds ",
                         danger == node->key ? "" : danger, node->key);
    left->unknown++;
    snprintf(left->names + at, sizeof left->names - at, "%s%s", at ? ", " : "", node->key);
    return 0;
}

int moe_keys_check(struct moe_reader *r)
{
    struct leftover left = {.r = r};
    int rc = r->err;

    for (int i = 0; i < r->num_scopes && !rc; i++)
        for (const struct doc_node *c = r->scope[i]->child; c && !rc; c = c->next)
            rc = judge(&left, c);
    if (!rc && left.unknown)
        moe_note(r, "%d key%s not known and not used: %s", left.unknown,
                 left.unknown == 1 ? "" : "s", left.names);
    return rc ? rc : r->err;
}
