/* peosim map: which policy wins over batch and one other key, by how much, and how sure that is. */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "report/map.h"
#include "report/progress.h"
#include "study/map.h"

static int print(const struct cli *cli, const struct map *m)
{
    char *json = NULL;
    int err = 0;

    if (cli->json)
        err = report_map_json(m, &json);
    if (json)
        printf("%s\n", json);
    else if (cli->csv)
        report_map_csv(m, stdout);
    else if (!cli->json)
        report_map_table(m, stdout);
    free(json);
    return err;
}

static int map(const struct cli *cli)
{
    struct config *c = NULL;
    struct map *m = NULL;
    struct progress progress;
    char folder[512];
    int err = config_read(cli->words[0], cli->sets, (size_t)cli->num_sets, &c);

    if (err)
        return err;
    progress_open(&progress, "points", cli->quiet);
    err = map_run(c, cli_jobs(cli), progress_step, &progress, &m);
    progress_close(&progress);
    cli_folder(cli, c->name, folder, sizeof folder);
    if (!err)
        err = report_map_write(m, folder, !cli->no_plots);
    if (!err)
        err = print(cli, m);
    if (!err && !cli->json && !cli->csv)
        printf("results: %s/\n", folder);
    map_free(m);
    config_free(c);
    return err;
}

int cmd_map(int argc, char **argv)
{
    struct cli cli = {0};
    int err = cli_parse_config(&cli, argc, argv, NULL, NULL);

    if (!err && !cli.help)
        err = map(&cli);
    cli_free(&cli);
    return err;
}
