/* peosim: predicts how a Mixture-of-Experts layer behaves when communication and computation
 * overlap. This file only finds the command. */
#include <stdio.h>
#include <string.h>

#include <gsl/gsl_errno.h>

#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "cmd/cmd.h"
#include "cmd/cmd_accuracy.h"
#include "cmd/cmd_calibrate.h"
#include "cmd/cmd_validate.h"

static int cmd_help(int argc, char **argv);

static const struct cmd commands[] = {
    {"run", "CONFIG [flags]", "predict the layers of a configuration; tables, traces, pictures",
     cmd_run},
    {"sweep", "CONFIG [flags]", "every combination of a configuration's lists; resumes; MPI",
     cmd_sweep},
    {"recommend", "CONFIG [flags]", "the best policy and knobs per batch, and what to set",
     cmd_recommend},
    {"why", "CONFIG [flags]", "what the critical path is made of, and what each fix is worth",
     cmd_why},
    {"plan", "CONFIG [flags]", "print the schedule of each point, one op a line", cmd_plan},
    {"info", "[model|profile|policy NAME]", "what a model, a profile or a policy resolves to",
     cmd_info},
    {"diff", "A B [flags]", "compare two traces, predicted or measured", cmd_diff},
    {"calibrate", "--from FILE... --profile P [flags]", "fit a hardware profile to measurements",
     cmd_calibrate},
    {"validate", "CONFIG [flags]",
     "run the plans on this machine's GPUs; predicted against measured", cmd_validate},
    {"microbench", "--gpus N [flags]", "time single kernels on the GPUs: what calibrate fits",
     cmd_microbench},
    {"accuracy", "[--profile P] FILE... [flags]", "how wrong a profile is on measured files",
     cmd_accuracy},
    {"pass", "CONFIG [flags]",
     "predict whole decode steps and prefill passes: TPOT, tokens/s per GPU", cmd_pass},
    {"capacity", "FILE [flags]", "the cheapest GPUs and pools that keep a traffic's TTFT and TPOT",
     cmd_capacity},
    {"report", "FOLDER [flags]", "one page of a folder of results, for any browser", cmd_report},
    {"help", "[COMMAND]", "this text, or that of a command", cmd_help},
};

const struct cmd *cmd_find(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

static void print_commands(FILE *f)
{
    fprintf(f,
            "peosim %s: how a Mixture-of-Experts layer behaves under expert parallelism\n\n"
            "Usage: peosim COMMAND ...\n\n",
            PEOSIM_VERSION);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(f, "  %-10s %-28s %s\n", commands[i].name, commands[i].usage, commands[i].summary);
    fprintf(f, "\nFirst result: peosim run configs/dpsk_ep64.yaml\n");
}

static int unknown_command(const char *name)
{
    const char *names[sizeof commands / sizeof *commands], *near;
    size_t n = sizeof commands / sizeof *commands;

    for (size_t i = 0; i < n; i++)
        names[i] = commands[i].name;
    near = opt_nearest(name, names, n);
    log_error("there is no command '%s'%s%s%s", name, near ? "; did you mean '" : "",
              near ? near : "", near ? "'?" : "");
    return ERR_USAGE;
}

static int cmd_help(int argc, char **argv)
{
    const struct cmd *c;
    char *help[2];
    char flag[] = "--help";

    if (argc < 2) {
        print_commands(stdout);
        return 0;
    }
    c = cmd_find(argv[1]);
    if (!c)
        return unknown_command(argv[1]);
    if (c->run == cmd_help) {
        print_commands(stdout);
        return 0;
    }
    help[0] = argv[1];
    help[1] = flag;
    return c->run(2, help);
}

int main(int argc, char **argv)
{
    const struct cmd *c;
    int err;

    if (argc < 2) {
        print_commands(stderr);
        return err_exit_status(ERR_USAGE);
    }
    if (!strcmp(argv[1], "--version")) {
        printf("peosim %s\n", PEOSIM_VERSION);
        return 0;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        print_commands(stdout);
        return 0;
    }
    gsl_set_error_handler_off(); /* it would abort where we return ERR_NOMEM */
    c = cmd_find(argv[1]);
    err = c ? c->run(argc - 1, argv + 1) : unknown_command(argv[1]);
    if (!err && (fflush(stdout) || ferror(stdout))) {
        log_error("cannot write to stdout");
        err = ERR_IO;
    }
    return err_exit_status(err);
}
