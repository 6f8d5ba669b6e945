#include "serve/deployment.h"

#include <stdarg.h>
#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static struct e2e_row row_of(int tp, int dp, int moe_tp, int ep)
{
    return (struct e2e_row){
        .engine = "trtllm",
        .version = "1",
        .model = "deepseek-ai/DeepSeek-R1",
        .system = "b200",
        .precision = "fp8",
        .gemm_dtype = "fp8",
        .moe_dtype = "fp8_block",
        .isl = 1024,
        .osl = 1024,
        .concurrency = 64,
        .pp = 1,
        .pool[E2E_DECODE] = {
            .batch = 64 / (dp ? dp : 1), .tp = tp, .dp = dp, .moe_tp = moe_tp, .moe_ep = ep}};
}

static void assert_pool(const struct serve_pool *p, int gpus, int tp, int dp, int moe_tp, int ep)
{
    assert_int_equal(p->gpus, gpus);
    assert_int_equal(p->tp, tp);
    assert_int_equal(p->dp, dp);
    assert_int_equal(p->moe_tp, moe_tp);
    assert_int_equal(p->ep, ep);
}

static void settled(const struct e2e_row *row, struct serve_deployment *d)
{
    char why[200] = "";

    assert_int_equal(serve_deployment_of(row, d, why, sizeof why), 0);
}

static void test_as_written(void **state)
{
    struct serve_deployment d;
    struct e2e_row row = row_of(8, 1, 8, 1);

    (void)state;
    settled(&row, &d);
    assert_pool(&d.decode, 8, 8, 1, 8, 1);
    assert_string_equal(d.model, "deepseek-v3");
    assert_string_equal(d.expert_dtype, "fp8");
    assert_string_equal(d.note, "");
    assert_false(d.assumed);
    assert_true(serve_batch(&d) == 64);
}

/* tp 64 with moe_tp = ep = 8 is eight GPUs counted twice; the id says so where there is one. */
static void test_id_is_trusted(void **state)
{
    struct serve_deployment d;
    struct e2e_row row = row_of(64, 1, 8, 8);

    (void)state;
    row.id_tp = row.id_ep = 8;
    row.stated = E2E_CONTRADICTS_ID;
    settled(&row, &d);
    assert_pool(&d.decode, 8, 8, 1, 1, 8);
    assert_non_null(strstr(d.note, "id"));
    row = row_of(64, 1, 8, 8);
    settled(&row, &d);
    assert_pool(&d.decode, 8, 8, 1, 1, 8);
    assert_non_null(strstr(d.note, "twice"));
}

static void test_data_parallel_attention(void **state)
{
    struct serve_deployment d;
    struct e2e_row row = row_of(1, 64, 8, 8);

    (void)state;
    settled(&row, &d);
    assert_pool(&d.decode, 8, 1, 8, 1, 8);
    row = row_of(4, 0, 1, 4); /* blank: the batch tells */
    row.pool[E2E_DECODE].batch = 16;
    row.id_tp = 4;
    settled(&row, &d);
    assert_pool(&d.decode, 4, 4, 1, 1, 4);
}

/* 128 heads over 72 or 12 ranks: no engine does that. */
static void test_heads_that_do_not_divide(void **state)
{
    struct serve_deployment d;
    struct e2e_row row = row_of(72, 1, 72, 1);

    (void)state;
    row.id_tp = 72;
    row.id_ep = 1;
    settled(&row, &d);
    assert_pool(&d.decode, 72, 1, 72, 1, 72);
    row = row_of(12, 1, 12, 1);
    row.id_tp = 12;
    settled(&row, &d);
    assert_int_equal(d.decode.tp, 1);
    assert_int_equal(d.decode.dp, 12);
}

static void test_refused_by_name(void **state)
{
    struct serve_deployment d;
    struct e2e_row row = row_of(8, 1, 8, 1);
    char why[200] = "";

    (void)state;
    row.model = "acme/Unheard-1T";
    assert_int_equal(serve_deployment_of(&row, &d, why, sizeof why), ERR_INFEASIBLE);
    assert_non_null(strstr(why, "Unheard"));
    row = row_of(8, 1, 8, 1);
    row.pp = 2;
    assert_int_equal(serve_deployment_of(&row, &d, why, sizeof why), ERR_INFEASIBLE);
    assert_non_null(strstr(why, "pipeline"));
}

static void test_not_stated_is_said(void **state)
{
    struct serve_deployment d;
    struct e2e_row row = row_of(8, 1, 8, 1);

    (void)state;
    row.disagg = true;
    row.stated = E2E_NOT_STATED;
    row.pool[E2E_PREFILL] = (struct e2e_workers){.tp = 4, .dp = 1, .moe_tp = 1, .moe_ep = 4};
    settled(&row, &d);
    assert_true(d.assumed);
    assert_int_equal(d.prefill.workers, 1);
    assert_pool(&d.prefill, 4, 4, 1, 1, 4);
    assert_non_null(strstr(d.note, "not stated"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_written),
        cmocka_unit_test(test_id_is_trusted),
        cmocka_unit_test(test_data_parallel_attention),
        cmocka_unit_test(test_heads_that_do_not_divide),
        cmocka_unit_test(test_refused_by_name),
        cmocka_unit_test(test_not_stated_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
