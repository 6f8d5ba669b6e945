/* peosim serve-plan: the cheapest deployment that serves a traffic within its promises, by
 * simulated requests, and the files that start it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "report/serve_plan.h"

static void name_of(const char *path, char *buf, size_t size)
{
    const char *slash = strrchr(path, '/');
    char *dot;

    snprintf(buf, size, "%s", slash ? slash + 1 : path);
    dot = strrchr(buf, '.');
    if (dot)
        *dot = '\0';
}

static int files_write(const struct cli *cli, const struct planner *p)
{
    char name[256], folder[512], path[600];
    struct file_out out = {0};
    struct record r;
    int launch = 0, err;

    name_of(p->path, name, sizeof name);
    cli_folder(cli, name, folder, sizeof folder);
    err = file_mkdirs(folder);
    snprintf(path, sizeof path, "%s/deployments.csv", folder);
    if (!err)
        err = file_create(&out, path);
    if (!err) {
        record_open(&r, record_format_find("csv"), out.f);
        serve_plan_report(p, &r);
        err = record_close(&r);
    }
    if (!err)
        err = file_commit(&out);
    file_abort(&out);
    if (!err && p->num && p->row[0].ok)
        err = serve_plan_launch(p, &p->row[0], folder, &launch);
    if (!err && cli->format == record_format_at(0))
        printf("results: %s/%s\n", folder, launch ? " with launch files of the cheapest" : "");
    return err;
}

static int run(const struct cli *cli)
{
    struct planner p;
    struct record r;
    int err = planner_open(cli->words[0], cli->sets, (size_t)cli->num_sets, &p);

    if (err)
        return err;
    err = planner_run(&p);
    if (!err) {
        record_open(&r, cli->format, stdout);
        serve_plan_report(&p, &r);
        err = record_close(&r);
    }
    if (!err)
        err = files_write(cli, &p);
    if (!err && !(p.num && p.row[0].ok)) {
        log_error("no deployment of these keeps the promises");
        err = ERR_INFEASIBLE;
    }
    planner_close(&p);
    return err;
}

int cmd_serve_plan(int argc, char **argv)
{
    struct cli cli = {0};
    int err = cli_parse_config(&cli, argc, argv, NULL, NULL);

    if (!err && !cli.help)
        err = run(&cli);
    cli_free(&cli);
    return err;
}
