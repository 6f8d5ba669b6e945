/* The CPU reference of the exchange's casts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "kernels/comm_ref.h"

static void e4m3_rounds_to_nearest_even(void **state)
{
    (void)state;
    static const float cases[][2] = {{0.0f, 0.0f},
                                     {1.0f, 1.0f},
                                     {1.0625f, 1.0f},
                                     {1.1875f, 1.25f},
                                     {1.07f, 1.125f},
                                     {-17.0f, -16.0f},
                                     {-19.0f, -20.0f},
                                     {447.0f, 448.0f},
                                     {1000.0f, 448.0f},
                                     {-1000.0f, -448.0f},
                                     {0.001953125f, 0.001953125f},
                                     {0.0009f, 0.0f},
                                     {0.0146484375f, 0.015625f}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_true(comm_ref_round_e4m3(cases[i][0]) == cases[i][1]);
}

/* Every e4m3 value must be a fixed point. */
static void e4m3_values_stay(void **state)
{
    (void)state;
    for (int code = 0; code < 0x7f; code++) {
        int exponent = code >> 3, mantissa = code & 7;
        float v = exponent == 0 ? ldexpf((float)mantissa, -9)
                                : ldexpf(1.0f + (float)mantissa / 8.0f, exponent - 7);
        assert_true(comm_ref_round_e4m3(v) == v);
        assert_true(comm_ref_round_e4m3(-v) == -v);
    }
}

static void bf16_round_trips(void **state)
{
    (void)state;
    assert_int_equal(comm_ref_to_bf16(1.0f), 0x3f80);
    assert_int_equal(comm_ref_to_bf16(1.00390625f), 0x3f80); /* a tie, to even */
    assert_int_equal(comm_ref_to_bf16(1.01171875f), 0x3f82); /* a tie, to even */
    for (int bits = 0; bits < 0x7f80; bits += 7)
        assert_int_equal(comm_ref_to_bf16(comm_ref_from_bf16((uint16_t)bits)), bits);
}

static void the_cast_keeps_the_largest_and_loses_little(void **state)
{
    (void)state;
    uint16_t x[256];
    double out[256], in2 = 0, diff2 = 0;
    for (int i = 0; i < 256; i++)
        x[i] = comm_ref_to_bf16((float)((i * 37) % 101 - 50) / (i < 128 ? 7.0f : 900.0f));
    comm_ref_cast(out, x, 256, 1);
    for (int i = 0; i < 256; i++) {
        double v = comm_ref_from_bf16(x[i]);
        in2 += v * v;
        diff2 += (out[i] - v) * (out[i] - v);
    }
    assert_true(sqrt(diff2 / in2) < 0.03);
    comm_ref_cast(out, x, 256, 0);
    for (int i = 0; i < 256; i++)
        assert_true(out[i] == comm_ref_from_bf16(x[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(e4m3_rounds_to_nearest_even),
        cmocka_unit_test(e4m3_values_stay),
        cmocka_unit_test(bf16_round_trips),
        cmocka_unit_test(the_cast_keeps_the_largest_and_loses_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
