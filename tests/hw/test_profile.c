#include "tests/check.h"

#include <math.h>

#include "base/doc.h"
#include "base/err.h"
#include "hw/profile.h"

#define HEAD                                                                                       \
    "name: \"t\"\n"                                                                                \
    "gpu:\n"                                                                                       \
    "  num_sms: {value: 132, origin: datasheet, source: \"x\"}\n"                                  \
    "  bf16_TFLOPS: {value: 989, origin: datasheet, source: \"x\"}\n"                              \
    "  fp8_TFLOPS: {value: 1979, origin: datasheet, source: \"x\"}\n"                              \
    "  hbm_GBps: {value: 4800, origin: datasheet, source: \"x\"}\n"                                \
    "  hbm_GB: {value: 141, origin: datasheet, source: \"x\"}\n"
#define NET                                                                                        \
    "net:\n"                                                                                       \
    "  nvlink_GBps: {value: 450, origin: datasheet, source: \"x\"}\n"                              \
    "  nic_Gbitps: {value: 400, origin: datasheet, source: \"x\"}\n"

static int parse(const char *text, struct hw_profile **out)
{
    struct doc *doc = NULL;
    int rc = doc_parse_yaml(text, strlen(text), "t.yaml", &doc);

    if (rc == 0)
        rc = hw_profile_parse(doc, out);
    doc_free(doc);
    return rc;
}

static struct hw_profile *parsed(const char *text)
{
    struct hw_profile *p = NULL;

    assert_int_equal(parse(text, &p), 0);
    return p;
}

static void test_defaults_where_the_file_is_silent(void **state)
{
    struct hw_profile *p = parsed(HEAD NET);

    (void)state;
    assert_int_equal(p->f[HW_GPU_NUM_SMS].origin, HW_DATASHEET);
    assert_int_equal(p->f[HW_LL_DISP_FIXED_US].origin, HW_UNSET);
    assert_true(hw_value(p, HW_LL_DISP_FIXED_US) == hw_field_default(HW_LL_DISP_FIXED_US));
    hw_profile_free(p);
}

static void test_architecture_is_named_as_cuda_does(void **state)
{
    struct hw_profile *p =
        parsed(HEAD "  arch: {value: sm_103, origin: datasheet, source: \"x\"}\n" NET);

    (void)state;
    assert_true(hw_value(p, HW_GPU_ARCH) == 103);
    hw_profile_free(p);
    p = parsed(HEAD NET);
    assert_true(hw_value(p, HW_GPU_ARCH) == 90);
    hw_profile_free(p);
    CHECK_FAILS(parse(HEAD "  arch: {value: 103, origin: datasheet, source: \"x\"}\n" NET, &p),
                ERR_CONFIG, "t.yaml:8: error: gpu.arch must be named as CUDA does: sm_90");
    CHECK_FAILS(parse(HEAD "  arch: {value: sm_90a, origin: datasheet, source: \"x\"}\n" NET, &p),
                ERR_CONFIG, "gpu.arch must be named");
}

static void test_faults_name_file_and_line(void **state)
{
    struct hw_profile *p = NULL;

    (void)state;
    CHECK_FAILS(
        parse(HEAD NET "ll:\n  dispatch_fixd_us: {value: 1, origin: fitted, source: a}\n", &p),
        ERR_CONFIG,
        "t.yaml:12: error: unknown field 'll.dispatch_fixd_us'; did you mean "
        "'ll.dispatch_fixed_us'?");
    CHECK_FAILS(
        parse(HEAD NET "ll:\n  dispatch_fixed_us: {value: -4, origin: fitted, source: a}\n", &p),
        ERR_RANGE, "t.yaml:12: error: ll.dispatch_fixed_us = -4 is outside");
    CHECK_FAILS(
        parse(HEAD NET "ll:\n  dispatch_fixed_us: {value: 1us, origin: fitted, source: a}\n", &p),
        ERR_CONFIG, "value must be a number");
    CHECK_FAILS(parse(HEAD NET "ll:\n  dispatch_fixed_us: {value: 1}\n", &p), ERR_CONFIG,
                "every field needs an origin and a source");
    CHECK_FAILS(
        parse(HEAD NET "ll:\n  dispatch_fixed_us: {value: 1, origin: felt, source: a}\n", &p),
        ERR_CONFIG, "origin must be");
    CHECK_FAILS(parse(HEAD, &p), ERR_CONFIG, "the profile lacks net.nvlink_GBps");
    CHECK_FAILS(parse(HEAD NET "tables:\n  a: {x: [1, 2], y: [2]}\n", &p), ERR_CONFIG,
                "same number of points");
    CHECK_FAILS(parse(HEAD NET "tables:\n  a: {x: [2, 1], y: [2, 3]}\n", &p), ERR_CONFIG,
                "x must rise");
    CHECK_FAILS(parse(HEAD NET "covariance:\n  a: {fields: [gpu.l2_MiB], cov: [1, 2]}\n", &p),
                ERR_CONFIG, "(number of fields)^2");
    CHECK_FAILS(parse("[1, 2]\n", &p), ERR_CONFIG, "a profile is a map");
}

static void test_writes_what_it_reads(void **state)
{
    struct hw_profile *p = parsed(HEAD NET), *q = NULL;
    const double x[] = {1, 10, 100}, y[] = {2, 3, 30}, cov[] = {0.04, 0.01, 0.01, 0.09};
    const int field[] = {HW_LL_DISP_FIXED_US, HW_LL_COMB_FIXED_US};
    char path[] = "/tmp/test_profile_XXXXXX";
    int fd = mkstemp(path);
    bool outside;

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(hw_table_set(p, "nccl.all_reduce.4", x, y, 3, HW_MEASURED, "a \"b\" c"), 0);
    assert_int_equal(hw_field_set(p, HW_LL_DISP_FIXED_US, 7.25, 0.5, HW_FITTED, "f.csv"), 0);
    assert_int_equal(hw_covariance_set(p, "ll", field, 2, cov), 0);
    assert_int_equal(hw_range_set(p, "ll_dispatch", "tokens", 1, 1024), 0);
    assert_int_equal(hw_range_set(p, "ll_combine", "tokens", 1, 512), 0);
    assert_int_equal(hw_range_set(p, "ll_dispatch", "ranks", 8, 32), 0); /* not beside its law */
    assert_int_equal(hw_profile_write(p, path), 0);
    assert_int_equal(hw_profile_read(path, &q), 0);
    assert_string_equal(q->f[HW_LL_DISP_FIXED_US].source, "f.csv");
    assert_true(hw_value(q, HW_LL_DISP_FIXED_US) == 7.25);
    assert_string_equal(hw_table_find(q, "nccl.all_reduce.4")->source, "a \"b\" c");
    assert_true(fabs(hw_table_at(hw_table_find(q, "nccl.all_reduce.4"), 10, &outside) - 3) < 1e-12);
    assert_int_equal(q->num_covs, 1);
    assert_true(fabs(q->covs[0].cov[1] - 0.01) < 1e-12);
    assert_true(hw_range_find(q, "ll_dispatch", "tokens")->max == 1024);
    assert_true(hw_range_find(q, "ll_dispatch", "ranks")->min == 8);
    unlink(path);
    hw_profile_free(p);
    hw_profile_free(q);
}

/* A field that two laws fitted is drawn from the later one alone. */
static void test_a_field_has_one_covariance(void **state)
{
    struct hw_profile *p = parsed(HEAD NET);
    const double cov[] = {0.04, 0.01, 0.01, 0.09}, one[] = {0.25};
    const int both[] = {HW_LL_DISP_FIXED_US, HW_LL_DISP_TOKEN_NS}, first[] = {HW_LL_DISP_FIXED_US};

    (void)state;
    assert_int_equal(hw_covariance_set(p, "old", both, 2, cov), 0);
    assert_int_equal(hw_covariance_set(p, "new", first, 1, one), 0);
    assert_int_equal(p->num_covs, 2);
    assert_int_equal(p->covs[0].n, 1);
    assert_int_equal(p->covs[0].field[0], HW_LL_DISP_TOKEN_NS);
    assert_true(p->covs[0].cov[0] == 0.09);
    assert_int_equal(hw_covariance_set(p, "new", NULL, 0, NULL), 0);
    assert_int_equal(p->num_covs, 1);
    hw_covariance_drop(p, HW_LL_DISP_TOKEN_NS);
    assert_int_equal(p->num_covs, 0);
    hw_profile_free(p);
}

static void test_tables_interpolate_in_logarithms_and_keep_the_end_slope(void **state)
{
    double x[] = {1, 100}, y[] = {1, 10};
    struct hw_table t = {.n = 2, .x = x, .y = y};
    bool outside;

    (void)state;
    assert_true(fabs(hw_table_at(&t, 10, &outside) - sqrt(10)) < 1e-12 && !outside);
    assert_true(fabs(hw_table_at(&t, 1e4, &outside) - 100) < 1e-9 && outside);
    assert_true(hw_table_at(&t, 0, &outside) == 1 && outside);
}

static void test_assume_takes_only_what_is_known(void **state)
{
    struct hw_profile *p = parsed(HEAD NET), *from = parsed(HEAD NET);

    (void)state;
    hw_field_set(from, HW_LL_DISP_FIXED_US, 9, 0.1, HW_FITTED, "f");
    hw_field_set(from, HW_LL_COMB_FIXED_US, 8, 0, HW_ASSUMED, "assumed from z");
    hw_field_set(p, HW_LL_DISP_TOKEN_NS, 700, 1, HW_FITTED, "own");
    hw_field_set(from, HW_LL_DISP_TOKEN_NS, 900, 1, HW_FITTED, "f");
    hw_field_set(from, HW_NET_HOST_GPUS, 4, 0, HW_DATASHEET, "of that machine");
    assert_int_equal(hw_profile_assume(p, from), 0);
    assert_int_equal(p->f[HW_NET_HOST_GPUS].origin, HW_UNSET);
    assert_true(hw_value(p, HW_LL_DISP_FIXED_US) == 9);
    assert_int_equal(p->f[HW_LL_DISP_FIXED_US].origin, HW_TRANSFERRED);
    assert_string_equal(p->f[HW_LL_DISP_FIXED_US].source, "from t: f");
    assert_int_equal(p->f[HW_LL_COMB_FIXED_US].origin, HW_UNSET);
    assert_true(hw_value(p, HW_LL_DISP_TOKEN_NS) == 700);
    hw_profile_free(p);
    hw_profile_free(from);
}

static void test_forget_keeps_datasheet_and_measured(void **state)
{
    struct hw_profile *p = parsed(HEAD NET);

    (void)state;
    hw_field_set(p, HW_LL_DISP_FIXED_US, 9, 0.1, HW_FITTED, "f");
    hw_field_set(p, HW_LAUNCH_GRAPH_GAP_US, 1.5, 0, HW_MEASURED, "m");
    assert_int_equal(hw_profile_forget(p), 0);
    assert_int_equal(p->f[HW_LL_DISP_FIXED_US].origin, HW_UNSET);
    assert_true(hw_value(p, HW_LL_DISP_FIXED_US) == hw_field_default(HW_LL_DISP_FIXED_US));
    assert_true(hw_value(p, HW_LAUNCH_GRAPH_GAP_US) == 1.5);
    assert_true(hw_value(p, HW_GPU_NUM_SMS) == 132);
    hw_profile_free(p);
}

/* Mean and covariance of many draws are those of the profile; the same seed draws the same. */
static void test_samples_follow_the_covariance(void **state)
{
    struct hw_profile *p = parsed(HEAD NET), *q = NULL;
    const double cov[] = {0.04, 0.03, 0.03, 0.09};
    const int field[] = {HW_LL_DISP_FIXED_US, HW_LL_COMB_FIXED_US}, n = 4000;
    double sa = 0, sb = 0, sab = 0, saa = 0;

    (void)state;
    hw_covariance_set(p, "ll", field, 2, cov);
    for (int i = 0; i < n; i++) {
        double a, b;

        assert_int_equal(hw_profile_sample(p, (unsigned long)i + 1, &q), 0);
        a = hw_value(q, HW_LL_DISP_FIXED_US) - hw_value(p, HW_LL_DISP_FIXED_US);
        b = hw_value(q, HW_LL_COMB_FIXED_US) - hw_value(p, HW_LL_COMB_FIXED_US);
        sa += a;
        sb += b;
        saa += a * a;
        sab += a * b;
        hw_profile_free(q);
    }
    assert_true(fabs(sa / n) < 0.02 && fabs(sb / n) < 0.03);
    assert_true(fabs(saa / n - 0.04) < 0.005 && fabs(sab / n - 0.03) < 0.005);
    hw_profile_free(p);
}

static void test_samples_stay_inside_the_field_and_are_repeatable(void **state)
{
    struct hw_profile *p = parsed(HEAD NET), *a = NULL, *b = NULL;
    double min, max;

    (void)state;
    hw_field_set(p, HW_NET_NIC_EFF, 0.99, 0.5, HW_FITTED, "f");
    hw_field_bounds(HW_NET_NIC_EFF, &min, &max);
    for (unsigned long s = 1; s < 50; s++) {
        assert_int_equal(hw_profile_sample(p, s, &a), 0);
        assert_int_equal(hw_profile_sample(p, s, &b), 0);
        assert_true(hw_value(a, HW_NET_NIC_EFF) >= min && hw_value(a, HW_NET_NIC_EFF) <= max);
        assert_true(hw_value(a, HW_NET_NIC_EFF) == hw_value(b, HW_NET_NIC_EFF));
        hw_profile_free(a);
        hw_profile_free(b);
    }
    hw_profile_free(p);
}

static void test_a_covariance_that_is_none_is_an_error(void **state)
{
    struct hw_profile *p = parsed(HEAD NET), *q = NULL;
    const double cov[] = {0.04, 0.3, 0.3, 0.09};
    const int field[] = {HW_LL_DISP_FIXED_US, HW_LL_COMB_FIXED_US};

    (void)state;
    hw_covariance_set(p, "ll", field, 2, cov);
    CHECK_FAILS(hw_profile_sample(p, 1, &q), ERR_DATA, "not positive definite");
    hw_profile_free(p);
}

static void test_shipped_profiles_read_and_sample(void **state)
{
    static const char *const names[] = {"h20",  "h800", "h100",  "h200",
                                        "b200", "b300", "gb200", "gb300"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct hw_profile *p = NULL, *q = NULL;

        assert_int_equal(hw_profile_read(names[i], &p), 0);
        assert_string_equal(p->name, names[i]);
        assert_non_null(hw_table_find(p, "nccl.all_reduce.8"));
        for (unsigned long s = 1; s < 20; s++) {
            assert_int_equal(hw_profile_sample(p, s, &q), 0);
            hw_profile_free(q);
        }
        hw_profile_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_where_the_file_is_silent),
        cmocka_unit_test(test_architecture_is_named_as_cuda_does),
        cmocka_unit_test(test_faults_name_file_and_line),
        cmocka_unit_test(test_writes_what_it_reads),
        cmocka_unit_test(test_a_field_has_one_covariance),
        cmocka_unit_test(test_tables_interpolate_in_logarithms_and_keep_the_end_slope),
        cmocka_unit_test(test_assume_takes_only_what_is_known),
        cmocka_unit_test(test_forget_keeps_datasheet_and_measured),
        cmocka_unit_test(test_samples_follow_the_covariance),
        cmocka_unit_test(test_samples_stay_inside_the_field_and_are_repeatable),
        cmocka_unit_test(test_a_covariance_that_is_none_is_an_error),
        cmocka_unit_test(test_shipped_profiles_read_and_sample),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
