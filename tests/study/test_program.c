/* Plan files: the schedules of policies as programs, the same plan; what is refused, with its line.
 */
#include "tests/check.h"

#include "base/err.h"
#include "model/policy/program.h"
#include "study/evaluate.h"

static void write_text(const char *text, char path[32])
{
    int fd;

    strcpy(path, "/tmp/peosim-plan-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

#define GOOD                                                                                       \
    "peosim plan 1\n# by hand\nsms 78\nrounds 1 3\nstream main -1\nstream compute 0\n"             \
    "attention main 78\nrouter main 78\ndispatch_send 0 main 78\ndispatch_recv 0 main 78\n"        \
    "dispatch_send 1 main 8\ndispatch_recv 1 main 8\nffn 0 compute 70 70 70\n"                     \
    "combine_send 0 main 8\nffn 1 compute 70 70 70 after combine_send 0\n"                         \
    "combine_send 1 main 78\ncombine_recv main 78\nshared main 78\n"

static void test_a_file_reads_as_it_was_written(void **state)
{
    char path[32], again[32], *text = NULL;
    struct program p, q;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    (void)state;
    write_text(GOOD, path);
    assert_int_equal(program_read(path, &p), 0);
    assert_int_equal(p.num_steps, 12);
    assert_int_equal(p.num_rounds, 2);
    assert_int_equal(program_write(&p, f), 0);
    fclose(f);
    write_text(text, again);
    assert_int_equal(program_read(again, &q), 0);
    for (int i = 0; i < p.num_steps; i++) {
        q.step[i].line = p.step[i].line; /* comments are gone */
        assert_memory_equal(&p.step[i], &q.step[i], sizeof p.step[i]);
    }
    unlink(path);
    unlink(again);
    free(text);
}

/* A line of GOOD changed to another; NULL: left out. */
static void refused(const char *line, const char *other, int code, const char *said)
{
    const char *at = strstr(GOOD, line);
    struct program p;
    char path[32], text[2048];

    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - GOOD), GOOD, other, at + strlen(line));
    write_text(text, path);
    CHECK_FAILS(program_read(path, &p), code, said);
    unlink(path);
}

static void test_invalid_plans_are_refused_with_the_line(void **state)
{
    (void)state;
    refused("peosim plan 1", "peosim plan 2", ERR_PARSE, ":1: error: plan files of version 1");
    refused("peosim plan 1", "plan", ERR_PARSE, ":1: error: a plan file begins with");
    refused("ffn 1 compute 70 70 70 after combine_send 0",
            "ffn 1 compute 70 70 70 after "
            "combine_send 1",
            ERR_CONFIG, ":15: error: ffn 1 waits for a step that is launched after it");
    refused("dispatch_recv 1 main 8\nffn 0 compute 70 70 70\n", "ffn 0 compute 70 70 70\n",
            ERR_CONFIG, ":14: error: ffn 1 has no dispatch_recv");
    refused("combine_recv main 78\n", "", ERR_CONFIG, "is received nowhere");
    refused("combine_send 1 main 78\n", "", ERR_CONFIG, ":15: error: ffn 1 is sent back nowhere");
    refused("ffn 0 compute 70 70 70", "ffn 0 compute 79 70 70", ERR_CONFIG,
            ":13: error: ffn 0 on 79 SMs: the GPU has 78");
    refused("dispatch_send 1 main 8", "dispatch_send 0 main 8", ERR_CONFIG,
            ":11: error: dispatch_send 0 stands twice: both use the same buffers");
    refused("dispatch_send 0 main 78", "dispatch main 78\ndispatch_send 0 main 78", ERR_CONFIG,
            ":10: error: round 0 is dispatched twice");
    refused("router main 78\ndispatch_send 0 main 78", "dispatch_send 0 main 78\nrouter main 78",
            ERR_CONFIG,
            ":8: error: dispatch_send 0 needs router, which is launched after it: a cycle");
    refused("router main", "router side", ERR_PARSE, ":8: error: the name of a stream");
    refused("ffn 1", "ffn 7", ERR_CONFIG, ":15: error: ffn 7: there are rounds 0 to 1");
    refused("rounds 1 3", "rounds 1 x", ERR_PARSE, ":4: error: rounds:");
    refused("shared main 78", "shared main 78 x", ERR_PARSE, ":18: error: 'after STEP'");
}

static void scenario_of(struct scenario *s)
{
    memset(s, 0, sizeof *s);
    assert_int_equal(opt_set_defaults(scenario_options, s), 0);
    assert_int_equal(opt_set(scenario_options, s, "batch", "64", "test", 0), 0);
    assert_int_equal(opt_set(scenario_options, s, "cluster.nodes", "2", "test", 0), 0);
    assert_int_equal(opt_set(scenario_options, s, "skew.start_us", "2", "test", 0), 0);
}

/* Written, read and run, it takes the same time to the last bit. */
static void same_time(struct evaluator *e, struct scenario *s, const struct policy *p,
                      struct knobs *k)
{
    struct evaluation own, plan;
    struct layer_spec spec;
    struct program made, read;
    char *text = NULL, path[32];
    size_t size;
    FILE *f = open_memstream(&text, &size);

    s->program = NULL;
    assert_int_equal(evaluate_settle(e, s, p, k), 0);
    assert_int_equal(evaluate_point(e, s, p, k, -1, &own, NULL, NULL), 0);
    assert_int_equal(evaluate_spec(e, s, p, &spec), 0);
    assert_int_equal(program_of(&spec, p, k, &made), 0);
    assert_int_equal(program_write(&made, f), 0);
    fclose(f);
    write_text(text, path);
    assert_int_equal(program_read(path, &read), 0);
    s->program = &read;
    assert_int_equal(evaluate_point(e, s, &policy_program, k, -1, &plan, NULL, NULL), 0);
    if (plan.layer_us != own.layer_us)
        fail_msg("%s: %.9g us, as a plan file %.9g\n%s", p->name, own.layer_us, plan.layer_us,
                 text);
    unlink(path);
    free(text);
}

static void test_policies_as_plan_files_take_the_same_time(void **state)
{
    struct evaluator *e;
    struct scenario s;
    struct knobs k;

    (void)state;
    for (int whole = 0; whole < 2; whole++) {
        assert_int_equal(evaluator_open(&e), 0);
        if (whole)
            evaluator_whole_layers(e);
        scenario_of(&s);
        for (int i = 0; i < 2; i++) {
            knobs_default(&policy_none, &k);
            k.split_phases = i;
            same_time(e, &s, &policy_none, &k);
        }
        knobs_default(&policy_sbo, &k);
        same_time(e, &s, &policy_sbo, &k);
        knobs_default(&policy_peo, &k);
        for (k.overlap_method = 1; k.overlap_method <= 4; k.overlap_method++)
            for (k.num_rounds = 2; k.num_rounds <= 4; k.num_rounds += 2)
                for (k.launch_order = 0; k.launch_order < 2; k.launch_order++)
                    same_time(e, &s, &policy_peo, &k);
        s.program = NULL;
        assert_int_equal(opt_set(scenario_options, &s, "comm", "normal", "test", 0), 0);
        knobs_default(&policy_none, &k);
        same_time(e, &s, &policy_none, &k);
        s.program = NULL;
        scenario_free(&s);
        evaluator_close(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_reads_as_it_was_written),
        cmocka_unit_test(test_invalid_plans_are_refused_with_the_line),
        cmocka_unit_test(test_policies_as_plan_files_take_the_same_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
