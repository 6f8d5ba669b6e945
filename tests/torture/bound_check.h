/* A random point's time against its bound. */
#ifndef PEOSIM_TESTS_TORTURE_BOUND_CHECK_H
#define PEOSIM_TESTS_TORTURE_BOUND_CHECK_H

#include <math.h>
#include <string.h>

#include "study/bound.h"
#include "tests/torture/draw.h"

/* A steady period is taken for one where two differ by no more than this (study/evaluate.c). */
#define BOUND_STEADY 2e-3

struct bound_checks {
    size_t num, violations;
    double least_gap; /* of all: layer / bound - 1 */
};

static bool bound_draw(uint64_t *x, struct evaluator *e, struct scenario *s,
                       const struct policy **p, struct knobs *k)
{
    memset(s, 0, sizeof *s);
    random_scenario(x, s);
    if (next(x) % 4 == 0) {
        set(s, "phase", "prefill");
        set_int(s, "batch", 256 << next(x) % 3);
    }
    if (next(x) % 3 == 0)
        set(s, "comm", next(x) % 2 ? "nccl" : "normal");
    if (random_policy(x, e, s, p, k))
        return true;
    scenario_free(s);
    return false;
}

/* One point more; false: the draw cannot run. */
static bool bound_check(uint64_t *x, struct bound_checks *c, FILE *f)
{
    struct evaluator *e;
    const struct policy *p;
    struct evaluation ev;
    struct scenario s;
    struct bound b;
    struct knobs k;
    bool ran;

    if (evaluator_open(&e))
        abort();
    evaluate_hush(e);
    if (next(x) % 2)
        evaluator_whole_layers(e);
    ran = bound_draw(x, e, &s, &p, &k);
    if (ran) {
        double slack = 1 + (p->spans_layers ? BOUND_STEADY : 1e-9);

        if (bound_of(e, &s, p, &k, &b) || evaluate_point(e, &s, p, &k, -1, &ev, NULL, NULL))
            abort();
        c->num++;
        if (b.us > 0)
            c->least_gap = fmin(c->least_gap, ev.layer_us / b.us - 1);
        if (b.us > ev.layer_us * slack || b.physical_us > b.us || !(b.us > 0)) {
            char knobs[256], text[4096];

            c->violations++;
            policy_knobs_text(p, &k, knobs, sizeof knobs);
            scenario_text(&s, text, sizeof text);
            fprintf(f,
                    "bound %.3f (%s, rank %d: %.1f %.1f %.1f) physical %.1f above %.3f us: %s %s | "
                    "%s\n",
                    b.us, bound_by_name(b.by), b.rank, b.head_us, b.body_us, b.tail_us,
                    b.physical_us, ev.layer_us, p->name, knobs, text);
        }
        scenario_free(&s);
    }
    evaluator_close(e);
    return ran;
}

#endif
