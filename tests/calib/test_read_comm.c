#include "tests/check.h"

#include <math.h>

#include "calib/fit_predict.h"
#include "calib/read_comm.h"
#include "model/law/nvl.h"
#include "tests/data_text.h"

#define V1_HEADER                                                                                  \
    "kind,source,date,library,version,hw,nodes,gpus_per_node,ep,nic,phase,dtype,tokens,hidden,"    \
    "topk,experts,num_sms,bw_GBps,bw_what,us,us_min,us_max,send_us,recv_us,notify_us,ranks_read,"  \
    "confidence,check,note\n"

static void near(double x, double want, double by)
{
    assert_true(fabs(x - want) <= by);
}

static struct data_set *parsed(const char *text)
{
    struct data_set *set = NULL;

    assert_int_equal(data_parse(text, strlen(text), "f.csv", NULL, true, &set), 0);
    return set;
}

static void test_hook_times_stand_beside_the_fused_row(void **state)
{
    struct data_set *set =
        parsed(V1_HEADER "ll,x,2025,V1,native,h20,2,8,16,\"4x CX7 400Gb (2x200 dual port), RoCE\","
                         "dispatch,fp8,8,7168,8,,,,payload,37,,,13.5,5.64,,,b,,\n");

    (void)state;
    assert_int_equal(set->n, 3);
    assert_int_equal(set->rows[0].part, DATA_SEND);
    assert_int_equal(set->rows[1].part, DATA_RECV);
    assert_int_equal(set->rows[2].part, DATA_FUSED);
    assert_true(set->rows[2].reference);
    assert_false(set->rows[0].reference);
    assert_int_equal(set->rows[2].experts, 256);
    near(set->rows[2].nic_GBps, 25, 1e-9);
    data_free(set);
}

/* 3.8 MB to the other node in 142.6 us is more than 25 GB/s. */
static void test_a_rate_above_the_named_nics_refutes_them(void **state)
{
    struct data_set *set =
        parsed(V1_HEADER "ll,x,2025,V1,native,h20,2,8,16,4x CX7 400Gb,dispatch,fp8,128,7168,8,,,,"
                         "payload,142.64,,,,,,,b,,\n"
                         "ll,x,2025,V1,native,h20,2,8,16,4x CX7 400Gb,dispatch,fp8,128,7168,8,,,,"
                         "payload,300,,,,,,,b,,\n");

    (void)state;
    near(set->rows[0].nic_GBps, 50, 1e-9);
    near(set->rows[1].nic_GBps, 25, 1e-9);
    assert_true(set->rows[0].reference);
    assert_false(set->rows[1].reference);
    data_free(set);
}

static void test_other_kernels_are_shown_and_not_predicted(void **state)
{
    struct data_set *set = parsed(
        V1_HEADER "ll,x,2025,V1,hook: both,h20,2,8,16,4x CX7 400Gb,dispatch,fp8,128,7168,"
                  "8,,,,payload,39.7,,,,,,,b,,\n"
                  "ll,x,2025,V1,,h20,1,8,8,,pair,fp8+bf16,128,7168,8,,,99,payload,222,,,,,,,a,,\n");
    struct hw_profile *profile;
    struct predictor p;

    (void)state;
    assert_int_equal(hw_profile_read("h20", &profile), 0);
    predictor_init(&p, profile);
    assert_int_equal(set->n, 2);
    for (size_t i = 0; i < set->n; i++) {
        assert_int_equal(set->rows[i].law, DATA_SHOWN);
        assert_true(isnan(predict_us(&p, &set->rows[i])));
    }
    hw_profile_free(profile);
    data_free(set);
}

static void test_layered_rows_have_the_nics_of_the_run_beside_them(void **state)
{
    struct data_set *set =
        parsed(V1_HEADER "ll,x,2025,V1,native,h20,2,8,16,4x CX7 400Gb,dispatch,fp8,128,7168,8,,,,"
                         "payload,142.64,,,,,,,b,,\n"
                         "ll,x,2025,V1,layered (DeepEP#500),h20,2,8,16,4x CX7 400Gb,dispatch,fp8,"
                         "128,7168,8,,,,payload,78.89,,,,,,,b,,\n"
                         "ll,x,2025,V1,layered (DeepEP#500),h20,2,8,16,4x CX7 400Gb,dispatch,fp8,"
                         "64,7168,8,,,,payload,69,,,21.93,18.16,,,b,,\n");

    (void)state;
    assert_int_equal(set->n, 5);
    assert_int_equal(set->rows[1].law, DATA_LL_LAYERED);
    near(set->rows[1].nic_GBps, 50, 1e-9);
    near(set->rows[2].nic_GBps, 25, 1e-9); /* another batch */
    assert_int_equal(set->rows[2].part, DATA_SEND);
    assert_true(set->rows[4].reference);
    data_free(set);
}

/* A log that prints both: 42.68 GB/s over NICs counts the own node's copies too. */
static void test_a_bandwidth_becomes_the_time_it_was_made_of(void **state)
{
    struct data_set *set =
        parsed(V1_HEADER "normal,x,2025,V1,,unstated (side),2,8,16,,dispatch,fp8,4096,7168,8,,24,"
                         "80.42,rdma,751,,,,,81,,a,rows/token 1.99,\n"
                         "normal,x,2025,V1,,h800,2,8,16,8 NICs,dispatch,fp8,4096,7168,8,,24,80.42,"
                         "rdma,,,,,,,,b,,\n"
                         "normal,x,2025,V1,,h800,2,8,16,8 NICs,dispatch,fp8,4096,7168,8,,24,262,"
                         "nvlink,,,,,,,,b,,\n");

    (void)state;
    assert_int_equal(set->n, 2); /* the NVLink line is the same time once more */
    near(set->rows[0].latency_us, 751, 1e-9);
    assert_true(fabs(set->rows[1].latency_us / 751 - 1) < 0.01);
    assert_true(set->rows[1].kernel_only);
    data_free(set);
}

static void test_a_limited_gate_touches_fewer_nodes(void **state)
{
    struct data_row r = {.ranks = 64,
                         .nodes = 8,
                         .tokens = 4096,
                         .hidden = 7168,
                         .topk = 8,
                         .experts = 256,
                         .dtype = DTYPE_BF16};
    double all, limited;

    (void)state;
    all = read_bandwidth_us(&r, 50);
    r.node_limit = 4;
    limited = read_bandwidth_us(&r, 50);
    assert_true(limited < 0.8 * all);
    /* 3.6 of 4 nodes touched, 14336 bytes each */
    assert_true(fabs(limited / (4096 * 3.61 * 14336 / 50e3) - 1) < 0.01);
}

static void test_what_an_exchange_moves_follows_from_op_and_dtype(void **state)
{
    struct data_set *set =
        parsed("system,op,kernel,dtype,hidden,topk,num_experts,ep,tokens_per_rank,latency_us\n"
               "gb200,prepare,NVLinkTwoSided,fp8,7168,8,256,8,64,13\n"
               "gb200,dispatch,NVLinkTwoSided,fp8,7168,8,256,8,64,17.7\n"
               "gb200,combine,NVLinkTwoSided,fp8,7168,8,256,8,64,25.3\n"
               "gb200,combine_low_precision,NVLinkTwoSided,nvfp4,7168,8,256,8,64,26.1\n");
    static const double bytes[] = {0, 7168, 14336, 4032};
    static const char *const names[] = {"2s_prepare", "2s_dispatch", "2s_combine", "2s_combine_lp"};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        near(set->rows[i].bytes, bytes[i], 1e-9);
        assert_string_equal(set->rows[i].coll, names[i]);
        assert_true(law_nvl_find(names[i]) >= 0);
    }
    data_free(set);
}

static void test_eager_all_reduces_are_not_what_engines_run(void **state)
{
    struct data_set *set = parsed("system,engine,kernel,dtype,num_gpus,bytes,latency_us\n"
                                  "h100,sglang,X_graph,bfloat16,2,256,2.4\n"
                                  "h100,sglang,X_eager,bfloat16,2,256,29.9\n");

    (void)state;
    assert_int_equal(set->rows[0].law, DATA_COLLECTIVE);
    assert_string_equal(set->rows[0].coll, "ar_sglang");
    assert_int_equal(set->rows[1].law, DATA_SHOWN);
    data_free(set);
}

static void test_equal_kernels_of_a_trace_are_no_copies(void **state)
{
    struct data_set *set =
        parsed("start_us,dur_us,stream,kernel,ctas,grid,block,regs,smem\n"
               "0,6000,27,\"ep_combine<false,8,bf16,8,2,16,24>\",20,20x1x1,800x1x1,72,1320\n"
               "9000,6000,27,\"ep_combine<false,8,bf16,8,2,16,24>\",20,20x1x1,800x1x1,72,1320\n"
               "16000,100,7,ln_fwd_kernel,396,396x1x1,128x1x1,168,64\n");

    (void)state;
    assert_int_equal(set->n, 3);
    assert_int_equal(set->rows[0].law, DATA_NORMAL_COMBINE);
    assert_int_equal(set->rows[0].ranks, 64);
    assert_false(set->rows[0].reference); /* it ran beside compute */
    assert_int_equal(set->rows[2].law, DATA_SHOWN);
    data_free(set);
}

static void test_public_files_are_read_whole(void **state)
{
    static const struct {
        const char *file, *format;
    } files[] = {{"public_deepep_v1_ll.csv", "public_deepep_v1"},
                 {"public_deepep_v1_normal.csv", "public_deepep_v1"},
                 {"public_deepep_v2.csv", "public_deepep_v2"},
                 {"public_other_a2a.csv", "public_other_a2a"},
                 {"public_nccl_tests.csv", "public_nccl_tests"},
                 {"custom_allreduce.csv", "custom_allreduce"},
                 {"nccl_229.csv", "nccl"},
                 {"a2a_nvl.csv", "a2a_nvl"},
                 {"megamoe.csv", "megamoe"},
                 {"public_megamoe.csv", "public_megamoe"},
                 {"public_trace_train_h800_ep64_kernels.csv", "public_trace"},
                 {"public_trace_train_h800_ep64_summary.csv", "public_trace_summary"}};
    char path[512];

    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct data_set *set = NULL;

        if (!data_path(files[i].file, path, sizeof path))
            skip();
        assert_int_equal(data_read(path, NULL, false, &set), 0);
        assert_string_equal(set->format, files[i].format);
        if (set->bad > 0)
            fail_msg("%s: %zu bad rows", files[i].file, set->bad);
        data_free(set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hook_times_stand_beside_the_fused_row),
        cmocka_unit_test(test_a_rate_above_the_named_nics_refutes_them),
        cmocka_unit_test(test_other_kernels_are_shown_and_not_predicted),
        cmocka_unit_test(test_layered_rows_have_the_nics_of_the_run_beside_them),
        cmocka_unit_test(test_a_bandwidth_becomes_the_time_it_was_made_of),
        cmocka_unit_test(test_a_limited_gate_touches_fewer_nodes),
        cmocka_unit_test(test_what_an_exchange_moves_follows_from_op_and_dtype),
        cmocka_unit_test(test_eager_all_reduces_are_not_what_engines_run),
        cmocka_unit_test(test_equal_kernels_of_a_trace_are_no_copies),
        cmocka_unit_test(test_public_files_are_read_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
