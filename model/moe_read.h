/* model/moe_read.h: inside the model reader: keys of a config.json that know what became of them.
 * Every key that is asked for is marked; what stays unmarked at the end is judged by name. */
#ifndef PEOSIM_MODEL_MOE_READ_H
#define PEOSIM_MODEL_MOE_READ_H

#include "base/doc.h"
#include "model/moe.h"

/* Where to look, nearest first: multimodal files nest the language model, DBRX its FFN. */
#define MOE_MAX_SCOPES 16

struct moe_reader {
    const struct doc *doc, *quant; /* quant: hf_quant_config.json, or NULL */
    const struct doc_node *scope[MOE_MAX_SCOPES];
    int num_scopes;
    const struct doc_node **used;
    size_t num_used, cap_used;
    const char *ignore;
    char type[64]; /* model_type of the language model, "" = not said */
    struct moe_model *m;
    int err; /* the first ERR_NOMEM of what returns nothing */
};

void moe_reader_open(struct moe_reader *r, const struct doc *doc, const struct doc *quant,
                     const char *ignore, struct moe_model *m);
void moe_reader_close(struct moe_reader *r);
/* A map whose keys are looked for and judged with the others. NULL and other nodes are passed over.
 */
void moe_scope_add(struct moe_reader *r, const struct doc_node *map);

/* The first node under any of the names ("a|b") that is not null; marks all of that name. */
const struct doc_node *moe_find(struct moe_reader *r, const char *names);
bool moe_type_is(const struct moe_reader *r, const char *start); /* model_type begins so */
/* "a,b" has the word. */
bool moe_ignored(const struct moe_reader *r, const char *name);

/* One number, or one for every layer. */
struct moe_num {
    int value; /* the largest of each[] */
    int *each; /* [layers], or NULL */
    const struct doc_node *node;
};
struct moe_ask {
    const char *what, *names;
    int def; /* MOE_REQUIRED: must be there */
    int min, max;
};
#define MOE_REQUIRED (-1)

/* layers > 0: a list of so many numbers is one for each. Two names that say different things are an
 * error. */
int moe_num(struct moe_reader *r, const struct moe_ask *ask, int layers, struct moe_num *out);
int moe_int(struct moe_reader *r, const struct moe_ask *ask, int *out);
static inline int moe_at(const struct moe_num *n, int layer)
{
    return n->each ? n->each[layer] : n->value;
}
int moe_bool(struct moe_reader *r, const char *names, bool def, bool *out);
const char *moe_string(struct moe_reader *r, const char *names); /* NULL = not said */

/* ERR_CONFIG, logged with file and line. node may be NULL. */
int moe_fault(const struct moe_reader *r, const struct doc_node *node, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* A line of what was read, and of what was assumed or left out. */
void moe_says(struct moe_reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void moe_note(struct moe_reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* After everything was asked for: what is left over (model/moe_keys.c). */
int moe_keys_check(struct moe_reader *r);

/* What the numbers of the file are (model/moe.c fills it, model/moe_layers.c applies it). */
struct moe_numbers {
    int hidden, layers, first_dense;
    struct moe_num experts, topk, moe_inter, inter, dense_inter, shared, shared_inter;
    int zero_experts, latent, vocab;
    int heads, kv_heads, head_dim, v_head;
    int q_lora, kv_lora, qk_nope, qk_rope, qk_head;
    int matrices;
};

/* What stands in each layer. */
enum moe_mixer {
    MIX_FULL,
    MIX_WINDOW,
    MIX_CHUNK,
    MIX_LINEAR,
    MIX_SPARSE,
    MIX_SHARED_INDEX, /* sparse, by an earlier layer's choice */
    MIX_CSA,
    MIX_HCA,
    MIX_NONE
};
enum moe_ffn { FFN_EXPERTS, FFN_DENSE, FFN_NONE };
struct moe_place {
    unsigned char mixer, ffn;
};
/* layers is known once the lists are (model/moe_layers.c). place[layers], freed by the caller. */
int moe_layers_number(struct moe_reader *r, int *layers);
int moe_layers_place(struct moe_reader *r, const struct moe_numbers *k, struct moe_place **place);

/* The attention shapes of the model by mixer (model/moe_attn.c). */
struct moe_mixers {
    struct attn_shape of[MIX_NONE + 1];
};
int moe_mixers_read(struct moe_reader *r, const struct moe_numbers *k,
                    const struct moe_place *place, struct moe_mixers *out);

/* Types of all parts, once the layers stand (model/moe_quant.c). */
int moe_quant_read(struct moe_reader *r);

#endif
