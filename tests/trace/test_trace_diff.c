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
#include "trace/diff.h"

#define NEAR(a, b) assert_true(fabs((double)(a) - (double)(b)) < 1e-6)

static const struct trace_diff_opts opts = {.tolerance_ns = 100, .tolerance_part = 0.01};

static struct trace_log *new_log(void)
{
    struct trace_log *log = NULL;

    assert_int_equal(trace_log_new(&log, "sim"), 0);
    return log;
}

static void add_wait(struct trace_log *log, int rank, int stream, const char *label, double start,
                     double end, double wait)
{
    char kind[64];
    struct trace_record r = {.rank = rank,
                             .stream = stream,
                             .op = (int)log->num_records,
                             .label = label,
                             .kind = kind,
                             .class_name = "compute",
                             .round = -1,
                             .ready_ns = start,
                             .start_ns = start,
                             .end_ns = end,
                             .wait_ns = wait,
                             .cause = CAUSE_UNKNOWN,
                             .cause_op = -1,
                             .data_rank = -1,
                             .data_op = -1};

    snprintf(kind, sizeof kind, "%.*s", (int)strcspn(label, "["), label);
    assert_int_equal(trace_log_add(log, &r), 0);
}

static void add(struct trace_log *log, int rank, int stream, const char *label, double start,
                double end)
{
    add_wait(log, rank, stream, label, start, end, 0);
}

static struct trace_diff *diff_of(struct trace_log *a, struct trace_log *b)
{
    struct trace_diff *d = NULL;

    trace_log_sort(a);
    trace_log_sort(b);
    assert_int_equal(trace_diff_new(&d, a, b, &opts), 0);
    return d;
}

static struct trace_diff_kind kind_of(const struct trace_diff *d, const char *kind)
{
    for (size_t i = 0; i < d->num_kinds; i++)
        if (!strcmp(d->kinds[i].kind, kind))
            return d->kinds[i];
    return (struct trace_diff_kind){0};
}

/* The promise of the header: the split leaves no rest. */
static void check_sum(const struct trace_diff *d)
{
    double sum = d->wait_ns + d->gap_ns + d->rank_ns;

    for (size_t i = 0; i < d->num_kinds; i++)
        sum += d->kinds[i].path_ns + d->kinds[i].only_ns + d->kinds[i].order_ns;
    NEAR(sum, d->b_ns - d->a_ns);
}

static void finish(struct trace_diff *d, struct trace_log *a, struct trace_log *b)
{
    check_sum(d);
    trace_diff_free(d);
    trace_log_free(a);
    trace_log_free(b);
}

static void a_trace_does_not_differ_from_itself(void **state)
{
    struct trace_log *a = new_log(), *b = new_log();
    struct trace_diff *d;

    (void)state;
    for (int r = 0; r < 3; r++) {
        add(a, r, 0, "up[0]", 0, 1000 + r);
        add(a, r, 0, "up[1]", 1100 + r, 2000);
        add(b, r, 0, "up[0]", 0, 1000 + r);
        add(b, r, 0, "up[1]", 1100 + r, 2000);
    }
    d = diff_of(a, b);
    assert_int_equal(d->matched, 6);
    assert_int_equal(d->first, DIVERGE_NONE);
    NEAR(d->b_ns - d->a_ns, 0);
    NEAR(d->gap_ns, 0);
    finish(d, a, b);
}

static void a_slower_kernel_is_found(void **state)
{
    struct trace_log *a = new_log(), *b = new_log();
    struct trace_diff *d;

    (void)state;
    add(a, 0, 0, "up", 0, 1000);
    add_wait(a, 0, 0, "recv", 1000, 2000, 600);
    add(a, 0, 0, "down", 2100, 3000);
    add(b, 0, 0, "up", 0, 1500);
    add_wait(b, 0, 0, "recv", 1500, 3000, 1000);
    add(b, 0, 0, "down", 3300, 4200);
    d = diff_of(a, b);
    NEAR(d->b_ns - d->a_ns, 1200);
    NEAR(kind_of(d, "up").path_ns, 500);
    NEAR(kind_of(d, "recv").path_ns, 100);
    NEAR(kind_of(d, "down").path_ns, 0);
    NEAR(d->wait_ns, 400);
    NEAR(d->gap_ns, 200);
    assert_int_equal(d->first, DIVERGE_DURATION);
    assert_string_equal(d->first_pair.a->label, "up");
    NEAR(d->first_ns, 500);
    finish(d, a, b);
}

static void a_late_start_is_the_first_divergence(void **state)
{
    struct trace_log *a = new_log(), *b = new_log();
    struct trace_diff *d;

    (void)state;
    add(a, 0, 0, "up", 0, 1000);
    add(a, 0, 0, "down", 1000, 2000);
    add(b, 0, 0, "up", 50, 1050);
    add(b, 0, 0, "down", 1500, 2500);
    d = diff_of(a, b);
    assert_int_equal(d->first, DIVERGE_START);
    assert_string_equal(d->first_pair.b->label, "down");
    NEAR(d->gap_ns, 500);
    finish(d, a, b);
}

static void ranks_of_one_trace_only_are_left_out(void **state)
{
    struct trace_log *a = new_log(), *b = new_log();
    struct trace_diff *d;

    (void)state;
    for (int rank = 0; rank < 4; rank++)
        add(a, rank, 0, "up", 0, 1000 + (rank == 3 ? 100 : 0));
    add(b, 0, 0, "up", 0, 1000);
    add(b, 2, 0, "up", 0, 1200);
    d = diff_of(a, b);
    assert_int_equal(d->ranks, 2);
    assert_int_equal(d->matched, 2);
    assert_int_equal(d->only_a, 0);
    NEAR(d->b_ns - d->a_ns, 100);
    NEAR(kind_of(d, "up").path_ns, 200);
    NEAR(d->rank_ns, -100);
    finish(d, a, b);
}

static void missing_spans_count_apart(void **state)
{
    struct trace_log *a = new_log(), *b = new_log();
    struct trace_diff *d;

    (void)state;
    add(a, 0, 0, "up", 0, 1000);
    add(b, 0, 0, "up", 0, 1000);
    add(b, 0, 0, "extra", 1000, 1700);
    d = diff_of(a, b);
    assert_int_equal(d->only_b, 1);
    assert_int_equal(d->first, DIVERGE_ONLY_B);
    NEAR(kind_of(d, "extra").only_ns, 700);
    finish(d, a, b);
}

static void other_path_is_order(void **state)
{
    struct trace_log *a = new_log(), *b = new_log();
    struct trace_diff *d;

    (void)state;
    add(a, 0, 0, "up", 0, 1000); /* A: up is longer; B: send on the other stream is */
    add(a, 0, 1, "send", 0, 400);
    add(b, 0, 0, "up", 0, 900);
    add(b, 0, 1, "send", 0, 1500);
    d = diff_of(a, b);
    NEAR(kind_of(d, "send").order_ns, 1500);
    NEAR(kind_of(d, "up").order_ns, -1000);
    finish(d, a, b);
}

static void swapped_ops_are_noticed(void **state)
{
    struct trace_log *a = new_log(), *b = new_log();
    struct trace_diff *d;

    (void)state;
    add(a, 0, 0, "w", 0, 100);
    add(a, 0, 0, "x", 100, 200);
    add(a, 0, 0, "y", 200, 300);
    add(b, 0, 0, "w", 0, 100);
    add(b, 0, 0, "y", 100, 200);
    add(b, 0, 0, "x", 200, 300);
    d = diff_of(a, b);
    assert_int_equal(d->first, DIVERGE_ORDER);
    assert_true(d->reordered >= 2);
    finish(d, a, b);
}

static void labels_pair_across_streams_and_kinds_across_labels(void **state)
{
    struct trace_log *a = new_log(), *b = new_log();
    struct trace_diff *d;

    (void)state;
    add(a, 0, 0, "send[0]", 0, 100);
    add(a, 0, 0, "send[1]", 100, 200);
    add(a, 0, 0, "up", 200, 300);
    add(b, 7, 20, "send", 0, 150); /* one rank each: rank 7 is rank 0 */
    add(b, 7, 20, "send", 150, 200);
    add(b, 7, 21, "up", 200, 300);
    d = diff_of(a, b);
    assert_int_equal(d->matched, 3);
    NEAR(kind_of(d, "send").path_ns, 0);
    finish(d, a, b);
}

static void another_slowest_rank_is_a_cause(void **state)
{
    struct trace_log *a = new_log(), *b = new_log();
    struct trace_diff *d;

    (void)state;
    add(a, 0, 0, "up", 0, 1000);
    add(a, 1, 0, "up", 0, 800);
    add(b, 0, 0, "up", 0, 1000);
    add(b, 1, 0, "up", 0, 1300);
    d = diff_of(a, b);
    NEAR(d->rank_ns, -200);
    NEAR(kind_of(d, "up").path_ns, 500);
    finish(d, a, b);
}

/* Random traces: whatever they hold, the split has no rest and nothing breaks. */
static void random_traces_split_without_rest(void **state)
{
    uint64_t x = 88172645463325252u;

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct trace_log *log[2] = {new_log(), new_log()};
        int causes = round % 2;

        for (int i = 0; i < 40; i++) {
            static const char *const names[] = {"up[0]", "up[1]", "down", "send", "recv"};
            double start, dur;

            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            start = (double)(x % 1000);
            dur = (double)((x >> 10) % 300);
            add_wait(log[(x >> 20) % 2], (x >> 21) % 2 ? 1 : 0, (int)((x >> 22) % 3),
                     names[(x >> 24) % 5], start, start + dur, (double)((x >> 32) % 400));
        }
        for (int s = 0; s < 2; s++) {
            add(log[s], 0, 0, "up[0]", 0, 1); /* a rank in common */
            add(log[s], 1, 0, "up[0]", 0, 1);
            for (size_t i = 0; causes && i < log[s]->num_records; i++) {
                log[s]->records[i].cause = i % 5 ? CAUSE_DEP : CAUSE_START;
                log[s]->records[i].cause_op = (int)(i * 7 % 45) - 2;
            }
        }
        finish(diff_of(log[0], log[1]), log[0], log[1]);
    }
}

static void traces_without_a_common_rank_are_refused(void **state)
{
    struct trace_log *a = new_log(), *b = new_log(), *none = new_log();
    struct trace_diff *d = NULL;

    (void)state;
    add(a, 0, 0, "up", 0, 1);
    add(a, 1, 0, "up", 0, 1);
    add(b, 2, 0, "up", 0, 1);
    add(b, 3, 0, "up", 0, 1);
    assert_int_equal(trace_diff_new(&d, a, b, &opts), ERR_DATA);
    assert_int_equal(trace_diff_new(&d, a, none, &opts), ERR_DATA);
    trace_log_free(a);
    trace_log_free(b);
    trace_log_free(none);
}

static void tables_and_json_are_written(void **state)
{
    struct trace_log *a = new_log(), *b = new_log();
    struct trace_diff *d;
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    json_t *root;

    (void)state;
    add(a, 0, 0, "up", 0, 1000);
    add(b, 0, 0, "up", 0, 1500);
    add(b, 0, 1, "void k<1, 2>(\"\xff\")", 0, 10);
    d = diff_of(a, b);
    assert_int_equal(trace_diff_print(d, "a.csv", "b.csv", f), 0);
    fflush(f);
    assert_non_null(strstr(text, "B - A: +0.50 us (+50.00%)"));
    assert_non_null(strstr(text, "work of up"));
    fclose(f);
    free(text);
    f = open_memstream(&text, &len);
    assert_int_equal(trace_diff_print_json(d, "a", "b", f), 0);
    fclose(f);
    root = json_loads(text, 0, NULL);
    assert_non_null(root);
    NEAR(json_number_value(json_object_get(root, "diff_us")), 0.5);
    json_decref(root);
    free(text);
    f = open_memstream(&text, &len);
    assert_int_equal(trace_diff_write_csv(d, f), 0);
    assert_int_equal(trace_diff_write_lanes(d, "A", "B", f), 0);
    fclose(f);
    assert_non_null(strstr(text, "0,0,up,up,0.0000,1.0000,0.0000,0.0000,1.5000,0.0000,0.5000\n"));
    assert_non_null(strstr(text, "\nA,0,0,"));
    free(text);
    finish(d, a, b);
}

/* 20,000 spans of a lane are no more boxes than a picture has pixels; the end stays. */
static void long_lanes_are_drawn(void **state)
{
    struct trace_log *a = new_log();
    struct trace_diff *d = NULL;
    char *text = NULL;
    size_t len = 0, lines = 0;
    FILE *f;

    (void)state;
    for (int i = 0; i < 20000; i++)
        add_wait(a, 0, 0, i % 3 ? "up" : "down", i * 100.0, i * 100.0 + 60, 0);
    trace_log_sort(a);
    assert_int_equal(trace_diff_new(&d, a, a, &opts), 0);
    f = open_memstream(&text, &len);
    assert_int_equal(trace_diff_write_lanes(d, "A", "B", f), 0);
    fclose(f);
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    assert_in_range(lines, 2 * 2000, 2 * 3001 + 1);
    assert_non_null(strstr(text, ",1999.9600,"));
    free(text);
    trace_diff_free(d);
    trace_log_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trace_does_not_differ_from_itself),
        cmocka_unit_test(a_slower_kernel_is_found),
        cmocka_unit_test(a_late_start_is_the_first_divergence),
        cmocka_unit_test(ranks_of_one_trace_only_are_left_out),
        cmocka_unit_test(missing_spans_count_apart),
        cmocka_unit_test(other_path_is_order),
        cmocka_unit_test(swapped_ops_are_noticed),
        cmocka_unit_test(labels_pair_across_streams_and_kinds_across_labels),
        cmocka_unit_test(another_slowest_rank_is_a_cause),
        cmocka_unit_test(random_traces_split_without_rest),
        cmocka_unit_test(traces_without_a_common_rank_are_refused),
        cmocka_unit_test(tables_and_json_are_written),
        cmocka_unit_test(long_lanes_are_drawn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
