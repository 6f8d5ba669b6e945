/* Lower bounds: never above a simulated time, near the best of all schedules where these can be
 * tried, and quick. */
#include "tests/check.h"

#include <math.h>
#include <time.h>

#include "tests/torture/bound_check.h"

static void test_no_random_point_beats_its_bound(void **state)
{
    struct bound_checks c = {.least_gap = INFINITY};
    uint64_t x = 20261130;

    (void)state;
    while (c.num < 300)
        bound_check(&x, &c, stderr);
    assert_int_equal(c.violations, 0);
    assert_true(c.least_gap < 0.15); /* some are near: the bound says something */
}

static void scenario_of(struct scenario *s, const char *const *sets)
{
    memset(s, 0, sizeof *s);
    assert_int_equal(opt_set_defaults(scenario_options, s), 0);
    for (int i = 0; sets[i]; i += 2)
        assert_int_equal(opt_set(scenario_options, s, sets[i], sets[i + 1], "test", 0), 0);
}

/* The least time of every point of peo and none, all rounds, methods and every fourth SM count. */
static double exhaustive_us(struct evaluator *e, const struct scenario *s)
{
    struct evaluation ev;
    struct knobs k;
    double least;

    knobs_default(&policy_none, &k);
    assert_int_equal(evaluate_point(e, s, &policy_none, &k, -1, &ev, NULL, NULL), 0);
    least = ev.layer_us;
    knobs_default(&policy_peo, &k);
    for (k.overlap_method = 1; k.overlap_method <= 4; k.overlap_method++)
        for (k.num_rounds = 2; k.num_rounds <= 16; k.num_rounds *= 2)
            for (k.num_sms = 4; k.num_sms < 64; k.num_sms += 4) {
                char why[256];

                if (evaluate_check(e, s, &policy_peo, &k, why, sizeof why))
                    continue;
                assert_int_equal(evaluate_point(e, s, &policy_peo, &k, -1, &ev, NULL, NULL), 0);
                least = fmin(least, ev.layer_us);
            }
    return least;
}

/* Two GPUs over NVLink: of all 2- and 4-round schedules the best is `none`, a chain of kernels. */
static void test_tight_where_the_optimum_is_known(void **state)
{
    static const char *const sets[] = {
        "model", "dbrx", "cluster.nodes", "1",        "cluster.gpus_per_node", "2",
        "batch", "64",   "routing.kind",  "balanced", "cluster.profile",       "h20",
        NULL};
    struct evaluator *e;
    struct scenario s;
    struct bound b;
    struct knobs k;
    double least;

    (void)state;
    assert_int_equal(evaluator_open(&e), 0);
    scenario_of(&s, sets);
    knobs_default(&policy_peo, &k);
    assert_int_equal(bound_of(e, &s, &policy_peo, &k, &b), 0);
    least = exhaustive_us(e, &s);
    assert_true(b.us <= least);
    assert_true(least < 1.12 * b.us);
    scenario_free(&s);
    evaluator_close(e);
}

static void test_parts_sum_and_more_of_anything_never_raises_it(void **state)
{
    static const char *const slow[] = {"cluster.nodes",      "2",   "batch", "64",
                                       "cluster.nic_Gbitps", "100", NULL};
    static const char *const fast[] = {"cluster.nodes",      "2",   "batch", "64",
                                       "cluster.nic_Gbitps", "400", NULL};
    struct bound a, b;
    struct evaluator *e;
    struct scenario s;
    struct knobs k;

    (void)state;
    assert_int_equal(evaluator_open(&e), 0);
    knobs_default(&policy_peo, &k);
    scenario_of(&s, slow);
    assert_int_equal(bound_of(e, &s, &policy_peo, &k, &a), 0);
    scenario_free(&s);
    scenario_of(&s, fast);
    assert_int_equal(bound_of(e, &s, &policy_peo, &k, &b), 0);
    scenario_free(&s);
    evaluator_close(e);
    assert_true(a.us > b.us && b.us > 0 && b.physical_us <= b.us);
    assert_true(a.by == BOUND_NIC_OUT || a.by == BOUND_NIC_IN);
    assert_float_equal(a.head_us + a.body_us + a.tail_us, a.us, 1e-6);
    assert_true(bound_gap_pct(&a, 1.1 * a.us) > 9.99 && bound_gap_pct(&a, 1.1 * a.us) < 10.01);
}

/* A send that follows tiles starts beside the GEMM: its head was counted behind it, and a few
 * points in ten thousand took less than that. */
static void test_a_send_that_follows_tiles_begins_before_they_end(void **state)
{
    static const char *const sets[] = {
        "model", "qwen3-30b", "cluster.profile", "h200-own", "cluster.nodes", "2",
        "batch", "1",         "gemm_dtype",      "bf16",     "routing.kind",  "balanced",
        NULL};
    struct evaluation ev;
    struct evaluator *e;
    struct scenario s;
    struct bound b;
    struct knobs k;

    (void)state;
    assert_int_equal(evaluator_open(&e), 0);
    scenario_of(&s, sets);
    knobs_default(&policy_sbo, &k);
    assert_int_equal(evaluate_settle(e, &s, &policy_sbo, &k), 0);
    assert_int_equal(bound_of(e, &s, &policy_sbo, &k, &b), 0);
    assert_int_equal(evaluate_point(e, &s, &policy_sbo, &k, -1, &ev, NULL, NULL), 0);
    assert_true(b.us <= ev.layer_us);
    scenario_free(&s);
    evaluator_close(e);
}

/* Jitter shortens some kernels by chance. */
static void test_nothing_is_proven_under_jitter(void **state)
{
    static const char *const sets[] = {"skew.jitter", "0.1", NULL};
    struct evaluator *e;
    struct scenario s;
    struct bound b;
    struct knobs k;

    (void)state;
    assert_int_equal(evaluator_open(&e), 0);
    knobs_default(&policy_none, &k);
    scenario_of(&s, sets);
    assert_int_equal(bound_of(e, &s, &policy_none, &k, &b), 0);
    assert_true(b.by == BOUND_NONE && b.us == 0 && isnan(bound_gap_pct(&b, 100)));
    scenario_free(&s);
    evaluator_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_random_point_beats_its_bound),
        cmocka_unit_test(test_tight_where_the_optimum_is_known),
        cmocka_unit_test(test_parts_sum_and_more_of_anything_never_raises_it),
        cmocka_unit_test(test_a_send_that_follows_tiles_begins_before_they_end),
        cmocka_unit_test(test_nothing_is_proven_under_jitter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
