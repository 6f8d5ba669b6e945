/* How much of a capacity answer hangs on each assumption: the winner's pools, simulated again in
 * worlds that differ in one respect. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "study/capacity.h"

struct change {
    const char *name;
    void (*apply)(struct capacity_config *c, struct hw_profile *p); /* p: a copy */
    bool (*matters)(const struct capacity_config *c, const struct capacity_plan *winner);
};

static void isl_up(struct capacity_config *c, struct hw_profile *p)
{
    (void)p;
    c->num.isl = (int)(c->num.isl * 1.25);
}

static void osl_up(struct capacity_config *c, struct hw_profile *p)
{
    (void)p;
    c->num.osl = (int)(c->num.osl * 1.25);
}

static void requests_up(struct capacity_config *c, struct hw_profile *p)
{
    (void)p;
    c->num.requests_s *= 1.25;
}

static void acceptance_down(struct capacity_config *c, struct hw_profile *p)
{
    (void)p;
    c->num.acceptance = fmax(0, c->num.acceptance - 0.1);
}

static bool drafts(const struct capacity_config *c, const struct capacity_plan *winner)
{
    (void)winner;
    return c->num.draft_tokens > 0;
}

static void balanced(struct capacity_config *c, struct hw_profile *p)
{
    (void)p;
    c->base.routing = 0; /* balanced */
}

static bool not_balanced(const struct capacity_config *c, const struct capacity_plan *winner)
{
    (void)winner;
    return c->base.routing != 0;
}

static void popular(struct capacity_config *c, struct hw_profile *p)
{
    (void)p;
    c->base.sigma = c->base.routing == 2 ? c->base.sigma + 0.3 : 0.5;
    c->base.routing = 2; /* log-normal */
}

static void late(struct capacity_config *c, struct hw_profile *p)
{
    (void)p;
    c->base.skew_us += 20;
    c->base.jitter += 0.05;
}

static void nic_scale(struct capacity_config *c, struct hw_profile *p, double by)
{
    p->f[HW_NET_NIC_GBITPS].value *= by;
    c->base.nic_Gbitps *= by;
}

static void nic_half(struct capacity_config *c, struct hw_profile *p)
{
    nic_scale(c, p, 0.5);
}

static void nic_double(struct capacity_config *c, struct hw_profile *p)
{
    nic_scale(c, p, 2);
}

/* Separate pools move the KV cache over NICs even where each lies in one node. */
static bool uses_nics(const struct capacity_config *c, const struct capacity_plan *winner)
{
    return !winner->shared || winner->decode->ep > c->base.gpus_per_node ||
           winner->prefill->ep > c->base.gpus_per_node;
}

static void hbm_down(struct capacity_config *c, struct hw_profile *p)
{
    (void)c;
    p->f[HW_GPU_HBM_GBPS].value *= 0.9;
}

static void attention_down(struct capacity_config *c, struct hw_profile *p)
{
    (void)c;
    p->f[HW_ATTN_DECODE_HBM_EFF].value *= 0.8;
    p->f[HW_ATTN_DECODE_EFF].value *= 0.8;
    p->f[HW_ATTN_PREFILL_EFF].value *= 0.8;
}

static void kv_other(struct capacity_config *c, struct hw_profile *p)
{
    (void)p;
    c->base.kv_dtype = c->base.kv_dtype == KV_FP8 ? KV_BF16 : KV_FP8;
}

static void overhead(struct capacity_config *c, struct hw_profile *p)
{
    (void)p;
    c->num.step_overhead_us += 1000;
}

static void utilization_down(struct capacity_config *c, struct hw_profile *p)
{
    (void)p;
    c->num.utilization *= 0.8;
}

static void no_overlap(struct capacity_config *c, struct hw_profile *p)
{
    (void)p;
    for (int i = 0; i < c->num_policies; i++) {
        c->policies[i].policy = &policy_none;
        knobs_default(&policy_none, &c->policies[i].knobs);
    }
}

static bool overlaps(const struct capacity_config *c, const struct capacity_plan *w)
{
    return c->policies[w->decode->policy].policy != &policy_none ||
           c->policies[w->prefill->policy].policy != &policy_none;
}

static const struct change changes[] = {
    {"prompts 25% longer", isl_up, NULL},
    {"answers 25% longer", osl_up, NULL},
    {"25% more requests", requests_up, NULL},
    {"drafted tokens accepted 0.1 less often", acceptance_down, drafts},
    {"experts perfectly balanced", balanced, not_balanced},
    {"experts less balanced (log-normal, sigma +0.3, at least 0.5)", popular, NULL},
    {"ranks start 20 us apart, kernels vary 5%", late, NULL},
    {"NICs half as fast", nic_half, uses_nics},
    {"NICs twice as fast", nic_double, uses_nics},
    {"HBM 10% slower", hbm_down, NULL},
    {"attention kernels 20% slower", attention_down, NULL},
    {"KV cache in the other type (BF16, FP8)", kv_other, NULL},
    {"1 ms of host time per step more", overhead, NULL},
    {"planned utilisation 20% lower", utilization_down, NULL},
    {"no overlap", no_overlap, overlaps},
};

/* The point again in the changed world. Percentiles keep the ratio that the winner had. */
static int point_again(const struct capacity_config *c, struct evaluator *e,
                       const struct change *change, const struct capacity_point *was,
                       struct capacity_point *out)
{
    struct capacity_config other = *c;
    struct hw_profile *p = NULL, *copy = NULL;
    int err = hw_profile_read(c->gpus[was->gpu].profile, &p);

    *out = *was;
    out->skipped = false;
    if (!err)
        err = hw_profile_copy(p, &copy);
    if (!err) {
        change->apply(&other, copy);
        out->knobs = other.policies[was->policy].policy == c->policies[was->policy].policy
                         ? was->knobs
                         : other.policies[was->policy].knobs;
        evaluator_use_profile(e, copy);
        err = capacity_point_run(&other, e, out);
        evaluator_use_profile(e, NULL);
        out->at_us = out->step_us * was->at_us / was->step_us;
    }
    hw_profile_free(p);
    hw_profile_free(copy);
    return err;
}

/* Whether the points, and both on the same GPUs where they share them, still fit. */
static void fits_check(const struct capacity_point points[2], bool shared,
                       struct capacity_change *out)
{
    struct memory_sum sum;
    char text[160];

    for (int i = 0; i < 2 && out->fits; i++)
        if (points[i].skipped) {
            out->fits = false;
            memcpy(out->why, points[i].why, sizeof out->why);
        }
    if (out->fits && shared && !capacity_shared_fits(&points[0], &points[1], &sum)) {
        out->fits = false;
        memory_text(&sum, text, sizeof text);
        snprintf(out->why, sizeof out->why, "does not fit: %s", text);
    }
}

/* The NICs that move the KV cache change as those of the profiles do. */
static void nics_change(struct capacity *k, struct hw_profile *scratch, const struct change *change,
                        struct capacity_config *other)
{
    scratch->f[HW_NET_NIC_GBITPS].value = 1;
    change->apply(other, scratch);
    for (int g = 0; g < k->config->num_gpus; g++)
        k->nic_GBps[g] *= hw_value(scratch, HW_NET_NIC_GBITPS);
}

/* Longer prompts or answers may be more than the model can read. */
static bool context_fits(const struct capacity *k, const struct change *change,
                         struct hw_profile *scratch, struct capacity_change *out)
{
    struct capacity_config other = *k->config;
    int most = k->model->max_context;

    change->apply(&other, scratch);
    out->fits = !most || other.num.isl + other.num.osl <= most;
    if (!out->fits)
        snprintf(out->why, sizeof out->why, "longer than the context of %s: %d tokens",
                 k->model->name, most);
    return out->fits;
}

static int change_run(struct capacity *k, struct evaluator *e, const struct change *change,
                      const struct capacity_plan *winner, struct capacity_point points[2],
                      struct capacity_change *out)
{
    struct capacity_config other = *k->config;
    struct hw_profile *scratch = NULL;
    double nic[CAPACITY_MAX_LIST];
    int err = hw_profile_new("scratch", &scratch);

    memcpy(nic, k->nic_GBps, sizeof nic);
    *out = (struct capacity_change){.name = change->name, .fits = true};
    if (!err && !context_fits(k, change, scratch, out)) {
        hw_profile_free(scratch);
        return 0;
    }
    if (!err)
        err = point_again(k->config, e, change, winner->decode, &points[0]);
    if (!err)
        err = point_again(k->config, e, change, winner->prefill, &points[1]);
    if (!err) {
        nics_change(k, scratch, change, &other);
        fits_check(points, winner->shared, out);
        if (out->fits)
            capacity_plan_of(k, &other, &points[0], &points[1], winner->shared, &out->plan);
        out->plan.decode = out->plan.prefill = NULL; /* they do not outlive this call */
    }
    memcpy(k->nic_GBps, nic, sizeof nic);
    hw_profile_free(scratch);
    return err;
}

int capacity_sensitivity(struct capacity *k, const struct capacity_plan *winner,
                         struct capacity_change *out, int *num)
{
    struct capacity_point points[2];
    struct evaluator *e = NULL;
    int err = evaluator_open(&e);

    *num = 0;
    for (size_t i = 0; i < sizeof changes / sizeof *changes && !err; i++) {
        if (changes[i].matters && !changes[i].matters(k->config, winner))
            continue;
        err = change_run(k, e, &changes[i], winner, points, &out[*num]);
        if (!err)
            ++*num;
    }
    evaluator_close(e);
    return err;
}
