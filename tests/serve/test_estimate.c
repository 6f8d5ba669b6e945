#include "serve/fit.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"

static const struct serve_deployment qwen = {.model = "qwen3-30b",
                                             .profile = "h200",
                                             .gemm_dtype = "fp8",
                                             .expert_dtype = "fp8",
                                             .kv_dtype = "bf16",
                                             .engine = SERVE_SGLANG,
                                             .decode = {1, 2, 2, 1, 2, 1},
                                             .prefill = {1, 2, 2, 1, 2, 1},
                                             .concurrency = 12,
                                             .isl = 1024,
                                             .osl = 256};

static double step_us(struct step_model *m, double decode, double context, double prompt)
{
    struct step_load load = {.decode = decode, .context = context, .prompt = prompt};
    struct step_parts p;

    assert_int_equal(step_model_parts(m, &load, &p), 0);
    return step_parts_sum(&p);
}

/* Between grid points a step lies between theirs; a look-up simulates nothing twice. */
static void test_steps_are_looked_up(void **state)
{
    struct evaluator *e;
    struct step_model *m;
    size_t passes;
    double at8, at12, at10;

    (void)state;
    assert_int_equal(evaluator_open(&e), 0);
    assert_int_equal(step_model_open(e, &qwen, &qwen.decode, 1024, &m), 0);
    at8 = step_us(m, 8, 1024, 0);
    at12 = step_us(m, 12, 1024, 0);
    passes = step_model_passes(m);
    at10 = step_us(m, 10, 1024, 0);
    assert_int_equal(step_model_passes(m), passes);
    assert_true(fabs(at10 - (at8 + at12) / 2) < 1e-6);
    assert_true(at12 > at8);
    assert_true(step_us(m, 8, 8192, 0) > at8);
    /* A mixed step costs more than its prompt, less than both steps. */
    assert_true(step_us(m, 8, 1024, 512) > step_us(m, 0, 0, 512));
    assert_true(step_us(m, 8, 1024, 512) < step_us(m, 0, 0, 512) + at8);
    step_model_close(m);
    evaluator_close(e);
}

/* By hand: step 10 ms with 5 requests of 100 tokens, a prompt 20 ms. */
static void test_closed_forms(void **state)
{
    struct engine e;
    struct serve_load l = {.decode = {.core_us = 10000},
                           .prompt = {.core_us = 30000},
                           .packed = {.core_us = 20000},
                           .layers = 0,
                           .requests = 5,
                           .osl = 100,
                           .prompt_group = 1,
                           .in_flight = 5};

    (void)state;
    engine_usual(&e);
    e.v[ENGINE_ATTN] = e.v[ENGINE_PROMPT] = 1;
    e.v[ENGINE_STEP_MS] = e.v[ENGINE_REQUEST_US] = 0;
    assert_true(fabs(serve_tpot_ms(e.v, &l) - (10 + 5 * 20 / 100.0)) < 1e-9);
    l.disagg = true;
    assert_true(fabs(serve_tpot_ms(e.v, &l) - 10) < 1e-9);
    l.drafts = true;
    assert_true(fabs(serve_tpot_ms(e.v, &l) - 10 / e.v[ENGINE_TOKENS]) < 1e-9);
    e.v[ENGINE_START_MS] = 7;
    e.v[ENGINE_BURST] = 0.5;
    e.v[ENGINE_WAIT] = 2;
    assert_true(fabs(serve_ttft_ms(e.v, &l) - (7 + 30 + 0.5 * 5 * 20 + 2 * 10)) < 1e-9);
}

static void test_shipped_engines(void **state)
{
    (void)state;
    for (int i = 0; i < SERVE_ENGINES; i++) {
        struct engine e;

        assert_int_equal(engine_read((enum serve_engine)i, &e), 0);
        assert_non_null(strstr(e.source, "sha256"));
        for (int p = 0; p < ENGINE_PARAM_COUNT; p++)
            assert_true(e.std_err[p] > 0);
    }
}

/* A file of deployments whose times are the closed forms' own, with other parameters. */
static int file_make(const char *path, const double *v)
{
    FILE *f = fopen(path, "w");
    struct serve_tables *t;

    assert_non_null(f);
    assert_int_equal(serve_tables_open(&t), 0);
    fprintf(f,
            "id,engine,version,model,system,precision,mode,isl,osl,gemm_dtype,moe_dtype,"
            "concurrency,batch,tp,pp,attn_dp,moe_tp,moe_ep,id_tp,id_ep,stated,ttft_ms,tpot_ms\n");
    for (int i = 0; i < 24; i++) {
        struct serve_deployment d = qwen;
        struct serve_load l;
        char why[200];

        d.concurrency = 2 << i % 6;
        d.osl = i / 6 % 2 ? 1024 : 128;
        d.isl = i / 12 ? 2048 : 1024;
        assert_int_equal(serve_load_of(t, &d, false, &l, why, sizeof why), 0);
        fprintf(f,
                "x%d,sglang,1,Qwen/Qwen3-30B-A3B,h200,fp8,agg,%d,%d,fp8,fp8,%d,%d,2,1,1,2,1,2,1,"
                "yes,%.9g,%.9g\n",
                i, d.isl, d.osl, d.concurrency, d.concurrency, serve_ttft_ms(v, &l),
                serve_tpot_ms(v, &l));
    }
    serve_tables_close(t);
    return fclose(f);
}

/* The fit finds what made the rows: predictions within 2%, whatever the parameters it took. */
static void test_fit_recovers(void **state)
{
    char path[] = "/tmp/peosim_e2e_XXXXXX";
    struct engine truth;
    struct judged j;
    struct judge_line lines[JUDGE_MAX_LINES];
    double before;

    (void)state;
    assert_true(close(mkstemp(path)) == 0);
    engine_usual(&truth);
    truth.v[ENGINE_EXPERTS] = 1.6;
    truth.v[ENGINE_LAYER_US] = 12;
    truth.v[ENGINE_PROMPT] = 1.5;
    truth.v[ENGINE_BURST] = 0.3;
    file_make(path, truth.v);
    assert_int_equal(judge_open(path, &j), 0);
    assert_int_equal(j.answered, 24);
    judge_lines(&j, true, true, lines);
    before = lines[0].tpot.median_ape;
    assert_int_equal(serve_fit(&j, JUDGE_ALL, NULL, j.engine), 0);
    judge_predict(&j, j.engine);
    judge_lines(&j, true, true, lines);
    assert_true(lines[0].tpot.median_ape < 0.02);
    assert_true(lines[0].ttft.median_ape < 0.05);
    assert_true(lines[0].tpot.median_ape < before);
    /* Left out alone, nothing is left to fit. */
    assert_int_equal(serve_cross_validate(&j, JUDGE_MODEL), ERR_FIT);
    judge_close(&j);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_are_looked_up),
        cmocka_unit_test(test_closed_forms),
        cmocka_unit_test(test_shipped_engines),
        cmocka_unit_test(test_fit_recovers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
