#include "report/recommend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/version.h"
#include "hw/profile.h"
#include "report/bars.h"
#include "report/engine.h"
#include "report/points.h"
#include "report/report.h"

static struct grid_point point_of(const struct recommend *r, const struct recommend_pick *p)
{
    return (struct grid_point){.scenario = p->scenario,
                               .policy = r->config->policies[p->best].policy,
                               .entry = p->best,
                               .knobs = p->entry[p->best].knobs,
                               .ev = p->entry[p->best].ev};
}

static void interval_words(const struct recommend_pick *p, char *buf, size_t size)
{
    snprintf(buf, size, "%s", "");
    if (p->has_interval)
        snprintf(buf, size, "[%+.1f, %+.1f]", p->gain_low_pct, p->gain_high_pct);
}

/* "num_rounds 2..4 of 2..4, num_sms 8..12 of 4..36" */
static void flat_words(const struct search_result *s, char *buf, size_t size)
{
    size_t at = 0;

    buf[0] = '\0';
    for (int i = 0; i < s->num_flat && at < size; i++) {
        const struct search_flat *f = &s->flat[i];

        at += (size_t)snprintf(buf + at, size - at, "%s%s %d..%d of %d..%d", i ? ", " : "",
                               f->opt->key, f->low, f->high, f->range_low, f->range_high);
    }
}

/* The widest first column. */
static int words_width(const struct recommend *r)
{
    size_t most = 8;

    for (size_t i = 0; i < r->num_picks; i++) {
        char words[256];

        report_scenario_words(r->config, i, words, sizeof words);
        most = strlen(words) > most ? strlen(words) : most;
    }
    return (int)most;
}

/* A scenario's answer, as every format has it. */
struct row {
    char words[256], name[24], interval[48], knobs_text[256];
    double none_us, layer_us, gain_pct; /* NAN: nothing to say */
    bool enable;
    json_t *knobs, *flat, *gain_interval; /* the last may be NULL */
    char *settings;
};

#define AT(field) .offset = offsetof(struct row, field)
static const struct record_column columns[] = {
    {.key = "scenario", .head = "", AT(words), .width = -8, .views = RECORD_ALL},
    {.key = "policy", .head = "policy", AT(name), .width = -6, .views = RECORD_ALL},
    {.key = "enable", .type = RECORD_BOOL, AT(enable), .views = RECORD_NESTED},
    {.head = "none us",
     .type = RECORD_REAL,
     AT(none_us),
     .width = 9,
     .digits = 1,
     .views = RECORD_PEOPLE},
    {.key = "layer_us",
     .head = "layer us",
     .type = RECORD_REAL,
     AT(layer_us),
     .width = 9,
     .digits = 1,
     .views = RECORD_ALL},
    {.key = "none_us", .type = RECORD_REAL, AT(none_us), .views = RECORD_NESTED},
    {.key = "gain_pct",
     .head = "gain",
     .type = RECORD_REAL,
     AT(gain_pct),
     .width = 8,
     .digits = 1,
     .plus = true,
     .unit = "%",
     .views = RECORD_ALL},
    {.key = "knobs", .type = RECORD_OBJECT, AT(knobs), .views = RECORD_NESTED},
    {.key = "within_2_pct", .type = RECORD_OBJECT, AT(flat), .views = RECORD_NESTED},
    {.key = "gain_interval_pct", .type = RECORD_OBJECT, AT(gain_interval), .views = RECORD_NESTED},
    {.head = "90% interval", AT(interval), .width = -17, .views = RECORD_PEOPLE},
    {.head = "knobs", AT(knobs_text), .views = RECORD_PEOPLE},
    {.key = "settings", .type = RECORD_WORDS, AT(settings), .views = RECORD_NESTED},
};
enum { NUM_COLUMNS = sizeof columns / sizeof *columns, INTERVAL_COLUMN = NUM_COLUMNS - 3 };

static void pick_write(const struct recommend *r, const struct recommend_pick *p, int width,
                       struct record *out)
{
    struct grid_point point = point_of(r, p);
    const struct evaluation *ev = &point.ev;
    struct row row = {.none_us = ev->none_us, .layer_us = NAN, .gain_pct = NAN};
    char name[24], interval[48], flat[256];

    grid_point_name(&point, name, sizeof name);
    report_scenario_words(r->config, p->scenario, row.words, sizeof row.words);
    interval_words(p, interval, sizeof interval);
    flat_words(&p->entry[p->best], flat, sizeof flat);
    if (recommend_pays(p)) {
        row.layer_us = ev->layer_us;
        row.gain_pct = ev->gain_pct;
        memcpy(row.name, name, sizeof row.name);
        memcpy(row.interval, interval, sizeof row.interval);
        report_knob_words(&point, row.knobs_text, sizeof row.knobs_text);
        record_row(out, &row);
        if (*flat)
            record_note(out, "  %-*s within 2%%: %s\n", width, "", flat);
    } else {
        snprintf(row.name, sizeof row.name, "none");
        snprintf(row.knobs_text, sizeof row.knobs_text, "do not enable overlap here");
        record_row(out, &row);
        record_note(out, "  %-*s the nearest is %s, %.1f us (%+.1f%%%s%s)\n", width, "", name,
                    ev->layer_us, ev->gain_pct, *interval ? " " : "", interval);
    }
    if (recommend_pays(p) && p->has_interval && p->gain_low_pct <= 0)
        record_note(out, "  %-*s the interval holds zero: measure before you enable it\n", width,
                    "");
}

/* Scenarios that have the same winner with the same knobs get their settings once. */
static bool settings_seen(const struct recommend *r, size_t index)
{
    struct grid_point a = point_of(r, &r->pick[index]);

    for (size_t i = 0; i < index; i++) {
        struct grid_point b;

        if (!recommend_pays(&r->pick[i]))
            continue;
        b = point_of(r, &r->pick[i]);
        if (a.policy == b.policy && a.ev.num_sms == b.ev.num_sms &&
            !memcmp(&a.knobs, &b.knobs, sizeof a.knobs))
            return true;
    }
    return false;
}

static int place_print(const struct grid_point *point, const struct scenario *s, const char *indent,
                       FILE *f)
{
    struct hw_profile *profile;
    struct policy_place place = {.num_sms = point->ev.num_sms,
                                 .decode = s->phase == PHASE_OF_DECODE};
    int err = hw_profile_read(s->profile, &profile);

    if (err)
        return err;
    place.blackwell = hw_value(profile, HW_GPU_ARCH) >= 100;
    hw_profile_free(profile);
    return engine_settings_print(point->policy, &point->knobs, &place, indent, f);
}

static int settings_print(const struct recommend *r, FILE *f)
{
    bool any = false;
    int err = 0;

    for (size_t i = 0; i < r->num_picks && !err; i++) {
        struct grid_point point;
        struct scenario s;
        char name[24], knobs[256];

        if (!recommend_pays(&r->pick[i]) || settings_seen(r, i))
            continue;
        point = point_of(r, &r->pick[i]);
        grid_point_name(&point, name, sizeof name);
        report_knob_words(&point, knobs, sizeof knobs);
        err = config_scenario(r->config, i, &s);
        if (err)
            break;
        fprintf(f, "%s  %s%s%s\n", any ? "" : "settings\n", name, *knobs ? ", " : "", knobs);
        any = true;
        err = place_print(&point, &s, "    ", f);
        scenario_free(&s);
    }
    return err;
}

/* The keys that the file varies, but for the batch. */
static void other_words(const struct config *c, size_t scenario, char *buf, size_t size)
{
    size_t at = 0;

    buf[0] = '\0';
    for (int i = c->num_axes - 1; i >= 0 && at < size; i--) {
        const struct axis *a = &c->axes[i];
        const char *value = a->values[scenario % (size_t)a->num_values];

        scenario /= (size_t)a->num_values;
        if (a->num_values > 1 && strcmp(a->opt->key, "batch"))
            at += (size_t)snprintf(buf + at, size - at, "%s%s %s", at ? ", " : "", a->opt->key,
                                   value);
    }
}

static void turns_print(const struct recommend *r, FILE *f)
{
    bool pays = false, loses = false;

    for (size_t i = 0; i < r->num_picks; i++) {
        pays |= recommend_pays(&r->pick[i]);
        loses |= !recommend_pays(&r->pick[i]);
    }
    for (size_t i = 0; i < r->num_turns; i++) {
        const struct recommend_turn *t = &r->turn[i];
        char words[256];

        other_words(r->config, t->scenario, words, sizeof words);
        fprintf(f,
                "break-even: %s%soverlap %s batch %d%s (simulated between the listed %d and %d)\n",
                words, *words ? ": " : "", t->pays_above ? "pays from" : "ceases to pay at",
                t->batch, t->pays_above ? " on" : "", t->low_batch, t->high_batch);
    }
    if (!loses)
        fprintf(f, "break-even: overlap pays at every point listed\n");
    if (!pays)
        fprintf(f, "no policy listed beats none anywhere: do not enable overlap here\n");
}

/* An interval says nothing of fields that no data stand behind: how much rests on them. */
static void assumed_print(const struct recommend *r, FILE *f)
{
    double share = 0, n = 0;

    for (size_t i = 0; i < r->num_picks; i++)
        if (r->pick[i].best >= 0) {
            struct grid_point p = point_of(r, &r->pick[i]);

            share += p.ev.assumed_share;
            n++;
        }
    if (n > 0 && share > 0)
        fprintf(f,
                "%.0f%% of the winners' op time rests on profile fields without data of their own: "
                "measure before you rely on small differences\n",
                100 * share / n);
}

static int notes_print(const struct recommend *r, FILE *f)
{
    int err;

    turns_print(r, f);
    err = settings_print(r, f);
    if (r->partly)
        fprintf(
            f,
            "pattern search from several starts: %zu of the grid's %.0f points simulated; one that "
            "was not tried may be faster\n",
            r->simulations, r->grid);
    else
        fprintf(f, "the whole grid was simulated: %.0f points, %zu of them can run\n", r->grid,
                r->simulations);
    if (r->draws > 0 && r->certain)
        fprintf(f, "no interval: the profile's fields carry no standard errors\n");
    else if (r->draws > 0)
        fprintf(
            f,
            "interval: 5%% to 95%% of %d profiles drawn from the fits' covariance; fields without "
            "data and the model's own error are not in it\n",
            r->draws);
    assumed_print(r, f);
    return err;
}

static int people_write(const struct recommend *r, struct record *out)
{
    struct record_column own[NUM_COLUMNS];
    const struct record_table table = {"results", RECORD_PEOPLE, own, NUM_COLUMNS};
    int width = words_width(r), err;
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return ERR_NOMEM;
    memcpy(own, columns, sizeof columns);
    own[0].width = -width;
    own[INTERVAL_COLUMN].head = r->certain ? "" : own[INTERVAL_COLUMN].head;
    record_table(out, &table);
    for (size_t i = 0; i < r->num_picks; i++)
        if (r->pick[i].best >= 0)
            pick_write(r, &r->pick[i], width, out);
    record_table_end(out);
    err = notes_print(r, f);
    fclose(f);
    record_note(out, "%s", text);
    free(text);
    return err;
}

static json_t *flat_json(const struct search_result *s)
{
    json_t *out = json_object();

    for (int i = 0; i < s->num_flat; i++)
        json_object_set_new(out, s->flat[i].opt->key,
                            json_pack("{s:i,s:i,s:i}", "best", s->flat[i].best, "low",
                                      s->flat[i].low, "high", s->flat[i].high));
    return out;
}

/* What place_print says, as text; the caller frees. */
static char *settings_text(const struct recommend *r, const struct recommend_pick *p,
                           const struct grid_point *point)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    struct scenario s;

    if (!f)
        return NULL;
    if (!config_scenario(r->config, p->scenario, &s)) {
        place_print(point, &s, "", f);
        scenario_free(&s);
    }
    fclose(f);
    return text;
}

static void pick_nested(const struct recommend *r, const struct recommend_pick *p,
                        struct record *out)
{
    struct grid_point point = point_of(r, p);
    struct row row = {.none_us = point.ev.none_us,
                      .layer_us = point.ev.layer_us,
                      .gain_pct = point.ev.gain_pct,
                      .enable = recommend_pays(p),
                      .knobs = json_object(),
                      .flat = flat_json(&p->entry[p->best]),
                      .settings = settings_text(r, p, &point)};

    grid_point_name(&point, row.name, sizeof row.name);
    report_scenario_words(r->config, p->scenario, row.words, sizeof row.words);
    report_knobs_json(&point, row.knobs);
    if (p->has_interval)
        row.gain_interval = json_pack("[f,f]", p->gain_low_pct, p->gain_high_pct);
    record_row(out, &row);
    json_decref(row.knobs);
    json_decref(row.flat);
    json_decref(row.gain_interval);
    free(row.settings);
}

static void nested_write(const struct recommend *r, struct record *out)
{
    static const struct record_table table = {"results", RECORD_NESTED, columns, NUM_COLUMNS};
    json_t *turns = json_array();

    for (size_t i = 0; i < r->num_turns; i++)
        json_array_append_new(turns, json_pack("{s:i,s:b}", "batch", r->turn[i].batch, "pays_above",
                                               r->turn[i].pays_above));
    record_member(out, "simulations", json_integer((json_int_t)r->simulations));
    record_member(out, "grid_points", json_real(r->grid));
    record_member(out, "break_even", turns);
    record_table(out, &table);
    for (size_t i = 0; i < r->num_picks; i++)
        if (r->pick[i].best >= 0)
            pick_nested(r, &r->pick[i], out);
    record_table_end(out);
}

static void flat_write(const struct recommend *r, struct record *out)
{
    struct grid_point *points = calloc(r->num_picks + 1, sizeof *points);
    size_t n = 0;

    for (size_t i = 0; points && i < r->num_picks; i++)
        if (r->pick[i].best >= 0)
            points[n++] = point_of(r, &r->pick[i]);
    if (points)
        report_points(r->config, points, n, out);
    free(points);
}

int recommend_report(const struct recommend *r, struct record *out)
{
    record_member_text(out, "version", PEOSIM_VERSION);
    record_member_text(out, "config", r->config->path);
    record_member_text(out, "config_hash", r->config->hash);
    if (record_is_for(out, RECORD_NESTED))
        nested_write(r, out);
    if (record_is_for(out, RECORD_FLAT))
        flat_write(r, out);
    if (!record_is_for(out, RECORD_PEOPLE))
        return 0;
    report_title(r->config, out);
    return people_write(r, out);
}

enum { BARS_MAX = 32 };

int recommend_report_bars(const struct recommend *r, const char *folder, bool draw)
{
    struct bar bars[BARS_MAX];
    int n = 0;

    for (size_t i = 0; i < r->num_picks && n < BARS_MAX; i++) {
        const struct recommend_pick *p = &r->pick[i];
        struct grid_point point = point_of(r, p);
        char name[24], words[64];

        if (p->best < 0)
            continue;
        grid_point_name(&point, name, sizeof name);
        report_scenario_words(r->config, p->scenario, words, sizeof words);
        snprintf(bars[n].label, sizeof bars[n].label, "%s%s%s", words, *words ? ": " : "", name);
        bars[n].value = point.ev.gain_pct;
        bars[n].low = p->has_interval ? p->gain_low_pct : point.ev.gain_pct;
        bars[n].high = p->has_interval ? p->gain_high_pct : point.ev.gain_pct;
        n++;
    }
    return bars_write(folder, draw, "recommend", "gain of the best policy over no overlap",
                      "gain over no overlap (%)", bars, n);
}
