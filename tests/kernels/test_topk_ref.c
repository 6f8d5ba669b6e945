/* The CPU reference of the router. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "kernels/topk_ref.h"

static void chooses_by_falling_logit(void **state)
{
    static const double logits[5] = {0.5, 2, -1, 2, 1};
    int index[3];
    double weight[3], sum = 2 + exp(-1);

    (void)state;
    topk_ref(TOPK_SOFTMAX, 5, 3, logits, index, weight);
    assert_int_equal(index[0], 1); /* of equals the lower expert */
    assert_int_equal(index[1], 3);
    assert_int_equal(index[2], 4);
    assert_true(fabs(weight[0] - 1 / sum) < 1e-15 && weight[1] == weight[0]);
    assert_true(fabs(weight[2] - exp(-1) / sum) < 1e-15);
}

static void sigmoid_weighs_otherwise(void **state)
{
    const double logits[2] = {0, log(3)};
    int index[2];
    double weight[2];

    (void)state;
    topk_ref(TOPK_SIGMOID, 2, 2, logits, index, weight);
    assert_int_equal(index[0], 1);
    assert_true(fabs(weight[0] - 0.75 / 1.25) < 1e-15);
}

static void not_a_number_comes_last(void **state)
{
    static const double logits[3] = {NAN, -5, NAN};
    int index[3];
    double weight[3];

    (void)state;
    topk_ref(TOPK_SOFTMAX, 3, 3, logits, index, weight);
    assert_int_equal(index[0], 1);
    assert_int_equal(index[1], 0);
    assert_int_equal(index[2], 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chooses_by_falling_logit),
        cmocka_unit_test(sigmoid_weighs_otherwise),
        cmocka_unit_test(not_a_number_comes_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
