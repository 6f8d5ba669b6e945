#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "trace/csv.h"

#define NEAR(a, b) assert_true(fabs((double)(a) - (double)(b)) < 1e-3)

static struct trace_record record(int rank, int op, const char *label, double start, double end)
{
    return (struct trace_record){.rank = rank,
                                 .stream = op % 2,
                                 .op = op,
                                 .stream_name = op % 2 ? "compute" : "main",
                                 .label = label,
                                 .kind = "down_gemm",
                                 .class_name = "compute",
                                 .layer = 1,
                                 .batch = 1,
                                 .round = 2,
                                 .ready_ns = start - 100,
                                 .start_ns = start,
                                 .end_ns = end,
                                 .wait_ns = 12.5,
                                 .sms = 24,
                                 .rows = 4096,
                                 .bytes = 1e9,
                                 .cause = CAUSE_SMS,
                                 .cause_op = 3,
                                 .data_rank = 5,
                                 .data_op = 6,
                                 .part_ns = {[PART_HBM] = 77, [PART_BLOCKED] = 1}};
}

static char *written(const struct trace_log *log, size_t *len)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, len);

    assert_non_null(f);
    assert_int_equal(trace_csv_write(log, f), 0);
    assert_int_equal(fclose(f), 0);
    return text;
}

static void what_is_written_is_read(void **state)
{
    struct trace_record a = record(0, 1, "down_gemm[2].B/L1", 1000, 2500.5);
    struct trace_record b = record(3, 2, "void k<int, \"x\">(float)", 2000, 2000);
    struct trace_log *log = NULL, *back = NULL;
    const struct trace_record *r;
    size_t len = 0;
    char *text;

    (void)state;
    assert_int_equal(trace_log_new(&log, "sim"), 0);
    assert_int_equal(trace_log_add(log, &a), 0);
    assert_int_equal(trace_log_add(log, &b), 0);
    text = written(log, &len);
    assert_int_equal(trace_csv_parse(text, len, "spans.csv", &back), 0);
    assert_int_equal(back->num_records, 2);
    assert_int_equal(back->ranks, 4);
    r = &back->records[0];
    assert_string_equal(r->label, a.label);
    assert_string_equal(r->stream_name, "compute");
    assert_string_equal(r->kind, "down_gemm");
    assert_string_equal(r->class_name, "compute");
    NEAR(r->ready_ns, 900);
    NEAR(r->start_ns, 1000);
    NEAR(r->end_ns, 2500.5);
    NEAR(r->wait_ns, 12.5);
    NEAR(r->part_ns[PART_HBM], 77);
    NEAR(r->bytes, 1e9);
    assert_int_equal(r->rows, 4096);
    assert_int_equal(r->round, 2);
    assert_int_equal(r->sms, 24);
    assert_int_equal(r->cause, CAUSE_SMS);
    assert_int_equal(r->cause_op, 3);
    assert_int_equal(r->data_rank, 5);
    assert_string_equal(back->records[1].label, b.label);
    free(text);
    text = written(back, &len);
    assert_int_equal(trace_log_slowest_rank(back), 0);
    free(text);
    trace_log_free(log);
    trace_log_free(back);
}

static int parse(const char *text)
{
    struct trace_log *log = NULL;
    int err = trace_csv_parse(text, strlen(text), "t.csv", &log);

    trace_log_free(log);
    return err;
}

static void few_columns_are_enough(void **state)
{
    (void)state;
    assert_int_equal(parse("rank,label,start_us,end_us\n0,a,1,2\n"), 0);
}

static void bad_files_are_errors(void **state)
{
    (void)state;
    assert_int_equal(parse("rank,label,start_us\n0,a,1\n"), ERR_PARSE);
    assert_int_equal(parse("rank,label,start_us,end_us\n0,a,1\n"), ERR_DATA);
    assert_int_equal(parse("rank,label,start_us,end_us\n0,a,2,1\n"), ERR_DATA);
    assert_int_equal(parse("rank,label,start_us,end_us\n0,a,x,1\n"), ERR_DATA);
    assert_int_equal(parse("rank,label,start_us,end_us\n-1,a,1,1\n"), ERR_DATA);
    assert_int_equal(parse("rank,label,start_us,end_us\n999999999,a,1,1\n"), ERR_DATA);
    assert_int_equal(parse("rank,label,start_us,end_us\n0,a,nan,1\n"), ERR_DATA);
}

static void counters_have_names(void **state)
{
    struct trace_counter c = {.rank = 1, .which = 2, .t_ns = 1500, .value = 46.25};
    struct trace_log *log = NULL;
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    (void)state;
    assert_int_equal(trace_log_new(&log, "sim"), 0);
    assert_int_equal(trace_log_add_counter(log, &c), 0);
    assert_int_equal(trace_csv_write_counters(log, f), 0);
    fclose(f);
    assert_string_equal(text, "rank,counter,t_us,value\n1,nic_egress_GBps,1.5000,46.25\n");
    assert_int_equal(trace_counter_find("nic_egress_GBps"), 2);
    assert_int_equal(trace_counter_find("nope"), -1);
    free(text);
    trace_log_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(few_columns_are_enough),
        cmocka_unit_test(bad_files_are_errors),
        cmocka_unit_test(counters_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
