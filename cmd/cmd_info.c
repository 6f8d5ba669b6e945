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
#include "model/policy/policy.h"
#include "report/coverage.h"
#include "report/info.h"
#include "serve/engine.h"

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

static int info_model(const char *name, const char *ignore, struct record *r)
{
    struct moe_model *m;
    int err = moe_model_read_but(name, ignore, &m);

    if (err)
        return err;
    info_report_model(m, r);
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

static int info_profile(const char *name, struct record *r)
{
    struct hw_profile *p;
    int err = hw_profile_read(name, &p);

    if (err)
        return err;
    info_report_profile(p, r);
    hw_profile_free(p);
    return 0;
}

static int info_coverage(const char *name, bool markdown, struct record *r)
{
    struct coverage *c = NULL;
    struct hw_profile *p;
    int err = hw_profile_read(name, &p);

    if (err)
        return err;
    err = coverage_of(p, &c);
    if (!err && markdown)
        coverage_print_markdown(c, p->name, r->f);
    else if (!err)
        coverage_report(c, p->name, r);
    coverage_free(c);
    hw_profile_free(p);
    return err;
}

static int info_policy(const char *name, struct record *r)
{
    const struct policy *p = policy_find(name);

    if (!p) {
        log_error("there is no policy '%s'", name);
        return ERR_NOTFOUND;
    }
    info_report_policy(p, r);
    return 0;
}

static void name_write(struct record *r, const char *kind, const char *name, const char *summary,
                       int width)
{
    const struct info_name row = {.kind = kind, .name = name, .summary = summary};

    record_row(r, &row);
    record_note(r, "  %-*s %s\n", width, name, summary);
}

static int list_policies(struct record *r)
{
    record_note(r, "policies:\n");
    for (size_t i = 0; i < policy_count(); i++)
        name_write(r, "policy", policy_at(i)->name, policy_at(i)->summary, 12);
    return 0;
}

static int list_profiles(struct record *r)
{
    char **names = file_names_installed("hw/profiles/h200.yaml", ".yaml");
    int err = 0;

    record_note(r, "profiles (hw/profiles/, or the path of any profile file):\n");
    for (size_t i = 0; names && names[i] && !err; i++) {
        struct hw_profile *p;

        err = hw_profile_read(names[i], &p);
        if (err)
            break;
        name_write(r, "profile", p->name, p->description ? p->description : "", 12);
        hw_profile_free(p);
    }
    file_names_free(names);
    return err;
}

static int list_models(struct record *r)
{
    char **names = file_names_installed("configs/models/deepseek-v3.json", ".json");
    int err = 0;

    record_note(r, "models (configs/models/, or the path of any config.json):\n");
    for (size_t i = 0; names && names[i] && !err; i++) {
        struct moe_model *m;
        char words[160];

        err = moe_model_read(names[i], &m);
        if (err)
            break;
        snprintf(words, sizeof words, "%6.1f B, %5.1f B active; %d layers, %d experts, top-%d",
                 moe_params_total(m) / 1e9, moe_params_active(m) / 1e9, m->num_layers, m->experts,
                 m->topk);
        name_write(r, "model", m->name, words, 18);
        moe_model_free(m);
    }
    file_names_free(names);
    return err;
}

static int list_configs(struct record *r)
{
    char *text = file_names_text("configs/dpsk_ep64.yaml", ".yaml");
    char **names = file_names_installed("configs/dpsk_ep64.yaml", ".yaml");

    record_note(r, "configurations (peosim run NAME):\n  %s\n", text ? text : "none");
    for (size_t i = 0; names && names[i]; i++) {
        const struct info_name row = {.kind = "config", .name = names[i], .summary = ""};

        record_row(r, &row);
    }
    file_names_free(names);
    free(text);
    return 0;
}

static int list_engines(struct record *r)
{
    int err = 0;

    record_note(r, "engines (hw/profiles/engines/; accuracy of deployments, serve-plan):\n");
    for (int i = 0; i < SERVE_ENGINES && !err; i++) {
        struct engine e;

        err = engine_read((enum serve_engine)i, &e);
        if (!err)
            name_write(r, "engine", serve_engine_name((enum serve_engine)i), e.source, 12);
    }
    return err;
}

/* What may follow `peosim info`: a list of all, or one by name. */
static const struct subject {
    const char *word;
    int (*list)(struct record *r);
} subjects[] = {
    {"policy", list_policies}, {"profile", list_profiles}, {"model", list_models},
    {"engine", list_engines},  {"config", list_configs},
};

/* word: NULL for all of them. */
static int info_list(const char *word, struct record *r)
{
    size_t n = sizeof subjects / sizeof *subjects;
    int err = word ? ERR_USAGE : 0;

    info_report_names(r);
    for (size_t i = 0; i < n && (!err || err == ERR_USAGE); i++)
        if (!word || !strcmp(word, subjects[i].word))
            err = subjects[i].list(r);
    return err;
}

/* Does a file hold one JSON value and nothing else? Of any size, so not through base/doc.h. */
static int info_json(const char *path, struct record *r)
{
    json_error_t fault;
    json_t *root = json_load_file(path, JSON_DECODE_ANY, &fault);
    char words[48];

    if (!root) {
        log_error_at(path, fault.line, "%s", fault.text);
        return ERR_PARSE;
    }
    snprintf(words, sizeof words, "%zu members",
             json_is_array(root) ? json_array_size(root) : json_object_size(root));
    info_report_names(r);
    record_row(r, &(struct info_name){.kind = "json", .name = path, .summary = words});
    record_note(r, "%s: JSON, %s\n", path, words);
    json_decref(root);
    return 0;
}

static int info(const struct cli *cli, const struct info_args *args, struct record *r)
{
    const char *what = cli->num_words ? cli->words[0] : NULL, *name = cli->words[1];

    if (cli->num_words < 2)
        return info_list(what, r);
    if (cli->num_words > 2)
        return ERR_USAGE;
    if (!strcmp(what, "model"))
        return info_model(name, ignore_of(cli), r);
    if (!strcmp(what, "profile"))
        return args->coverage ? info_coverage(name, args->markdown, r) : info_profile(name, r);
    if (!strcmp(what, "policy"))
        return info_policy(name, r);
    return strcmp(what, "json") ? ERR_USAGE : info_json(name, r);
}

/* The answer as a whole, so that a fault leaves no half of one. */
static int info_print(const struct cli *cli, const struct info_args *args)
{
    struct record r;
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    int err, closed;

    if (!f)
        return ERR_NOMEM;
    record_open(&r, cli->format, f);
    err = info(cli, args, &r);
    closed = record_close(&r);
    if (fclose(f) && !err)
        err = ERR_NOMEM;
    if (!err)
        err = closed;
    if (!err)
        fputs(text, stdout);
    free(text);
    return err;
}

int cmd_info(int argc, char **argv)
{
    struct cli cli = {0};
    struct info_args args = {0};
    int err = cli_parse(&cli, argc, argv, info_options, &args);

    if (!err && cli.help)
        cli_help(cmd_find(argv[0]));
    else if (!err)
        err = info_print(&cli, &args);
    if (err == ERR_USAGE) {
        log_error("peosim info takes nothing, or: model, profile, policy (each with a NAME, or "
                  "alone for the list), engine, config, json FILE");
    }
    opt_free_strings(info_options, &args);
    cli_free(&cli);
    return err;
}
