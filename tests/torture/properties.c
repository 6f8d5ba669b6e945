/* Random configurations through what must hold of every one:
 *   - a repeat gives the same bits, also in a program that did nothing before; another seed does
 * not;
 *   - no link carries more than it can, on any rank; what the NICs carried is what the routing
 * sends; a layer is no shorter than its heaviest rank's bytes and FLOPs take (bounds.h);
 *   - more bandwidth, FLOP/s, SMs or less latency make no kernel slower that runs alone, except
 * where another number of SMs makes its library pick another tile, or deal them otherwise: named;
 *   - nor the layer. A schedule that decides in order may be slower for being given more: such a
 *     layer is simulated again without limits of links, then without communication on SMs, and is
 *     put down to the first that heals it. One that neither heals is a fault;
 *   - fast sharing is near exact sharing; ranks and experts named otherwise take the same time.
 * Violations are counted by property, policy and cause with the largest; faults end with status 1.
 *   properties PLANS [SEED]     one of them again: properties 1 SEED, as a finding says */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "model/routing.h"
#include "study/evaluate.h"
#include "tests/torture/bounds.h"
#include "tests/torture/draw.h"
#include "tests/torture/relabel.h"

enum { MORE_NIC, MORE_NVLINK, MORE_HBM, MORE_FLOPS, MORE_SMS, LESS_LATENCY, NUM_BETTER };
static const char *const better_names[] = {"NIC bandwidth x1.5", "NVLink bandwidth x1.5",
                                           "HBM bandwidth x1.5", "FLOP/s x1.5",
                                           "more SMs",           "latencies x0.5"};

static void scale(struct hw_profile *p, enum hw_field_id id, double by)
{
    hw_field_set(p, id, p->f[id].value * by, 0, HW_ASSUMED, "torture");
}

/* By an even number of SMs, each as fast as before. */
static void more_sms(uint64_t *x, struct hw_profile *p)
{
    double sms = p->f[HW_GPU_NUM_SMS].value, by = (sms + 2.0 * (1 + (int)(next(x) % 16))) / sms;

    scale(p, HW_GPU_NUM_SMS, by);
    scale(p, HW_GPU_BF16_TFLOPS, by);
    scale(p, HW_GPU_FP8_TFLOPS, by);
    p->f[HW_GPU_NUM_SMS].value = round(p->f[HW_GPU_NUM_SMS].value);
}

static struct hw_profile *better_profile(uint64_t *x, const struct hw_profile *p, int what)
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
    if (what == MORE_SMS)
        more_sms(x, q);
    if (what == LESS_LATENCY) {
        scale(q, HW_NET_NVLINK_LAT_US, 0.5);
        scale(q, HW_NET_NIC_LAT_US, 0.5);
    }
    return q;
}

struct tally {
    const char *property, *policy, *cause;
    long tried, broken;
    double worst;
};

enum { TALLIES = 256 };
struct torture {
    struct evaluator *e;
    struct tally tally[TALLIES];
    long plans, faults;
    uint64_t x;
};

/* One plan and what it took. */
struct trial {
    struct scenario s;
    const struct policy *p;
    struct knobs k;
    struct evaluation ev;
    char where[512];
};

static struct tally *tally_of(struct torture *t, const char *property, const char *policy,
                              const char *cause)
{
    struct tally *a = t->tally;

    while (a->property && (strcmp(a->property, property) != 0 || strcmp(a->policy, policy) != 0 ||
                           strcmp(a->cause, cause) != 0))
        a++;
    if (a == t->tally + TALLIES - 1)
        abort();
    *a = (struct tally){property, policy, cause, a->tried, a->broken, a->worst};
    return a;
}

static void count(struct torture *t, const char *property, const struct trial *w, const char *cause,
                  double excess, double limit)
{
    struct tally *a = tally_of(t, property, w->p->name, cause);

    a->tried++;
    a->broken += excess > limit;
    if (excess > a->worst) {
        a->worst = excess;
        if (excess > limit)
            fprintf(stderr, "%s, %s, %s: +%.3f%% %s\n", property, w->p->name, cause, 100 * excess,
                    w->where);
    }
}

static void fault(struct torture *t, const char *what, const struct trial *w)
{
    fprintf(stderr, "FAULT: %s: %s\n", what, w->where);
    t->faults++;
}

/* Layers alone, of the low-latency kernels. */
static bool is_one_layer(const struct policy *p)
{
    return p == &policy_none || p == &policy_peo || p == &policy_sbo;
}

/* A policy that spans layers is simulated until it is steady; the others need no baseline here. */
static int simulate(struct evaluator *e, const struct trial *w, const struct scenario *s,
                    struct evaluation *ev)
{
    struct plan *plan;
    int rc;

    if (!is_one_layer(w->p))
        return evaluate_point(e, s, w->p, &w->k, -1, ev, NULL, NULL);
    rc = evaluate_plan(e, s, w->p, &w->k, &plan);
    if (rc)
        return rc;
    rc = evaluate_simulate(e, s, plan, -1, ev, NULL);
    plan_free(plan);
    return rc;
}

static double layer_us(struct evaluator *e, const struct trial *w, const struct scenario *s,
                       struct evaluation *ev)
{
    int rc = simulate(e, w, s, ev);

    if (rc || !isfinite(ev->layer_us) || ev->layer_us <= 0) {
        fprintf(stderr, "no time: error %d: %s\n", rc, w->where);
        exit(1);
    }
    return ev->layer_us;
}

/* The end of all that a plan of several layers does, rather than the period measured in it. */
static double end_ns(struct evaluator *e, const struct trial *w, const struct scenario *s)
{
    struct evaluation ev;
    struct trace *trace;
    struct plan *plan;
    double end = 0;

    if (evaluate_plan(e, s, w->p, &w->k, &plan) || evaluate_simulate(e, s, plan, -1, &ev, &trace))
        abort();
    for (size_t i = 0; i < trace->num_spans; i++)
        end = fmax(end, trace->spans[i].end_ns);
    trace_free(trace);
    plan_free(plan);
    return end;
}

static double end_excess(struct torture *t, const struct trial *w, const struct scenario *better,
                         const struct hw_profile *q)
{
    double base = end_ns(t->e, w, &w->s), other;

    evaluator_use_profile(t->e, q);
    other = end_ns(t->e, w, better);
    evaluator_use_profile(t->e, NULL);
    return other / base - 1;
}

/* The layer in the better world over that in this one, less 1. */
static double excess_of(struct torture *t, const struct trial *w, const struct scenario *better,
                        const struct hw_profile *q, const struct whatif *what)
{
    struct evaluation ev;
    double base, other;

    evaluator_what_if(t->e, what);
    evaluator_use_profile(t->e, NULL);
    base = layer_us(t->e, w, &w->s, &ev);
    evaluator_use_profile(t->e, q);
    other = layer_us(t->e, w, better, &ev);
    evaluator_use_profile(t->e, NULL);
    evaluator_what_if(t->e, NULL);
    return other / base - 1;
}

#define SLOWER 1e-4

static const char *const causes[] = {"who shares a link", "who gets SMs", "links and SMs"};

/* Why is the layer slower for having more? */
static const char *cause_of(struct torture *t, const struct trial *w, const struct scenario *better,
                            const struct hw_profile *q)
{
    const struct whatif links = {.infinite_nic = true, .infinite_nvlink = true};
    const struct whatif sms = {.zero_sm_comm = true};
    const struct whatif both = {
        .infinite_nic = true, .infinite_nvlink = true, .zero_sm_comm = true};

    const struct whatif *worlds[] = {&links, &sms, &both};

    if (w->ev.unsteady)
        return "never steady";

    for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++) {
        double excess = excess_of(t, w, better, q, worlds[i]);

        if (excess <= SLOWER)
            return causes[i];
        fprintf(stderr, "not for %s, +%.3f%%; ", causes[i], 100 * excess);
    }
    if (end_excess(t, w, better, q) <= SLOWER)
        return "where a period ends";
    return NULL;
}

/* Kernels that run alone, in this world and the better one. */
static const char *kernels_check(struct torture *t, const struct trial *w,
                                 const struct scenario *better, const struct hw_profile *at,
                                 const struct hw_profile *q, int what)
{
    struct plan *a, *b;
    char slower[160] = "";
    const char *cause;

    if (evaluate_plan(t->e, &w->s, w->p, &w->k, &a))
        abort();
    evaluator_use_profile(t->e, q);
    if (evaluate_plan(t->e, better, w->p, &w->k, &b))
        abort();
    evaluator_use_profile(t->e, NULL);
    cause = bounds_slower_kernel(a, at, b, q, what == MORE_SMS, slower, sizeof slower);
    if (slower[0] && !cause) {
        fprintf(stderr, "%s: ", slower);
        fault(t, "a kernel alone is slower for having more", w);
    }
    if (!cause && what == MORE_SMS && bounds_fewer_waves(a, at, b, q))
        cause = "fewer waves";
    plan_free(a);
    plan_free(b);
    return cause;
}

static void check_better(struct torture *t, struct trial *w)
{
    int what = (int)(next(&t->x) % NUM_BETTER);
    struct scenario better = w->s;
    struct hw_profile *q, *at;
    const char *cause = NULL;
    double excess;

    if (hw_profile_copy(evaluate_profile(t->e), &at))
        abort();
    q = better_profile(&t->x, at, what);
    if (what == MORE_NIC)
        better.nic_Gbitps *= 1.5;
    excess = excess_of(t, w, &better, q, NULL);
    if (excess > SLOWER || t->plans % 8 == 0)
        cause = kernels_check(t, w, &better, at, q, what);
    if (excess > SLOWER && !cause) {
        cause = cause_of(t, w, &better, q);
        if (!cause) {
            fprintf(stderr, "%s, +%.3f%%: ", better_names[what], 100 * excess);
            fault(t, "slower for having more, without a known cause", w);
        }
    }
    count(t, better_names[what], w, excess > SLOWER && cause ? cause : "all", excess, SLOWER);
    hw_profile_free(q);
    hw_profile_free(at);
}

/* Also in a program that did nothing before; and another seed matters. */
static void check_repeat(struct torture *t, struct trial *w)
{
    struct evaluation ev;
    struct evaluator *fresh;
    struct scenario other = w->s;

    if (layer_us(t->e, w, &w->s, &ev) != w->ev.layer_us)
        fault(t, "a repeat differs", w);
    if (t->plans % 64)
        return;
    if (evaluator_open(&fresh))
        abort();
    if (layer_us(fresh, w, &w->s, &ev) != w->ev.layer_us)
        fault(t, "a fresh program differs", w);
    other.seed++;
    if (is_one_layer(w->p) && w->s.routing != ROUTING_BALANCED && w->s.batch >= 16 &&
        layer_us(fresh, w, &other, &ev) == w->ev.layer_us)
        fault(t, "another seed gives the same time", w);
    evaluator_close(fresh);
}

static void check_fidelity(struct torture *t, struct trial *w)
{
    struct scenario exact = w->s;
    struct evaluation ev;

    exact.fidelity = 0;
    count(t, "fast against exact", w, "all",
          fabs(w->ev.layer_us / layer_us(t->e, w, &exact, &ev) - 1), 0.02);
}

static void check_relabelled(struct torture *t, struct trial *w)
{
    struct scenario s = w->s;
    struct plan *plan;
    struct relabelled r;
    struct evaluation ev;
    double plain;

    if (evaluate_plan(t->e, &w->s, w->p, &w->k, &plan))
        abort();
    relabel_open(&r, plan, w->s.gpus_per_node, (int)(next(&t->x) % 1000), t->plans);
    plan_free(plan);
    s.routing = ROUTING_FILE;
    s.routing_file = r.same;
    plain = layer_us(t->e, w, &s, &ev);
    if (plain != w->ev.layer_us)
        fault(t, "the same routing from a file differs", w);
    s.routing_file = r.other;
    count(t, "relabelled ranks", w, "all", fabs(layer_us(t->e, w, &s, &ev) / plain - 1), 0.002);
    relabel_close(&r);
}

static void check_bounds(struct torture *t, struct trial *w)
{
    struct plan *plan;
    char why[160] = "";

    if (evaluate_plan(t->e, &w->s, w->p, &w->k, &plan))
        abort();
    if (!bounds_hold(plan, evaluate_profile(t->e), &w->s, &w->ev, why, sizeof why)) {
        fprintf(stderr, "%s: ", why);
        fault(t, "a bound is broken", w);
    }
    plan_free(plan);
}

static bool trial_open(struct torture *t, struct trial *w)
{
    unsigned long long from = t->x;
    char knobs[200];

    *w = (struct trial){0};
    random_scenario(&t->x, &w->s);
    if (!random_policy(&t->x, t->e, &w->s, &w->p, &w->k))
        return false;
    policy_knobs_text(w->p, &w->k, knobs, sizeof knobs);
    snprintf(w->where, sizeof w->where,
             "%s %s %dx%d batch %d nic %g %s seed %d routing %d gemm %d: %s (again: 1 %llu)",
             w->s.model, w->s.profile, w->s.nodes, w->s.gpus_per_node, w->s.batch, w->s.nic_Gbitps,
             w->p->name, w->s.seed, w->s.routing, w->s.gemm_dtype, knobs, from);
    return true;
}

static void one_plan(struct torture *t)
{
    struct trial w;

    if (trial_open(t, &w)) {
        layer_us(t->e, &w, &w.s, &w.ev);
        check_bounds(t, &w);
        check_better(t, &w);
        check_repeat(t, &w);
        if (t->plans % 16 == 0)
            check_fidelity(t, &w);
        if (t->plans % 16 == 8 && is_one_layer(w.p))
            check_relabelled(t, &w);
        t->plans++;
    }
    scenario_free(&w.s);
}

int main(int argc, char **argv)
{
    long want = argc > 1 ? atol(argv[1]) : 1000;
    static struct torture t;

    t.x = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    if (evaluator_open(&t.e))
        return 1;
    while (t.plans < want)
        one_plan(&t);
    printf("%ld plans, %ld faults\n%-22s %-6s %-20s %8s %7s %9s\n", t.plans, t.faults, "property",
           "policy", "cause", "tried", "broken", "largest");
    for (const struct tally *a = t.tally; a->property; a++)
        printf("%-22s %-6s %-20s %8ld %7ld %8.3f%%\n", a->property, a->policy, a->cause, a->tried,
               a->broken, 100 * a->worst);
    evaluator_close(t.e);
    return t.faults > 0;
}
