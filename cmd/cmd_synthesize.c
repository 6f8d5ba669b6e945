/* peosim synthesize: schedules found by search, with their distance from any schedule. */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/interrupt.h"
#include "cmd/cmd.h"
#include "report/synthesize.h"

struct flags {
    int evaluations, draws, search_seed;
};

const struct opt synthesize_options[] = {
    {.key = "evaluations",
     .type = OPT_INT,
     .offset = offsetof(struct flags, evaluations),
     .min = 0,
     .max = 1000000,
     .def = "500",
     .help = "schedules simulated in each scenario, besides the policies' own"},
    {.key = "search_seed",
     .type = OPT_INT,
     .offset = offsetof(struct flags, search_seed),
     .min = 0,
     .max = 1000000,
     .def = "1",
     .help = "of the search: another one finds another way"},
    {.key = "draws",
     .type = OPT_INT,
     .offset = offsetof(struct flags, draws),
     .min = 0,
     .max = 10000,
     .def = "20",
     .help = "drawn profiles for each interval; 0 = no intervals"},
    {.key = NULL},
};

static int answer(const struct cli *cli, const struct synthesis *s, const char *folder)
{
    struct record r;

    record_open(&r, cli->format, stdout);
    synthesize_report(s, folder, &r);
    return record_close(&r);
}

static int run(const struct cli *cli, const struct flags *flags)
{
    const struct synth_options options = {.evaluations = flags->evaluations,
                                          .draws = flags->draws,
                                          .seed = (unsigned long)flags->search_seed};
    struct synthesis *s = NULL;
    struct config *c = NULL;
    char folder[512];
    int interrupt, err = config_read(cli->words[0], cli->sets, (size_t)cli->num_sets, &c);

    if (err)
        return err;
    cli_folder(cli, c->name, folder, sizeof folder);
    interrupt = interrupt_open();
    err = synthesize(c, cli_jobs(cli), interrupt, &options, &s);
    interrupt_close(interrupt);
    if (!err)
        err = synthesize_files(s, folder, !cli->no_plots);
    if (!err)
        err = answer(cli, s, folder);
    synthesis_free(s);
    config_free(c);
    return err;
}

int cmd_synthesize(int argc, char **argv)
{
    struct cli cli = {0};
    struct flags flags = {0};
    int err = cli_parse_config(&cli, argc, argv, synthesize_options, &flags);

    if (!err && !cli.help)
        err = run(&cli, &flags);
    cli_free(&cli);
    return err;
}
