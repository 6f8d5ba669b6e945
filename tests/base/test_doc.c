#include "tests/check.h"

#include "base/doc.h"
#include "base/err.h"

static int yaml(const char *text, struct doc **d)
{
    return doc_parse_yaml(text, strlen(text), "x.yaml", d);
}

static int json(const char *text, struct doc **d)
{
    return doc_parse_json(text, strlen(text), "x.json", d);
}

/* "a.b.2" walks maps by key and lists by index. */
static const struct doc_node *at(const struct doc *d, const char *path)
{
    const struct doc_node *n = d->root;
    char part[64];

    while (n && *path) {
        size_t len = strcspn(path, ".");
        snprintf(part, sizeof part, "%.*s", (int)len, path);
        if (n->type == DOC_LIST) {
            int i = atoi(part);
            n = n->child;
            while (n && i-- > 0)
                n = n->next;
        } else {
            n = doc_get(n, part);
        }
        path += len + (path[len] == '.');
    }
    return n;
}

static void check_text(const struct doc *d, const char *path, const char *want, int line)
{
    const struct doc_node *n = at(d, path);

    assert_non_null(n);
    assert_string_equal(n->text, want);
    assert_int_equal(n->line, line);
}

static void yaml_tree_keeps_lines(void **state)
{
    struct doc *d;

    (void)state;
    assert_int_equal(yaml("# head\n"
                          "model: deepseek-v3\n"
                          "batch: [4, 16,\n"
                          "        64]\n"
                          "cluster:\n"
                          "  nodes: 8\n"
                          "  name: \"12\"\n"
                          "empty:\n"
                          "nothing: ~\n"
                          "quoted: ''\n",
                          &d),
                     0);
    check_text(d, "model", "deepseek-v3", 2);
    check_text(d, "batch.0", "4", 3);
    check_text(d, "batch.2", "64", 4);
    check_text(d, "cluster.nodes", "8", 6);
    check_text(d, "cluster.name", "12", 7);
    check_text(d, "quoted", "", 10);
    assert_int_equal(at(d, "cluster")->line, 5);
    assert_int_equal(at(d, "batch")->num_children, 3);
    assert_true(at(d, "cluster.name")->quoted);
    assert_null(at(d, "empty")->text);
    assert_null(at(d, "nothing")->text);
    assert_null(doc_get(d->root, "absent"));
    assert_null(doc_get(at(d, "batch"), "x"));
    doc_free(d);
}

static void json_tree_keeps_lines_and_spelling(void **state)
{
    struct doc *d;

    (void)state;
    assert_int_equal(json("{\n"
                          "  \"a\": 1.50, \"b\": -2e3,\n"
                          "  \"c\\\"x\": [true,\n"
                          "     null, \"t\\n\\u00e9\"],\n"
                          "  \"d\": {\"e\" :{}, \"f\":[ ]}, \"z\":\n"
                          "   \"0\"\n"
                          "}\n",
                          &d),
                     0);
    check_text(d, "a", "1.50", 2);
    check_text(d, "b", "-2e3", 2);
    check_text(d, "c\"x.0", "true", 3);
    check_text(d, "c\"x.2", "t\n\xc3\xa9", 4);
    check_text(d, "z", "0", 5);
    assert_null(at(d, "c\"x.1")->text);
    assert_int_equal(at(d, "d.f")->type, DOC_LIST);
    assert_int_equal(at(d, "d")->num_children, 2);
    doc_free(d);
}

static void numbers_and_booleans(void **state)
{
    struct doc *d;
    double v;
    long long i;
    bool b;

    (void)state;
    assert_int_equal(yaml("a: 1e6\nb: 1_000\nc: '5'\nd: yes\ne: .nan\nf: [1]\n", &d), 0);
    assert_int_equal(doc_to_double(at(d, "a"), &v), 0);
    assert_true(v == 1e6);
    assert_int_equal(doc_to_int(at(d, "a"), &i), 0);
    assert_int_equal(i, 1000000);
    assert_int_equal(doc_to_double(at(d, "b"), &v), ERR_PARSE);
    assert_int_equal(doc_to_int(at(d, "c"), &i), ERR_PARSE); /* a quoted text is no number */
    assert_int_equal(doc_to_bool(at(d, "d"), &b), 0);
    assert_true(b);
    assert_int_equal(doc_to_double(at(d, "e"), &v), ERR_PARSE);
    assert_int_equal(doc_to_int(at(d, "f"), &i), ERR_PARSE);
    assert_int_equal(doc_to_int(NULL, &i), ERR_PARSE);
    doc_free(d);
}

static void windows_files_are_read(void **state)
{
    struct doc *d;

    (void)state;
    assert_int_equal(yaml("\xef\xbb\xbf"
                          "a: 1\r\nb: two\r\n",
                          &d),
                     0);
    check_text(d, "b", "two", 2);
    doc_free(d);
    assert_int_equal(json("\xef\xbb\xbf{\r\n\"a\": 1}\r\n", &d), 0);
    check_text(d, "a", "1", 2);
    doc_free(d);
}

static void yaml_faults_say_one_line(void **state)
{
    struct doc *d;

    (void)state;
    CHECK_FAILS(yaml("", &d), ERR_PARSE, "empty");
    assert_null(d);
    CHECK_FAILS(yaml("# only a comment\n", &d), ERR_PARSE, "empty");
    CHECK_FAILS(yaml("a: 1\nb: [1, 2\n", &d), ERR_PARSE, "x.yaml:3:");
    CHECK_FAILS(yaml("a: 1\n\tb: 2\n", &d), ERR_PARSE, "x.yaml:2:");
    CHECK_FAILS(yaml("a: 1\nb: 2\na: 3\n", &d), ERR_PARSE, "x.yaml:3: error: key 'a'");
    CHECK_FAILS(yaml("a: &x 1\nb: *x\n", &d), ERR_PARSE, "x.yaml:1:");
    CHECK_FAILS(yaml("b: *x\n", &d), ERR_PARSE, "aliases");
    CHECK_FAILS(yaml("a: !!int 1\n", &d), ERR_PARSE, "tags");
    CHECK_FAILS(yaml("[a]: 1\n", &d), ERR_PARSE, "plain text");
    CHECK_FAILS(yaml("a: 1\n---\nb: 1\n", &d), ERR_PARSE, "x.yaml:2:");
    CHECK_FAILS(yaml("a: \"x\\0y\"\n", &d), ERR_PARSE, "NUL");
    /* Found by fuzzing: the copy for messages ended at the NUL, and reading went past it. */
    assert_int_equal(doc_parse_json("[1,\0 2, 3, 4, 5, 6, 7, 8]", 26, "f.json", &d), ERR_PARSE);
    CHECK_FAILS(yaml("a: 1\nb: \xff\xfe\n", &d), ERR_PARSE, "x.yaml:2:");
    CHECK_FAILS(doc_parse_yaml("a: 1\0b", 6, "x.yaml", &d), ERR_PARSE, "control");
}

/* A published config.json has "time_step_limit": [0.0, Infinity]. */
static void json_takes_the_numbers_that_python_writes(void **state)
{
    struct doc *d;
    long long v;

    (void)state;
    assert_int_equal(json("{\"a\": [0.0, Infinity], \"b\": NaN,\n\"c\": -Infinity, "
                          "\"d\": \"NaN \\\" Infinity\", \"e\": 7}",
                          &d),
                     0);
    assert_null(doc_get(d->root, "a")->child->next->text);
    assert_int_equal(doc_get(d->root, "b")->num_children, 0);
    assert_null(doc_get(d->root, "c")->text);
    assert_string_equal(doc_get(d->root, "d")->text, "NaN \" Infinity");
    assert_int_equal(doc_get(d->root, "e")->line, 2);
    assert_int_equal(doc_to_int(doc_get(d->root, "e"), &v), 0);
    assert_int_equal(v, 7);
    doc_free(d);
    CHECK_FAILS(json("{\"a\": Infinityy}", &d), ERR_PARSE, "x.json:1:");
}

static void json_faults_say_one_line(void **state)
{
    struct doc *d;

    (void)state;
    CHECK_FAILS(json("", &d), ERR_PARSE, "empty");
    CHECK_FAILS(json(" \n", &d), ERR_PARSE, "empty");
    CHECK_FAILS(json("{\"a\": 1,\n}", &d), ERR_PARSE, "x.json:2:");
    CHECK_FAILS(json("{\"a\": 1,\n\"a\": 2}", &d), ERR_PARSE, "duplicate");
    CHECK_FAILS(json("{\"a\": \"\xff\"}", &d), ERR_PARSE, "decode byte");
    CHECK_FAILS(json("{\"a\": \"\\u0000\"}", &d), ERR_PARSE, "x.json:1:");
    CHECK_FAILS(json("{} {}", &d), ERR_PARSE, "x.json:1:");
    CHECK_FAILS(json("hello", &d), ERR_PARSE, "x.json:1:");
    CHECK_FAILS(doc_parse_json("{}\0", 3, "x.json", &d), ERR_PARSE, "x.json:1:");
}

/* A bomb of nested aliases, nine to the ninth nodes when expanded. */
static void yaml_bomb_is_refused(void **state)
{
    struct doc *d;

    (void)state;
    CHECK_FAILS(yaml("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
                     "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n",
                     &d),
                ERR_PARSE, "aliases");
}

static int parse_repeated(const char *unit, size_t n, bool as_json, const char *end)
{
    size_t len = strlen(unit);
    char *text = malloc(n * len + strlen(end) + 1);
    struct doc *d;
    int rc;

    assert_non_null(text);
    for (size_t i = 0; i < n; i++)
        memcpy(text + i * len, unit, len);
    strcpy(text + n * len, end);
    rc = as_json ? json(text, &d) : yaml(text, &d);
    doc_free(d);
    free(text);
    return rc;
}

static void size_depth_and_count_are_bounded(void **state)
{
    (void)state;
    CHECK_FAILS(parse_repeated("[", 100000, false, ""), ERR_RANGE, "deeper than 64");
    CHECK_FAILS(parse_repeated("{a: ", 70, false, ""), ERR_RANGE, "deeper than 64");
    CHECK_FAILS(parse_repeated("[", 100, true, "]]]"), ERR_PARSE, "not JSON");
    CHECK_FAILS(parse_repeated("[", 100000, true, ""), ERR_PARSE, "not JSON");
    CHECK_FAILS(parse_repeated("- a\n", 1000001, false, ""), ERR_RANGE, "more than 1000000");
    CHECK_FAILS(parse_repeated("a: 1\n", 2u << 20, false, ""), ERR_RANGE, "too big");
    CHECK_FAILS(parse_repeated(" ", 9u << 20, true, "{}"), ERR_RANGE, "too big");
}

/* Comparing all pairs of keys would take minutes here. */
static void many_keys_are_checked_quickly(void **state)
{
    size_t cap = 4u << 20, n = 0;
    char *text = malloc(cap);
    struct doc *d;

    (void)state;
    assert_non_null(text);
    for (int i = 0; i < 200000; i++)
        n += (size_t)snprintf(text + n, cap - n, "k%d: 1\n", i);
    snprintf(text + n, cap - n, "k77: 2\n");
    CHECK_FAILS(yaml(text, &d), ERR_PARSE, "x.yaml:200001: error: key 'k77' appears twice");
    free(text);
}

static void files_are_read_by_their_suffix(void **state)
{
    struct doc *d;

    (void)state;
    assert_int_equal(doc_read("configs/models/dbrx.json", &d), 0);
    assert_string_equal(at(d, "ffn_config.moe_num_experts")->text, "16");
    assert_string_equal(d->path, "configs/models/dbrx.json");
    doc_free(d);
    CHECK_FAILS(doc_read("no-such.yaml", &d), ERR_NOTFOUND, "no-such.yaml: error:");
    CHECK_FAILS(doc_read("tests", &d), ERR_IO, "folder");
    CHECK_FAILS(doc_read("/dev/zero", &d), ERR_RANGE, "too big");
    doc_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(yaml_tree_keeps_lines),
        cmocka_unit_test(json_tree_keeps_lines_and_spelling),
        cmocka_unit_test(numbers_and_booleans),
        cmocka_unit_test(windows_files_are_read),
        cmocka_unit_test(yaml_faults_say_one_line),
        cmocka_unit_test(json_takes_the_numbers_that_python_writes),
        cmocka_unit_test(json_faults_say_one_line),
        cmocka_unit_test(yaml_bomb_is_refused),
        cmocka_unit_test(size_depth_and_count_are_bounded),
        cmocka_unit_test(many_keys_are_checked_quickly),
        cmocka_unit_test(files_are_read_by_their_suffix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
