#include "report/report.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/version.h"

/* Scenario keys worth naming in a table: those that the file varies. */
void report_scenario_words(const struct config *c, size_t index, char *buf, size_t size)
{
    size_t at = 0, rest = index;

    buf[0] = '\0';
    for (int i = c->num_axes - 1; i >= 0; i--) {
        const struct axis *a = &c->axes[i];
        const char *value = a->values[rest % (size_t)a->num_values];

        rest /= (size_t)a->num_values;
        if (a->num_values > 1 && at < size)
            at += (size_t)snprintf(buf + at, size - at, "%s%s %s", at ? ", " : "", a->opt->key,
                                   value);
    }
}

static const char *first_value(const struct config *c, const char *key)
{
    const struct axis *a = config_axis(c, key);
    const struct opt *o = opt_find(scenario_options, key);

    return a ? a->values[0] : o->def;
}

/* What bandwidth sharing ran, and how far layer times are from exact by it: what
 * tests/study/test_fidelity.c finds, on fabrics without leaves. */
static const char *fidelity_words(const struct config *c)
{
    const char *fabric = first_value(c, "cluster.fabric");

    if (!strcmp(first_value(c, "simulation.fidelity"), "exact"))
        return "exact sharing";
    return strcmp(fabric, "flat") ? "coalesced sharing (no tested bound on this fabric)"
                                  : "fast sharing (99 of 100 layers within 0.5% of exact)";
}

void report_head(const struct config *c, FILE *f)
{
    fprintf(f, "peosim %s  %s (%.12s)  profile %s  model %s  seed %s  %s\n", PEOSIM_VERSION,
            c->path, c->hash, first_value(c, "cluster.profile"), first_value(c, "model"),
            first_value(c, "seed"), fidelity_words(c));
    report_nics(c, f);
}

void report_nics_of(const char *profile, double nics_per_gpu, double nic_Gbitps, FILE *f)
{
    struct hw_profile *p = NULL;
    double nics, Gbit, host;

    if (hw_profile_read(profile, &p) != 0 || !p->nic_choices[0]) {
        hw_profile_free(p);
        return;
    }
    nics = nics_per_gpu > 0 ? nics_per_gpu : hw_value(p, HW_NET_NICS_PER_GPU);
    Gbit = nic_Gbitps > 0 ? nic_Gbitps : hw_value(p, HW_NET_NIC_GBITPS);
    host = hw_value(p, HW_NET_HOST_GPUS);
    fprintf(
        f,
        "  NICs: %gx%g Gb/s for %g GPUs; nodes of %s come with %s: set cluster.nics_per_gpu and "
        "cluster.nic_Gbitps\n",
        nics * host, Gbit, host, p->name, p->nic_choices);
    hw_profile_free(p);
}

/* What the file sets the key to, the first value of a list; 0: nothing. */
static double value_set(const struct config *c, const char *key)
{
    double x = 0;

    if (config_axis(c, key))
        sscanf(config_axis(c, key)->values[0], "%lf", &x);
    return x;
}

void report_nics(const struct config *c, FILE *f)
{
    const struct axis *axis = config_axis(c, "cluster.profile");
    double nics = value_set(c, "cluster.nics_per_gpu"), Gbit = value_set(c, "cluster.nic_Gbitps");

    if (!axis)
        report_nics_of(first_value(c, "cluster.profile"), nics, Gbit, f);
    for (int i = 0; axis && i < axis->num_values; i++)
        report_nics_of(axis->values[i], nics, Gbit, f);
}

int report_num_rounds(const struct grid_point *p)
{
    return policy_knob(p->policy, &p->knobs, p->policy->rounds_knob, 1);
}

int report_num_sms(const struct grid_point *p)
{
    return policy_knob(p->policy, &p->knobs, p->policy->sms_knob, p->ev.num_sms);
}

static bool is_key(const char *key, const char *other)
{
    return other && !strcmp(key, other);
}

/* The knobs that a reader sets: those of the policy that are not at their default. */
void report_knob_words(const struct grid_point *p, char *buf, size_t size)
{
    struct knobs dflt;
    size_t at = 0;

    buf[0] = '\0';
    knobs_default(p->policy, &dflt);
    for (const struct opt *o = p->policy->knobs; o->key && at < size; o++) {
        char value[64], usual[64];
        bool main_knob =
            is_key(o->key, p->policy->rounds_knob) || is_key(o->key, p->policy->sms_knob);

        opt_format(o, &p->knobs, value, sizeof value);
        opt_format(o, &dflt, usual, sizeof usual);
        if (is_key(o->key, p->policy->method_knob) || (!main_knob && !strcmp(value, usual)))
            continue;
        at += (size_t)snprintf(buf + at, size - at, "%s%s=%s", at ? " " : "", o->key, value);
    }
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

static void table_row(const struct grid_point *p, FILE *f)
{
    char name[24], knobs[256], path[96];
    const struct evaluation *ev = &p->ev;

    grid_point_name(p, name, sizeof name);
    report_knob_words(p, knobs, sizeof knobs);
    path_words(ev, path, sizeof path);
    fprintf(f, "  %-6s %10.1f %+7.1f%% %10.1f %5.0f%% %5.0f%% %5.0f%%  %-32s %s\n", name,
            ev->layer_us, ev->gain_pct, ev->metrics.exposed_comm_ns / 1e3,
            100 * ev->metrics.sm_util, 100 * ev->nvlink_util, 100 * ev->nic_util, path, knobs);
}

static bool spans(const struct grid_point *p)
{
    return p->policy->spans_layers;
}

static void table_scenario(const struct grid *g, size_t scenario, FILE *f)
{
    const struct grid_point *rows[GRID_ROWS_MAX], *best = NULL;
    int n = grid_rows(g, scenario, rows);
    char words[256];

    report_scenario_words(g->config, scenario, words, sizeof words);
    if (*words)
        fprintf(f, "%s\n", words);
    for (int i = 0; i < n; i++) {
        table_row(rows[i], f);
        if (spans(rows[i]))
            fprintf(f,
                    "         (a layer with attention, steady period; without overlap %.1f us)\n",
                    rows[i]->ev.none_us);
        if (rows[i]->ev.gain_pct > 0 && (!best || rows[i]->ev.gain_pct > best->ev.gain_pct))
            best = rows[i];
    }
    if (!best && n > 1)
        fprintf(f, "  no policy beats none here: do not overlap\n");
}

void report_table(const struct grid *g, FILE *f)
{
    double assumed = 0, n = 0;

    report_head(g->config, f);
    fprintf(f, "  %-6s %10s %8s %10s %6s %6s %6s  %-32s %s\n", "policy", "layer us", "gain",
            "exposed us", "SMs", "NVLink", "NIC", "critical path", "best knobs");
    for (size_t i = 0; i < config_num_scenarios(g->config); i++)
        table_scenario(g, i, f);
    for (size_t i = 0; i < g->num_points; i++)
        if (!g->points[i].skipped) {
            assumed += g->points[i].ev.assumed_share;
            n++;
        }
    if (assumed > 0)
        fprintf(f,
                "%.0f%% of the ops' time, on average, rests on profile fields without data of "
                "their own (peosim info profile %s)\n",
                100 * assumed / n, first_value(g->config, "cluster.profile"));
}

int report_knobs_json(const struct grid_point *p, struct json_t *out)
{
    int err = 0;

    for (const struct opt *o = p->policy->knobs; o->key && !err; o++) {
        const char *at = (const char *)&p->knobs + o->offset;
        char text[64];
        json_t *v;

        opt_format(o, &p->knobs, text, sizeof text);
        v = o->type == OPT_INT    ? json_integer(*(const int *)(const void *)at)
            : o->type == OPT_BOOL ? json_boolean(*(const bool *)at)
                                  : json_string(text);
        err = json_object_set_new(out, o->key, v);
    }
    return err;
}

static json_t *point_json(const struct grid *g, const struct grid_point *p)
{
    const struct evaluation *ev = &p->ev;
    json_t *knobs = json_object(), *j, *parts = json_object();
    struct scenario s;
    int batch = 0;

    if (!config_scenario(g->config, p->scenario, &s)) {
        batch = s.batch;
        scenario_free(&s);
    }
    report_knobs_json(p, knobs);
    for (int i = 0; i < PART_COUNT; i++)
        json_object_set_new(parts, trace_part_name((enum trace_part)i),
                            json_real(ev->metrics.part_ns[i] / 1e3));
    json_object_set_new(parts, "launch", json_real(ev->metrics.launch_ns / 1e3));
    j = json_pack("{s:i,s:s,s:i,s:i,s:i,s:o,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:I,s:o}", "batch",
                  batch, "policy", p->policy->name, "method", grid_point_method(p), "num_rounds",
                  report_num_rounds(p), "num_sms", report_num_sms(p), "knobs", knobs, "layer_us",
                  ev->layer_us, "none_us", ev->none_us, "gain_pct", ev->gain_pct, "exposed_comm_us",
                  ev->metrics.exposed_comm_ns / 1e3, "sm_util", ev->metrics.sm_util, "nvlink_util",
                  ev->nvlink_util, "nic_util", ev->nic_util, "assumed_share", ev->assumed_share,
                  "events", (json_int_t)ev->events, "critical_path_us", parts);
    return j;
}

/* The scenario keys that the file varies, so that points of a sweep can be told apart. */
static void vary_json(const struct grid *g, const struct grid_point *p, json_t *out)
{
    size_t rest = p->scenario;

    for (int i = g->config->num_axes - 1; i >= 0; i--) {
        const struct axis *a = &g->config->axes[i];

        if (a->num_values > 1 && strcmp(a->opt->key, "batch"))
            json_object_set_new(out, a->opt->key,
                                json_string(a->values[rest % (size_t)a->num_values]));
        rest /= (size_t)a->num_values;
    }
}

int report_json(const struct grid *g, struct json_t *confidence, char **text)
{
    json_t *results = json_array(), *root;

    for (size_t i = 0; i < g->num_points; i++) {
        json_t *j;

        if (g->points[i].skipped)
            continue;
        j = point_json(g, &g->points[i]);
        vary_json(g, &g->points[i], j);
        json_array_append_new(results, j);
    }
    root = json_pack("{s:s,s:s,s:s,s:s,s:s,s:o}", "version", PEOSIM_VERSION, "config",
                     g->config->path, "config_hash", g->config->hash, "profile",
                     first_value(g->config, "cluster.profile"), "model",
                     first_value(g->config, "model"), "results", results);
    if (root)
        json_object_set_new(root, "seed", json_integer(atoll(first_value(g->config, "seed"))));
    if (root)
        json_object_set_new(root, "fidelity", json_string(fidelity_words(g->config)));
    if (root && confidence)
        json_object_set(root, "confidence", confidence);
    json_decref(confidence);
    *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    return *text ? 0 : ERR_NOMEM;
}

/* A cell and its comma; file names may hold commas and quotes. */
static void csv_cell(const char *text, FILE *f)
{
    if (!strpbrk(text, ",\"")) {
        fprintf(f, "%s,", text);
        return;
    }
    fputc('"', f);
    for (; *text; text++)
        fprintf(f, "%s%c", *text == '"' ? "\"" : "", *text);
    fputs("\",", f);
}

void report_json_head(const struct config *c, FILE *f)
{
    const char *pairs[][2] = {{"version", PEOSIM_VERSION},
                              {"config", c->path},
                              {"config_hash", c->hash},
                              {"profile", first_value(c, "cluster.profile")},
                              {"model", first_value(c, "model")}};

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        json_t *text = json_string(pairs[i][1]);

        fprintf(f, " \"%s\": ", pairs[i][0]);
        json_dumpf(text, f, JSON_ENCODE_ANY);
        fprintf(f, ",\n");
        json_decref(text);
    }
    fprintf(f, " \"seed\": %lld,\n", atoll(first_value(c, "seed")));
}

/* Values of the varied scenario keys, as cells. */
static void vary_csv(const struct config *c, size_t scenario, FILE *f, bool head)
{
    for (int i = 0; i < c->num_axes; i++) {
        size_t below = 1;

        for (int j = i + 1; j < c->num_axes; j++)
            below *= (size_t)c->axes[j].num_values;
        if (c->axes[i].num_values > 1 || !strcmp(c->axes[i].opt->key, "batch"))
            csv_cell(head ? c->axes[i].opt->key
                          : c->axes[i].values[scenario / below % (size_t)c->axes[i].num_values],
                     f);
    }
}

void report_csv_head(const struct config *c, FILE *f)
{
    vary_csv(c, 0, f, true);
    fprintf(f, "policy,method,num_rounds,num_sms,layer_us,none_us,gain_pct,exposed_comm_us,sm_util,"
               "nvlink_util,nic_util,assumed_share,events,knobs\n");
}

void report_csv_row(const struct config *c, const struct grid_point *p, const char *name, FILE *f)
{
    const struct evaluation *ev = &p->ev;
    char knobs[512];

    policy_knobs_text(p->policy, &p->knobs, knobs, sizeof knobs);
    vary_csv(c, p->scenario, f, false);
    fprintf(f, "%s,%d,%d,%d,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%llu,%s\n",
            name ? name : p->policy->name, grid_point_method(p), report_num_rounds(p),
            report_num_sms(p), ev->layer_us, ev->none_us, ev->gain_pct,
            ev->metrics.exposed_comm_ns / 1e3, ev->metrics.sm_util, ev->nvlink_util, ev->nic_util,
            ev->assumed_share, (unsigned long long)ev->events, knobs);
}

void report_csv(const struct grid *g, FILE *f)
{
    fputs("# ", f);
    report_head(g->config, f);
    report_csv_head(g->config, f);
    for (size_t i = 0; i < g->num_points; i++)
        if (!g->points[i].skipped)
            report_csv_row(g->config, &g->points[i], NULL, f);
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
