/* cmd/cmd.h: the commands and what they share of the command line. One cmd_<name>.c per command and
 * one row of the table in main.c. */
#ifndef PEOSIM_CMD_CMD_H
#define PEOSIM_CMD_CMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/opt.h"
#include "report/record.h"

/* What a command answers in; every other format is refused. */
enum answers {
    ANSWERS_TEXT,  /* for people alone */
    ANSWERS_JSON,  /* or as --json */
    ANSWERS_TABLE, /* or as --json or --csv */
    ANSWERS_ALL    /* in every format, through a record */
};

struct cmd {
    const char *name;
    const char *usage;                 /* what follows the name: "CONFIG [flags]" */
    const char *summary;               /* one line */
    int (*run)(int argc, char **argv); /* argv[0] is the command; an error code of base/err.h */
    const struct opt *flags;           /* its own; NULL = none */
    bool common;                       /* takes the flags that most commands share */
    bool keys;                         /* reads a configuration: its keys are flags, too */
    const char *examples[4];           /* command lines with their reason after " # "; NULL ends */
    const struct opt *own_keys[3];     /* keys of a file of its own kind; NULL ends */
    enum answers answers;              /* which formats of report/formats.h it has */
};
/* The table, in the order of help (cmd/commands.c). */
size_t cmd_count(void);
const struct cmd *cmd_at(size_t i);
const struct cmd *cmd_find(const char *name); /* NULL if there is none */
void cmd_print_all(FILE *f);
int cmd_unknown(const char *name); /* says so, with the nearest; ERR_USAGE */

int cmd_run(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_pass(int argc, char **argv);
int cmd_capacity(int argc, char **argv);
int cmd_serve_plan(int argc, char **argv);
int cmd_sweep(int argc, char **argv);
int cmd_synthesize(int argc, char **argv);
int cmd_map(int argc, char **argv);
int cmd_recommend(int argc, char **argv);
int cmd_why(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_init(int argc, char **argv);
int cmd_man(int argc, char **argv);
int cmd_completion(int argc, char **argv);
int cmd_help(int argc, char **argv);

/* Each command's own flags, in its file. */
extern const struct opt accuracy_options[], calibrate_options[], capacity_flags[], diff_options[],
    info_options[], init_options[], microbench_options[], pass_options[], plan_options[],
    recommend_options[], report_options[], run_options[], sweep_options[], synthesize_options[],
    validate_options[];
/* The flags that most commands share. */
extern const struct opt common_options[];

#define CLI_MAX_WORDS 64

/* What every command that reads a configuration takes. Zero it, then cli_parse. */
struct cli {
    const char *words[CLI_MAX_WORDS]; /* arguments that are not flags */
    int num_words;
    const char *sets[CLI_MAX_WORDS]; /* key=value, in order; --seed N and --KEY=V arrive here too */
    int num_sets;
    char *owned[CLI_MAX_WORDS + 1]; /* sets made here; cli_free */
    int num_owned;
    bool help, json, csv, quiet, no_plots;
    char *format_name;                  /* --format; --json and --csv are short for two of them */
    const struct record_format *format; /* what was asked for */
    char *output_dir;                   /* NULL = results/<config> */
    int jobs;                           /* threads; 0 = as many as there are processors */
};

/* Reads argv[1..]. extra: a command's own flags as options of target (may be NULL); --flag value
 * and
 * --flag=value both work, a bool needs no value. --KEY=VALUE for a scenario key is --set. Unknown
 * flags name the nearest. ERR_USAGE. --help sets help and stops. */
int cli_parse(struct cli *cli, int argc, char **argv, const struct opt *extra, void *target);
/* cli_parse for a command that takes one configuration file, words[0]; prints the command's help
 * (with every key) where that is asked for: cli->help then says that nothing is left to do. */
int cli_parse_config(struct cli *cli, int argc, char **argv, const struct opt *extra, void *target);
/* words[0], where it is no file, may be the name of a shipped configuration: it becomes its path.
 */
int cli_find_config(struct cli *cli);
void cli_free(struct cli *cli);
/* "Usage: ..." with the command's own flags, the common ones, every scenario key, and examples. */
void cli_help(const struct cmd *cmd);
int cli_jobs(const struct cli *cli); /* threads to use, >= 1 */
/* Where results go: --output-dir, or results/NAME. */
void cli_folder(const struct cli *cli, const char *name, char *buf, size_t size);
/* After Ctrl-C with `left` of `all` things not done: the same with "-interrupted" after it, so that
 * whole results of an earlier run stay; warns with their number. Nothing left: cli_folder.
 * ERR_STOPPED (logged): not one was done. */
int cli_folder_left(const struct cli *cli, const char *name, size_t left, size_t all, char *buf,
                    size_t size);

#endif
