#include "tests/check.h"

#include <math.h>

#include "base/err.h"
#include "calib/accuracy.h"
#include "calib/attn.h"
#include "tests/data_text.h"

static struct fit_report report; /* large */

#define GQA_HEADER                                                                                 \
    "system,phase,kernel,batch,q_len,kv_len,heads,kv_heads,head_dim,dtype,kv_dtype,window,"        \
    "latency_us\n"

static void every_format_names_its_families(void **state)
{
    static const struct {
        const char *text, *family;
        enum data_law law;
    } cases[] = {
        {GQA_HEADER "h200,prefill,fa3,1,4096,4096,64,8,64,bfloat16,fp8,128,100\n",
         "gqa.fa3.prefill.fp8.d64", DATA_ATTN_GQA},
        {"system,level,phase,engine,kernel,batch,q_len,kv_len,heads,tp,gemm_dtype,kv_dtype,"
         "latency_us\nb200,module,decode,vllm,FLASHINFER_MLA,8,1,4096,16,1,nvfp4,bfloat16,50\n",
         "mla.vllm-flashinfer_mla.decode.bf16.w_fp4", DATA_ATTN_MLA},
        {"system,module,phase,model,engine,kernel,batch,q_len,kv_len,heads,tp,gemm_dtype,kv_dtype,"
         "latency_us\nh100,dsa,decode,zai-org/GLM-5.2,sglang,sglang_dsa_skip_indexer_fa3,2,1,4097,"
         "32,2,bfloat16,bfloat16,99\n",
         "dsa.sglang-sglang_dsa_skip_indexer_fa3.decode.bf16.h6144s", DATA_ATTN_SPARSE},
        {"system,kind,phase,kernel,model,batch,q_len,d_model,k_heads,k_head_dim,v_heads,v_head_dim,"
         "latency_us\nh200,gdn,decode,vllm:causal_conv1d_update,m,8,1,1024,16,128,16,128,3\n",
         "gdn.vllm_causal_conv1d_update.decode", DATA_ATTN_STATE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct data_set *set = NULL;

        assert_int_equal(
            data_parse(cases[i].text, strlen(cases[i].text), "f.csv", NULL, true, &set), 0);
        assert_int_equal(set->n, 1);
        assert_int_equal(set->rows[0].law, cases[i].law);
        assert_string_equal(set->rows[0].attn->family, cases[i].family);
        data_free(set);
    }
}

static void tensor_parallel_ranks_hold_their_share(void **state)
{
    const char *text =
        "system,module,phase,model,engine,kernel,batch,q_len,kv_len,heads,tp,gemm_dtype,kv_dtype,"
        "latency_us\nh200,dsv4_csa,decode,sgl-project/DeepSeek-V4-Pro-FP8,sglang,"
        "compressed_flashmla,8,1,8193,16,8,fp8_block,fp8_e4m3,150\n"
        "h200,dsv4_hca,decode,sgl-project/DeepSeek-V4-Pro-FP8,sglang,"
        "compressed_flashmla,8,1,8193,16,8,fp8_block,fp8_e4m3,120\n";
    struct data_set *set = NULL;
    const struct attn_shape *csa, *hca;

    (void)state;
    assert_int_equal(data_parse(text, strlen(text), "f.csv", NULL, true, &set), 0);
    assert_int_equal(set->n, 2);
    csa = &set->rows[0].attn->load.shape;
    hca = &set->rows[1].attn->load.shape;
    assert_int_equal(csa->heads, 16);
    assert_int_equal(csa->o_groups, 2);     /* of 16 */
    assert_int_equal(csa->index_heads, 64); /* whole on every rank */
    assert_int_equal(csa->compress_ratio, 4);
    assert_int_equal(hca->index_heads, 0);
    assert_int_equal(hca->compress_ratio, 128);
    data_free(set);
}

static void bad_cells_are_named(void **state)
{
    static const struct {
        const char *row, *want;
    } cases[] = {
        {"h200,sideways,fa3,1,1,64,64,8,128,bfloat16,fp8,0,10\n", "neither prefill nor decode"},
        {"h200,decode,fa3,1,1,64,64,7,128,bfloat16,fp8,0,10\n", "does not divide heads"},
        {"h200,decode,fa3,1,1,64,64,8,128,bfloat16,int3,0,10\n", "is none of bfloat16"},
        {"h200,prefill,fa3,1,64,32,64,8,128,bfloat16,fp8,0,10\n", "is less than q_len"},
        {"h200,decode,fa3,0,1,64,64,8,128,bfloat16,fp8,0,10\n", "is too small"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct check_stderr c;
        struct data_set *set = NULL;
        char text[512], *talk;
        int rc;

        snprintf(text, sizeof text, "%s%s", GQA_HEADER, cases[i].row);
        check_stderr_begin(&c);
        rc = data_parse(text, strlen(text), "f.csv", NULL, false, &set);
        talk = check_stderr_end(&c);
        assert_int_equal(rc, ERR_DATA);
        assert_non_null(strstr(talk, cases[i].want));
        free(talk);
    }
}

static void warm_up_rows_are_shown_not_fitted(void **state)
{
    const char *text = GQA_HEADER "h200,decode,fa3,1,1,64,64,8,128,bfloat16,fp8,0,300\n"
                                  "h200,decode,fa3,1,1,4096,64,8,128,bfloat16,fp8,0,20\n"
                                  "h200,decode,fa3,1,1,128,32,8,128,bfloat16,fp8,0,290\n"
                                  "h200,decode,fa3,1,1,256,64,8,128,bfloat16,fp8,0,22\n";
    struct data_set *set = NULL;

    (void)state;
    assert_int_equal(data_parse(text, strlen(text), "f.csv", NULL, true, &set), 0);
    assert_int_equal(set->n, 4);
    for (size_t i = 0; i < 4; i++) /* the third has nothing of its shape to be held against */
        assert_int_equal(set->rows[i].reference, set->rows[i].line != 2);
    data_free(set);
}

/* Rows that the law itself makes. */
static void rows_made(struct text *t, const double *v, const double *param)
{
    text_add(t, GQA_HEADER);
    for (int heads = 8; heads <= 128; heads *= 2)
        for (int batch = 1; batch <= 512; batch *= 4)
            for (int kv = 16; kv <= 65536; kv *= 8) {
                struct law_attn_load in = {.shape = {.kind = ATTN_GQA,
                                                     .heads = heads,
                                                     .kv_heads = heads / 8,
                                                     .qk_head_dim = 128,
                                                     .v_head_dim = 128},
                                           .requests = batch,
                                           .q_len = 1,
                                           .kv_len = kv,
                                           .kv_bytes = 2};

                text_add(t, "h200,decode,fa3,%d,1,%d,%d,%d,128,bfloat16,bfloat16,0,%.6g\n", batch,
                         kv, heads, heads / 8, law_attn_us(v, param, &in));
            }
}

static void fits_find_what_made_the_rows(void **state)
{
    static struct text text;
    const struct fit_options o = {.seed = 1, .starts = 1, .cv = true, .only = "attn"};
    struct hw_profile *p;
    struct data_set *set;
    double v[HW_FIELD_COUNT], param[LAW_ATTN_PARAM_COUNT];
    const struct hw_table *table;

    (void)state;
    assert_int_equal(hw_profile_read("h200", &p), 0);
    for (int i = 0; i < HW_FIELD_COUNT; i++)
        v[i] = p->f[i].value;
    law_attn_usual(param);
    param[LAW_ATTN_FIXED] = 9;
    param[LAW_ATTN_HBM] = 0.66;
    param[LAW_ATTN_EFF] = 0.45;
    rows_made(&text, v, param);
    set = text_parse(&text);
    assert_int_equal(fit_profile(p, &set, 1, &o, &report), 0);
    assert_int_equal(report.num, 2); /* the kernel, and all of its kind */
    assert_string_equal(report.law[0].law, "gqa fa3 decode bf16");
    assert_true(report.law[0].in_sample.median_ape < 0.01);
    assert_true(report.law[0].unseen[FIT_CV_SHAPE].p90_ape < 0.05);
    assert_true(report.law[0].unseen[FIT_CV_CONTEXT].n > 100);
    table = hw_table_find(p, "attn.gqa.fa3.decode.bf16.d128");
    assert_non_null(table);
    assert_int_equal(table->origin, HW_FITTED);
    assert_true(fabs(table->y[LAW_ATTN_FIXED] - 9) < 0.5);
    assert_true(fabs(table->y[LAW_ATTN_HBM] - 0.66) < 0.03);
    data_free(set);
    hw_profile_free(p);
}

/* Shipped profiles against their measurements: kernels of grouped queries and MLA modules. */
static void shipped_profiles_follow_the_data(void **state)
{
    static const char *const files[] = {"attn_gqa.csv", "attn_mla.csv"};
    static const char *const gpus[] = {"h100", "h200", "b200", "b300", "gb200", "gb300"};

    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct data_set *set;
        char path[512];

        if (!data_path(files[i], path, sizeof path))
            skip();
        assert_int_equal(data_read(path, NULL, false, &set), 0);
        for (size_t g = 0; g < sizeof gpus / sizeof *gpus; g++) {
            struct hw_profile *p;
            struct accuracy *a;

            assert_int_equal(hw_profile_read(gpus[g], &p), 0);
            assert_int_equal(accuracy_open(p, set, &a), 0);
            print_message("%s %s: median %.1f%%, p90 %.1f%%\n", files[i], gpus[g],
                          100 * a->err.median_ape, 100 * a->err.p90_ape);
            assert_true(a->no_law == 0 && a->err.n > 3000);
            assert_true(a->err.median_ape < 0.08 && a->err.p90_ape < 0.20);
            accuracy_free(a);
            hw_profile_free(p);
        }
        data_free(set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_names_its_families),
        cmocka_unit_test(tensor_parallel_ranks_hold_their_share),
        cmocka_unit_test(bad_cells_are_named),
        cmocka_unit_test(warm_up_rows_are_shown_not_fitted),
        cmocka_unit_test(fits_find_what_made_the_rows),
        cmocka_unit_test(shipped_profiles_follow_the_data),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
