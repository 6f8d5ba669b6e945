#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/err.h"
#include "trace/chrome.h"

#define NEAR(a, b) assert_true(fabs((double)(a) - (double)(b)) < 1e-3)

static struct trace_log *log_of_ranks(int ranks, int slowest)
{
    struct trace_log *log = NULL;

    assert_int_equal(trace_log_new(&log, "sim"), 0);
    for (int rank = 0; rank < ranks; rank++) {
        for (int i = 0; i < 2; i++) {
            struct trace_record r = {.rank = rank,
                                     .stream = i,
                                     .op = i,
                                     .stream_name = i ? "compute" : "main",
                                     .label = i ? "gate_up_gemm[1]" : "dispatch_recv[1]",
                                     .kind = i ? "gate_up_gemm" : "dispatch_recv",
                                     .class_name = i ? "compute" : "comm",
                                     .round = 1,
                                     .ready_ns = 100,
                                     .start_ns = 1234.56 + 1000 * i,
                                     .end_ns = 2234.56 + 1000 * i + (rank == slowest),
                                     .wait_ns = 250,
                                     .sms = 24,
                                     .rows = 77,
                                     .bytes = 1e6,
                                     .cause = CAUSE_DEP,
                                     .cause_op = 0,
                                     .data_rank = 1,
                                     .data_op = 0,
                                     .part_ns = {[PART_NIC] = 250, [PART_SM] = 750}};

            assert_int_equal(trace_log_add(log, &r), 0);
        }
    }
    return log;
}

static char *written(const struct trace_log *log, const char *title,
                     const struct trace_chrome_opts *opts)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    assert_non_null(f);
    assert_int_equal(trace_chrome_write(log, f, title, opts), 0);
    assert_int_equal(fclose(f), 0);
    return text;
}

static json_t *parsed(const char *text)
{
    json_error_t e;
    json_t *root = json_loads(text, 0, &e);

    if (!root)
        fail_msg("%s at %d", e.text, e.position);
    return root;
}

static const json_t *find(const json_t *root, const char *ph, const char *name, int pid)
{
    const json_t *events = json_object_get(root, "traceEvents");

    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *e = json_array_get(events, i);

        if (!strcmp(json_string_value(json_object_get(e, "ph")), ph) &&
            !strcmp(json_string_value(json_object_get(e, "name")), name) &&
            json_integer_value(json_object_get(e, "pid")) == pid)
            return e;
    }
    return NULL;
}

static void perfetto_gets_what_it_needs(void **state)
{
    struct trace_log *log = log_of_ranks(2, 1);
    struct trace_counter c = {.rank = 1, .which = 0, .t_ns = 500, .value = 132};
    const json_t *e, *args;
    json_t *root;
    char *text;

    (void)state;
    assert_int_equal(trace_log_add_counter(log, &c), 0);
    text = written(log, "a \"title\"\n\\ \xff \xe2\x82\xac", NULL);
    root = parsed(text);
    e = find(root, "X", "gate_up_gemm[1]", 1);
    assert_non_null(e);
    assert_string_equal(json_string_value(json_object_get(e, "cat")), "compute");
    assert_int_equal(json_integer_value(json_object_get(e, "tid")), 1);
    NEAR(json_number_value(json_object_get(e, "ts")), 2.2346);
    NEAR(json_number_value(json_object_get(e, "dur")), 1.001);
    args = json_object_get(e, "args");
    assert_int_equal(json_integer_value(json_object_get(args, "sms")), 24);
    NEAR(json_number_value(json_object_get(args, "wait_us")), 0.25);
    assert_string_equal(json_string_value(json_object_get(args, "cause")), "dep");
    e = find(root, "M", "process_name", 1);
    assert_string_equal(json_string_value(json_object_get(json_object_get(e, "args"), "name")),
                        "rank 1 (slowest)");
    assert_non_null(find(root, "M", "thread_name", 0));
    e = find(root, "C", "SMs in use", 1);
    NEAR(json_number_value(json_object_get(json_object_get(e, "args"), "SMs")), 132);
    e = json_object_get(json_object_get(root, "otherData"), "title");
    assert_string_equal(json_string_value(e), "a \"title\"\n\\ \xef\xbf\xbd \xe2\x82\xac");
    json_decref(root);
    free(text);
    trace_log_free(log);
}

static size_t count_spans(const char *text)
{
    size_t n = 0;

    for (const char *at = text; (at = strstr(at, "\"ph\":\"X\"")); at++)
        n++;
    return n;
}

static void large_ep_writes_first_ranks_and_slowest(void **state)
{
    struct trace_log *log = log_of_ranks(64, 40);
    struct trace_chrome_opts all = {.all_ranks = true};
    char *few = written(log, NULL, NULL), *every = written(log, NULL, &all);

    (void)state;
    assert_int_equal(count_spans(few), 9 * 2);
    assert_non_null(strstr(few, "rank 40 (slowest)"));
    assert_int_equal(count_spans(every), 64 * 2);
    free(few);
    free(every);
    trace_log_free(log);
}

static void own_traces_are_read_back(void **state)
{
    struct trace_log *log = log_of_ranks(2, 0), *back = NULL;
    char *text = written(log, "t", NULL);
    const struct trace_record *r;

    (void)state;
    assert_int_equal(trace_chrome_parse(text, strlen(text), "t.json", NULL, &back), 0);
    assert_int_equal(back->num_records, 4);
    r = &back->records[3];
    assert_int_equal(r->rank, 1);
    assert_string_equal(r->label, "gate_up_gemm[1]");
    assert_string_equal(r->kind, "gate_up_gemm");
    assert_string_equal(r->stream_name, "compute");
    assert_true(fabs(r->start_ns - 2234.56) < 0.1);
    NEAR(r->ready_ns, 100);
    NEAR(r->wait_ns, 250);
    NEAR(r->part_ns[PART_NIC], 250);
    assert_int_equal(r->rows, 77);
    assert_int_equal(r->round, 1);
    assert_int_equal(r->cause, CAUSE_DEP);
    assert_int_equal(r->data_rank, 1);
    free(text);
    trace_log_free(log);
    trace_log_free(back);
}

static void merged_file_reads_as_its_first_trace(void **state)
{
    struct trace_log *log = log_of_ranks(2, 0), *back = NULL;
    struct trace_chrome c;
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    json_t *root;

    (void)state;
    trace_chrome_begin(&c, f, "both", NULL);
    trace_chrome_add(&c, log, "predicted");
    trace_chrome_add(&c, log, "measured");
    assert_int_equal(trace_chrome_end(&c), 0);
    fclose(f);
    root = parsed(text);
    assert_non_null(find(root, "X", "gate_up_gemm[1]", TRACE_CHROME_STRIDE + 1));
    assert_non_null(strstr(text, "measured rank 1"));
    assert_int_equal(trace_chrome_parse(text, len, "t.json", NULL, &back), 0);
    assert_int_equal(back->num_records, 4);
    json_decref(root);
    free(text);
    trace_log_free(log);
    trace_log_free(back);
}

/* As torch.profiler writes it: CPU ops and kernels, absolute times, the rank beside them. */
static const char torch_trace[] =
    "{\"schemaVersion\": 1, \"deviceProperties\": [{\"id\": 0, \"numSms\": 132}],\n"
    "\"distributedInfo\": {\"backend\": \"nccl\", \"rank\": 3, \"world_size\": 4},\n"
    "\"traceEvents\": [\n"
    "{\"ph\":\"X\",\"cat\":\"cpu_op\",\"name\":\"aten::mm\",\"pid\":4711,\"tid\":4711,\"ts\":1000,"
    "\"dur\":50},\n"
    "{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"void deep_ep::internode_ll::dispatch<true>(int)\","
    "\"pid\":3,\"tid\":7,\"ts\":1010.5,\"dur\":20.25,\"args\":{\"stream\":7}},\n"
    "{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"fp8_gemm\",\"pid\":3,\"tid\":8,\"ts\":1040,"
    "\"dur\":30},\n"
    "{\"ph\":\"i\",\"name\":\"mark\",\"pid\":3,\"tid\":7,\"ts\":1,\"s\":\"t\"},\n"
    "{\"ph\":\"X\",\"cat\":\"Trace\",\"name\":\"PyTorch Profiler (0)\",\"pid\":\"Spans\","
    "\"tid\":\"PyTorch Profiler\",\"ts\":1000,\"dur\":100}\n"
    "], \"traceName\": \"x\"}\n";

/* Mergers put all ranks into one file: numbers or labels tell them apart, the first file's own rank
 * does not stand for all. */
static void merged_ranks_stay_apart(void **state)
{
    static const char numbers[] =
        "{\"distributedInfo\":{\"rank\":0,\"world_size\":2},\"traceEvents\":["
        "{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"a\",\"pid\":0,\"tid\":7,\"ts\":10,\"dur\":3},"
        "{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"b\",\"pid\":1,\"tid\":7,\"ts\":11,\"dur\":4}]"
        "}";
    static const char labels[] =
        "{\"distributedInfo\":{\"rank\":1},\"traceEvents\":["
        "{\"ph\":\"X\",\"cat\":\"cpu_op\",\"name\":\"c\",\"pid\":\"Spans\",\"tid\":\"x\",\"ts\":1,"
        "\"dur\":3},"
        "{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"b\",\"pid\":\"[TP01] 4712\",\"tid\":\"stream "
        "9\","
        "\"ts\":11,\"dur\":4},"
        "{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"a\",\"pid\":\"[TP00] 0\",\"tid\":\"stream 7\","
        "\"ts\":10,\"dur\":3},"
        "{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"a2\",\"pid\":\"[TP00] 4711\",\"tid\":\"stream "
        "7\","
        "\"ts\":20,\"dur\":3}]}";
    struct trace_log *log = NULL;

    (void)state;
    assert_int_equal(trace_chrome_parse(numbers, strlen(numbers), "t", NULL, &log), 0);
    assert_int_equal(log->ranks, 2);
    assert_int_equal(log->records[1].rank, 1);
    trace_log_free(log);
    assert_int_equal(trace_chrome_parse(labels, strlen(labels), "t", NULL, &log), 0);
    assert_int_equal(log->num_records, 3);
    assert_int_equal(log->ranks, 2);
    assert_int_equal(log->records[0].rank, 1);
    assert_int_equal(log->records[0].stream, 9);
    assert_int_equal(log->records[1].rank, 0);
    assert_int_equal(log->records[2].rank, 0);
    trace_log_free(log);
}

static void torch_kernels_are_kept(void **state)
{
    struct trace_log *log = NULL;

    (void)state;
    assert_int_equal(trace_chrome_parse(torch_trace, strlen(torch_trace), "t", NULL, &log), 0);
    assert_int_equal(log->num_records, 2);
    assert_string_equal(log->backend, "torch");
    assert_int_equal(log->records[0].rank, 3);
    NEAR(log->records[0].start_ns, 0);
    NEAR(log->records[1].end_ns, 59500);
    assert_string_equal(log->records[1].class_name, "other");
    trace_log_free(log);
}

static void map_filters_and_names_kernels(void **state)
{
    struct trace_map map;
    struct trace_log *log = NULL;

    (void)state;
    assert_int_equal(trace_map_parse("*internode_ll::dispatch*=dispatch,foo=combine", &map), 0);
    assert_int_equal(trace_chrome_parse(torch_trace, strlen(torch_trace), "t", &map, &log), 0);
    assert_int_equal(log->num_records, 1);
    assert_string_equal(log->records[0].kind, "dispatch");
    assert_string_equal(log->records[0].class_name, "comm");
    trace_log_free(log);
    trace_map_free(&map);
    assert_int_equal(trace_map_parse("a=nope", &map), ERR_USAGE);
    assert_int_equal(trace_map_parse("dispatch", &map), ERR_USAGE);
    assert_int_equal(trace_map_parse("a=dispatch,=combine", &map), ERR_USAGE);
}

static int parse(const char *text)
{
    struct trace_log *log = NULL;
    int err = trace_chrome_parse(text, strlen(text), "t.json", NULL, &log);

    trace_log_free(log);
    return err;
}

static void bad_files_are_errors(void **state)
{
    (void)state;
    assert_int_equal(parse("{}"), ERR_PARSE);
    assert_int_equal(parse("{\"a\": 1}"), ERR_PARSE);
    assert_int_equal(parse("[1]"), ERR_PARSE);
    assert_int_equal(parse("{\"traceEvents\": {}}"), ERR_PARSE);
    assert_int_equal(parse("{\"traceEvents\": [{\"ph\":\"X\"}]}"), ERR_PARSE);
    assert_int_equal(parse("{\"traceEvents\": []}"), 0);
    assert_int_equal(parse("[]"), 0);
    assert_int_equal(parse("{\"traceEvents\": [{\"ph\":\"X\",\"ts\":1,\"dur\":-1}]}"), ERR_PARSE);
}

static void every_cut_is_noticed(void **state)
{
    char cut[sizeof torch_trace];
    size_t end = strlen(torch_trace) - 1; /* the newline may go */

    (void)state;
    for (size_t n = 1; n < end; n += 7) {
        memcpy(cut, torch_trace, n);
        cut[n] = 0;
        assert_int_equal(parse(cut), ERR_PARSE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(perfetto_gets_what_it_needs),
        cmocka_unit_test(large_ep_writes_first_ranks_and_slowest),
        cmocka_unit_test(own_traces_are_read_back),
        cmocka_unit_test(merged_file_reads_as_its_first_trace),
        cmocka_unit_test(torch_kernels_are_kept),
        cmocka_unit_test(merged_ranks_stay_apart),
        cmocka_unit_test(map_filters_and_names_kernels),
        cmocka_unit_test(bad_files_are_errors),
        cmocka_unit_test(every_cut_is_noticed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
