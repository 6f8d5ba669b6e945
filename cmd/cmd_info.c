/* peosim info: what a model, a profile or a policy resolves to. */
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "hw/profile.h"
#include "model/moe.h"
#include "model/pass.h"
#include "model/policy/policy.h"

static const char *attention_name(enum moe_attention a)
{
    return a == MOE_ATTN_MLA ? "MLA" : a == MOE_ATTN_GQA ? "GQA" : "MHA";
}

/* Closed forms per token and pass, at a context of 4096. */
static void info_work(const struct moe_model *m)
{
    const double context = 4096;
    struct pass_work decode, prefill;

    pass_work_of(m, context, true, DTYPE_FP8, 2, &decode);
    pass_work_of(m, context / 2, false, DTYPE_FP8, 2, &prefill);
    printf(
        "  per token, all layers: %.2f GFLOP in weights; attention core %.2f GFLOP in decode over "
        "%.0f tokens, %.2f GFLOP in prefill of as many\n",
        decode.linear_flops / 1e9, decode.attention_flops / 1e9, context,
        prefill.attention_flops / 1e9);
    printf("  weights %.1f GB in FP8, of which one token needs %.1f GB\n",
           decode.weight_bytes / 1e9, decode.active_bytes / 1e9);
    printf("  KV cache in BF16: %.1f KB written per token, %.2f GB read per token at %.0f\n",
           decode.kv_write_bytes / 1e3, decode.kv_read_bytes / 1e9, context);
    printf("  messages per token: dispatch %.2f MB (FP8), combine %.2f MB (BF16)\n",
           decode.dispatch_bytes / 1e6, decode.combine_bytes / 1e6);
}

static int info_model(const char *name)
{
    struct moe_model *m;
    int err = moe_model_read(name, &m);

    if (err)
        return err;
    printf("model %s (%s)\n", m->name, m->path);
    printf("  hidden_size %d, layers %d (first %d dense, width %d), vocabulary %d\n", m->hidden,
           m->num_layers, m->first_dense_layers, m->dense_inter, m->vocab);
    printf("  experts %d, top-%d, moe_intermediate_size %d, shared width %d\n", m->experts, m->topk,
           m->inter, m->shared_inter);
    printf("  routing groups %d, of which a token may use %d\n", m->n_group, m->topk_group);
    printf("  attention %s, %d heads, %d KV heads, KV cache %d elements per token and layer\n",
           attention_name(m->attention), m->heads, m->kv_heads, moe_kv_elements(m));
    printf("  parameters %.1f B total, %.1f B active per token\n", moe_params_total(m) / 1e9,
           moe_params_active(m) / 1e9);
    printf("  per layer: attention %.1f M, one routed expert %.1f M, shared experts %.1f M\n",
           moe_params_attention(m) / 1e6, moe_params_expert(m) / 1e6, moe_params_shared(m) / 1e6);
    info_work(m);
    moe_model_free(m);
    return 0;
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

static int info_list(void)
{
    printf("policies:\n");
    for (size_t i = 0; i < policy_count(); i++)
        printf("  %-6s %s\n", policy_at(i)->name, policy_at(i)->summary);
    printf("models: the files of configs/models/ by name, or any config.json\n"
           "profiles: the files of hw/profiles/ by name, or any profile file\n");
    return 0;
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
    int err = cli_parse(&cli, argc, argv, NULL, NULL);

    if (!err && cli.help)
        cli_help(cmd_find("info"), NULL, false);
    else if (!err && cli.num_words == 0)
        err = info_list();
    else if (!err && cli.num_words == 2 && !strcmp(cli.words[0], "model"))
        err = info_model(cli.words[1]);
    else if (!err && cli.num_words == 2 && !strcmp(cli.words[0], "profile"))
        err = info_profile(cli.words[1]);
    else if (!err && cli.num_words == 2 && !strcmp(cli.words[0], "policy"))
        err = info_policy(cli.words[1]);
    else if (!err && cli.num_words == 2 && !strcmp(cli.words[0], "json"))
        err = info_json(cli.words[1]);
    else if (!err) {
        log_error(
            "peosim info takes nothing, or: model NAME, profile NAME, policy NAME, json FILE");
        err = ERR_USAGE;
    }
    cli_free(&cli);
    return err;
}
