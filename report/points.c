#include "report/op_basis.h"
#include "report/points.h"

#include <math.h>
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
    double lower_bound_us, within_pct; /* NAN: nothing is proven */
    double moe_us, moe_gain_pct;       /* of the MoE part alone; NAN: there is none */
    const char *basis, *bound_by;
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
    REAL(layer_us, .head = "layer us", .width = 9, .digits = 1, .views = RECORD_ALL),
    REAL(none_us, DATA),
    REAL(gain_pct, .head = "gain", .width = 8, .digits = 1, .plus = true, .unit = "%",
         .views = RECORD_ALL),
    REAL(within_pct, .head = "within", .width = 7, .digits = 1, .unit = "%", .none = "-", PEOPLE),
    {.head = "MoE us",
     .type = RECORD_REAL,
     AT(moe_us),
     .width = 9,
     .digits = 1,
     .none = "-",
     PEOPLE},
    {.head = "MoE gain",
     .type = RECORD_REAL,
     AT(moe_gain_pct),
     .width = 8,
     .digits = 1,
     .plus = true,
     .unit = "%",
     .none = "-",
     PEOPLE},
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
    {.head = "critical path", .type = RECORD_STRING, AT(path), .width = -30, .wide = true, PEOPLE},
    {.head = "best knobs", .type = RECORD_STRING, AT(words), PEOPLE},
    {.key = "basis", .type = RECORD_WORDS, AT(basis), FLAT},
    REAL(moe_us, FLAT),
    REAL(moe_gain_pct, FLAT),
    REAL(lower_bound_us, FLAT),
    {.key = "bound_by", .type = RECORD_WORDS, AT(bound_by), FLAT},
    {.key = "knobs", .type = RECORD_STRING, AT(knobs_text), FLAT},
    {.key = "critical_path_us", .type = RECORD_OBJECT, AT(parts), NESTED},
    REAL(moe_us, NESTED),
    REAL(moe_gain_pct, NESTED),
    REAL(lower_bound_us, NESTED),
    {.key = "bound_by", .type = RECORD_WORDS, AT(bound_by), NESTED},
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

/* Stands at an end of a list of numbers, and the knob could be beyond it? */
static bool at_edge(const struct config_policy *cp, const struct opt *o, const struct knobs *k)
{
    int value = knob_get(o, k), lower = 0, higher = 0;
    const struct knob_search *s = policy_knob_search(cp->policy, o->key);

    if (o->type != OPT_INT || (s && s->unordered) || value <= (int)o->min || value >= (int)o->max)
        return false;
    for (int i = 0; i < cp->num_axes; i++)
        for (int j = 0; cp->axes[i].opt == o && j < cp->axes[i].num_values; j++) {
            lower += atoi(cp->axes[i].values[j]) < value;
            higher += atoi(cp->axes[i].values[j]) > value;
        }
    return (lower > 0) != (higher > 0);
}

/* report_knob_words with a star behind what stands at an end of its list. */
static void edge_words(const struct config *c, const struct grid_point *p, char *buf, size_t size)
{
    char words[256], *word, *rest = words;
    size_t at = 0;

    report_knob_words(p, words, sizeof words);
    buf[0] = '\0';
    while ((word = strsep(&rest, " ")) != NULL && at < size) {
        char key[64];
        const struct opt *o;

        snprintf(key, sizeof key, "%.*s", (int)strcspn(word, "="), word);
        o = opt_find(p->policy->knobs, key);
        at += (size_t)snprintf(buf + at, size - at, "%s%s%s", at ? " " : "", word,
                               o && at_edge(&c->policies[p->entry], o, &p->knobs) ? "*" : "");
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
                        .events = (int64_t)ev->events,
                        .moe_us = ev->moe_us > 0 ? ev->moe_us : NAN,
                        .moe_gain_pct = ev->moe_us > 0 ? ev->moe_gain_pct : NAN,
                        .lower_bound_us = p->bound.us > 0 ? p->bound.us : NAN,
                        .within_pct = bound_gap_pct(&p->bound, ev->layer_us),
                        .bound_by = bound_by_name(p->bound.by),
                        .basis = report_basis_name(c)};
    snprintf(row->name, sizeof row->name, "%s", name ? name : p->policy->name);
    grid_point_name(p, row->method_name, sizeof row->method_name);
    edge_words(c, p, row->words, sizeof row->words);
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

/* Entries of `policies` that have no point in the scenario. */
static void left_out(const struct grid *g, size_t scenario, struct record *r)
{
    size_t per = config_num_points_per_scenario(g->config);

    for (int entry = 0; entry < g->config->num_policies; entry++) {
        size_t ran = 0, skipped = 0;

        for (size_t i = scenario * per; i < (scenario + 1) * per; i++)
            if (g->points[i].entry == entry) {
                ran += !g->points[i].skipped;
                skipped += g->points[i].skipped;
            }
        if (!ran && skipped)
            record_note(r, "  %-6s cannot run here: %zu point%s skipped (the notes say why)\n",
                        g->config->policies[entry].policy->name, skipped, skipped == 1 ? "" : "s");
    }
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
        gains |= rows[i]->ev.gain_pct > 0;
    }
    left_out(g, scenario, r);
    if (!gains && n > 1)
        record_note(
            r, "  no policy beats none here with the values tried: do not overlap with them\n");
}

/* Knobs that a search would vary and this run did not. */
static void not_searched(const struct config *c, struct record *r)
{
    bool decode = strcmp(report_first_value(c, "phase"), "prefill") != 0, any = false;

    for (int i = 0; i < c->num_policies; i++) {
        const struct config_policy *cp = &c->policies[i];
        const char *name = cp->policy->name;

        for (const struct knob_search *s = cp->policy->search; s && s->key; s++) {
            bool set = s->prefill && decode;

            for (int j = 0; j < cp->num_axes; j++)
                set |= !strcmp(cp->axes[j].opt->key, s->key);
            if (set)
                continue;
            record_note(r, "%s %s.%s", any ? "," : "not searched here, one value each:", name,
                        s->key);
            any = true;
        }
    }
    if (any)
        record_note(r, " (peosim recommend searches them)\n");
}

static bool any_edge(const struct grid *g)
{
    for (size_t i = 0; i < config_num_scenarios(g->config); i++) {
        const struct grid_point *rows[GRID_ROWS_MAX];
        int n = grid_rows(g, i, rows);

        for (int j = 0; j < n; j++) {
            char words[256];

            edge_words(g->config, rows[j], words, sizeof words);
            if (strchr(words, '*'))
                return true;
        }
    }
    return false;
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
    struct op_basis basis;

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
    if (record_is_for(r, RECORD_PEOPLE) && any_edge(g))
        record_note(r, "* at an end of its list: a value beyond it may be better\n");
    not_searched(g->config, r);
    assumed_note(g, r);
    if (!record_is_for(r, RECORD_FLAT) && op_basis_of_grid(g, &basis) == 0)
        op_basis_record(&basis, r);
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

void report_best_csv(const struct grid *g, FILE *f)
{
    report_csv_head(g->config, f);
    for (size_t i = 0; i < config_num_scenarios(g->config); i++) {
        const struct grid_point *rows[GRID_ROWS_MAX];
        int n = grid_rows(g, i, rows);

        for (int j = 0; j < n; j++) {
            char name[48];

            grid_point_name(rows[j], name, sizeof name);
            report_csv_row(g->config, rows[j], name, f);
        }
    }
}
