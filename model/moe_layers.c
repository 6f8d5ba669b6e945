/* model/moe_layers.c: what stands in each layer, from the lists and intervals of public files. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/moe_read.h"

#define MAX_LAYERS 10000

static const char layers_names[] = "num_hidden_layers|n_layers|num_layers|n_layer";

/* Layers of which each has one mixer or one FFN, not both: Nemotron-H. */
static const struct doc_node *lone_list(struct moe_reader *r)
{
    const struct doc_node *node = moe_find(r, "layers_block_type");

    return node && node->type == DOC_LIST ? node : NULL;
}

static const char *lone_pattern(struct moe_reader *r)
{
    return moe_string(r, "hybrid_override_pattern|hybrid_layer_pattern_string");
}

int moe_layers_number(struct moe_reader *r, int *layers)
{
    const struct moe_ask ask = {"layers", layers_names, 0, 1, MAX_LAYERS};
    const struct doc_node *list = lone_list(r);
    const char *pattern = lone_pattern(r);
    int listed = list ? list->num_children : pattern ? (int)strnlen(pattern, MAX_LAYERS + 1) : 0;
    int rc = moe_int(r, &ask, layers);

    if (rc)
        return rc;
    if (listed > MAX_LAYERS)
        return moe_fault(r, list, "more than %d layers", MAX_LAYERS);
    if (*layers && listed && listed != *layers)
        return moe_fault(r, moe_find(r, layers_names),
                         "%d layers, but the pattern of layers names %d", *layers, listed);
    if (!*layers)
        *layers = listed;
    if (!*layers)
        return moe_fault(r, NULL, "the number of layers is missing; looked for %s", layers_names);
    /* A shortcut layer of LongCat is two layers, of which the first has the experts. */
    if (moe_type_is(r, "longcat")) {
        *layers *= 2;
        moe_note(r, "each layer counts as two: attention and dense FFN twice, experts beside the "
                    "first");
    }
    return 0;
}

struct word {
    const char *text;
    unsigned char mixer, ffn;
};

static const struct word lone_words[] = {
    {"mamba", MIX_LINEAR, FFN_NONE},   {"M", MIX_LINEAR, FFN_NONE},
    {"attention", MIX_FULL, FFN_NONE}, {"*", MIX_FULL, FFN_NONE},
    {"moe", MIX_NONE, FFN_EXPERTS},    {"E", MIX_NONE, FFN_EXPERTS},
    {"mlp", MIX_NONE, FFN_DENSE},      {"-", MIX_NONE, FFN_DENSE},
};

static const struct word mixer_words[] = {
    {"full_attention", MIX_FULL, 0},
    {"attention", MIX_FULL, 0},
    {"global_attention", MIX_FULL, 0},
    {"sliding_attention", MIX_WINDOW, 0},
    {"sliding_window_attention", MIX_WINDOW, 0},
    {"local_attention", MIX_WINDOW, 0},
    {"chunked_attention", MIX_CHUNK, 0},
    {"linear_attention", MIX_LINEAR, 0},
    {"mamba", MIX_LINEAR, 0},
    {"mamba2", MIX_LINEAR, 0},
    {"lightning_attention", MIX_LINEAR, 0},
    {"deepseek_sparse_attention", MIX_SPARSE, 0},
    {"minimax_m3_sparse", MIX_SPARSE, 0},
    {"compressed_sparse_attention", MIX_CSA, 0},
    {"heavily_compressed_attention", MIX_HCA, 0},
};

static const struct word ffn_words[] = {
    {"dense", 0, FFN_DENSE}, {"sparse", 0, FFN_EXPERTS}, {"moe", 0, FFN_EXPERTS}};

static const struct word *word_find(const struct word *words, size_t n, const char *text)
{
    for (size_t i = 0; text && i < n; i++)
        if (!strcmp(words[i].text, text))
            return &words[i];
    return NULL;
}
#define WORD(words, text) word_find(words, sizeof words / sizeof *words, text)

/* A list with an entry for each layer, or (spare) for the layers that draft tokens too. */
static int list_of(struct moe_reader *r, const char *names, int layers, int spare,
                   const struct doc_node **out)
{
    const struct doc_node *node = moe_find(r, names);

    *out = NULL;
    if (!node || node->type != DOC_LIST || !node->num_children)
        return 0;
    if (node->num_children < layers || node->num_children > layers + spare)
        return moe_fault(r, node, "%s has %d entries, but there are %d layers", node->key,
                         node->num_children, layers);
    moe_says(r, "%s: a list of %d (line %d)", node->key, node->num_children, node->line);
    *out = node;
    return 0;
}

static int lone_place(struct moe_reader *r, int layers, struct moe_place *place, bool *done)
{
    const struct doc_node *list = lone_list(r), *c = list ? list->child : NULL;
    const char *pattern = lone_pattern(r);

    *done = list || pattern;
    for (int l = 0; *done && l < layers; l++) {
        char letter[2] = {pattern && !list ? pattern[l] : '\0', '\0'};
        const char *text = list ? c->text : letter;
        const struct word *w = WORD(lone_words, text);

        if (!w)
            return moe_fault(r, list ? list : moe_find(r, "hybrid_override_pattern"),
                             "layer %d is '%.40s', which is not known (layers_block_type, "
                             "hybrid_override_pattern)",
                             l, text ? text : "null");
        place[l] = (struct moe_place){w->mixer, w->ffn};
        c = c ? c->next : NULL;
    }
    if (*done)
        moe_says(r, "each layer is one mixer or one FFN (%s)",
                 list ? "layers_block_type" : "hybrid_override_pattern");
    return 0;
}

static int words_place(struct moe_reader *r, const char *names, const struct word *words,
                       size_t num, int layers, struct moe_place *place, bool ffn, bool *done)
{
    const struct doc_node *list;
    int l = 0, rc = list_of(r, names, layers, 8, &list);

    *done = list != NULL;
    for (const struct doc_node *c = list ? list->child : NULL; c && l < layers && !rc;
         c = c->next, l++) {
        const struct word *w = word_find(words, num, c->type == DOC_SCALAR ? c->text : NULL);

        if (!w)
            rc = moe_fault(r, list, "%s: layer %d is '%.60s', which is not known", list->key, l,
                           c->type == DOC_SCALAR && c->text ? c->text : "?");
        else if (ffn)
            place[l].ffn = w->ffn;
        else
            place[l].mixer = w->mixer;
    }
    return rc;
}

static void all_place(struct moe_place *place, int layers, unsigned char mixer)
{
    for (int l = 0; l < layers; l++)
        place[l].mixer = mixer;
}

/* A list of numbers, of which `value` means `mixer`, others `other`. */
static int flags_place(struct moe_reader *r, const char *names, int layers, long long value,
                       unsigned char mixer, unsigned char other, struct moe_place *place,
                       bool *done)
{
    const struct doc_node *list;
    int l = 0, rc = list_of(r, names, layers, 8, &list);
    long long v;

    *done = list != NULL;
    for (const struct doc_node *c = list ? list->child : NULL; c && l < layers && !rc;
         c = c->next, l++) {
        if (doc_to_int(c, &v) || v < 0 || v > 1)
            rc = moe_fault(r, list, "%s: layer %d is neither 0 nor 1", list->key, l);
        else
            place[l].mixer = v == value ? mixer : other;
    }
    return rc;
}

/* DeepSeek-V4: 0 window alone, 4 compressed with an indexer, 128 heavily compressed. */
static int ratios_place(struct moe_reader *r, int layers, struct moe_place *place, bool *done)
{
    const struct doc_node *list;
    int l = 0, rc = list_of(r, "compress_ratios", layers, 8, &list);
    long long v;

    *done = list != NULL;
    for (const struct doc_node *c = list ? list->child : NULL; c && l < layers && !rc;
         c = c->next, l++) {
        if (doc_to_int(c, &v) || (v != 0 && v != 4 && v != 128))
            rc = moe_fault(r, list, "compress_ratios: layer %d is none of 0, 4, 128", l);
        else
            place[l].mixer = v == 0 ? MIX_WINDOW : v == 4 ? MIX_CSA : MIX_HCA;
    }
    return rc;
}

/* Kimi: layers are counted from 1, and what is not named is full attention. */
static int kda_place(struct moe_reader *r, int layers, struct moe_place *place, bool *done)
{
    const struct doc_node *map = moe_find(r, "linear_attn_config");
    const struct doc_node *kda = map ? doc_get(map, "kda_layers") : NULL;
    const struct doc_node *full = map ? doc_get(map, "full_attn_layers") : NULL;
    int named = 0;
    long long v;

    *done = kda != NULL;
    if (!kda)
        return 0;
    all_place(place, layers, MIX_FULL);
    for (const struct doc_node *c = kda->child; c; c = c->next, named++) {
        if (doc_to_int(c, &v) || v < 1 || v > layers)
            return moe_fault(r, kda, "kda_layers names a layer outside 1..%d", layers);
        place[v - 1].mixer = MIX_LINEAR;
    }
    for (const struct doc_node *c = full ? full->child : NULL; c; c = c->next, named++) {
        if (doc_to_int(c, &v) || v < 1 || v > layers)
            return moe_fault(r, full, "full_attn_layers names a layer outside 1..%d", layers);
        if (place[v - 1].mixer == MIX_LINEAR)
            return moe_fault(r, full, "layer %lld stands in kda_layers and in full_attn_layers", v);
    }
    if (named != layers)
        moe_note(r, "linear_attn_config names %d of %d layers; the others have full attention",
                 named, layers);
    return 0;
}

static void interval_place(struct moe_place *place, int layers, int interval, unsigned char mixer,
                           unsigned char other)
{
    for (int l = 0; l < layers; l++)
        place[l].mixer = (l + 1) % interval == 0 ? mixer : other;
}

static const char window_names[] = "sliding_window|sliding_window_size|window_size";

/* A window that no list speaks of: all layers, those from max_window_layers on, or none where a
 * flag says so. Files of Qwen carry the keys without using them. */
static int window_place(struct moe_reader *r, int layers, struct moe_place *place)
{
    const struct doc_node *node = moe_find(r, window_names);
    bool use;
    int from = 0;
    const struct moe_ask ask = {"full attention below layer", "max_window_layers", 0, 0,
                                MAX_LAYERS};
    int rc = moe_bool(r, "use_sliding_window", !moe_type_is(r, "qwen"), &use);

    if (!rc)
        rc = moe_int(r, &ask, &from);
    if (rc || !node || !use)
        return rc;
    for (int l = from; l < layers; l++)
        place[l].mixer = MIX_WINDOW;
    return 0;
}

/* Llama 4: chunks where positions are rotated; every fourth layer has none and sees all. */
static int chunks_place(struct moe_reader *r, int layers, struct moe_place *place)
{
    const struct moe_ask ask = {"layers to one without positions", "no_rope_layer_interval", 4, 1,
                                MAX_LAYERS};
    int interval, rc;
    bool listed;

    rc = moe_int(r, &ask, &interval);
    if (!rc)
        rc = flags_place(r, "no_rope_layers", layers, 0, MIX_FULL, MIX_CHUNK, place, &listed);
    if (!rc && !listed)
        interval_place(place, layers, interval, MIX_FULL, MIX_CHUNK);
    return rc;
}

/* The first rule that the file has decides. */
static int mixers_place(struct moe_reader *r, int layers, struct moe_place *place)
{
    const struct moe_ask interval = {"layers to one of full attention", "full_attention_interval",
                                     0, 1, MAX_LAYERS};
    const struct doc_node *sparse = moe_find(r, "sparse_attention_config");
    bool done[7];
    int every, rc = moe_int(r, &interval, &every);

    if (!rc && every)
        interval_place(place, layers, every, MIX_FULL, MIX_LINEAR);
    if (!rc)
        rc = flags_place(r, "attn_type_list", layers, 0, MIX_LINEAR, MIX_FULL, place, &done[0]);
    if (!rc)
        rc = flags_place(r, "hybrid_layer_pattern", layers, 1, MIX_WINDOW, MIX_FULL, place,
                         &done[1]);
    if (!rc)
        rc = ratios_place(r, layers, place, &done[2]);
    if (!rc)
        rc = kda_place(r, layers, place, &done[3]);
    if (!rc && sparse) {
        moe_scope_add(r, sparse);
        rc = flags_place(r, "sparse_attention_freq", layers, 1, MIX_SPARSE, MIX_FULL, place,
                         &done[4]);
        if (!rc && !done[4])
            all_place(place, layers, MIX_SPARSE);
    }
    done[4] = sparse != NULL;
    if (!rc && moe_type_is(r, "llama4"))
        rc = chunks_place(r, layers, place);
    if (!rc)
        rc = words_place(r, "layer_types", mixer_words, sizeof mixer_words / sizeof *mixer_words,
                         layers, place, false, &done[5]);
    done[6] = every || moe_type_is(r, "llama4");
    for (size_t i = 0; i < sizeof done / sizeof *done && !rc; i++)
        if (done[i]) {
            bool use; /* for the record */

            moe_find(r, window_names);
            moe_find(r, "max_window_layers");
            return moe_bool(r, "use_sliding_window", true, &use);
        }
    return rc ? rc : window_place(r, layers, place);
}

/* Layers of sparse MLA that follow an earlier layer's choice (GLM-5.2). */
static int indexers_place(struct moe_reader *r, int layers, struct moe_place *place)
{
    const struct moe_ask freq = {"layers to one with an indexer", "index_topk_freq", 1, 1,
                                 MAX_LAYERS};
    const struct doc_node *list;
    int l = 0, every, rc = list_of(r, "indexer_types", layers, 8, &list);

    if (!rc)
        rc = moe_int(r, &freq, &every);
    if (!rc && !list && every > 1)
        return moe_fault(r, moe_find(r, "index_topk_freq"),
                         "index_topk_freq is %d, and indexer_types does not say in which layers",
                         every);
    for (const struct doc_node *c = list ? list->child : NULL; c && l < layers && !rc;
         c = c->next, l++) {
        if (c->text && !strcmp(c->text, "shared"))
            place[l].mixer = MIX_SHARED_INDEX;
        else if (!c->text || strcmp(c->text, "full"))
            rc = moe_fault(r, list, "indexer_types: layer %d is neither full nor shared", l);
    }
    return rc;
}

static int ffn_steps(struct moe_reader *r, int layers, struct moe_place *place)
{
    static const struct moe_ask asks[] = {
        {"leading dense layers", "first_k_dense_replace|num_dense_layers", 0, 0, MAX_LAYERS},
        {"layers to one of experts",
         "decoder_sparse_step|interleave_moe_layer_step|moe_layer_interval", 1, 0, MAX_LAYERS},
        {"first layer of experts", "moe_layer_start_index", 0, 0, MAX_LAYERS},
        {"last layer of experts", "moe_layer_end_index", MAX_LAYERS, -1, MAX_LAYERS},
        {"frequency of experts", "moe_layer_frequency", 1, 1, MAX_LAYERS},
    };
    const struct doc_node *freq = moe_find(r, "moe_layer_freq");
    const struct moe_ask scalar = {"frequency of experts", "moe_layer_freq", 1, 1, MAX_LAYERS};
    int v[5], every = 1, rc = 0;

    for (size_t i = 0; i < sizeof asks / sizeof *asks && !rc; i++)
        rc = moe_int(r, &asks[i], &v[i]);
    if (!rc && freq && freq->type == DOC_SCALAR)
        rc = moe_int(r, &scalar, &every);
    if (rc)
        return rc;
    if (v[3] < 0)
        v[3] = layers - 1;
    for (int l = 0; l < layers; l++)
        place[l].ffn = l >= v[0] && (v[1] == 0 ? false : (l + 1) % v[1] == 0) && l >= v[2] &&
                               l <= v[3] && (l + 1) % v[4] == 0 && l % every == 0
                           ? FFN_EXPERTS
                           : FFN_DENSE;
    return 0;
}

/* Lists of the layers' own numbers, counted from 0. */
static int named_layers(struct moe_reader *r, const char *names, int layers, bool experts,
                        struct moe_place *place)
{
    const struct doc_node *list = moe_find(r, names);
    long long v;

    if (!list || list->type != DOC_LIST)
        return 0;
    if (experts && list->num_children)
        for (int l = 0; l < layers; l++)
            place[l].ffn = FFN_DENSE;
    for (const struct doc_node *c = list->child; c; c = c->next) {
        if (doc_to_int(c, &v))
            return moe_fault(r, list, "%s does not list whole numbers", list->key);
        if (v >= 0 && v < layers)
            place[v].ffn = experts ? FFN_EXPERTS : FFN_DENSE;
    }
    if (list->num_children)
        moe_says(r, "%s: a list of %d (line %d)", list->key, list->num_children, list->line);
    return 0;
}

/* "3,4,5": the layers of experts, as text. */
static int enumerated_layers(struct moe_reader *r, int layers, struct moe_place *place)
{
    const struct doc_node *node = moe_find(r, "moe_layers_enum");
    const char *at = node && node->type == DOC_SCALAR ? node->text : NULL;

    if (!at)
        return 0;
    for (int l = 0; l < layers; l++)
        place[l].ffn = FFN_DENSE;
    while (*at) {
        char *end;
        long v = strtol(at, &end, 10);

        if (end == at || v < 0 || v >= layers || (*end && *end != ','))
            return moe_fault(r, node, "moe_layers_enum does not list layers 0..%d", layers - 1);
        place[v].ffn = FFN_EXPERTS;
        at = end + (*end == ',');
    }
    moe_says(r, "moe_layers_enum (line %d)", node->line);
    return 0;
}

static int ffn_freq_list(struct moe_reader *r, int layers, struct moe_place *place)
{
    const struct doc_node *freq = moe_find(r, "moe_layer_freq"), *list;
    int l = 0, rc;
    long long v;

    if (!freq || freq->type != DOC_LIST)
        return 0;
    rc = list_of(r, "moe_layer_freq", layers, 8, &list);
    for (const struct doc_node *c = list ? list->child : NULL; c && l < layers && !rc;
         c = c->next, l++) {
        if (doc_to_int(c, &v))
            rc = moe_fault(r, list, "moe_layer_freq does not list whole numbers");
        else
            place[l].ffn = v ? FFN_EXPERTS : FFN_DENSE;
    }
    return rc;
}

static int ffns_place(struct moe_reader *r, int layers, struct moe_place *place)
{
    bool listed;
    int rc = ffn_steps(r, layers, place);

    if (!rc)
        rc = ffn_freq_list(r, layers, place);
    if (!rc)
        rc = named_layers(r, "moe_layers", layers, true, place);
    if (!rc)
        rc = enumerated_layers(r, layers, place);
    if (!rc)
        rc = named_layers(r, "mlp_only_layers", layers, false, place);
    if (!rc)
        rc = words_place(r, "mlp_layer_types", ffn_words, sizeof ffn_words / sizeof *ffn_words,
                         layers, place, true, &listed);
    for (int l = 1; l < layers && !rc && moe_type_is(r, "longcat"); l += 2)
        place[l].ffn = FFN_DENSE;
    return rc;
}

int moe_layers_place(struct moe_reader *r, const struct moe_numbers *k, struct moe_place **place)
{
    bool lone = false;
    int rc = 0;

    *place = calloc((size_t)k->layers, sizeof **place);
    if (!*place)
        return ERR_NOMEM;
    rc = lone_place(r, k->layers, *place, &lone);
    if (!rc && !lone)
        rc = ffns_place(r, k->layers, *place);
    if (!rc && !lone)
        rc = mixers_place(r, k->layers, *place);
    if (!rc && !lone)
        rc = indexers_place(r, k->layers, *place);
    if (rc) {
        free(*place);
        *place = NULL;
    }
    return rc;
}
