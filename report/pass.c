#include "report/pass.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/file.h"
#include "base/version.h"
#include "report/plot.h"
#include "report/report.h"
#include "trace/csv.h"

/* The columns of the table; the router is one of the others. */
static const enum plan_part splits[] = {
    PLAN_PART_ATTENTION, PLAN_PART_EXPERTS, PLAN_PART_DISPATCH,
    PLAN_PART_COMBINE,   PLAN_PART_MLP,     PLAN_PART_OTHER,
};
enum { NUM_SPLITS = sizeof splits / sizeof *splits };

static double share(const struct passes_point *p, enum plan_part part)
{
    double us = 0;

    for (int k = 0; k < OP_KIND_COUNT; k++) {
        enum plan_part own = plan_op_traits((enum plan_op_kind)k)->part;

        if (own == part || (own == PLAN_PART_ROUTER && part == PLAN_PART_OTHER))
            us += p->r.kind_us[k];
    }
    return 100 * us / p->r.step_us;
}

/* One point, as every format has it. */
struct row {
    char words[288], knobs[256], name[24];
    const char *policy;
    int64_t scenario_index;
    int batch, ranks;
    double step_ms, layer_us, tpot_ms, ttft_ms, tokens_s_gpu, memory_GB, assumed_share;
    double launch_ms, exposed_ms, p50_ms, p99_ms, launch_pct;
    double split_pct[NUM_SPLITS], part_ms[PASS_PARTS], kind_ms[OP_KIND_COUNT];
    json_t *parts, *kinds;
};

static void row_fill(const struct passes *a, size_t i, struct row *row)
{
    const struct passes_point *p = &a->points[i];
    const struct grid_point named = {.policy = p->policy, .knobs = p->knobs};
    const struct pass_result *r = &p->r;

    *row = (struct row){.policy = p->policy->name,
                        .scenario_index = (int64_t)p->scenario,
                        .batch = p->batch,
                        .ranks = p->ranks,
                        .step_ms = r->step_us / 1e3,
                        .layer_us = r->layer_us,
                        .tpot_ms = passes_tpot_ms(p),
                        .ttft_ms = passes_ttft_ms(p),
                        .tokens_s_gpu = passes_tokens_s_gpu(p),
                        .memory_GB = p->memory.total / 1e9,
                        .assumed_share = r->assumed_share,
                        .launch_ms = r->launch_us / 1e3,
                        .exposed_ms = r->exposed_us / 1e3,
                        .p50_ms = p->spread.p50_us / 1e3,
                        .p99_ms = p->spread.p99_us / 1e3,
                        .launch_pct = 100 * r->launch_us / r->step_us};
    grid_point_name(&named, row->name, sizeof row->name);
    report_knob_words(&named, row->words, sizeof row->words);
    if (passes_is_best(a, i))
        strncat(row->words, *row->words ? "  <- most tokens" : "<- most tokens",
                sizeof row->words - strlen(row->words) - 1);
    policy_knobs_text(p->policy, &p->knobs, row->knobs, sizeof row->knobs);
    for (int k = 0; k < NUM_SPLITS; k++)
        row->split_pct[k] = share(p, splits[k]);
    for (int k = 0; k < PASS_PARTS; k++)
        row->part_ms[k] = r->part_us[k] / 1e3;
    for (int k = 0; k < OP_KIND_COUNT; k++)
        row->kind_ms[k] = r->kind_us[k] / 1e3;
}

static void nested_fill(const struct passes_point *p, struct row *row)
{
    row->parts = json_object();
    row->kinds = json_object();
    for (int k = 0; k < PASS_PARTS; k++)
        json_object_set_new(row->parts, pass_part_name((enum pass_part)k),
                            json_real(row->part_ms[k]));
    for (int k = 0; k < OP_KIND_COUNT; k++)
        if (p->r.kind_us[k] > 0)
            json_object_set_new(row->kinds, plan_op_kind_name((enum plan_op_kind)k),
                                json_real(row->kind_ms[k]));
}

#define AT(field) .offset = offsetof(struct row, field)
#define REAL(field, ...)                                                                           \
    {                                                                                              \
        .key = #field, .type = RECORD_REAL, AT(field), __VA_ARGS__                                 \
    }
/* Shares of people's table come behind these, then the launches, percentiles and knobs. */
static const struct record_column first[] = {
    {.key = "scenario", .type = RECORD_INT64, AT(scenario_index), .views = RECORD_FLAT},
    {.key = "policy", .type = RECORD_WORDS, AT(policy), .views = RECORD_DATA},
    {.head = "policy", AT(name), .width = -6, .views = RECORD_PEOPLE},
    {.key = "knobs", AT(knobs), .views = RECORD_DATA},
    {.key = "batch",
     .head = "batch",
     .type = RECORD_INT,
     AT(batch),
     .width = 7,
     .views = RECORD_ALL},
    {.key = "gpus", .head = "GPUs", .type = RECORD_INT, AT(ranks), .width = 5, .views = RECORD_ALL},
    REAL(step_ms, .head = "step ms", .width = 9, .digits = 2, .views = RECORD_ALL),
    REAL(layer_us, .head = "layer us", .width = 9, .digits = 1, .views = RECORD_ALL),
    REAL(tpot_ms, .views = RECORD_DATA),
    REAL(ttft_ms, .views = RECORD_DATA),
};
static const struct record_column second[] = {
    REAL(tokens_s_gpu, .head = "tok/s/GPU", .width = 10, .views = RECORD_ALL),
    REAL(memory_GB, .head = "GB", .width = 7, .digits = 1, .views = RECORD_ALL),
    REAL(assumed_share, .views = RECORD_NESTED),
    REAL(launch_ms, .views = RECORD_NESTED),
};
static const struct record_column flat[] = {
    REAL(launch_ms, .views = RECORD_FLAT),     REAL(exposed_ms, .views = RECORD_FLAT),
    REAL(p50_ms, .views = RECORD_FLAT),        REAL(p99_ms, .views = RECORD_FLAT),
    REAL(assumed_share, .views = RECORD_FLAT),
};
/* Of p50 and p99: where several routings were drawn. */
static const struct record_column percentiles[] = {
    REAL(p50_ms, .head = "p50 ms", .width = 8, .digits = 2, .views = RECORD_PEOPLE | RECORD_NESTED),
    REAL(p99_ms, .head = "p99 ms", .width = 8, .digits = 2, .views = RECORD_PEOPLE | RECORD_NESTED),
};
static const struct record_column last[] = {
    {.head = "knobs", AT(words), .wide = true, .views = RECORD_PEOPLE},
    {.key = "parts_ms", .type = RECORD_OBJECT, AT(parts), .views = RECORD_NESTED},
    {.key = "critical_path_ms", .type = RECORD_OBJECT, AT(kinds), .views = RECORD_NESTED},
};

enum { COLUMNS_MAX = 48 + OP_KIND_COUNT };
struct columns {
    struct record_column column[COLUMNS_MAX];
    char key[PASS_PARTS + OP_KIND_COUNT][64];
    int n, num_keys;
};

static void columns_add(struct columns *c, const struct record_column *more, size_t bytes)
{
    memcpy(c->column + c->n, more, bytes);
    c->n += (int)(bytes / sizeof *more);
}

/* A column of flat files: "dense_ms". */
static void time_add(struct columns *c, const char *name, size_t offset)
{
    char *key = c->key[c->num_keys++];

    snprintf(key, sizeof c->key[0], "%s_ms", name);
    c->column[c->n++] = (struct record_column){
        .key = key, .type = RECORD_REAL, .offset = offset, .views = RECORD_FLAT};
}

static void columns_make(const struct passes *a, struct columns *c)
{
    bool decode = a->n && a->points[0].phase == PHASE_OF_DECODE;
    const struct record_column per_token = {.head = decode ? "TPOT ms" : "TTFT ms",
                                            .type = RECORD_REAL,
                                            .offset = decode ? offsetof(struct row, tpot_ms)
                                                             : offsetof(struct row, ttft_ms),
                                            .width = 9,
                                            .digits = 2,
                                            .views = RECORD_PEOPLE};
    struct record_column share = {
        .type = RECORD_REAL, .width = 9, .digits = 1, .unit = "%", .views = RECORD_PEOPLE};

    c->n = c->num_keys = 0;
    columns_add(c, first, sizeof first);
    columns_add(c, &per_token, sizeof per_token);
    columns_add(c, second, sizeof second);
    for (size_t k = 0; k < NUM_SPLITS; k++) {
        share.head = plan_part_name(splits[k]);
        share.offset = offsetof(struct row, split_pct) + k * sizeof(double);
        columns_add(c, &share, sizeof share);
    }
    share.head = "launch";
    share.offset = offsetof(struct row, launch_pct);
    share.width = 7;
    columns_add(c, &share, sizeof share);
    for (size_t k = 0; k < PASS_PARTS; k++)
        time_add(c, pass_part_name((enum pass_part)k),
                 offsetof(struct row, part_ms) + k * sizeof(double));
    columns_add(c, flat, sizeof flat);
    for (size_t k = 0; k < OP_KIND_COUNT; k++)
        time_add(c, plan_op_kind_name((enum plan_op_kind)k),
                 offsetof(struct row, kind_ms) + k * sizeof(double));
    if (a->options.draws > 1)
        columns_add(c, percentiles, sizeof percentiles);
    columns_add(c, last, sizeof last);
}

/* What the file varies besides the batch, which has a column, where it changes. */
static void scenario_note(const struct passes *a, size_t i, struct record *r)
{
    char words[256], before[256] = "";

    if (a->config->num_axes < 2)
        return;
    report_scenario_words(a->config, a->points[i].scenario, words, sizeof words);
    if (i)
        report_scenario_words(a->config, a->points[i - 1].scenario, before, sizeof before);
    if (strcmp(words, before) != 0)
        record_note(r, "%s\n", words);
}

void pass_report(const struct passes *a, struct record *r)
{
    struct columns columns;
    struct record_table table = {"results", RECORD_ALL, columns.column, 0};

    record_member_text(r, "version", PEOSIM_VERSION);
    record_member_text(r, "config", a->config->path);
    record_member_text(r, "config_hash", a->config->hash);
    if (record_is_for(r, RECORD_PEOPLE))
        report_title_on(a->config, "whole passes, every layer with attention and both ends", r);
    columns_make(a, &columns);
    table.num_columns = columns.n;
    record_table(r, &table);
    for (size_t i = 0; i < a->n; i++) {
        struct row row;

        if (a->points[i].skipped)
            continue;
        row_fill(a, i, &row);
        if (record_is_for(r, RECORD_NESTED))
            nested_fill(&a->points[i], &row);
        scenario_note(a, i, r);
        record_row(r, &row);
        json_decref(row.parts);
        json_decref(row.kinds);
    }
    record_table_end(r);
}

static int csv_file(const struct passes *a, const char *folder)
{
    struct file_out f = {0};
    struct record r;
    char path[1024];
    int err;

    snprintf(path, sizeof path, "%s/pass.csv", folder);
    err = file_create(&f, path);
    if (!err) {
        record_open(&r, record_format_find("csv"), f.f);
        pass_report(a, &r);
        err = record_close(&r);
    }
    if (!err)
        err = file_commit(&f);
    file_abort(&f);
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
    const struct passes_point *best = passes_best(a);
    struct trace_log *log = NULL;
    char csv[1024], out[1024], title[256];
    const char *extra[] = {NULL};
    int err = best ? passes_timeline(a, best, title, sizeof title, &log) : 0;

    if (!best || err)
        return err;
    err = timeline_write(folder, log);
    if (!err && draw) {
        snprintf(csv, sizeof csv, "%s/pass_spans.csv", folder);
        snprintf(out, sizeof out, "%s/pass_timeline", folder);
        plot_draw("pass", csv, out, title, extra);
    }
    trace_log_free(log);
    return err;
}

int pass_report_files(const struct passes *a, const char *folder, bool plots)
{
    int err = file_mkdirs(folder);

    if (!err)
        err = csv_file(a, folder);
    if (!err && plots)
        err = timeline(a, folder, plot_available());
    return err;
}
