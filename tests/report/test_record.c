/* The writer of records: every format of the table, on one row of every type. */
#include "tests/check.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "report/record.h"

struct row {
    char name[32];
    const char *words;
    int count;
    int64_t events;
    double us;
    bool ok;
    json_t *knobs;
};

#define AT(field) .offset = offsetof(struct row, field)
static const struct record_column columns[] = {
    {.key = "name", .head = "name", AT(name), .width = -6, .views = RECORD_ALL},
    {.key = "words", .head = "words", .type = RECORD_WORDS, AT(words), .views = RECORD_ALL},
    {.key = "count", .type = RECORD_INT, AT(count), .views = RECORD_DATA},
    {.key = "events", .type = RECORD_INT64, AT(events), .views = RECORD_DATA},
    {.key = "us",
     .head = "us",
     .type = RECORD_REAL,
     AT(us),
     .width = 8,
     .digits = 1,
     .plus = true,
     .views = RECORD_ALL},
    {.key = "ok", .type = RECORD_BOOL, AT(ok), .views = RECORD_DATA},
    {.key = "knobs", .type = RECORD_OBJECT, AT(knobs), .views = RECORD_NESTED},
};
static const struct record_table table = {"results", RECORD_ALL, columns,
                                          sizeof columns / sizeof *columns};

static char *written(const char *format, int rows)
{
    struct row row = {"a,\"b\"", "x", 3, 1ll << 40, 2.25, true, json_object()};
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    struct record r;

    assert_non_null(f);
    assert_non_null(record_format_find(format));
    record_open(&r, record_format_find(format), f);
    record_title(&r, "one\ntwo\n");
    record_member_text(&r, "version", "1");
    record_member(&r, "absent", NULL);
    record_table(&r, &table);
    for (int i = 0; i < rows; i++)
        record_row(&r, &row);
    record_note(&r, "note %d\n", 1);
    record_table_end(&r);
    record_member_text(&r, "after", "2");
    assert_int_equal(record_close(&r), 0);
    fclose(f);
    json_decref(row.knobs);
    return text;
}

static void formats_say_what_was_written(void **state)
{
    static const struct {
        const char *format, *text;
    } all[] = {
        {"text", "one\ntwo\n  name   words       us\n  a,\"b\"  x     +2.2\nnote 1\n"},
        {"csv", "# one\n# two\nname,words,count,events,us,ok\n"
                "\"a,\"\"b\"\"\",x,3,1099511627776,2.25,1\n"},
        {"json", "{\n \"version\": \"1\",\n \"results\": [\n  {\n   \"name\": \"a,\\\"b\\\"\",\n"
                 "   \"words\": \"x\",\n   \"count\": 3,\n   \"events\": 1099511627776,\n"
                 "   \"us\": 2.25,\n   \"ok\": true,\n   \"knobs\": {}\n  }\n ],\n"
                 " \"after\": \"2\"\n}\n"},
        {"jsonl", "{\"version\":\"1\"}\n{\"table\":\"results\",\"name\":\"a,\\\"b\\\"\","
                  "\"words\":\"x\",\"count\":3,\"events\":1099511627776,\"us\":2.25,\"ok\":true,"
                  "\"knobs\":{}}\n{\"after\":\"2\"}\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char *text = written(all[i].format, 1);

        assert_string_equal(text, all[i].text);
        free(text);
    }
}

static void json_of_any_number_of_rows_parses(void **state)
{
    (void)state;
    for (int rows = 0; rows < 3; rows++) {
        char *text = written("json", rows);
        json_t *root = json_loads(text, 0, NULL);

        assert_non_null(root);
        assert_int_equal(json_array_size(json_object_get(root, "results")), rows);
        json_decref(root);
        free(text);
    }
}

static void names_of_formats_differ_and_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < record_format_count(); i++) {
        assert_ptr_equal(record_format_find(record_format_at(i)->name), record_format_at(i));
        assert_non_null(record_format_at(i)->row);
        assert_non_null(record_format_at(i)->help);
    }
    assert_null(record_format_find("no such format"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_say_what_was_written),
        cmocka_unit_test(json_of_any_number_of_rows_parses),
        cmocka_unit_test(names_of_formats_differ_and_are_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
