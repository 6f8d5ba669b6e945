/* peosim recommend: the best policy and knobs per batch size, how sure and how sharp, and what to
 * set in the engines. */
#include <stdio.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "report/recommend.h"
#include "study/recommend.h"

struct flags {
    int draws;
};

const struct opt recommend_options[] = {
    {.key = "draws",
     .type = OPT_INT,
     .offset = offsetof(struct flags, draws),
     .min = 0,
     .max = 1000,
     .def = "20",
     .help = "drawn profiles for each interval; 0 = no intervals"},
    {.key = NULL},
};

static int answer_print(const struct cli *cli, const struct recommend *r)
{
    struct record out;
    int err, closed;

    record_open(&out, cli->format, stdout);
    err = recommend_report(r, &out);
    closed = record_close(&out);
    return err ? err : closed;
}

static int recommend(const struct cli *cli, const struct flags *flags)
{
    struct config *c = NULL;
    struct recommend *r = NULL;
    char folder[512];
    int err = config_read(cli->words[0], cli->sets, (size_t)cli->num_sets, &c);

    if (err)
        return err;
    cli_folder(cli, c->name, folder, sizeof folder);
    err = recommend_run(c, cli_jobs(cli), flags->draws, &r);
    if (!err)
        err = answer_print(cli, r);
    if (!err)
        err = recommend_report_bars(r, folder, !cli->no_plots);
    recommend_free(r);
    config_free(c);
    return err;
}

int cmd_recommend(int argc, char **argv)
{
    struct cli cli = {0};
    struct flags flags = {0};
    int err = cli_parse_config(&cli, argc, argv, recommend_options, &flags);

    if (!err && !cli.help)
        err = recommend(&cli, &flags);
    cli_free(&cli);
    return err;
}
