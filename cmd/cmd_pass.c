/* peosim pass: whole decode steps and prefill passes of every point of a configuration. */
#include <stdio.h>

#include "base/err.h"
#include "base/interrupt.h"
#include "cmd/cmd.h"
#include "report/pass.h"
#include "report/progress.h"
#include "study/passes.h"

const struct opt pass_options[] = {
    {.key = "acceptance",
     .type = OPT_DOUBLE,
     .offset = offsetof(struct passes_options, acceptance),
     .min = 0,
     .max = 1,
     .def = "0.8",
     .help = "chance that a drafted token is accepted (attention.tokens_per_request above 1)"},
    {.key = "reserve_GB",
     .type = OPT_DOUBLE,
     .offset = offsetof(struct passes_options, reserve_GB),
     .min = 0,
     .max = 1000,
     .def = "4",
     .unit = "GB",
     .help = "memory of the runtime: context, graphs, libraries, fragmentation"},
    {.key = "draws",
     .type = OPT_INT,
     .offset = offsetof(struct passes_options, draws),
     .min = 1,
     .max = 1000,
     .def = "1",
     .help = "routings drawn, for step-time percentiles; 1 = none"},
    {.key = "all_layers",
     .type = OPT_BOOL,
     .offset = offsetof(struct passes_options, all_layers),
     .def = "false",
     .help = "simulate every layer instead of repeating alike ones"},
    {.key = NULL},
};

static int answer_print(const struct cli *cli, const struct passes *a)
{
    struct record r;

    record_open(&r, cli->format, stdout);
    pass_report(a, &r);
    return record_close(&r);
}

static int run(struct cli *cli, const struct passes_options *options)
{
    struct config *c = NULL;
    struct passes a;
    struct progress progress;
    char folder[512];
    int interrupt, err = config_read(cli->words[0], cli->sets, (size_t)cli->num_sets, &c);

    if (err)
        return err;
    err = passes_open(c, options, &a);
    progress_open(&progress, "passes", cli->quiet);
    interrupt = interrupt_open();
    if (!err)
        err = passes_run(&a, cli_jobs(cli), interrupt, progress_step, &progress);
    interrupt_close(interrupt);
    progress_close(&progress);
    if (!err)
        err = cli_folder_left(cli, c->name, a.num_left, a.n, folder, sizeof folder);
    if (!err)
        err = answer_print(cli, &a);
    if (!err)
        err = pass_report_files(&a, folder, !cli->no_plots);
    if (!err && cli->format == record_format_at(0))
        printf("results: %s/\n", folder);
    if (!err && a.num_left)
        err = ERR_STOPPED;
    passes_free(&a);
    config_free(c);
    return err;
}

int cmd_pass(int argc, char **argv)
{
    struct cli cli = {0};
    struct passes_options options = {0};
    int err = cli_parse_config(&cli, argc, argv, pass_options, &options);

    if (!err && cli.help)
        printf("\n%s", pass_metrics_help);
    else if (!err)
        err = run(&cli, &options);
    cli_free(&cli);
    return err;
}
