#include "tests/check.h"

#include "base/csv.h"
#include "base/err.h"

static int parse(const char *text, struct csv **c)
{
    return csv_parse(text, strlen(text), "x.csv", c);
}

static void cells_rows_and_lines(void **state)
{
    struct csv *c;
    double v;

    (void)state;
    assert_int_equal(parse("\xef\xbb\xbf# note\na,b,\"c\"\"d\"\r\n1,2.5,x\r\n\r\n"
                           "\"multi\nline\",,\"q,\"\"r\"\n3\n4,5,6,7\n,,",
                           &c),
                     0);
    assert_int_equal(c->num_cols, 3);
    assert_int_equal(c->num_rows, 5);
    assert_string_equal(c->header[2], "c\"d");
    assert_int_equal(csv_col(c, "b"), 1);
    assert_int_equal(csv_col(c, "z"), -1);
    assert_string_equal(csv_at(c, 0, 2), "x");
    assert_int_equal(csv_double(c, 0, 1, &v), 0);
    assert_true(v == 2.5);
    assert_int_equal(csv_double(c, 0, 2, &v), ERR_DATA);
    assert_int_equal(csv_double(c, 1, 1, &v), ERR_DATA);
    assert_string_equal(csv_at(c, 1, 0), "multi\nline");
    assert_string_equal(csv_at(c, 1, 2), "q,\"r");
    assert_int_equal(c->line[0], 3);
    assert_int_equal(c->line[1], 5);
    assert_int_equal(c->line[2], 7);
    assert_false(c->bad[1]);
    assert_true(c->bad[2]);
    assert_true(c->bad[3]);
    assert_string_equal(csv_at(c, 2, 2), "");
    assert_string_equal(csv_at(c, 3, 2), "6");
    assert_false(c->bad[4]);
    assert_string_equal(csv_at(c, 4, 2), "");
    csv_free(c);
}

static void header_alone_is_fine(void **state)
{
    struct csv *c;

    (void)state;
    assert_int_equal(parse("a,b", &c), 0);
    assert_int_equal(c->num_rows, 0);
    assert_string_equal(c->sha256,
                        "1eb7c54d52831bbfe8942af0b1c56b7409523a59ed6ca99c1174fef7eb32c1b5");
    csv_free(c);
}

static void faults_say_one_line(void **state)
{
    struct csv *c;
    char *wide = malloc(10000);

    (void)state;
    CHECK_FAILS(parse("", &c), ERR_PARSE, "no header");
    assert_null(c);
    CHECK_FAILS(parse("\n# x\n", &c), ERR_PARSE, "no header");
    CHECK_FAILS(parse("a,b\n1,\"2\n3,4\n", &c), ERR_PARSE, "x.csv:2:");
    CHECK_FAILS(csv_parse("a,b\n1,\0002\n", 9, "x.csv", &c), ERR_PARSE, "not a text file");
    memset(wide, ',', 9999);
    wide[9999] = '\0';
    CHECK_FAILS(parse(wide, &c), ERR_RANGE, "columns");
    CHECK_FAILS(csv_read("no-such.csv", 100, &c), ERR_NOTFOUND, "no-such.csv");
    CHECK_FAILS(csv_read("Makefile", 10, &c), ERR_RANGE, "too big");
    free(wide);
    csv_free(NULL);
}

/* A wide header over many short rows would ask for cells without end. */
static void short_rows_cannot_exhaust_memory(void **state)
{
    size_t rows = 40000, n = 4000;
    char *text = malloc(n + rows * 2 + 1);
    struct csv *c;

    (void)state;
    memset(text, ',', n);
    text[n - 1] = '\n';
    for (size_t i = 0; i < rows; i++)
        memcpy(text + n + i * 2, "a\n", 2);
    text[n + rows * 2] = '\0';
    CHECK_FAILS(parse(text, &c), ERR_RANGE, "shorter than the header");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells_rows_and_lines),
        cmocka_unit_test(header_alone_is_fine),
        cmocka_unit_test(faults_say_one_line),
        cmocka_unit_test(short_rows_cannot_exhaust_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
