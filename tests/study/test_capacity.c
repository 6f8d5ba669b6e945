/* The capacity search against trying everything by hand; its journal; its files' mistakes. */
#include "tests/check.h"

#include <math.h>

#include "base/err.h"
#include "study/capacity.h"
#include "report/capacity.h"

#define QUESTION                                                                                   \
    "model: qwen3-30b\n"                                                                           \
    "traffic: {isl: 1024, osl: 256, requests_s: 100}\n"                                            \
    "sla: {ttft_ms: 2000, tpot_ms: 30}\n"                                                          \
    "gpus: [h800, h200]\n"                                                                         \
    "usd_per_hour: {h800: 2, h200: 3}\n"                                                           \
    "decode: {ep: [4, 8], batch: [32, 64]}\n"                                                      \
    "prefill: {ep: [4], tokens: [2048, 512]}\n"                                                    \
    "policies: [none, sbo]\n"                                                                      \
    "draws: 2\n"

static char folder[] = "/tmp/peosim_capacity_XXXXXX";

static const char *file_of(const char *text)
{
    static char path[64];
    FILE *f;

    snprintf(path, sizeof path, "%s/q.yaml", folder);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static int read_text(const char *text, struct capacity_config **c)
{
    return capacity_config_read(file_of(text), NULL, 0, c);
}

/* With a word of the command line; one mistake a call. */
static int read_set(const char *word)
{
    struct capacity_config *c;
    int err = capacity_config_read(file_of(QUESTION), &word, 1, &c);

    capacity_config_free(c);
    return err;
}

static void mistakes_get_one_line(void **state)
{
    struct capacity_config *c;

    (void)state;
    CHECK_FAILS(read_set("traffic.requests_s=0"), ERR_CONFIG, "no traffic");
    CHECK_FAILS(read_set("traffic.tokens_s=100"), ERR_CONFIG, "not both");
    CHECK_FAILS(read_set("decode.ep=256"), ERR_CONFIG, "EP 256 is larger than the 128 experts");
    CHECK_FAILS(read_set("decode.ep=3"), ERR_CONFIG, "not divisible by EP 3");
    CHECK_FAILS(read_set("usd_per_hour=0"), ERR_CONFIG, "no price for h800");
    CHECK_FAILS(read_set("usd_per_hour.h20=1"), ERR_CONFIG, "not one of gpus");
    CHECK_FAILS(read_set("gpus=h900"), ERR_NOTFOUND, "h900");
    CHECK_FAILS(read_set("policies=sob"), ERR_CONFIG, "did you mean 'sbo'?");
    CHECK_FAILS(read_set("sla.tpot_ms=-1"), ERR_RANGE, "sla.tpot_ms");
    CHECK_FAILS(read_set("sla.tpot_mss=1"), ERR_CONFIG, "did you mean 'sla.tpot_ms'?");
    CHECK_FAILS(read_set("batch=4"), ERR_CONFIG, "set decode.batch");
    CHECK_FAILS(read_set("traffic.isl=40705"), ERR_CONFIG, "context of qwen3-30b ends at 40960");
    assert_int_equal(read_set("traffic.isl=40704"), 0);
    CHECK_FAILS(read_set("seed"), ERR_USAGE, "expected key=value");
    CHECK_FAILS(read_text("model: dbrx\ngpus: h800\n", &c), ERR_CONFIG, "decode.ep");
    CHECK_FAILS(read_text(QUESTION "traffic2: 1\n", &c), ERR_CONFIG, "q.yaml:10");
    CHECK_FAILS(read_text(QUESTION "max_nodes: [1, 2]\n", &c), ERR_CONFIG, "not a list");
    CHECK_FAILS(read_text("policies: none\n", &c), ERR_CONFIG, "list of policies");
}

static struct capacity *search_of(const struct capacity_config *c, struct journal *j, int jobs)
{
    struct capacity *k;

    assert_int_equal(capacity_open(c, &k), 0);
    assert_int_equal(capacity_search(k, j, jobs, NULL, NULL), 0);
    return k;
}

/* Of all pairs that keep both promises none is cheaper than the one found. */
static void the_winner_is_the_cheapest(void **state)
{
    struct capacity_config *c;
    struct capacity *k;
    size_t pairs = 0;

    (void)state;
    assert_int_equal(read_text(QUESTION, &c), 0);
    k = search_of(c, NULL, 2);
    assert_int_equal(k->num_points, 2 * 2 * 2 * 2 + 1 * 2 * 2 * 2);
    assert_true(k->num_plans > 0 && k->plans[0].ok);
    assert_true(k->plans[0].decode->spread);
    for (size_t i = 0; i < k->num_points; i++)
        for (size_t j = 0; j < k->num_points; j++) {
            struct capacity_plan one;

            if (!k->points[i].decode || k->points[j].decode || k->points[i].skipped ||
                k->points[j].skipped || k->points[i].gpu != k->points[j].gpu)
                continue;
            capacity_plan_of(k, c, &k->points[i], &k->points[j], false, &one);
            assert_true(!one.ok || one.usd_per_hour >= k->plans[0].usd_per_hour);
            pairs++;
        }
    assert_true(pairs > 16);
    capacity_close(k);
    capacity_config_free(c);
}

static void pools_by_hand(void **state)
{
    struct capacity_config *c;
    struct capacity *k;
    struct capacity_point d = {
        .decode = true, .ep = 8, .size = 64, .step_us = 20000, .at_us = 21000};
    struct capacity_point p = {.ep = 4, .size = 2048, .step_us = 100000, .at_us = 110000};
    struct capacity_plan x;

    (void)state;
    assert_int_equal(read_text(QUESTION, &c), 0);
    assert_int_equal(capacity_open(c, &k), 0);
    capacity_plan_of(k, c, &d, &p, false, &x);
    /* 25,600 tokens/s over 8 * 3,200 * 0.9; 102,400 prompt tokens/s over 4 * 20,480 * 0.9. */
    assert_int_equal(x.decode_instances, 2);
    assert_int_equal(x.prefill_instances, 2);
    assert_int_equal(x.gpus, 24);
    assert_true(fabs(x.usd_per_hour - 48) < 1e-9);
    assert_true(fabs(x.tpot_ms - 21) < 1e-9);
    assert_true(fabs(x.wait_ms - 99) < 1e-9 && fabs(x.prefill_ms - 110) < 1e-9);
    assert_true(fabs(x.ttft_ms - (99 + 110 + 21 + x.transfer_ms)) < 1e-9);
    assert_true(fabs(1 / x.tokens_s_gpu - (1 / 3200.0 + 4 / 20480.0) / 0.9) < 1e-9);
    p.size = 512; /* two chunks */
    capacity_plan_of(k, c, &d, &p, false, &x);
    assert_true(fabs(x.prefill_ms - 220) < 1e-9);
    p.size = 2048;
    d.ep = 4;
    capacity_plan_of(k, c, &d, &p, true, &x);
    /* a step's 64 tokens end 0.25 answers, whose 256 prompt tokens take an eighth of a pass */
    assert_true(fabs(x.tpot_ms - (21 + 12.5)) < 1e-9);
    assert_int_equal(x.prefill_instances, 0);
    assert_true(x.transfer_ms == 0);
    capacity_close(k);
    capacity_config_free(c);
}

/* Weights and reserve once, KV cache and buffers of both, the larger activations. */
static void shared_pools_hold_both(void **state)
{
    struct capacity_point d = {.decode = true}, p = {0};
    struct memory_sum sum;

    (void)state;
    d.memory = (struct memory_sum){
        .weights = 54, .kv = 60, .buffers = 5, .activations = 3, .reserve = 4, .capacity = 141};
    p.memory = (struct memory_sum){
        .weights = 52, .kv = 6, .buffers = 2, .activations = 10, .reserve = 4, .capacity = 141};
    assert_true(capacity_shared_fits(&d, &p, &sum));
    assert_true(fabs(sum.total - (54 + 60 + 6 + 5 + 2 + 10 + 4)) < 1e-9);
    p.memory.activations = 11;
    assert_false(capacity_shared_fits(&d, &p, &sum));
}

/* The reserve is set so that each point fits alone; together they are refused with the sum. */
static void a_crowded_gpu_is_refused(void **state)
{
    char reserve[40] = "reserve_GB=4";
    const char *sets[] = {"pools=shared", "gpus=h800",       "decode.ep=4",         "policies=none",
                          "draws=1",      "decode.batch=64", "prefill.tokens=2048", reserve};
    struct capacity_config *c;
    struct capacity *k;

    (void)state;
    for (int crowded = 0; crowded < 2; crowded++) {
        const struct memory_sum *d, *p;

        assert_int_equal(capacity_config_read(file_of(QUESTION), sets, 8, &c), 0);
        k = search_of(c, NULL, 1);
        assert_int_equal(k->num_points, 2);
        assert_false(k->points[0].skipped || k->points[1].skipped);
        assert_int_equal(k->num_plans, !crowded);
        assert_int_equal(k->num_crowded, crowded);
        assert_true(!crowded || strstr(k->crowded_why, "GB of 80.0"));
        d = &k->points[0].memory;
        p = &k->points[1].memory;
        snprintf(reserve, sizeof reserve, "reserve_GB=%.3f",
                 (d->capacity - fmax(d->total, p->total)) / 1e9 + 3.9);
        capacity_close(k);
        capacity_config_free(c);
    }
}

static void counts_do_not_overflow(void **state)
{
    const char *sets[] = {"traffic.requests_s=1e9"};
    struct capacity_config *c;
    struct capacity *k;
    struct capacity_point d = {.decode = true, .ep = 8, .size = 1, .step_us = 1e6, .at_us = 1e6};
    struct capacity_point p = {.ep = 4, .size = 1, .step_us = 1e6, .at_us = 1e6};
    struct capacity_plan x;

    (void)state;
    assert_int_equal(capacity_config_read(file_of(QUESTION), sets, 1, &c), 0);
    assert_int_equal(capacity_open(c, &k), 0);
    capacity_plan_of(k, c, &d, &p, false, &x);
    /* 256e9 answer tokens/s at 8 * 0.9, 1024e9 prompt tokens/s at 4 * 0.9 */
    assert_int_equal(x.decode_instances, 35555555556);
    assert_int_equal(x.gpus, 8 * 35555555556 + 4 * 284444444445);
    assert_int_equal(x.nodes, 35555555556 + 142222222223);
    assert_true(!x.ok && x.usd_per_hour > 2e12);
    capacity_close(k);
    capacity_config_free(c);
    CHECK_FAILS(read_set("traffic.requests_s=2e9"), ERR_RANGE, "traffic.requests_s");
}

static void prices_of_the_file_stay(void **state)
{
    const char *sets[] = {"usd_per_hour.h800=5", "gpus=h200,h800"};
    struct capacity_config *c;

    (void)state;
    assert_int_equal(capacity_config_read(file_of(QUESTION), &sets[1], 1, &c), 0);
    assert_true(c->gpus[0].usd_per_hour == 3 && c->gpus[1].usd_per_hour == 2);
    capacity_config_free(c);
    /* in either order */
    assert_int_equal(capacity_config_read(file_of(QUESTION), sets, 2, &c), 0);
    assert_true(c->gpus[0].usd_per_hour == 3 && c->gpus[1].usd_per_hour == 5);
    capacity_config_free(c);
}

/* Half the NICs: twice the transfer, though the scenario leaves the NIC to the profile and no
 * instance leaves its node. */
static void slower_nics_move_the_cache_slower(void **state)
{
    struct capacity_change changes[CAPACITY_MAX_CHANGES];
    const char *sets[] = {"gpus=h800", "policies=none", "draws=1"};
    struct capacity_config *c;
    struct capacity *k;
    int num, seen = 0;

    (void)state;
    assert_int_equal(capacity_config_read(file_of(QUESTION), sets, 3, &c), 0);
    assert_true(c->base.nic_Gbitps == 0);
    k = search_of(c, NULL, 2);
    assert_int_equal(capacity_sensitivity(k, &k->plans[0], changes, &num), 0);
    for (int i = 0; i < num; i++)
        if (!strcmp(changes[i].name, "NICs half as fast")) {
            assert_true(changes[i].plan.transfer_ms > 1.99 * k->plans[0].transfer_ms);
            seen++;
        }
    assert_int_equal(seen, 1);
    capacity_close(k);
    capacity_config_free(c);
}

/* One line about traffic that no counts can be exact for, though each of its numbers may be. */
static void traffic_has_a_bound(void **state)
{
    const char *sets[] = {"traffic.requests_s=1e9", "traffic.isl=40000"};
    struct capacity_config *c;

    (void)state;
    CHECK_FAILS(capacity_config_read(file_of(QUESTION), sets, 2, &c), ERR_RANGE,
                "are more than 1e+13");
}

/* A change that leads beyond the model's context says so and spoils none of the others. */
static void changes_know_the_context(void **state)
{
    struct capacity_change changes[CAPACITY_MAX_CHANGES];
    const char *sets[] = {"gpus=h800", "policies=none", "draws=1", "traffic.isl=40000",
                          "decode.batch=4"};
    struct capacity_config *c;
    struct capacity *k;
    int num;

    (void)state;
    assert_int_equal(capacity_config_read(file_of(QUESTION), sets, 5, &c), 0);
    k = search_of(c, NULL, 2);
    assert_true(k->num_plans > 0);
    assert_int_equal(capacity_sensitivity(k, &k->plans[0], changes, &num), 0);
    for (int i = 0; i < num; i++) {
        bool longer = !strcmp(changes[i].name, "prompts 25% longer");

        assert_int_equal(changes[i].fits, !longer);
        assert_true(!longer || strstr(changes[i].why, "context of qwen3-30b: 40960"));
    }
    capacity_close(k);
    capacity_config_free(c);
}

static int plans_text(struct capacity *k, char *buf, size_t size)
{
    FILE *f = fmemopen(buf, size, "w");
    struct record r;

    assert_non_null(f);
    record_open(&r, record_format_find("csv"), f);
    capacity_report_plans(k, &r);
    assert_int_equal(record_close(&r), 0);
    assert_int_equal(capacity_report_pareto(k, f), 0);
    return fclose(f);
}

/* Nothing is computed twice (sbo cannot prefill: 4 points never are), and the answer is the same,
 * whatever the number of threads. */
static void a_journal_resumes(void **state)
{
    static char first[16384], second[16384];
    struct capacity_config *c;
    struct capacity *k;
    struct journal *j;

    (void)state;
    assert_int_equal(read_text(QUESTION, &c), 0);
    for (int run = 0; run < 2; run++) {
        assert_int_equal(journal_open(folder, c->hash, 24, &j), 0);
        assert_int_equal(journal_begin(j, 0), 0);
        k = search_of(c, j, run ? 1 : 3);
        journal_close(j);
        assert_int_equal(k->num_reused, run ? 20 : 0);
        plans_text(k, run ? second : first, sizeof first);
        capacity_close(k);
    }
    assert_string_equal(first, second);
    capacity_config_free(c);
}

static void what_cannot_be_kept_comes_near(void **state)
{
    const char *sets[] = {"sla.tpot_ms=0.01"};
    struct capacity_config *c;
    struct capacity *k;

    (void)state;
    assert_int_equal(capacity_config_read(file_of(QUESTION), sets, 1, &c), 0);
    k = search_of(c, NULL, 2);
    assert_true(k->num_plans > 0 && !k->plans[0].ok);
    assert_string_equal(k->plans[0].miss, "TPOT");
    for (size_t i = 1; i < k->num_plans; i++)
        assert_true(k->plans[i].worst >= k->plans[0].worst);
    capacity_close(k);
    capacity_config_free(c);
}

static void what_does_not_fit_is_left_out(void **state)
{
    const char *sets[] = {"reserve_GB=900"};
    struct capacity_config *c;
    struct capacity *k;

    (void)state;
    assert_int_equal(capacity_config_read(file_of(QUESTION), sets, 1, &c), 0);
    k = search_of(c, NULL, 2);
    assert_int_equal(k->num_plans, 0);
    assert_non_null(strstr(k->points[0].why, "does not fit: weights"));
    capacity_close(k);
    capacity_config_free(c);
}

static void changes_change(void **state)
{
    struct capacity_change changes[CAPACITY_MAX_CHANGES];
    struct capacity_config *c;
    struct capacity *k;
    int num, seen = 0;

    (void)state;
    assert_int_equal(read_text(QUESTION, &c), 0);
    k = search_of(c, NULL, 2);
    assert_int_equal(capacity_sensitivity(k, &k->plans[0], changes, &num), 0);
    assert_true(num >= 10);
    for (int i = 0; i < num; i++) {
        if (!strcmp(changes[i].name, "HBM 10% slower")) {
            assert_true(changes[i].plan.tpot_ms > k->plans[0].tpot_ms);
            seen++;
        }
        if (!strcmp(changes[i].name, "25% more requests")) {
            assert_true(changes[i].plan.gpus >= k->plans[0].gpus);
            assert_true(fabs(changes[i].plan.tpot_ms / k->plans[0].tpot_ms - 1) < 1e-9);
            seen++;
        }
    }
    assert_int_equal(seen, 2);
    capacity_close(k);
    capacity_config_free(c);
}

static int clean(void **state)
{
    char path[64];

    (void)state;
    journal_remove(folder);
    snprintf(path, sizeof path, "%s/q.yaml", folder);
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_get_one_line),
        cmocka_unit_test(the_winner_is_the_cheapest),
        cmocka_unit_test(pools_by_hand),
        cmocka_unit_test(shared_pools_hold_both),
        cmocka_unit_test(a_crowded_gpu_is_refused),
        cmocka_unit_test(counts_do_not_overflow),
        cmocka_unit_test(prices_of_the_file_stay),
        cmocka_unit_test(slower_nics_move_the_cache_slower),
        cmocka_unit_test(traffic_has_a_bound),
        cmocka_unit_test(changes_know_the_context),
        cmocka_unit_test(a_journal_resumes),
        cmocka_unit_test(what_cannot_be_kept_comes_near),
        cmocka_unit_test(what_does_not_fit_is_left_out),
        cmocka_unit_test(changes_change),
    };

    if (!mkdtemp(folder))
        return 1;
    return cmocka_run_group_tests(tests, NULL, clean);
}
