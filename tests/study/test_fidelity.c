/* How far the fast fidelity's layer times are from exact: what the banner of every result states.
 */
#include "tests/check.h"

#include <math.h>
#include <stdlib.h>

#include "study/evaluate.h"

enum { POINTS_MAX = 1000 };

struct found {
    double off[POINTS_MAX]; /* |fast / exact - 1| of a layer or a baseline */
    int points, flips;      /* signs of gains beyond 1% that differ */
    int unsteady;           /* layers whose period never repeats, */
    double unsteady_most;   /* and how far these are off, at most */
};

static int double_rise(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void point_compare(struct evaluator *e, struct scenario *s, const struct policy *p,
                          const struct knobs *k, struct found *f)
{
    struct evaluation exact, fast;
    char why[200];

    if (evaluate_check(e, s, p, k, why, sizeof why))
        return;
    s->fidelity = 0;
    assert_int_equal(evaluate_point(e, s, p, k, -1, &exact, NULL, NULL), 0);
    s->fidelity = 1;
    assert_int_equal(evaluate_point(e, s, p, k, -1, &fast, NULL, NULL), 0);
    assert_true(f->points + 2 <= POINTS_MAX);
    if (exact.unsteady || fast.unsteady) {
        f->unsteady++;
        f->unsteady_most = fmax(f->unsteady_most, fabs(fast.layer_us / exact.layer_us - 1));
        return;
    }
    f->off[f->points++] = fabs(fast.layer_us / exact.layer_us - 1);
    f->off[f->points++] = fabs(fast.none_us / exact.none_us - 1);
    if (f->off[f->points - 1] > 0.005 || f->off[f->points - 2] > 0.005)
        print_message("%s, EP%d, NIC %g Gb/s, batch %d: layer off by %.2f%%, baseline by %.2f%%\n",
                      p->name, s->nodes * s->gpus_per_node, s->nic_Gbitps, s->batch,
                      100 * f->off[f->points - 2], 100 * f->off[f->points - 1]);
    f->flips += fabs(exact.gain_pct) > 1 && exact.gain_pct * fast.gain_pct < 0;
}

static void scenario_compare(const char *nodes, const char *nic, const char *batch, struct found *f)
{
    const char *const sets[] = {"model",
                                "deepseek-v3",
                                "cluster.profile",
                                "h800",
                                "cluster.nodes",
                                nodes,
                                "cluster.nic_Gbitps",
                                nic,
                                "routing.kind",
                                "lognormal",
                                "routing.sigma",
                                "0.3",
                                "skew.start_us",
                                "2",
                                "batch",
                                batch};
    struct evaluator *e = NULL;
    struct scenario s = {0};

    assert_int_equal(evaluator_open(&e), 0);
    assert_int_equal(opt_set_defaults(scenario_options, &s), 0);
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i += 2)
        assert_int_equal(opt_set(scenario_options, &s, sets[i], sets[i + 1], "test", 0), 0);
    for (size_t i = 0; i < policy_count(); i++) {
        const struct policy *p = policy_at(i);
        struct knobs k;

        knobs_default(p, &k);
        for (int method = 1; method <= (p == &policy_peo ? 4 : 1); method++) {
            k.overlap_method = method;
            point_compare(e, &s, p, &k, f);
        }
    }
    scenario_free(&s);
    evaluator_close(e);
}

static void test_fast_is_within_what_results_state(void **state)
{
    static const char *const nics[] = {"10", "25", "50", "100", "200", "400", "800"};
    static const char *const nodes[] = {"1", "2", "4", "8"};
    static struct found f;

    (void)state;
    for (size_t n = 0; n < sizeof nodes / sizeof *nodes; n++)
        for (size_t i = 0; i < sizeof nics / sizeof *nics; i++)
            if (n < 3 || i % 3 == 1) /* EP64 takes longest, exactly */
                scenario_compare(nodes[n], nics[i], i % 2 ? "32" : "128", &f);
    qsort(f.off, (size_t)f.points, sizeof *f.off, double_rise);
    print_message(
        "%d layers: median %.4f%%, 99 of 100 within %.2f%%, most %.2f%%, %d signs differ\n",
        f.points, 100 * f.off[f.points / 2], 100 * f.off[f.points * 99 / 100],
        100 * f.off[f.points - 1], f.flips);
    print_message("%d layers never settle into a period: most %.2f%%\n", f.unsteady,
                  100 * f.unsteady_most);
    assert_true(f.points > 200);
    assert_true(f.off[f.points / 2] < 0.0005);
    assert_true(f.off[f.points * 99 / 100] < 0.005);
    assert_true(f.off[f.points - 1] < 0.02);
    assert_true(f.off[f.points - 1] > 0); /* else both ran the same engine */
    assert_int_equal(f.flips, 0);
    assert_true(f.unsteady < f.points / 40 && f.unsteady_most < 0.15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fast_is_within_what_results_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
