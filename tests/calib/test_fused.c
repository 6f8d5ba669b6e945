#include "tests/check.h"

#include <math.h>
#include <string.h>

#include "calib/fused.h"

#define HEADER                                                                                     \
    "system,engine,kernel,layout,dtype,hidden,inter,topk,num_experts,num_slots,tp,ep,"             \
    "tokens_per_rank,distribution,latency_us\n"

static struct data_set *parsed(const char *text)
{
    struct data_set *set;

    assert_int_equal(data_parse(text, strlen(text), "moe_ffn.csv", NULL, true, &set), 0);
    return set;
}

static void test_a_fused_layer_has_the_rows_of_its_experts(void **state)
{
    struct data_set *set = parsed(
        HEADER
        "h200,trtllm,moe_flow,fused,nvfp4,7168,2048,8,256,256,2,4,512,balanced,100\n"
        "h200,vllm,vllm_nongated_x,fused,bfloat16,7168,2048,8,256,256,1,4,512,power_law_1.2,100\n");
    const struct law_fused *a = &set->rows[0].fused->load, *b = &set->rows[1].fused->load;

    (void)state;
    assert_int_equal(set->n, 2);
    assert_int_equal(set->rows[0].law, DATA_FFN_FUSED);
    assert_string_equal(set->rows[0].fused->family, "ffn.trtllm-moe_flow.nvfp4");
    assert_true(a->rows == 1024 && a->active == 64 && a->inter == 1024 && a->gated);
    assert_true(a->padded[0] == 1024 && a->padded[5] == 64 * 256);
    assert_string_equal(set->rows[1].fused->family, "ffn.vllm-nongated_x.bfloat16");
    assert_false(b->gated);
    /* the heaviest of four ranks has more than its share, and no expert more than all tokens */
    assert_true(b->rows > 1024 && b->rows < 64 * 512);
    data_free(set);
}

static void test_blocks_that_experts_share_read_one_experts_weights(void **state)
{
    struct data_set *set = parsed(
        HEADER
        "h200,sglang,deepgemm,contiguous,fp8_block,7168,2048,8,256,256,1,2,1024,uniform,712\n"
        "h200,sglang,deepgemm,contiguous,fp8_block,7168,2048,8,256,256,1,8,8192,uniform,901\n");
    int active = 0;

    (void)state;
    /* 32 rows for each of 128 experts: 32 full blocks */
    for (int i = 0; i < 128; i++) {
        active += set->rows[0].expert_rows[i] > 0;
        assert_true(set->rows[0].expert_rows[i] % 128 == 0);
    }
    assert_int_equal(active, 32);
    for (int i = 0; i < 32; i++)
        assert_int_equal(set->rows[1].expert_rows[i], 256);
    data_free(set);
}

static void test_time_grows_with_rows_and_weights(void **state)
{
    double v[HW_FIELD_COUNT], param[LAW_FUSED_PARAMS], before = 0, rows[64];
    struct hw_profile *p;

    (void)state;
    assert_int_equal(hw_profile_read("b200", &p), 0);
    for (int i = 0; i < HW_FIELD_COUNT; i++)
        v[i] = p->f[i].value;
    hw_profile_free(p);
    for (int i = 0; i < LAW_FUSED_PARAMS; i++)
        param[i] = law_fused_info[i].usual;
    for (double each = 1; each < 1 << 14; each *= 2) {
        struct law_fused in = {DTYPE_NVFP4, true, each * 64, 256, 7168, 2048, 0, 0, {0}};
        double now;

        for (int i = 0; i < 64; i++)
            rows[i] = each;
        law_fused_rows(rows, 64, &in);
        now = law_fused_us(v, param, &in);
        assert_true(now > before);
        before = now;
        in.dtype = DTYPE_FP8;
        assert_true(law_fused_us(v, param, &in) > now);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_fused_layer_has_the_rows_of_its_experts),
        cmocka_unit_test(test_blocks_that_experts_share_read_one_experts_weights),
        cmocka_unit_test(test_time_grows_with_rows_and_weights),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
