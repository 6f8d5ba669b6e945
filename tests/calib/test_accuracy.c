#include "tests/check.h"

#include <math.h>
#include <time.h>

#include "base/csv.h"
#include "base/err.h"
#include "tests/data_text.h"
#include "calib/accuracy.h"
#include "calib/fit_predict.h"
#include "model/law/gemm.h"

static int parse(const char *text, bool strict, struct data_set **out)
{
    return data_parse(text, strlen(text), "f.csv", NULL, strict, out);
}

static struct data_set *parsed(const char *text, const struct data_hint *hint)
{
    struct data_set *set = NULL;

    assert_int_equal(data_parse(text, strlen(text), "f.log", hint, false, &set), 0);
    return set;
}

/* Parses, and gives what was said on stderr. */
static int said(const char *text, bool strict, char **talk, size_t *rows)
{
    struct check_stderr c;
    struct data_set *set = NULL;
    int rc;

    check_stderr_begin(&c);
    rc = parse(text, strict, &set);
    *talk = check_stderr_end(&c);
    assert_non_null(*talk);
    *rows = rc == 0 ? set->n : 0;
    if (rc == 0)
        data_free(set);
    return rc;
}

#define GOOD "h200,1,8,7168,256,8,64,dispatch,fp8,3793408,23.0\n"

static void test_bad_rows_are_named_and_skipped(void **state)
{
    static const struct {
        const char *row, *want;
    } cases[] = {
        {"h200,1,8,7168,256,8,1,dispatch,fp8,59264,-12.5\n",
         "f.csv:3: warning: latency_us '-12.5'"},
        {"h200,1,8,7168,256,8,1,dispatch,fp8,59264,0\n", "is too small"},
        {"h200,1,8,7168,256,8,1,dispatch,fp8,59264,nan\n", "is not a number"},
        {"h200,1,8,7168,256,8,1,dispatch,fp8,59264,inf\n", "is not a number"},
        {"h200,1,8,7168,256,8,1,dispatch,fp8,59264,1e12\n", "absurdly large"},
        {"h200,1,8,7168,256,8,1,dispatch,fp8,59264,12us\n", "is not a number"},
        {"h200,1,8,7168,256,8,1,dispatch,fp8,59264,\n", "is not a number"},
        {"h200,1,8,7168,256,8,1,sideways,fp8,59264,12\n", "is neither dispatch nor combine"},
        {"h200,1,8,7168,256,8,1.5,dispatch,fp8,59264,12\n", "is not a whole number"},
        {"h200,1,8,7168,256,8,1,dispatch,fp8\n", "another number of cells"},
        {"h200,1,8,7168,256,8,1,dispatch,fp9,59264,12\n", "f.csv:3: warning: dtype 'fp9'"},
        {",1,8,7168,256,8,1,dispatch,fp8,59264,12\n", "is no system"},
        {GOOD, "the same measurement stands in line 2"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024], *talk;
        size_t rows;

        snprintf(text, sizeof text, "%s%s%s", LL_HEADER, GOOD, cases[i].row);
        assert_int_equal(said(text, false, &talk, &rows), 0);
        assert_int_equal(rows, 1);
        if (!strstr(talk, cases[i].want))
            fail_msg("said '%s', want '%s'", talk, cases[i].want);
        free(talk);
        assert_int_equal(said(text, true, &talk, &rows), ERR_DATA);
        assert_non_null(strstr(talk, "--strict"));
        free(talk);
    }
}

/* Milliseconds among microseconds: 100 times off both neighbours in size. */
static void test_another_unit_is_noticed(void **state)
{
    char *talk;
    size_t rows;

    (void)state;
    assert_int_equal(said(LL_HEADER "h200,1,8,7168,256,8,32,dispatch,fp8,1896448,16.5\n"
                                    "h200,1,8,7168,256,8,64,dispatch,fp8,3793408,0.0230\n"
                                    "h200,1,8,7168,256,8,128,dispatch,fp8,7586816,35.1\n",
                          false, &talk, &rows),
                     0);
    free(talk);
    assert_int_equal(rows, 2);
    assert_int_equal(said(LL_HEADER "h200,1,8,7168,256,8,32,dispatch,fp8,1896448,16.5\n"
                                    "h200,1,8,7168,256,8,64,dispatch,fp8,3793408,23000\n"
                                    "h200,1,8,7168,256,8,128,dispatch,fp8,7586816,35.1\n",
                          false, &talk, &rows),
                     0);
    assert_int_equal(rows, 2);
    assert_non_null(strstr(talk, "another unit?"));
    free(talk);
}

/* Rows at the ends of a group have neighbours on one side only. */
static void test_another_unit_is_noticed_at_the_ends(void **state)
{
    static const char *const cases[] = {
        LL_HEADER "h200,1,8,7168,256,8,32,dispatch,fp8,1896448,0.06\n"
                  "h200,1,8,7168,256,8,64,dispatch,fp8,3793408,23.0\n"
                  "h200,1,8,7168,256,8,128,dispatch,fp8,7586816,35.1\n",
        LL_HEADER "h200,1,8,7168,256,8,128,dispatch,fp8,7586816,35100\n"
                  "h200,1,8,7168,256,8,32,dispatch,fp8,1896448,16.5\n"
                  "h200,1,8,7168,256,8,64,dispatch,fp8,3793408,23.0\n"};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *talk;
        size_t rows;

        assert_int_equal(said(cases[i], false, &talk, &rows), 0);
        assert_non_null(strstr(talk, "f.csv:2: "));
        assert_non_null(strstr(talk, "another unit?"));
        assert_int_equal(rows, 2);
        free(talk);
    }
}

/* Each of many bad rows is named, by reason and ranges of lines. */
static void test_many_bad_rows_are_all_named(void **state)
{
    struct text *t = calloc(1, sizeof *t);
    char *talk;
    size_t rows;

    (void)state;
    text_add(t, LL_HEADER GOOD);
    for (int i = 0; i < 30; i++)
        text_add(t, "h200,1,8,7168,256,8,%d,dispatch,fp8,59264,-%d\n", i + 1, i + 1);
    text_add(t, "h200,1,8,7168,256,8,1,dispatch,fp9,59264,12\n");
    assert_int_equal(said(t->buf, false, &talk, &rows), 0);
    assert_int_equal(rows, 1);
    assert_non_null(strstr(talk, "30 rows: latency_us is too small"));
    assert_non_null(strstr(talk, "13-32"));
    assert_non_null(strstr(talk, "1 row: dtype is neither"));
    assert_non_null(strstr(talk, "named above: 33"));
    free(talk);
    free(t);
}

#define NCCL_ROWS                                                                                  \
    "        1024           256     float    none      -1    11.20    0.09    0.16      0\n"       \
    "        2048           512     float    none      -1    11.90    0.17    0.30      0\n"

/* A table cut out of its log: the file's name or the user says what was run. */
static void test_reads_nccl_tests_without_header(void **state)
{
    struct data_hint hint = {.ranks = 8}, told = {.ranks = 8, .collective = "alltoall"};
    const char *text = NCCL_ROWS, *head = "# nThread 1 nGpus 8\n" NCCL_ROWS;
    struct data_set *set = NULL;

    (void)state;
    assert_int_equal(data_parse(text, strlen(text), "a/alltoall_perf.txt", &hint, false, &set), 0);
    assert_int_equal(set->n, 2);
    assert_string_equal(set->rows[0].coll, "all_to_all");
    assert_int_equal(set->rows[1].ranks, 8);
    data_free(set);
    set = parsed(text, &told);
    assert_string_equal(set->rows[0].coll, "all_to_all");
    data_free(set);
    CHECK_FAILS(data_parse(head, strlen(head), "f.txt", &hint, false, &set), ERR_PARSE,
                "f.txt:1: error: no header says which collective");
}

static void test_files_without_rows_or_format(void **state)
{
    struct data_set *set = NULL;

    (void)state;
    CHECK_FAILS(parse(LL_HEADER, false, &set), ERR_DATA, "no usable row");
    CHECK_FAILS(parse("", false, &set), ERR_PARSE, "f.csv");
    CHECK_FAILS(parse("a,b,c\n1,2,3\n", false, &set), ERR_PARSE, "no known format");
    CHECK_FAILS(
        parse("system,nodes,ep,hidden,num_experts,topk,phase,dtype,bytes_per_rank\n", false, &set),
        ERR_PARSE,
        "nearest is deepep_ll, which needs the columns tokens_per_rank, "
        "latency_us");
    CHECK_FAILS(parse("system,dtype,m,n,k,latency_ms\n", false, &set), ERR_PARSE,
                "gemm, which needs the column latency_us");
}

static void test_crlf_and_quotes(void **state)
{
    struct data_set *set = NULL;

    (void)state;
    assert_int_equal(
        parse("system,dtype,m,n,k,latency_us\r\n\"h200\",bfloat16,64,128,256,3.5\r\n", false, &set),
        0);
    assert_int_equal(set->n, 1);
    assert_int_equal(set->rows[0].law, DATA_DENSE_BF16);
    assert_string_equal(set->rows[0].system, "h200");
    data_free(set);
}

static void test_reads_deepep_low_latency_log(void **state)
{
    struct data_hint hint = {.system = "h200", .ranks = 8};
    struct data_set *set = parsed(
        "Allocating buffer size: 2116.29 MB ...\n"
        "[rank 0] Dispatch + combine bandwidth: 230.1 GB/s, avg_t=95.1 us, min_t=90 us, max_t=99 "
        "us\n"
        "[rank 0] Dispatch bandwidth: 216.0 GB/s, avg_t=35.12 us | Combine bandwidth: 217.00 GB/s, "
        "avg_t=67.66 us\n"
        "[rank 1] Dispatch bandwidth: 216.0 GB/s, avg_t=35.12 us | Combine bandwidth: 217.00 GB/s, "
        "avg_t=67.66 us\n"
        "[rank 0] Dispatch send/recv time: 20.10 + 8.20 us | Combine send/recv time: 30.00 + 12.00 "
        "us\n",
        &hint);

    (void)state;
    assert_int_equal(set->n, 6);
    assert_int_equal(set->rows[0].law, DATA_LL_DISPATCH);
    assert_true(fabs(set->rows[0].latency_us - 35.12) < 1e-9);
    assert_int_equal(set->rows[0].tokens, 128);
    assert_int_equal(set->rows[0].experts, 288);
    assert_true(fabs(set->rows[0].bytes - 216.0 * 35.12e3) < 1);
    assert_int_equal(set->rows[3].part, DATA_RECV);
    assert_int_equal(set->rows[5].part, DATA_RECV);
    assert_int_equal(set->rows[5].law, DATA_LL_COMBINE);
    data_free(set);
}

static void test_reads_deepep_normal_logs(void **state)
{
    struct data_hint hint = {.system = "h100", .ranks = 16}, one_node = {.ranks = 8};
    struct data_set *set = parsed(
        "[config] num_tokens=4096, hidden=7168, num_topk_groups=4, num_topk=8\n"
        "[tuning] SMs 24, NVL chunk 4, RDMA chunk 4: 36 + 900 us, 40.1 GB/s (RDMA), 120 GB/s (NVL) "
        "\n"
        "[tuning] Best dispatch (FP8): SMs 24, NVL chunk 20, RDMA chunk 28: 35 + 749 us, 43.17 "
        "GB/s "
        "(RDMA), 141.00 GB/s (NVL)\n"
        "[tuning] Best combine: SMs 24, NVL chunk 2, RDMA chunk 12, 50.10 + 1777.00 us, 43.1 GB/s "
        "(RDMA), 140 GB/s (NVL)\n",
        &hint);

    (void)state;
    assert_int_equal(set->n, 2);
    assert_int_equal(set->rows[0].law, DATA_NORMAL_DISPATCH);
    assert_int_equal(set->rows[0].num_sms, 24);
    assert_int_equal(set->rows[0].nodes, 2);
    assert_true(fabs(set->rows[0].latency_us - 784) < 1e-9);
    assert_true(fabs(set->rows[1].notify_us - 50.1) < 1e-9);
    data_free(set);
    set = parsed(
        "[config] num_tokens=4096, hidden=7168, num_topk=8\n"
        "[tuning] Best dispatch (FP8): SMs 24, NVL chunk 8, 328.17 GB/s (NVL), t: 501.90 us\n"
        "[tuning] Best dispatch (BF16): SMs 24, NVL chunk 8, transmit: 900.5 us, notify: 0.00 "
        "us, BW: 0.00 GB/s (RDMA), 300.0 GB/s (NVL)\n",
        &one_node);
    assert_int_equal(set->n, 2);
    assert_true(fabs(set->rows[0].latency_us - 501.9) < 1e-9);
    assert_true(fabs(set->rows[1].latency_us - 900.5) < 1e-9);
    assert_int_equal(set->rows[1].dtype, DTYPE_BF16);
    data_free(set);
}

static void test_reads_nccl_tests_table(void **state)
{
    struct data_hint hint = {.system = "h200"};
    struct data_set *set = parsed(
        "# Collective test starting: all_reduce_perf\n"
        "# nThread 1 nGpus 2 minBytes 8 maxBytes 1024 step: 2(factor) warmup iters: 5 iters: 20\n"
        "#  Rank  0 Group  0 Pid  6899 on host device  0 [0000:04:00] NVIDIA H200\n"
        "#  Rank  1 Group  0 Pid  6899 on host device  1 [0000:05:00] NVIDIA H200\n"
        "#       size         count      type   redop    root     time   algbw   busbw #wrong\n"
        "           0             0     float     sum      -1     5.10    0.00    0.00      0\n"
        "        1024           256     float     sum      -1     6.50    0.16    0.16      0"
        "     6.40    0.16    0.16      0\n"
        "     1048576        262144     float     sum      -1    12.30   85.25   85.25      0\n",
        &hint);

    (void)state;
    assert_int_equal(set->n, 2);
    assert_string_equal(set->rows[0].coll, "all_reduce");
    assert_int_equal(set->rows[0].ranks, 2);
    assert_true(set->rows[1].bytes == 1048576);
    assert_true(fabs(set->rows[1].latency_us - 12.3) < 1e-9);
    data_free(set);
}

static void test_reads_nccl_tests_json(void **state)
{
    struct data_set *set = parsed(
        "{\"version\":3,\"start_time\":\"x\",\"args\":[\"./build/alltoall_perf\",\"-J\",\"o\"],"
        "\"env\":[],\"nccl_version\":22800,\"config\":{\"nthreads\":1,\"devices\":[{\"rank\":0},"
        "{\"rank\":1},{\"rank\":2},{\"rank\":3}]},\"results\":[{\"size\":8192,\"count\":1,"
        "\"type\":\"float\",\"out_of_place\":{\"time\":14.01,\"alg_bw\":0.5,\"bus_bw\":0.4,"
        "\"nwrong\":0},\"in_place\":{\"time\":14.2}},{\"size\":524288,\"out_of_place\":null,"
        "\"in_place\":{\"time\":21.5}}],\"end_time\":\"y\"}",
        NULL);

    (void)state;
    assert_int_equal(set->n, 2);
    assert_string_equal(set->rows[0].coll, "all_to_all");
    assert_int_equal(set->rows[0].ranks, 4);
    assert_true(fabs(set->rows[0].latency_us - 14.01) < 1e-9);
    assert_true(fabs(set->rows[1].latency_us - 21.5) < 1e-9);
    data_free(set);
}

static struct accuracy *accuracy_of_text(const char *text, struct hw_profile **profile,
                                         struct data_set **set)
{
    struct accuracy *a = NULL;

    assert_int_equal(hw_profile_read("h200", profile), 0);
    *set = parsed(text, NULL);
    assert_int_equal(accuracy_open(*profile, *set, &a), 0);
    return a;
}

static void test_counts_what_it_leaves_aside(void **state)
{
    struct hw_profile *p;
    struct data_set *set;
    struct accuracy *a =
        accuracy_of_text(LL_HEADER GOOD "h100,1,8,7168,256,8,64,dispatch,fp8,3793408,24.6\n"
                                        "h200,1,8,7168,256,8,4096,dispatch,fp8,242778112,900\n",
                         &p, &set);

    (void)state;
    assert_int_equal(a->n, 2);
    assert_int_equal(a->other, 1);
    assert_int_equal(a->outside, 1); /* 4096 tokens: fitted up to 1024 */
    assert_int_equal(a->num_laws, 1);
    assert_int_equal(a->num_groups, 1);
    accuracy_free(a);
    data_free(set);
    hw_profile_free(p);
}

static void test_hopper_rows_go_with_h100_and_h200(void **state)
{
    struct hw_profile *p;

    (void)state;
    assert_int_equal(hw_profile_read("h100", &p), 0);
    assert_true(predict_system(p, "hopper"));
    assert_true(predict_system(p, "h100"));
    assert_true(predict_system(p, ""));
    assert_false(predict_system(p, "h200"));
    hw_profile_free(p);
    assert_int_equal(hw_profile_read("h200", &p), 0);
    assert_true(predict_system(p, "hopper"));
    hw_profile_free(p);
    assert_int_equal(hw_profile_read("h800", &p), 0);
    assert_false(predict_system(p, "hopper"));
    hw_profile_free(p);
}

static void test_rows_file_has_a_line_per_prediction(void **state)
{
    struct hw_profile *p;
    struct data_set *set, *none = NULL;
    struct accuracy *a = accuracy_of_text(LL_HEADER GOOD, &p, &set);
    char path[] = "/tmp/test_accuracy_XXXXXX", line[512];
    int fd = mkstemp(path), lines = 0;
    FILE *f;

    (void)state;
    (void)none;
    close(fd);
    assert_int_equal(accuracy_write_rows(&a, 1, path), 0);
    f = fopen(path, "r");
    while (fgets(line, sizeof line, f))
        lines++;
    fclose(f);
    unlink(path);
    assert_int_equal(lines, 2);
    CHECK_FAILS(accuracy_write_rows(&a, 1, "/no/such/folder/rows.csv"), ERR_IO, "/no/such/folder");
    accuracy_free(a);
    data_free(set);
    hw_profile_free(p);
}

/* Ten thousand rows in under a second, with room for a slow machine and sanitizers. */
static void test_ten_thousand_rows_are_quick(void **state)
{
    struct text *t = calloc(1, sizeof *t);
    struct hw_profile *p = NULL;
    struct data_set *set;
    struct accuracy *a = NULL;
    struct timespec t0, t1;
    double seconds;

    (void)state;
    assert_int_equal(hw_profile_read("h200", &p), 0);
    text_add(t, "system,dtype,m,n,k,latency_us\n");
    for (int i = 0; t->len < sizeof t->buf - 64; i++)
        text_add(t, "h200,bfloat16,%d,%d,%d,9\n", 8 + i % 97, 128 + i, 256 + i % 89);
    clock_gettime(CLOCK_MONOTONIC, &t0);
    set = text_parse(t);
    assert_int_equal(accuracy_open(p, set, &a), 0);
    clock_gettime(CLOCK_MONOTONIC, &t1);
    seconds = (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec);
    print_message("%zu rows in %.3f s\n", a->n, seconds);
    assert_true(seconds / (double)a->n * 1e4 < 5);
    accuracy_free(a);
    data_free(set);
    free(t);
    hw_profile_free(p);
}

static void test_public_files_are_recognised(void **state)
{
    static const struct {
        const char *file, *format;
    } files[] = {{"deepep_ll.csv", "deepep_ll"},
                 {"deepep_normal.csv", "deepep_normal"},
                 {"deepep_readme.csv", "deepep_readme"},
                 {"grouped_gemm.csv", "grouped_gemm"},
                 {"moe_ffn_masked.csv", "moe_ffn_masked"},
                 {"gemm.csv", "gemm"},
                 {"nccl.csv", "nccl"}};
    char path[512];

    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct data_set *set = NULL;

        if (!data_path(files[i].file, path, sizeof path))
            skip();
        assert_int_equal(data_read(path, NULL, false, &set), 0);
        assert_string_equal(set->format, files[i].format);
        assert_int_equal(set->bad, 0);
        data_free(set);
    }
}

static void test_versions_before_the_header(void **state)
{
    struct data_set *set = parsed("# gpus: 2 x H200\r\n# driver: 580.1\r\n# nccl: 2.28.9\n"
                                  "# commit: 0123456789012345678901234567890123456789"
                                  "0123456789\n" LL_HEADER GOOD "# cuda: 13.0\n",
                                  NULL);

    (void)state;
    assert_int_equal(set->n, 1);
    assert_string_equal(set->versions.driver, "580.1");
    assert_string_equal(set->versions.nccl, "2.28.9");
    assert_string_equal(set->versions.cuda, "");
    assert_int_equal(strlen(set->versions.commit), sizeof set->versions.commit - 1);
    data_free(set);
}

static int cell(const struct csv *csv, size_t row, const char *col)
{
    return atoi(csv_at(csv, row, csv_col(csv, col)));
}

/* Every configuration that DeepGEMM 2.6.1 printed on H200. */
static void test_deepgemm_picks_the_same_tiles(void **state)
{
    struct csv *csv = NULL;
    char path[512];
    size_t compared = 0;

    (void)state;
    if (!data_path("deepgemm_h200_tiles.csv", path, sizeof path))
        skip();
    assert_int_equal(csv_read(path, 1 << 20, &csv), 0);
    for (size_t i = 0; i < csv->num_rows; i++) {
        bool masked = strstr(csv_at(csv, i, csv_col(csv, "gemm_type")), "masked") != NULL;
        bool bf16 = strcmp(csv_at(csv, i, csv_col(csv, "dtype")), "bf16") == 0;
        struct law_grouped in = {.layout = masked ? GEMM_MASKED : GEMM_CONTIGUOUS,
                                 .dtype = bf16 ? DTYPE_BF16 : DTYPE_FP8,
                                 .groups = cell(csv, i, "groups"),
                                 .n = cell(csv, i, "n"),
                                 .k = cell(csv, i, "k"),
                                 .sms = cell(csv, i, "num_sms")};
        struct law_tile t = law_deepgemm_tile(&in, cell(csv, i, "expected_m"));

        assert_int_equal(t.m, cell(csv, i, "block_m"));
        assert_int_equal(t.n, cell(csv, i, "block_n"));
        assert_int_equal(t.cluster_m, cell(csv, i, "cluster_m"));
        assert_int_equal(t.cluster_n, cell(csv, i, "cluster_n"));
        compared++;
    }
    assert_true(compared > 1000);
    csv_free(csv);
}

#define DEEPGEMM_HEADER                                                                            \
    "system,kernel,dtype,groups,n,k,mean_rows,distribution,rows_sum,rows_max,blocks64,blocks128,"  \
    "num_sms,latency_us,p10_us,p90_us,note\n"

/* Rows that fill as many blocks as stated; calls with a warm L2 and empty ones have no law. */
static void test_deepgemm_rows_fill_their_blocks(void **state)
{
    static const char text[] =
        DEEPGEMM_HEADER "H200,m_grouped_fp8_gemm_nt_masked,fp8,4,4096,7168,64,multinomial,256,130,"
                        "6,5,132,40,39,41,seed=0 cfg=x\n"
                        "H200,m_grouped_fp8_gemm_nt_masked,fp8,4,4096,7168,64,exact,256,64,4,4,132,"
                        "30,29,31,no flush: same buffers\n"
                        "H200,m_grouped_bf16_gemm_nt_contiguous,bf16,1,4096,7168,128,exact,128,128,"
                        "2,1,132,30,29,31,sustained back-to-back graph\n";
    struct data_set *set = NULL;
    int sum = 0, of64 = 0, of128 = 0;

    (void)state;
    assert_int_equal(parse(text, true, &set), 0);
    assert_string_equal(set->format, "deepgemm");
    assert_int_equal(set->n, 3);
    assert_int_equal(set->rows[1].law, DATA_SHOWN);
    for (int i = 0; i < 4; i++) {
        sum += set->rows[0].expert_rows[i];
        of64 += (set->rows[0].expert_rows[i] + 63) / 64;
        of128 += (set->rows[0].expert_rows[i] + 127) / 128;
    }
    assert_int_equal(sum, 256);
    assert_int_equal(of64, 6);
    assert_int_equal(of128, 5);
    assert_true(fabs(set->rows[0].latency_us - 36.9) < 1e-9);
    assert_string_equal(set->rows[0].system, "h200");
    assert_true(set->rows[2].sustained && set->rows[2].dtype == DTYPE_BF16);
    assert_true(fabs(set->rows[2].latency_us - 29.4) < 1e-9);
    data_free(set);
}

static const struct data_row *row_of(const struct data_set *set, const char *coll, int round)
{
    for (size_t i = 0; i < set->n; i++)
        if (strcmp(set->rows[i].coll, coll) == 0 && set->rows[i].round == round)
            return &set->rows[i];
    return NULL;
}

/* A receive behind a send that ran beside a GEMM waits for the slowest rank's send: less, the later
 * it begins. A combine receive waits for ranks whose experts have more rows; the quickest replay is
 * also a row of its own, without a wait, for the fit. */
static void test_receives_of_peo_wait_for_peers(void **state)
{
    static const char text[] =
        "shape,tokens_per_rank,schedule,num_rounds,sms,replay,kernel,stream,start_us,dur_us\n"
        "dpsk64,128,peo-2,2,16,1,dispatch,7,0,22\ndpsk64,128,peo-2,2,16,1,dispatch,7,23,9\n"
        "dpsk64,128,peo-2,2,16,1,dispatch,7,33,36\ndpsk64,128,peo-2,2,16,1,gemm,9,33.3,91\n"
        "dpsk64,128,peo-2,2,16,1,dispatch,7,70,32\ndpsk64,128,peo-2,2,16,1,silu,9,125,4\n"
        "dpsk64,128,peo-2,2,16,1,gemm,9,130,46\ndpsk64,128,peo-2,2,16,1,combine,7,177,43\n"
        "dpsk64,128,peo-2,2,16,1,gemm,9,177.2,87\ndpsk64,128,peo-2,2,16,1,silu,9,265,4\n"
        "dpsk64,128,peo-2,2,16,1,gemm,9,270,45\ndpsk64,128,peo-2,2,16,1,combine,7,316,28\n"
        "dpsk64,128,peo-2,2,16,1,combine,7,345,25\n";
    struct hw_profile *p = NULL;
    struct data_set *set = NULL;
    const struct data_row *first, *second, *combine, *quick;
    struct predictor of;
    struct data_row later;

    (void)state;
    assert_int_equal(parse(text, false, &set), 0);
    assert_int_equal(hw_profile_read("h200", &p), 0);
    predictor_init(&of, p);
    first = row_of(set, "dispatch_recv", 0);
    second = row_of(set, "dispatch_recv", 1);
    combine = row_of(set, "combine_recv", 0);
    quick = row_of(set, "combine_quick", 0);
    assert_true(first && second && combine && quick);
    assert_true(first->since_us == 0 && first->reference && !second->reference);
    assert_true(fabs(second->since_us - 37) < 1e-9);
    later = *second;
    later.since_us += 5;
    assert_true(fabs(predict_us(&of, second) - predict_us(&of, &later) - 5) < 1e-6);
    later.since_us += 1000;
    assert_true(predict_us(&of, &later) < predict_us(&of, second));
    assert_true(!combine->reference && quick->reference && combine->gemm_sms == 116);
    assert_true(predict_us(&of, combine) > predict_us(&of, quick) + 3);
    hw_profile_free(p);
    data_free(set);
}

/* Fused layers and split ones of public threads that state GPU, EP and model. */
static void test_public_layers_are_held(void **state)
{
    static const struct {
        const char *profile;
        enum data_law law;
        size_t rows;
        double median, p90;
    } bars[] = {{"h20", DATA_MEGA, 20, 0.10, 0.20},
                {"h20", DATA_SPLIT, 20, 0.06, 0.20},
                {"b200", DATA_MEGA, 8, 0.10, 0.20},
                {"gb200", DATA_MEGA, 5, 0.10, 0.20}};
    struct data_set *set = NULL;
    char path[512];

    (void)state;
    if (!data_path("public_megamoe.csv", path, sizeof path))
        skip();
    assert_int_equal(data_read(path, NULL, false, &set), 0);
    for (size_t i = 0; i < sizeof bars / sizeof *bars; i++) {
        struct hw_profile *profile;
        struct accuracy *a;
        int found = 0;

        assert_int_equal(hw_profile_read(bars[i].profile, &profile), 0);
        assert_int_equal(accuracy_open(profile, set, &a), 0);
        for (int l = 0; l < a->num_laws; l++) {
            const struct stats_error *e = &a->law[l].err;

            if (a->law[l].law != bars[i].law)
                continue;
            found++;
            assert_int_equal(e->n, bars[i].rows);
            if (e->median_ape > bars[i].median || e->p90_ape > bars[i].p90)
                fail_msg("%s %s: %.3f / %.3f", bars[i].profile, data_law_name(bars[i].law),
                         e->median_ape, e->p90_ape);
        }
        assert_int_equal(found, 1);
        if (strcmp(bars[i].profile, "h20") == 0) {
            assert_int_equal(a->pairs, 18);
            assert_true(a->pairs_right >= 0.95 * a->pairs);
        }
        accuracy_free(a);
        hw_profile_free(profile);
    }
    data_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_rows_are_named_and_skipped),
        cmocka_unit_test(test_another_unit_is_noticed),
        cmocka_unit_test(test_versions_before_the_header),
        cmocka_unit_test(test_files_without_rows_or_format),
        cmocka_unit_test(test_crlf_and_quotes),
        cmocka_unit_test(test_reads_deepep_low_latency_log),
        cmocka_unit_test(test_reads_deepep_normal_logs),
        cmocka_unit_test(test_another_unit_is_noticed_at_the_ends),
        cmocka_unit_test(test_many_bad_rows_are_all_named),
        cmocka_unit_test(test_reads_nccl_tests_without_header),
        cmocka_unit_test(test_reads_nccl_tests_table),
        cmocka_unit_test(test_reads_nccl_tests_json),
        cmocka_unit_test(test_counts_what_it_leaves_aside),
        cmocka_unit_test(test_hopper_rows_go_with_h100_and_h200),
        cmocka_unit_test(test_rows_file_has_a_line_per_prediction),
        cmocka_unit_test(test_ten_thousand_rows_are_quick),
        cmocka_unit_test(test_public_files_are_recognised),
        cmocka_unit_test(test_deepgemm_picks_the_same_tiles),
        cmocka_unit_test(test_deepgemm_rows_fill_their_blocks),
        cmocka_unit_test(test_receives_of_peo_wait_for_peers),
        cmocka_unit_test(test_public_layers_are_held),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
