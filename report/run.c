#include "report/run.h"

#include <math.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/log.h"
#include "report/html.h"
#include "report/plot.h"
#include "report/points.h"
#include "report/report.h"
#include "report/results.h"
#include "study/timeline.h"
#include "trace/chrome.h"
#include "trace/csv.h"

struct output {
    struct results results;
    const struct grid *grid;
    bool html;
    json_t *confidence;
    json_t *timelines; /* what timelines.json will hold: file and title of each */
};

void run_report(const struct grid *g, struct json_t *confidence, struct record *r)
{
    report_grid(g, r);
    record_member(r, "confidence", json_incref(confidence));
}

static int records_write(const struct output *o, const char *name, const char *format)
{
    struct file_out f = {0};
    struct record r;
    int err = results_create(&o->results, name, &f);

    if (!err) {
        record_open(&r, record_format_find(format), f.f);
        run_report(o->grid, o->confidence, &r);
        err = record_close(&r);
    }
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

/* What the timeline is of; `rank` is the one that pictures show. */
static void title_of(const struct grid_point *p, const struct scenario *s, int rank, char *buf,
                     size_t size)
{
    char name[24], knobs[64] = "";
    const char *model = strrchr(s->model, '/');

    grid_point_name(p, name, sizeof name);
    if (p->policy->headline)
        p->policy->headline(&p->knobs, knobs, sizeof knobs);
    snprintf(buf, size,
             "%s on %s, EP%d, rank %d: %s%s, batch %d: %.1f µs a layer (%+.1f%% against none)",
             model ? model + 1 : s->model, s->profile, s->nodes * s->gpus_per_node, rank, name,
             knobs, s->batch, p->ev.layer_us, p->ev.gain_pct);
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
    snprintf(name, sizeof name, "%scounters.csv", prefix);
    if (!err)
        err = results_create(&o->results, name, &f);
    if (!err)
        err = trace_csv_write_counters(log, f.f);
    err = results_done(&f, err);
    if (err || *prefix)
        return err;
    err = results_create(&o->results, "trace.json", &f);
    if (!err)
        err = trace_chrome_write(log, f.f, title, NULL);
    return results_done(&f, err);
}

#define LAYERS_DRAWN 2.5 /* of a timeline of many: the last ones, where it is steady */

static void timeline_draw(const struct output *o, const char *prefix, const char *title,
                          const struct timeline *t)
{
    char csv[1200], out[1200], rank[16], sms[16], from[32], to[32];
    const char *extra[] = {rank, sms, t->num_layers > LAYERS_DRAWN ? from : NULL, to, NULL};
    double end_us = 0;

    for (size_t i = 0; i < t->log->num_records; i++)
        end_us = fmax(end_us, t->log->records[i].end_ns / 1e3);
    snprintf(csv, sizeof csv, "%s/%sspans.csv", o->results.part, prefix);
    snprintf(out, sizeof out, "%s/%stimeline", o->results.part, prefix);
    snprintf(rank, sizeof rank, "%d", t->ev.metrics.slowest_rank);
    snprintf(sms, sizeof sms, "%d", t->ev.num_sms);
    snprintf(from, sizeof from, "%.4f", end_us - LAYERS_DRAWN * t->ev.layer_us);
    snprintf(to, sizeof to, "%.4f", end_us);
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

static int point_timeline(const struct output *o, struct evaluator *e, const struct grid_point *p,
                          const char *prefix, bool draw)
{
    struct timeline t = {0};
    struct scenario s;
    char title[512];
    int err = config_scenario(o->grid->config, p->scenario, &s);

    if (err)
        return err;
    err = timeline_of(e, &s, p->policy, &p->knobs, -2, &t);
    title_of(p, &s, err ? 0 : t.ev.metrics.slowest_rank, title, sizeof title);
    if (!err)
        err = trace_files(o, prefix, t.log, title);
    timeline_note(o, prefix, title);
    if (!err && draw)
        timeline_draw(o, prefix, title, &t);
    timeline_free(&t);
    scenario_free(&s);
    return err;
}

/* The timeline of the point shown, and of every policy's best in the same scenario beside it. */
static int timelines(const struct output *o, bool draw)
{
    const struct grid_point *show = grid_point_to_show(o->grid);
    struct evaluator *e = NULL;
    int err = show ? evaluator_open(&e) : 0;

    if (!show || err)
        return err;
    evaluator_whole_layers(e);
    err = point_timeline(o, e, show, "", draw);
    for (size_t i = 0; i < policy_count() && (draw || o->html) && !err; i++) {
        const struct grid_point *p = grid_best(o->grid, show->scenario, policy_at(i));
        char prefix[32];

        snprintf(prefix, sizeof prefix, "%s_", policy_at(i)->name);
        if (p && p != show)
            err = point_timeline(o, e, p, prefix, draw);
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

static int files_write(struct output *o, bool draw)
{
    int err = records_write(o, "summary.json", "json");

    if (!err)
        err = records_write(o, "points.csv", "csv");
    if (!err)
        err = csv_write(o, "best.csv", report_best_csv);
    if (!err)
        err = timelines(o, draw);
    if (!err && draw)
        batch_pictures(o);
    if (!err && o->html)
        err = html_file(o);
    return err;
}

int run_report_files(const struct grid *g, const char *folder, json_t *confidence, bool plots,
                     bool html)
{
    struct output o = {
        .grid = g, .html = html, .confidence = confidence, .timelines = json_array()};
    bool draw = plots && plot_available();
    int err = results_open(&o.results, folder);

    if (!err)
        err = files_write(&o, draw);
    if (!err)
        err = results_commit(&o.results);
    results_abort(&o.results);
    json_decref(o.timelines);
    if (!err && plots && !draw)
        log_warn("gnuplot is not installed: the results are in %s, without pictures", folder);
    return err;
}

void run_report_eps_rules(const struct eps_rule *rules, size_t n, FILE *f)
{
    for (size_t i = 0; i < n; i++)
        fprintf(f,
                "EPS-MoE's rule, batch %d: C %.0f us, k %.1f us, PN* = sqrt(C/k) = %.1f; PN %d "
                "by simulation; kernels grow by %.2f (all-to-all) and %.2f (GEMM): %s\n",
                rules[i].batch, rules[i].comm_us, rules[i].k_us, rules[i].best_pn,
                rules[i].simulated_pn, rules[i].comm_ratio, rules[i].gemm_ratio,
                rules[i].worthwhile ? "worthwhile" : "not worthwhile");
}
