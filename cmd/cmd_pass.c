/* peosim pass: whole decode steps and prefill passes of every point of a configuration. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/version.h"
#include "cmd/cmd.h"
#include "study/pass.h"
#include "report/plot.h"
#include "study/pool.h"
#include "report/progress.h"
#include "report/report.h"
#include "model/pass.h"
#include "trace/csv.h"

struct pass_flags {
    double acceptance, reserve_GB;
    int draws;
    bool all_layers;
};

const struct opt pass_options[] = {
    {.key = "acceptance",
     .type = OPT_DOUBLE,
     .offset = offsetof(struct pass_flags, acceptance),
     .min = 0,
     .max = 1,
     .def = "0.8",
     .help = "chance that a drafted token is accepted (attention.tokens_per_request above 1)"},
    {.key = "reserve_GB",
     .type = OPT_DOUBLE,
     .offset = offsetof(struct pass_flags, reserve_GB),
     .min = 0,
     .max = 1000,
     .def = "4",
     .unit = "GB",
     .help = "memory of the runtime: context, graphs, libraries, fragmentation"},
    {.key = "draws",
     .type = OPT_INT,
     .offset = offsetof(struct pass_flags, draws),
     .min = 1,
     .max = 1000,
     .def = "1",
     .help = "routings drawn, for step-time percentiles; 1 = none"},
    {.key = "all_layers",
     .type = OPT_BOOL,
     .offset = offsetof(struct pass_flags, all_layers),
     .def = "false",
     .help = "simulate every layer instead of repeating alike ones"},
    {.key = NULL},
};

struct point {
    size_t scenario;
    const struct policy *policy;
    struct knobs knobs;
    bool skipped;
    int batch, ranks, phase;
    double tokens; /* that one step yields on one GPU */
    double requests;
    int passes; /* prefill: that a prompt takes */
    struct pass_result r;
    struct pass_spread spread;
    struct memory_sum memory;
    char why[400]; /* skipped: what does not fit */
};

struct passes {
    const struct config *config;
    const struct pass_flags *flags;
    struct point *points;
    size_t n;
};

static int point_memory(struct evaluator *e, const struct scenario *s, const struct pass_flags *f,
                        struct point *p)
{
    struct memory_spec spec;
    bool decode = s->phase == PHASE_OF_DECODE;
    int requests =
        decode ? (s->batch + s->tokens_per_request - 1) / s->tokens_per_request : pass_requests(s);
    double context =
        decode ? s->context_len + s->tokens_per_request : s->cached_len + s->prompt_len;
    char text[160];
    int err = pass_memory(e, s, requests, context, f->reserve_GB, &spec, &p->memory);

    if (err || p->memory.total <= p->memory.capacity)
        return err;
    memory_text(&p->memory, text, sizeof text);
    snprintf(p->why, sizeof p->why,
             "batch %d does not fit %s: %s; the largest that fits: %d requests", s->batch,
             s->profile, text,
             memory_max_requests(&spec, decode ? s->tokens_per_request : s->prompt_len));
    p->skipped = true;
    return 0;
}

static int point_run(void *self, struct evaluator *e, size_t i)
{
    struct passes *a = self;
    struct point *p = &a->points[i];
    struct scenario s;
    int err = p->skipped ? 0 : config_scenario(a->config, p->scenario, &s);

    if (err || p->skipped)
        return err;
    p->batch = s.batch;
    p->phase = s.phase;
    p->ranks = s.nodes * s.gpus_per_node;
    p->requests =
        (double)s.batch / (s.phase == PHASE_OF_DECODE ? s.tokens_per_request : s.prompt_len);
    p->passes = (s.prompt_len + s.batch * s.attention_tp - 1) / (s.batch * s.attention_tp);
    p->tokens =
        s.phase == PHASE_OF_DECODE
            ? p->requests * pass_tokens_accepted(s.tokens_per_request - 1, a->flags->acceptance)
            : s.batch;
    err = point_memory(e, &s, a->flags, p);
    if (!err && !p->skipped)
        err = pass_knobs_resolve(e, &s, p->policy, &p->knobs);
    if (err || p->skipped)
        ;
    else if (a->flags->draws > 1)
        err = pass_run_spread(e, &s, p->policy, &p->knobs, a->flags->draws, &p->r, &p->spread);
    else
        err = pass_run(e, &s, p->policy, &p->knobs, a->flags->all_layers, &p->r);
    scenario_free(&s);
    return err;
}

static double tokens_s_gpu(const struct point *p)
{
    return p->tokens / (p->r.step_us * 1e-6);
}

/* Of one request; prefill has none. */
static double tpot_ms(const struct point *p)
{
    return p->phase == PHASE_OF_DECODE ? p->r.step_us / 1e3 * p->requests / p->tokens : 0;
}

/* Of a prompt that finds the GPUs idle: its passes. Decode has none. */
static double ttft_ms(const struct point *p)
{
    return p->phase == PHASE_OF_DECODE ? 0 : p->passes * p->r.step_us / 1e3;
}

static void knob_words(const struct point *p, char *buf, size_t size)
{
    const struct grid_point named = {.policy = p->policy, .knobs = p->knobs};

    report_knob_words(&named, buf, size);
}

/* The columns of the table; the router is one of the others. */
static const enum plan_part splits[] = {
    PLAN_PART_ATTENTION, PLAN_PART_EXPERTS, PLAN_PART_DISPATCH,
    PLAN_PART_COMBINE,   PLAN_PART_MLP,     PLAN_PART_OTHER,
};
enum { NUM_SPLITS = sizeof splits / sizeof *splits };

static double share(const struct point *p, enum plan_part part)
{
    double us = 0;

    for (int k = 0; k < OP_KIND_COUNT; k++) {
        enum plan_part own = plan_op_traits((enum plan_op_kind)k)->part;

        if (own == part || (own == PLAN_PART_ROUTER && part == PLAN_PART_OTHER))
            us += p->r.kind_us[k];
    }
    return 100 * us / p->r.step_us;
}

/* What the file varies besides the batch, which has a column, where it changes. */
static void scenario_print(const struct passes *a, size_t i)
{
    char words[256], before[256] = "";

    if (a->config->num_axes < 2)
        return;
    report_scenario_words(a->config, a->points[i].scenario, words, sizeof words);
    if (i)
        report_scenario_words(a->config, a->points[i - 1].scenario, before, sizeof before);
    if (strcmp(words, before) != 0)
        printf("%s\n", words);
}

static void table_print(const struct passes *a)
{
    bool decode = a->n && a->points[0].phase == PHASE_OF_DECODE, spread = a->flags->draws > 1;

    report_head(a->config, stdout);
    printf("  %-6s %7s %5s %9s %9s %9s %10s %7s", "policy", "batch", "GPUs", "step ms", "layer us",
           decode ? "TPOT ms" : "TTFT ms", "tok/s/GPU", "GB");
    for (int i = 0; i < NUM_SPLITS; i++)
        printf(" %9s", plan_part_name(splits[i]));
    printf(" %7s%s  %s\n", "launch", spread ? "   p50 ms   p99 ms" : "", "knobs");
    for (size_t i = 0; i < a->n; i++) {
        const struct point *p = &a->points[i];
        char words[256];

        if (p->skipped)
            continue;
        scenario_print(a, i);
        knob_words(p, words, sizeof words);
        printf("  %-6s %7d %5d %9.2f %9.1f %9.2f %10.0f %7.1f", p->policy->name, p->batch, p->ranks,
               p->r.step_us / 1e3, p->r.layer_us, decode ? tpot_ms(p) : ttft_ms(p), tokens_s_gpu(p),
               p->memory.total / 1e9);
        for (int k = 0; k < NUM_SPLITS; k++)
            printf(" %8.1f%%", share(p, splits[k]));
        printf(" %6.1f%%", 100 * p->r.launch_us / p->r.step_us);
        if (spread)
            printf(" %8.2f %8.2f", p->spread.p50_us / 1e3, p->spread.p99_us / 1e3);
        printf("%s%s\n", *words ? "  " : "", words);
    }
}

static void csv_print(const struct passes *a, FILE *f)
{
    fprintf(
        f,
        "scenario,policy,knobs,batch,gpus,step_ms,layer_us,tpot_ms,ttft_ms,tokens_s_gpu,memory_GB,"
        "dense_ms,moe_ms,mtp_ms,ends_ms,launch_ms,exposed_ms,p50_ms,p99_ms,assumed_share");
    for (int k = 0; k < OP_KIND_COUNT; k++)
        fprintf(f, ",%s_ms", plan_op_kind_name((enum plan_op_kind)k));
    fprintf(f, "\n");
    for (size_t i = 0; i < a->n; i++) {
        const struct point *p = &a->points[i];
        const struct pass_result *r = &p->r;
        char knobs[256];

        if (p->skipped)
            continue;
        policy_knobs_text(p->policy, &p->knobs, knobs, sizeof knobs);
        fprintf(f, "%zu,%s,%s,%d,%d,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g", p->scenario, p->policy->name,
                knobs, p->batch, p->ranks, r->step_us / 1e3, r->layer_us, tpot_ms(p), ttft_ms(p),
                tokens_s_gpu(p), p->memory.total / 1e9);
        for (int k = 0; k < PASS_PARTS; k++)
            fprintf(f, ",%.6g", r->part_us[k] / 1e3);
        fprintf(f, ",%.6g,%.6g,%.6g,%.6g,%.4f", r->launch_us / 1e3, r->exposed_us / 1e3,
                p->spread.p50_us / 1e3, p->spread.p99_us / 1e3, r->assumed_share);
        for (int k = 0; k < OP_KIND_COUNT; k++)
            fprintf(f, ",%.6g", r->kind_us[k] / 1e3);
        fprintf(f, "\n");
    }
}

static json_t *point_json(const struct point *p)
{
    json_t *o = json_object(), *parts = json_object(), *kinds = json_object();
    char knobs[256];

    policy_knobs_text(p->policy, &p->knobs, knobs, sizeof knobs);
    json_object_set_new(o, "policy", json_string(p->policy->name));
    json_object_set_new(o, "knobs", json_string(knobs));
    json_object_set_new(o, "batch", json_integer(p->batch));
    json_object_set_new(o, "gpus", json_integer(p->ranks));
    json_object_set_new(o, "step_ms", json_real(p->r.step_us / 1e3));
    json_object_set_new(o, "layer_us", json_real(p->r.layer_us));
    json_object_set_new(o, "tpot_ms", json_real(tpot_ms(p)));
    json_object_set_new(o, "ttft_ms", json_real(ttft_ms(p)));
    json_object_set_new(o, "tokens_s_gpu", json_real(tokens_s_gpu(p)));
    json_object_set_new(o, "memory_GB", json_real(p->memory.total / 1e9));
    json_object_set_new(o, "assumed_share", json_real(p->r.assumed_share));
    json_object_set_new(o, "launch_ms", json_real(p->r.launch_us / 1e3));
    if (p->spread.p50_us > 0) {
        json_object_set_new(o, "p50_ms", json_real(p->spread.p50_us / 1e3));
        json_object_set_new(o, "p99_ms", json_real(p->spread.p99_us / 1e3));
    }
    for (int k = 0; k < PASS_PARTS; k++)
        json_object_set_new(parts, pass_part_name((enum pass_part)k),
                            json_real(p->r.part_us[k] / 1e3));
    for (int k = 0; k < OP_KIND_COUNT; k++)
        if (p->r.kind_us[k] > 0)
            json_object_set_new(kinds, plan_op_kind_name((enum plan_op_kind)k),
                                json_real(p->r.kind_us[k] / 1e3));
    json_object_set_new(o, "parts_ms", parts);
    json_object_set_new(o, "critical_path_ms", kinds);
    return o;
}

static int json_print(const struct passes *a, FILE *f)
{
    json_t *root = json_object(), *list = json_array();
    char *text;

    json_object_set_new(root, "version", json_string(PEOSIM_VERSION));
    json_object_set_new(root, "config", json_string(a->config->path));
    json_object_set_new(root, "hash", json_string(a->config->hash));
    for (size_t i = 0; i < a->n; i++)
        if (!a->points[i].skipped)
            json_array_append_new(list, point_json(&a->points[i]));
    json_object_set_new(root, "results", list);
    text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(7));
    json_decref(root);
    if (!text)
        return ERR_NOMEM;
    fprintf(f, "%s\n", text);
    free(text);
    return 0;
}

static int passes_fill(struct passes *a)
{
    size_t per = config_num_points_per_scenario(a->config);
    unsigned char *skip;
    struct evaluator *e = NULL;
    int err;

    a->n = config_num_points(a->config);
    a->points = calloc(a->n, sizeof *a->points);
    skip = calloc(a->n, 1);
    err = a->points && skip ? evaluator_open(&e) : ERR_NOMEM;
    if (!err)
        err = evaluate_config(e, a->config, skip);
    for (size_t i = 0; i < a->n && !err; i++) {
        struct point *p = &a->points[i];

        p->scenario = i / per;
        p->skipped = skip[i];
        config_knobs(a->config, i % per, &p->policy, &p->knobs, NULL);
    }
    evaluator_close(e);
    free(skip);
    return err;
}

static int timeline_write(const char *folder, const struct trace_log *log)
{
    struct file_out f = {0};
    char path[1024];
    int err;

    snprintf(path, sizeof path, "%s/pass_spans.csv", folder);
    err = file_create(&f, path);
    if (!err)
        err = trace_csv_write(log, f.f);
    if (!err)
        err = file_commit(&f);
    file_abort(&f);
    return err;
}

/* The fastest point's pass as a picture: a lane per stage. */
static int timeline(const struct passes *a, const char *folder, bool draw)
{
    const struct point *best = NULL;
    struct evaluator *e = NULL;
    struct trace_log *log = NULL;
    struct scenario s;
    char csv[1024], out[1024], title[256];
    const char *extra[] = {"0", "1", NULL};
    int err = 0;

    for (size_t i = 0; i < a->n; i++)
        if (!a->points[i].skipped && (!best || tokens_s_gpu(&a->points[i]) > tokens_s_gpu(best)))
            best = &a->points[i];
    if (!best)
        return 0;
    err = config_scenario(a->config, best->scenario, &s);
    if (err)
        return err;
    err = evaluator_open(&e);
    if (!err)
        err = pass_timeline(e, &s, best->policy, &best->knobs, &log);
    if (!err)
        err = timeline_write(folder, log);
    if (!err && draw) {
        snprintf(csv, sizeof csv, "%s/pass_spans.csv", folder);
        snprintf(out, sizeof out, "%s/pass_timeline", folder);
        snprintf(title, sizeof title, "%s, %s, batch %d, %d GPUs: one pass of all layers, %.1f ms",
                 s.model, best->policy->name, best->batch, best->ranks, best->r.step_us / 1e3);
        plot_draw("pass", csv, out, title, extra + 2);
    }
    trace_log_free(log);
    evaluator_close(e);
    scenario_free(&s);
    return err;
}

/* What does not fit is named once per batch; if nothing does, that is the answer. */
static int unfit_report(const struct passes *a)
{
    size_t left = 0;

    for (size_t i = 0; i < a->n; i++)
        left += !a->points[i].skipped;
    for (size_t i = 0; i < a->n; i++) {
        const char *why = a->points[i].why;

        if (!*why || (i && !strcmp(why, a->points[i - 1].why)))
            continue;
        if (!left) {
            log_error("%s", why);
            return ERR_INFEASIBLE;
        }
        log_note("skipped: %s", why);
    }
    return 0;
}

static int results_write(const struct passes *a, const struct cli *cli)
{
    struct file_out f = {0};
    char folder[512], path[1024];
    bool draw = !cli->no_plots && plot_available();
    int err;

    cli_folder(cli, a->config->name, folder, sizeof folder);
    err = file_mkdirs(folder);
    snprintf(path, sizeof path, "%s/pass.csv", folder);
    if (!err)
        err = file_create(&f, path);
    if (!err) {
        csv_print(a, f.f);
        err = file_commit(&f);
    }
    file_abort(&f);
    if (!err && !cli->no_plots)
        err = timeline(a, folder, draw);
    if (!err && !cli->json && !cli->csv)
        printf("results: %s/\n", folder);
    return err;
}

static int run(struct cli *cli, const struct pass_flags *flags)
{
    struct config *c = NULL;
    struct passes a = {.flags = flags};
    struct progress progress;
    int err = config_read(cli->words[0], cli->sets, (size_t)cli->num_sets, &c);

    if (err)
        return err;
    a.config = c;
    err = passes_fill(&a);
    progress_open(&progress, "passes", cli->quiet);
    if (!err)
        err = pool_run(a.n, cli_jobs(cli), point_run, &a, progress_step, &progress);
    progress_close(&progress);
    if (!err)
        err = unfit_report(&a);
    if (!err && cli->json)
        err = json_print(&a, stdout);
    else if (!err && cli->csv)
        csv_print(&a, stdout);
    else if (!err)
        table_print(&a);
    if (!err)
        err = results_write(&a, cli);
    free(a.points);
    config_free(c);
    return err;
}

int cmd_pass(int argc, char **argv)
{
    struct cli cli = {0};
    struct pass_flags flags = {0};
    int err = cli_parse_config(&cli, argc, argv, pass_options, &flags);

    if (!err && cli.help)
        printf("\n%s", pass_metrics_help);
    else if (!err)
        err = run(&cli, &flags);
    cli_free(&cli);
    return err;
}
