#include "tests/check.h"

#include <math.h>

#include "hw/profile.h"
#include "model/law/nvl.h"

static double us(const double *v, enum law_nvl_op op, int ranks, double tokens)
{
    struct law_nvl in = {.op = op, .sms = 32, .ranks = ranks, .tokens = tokens};
    struct cost_work w;

    in.peer_rows = tokens * fmin(8, ranks) * (1 - 1.0 / ranks);
    in.row_bytes = 7168;
    law_nvl_work(v, &in, &w);
    return (w.head.fixed_ns + w.issue_ns) / 1e3;
}

static void values(const char *name, double *v)
{
    struct hw_profile *p;

    assert_int_equal(hw_profile_read(name, &p), 0);
    for (int i = 0; i < HW_FIELD_COUNT; i++)
        v[i] = p->f[i].value;
    hw_profile_free(p);
}

static void test_time_grows_with_tokens_ranks_and_hosts(void **state)
{
    double v[HW_FIELD_COUNT];

    (void)state;
    values("gb200", v);
    for (int op = 0; op < LAW_NVL_OP_COUNT; op++) {
        double before = 0;

        for (double tokens = 1; tokens <= 1 << 16; tokens *= 2) {
            double now = us(v, (enum law_nvl_op)op, 8, tokens);

            assert_true(now > before);
            before = now;
        }
        for (int ranks = 2; ranks < 64; ranks *= 2)
            assert_true(us(v, (enum law_nvl_op)op, 2 * ranks, 64) >=
                        us(v, (enum law_nvl_op)op, ranks, 64));
    }
}

static void test_a_large_exchange_moves_at_its_share_of_nvlink(void **state)
{
    double v[HW_FIELD_COUNT], bytes = 7.0 * 7168, slope;

    (void)state;
    values("gb200", v);
    v[HW_NVL_1S_DISP_TOKEN_NS] = 0;
    slope = (us(v, LAW_NVL_1S_DISPATCH, 8, 65536) - us(v, LAW_NVL_1S_DISPATCH, 8, 32768)) / 32768;
    assert_true(fabs(slope * 1e3 / (bytes / (v[HW_NVL_1S_DISP_EFF] * 900)) - 1) < 0.01);
}

static void test_the_host_step_is_paid_beyond_a_host_alone(void **state)
{
    double v[HW_FIELD_COUNT], inside, beyond;

    (void)state;
    values("gb200", v);
    v[HW_NVL_1S_COMB_DOUBLE_US] = 0;
    v[HW_NVL_1S_COMB_CORNER] = 1;
    inside = us(v, LAW_NVL_1S_COMBINE, 4, 1);
    beyond = us(v, LAW_NVL_1S_COMBINE, 8, 1);
    assert_true(fabs(beyond - inside - v[HW_NVL_1S_COMB_HOST_US]) < 0.2);
}

static void test_fields_of_all_ops_stand_in_one_order(void **state)
{
    (void)state;
    assert_int_equal(law_nvl_field(LAW_NVL_1S_COMBINE, HW_NVL_1S_DISP_EFF), HW_NVL_1S_COMB_EFF);
    assert_int_equal(law_nvl_field(LAW_NVL_2S_PREPARE, HW_NVL_1S_DISP_TOKEN_NS),
                     HW_NVL_2S_PREP_TOKEN_NS);
    assert_int_equal(law_nvl_field(LAW_NVL_2S_DISPATCH, HW_NVL_1S_DISP_HOST_US),
                     HW_NVL_2S_DISP_HOST_US);
    assert_int_equal(law_nvl_field(LAW_NVL_2S_COMBINE, HW_NVL_1S_DISP_DOUBLE_US),
                     HW_NVL_2S_COMB_DOUBLE_US);
    assert_int_equal(law_nvl_field(LAW_NVL_2S_COMBINE_LP, HW_NVL_1S_DISP_CORNER),
                     HW_NVL_2S_COMB_LP_CORNER);
    for (int op = 0; op < LAW_NVL_OP_COUNT; op++)
        assert_int_equal(law_nvl_find(law_nvl_name((enum law_nvl_op)op)), op);
    assert_int_equal(law_nvl_find("sideways"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time_grows_with_tokens_ranks_and_hosts),
        cmocka_unit_test(test_a_large_exchange_moves_at_its_share_of_nvlink),
        cmocka_unit_test(test_the_host_step_is_paid_beyond_a_host_alone),
        cmocka_unit_test(test_fields_of_all_ops_stand_in_one_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
