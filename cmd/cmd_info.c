/* peosim info: what a model, a profile or a policy resolves to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "hw/profile.h"
#include "model/moe.h"
#include "model/pass.h"
#include "model/policy/policy.h"
#include "report/coverage.h"

struct info_args {
    bool coverage, markdown;
};

const struct opt info_options[] = {
    {.key = "coverage",
     .type = OPT_BOOL,
     .offset = offsetof(struct info_args, coverage),
     .def = "false",
     .help = "profile: share of op time measured on this GPU, by EP and phase"},
    {.key = "markdown",
     .type = OPT_BOOL,
     .offset = offsetof(struct info_args, markdown),
     .def = "false",
     .help = "the same as rows of a Markdown table"},
    {.key = NULL}};

/* "sliding window 128, 64 heads of 64, 8 KV heads". */
static void mixer_text(const struct attn_shape *s, char *buf, size_t size)
{
    int at = snprintf(buf, size, "%s", attn_kind_name(s->kind));

    if (at < 0 || (size_t)at >= size || s->kind == ATTN_NONE)
        return;
    if (attn_kind_has_state(s->kind)) {
        snprintf(buf + at, size - (size_t)at, ", %d heads, state %d x %d", s->state_v_heads,
                 s->state_k_dim, s->state_v_dim);
        return;
    }
    at += snprintf(buf + at, size - (size_t)at, ", %d heads of %d", s->heads, s->qk_head_dim);
    if (!attn_is_latent(s->kind) && (size_t)at < size)
        at += snprintf(buf + at, size - (size_t)at, ", %d KV heads", s->kv_heads);
    if (s->window && (size_t)at < size)
        at += snprintf(buf + at, size - (size_t)at, ", window %d", s->window);
    if (s->compress_ratio && (size_t)at < size)
        at += snprintf(buf + at, size - (size_t)at, ", %d tokens to one", s->compress_ratio);
    if (s->index_heads && (size_t)at < size)
        snprintf(buf + at, size - (size_t)at, ", top %d%s", s->index_topk,
                 s->index_shared ? " of an earlier layer" : "");
}

static void ffn_text(const struct moe_layer *l, char *buf, size_t size)
{
    int at = 0;

    buf[0] = '\0';
    if (l->experts)
        at = snprintf(buf, size, "%d experts of %d, top-%d", l->experts, l->inter, l->topk);
    if (l->zero_experts && (size_t)at < size)
        at += snprintf(buf + at, size - (size_t)at, ", %d zero experts", l->zero_experts);
    if (l->experts && l->expert_hidden != l->attn.hidden && (size_t)at < size)
        at += snprintf(buf + at, size - (size_t)at, " on a hidden of %d", l->expert_hidden);
    if (l->shared_inter && (size_t)at < size)
        at += snprintf(buf + at, size - (size_t)at, ", shared width %d", l->shared_inter);
    if (l->dense_inter && (size_t)at < size)
        at += snprintf(buf + at, size - (size_t)at, "%sdense width %d", at ? ", " : "",
                       l->dense_inter);
    if (l->matrices == 2 && at && (size_t)at < size)
        snprintf(buf + at, size - (size_t)at, ", two matrices each");
}

/* Each kind of layer once, and which layers are of which: "ab cc" as runs "2 x a, 3 x b". */
static void info_layers(const struct moe_model *m)
{
    printf("  %d layers of %d kind%s:\n", m->num_layers, m->num_kinds,
           m->num_kinds == 1 ? "" : "s");
    for (int i = 0; i < m->num_kinds; i++) {
        char mixer[200], ffn[200];

        mixer_text(&m->layer[i].attn, mixer, sizeof mixer);
        ffn_text(&m->layer[i], ffn, sizeof ffn);
        printf("    %c: %d of %s%s%s\n", 'a' + i % 26, m->layer[i].count,
               m->layer[i].attn.kind == ATTN_NONE ? "no attention" : mixer, *ffn ? "; " : "", ffn);
    }
    printf("  pattern ");
    for (int l = 0; l < m->num_layers && m->num_kinds > 1; l++)
        putchar('a' + m->kind_of[l] % 26);
    printf("%s\n", m->num_kinds > 1 ? "" : "a in all");
}

static void info_types(const struct moe_model *m)
{
    printf("  weights in bytes:%s", m->quantised ? "" : " the file does not say types; BF16:");
    for (int p = 0; p < MOE_PARTS; p++)
        printf("%s %s %s %.3g", p ? "," : "", moe_part_name((enum moe_part)p),
               moe_dtype_name(m->part[p].dtype), m->part[p].bytes_per_param);
    printf("; %.1f GB\n", moe_weight_bytes(m) / 1e9);
}

/* Closed forms per token and pass, at a context of 4096 and of 65536. */
static void info_work(const struct moe_model *m)
{
    const double context = 4096, far = 65536;
    double kv = m->kv_bytes_per_element > 0 ? m->kv_bytes_per_element : 2;
    struct pass_work decode, prefill, long_decode;

    pass_work_of(m, context, true, DTYPE_FP8, kv, &decode);
    pass_work_of(m, far, true, DTYPE_FP8, kv, &long_decode);
    pass_work_of(m, context / 2, false, DTYPE_FP8, kv, &prefill);
    printf(
        "  per token, all layers: %.2f GFLOP in weights; attention core %.2f GFLOP in decode over "
        "%.0f tokens, %.2f GFLOP in prefill of as many\n",
        decode.linear_flops / 1e9, decode.attention_flops / 1e9, context,
        prefill.attention_flops / 1e9);
    printf("  weights %.1f GB in FP8, of which one token needs %.1f GB\n",
           decode.weight_bytes / 1e9, decode.active_bytes / 1e9);
    printf("  KV cache in %s: %.2f KB a token at %.0f, %.2f KB at %.0f; read per token %.3f and "
           "%.3f GB; state %.1f MB a request\n",
           kv == 2   ? "BF16"
           : kv == 1 ? "FP8"
                     : "4 bits",
           decode.kv_write_bytes / 1e3, context, long_decode.kv_write_bytes / 1e3, far,
           decode.kv_read_bytes / 1e9, long_decode.kv_read_bytes / 1e9, decode.state_bytes / 1e6);
    printf("  messages per token: dispatch %.2f MB (FP8), combine %.2f MB (BF16)\n",
           decode.dispatch_bytes / 1e6, decode.combine_bytes / 1e6);
}

static void lines_print(const char *head, const char *lines)
{
    printf("  %s\n", head);
    for (const char *at = lines; at && *at;) {
        size_t n = strcspn(at, "\n");

        printf("    %.*s\n", (int)n, at);
        at += n + (at[n] == '\n');
    }
}

static int info_model(const char *name, const char *ignore)
{
    struct moe_model *m;
    int err = moe_model_read_but(name, ignore, &m);

    if (err)
        return err;
    printf("model %s (%s)\n", m->name, m->path);
    printf("  hidden_size %d, vocabulary %d%s\n", m->hidden, m->vocab,
           m->tied_embeddings ? ", embedding tied" : "");
    info_layers(m);
    printf("  routing groups %d, of which a token may use %d\n", m->n_group, m->topk_group);
    printf("  parameters %.2f B total, %.2f B active per token\n", moe_params_total(m) / 1e9,
           moe_params_active(m) / 1e9);
    printf("  per MoE layer: attention %.1f M, one routed expert %.1f M, shared experts %.1f M\n",
           moe_params_attention(m) / 1e6, moe_params_expert(m) / 1e6, moe_params_shared(m) / 1e6);
    info_types(m);
    info_work(m);
    lines_print("read:", m->read);
    if (m->notes)
        lines_print("note:", m->notes);
    moe_model_free(m);
    return 0;
}

/* --ignore-key NAME, which arrives as a scenario key. */
static const char *ignore_of(const struct cli *cli)
{
    static const char key[] = "ignore_key=";

    for (int i = cli->num_sets - 1; i >= 0; i--)
        if (!strncmp(cli->sets[i], key, sizeof key - 1))
            return cli->sets[i] + sizeof key - 1;
    return NULL;
}

static int info_profile(const char *name)
{
    struct hw_profile *p;
    int err = hw_profile_read(name, &p);

    if (err)
        return err;
    printf("profile %s (%s): %s\n", p->name, p->path, p->description ? p->description : "");
    printf("  %-28s %12s %10s  %-9s %s\n", "field", "value", "std err", "origin", "source");
    for (int i = 0; i < HW_FIELD_COUNT; i++)
        printf("  %-28s %12.6g %10.3g  %-9s %s\n", hw_field_name((enum hw_field_id)i),
               p->f[i].value, p->f[i].std_err, hw_origin_name(p->f[i].origin),
               p->f[i].source ? p->f[i].source : "");
    for (int i = 0; i < p->num_tables; i++)
        printf("  table %-22s %12zu points      %-9s %s\n", p->tables[i].name, p->tables[i].n,
               hw_origin_name(p->tables[i].origin), p->tables[i].source ? p->tables[i].source : "");
    hw_profile_free(p);
    return 0;
}

static int info_coverage(const char *name, const struct info_args *args, const struct cli *cli)
{
    struct coverage *c = NULL;
    struct hw_profile *p;
    int err = hw_profile_read(name, &p);

    if (err)
        return err;
    err = coverage_of(p, &c);
    if (!err && cli->json)
        err = coverage_print_json(c, p->name, stdout);
    else if (!err && args->markdown)
        coverage_print_markdown(c, p->name, stdout);
    else if (!err)
        coverage_print(c, stdout);
    coverage_free(c);
    hw_profile_free(p);
    return err;
}

static int info_policy(const char *name)
{
    const struct policy *p = policy_find(name);

    if (!p) {
        log_error("there is no policy '%s'", name);
        return ERR_NOTFOUND;
    }
    printf("policy %s: %s\n", p->name, p->summary);
    opt_print_help(p->knobs, stdout);
    return 0;
}

static int list_policies(void)
{
    printf("policies:\n");
    for (size_t i = 0; i < policy_count(); i++)
        printf("  %-12s %s\n", policy_at(i)->name, policy_at(i)->summary);
    return 0;
}

static int list_profiles(void)
{
    char **names = file_names_installed("hw/profiles/h200.yaml", ".yaml");
    int err = 0;

    printf("profiles (hw/profiles/, or the path of any profile file):\n");
    for (size_t i = 0; names && names[i] && !err; i++) {
        struct hw_profile *p;

        err = hw_profile_read(names[i], &p);
        if (err)
            break;
        printf("  %-12s %s\n", p->name, p->description ? p->description : "");
        hw_profile_free(p);
    }
    file_names_free(names);
    return err;
}

static int list_models(void)
{
    char **names = file_names_installed("configs/models/deepseek-v3.json", ".json");
    int err = 0;

    printf("models (configs/models/, or the path of any config.json):\n");
    for (size_t i = 0; names && names[i] && !err; i++) {
        struct moe_model *m;

        err = moe_model_read(names[i], &m);
        if (err)
            break;
        printf("  %-18s %6.1f B, %5.1f B active; %d layers, %d experts, top-%d\n", m->name,
               moe_params_total(m) / 1e9, moe_params_active(m) / 1e9, m->num_layers, m->experts,
               m->topk);
        moe_model_free(m);
    }
    file_names_free(names);
    return err;
}

static int list_configs(void)
{
    char *names = file_names_text("configs/dpsk_ep64.yaml", ".yaml");

    printf("configurations (peosim run NAME):\n  %s\n", names ? names : "none");
    free(names);
    return 0;
}

/* What may follow `peosim info`: a list of all, or one by name. */
static const struct subject {
    const char *word;
    int (*list)(void);
} subjects[] = {
    {"policy", list_policies},
    {"profile", list_profiles},
    {"model", list_models},
    {"config", list_configs},
};

/* word: NULL for all of them. */
static int info_list(const char *word)
{
    size_t n = sizeof subjects / sizeof *subjects;
    int err = word ? ERR_USAGE : 0;

    for (size_t i = 0; i < n && (!err || err == ERR_USAGE); i++)
        if (!word || !strcmp(word, subjects[i].word))
            err = subjects[i].list();
    return err;
}

/* Does a file hold one JSON value and nothing else? Of any size, so not through base/doc.h. */
static int info_json(const char *path)
{
    json_error_t fault;
    json_t *root = json_load_file(path, JSON_DECODE_ANY, &fault);

    if (!root) {
        log_error_at(path, fault.line, "%s", fault.text);
        return ERR_PARSE;
    }
    printf("%s: JSON, %zu members\n", path,
           json_is_array(root) ? json_array_size(root) : json_object_size(root));
    json_decref(root);
    return 0;
}

int cmd_info(int argc, char **argv)
{
    struct cli cli = {0};
    struct info_args args = {0};
    int err = cli_parse(&cli, argc, argv, info_options, &args);

    if (!err && cli.help)
        cli_help(cmd_find(argv[0]));
    else if (!err && cli.num_words == 0)
        err = info_list(NULL);
    else if (!err && cli.num_words == 2 && !strcmp(cli.words[0], "model"))
        err = info_model(cli.words[1], ignore_of(&cli));
    else if (!err && cli.num_words == 2 && !strcmp(cli.words[0], "profile"))
        err = args.coverage ? info_coverage(cli.words[1], &args, &cli) : info_profile(cli.words[1]);
    else if (!err && cli.num_words == 2 && !strcmp(cli.words[0], "policy"))
        err = info_policy(cli.words[1]);
    else if (!err && cli.num_words == 2 && !strcmp(cli.words[0], "json"))
        err = info_json(cli.words[1]);
    else if (!err && cli.num_words == 1)
        err = info_list(cli.words[0]);
    else if (!err)
        err = ERR_USAGE;
    if (err == ERR_USAGE) {
        log_error("peosim info takes nothing, or: model, profile, policy (each with a NAME, or "
                  "alone for the list), config, json FILE");
    }
    opt_free_strings(info_options, &args);
    cli_free(&cli);
    return err;
}
