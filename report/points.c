#include "report/points.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/version.h"
#include "report/report.h"

enum { VARY_MAX = 64 };

/* One point, as every format has it. */
struct row {
    const char *vary[VARY_MAX]; /* values of the keys that the file varies */
    char name[48], method_name[48], path[96], words[256], knobs_text[512];
    int batch, method, num_rounds, num_sms;
    double layer_us, none_us, gain_pct, exposed_us;
    double sm_util, nvlink_util, nic_util, assumed_share;
    double sm_pct, nvlink_pct, nic_pct;
    int64_t events;
    json_t *knobs, *parts;
};

#define AT(field) .offset = offsetof(struct row, field)
#define PEOPLE    .views = RECORD_PEOPLE
#define DATA      .views = RECORD_DATA
#define FLAT      .views = RECORD_FLAT
#define NESTED    .views = RECORD_NESTED
#define REAL(field, ...)                                                                           \
    {                                                                                              \
        .key = #field, .type = RECORD_REAL, AT(field), __VA_ARGS__                                 \
    }
#define PERCENT(text, field)                                                                       \
    {                                                                                              \
        .head = text, .type = RECORD_REAL, AT(field), .width = 6, .unit = "%", PEOPLE              \
    }
/* In the order in which people and files have them; JSON has its knobs and parts among them. */
static const struct record_column columns[] = {
    {.key = "batch", .type = RECORD_INT, AT(batch), NESTED},
    {.key = "policy", .type = RECORD_STRING, AT(name), DATA},
    {.head = "policy", .type = RECORD_STRING, AT(method_name), .width = -6, PEOPLE},
    {.key = "method", .type = RECORD_INT, AT(method), DATA},
    {.key = "num_rounds", .type = RECORD_INT, AT(num_rounds), DATA},
    {.key = "num_sms", .type = RECORD_INT, AT(num_sms), DATA},
    {.key = "knobs", .type = RECORD_OBJECT, AT(knobs), NESTED},
    REAL(layer_us, .head = "layer us", .width = 10, .digits = 1, .views = RECORD_ALL),
    REAL(none_us, DATA),
    REAL(gain_pct, .head = "gain", .width = 8, .digits = 1, .plus = true, .unit = "%",
         .views = RECORD_ALL),
    {.key = "exposed_comm_us",
     .head = "exposed us",
     .type = RECORD_REAL,
     AT(exposed_us),
     .width = 10,
     .digits = 1,
     .views = RECORD_ALL},
    PERCENT("SMs", sm_pct),
    PERCENT("NVLink", nvlink_pct),
    PERCENT("NIC", nic_pct),
    REAL(sm_util, DATA),
    REAL(nvlink_util, DATA),
    REAL(nic_util, DATA),
    REAL(assumed_share, DATA),
    {.key = "events", .type = RECORD_INT64, AT(events), DATA},
    {.head = "critical path", .type = RECORD_STRING, AT(path), .width = -32, .wide = true, PEOPLE},
    {.head = "best knobs", .type = RECORD_STRING, AT(words), PEOPLE},
    {.key = "knobs", .type = RECORD_STRING, AT(knobs_text), FLAT},
    {.key = "critical_path_us", .type = RECORD_OBJECT, AT(parts), NESTED},
};
enum { NUM_COLUMNS = sizeof columns / sizeof *columns };

struct point_table {
    struct record_column column[2 * VARY_MAX + NUM_COLUMNS];
    struct record_table table;
};

static void vary_column(struct point_table *t, const struct axis *a, int i, unsigned views)
{
    t->column[t->table.num_columns++] =
        (struct record_column){.key = a->opt->key,
                               .type = RECORD_WORDS,
                               .offset = offsetof(struct row, vary) + (size_t)i * sizeof(char *),
                               .views = views};
}

/* The keys that the file varies stand before the others in flat files, behind them in nested ones,
 * which have the batch as a number. */
static void table_make(const struct config *c, struct point_table *t)
{
    int n = c->num_axes < VARY_MAX ? c->num_axes : VARY_MAX;

    t->table = (struct record_table){.key = "results", .views = RECORD_ALL, .column = t->column};
    for (int i = 0; i < n; i++)
        if (c->axes[i].num_values > 1 || !strcmp(c->axes[i].opt->key, "batch"))
            vary_column(t, &c->axes[i], i, RECORD_FLAT);
    memcpy(t->column + t->table.num_columns, columns, sizeof columns);
    t->table.num_columns += NUM_COLUMNS;
    for (int i = n - 1; i >= 0; i--)
        if (c->axes[i].num_values > 1 && strcmp(c->axes[i].opt->key, "batch"))
            vary_column(t, &c->axes[i], i, RECORD_NESTED);
}

/* "nic 41% sm 35% fixed 12%": what the critical path is made of, largest first. */
static void path_words(const struct evaluation *ev, char *buf, size_t size)
{
    double part[PART_COUNT + 1], all = 0;
    size_t at = 0;

    for (int i = 0; i < PART_COUNT; i++)
        all += part[i] = ev->metrics.part_ns[i];
    all += part[PART_COUNT] = ev->metrics.launch_ns;
    buf[0] = '\0';
    for (int n = 0; n < 3 && all > 0; n++) {
        int top = 0;

        for (int i = 1; i <= PART_COUNT; i++)
            if (part[i] > part[top])
                top = i;
        if (part[top] < 0.005 * all)
            break;
        at += (size_t)snprintf(buf + at, size - at, "%s%s %.0f%%", n ? " " : "",
                               top == PART_COUNT ? "launch" : trace_part_name((enum trace_part)top),
                               100 * part[top] / all);
        part[top] = -1;
    }
}

static json_t *parts_json(const struct evaluation *ev)
{
    json_t *parts = json_object();

    for (int i = 0; i < PART_COUNT; i++)
        json_object_set_new(parts, trace_part_name((enum trace_part)i),
                            json_real(ev->metrics.part_ns[i] / 1e3));
    json_object_set_new(parts, "launch", json_real(ev->metrics.launch_ns / 1e3));
    return parts;
}

static void vary_fill(const struct config *c, size_t scenario, struct row *row)
{
    for (int i = c->num_axes - 1; i >= 0; i--) {
        const struct axis *a = &c->axes[i];

        if (i < VARY_MAX)
            row->vary[i] = a->values[scenario % (size_t)a->num_values];
        scenario /= (size_t)a->num_values;
    }
}

/* name: what stands in the policy column; NULL = the policy's. */
static void row_fill(const struct config *c, const struct grid_point *p, const char *name,
                     struct row *row)
{
    const struct evaluation *ev = &p->ev;

    *row = (struct row){.method = grid_point_method(p),
                        .num_rounds = report_num_rounds(p),
                        .num_sms = report_num_sms(p),
                        .layer_us = ev->layer_us,
                        .none_us = ev->none_us,
                        .gain_pct = ev->gain_pct,
                        .exposed_us = ev->metrics.exposed_comm_ns / 1e3,
                        .sm_util = ev->metrics.sm_util,
                        .nvlink_util = ev->nvlink_util,
                        .nic_util = ev->nic_util,
                        .sm_pct = 100 * ev->metrics.sm_util,
                        .nvlink_pct = 100 * ev->nvlink_util,
                        .nic_pct = 100 * ev->nic_util,
                        .assumed_share = ev->assumed_share,
                        .events = (int64_t)ev->events};
    snprintf(row->name, sizeof row->name, "%s", name ? name : p->policy->name);
    grid_point_name(p, row->method_name, sizeof row->method_name);
    report_knob_words(p, row->words, sizeof row->words);
    policy_knobs_text(p->policy, &p->knobs, row->knobs_text, sizeof row->knobs_text);
    path_words(ev, row->path, sizeof row->path);
    vary_fill(c, p->scenario, row);
}

static void nested_fill(const struct config *c, const struct grid_point *p, struct row *row)
{
    struct scenario s;

    if (!config_scenario(c, p->scenario, &s)) {
        row->batch = s.batch;
        scenario_free(&s);
    }
    row->knobs = json_object();
    report_knobs_json(p, row->knobs);
    row->parts = parts_json(&p->ev);
}

static void point_write(struct record *r, const struct config *c, const struct grid_point *p,
                        const char *name)
{
    struct row row;

    row_fill(c, p, name, &row);
    if (record_is_for(r, RECORD_NESTED))
        nested_fill(c, p, &row);
    record_row(r, &row);
    json_decref(row.knobs);
    json_decref(row.parts);
}

static bool spans(const struct grid_point *p)
{
    return p->policy->spans_layers;
}

static void scenario_write(const struct grid *g, size_t scenario, struct record *r)
{
    const struct grid_point *rows[GRID_ROWS_MAX];
    int n = grid_rows(g, scenario, rows);
    char words[256];
    bool gains = false;

    report_scenario_words(g->config, scenario, words, sizeof words);
    if (*words)
        record_note(r, "%s\n", words);
    for (int i = 0; i < n; i++) {
        point_write(r, g->config, rows[i], NULL);
        if (spans(rows[i]))
            record_note(
                r, "         (a layer with attention, steady period; without overlap %.1f us)\n",
                rows[i]->ev.none_us);
        gains |= rows[i]->ev.gain_pct > 0;
    }
    if (!gains && n > 1)
        record_note(r, "  no policy beats none here: do not overlap\n");
}

static void assumed_note(const struct grid *g, struct record *r)
{
    double assumed = 0, n = 0;

    for (size_t i = 0; i < g->num_points; i++)
        if (!g->points[i].skipped) {
            assumed += g->points[i].ev.assumed_share;
            n++;
        }
    if (assumed > 0)
        record_note(r,
                    "%.0f%% of the ops' time, on average, rests on profile fields without data of "
                    "their own (peosim info profile %s)\n",
                    100 * assumed / n, report_first_value(g->config, "cluster.profile"));
}

void report_grid(const struct grid *g, struct record *r)
{
    struct point_table t;

    table_make(g->config, &t);
    report_head_record(g->config, r);
    record_table(r, &t.table);
    if (record_is_for(r, RECORD_PEOPLE))
        for (size_t i = 0; i < config_num_scenarios(g->config); i++)
            scenario_write(g, i, r);
    else
        for (size_t i = 0; i < g->num_points; i++)
            if (!g->points[i].skipped)
                point_write(r, g->config, &g->points[i], NULL);
    record_table_end(r);
    assumed_note(g, r);
    report_tail_record(g->config, r);
}

void report_points(const struct config *c, const struct grid_point *points, size_t n,
                   struct record *r)
{
    struct point_table t;

    table_make(c, &t);
    record_table(r, &t.table);
    for (size_t i = 0; i < n; i++)
        point_write(r, c, &points[i], NULL);
    record_table_end(r);
}

void report_csv_head(const struct config *c, FILE *f)
{
    struct point_table t;
    struct record r;

    table_make(c, &t);
    record_open(&r, record_format_find("csv"), f);
    record_table(&r, &t.table);
}

void report_csv_row(const struct config *c, const struct grid_point *p, const char *name, FILE *f)
{
    struct point_table t;
    struct record r;

    table_make(c, &t);
    record_open(&r, record_format_find("csv"), f);
    r.table = &t.table;
    point_write(&r, c, p, name);
}

/* A policy measured with attention has its own zero line: `none` with attention. */
static void attention_none_row(const struct grid *g, const struct grid_point *p, FILE *f)
{
    struct grid_point none = *p;

    none.policy = &policy_none;
    none.ev.layer_us = p->ev.none_us;
    none.ev.gain_pct = 0;
    report_csv_row(g->config, &none, "none with attention", f);
}

void report_best_csv(const struct grid *g, FILE *f)
{
    report_csv_head(g->config, f);
    for (size_t i = 0; i < config_num_scenarios(g->config); i++) {
        const struct grid_point *rows[GRID_ROWS_MAX];
        int n = grid_rows(g, i, rows);

        for (int j = 0; j < n; j++) {
            char name[48];

            grid_point_name(rows[j], name, sizeof name);
            if (spans(rows[j])) {
                attention_none_row(g, rows[j], f);
                snprintf(name, sizeof name, "%s with attention", rows[j]->policy->name);
            }
            report_csv_row(g->config, rows[j], name, f);
        }
    }
}
