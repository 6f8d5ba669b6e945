#include "report/synthesize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "report/plot.h"
#include "report/report.h"
#include "report/results.h"
#include "study/synth_moves.h"
#include "study/timeline.h"
#include "trace/csv.h"

struct row {
    int batch, scenario;
    char profile[64], model[64], named[32], plan[256];
    double named_us, layer_us, gain_pct, gain_low_pct, gain_high_pct, lower_bound_us, within_pct;
    const char *bound_by;
    int64_t simulations;
};

#define AT(field) .offset = offsetof(struct row, field)
#define PERCENT(field, text, w)                                                                    \
    {                                                                                              \
        .key = #field, .head = text, .type = RECORD_REAL, AT(field), .width = w, .digits = 1,      \
        .plus = true, .unit = "%", .none = "-", .views = RECORD_ALL                                \
    }
static const struct record_column columns[] = {
    {.key = "scenario", .type = RECORD_INT, AT(scenario), .views = RECORD_DATA},
    {.key = "model", .type = RECORD_STRING, AT(model), .views = RECORD_DATA},
    {.key = "profile", .type = RECORD_STRING, AT(profile), .views = RECORD_DATA},
    {.key = "batch",
     .head = "batch",
     .type = RECORD_INT,
     AT(batch),
     .width = 7,
     .views = RECORD_ALL},
    {.key = "named",
     .head = "best named",
     .type = RECORD_STRING,
     AT(named),
     .width = -10,
     .wide = true,
     .views = RECORD_ALL},
    {.key = "named_us",
     .head = "us",
     .type = RECORD_REAL,
     AT(named_us),
     .width = 9,
     .digits = 1,
     .views = RECORD_ALL},
    {.key = "layer_us",
     .head = "found us",
     .type = RECORD_REAL,
     AT(layer_us),
     .width = 9,
     .digits = 1,
     .views = RECORD_ALL},
    PERCENT(gain_pct, "gain", 7),
    PERCENT(gain_low_pct, "5%", 7),
    PERCENT(gain_high_pct, "95%", 7),
    {.key = "lower_bound_us",
     .head = "bound us",
     .type = RECORD_REAL,
     AT(lower_bound_us),
     .width = 9,
     .digits = 1,
     .none = "-",
     .views = RECORD_ALL},
    {.key = "within_pct",
     .head = "within",
     .type = RECORD_REAL,
     AT(within_pct),
     .width = 7,
     .digits = 1,
     .unit = "%",
     .none = "-",
     .views = RECORD_ALL},
    {.key = "bound_by", .type = RECORD_WORDS, AT(bound_by), .views = RECORD_DATA},
    {.key = "simulations",
     .head = "simulated",
     .type = RECORD_INT64,
     AT(simulations),
     .width = 9,
     .views = RECORD_ALL},
    {.key = "plan",
     .head = "plan file",
     .type = RECORD_STRING,
     AT(plan),
     .wide = true,
     .views = RECORD_ALL},
};
static const struct record_table table = {.key = "schedules",
                                          .views = RECORD_ALL,
                                          .column = columns,
                                          .num_columns = sizeof columns / sizeof *columns};

static void plan_name(size_t i, char *buf, size_t size)
{
    snprintf(buf, size, "plan-%zu.txt", i + 1);
}

static void row_fill(const struct synthesis *s, size_t i, const char *folder, struct row *row)
{
    const struct synth_pick *p = &s->pick[i];
    struct grid_point named = {.policy = p->named, .knobs = p->knobs};
    struct scenario scenario;
    char name[32];

    *row = (struct row){.scenario = (int)i + 1,
                        .named_us = p->named_us,
                        .layer_us = p->us,
                        .gain_pct = p->gain_pct,
                        .gain_low_pct = p->has_interval ? p->gain_low_pct : NAN,
                        .gain_high_pct = p->has_interval ? p->gain_high_pct : NAN,
                        .lower_bound_us = p->bound.us > 0 ? p->bound.us : NAN,
                        .within_pct = bound_gap_pct(&p->bound, p->us),
                        .bound_by = bound_by_name(p->bound.by),
                        .simulations = (int64_t)p->simulations};
    grid_point_name(&named, row->named, sizeof row->named);
    plan_name(i, name, sizeof name);
    if (p->found)
        snprintf(row->plan, sizeof row->plan, "%s/%s", folder, name);
    if (!config_scenario(s->config, i, &scenario)) {
        row->batch = scenario.batch;
        snprintf(row->profile, sizeof row->profile, "%s", scenario.profile);
        snprintf(row->model, sizeof row->model, "%s", scenario.model);
        scenario_free(&scenario);
    }
}

/* What the search's best does otherwise. */
static void words_note(const struct synth_pick *p, struct record *r)
{
    char *text = NULL, *save = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return;
    if (p->found && p->has_from)
        synth_words(&p->from, &p->program, 4, f);
    fclose(f);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        record_note(r, "            %s\n", line);
    free(text);
}

void synthesize_report(const struct synthesis *s, const char *folder, struct record *r)
{
    bool people = record_is_for(r, RECORD_PEOPLE);

    report_head_record(s->config, r);
    record_table(r, &table);
    for (size_t i = 0; i < s->num_picks; i++) {
        struct row row;

        if (!s->pick[i].named)
            continue;
        row_fill(s, i, folder, &row);
        record_row(r, &row);
        if (people)
            words_note(&s->pick[i], r);
    }
    record_table_end(r);
    if (people)
        record_note(r, "gain: over the best named policy with its best knobs; 5%% and 95%% over "
                       "drawn profiles\nwithin: of any schedule of the "
                       "same kernels (docs/bound.md)\nrun one: peosim run CONFIG --plan FILE; its "
                       "picture stands beside it\n");
    report_tail_record(s->config, r);
}

static int plan_write(const struct results *results, const struct synth_pick *p, const char *name)
{
    struct file_out f = {0};
    int err = results_create(results, name, &f);

    if (!err)
        err = program_write(&p->program, f.f);
    return results_done(&f, err);
}

static int spans_write(const struct results *results, const struct timeline *t, const char *name)
{
    struct file_out f = {0};
    int err = results_create(results, name, &f);

    if (!err)
        err = trace_csv_write(t->log, f.f);
    return results_done(&f, err);
}

static void picture(const struct results *results, const struct timeline *t, size_t i,
                    const char *spans, double gain_pct)
{
    char csv[RESULTS_PATH_MAX], out[RESULTS_PATH_MAX], name[48], title[128], rank[16], sms[16];
    const char *extra[] = {rank, sms, NULL};

    snprintf(name, sizeof name, "plan-%zu_timeline", i + 1);
    snprintf(title, sizeof title, "found by search: %.1f us (%+.1f%% against the best named)",
             t->ev.layer_us, gain_pct);
    snprintf(rank, sizeof rank, "%d", t->ev.metrics.slowest_rank);
    snprintf(sms, sizeof sms, "%d", t->ev.num_sms);
    if (!results_path(results, spans, csv) && !results_path(results, name, out))
        plot_draw("timeline", csv, out, title, extra);
}

static int pick_files(const struct results *results, const struct synthesis *s, size_t i,
                      struct evaluator *e, bool plots)
{
    const struct synth_pick *p = &s->pick[i];
    struct timeline t = {0};
    struct scenario scenario;
    struct knobs k;
    char name[48];
    int err;

    plan_name(i, name, sizeof name);
    err = plan_write(results, p, name);
    if (!err)
        err = config_scenario(s->config, i, &scenario);
    if (err)
        return err;
    scenario.program = &p->program;
    knobs_default(&policy_program, &k);
    err = timeline_of(e, &scenario, &policy_program, &k, -1, &t);
    snprintf(name, sizeof name, "plan-%zu_spans.csv", i + 1);
    if (!err)
        err = spans_write(results, &t, name);
    if (!err && plots)
        picture(results, &t, i, name, p->gain_pct);
    timeline_free(&t);
    scenario_free(&scenario);
    return err;
}

int synthesize_files(const struct synthesis *s, const char *folder, bool plots)
{
    struct results results = {.lock = 0};
    struct evaluator *e = NULL;
    int err = results_open(&results, folder);

    if (!err)
        err = evaluator_open(&e);
    if (!err)
        evaluator_whole_layers(e);
    for (size_t i = 0; i < s->num_picks && !err; i++)
        if (s->pick[i].found)
            err = pick_files(&results, s, i, e, plots && plot_available());
    if (!err)
        err = results_commit(&results);
    results_abort(&results);
    evaluator_close(e);
    return err;
}
