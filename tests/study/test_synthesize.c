/* Search beyond the named policies: never worse, the same for any number of threads, valid and
 * repeatable programs, never below the bound. */
#include "tests/check.h"

#include "base/err.h"
#include "study/synth_moves.h"
#include "study/synthesize.h"

static const char config_text[] =
    "model: qwen3-235b\nphase: decode\nbatch: [64, 128]\n"
    "cluster: {profile: h800, nodes: 2, gpus_per_node: 8}\n"
    "routing: {kind: lognormal, sigma: 0.3}\n"
    "policies:\n  - none\n  - {policy: peo, overlap_method: [1, 2], num_rounds: [2, 4], "
    "num_sms: 16}\n  - sbo\n";

static struct config *config_open(void)
{
    char path[] = "/tmp/peosim-synth-XXXXXX";
    int fd = mkstemp(path);
    struct config *c;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, config_text, strlen(config_text)), (ssize_t)strlen(config_text));
    close(fd);
    assert_int_equal(config_read(path, NULL, 0, &c), 0);
    unlink(path);
    return c;
}

static double simulated_us(const struct config *c, const struct synth_pick *p)
{
    struct evaluator *e;
    struct evaluation ev;
    struct scenario s;
    struct knobs k;

    assert_int_equal(evaluator_open(&e), 0);
    evaluator_whole_layers(e);
    assert_int_equal(config_scenario(c, p->scenario, &s), 0);
    s.program = &p->program;
    knobs_default(&policy_program, &k);
    assert_int_equal(evaluate_point(e, &s, &policy_program, &k, -1, &ev, NULL, NULL), 0);
    scenario_free(&s);
    evaluator_close(e);
    return ev.layer_us;
}

static void test_better_than_named_and_the_same_on_any_threads(void **state)
{
    const struct synth_options options = {.evaluations = 60, .seed = 3};
    struct config *c = config_open();
    struct synthesis *one, *two;
    int gained = 0;

    (void)state;
    assert_int_equal(synthesize(c, 1, -1, &options, &one), 0);
    assert_int_equal(synthesize(c, 2, -1, &options, &two), 0);
    for (size_t i = 0; i < one->num_picks; i++) {
        const struct synth_pick *p = &one->pick[i], *q = &two->pick[i];

        assert_true(p->us == q->us && p->simulations == q->simulations);
        assert_true(p->us <= p->named_us && p->gain_pct >= 0);
        assert_true(p->bound.us > 0 && p->bound.us <= p->us);
        if (!p->found)
            continue;
        gained++;
        assert_memory_equal(&p->program, &q->program, sizeof p->program);
        assert_true(simulated_us(c, p) == p->us);
    }
    assert_true(gained > 0);
    synthesis_free(one);
    synthesis_free(two);
    config_free(c);
}

/* Whatever a move makes passes the check of plan files, and keeps all experts. */
static void test_moves_give_valid_programs(void **state)
{
    struct config *c = config_open();
    struct evaluator *e;
    struct layer_spec spec;
    struct scenario s;
    struct program p;
    struct knobs k;
    uint64_t x = 7;
    int made = 0;

    (void)state;
    assert_int_equal(evaluator_open(&e), 0);
    assert_int_equal(config_scenario(c, 0, &s), 0);
    assert_int_equal(evaluate_spec(e, &s, &policy_peo, &spec), 0);
    knobs_default(&policy_peo, &k);
    assert_int_equal(program_of(&spec, &policy_peo, &k, &p), 0);
    for (int i = 0; i < 20000; i++) {
        char why[160];
        int line, sum = 0;

        made += synth_move(&p, &x);
        if (program_check(&p, &line, why, sizeof why))
            fail_msg("move %d: %s", i, why);
        for (int r = 0; r < p.num_rounds; r++) {
            assert_true(p.size[r] > 0);
            sum += p.size[r];
        }
        assert_int_equal(sum, 8);
    }
    assert_true(made > 5000);
    scenario_free(&s);
    evaluator_close(e);
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_better_than_named_and_the_same_on_any_threads),
        cmocka_unit_test(test_moves_give_valid_programs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
