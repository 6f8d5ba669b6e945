#include "cmd/cmd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "study/config.h"

const struct opt common_options[] = {
    {.key = "output_dir",
     .type = OPT_STRING,
     .offset = offsetof(struct cli, output_dir),
     .help = "where results go; default results/<config>"},
    {.key = "jobs",
     .type = OPT_INT,
     .offset = offsetof(struct cli, jobs),
     .min = 0,
     .max = 1024,
     .def = "0",
     .unit = "threads",
     .help = "threads; 0 = one per processor"},
    {.key = "json",
     .type = OPT_BOOL,
     .offset = offsetof(struct cli, json),
     .def = "false",
     .help = "results as JSON on stdout"},
    {.key = "csv",
     .type = OPT_BOOL,
     .offset = offsetof(struct cli, csv),
     .def = "false",
     .help = "results as CSV on stdout"},
    {.key = "format",
     .type = OPT_STRING,
     .offset = offsetof(struct cli, format_name),
     .help = "results on stdout as text, json, csv, jsonl or another of the formats below"},
    {.key = "quiet",
     .type = OPT_BOOL,
     .offset = offsetof(struct cli, quiet),
     .def = "false",
     .help = "no progress"},
    {.key = "no_plots",
     .type = OPT_BOOL,
     .offset = offsetof(struct cli, no_plots),
     .def = "false",
     .help = "no pictures"},
    {.key = NULL},
};

/* The option of a flag's name ("--output-dir" is output_dir), and where it is set. */
static const struct opt *flag_find(const char *name, const struct opt *extra, void *target,
                                   struct cli *cli, void **where)
{
    char key[64];
    const struct opt *o;
    size_t n = strlen(name);

    if (n >= sizeof key)
        return NULL;
    for (size_t i = 0; i <= n; i++)
        key[i] = name[i] == '-' ? '_' : name[i];
    o = opt_find(common_options, key);
    *where = cli;
    if (!o && extra) {
        o = opt_find(extra, key);
        *where = target;
    }
    return o;
}

static int unknown_flag(const char *name, const struct opt *extra)
{
    const char *names[160], *near;
    size_t n = 0;

    names[n++] = "set";
    names[n++] = "help";
    names[n++] = "seed";
    for (const struct opt *o = common_options; o->key; o++)
        names[n++] = o->key;
    for (const struct opt *o = extra; o && o->key && n < 100; o++)
        names[n++] = o->key;
    for (const struct opt *o = scenario_options; o->key && n < 160; o++)
        names[n++] = o->key;
    near = opt_nearest(name, names, n);
    log_error("there is no flag --%s%s%s%s", name, near ? "; did you mean --" : "",
              near ? near : "", near ? "?" : "");
    return ERR_USAGE;
}

static int set_add(struct cli *cli, const char *text, bool own)
{
    if (cli->num_sets == CLI_MAX_WORDS) {
        log_error("more than %d settings on the command line", CLI_MAX_WORDS);
        return ERR_USAGE;
    }
    if (own) {
        char *copy = strdup(text);

        if (!copy)
            return ERR_NOMEM;
        cli->owned[cli->num_owned++] = copy;
        text = copy;
    }
    cli->sets[cli->num_sets++] = text;
    return 0;
}

/* --seed 7 and --batch=4,8 are --set seed=7 and --set batch=4,8. */
static int key_flag(struct cli *cli, const char *name, const char *value)
{
    char *text, *key;
    int err;

    if (asprintf(&text, "%s=%s", name, value) < 0)
        return ERR_NOMEM;
    for (key = text; *key != '='; key++)
        if (*key == '-')
            *key = '_';
    err = set_add(cli, text, true);
    free(text);
    return err;
}

static bool is_key(const char *name)
{
    char key[64];
    size_t n = strlen(name);

    for (size_t i = 0; i <= n && n < sizeof key; i++)
        key[i] = name[i] == '-' ? '_' : name[i];
    return n < sizeof key && opt_find(scenario_options, key);
}

static bool is_bool(const char *word)
{
    return !strcmp(word, "true") || !strcmp(word, "false");
}

/* One flag at argv[*i]; moves *i over its value. */
static int flag_read(struct cli *cli, int argc, char **argv, int *i, const struct opt *extra,
                     void *target)
{
    char name[64];
    const char *word = argv[*i] + 2, *value = strchr(word, '=');
    size_t len = value ? (size_t)(value - word) : strlen(word);
    const struct opt *o;
    void *where;

    snprintf(name, sizeof name, "%.*s", (int)len, word);
    if (value)
        value++;
    if (!strcmp(name, "help")) {
        cli->help = true;
        return 0;
    }
    o = flag_find(name, extra, target, cli, &where);
    if (!o && strcmp(name, "set") && !is_key(name))
        return unknown_flag(name, extra);
    if (!value && o && o->type == OPT_BOOL)
        value = *i + 1 < argc && is_bool(argv[*i + 1]) ? argv[++*i] : "true";
    if (!value && *i + 1 < argc)
        value = argv[++*i];
    if (!value) {
        log_error("--%s needs a value", name);
        return ERR_USAGE;
    }
    if (!strcmp(name, "set"))
        return set_add(cli, value, false);
    if (!o)
        return key_flag(cli, name, value);
    return opt_set(o == opt_find(common_options, o->key) ? common_options : extra, where, o->key,
                   value, "--", 0)
               ? ERR_USAGE
               : 0;
}

static int unknown_format(const char *name)
{
    const char *names[64], *near;
    size_t n = 0;

    for (; n < record_format_count() && n < sizeof names / sizeof *names; n++)
        names[n] = record_format_at(n)->name;
    near = opt_nearest(name, names, n);
    log_error("there is no output format '%s'%s%s%s", name, near ? "; did you mean " : "",
              near ? near : "", near ? "?" : "");
    return ERR_USAGE;
}

/* A format that a command does not have is refused, never left out of sight. */
static int format_check(const struct cli *cli, const struct cmd *cmd)
{
    static const char *const instead[] = {"it writes text", "--json, or none",
                                          "--json, --csv, or none", ""};
    bool text = cli->format == record_format_at(0);

    if (text || !cmd || cmd->answers == ANSWERS_ALL ||
        (cli->json && cmd->answers >= ANSWERS_JSON) || (cli->csv && cmd->answers >= ANSWERS_TABLE))
        return 0;
    log_error("peosim %s has no output as %s: %s", cmd->name, cli->format->name,
              instead[cmd->answers]);
    return ERR_USAGE;
}

/* --json and --csv are --format json and --format csv. */
static int format_choose(struct cli *cli, const char *command)
{
    const char *name = cli->json ? "json" : cli->csv ? "csv" : cli->format_name;

    if (cli->json + cli->csv + (cli->format_name != NULL) > 1) {
        log_error("--json, --csv and --format exclude each other");
        return ERR_USAGE;
    }
    cli->format = name ? record_format_find(name) : record_format_at(0);
    if (!cli->format)
        return unknown_format(name);
    cli->json = !strcmp(cli->format->name, "json");
    cli->csv = !strcmp(cli->format->name, "csv");
    return format_check(cli, cmd_find(command));
}

int cli_parse(struct cli *cli, int argc, char **argv, const struct opt *extra, void *target)
{
    int err = 0;

    opt_set_defaults(common_options, cli);
    if (extra)
        opt_set_defaults(extra, target);
    for (int i = 1; i < argc && !err && !cli->help; i++) {
        if (!strcmp(argv[i], "-h")) {
            cli->help = true;
        } else if (!strncmp(argv[i], "--", 2) && argv[i][2]) {
            err = flag_read(cli, argc, argv, &i, extra, target);
        } else if (argv[i][0] == '-' && argv[i][1]) {
            log_error("flags begin with two dashes: %s", argv[i]);
            err = ERR_USAGE;
        } else if (cli->num_words == CLI_MAX_WORDS) {
            log_error("more than %d arguments", CLI_MAX_WORDS);
            err = ERR_USAGE;
        } else {
            cli->words[cli->num_words++] = argv[i];
        }
    }
    return err || cli->help ? err : format_choose(cli, argv[0]);
}

/* A shipped configuration's name stands for its file, as models and profiles do. */
int cli_find_config(struct cli *cli)
{
    static const char *const places[] = {"configs/%s.yaml", "configs/capacity/%s.yaml",
                                         "configs/serve-plan/%s.yaml"};
    char name[512], *path;

    if (access(cli->words[0], F_OK) == 0 || strchr(cli->words[0], '.'))
        return 0;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(name, sizeof name, places[i], cli->words[0]);
        if (file_find_shipped(name, &path) == 0) {
            cli->owned[cli->num_owned++] = path;
            cli->words[0] = path;
            return 0;
        }
    }
    return 0; /* reading it says that there is no such file */
}

int cli_parse_config(struct cli *cli, int argc, char **argv, const struct opt *extra, void *target)
{
    int err = cli_parse(cli, argc, argv, extra, target);

    if (!err && cli->help) {
        cli_help(cmd_find(argv[0]));
    } else if (!err && cli->num_words != 1) {
        log_error("peosim %s takes one configuration file", argv[0]);
        err = ERR_USAGE;
    } else if (!err) {
        err = cli_find_config(cli);
    }
    return err;
}

void cli_free(struct cli *cli)
{
    for (int i = 0; i < cli->num_owned; i++)
        free(cli->owned[i]);
    opt_free_strings(common_options, cli);
}

void cli_help(const struct cmd *cmd)
{
    printf("Usage: peosim %s %s\n\n%s\n\nFlags (--flag VALUE or --flag=VALUE):\n", cmd->name,
           cmd->usage, cmd->summary);
    if (cmd->flags)
        opt_print_help(cmd->flags, stdout);
    opt_print_help(common_options, stdout);
    for (size_t i = 0; cmd->answers == ANSWERS_ALL && i < record_format_count(); i++)
        printf("%s%s: %s%s", i ? ", " : "  formats: ", record_format_at(i)->name,
               record_format_at(i)->help, i + 1 < record_format_count() ? "" : "\n");
    if (cmd->examples[0])
        printf("\nExamples:\n");
    for (size_t i = 0; i < 3 && cmd->examples[i]; i++)
        printf("  %s\n", cmd->examples[i]);
    if (!cmd->keys)
        return;
    printf("\nKeys of a configuration, also --set KEY=VALUE or --KEY=VALUE (V1,V2 is a list):\n");
    opt_print_help(scenario_options, stdout);
    for (size_t i = 0; i < policy_count(); i++) {
        printf("\nKnobs of policy %s: %s\n", policy_at(i)->name, policy_at(i)->summary);
        opt_print_help(policy_at(i)->knobs, stdout);
    }
}

void cli_folder(const struct cli *cli, const char *name, char *buf, size_t size)
{
    if (cli->output_dir)
        snprintf(buf, size, "%s", cli->output_dir);
    else
        snprintf(buf, size, "results/%s", name);
}

int cli_folder_left(const struct cli *cli, const char *name, size_t left, size_t all, char *buf,
                    size_t size)
{
    static const char suffix[] = "-interrupted";

    cli_folder(cli, name, buf, size - sizeof suffix);
    if (!left)
        return 0;
    strcat(buf, suffix);
    if (left == all) {
        log_error("interrupted before the first point was simulated");
        return ERR_STOPPED;
    }
    log_warn("interrupted: %zu of %zu points were simulated; `peosim sweep` takes up where it was "
             "interrupted",
             all - left, all);
    return 0;
}

int cli_jobs(const struct cli *cli)
{
    long n = cli->jobs > 0 ? cli->jobs : sysconf(_SC_NPROCESSORS_ONLN);

    return n > 0 ? (int)n : 1;
}
