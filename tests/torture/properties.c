/* Random configurations through what must hold of every one: a repeat gives the same bits, more
 * bandwidth, FLOP/s or less latency is not slower, a layer is no shorter than its slowest rank's
 * work, fast sharing is near exact sharing. Violations are counted by property and policy with the
 * largest; a scheduler that decides in order may be slower for being given more, so the program
 * fails only where the repeat differs, a bound is broken or a time is no number.
 *   properties PLANS [SEED] */
#include <glob.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "study/evaluate.h"

static uint64_t next(uint64_t *x)
{
    *x = *x * 6364136223846793005ull + 1442695040888963407ull;
    return *x >> 33;
}

#define PICK(x, list) list[next(x) % (sizeof list / sizeof *list)]

static void set(struct scenario *s, const char *key, const char *value)
{
    if (opt_set(scenario_options, s, key, value, "torture", 0))
        abort();
}

static void set_int(struct scenario *s, const char *key, int value)
{
    char text[24];

    snprintf(text, sizeof text, "%d", value);
    set(s, key, text);
}

/* Any of the files of hw/profiles/: a new one is tested by being there. */
static void set_profile(uint64_t *x, struct scenario *s)
{
    glob_t files;

    if (glob("hw/profiles/*.yaml", 0, NULL, &files))
        abort();
    set(s, "cluster.profile", files.gl_pathv[next(x) % files.gl_pathc]);
    globfree(&files);
}

static void random_scenario(uint64_t *x, struct scenario *s)
{
    static const char *const models[] = {"qwen3-30b",  "mixtral-8x7b", "deepseek-v2",
                                         "qwen3-235b", "deepseek-v3",  "dbrx"};
    static const char *const routing[] = {"balanced", "uniform", "lognormal", "zipf"};
    static const char *const gemm[] = {"fp8", "bf16"};
    static const int nodes[] = {1, 1, 2, 4}, gpus[] = {2, 4, 8}, nic[] = {100, 200, 400};
    static const int batch[] = {1, 4, 16, 32, 64, 128};

    opt_set_defaults(scenario_options, s);
    set(s, "model", PICK(x, models));
    set_profile(x, s);
    set(s, "routing.kind", PICK(x, routing));
    set(s, "gemm_dtype", PICK(x, gemm));
    set_int(s, "cluster.nodes", PICK(x, nodes));
    set_int(s, "cluster.gpus_per_node", PICK(x, gpus));
    set_int(s, "cluster.nic_Gbitps", PICK(x, nic));
    set_int(s, "batch", PICK(x, batch));
    set_int(s, "seed", (int)(next(x) % 1000000));
}

/* Any row of the table of policies, each knob at a value that a search would try; false where the
 * draw, or `none` beside it, cannot run, or it leaves a knob for simulation to settle. */
static bool random_policy(uint64_t *x, struct evaluator *e, const struct scenario *s,
                          const struct policy **p, struct knobs *k)
{
    struct layer_spec spec;
    struct knobs none;
    char why[256];

    *p = policy_at(next(x) % policy_count());
    knobs_default(*p, k);
    knobs_default(&policy_none, &none);
    if (evaluate_shape(e, s, *p, &spec) ||
        evaluate_check(e, s, &policy_none, &none, why, sizeof why))
        return false;
    for (const struct opt *o = (*p)->knobs; o->key; o++) {
        int values[256], n = policy_knob_values(*p, o, &spec, values, 256);

        if (n > 0)
            knob_set(o, k, values[next(x) % (uint64_t)n]);
    }
    return !policy_has_auto(*p, k) && evaluate_check(e, s, *p, k, why, sizeof why) == 0;
}

enum { MORE_NIC, MORE_NVLINK, MORE_HBM, MORE_FLOPS, LESS_LATENCY, NUM_BETTER };
static const char *const better_names[] = {"NIC bandwidth x1.5", "NVLink bandwidth x1.5",
                                           "HBM bandwidth x1.5", "FLOP/s x1.5", "latencies x0.5"};

static void scale(struct hw_profile *p, enum hw_field_id id, double by)
{
    hw_field_set(p, id, p->f[id].value * by, 0, HW_ASSUMED, "torture");
}

static struct hw_profile *better_profile(const struct hw_profile *p, int what)
{
    struct hw_profile *q;

    if (hw_profile_copy(p, &q))
        abort();
    if (what == MORE_NIC)
        scale(q, HW_NET_NIC_GBITPS, 1.5);
    if (what == MORE_NVLINK)
        scale(q, HW_NET_NVLINK_GBPS, 1.5);
    if (what == MORE_HBM)
        scale(q, HW_GPU_HBM_GBPS, 1.5);
    if (what == MORE_FLOPS) {
        scale(q, HW_GPU_BF16_TFLOPS, 1.5);
        scale(q, HW_GPU_FP8_TFLOPS, 1.5);
    }
    if (what == LESS_LATENCY) {
        scale(q, HW_NET_NVLINK_LAT_US, 0.5);
        scale(q, HW_NET_NIC_LAT_US, 0.5);
    }
    return q;
}

struct tally {
    const char *property, *policy;
    long tried, broken;
    double worst;
};

static void count(struct tally *t, const char *property, const char *policy, double excess,
                  double limit, const char *where)
{
    while (t->property && (t->property != property || strcmp(t->policy, policy) != 0))
        t++;
    t->property = property;
    t->policy = policy;
    t->tried++;
    t->broken += excess > limit;
    if (excess > t->worst) {
        t->worst = excess;
        if (excess > limit)
            fprintf(stderr, "%s, %s: +%.3f%% %s\n", property, policy, 100 * excess, where);
    }
}

static double layer_us(struct evaluator *e, const struct scenario *s, const struct policy *p,
                       const struct knobs *k, struct evaluation *ev)
{
    int rc = evaluate_point(e, s, p, k, -1, ev, NULL, NULL);

    if (rc || !isfinite(ev->layer_us) || ev->layer_us <= 0) {
        fprintf(stderr, "no time: error %d\n", rc);
        exit(1);
    }
    return ev->layer_us;
}

static void one_plan(uint64_t *x, struct evaluator *e, struct tally *t, long *plans, long *faults)
{
    struct scenario s = {0};
    const struct policy *p;
    struct evaluation ev;
    struct knobs k;
    char where[400], knobs[128];
    double base, again;
    int what = (int)(next(x) % NUM_BETTER);

    random_scenario(x, &s);
    evaluator_use_profile(e, NULL);
    if (random_policy(x, e, &s, &p, &k)) {
        struct hw_profile *q, *at;

        policy_knobs_text(p, &k, knobs, sizeof knobs);
        snprintf(where, sizeof where, "%s %s %dx%d batch %d nic %g %s seed %d routing %d: %s",
                 s.model, s.profile, s.nodes, s.gpus_per_node, s.batch, s.nic_Gbitps, p->name,
                 s.seed, s.routing, knobs);
        base = layer_us(e, &s, p, &k, &ev);
        if (ev.nic_util > 1 + 1e-6 || ev.nvlink_util > 1 + 1e-6) {
            fprintf(stderr, "a link carries more than it can: %s\n", where);
            ++*faults;
        }
        if (hw_profile_copy(evaluate_profile(e), &at))
            abort();
        q = better_profile(at, what);
        evaluator_use_profile(e, q);
        if (what == MORE_NIC)
            s.nic_Gbitps *= 1.5;
        count(t, better_names[what], p->name, layer_us(e, &s, p, &k, &ev) / base - 1, 1e-4, where);
        if (what == MORE_NIC)
            s.nic_Gbitps /= 1.5;
        evaluator_use_profile(e, NULL);
        again = layer_us(e, &s, p, &k, &ev);
        if (again != base) {
            fprintf(stderr, "a repeat gives %.17g after %.17g us: %s\n", again, base, where);
            ++*faults;
        }
        if (*plans % 16 == 0) {
            s.fidelity = 0; /* exact */
            count(t, "fast against exact", p->name, fabs(base / layer_us(e, &s, p, &k, &ev) - 1),
                  0.02, where);
        }
        hw_profile_free(q);
        hw_profile_free(at);
        ++*plans;
    }
    scenario_free(&s);
}

int main(int argc, char **argv)
{
    long want = argc > 1 ? atol(argv[1]) : 1000, plans = 0, faults = 0;
    uint64_t x = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    static struct tally t[64];
    struct evaluator *e;

    if (evaluator_open(&e))
        return 1;
    while (plans < want)
        one_plan(&x, e, t, &plans, &faults);
    printf("%ld plans, %ld faults\n%-24s %-6s %9s %8s %9s\n", plans, faults, "property", "policy",
           "tried", "broken", "largest");
    for (int i = 0; t[i].property; i++)
        printf("%-24s %-6s %9ld %8ld %8.3f%%\n", t[i].property, t[i].policy, t[i].tried,
               t[i].broken, 100 * t[i].worst);
    evaluator_close(e);
    return faults > 0;
}
