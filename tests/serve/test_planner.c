#include "serve/planner.h"

#include "tests/check.h"

#include "base/err.h"
#include "report/serve_plan.h"

static const char head[] = "model: qwen3-30b\ngpus: h200\ntp: 1,2\nep: 1\nreserve_GB: 4\n"
                           "traffic: {requests_s: 4, isl: 512, osl: 64, requests: 200}\n"
                           "usd_per_hour: {h200: 3}\n";
static char path[64];

static int plan_open(const char *more, const char *const *sets, size_t n, struct planner *p)
{
    FILE *f;

    snprintf(path, sizeof path, "/tmp/peosim_plan_%d.yaml", (int)getpid());
    f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "%s%s", head, more);
    fclose(f);
    return planner_open(path, sets, n, p);
}

/* The cheapest stands first, keeps its promises, and one instance less would not. */
static void test_cheapest(void **state)
{
    struct planner p;
    const struct planned *best;

    (void)state;
    assert_int_equal(plan_open("sla: {ttft_ms: 500, tpot_ms: 20}\n", NULL, 0, &p), 0);
    assert_int_equal(planner_run(&p), 0);
    assert_int_equal(p.num, 2);
    best = &p.row[0];
    assert_true(best->ok && best->pareto);
    assert_true(best->ttft_ms <= 500 && best->tpot_ms <= 20);
    assert_true(best->usd_per_hour == 3.0 * best->gpus);
    assert_true(best->tokens_s_gpu == best->tokens_s_decode_gpu);
    assert_true(!p.row[1].ok || p.row[1].usd_per_hour >= best->usd_per_hour);
    planner_close(&p);
    unlink(path);
}

/* More traffic never takes fewer instances; two pools have two denominators. */
static void test_more_traffic_and_pools(void **state)
{
    static const char *const few[] = {"tp=2", "traffic.requests_s=4", "modes=disagg"};
    static const char *const many[] = {"tp=2", "modes=disagg", "traffic.requests_s=300",
                                       "traffic.requests=4000"};
    struct planner a, b;

    (void)state;
    assert_int_equal(plan_open("", few, 3, &a), 0);
    assert_int_equal(plan_open("", many, 4, &b), 0);
    assert_int_equal(planner_run(&a), 0);
    assert_int_equal(planner_run(&b), 0);
    assert_true(a.row[0].ok && b.row[0].ok);
    assert_true(b.row[0].gpus > a.row[0].gpus);
    assert_true(a.row[0].gpus > a.row[0].decode_gpus);
    assert_true(a.row[0].tokens_s_decode_gpu > a.row[0].tokens_s_gpu);
    planner_close(&a);
    planner_close(&b);
    unlink(path);
}

static void test_faults(void **state)
{
    static const char *const none[] = {"gpus=h201"}, *const ep[] = {"ep=3"};
    static const char *const big[] = {"model=kimi-k2", "tp=1"};
    struct planner p;

    (void)state;
    CHECK_FAILS(plan_open("sla: {tftt_ms: 1}\n", NULL, 0, &p), ERR_CONFIG, "ttft_ms");
    assert_int_equal(plan_open("", none, 1, &p), 0);
    CHECK_FAILS(planner_run(&p), ERR_CONFIG, "h201");
    planner_close(&p);
    assert_int_equal(plan_open("", ep, 1, &p), 0);
    assert_int_equal(planner_run(&p), 0);
    assert_false(p.row[0].runs);
    assert_non_null(strstr(p.row[0].why, "does not divide"));
    planner_close(&p);
    assert_int_equal(plan_open("", big, 2, &p), 0);
    assert_int_equal(planner_run(&p), 0);
    assert_false(p.row[0].runs);
    assert_non_null(strstr(p.row[0].why, "no request fits"));
    planner_close(&p);
    unlink(path);
}

static char *text_of(const char *file)
{
    FILE *f = fopen(file, "r");
    char *text = calloc(1, 8192);

    assert_non_null(f);
    assert_true(fread(text, 1, 8191, f) > 0);
    fclose(f);
    return text;
}

static void test_launch_files(void **state)
{
    static const char *const sets[] = {"tp=2", "modes=disagg"};
    char folder[64], file[128], *text;
    struct planner p;
    int written;

    (void)state;
    snprintf(folder, sizeof folder, "/tmp/peosim_launch_%d", (int)getpid());
    snprintf(file, sizeof file, "mkdir -p %s", folder);
    assert_int_equal(system(file), 0);
    assert_int_equal(plan_open("", sets, 2, &p), 0);
    assert_int_equal(planner_run(&p), 0);
    for (int e = 0; e < 2; e++) {
        p.row[0].d.engine = e ? SERVE_VLLM : SERVE_SGLANG;
        assert_int_equal(serve_plan_launch(&p, &p.row[0], folder, &written), 0);
        assert_int_equal(written, 2);
        snprintf(file, sizeof file, "%s/launch_prefill.sh", folder);
        text = text_of(file);
        assert_null(strchr(text, '@') && strstr(text, "@M") ? text : NULL);
        assert_non_null(strstr(text, e ? "--tensor-parallel-size 2" : "--tp-size 2"));
        assert_non_null(strstr(text, e ? "kv_producer" : "--disaggregation-mode prefill"));
        free(text);
    }
    p.row[0].d.engine = SERVE_TRTLLM; /* no template */
    assert_int_equal(serve_plan_launch(&p, &p.row[0], folder, &written), 0);
    assert_int_equal(written, 0);
    planner_close(&p);
    snprintf(file, sizeof file, "rm -r %s", folder);
    assert_int_equal(system(file), 0);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cheapest),
        cmocka_unit_test(test_more_traffic_and_pools),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_launch_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
