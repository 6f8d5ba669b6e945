/* base/watch.c: a wait that ends in time says nothing; one that does not ends its process. */
#include "base/watch.h"

#include <sys/wait.h>
#include <time.h>

#include "base/err.h"
#include "tests/check.h"

static void a_wait_that_ends_in_time_says_nothing(void **state)
{
    struct check_stderr c;
    struct watch w;
    char *text;

    (void)state;
    check_stderr_begin(&c);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(watch_begin(&w, 30, "test %d", i), 0);
        watch_end(&w);
    }
    text = check_stderr_end(&c);
    assert_string_equal(text, "");
    free(text);
}

static void a_wait_that_does_not_ends_the_process(void **state)
{
    struct check_stderr c;
    struct watch w;
    time_t start = time(NULL);
    int status = 0;
    char *text;
    pid_t pid;

    (void)state;
    check_stderr_begin(&c);
    pid = fork();
    if (pid == 0) {
        if (!watch_begin(&w, 0.1, "rank %d waited for rank 1", 0))
            sleep(60);
        _exit(77);
    }
    waitpid(pid, &status, 0);
    text = check_stderr_end(&c);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), err_exit_status(ERR_TIMEOUT));
    assert_string_equal(
        text, "peosim: error: rank 0 waited for rank 1: in vain for 0.1 s (deadline passed)\n");
    assert_true(time(NULL) - start < 30);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wait_that_ends_in_time_says_nothing),
        cmocka_unit_test(a_wait_that_does_not_ends_the_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
