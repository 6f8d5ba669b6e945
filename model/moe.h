/* model/moe.h: what a model is: the shapes read from a Hugging Face config.json, and the types of
 * its weights from that file or from hf_quant_config.json beside it. docs/models.md says which keys
 * are read and how. */
#ifndef PEOSIM_MODEL_MOE_H
#define PEOSIM_MODEL_MOE_H

#include <stdbool.h>
#include <stddef.h>

#include "plan/attn.h"
#include "plan/plan.h"

enum moe_attention { MOE_ATTN_MHA, MOE_ATTN_GQA, MOE_ATTN_MLA };

/* Parts of a model that have a type of their own. */
enum moe_part {
    MOE_EXPERTS,
    MOE_SHARED,
    MOE_DENSE,
    MOE_ATTN_IN,  /* projections from the hidden state */
    MOE_ATTN_OUT, /* output projection */
    MOE_HEAD,     /* embedding, output head, gates */
    MOE_PARTS
};
const char *moe_part_name(enum moe_part part);

struct moe_weights {
    enum plan_dtype dtype;  /* of most of the part's weights */
    double bytes_per_param; /* mean over its layers, scales included */
};

/* One distinct kind of layer: a mixer (attention, state space or none), then routed experts, a
 * dense FFN, both side by side, or nothing. */
struct moe_layer {
    struct attn_shape attn;
    int experts, topk, inter; /* experts 0: no routed experts here */
    int zero_experts;         /* choices beside the experts that compute and send nothing */
    int expert_hidden; /* width that routed experts and messages have; hidden unless latent */
    int shared_inter;  /* total width of the shared experts */
    int dense_inter;   /* width of the dense FFN, 0 = none; beside experts where both are */
    int matrices;      /* of an expert or FFN: 3 (gate, up, down) or 2 (up, down) */
    int count;         /* layers of this kind */
};

#define MOE_MAX_KINDS 256

struct moe_model {
    char *name;
    char *path;
    int hidden, num_layers, first_dense_layers;
    int moe_layers; /* layers with routed experts, once every rule of the file is applied */
    /* The layers, and what kind each is. The fields below repeat the kind of most MoE layers; in a
     * view (moe_model_of_layer) those of the kind viewed. */
    struct moe_layer *layer;
    int num_kinds;
    unsigned char *kind_of; /* [num_layers] */
    int experts, topk, inter;
    int zero_experts, expert_hidden, matrices;
    int shared_experts, shared_inter; /* shared_inter: total width of the shared experts */
    int dense_inter;                  /* of dense layers */
    int beside_inter;                 /* of the dense FFN beside the experts */
    int n_group, topk_group;          /* group-limited gating; 1,1 = off */
    int vocab;
    enum moe_attention attention;
    int heads, kv_heads, head_dim;
    int q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim;
    struct attn_shape attn;
    double mix_params; /* a layer's residual mixing (hyper-connections) */
    bool tied_embeddings;
    int mtp_layers;  /* layers that draft tokens (MTP), none of them counted elsewhere */
    int max_context; /* tokens of prompt and answer, scaled positions included; 0 = not said */
    bool quantised;  /* the file says in which types; else those of the scenario hold */
    struct moe_weights part[MOE_PARTS];
    double kv_bytes_per_element; /* as the file says; 0 = it does not */
    /* For people: what was read from which key; what was taken for granted, left out, ignored. */
    char *read, *notes;
};

/* name: a path to a config.json or to the folder it lies in, or a shipped name ("deepseek-v3" finds
 * configs/models/deepseek-v3.json). ignore_keys: names, with commas between, that may be unknown or
 * unusual; NULL or "" = none. A key that is not known and whose name says that it matters (experts,
 * layers, attention, sizes, types) is ERR_CONFIG, as are contradictions. Logged with file and key.
 */
int moe_model_read_but(const char *name, const char *ignore_keys, struct moe_model **out);
int moe_model_read(const char *name, struct moe_model **out); /* nothing ignored */
/* The same from JSON text; `path` is for messages and gives the model's name. quant: the text of
 * hf_quant_config.json, or NULL. */
struct moe_source {
    const char *text, *quant;
    size_t len, quant_len;
    const char *path, *ignore_keys;
};
int moe_model_parse_source(const struct moe_source *source, struct moe_model **out);
int moe_model_parse(const char *text, size_t len, const char *path, struct moe_model **out);
void moe_model_free(struct moe_model *m); /* accepts NULL */

/* The model as if all its layers were of one kind: borrowed from m, never freed. */
struct moe_model moe_model_of_layer(const struct moe_model *m, int kind);

/* Closed forms, all in parameters (weights): whole model, and those that work on one token. Norms,
 * biases (under 0.1%), vision and the layers that draft tokens are left out. Active leaves out the
 * input embedding, which is looked up; some publishers count it (Qwen, Mixtral). Of zero experts a
 * token chooses its even share. */
double moe_params_total(const struct moe_model *m);
double moe_params_active(const struct moe_model *m);
/* All weights in bytes, as the file has them (BF16 where it says nothing). */
double moe_weight_bytes(const struct moe_model *m);
/* Attention weights of one layer; one routed expert; the shared experts of one layer. */
double moe_params_attention(const struct moe_model *m);
double moe_params_expert(const struct moe_model *m);
double moe_params_shared(const struct moe_model *m);
/* Of one layer of a kind: dense FFN; gate and projections to and from a latent width. */
double moe_layer_dense(const struct moe_layer *l);
double moe_layer_gate(const struct moe_layer *l);
double moe_layer_expert(const struct moe_layer *l);
double moe_layer_shared(const struct moe_layer *l);
/* Experts that a token really uses: topk, less the zero experts' even share of it. */
double moe_layer_used(const struct moe_layer *l);
/* KV cache elements per token and layer (MLA: kv_lora_rank + qk_rope_head_dim). */
int moe_kv_elements(const struct moe_model *m);
/* One request of `context` tokens over all layers: KV cache and state. */
double moe_cache_bytes(const struct moe_model *m, double context, double bytes_per_element);

/* Bytes of one weight in this type, scales included. */
double moe_dtype_bytes(enum plan_dtype dtype);
const char *moe_dtype_name(enum plan_dtype dtype);

#endif
