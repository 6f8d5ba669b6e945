/* why: the path adds up, slack is what the closed forms say, and a change that changes nothing
 * saves nothing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "study/why.h"
#include "tests/config_text.h"

static const char between_nodes[] = "model: qwen3-30b\n"
                                    "batch: 64\n"
                                    "cluster: {profile: h20, nodes: 2, gpus_per_node: 4}\n"
                                    "routing: {kind: lognormal, sigma: 0.4}\n"
                                    "skew: {start_us: 3, jitter: 0.02}\n"
                                    "policies:\n"
                                    "  - policy: peo\n"
                                    "    overlap_method: 2\n"
                                    "    num_rounds: 4\n";

/* Chains on two ranks: op 0 then 1 on stream 0; op 2 on stream 1 waits for op 0; op 3 on stream 0
 * waits for data of the other rank's op 1. */
static void slack_of_a_known_trace(void **state)
{
    static const struct plan_op ops[] = {
        {.kind = OP_ROUTER, .stream = 0, .sms = 1},
        {.kind = OP_DISPATCH_SEND, .stream = 0, .sms = 1},
        {.kind = OP_MLP_UP, .stream = 1, .sms = 1},
        {.kind = OP_DISPATCH_RECV, .stream = 0, .sms = 1},
    };
    static const double start[2][4] = {{0, 10, 10, 20}, {0, 30, 30, 50}};
    static const double end[2][4] = {{10, 20, 15, 60}, {30, 50, 45, 60}};
    struct trace_sink sink;
    struct trace *t;
    struct plan *p;
    double slack[8];

    (void)state;
    assert_int_equal(plan_new(&p, 2, 2, 4), 0);
    plan_stream_add(p, "main", 0);
    plan_stream_add(p, "compute", 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(plan_op_add(p, &ops[i]), i);
        if (i == 2) /* a dependency is that of the op added last */
            assert_int_equal(plan_dep_add(p, 0, DEP_END), 0);
    }
    assert_int_equal(trace_new(&t, "sim", 2), 0);
    sink = trace_collect(t);
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < 4; i++) {
            struct trace_span s = {.rank = r,
                                   .stream = ops[i].stream,
                                   .op = i,
                                   .ready_ns = start[r][i],
                                   .start_ns = start[r][i],
                                   .end_ns = end[r][i],
                                   .cause = i ? CAUSE_STREAM : CAUSE_START,
                                   .cause_op = i > 1 ? i - 2 : i - 1,
                                   .data_rank = -1,
                                   .data_op = -1};

            if (i == 2)
                s.cause = CAUSE_DEP;
            if (i == 3) { /* both wait for rank 1, the later one */
                s.wait_ns = 1;
                s.data_rank = 1;
                s.data_op = 1;
            }
            assert_int_equal(sink.span(sink.self, &s), 0);
        }
    assert_int_equal(trace_slack(t, p, slack), 0);
    assert_true(slack[3] == 0 && slack[7] == 0);   /* both end last */
    assert_true(slack[4 + 1] == 0);                /* what they wait for */
    assert_true(slack[4] == 0);                    /* what that waits for */
    assert_true(slack[2] == 45 && slack[6] == 15); /* nobody waits for these */
    trace_free(t);
    plan_free(p);
}

static void path_adds_up_and_has_no_slack(void **state)
{
    struct config *c = config_of_text(between_nodes);
    struct evaluator *e;
    struct scenario s;
    struct evaluation ev;
    struct trace *t;
    struct plan *p;
    struct trace_step *steps;
    const struct policy *policy;
    struct knobs k;
    double sum = 0, *slack;
    size_t n;

    (void)state;
    assert_int_equal(config_scenario(c, 0, &s), 0);
    config_knobs(c, 0, &policy, &k, NULL);
    assert_int_equal(evaluator_open(&e), 0);
    assert_int_equal(evaluate_point(e, &s, policy, &k, -1, &ev, &t, &p), 0);
    assert_int_equal(trace_path(t, p, &steps, &n), 0);
    slack = calloc((size_t)t->ranks * (size_t)p->num_ops, sizeof *slack);
    assert_non_null(slack);
    assert_int_equal(trace_slack(t, p, slack), 0);
    assert_true(n > 3);
    for (size_t i = 0; i < n; i++) {
        for (int j = 0; j < PART_COUNT; j++)
            sum += steps[i].part_ns[j];
        sum += steps[i].launch_ns;
        if (slack[steps[i].rank * p->num_ops + steps[i].op] > 1e-6)
            fail_msg("step %zu, rank %d op %d: slack %g", i, steps[i].rank, steps[i].op,
                     slack[steps[i].rank * p->num_ops + steps[i].op]);
    }
    assert_true(fabs(sum / 1e3 - ev.layer_us) < 1e-6 * ev.layer_us);
    for (int i = 0; i < t->ranks * p->num_ops; i++)
        assert_true(slack[i] >= 0);
    free(slack);
    free(steps);
    trace_free(t);
    plan_free(p);
    evaluator_close(e);
    scenario_free(&s);
    config_free(c);
}

static struct why *why_of(const char *text)
{
    struct config *c = config_of_text(text);
    struct grid_point point = {0};
    struct why *w;

    config_knobs(c, 0, &point.policy, &point.knobs, &point.entry);
    assert_int_equal(why_run(c, &point, 2, &w), 0);
    config_free(c);
    return w;
}

static double saves(const struct why *w, const char *what)
{
    for (int i = 0; i < w->num_fixes; i++)
        if (!strcmp(w->fix[i].name, what))
            return w->fix[i].saves_us;
    fail_msg("no change called %s", what);
    return NAN;
}

static void changes_are_sorted_and_worth_something(void **state)
{
    struct why *w = why_of(between_nodes);

    (void)state;
    for (int i = 1; i < w->num_fixes; i++)
        assert_true(w->fix[i - 1].saves_us >= w->fix[i].saves_us);
    assert_true(saves(w, "infinite NIC") > 0);
    assert_true(saves(w, "no launch gaps") > 0);
    assert_true(saves(w, "perfectly balanced routing") > 0);
    assert_true(saves(w, "twice the SMs") > 0);
    assert_true(fabs(w->total.all_us - w->point.ev.layer_us) < 1e-6 * w->point.ev.layer_us);
    why_free(w);
}

/* Nothing to remove: no skew, no jitter, no NIC in use, balanced already. */
static void empty_changes_save_nothing(void **state)
{
    struct why *w = why_of("model: qwen3-30b\n"
                           "batch: 64\n"
                           "cluster: {profile: h800, gpus_per_node: 4}\n"
                           "routing: {kind: balanced}\n"
                           "policies: [none]\n");

    (void)state;
    assert_true(saves(w, "no skew between ranks") == 0);
    assert_true(saves(w, "no jitter of ranks") == 0);
    assert_true(saves(w, "infinite NIC") == 0);
    assert_true(saves(w, "perfectly balanced routing") == 0);
    assert_true(saves(w, "no interference between kernels") == 0);
    assert_true(saves(w, "infinite NVLink") > 0);
    why_free(w);
}

/* A world with twice the SMs is not remembered in the world as it is. */
static void worlds_do_not_leak(void **state)
{
    struct config *c = config_of_text(between_nodes);
    struct whatif twice = {.sm_factor = 2};
    struct evaluator *e;
    struct scenario s;
    struct evaluation before, other, after;
    const struct policy *policy;
    struct knobs k;

    (void)state;
    assert_int_equal(config_scenario(c, 0, &s), 0);
    config_knobs(c, 0, &policy, &k, NULL);
    assert_int_equal(evaluator_open(&e), 0);
    assert_int_equal(evaluate_point(e, &s, policy, &k, -1, &before, NULL, NULL), 0);
    evaluator_what_if(e, &twice);
    assert_int_equal(evaluate_point(e, &s, policy, &k, -1, &other, NULL, NULL), 0);
    evaluator_what_if(e, NULL);
    assert_int_equal(evaluate_point(e, &s, policy, &k, -1, &after, NULL, NULL), 0);
    assert_true(before.layer_us == after.layer_us && before.none_us == after.none_us);
    assert_true(other.layer_us != before.layer_us && other.num_sms == 2 * before.num_sms);
    evaluator_close(e);
    scenario_free(&s);
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slack_of_a_known_trace),
        cmocka_unit_test(path_adds_up_and_has_no_slack),
        cmocka_unit_test(changes_are_sorted_and_worth_something),
        cmocka_unit_test(empty_changes_save_nothing),
        cmocka_unit_test(worlds_do_not_leak),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
