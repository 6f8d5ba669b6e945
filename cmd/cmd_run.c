/* peosim run: predicts every point of a configuration; tables, JSON, CSV, traces, pictures. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/err.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "report/confidence.h"
#include "study/eps_rule.h"
#include "study/grid.h"
#include "report/html.h"
#include "report/plot.h"
#include "report/progress.h"
#include "report/report.h"
#include "report/results.h"
#include "trace/chrome.h"
#include "trace/csv.h"
#include "trace/log.h"
#include "validate/shape.h"

struct output {
    struct results results;
    struct cli *cli;
    struct grid *grid;
    bool html;
    json_t *timelines; /* what timelines.json will hold: file and title of each */
};

static int json_write(const struct output *o, const char *text)
{
    struct file_out f = {0};
    int err = results_create(&o->results, "summary.json", &f);

    if (!err)
        fprintf(f.f, "%s\n", text);
    return results_done(&f, err);
}

static int csv_write(const struct output *o, const char *name,
                     void (*write)(const struct grid *, FILE *))
{
    struct file_out f = {0};
    int err = results_create(&o->results, name, &f);

    if (!err)
        write(o->grid, f.f);
    return results_done(&f, err);
}

/* The point worth a timeline: the largest gain; where nothing gains, `none` of the last scenario.
 */
static const struct grid_point *point_to_show(const struct grid *g)
{
    const struct grid_point *show = NULL;

    for (size_t i = 0; i < g->num_points; i++) {
        const struct grid_point *p = &g->points[i];

        if (!p->skipped && p->ev.gain_pct > 0 && (!show || p->ev.gain_pct > show->ev.gain_pct))
            show = p;
    }
    for (size_t i = 0; i < g->num_points && !show; i++)
        if (!g->points[g->num_points - 1 - i].skipped)
            show = &g->points[g->num_points - 1 - i];
    return show;
}

static void title_of(const struct grid_point *p, const struct scenario *s, char *buf, size_t size)
{
    char name[24], knobs[64] = "";

    grid_point_name(p, name, sizeof name);
    if (p->policy->headline)
        p->policy->headline(&p->knobs, knobs, sizeof knobs);
    snprintf(buf, size, "%s%s, batch %d: %.1f us (%+.1f%% against none)", name, knobs, s->batch,
             p->ev.layer_us, p->ev.gain_pct);
}

static int trace_files(const struct output *o, const char *prefix, const struct trace_log *log,
                       const char *title)
{
    struct file_out f = {0};
    char name[128];
    int err;

    snprintf(name, sizeof name, "%sspans.csv", prefix);
    err = results_create(&o->results, name, &f);
    if (!err)
        err = trace_csv_write(log, f.f);
    err = results_done(&f, err);
    if (err || *prefix)
        return err;
    err = results_create(&o->results, "counters.csv", &f);
    if (!err)
        err = trace_csv_write_counters(log, f.f);
    err = results_done(&f, err);
    if (err)
        return err;
    err = results_create(&o->results, "trace.json", &f);
    if (!err)
        err = trace_chrome_write(log, f.f, title, NULL);
    return results_done(&f, err);
}

static void timeline_draw(const struct output *o, const char *prefix, const char *title, int rank,
                          int num_sms)
{
    char csv[1200], out[1200], rank_text[16], sms[16];
    const char *extra[] = {rank_text, sms, NULL};

    snprintf(csv, sizeof csv, "%s/%sspans.csv", o->results.part, prefix);
    snprintf(out, sizeof out, "%s/%stimeline", o->results.part, prefix);
    snprintf(rank_text, sizeof rank_text, "%d", rank);
    snprintf(sms, sizeof sms, "%d", num_sms);
    plot_draw("timeline", csv, out, title, extra);
}

static void timeline_note(const struct output *o, const char *prefix, const char *title)
{
    char file[128];

    snprintf(file, sizeof file, "%sspans.csv", prefix);
    json_array_append_new(o->timelines, json_pack("{ssss}", "file", file, "title", title));
}

static int timelines_json(const struct output *o)
{
    struct file_out f = {0};
    int err = results_create(&o->results, "timelines.json", &f);

    if (!err)
        err = json_dumpf(o->timelines, f.f, JSON_INDENT(1)) ? ERR_IO : 0;
    return results_done(&f, err);
}

static int html_file(const struct output *o)
{
    struct file_out f = {0};
    int err = results_create(&o->results, "report.html", &f);

    if (!err)
        err = html_write(o->results.part, f.f);
    return results_done(&f, err);
}

/* Simulates one point again, this time keeping what happened. */
static int timeline(const struct output *o, struct evaluator *e, const struct grid_point *p,
                    const char *prefix, bool draw)
{
    struct scenario s;
    struct trace *trace = NULL;
    struct plan *plan = NULL;
    struct trace_log *log = NULL;
    struct evaluation ev;
    char title[512], why[200];
    int err = config_scenario(o->grid->config, p->scenario, &s);

    if (err)
        return err;
    title_of(p, &s, title, sizeof title);
    err = evaluate_point(e, &s, p->policy, &p->knobs, *prefix ? -1 : -2, &ev, &trace, &plan);
    if (!err)
        err = trace_log_of(trace, plan, &log);
    if (!err)
        err = trace_files(o, prefix, log, title);
    timeline_note(o, prefix, title);
    if (!err && !*prefix && !o->cli->quiet && gpu_shape_check(plan, why, sizeof why))
        log_note("predicted only: `peosim validate` cannot run this layer on GPUs: %s", why);
    if (!err && draw)
        timeline_draw(o, prefix, title, ev.metrics.slowest_rank, ev.num_sms);
    trace_log_free(log);
    trace_free(trace);
    plan_free(plan);
    scenario_free(&s);
    return err;
}

/* The timeline of the point shown, and of every policy's best in the same scenario beside it. */
static int timelines(const struct output *o, bool draw)
{
    const struct grid_point *show = point_to_show(o->grid);
    struct evaluator *e = NULL;
    int err = show ? evaluator_open(&e) : 0;

    if (!show || err)
        return err;
    err = timeline(o, e, show, "", draw);
    for (size_t i = 0; i < policy_count() && (draw || o->html) && !err; i++) {
        const struct grid_point *p = grid_best(o->grid, show->scenario, policy_at(i));
        char prefix[32];

        snprintf(prefix, sizeof prefix, "%s_", policy_at(i)->name);
        if (p && p != show)
            err = timeline(o, e, p, prefix, draw);
    }
    evaluator_close(e);
    return err ? err : timelines_json(o);
}

/* Latency and gain against batch make sense where batch is what the file varies. */
static void batch_pictures(const struct output *o)
{
    const struct axis *batch = config_axis(o->grid->config, "batch");
    char csv[1200], out[1200], title[256];

    if (!batch || batch->num_values < 2 ||
        config_num_scenarios(o->grid->config) != (size_t)batch->num_values)
        return;
    snprintf(csv, sizeof csv, "%s/best.csv", o->results.part);
    snprintf(out, sizeof out, "%s/latency_batch", o->results.part);
    snprintf(title, sizeof title, "%s: layer time, best knobs of each policy",
             o->grid->config->name);
    plot_draw("latency_batch", csv, out, title, NULL);
    snprintf(out, sizeof out, "%s/gain_batch", o->results.part);
    snprintf(title, sizeof title, "%s: gain over no overlap, best knobs of each policy",
             o->grid->config->name);
    plot_draw("gain_batch", csv, out, title, NULL);
}

static int results_write(struct output *o, const char *folder, const char *json)
{
    bool draw = !o->cli->no_plots && plot_available();
    int err = results_open(&o->results, folder);

    o->timelines = json_array();
    if (!err)
        err = json_write(o, json);
    if (!err)
        err = csv_write(o, "points.csv", report_csv);
    if (!err)
        err = csv_write(o, "best.csv", report_best_csv);
    if (!err)
        err = timelines(o, draw);
    if (!err && draw)
        batch_pictures(o);
    if (!err && o->html)
        err = html_file(o);
    if (!err)
        err = results_commit(&o->results);
    results_abort(&o->results);
    json_decref(o->timelines);
    if (!err && !o->cli->no_plots && !draw)
        log_warn("gnuplot is not installed: the results are in %s, without pictures", folder);
    return err;
}

/* Beside what simulation chose for eps, what the paper's own rule says. */
static int eps_rules(const struct grid *g)
{
    struct evaluator *e = NULL;
    int err = config_has_policy(g->config, "eps") ? evaluator_open(&e) : 0;

    for (size_t i = 0; e && i < config_num_scenarios(g->config) && !err; i++) {
        const struct grid_point *p = grid_best(g, i, &policy_eps);
        struct eps_rule rule;
        struct scenario s;

        if (!p || config_scenario(g->config, i, &s))
            continue;
        err = eps_rule_of(e, &s, &p->knobs, &rule);
        if (!err)
            printf("EPS-MoE's rule, batch %d: C %.0f us, k %.1f us, PN* = sqrt(C/k) = %.1f; PN %d "
                   "by simulation; kernels grow by %.2f (all-to-all) and %.2f (GEMM): %s\n",
                   s.batch, rule.comm_us, rule.k_us, rule.best_pn, p->knobs.pipeline_num,
                   rule.comm_ratio, rule.gemm_ratio,
                   rule.worthwhile ? "worthwhile" : "not worthwhile");
        scenario_free(&s);
    }
    evaluator_close(e);
    return err;
}

static int stdout_write(const struct output *o, const char *json)
{
    if (o->cli->json)
        printf("%s\n", json);
    else if (o->cli->csv)
        report_csv(o->grid, stdout);
    else
        report_table(o->grid, stdout);
    return o->cli->json || o->cli->csv ? 0 : eps_rules(o->grid);
}

struct run_flags {
    int confidence;
    bool html;
};

const struct opt run_options[] = {
    {.key = "confidence",
     .type = OPT_INT,
     .offset = offsetof(struct run_flags, confidence),
     .min = 2,
     .max = 10000,
     .def = NULL,
     .unit = "draws",
     .help = "repeat with so many profiles drawn from the fits' covariance (100 is a good number)"},
    {.key = "html",
     .type = OPT_BOOL,
     .offset = offsetof(struct run_flags, html),
     .def = "false",
     .help = "also write report.html: one page with everything, for any browser"},
    {.key = NULL},
};

static int run(struct cli *cli, const struct run_flags *flags)
{
    struct config *c = NULL;
    struct output o = {.cli = cli, .html = flags->html};
    struct progress progress;
    struct confidence *sure = NULL;
    char *json = NULL, folder[512];
    int err = config_read(cli->words[0], cli->sets, (size_t)cli->num_sets, &c);

    if (err)
        return err;
    progress_open(&progress, "points", cli->quiet);
    err = grid_run(c, cli_jobs(cli), progress_step, &progress, &o.grid);
    progress_close(&progress);
    if (!err && flags->confidence)
        err = confidence_run(o.grid, flags->confidence, cli_jobs(cli), &sure);
    if (!err)
        err = report_json(o.grid, sure ? confidence_json(sure, o.grid) : NULL, &json);
    cli_folder(cli, c->name, folder, sizeof folder);
    if (!err)
        err = results_write(&o, folder, json);
    if (!err)
        err = stdout_write(&o, json);
    if (!err && sure && !cli->json && !cli->csv)
        confidence_print(sure, o.grid, stdout);
    if (!err && !cli->json && !cli->csv)
        printf("results: %s/\n", folder);
    free(json);
    confidence_free(sure);
    grid_free(o.grid);
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
    cli_free(&cli);
    return err;
}
