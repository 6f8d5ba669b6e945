/* peosim run: predicts every point of a configuration; tables, JSON, CSV, traces, pictures. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "report/confidence.h"
#include "report/progress.h"
#include "report/record.h"
#include "report/run.h"
#include "study/eps_rule.h"
#include "study/grid.h"
#include "validate/shape.h"

struct run_flags {
    int confidence;
    bool html;
    char *plan;
};

const struct opt run_options[] = {
    {.key = "confidence",
     .type = OPT_INT,
     .offset = offsetof(struct run_flags, confidence),
     .min = 2,
     .max = 10000,
     .def = NULL,
     .unit = "draws",
     .help = "repeat with so many drawn profiles (100 is a good number)"},
    {.key = "html",
     .type = OPT_BOOL,
     .offset = offsetof(struct run_flags, html),
     .def = "false",
     .help = "also write report.html: one page with everything, for any browser"},
    {.key = "plan",
     .type = OPT_STRING,
     .offset = offsetof(struct run_flags, plan),
     .help = "a plan file (peosim synthesize, plan --save): its schedule is one more row"},
    {.key = NULL},
};

/* What people get besides: the paper's rule for eps, and how sure the rows are. */
static int notes_print(const struct grid *g, const struct confidence *sure)
{
    struct eps_rule *rules = NULL;
    size_t n = 0;
    int err = eps_rules_of(g, &rules, &n);

    run_report_eps_rules(rules, n, stdout);
    free(rules);
    if (!err && sure)
        confidence_print(sure, g, stdout);
    return err;
}

static int answer_print(const struct cli *cli, const struct grid *g, const struct confidence *sure,
                        struct json_t *confidence, const char *folder)
{
    struct record r;
    int err;

    record_open(&r, cli->format, stdout);
    run_report(g, confidence, &r);
    err = record_close(&r);
    if (err || cli->format != record_format_at(0))
        return err;
    err = notes_print(g, sure);
    if (!err)
        printf("results: %s/\n", folder);
    return err;
}

/* Whether the same layer could be measured: said of its first point alone, whose shape the others
 * share. */
static void shape_note(const struct grid *g)
{
    const struct grid_point *p = NULL;
    struct evaluator *e = NULL;
    struct plan *plan = NULL;
    struct scenario s;
    char why[200];

    for (size_t i = 0; i < g->num_points && !p; i++)
        p = g->points[i].skipped ? NULL : &g->points[i];
    if (!p || config_scenario(g->config, p->scenario, &s))
        return;
    if (evaluator_open(&e) == 0 && evaluate_plan(e, &s, p->policy, &p->knobs, &plan) == 0 &&
        gpu_shape_check(plan, why, sizeof why))
        log_note("predicted only: `peosim validate` cannot run this layer on GPUs: %s", why);
    plan_free(plan);
    evaluator_close(e);
    scenario_free(&s);
}

static int run(struct cli *cli, const struct run_flags *flags)
{
    struct config *c = NULL;
    struct grid *g = NULL;
    struct progress progress;
    struct confidence *sure = NULL;
    struct json_t *confidence = NULL;
    char folder[512] = "";
    int interrupt, err = config_read(cli->words[0], cli->sets, (size_t)cli->num_sets, &c);

    if (err)
        return err;
    err = flags->plan ? config_use_plan(c, flags->plan) : 0;
    if (err) {
        config_free(c);
        return err;
    }
    progress_open(&progress, "points", cli->quiet);
    interrupt = interrupt_open();
    err = grid_run(c, cli_jobs(cli), interrupt, progress_step, &progress, &g);
    interrupt_close(interrupt);
    progress_close(&progress);
    if (!err)
        err = cli_folder_left(cli, c->name, g->num_left, g->num_points, folder, sizeof folder);
    if (!err && flags->confidence)
        err = confidence_run(g, flags->confidence, cli_jobs(cli), &sure);
    if (sure)
        confidence = confidence_json(sure, g);
    if (!err)
        err = run_report_files(g, folder, confidence, !cli->no_plots, flags->html);
    if (!err)
        err = answer_print(cli, g, sure, confidence, folder);
    if (!err && !cli->quiet)
        shape_note(g);
    if (!err && g->num_left)
        err = ERR_STOPPED;
    json_decref(confidence);
    confidence_free(sure);
    grid_free(g);
    config_free(c);
    return err;
}

int cmd_run(int argc, char **argv)
{
    struct cli cli = {0};
    struct run_flags flags = {0};
    int err = cli_parse_config(&cli, argc, argv, run_options, &flags);

    if (!err && !cli.help)
        err = run(&cli, &flags);
    opt_free_strings(run_options, &flags);
    cli_free(&cli);
    return err;
}
