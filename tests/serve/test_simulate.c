#include "serve/simulate.h"

#include <math.h>
#include <time.h>

#include "tests/check.h"

#include "base/err.h"
#include "serve/engine.h"
#include "serve/histogram.h"

struct constant {
    double prompt_us, decode_us;
};

static int constant_us(void *self, const struct step_load *load, bool prefill, double *us)
{
    const struct constant *c = self;

    (void)prefill;
    *us = load->prompt > 0 ? c->prompt_us : c->decode_us;
    return 0;
}

static void close_to(double got, double want, double within)
{
    if (fabs(got - want) > within * fabs(want))
        print_error("got %.12g, want %.12g\n", got, want);
    assert_true(fabs(got - want) <= within * fabs(want));
}

/* One server, a constant service time, Poisson arrivals: every wait follows Lindley's recursion, so
 * the mean is that of the same arrivals exactly, and the formula's within its sampling error. */
static void test_m_d_1(void **state)
{
    static const double loads[] = {0.3, 0.6, 0.9};

    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct constant c = {.prompt_us = 1000};
        struct serve_rules rules = {.workers = 1,
                                    .max_requests = 1,
                                    .step_tokens = 16,
                                    .requests = 400000,
                                    .step_us = constant_us,
                                    .self = &c};
        struct traffic_spec spec = {.kind = TRAFFIC_POISSON,
                                    .requests_s = loads[k] * 1e3,
                                    .prompt = 16,
                                    .answer = 1,
                                    .seed = 7};
        struct serve_result r;
        struct traffic *t;
        struct traffic_request q;
        double free_s = 0, sum = 0, rho = loads[k];
        bool more;

        assert_int_equal(serve_simulate(&rules, &spec, &r), 0);
        assert_int_equal(r.requests, 400000);
        assert_int_equal(traffic_open(&spec, &t), 0);
        for (int i = 0; i < 400000; i++) {
            assert_int_equal(traffic_next(t, 0, &q, &more), 0);
            free_s = fmax(free_s, q.arrival_s) + 1000 / 1e6;
            sum += (free_s - q.arrival_s) * 1e3;
        }
        traffic_close(t);
        close_to(r.ttft_ms.mean, sum / 400000, 1e-12);
        close_to(r.ttft_ms.mean, 1 + rho / (2 * (1 - rho)), 0.04);
        close_to(r.busy, rho, 0.01);
    }
}

/* N clients in step: a prompt step, then answer - 1 steps, for ever. */
static void test_batch_in_a_closed_loop(void **state)
{
    struct constant c = {.prompt_us = 5000, .decode_us = 800};
    struct serve_rules rules = {.workers = 1,
                                .max_requests = 64,
                                .step_tokens = 8192,
                                .requests = 320,
                                .step_us = constant_us,
                                .self = &c};
    struct traffic_spec spec = {
        .kind = TRAFFIC_CLOSED, .clients = 32, .prompt = 128, .answer = 100};
    struct serve_result r;

    (void)state;
    for (int order = 0; order < 2; order++) {
        rules.order = (enum serve_order)order;
        assert_int_equal(serve_simulate(&rules, &spec, &r), 0);
        close_to(r.ttft_ms.mean, 5, 1e-9);
        close_to(r.tpot_ms.mean, 0.8, 1e-9);
        close_to(r.elapsed_s, 10 * (5 + 99 * 0.8) / 1e3, 1e-9);
        close_to(r.mean_batch, 32, 1e-12);
        close_to(r.tokens, 32000, 1e-12);
        close_to(r.ttft_ms.p99, 5, 0.005);
    }
}

/* A queue in front of a batch: 8 clients, 4 places. Half of the clients wait a whole cycle. */
static void test_batch_limit(void **state)
{
    struct constant c = {.prompt_us = 2000, .decode_us = 1000};
    struct serve_rules rules = {.workers = 1,
                                .max_requests = 4,
                                .step_tokens = 8192,
                                .requests = 4000,
                                .step_us = constant_us,
                                .self = &c};
    struct traffic_spec spec = {.kind = TRAFFIC_CLOSED, .clients = 8, .prompt = 8, .answer = 11};
    struct serve_result r;

    (void)state;
    assert_int_equal(serve_simulate(&rules, &spec, &r), 0);
    /* A cycle is 2 + 10 ms; all but the first four requests stand through one and then their own
     * prompt's step. */
    close_to(r.ttft_ms.mean, (4 * 2 + 3996 * 14) / 4000.0, 1e-9);
    close_to(r.tpot_ms.mean, 1, 1e-9);
}

/* A prompt longer than a step takes several; beside decoding tokens the chunk is smaller. */
static void test_chunks(void **state)
{
    struct constant c = {.prompt_us = 3000, .decode_us = 1000};
    struct serve_rules rules = {.workers = 1,
                                .max_requests = 4,
                                .step_tokens = 100,
                                .requests = 10,
                                .order = SERVE_MIXED,
                                .step_us = constant_us,
                                .self = &c};
    struct traffic_spec spec = {.kind = TRAFFIC_CLOSED, .clients = 1, .prompt = 250, .answer = 3};
    struct serve_result r;

    (void)state;
    assert_int_equal(serve_simulate(&rules, &spec, &r), 0);
    close_to(r.ttft_ms.mean, 9, 1e-9);
    close_to(r.tpot_ms.mean, 1, 1e-9);
    assert_int_equal(r.steps, 10 * (3 + 2));
}

/* Two pools: prompts of one step all end together and go over the link one behind another. */
static void test_transfer_queue(void **state)
{
    struct constant c = {.prompt_us = 4000, .decode_us = 500};
    struct serve_rules rules = {.workers = 1,
                                .prefill_workers = 1,
                                .max_requests = 64,
                                .step_tokens = 8192,
                                .requests = 4,
                                .cache_bytes = 1e6,
                                .link_GBps = 100,
                                .step_us = constant_us,
                                .self = &c};
    struct traffic_spec spec = {.kind = TRAFFIC_CLOSED, .clients = 4, .prompt = 100, .answer = 1};
    struct serve_result r;

    (void)state;
    assert_int_equal(serve_simulate(&rules, &spec, &r), 0);
    /* 100 MB at 100 GB/s: 1 ms each. */
    close_to(r.ttft_ms.mean, 4 + (1 + 2 + 3 + 4) / 4.0, 1e-9);
}

static void test_cache_limit(void **state)
{
    struct constant c = {.prompt_us = 1000, .decode_us = 1000};
    struct serve_rules rules = {.workers = 1,
                                .max_requests = 64,
                                .step_tokens = 8192,
                                .cache_tokens = 250,
                                .requests = 100,
                                .step_us = constant_us,
                                .self = &c};
    struct traffic_spec spec = {.kind = TRAFFIC_CLOSED, .clients = 8, .prompt = 90, .answer = 10};
    struct serve_result r;

    (void)state;
    assert_int_equal(serve_simulate(&rules, &spec, &r), 0);
    close_to(r.mean_batch, 2, 1e-12); /* two of 100 tokens fit */
    rules.cache_tokens = 99;
    CHECK_FAILS(serve_simulate(&rules, &spec, &r), ERR_INFEASIBLE, "99 tokens");
}

static void test_same_twice_and_gamma(void **state)
{
    struct constant c = {.prompt_us = 900, .decode_us = 300};
    struct serve_rules rules = {.workers = 3,
                                .max_requests = 8,
                                .step_tokens = 512,
                                .order = SERVE_MIXED,
                                .requests = 20000,
                                .step_us = constant_us,
                                .self = &c};
    struct traffic_spec spec = {.kind = TRAFFIC_GAMMA,
                                .requests_s = 1200,
                                .variation = 1,
                                .prompt = 100,
                                .answer = 20,
                                .spread = 0.5,
                                .seed = 3};
    struct serve_result a, b;

    (void)state;
    assert_int_equal(serve_simulate(&rules, &spec, &a), 0);
    assert_int_equal(serve_simulate(&rules, &spec, &b), 0);
    assert_memory_equal(&a, &b, sizeof a);
    spec.variation = 3; /* burstier: longer waits at the same rate */
    assert_int_equal(serve_simulate(&rules, &spec, &b), 0);
    assert_true(b.ttft_ms.p90 > 1.3 * a.ttft_ms.p90);
}

/* Ten thousand requests through 61 layers on 32 GPUs, steps simulated as they are met. */
struct engine_steps {
    struct step_model *m;
    struct engine e;
};

static int engine_us(void *self, const struct step_load *load, bool prefill, double *us)
{
    struct engine_steps *s = self;
    struct step_parts p;
    int err = step_model_parts(s->m, load, &p);

    (void)prefill;
    *us = engine_step_us(s->e.v, &p, step_model_layers(s->m), load->decode);
    return err;
}

static void test_ten_thousand_requests(void **state)
{
    struct serve_deployment d = {.model = "deepseek-v3",
                                 .profile = "h200",
                                 .gemm_dtype = "fp8",
                                 .expert_dtype = "fp8",
                                 .kv_dtype = "bf16",
                                 .engine = SERVE_SGLANG,
                                 .decode = {1, 32, 1, 32, 1, 32},
                                 .isl = 2048,
                                 .osl = 512};
    struct evaluator *e;
    struct engine_steps steps;
    struct serve_rules rules = {.workers = 1,
                                .max_requests = 2048,
                                .step_tokens = 32768,
                                .requests = 10000,
                                .step_us = engine_us,
                                .self = &steps};
    struct traffic_spec spec = {.kind = TRAFFIC_POISSON,
                                .requests_s = 12,
                                .prompt = 2048,
                                .answer = 512,
                                .spread = 0.3,
                                .seed = 1};
    struct serve_result r;
    clock_t start = clock();

    (void)state;
    assert_int_equal(evaluator_open(&e), 0);
    evaluate_hush(e);
    assert_int_equal(step_model_open(e, &d, &d.decode, d.isl, &steps.m), 0);
    engine_usual(&steps.e);
    assert_int_equal(serve_simulate(&rules, &spec, &r), 0);
    assert_true(r.requests >= 10000 && r.requests < 10100);
    assert_true(r.most_in_flight < 4000);
    assert_true(r.tpot_ms.p99 >= r.tpot_ms.p50 && r.tpot_ms.p50 > 1);
    print_message("10,000 requests: %.1f s CPU, %zu passes, %llu steps\n",
                  (double)(clock() - start) / CLOCKS_PER_SEC, step_model_passes(steps.m),
                  (unsigned long long)r.steps);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 10);
    step_model_close(steps.m);
    evaluator_close(e);
}

static void test_histogram(void **state)
{
    struct histogram h;

    (void)state;
    assert_int_equal(histogram_open(&h), 0);
    assert_true(isnan(histogram_quantile(&h, 0.5)));
    for (int i = 1; i <= 1000; i++)
        histogram_add(&h, i);
    close_to(histogram_quantile(&h, 0.5), 500, 0.006);
    close_to(histogram_quantile(&h, 0.99), 990, 0.006);
    histogram_add(&h, 0); /* and what is out of range stays inside the array */
    histogram_add(&h, 1e300);
    assert_true(histogram_quantile(&h, 1) > 1e9);
    histogram_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_m_d_1),
        cmocka_unit_test(test_batch_in_a_closed_loop),
        cmocka_unit_test(test_batch_limit),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_transfer_queue),
        cmocka_unit_test(test_cache_limit),
        cmocka_unit_test(test_same_twice_and_gamma),
        cmocka_unit_test(test_ten_thousand_requests),
        cmocka_unit_test(test_histogram),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
