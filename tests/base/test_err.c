#include "tests/check.h"

#include "base/err.h"
#include "base/log.h"

static void every_code_has_its_own_text(void **state)
{
    (void)state;
    assert_string_equal(err_text(0), "ok");
    assert_string_equal(err_text(1), "unknown error");
    assert_string_equal(err_text(-1000), "unknown error");
    for (int a = ERR_INFEASIBLE; a < 0; a++) {
        assert_string_not_equal(err_text(a), "unknown error");
        for (int b = ERR_INFEASIBLE; b < a; b++)
            assert_string_not_equal(err_text(a), err_text(b));
    }
}

static void exit_status_tells_input_from_run(void **state)
{
    (void)state;
    assert_int_equal(err_exit_status(0), 0);
    assert_int_equal(err_exit_status(ERR_CONFIG), 2);
    assert_int_equal(err_exit_status(ERR_PARSE), 2);
    assert_int_equal(err_exit_status(ERR_RANGE), 2);
    assert_int_equal(err_exit_status(ERR_USAGE), 2);
    assert_int_equal(err_exit_status(ERR_NOTFOUND), 2);
    assert_int_equal(err_exit_status(ERR_IO), 2);
    assert_int_equal(err_exit_status(ERR_DATA), 2);
    assert_int_equal(err_exit_status(ERR_NOMEM), 1);
    assert_int_equal(err_exit_status(-1000), 1);
}

static void messages_keep_to_one_line(void **state)
{
    struct check_stderr c;
    char *text;

    (void)state;
    check_stderr_begin(&c);
    log_error_at("a.yaml", 3, "bad '%s'", "x\ny\033[31m");
    log_warn_at("a.yaml", 0, "odd");
    log_error("plain");
    log_warn("warned");
    log_note("noted");
    text = check_stderr_end(&c);
    assert_string_equal(text, "peosim: a.yaml:3: error: bad 'x?y?[31m'\n"
                              "peosim: a.yaml: warning: odd\n"
                              "peosim: error: plain\n"
                              "peosim: warning: warned\n"
                              "peosim: noted\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_its_own_text),
        cmocka_unit_test(exit_status_tells_input_from_run),
        cmocka_unit_test(messages_keep_to_one_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
