#include "report/recommend.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/version.h"
#include "hw/profile.h"
#include "report/bars.h"
#include "report/engine.h"
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

static void pick_print(const struct recommend *r, const struct recommend_pick *p, int width,
                       FILE *f)
{
    struct grid_point point = point_of(r, p);
    const struct evaluation *ev = &point.ev;
    char name[24], knobs[256], words[256], interval[48], flat[256];

    grid_point_name(&point, name, sizeof name);
    report_knob_words(&point, knobs, sizeof knobs);
    report_scenario_words(r->config, p->scenario, words, sizeof words);
    interval_words(p, interval, sizeof interval);
    flat_words(&p->entry[p->best], flat, sizeof flat);
    if (recommend_pays(p)) {
        fprintf(f, "  %-*s %-6s %9.1f %9.1f %+7.1f%% %-17s %s\n", width, words, name, ev->none_us,
                ev->layer_us, ev->gain_pct, interval, knobs);
        if (*flat)
            fprintf(f, "  %-*s within 2%%: %s\n", width, "", flat);
    } else {
        fprintf(f, "  %-*s none   %9.1f %9s %8s %-17s do not enable overlap here\n", width, words,
                ev->none_us, "", "", "");
        fprintf(f, "  %-*s the nearest is %s, %.1f us (%+.1f%%%s%s)\n", width, "", name,
                ev->layer_us, ev->gain_pct, *interval ? " " : "", interval);
    }
    if (recommend_pays(p) && p->has_interval && p->gain_low_pct <= 0)
        fprintf(f, "  %-*s the interval holds zero: measure before you enable it\n", width, "");
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

int recommend_report_table(const struct recommend *r, FILE *f)
{
    int width = words_width(r), err;

    report_head(r->config, f);
    fprintf(f, "  %-*s %-6s %9s %9s %8s %-17s %s\n", width, "", "policy", "none us", "layer us",
            "gain", r->certain ? "" : "90% interval", "knobs");
    for (size_t i = 0; i < r->num_picks; i++)
        if (r->pick[i].best >= 0)
            pick_print(r, &r->pick[i], width, f);
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

static json_t *flat_json(const struct search_result *s)
{
    json_t *out = json_object();

    for (int i = 0; i < s->num_flat; i++)
        json_object_set_new(out, s->flat[i].opt->key,
                            json_pack("{s:i,s:i,s:i}", "best", s->flat[i].best, "low",
                                      s->flat[i].low, "high", s->flat[i].high));
    return out;
}

static json_t *pick_json(const struct recommend *r, const struct recommend_pick *p)
{
    struct grid_point point = point_of(r, p);
    char name[24], words[256], *settings = NULL;
    size_t len;
    json_t *knobs = json_object(), *j;
    FILE *f = open_memstream(&settings, &len);
    struct scenario s;

    grid_point_name(&point, name, sizeof name);
    report_scenario_words(r->config, p->scenario, words, sizeof words);
    report_knobs_json(&point, knobs);
    j = json_pack("{s:s,s:s,s:b,s:b,s:f,s:f,s:f,s:o,s:o}", "scenario", words, "policy", name,
                  "enable", recommend_pays(p), "exact", p->exact, "layer_us", point.ev.layer_us,
                  "none_us", point.ev.none_us, "gain_pct", point.ev.gain_pct, "knobs", knobs,
                  "within_2_pct", flat_json(&p->entry[p->best]));
    if (p->has_interval)
        json_object_set_new(j, "gain_interval_pct",
                            json_pack("[f,f]", p->gain_low_pct, p->gain_high_pct));
    if (f) {
        if (!config_scenario(r->config, p->scenario, &s)) {
            place_print(&point, &s, "", f);
            scenario_free(&s);
        }
        fclose(f);
        json_object_set_new(j, "settings", json_string(settings));
    }
    free(settings);
    return j;
}

int recommend_report_json(const struct recommend *r, FILE *f)
{
    json_t *results = json_array(), *turns = json_array(), *root;
    char *text;

    for (size_t i = 0; i < r->num_picks; i++)
        if (r->pick[i].best >= 0)
            json_array_append_new(results, pick_json(r, &r->pick[i]));
    for (size_t i = 0; i < r->num_turns; i++)
        json_array_append_new(turns, json_pack("{s:i,s:b}", "batch", r->turn[i].batch, "pays_above",
                                               r->turn[i].pays_above));
    root = json_pack("{s:s,s:s,s:s,s:I,s:f,s:o,s:o}", "version", PEOSIM_VERSION, "config",
                     r->config->path, "config_hash", r->config->hash, "simulations",
                     (json_int_t)r->simulations, "grid_points", r->grid, "break_even", turns,
                     "results", results);
    text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    if (text)
        fprintf(f, "%s\n", text);
    free(text);
    json_decref(root);
    return text ? 0 : ERR_NOMEM;
}

void recommend_report_csv(const struct recommend *r, FILE *f)
{
    report_csv_head(r->config, f);
    for (size_t i = 0; i < r->num_picks; i++)
        if (r->pick[i].best >= 0) {
            struct grid_point p = point_of(r, &r->pick[i]);

            report_csv_row(r->config, &p, NULL, f);
        }
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
