#include "report/accuracy.h"

#include <math.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/version.h"

/* A file, one of its laws, or a group of a law. */
struct row {
    char name[64]; /* for people */
    const char *file, *profile, *law, *group;
    int64_t n, outside, other, bad;
    double median_pct, p90_pct, max_pct, bias_pct;
    double median_ape, p90_ape, max_ape, bias;
    json_t *laws, *pairs;
};

#define AT(field) .offset = offsetof(struct row, field)
#define PERCENT(text, field, columns)                                                              \
    {                                                                                              \
        .head = text, .type = RECORD_REAL, AT(field), .width = columns, .digits = 1,               \
        .views = RECORD_PEOPLE                                                                     \
    }
#define SHARE(field)                                                                               \
    {                                                                                              \
        .key = #field, .type = RECORD_REAL, AT(field), .views = RECORD_DATA                        \
    }
static const struct record_column columns[] = {
    {.key = "file", .type = RECORD_WORDS, AT(file), .views = RECORD_DATA},
    {.key = "profile", .type = RECORD_WORDS, AT(profile), .views = RECORD_DATA},
    {.key = "law", .type = RECORD_WORDS, AT(law), .views = RECORD_FLAT},
    {.key = "group", .type = RECORD_WORDS, AT(group), .views = RECORD_FLAT},
    {.head = "error of the prediction, %",
     .type = RECORD_STRING,
     AT(name),
     .width = -44,
     .views = RECORD_PEOPLE},
    {.key = "n", .head = "rows", .type = RECORD_INT64, AT(n), .width = 6, .views = RECORD_ALL},
    PERCENT("median", median_pct, 8),
    PERCENT("p90", p90_pct, 8),
    PERCENT("max", max_pct, 9),
    PERCENT("bias", bias_pct, 8),
    SHARE(median_ape),
    SHARE(p90_ape),
    SHARE(max_ape),
    SHARE(bias),
    {.key = "outside",
     .head = "outside",
     .type = RECORD_INT64,
     AT(outside),
     .width = 8,
     .views = RECORD_ALL},
    {.key = "other_systems", .type = RECORD_INT64, AT(other), .views = RECORD_NESTED},
    {.key = "bad_rows", .type = RECORD_INT64, AT(bad), .views = RECORD_NESTED},
    {.key = "pairs", .type = RECORD_OBJECT, AT(pairs), .views = RECORD_NESTED},
    {.key = "laws", .type = RECORD_OBJECT, AT(laws), .views = RECORD_NESTED},
};
static const struct record_table files_table = {.key = "files",
                                                .views = RECORD_ALL,
                                                .column = columns,
                                                .num_columns = sizeof columns / sizeof *columns};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static double round_share(double x)
{
    return isfinite(x) ? round(x * 1e6) / 1e6 : 0;
}

static struct row row_of(const struct accuracy *a, const struct stats_error *e, size_t outside)
{
    return (struct row){.file = a->set->path,
                        .profile = a->profile,
                        .law = "",
                        .group = "",
                        .n = (int64_t)e->n,
                        .outside = (int64_t)outside,
                        .other = (int64_t)a->other,
                        .bad = (int64_t)a->set->bad,
                        .median_pct = 100 * e->median_ape,
                        .p90_pct = 100 * e->p90_ape,
                        .max_pct = 100 * e->max_ape,
                        .bias_pct = 100 * e->bias,
                        .median_ape = round_share(e->median_ape),
                        .p90_ape = round_share(e->p90_ape),
                        .max_ape = round_share(e->max_ape),
                        .bias = round_share(e->bias)};
}

static void group_write(const struct accuracy *a, const struct accuracy_group *g, struct record *r)
{
    struct row row = row_of(a, &g->err, g->outside);

    row.law = data_law_name(g->law);
    row.group = g->name;
    snprintf(row.name, sizeof row.name, "%s%s", *g->name ? "  " : "", *g->name ? g->name : row.law);
    record_row(r, &row);
}

/* Laws and their groups, as tables without nesting have them. */
static void laws_write(const struct accuracy *a, bool groups, struct record *r)
{
    for (int i = 0; i < a->num_laws; i++) {
        group_write(a, &a->law[i], r);
        for (int j = 0; groups && j < a->num_groups; j++)
            if (a->group[j].law == a->law[i].law)
                group_write(a, &a->group[j], r);
    }
}

static void people_write(const struct accuracy *a, bool groups, struct record *r)
{
    struct row all = row_of(a, &a->err, a->outside);

    record_table_end(r);
    record_note(r, "%s, profile %s\n", base_name(a->set->path), a->profile);
    record_table(r, &files_table);
    laws_write(a, groups, r);
    snprintf(all.name, sizeof all.name, "all");
    if (a->num_laws > 1)
        record_row(r, &all);
    if (a->pairs > 0)
        record_note(r,
                    "  fused against split: the faster one right in %d of %d pairs that differ by "
                    "over 5%%\n",
                    a->pairs_right, a->pairs);
    if (a->no_law > 0)
        record_note(r, "  %zu rows without a prediction: no law or table has them\n", a->no_law);
    if (a->other > 0)
        record_note(r, "  %zu rows of other systems left aside\n", a->other);
    if (a->set->bad > 0)
        record_note(r, "  %zu bad rows skipped\n", a->set->bad);
}

static void nested_write(const struct accuracy *a, struct record *r)
{
    struct row row = row_of(a, &a->err, a->outside);

    row.laws = json_array();
    for (int i = 0; i < a->num_laws; i++) {
        struct row law = row_of(a, &a->law[i].err, a->law[i].outside);

        json_array_append_new(
            row.laws, json_pack("{s:s, s:I, s:f, s:f, s:f, s:f, s:I}", "law",
                                data_law_name(a->law[i].law), "n", (json_int_t)law.n, "median_ape",
                                law.median_ape, "p90_ape", law.p90_ape, "max_ape", law.max_ape,
                                "bias", law.bias, "outside", (json_int_t)law.outside));
    }
    if (a->pairs > 0) /* fused against split: which is the faster one */
        row.pairs = json_pack("{s:i, s:i}", "n", a->pairs, "right", a->pairs_right);
    record_row(r, &row);
    json_decref(row.pairs);
    json_decref(row.laws);
}

void accuracy_report(struct accuracy *const *all, size_t num, bool groups, struct record *r)
{
    record_member_text(r, "version", PEOSIM_VERSION);
    if (!record_is_for(r, RECORD_PEOPLE))
        record_table(r, &files_table);
    for (size_t i = 0; i < num; i++)
        if (record_is_for(r, RECORD_PEOPLE))
            people_write(all[i], groups, r);
        else if (record_is_for(r, RECORD_FLAT))
            laws_write(all[i], groups, r);
        else
            nested_write(all[i], r);
    record_table_end(r);
}

static void markdown_line(const struct accuracy *a, const struct accuracy_group *g, bool reference,
                          FILE *f)
{
    /* Of whole FFNs only the uniform rows are fitted: what the others drew is not known. */
    const char *which = g->law != DATA_FFN ? "" : reference ? ", uniform" : ", power law";

    fprintf(f, "| %s | %s | %s%s | %s | %zu | %.1f%% | %.1f%% | %.1f%% | %+.1f%% | %zu |\n",
            base_name(a->set->path), a->profile, data_law_name(g->law), which,
            a->is_fitted && reference ? "in sample" : "no", g->err.n, 100 * g->err.median_ape,
            100 * g->err.p90_ape, 100 * g->err.max_ape, 100 * g->err.bias, g->outside);
}

int accuracy_report_markdown(struct accuracy *const *all, size_t num, FILE *f)
{
    struct accuracy_group g;
    int rc = 0;

    fputs("| data | profile | law | fitted to these rows | rows | median | p90 | max | bias | "
          "outside fitted range |\n"
          "|---|---|---|---|---:|---:|---:|---:|---:|---:|\n",
          f);
    for (size_t i = 0; i < num; i++)
        for (int j = 0; j < 2 * all[i]->num_laws && rc == 0; j++) {
            rc = accuracy_split(all[i], all[i]->law[j / 2].law, j % 2 == 0, &g);
            if (rc == 0 && g.err.n > 0)
                markdown_line(all[i], &g, j % 2 == 0, f);
        }
    return rc;
}

struct layer {
    const char *file, *schedule;
    int tokens, num_rounds, sms;
    double measured_us, predicted_us, off_pct, measured_gain_pct, predicted_gain_pct;
};

#define LAYER(name, text, kind, columns, ...)                                                      \
    {                                                                                              \
        .key = #name, .head = text, .type = kind, .offset = offsetof(struct layer, name),          \
        .width = columns, .views = RECORD_ALL, __VA_ARGS__                                         \
    }
#define GAIN .digits = 1, .plus = true, .unit = "%"
static const struct record_column layer_columns[] = {
    {.key = "file",
     .type = RECORD_WORDS,
     .offset = offsetof(struct layer, file),
     .views = RECORD_DATA},
    LAYER(schedule, "schedule", RECORD_WORDS, -18, .plus = false),
    LAYER(tokens, "tokens", RECORD_INT, 6, .plus = false),
    LAYER(num_rounds, "rounds", RECORD_INT, 6, .plus = false),
    LAYER(sms, "SMs", RECORD_INT, 5, .plus = false),
    LAYER(measured_us, "measured", RECORD_REAL, 10, .digits = 1),
    LAYER(predicted_us, "predicted", RECORD_REAL, 10, .digits = 1, .none = "-"),
    LAYER(off_pct, "off", RECORD_REAL, 7, GAIN),
    LAYER(measured_gain_pct, "gain", RECORD_REAL, 9, GAIN),
    LAYER(predicted_gain_pct, "predicted", RECORD_REAL, 9, GAIN),
};
static const struct record_table layer_table = {.key = "results",
                                                .views = RECORD_ALL,
                                                .column = layer_columns,
                                                .num_columns =
                                                    sizeof layer_columns / sizeof *layer_columns};

static void layer_write(const struct layers_row *l, const char *path, struct record *r)
{
    bool gains = l->overlaps && !isnan(l->predicted_us);
    const struct layer row = {.file = path,
                              .schedule = l->schedule,
                              .tokens = l->tokens,
                              .num_rounds = l->num_rounds,
                              .sms = l->sms,
                              .measured_us = l->measured_us,
                              .predicted_us = l->predicted_us,
                              .off_pct = 100 * (l->predicted_us / l->measured_us - 1),
                              .measured_gain_pct = gains ? l->measured_gain_pct : NAN,
                              .predicted_gain_pct = gains ? l->predicted_gain_pct : NAN};

    record_row(r, &row);
}

static json_t *layers_json(const struct layers *l, const char *path)
{
    return json_pack("{s:s, s:I, s:f, s:f, s:f, s:i, s:i, s:i}", "file", path, "n",
                     (json_int_t)l->err.n, "median_ape", round_share(l->err.median_ape), "p90_ape",
                     round_share(l->err.p90_ape), "max_ape", round_share(l->err.max_ape),
                     "schedules", l->schedules, "false_gains", l->false_gains, "false_losses",
                     l->false_losses);
}

void layers_report(const struct layers *all, const char *const *path, size_t num,
                   const char *profile, struct record *r)
{
    bool people = record_is_for(r, RECORD_PEOPLE);
    json_t *files = json_array();

    record_member_text(r, "version", PEOSIM_VERSION);
    record_member_text(r, "profile", profile);
    for (size_t i = 0; i < num; i++) {
        const struct layers *l = &all[i];

        if (people)
            record_table_end(r);
        record_note(r, "%s, profile %s: whole layers, none of them fitted\n", path[i], profile);
        if (people || i == 0)
            record_table(r, &layer_table);
        for (size_t j = 0; j < l->num; j++)
            layer_write(&l->rows[j], path[i], r);
        record_note(r,
                    "  %zu layers: median %.1f%%, p90 %.1f%%, largest %.1f%%; of %d schedules that "
                    "overlap %d false gains, %d false losses\n",
                    l->err.n, 100 * l->err.median_ape, 100 * l->err.p90_ape, 100 * l->err.max_ape,
                    l->schedules, l->false_gains, l->false_losses);
        json_array_append_new(files, layers_json(l, path[i]));
    }
    record_table_end(r);
    record_member(r, "files", files);
}
