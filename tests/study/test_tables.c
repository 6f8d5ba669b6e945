/* What must hold for every row of the tables: policies, profiles, kinds of ops, libraries. A row
 * added to any of them is tested by being there. */
#include "tests/check.h"

#include <glob.h>
#include <math.h>

#include "base/err.h"
#include "model/law/cost.h"
#include "study/evaluate.h"
#include "study/grid.h"

static void scenario_open(struct scenario *s, const char *const *sets)
{
    memset(s, 0, sizeof *s);
    assert_int_equal(opt_set_defaults(scenario_options, s), 0);
    for (int i = 0; sets[i]; i += 2)
        assert_int_equal(opt_set(scenario_options, s, sets[i], sets[i + 1], "test", 0), 0);
}

static void trace_holds(const struct trace *t, const struct plan *p, double layer_us)
{
    assert_int_equal(t->num_spans, (size_t)p->ranks * p->num_ops);
    for (size_t i = 0; i < t->num_spans; i++) {
        const struct trace_span *s = &t->spans[i];

        assert_true(s->end_ns >= s->start_ns && s->start_ns >= 0);
        for (int d = 0; d < p->ops[s->op].num_deps; d++) {
            const struct plan_dep *dep = &p->deps[p->ops[s->op].first_dep + d];

            for (size_t j = 0; j < t->num_spans && dep->kind == DEP_END; j++)
                if (t->spans[j].rank == s->rank && t->spans[j].op == dep->op)
                    assert_true(t->spans[j].end_ns <= s->start_ns + 1e-6);
        }
    }
    assert_true(layer_us > 0 && isfinite(layer_us));
}

/* GEMM FLOPs of the routed experts per layer, over all ranks. */
static double expert_flops(const struct plan *plan)
{
    double flops = 0;

    for (int op = 0; op < plan->num_ops; op++)
        for (int r = 0; r < plan->ranks && plan_op_is_expert_gemm(plan->ops[op].kind); r++)
            flops += 2.0 * plan_op_rows(plan, op, r, NULL) * plan->ops[op].n * plan->ops[op].k;
    return flops / plan->num_layers;
}

static void policy_holds(struct evaluator *e, struct scenario *s, const struct policy *p,
                         const struct knobs *auto_knobs)
{
    struct knobs k = *auto_knobs, none;
    struct evaluation ev, again;
    struct trace *trace = NULL;
    struct plan *plan = NULL, *base = NULL;
    struct layer_spec spec;

    assert_int_equal(grid_evaluate(e, s, p, &k, &again), 0);
    assert_false(policy_has_auto(p, &k));
    assert_int_equal(evaluate_point(e, s, p, &k, -1, &ev, &trace, &plan), 0);
    assert_true(ev.layer_us == again.layer_us && ev.gain_pct == again.gain_pct);
    trace_holds(trace, plan, ev.layer_us);
    knobs_default(&policy_none, &none);
    none.shared_expert = k.shared_expert;
    assert_int_equal(evaluate_spec(e, s, p, &spec), 0);
    assert_int_equal(policy_none.build(&spec, &none, &base), 0);
    assert_true(expert_flops(plan) == expert_flops(base));
    plan_free(base);
    plan_free(plan);
    trace_free(trace);
}

/* Every policy on every profile, in the first of these in which it runs. */
static void test_every_policy_on_every_profile(void **state)
{
    static const char *const kinds[][11] = {{"phase", "decode", "batch", "32", NULL},
                                            {"phase", "prefill", "batch", "512", NULL}};
    glob_t files;

    (void)state;
    assert_int_equal(glob("hw/profiles/*.yaml", 0, NULL, &files), 0);
    assert_true(files.gl_pathc >= 6);
    for (size_t f = 0; f < files.gl_pathc; f++)
        for (size_t i = 0; i < policy_count(); i++) {
            const struct policy *p = policy_at(i);
            bool ran = false;

            for (size_t n = 0; n < sizeof kinds / sizeof *kinds && !ran; n++) {
                struct evaluator *e;
                struct scenario s;
                struct knobs k;
                char why[200];

                assert_int_equal(evaluator_open(&e), 0);
                scenario_open(&s, kinds[n]);
                assert_int_equal(
                    opt_set(scenario_options, &s, "cluster.profile", files.gl_pathv[f], "test", 0),
                    0);
                assert_int_equal(opt_set(scenario_options, &s, "model", "qwen3-30b", "test", 0), 0);
                assert_int_equal(opt_set(scenario_options, &s, "cluster.nodes", "1", "test", 0), 0);
                s.comm = p->auto_comm;
                knobs_default(p, &k);
                ran = evaluate_check(e, &s, p, &k, why, sizeof why) == 0;
                if (ran)
                    policy_holds(e, &s, p, &k);
                scenario_free(&s);
                evaluator_close(e);
            }
            if (!ran && !p->archs)
                fail_msg("%s cannot run on %s", p->name, files.gl_pathv[f]);
        }
    globfree(&files);
}

/* What a search tries is what the knob's own row allows; keys that rows name exist. */
static void test_searched_values_are_allowed(void **state)
{
    struct evaluator *e;
    struct scenario s;

    (void)state;
    assert_int_equal(evaluator_open(&e), 0);
    scenario_open(&s, (const char *const[]){"model", "deepseek-v3", NULL});
    for (size_t i = 0; i < policy_count(); i++) {
        const struct policy *p = policy_at(i);
        const char *const keys[] = {p->method_knob, p->rounds_knob, p->sms_knob};
        struct layer_spec spec;

        assert_int_equal(evaluate_spec(e, &s, p, &spec), 0);
        for (size_t j = 0; j < 3; j++)
            assert_true(!keys[j] || opt_find(p->knobs, keys[j]));
        for (const struct knob_search *k = p->search; k && k->key; k++)
            assert_non_null(opt_find(p->knobs, k->key));
        for (const struct opt *o = p->knobs; o->key; o++) {
            int values[256], n = policy_knob_values(p, o, &spec, values, 256);

            for (int v = 0; v < n; v++) {
                struct knobs k;
                char text[64];

                knobs_default(p, &k);
                knob_set(o, &k, values[v]);
                assert_int_equal(opt_format(o, &k, text, sizeof text), 0);
                assert_int_equal(opt_set(p->knobs, &k, o->key, text, "test", 0), 0);
            }
        }
    }
    scenario_free(&s);
    evaluator_close(e);
}

static void test_kinds_have_laws_and_traits(void **state)
{
    struct hw_profile *profile;
    struct cost cost;
    struct plan *plan;

    (void)state;
    assert_int_equal(hw_profile_read("h200", &profile), 0);
    assert_int_equal(cost_open(profile, &cost), 0);
    assert_int_equal(plan_new(&plan, 8, 64, 132), 0);
    for (int k = 0; k < OP_KIND_COUNT; k++) {
        const struct plan_op_traits *t = plan_op_traits((enum plan_op_kind)k);
        struct plan_op op = {.kind = (enum plan_op_kind)k, .sms = 1};

        assert_true(plan_op_add(plan, &op) >= 0);
        assert_true((t->class == OP_CLASS_COMM) == (t->network != OP_NET_NOTHING));
        assert_true(t->part < PLAN_PART_COUNT && plan_part_name(t->part) && *t->brief);
    }
    assert_int_equal(cost.check(cost.self, plan), 0);
    for (int c = 0; c < COMM_IMPL_COUNT; c++)
        assert_true(*plan_comm_traits((enum plan_comm)c)->text);
    plan_free(plan);
    cost_close(&cost);
    hw_profile_free(profile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_policy_on_every_profile),
        cmocka_unit_test(test_searched_values_are_allowed),
        cmocka_unit_test(test_kinds_have_laws_and_traits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
