#include "study/validate.h"

#include <math.h>
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"

const char *validate_noise(const struct validate_point *p, char buf[32])
{
    const struct {
        bool is;
        const char *name;
    } all[] = {{p->gpu.p95_us > VALIDATE_SPREAD * p->gpu.median_us, "spread"},
               {p->gpu.disturbed & GPU_SHARED, "shared"},
               {p->gpu.disturbed & GPU_THROTTLED, "throttled"}};
    size_t at = 0;

    buf[0] = '\0';
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].is)
            at += (size_t)snprintf(buf + at, 32 - at, "%s%s", at ? "+" : "", all[i].name);
    return buf;
}

bool validate_counts(const struct validate_point *p)
{
    char noise[32];

    return p->measured && !validate_noise(p, noise)[0];
}

int validate_predicted(const struct validate_set *v)
{
    int err = 0;

    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *p = &v->point[i];

        if (!p->measured || (isfinite(p->predicted_us) && p->predicted_us > 0))
            continue;
        log_error("%s at batch %d: its prediction is no time (%g us); the profile cannot predict "
                  "this layer",
                  p->policy->name, p->batch, p->predicted_us);
        err = ERR_DATA;
    }
    return err;
}

double validate_ape(const struct validate_point *p)
{
    return fabs(p->predicted_us / p->gpu.median_us - 1);
}

bool validate_same_ops(const struct validate_set *v, size_t scenario, const struct policy *a,
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
    if (!validate_same_ops(v, p->scenario, &policy_none, p->policy))
        return NULL;
    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *q = &v->point[i];

        if (q->scenario == p->scenario && q->policy == &policy_none && validate_counts(q))
            return q;
    }
    return NULL;
}

static bool has_knob(const struct validate_point *p, const char *key)
{
    return opt_find(p->policy->knobs, key) != NULL;
}

int validate_method(const struct validate_point *p)
{
    return policy_knob(p->policy, &p->knobs, p->policy->method_knob, 0);
}

int validate_rounds(const struct validate_point *p)
{
    return policy_knob(p->policy, &p->knobs, p->policy->rounds_knob, 1);
}

int validate_sms(const struct validate_point *p)
{
    const char *key = p->policy->sms_knob;

    return policy_knob(p->policy, &p->knobs, key ? key : "num_sms", 0);
}

static const char *gemm_name(int kind)
{
    return kind == GEMM_KIND_DENSE ? "dense" : "group";
}

const char *validate_gemms(const struct validate_point *p, char buf[16])
{
    buf[0] = '\0';
    if (has_knob(p, "gate_up_gemm"))
        snprintf(buf, 16, "%s+%s", gemm_name(p->knobs.gate_up_gemm), gemm_name(p->knobs.down_gemm));
    return buf;
}

double validate_gain_pct(double none_us, double us)
{
    return (none_us / us - 1) * 100;
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
