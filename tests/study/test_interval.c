/* Stated 90% intervals hold the truth: layers measured on GPUs, and fields that were measured where
 * other GPUs' values would have stood in. */
#include <math.h>
#include <stdlib.h>

#include "hw/profile.h"
#include "hw/spread.h"
#include "study/config.h"
#include "study/draws.h"
#include "study/grid.h"
#include "study/validate.h"
#include "tests/check.h"

#define DRAWS 40
/* Layers that neither laws nor profile were made from. */
#define HELDOUT "validate/evidence/2026-11-21-h200x2/heldout/"

struct work {
    struct validate_set *set;
    struct draws *draws;
    double *us, *gain_pct;
};

struct count {
    int n, held, gains, gains_held;
};

static int point_draw(void *self, struct evaluator *e, size_t i)
{
    struct work *w = self;
    const struct validate_point *p = &w->set->point[i / (DRAWS + 1)];
    int draw = (int)(i % (DRAWS + 1));
    struct evaluation ev;
    struct scenario s;
    int err = config_scenario(w->set->config, p->scenario, &s);

    if (err || !validate_counts(p))
        return err;
    s.attention = ATTENTION_OFF; /* as these layers were measured */
    /* Draw 0 is the profile itself. */
    evaluator_use_profile(e, draw ? draws_at(w->draws, s.profile, draw - 1) : NULL);
    err = evaluate_point(e, &s, p->policy, &p->knobs, -1, &ev, NULL, NULL);
    w->us[i] = ev.layer_us;
    w->gain_pct[i] = ev.gain_pct;
    evaluator_use_profile(e, NULL);
    scenario_free(&s);
    return err;
}

static bool holds(const double *drawn, double truth)
{
    struct interval in = interval_of(drawn + 1, DRAWS, drawn[0]);

    return in.low <= truth && truth <= in.high;
}

/* Adds the layers of a set, and those whose measured time, or gain, their interval holds. */
static void layers_count(const char *config, const char *folder, struct count *out)
{
    struct validate_set v = {0};
    struct work w = {.set = &v};
    const char *set = "cluster.profile=h200-own";
    struct config *c = NULL;
    size_t per, points;

    assert_int_equal(config_read(config, &set, 1, &c), 0);
    v.config = c;
    v.num_points = config_num_points(c);
    v.point = calloc(v.num_points, sizeof *v.point);
    per = config_num_points_per_scenario(c);
    for (size_t i = 0; i < v.num_points; i++) {
        int entry;

        v.point[i].index = i;
        v.point[i].scenario = i / per;
        config_knobs(c, i % per, &v.point[i].policy, &v.point[i].knobs, &entry);
    }
    assert_int_equal(validate_read(&v, folder), 0);
    points = v.num_points * (DRAWS + 1);
    w.us = calloc(points, sizeof *w.us);
    w.gain_pct = calloc(points, sizeof *w.gain_pct);
    assert_int_equal(draws_open(c, DRAWS, &w.draws), 0);
    assert_int_equal(grid_each(points, 2, point_draw, &w), 0);
    for (size_t i = 0; i < v.num_points; i++) {
        const struct validate_point *p = &v.point[i], *none = validate_none(&v, p);

        if (!validate_counts(p))
            continue;
        out->n++;
        out->held += holds(&w.us[i * (DRAWS + 1)], p->gpu.median_us);
        if (!none || none == p)
            continue;
        out->gains++;
        out->gains_held += holds(&w.gain_pct[i * (DRAWS + 1)],
                                 validate_gain_pct(none->gpu.median_us, p->gpu.median_us));
    }
    draws_close(w.draws);
    free(w.us);
    free(w.gain_pct);
    free(v.point);
    config_free(c);
}

static void test_layers_lie_in_their_intervals(void **state)
{
    static const char *const sets[][2] = {
        {"configs/h200x2.yaml", HELDOUT "ep2-deepseek-v3"},
        {"configs/h200x2_qwen3.yaml", HELDOUT "ep2-qwen3-235b"},
        {"configs/h200x2_qwen3_30b.yaml", HELDOUT "ep2-qwen3-30b"},
        {"configs/h200x2_mixtral.yaml", HELDOUT "ep2-mixtral"}};
    struct count c = {0};

    (void)state;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        layers_count(sets[i][0], sets[i][1], &c);
    printf("layers in their interval: %d of %d, gains %d of %d\n", c.held, c.n, c.gains_held,
           c.gains);
    assert_true(c.n >= 60);
    assert_true(c.held >= 0.80 * c.n && c.held <= 0.97 * c.n);
    assert_true(c.gains_held >= 0.80 * c.gains && c.gains_held <= 0.97 * c.gains);
}

/* A field that another GPU measured, with h200's value in its place and the prior around it. */
static void test_fields_lie_in_their_prior(void **state)
{
    static const char *const names[] = {"h20", "h800", "h100", "b200", "b300", "gb200", "gb300"};
    struct hw_profile *from = NULL;
    int n = 0, held = 0;

    (void)state;
    assert_int_equal(hw_profile_read("h200", &from), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct hw_profile *p = NULL;

        assert_int_equal(hw_profile_read(names[i], &p), 0);
        for (int id = 0; id < HW_FIELD_COUNT; id++) {
            double within = hw_field_within((enum hw_field_id)id), a = from->f[id].value,
                   b = p->f[id].value;

            if ((p->f[id].origin != HW_FITTED && p->f[id].origin != HW_MEASURED) || within <= 1 ||
                (from->f[id].origin != HW_FITTED && from->f[id].origin != HW_MEASURED) || a <= 0 ||
                b <= 0)
                continue;
            n++;
            held += fabs(log(b / a)) <= log(within);
        }
        hw_profile_free(p);
    }
    hw_profile_free(from);
    printf("fields in their prior: %d of %d\n", held, n);
    assert_true(n > 200);
    assert_true(held >= 0.80 * n && held <= 0.97 * n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers_lie_in_their_intervals),
        cmocka_unit_test(test_fields_lie_in_their_prior),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
