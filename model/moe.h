/* model/moe.h: what a model is: the shapes read from a Hugging Face config.json. */
#ifndef PEOSIM_MODEL_MOE_H
#define PEOSIM_MODEL_MOE_H

#include <stdbool.h>
#include <stddef.h>

#include "plan/attn.h"

enum moe_attention { MOE_ATTN_MHA, MOE_ATTN_GQA, MOE_ATTN_MLA };

struct moe_model {
    char *name;
    char *path;
    int hidden, num_layers, first_dense_layers; /* first_k_dense_replace */
    int moe_layer_step;               /* every n-th layer is MoE (decoder_sparse_step), 1 = all */
    int moe_layers;                   /* MoE layers once every rule of the file is applied */
    int experts, topk, inter;         /* routed: moe_intermediate_size */
    int shared_experts, shared_inter; /* shared_inter: total width of the shared experts */
    int dense_inter;                  /* intermediate_size of dense layers */
    int n_group, topk_group;          /* group-limited gating; 1,1 = off */
    int vocab;
    enum moe_attention attention;
    int heads, kv_heads, head_dim;
    int q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim;
    struct attn_shape attn; /* of the MoE layers */
    bool tied_embeddings;
    int mtp_layers;  /* num_nextn_predict_layers */
    int max_context; /* tokens of prompt and answer, scaled positions included; 0 = not said */
};

/* name: a path to a config.json or to the folder it lies in, or a shipped name ("deepseek-v3" finds
 * configs/models/deepseek-v3.json). All the usual aliases; nested text_config. A file whose MoE
 * keys are not recognised is ERR_CONFIG, never a dense model; contradictions (topk > experts,
 * groups that do not divide) too. Logged with file (and key). */
int moe_model_read(const char *name, struct moe_model **out);
/* The same from JSON text; `path` is for messages and gives the model's name. */
int moe_model_parse(const char *text, size_t len, const char *path, struct moe_model **out);
void moe_model_free(struct moe_model *m); /* accepts NULL */

/* Closed forms, all in parameters (weights): whole model, and those that work on one token. Norms
 * and biases (under 0.01%) and the multi-token prediction layers are left out. Active leaves out
 * the input embedding, which is looked up; some publishers count it (Qwen, Mixtral). */
double moe_params_total(const struct moe_model *m);
double moe_params_active(const struct moe_model *m);
/* Attention weights of one layer; one routed expert; the shared experts of one layer. */
double moe_params_attention(const struct moe_model *m);
double moe_params_expert(const struct moe_model *m);
double moe_params_shared(const struct moe_model *m);
/* KV cache elements per token and layer (MLA: kv_lora_rank + qk_rope_head_dim). */
int moe_kv_elements(const struct moe_model *m);

#endif
