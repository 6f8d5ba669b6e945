/* peosim capacity: which GPUs, how many, in which pools and with which overlap policy, serve a
 * traffic within its TTFT and TPOT at the least cost. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "study/capacity.h"
#include "report/capacity.h"
#include "cmd/cmd.h"
#include "report/plot.h"
#include "report/progress.h"
#include "trace/chrome.h"
#include "trace/csv.h"

#define MANY_NODES 1000000 /* max_nodes by default: no limit */

struct flags {
    bool restart;
};

const struct opt capacity_flags[] = {
    {.key = "restart",
     .type = OPT_BOOL,
     .offset = offsetof(struct flags, restart),
     .def = "false",
     .help = "discard what the output folder's journal holds"},
    {.key = NULL},
};

struct run {
    struct cli *cli;
    struct capacity_config *config;
    struct capacity *k;
    struct capacity_change changes[CAPACITY_MAX_CHANGES];
    int num_changes;
    char folder[512];
};

static int out_open(const struct run *r, const char *name, struct file_out *f)
{
    char path[1024];

    if ((size_t)snprintf(path, sizeof path, "%s/%s", r->folder, name) >= sizeof path)
        return ERR_RANGE;
    return file_create(f, path);
}

static int out_close(struct file_out *f, int err)
{
    if (!err)
        err = file_commit(f);
    file_abort(f);
    return err;
}

static void draw(const struct run *r, const char *script, const char *csv, const char *out,
                 const char *title, const char *const *extra)
{
    char from[1024], to[1024];

    snprintf(from, sizeof from, "%s/%s", r->folder, csv);
    snprintf(to, sizeof to, "%s/%s", r->folder, out);
    plot_draw(script, from, to, title, extra);
}

static int log_write(const struct run *r, const char *name, const struct trace_log *log)
{
    struct file_out f = {0};
    int err = out_open(r, name, &f);

    if (!err)
        err = trace_csv_write(log, f.f);
    return out_close(&f, err);
}

/* The middle of a few layers of the winner's pool, in full; all ranks, all kernels. */
static int layer_timeline(const struct run *r, struct evaluator *e, const struct scenario *s,
                          const struct capacity_point *p, const char *prefix, bool picture)
{
    const struct policy *policy = r->config->policies[p->policy].policy;
    struct trace *trace = NULL;
    struct plan *plan = NULL;
    struct trace_log *log = NULL;
    struct evaluation ev;
    struct file_out f = {0};
    char csv[64], out[64], json[64], title[256], what[100], rank[16], sms[16];
    const char *extra[] = {rank, sms, NULL};
    int err = evaluate_point(e, s, policy, &p->knobs, -1, &ev, &trace, &plan);

    capacity_point_text(r->config, p, what, sizeof what);
    snprintf(csv, sizeof csv, "%s_layer_spans.csv", prefix);
    snprintf(out, sizeof out, "%s_layer", prefix);
    snprintf(json, sizeof json, "%s_layer_trace.json", prefix);
    snprintf(title, sizeof title, "%s, %s: %d layer%s, %.1f us each", prefix, what,
             policy->spans_layers ? plan ? plan->num_layers : 0 : 1,
             policy->spans_layers ? "s" : "", ev.layer_us);
    if (!err)
        err = trace_log_of(trace, plan, &log);
    if (!err)
        err = log_write(r, csv, log);
    if (!err)
        err = out_open(r, json, &f);
    if (!err)
        err = trace_chrome_write(log, f.f, title, NULL);
    err = out_close(&f, err);
    snprintf(rank, sizeof rank, "%d", ev.metrics.slowest_rank);
    snprintf(sms, sizeof sms, "%d", ev.num_sms);
    if (!err && picture)
        draw(r, "timeline", csv, out, title, extra);
    trace_log_free(log);
    trace_free(trace);
    plan_free(plan);
    return err;
}

static int step_timeline(const struct run *r, struct evaluator *e, const struct scenario *s,
                         const struct capacity_point *p, const char *prefix, bool picture)
{
    struct trace_log *log = NULL;
    char csv[64], out[64], title[256], what[100];
    int err = pass_timeline(e, s, r->config->policies[p->policy].policy, &p->knobs, &log);

    capacity_point_text(r->config, p, what, sizeof what);
    snprintf(csv, sizeof csv, "%s_step_spans.csv", prefix);
    snprintf(out, sizeof out, "%s_step", prefix);
    snprintf(title, sizeof title, "%s, %s: one pass of all layers, %.1f ms", prefix, what,
             p->step_us / 1e3);
    if (!err)
        err = log_write(r, csv, log);
    if (!err && picture)
        draw(r, "pass", csv, out, title, NULL);
    trace_log_free(log);
    return err;
}

static int timelines(const struct run *r, bool picture)
{
    const struct capacity_plan *best = &r->k->plans[0];
    struct evaluator *e = NULL;
    int err = evaluator_open(&e);

    for (int i = 0; i < 2 && !err; i++) {
        const struct capacity_point *p = i ? best->prefill : best->decode;
        const char *prefix = i ? "prefill" : "decode";
        struct scenario s;

        capacity_scenario(r->config, p, &s);
        err = layer_timeline(r, e, &s, p, prefix, picture);
        if (!err)
            err = step_timeline(r, e, &s, p, prefix, picture);
    }
    evaluator_close(e);
    return err;
}

static int pareto_write(const struct run *r, bool picture)
{
    struct file_out f = {0};
    char title[256], target[32];
    const char *extra[] = {target, NULL};
    int err = out_open(r, "pareto.csv", &f);

    if (!err)
        err = capacity_report_pareto(r->k, f.f);
    err = out_close(&f, err);
    snprintf(title, sizeof title, "%s: output tokens/s per GPU (prefill included) and per user",
             r->config->name);
    snprintf(target, sizeof target, "%.6g", 1e3 / r->config->num.tpot_ms);
    if (!err && picture)
        draw(r, "pareto", "pareto.csv", "pareto", title, extra);
    return err;
}

static void summary_write(const struct run *r, struct record *out)
{
    capacity_report(r->k, r->changes, r->num_changes, out);
}

static void plans_write(const struct run *r, struct record *out)
{
    capacity_report_plans(r->k, out);
}

static void changes_write(const struct run *r, struct record *out)
{
    capacity_report_changes(r->k, r->changes, r->num_changes, out);
}

static int record_file(const struct run *r, const char *name, const char *format,
                       void (*write)(const struct run *r, struct record *out))
{
    struct file_out f = {0};
    struct record out;
    int err = out_open(r, name, &f);

    if (!err) {
        record_open(&out, record_format_find(format), f.f);
        write(r, &out);
        err = record_close(&out);
    }
    return out_close(&f, err);
}

static int results_write(const struct run *r)
{
    bool picture = !r->cli->no_plots && plot_available();
    struct file_out f = {0};
    int err = record_file(r, "summary.json", "json", summary_write);

    if (!err)
        err = record_file(r, "plans.csv", "csv", plans_write);
    if (!err)
        err = out_open(r, "points.csv", &f);
    if (!err)
        capacity_report_points(r->k, f.f);
    err = out_close(&f, err);
    if (!err)
        err = record_file(r, "sensitivity.csv", "csv", changes_write);
    if (!err)
        err = pareto_write(r, picture);
    if (!err && r->k->num_plans)
        err = timelines(r, picture);
    if (!err && !r->cli->no_plots && !picture)
        log_warn("gnuplot is not installed: the results are in %s, without pictures", r->folder);
    return err;
}

/* One line for those who read the exit status: what was asked and what comes nearest. */
static int verdict(const struct run *r)
{
    const struct capacity_plan *p = r->k->plans;
    char what[100], within[40] = "";

    if (!r->k->num_plans) {
        const char *why = r->k->num_crowded ? r->k->crowded_why : "";

        for (size_t i = 0; i < r->k->num_points && !*why; i++)
            why = r->k->points[i].why;
        log_error_at(r->config->path, 0, "nothing can run: %s%s",
                     r->k->num_crowded ? "prefill and decode do not fit on the same GPUs: " : "",
                     why);
        return ERR_INFEASIBLE;
    }
    if (p->ok)
        return 0;
    capacity_point_text(r->config, p->decode, what, sizeof what);
    if (r->config->num.max_nodes < MANY_NODES || p->nodes > MANY_NODES)
        snprintf(within, sizeof within, " within %d nodes", r->config->num.max_nodes);
    fflush(stdout);
    log_error_at(r->config->path, 0,
                 "nothing keeps TTFT %.4g ms and TPOT %.4g ms%s; nearest: decode %s with TTFT %.4g "
                 "ms, TPOT %.4g ms, %" PRId64 " nodes",
                 r->config->num.ttft_ms, r->config->num.tpot_ms, within, what, p->ttft_ms,
                 p->tpot_ms, p->nodes);
    return ERR_INFEASIBLE;
}

/* What the journal's points depend on: the question, the files that it names, and this program. */
static int key_add(char **text, const char *path)
{
    char hex[65], *more = NULL;
    int err = file_hash(path, hex);

    if (!err && asprintf(&more, "%s %s", *text, hex) < 0)
        err = ERR_NOMEM;
    if (!err) {
        free(*text);
        *text = more;
    }
    return err;
}

static int key_make(const struct run *r, char key[65])
{
    char *text = strdup(r->config->hash);
    int err = text ? key_add(&text, "/proc/self/exe") : ERR_NOMEM;

    if (!err)
        err = key_add(&text, r->k->model->path);
    if (!err && r->config->base.routing_file && *r->config->base.routing_file)
        err = key_add(&text, r->config->base.routing_file);
    for (int g = 0; g < r->config->num_gpus && !err; g++) {
        struct hw_profile *p = NULL;

        err = hw_profile_read(r->config->gpus[g].profile, &p);
        if (!err)
            err = key_add(&text, p->path);
        hw_profile_free(p);
    }
    if (!err)
        file_hash_text(text, strlen(text), key);
    free(text);
    return err;
}

static int search(struct run *r, bool restart)
{
    struct journal *journal = NULL;
    struct progress progress;
    char key[65];
    int err = file_mkdirs(r->folder);

    if (!err && restart)
        err = journal_remove(r->folder);
    if (!err)
        err = key_make(r, key);
    if (!err)
        err = journal_open(r->folder, key, r->k->num_points, &journal);
    if (!err)
        err = journal_begin(journal, 0);
    progress_open(&progress, "points", r->cli->quiet);
    if (!err)
        err = capacity_search(r->k, journal, cli_jobs(r->cli), progress_step, &progress);
    progress_close(&progress);
    journal_close(journal);
    if (!err && r->k->num_reused)
        log_note("%zu of %zu points were in the journal of %s", r->k->num_reused, r->k->num_points,
                 r->folder);
    return err;
}

static int run(struct cli *cli, const struct flags *flags)
{
    struct run r = {.cli = cli};
    struct record out;
    int err = capacity_config_read(cli->words[0], cli->sets, (size_t)cli->num_sets, &r.config);

    if (err)
        return err;
    cli_folder(cli, r.config->name, r.folder, sizeof r.folder);
    err = capacity_open(r.config, &r.k);
    if (!err)
        err = search(&r, flags->restart);
    if (!err && !r.k->num_plans)
        err = verdict(&r);
    if (!err && r.k->plans[0].ok)
        err = capacity_sensitivity(r.k, &r.k->plans[0], r.changes, &r.num_changes);
    if (!err)
        err = results_write(&r);
    if (!err) {
        record_open(&out, cli->format, stdout);
        summary_write(&r, &out);
        err = record_close(&out);
    }
    if (!err && cli->format == record_format_at(0))
        printf("results: %s/\n", r.folder);
    if (!err)
        err = verdict(&r);
    capacity_close(r.k);
    capacity_config_free(r.config);
    return err;
}

static void help(void)
{
    cli_help(cmd_find("capacity"));
    printf("\nKeys of the question, also --set KEY=VALUE:\n");
    opt_print_help(capacity_options, stdout);
    printf("\nLists (V1,V2 with --set):\n");
    opt_print_help(capacity_lists, stdout);
    printf("\n  usd_per_hour: price of a GPU, one number or one per profile (usd_per_hour.h800);\n"
           "  else gpu.usd_per_hour of the profile\n"
           "  policies: as in `peosim run`, single values of knobs\n"
           "  every other key of `peosim help run` holds for all points\n\n%s",
           pass_metrics_help);
}

int cmd_capacity(int argc, char **argv)
{
    struct cli cli = {0};
    struct flags flags = {0};
    int err = cli_parse(&cli, argc, argv, capacity_flags, &flags);

    if (!err && cli.help) {
        help();
    } else if (!err && cli.num_words != 1) {
        log_error("peosim capacity takes one file with a traffic");
        err = ERR_USAGE;
    } else if (!err) {
        err = cli_find_config(&cli);
        if (!err)
            err = run(&cli, &flags);
    }
    cli_free(&cli);
    return err;
}
