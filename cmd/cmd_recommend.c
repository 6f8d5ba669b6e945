/* peosim recommend: the best policy and knobs per batch size, how sure and how sharp, and what to
 * set in the engines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "report/op_basis.h"
#include "report/bars.h"
#include "cmd/cmd.h"
#include "hw/profile.h"
#include "report/engine.h"
#include "study/recommend.h"
#include "report/report.h"

struct flags {
    int draws;
};

const struct opt recommend_options[] = {
    {.key = "draws",
     .type = OPT_INT,
     .offset = offsetof(struct flags, draws),
     .min = 0,
     .max = 1000,
     .def = "20",
     .help = "profiles drawn from the fits' covariance for each interval; 0 = no intervals"},
    {.key = NULL},
};

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

static void pick_print(const struct recommend *r, const struct recommend_pick *p, int width)
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
        printf("  %-*s %-6s %9.1f %9.1f %+7.1f%% %-17s %s\n", width, words, name, ev->none_us,
               ev->layer_us, ev->gain_pct, interval, knobs);
        if (*flat)
            printf("  %-*s within 2%%: %s\n", width, "", flat);
    } else {
        printf("  %-*s none   %9.1f %9s %8s %-17s do not enable overlap here\n", width, words,
               ev->none_us, "", "", "");
        printf("  %-*s the nearest is %s, %.1f us (%+.1f%%%s%s)\n", width, "", name, ev->layer_us,
               ev->gain_pct, *interval ? " " : "", interval);
    }
    if (recommend_pays(p) && p->has_interval && p->gain_low_pct <= 0)
        printf("  %-*s the interval holds zero: measure before you enable it\n", width, "");
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

static int settings_print(const struct recommend *r)
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
        printf("%s  %s%s%s\n", any ? "" : "settings\n", name, *knobs ? ", " : "", knobs);
        any = true;
        err = place_print(&point, &s, "    ", stdout);
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

static void turns_print(const struct recommend *r)
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
        printf("break-even: %s%soverlap %s batch %d%s (simulated between the listed %d and %d)\n",
               words, *words ? ": " : "", t->pays_above ? "pays from" : "ceases to pay at",
               t->batch, t->pays_above ? " on" : "", t->low_batch, t->high_batch);
    }
    if (!loses)
        printf("break-even: overlap pays at every point listed\n");
    if (!pays)
        printf("no policy listed beats none anywhere: do not enable overlap here\n");
}

/* An interval says nothing of fields that no data stand behind: how much rests on them. */
static void assumed_print(const struct recommend *r)
{
    double share = 0, n = 0;

    for (size_t i = 0; i < r->num_picks; i++)
        if (r->pick[i].best >= 0) {
            struct grid_point p = point_of(r, &r->pick[i]);

            share += p.ev.assumed_share;
            n++;
        }
    if (n > 0 && share > 0)
        printf("%.0f%% of the winners' op time rests on profile fields without data of their own: "
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

static int table_print(const struct recommend *r)
{
    int width = words_width(r), err;
    struct op_basis basis;

    report_head(r->config, stdout);
    printf("  %-*s %-6s %9s %9s %8s %-17s %s\n", width, "", "policy", "none us", "layer us", "gain",
           r->certain ? "" : "90% interval", "knobs");
    for (size_t i = 0; i < r->num_picks; i++)
        if (r->pick[i].best >= 0)
            pick_print(r, &r->pick[i], width);
    turns_print(r);
    err = settings_print(r);
    if (r->partly)
        printf(
            "pattern search from several starts: %zu of the grid's %.0f points simulated; one that "
            "was not tried may be faster\n",
            r->simulations, r->grid);
    else
        printf("the whole grid was simulated: %.0f points, %zu of them can run\n", r->grid,
               r->simulations);
    if (r->draws > 0 && r->certain)
        printf("no interval: the profile's fields carry no standard errors\n");
    else if (r->draws > 0)
        printf(
            "interval: 5%% to 95%% of %d profiles drawn from the fits' covariance; fields without "
            "data and the model's own error are not in it\n",
            r->draws);
    assumed_print(r);
    if (basis_of(r, &basis) == 0)
        op_basis_print(&basis, stdout);
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
    j = json_pack("{s:s,s:s,s:b,s:f,s:f,s:f,s:o,s:o}", "scenario", words, "policy", name, "enable",
                  recommend_pays(p), "layer_us", point.ev.layer_us, "none_us", point.ev.none_us,
                  "gain_pct", point.ev.gain_pct, "knobs", knobs, "within_2_pct",
                  flat_json(&p->entry[p->best]));
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

static int json_print(const struct recommend *r)
{
    json_t *results = json_array(), *turns = json_array(), *root;
    struct op_basis basis;
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
    if (root && basis_of(r, &basis) == 0)
        json_object_set_new(root, "laws", op_basis_json(&basis));
    text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    if (text)
        printf("%s\n", text);
    free(text);
    json_decref(root);
    return text ? 0 : ERR_NOMEM;
}

static int csv_print(const struct recommend *r)
{
    report_csv_head(r->config, stdout);
    for (size_t i = 0; i < r->num_picks; i++)
        if (r->pick[i].best >= 0) {
            struct grid_point p = point_of(r, &r->pick[i]);

            report_csv_row(r->config, &p, NULL, stdout);
        }
    return 0;
}

enum { BARS_MAX = 32 };

static int gains_draw(const struct cli *cli, const struct config *c, const struct recommend *r)
{
    struct bar bars[BARS_MAX];
    char folder[512];
    int n = 0;

    cli_folder(cli, c->name, folder, sizeof folder);
    for (size_t i = 0; i < r->num_picks && n < BARS_MAX; i++) {
        const struct recommend_pick *p = &r->pick[i];
        struct grid_point point = point_of(r, p);
        char name[24], words[64];

        if (p->best < 0)
            continue;
        grid_point_name(&point, name, sizeof name);
        report_scenario_words(c, p->scenario, words, sizeof words);
        snprintf(bars[n].label, sizeof bars[n].label, "%s%s%s", words, *words ? ": " : "", name);
        bars[n].value = point.ev.gain_pct;
        bars[n].low = p->has_interval ? p->gain_low_pct : point.ev.gain_pct;
        bars[n].high = p->has_interval ? p->gain_high_pct : point.ev.gain_pct;
        n++;
    }
    return bars_write(folder, !cli->no_plots, "recommend",
                      "gain of the best policy over no overlap", "gain over no overlap (%)", bars,
                      n);
}

static int recommend(const struct cli *cli, const struct flags *flags)
{
    struct config *c = NULL;
    struct recommend *r = NULL;
    int err = config_read(cli->words[0], cli->sets, (size_t)cli->num_sets, &c);

    if (!err)
        err = recommend_run(c, cli_jobs(cli), flags->draws, &r);
    if (!err)
        err = cli->json ? json_print(r) : cli->csv ? csv_print(r) : table_print(r);
    if (!err)
        err = gains_draw(cli, c, r);
    recommend_free(r);
    config_free(c);
    return err;
}

int cmd_recommend(int argc, char **argv)
{
    struct cli cli = {0};
    struct flags flags = {0};
    int err = cli_parse_config(&cli, argc, argv, recommend_options, &flags);

    if (!err && !cli.help)
        err = recommend(&cli, &flags);
    cli_free(&cli);
    return err;
}
