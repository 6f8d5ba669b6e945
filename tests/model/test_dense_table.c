#include "tests/check.h"

#include <math.h>

#include "model/law/dense_table.h"

static struct hw_profile *with_table(enum hw_origin law, enum hw_origin table)
{
    struct hw_profile *p;
    double x[4096], y[4096];
    int n = law_dense_cells(), num_n, num_k;

    assert_int_equal(hw_profile_new("h200", &p), 0);
    law_dense_knots(1, &num_n);
    law_dense_knots(2, &num_k);
    /* a factor that grows with the number of m's knot and nothing else */
    for (int i = 0; i < n; i++) {
        x[i] = i + 1;
        y[i] = exp(0.01 * (i / (num_n * num_k)));
    }
    assert_int_equal(hw_field_set(p, HW_FP8_EFF, 0.9, 0, law, "x"), 0);
    assert_int_equal(hw_table_set(p, "dense.fp8", x, y, (size_t)n, table, "x"), 0);
    return p;
}

static void test_corners_weigh_one_and_stand_at_knots(void **state)
{
    const double shapes[][LAW_DENSE_AXES] = {
        {1, 128, 128}, {0.5, 1, 1e9}, {100, 3000, 5120}, {1e6, 7168, 2048}};
    int cell[LAW_DENSE_CORNERS];
    double weight[LAW_DENSE_CORNERS];

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        double sum = 0;

        law_dense_corners(shapes[i], cell, weight);
        for (int c = 0; c < LAW_DENSE_CORNERS; c++) {
            assert_true(weight[c] >= 0 && cell[c] >= 0 && cell[c] < law_dense_cells());
            sum += weight[c];
        }
        assert_true(fabs(sum - 1) < 1e-12);
    }
}

static void test_factor_is_the_tables_at_knots_and_between(void **state)
{
    struct hw_profile *p = with_table(HW_FITTED, HW_FITTED);
    const struct hw_table *t = law_dense_table(p, LAW_DENSE_FP8);
    int num;
    const double *knot = law_dense_knots(0, &num);

    (void)state;
    assert_non_null(t);
    for (int i = 0; i < num; i++)
        assert_true(fabs(law_dense_factor(t, knot[i], 1000, 7168) - exp(0.01 * i)) < 1e-9);
    assert_true(fabs(law_dense_factor(t, sqrt(knot[3] * knot[4]), 300, 300) - exp(0.035)) < 1e-9);
    assert_true(law_dense_factor(t, 1e7, 1, 1) == law_dense_factor(t, knot[num - 1], 128, 128));
    assert_true(law_dense_factor(NULL, 1, 1, 1) == 1);
    hw_profile_free(p);
}

static void test_a_table_corrects_its_own_law_only(void **state)
{
    struct hw_profile *p = with_table(HW_FITTED, HW_TRANSFERRED);

    (void)state;
    assert_null(law_dense_table(p, LAW_DENSE_FP8));
    assert_null(law_dense_table(p, LAW_DENSE_BF16));
    hw_profile_free(p);
    p = with_table(HW_TRANSFERRED, HW_TRANSFERRED);
    assert_non_null(law_dense_table(p, LAW_DENSE_FP8));
    hw_profile_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corners_weigh_one_and_stand_at_knots),
        cmocka_unit_test(test_factor_is_the_tables_at_knots_and_between),
        cmocka_unit_test(test_a_table_corrects_its_own_law_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
