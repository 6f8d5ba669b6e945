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
#include "model/moe_read.h"

#define MAX_WIDTH (1 << 22)

/* The numbers that a layer may have of its own. */
static int layer_numbers(struct moe_reader *r, struct moe_numbers *k)
{
    static const struct {
        struct moe_ask ask;
        size_t offset;
    } asks[] = {
#define AT(field) offsetof(struct moe_numbers, field)
        {{"routed experts",
          "n_routed_experts|num_experts|num_local_experts|moe_num_experts|num_moe_experts|"
          "num_routed_experts",
          MOE_REQUIRED, 1, 65536},
         AT(experts)},
        {{"experts per token",
          "num_experts_per_tok|num_experts_per_token|moe_topk|moe_top_k|moe_k|experts_per_token|"
          "top_k_experts|num_selected_experts",
          MOE_REQUIRED, 1, 1024},
         AT(topk)},
        {{"expert width",
          "moe_intermediate_size|moe_ffn_hidden_size|expert_ffn_hidden_size|"
          "expert_intermediate_size",
          0, 1, MAX_WIDTH},
         AT(moe_inter)},
        {{"FFN width", "intermediate_size|ffn_hidden_size", 0, 1, MAX_WIDTH}, AT(inter)},
        {{"dense FFN width", "intermediate_size_mlp|dense_intermediate_size", 0, 1, MAX_WIDTH},
         AT(dense_inter)},
        {{"shared experts",
          "n_shared_experts|num_shared_experts|num_shared_expert|moe_num_shared_experts", 0, 0,
          1024},
         AT(shared)},
        {{"shared expert width",
          "shared_expert_intermediate_size|moe_shared_expert_intermediate_size|"
          "shared_intermediate_size|share_expert_dim|moe_shared_intermediate_size",
          0, 0, MAX_WIDTH},
         AT(shared_inter)},
#undef AT
    };
    int rc = 0;

    for (size_t i = 0; i < sizeof asks / sizeof *asks && !rc; i++)
        rc = moe_num(r, &asks[i].ask, k->layers, (struct moe_num *)((char *)k + asks[i].offset));
    return rc;
}

static void numbers_free(struct moe_numbers *k)
{
    struct moe_num *n[] = {&k->experts,     &k->topk,   &k->moe_inter,   &k->inter,
                           &k->dense_inter, &k->shared, &k->shared_inter};

    for (size_t i = 0; i < sizeof n / sizeof *n; i++)
        free(n[i]->each);
}

static int plain_numbers(struct moe_reader *r, struct moe_numbers *k)
{
    static const struct {
        struct moe_ask ask;
        size_t offset;
    } asks[] = {
#define AT(field) offsetof(struct moe_numbers, field)
        {{"zero experts", "zero_expert_num", 0, 0, 65536}, AT(zero_experts)},
        {{"latent width of experts", "routed_expert_hidden_size|moe_latent_size", 0, 1, 1 << 20},
         AT(latent)},
        {{"vocabulary", "vocab_size", 0, 1, 1 << 26}, AT(vocab)},
        {{"attention heads", "num_attention_heads|n_heads|n_head", MOE_REQUIRED, 1, 65536},
         AT(heads)},
        {{"KV heads", "num_key_value_heads|kv_n_heads|num_kv_heads|num_attention_groups", 0, 1,
          65536},
         AT(kv_heads)},
        {{"head size", "head_dim|attention_head_dim", 0, 1, 65536}, AT(head_dim)},
        {{"query rank", "q_lora_rank", 0, 0, 1 << 20}, AT(q_lora)},
        {{"KV rank", "kv_lora_rank", 0, 0, 1 << 20}, AT(kv_lora)},
        {{"head size without position", "qk_nope_head_dim", 0, 1, 65536}, AT(qk_nope)},
        {{"head size with position", "qk_rope_head_dim", 0, 1, 65536}, AT(qk_rope)},
        {{"head size of queries", "qk_head_dim", 0, 1, 65536}, AT(qk_head)},
        {{"value head size", "v_head_dim", 0, 1, 65536}, AT(v_head)},
#undef AT
    };
    int rc = 0;

    for (size_t i = 0; i < sizeof asks / sizeof *asks && !rc; i++)
        rc = moe_int(r, &asks[i].ask, (int *)((char *)k + asks[i].offset));
    return rc;
}

/* Keys that are modelled at one value only. */
static int fixed_check(struct moe_reader *r)
{
    static const struct {
        const char *key, *value;
    } fixed[] = {
        {"num_kv_shared_layers", "0"},
        {"hidden_size_per_layer_input", "0"},
        {"use_double_wide_mlp", "false"},
        {"moe_every_n_layer", "1"},
        {"moe_layer_offset", "0"},
        {"use_cla", "false"},
        {"moe_layer_num_skipped", "0"},
        {"enable_moe_block", "true"},
        {"use_moe", "true"},
        {"num_reward_heads", "0"},
        {"zero_expert_type", "identity"},
        {"attention_method", "MLA"},
        {"use_mixed_mlp_moe", "true"},
        {"add_cross_attention", "false"},
        {"use_mla", "true"},
        {"moe_every_k_layers", "1"},
        {"index_topk_pattern", "none"},
        {"use_parallel_residual", "false"},
    };

    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        const struct doc_node *node = moe_find(r, fixed[i].key);

        if (!node || (node->type == DOC_SCALAR && !strcmp(node->text, fixed[i].value)) ||
            moe_ignored(r, fixed[i].key))
            continue;
        return moe_fault(r, node,
                         "%s is %.40s: only %s is known here; --ignore-key %s lets it through",
                         fixed[i].key, node->type == DOC_SCALAR ? node->text : "not a value",
                         fixed[i].value, fixed[i].key);
    }
    return 0;
}

/* Gate, up and down, or two matrices where the activation has no gate. */
static int matrices_read(struct moe_reader *r, struct moe_numbers *k)
{
    static const struct {
        const char *act;
        int matrices;
    } acts[] = {
        {"silu", 3},      {"swish", 3},        {"swiglu", 3},     {"swigluoai", 3},
        {"situ", 3},      {"gelu", 3},         {"gelu_new", 3},   {"gelu_pytorch_tanh", 3},
        {"gelu_tanh", 3}, {"gelu_fast", 3},    {"swiglu_oai", 3}, {"silu_and_mul", 3},
        {"relu2", 2},     {"relu_squared", 2}, {"relu", 2},       {"squared_relu", 2},
    };
    const struct doc_node *node =
        moe_find(r, "mlp_hidden_act|hidden_act|hidden_activation|ffn_act_fn|activation_function");
    const struct doc_node *name =
        node && node->type == DOC_MAP ? doc_get(node, "name") : node; /* DBRX */
    const char *act = name && name->type == DOC_SCALAR ? name->text : NULL;

    k->matrices = 3;
    for (size_t i = 0; act && i < sizeof acts / sizeof *acts; i++)
        if (!strcmp(act, acts[i].act)) {
            k->matrices = acts[i].matrices;
            moe_says(r, "activation: %s, so %d matrices an expert (%s, line %d)", act, k->matrices,
                     node->key, node->line);
            return 0;
        }
    if (act && moe_ignored(r, node->key))
        return 0;
    return act ? moe_fault(r, node,
                           "%s is '%.40s', which is not known here; --ignore-key %s takes it for "
                           "one with a gate",
                           node->key, act, node->key)
               : 0;
}

/* What a type implies and no key says. */
static int by_type(struct moe_reader *r, struct moe_numbers *k, int *beside)
{
    bool residual, parallel;
    int rc = moe_bool(r, "residual_moe", false, &residual);

    *beside = 0;
    if (!rc)
        rc = moe_bool(r, "parallel_attn_mlp_res|use_residual", moe_type_is(r, "arctic"), &parallel);
    if (rc)
        return rc;
    if (moe_type_is(r, "llama4") && !k->shared.value && !k->shared_inter.value) {
        k->shared.value = 1;
        k->shared_inter.value = k->inter.value;
        moe_note(r, "one shared expert of intermediate_size in each MoE layer, as this type has");
    }
    if (moe_type_is(r, "gemma4") || residual)
        *beside = k->inter.value;
    else if (moe_type_is(r, "arctic") && parallel)
        *beside = k->hidden;
    else if (moe_type_is(r, "longcat"))
        *beside = k->inter.value;
    if (*beside)
        moe_note(r, "a dense FFN of width %d stands beside the experts, as this type has", *beside);
    return 0;
}

static int shared_width(struct moe_reader *r, const struct moe_numbers *k, int l, int inter,
                        int *out)
{
    int n = moe_at(&k->shared, l), width = moe_at(&k->shared_inter, l);

    *out = width ? width : n * inter;
    /* Files differ in whether the width is that of one or of all. */
    if (width && n > 1 && width != n * inter)
        return moe_fault(r, k->shared_inter.node,
                         "%d shared experts and %s %d: is that the width of one or of all? The "
                         "experts' is %d",
                         n, k->shared_inter.node->key, width, inter);
    /* No shared expert of any width. */
    if (k->shared.node && !n)
        *out = 0;
    return 0;
}

static int layer_of(struct moe_reader *r, const struct moe_numbers *k, const struct moe_mixers *mix,
                    struct moe_place place, int beside, int l, struct moe_layer *out)
{
    int inter = moe_at(&k->moe_inter, l), width = moe_at(&k->inter, l);
    int dense = moe_at(&k->dense_inter, l), rc = 0;

    memset(out, 0, sizeof *out);
    out->attn = mix->of[place.mixer];
    out->attn.hidden = k->hidden;
    out->matrices = k->matrices;
    inter = inter ? inter : width; /* Mixtral: one width, the experts' */
    dense = dense ? dense : width ? width : inter;
    out->expert_hidden = k->hidden;
    if (place.ffn == FFN_EXPERTS) {
        out->experts = moe_at(&k->experts, l);
        out->topk = moe_at(&k->topk, l);
        out->inter = inter;
        out->zero_experts = k->zero_experts;
        out->dense_inter = beside;
        if (k->latent)
            out->expert_hidden = k->latent;
        rc = shared_width(r, k, l, inter, &out->shared_inter);
    } else if (place.ffn == FFN_DENSE) {
        out->dense_inter = dense;
    }
    if (!rc && place.ffn == FFN_EXPERTS && !inter)
        rc = moe_fault(r, NULL,
                       "the expert width is missing; looked for moe_intermediate_size, "
                       "moe_ffn_hidden_size, intermediate_size, ffn_hidden_size");
    if (!rc && place.ffn == FFN_EXPERTS && out->topk > out->experts + out->zero_experts)
        rc = moe_fault(r, k->topk.node, "more experts per token than experts");
    return rc;
}

static int kind_add(struct moe_reader *r, struct moe_model *m, const struct moe_layer *l, int at)
{
    struct moe_layer probe = *l;
    int i = 0;

    for (; i < m->num_kinds; i++) {
        probe.count = m->layer[i].count;
        if (!memcmp(&m->layer[i], &probe, sizeof probe))
            break;
    }
    if (i == m->num_kinds) {
        if (i == MOE_MAX_KINDS)
            return moe_fault(r, NULL, "more than %d kinds of layers", MOE_MAX_KINDS);
        m->layer[m->num_kinds++] = *l;
    }
    m->layer[i].count++;
    m->kind_of[at] = (unsigned char)i;
    return 0;
}

static void flat_fill(struct moe_model *m, const struct moe_layer *l)
{
    const struct attn_shape *a = &l->attn;

    m->matrices = l->matrices;
    if (l->experts) { /* a layer without them keeps the model's, which its plan does not read */
        m->experts = l->experts;
        m->topk = l->topk;
        m->inter = l->inter;
        m->zero_experts = l->zero_experts;
        m->expert_hidden = l->expert_hidden;
        m->shared_inter = l->shared_inter;
        m->beside_inter = l->dense_inter;
    } else {
        m->dense_inter = l->dense_inter;
    }
    m->attn = *a;
    m->attention = a->kind == ATTN_MLA || a->kind == ATTN_DSA ? MOE_ATTN_MLA
                   : a->kv_heads == a->heads                  ? MOE_ATTN_MHA
                                                              : MOE_ATTN_GQA;
    m->heads = a->heads ? a->heads : 1;
    m->kv_heads = a->kv_heads ? a->kv_heads : 1;
    m->head_dim = a->qk_head_dim;
    m->v_head_dim = a->v_head_dim;
    m->q_lora_rank = a->q_lora_rank;
    m->kv_lora_rank = a->kv_lora_rank;
    m->qk_rope_head_dim = a->qk_rope_head_dim;
    m->qk_nope_head_dim = a->qk_head_dim - a->qk_rope_head_dim;
}

struct moe_model moe_model_of_layer(const struct moe_model *m, int kind)
{
    struct moe_model view = *m;

    flat_fill(&view, &m->layer[kind]);
    return view;
}

/* The kind that most MoE layers are; the first of the largest. */
static int main_kind(const struct moe_model *m)
{
    int best = -1;

    for (int i = 0; i < m->num_kinds; i++)
        if (m->layer[i].experts && (best < 0 || m->layer[i].count > m->layer[best].count))
            best = i;
    return best;
}

static int layers_fill(struct moe_reader *r, const struct moe_numbers *k, struct moe_model *m)
{
    struct moe_place *place = NULL;
    struct moe_mixers mix;
    struct moe_layer l;
    bool leading = true;
    int beside, rc = moe_layers_place(r, k, &place);

    m->layer = calloc(MOE_MAX_KINDS, sizeof *m->layer);
    m->kind_of = calloc((size_t)k->layers, 1);
    if (!rc && (!m->layer || !m->kind_of))
        rc = ERR_NOMEM;
    if (!rc)
        rc = moe_mixers_read(r, k, place, &mix);
    if (!rc)
        rc = by_type(r, (struct moe_numbers *)k, &beside);
    for (int i = 0; i < k->layers && !rc; i++) {
        rc = layer_of(r, k, &mix, place[i], beside, i, &l);
        if (!rc)
            rc = kind_add(r, m, &l, i);
        leading = leading && place[i].ffn == FFN_DENSE;
        m->first_dense_layers += leading;
        m->moe_layers += place[i].ffn == FFN_EXPERTS;
    }
    free(place);
    if (!rc && !m->moe_layers)
        rc = moe_fault(r, NULL, "no layer is a MoE layer");
    return rc;
}

static int groups_fill(struct moe_reader *r, struct moe_model *m)
{
    const struct moe_ask ask = {"expert groups", "n_group|num_expert_group", 1, 1, 65536};
    const struct moe_ask of = {"groups per token", "topk_group", 0, 1, 65536};
    const char *method = moe_string(r, "topk_method");
    int rc = moe_int(r, &ask, &m->n_group);

    if (!rc)
        rc = moe_int(r, &of, &m->topk_group);
    if (rc)
        return rc;
    if (!m->topk_group)
        m->topk_group = m->n_group;
    /* "greedy" chooses over all experts whatever the groups say. */
    if (method && !strcmp(method, "greedy"))
        m->n_group = m->topk_group = 1;
    if (m->experts % m->n_group != 0)
        return moe_fault(r, NULL, "n_group does not divide the number of experts");
    if (m->topk_group > m->n_group)
        return moe_fault(r, NULL, "topk_group is larger than n_group");
    if (m->topk - m->zero_experts > m->topk_group * (m->experts / m->n_group))
        return moe_fault(r, NULL, "more experts per token than topk_group groups hold");
    return 0;
}

/* Residual streams mixed before and after each half of a layer (hyper-connections): from all of
 * them, how each is read, written and mixed with the others. */
static int mix_fill(struct moe_reader *r, struct moe_model *m)
{
    const struct moe_ask ask = {"residual streams", "hc_mult", 0, 0, 1024};
    int streams, rc = moe_int(r, &ask, &streams);

    m->mix_params = 2.0 * streams * m->hidden * (2 + streams) * streams;
    return rc;
}

static double scaling_number(const struct doc_node *scaling, const char *key)
{
    const struct doc_node *node = doc_get(scaling, key);
    double v;

    return node && !doc_to_double(node, &v) && v > 0 ? v : 0;
}

/* Scaled rotary positions. Files that name what was trained on reach factor times as far; most say
 * so in max_position_embeddings too, some leave the trained length there. Linear and dynamic
 * scaling stretch max_position_embeddings itself; of the other kinds it is the whole. */
static int context_of(struct moe_reader *r, int plain)
{
    const struct doc_node *scaling = moe_find(r, "rope_scaling|rope_parameters");
    const struct doc_node *type = NULL;
    double factor, trained, most = plain;

    if (!plain || !scaling || scaling->type != DOC_MAP)
        return plain;
    type = doc_get(scaling, doc_get(scaling, "rope_type") ? "rope_type" : "type");
    factor = scaling_number(scaling, "factor");
    trained = scaling_number(scaling, "original_max_position_embeddings");
    if (!type || type->type != DOC_SCALAR || !type->text)
        return plain;
    if (!strcmp(type->text, "yarn"))
        most = (trained > 0 ? trained : plain) * factor;
    else if (!strcmp(type->text, "linear") || !strcmp(type->text, "dynamic"))
        most = plain * factor;
    return most > plain ? (int)(most < 1 << 30 ? most : 1 << 30) : plain;
}

static int rest_fill(struct moe_reader *r, struct moe_model *m)
{
    const struct moe_ask context = {
        "longest context",
        "max_position_embeddings|max_seq_len|max_sequence_length|seq_length|n_positions", 0, 0,
        1 << 30};
    const struct moe_ask mtp = {
        "layers that draft tokens",
        "num_nextn_predict_layers|num_mtp_modules|mtp_num_hidden_layers|mtp_num_layers", 0, 0, 100};
    const struct moe_ask hash = {"layers routed by a hash", "num_hash_layers", 0, 0, 10000};
    int plain, hashed, rc = moe_int(r, &context, &plain);

    if (!rc)
        rc = moe_int(r, &mtp, &m->mtp_layers);
    if (!rc)
        rc = moe_bool(r, "tie_word_embeddings", moe_type_is(r, "gemma"), &m->tied_embeddings);
    if (!rc)
        rc = moe_int(r, &hash, &hashed);
    if (!rc && hashed)
        moe_note(r, "%d layers choose experts by a hash of the token: simulated as the others",
                 hashed);
    if (!rc && m->mtp_layers)
        moe_note(r, "%d layer%s that draft tokens (MTP) not counted", m->mtp_layers,
                 m->mtp_layers == 1 ? "" : "s");
    if (!rc)
        m->max_context = context_of(r, plain);
    if (!rc)
        rc = mix_fill(r, m);
    return rc;
}

static int model_fill(struct moe_reader *r, struct moe_model *m)
{
    const struct moe_ask hidden = {"hidden size", "hidden_size|d_model|n_embd", MOE_REQUIRED, 1,
                                   1 << 20};
    struct moe_numbers k = {0};
    int rc = moe_layers_number(r, &k.layers);

    if (!rc)
        rc = layer_numbers(r, &k);
    if (!rc)
        rc = moe_int(r, &hidden, &k.hidden);
    if (!rc)
        rc = plain_numbers(r, &k);
    if (!rc)
        rc = fixed_check(r);
    if (!rc)
        rc = matrices_read(r, &k);
    m->hidden = k.hidden;
    m->num_layers = k.layers;
    m->vocab = k.vocab;
    if (!rc)
        rc = layers_fill(r, &k, m);
    if (!rc) {
        m->dense_inter = k.dense_inter.value ? k.dense_inter.value
                         : k.inter.value     ? k.inter.value
                                             : k.moe_inter.value;
        m->shared_experts = k.shared.value ? k.shared.value : k.shared_inter.value > 0;
        flat_fill(m, &m->layer[main_kind(m)]);
        rc = groups_fill(r, m);
    }
    numbers_free(&k);
    if (!rc)
        rc = rest_fill(r, m);
    if (!rc)
        rc = moe_quant_read(r);
    return rc ? rc : moe_keys_check(r);
}

/* ".../qwen3-30b.json" -> "qwen3-30b"; ".../Qwen3-30B-A3B/config.json" -> "Qwen3-30B-A3B". */
static char *name_of(const char *path)
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

static int model_build(const struct doc *doc, const struct doc *quant, const char *ignore,
                       struct moe_model **out)
{
    struct moe_model *m = calloc(1, sizeof *m);
    struct moe_reader r = {0};
    int rc = ERR_NOMEM;

    if (!m)
        goto out;
    m->name = name_of(doc->path);
    m->path = strdup(doc->path);
    if (!m->name || !m->path)
        goto out;
    moe_reader_open(&r, doc, quant, ignore, m);
    rc = doc->root->type == DOC_MAP
             ? model_fill(&r, m)
             : moe_fault(&r, NULL, "is not a model configuration: an object is wanted");
out:
    moe_reader_close(&r);
    if (rc) {
        moe_model_free(m);
        m = NULL;
    }
    *out = m;
    return rc;
}

int moe_model_parse_source(const struct moe_source *source, struct moe_model **out)
{
    struct doc *doc = NULL, *quant = NULL;
    int rc;

    *out = NULL;
    rc = doc_parse_json(source->text, source->len, source->path, &doc);
    if (!rc && source->quant)
        rc = doc_parse_json(source->quant, source->quant_len, "hf_quant_config.json", &quant);
    if (!rc)
        rc = model_build(doc, quant, source->ignore_keys, out);
    doc_free(doc);
    doc_free(quant);
    return rc;
}

int moe_model_parse(const char *text, size_t len, const char *path, struct moe_model **out)
{
    const struct moe_source source = {.text = text, .len = len, .path = path};

    return moe_model_parse_source(&source, out);
}

static int locate(const char *name, char **path)
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
    if (rc) {
        char *names = file_names_text("configs/models/deepseek-v3.json", ".json");

        log_error("model '%.200s': no such file, and none of the shipped ones: %s", name,
                  names ? names : "configs/models/");
        free(names);
    }
    free(shipped);
    return rc;
}

/* ".../config.json" -> ".../hf_quant_config.json", ".../X_config.json" -> "X_hf_quant_config.json";
 * NULL in *out where there is none. */
static int quant_beside(const char *path, struct doc **out)
{
    static const char tail[] = "config.json";
    size_t n = strlen(path), t = sizeof tail - 1;
    struct stat st;
    char *beside;
    int rc = 0;

    *out = NULL;
    if (n < t || strcmp(path + n - t, tail) ||
        (n > t && path[n - t - 1] != '/' && path[n - t - 1] != '_'))
        return 0;
    if (asprintf(&beside, "%.*shf_quant_config.json", (int)(n - t), path) < 0)
        return ERR_NOMEM;
    if (!stat(beside, &st))
        rc = doc_read(beside, out);
    free(beside);
    return rc;
}

int moe_model_read_but(const char *name, const char *ignore_keys, struct moe_model **out)
{
    struct doc *doc = NULL, *quant = NULL;
    char *path;
    int rc;

    *out = NULL;
    rc = locate(name, &path);
    if (rc == 0)
        rc = doc_read(path, &doc);
    if (rc == 0)
        rc = quant_beside(path, &quant);
    if (rc == 0)
        rc = model_build(doc, quant, ignore_keys, out);
    doc_free(doc);
    doc_free(quant);
    free(path);
    return rc;
}

int moe_model_read(const char *name, struct moe_model **out)
{
    return moe_model_read_but(name, NULL, out);
}

void moe_model_free(struct moe_model *m)
{
    if (!m)
        return;
    free(m->name);
    free(m->path);
    free(m->layer);
    free(m->kind_of);
    free(m->read);
    free(m->notes);
    free(m);
}

double moe_layer_expert(const struct moe_layer *l)
{
    return (double)l->matrices * l->expert_hidden * l->inter;
}

static double hidden_of(const struct moe_layer *l)
{
    return l->attn.hidden;
}

double moe_params_expert(const struct moe_model *m)
{
    return (double)m->matrices * m->expert_hidden * m->inter;
}

double moe_params_shared(const struct moe_model *m)
{
    return (double)m->matrices * m->hidden * m->shared_inter;
}

double moe_params_attention(const struct moe_model *m)
{
    return attn_params(&m->attn);
}

double moe_layer_shared(const struct moe_layer *l)
{
    return l->matrices * hidden_of(l) * l->shared_inter;
}

double moe_layer_dense(const struct moe_layer *l)
{
    return l->matrices * hidden_of(l) * l->dense_inter;
}

double moe_layer_gate(const struct moe_layer *l)
{
    double latent = l->expert_hidden == l->attn.hidden ? 0 : 2.0 * hidden_of(l) * l->expert_hidden;

    return l->experts ? hidden_of(l) * (l->experts + l->zero_experts) + latent : 0;
}

double moe_layer_used(const struct moe_layer *l)
{
    return l->experts ? (double)l->topk * l->experts / (l->experts + l->zero_experts) : 0;
}

/* All layers, with every expert or with those that one token uses. */
static double layers_params(const struct moe_model *m, bool active)
{
    double sum = m->num_layers * m->mix_params;

    for (int i = 0; i < m->num_kinds; i++) {
        const struct moe_layer *l = &m->layer[i];
        double experts = active ? moe_layer_used(l) : l->experts;

        sum += l->count * (attn_params(&l->attn) + experts * moe_layer_expert(l) +
                           moe_layer_shared(l) + moe_layer_dense(l) + moe_layer_gate(l));
    }
    return sum;
}

double moe_params_total(const struct moe_model *m)
{
    double table = (double)m->vocab * m->hidden;

    return layers_params(m, false) + table * (m->tied_embeddings ? 1 : 2);
}

double moe_params_active(const struct moe_model *m)
{
    return layers_params(m, true) + (double)m->vocab * m->hidden;
}

double moe_weight_bytes(const struct moe_model *m)
{
    double table = (double)m->vocab * m->hidden * (m->tied_embeddings ? 1 : 2);
    double sum = (table + m->num_layers * m->mix_params) * m->part[MOE_HEAD].bytes_per_param;

    for (int i = 0; i < m->num_kinds; i++) {
        const struct moe_layer *l = &m->layer[i];

        sum += l->count * (attn_params_in(&l->attn) * m->part[MOE_ATTN_IN].bytes_per_param +
                           attn_params_out(&l->attn) * m->part[MOE_ATTN_OUT].bytes_per_param +
                           l->experts * moe_layer_expert(l) * m->part[MOE_EXPERTS].bytes_per_param +
                           moe_layer_shared(l) * m->part[MOE_SHARED].bytes_per_param +
                           moe_layer_dense(l) * m->part[MOE_DENSE].bytes_per_param +
                           moe_layer_gate(l) * m->part[MOE_HEAD].bytes_per_param);
    }
    return sum;
}

int moe_kv_elements(const struct moe_model *m)
{
    return (int)attn_cache_elements(&m->attn, 1);
}

double moe_cache_bytes(const struct moe_model *m, double context, double bytes_per_element)
{
    double sum = 0;

    for (int i = 0; i < m->num_kinds; i++)
        sum +=
            m->layer[i].count * (attn_cache_bytes(&m->layer[i].attn, context, bytes_per_element) +
                                 attn_state_bytes(&m->layer[i].attn));
    return sum;
}
