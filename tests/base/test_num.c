#include "tests/check.h"

#include "base/err.h"
#include "base/num.h"

static void doubles_as_users_write_them(void **state)
{
    static const char *const bad[] = {"",      " 1",  "1 ",  "nan", "inf", "0x10", "1_000",
                                      "1e999", "1,5", "--1", "e5",  "1e",  "+",    "1.2.3"};
    double v = 7;

    (void)state;
    assert_int_equal(num_double("1e6", &v), 0);
    assert_true(v == 1e6);
    assert_int_equal(num_double("-0.25", &v), 0);
    assert_true(v == -0.25);
    assert_int_equal(num_double(".5", &v), 0);
    assert_true(v == 0.5);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(num_double(bad[i], &v), ERR_PARSE);
    assert_int_equal(num_double(NULL, &v), ERR_PARSE);
    assert_true(v == 0.5); /* untouched on failure */
}

static void whole_numbers(void **state)
{
    static const char *const bad[] = {"1.5", "", "1e-3", "9223372036854775808", "1e16", "x"};
    long long v = 7;

    (void)state;
    assert_int_equal(num_int("-12", &v), 0);
    assert_int_equal(v, -12);
    assert_int_equal(num_int("1e6", &v), 0);
    assert_int_equal(v, 1000000);
    assert_int_equal(num_int("8.0", &v), 0);
    assert_int_equal(v, 8);
    assert_int_equal(num_int("9223372036854775807", &v), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(num_int(bad[i], &v), ERR_PARSE);
}

static void booleans(void **state)
{
    bool v = false;

    (void)state;
    assert_int_equal(num_bool("Yes", &v), 0);
    assert_true(v);
    assert_int_equal(num_bool("off", &v), 0);
    assert_false(v);
    assert_int_equal(num_bool("1", &v), ERR_PARSE);
    assert_int_equal(num_bool(NULL, &v), ERR_PARSE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(doubles_as_users_write_them),
        cmocka_unit_test(whole_numbers),
        cmocka_unit_test(booleans),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
