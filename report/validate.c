#include "report/validate.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/csv.h"
#include "base/err.h"
#include "base/log.h"
#include "base/stats.h"
#include "base/version.h"

#define CSV_BYTES      ((size_t)64 << 20)
#define SIGN_FLOOR_PCT 3.0 /* smaller gains and losses are noise: not counted in the sign */

double validate_ape(const struct validate_point *p)
{
    return fabs(p->predicted_us / p->gpu.median_us - 1);
}

/* Do both policies of a scenario have the same ops? With attention.include auto, only those that
 * move attention have it. */
static bool same_ops(const struct validate_set *v, size_t scenario, const struct policy *a,
                     const struct policy *b)
{
    struct scenario s;
    bool same = a->spans_layers == b->spans_layers;

    if (same || config_scenario(v->config, scenario, &s))
        return same;
    same = s.attention != ATTENTION_AUTO;
    scenario_free(&s);
    return same;
}

const struct validate_point *validate_none(const struct validate_set *v,
                                           const struct validate_point *p)
{
    if (!same_ops(v, p->scenario, &policy_none, p->policy))
        return NULL;
    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *q = &v->point[i];

        if (q->scenario == p->scenario && q->policy == &policy_none && q->measured)
            return q;
    }
    return NULL;
}

/* Is the point one of those that the scenario's schedules are ordered by? Layers with attention are
 * not set against layers without. */
static bool is_ordered(const struct validate_set *v, size_t scenario,
                       const struct validate_point *p)
{
    return p->measured && p->scenario == scenario && same_ops(v, scenario, &policy_none, p->policy);
}

static bool has_knob(const struct validate_point *p, const char *key)
{
    return opt_find(p->policy->knobs, key) != NULL;
}

static int method_of(const struct validate_point *p)
{
    return policy_knob(p->policy, &p->knobs, p->policy->method_knob, 0);
}

static int rounds_of(const struct validate_point *p)
{
    return policy_knob(p->policy, &p->knobs, p->policy->rounds_knob, 1);
}

static int sms_of(const struct validate_point *p)
{
    const char *key = p->policy->sms_knob;

    return policy_knob(p->policy, &p->knobs, key ? key : "num_sms", 0);
}

static const char *gemm_name(int kind)
{
    return kind == GEMM_KIND_DENSE ? "dense" : "group";
}

/* "group+dense": gate and up by one grouped GEMM, down by one GEMM per expert. "" where the policy
 * offers no choice. */
static const char *gemms_of(const struct validate_point *p, char buf[16])
{
    buf[0] = '\0';
    if (has_knob(p, "gate_up_gemm"))
        snprintf(buf, 16, "%s+%s", gemm_name(p->knobs.gate_up_gemm), gemm_name(p->knobs.down_gemm));
    return buf;
}

static void name_of(const struct validate_point *p, char *buf, size_t size)
{
    char gemms[16];

    if (method_of(p))
        snprintf(buf, size, "%s %d", p->policy->name, method_of(p));
    else if (gemms_of(p, gemms)[0])
        snprintf(buf, size, "%s %c+%c", p->policy->name, gemms[0], strchr(gemms, '+')[1]);
    else
        snprintf(buf, size, "%s", p->policy->name);
}

static double column(const struct csv *c, size_t row, const char *name)
{
    double value = 0;
    int col = csv_col(c, name);

    return col >= 0 && csv_double(c, row, col, &value) == 0 ? value : -1;
}

static const char *text_column(const struct csv *c, size_t row, const char *name)
{
    int col = csv_col(c, name);

    return col >= 0 ? csv_at(c, row, col) : "";
}

/* Files from before there was a choice have no such column: all GEMMs were grouped. */
static bool gemms_match(const struct csv *c, size_t row, const struct validate_point *p)
{
    char gemms[16];

    if (!gemms_of(p, gemms)[0])
        return true;
    return strcmp(csv_col(c, "gemms") < 0 ? "group+group" : text_column(c, row, "gemms"), gemms) ==
           0;
}

static int batch_of(const struct validate_set *v, const struct validate_point *p)
{
    struct scenario s;
    int batch;

    if (config_scenario(v->config, p->scenario, &s))
        return -1;
    batch = s.batch;
    scenario_free(&s);
    return batch;
}

/* The point of a row: in files as in the grid, points of equal columns keep their order. */
static struct validate_point *point_find(const struct validate_set *v, const struct csv *c,
                                         size_t row, size_t *from)
{
    for (size_t i = *from; i < v->num_points; i++) {
        struct validate_point *p = &v->point[i];

        if (strcmp(text_column(c, row, "policy"), p->policy->name) != 0 ||
            (int)column(c, row, "method") != method_of(p) ||
            (int)column(c, row, "num_rounds") != rounds_of(p) ||
            (int)column(c, row, "num_sms") != sms_of(p) ||
            (int)column(c, row, "batch") != batch_of(v, p) || !gemms_match(c, row, p))
            continue;
        *from = i;
        return p;
    }
    log_error_at(c->path, c->line[row], "this is no point of %s, or not in its order",
                 v->config->path);
    return NULL;
}

/* A column that is missing would read as -1 everywhere. */
static int columns_check(const struct csv *c)
{
    static const char *const needed[] = {"policy", "method",     "num_rounds", "num_sms",
                                         "batch",  "experts",    "hidden",     "inter",
                                         "ranks",  "measured_us"};

    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (csv_col(c, needed[i]) < 0) {
            log_error_at(c->path, 1, "there is no column %s", needed[i]);
            return ERR_DATA;
        }
    return 0;
}

/* Runs from before CUPTI was used have none of these columns. */
static void cupti_read(const struct csv *c, size_t row, struct gpu_cupti_result *out)
{
    if (csv_col(c, "cupti_version") < 0)
        return;
    out->version = (int)column(c, row, "cupti_version");
    out->ok = column(c, row, "cupti_ok") > 0;
    out->total_us = column(c, row, "cupti_us");
    out->spread_us = column(c, row, "cupti_spread_us");
    out->kernels = (int)column(c, row, "cupti_kernels");
    csv_double(c, row, csv_col(c, "cupti_longer_us"), &out->longer_us);
    csv_double(c, row, csv_col(c, "cupti_longer_most_us"), &out->longer_most_us);
}

static int layers_read(struct validate_set *v, const char *folder)
{
    char path[1024];
    struct csv *c = NULL;
    size_t from = 0;
    int err;

    snprintf(path, sizeof path, "%s/layers.csv", folder);
    err = csv_read(path, CSV_BYTES, &c);
    if (!err)
        err = columns_check(c);
    for (size_t row = 0; !err && row < c->num_rows; row++) {
        struct validate_point *p = point_find(v, c, row, &from);

        if (!p) {
            err = ERR_DATA;
            break;
        }
        from++;
        p->measured = true;
        p->experts = (int)column(c, row, "experts");
        p->hidden = (int)column(c, row, "hidden");
        p->inter = (int)column(c, row, "inter");
        p->ranks = (int)column(c, row, "ranks");
        p->gpu.median_us = column(c, row, "measured_us");
        if (!(p->gpu.median_us > 0)) {
            log_error_at(c->path, c->line[row], "measured_us is no time");
            err = ERR_DATA;
        }
        p->gpu.p95_us = column(c, row, "p95_us");
        p->gpu.min_us = column(c, row, "min_us");
        p->gpu.n = (int)column(c, row, "n");
        p->gpu.traced_us = column(c, row, "traced_us");
        p->gpu.spans_ok = column(c, row, "spans_ok") > 0;
        p->gpu.worst_error = column(c, row, "worst_error");
        p->gpu.checked = (int)column(c, row, "checked");
        p->gpu.emulated_ranks = (int)column(c, row, "emulated_ranks");
        cupti_read(c, row, &p->gpu.cupti);
        p->gpu.clock_residual_us = fmax(column(c, row, "clock_residual_us"), 0);
        if (column(c, row, "pace_GBps") > 0)
            v->pace_GBps = column(c, row, "pace_GBps");
        p->gpu.hash = strtoull(text_column(c, row, "hash"), NULL, 16);
    }
    csv_free(c);
    return err;
}

/* "stamp", "cupti" or "inferred"; files of earlier versions say "stamped" in a column `times`. */
static enum gpu_source source_read(const struct csv *c, size_t row)
{
    const char *text = text_column(c, row, csv_col(c, "source") >= 0 ? "source" : "times");

    for (int s = GPU_SOURCE_CUPTI; s <= GPU_SOURCE_INFERRED; s++)
        if (strcmp(text, gpu_source_name((enum gpu_source)s)) == 0)
            return (enum gpu_source)s;
    return GPU_SOURCE_STAMP;
}

static int ops_read(struct validate_set *v, const char *folder)
{
    char path[1024];
    struct csv *c = NULL;
    size_t from = 0;
    int err;

    snprintf(path, sizeof path, "%s/ops.csv", folder);
    err = csv_read(path, CSV_BYTES, &c);
    if (!err)
        err = columns_check(c);
    for (size_t row = 0; !err && row < c->num_rows; row++) {
        struct validate_point *p = point_find(v, c, row, &from);

        for (int k = 0; p && k < OP_KIND_COUNT; k++) {
            if (!p->kinds)
                p->gpu.kind_us[k] = p->gpu.kind_wait_us[k] = -1;
            if (strcmp(text_column(c, row, "kind"), plan_op_kind_name((enum plan_op_kind)k)) != 0)
                continue;
            p->gpu.kind_us[k] = column(c, row, "measured_us");
            p->gpu.kind_wait_us[k] = column(c, row, "wait_us");
            p->gpu.kind_source[k] = source_read(c, row);
        }
        if (p)
            p->kinds = true;
        else
            err = ERR_DATA;
    }
    csv_free(c);
    return err;
}

int validate_read(struct validate_set *v, const char *folder)
{
    int err = layers_read(v, folder);

    snprintf(v->versions, sizeof v->versions, "an earlier run, read from %.200s", folder);
    return err ? err : ops_read(v, folder);
}

static double gain_pct(double none_us, double us)
{
    return (none_us / us - 1) * 100;
}

/* How the library kernels of a point were timed. */
static const char *library_source(const struct validate_point *p)
{
    enum gpu_source worst = GPU_SOURCE_STAMP;

    for (int k = 0; p->kinds && k < OP_KIND_COUNT; k++)
        if (p->gpu.kind_us[k] >= 0 && p->gpu.kind_source[k] > worst)
            worst = p->gpu.kind_source[k];
    return worst == GPU_SOURCE_STAMP ? "-" : gpu_source_name(worst);
}

void validate_table(const struct validate_set *v, FILE *f)
{
    if (v->emulation[0])
        fprintf(f, "EMULATION: %s\n", v->emulation);
    fprintf(f, "%-7s %5s %3s %4s | %10s %10s %10s %6s | %7s %7s | %9s %-8s %s\n", "policy", "batch",
            "R", "SMs", "measured", "p95", "predicted", "error", "gain", "pred.", "output",
            "library", "spans");
    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *p = &v->point[i], *none = validate_none(v, p);
        char name[32];

        if (!p->measured)
            continue;
        name_of(p, name, sizeof name);
        fprintf(f, "%-7s %5d %3d %4d | %8.1fus %8.1fus %8.1fus %+5.1f%% | ", name, p->batch,
                rounds_of(p), sms_of(p), p->gpu.median_us, p->gpu.p95_us, p->predicted_us,
                (p->predicted_us / p->gpu.median_us - 1) * 100);
        if (none)
            fprintf(f, "%+6.1f%% %+6.1f%% | ", gain_pct(none->gpu.median_us, p->gpu.median_us),
                    gain_pct(none->predicted_us, p->predicted_us));
        else
            fprintf(f, "%7s %7s | ", "", "");
        fprintf(f, "%9.2e %-8s %s\n", p->gpu.worst_error, library_source(p),
                p->kinds ? "yes" : "refused");
    }
}

void validate_layers_csv(const struct validate_set *v, FILE *f)
{
    fprintf(f, "policy,method,num_rounds,num_sms,batch,experts,hidden,inter,ranks,measured_us,"
               "p95_us,min_us,n,predicted_us,ape,traced_us,spans_ok,worst_error,checked,hash,"
               "emulated_ranks,pace_GBps,cupti_version,cupti_ok,cupti_us,cupti_spread_us,"
               "cupti_kernels,cupti_longer_us,cupti_longer_most_us,clock_residual_us,gemms\n");
    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *p = &v->point[i];
        char gemms[16];

        if (!p->measured)
            continue;
        fprintf(f,
                "%s,%d,%d,%d,%d,%d,%d,%d,%d,%.3f,%.3f,%.3f,%d,%.3f,%.4f,%.3f,%d,%.3e,%d,%016llx,%d,"
                "%g,%d,%d,%.3f,%.3f,%d,%.3f,%.3f,%.3f,%s\n",
                p->policy->name, method_of(p), rounds_of(p), sms_of(p), p->batch, p->experts,
                p->hidden, p->inter, p->ranks, p->gpu.median_us, p->gpu.p95_us, p->gpu.min_us,
                p->gpu.n, p->predicted_us, validate_ape(p), p->gpu.traced_us, p->gpu.spans_ok,
                p->gpu.worst_error, p->gpu.checked, (unsigned long long)p->gpu.hash,
                p->gpu.emulated_ranks, v->pace_GBps, p->gpu.cupti.version, p->gpu.cupti.ok,
                p->gpu.cupti.total_us, p->gpu.cupti.spread_us, p->gpu.cupti.kernels,
                p->gpu.cupti.longer_us, p->gpu.cupti.longer_most_us, p->gpu.clock_residual_us,
                gemms_of(p, gemms));
    }
}

void validate_ops_csv(const struct validate_set *v, FILE *f)
{
    fprintf(f, "policy,method,num_rounds,num_sms,batch,experts,hidden,inter,ranks,kind,measured_us,"
               "wait_us,predicted_us,predicted_wait_us,ape,source,gemms\n");
    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *p = &v->point[i];
        char gemms[16];

        for (int k = 0; p->measured && p->kinds && k < OP_KIND_COUNT; k++) {
            if (p->gpu.kind_us[k] < 0)
                continue;
            fprintf(f, "%s,%d,%d,%d,%d,%d,%d,%d,%d,%s,%.3f,%.3f,%.3f,%.3f,%.4f,%s,%s\n",
                    p->policy->name, method_of(p), rounds_of(p), sms_of(p), p->batch, p->experts,
                    p->hidden, p->inter, p->ranks, plan_op_kind_name((enum plan_op_kind)k),
                    p->gpu.kind_us[k], p->gpu.kind_wait_us[k], p->kind_us[k], p->kind_wait_us[k],
                    fabs(p->kind_us[k] / p->gpu.kind_us[k] - 1),
                    gpu_source_name(p->gpu.kind_source[k]), gemms_of(p, gemms));
        }
    }
}

static json_t *knobs_json(const struct validate_point *p)
{
    json_t *out = json_object();

    for (const struct opt *o = p->policy->knobs; o->key; o++) {
        char text[64];

        if (opt_format(o, &p->knobs, text, sizeof text) == 0)
            json_object_set_new(out, o->key,
                                o->type == OPT_INT ? json_integer(atoi(text)) : json_string(text));
    }
    return out;
}

/* By the names of kinds; times that are known, as in ops.csv. */
static json_t *kinds_json(const struct validate_point *p)
{
    json_t *out = json_object();

    for (int k = 0; p->kinds && k < OP_KIND_COUNT; k++)
        if (p->gpu.kind_us[k] >= 0)
            json_object_set_new(out, plan_op_kind_name((enum plan_op_kind)k),
                                json_pack("{s:f,s:f,s:f,s:s}", "measured_us", p->gpu.kind_us[k],
                                          "wait_us", p->gpu.kind_wait_us[k], "predicted_us",
                                          p->kind_us[k], "source",
                                          gpu_source_name(p->gpu.kind_source[k])));
    return out;
}

static json_t *cupti_json(const struct gpu_cupti_result *c)
{
    return c->version ? json_pack("{s:i,s:b,s:f,s:f,s:i,s:f,s:f}", "version", c->version, "used",
                                  c->ok, "total_us", c->total_us, "clock_spread_us", c->spread_us,
                                  "kernels", c->kernels, "longer_than_stamp_us", c->longer_us,
                                  "longer_than_stamp_most_us", c->longer_most_us)
                      : json_null();
}

static json_t *point_json(const struct validate_point *p)
{
    return json_pack("{s:s,s:i,s:i,s:i,s:o,s:i,s:f,s:f,s:f,s:f,s:i,s:f,s:o,s:o,s:f}", "policy",
                     p->policy->name, "method", method_of(p), "num_rounds", rounds_of(p), "num_sms",
                     sms_of(p), "knobs", knobs_json(p), "batch", p->batch, "measured_us",
                     p->gpu.median_us, "predicted_us", p->predicted_us, "ape", validate_ape(p),
                     "p95_us", p->gpu.p95_us, "n", p->gpu.n, "worst_error", p->gpu.worst_error,
                     "kinds", kinds_json(p), "cupti", cupti_json(&p->gpu.cupti),
                     "clock_residual_us", p->gpu.clock_residual_us);
}

int validate_json(const struct validate_set *v, char **text)
{
    json_t *points = json_array(), *root;

    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *p = &v->point[i];

        if (p->measured)
            json_array_append_new(points, point_json(p));
    }
    root = json_pack("{s:s,s:s,s:s,s:s,s:s,s:o}", "version", PEOSIM_VERSION, "config",
                     v->config->name, "config_hash", v->config->hash, "machine", v->versions,
                     "emulation", v->emulation, "points", points);
    *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    return *text ? 0 : ERR_NOMEM;
}

int validate_bits(const struct validate_set *v)
{
    int err = 0;

    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *p = &v->point[i], *none = validate_none(v, p);

        if (!p->measured || !none || !p->policy->same_bits || p->gpu.hash == none->gpu.hash)
            continue;
        log_error("%s at batch %d: its output differs from none's", p->policy->name, p->batch);
        err = ERR_DATA;
    }
    return err;
}

/* Kendall's tau of the points of each scenario, each setting of the knobs a point of its own; the
 * mean over scenarios. */
static double order_tau(const struct validate_set *v, size_t *scenarios)
{
    double measured[64], predicted[64], sum = 0;
    size_t n;

    *scenarios = 0;
    for (size_t s = 0; s < config_num_scenarios(v->config); s++) {
        double tau;

        n = 0;
        for (size_t i = 0; i < v->num_points && n < 64; i++) {
            if (!is_ordered(v, s, &v->point[i]))
                continue;
            measured[n] = v->point[i].gpu.median_us;
            predicted[n++] = v->point[i].predicted_us;
        }
        tau = n > 1 ? stats_kendall_tau(measured, predicted, n) : NAN;
        if (!isfinite(tau))
            continue;
        sum += tau;
        ++*scenarios;
    }
    return *scenarios ? sum / (double)*scenarios : NAN;
}

/* Two points whose repeats overlap stand in no order that a prediction could get wrong: beyond it
 * lie pairs whose medians differ by more than the two spreads (median to p95) together, as
 * independent errors add. */
static bool told_apart(const struct validate_point *a, const struct validate_point *b)
{
    double spread = hypot(a->gpu.p95_us - a->gpu.median_us, b->gpu.p95_us - b->gpu.median_us);

    return fabs(a->gpu.median_us - b->gpu.median_us) > spread;
}

/* Adds the pairs that point i forms with those before it in its scenario. */
static void pairs_count(const struct validate_set *v, size_t i, int *right, int *apart, int *all)
{
    const struct validate_point *a = &v->point[i];

    for (size_t j = 0; j < i; j++) {
        const struct validate_point *b = &v->point[j];

        if (!b->measured || b->scenario != a->scenario)
            continue;
        ++*all;
        if (!told_apart(a, b))
            continue;
        ++*apart;
        *right += (a->gpu.median_us > b->gpu.median_us) == (a->predicted_us > b->predicted_us);
    }
}

static void pairs_summary(const struct validate_set *v, FILE *f)
{
    int right = 0, apart = 0, all = 0;

    for (size_t i = 0; i < v->num_points; i++)
        if (v->point[i].measured)
            pairs_count(v, i, &right, &apart, &all);
    if (apart > 0)
        fprintf(f, "pairs that the repeats tell apart: %d of %d, %d of them in the right order\n",
                apart, all, right);
}

static void sign_summary(const struct validate_set *v, FILE *f)
{
    int right[2] = {0}, all[2] = {0};

    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *p = &v->point[i], *none = validate_none(v, p);
        double measured;

        if (!p->measured || !none || p == none)
            continue;
        measured = gain_pct(none->gpu.median_us, p->gpu.median_us);
        if (fabs(measured) < SIGN_FLOOR_PCT)
            continue;
        all[measured > 0]++;
        right[measured > 0] += (none->predicted_us > p->predicted_us) == (measured > 0);
    }
    fprintf(f, "sign of the gain (beyond %.0f%%): losses %d of %d right, gains %d of %d right",
            SIGN_FLOOR_PCT, right[0], all[0], right[1], all[1]);
    if (all[0] && all[1])
        fprintf(f, "; balanced accuracy %.2f", 0.5 * right[0] / all[0] + 0.5 * right[1] / all[1]);
    fprintf(f, "\n");
}

/* Is the schedule that the prediction picks near the best one measured? */
static double pick_loss(const struct validate_set *v, size_t scenario)
{
    const struct validate_point *pick = NULL;
    double best = INFINITY;

    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *p = &v->point[i];

        if (!is_ordered(v, scenario, p))
            continue;
        best = fmin(best, p->gpu.median_us);
        if (!pick || p->predicted_us < pick->predicted_us)
            pick = p;
    }
    return pick ? pick->gpu.median_us / best - 1 : NAN;
}

/* "  cupti", or "  cupti 12, inferred 3" where points differ. */
static void sources_print(const size_t count[GPU_SOURCE_INFERRED + 1], size_t n, FILE *f)
{
    const char *before = "  ";

    for (int s = 0; s <= GPU_SOURCE_INFERRED; s++) {
        if (count[s] == n)
            fprintf(f, "%s%s", before, gpu_source_name((enum gpu_source)s));
        else if (count[s])
            fprintf(f, "%s%s %zu", before, gpu_source_name((enum gpu_source)s), count[s]);
        before = count[s] ? ", " : before;
    }
    fprintf(f, "\n");
}

static void kinds_summary(const struct validate_set *v, double *measured, double *predicted,
                          FILE *f)
{
    for (int k = 0; k < OP_KIND_COUNT; k++) {
        struct stats_error e;
        size_t n = 0, sources[GPU_SOURCE_INFERRED + 1] = {0};

        for (size_t i = 0; i < v->num_points; i++) {
            if (!v->point[i].measured || !v->point[i].kinds || v->point[i].gpu.kind_us[k] <= 0)
                continue;
            measured[n] = v->point[i].gpu.kind_us[k];
            predicted[n++] = v->point[i].kind_us[k];
            sources[v->point[i].gpu.kind_source[k]]++;
        }
        if (!n)
            continue;
        stats_error_of(predicted, measured, n, &e);
        fprintf(f, "  %-16s n %3zu  median error %5.1f%%  p90 %5.1f%%  bias %+5.1f%%",
                plan_op_kind_name((enum plan_op_kind)k), e.n, e.median_ape * 100, e.p90_ape * 100,
                e.bias * 100);
        sources_print(sources, n, f);
    }
}

/* CUPTI's pass over all points; column: room for one number per point. */
static void cupti_summary(const struct validate_set *v, double *column_us, FILE *f)
{
    size_t n = 0, used = 0, kernels = 0;
    double moved[2] = {INFINITY, -INFINITY}, spread = 0, most = 0;
    int version = 0;

    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *p = &v->point[i];
        double move = (p->gpu.cupti.total_us / p->gpu.median_us - 1) * 100;

        if (!p->measured || !p->gpu.cupti.version)
            continue;
        version = p->gpu.cupti.version;
        column_us[n++] = p->gpu.cupti.longer_us;
        used += p->gpu.cupti.ok;
        kernels += (size_t)p->gpu.cupti.kernels;
        moved[0] = fmin(moved[0], move);
        moved[1] = fmax(moved[1], move);
        spread = fmax(spread, p->gpu.cupti.spread_us);
        if (fabs(p->gpu.cupti.longer_most_us) > fabs(most))
            most = p->gpu.cupti.longer_most_us;
    }
    if (n)
        fprintf(f,
                "CUPTI %d.%d.%d: records of %zu of %zu points used (totals moved by %+.1f%% to "
                "%+.1f%%; beyond 5%% they are refused); of %zu own kernels it says %+.2f us more "
                "than their stamps (median of points; farthest %+.2f), and 90%% end within %.2f "
                "us of them\n",
                version / 10000, version / 100 % 100, version % 100, used, n, moved[0], moved[1],
                kernels, stats_median(column_us, n), most, spread);
}

/* Traces of several GPUs lie on one clock: how well, at worst. */
static void clock_summary(const struct validate_set *v, FILE *f)
{
    double residual_us = 0;

    for (size_t i = 0; i < v->num_points; i++)
        residual_us = fmax(residual_us, v->point[i].gpu.clock_residual_us);
    if (residual_us > 0)
        fprintf(f, "clocks of the GPUs agree within %.2f us (half the shortest round trip)\n",
                residual_us);
}

void validate_summary(const struct validate_set *v, FILE *f)
{
    double *measured = calloc(2 * v->num_points + 1, sizeof *measured), worst = 0;
    double *predicted = measured + v->num_points, tau;
    struct stats_error e;
    size_t n = 0, scenarios;

    if (!measured)
        return;
    for (size_t i = 0; i < v->num_points; i++) {
        if (!v->point[i].measured)
            continue;
        measured[n] = v->point[i].gpu.median_us;
        predicted[n++] = v->point[i].predicted_us;
    }
    stats_error_of(predicted, measured, n, &e);
    fprintf(f,
            "\nlayer time, %zu points: median error %.1f%%, p90 %.1f%%, largest %.1f%%, bias "
            "%+.1f%%\n",
            e.n, e.median_ape * 100, e.p90_ape * 100, e.max_ape * 100, e.bias * 100);
    fprintf(f, "op kinds, waiting excluded, timed by own stamps, by CUPTI, or inferred from their "
               "neighbours':\n");
    kinds_summary(v, measured, predicted, f);
    cupti_summary(v, measured, f);
    clock_summary(v, f);
    tau = order_tau(v, &scenarios);
    fprintf(f, "order of the schedules: Kendall tau %.2f, mean of %zu scenarios\n", tau, scenarios);
    pairs_summary(v, f);
    sign_summary(v, f);
    for (size_t s = 0; s < config_num_scenarios(v->config); s++) {
        double loss = pick_loss(v, s);

        worst = isfinite(loss) && loss > worst ? loss : worst;
    }
    fprintf(f,
            "the schedule picked by prediction is at most %.1f%% slower than the best one "
            "measured\n",
            worst * 100);
    fprintf(f, "measured on %s\n", v->versions);
    free(measured);
}
