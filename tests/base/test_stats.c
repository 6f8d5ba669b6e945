#include "tests/check.h"

#include <math.h>

#include "base/stats.h"

static void quantiles(void **state)
{
    static const double x[] = {4, 1, 3, 2};

    (void)state;
    assert_true(isnan(stats_median(x, 0)));
    assert_true(stats_median(x, 1) == 4);
    assert_true(stats_median(x, 4) == 2.5);
    assert_true(stats_quantile(x, 4, 0) == 1);
    assert_true(stats_quantile(x, 4, 1) == 4);
    assert_true(fabs(stats_quantile(x, 4, 0.9) - 3.7) < 1e-12);
    assert_true(x[0] == 4); /* the input is not sorted in place */
}

static void relative_errors(void **state)
{
    static const double p[] = {110, 90, 105, 100, 5, NAN}, m[] = {100, 100, 100, 100, 0, 1};
    struct stats_error e;

    (void)state;
    stats_error_of(p, m, 6, &e);
    assert_int_equal(e.n, 4); /* pairs without a relative error are left out, and counted so */
    assert_true(fabs(e.median_ape - 0.075) < 1e-12);
    assert_true(fabs(e.max_ape - 0.1) < 1e-12);
    assert_true(fabs(e.bias - 0.025) < 1e-12);
    stats_error_of(p, m, 0, &e);
    assert_int_equal(e.n, 0);
    assert_true(isnan(e.median_ape));
}

static void kendall(void **state)
{
    static const double up[] = {1, 2, 3, 4}, down[] = {4, 3, 2, 1}, flat[] = {1, 1, 1, 1};
    static const double tied[] = {1, 2, 2, 3};

    (void)state;
    assert_true(stats_kendall_tau(up, up, 4) == 1);
    assert_true(stats_kendall_tau(up, down, 4) == -1);
    assert_true(fabs(stats_kendall_tau(up, tied, 4) - 5 / sqrt(30)) < 1e-12);
    assert_true(stats_kendall_tau(flat, flat, 4) == 1);
    assert_true(isnan(stats_kendall_tau(up, flat, 4)));
    assert_true(isnan(stats_kendall_tau(up, up, 1)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles),
        cmocka_unit_test(relative_errors),
        cmocka_unit_test(kendall),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
