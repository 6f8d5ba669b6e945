#include "study/config.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/doc.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "model/policy/program.h"

#define CONFIG_MAX_VALUES   10000
#define CONFIG_MAX_POLICIES 256
#define CONFIG_MAX_POINTS   100000000.0

#define S_INT(name, field, lo, hi, dflt, u, text)                                                  \
    {                                                                                              \
        .key = name, .type = OPT_INT, .offset = offsetof(struct scenario, field), .min = lo,       \
        .max = hi, .def = dflt, .unit = u, .help = text, .list = true                              \
    }
#define S_DOUBLE(name, field, lo, hi, dflt, u, text)                                               \
    {                                                                                              \
        .key = name, .type = OPT_DOUBLE, .offset = offsetof(struct scenario, field), .min = lo,    \
        .max = hi, .def = dflt, .unit = u, .help = text, .list = true                              \
    }
#define S_ENUM(name, field, names, dflt, text)                                                     \
    {                                                                                              \
        .key = name, .type = OPT_ENUM, .offset = offsetof(struct scenario, field),                 \
        .choices = names, .def = dflt, .help = text, .list = true                                  \
    }
#define S_STRING(name, field, dflt, text)                                                          \
    {                                                                                              \
        .key = name, .type = OPT_STRING, .offset = offsetof(struct scenario, field), .def = dflt,  \
        .help = text, .list = true                                                                 \
    }
#define S_BOOL(name, field, dflt, text)                                                            \
    {                                                                                              \
        .key = name, .type = OPT_BOOL, .offset = offsetof(struct scenario, field), .def = dflt,    \
        .help = text, .list = true                                                                 \
    }

/* The one list of scenario keys: YAML, --set, --help, defaults, units, ranges. */
const struct opt scenario_options[] = {
    S_STRING("model", model, "deepseek-v3", "a name in configs/models/ or a config.json"),
    {.key = "ignore_key",
     .type = OPT_STRING,
     .offset = offsetof(struct scenario, ignore_key),
     .def = "",
     .help = "keys of the model's config.json that may be unknown, with commas between"},
    S_INT("batch", batch, 1, 1048576, "128", "tokens", "tokens per rank entering the layer"),
    S_ENUM("phase", phase, "decode|prefill", "decode", "what the batch is made of"),
    S_STRING("cluster.profile", profile, "h800", "a name in hw/profiles/ or a profile file"),
    S_INT("cluster.nodes", nodes, 1, 4096, "1", "nodes", "machines"),
    S_INT("cluster.gpus_per_node", gpus_per_node, 1, 128, "8", "GPUs", "GPUs of one machine"),
    S_INT("cluster.nvlink_domain", nvlink_domain, 0, 4096, "0", "GPUs",
          "GPUs that reach each other by NVLink; 0 = those of one node"),
    S_ENUM("cluster.fabric", fabric, "flat|fat_tree|rail", "flat",
           "how NICs are joined: one switch, a leaf for each group of nodes, or one per rail"),
    S_INT("cluster.nodes_per_leaf", nodes_per_leaf, 0, 4096, "0", "nodes",
          "fat_tree and rail: nodes that share a leaf (a rail's leaf); 0 = all"),
    S_DOUBLE("cluster.spine_latency_us", spine_latency_us, 0, 1000, "1", "us",
             "more for a path over the spine"),
    S_DOUBLE("cluster.nic_Gbitps", nic_Gbitps, 0, 100000, "0", "Gbit/s",
             "speed of one NIC; 0 = the profile's"),
    S_DOUBLE("cluster.nics_per_gpu", nics_per_gpu, 0, 16, "0", "NICs",
             "NICs per GPU; 0 = the profile's"),
    S_DOUBLE("cluster.nvlink_GBps", nvlink_GBps, 0, 100000, "0", "GB/s",
             "NVLink of one GPU per direction; 0 = the profile's"),
    S_DOUBLE("cluster.oversubscription", oversubscription, 1, 64, "1", NULL,
             "a leaf's NIC bandwidth over that of its uplinks"),
    S_ENUM("comm", comm, "auto" PLAN_COMM_CHOICES, "auto",
           "communication kernels; auto: low-latency where the batch fits its buffers"),
    S_INT("max_dispatch_tokens", max_dispatch_tokens, 1, 1048576, "256", "tokens",
          "num_max_dispatch_tokens_per_rank of the low-latency buffers"),
    S_INT("normal_num_sms", normal_num_sms, 1, 1024, "24", "SMs",
          "SMs that normal kernels and library collectives hold"),
    S_ENUM("dispatch_dtype", dispatch_dtype, "bf16|fp8", "fp8", "payload of dispatch messages"),
    S_ENUM("combine_dtype", combine_dtype, "bf16|fp8|logfmt10", "bf16",
           "payload of combine messages"),
    S_ENUM("gemm_dtype", gemm_dtype, "auto|bf16|fp8|nvfp4|mxfp4|w4a8|w4a16", "auto",
           "operands of all GEMMs; auto: each part's as the model's file says, else FP8"),
    S_ENUM("expert_dtype", expert_dtype, "auto|bf16|fp8|nvfp4|mxfp4|w4a8|w4a16", "auto",
           "operands of the routed experts' GEMMs; auto: as gemm_dtype"),
    S_ENUM("attention.include", attention, "auto|on|off", "auto",
           "attention ops in the layer; auto: where a policy moves attention"),
    S_INT("attention.context_len", context_len, 0, 10000000, "4096", "tokens",
          "tokens already in each request's KV cache (decode)"),
    S_INT("attention.prompt_len", prompt_len, 1, 10000000, "4096", "tokens",
          "prompt length of each request (prefill)"),
    S_INT("attention.cached_len", cached_len, 0, 10000000, "0", "tokens",
          "tokens of each prompt already in the KV cache (prefill in chunks)"),
    S_INT("attention.tokens_per_request", tokens_per_request, 1, 16, "1", "tokens",
          "tokens per request and step (decode with speculation); they count in batch"),
    S_INT("attention.tp", attention_tp, 1, 1024, "1", "ranks",
          "attention tensor parallelism; 1 = data parallel"),
    S_ENUM("attention.engine", attn_engine, "auto|sglang|vllm|trtllm", "auto",
           "whose attention kernels; auto: those measured most widely"),
    S_ENUM("attention.kv_dtype", kv_dtype, "auto|bf16|fp8", "auto",
           "KV cache; auto: as the model's file says, else BF16"),
    S_ENUM("routing.kind", routing, "balanced|uniform|lognormal|zipf|file", "uniform",
           "how tokens choose experts"),
    S_DOUBLE("routing.sigma", sigma, 0, 5, "0.5", NULL, "log-normal: spread of popularity"),
    S_DOUBLE("routing.exponent", exponent, 0, 5, "0.8", NULL, "zipf: exponent"),
    S_DOUBLE("routing.rank_skew", rank_skew, 0, 5, "0", NULL,
             "how much popularity differs between ranks"),
    S_STRING("routing.file", routing_file, "",
             "recorded routing: CSV (top-k choices, or counts as SGLang's; a folder is summed), "
             "JSON (SGLang, vLLM, EPLB) or .npy"),
    S_INT("routing.layer", routing_layer, -1, 100000, "-1", NULL,
          "layer of the recorded routing; -1 = the first"),
    S_ENUM("placement.kind", placement, "linear|balanced", "linear",
           "where experts live; balanced: by their loads, as EPLB does"),
    S_INT("placement.redundant_experts", redundant_experts, 0, 65536, "0", "experts",
          "copies of the most loaded experts, over all ranks"),
    S_INT("seed", seed, 0, 2147483647, "1", NULL, "seed of routing, skew and jitter"),
    S_INT("routing.draw", draw, 0, 1000000, "0", NULL,
          "another step: other tokens from the same popularity"),
    S_BOOL("launch.eager", eager, "false", "launch by the host, one by one; else a CUDA graph"),
    S_ENUM("skew.kind", skew_kind, "normal|exponential|uniform", "normal",
           "distribution of the ranks' start times"),
    S_DOUBLE("skew.start_us", skew_us, 0, 1e6, "0", "us", "scale of the ranks' start times"),
    S_DOUBLE("skew.jitter", jitter, 0, 2, "0", NULL,
             "log-normal spread of every op's own duration"),
    S_ENUM("simulation.fidelity", fidelity, "exact|fast", "fast",
           "bandwidth sharing: exact at every event, or over short epochs (docs/flow-engine.md)"),
    S_DOUBLE("simulation.tolerance", tolerance, 0, 0.1, "0.01", NULL,
             "fast, on fabrics with leaves: relative tolerance of completions taken together; 0 = "
             "the flow engine's own"),
    {.key = NULL},
};

/* A copy of n characters. */
static char *copy_of(const char *text, size_t n)
{
    char *s = malloc(n + 1);

    if (s) {
        memcpy(s, text, n);
        s[n] = '\0';
    }
    return s;
}

static void axis_clear(struct axis *a)
{
    for (int i = 0; i < a->num_values; i++)
        free(a->values[i]);
    free(a->values);
    a->values = NULL;
    a->num_values = 0;
}

static int axis_value_add(struct axis *a, const char *text, size_t len)
{
    char **values;

    if (a->num_values >= CONFIG_MAX_VALUES)
        return ERR_RANGE;
    values = realloc(a->values, (size_t)(a->num_values + 1) * sizeof *values);
    if (!values)
        return ERR_NOMEM;
    a->values = values;
    values[a->num_values] = copy_of(text, len);
    return values[a->num_values] ? (a->num_values++, 0) : ERR_NOMEM;
}

/* The axis of an option in a list of axes, added at the end when it is new. */
static struct axis *axis_of(struct axis **axes, int *num, const struct opt *opt)
{
    struct axis *all;

    for (int i = 0; i < *num; i++)
        if ((*axes)[i].opt == opt)
            return &(*axes)[i];
    all = realloc(*axes, (size_t)(*num + 1) * sizeof **axes);
    if (!all)
        return NULL;
    *axes = all;
    all[*num] = (struct axis){.opt = opt};
    return &all[(*num)++];
}

/* Checks one value against its option on a scratch target. */
static int value_check(const struct opt *table, void *scratch, const char *key, const char *text,
                       const char *file, int line)
{
    return opt_set(table, scratch, key, text, file, line);
}

struct reader {
    struct config *config;
    const struct doc *doc;
    struct scenario scenario; /* scratch for checks */
    struct knobs knobs;
};

/* One key's values from a node (scalar or list of scalars) into an axis. */
static int axis_read(struct reader *r, const struct opt *table, void *scratch, struct axis **axes,
                     int *num, const char *key, const struct doc_node *node)
{
    const struct doc_node *value = node->type == DOC_LIST ? node->child : node;
    const struct opt *opt;
    struct axis *a;
    int err = 0;

    if (node->type == DOC_LIST && !node->child) {
        log_error_at(r->doc->path, node->line, "%s: an empty list", key);
        return ERR_CONFIG;
    }
    for (const struct doc_node *v = value; v && !err; v = node->type == DOC_LIST ? v->next : NULL) {
        if (v->type != DOC_SCALAR) {
            log_error_at(r->doc->path, v->line, "%s: expected a value or a list of values", key);
            return ERR_CONFIG;
        }
        err = value_check(table, scratch, key, v->text, r->doc->path, v->line);
    }
    if (err)
        return err;
    opt = opt_find(table, key);
    a = axis_of(axes, num, opt);
    if (!a)
        return ERR_NOMEM;
    axis_clear(a);
    a->line = node->line;
    for (const struct doc_node *v = value; v && !err; v = node->type == DOC_LIST ? v->next : NULL)
        err = axis_value_add(a, v->text, strlen(v->text));
    if (err == ERR_RANGE)
        log_error_at(r->doc->path, node->line, "%s: more than %d values", key, CONFIG_MAX_VALUES);
    return err;
}

/* Scenario keys of a map; nested maps make dotted keys. */
static int scenario_read(struct reader *r, const struct doc_node *map, const char *prefix)
{
    int err = 0;

    for (const struct doc_node *n = map->child; n && !err; n = n->next) {
        char key[128];

        if (!*prefix && !strcmp(n->key, "policies"))
            continue;
        snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", n->key);
        if (n->type == DOC_MAP && strlen(key) < 64)
            err = scenario_read(r, n, key);
        else
            err = axis_read(r, scenario_options, &r->scenario, &r->config->axes,
                            &r->config->num_axes, key, n);
    }
    return err;
}

int config_policy_unknown(const char *name, const char *file, int line)
{
    const char *names[16], *near;
    size_t n = policy_count();

    for (size_t i = 0; i < n; i++)
        names[i] = policy_at(i)->name;
    near = opt_nearest(name, names, n);
    log_error_at(file, line, "there is no policy '%s'%s%s%s", name, near ? "; did you mean '" : "",
                 near ? near : "", near ? "'?" : "");
    return ERR_CONFIG;
}

static int policy_add(struct config *c, const struct policy *policy, int line)
{
    struct config_policy *all;

    if (c->num_policies >= CONFIG_MAX_POLICIES)
        return ERR_RANGE;
    all = realloc(c->policies, (size_t)(c->num_policies + 1) * sizeof *all);
    if (!all)
        return ERR_NOMEM;
    c->policies = all;
    all[c->num_policies++] = (struct config_policy){.policy = policy, .line = line};
    return 0;
}

/* "- peo", or "- policy: peo" with knobs beside it. */
static int policy_read(struct reader *r, const struct doc_node *item)
{
    const struct doc_node *name = item->type == DOC_MAP ? doc_get(item, "policy") : item;
    const struct policy *policy;
    struct config_policy *entry;
    int err;

    if (!name || name->type != DOC_SCALAR || !name->text) {
        log_error_at(r->doc->path, item->line, "a policy needs its name: '- policy: peo'");
        return ERR_CONFIG;
    }
    policy = policy_find(name->text);
    if (!policy)
        return config_policy_unknown(name->text, r->doc->path, name->line);
    err = policy_add(r->config, policy, item->line);
    if (err) {
        log_error_at(r->doc->path, item->line, "too many policies");
        return err;
    }
    entry = &r->config->policies[r->config->num_policies - 1];
    for (const struct doc_node *n = item->type == DOC_MAP ? item->child : NULL; n && !err;
         n = n->next)
        if (strcmp(n->key, "policy"))
            err = axis_read(r, policy->knobs, &r->knobs, &entry->axes, &entry->num_axes, n->key, n);
    return err;
}

static int policies_read(struct reader *r)
{
    const struct doc_node *list = doc_get(r->doc->root, "policies");
    int err = 0;

    if (!list)
        return policy_add(r->config, &policy_none, 0);
    if (list->type != DOC_LIST || !list->child) {
        log_error_at(r->doc->path, list->line, "policies: expected a list of policies");
        return ERR_CONFIG;
    }
    for (const struct doc_node *n = list->child; n && !err; n = n->next)
        err = policy_read(r, n);
    return err;
}

/* Values of one --set word, separated by commas. */
static int set_values(const struct opt *table, void *scratch, struct axis **axes, int *num,
                      const char *key, const char *text)
{
    const struct opt *opt = opt_find(table, key);
    struct axis *a = opt ? axis_of(axes, num, opt) : NULL;
    int err = 0;

    if (!opt)
        return opt_set(table, scratch, key, text, "--set", 0);
    if (!a)
        return ERR_NOMEM;
    axis_clear(a);
    for (const char *at = text; !err;) {
        size_t len = strcspn(at, ",");
        char *one = copy_of(at, len);

        err = one ? value_check(table, scratch, key, one, "--set", 0) : ERR_NOMEM;
        if (!err)
            err = axis_value_add(a, one, len);
        free(one);
        if (!at[len])
            break;
        at += len + 1;
    }
    return err;
}

/* `policies=none,peo`: keeps the file's entries of these policies, adds those it lacks. */
static int set_policies(struct config *c, const char *text)
{
    struct config_policy *old = c->policies;
    int num = c->num_policies, err = 0;

    c->policies = NULL;
    c->num_policies = 0;
    for (const char *at = text; !err;) {
        size_t len = strcspn(at, ",");
        char *name = copy_of(at, len);
        const struct policy *policy = name ? policy_find(name) : NULL;
        bool found = false;

        if (!policy)
            err = name ? config_policy_unknown(name, "--set", 0) : ERR_NOMEM;
        for (int i = 0; i < num && !err; i++)
            if (old[i].policy == policy) {
                err = policy_add(c, policy, old[i].line);
                if (!err) {
                    c->policies[c->num_policies - 1] = old[i];
                    old[i] = (struct config_policy){0};
                    found = true;
                }
            }
        if (!err && !found)
            err = policy_add(c, policy, 0);
        free(name);
        if (!at[len])
            break;
        at += len + 1;
    }
    for (int i = 0; i < num; i++) {
        for (int j = 0; j < old[i].num_axes; j++)
            axis_clear(&old[i].axes[j]);
        free(old[i].axes);
    }
    free(old);
    return err;
}

static int set_knob(struct reader *r, const char *key, const char *text, bool *used)
{
    const char *dot = strchr(key, '.'), *knob = dot ? dot + 1 : key;
    int err = 0;

    for (int i = 0; i < r->config->num_policies && !err; i++) {
        struct config_policy *p = &r->config->policies[i];

        if (dot && (strlen(p->policy->name) != (size_t)(dot - key) ||
                    strncmp(p->policy->name, key, (size_t)(dot - key))))
            continue;
        if (!dot && !opt_find(p->policy->knobs, knob))
            continue;
        *used = true;
        err = set_values(p->policy->knobs, &r->knobs, &p->axes, &p->num_axes, knob, text);
    }
    return err;
}

static int set_word(struct reader *r, const char *word)
{
    const char *eq = strchr(word, '=');
    char key[128];
    bool used = false;
    int err;

    if (!eq || eq == word || (size_t)(eq - word) >= sizeof key) {
        log_error("--set %s: expected key=value", word);
        return ERR_USAGE;
    }
    memcpy(key, word, (size_t)(eq - word));
    key[eq - word] = '\0';
    if (!strcmp(key, "policies"))
        return set_policies(r->config, eq + 1);
    if (opt_find(scenario_options, key))
        return set_values(scenario_options, &r->scenario, &r->config->axes, &r->config->num_axes,
                          key, eq + 1);
    err = set_knob(r, key, eq + 1, &used);
    if (err || used)
        return err;
    return set_values(scenario_options, &r->scenario, &r->config->axes, &r->config->num_axes, key,
                      eq + 1);
}

static int name_set(struct config *c, const char *path)
{
    const char *base = strrchr(path, '/'), *dot;

    base = base ? base + 1 : path;
    dot = strrchr(base, '.');
    c->path = copy_of(path, strlen(path));
    c->name = copy_of(base, dot && dot > base ? (size_t)(dot - base) : strlen(base));
    return c->path && c->name ? 0 : ERR_NOMEM;
}

/* The file's bytes and the words of the command line, so that equal hashes mean equal questions. */
static int hash_set(struct config *c, const char *const *sets, size_t num_sets)
{
    char *text;
    size_t len, size;
    int err = file_read(c->path, DOC_MAX_BYTES, &text, &len);

    if (err)
        return err;
    for (size_t i = 0; i < num_sets && !err; i++) {
        char *more;

        size = len + strlen(sets[i]) + 2;
        more = realloc(text, size);
        if (!more) {
            err = ERR_NOMEM;
            break;
        }
        text = more;
        len += (size_t)snprintf(text + len, size - len, "\n%s", sets[i]);
    }
    if (!err)
        file_hash_text(text, len, c->hash);
    free(text);
    return err;
}

/* A model, profile or file that is not there is the configuration's mistake: named by its line. */
static int files_check(const struct config *c)
{
    static const struct {
        const char *key, *shipped;
    } named[] = {{"model", "configs/models/%s.json"},
                 {"cluster.profile", "hw/profiles/%s.yaml"},
                 {"routing.file", "%s"}};

    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        const struct axis *a = config_axis(c, named[i].key);

        for (int j = 0; a && j < a->num_values; j++) {
            char name[1024], *path = NULL;
            bool found = access(a->values[j], R_OK) == 0;

            snprintf(name, sizeof name, named[i].shipped, a->values[j]);
            if (!found && *a->values[j] && file_find_shipped(name, &path)) {
                log_error_at(c->path, a->line, "%s: there is no file %s, and no %s is shipped",
                             named[i].key, a->values[j], name);
                return ERR_NOTFOUND;
            }
            free(path);
        }
    }
    return 0;
}

static int size_check(const struct config *c)
{
    double points = 0, scenarios = 1;

    for (int i = 0; i < c->num_axes; i++)
        scenarios *= c->axes[i].num_values;
    for (int i = 0; i < c->num_policies; i++) {
        double knobs = 1;

        for (int j = 0; j < c->policies[i].num_axes; j++)
            knobs *= c->policies[i].axes[j].num_values;
        points += knobs;
    }
    if (points * scenarios <= CONFIG_MAX_POINTS)
        return 0;
    log_error_at(c->path, 0, "%.3g combinations; at most %.0f are possible", points * scenarios,
                 CONFIG_MAX_POINTS);
    return ERR_RANGE;
}

int config_read(const char *path, const char *const *sets, size_t num_sets, struct config **out)
{
    struct config *c = calloc(1, sizeof *c);
    struct reader r = {.config = c};
    struct doc *doc = NULL;
    int err = c ? name_set(c, path) : ERR_NOMEM;

    if (!err)
        err = doc_read(path, &doc);
    r.doc = doc;
    if (!err && (!doc->root || doc->root->type != DOC_MAP)) {
        log_error_at(path, 1, "expected 'key: value' lines");
        err = ERR_CONFIG;
    }
    if (!err)
        err = scenario_read(&r, doc->root, "");
    if (!err)
        err = policies_read(&r);
    for (size_t i = 0; i < num_sets && !err; i++)
        err = set_word(&r, sets[i]);
    if (!err)
        err = files_check(c);
    if (!err)
        err = size_check(c);
    if (!err)
        err = hash_set(c, sets, num_sets);
    opt_free_strings(scenario_options, &r.scenario);
    doc_free(doc);
    if (err) {
        config_free(c);
        return err;
    }
    *out = c;
    return 0;
}

void config_free(struct config *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->num_axes; i++)
        axis_clear(&c->axes[i]);
    for (int i = 0; i < c->num_policies; i++) {
        for (int j = 0; j < c->policies[i].num_axes; j++)
            axis_clear(&c->policies[i].axes[j]);
        free(c->policies[i].axes);
    }
    free(c->axes);
    free(c->policies);
    free(c->program);
    free(c->path);
    free(c->name);
    free(c);
}

int config_use_plan(struct config *c, const char *path)
{
    int err;

    free(c->program);
    c->program = malloc(sizeof *c->program);
    if (!c->program)
        return ERR_NOMEM;
    err = program_read(path, c->program);
    return err ? err : policy_add(c, &policy_program, 0);
}

static size_t grid_size(const struct axis *axes, int num)
{
    size_t n = 1;

    for (int i = 0; i < num; i++)
        n *= (size_t)axes[i].num_values;
    return n;
}

size_t config_num_scenarios(const struct config *c)
{
    return grid_size(c->axes, c->num_axes);
}

size_t config_num_points_per_scenario(const struct config *c)
{
    size_t n = 0;

    for (int i = 0; i < c->num_policies; i++)
        n += grid_size(c->policies[i].axes, c->policies[i].num_axes);
    return n;
}

size_t config_num_points(const struct config *c)
{
    return config_num_scenarios(c) * config_num_points_per_scenario(c);
}

/* Sets a combination of a grid; the values were checked when they were read. */
static int grid_set(const struct opt *table, const struct axis *axes, int num, size_t index,
                    void *target)
{
    int err = 0;

    for (int i = num - 1; i >= 0 && !err; i--) {
        size_t n = (size_t)axes[i].num_values;

        err = opt_set(table, target, axes[i].opt->key, axes[i].values[index % n], "config", 0);
        index /= n;
    }
    return err;
}

int config_scenario(const struct config *c, size_t index, struct scenario *out)
{
    int err;

    memset(out, 0, sizeof *out);
    err = opt_set_defaults(scenario_options, out);
    if (!err)
        err = grid_set(scenario_options, c->axes, c->num_axes, index, out);
    for (int i = 0; !err && i < c->num_policies && out->comm == COMM_CHOICE_AUTO; i++)
        out->comm = c->policies[i].policy->auto_comm;
    out->program = c->program;
    if (err)
        scenario_free(out);
    return err;
}

int scenario_text(const struct scenario *s, char *buf, size_t size)
{
    size_t at = 0;

    for (const struct opt *o = scenario_options; o->key; o++) {
        char value[512];

        if (opt_format(o, s, value, sizeof value))
            return ERR_RANGE;
        at += (size_t)snprintf(buf + at, size - at, "%s%s=%s", at ? " " : "", o->key, value);
        if (at >= size)
            return ERR_RANGE;
    }
    return 0;
}

void scenario_free(struct scenario *s)
{
    opt_free_strings(scenario_options, s);
}

void config_knobs(const struct config *c, size_t j, const struct policy **policy, struct knobs *k,
                  int *entry)
{
    int i = 0;

    while (j >= grid_size(c->policies[i].axes, c->policies[i].num_axes)) {
        j -= grid_size(c->policies[i].axes, c->policies[i].num_axes);
        i++;
    }
    *policy = c->policies[i].policy;
    knobs_default(*policy, k);
    grid_set((*policy)->knobs, c->policies[i].axes, c->policies[i].num_axes, j, k);
    if (entry)
        *entry = i;
}

const struct axis *config_axis(const struct config *c, const char *key)
{
    for (int i = 0; i < c->num_axes; i++)
        if (!strcmp(c->axes[i].opt->key, key))
            return &c->axes[i];
    return NULL;
}

bool config_has_policy(const struct config *c, const char *name)
{
    for (int i = 0; i < c->num_policies; i++)
        if (!strcmp(c->policies[i].policy->name, name))
            return true;
    return false;
}
