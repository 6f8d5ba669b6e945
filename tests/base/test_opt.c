#include "tests/check.h"

#include <float.h>
#include <limits.h>

#include "base/err.h"
#include "base/opt.h"

struct target {
    int rounds, nodes, kind;
    double lat_us;
    bool graph;
    char *model;
};

#define AT(field) offsetof(struct target, field)

static const struct opt table[] = {
    {"num_rounds", OPT_INT, AT(rounds), 1, 64, "2", NULL, NULL, "rounds of a layer", true},
    {"cluster.nodes", OPT_INT, AT(nodes), 1, INT_MAX, "1", NULL, NULL, "machines", false},
    {"routing", OPT_ENUM, AT(kind), 0, 0, "uniform", NULL, "balanced|uniform|zipf", "which", true},
    {"lat_us", OPT_DOUBLE, AT(lat_us), 0, 1e6, "1.5", "us", NULL, "latency", false},
    {"cuda_graph", OPT_BOOL, AT(graph), 0, 0, "true", NULL, NULL, "replay", false},
    {"model", OPT_STRING, AT(model), 0, 0, NULL, NULL, NULL, "name or file", false},
    {0},
};

static void defaults_and_formats(void **state)
{
    struct target t = {0};
    char buf[64];

    (void)state;
    assert_int_equal(opt_set_defaults(table, &t), 0);
    assert_int_equal(t.rounds, 2);
    assert_int_equal(t.kind, 1);
    assert_true(t.lat_us == 1.5 && t.graph);
    assert_null(t.model);
    assert_int_equal(opt_format(opt_find(table, "routing"), &t, buf, sizeof buf), 0);
    assert_string_equal(buf, "uniform");
    assert_int_equal(opt_format(opt_find(table, "lat_us"), &t, buf, sizeof buf), 0);
    assert_string_equal(buf, "1.5");
    assert_int_equal(opt_format(opt_find(table, "cuda-graph"), &t, buf, sizeof buf), 0);
    assert_string_equal(buf, "true");
    assert_int_equal(opt_format(opt_find(table, "model"), &t, buf, sizeof buf), 0);
    assert_string_equal(buf, "");
    assert_int_equal(opt_format(opt_find(table, "routing"), &t, buf, 4), ERR_RANGE);
}

static int set(struct target *t, const char *key, const char *text)
{
    return opt_set(table, t, key, text, "--set", 0);
}

static void values_are_set_or_refused(void **state)
{
    struct target t = {0};

    (void)state;
    assert_int_equal(set(&t, "num-rounds", "4"), 0);
    assert_int_equal(t.rounds, 4);
    assert_int_equal(set(&t, "lat_us", "10 us"), 0);
    assert_true(t.lat_us == 10);
    assert_int_equal(set(&t, "lat_us", "2us"), 0);
    assert_int_equal(set(&t, "routing", "zipf"), 0);
    assert_int_equal(t.kind, 2);
    assert_int_equal(set(&t, "model", "a"), 0);
    assert_int_equal(set(&t, "model", "dbrx"), 0);
    assert_string_equal(t.model, "dbrx");
    CHECK_FAILS(set(&t, "lat_us", "10 ms"), ERR_CONFIG, "is not a number (in us)");
    CHECK_FAILS(set(&t, "lat_us", "us"), ERR_CONFIG, "not a number");
    CHECK_FAILS(set(&t, "lat_us", "-1"), ERR_RANGE, "outside 0..1000000 us");
    CHECK_FAILS(set(&t, "num_rounds", "65"), ERR_RANGE, "65 is outside 1..64");
    CHECK_FAILS(set(&t, "num_rounds", "2.5"), ERR_CONFIG, "whole number");
    CHECK_FAILS(set(&t, "cluster.nodes", "99999999999"), ERR_RANGE, "outside");
    CHECK_FAILS(set(&t, "routing", "zip"), ERR_CONFIG, "none of balanced|uniform|zipf");
    CHECK_FAILS(set(&t, "routing", ""), ERR_CONFIG, "none of");
    CHECK_FAILS(set(&t, "cuda_graph", "maybe"), ERR_CONFIG, "true or false");
    CHECK_FAILS(set(&t, "model", NULL), ERR_CONFIG, "no value");
    CHECK_FAILS(set(&t, "num_round", "2"), ERR_CONFIG, "did you mean 'num_rounds'");
    CHECK_FAILS(set(&t, "nodes", "2"), ERR_CONFIG, "did you mean 'cluster.nodes'");
    CHECK_FAILS(set(&t, "frobnicate", "2"), ERR_CONFIG, "unknown key 'frobnicate'\n");
    assert_true(t.lat_us == 2 && t.rounds == 4); /* as before the failures */
    opt_free_strings(table, &t);
    assert_null(t.model);
}

static int set_yaml(struct target *t, const char *text)
{
    struct doc *d;
    int rc = doc_parse_yaml(text, strlen(text), "c.yaml", &d);

    if (rc == 0)
        rc = opt_set_map(table, t, d, d->root);
    doc_free(d);
    return rc;
}

static void maps_become_dotted_keys(void **state)
{
    struct target t = {0};

    (void)state;
    assert_int_equal(set_yaml(&t, "num_rounds: [2, 4]\ncluster:\n  nodes: 8\nmodel: \"7\"\n"), 0);
    assert_int_equal(t.rounds, 2);
    assert_int_equal(t.nodes, 8);
    assert_string_equal(t.model, "7");
    CHECK_FAILS(set_yaml(&t, "model: x\nnum_rounds: [2, 400]\n"), ERR_RANGE, "c.yaml:2:");
    CHECK_FAILS(set_yaml(&t, "num_rounds:\n  - 2\n  - two\n"), ERR_CONFIG, "c.yaml:3:");
    CHECK_FAILS(set_yaml(&t, "num_rounds: []\n"), ERR_CONFIG, "empty");
    CHECK_FAILS(set_yaml(&t, "num_rounds: [[2]]\n"), ERR_CONFIG, "plain values");
    CHECK_FAILS(set_yaml(&t, "lat_us: [1, 2]\n"), ERR_CONFIG, "not a list");
    CHECK_FAILS(set_yaml(&t, "lat_us: {a: 1}\n"), ERR_CONFIG, "lat_us");
    CHECK_FAILS(set_yaml(&t, "lat_us:\n"), ERR_CONFIG, "no value");
    CHECK_FAILS(set_yaml(&t, "cluster:\n  node: 8\n"), ERR_CONFIG,
                "c.yaml:2: error: unknown key 'cluster.node'; did you mean 'cluster.nodes'");
    CHECK_FAILS(set_yaml(&t, "clustr: {}\n"), ERR_CONFIG, "unknown key 'clustr'");
    CHECK_FAILS(set_yaml(&t, "- 1\n"), ERR_CONFIG, "key: value");
    opt_free_strings(table, &t);
}

static void nearest_is_near(void **state)
{
    static const char *const names[] = {"peo", "sbo", "tbo", "none", "num_rounds"};

    (void)state;
    assert_string_equal(opt_nearest("non", names, 5), "none");
    assert_string_equal(opt_nearest("NUM_ROUND", names, 5), "num_rounds");
    assert_string_equal(opt_nearest("poe", names, 3), "peo");
    assert_null(opt_nearest("allgather", names, 5));
    assert_null(opt_nearest("x", names, 0));
}

static void help_has_a_line_per_option(void **state)
{
    char *text = NULL;
    size_t len = 0, lines = 0;
    FILE *f = open_memstream(&text, &len);

    (void)state;
    opt_print_help(table, f);
    fclose(f);
    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    assert_int_equal(lines, 6);
    assert_non_null(strstr(text, "(int, 1..64, default 2, list allowed)"));
    assert_non_null(strstr(text, "(number, us, 0..1000000, default 1.5)"));
    assert_non_null(strstr(text, "(choice balanced|uniform|zipf, default uniform"));
    assert_non_null(strstr(text, "at least 1"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_and_formats),       cmocka_unit_test(values_are_set_or_refused),
        cmocka_unit_test(maps_become_dotted_keys),    cmocka_unit_test(nearest_is_near),
        cmocka_unit_test(help_has_a_line_per_option),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
