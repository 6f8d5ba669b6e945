#include "model/moe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/doc.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "model/attn.h"

/* Every number we read: its names in public config files, first match wins. */
struct moe_key {
    const char *what;
    const char *names; /* "a|b|c" */
    size_t offset;
    int def; /* KEY_REQUIRED: must be there */
    int min, max;
};

#define KEY_REQUIRED  (-1)
#define KEY_AT(field) offsetof(struct moe_keys, field)

struct moe_keys {
    int hidden, layers, first_dense, sparse_step, layer_freq;
    int experts, topk, moe_inter, inter, dense_inter;
    int shared, shared_inter, n_group, topk_group, vocab;
    int heads, kv_heads, head_dim;
    int q_lora, kv_lora, qk_nope, qk_rope, v_head, mtp, max_context;
};

static const struct moe_key moe_key_table[] = {
    {"the number of routed experts",
     "n_routed_experts|num_experts|num_local_experts|moe_num_experts|num_moe_experts",
     KEY_AT(experts), KEY_REQUIRED, 1, 65536},
    {"the experts per token",
     "num_experts_per_tok|num_experts_per_token|moe_topk|moe_top_k|moe_k|experts_per_token|top_k",
     KEY_AT(topk), KEY_REQUIRED, 1, 1024},
    {"the hidden size", "hidden_size|d_model|n_embd", KEY_AT(hidden), KEY_REQUIRED, 1, 1 << 20},
    {"the number of layers", "num_hidden_layers|n_layers|num_layers|n_layer", KEY_AT(layers),
     KEY_REQUIRED, 1, 10000},
    {"the expert width", "moe_intermediate_size|moe_ffn_hidden_size|expert_ffn_hidden_size",
     KEY_AT(moe_inter), 0, 1, 1 << 22},
    {"the FFN width", "intermediate_size|ffn_hidden_size", KEY_AT(inter), 0, 1, 1 << 22},
    {"the dense FFN width", "intermediate_size_mlp|dense_intermediate_size", KEY_AT(dense_inter), 0,
     1, 1 << 22},
    {"the number of shared experts",
     "n_shared_experts|num_shared_experts|num_shared_expert|moe_num_shared_experts", KEY_AT(shared),
     0, 0, 1024},
    {"the shared expert width", "shared_expert_intermediate_size|shared_intermediate_size",
     KEY_AT(shared_inter), 0, 0, 1 << 22},
    {"the leading dense layers", "first_k_dense_replace|moe_layer_start_index", KEY_AT(first_dense),
     0, 0, 10000},
    {"the MoE layer step", "decoder_sparse_step|interleave_moe_layer_step", KEY_AT(sparse_step), 1,
     1, 10000},
    {"the MoE layer frequency", "moe_layer_freq", KEY_AT(layer_freq), 1, 1, 10000},
    {"the expert groups", "n_group|num_expert_group", KEY_AT(n_group), 1, 1, 65536},
    {"the groups per token", "topk_group", KEY_AT(topk_group), 0, 1, 65536},
    {"the vocabulary", "vocab_size", KEY_AT(vocab), 0, 1, 1 << 26},
    {"the attention heads", "num_attention_heads|n_heads|n_head", KEY_AT(heads), KEY_REQUIRED, 1,
     65536},
    {"the KV heads", "num_key_value_heads|kv_n_heads|num_kv_heads", KEY_AT(kv_heads), 0, 1, 65536},
    {"the head size", "head_dim", KEY_AT(head_dim), 0, 1, 65536},
    {"the query rank", "q_lora_rank", KEY_AT(q_lora), 0, 0, 1 << 20},
    {"the KV rank", "kv_lora_rank", KEY_AT(kv_lora), 0, 0, 1 << 20},
    {"the head size without position", "qk_nope_head_dim", KEY_AT(qk_nope), 0, 1, 65536},
    {"the head size with position", "qk_rope_head_dim", KEY_AT(qk_rope), 0, 1, 65536},
    {"the value head size", "v_head_dim", KEY_AT(v_head), 0, 1, 65536},
    {"the prediction layers", "num_nextn_predict_layers", KEY_AT(mtp), 0, 0, 100},
    {"the longest context",
     "max_position_embeddings|max_seq_len|max_sequence_length|seq_length|n_positions",
     KEY_AT(max_context), 0, 0, 1 << 30},
};

/* Where to look, nearest first: multimodal files nest the language model, DBRX its FFN. */
#define MOE_MAX_SCOPES 12

struct moe_reader {
    const struct doc *doc;
    const struct doc_node *scope[MOE_MAX_SCOPES];
    int num_scopes;
};

static void moe_scope_add(struct moe_reader *r, const struct doc_node *map)
{
    if (map && map->type == DOC_MAP && r->num_scopes < MOE_MAX_SCOPES)
        r->scope[r->num_scopes++] = map;
}

static void moe_scopes_find(struct moe_reader *r)
{
    static const char *const nested[] = {"text_config", "language_config", "llm_config"};
    const struct doc_node *root = r->doc->root;
    const struct doc_node *thinker = doc_get(root, "thinker_config");

    for (size_t i = 0; i < sizeof nested / sizeof *nested; i++) {
        moe_scope_add(r, doc_get(root, nested[i]));
        moe_scope_add(r, doc_get(thinker, nested[i]));
    }
    moe_scope_add(r, root);
    for (int i = 0, n = r->num_scopes; i < n; i++) {
        moe_scope_add(r, doc_get(r->scope[i], "ffn_config"));
        moe_scope_add(r, doc_get(r->scope[i], "attn_config"));
    }
}

/* The first node under any of the names ("a|b") that is not null. */
static const struct doc_node *moe_find(const struct moe_reader *r, const char *names)
{
    for (int i = 0; i < r->num_scopes; i++) {
        for (const char *n = names; n;) {
            char name[64];
            size_t len = strcspn(n, "|");
            const struct doc_node *node;
            snprintf(name, sizeof name, "%.*s", (int)len, n);
            node = doc_get(r->scope[i], name);
            if (node && (node->type != DOC_SCALAR || node->text))
                return node;
            n = n[len] ? n + len + 1 : NULL;
        }
    }
    return NULL;
}

/* Some files give one number per layer; we take such a list where all agree. */
static int moe_number(const struct moe_reader *r, const struct doc_node *node, long long *out)
{
    const struct doc_node *first = node->type == DOC_LIST ? node->child : node;
    long long other;

    if (!first || doc_to_int(first, out))
        goto wrong;
    for (const struct doc_node *c = first->next; node->type == DOC_LIST && c; c = c->next) {
        if (doc_to_int(c, &other))
            goto wrong;
        if (other != *out) {
            log_error_at(r->doc->path, node->line, "%s differs between layers: not supported",
                         node->key);
            return ERR_CONFIG;
        }
    }
    return 0;
wrong:
    log_error_at(r->doc->path, node->line, "%s is not a whole number", node->key);
    return ERR_CONFIG;
}

static int moe_key_read(const struct moe_reader *r, const struct moe_key *k, struct moe_keys *keys)
{
    const struct doc_node *node = moe_find(r, k->names);
    int *field = (int *)((char *)keys + k->offset);
    long long v;
    int rc;

    *field = k->def;
    if (!node && k->def == KEY_REQUIRED) {
        log_error_at(r->doc->path, 0, "%s is missing; looked for %s", k->what, k->names);
        return ERR_CONFIG;
    }
    if (!node || (k->offset == KEY_AT(layer_freq) && node->type == DOC_LIST))
        return 0;
    rc = moe_number(r, node, &v);
    if (rc)
        return rc;
    if (v < k->min || v > k->max) {
        log_error_at(r->doc->path, node->line, "%s is %lld, outside %d..%d", node->key, v, k->min,
                     k->max);
        return ERR_CONFIG;
    }
    *field = (int)v;
    return 0;
}

/* Files that carry two names for the number of experts must mean the same. */
static int moe_check_aliases(const struct moe_reader *r, int experts)
{
    static const char *const names[] = {"n_routed_experts", "num_experts", "num_local_experts"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct doc_node *node = moe_find(r, names[i]);
        long long v;
        if (node && moe_number(r, node, &v) == 0 && v != experts) {
            log_error_at(r->doc->path, node->line, "%s is %lld, but another key says %d experts",
                         names[i], v, experts);
            return ERR_CONFIG;
        }
    }
    return 0;
}

/* mlp_only_layers names the dense layers; moe_layer_freq as a list has a flag for every layer. */
static void moe_layers_apply_lists(const struct moe_reader *r, const struct moe_keys *k,
                                   unsigned char *moe)
{
    const struct doc_node *freq = moe_find(r, "moe_layer_freq");
    const struct doc_node *dense = moe_find(r, "mlp_only_layers");
    long long v;
    int l = 0;

    for (const struct doc_node *c = dense ? dense->child : NULL; c; c = c->next) {
        if (doc_to_int(c, &v) == 0 && v >= 0 && v < k->layers)
            moe[v] = 0;
    }
    for (const struct doc_node *c = freq ? freq->child : NULL; c && l < k->layers; c = c->next)
        moe[l++] &= doc_to_int(c, &v) == 0 && v != 0;
}

/* Which layers are MoE: the rules of Qwen (decoder_sparse_step, mlp_only_layers), DeepSeek
 * (first_k_dense_replace, moe_layer_freq) and of files that list a flag per layer. */
static int moe_layers_count(const struct moe_reader *r, const struct moe_keys *k,
                            struct moe_model *m)
{
    unsigned char *moe = malloc((size_t)k->layers);
    bool leading = true;

    if (!moe)
        return ERR_NOMEM;
    for (int l = 0; l < k->layers; l++)
        moe[l] = l >= k->first_dense && (l + 1) % k->sparse_step == 0 && l % k->layer_freq == 0;
    moe_layers_apply_lists(r, k, moe);
    for (int l = 0; l < k->layers; l++) {
        leading = leading && !moe[l];
        m->moe_layers += moe[l];
        m->first_dense_layers += leading;
    }
    m->moe_layer_step = k->sparse_step > 1 ? k->sparse_step : k->layer_freq;
    if (m->moe_layer_step > 1)
        m->first_dense_layers = k->first_dense;
    free(moe);
    return 0;
}

static int moe_fault(const struct moe_reader *r, const char *text)
{
    log_error_at(r->doc->path, 0, "%s", text);
    return ERR_CONFIG;
}

static int moe_fill_ffn(const struct moe_reader *r, const struct moe_keys *k, struct moe_model *m)
{
    m->hidden = k->hidden;
    m->num_layers = k->layers;
    m->experts = k->experts;
    m->topk = k->topk;
    /* Mixtral and DBRX have no dense layers, so their one width is the experts'. */
    m->inter = k->moe_inter ? k->moe_inter : k->inter;
    m->dense_inter = k->dense_inter ? k->dense_inter : k->inter ? k->inter : m->inter;
    m->shared_experts = k->shared ? k->shared : k->shared_inter > 0;
    m->shared_inter = k->shared_inter ? k->shared_inter : k->shared * m->inter;
    m->vocab = k->vocab;
    m->mtp_layers = k->mtp;
    if (moe_layers_count(r, k, m))
        return ERR_NOMEM;
    if (!m->inter)
        return moe_fault(r, "the expert width is missing; looked for moe_intermediate_size, "
                            "moe_ffn_hidden_size, intermediate_size, ffn_hidden_size");
    if (m->topk > m->experts)
        return moe_fault(r, "more experts per token than experts");
    if (m->moe_layers == 0)
        return moe_fault(r, "no layer is a MoE layer");
    return moe_check_aliases(r, k->experts);
}

static int moe_fill_groups(const struct moe_reader *r, const struct moe_keys *k,
                           struct moe_model *m)
{
    const struct doc_node *method = moe_find(r, "topk_method");

    m->n_group = k->n_group;
    m->topk_group = k->topk_group ? k->topk_group : k->n_group;
    /* "greedy" chooses over all experts whatever the groups say. */
    if (method && method->text && strcmp(method->text, "greedy") == 0)
        m->n_group = m->topk_group = 1;
    if (m->experts % m->n_group != 0)
        return moe_fault(r, "n_group does not divide the number of experts");
    if (m->topk_group > m->n_group)
        return moe_fault(r, "topk_group is larger than n_group");
    if (m->topk > m->topk_group * (m->experts / m->n_group))
        return moe_fault(r, "more experts per token than topk_group groups hold");
    return 0;
}

static int moe_fill_attention(const struct moe_reader *r, const struct moe_keys *k,
                              struct moe_model *m)
{
    m->heads = k->heads;
    m->kv_heads = k->kv_heads ? k->kv_heads : k->heads;
    if (k->kv_lora) {
        if (!k->qk_nope || !k->qk_rope || !k->v_head)
            return moe_fault(r, "kv_lora_rank is set; qk_nope_head_dim, qk_rope_head_dim and "
                                "v_head_dim are wanted with it");
        m->attention = MOE_ATTN_MLA;
        m->q_lora_rank = k->q_lora;
        m->kv_lora_rank = k->kv_lora;
        m->qk_nope_head_dim = k->qk_nope;
        m->qk_rope_head_dim = k->qk_rope;
        m->v_head_dim = k->v_head;
        m->head_dim = k->qk_nope + k->qk_rope;
        return 0;
    }
    m->attention = m->kv_heads == m->heads ? MOE_ATTN_MHA : MOE_ATTN_GQA;
    if (!k->head_dim && k->hidden % k->heads != 0)
        return moe_fault(r, "hidden_size is not a multiple of the heads, and head_dim is missing");
    if (m->heads % m->kv_heads != 0)
        return moe_fault(r, "the attention heads are not a multiple of the KV heads");
    m->head_dim = k->head_dim ? k->head_dim : k->hidden / k->heads;
    m->v_head_dim = m->head_dim;
    return 0;
}

static void moe_fill_shape(struct moe_model *m)
{
    bool mla = m->attention == MOE_ATTN_MLA;

    m->attn = (struct attn_shape){.kind = mla ? ATTN_MLA : ATTN_GQA,
                                  .hidden = m->hidden,
                                  .heads = m->heads,
                                  .kv_heads = mla ? 1 : m->kv_heads,
                                  .qk_head_dim = m->head_dim,
                                  .v_head_dim = m->v_head_dim,
                                  .q_lora_rank = m->q_lora_rank,
                                  .kv_lora_rank = m->kv_lora_rank,
                                  .qk_rope_head_dim = m->qk_rope_head_dim};
}

static double moe_scaling_number(const struct doc_node *scaling, const char *key)
{
    const struct doc_node *node = doc_get(scaling, key);
    double v;

    return node && !doc_to_double(node, &v) && v > 0 ? v : 0;
}

/* Scaled rotary positions. Files that name what was trained on reach factor times as far; most say
 * so in max_position_embeddings too, some leave the trained length there. Linear and dynamic
 * scaling stretch max_position_embeddings itself; of the other kinds it is the whole. */
static int moe_context(const struct moe_reader *r, int plain)
{
    const struct doc_node *scaling = moe_find(r, "rope_scaling|rope_parameters");
    const struct doc_node *type = NULL;
    double factor, trained, most = plain;

    if (!plain || !scaling || scaling->type != DOC_MAP)
        return plain;
    type = doc_get(scaling, doc_get(scaling, "rope_type") ? "rope_type" : "type");
    factor = moe_scaling_number(scaling, "factor");
    trained = moe_scaling_number(scaling, "original_max_position_embeddings");
    if (!type || type->type != DOC_SCALAR || !type->text)
        return plain;
    if (!strcmp(type->text, "yarn"))
        most = (trained > 0 ? trained : plain) * factor;
    else if (!strcmp(type->text, "linear") || !strcmp(type->text, "dynamic"))
        most = plain * factor;
    return most > plain ? (int)(most < 1 << 30 ? most : 1 << 30) : plain;
}

static int moe_fill(const struct doc *doc, struct moe_model *m)
{
    struct moe_reader r = {.doc = doc};
    struct moe_keys keys;
    const struct doc_node *tied;
    int rc = 0;

    if (doc->root->type != DOC_MAP)
        return moe_fault(&r, "is not a model configuration: an object is wanted");
    moe_scopes_find(&r);
    for (size_t i = 0; i < sizeof moe_key_table / sizeof *moe_key_table && rc == 0; i++)
        rc = moe_key_read(&r, &moe_key_table[i], &keys);
    if (rc == 0)
        rc = moe_fill_ffn(&r, &keys, m);
    if (rc == 0)
        rc = moe_fill_groups(&r, &keys, m);
    if (rc == 0)
        rc = moe_fill_attention(&r, &keys, m);
    if (rc == 0)
        moe_fill_shape(m);
    if (rc == 0)
        m->max_context = moe_context(&r, keys.max_context);
    tied = moe_find(&r, "tie_word_embeddings");
    if (rc == 0 && tied && doc_to_bool(tied, &m->tied_embeddings)) {
        log_error_at(doc->path, tied->line, "tie_word_embeddings is neither true nor false");
        rc = ERR_CONFIG;
    }
    return rc;
}

/* ".../qwen3-30b.json" -> "qwen3-30b"; ".../Qwen3-30B-A3B/config.json" -> "Qwen3-30B-A3B". */
static char *moe_name_of(const char *path)
{
    const char *end = path + strlen(path), *start;

    if (end - path > 12 && strcmp(end - 12, "/config.json") == 0)
        end -= 12;
    else if (end - path > 5 && strcmp(end - 5, ".json") == 0)
        end -= 5;
    for (start = end; start > path && start[-1] != '/'; start--)
        ;
    return strndup(start, (size_t)(end - start));
}

static int moe_model_build(const struct doc *doc, struct moe_model **out)
{
    struct moe_model *m = calloc(1, sizeof *m);
    int rc = ERR_NOMEM;

    if (!m)
        goto out;
    m->name = moe_name_of(doc->path);
    m->path = strdup(doc->path);
    if (m->name && m->path)
        rc = moe_fill(doc, m);
out:
    if (rc) {
        moe_model_free(m);
        m = NULL;
    }
    *out = m;
    return rc;
}

int moe_model_parse(const char *text, size_t len, const char *path, struct moe_model **out)
{
    struct doc *doc;
    int rc;

    *out = NULL;
    rc = doc_parse_json(text, len, path, &doc);
    if (rc == 0)
        rc = moe_model_build(doc, out);
    doc_free(doc);
    return rc;
}

static int moe_locate(const char *name, char **path)
{
    struct stat st;
    char *shipped = NULL;
    int rc = 0;

    *path = NULL;
    if (stat(name, &st) == 0 && S_ISDIR(st.st_mode)) {
        if (asprintf(path, "%s/config.json", name) < 0)
            *path = NULL;
        return *path ? 0 : ERR_NOMEM;
    }
    rc = file_find_shipped(name, path);
    if (rc == 0 || asprintf(&shipped, "configs/models/%s.json", name) < 0)
        return rc;
    rc = file_find_shipped(shipped, path);
    if (rc)
        log_error("model '%.200s': no such file, and no shipped configs/models/%.200s.json", name,
                  name);
    free(shipped);
    return rc;
}

int moe_model_read(const char *name, struct moe_model **out)
{
    struct doc *doc = NULL;
    char *path;
    int rc;

    *out = NULL;
    rc = moe_locate(name, &path);
    if (rc == 0)
        rc = doc_read(path, &doc);
    if (rc == 0)
        rc = moe_model_build(doc, out);
    doc_free(doc);
    free(path);
    return rc;
}

void moe_model_free(struct moe_model *m)
{
    if (!m)
        return;
    free(m->name);
    free(m->path);
    free(m);
}

double moe_params_expert(const struct moe_model *m)
{
    return 3.0 * m->hidden * m->inter; /* gate, up, down */
}

double moe_params_shared(const struct moe_model *m)
{
    return 3.0 * m->hidden * m->shared_inter;
}

double moe_params_attention(const struct moe_model *m)
{
    return attn_params(&m->attn);
}

/* All layers with `experts` routed experts each, without embedding and output head. */
static double moe_params_layers(const struct moe_model *m, int experts)
{
    double gate = (double)m->hidden * m->experts;
    double moe = experts * moe_params_expert(m) + moe_params_shared(m) + gate;
    double dense = 3.0 * m->hidden * m->dense_inter;

    return m->num_layers * moe_params_attention(m) + m->moe_layers * moe +
           (m->num_layers - m->moe_layers) * dense;
}

double moe_params_total(const struct moe_model *m)
{
    double table = (double)m->vocab * m->hidden;

    return moe_params_layers(m, m->experts) + table * (m->tied_embeddings ? 1 : 2);
}

double moe_params_active(const struct moe_model *m)
{
    return moe_params_layers(m, m->topk) + (double)m->vocab * m->hidden;
}

int moe_kv_elements(const struct moe_model *m)
{
    return (int)attn_cache_elements(&m->attn, 1);
}
