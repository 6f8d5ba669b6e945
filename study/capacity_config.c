#include "study/capacity_config.h"

#include <stdlib.h>
#include <string.h>

#include "base/doc.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "hw/profile.h"

#define C_INT(name, field, lo, hi, dflt, u, text)                                                  \
    {                                                                                              \
        .key = name, .type = OPT_INT, .offset = offsetof(struct capacity_numbers, field),          \
        .min = lo, .max = hi, .def = dflt, .unit = u, .help = text                                 \
    }
#define C_DOUBLE(name, field, lo, hi, dflt, u, text)                                               \
    {                                                                                              \
        .key = name, .type = OPT_DOUBLE, .offset = offsetof(struct capacity_numbers, field),       \
        .min = lo, .max = hi, .def = dflt, .unit = u, .help = text                                 \
    }

const struct opt capacity_options[] = {
    C_INT("traffic.isl", isl, 1, 10000000, "4096", "tokens", "mean length of a prompt"),
    C_INT("traffic.osl", osl, 1, 10000000, "1024", "tokens", "mean length of an answer"),
    C_DOUBLE("traffic.requests_s", requests_s, 0, 1e9, "0", "requests/s", "requests to serve"),
    C_DOUBLE("traffic.tokens_s", tokens_s, 0, 1e12, "0", "tokens/s",
             "output tokens to serve, instead of requests_s"),
    C_DOUBLE("traffic.prefix_hit", prefix_hit, 0, 0.99, "0", NULL,
             "share of prompt tokens found in a prefix cache"),
    C_DOUBLE("sla.ttft_ms", ttft_ms, 1e-3, 1e9, "5000", "ms", "longest time to the first token"),
    C_DOUBLE("sla.tpot_ms", tpot_ms, 1e-3, 1e9, "50", "ms", "longest time per output token"),
    C_DOUBLE("sla.percentile", percentile, 50, 99, "90", "%", "of steps that keep both"),
    C_INT("max_nodes", max_nodes, 1, 1000000, "1000000", "nodes", "nodes that may be bought"),
    {.key = "pools",
     .type = OPT_ENUM,
     .offset = offsetof(struct capacity_numbers, pools),
     .choices = "separate|shared|either",
     .def = "separate",
     .help = "GPUs for prefill and GPUs for decode, or both on the same"},
    {.key = "mix_gpus",
     .type = OPT_BOOL,
     .offset = offsetof(struct capacity_numbers, mix_gpus),
     .def = "false",
     .help = "separate pools may be of different GPUs"},
    C_INT("mtp.draft_tokens", draft_tokens, 0, 8, "0", "tokens", "drafted per request and step"),
    C_DOUBLE("mtp.acceptance", acceptance, 0, 1, "0.8", NULL,
             "chance that a drafted token is accepted"),
    C_DOUBLE("reserve_GB", reserve_GB, 0, 1000, "4", "GB",
             "memory of the runtime: context, graphs, libraries, fragmentation"),
    C_DOUBLE("utilization", utilization, 0.05, 0.99, "0.9", NULL,
             "share of the pools' throughput that is planned to be used"),
    C_DOUBLE("step_overhead_us", step_overhead_us, 0, 1e6, "0", "us",
             "host time of a step that no GPU work hides: scheduler, sampling"),
    C_INT("draws", draws, 1, 1000, "8", NULL, "routings drawn for percentiles"),
    {.key = NULL},
};

/* One value of each list, to check values by. */
struct list_value {
    char *gpus;
    int decode_ep, decode_batch, prefill_ep, prefill_tokens;
};

#define L_INT(name, field, lo, hi, u, text)                                                        \
    {                                                                                              \
        .key = name, .type = OPT_INT, .offset = offsetof(struct list_value, field), .min = lo,     \
        .max = hi, .unit = u, .help = text, .list = true                                           \
    }

const struct opt capacity_lists[] = {
    {.key = "gpus",
     .type = OPT_STRING,
     .offset = offsetof(struct list_value, gpus),
     .help = "profiles that may be bought",
     .list = true},
    L_INT("decode.ep", decode_ep, 1, 65536, "GPUs", "EP sizes of a decode instance"),
    L_INT("decode.batch", decode_batch, 1, 65536, "requests", "requests per GPU in a decode step"),
    L_INT("prefill.ep", prefill_ep, 1, 65536, "GPUs", "EP sizes of a prefill instance"),
    L_INT("prefill.tokens", prefill_tokens, 1, 1048576, "tokens",
          "prompt tokens per GPU and pass; below isl: in chunks"),
    {.key = NULL},
};

/* Keys of a scenario that the search sets itself, and what to write instead. */
static const char *const taken[][2] = {
    {"batch", "decode.batch, prefill.tokens"},
    {"phase", "decode, prefill"},
    {"cluster.profile", "gpus"},
    {"cluster.nodes", "decode.ep, prefill.ep"},
    {"attention.context_len", "traffic"},
    {"attention.prompt_len", "traffic"},
    {"attention.cached_len", "traffic"},
    {"attention.tokens_per_request", "mtp.draft_tokens"},
};

static int list_add(struct capacity_list *list, int v)
{
    for (int i = 0; i < list->n; i++)
        if (list->v[i] == v)
            return 0;
    if (list->n == CAPACITY_MAX_LIST)
        return ERR_RANGE;
    list->v[list->n++] = v;
    return 0;
}

static struct capacity_list *list_of(struct capacity_config *c, const char *key)
{
    return !strcmp(key, "decode.ep")      ? &c->decode_ep
           : !strcmp(key, "decode.batch") ? &c->decode_batch
           : !strcmp(key, "prefill.ep")   ? &c->prefill_ep
                                          : &c->prefill_tokens;
}

static int gpu_add(struct capacity_config *c, const char *profile, int line)
{
    if (c->num_gpus == CAPACITY_MAX_LIST)
        return ERR_RANGE;
    c->gpus[c->num_gpus] = (struct capacity_gpu){.profile = strdup(profile), .line = line};
    return c->gpus[c->num_gpus].profile ? (c->num_gpus++, 0) : ERR_NOMEM;
}

static void list_clear(struct capacity_config *c, const char *key)
{
    if (strcmp(key, "gpus")) {
        list_of(c, key)->n = 0;
        return;
    }
    for (int i = 0; i < c->num_gpus; i++)
        free(c->gpus[i].profile);
    c->num_gpus = 0;
}

static int list_value_add(struct capacity_config *c, const char *key, const char *text,
                          const char *file, int line)
{
    struct list_value one = {0};
    int err = opt_set(capacity_lists, &one, key, text, file, line);
    const int *value;

    if (err)
        return err;
    if (one.gpus) {
        err = gpu_add(c, one.gpus, line);
    } else {
        value = (const int *)((const char *)&one + opt_find(capacity_lists, key)->offset);
        err = list_add(list_of(c, key), *value);
    }
    if (err == ERR_RANGE)
        log_error_at(file, line, "%s: more than %d values", key, CAPACITY_MAX_LIST);
    opt_free_strings(capacity_lists, &one);
    return err;
}

static int list_read(struct capacity_config *c, const char *key, const struct doc_node *node)
{
    const struct doc_node *v = node->type == DOC_LIST ? node->child : node;
    int err = 0;

    if (!v || node->type == DOC_MAP) {
        log_error_at(c->path, node->line, "%s: expected a value or a list of values", key);
        return ERR_CONFIG;
    }
    list_clear(c, key);
    for (; v && !err; v = node->type == DOC_LIST ? v->next : NULL)
        err = list_value_add(c, key, v->type == DOC_SCALAR ? v->text : NULL, c->path, v->line);
    return err;
}

static int price_set(struct capacity_config *c, const char *gpu, const char *text, const char *file,
                     int line)
{
    static const struct opt price[] = {
        {.key = "usd_per_hour", .type = OPT_DOUBLE, .min = 0, .max = 10000, .unit = "USD/h"},
        {.key = NULL}};
    double usd = 0;
    int err = opt_set(price, &usd, "usd_per_hour", text, file, line), known = 0;

    for (int i = 0; i < c->num_gpus && !err; i++)
        if (!gpu || !strcmp(c->gpus[i].profile, gpu)) {
            c->gpus[i].usd_per_hour = usd;
            known = 1;
        }
    if (!err && !known) {
        log_error_at(file, line, "usd_per_hour.%s: not one of gpus", gpu ? gpu : "");
        return ERR_CONFIG;
    }
    return err;
}

static int unknown_key(const char *key, const char *file, int line)
{
    const char *names[256], *near;
    size_t n = 0;

    for (const struct opt *o = capacity_options; o->key; o++)
        names[n++] = o->key;
    for (const struct opt *o = capacity_lists; o->key; o++)
        names[n++] = o->key;
    for (const struct opt *o = scenario_options; o->key && n < 254; o++)
        names[n++] = o->key;
    names[n++] = "usd_per_hour";
    names[n++] = "policies";
    near = opt_nearest(key, names, n);
    log_error_at(file, line, "unknown key '%s'%s%s%s", key, near ? "; did you mean '" : "",
                 near ? near : "", near ? "'?" : "");
    return ERR_CONFIG;
}

/* A single value: of the question, or of the scenario that all its points share. */
static int scalar_set(struct capacity_config *c, const char *key, const char *text,
                      const char *file, int line)
{
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (!strcmp(key, taken[i][0])) {
            log_error_at(file, line, "%s is what capacity looks for; set %s", key, taken[i][1]);
            return ERR_CONFIG;
        }
    if (opt_find(capacity_options, key))
        return opt_set(capacity_options, &c->num, key, text, file, line);
    if (opt_find(scenario_options, key))
        return opt_set(scenario_options, &c->base, key, text, file, line);
    return unknown_key(key, file, line);
}

static int policy_add(struct capacity_config *c, const char *name, const char *file, int line)
{
    struct capacity_policy *p = &c->policies[c->num_policies];

    if (c->num_policies == CAPACITY_MAX_LIST) {
        log_error_at(file, line, "more than %d policies", CAPACITY_MAX_LIST);
        return ERR_RANGE;
    }
    p->policy = policy_find(name);
    p->line = line;
    if (!p->policy)
        return config_policy_unknown(name, file, line);
    knobs_default(p->policy, &p->knobs);
    c->num_policies++;
    return 0;
}

static int policy_read(struct capacity_config *c, const struct doc_node *item)
{
    const struct doc_node *name = item->type == DOC_MAP ? doc_get(item, "policy") : item;
    struct capacity_policy *p;
    int err;

    if (!name || name->type != DOC_SCALAR || !name->text) {
        log_error_at(c->path, item->line, "a policy needs its name: '- policy: peo'");
        return ERR_CONFIG;
    }
    err = policy_add(c, name->text, c->path, name->line);
    p = &c->policies[c->num_policies - 1];
    for (const struct doc_node *n = item->type == DOC_MAP ? item->child : NULL; n && !err;
         n = n->next)
        if (strcmp(n->key, "policy"))
            err = opt_set(p->policy->knobs, &p->knobs, n->key,
                          n->type == DOC_SCALAR ? n->text : NULL, c->path, n->line);
    return err;
}

static int policies_read(struct capacity_config *c, const struct doc_node *list)
{
    int err = 0;

    if (list->type != DOC_LIST || !list->child) {
        log_error_at(c->path, list->line, "policies: expected a list of policies");
        return ERR_CONFIG;
    }
    for (const struct doc_node *n = list->child; n && !err; n = n->next)
        err = policy_read(c, n);
    return err;
}

/* The file's prices again, for those GPUs that --set gpus named anew. */
static int prices_keep(struct capacity_config *c, const struct doc_node *node)
{
    int err = 0;

    if (node->type != DOC_MAP)
        return price_set(c, NULL, node->text, c->path, node->line);
    for (int i = 0; i < c->num_gpus && !err; i++) {
        const struct doc_node *own = doc_get(node, c->gpus[i].profile);

        if (own)
            err = price_set(c, own->key, own->text, c->path, own->line);
    }
    return err;
}

static int prices_read(struct capacity_config *c, const struct doc_node *node)
{
    int err = 0;

    if (node->type != DOC_MAP)
        return price_set(c, NULL, node->type == DOC_SCALAR ? node->text : NULL, c->path,
                         node->line);
    for (const struct doc_node *n = node->child; n && !err; n = n->next)
        err = price_set(c, n->key, n->type == DOC_SCALAR ? n->text : NULL, c->path, n->line);
    return err;
}

static int map_read(struct capacity_config *c, const struct doc_node *map, const char *prefix)
{
    int err = 0;

    for (const struct doc_node *n = map->child; n && !err; n = n->next) {
        char key[256];

        snprintf(key, sizeof key, "%.100s%s%.100s", prefix, *prefix ? "." : "", n->key);
        if (!strcmp(key, "policies"))
            err = policies_read(c, n);
        else if (!strcmp(key, "usd_per_hour"))
            continue; /* once the GPUs are known */
        else if (opt_find(capacity_lists, key))
            err = list_read(c, key, n);
        else if (n->type == DOC_MAP && n->child && strlen(key) < 64)
            err = map_read(c, n, key);
        else if (n->type == DOC_LIST)
            err = opt_find(capacity_options, key) || opt_find(scenario_options, key)
                      ? (log_error_at(c->path, n->line, "%s: takes one value, not a list", key),
                         ERR_CONFIG)
                      : unknown_key(key, c->path, n->line);
        else
            err = scalar_set(c, key, n->type == DOC_SCALAR ? n->text : NULL, c->path, n->line);
    }
    return err;
}

/* Each word of a list separated by commas. */
static int set_list(struct capacity_config *c, const char *key, const char *text)
{
    bool policies = !strcmp(key, "policies");
    int err = 0;

    if (policies)
        c->num_policies = 0;
    else
        list_clear(c, key);
    for (const char *at = text; !err;) {
        size_t len = strcspn(at, ",");
        char one[256];

        snprintf(one, sizeof one, "%.*s", (int)(len < 255 ? len : 255), at);
        err = policies ? policy_add(c, one, "--set", 0) : list_value_add(c, key, one, "--set", 0);
        if (!at[len])
            break;
        at += len + 1;
    }
    return err;
}

static bool is_price(const char *key)
{
    return !strncmp(key, "usd_per_hour", 12) && (!key[12] || key[12] == '.' || key[12] == '=');
}

static int set_word(struct capacity_config *c, const char *word)
{
    const char *eq = strchr(word, '=');
    char key[128];

    if (!eq || eq == word || (size_t)(eq - word) >= sizeof key) {
        log_error("--set %s: expected key=value", word);
        return ERR_USAGE;
    }
    memcpy(key, word, (size_t)(eq - word));
    key[eq - word] = '\0';
    if (!strcmp(key, "policies") || opt_find(capacity_lists, key))
        return set_list(c, key, eq + 1);
    if (is_price(key))
        return price_set(c, key[12] ? key + 13 : NULL, eq + 1, "--set", 0);
    return scalar_set(c, key, eq + 1, "--set", 0);
}

/* Prices last: they hold for the GPUs that the other words choose. prices: the file's, or NULL. */
static int sets_read(struct capacity_config *c, const char *const *sets, size_t num,
                     const struct doc_node *prices)
{
    int err = 0;

    for (size_t i = 0; i < num && !err; i++)
        if (!is_price(sets[i]))
            err = set_word(c, sets[i]);
    if (!err && prices)
        err = prices_keep(c, prices);
    for (size_t i = 0; i < num && !err; i++)
        if (is_price(sets[i]))
            err = set_word(c, sets[i]);
    return err;
}

static int names_set(struct capacity_config *c, const char *path)
{
    const char *base = strrchr(path, '/'), *dot;

    base = base ? base + 1 : path;
    dot = strrchr(base, '.');
    c->path = strdup(path);
    c->name = strndup(base, dot && dot > base ? (size_t)(dot - base) : strlen(base));
    return c->path && c->name ? 0 : ERR_NOMEM;
}

static int hash_set(struct capacity_config *c, const char *const *sets, size_t num_sets)
{
    char file[65], *text = NULL;
    int err = file_hash(c->path, file);

    if (!err && asprintf(&text, "%s", file) < 0)
        err = ERR_NOMEM;
    for (size_t i = 0; i < num_sets && !err; i++) {
        char *more = NULL;

        if (asprintf(&more, "%s\n%s", text, sets[i]) < 0)
            err = ERR_NOMEM;
        free(text);
        text = err ? NULL : more;
    }
    if (!err)
        file_hash_text(text, strlen(text), c->hash);
    free(text);
    return err;
}

static int fault(const struct capacity_config *c, const char *text)
{
    log_error_at(c->path, 0, "%s", text);
    return ERR_CONFIG;
}

/* The file's price, else the profile's; a GPU without either cannot be compared. */
static int prices_check(struct capacity_config *c)
{
    for (int i = 0; i < c->num_gpus; i++) {
        struct capacity_gpu *g = &c->gpus[i];
        struct hw_profile *p = NULL;
        int err = hw_profile_read(g->profile, &p);

        if (err)
            return err;
        if (g->usd_per_hour <= 0)
            g->usd_per_hour = hw_value(p, HW_GPU_USD_PER_HOUR);
        hw_profile_free(p);
        if (g->usd_per_hour <= 0) {
            log_error_at(c->path, g->line,
                         "no price for %s: give usd_per_hour.%s, or gpu.usd_per_hour in its "
                         "profile",
                         g->profile, g->profile);
            return ERR_CONFIG;
        }
    }
    return 0;
}

/* More is no traffic that anyone has, and GPU counts stay exact. */
#define TRAFFIC_MOST 1e13

static int traffic_check(struct capacity_config *c)
{
    struct capacity_numbers *n = &c->num;
    double all;

    if (n->requests_s > 0 && n->tokens_s > 0)
        return fault(c, "traffic: give requests_s or tokens_s, not both");
    if (n->tokens_s > 0)
        n->requests_s = n->tokens_s / n->osl;
    if (n->requests_s <= 0)
        return fault(c, "no traffic: traffic.requests_s or traffic.tokens_s must be above zero");
    all = n->requests_s * ((double)n->isl + n->osl);
    if (all > TRAFFIC_MOST) {
        log_error_at(c->path, 0, "traffic: %.3g tokens/s, prompts included, are more than %.0e",
                     all, TRAFFIC_MOST);
        return ERR_RANGE;
    }
    return 0;
}

static int context_check(const struct capacity_config *c, const struct moe_model *m)
{
    int longest = c->num.isl + c->num.osl;

    if (!m->max_context || longest <= m->max_context)
        return 0;
    log_error_at(c->path, 0,
                 "traffic.isl + traffic.osl is %d, but the context of %s ends at %d tokens",
                 longest, m->name, m->max_context);
    return ERR_CONFIG;
}

static int ep_check(const struct capacity_config *c, const struct moe_model *m, int ep)
{
    int experts = m->experts + c->base.redundant_experts, node = c->base.gpus_per_node;

    if (ep > experts)
        log_error_at(c->path, 0, "EP %d is larger than the %d experts of %s", ep, experts, m->name);
    else if (experts % ep)
        log_error_at(c->path, 0, "%d experts of %s are not divisible by EP %d", experts, m->name,
                     ep);
    else if (ep > node && ep % node)
        log_error_at(c->path, 0, "EP %d is no whole number of nodes of %d GPUs", ep, node);
    else
        return 0;
    return ERR_CONFIG;
}

static int check(struct capacity_config *c)
{
    struct moe_model *m = NULL;
    int err;

    if (!c->num_gpus)
        return fault(c, "gpus: name at least one profile");
    if (!c->decode_ep.n || !c->decode_batch.n)
        return fault(c, "decode.ep and decode.batch: name at least one value each");
    if (!c->prefill_ep.n || !c->prefill_tokens.n)
        return fault(c, "prefill.ep and prefill.tokens: name at least one value each");
    err = traffic_check(c);
    if (!err)
        err = moe_model_read_but(c->base.model, c->base.ignore_key, &m);
    if (err)
        return err;
    err = context_check(c, m);
    for (int i = 0; i < c->decode_ep.n && !err; i++)
        err = ep_check(c, m, c->decode_ep.v[i]);
    for (int i = 0; i < c->prefill_ep.n && !err; i++)
        err = ep_check(c, m, c->prefill_ep.v[i]);
    moe_model_free(m);
    return err ? err : prices_check(c);
}

int capacity_config_read(const char *path, const char *const *sets, size_t num_sets,
                         struct capacity_config **out)
{
    struct capacity_config *c = calloc(1, sizeof *c);
    const struct doc_node *prices;
    struct doc *doc = NULL;
    int err = c ? doc_read(path, &doc) : ERR_NOMEM;

    *out = NULL;
    if (!err)
        err = names_set(c, path);
    if (!err)
        err = opt_set_defaults(scenario_options, &c->base);
    if (!err)
        err = opt_set_defaults(capacity_options, &c->num);
    if (!err && doc->root->type != DOC_MAP)
        err = fault(c, "key: value lines are wanted here");
    if (!err)
        err = map_read(c, doc->root, "");
    prices = !err ? doc_get(doc->root, "usd_per_hour") : NULL;
    if (prices)
        err = prices_read(c, prices);
    if (!err && !c->num_policies)
        err = policy_add(c, "none", path, 0);
    if (!err)
        err = sets_read(c, sets, num_sets, prices);
    if (!err)
        err = hash_set(c, sets, num_sets);
    if (!err)
        err = check(c);
    doc_free(doc);
    if (err) {
        capacity_config_free(c);
        c = NULL;
    }
    *out = c;
    return err;
}

void capacity_config_free(struct capacity_config *c)
{
    if (!c)
        return;
    opt_free_strings(scenario_options, &c->base);
    for (int i = 0; i < c->num_gpus; i++)
        free(c->gpus[i].profile);
    free(c->path);
    free(c->name);
    free(c);
}
