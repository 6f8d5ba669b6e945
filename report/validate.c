#include "report/validate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/version.h"
#include "report/op_basis.h"

static void name_of(const struct validate_point *p, char *buf, size_t size)
{
    char gemms[16];

    if (validate_method(p))
        snprintf(buf, size, "%s %d", p->policy->name, validate_method(p));
    else if (validate_gemms(p, gemms)[0])
        snprintf(buf, size, "%s %c+%c", p->policy->name, gemms[0], strchr(gemms, '+')[1]);
    else
        snprintf(buf, size, "%s", p->policy->name);
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

/* Of all points predicted. */
static int basis_of(const struct validate_set *v, struct op_basis *out)
{
    struct evaluator *e = NULL;
    int rc = evaluator_open(&e);

    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < v->num_points && rc == 0; i++)
        if (v->point[i].measured)
            rc = op_basis_add(out, e, v->config, v->point[i].scenario, v->point[i].policy,
                              &v->point[i].knobs);
    evaluator_close(e);
    return rc;
}

void validate_table(const struct validate_set *v, FILE *f)
{
    struct op_basis basis;

    if (v->emulation[0])
        fprintf(f, "EMULATION: %s\n", v->emulation);
    fprintf(f, "%-7s %5s %3s %4s | %10s %10s %10s %6s | %7s %7s | %9s %-8s %s\n", "policy", "batch",
            "R", "SMs", "measured", "p95", "predicted", "error", "gain", "pred.", "output",
            "library", "spans");
    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *p = &v->point[i], *none = validate_none(v, p);
        char name[32], noise[32];

        if (!p->measured)
            continue;
        name_of(p, name, sizeof name);
        fprintf(f, "%-7s %5d %3d %4d | %8.1fus %8.1fus %8.1fus %+5.1f%% | ", name, p->batch,
                validate_rounds(p), validate_sms(p), p->gpu.median_us, p->gpu.p95_us,
                p->predicted_us, (p->predicted_us / p->gpu.median_us - 1) * 100);
        if (none)
            fprintf(f, "%+6.1f%% %+6.1f%% | ",
                    validate_gain_pct(none->gpu.median_us, p->gpu.median_us),
                    validate_gain_pct(none->predicted_us, p->predicted_us));
        else
            fprintf(f, "%7s %7s | ", "", "");
        fprintf(f, "%9.2e %-8s %s", p->gpu.worst_error, library_source(p),
                p->kinds ? "yes" : "refused");
        if (validate_noise(p, noise)[0])
            fprintf(f, "  noisy: %s", noise);
        fputc('\n', f);
    }
    if (basis_of(v, &basis) == 0)
        op_basis_print(&basis, f);
}

void validate_layers_csv(const struct validate_set *v, FILE *f)
{
    fprintf(f, "policy,method,num_rounds,num_sms,batch,experts,hidden,inter,ranks,measured_us,"
               "p95_us,min_us,n,predicted_us,ape,traced_us,spans_ok,worst_error,checked,hash,"
               "emulated_ranks,pace_GBps,cupti_version,cupti_ok,cupti_us,cupti_spread_us,"
               "cupti_kernels,cupti_longer_us,cupti_longer_most_us,clock_residual_us,gemms,"
               "noise\n");
    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *p = &v->point[i];
        char gemms[16], noise[32];

        if (!p->measured)
            continue;
        fprintf(f,
                "%s,%d,%d,%d,%d,%d,%d,%d,%d,%.3f,%.3f,%.3f,%d,%.3f,%.4f,%.3f,%d,%.3e,%d,%016llx,%d,"
                "%g,%d,%d,%.3f,%.3f,%d,%.3f,%.3f,%.3f,%s,%s\n",
                p->policy->name, validate_method(p), validate_rounds(p), validate_sms(p), p->batch,
                p->experts, p->hidden, p->inter, p->ranks, p->gpu.median_us, p->gpu.p95_us,
                p->gpu.min_us, p->gpu.n, p->predicted_us, validate_ape(p), p->gpu.traced_us,
                p->gpu.spans_ok, p->gpu.worst_error, p->gpu.checked,
                (unsigned long long)p->gpu.hash, p->gpu.emulated_ranks, v->pace_GBps,
                p->gpu.cupti.version, p->gpu.cupti.ok, p->gpu.cupti.total_us,
                p->gpu.cupti.spread_us, p->gpu.cupti.kernels, p->gpu.cupti.longer_us,
                p->gpu.cupti.longer_most_us, p->gpu.clock_residual_us, validate_gemms(p, gemms),
                validate_noise(p, noise));
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
                    p->policy->name, validate_method(p), validate_rounds(p), validate_sms(p),
                    p->batch, p->experts, p->hidden, p->inter, p->ranks,
                    plan_op_kind_name((enum plan_op_kind)k), p->gpu.kind_us[k],
                    p->gpu.kind_wait_us[k], p->kind_us[k], p->kind_wait_us[k],
                    fabs(p->kind_us[k] / p->gpu.kind_us[k] - 1),
                    gpu_source_name(p->gpu.kind_source[k]), validate_gemms(p, gemms));
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
    char noise[32];

    return json_pack("{s:s,s:s,s:i,s:i,s:i,s:o,s:i,s:f,s:f,s:f,s:f,s:i,s:f,s:o,s:o,s:f}", "policy",
                     p->policy->name, "noise", validate_noise(p, noise), "method",
                     validate_method(p), "num_rounds", validate_rounds(p), "num_sms",
                     validate_sms(p), "knobs", knobs_json(p), "batch", p->batch, "measured_us",
                     p->gpu.median_us, "predicted_us", p->predicted_us, "ape", validate_ape(p),
                     "p95_us", p->gpu.p95_us, "n", p->gpu.n, "worst_error", p->gpu.worst_error,
                     "kinds", kinds_json(p), "cupti", cupti_json(&p->gpu.cupti),
                     "clock_residual_us", p->gpu.clock_residual_us);
}

int validate_json(const struct validate_set *v, char **text)
{
    json_t *points = json_array(), *root;
    struct op_basis basis;

    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *p = &v->point[i];

        if (p->measured)
            json_array_append_new(points, point_json(p));
    }
    root = json_pack("{s:s,s:s,s:s,s:s,s:s,s:o}", "version", PEOSIM_VERSION, "config",
                     v->config->name, "config_hash", v->config->hash, "machine", v->versions,
                     "emulation", v->emulation, "points", points);
    if (root && basis_of(v, &basis) == 0)
        json_object_set_new(root, "laws", op_basis_json(&basis));
    *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    return *text ? 0 : ERR_NOMEM;
}
