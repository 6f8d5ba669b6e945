#include "tests/check.h"

#include <math.h>

#include "model/attn.h"
#include "model/law/attn_family.h"
#include "model/law/cost.h"
#include "model/law/cost_attn.h"
#include "model/law/cost_range.h"

static const struct attn_shape gqa = {.kind = ATTN_GQA,
                                      .hidden = 4096,
                                      .heads = 64,
                                      .kv_heads = 8,
                                      .qk_head_dim = 128,
                                      .v_head_dim = 128};
static const struct attn_shape mla = {.kind = ATTN_MLA,
                                      .hidden = 7168,
                                      .heads = 128,
                                      .kv_heads = 1,
                                      .qk_head_dim = 192,
                                      .v_head_dim = 128,
                                      .q_lora_rank = 1536,
                                      .kv_lora_rank = 512,
                                      .qk_rope_head_dim = 64};
static const struct attn_shape gdn = {.kind = ATTN_GATED_DELTA,
                                      .hidden = 4096,
                                      .state_k_heads = 16,
                                      .state_v_heads = 64,
                                      .state_k_dim = 128,
                                      .state_v_dim = 128,
                                      .conv_kernel = 4,
                                      .state_bytes = 4};

static void nominal(double *v)
{
    memset(v, 0, HW_FIELD_COUNT * sizeof *v);
    v[HW_GPU_NUM_SMS] = 132;
    v[HW_GPU_BF16_TFLOPS] = 989;
    v[HW_GPU_FP8_TFLOPS] = 1979;
    v[HW_GPU_HBM_GBPS] = 4800;
    v[HW_GPU_L2_MIB] = 50;
}

static struct law_attn_load decode(const struct attn_shape *s, double requests, double kv_len)
{
    return (struct law_attn_load){
        .shape = *s, .requests = requests, .q_len = 1, .kv_len = kv_len, .kv_bytes = 2};
}

static struct law_attn_load prefill(const struct attn_shape *s, double requests, double q_len)
{
    struct law_attn_load in = decode(s, requests, q_len);

    in.q_len = q_len;
    in.prefill = true;
    in.expanded = s->kind == ATTN_MLA;
    return in;
}

static double usual_us(const struct law_attn_load *in)
{
    double v[HW_FIELD_COUNT], param[LAW_ATTN_PARAM_COUNT];

    nominal(v);
    law_attn_usual(param);
    return law_attn_us(v, param, in);
}

static void long_caches_stream_at_the_hbm_rate(void **state)
{
    double v[HW_FIELD_COUNT], param[LAW_ATTN_PARAM_COUNT];
    struct law_attn_load in = decode(&gqa, 256, 65536);
    double bytes = 256.0 * 65536 * 8 * 256 * 2;

    (void)state;
    nominal(v);
    law_attn_usual(param);
    param[LAW_ATTN_CORNER] = 12; /* tensor work hides behind the cache */
    param[LAW_ATTN_EFF] = 1;
    assert_true(fabs(law_attn_us(v, param, &in) / (bytes / (0.75 * 4800e3)) - 1) < 0.02);
    in.kv_bytes = 1;
    assert_true(fabs(law_attn_us(v, param, &in) / (bytes / 2 / (0.75 * 4800e3)) - 1) < 0.05);
}

static void a_window_bounds_the_keys(void **state)
{
    struct attn_shape w = gqa;
    struct law_attn_terms near, far, all;
    struct law_attn_load in;

    (void)state;
    w.kind = ATTN_WINDOW;
    w.window = 128;
    in = decode(&w, 32, 4096);
    law_attn_terms(&in, 128, false, &near);
    in.kv_len = 131072;
    law_attn_terms(&in, 128, false, &far);
    assert_true(near.bytes == far.bytes && near.blocks == far.blocks);
    in = prefill(&w, 1, 16384);
    law_attn_terms(&in, 128, false, &near);
    in = prefill(&gqa, 1, 16384);
    law_attn_terms(&in, 128, false, &all);
    /* 2 blocks a tile against 64.5 in the mean */
    assert_true(near.blocks < 0.05 * all.blocks);
}

static void causal_tiles_do_half_the_square(void **state)
{
    struct law_attn_load in = prefill(&gqa, 2, 8192);
    struct law_attn_terms t;

    (void)state;
    law_attn_terms(&in, 128, false, &t);
    assert_true(t.units == 2.0 * 64 * 64);
    assert_true(t.blocks == 2.0 * 64 * (64 * 65 / 2));
    assert_true(t.chain == 64);
}

static void short_prompts_pack_the_heads(void **state)
{
    struct law_attn_load in = prefill(&gqa, 1, 16);
    struct law_attn_terms apart, packed;

    (void)state;
    law_attn_terms(&in, 128, false, &apart);
    law_attn_terms(&in, 128, true, &packed);
    assert_true(apart.units == 64);
    assert_true(packed.units == 8); /* 8 heads of 16 rows fill one tile */
}

static void more_work_never_takes_less(void **state)
{
    const struct attn_shape *shapes[] = {&gqa, &mla, &gdn};
    double lens[] = {1, 17, 64, 200, 1024, 5000, 32768};

    (void)state;
    for (size_t s = 0; s < 3; s++)
        for (size_t i = 0; i + 1 < sizeof lens / sizeof *lens; i++)
            for (double b = 1; b < 512; b *= 3) {
                struct law_attn_load less = decode(shapes[s], b, lens[i]), more = less;

                more.kv_len = lens[i + 1];
                assert_true(usual_us(&more) >= 0.97 * usual_us(&less));
                more = less;
                more.requests = 3 * b;
                assert_true(usual_us(&more) >= 0.97 * usual_us(&less));
                less = prefill(shapes[s], b, lens[i]);
                more = prefill(shapes[s], b, lens[i + 1]);
                assert_true(usual_us(&more) >= 0.97 * usual_us(&less));
            }
}

static void selection_costs_only_beyond_what_is_selected(void **state)
{
    struct attn_shape s = mla;
    struct law_attn_terms t;
    struct law_attn_load in;

    (void)state;
    s.kind = ATTN_DSA;
    s.index_heads = 64;
    s.index_head_dim = 128;
    s.index_topk = 2048;
    in = decode(&s, 8, 2048);
    law_attn_terms(&in, 128, false, &t);
    assert_false(t.selects);
    in = decode(&s, 8, 65536);
    law_attn_terms(&in, 128, false, &t);
    assert_true(t.selects);
    assert_true(t.bytes == 8.0 * 2048 * 576 * 2);
    assert_true(t.index_flops == 2.0 * 8 * 65536 * 64 * 128);
    in.shape.index_shared = true; /* an earlier layer chose */
    law_attn_terms(&in, 128, false, &t);
    assert_true(t.index_flops == 0);
}

static void family_add(struct hw_profile *p, const char *name, enum hw_origin origin)
{
    double x[LAW_ATTN_PARAM_COUNT], y[LAW_ATTN_PARAM_COUNT];

    law_attn_usual(y);
    for (int i = 0; i < LAW_ATTN_PARAM_COUNT; i++)
        x[i] = i + 1;
    assert_int_equal(hw_table_set(p, name, x, y, LAW_ATTN_PARAM_COUNT, origin, "made up"), 0);
}

static const char *chosen(const struct law_attn_families *f, enum plan_attn_engine engine,
                          struct law_attn_load in, bool *stands_in)
{
    const struct law_attn_family_entry *e = law_attn_choose(f, engine, &in, stands_in);

    return e ? e->table->name + strlen("attn.") : "none";
}

static void the_nearest_family_prices(void **state)
{
    struct hw_profile *p;
    struct law_attn_families f;
    struct law_attn_load in;
    bool stands_in;

    (void)state;
    assert_int_equal(hw_profile_new("made", &p), 0);
    family_add(p, "attn.gqa.fa3.decode.bf16.d128", HW_FITTED);
    family_add(p, "attn.gqa.fa3.decode.fp8.d128", HW_FITTED);
    family_add(p, "attn.gqa.fa3.decode.bf16.d64", HW_FITTED);
    family_add(p, "attn.mla.trtllm-default.decode.bf16.w_bf16", HW_FITTED);
    family_add(p, "attn.mla.trtllm-default.decode.bf16.w_fp8", HW_FITTED);
    family_add(p, "attn.mla.sglang-fa3.decode.fp8.w_fp8", HW_FITTED);
    family_add(p, "attn.mla.vllm-flashmla.decode.fp8.w_fp8", HW_ASSUMED);
    assert_int_equal(law_attn_families_open(p, &f), 0);
    assert_int_equal(f.num, 7);
    in = decode(&gqa, 8, 4096);
    assert_string_equal(chosen(&f, ATTN_ENGINE_AUTO, in, &stands_in), "gqa.fa3.decode.bf16.d128");
    assert_false(stands_in);
    in.kv_bytes = 1;
    assert_string_equal(chosen(&f, ATTN_ENGINE_AUTO, in, &stands_in), "gqa.fa3.decode.fp8.d128");
    in.shape.qk_head_dim = in.shape.v_head_dim = 80;
    in.kv_bytes = 2;
    assert_string_equal(chosen(&f, ATTN_ENGINE_AUTO, in, &stands_in), "gqa.fa3.decode.bf16.d64");
    assert_true(stands_in);
    in.prefill = true;
    assert_string_equal(chosen(&f, ATTN_ENGINE_AUTO, in, &stands_in), "none");
    in = decode(&mla, 8, 4096);
    in.weight_dtype = DTYPE_FP8;
    assert_string_equal(chosen(&f, ATTN_ENGINE_AUTO, in, &stands_in),
                        "mla.trtllm-default.decode.bf16.w_fp8");
    in.kv_bytes = 1;
    assert_string_equal(chosen(&f, ATTN_ENGINE_AUTO, in, &stands_in),
                        "mla.sglang-fa3.decode.fp8.w_fp8"); /* the other is of another GPU */
    assert_false(stands_in);
    assert_string_equal(chosen(&f, ATTN_ENGINE_VLLM, in, &stands_in),
                        "mla.vllm-flashmla.decode.fp8.w_fp8");
    law_attn_families_close(&f);
    hw_profile_free(p);
}

/* Projections, core and output of a measured module are its time, however they are cut. */
static void the_ops_of_a_module_sum_to_it(void **state)
{
    static const enum plan_op_kind kinds[] = {OP_ATTN_PROJ, OP_ATTN_CORE, OP_ATTN_OUT};
    struct hw_profile *p;
    struct law_attn_families f;
    struct law_attn_load load;
    struct plan *plan;
    double v[HW_FIELD_COUNT], sum = 0;
    const struct law_attn_family_entry *e;
    bool stands_in;

    (void)state;
    assert_int_equal(hw_profile_read("h200", &p), 0);
    assert_int_equal(law_attn_families_open(p, &f), 0);
    assert_int_equal(plan_new(&plan, 8, 64, 132), 0);
    for (int i = 0; i < HW_FIELD_COUNT; i++)
        v[i] = p->f[i].value;
    plan->attn = (struct plan_attn){.shape = mla,
                                    .engine = ATTN_ENGINE_SGLANG,
                                    .kv_element_bytes = 1,
                                    .context_len = 4095,
                                    .q_tokens = 1,
                                    .tp = 1};
    for (size_t i = 0; i < 3; i++) {
        struct plan_op op = {.kind = kinds[i], .sms = 132, .rows = 64, .dtype = DTYPE_FP8};
        struct cost_work w;

        assert_true(cost_attn_work(v, &f, plan, &op, &w));
        assert_false(w.assumed);
        sum += (w.head.fixed_ns + w.head.sm_ns) / 1e3;
        e = cost_attn_family(&f, plan, &op, &load, &stands_in);
    }
    assert_non_null(e);
    assert_true(fabs(sum / law_attn_us(v, e->table->y, &load) - 1) < 1e-9);
    plan_free(plan);
    law_attn_families_close(&f);
    hw_profile_free(p);
}

static void contexts_beyond_the_data_are_named(void **state)
{
    struct hw_profile *p;
    struct plan *plan;
    struct plan_op op = {.kind = OP_ATTN_CORE, .sms = 132, .rows = 16};
    char why[128] = "";
    int index;

    (void)state;
    assert_int_equal(hw_profile_read("h200", &p), 0);
    assert_int_equal(plan_new(&plan, 8, 64, 132), 0);
    plan->attn = (struct plan_attn){
        .shape = gqa, .kv_element_bytes = 2, .context_len = 4095, .q_tokens = 1, .tp = 1};
    index = plan_op_add(plan, &op);
    assert_true(index >= 0);
    assert_false(cost_range_outside(p, plan, index, why, sizeof why));
    plan->attn.context_len = 1000000;
    assert_true(cost_range_outside(p, plan, index, why, sizeof why));
    assert_non_null(strstr(why, "attn.gqa.fa3.decode.bf16.d128 was fitted for kv_len"));
    plan_free(plan);
    hw_profile_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_caches_stream_at_the_hbm_rate),
        cmocka_unit_test(a_window_bounds_the_keys),
        cmocka_unit_test(causal_tiles_do_half_the_square),
        cmocka_unit_test(short_prompts_pack_the_heads),
        cmocka_unit_test(more_work_never_takes_less),
        cmocka_unit_test(selection_costs_only_beyond_what_is_selected),
        cmocka_unit_test(the_nearest_family_prices),
        cmocka_unit_test(the_ops_of_a_module_sum_to_it),
        cmocka_unit_test(contexts_beyond_the_data_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
