/* Whole passes: closed forms against parameter counts and plans; sums; repeating against simulating
 * every layer. */
#include "tests/check.h"

#include <math.h>

#include "base/err.h"
#include "study/pass.h"
#include "model/law/cost.h"
#include "model/pass.h"

static void near(double got, double want, double rel)
{
    if (!(fabs(got - want) <= rel * fabs(want)))
        print_error("got %.9g, want %.9g\n", got, want);
    assert_true(fabs(got - want) <= rel * fabs(want));
}

/* The vendors' own figures: DeepSeek-V3 671B/37B, Qwen3-235B-A22B, Mixtral 46.7B/12.9B. */
static void closed_forms_follow_the_parameters(void **state)
{
    static const struct {
        const char *name;
        double total, active; /* billions */
    } models[] = {{"deepseek-v3", 671, 37}, {"qwen3-235b", 235, 22}, {"mixtral-8x7b", 46.7, 12.9}};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct moe_model *m;
        struct pass_work w;

        assert_int_equal(moe_model_read(models[i].name, &m), 0);
        pass_work_of(m, 4096, true, DTYPE_BF16, 2, &w);
        near(w.linear_flops, 2e9 * models[i].active, 0.03);
        near(w.weight_bytes, 2e9 * models[i].total, 0.01);
        near(w.kv_read_bytes, 4096 * w.kv_write_bytes, 1e-12);
        near(w.kv_write_bytes, 2.0 * moe_kv_elements(m) * m->num_layers, 1e-12);
        moe_model_free(m);
    }
}

static void attention_by_hand(void **state)
{
    struct moe_model *m;
    struct pass_work w;

    (void)state;
    assert_int_equal(moe_model_read("deepseek-v3", &m), 0);
    pass_work_of(m, 1000, true, DTYPE_FP8, 2, &w);
    near(w.attention_flops, 61 * 2.0 * 128 * (576 + 512) * 1000, 1e-12);
    near(w.dispatch_bytes, 58 * 8 * 7408.0, 1e-12);
    near(w.combine_bytes, 58 * 8 * 14336.0, 1e-12);
    pass_work_of(m, 1000, false, DTYPE_FP8, 2, &w);
    near(w.attention_flops, 61 * 2.0 * 128 * (192 + 128) * 1000, 1e-12);
    moe_model_free(m);
}

static struct scenario scenario_make(const char *model, int phase, int batch, int nodes, int gpus)
{
    struct scenario s = {0};

    assert_int_equal(opt_set_defaults(scenario_options, &s), 0);
    assert_int_equal(opt_set(scenario_options, &s, "model", model, "test", 0), 0);
    s.phase = phase;
    s.batch = batch;
    s.nodes = nodes;
    s.gpus_per_node = gpus;
    s.prompt_len = 1024;
    s.routing = 1; /* uniform */
    return s;
}

/* FLOPs of all plans of a pass equal the closed form: nothing is left out, nothing counted twice.
 */
static void plans_do_the_closed_form(void **state)
{
    struct scenario s = scenario_make("deepseek-v3", PHASE_OF_DECODE, 32, 1, 8);
    struct evaluator *e;
    struct layer_spec spec;
    struct plan_routing none = {.ranks = 8, .tokens = 32, .topk = 1, .experts = 8};
    struct plan *moe = NULL, *dense = NULL, *ends = NULL;
    struct pass_work w;
    struct knobs k;
    double flops;

    (void)state;
    assert_int_equal(evaluator_open(&e), 0);
    assert_int_equal(evaluate_spec(e, &s, &policy_none, &spec), 0);
    none.expert = malloc(8 * 32 * sizeof *none.expert);
    assert_non_null(none.expert);
    memset(none.expert, 0xff, 8 * 32 * sizeof *none.expert);
    knobs_default(&policy_none, &k);
    spec.attention = true;
    assert_int_equal(policy_none.build(&spec, &k, &moe), 0);
    spec.dense = true;
    spec.routing = &none;
    assert_int_equal(policy_none.build(&spec, &k, &dense), 0);
    assert_int_equal(pass_ends_build(&spec, 32, &ends), 0);
    flops = 58 * plan_total_flops(moe) + 3 * plan_total_flops(dense) + plan_total_flops(ends);
    pass_work_of(spec.model, 0, true, DTYPE_FP8, 2, &w);
    near(flops / (8 * 32), w.linear_flops,
         1e-4); /* widths of MLA's projections are whole numbers */
    plan_free(moe);
    plan_free(dense);
    plan_free(ends);
    free(none.expert);
    evaluator_close(e);
    scenario_free(&s);
}

/* Layers of several kinds: each is planned as itself, and the sum is the closed form. */
static void kinds_of_layers_add_up(void **state)
{
    static const char *const names[] = {"gpt-oss-20b",     "llama-4-maverick",  "deepseek-v2-lite",
                                        "nemotron-3-nano", "qwen3-next-80b",    "kimi-k3",
                                        "deepseek-v3.2",   "deepseek-v4-flash", "minimax-m3"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct scenario s = scenario_make(names[i], PHASE_OF_DECODE, 32, 1, 8);
        struct plan_routing none = {.ranks = 8, .tokens = 32, .topk = 1, .experts = 8};
        const struct moe_model *m;
        struct evaluator *e;
        struct layer_spec spec;
        struct plan *plan;
        struct pass_work w;
        struct knobs k;
        double flops = 0;

        none.expert = malloc(8 * 32 * sizeof *none.expert);
        assert_non_null(none.expert);
        memset(none.expert, 0xff, 8 * 32 * sizeof *none.expert);
        knobs_default(&policy_none, &k);
        assert_int_equal(evaluator_open(&e), 0);
        assert_int_equal(evaluate_model(e, &s, &m), 0);
        assert_true(m->num_kinds >= 2);
        for (int l = 0; l < m->num_kinds; l++) {
            evaluator_use_layer(e, l);
            assert_int_equal(evaluate_spec(e, &s, &policy_none, &spec), 0);
            spec.attention = m->layer[l].attn.kind != ATTN_NONE;
            spec.dense = !m->layer[l].experts;
            if (spec.dense)
                spec.routing = &none;
            assert_int_equal(policy_none.build(&spec, &k, &plan), 0);
            flops += m->layer[l].count * plan_total_flops(plan);
            plan_free(plan);
        }
        assert_int_equal(pass_ends_build(&spec, 32, &plan), 0);
        flops += plan_total_flops(plan);
        plan_free(plan);
        pass_work_of(m, 1, true, DTYPE_FP8, 2, &w);
        /* hyper-connections have weights, but no op of their own */
        near(flops / (8 * 32), w.linear_flops - 2 * m->num_layers * m->mix_params, 1e-3);
        free(none.expert);
        evaluator_close(e);
        scenario_free(&s);
    }
}

/* Tensor-parallel experts do the work of `none`, whoever shares an expert. */
static void tp_does_the_same_work(void **state)
{
    static const int groups[] = {0, 1, 2, 4};
    struct scenario s = scenario_make("qwen3-30b", PHASE_OF_DECODE, 32, 1, 8);
    struct evaluator *e;
    struct layer_spec spec;
    struct plan *plan;
    struct knobs k;
    char why[200];
    double flops;

    (void)state;
    assert_int_equal(evaluator_open(&e), 0);
    assert_int_equal(evaluate_spec(e, &s, &policy_none, &spec), 0);
    knobs_default(&policy_none, &k);
    assert_int_equal(policy_none.build(&spec, &k, &plan), 0);
    flops = plan_total_flops(plan);
    plan_free(plan);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        knobs_default(&policy_tp, &k);
        k.own[0] = groups[i];
        k.own[2] = 1; /* reduce_scatter: gates see their own tokens only */
        assert_int_equal(policy_tp.check(&spec, &k, why, sizeof why), 0);
        assert_int_equal(policy_tp.build(&spec, &k, &plan), 0);
        near(plan_total_flops(plan) / flops, 1, 1e-9);
        assert_null(plan_op_of_kind(plan, OP_DISPATCH));
        assert_non_null(plan_op_of_kind(plan, OP_REDUCE_SCATTER));
        plan_free(plan);
    }
    k.own[0] = 3;
    assert_int_equal(policy_tp.check(&spec, &k, why, sizeof why), ERR_INFEASIBLE);
    evaluator_close(e);
    scenario_free(&s);
}

static double attention_us(const struct evaluation *v)
{
    return (v->metrics.kind_ns[OP_ATTN_PROJ] + v->metrics.kind_ns[OP_ATTN_CORE] +
            v->metrics.kind_ns[OP_ATTN_OUT]) /
           1e3;
}

/* Eight requests of a context: what attention of V3 takes, and of V3.2, in us. */
static void sparse_pair(int context, double *full_us, double *sparse_us)
{
    const char *models[] = {"deepseek-v3", "deepseek-v3.2"};
    double *out[] = {full_us, sparse_us};
    struct evaluator *e;
    struct knobs k;

    knobs_default(&policy_none, &k);
    assert_int_equal(evaluator_open(&e), 0);
    for (int i = 0; i < 2; i++) {
        struct scenario s = scenario_make(models[i], PHASE_OF_DECODE, 8, 4, 8);
        struct evaluation v;

        s.context_len = context;
        s.attention = ATTENTION_ON;
        s.gemm_dtype = GEMM_TYPE_FP8;
        assert_int_equal(evaluate_point(e, &s, &policy_none, &k, -1, &v, NULL, NULL), 0);
        *out[i] = attention_us(&v);
        scenario_free(&s);
    }
    evaluator_close(e);
}

/* V3 reads all latents (75.5 MB a request at 64K), V3.2 2048 of them (2.4 MB) and the index keys
 * (8.7 MB). The measured modules' indexer is slower than its bytes, and runs at any context. */
static void sparse_attention_pays_at_long_contexts(void **state)
{
    double full[2], sparse[2];

    (void)state;
    sparse_pair(2000, &full[0], &sparse[0]);
    sparse_pair(65536, &full[1], &sparse[1]);
    assert_true(sparse[0] > full[0]);
    assert_true(sparse[1] < 0.75 * full[1]);
    assert_true(sparse[1] - sparse[0] < 0.5 * (full[1] - full[0]));
}

/* Half of gpt-oss's layers keep 128 tokens: at 64K their core reads next to nothing. */
static void windows_bound_what_is_read(void **state)
{
    struct scenario s = scenario_make("gpt-oss-120b", PHASE_OF_DECODE, 32, 4, 8);
    struct evaluator *e;
    struct layer_spec spec;
    struct knobs k;
    struct cost cost;
    double ns[2], bytes[2];

    (void)state;
    s.context_len = 65535;
    s.attention = ATTENTION_ON;
    knobs_default(&policy_none, &k);
    assert_int_equal(evaluator_open(&e), 0);
    assert_int_equal(evaluate_spec(e, &s, &policy_none, &spec), 0);
    assert_int_equal(cost_open(evaluate_profile(e), &cost), 0);
    for (int kind = 0; kind < 2; kind++) {
        struct moe_model one = moe_model_of_layer(spec.model, kind);
        struct layer_spec layer = spec;
        struct cost_work w;
        struct plan *plan;
        int core = 0;

        layer.model = &one;
        assert_int_equal(policy_none.build(&layer, &k, &plan), 0);
        while (plan->ops[core].kind != OP_ATTN_CORE)
            core++;
        cost.work(cost.self, plan, 0, core, &w);
        ns[kind] = w.head.fixed_ns + w.head.sm_ns;
        bytes[kind] = w.head.hbm_bytes;
        plan_free(plan);
    }
    /* a full layer: 32 requests, 65536 tokens, 8 heads of 64 for keys and values, BF16 */
    assert_true(fabs(bytes[1] / (32.0 * 65536 * 8 * 128 * 2) - 1) < 0.02);
    assert_true(bytes[0] < 0.01 * bytes[1] && ns[0] < 0.05 * ns[1]);
    cost_close(&cost);
    evaluator_close(e);
    scenario_free(&s);
}

/* Four bits: half the bytes of the experts' weights in memory and in time, none elsewhere. */
static void four_bits_halve_the_experts(void **state)
{
    struct scenario s = scenario_make("mixtral-8x22b", PHASE_OF_DECODE, 1, 1, 8);
    struct memory_spec spec;
    struct memory_sum eight, four;
    struct evaluation a, b;
    struct evaluator *e;
    struct knobs k;

    (void)state;
    knobs_default(&policy_none, &k);
    assert_int_equal(evaluator_open(&e), 0);
    assert_int_equal(pass_memory(e, &s, 1, 1024, 4, &spec, &eight), 0);
    assert_int_equal(evaluate_point(e, &s, &policy_none, &k, -1, &a, NULL, NULL), 0);
    s.expert_dtype = 3; /* nvfp4 */
    assert_int_equal(pass_memory(e, &s, 1, 1024, 4, &spec, &four), 0);
    assert_int_equal(evaluate_point(e, &s, &policy_none, &k, -1, &b, NULL, NULL), 0);
    near(four.experts / eight.experts, 0.5625, 1e-3);
    near(four.attention, eight.attention, 1e-9);
    near(b.metrics.kind_ns[OP_GEMM_UP] / a.metrics.kind_ns[OP_GEMM_UP], 0.5625, 0.1);
    near(b.metrics.kind_ns[OP_GEMM_DOWN] / a.metrics.kind_ns[OP_GEMM_DOWN], 0.5625, 0.15);
    evaluator_close(e);
    scenario_free(&s);
}

static double sum_of(const struct pass_result *r)
{
    double us = r->launch_us;

    for (int k = 0; k < OP_KIND_COUNT; k++)
        us += r->kind_us[k];
    return us;
}

static void check_sums(const struct pass_result *r)
{
    double parts = 0, causes = r->launch_us;

    for (int p = 0; p < PASS_PARTS; p++)
        parts += r->part_us[p];
    for (int p = 0; p < PART_COUNT; p++)
        causes += r->cause_us[p];
    near(parts, r->step_us, 1e-9);
    near(causes, r->step_us, 1e-5); /* parts of spans are kept as float */
    near(sum_of(r), r->step_us, 1e-9);
}

static void step_equals_its_critical_path(void **state)
{
    static const char *const names[] = {"none", "sbo", "tbo"};
    struct scenario s = scenario_make("deepseek-v3", PHASE_OF_DECODE, 64, 2, 8);
    struct evaluator *e;

    (void)state;
    assert_int_equal(evaluator_open(&e), 0);
    for (size_t i = 0; i < 3; i++) {
        struct pass_result r;
        struct knobs k;

        knobs_default(policy_find(names[i]), &k);
        assert_int_equal(pass_run(e, &s, policy_find(names[i]), &k, false, &r), 0);
        check_sums(&r);
        assert_true(r.step_us > 58 * r.layer_us);
        assert_true(r.part_us[PASS_DENSE] > 0 && r.part_us[PASS_ENDS] > 0);
    }
    evaluator_close(e);
    scenario_free(&s);
}

static void compare_all(struct evaluator *e, const struct scenario *s, const char *name, double rel)
{
    struct pass_result repeated, all;
    struct knobs k;

    knobs_default(policy_find(name), &k);
    assert_int_equal(pass_run(e, s, policy_find(name), &k, false, &repeated), 0);
    assert_int_equal(pass_run(e, s, policy_find(name), &k, true, &all), 0);
    check_sums(&repeated);
    check_sums(&all);
    near(repeated.step_us, all.step_us, rel);
}

/* Balanced loads repeat exactly but for how ranks settle; uneven ones to within a percent. */
static void repeating_agrees_with_all_layers(void **state)
{
    struct scenario s = scenario_make("qwen3-30b", PHASE_OF_DECODE, 64, 1, 8);
    struct evaluator *e;

    (void)state;
    assert_int_equal(evaluator_open(&e), 0);
    compare_all(e, &s, "none", 0.01);
    compare_all(e, &s, "sbo", 0.01);
    compare_all(e, &s, "tbo", 0.01);
    s.routing = 0; /* balanced */
    compare_all(e, &s, "none", 1e-3);
    compare_all(e, &s, "tbo", 2e-3);
    s.phase = PHASE_OF_PREFILL;
    s.batch = 2048;
    s.comm = COMM_CHOICE_NORMAL;
    compare_all(e, &s, "tbo", 5e-3);
    s.routing = 1;
    compare_all(e, &s, "none", 0.01);
    compare_all(e, &s, "tbo", 0.02);
    evaluator_close(e);
    scenario_free(&s);
}

static void drafted_tokens(void **state)
{
    struct scenario s = scenario_make("deepseek-v3", PHASE_OF_DECODE, 64, 2, 8);
    struct pass_result r;
    struct evaluator *e;
    struct knobs k;

    (void)state;
    near(pass_tokens_accepted(0, 0.8), 1, 1e-12);
    near(pass_tokens_accepted(1, 0.8), 1.8, 1e-12);
    near(pass_tokens_accepted(2, 0.5), 1.75, 1e-12);
    s.tokens_per_request = 2;
    knobs_default(&policy_none, &k);
    assert_int_equal(evaluator_open(&e), 0);
    assert_int_equal(pass_run(e, &s, &policy_none, &k, false, &r), 0);
    check_sums(&r);
    assert_int_equal(r.num_moe, 59);
    assert_true(r.part_us[PASS_MTP] > r.layer_us);
    evaluator_close(e);
    scenario_free(&s);
}

static void spread_of_steps(void **state)
{
    struct scenario s = scenario_make("qwen3-30b", PHASE_OF_DECODE, 64, 1, 8);
    struct pass_spread x, again;
    struct pass_result r;
    struct evaluator *e;
    struct knobs k;

    (void)state;
    s.routing = 2; /* log-normal */
    s.sigma = 0.5;
    knobs_default(&policy_none, &k);
    assert_int_equal(evaluator_open(&e), 0);
    assert_int_equal(pass_run_spread(e, &s, &policy_none, &k, 4, &r, &x), 0);
    assert_true(x.p50_us < x.p90_us && x.p90_us < x.p99_us);
    assert_true(pass_spread_at(&x, 50) == x.p50_us && pass_spread_at(&x, 99) == x.p99_us);
    assert_true(fabs(x.mean_us / x.p50_us - 1) < 0.05);
    assert_int_equal(pass_run_spread(e, &s, &policy_none, &k, 4, &r, &again), 0);
    assert_memory_equal(&x, &again, sizeof x);
    s.routing = 0; /* balanced: every step alike */
    assert_int_equal(pass_run_spread(e, &s, &policy_none, &k, 3, &r, &x), 0);
    near(x.p99_us, x.p50_us, 1e-9);
    near(x.p50_us, r.step_us, 1e-9);
    evaluator_close(e);
    scenario_free(&s);
}

static void timeline_is_the_pass(void **state)
{
    struct scenario s = scenario_make("qwen3-30b", PHASE_OF_DECODE, 64, 1, 8);
    struct trace_log *log;
    struct pass_result all;
    struct evaluator *e;
    struct knobs k;
    double end = 0;

    (void)state;
    knobs_default(&policy_sbo, &k);
    assert_int_equal(evaluator_open(&e), 0);
    assert_int_equal(pass_timeline(e, &s, &policy_sbo, &k, &log), 0);
    assert_int_equal(pass_run(e, &s, &policy_sbo, &k, true, &all), 0);
    for (size_t i = 0; i < log->num_records; i++)
        end = fmax(end, log->records[i].end_ns);
    near(end / 1e3, all.step_us, 1e-9);
    trace_log_free(log);
    evaluator_close(e);
    scenario_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_forms_follow_the_parameters),
        cmocka_unit_test(attention_by_hand),
        cmocka_unit_test(plans_do_the_closed_form),
        cmocka_unit_test(kinds_of_layers_add_up),
        cmocka_unit_test(four_bits_halve_the_experts),
        cmocka_unit_test(sparse_attention_pays_at_long_contexts),
        cmocka_unit_test(windows_bound_what_is_read),
        cmocka_unit_test(tp_does_the_same_work),
        cmocka_unit_test(step_equals_its_critical_path),
        cmocka_unit_test(repeating_agrees_with_all_layers),
        cmocka_unit_test(drafted_tokens),
        cmocka_unit_test(spread_of_steps),
        cmocka_unit_test(timeline_is_the_pass),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
