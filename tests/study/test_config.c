/* study/config.c: lists, --set, the order of the grid, and its hash. */
#include "tests/check.h"

#include "base/err.h"
#include "base/file.h"
#include "study/config.h"

static char path[64];

static void write_config(const char *text)
{
    struct file_out f = {0};

    snprintf(path, sizeof path, "/tmp/peosim_test_config_%d.yaml", (int)getpid());
    assert_int_equal(file_create(&f, path), 0);
    fputs(text, f.f);
    assert_int_equal(file_commit(&f), 0);
}

static struct config *read_config(const char *const *sets, size_t n)
{
    struct config *c = NULL;

    assert_int_equal(config_read(path, sets, n, &c), 0);
    return c;
}

static int read_error(const char *text, const char *set)
{
    struct config *c = NULL;
    struct check_stderr e;
    int err;

    write_config(text);
    check_stderr_begin(&e);
    err = config_read(path, &set, set ? 1 : 0, &c);
    free(check_stderr_end(&e));
    if (!err)
        config_free(c);
    return err;
}

static const char two_by_three[] = "model: qwen3-30b\n"
                                   "cluster: {profile: h800, nodes: [1, 2]}\n"
                                   "batch: [4, 8, 16]\n"
                                   "policies:\n"
                                   "  - none\n"
                                   "  - policy: peo\n"
                                   "    overlap_method: [1, 4]\n"
                                   "    num_rounds: [2, 4]\n";

static void test_the_grid_runs_last_key_fastest(void **state)
{
    struct config *c;
    int want[6][2] = {{1, 4}, {1, 8}, {1, 16}, {2, 4}, {2, 8}, {2, 16}};

    (void)state;
    write_config(two_by_three);
    c = read_config(NULL, 0);
    assert_int_equal(config_num_scenarios(c), 6);
    assert_int_equal(config_num_points_per_scenario(c), 5);
    assert_int_equal(config_num_points(c), 30);
    for (size_t i = 0; i < 6; i++) {
        struct scenario s;

        assert_int_equal(config_scenario(c, i, &s), 0);
        assert_int_equal(s.nodes, want[i][0]);
        assert_int_equal(s.batch, want[i][1]);
        assert_string_equal(s.profile, "h800");
        scenario_free(&s);
    }
    for (size_t j = 0; j < 5; j++) {
        const struct policy *p;
        struct knobs k;
        int entry;

        config_knobs(c, j, &p, &k, &entry);
        assert_ptr_equal(p, j ? &policy_peo : &policy_none);
        assert_int_equal(entry, j > 0);
        if (j) {
            assert_int_equal(k.overlap_method, j <= 2 ? 1 : 4);
            assert_int_equal(k.num_rounds, j % 2 ? 2 : 4);
        }
    }
    config_free(c);
}

static void test_set_changes_keys_knobs_and_policies(void **state)
{
    const char *sets[] = {"batch=32", "peo.num_rounds=8", "num_sms=8,24", "policies=peo,sbo",
                          "sbo.combine_num_sms=5"};
    struct config *c;
    struct scenario s;
    struct knobs k;
    const struct policy *p;

    (void)state;
    write_config(two_by_three);
    c = read_config(sets, 5);
    assert_int_equal(config_num_scenarios(c), 2);
    assert_int_equal(c->num_policies, 2);
    assert_int_equal(config_num_points_per_scenario(c), 2 * 2 + 1);
    assert_int_equal(config_scenario(c, 0, &s), 0);
    assert_int_equal(s.batch, 32);
    scenario_free(&s);
    config_knobs(c, 1, &p, &k, NULL);
    assert_int_equal(k.num_rounds, 8);
    assert_int_equal(k.num_sms, 24);
    config_knobs(c, 4, &p, &k, NULL);
    assert_ptr_equal(p, &policy_sbo);
    assert_int_equal(k.combine_num_sms, 5);
    config_free(c);
}

static void test_the_hash_covers_file_and_words(void **state)
{
    const char *set = "batch=32";
    struct config *a, *b, *d;

    (void)state;
    write_config(two_by_three);
    a = read_config(NULL, 0);
    b = read_config(&set, 1);
    d = read_config(NULL, 0);
    assert_string_not_equal(a->hash, b->hash);
    assert_string_equal(a->hash, d->hash);
    config_free(a);
    config_free(b);
    config_free(d);
}

static void test_mistakes_are_configuration_errors(void **state)
{
    (void)state;
    assert_int_equal(read_error("- 1\n", NULL), ERR_CONFIG);
    assert_int_equal(read_error("bach: 4\n", NULL), ERR_CONFIG);
    assert_int_equal(read_error("batch: [4, x]\n", NULL), ERR_CONFIG);
    assert_int_equal(read_error("batch: {a: 4}\n", NULL), ERR_CONFIG);
    assert_int_equal(read_error("batch: 0\n", NULL), ERR_RANGE);
    assert_int_equal(read_error("batch: 1e9\n", NULL), ERR_RANGE);
    assert_int_equal(read_error("policies: peo\n", NULL), ERR_CONFIG);
    assert_int_equal(read_error("policies: []\n", NULL), ERR_CONFIG);
    assert_int_equal(read_error("policies: [{num_rounds: 2}]\n", NULL), ERR_CONFIG);
    assert_int_equal(read_error("policies: [[none]]\n", NULL), ERR_CONFIG);
    assert_int_equal(read_error("model: nosuch\n", NULL), ERR_NOTFOUND);
    assert_int_equal(read_error("batch: 4\n", "batch"), ERR_USAGE);
    assert_int_equal(read_error("batch: 4\n", "bach=5"), ERR_CONFIG);
    assert_int_equal(read_error("batch: 4\n", "policies=nne"), ERR_CONFIG);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_grid_runs_last_key_fastest),
        cmocka_unit_test(test_set_changes_keys_knobs_and_policies),
        cmocka_unit_test(test_the_hash_covers_file_and_words),
        cmocka_unit_test(test_mistakes_are_configuration_errors),
    };

    return cmocka_run_group_tests(tests, NULL, remove_file);
}
