/* peosim why: what the time of one point is made of, op by op, and what the world would have to be
 * like for it to be shorter: each change is simulated. */
#include <stdio.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "report/why.h"

static int answer_print(const struct cli *cli, const struct config *c, const struct why *w)
{
    struct record out;

    record_open(&out, cli->format, stdout);
    why_report(c, w, &out);
    return record_close(&out);
}

static int explain(const struct cli *cli)
{
    struct config *c = NULL;
    struct why *w = NULL;
    struct grid_point point;
    char folder[512];
    int err = config_read(cli->words[0], cli->sets, (size_t)cli->num_sets, &c);

    if (err)
        return err;
    cli_folder(cli, c->name, folder, sizeof folder);
    err = why_find(c, cli_jobs(cli), &point);
    if (!err)
        err = why_run(c, &point, cli_jobs(cli), &w);
    if (!err)
        err = answer_print(cli, c, w);
    if (!err)
        err = why_report_bars(w, folder, !cli->no_plots);
    why_free(w);
    config_free(c);
    return err;
}

int cmd_why(int argc, char **argv)
{
    struct cli cli = {0};
    int err = cli_parse_config(&cli, argc, argv, NULL, NULL);

    if (!err && !cli.help)
        err = explain(&cli);
    cli_free(&cli);
    return err;
}