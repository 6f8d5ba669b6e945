/* validate/rank.c: what a rank sends is read as it was, or refused. No GPU. */
#include "validate/rank.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tests/check.h"

static void bytes_that_are_no_answer_are_refused(void **state)
{
    struct gpu_answer a;
    char *buf = calloc(1, 1 << 16);

    (void)state;
    assert_non_null(buf);
    assert_int_equal(gpu_answer_read(buf, 0, 2, &a), ERR_DATA);
    assert_int_equal(gpu_answer_read(buf, sizeof a - 1, 2, &a), ERR_DATA);
    /* Zeroes are an answer without spans: what follows it must be nothing. */
    assert_int_equal(gpu_answer_read(buf, 1 << 16, 2, &a), ERR_DATA);
    free(buf);
}

/* Spans are promised by a head of the right size, and do not come. */
static void spans_that_do_not_come_are_missed(void **state)
{
    struct gpu_answer a;
    size_t spans = 3, bytes = sizeof spans + sizeof a + 2 * sizeof(struct trace_span);
    char *buf = calloc(1, bytes);

    (void)state;
    assert_non_null(buf);
    memcpy(buf, &spans, sizeof spans);
    assert_int_equal(gpu_answer_read(buf, bytes, 2, &a), ERR_DATA);
    bytes -= 2 * sizeof(struct trace_span);
    memset(buf, 0, sizeof spans);
    assert_int_equal(gpu_answer_read(buf, bytes, 2, &a), 0);
    assert_null(a.trace);
    free(buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_that_are_no_answer_are_refused),
        cmocka_unit_test(spans_that_do_not_come_are_missed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
