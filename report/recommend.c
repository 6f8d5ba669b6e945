#include "report/op_basis.h"
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

/* Entries that can run, the fastest first; returns how many. */
enum { ENTRIES_MAX = 32 };
static int entries_order(const struct recommend *r, const struct recommend_pick *p,
                         int order[ENTRIES_MAX])
{
    int n = 0;

    for (int i = 0; i < r->config->num_policies && n < ENTRIES_MAX; i++) {
        int at = n;

        if (!p->entry[i].found)
            continue;
        for (; at > 0 && p->entry[order[at - 1]].ev.layer_us > p->entry[i].ev.layer_us; at--)
            order[at] = order[at - 1];
        order[at] = i;
        n++;
    }
    return n;
}

static struct grid_point entry_point(const struct recommend *r, const struct recommend_pick *p,
                                     int i)
{
    return (struct grid_point){.scenario = p->scenario,
                               .policy = r->config->policies[i].policy,
                               .entry = i,
                               .knobs = p->entry[i].knobs,
                               .ev = p->entry[i].ev};
}

static int place_of(const struct recommend *r, const struct recommend_pick *p,
                    struct policy_place *out)
{
    struct hw_profile *profile;
    struct scenario s;
    int err = config_scenario(r->config, p->scenario, &s);

    if (err)
        return err;
    *out = (struct policy_place){.num_sms = p->entry[p->best].ev.num_sms,
                                 .decode = s.phase == PHASE_OF_DECODE,
                                 .comm = s.comm                       ? (enum plan_comm)(s.comm - 1)
                                         : s.phase == PHASE_OF_DECODE ? COMM_LOW_LATENCY
                                                                      : COMM_NORMAL};
    err = hw_profile_read(s.profile, &profile);
    scenario_free(&s);
    if (err)
        return err;
    out->blackwell = hw_value(profile, HW_GPU_ARCH) >= 100;
    hw_profile_free(profile);
    return 0;
}

/* "SGLang", "vLLM": what begins a line of settings; false where it is no name ("no engine has
 * ...").
 */
static bool engine_word(const char *line, char *buf, size_t size)
{
    int n = (int)strcspn(line, " (:\n");

    snprintf(buf, size, "%.*s", n, line);
    return strpbrk(buf, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != NULL;
}

/* " (open)", " (closed)": a pull request that the engine itself does not hold; "" else. */
static const char *status_word(const char *line)
{
    if (strstr(line, "merged"))
        return "";
    return strstr(line, ", open)") ? " (open)" : strstr(line, ", closed") ? " (closed)" : "";
}

/* "SGLang sbo +7.4%, DeepEP peo 3 +6.5% (open)": of each engine the best policy that it has; behind
 * one that only a pull request holds, the best that the engine itself has. */
static int engines_words(const struct recommend *r, const struct recommend_pick *p, char *buf,
                         size_t size)
{
    int order[ENTRIES_MAX], n = entries_order(r, p, order);
    char seen[512] = " ", word[48], name[24];
    struct policy_place place;
    size_t at = 0;
    int err = place_of(r, p, &place);

    buf[0] = '\0';
    for (int i = 0; i < n && !err; i++) {
        struct grid_point q = entry_point(r, p, order[i]);
        char *text = NULL, *line, *rest;
        size_t len;
        FILE *f = open_memstream(&text, &len);

        if (!f)
            return ERR_NOMEM;
        err = engine_settings_print(q.policy, &q.knobs, &place, "", f);
        fclose(f);
        grid_point_name(&q, name, sizeof name);
        for (rest = text; (line = strsep(&rest, "\n")) != NULL && at < size;) {
            char own[64], mark[64];
            const char *status = status_word(line);

            if (!engine_word(line, word, sizeof word))
                continue;
            snprintf(own, sizeof own, " %s ", word);
            snprintf(mark, sizeof mark, " %s%s ", word, *status ? "?" : "");
            if (strstr(seen, own) || strstr(seen, mark) ||
                strlen(seen) + strlen(mark) >= sizeof seen)
                continue;
            strcat(seen, mark + 1);
            at += (size_t)snprintf(buf + at, size - at, "%s%s %s %+.1f%%%s", at ? ", " : "", word,
                                   q.ev.gain_pct > 0 ? name : "none",
                                   q.ev.gain_pct > 0 ? q.ev.gain_pct : 0.0,
                                   q.ev.gain_pct > 0 ? status : "");
        }
        free(text);
    }
    return err;
}

static void interval_words(const struct recommend_pick *p, char *buf, size_t size)
{
    snprintf(buf, size, "%s", "");
    if (p->has_interval)
        snprintf(buf, size, "[%+.1f, %+.1f]", p->gain_low_pct, p->gain_high_pct);
}

/* The best stands at an end of what was searched, and the knob could be beyond it. */
static bool at_edge(const struct search_flat *f)
{
    return f->range_low < f->range_high &&
           ((f->best == f->range_low && f->best > (int)f->opt->min) ||
            (f->best == f->range_high && f->best < (int)f->opt->max));
}

/* "num_rounds 2..4 of 2..4, num_sms 8..12 of 4..36" */
static void flat_words(const struct search_result *s, char *buf, size_t size)
{
    size_t at = 0;

    buf[0] = '\0';
    for (int i = 0; i < s->num_flat && at < size; i++) {
        const struct search_flat *f = &s->flat[i];

        at += (size_t)snprintf(buf + at, size - at, "%s%s %d..%d of %d..%d%s", i ? ", " : "",
                               f->opt->key, f->low, f->high, f->range_low, f->range_high,
                               at_edge(f) ? " (the best is at the edge)" : "");
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
    double none_us, layer_us, gain_pct, moe_us, moe_gain_pct; /* NAN: nothing to say */
    double within_pct, lower_bound_us;
    const char *bound_by;
    bool enable, exact;
    json_t *knobs, *flat, *gain_interval, *others; /* an interval may be NULL */
    char *settings;
};

#define AT(field) .offset = offsetof(struct row, field)
static const struct record_column columns[] = {
    {.key = "scenario", .head = "", AT(words), .width = -8, .views = RECORD_ALL},
    {.key = "policy", .head = "policy", AT(name), .width = -6, .views = RECORD_ALL},
    {.key = "enable", .type = RECORD_BOOL, AT(enable), .views = RECORD_NESTED},
    {.key = "exact", .type = RECORD_BOOL, AT(exact), .views = RECORD_NESTED},
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
    {.head = "MoE us",
     .type = RECORD_REAL,
     AT(moe_us),
     .width = 9,
     .digits = 1,
     .none = "-",
     .views = RECORD_PEOPLE},
    {.head = "MoE gain",
     .type = RECORD_REAL,
     AT(moe_gain_pct),
     .width = 8,
     .digits = 1,
     .plus = true,
     .unit = "%",
     .none = "-",
     .views = RECORD_PEOPLE},
    {.head = "within",
     .type = RECORD_REAL,
     AT(within_pct),
     .width = 7,
     .digits = 1,
     .unit = "%",
     .none = "-",
     .views = RECORD_PEOPLE},
    {.key = "lower_bound_us", .type = RECORD_REAL, AT(lower_bound_us), .views = RECORD_NESTED},
    {.key = "bound_by", .type = RECORD_WORDS, AT(bound_by), .views = RECORD_NESTED},
    {.head = "knobs", .wide = true, AT(knobs_text), .views = RECORD_PEOPLE},
    {.key = "settings", .type = RECORD_WORDS, AT(settings), .views = RECORD_NESTED},
    {.key = "moe_us", .type = RECORD_REAL, AT(moe_us), .views = RECORD_NESTED},
    {.key = "moe_gain_pct", .type = RECORD_REAL, AT(moe_gain_pct), .views = RECORD_NESTED},
    {.key = "others", .type = RECORD_OBJECT, AT(others), .views = RECORD_NESTED},
};
enum { NUM_COLUMNS = sizeof columns / sizeof *columns, INTERVAL_COLUMN = 10 };

/* What comes behind the best, each with its own best knobs, and the best of each engine. */
static void others_print(const struct recommend *r, const struct recommend_pick *p, int width,
                         struct record *out)
{
    int order[ENTRIES_MAX], n = entries_order(r, p, order);
    double best_us = p->entry[p->best].ev.layer_us;
    char engines[512], name[24], knobs[256];

    for (int i = 1; i < n; i++) {
        struct grid_point q = entry_point(r, p, order[i]);

        grid_point_name(&q, name, sizeof name);
        report_knob_words(&q, knobs, sizeof knobs);
        record_note(out, "  %-*s %s %s %.1f us, %.1f%% slower (%+.1f%% against none) %s\n", width,
                    "", i == 1 ? "then" : "    ", name, q.ev.layer_us,
                    100 * (q.ev.layer_us / best_us - 1), q.ev.gain_pct, knobs);
    }
    if (!engines_words(r, p, engines, sizeof engines) && *engines)
        record_note(out, "  %-*s per engine: %s\n", width, "", engines);
}

static void bound_fill(const struct recommend_pick *p, double layer_us, struct row *row)
{
    const struct bound *b = &p->entry[p->best].bound;

    row->within_pct = bound_gap_pct(b, layer_us);
    row->lower_bound_us = b->us > 0 ? b->us : NAN;
    row->bound_by = bound_by_name(b->by);
}

static void moe_fill(const struct evaluation *ev, struct row *row)
{
    row->moe_us = ev->moe_us > 0 ? ev->moe_us : NAN;
    row->moe_gain_pct = ev->moe_us > 0 ? ev->moe_gain_pct : NAN;
}

static void pick_write(const struct recommend *r, const struct recommend_pick *p, int width,
                       struct record *out)
{
    struct grid_point point = point_of(r, p);
    const struct evaluation *ev = &point.ev;
    struct row row = {.none_us = ev->none_us,
                      .layer_us = NAN,
                      .gain_pct = NAN,
                      .moe_us = NAN,
                      .moe_gain_pct = NAN};
    char name[24], interval[48], flat[320];

    bound_fill(p, recommend_pays(p) ? ev->layer_us : ev->none_us, &row);
    grid_point_name(&point, name, sizeof name);
    report_scenario_words(r->config, p->scenario, row.words, sizeof row.words);
    interval_words(p, interval, sizeof interval);
    flat_words(&p->entry[p->best], flat, sizeof flat);
    if (recommend_pays(p)) {
        row.layer_us = ev->layer_us;
        row.gain_pct = ev->gain_pct;
        moe_fill(ev, &row);
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
    others_print(r, p, width, out);
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

static int settings_print(const struct recommend *r, FILE *f)
{
    bool any = false;
    int err = 0;

    for (size_t i = 0; i < r->num_picks && !err; i++) {
        struct grid_point point;
        struct policy_place place;
        char name[24], knobs[256];

        if (!recommend_pays(&r->pick[i]) || settings_seen(r, i))
            continue;
        point = point_of(r, &r->pick[i]);
        grid_point_name(&point, name, sizeof name);
        report_knob_words(&point, knobs, sizeof knobs);
        err = place_of(r, &r->pick[i], &place);
        if (err)
            break;
        fprintf(f, "%s  %s%s%s\n", any ? "" : "settings\n", name, *knobs ? ", " : "", knobs);
        any = true;
        err = engine_settings_print(point.policy, &point.knobs, &place, "    ", f);
        if (!err)
            err = engine_exchange_print(point.policy, &point.knobs, &place, "    ", f);
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

/* Of the first and the last point that has a winner. */
static int basis_of(const struct recommend *r, struct op_basis *out)
{
    const struct recommend_pick *first = NULL, *last = NULL;
    struct evaluator *e = NULL;
    int err = evaluator_open(&e);

    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < r->num_picks; i++)
        if (r->pick[i].best >= 0) {
            first = first ? first : &r->pick[i];
            last = &r->pick[i];
        }
    for (int i = 0; !err && first && i < (last != first ? 2 : 1); i++) {
        struct grid_point p = point_of(r, i ? last : first);

        err = op_basis_add(out, e, r->config, p.scenario, p.policy, &p.knobs);
    }
    evaluator_close(e);
    return err;
}

static void exact_print(const struct recommend *r, FILE *f)
{
    size_t exact = 0;

    for (size_t i = 0; i < r->num_picks; i++)
        exact += r->pick[i].exact;
    if (exact)
        fprintf(f,
                "%zu of %zu answers hung on less than %g%% of the baseline's time: decided by "
                "exact sharing\n",
                exact, r->num_picks, 100 * RECOMMEND_NEAR);
}

static int notes_print(const struct recommend *r, FILE *f)
{
    struct op_basis basis;
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
    exact_print(r, f);
    if (r->draws > 0)
        fprintf(f,
                "interval: 90%% of %d draws of the fits' covariance, of fields without data as far "
                "as such fields moved elsewhere, and of the laws' own error\n",
                r->draws);
    assumed_print(r, f);
    if (basis_of(r, &basis) == 0)
        op_basis_print(&basis, f);
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
    own[INTERVAL_COLUMN].head = r->draws > 0 ? own[INTERVAL_COLUMN].head : "";
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

static json_t *others_json(const struct recommend *r, const struct recommend_pick *p)
{
    int order[ENTRIES_MAX], n = entries_order(r, p, order);
    json_t *out = json_array();

    for (int i = 1; i < n; i++) {
        struct grid_point q = entry_point(r, p, order[i]);
        json_t *knobs = json_object(), *j;
        char name[24];

        grid_point_name(&q, name, sizeof name);
        report_knobs_json(&q, knobs);
        j = json_pack("{s:s,s:f,s:f,s:o}", "policy", name, "layer_us", q.ev.layer_us, "gain_pct",
                      q.ev.gain_pct, "knobs", knobs);
        report_moe_json(&q.ev, j);
        json_array_append_new(out, j);
    }
    return out;
}

/* What an engine is to be set to, where that pays; the caller frees. */
static char *settings_text(const struct recommend *r, const struct recommend_pick *p,
                           const struct grid_point *point)
{
    struct policy_place place;
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return NULL;
    if (recommend_pays(p) && !place_of(r, p, &place)) {
        engine_settings_print(point->policy, &point->knobs, &place, "", f);
        engine_exchange_print(point->policy, &point->knobs, &place, "", f);
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
                      .exact = p->exact,
                      .knobs = json_object(),
                      .flat = flat_json(&p->entry[p->best]),
                      .settings = settings_text(r, p, &point),
                      .others = others_json(r, p)};

    grid_point_name(&point, row.name, sizeof row.name);
    report_scenario_words(r->config, p->scenario, row.words, sizeof row.words);
    report_knobs_json(&point, row.knobs);
    moe_fill(&point.ev, &row);
    if (p->has_interval)
        row.gain_interval = json_pack("[f,f]", p->gain_low_pct, p->gain_high_pct);
    record_row(out, &row);
    json_decref(row.knobs);
    json_decref(row.flat);
    json_decref(row.gain_interval);
    json_decref(row.others);
    free(row.settings);
}

static void nested_write(const struct recommend *r, struct record *out)
{
    static const struct record_table table = {"results", RECORD_NESTED, columns, NUM_COLUMNS};
    json_t *turns = json_array();
    struct op_basis basis;

    for (size_t i = 0; i < r->num_turns; i++)
        json_array_append_new(turns, json_pack("{s:i,s:b}", "batch", r->turn[i].batch, "pays_above",
                                               r->turn[i].pays_above));
    if (basis_of(r, &basis) == 0)
        record_member(out, "laws", op_basis_json(&basis));
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
    record_member_text(out, "basis", report_basis_name(r->config));
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
