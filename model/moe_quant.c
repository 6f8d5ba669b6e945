/* model/moe_quant.c: in which types the parts of a model are, from quantization_config,
 * hf_quant_config.json beside the file, and expert_dtype. Names of modules that are left out (or
 * quantised in another way) are compared with those that public checkpoints use, layer by layer. */
#include <limits.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "model/attn.h"
#include "model/moe_read.h"

#define MAX_NAME   160
#define MAX_TOKENS 16

const char *moe_part_name(enum moe_part part)
{
    static const char *const names[] = {"routed experts", "shared experts", "dense FFN",
                                        "attention in",   "attention out",  "embedding and head"};

    return names[part];
}

static const struct {
    const char *name;
    double bytes;
} dtypes[DTYPE_COUNT] = {
    [DTYPE_BF16] = {"bf16", 2},
    [DTYPE_FP8] = {"fp8", 1 + 4.0 / (128 * 128)},
    [DTYPE_LOGFMT10] = {"logfmt10", 1.25},
    [DTYPE_NVFP4] = {"nvfp4", 0.5 + 1.0 / 16},
    [DTYPE_MXFP4] = {"mxfp4", 0.5 + 1.0 / 32},
    [DTYPE_W4A8] = {"w4a8", 0.5 + 2.0 / 128},
    [DTYPE_W4A16] = {"w4a16", 0.5 + 2.0 / 32},
};

double moe_dtype_bytes(enum plan_dtype dtype)
{
    return dtypes[dtype].bytes;
}

const char *moe_dtype_name(enum plan_dtype dtype)
{
    return dtypes[dtype].name;
}

/* A type with the bytes of its weights, which depend on the size of a scale's group. */
struct type {
    enum plan_dtype dtype;
    double bytes;
};

static const struct type bf16 = {DTYPE_BF16, 2};

/* A pattern of module names: a regular expression, or words between dots with stars, taken from
 * "layers" on; layer: the one it names, -1 = any. */
struct pattern {
    bool is_regex;
    regex_t regex;
    char text[MAX_NAME];
    short token[MAX_TOKENS]; /* where each starts in text */
    int num_tokens, layer;
    int next;         /* the next of the same layer, -1 = none */
    struct type type; /* what modules of that name are */
};

struct quant {
    struct moe_reader *r;
    struct pattern *pattern;
    size_t num, cap;
    int *first;       /* [layers + 1]: patterns that name a layer; the last: those of any */
    struct type type; /* of all other linear modules */
    bool stated;
};

static bool star_match(const char *p, const char *s)
{
    const char *star = NULL, *from = NULL;

    while (*s) {
        if (*p == '*') {
            star = p++;
            from = s;
        } else if (*p == *s) {
            p++;
            s++;
        } else if (star) {
            p = star + 1;
            s = ++from;
        } else {
            return false;
        }
    }
    while (*p == '*')
        p++;
    return !*p;
}

static int tokens_cut(char *text, short token[MAX_TOKENS])
{
    int n = 0;

    for (char *at = text; at && n < MAX_TOKENS;) {
        char *dot = strchr(at, '.');

        if (dot)
            *dot = '\0';
        if (*at)
            token[n++] = (short)(at - text);
        at = dot ? dot + 1 : NULL;
    }
    return n;
}

/* The words of the pattern stand one after another in the module's name; what follows is a part of
 * the module. */
static bool tokens_match(const struct pattern *p, const char *name, const short *word, int n)
{
    for (int at = 0; at + p->num_tokens <= n; at++) {
        int i = 0;

        while (i < p->num_tokens && star_match(p->text + p->token[i], name + word[at + i]))
            i++;
        if (i == p->num_tokens)
            return true;
    }
    return false;
}

static int regex_open(struct quant *q, struct pattern *p, const char *text,
                      const struct doc_node *node)
{
    /* Bounds can make a short expression huge. */
    if (strlen(text) >= MAX_NAME || strchr(text, '{') ||
        regcomp(&p->regex, text, REG_EXTENDED | REG_NOSUB))
        return moe_fault(q->r, node, "'%.100s' is not a regular expression that is known here",
                         text);
    p->is_regex = true;
    p->layer = -1;
    return 0;
}

static int glob_open(struct quant *q, struct pattern *p, const char *text,
                     const struct doc_node *node)
{
    int from = 0;
    /* layers of its own, not of the text model */
    bool beside = strstr(text, "mtp.") || strstr(text, "visual.") || strstr(text, "vision");

    if (strlen(text) >= MAX_NAME)
        return moe_fault(q->r, node, "a module's name of more than %d letters", MAX_NAME - 1);
    snprintf(p->text, sizeof p->text, "%s", text);
    p->num_tokens = tokens_cut(p->text, p->token);
    for (int i = 0; i < p->num_tokens; i++)
        if (!strcmp(p->text + p->token[i], "layers"))
            from = i;
    for (int i = from; i < p->num_tokens; i++)
        p->token[i - from] = p->token[i];
    p->num_tokens -= from;
    p->layer = beside ? INT_MAX : -1;
    if (!beside && p->num_tokens > 1 && !strcmp(p->text + p->token[0], "layers")) {
        const char *number = p->text + p->token[1];

        if (strspn(number, "0123456789") == strlen(number) && strlen(number) < 6)
            p->layer = atoi(number);
    }
    return 0;
}

static int pattern_add(struct quant *q, const struct doc_node *node, const char *text,
                       struct type type)
{
    struct pattern *p;

    if (q->num == q->cap) {
        size_t cap = q->cap ? 2 * q->cap : 256;
        struct pattern *more = realloc(q->pattern, cap * sizeof *more);

        if (!more)
            return ERR_NOMEM;
        q->pattern = more;
        q->cap = cap;
    }
    p = &q->pattern[q->num];
    memset(p, 0, sizeof *p);
    p->type = type;
    if (!strncmp(text, "re:", 3) ? regex_open(q, p, text + 3, node) : glob_open(q, p, text, node))
        return ERR_CONFIG;
    q->num++;
    return 0;
}

static int patterns_add(struct quant *q, const struct doc_node *list, struct type type)
{
    int rc = 0;

    for (const struct doc_node *c = list ? list->child : NULL; c && !rc; c = c->next)
        if (c->type == DOC_SCALAR && c->text && *c->text)
            rc = pattern_add(q, c, c->text, type);
    return rc;
}

/* Mixed checkpoints name every matrix of every expert: each layer looks at its own only. */
static int patterns_sort(struct quant *q)
{
    int layers = q->r->m->num_layers;

    q->first = malloc(((size_t)layers + 1) * sizeof *q->first);
    if (!q->first)
        return ERR_NOMEM;
    for (int l = 0; l <= layers; l++)
        q->first[l] = -1;
    for (int i = (int)q->num - 1; i >= 0; i--) {
        int layer = q->pattern[i].layer;

        if (layer >= layers) /* those that draft tokens */
            continue;
        layer = layer < 0 ? layers : layer;
        q->pattern[i].next = q->first[layer];
        q->first[layer] = i;
    }
    return 0;
}

static const struct pattern *pattern_of(const struct quant *q, int layer, const char *tail)
{
    char name[MAX_NAME], cut[MAX_NAME];
    short word[MAX_TOKENS];
    int lists[2] = {q->first[layer], q->first[q->r->m->num_layers]}, n;

    snprintf(name, sizeof name, "layers.%d.%.96s", layer, tail);
    memcpy(cut, name, sizeof cut);
    n = tokens_cut(cut, word);
    for (int k = 0; k < 2; k++)
        for (int i = lists[k]; i >= 0; i = q->pattern[i].next) {
            const struct pattern *p = &q->pattern[i];

            if (p->is_regex ? !regexec(&p->regex, name, 0, NULL, 0) : tokens_match(p, cut, word, n))
                return p;
        }
    return NULL;
}

/* Module names of a part in public checkpoints, with blanks between. */
static const char *names_of(const struct moe_model *m, const struct moe_layer *l,
                            enum moe_part part)
{
    bool beside = l->dense_inter > 0 && l->experts > 0, lone = l->attn.kind == ATTN_NONE;

    (void)m;
    switch (part) {
    case MOE_EXPERTS: /* a dense FFN beside the experts has the name mlp */
        return beside ? "experts.0.gate_proj moe.experts.0.gate_proj block_sparse_moe.experts.0.w1"
               : lone ? "mixer.experts.0.up_proj"
                      : "mlp.experts.0.gate_proj ffn.experts.0.w1 moe.experts.0.gate_proj "
                        "block_sparse_moe.experts.0.w1 feed_forward.experts.gate_up_proj";
    case MOE_SHARED:
        return lone ? "mixer.shared_experts.up_proj"
                    : "mlp.shared_experts.gate_proj mlp.shared_expert.gate_proj "
                      "ffn.shared_experts.w1 block_sparse_moe.shared_experts.gate_proj "
                      "feed_forward.shared_expert.gate_proj share_expert.gate_proj "
                      "shared_mlp.input_linear";
    case MOE_DENSE:
        return lone ? "mixer.up_proj" : "mlp.gate_proj ffn.w1 feed_forward.gate_proj";
    case MOE_ATTN_IN:
        if (l->attn.kind == ATTN_MAMBA2)
            return "mixer.in_proj mamba.in_proj";
        if (l->attn.kind == ATTN_GATED_DELTA)
            return "linear_attn.in_proj_qkvz linear_attn.in_proj_qkv";
        if (l->attn.kind == ATTN_MLA || l->attn.kind == ATTN_DSA)
            return "self_attn.q_b_proj self_attn.q_proj";
        if (l->attn.kind == ATTN_COMPRESSED)
            return "attn.wq_b self_attn.q_b_proj";
        return "self_attn.q_proj mixer.q_proj attn.q_proj";
    default:
        if (l->attn.kind == ATTN_MAMBA2)
            return "mixer.out_proj mamba.out_proj";
        if (l->attn.kind == ATTN_GATED_DELTA)
            return "linear_attn.out_proj";
        return "self_attn.o_proj attn.wo_b mixer.o_proj attn.o_proj";
    }
}

static struct type part_type(const struct quant *q, const struct moe_layer *l, int layer,
                             enum moe_part part)
{
    const char *at = names_of(q->r->m, l, part);

    while (*at) {
        char tail[96];
        size_t n = strcspn(at, " ");
        const struct pattern *p;

        snprintf(tail, sizeof tail, "%.*s", (int)n, at);
        p = pattern_of(q, layer, tail);
        if (p)
            return p->type;
        at += n + (at[n] == ' ');
    }
    return q->type;
}

static double part_params(const struct moe_layer *l, enum moe_part part)
{
    switch (part) {
    case MOE_EXPERTS:
        return l->experts * moe_layer_expert(l);
    case MOE_SHARED:
        return moe_layer_shared(l);
    case MOE_DENSE:
        return moe_layer_dense(l);
    case MOE_ATTN_IN:
        return attn_params_in(&l->attn);
    default:
        return attn_params_out(&l->attn);
    }
}

/* Mean bytes over the layers, and the type that most of the weights have. */
static void part_fill(const struct quant *q, enum moe_part part)
{
    struct moe_model *m = q->r->m;
    double sum = 0, bytes = 0, of[DTYPE_COUNT] = {0};
    int most = DTYPE_BF16;

    for (int i = 0; i < m->num_layers; i++) {
        const struct moe_layer *l = &m->layer[m->kind_of[i]];
        double params = part_params(l, part);
        struct type t;

        if (!(params > 0))
            continue;
        t = part_type(q, l, i, part);
        sum += params;
        bytes += params * t.bytes;
        of[t.dtype] += params;
    }
    for (int d = 0; d < DTYPE_COUNT; d++)
        if (of[d] > of[most])
            most = d;
    m->part[part] = (struct moe_weights){(enum plan_dtype)most, sum > 0 ? bytes / sum : 2};
}

static const struct doc_node *get(const struct doc_node *map, const char *key)
{
    const struct doc_node *n = map && map->type == DOC_MAP ? doc_get(map, key) : NULL;

    return n && (n->type != DOC_SCALAR || n->text) ? n : NULL;
}

static const char *text_of(const struct doc_node *map, const char *key)
{
    const struct doc_node *n = get(map, key);

    return n && n->type == DOC_SCALAR ? n->text : NULL;
}

static int int_of(const struct doc_node *map, const char *key, int def)
{
    const struct doc_node *n = get(map, key);
    long long v;

    return n && !doc_to_int(n, &v) && v > 0 && v < 1 << 20 ? (int)v : def;
}

/* The names of modelopt and its kin. */
static int algo_type(struct quant *q, const struct doc_node *node, const char *algo, int group,
                     struct type *out)
{
    static const struct {
        const char *algo;
        enum plan_dtype dtype;
        double scale_bytes;
        int group;
    } algos[] = {
        {"FP8", DTYPE_FP8, 0, 1},
        {"FP8_PER_CHANNEL_PER_TOKEN", DTYPE_FP8, 0, 1},
        {"FP8_BLOCK_SCALES", DTYPE_FP8, 4, 128 * 128},
        {"FP8_PB_WO", DTYPE_FP8, 4, 128 * 128},
        {"FP8_PB_REAL", DTYPE_FP8, 4, 128 * 128},
        {"MXFP8", DTYPE_FP8, 1, 32},
        {"NVFP4", DTYPE_NVFP4, 1, 16},
        {"MXFP4", DTYPE_MXFP4, 1, 32},
        {"W4A8_MXFP4_FP8", DTYPE_MXFP4, 1, 32},
        {"W4A8_NVFP4_FP8", DTYPE_W4A8, 1, 16},
        {"W4A8_AWQ", DTYPE_W4A8, 2, 128},
        {"W4A16_AWQ", DTYPE_W4A16, 2, 128},
        {"W4A16", DTYPE_W4A16, 2, 128},
        {"W4A16_MXFP4", DTYPE_MXFP4, 1, 32},
    };

    for (size_t i = 0; algo && i < sizeof algos / sizeof *algos; i++)
        if (!strcmp(algo, algos[i].algo)) {
            bool four = algos[i].dtype != DTYPE_FP8;
            int of = four && group > 0 ? group : algos[i].group;

            *out = (struct type){algos[i].dtype, (four ? 0.5 : 1) + algos[i].scale_bytes / of};
            return 0;
        }
    return moe_fault(q->r, node, "quantisation '%.60s' is not known here (quant_algo)",
                     algo ? algo : "?");
}

static int layers_map(struct quant *q, const struct doc_node *map)
{
    int rc = 0;

    for (const struct doc_node *c = map ? map->child : NULL; c && !rc; c = c->next) {
        struct type t;

        rc = algo_type(q, c, text_of(c, "quant_algo"), int_of(c, "group_size", 0), &t);
        if (!rc)
            rc = pattern_add(q, c, c->key, t);
    }
    return rc;
}

static void kv_fill(struct quant *q, const struct doc_node *map)
{
    const char *algo = text_of(map, "kv_cache_quant_algo");
    const struct doc_node *scheme = get(map, "kv_cache_scheme");
    int bits = scheme ? int_of(scheme, "num_bits", 0)
               : algo ? (!strcmp(algo, "NVFP4") ? 4
                         : !strcmp(algo, "FP8") ? 8
                                                : 0)
                      : 0;

    if (bits)
        q->r->m->kv_bytes_per_element = bits == 4 ? 0.5625 : bits / 8.0;
}

/* modelopt: one algorithm and what is excluded, or one for each module. */
static int modelopt_read(struct quant *q, const struct doc_node *map)
{
    const struct doc_node *node = get(map, "quant_algo"), *layers = get(map, "quantized_layers");
    const char *algo = text_of(map, "quant_algo");
    int rc = patterns_add(q, get(map, "exclude_modules"), bf16);

    if (!rc)
        rc = patterns_add(q, get(map, "ignore"), bf16);
    kv_fill(q, map);
    if (rc)
        return rc;
    if (layers || (algo && !strcmp(algo, "MIXED_PRECISION"))) {
        q->type = bf16;
        return layers_map(q, layers);
    }
    return algo_type(q, node, algo, int_of(map, "group_size", 0), &q->type);
}

/* One group of compressed-tensors: bits and type of weights, bits of activations. */
static int group_type(struct quant *q, const struct doc_node *group, struct type *out)
{
    const struct doc_node *w = get(group, "weights"), *a = get(group, "input_activations");
    const char *kind = text_of(w, "type"), *strategy = text_of(w, "strategy");
    int bits = int_of(w, "num_bits", 0), size = int_of(w, "group_size", 0);
    int act = a ? int_of(a, "num_bits", 16) : 16;
    bool is_float = kind && !strcmp(kind, "float");

    if (is_float && bits == 8)
        *out =
            (struct type){DTYPE_FP8, strategy && !strcmp(strategy, "block") ? 1 + 4.0 / 16384 : 1};
    else if (is_float && bits == 4 && size == 16)
        *out = (struct type){DTYPE_NVFP4, 0.5 + 1.0 / 16};
    else if (is_float && bits == 4)
        *out = (struct type){DTYPE_MXFP4, 0.5 + 1.0 / (size ? size : 32)};
    else if (bits == 4)
        *out = (struct type){act == 8 ? DTYPE_W4A8 : DTYPE_W4A16, 0.5 + 2.0 / (size ? size : 128)};
    else
        return moe_fault(q->r, group, "weights of %d bits, type %s, are not known here (%s)", bits,
                         kind ? kind : "?", group->key ? group->key : "config_groups");
    return 0;
}

static int groups_read(struct quant *q, const struct doc_node *map)
{
    const struct doc_node *groups = get(map, "config_groups");
    int rc = patterns_add(q, get(map, "ignore"), bf16), num = 0;

    kv_fill(q, map);
    for (const struct doc_node *g = groups ? groups->child : NULL; g && !rc; g = g->next, num++) {
        const struct doc_node *targets = get(g, "targets");
        struct type t;

        rc = group_type(q, g, &t);
        if (rc)
            break;
        /* "Linear" is the class of all; other targets are names of modules. */
        if (!targets ||
            (targets->child && targets->child->text && !strcmp(targets->child->text, "Linear")))
            q->type = t;
        else
            rc = patterns_add(q, targets, t);
    }
    if (!rc && !num)
        rc = moe_fault(q->r, map, "compressed-tensors without config_groups");
    return rc;
}

static int fp8_read(struct quant *q, const struct doc_node *map)
{
    const struct doc_node *block = get(map, "weight_block_size");
    const char *moe = text_of(map, "moe_quant_algo");
    int rc = patterns_add(q, get(map, "modules_to_not_convert"), bf16);

    if (!rc)
        rc = patterns_add(q, get(map, "ignored_layers"), bf16);
    q->type = (struct type){DTYPE_FP8, block ? 1 + 4.0 / (128 * 128) : 1};
    kv_fill(q, map);
    /* FP8 all over, but for what the map names: what it excludes is excluded from that. */
    if (!rc && (moe || get(map, "quantized_layers")))
        rc = layers_map(q, get(map, "quantized_layers"));
    return rc;
}

static int four_bits_read(struct quant *q, const struct doc_node *map, const char *method)
{
    int bits = int_of(map, "bits", int_of(map, "w_bit", 4));
    int group = int_of(map, "group_size", int_of(map, "q_group_size", 128));

    if (bits != 4)
        return moe_fault(q->r, map, "%s with %d bits is not known here (quantization_config)",
                         method, bits);
    q->type = (struct type){DTYPE_W4A16, 0.5 + 2.0 / group};
    return patterns_add(q, get(map, "modules_to_not_convert"), bf16);
}

static int config_read(struct quant *q, const struct doc_node *map)
{
    const char *method = text_of(map, "quant_method");

    q->stated = true;
    if (!method && text_of(map, "quant_algo"))
        method = "modelopt";
    if (!method)
        return moe_fault(q->r, map, "quantization_config without quant_method");
    moe_says(q->r, "quant_method: %s (line %d)", method, map->line);
    if (!strcmp(method, "fp8") || !strcmp(method, "fbgemm_fp8"))
        return fp8_read(q, map);
    if (!strncmp(method, "modelopt", 8))
        return modelopt_read(q, map);
    if (!strcmp(method, "compressed-tensors"))
        return groups_read(q, map);
    if (!strcmp(method, "mxfp4")) {
        q->type = (struct type){DTYPE_MXFP4, 0.5 + 1.0 / 32};
        return patterns_add(q, get(map, "modules_to_not_convert"), bf16);
    }
    if (!strcmp(method, "awq") || !strcmp(method, "gptq") || !strcmp(method, "awq_marlin") ||
        !strcmp(method, "gptq_marlin"))
        return four_bits_read(q, map, method);
    if (!strcmp(method, "w4afp8")) {
        q->type = (struct type){DTYPE_W4A8, 0.5 + 2.0 / 128};
        return patterns_add(q, get(map, "modules_to_not_convert"), bf16);
    }
    return moe_fault(q->r, map, "quant_method '%.60s' is not known here (quantization_config)",
                     method);
}

/* hf_quant_config.json beside the model, which says the same in other words. */
static int beside_read(struct quant *q)
{
    const struct doc_node *map = q->r->quant ? get(q->r->quant->root, "quantization") : NULL;

    if (!map)
        return 0;
    q->stated = true;
    moe_says(q->r, "quantization: from %s", q->r->quant->path);
    return modelopt_read(q, map);
}

/* DeepSeek-V4: the routed experts' type apart from quantization_config. */
static int expert_dtype_read(struct quant *q, struct type *out, bool *stated)
{
    const struct doc_node *node = moe_find(q->r, "expert_dtype");
    const char *text = node && node->type == DOC_SCALAR ? node->text : NULL;

    *stated = text != NULL;
    if (!text)
        return 0;
    moe_says(q->r, "expert_dtype: %s (line %d)", text, node->line);
    if (!strcmp(text, "fp4") || !strcmp(text, "mxfp4"))
        *out = (struct type){DTYPE_MXFP4, 0.5 + 1.0 / 32};
    else if (!strcmp(text, "nvfp4"))
        *out = (struct type){DTYPE_NVFP4, 0.5 + 1.0 / 16};
    else if (!strcmp(text, "fp8"))
        *out = (struct type){DTYPE_FP8, 1 + 4.0 / (128 * 128)};
    else if (!strcmp(text, "bf16") || !strcmp(text, "bfloat16"))
        *out = bf16;
    else
        return moe_fault(q->r, node, "expert_dtype '%.40s' is not known", text);
    return 0;
}

static int all_read(struct quant *q)
{
    struct moe_model *m = q->r->m;
    const struct doc_node *map = moe_find(q->r, "quantization_config|quantization");
    struct type experts = bf16;
    bool apart = false;
    int rc = map && map->type == DOC_MAP ? config_read(q, map) : beside_read(q);

    if (!rc)
        rc = expert_dtype_read(q, &experts, &apart);
    if (!rc)
        rc = patterns_sort(q);
    if (rc)
        return rc;
    for (int p = 0; p < MOE_HEAD; p++)
        part_fill(q, (enum moe_part)p);
    if (apart && !(map && get(map, "moe_quant_algo")))
        m->part[MOE_EXPERTS] = (struct moe_weights){experts.dtype, experts.bytes};
    m->part[MOE_HEAD] = (struct moe_weights){DTYPE_BF16, 2};
    m->quantised = q->stated || apart;
    return 0;
}

int moe_quant_read(struct moe_reader *r)
{
    struct quant q = {.r = r, .type = bf16};
    int rc = all_read(&q);

    for (size_t i = 0; i < q.num; i++)
        if (q.pattern[i].is_regex)
            regfree(&q.pattern[i].regex);
    free(q.pattern);
    free(q.first);
    return rc;
}
