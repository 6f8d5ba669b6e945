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

struct work {
    struct validate_set *set;
    struct draws *draws;
    int step; /* every so many points */
    double *us;
};

static int point_draw(void *self, struct evaluator *e, size_t i)
{
    struct work *w = self;
    const struct validate_point *p = &w->set->point[i / (DRAWS + 1) * (size_t)w->step];
    int draw = (int)(i % (DRAWS + 1));
    struct evaluation ev;
    struct scenario s;
    int err = config_scenario(w->set->config, p->scenario, &s);

    if (err || !validate_counts(p))
        return err;
    /* Draw 0 is the profile itself. */
    evaluator_use_profile(e, draw ? draws_at(w->draws, s.profile, draw - 1) : NULL);
    err = evaluate_point(e, &s, p->policy, &p->knobs, -1, &ev, NULL, NULL);
    w->us[i] = ev.layer_us;
    evaluator_use_profile(e, NULL);
    scenario_free(&s);
    return err;
}

/* Adds to n the layers looked at, to held those whose measured time the interval holds. */
static void layers_count(const char *config, const char *folder, const char *set, int step, int *n,
                         int *held)
{
    struct validate_set v = {0};
    struct work w = {.set = &v, .step = step};
    struct config *c = NULL;
    size_t per, points;

    assert_int_equal(config_read(config, set ? &set : NULL, set ? 1 : 0, &c), 0);
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
    points = (v.num_points + (size_t)step - 1) / (size_t)step;
    w.us = calloc(points * (DRAWS + 1), sizeof *w.us);
    assert_int_equal(draws_open(c, DRAWS, &w.draws), 0);
    assert_int_equal(grid_each(points * (DRAWS + 1), 2, point_draw, &w), 0);
    for (size_t i = 0; i < points; i++) {
        const struct validate_point *p = &v.point[i * (size_t)step];
        const double *us = &w.us[i * (DRAWS + 1)];
        struct interval in = interval_of(us + 1, DRAWS, us[0]);

        if (!validate_counts(p))
            continue;
        ++*n;
        *held += in.low <= p->gpu.median_us && p->gpu.median_us <= in.high;
    }
    draws_close(w.draws);
    free(w.us);
    free(v.point);
    config_free(c);
}

static void test_layers_lie_in_their_intervals(void **state)
{
    int n = 0, held = 0;

    (void)state;
    layers_count("configs/h200x4.yaml", "validate/evidence/2026-11-21-h200x4/deepseek-v3",
                 "cluster.profile=h200-own", 5, &n, &held);
    layers_count("configs/h200x4_qwen3.yaml", "validate/evidence/2026-11-21-h200x4/qwen3-235b",
                 "cluster.profile=h200-own", 5, &n, &held);
    printf("layers in their interval: %d of %d\n", held, n);
    assert_true(n >= 20);
    assert_true(held >= 0.80 * n && held <= 0.97 * n);
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
