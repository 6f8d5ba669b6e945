#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "trace/trace.h"

#define NEAR(a, b) assert_true(fabs((a) - (b)) < 1e-3)

/* A plan of up to 8 ops by hand: what trace_measure reads of it. */
struct fixture {
    struct plan plan;
    struct plan_op ops[8];
    struct trace *trace;
    struct trace_sink sink;
};

static int setup(void **state)
{
    static struct fixture f;

    f = (struct fixture){
        .plan = {
            .ranks = 2, .num_sms = 100, .ranks_per_node = 1, .num_layers = 1, .period_layers = 1}};
    f.plan.ops = f.ops;
    assert_int_equal(trace_new(&f.trace, "sim", 2), 0);
    f.sink = trace_collect(f.trace);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    trace_free(((struct fixture *)*state)->trace);
    return 0;
}

static int add_op(struct fixture *f, enum plan_op_kind kind, int stream, int layer)
{
    f->ops[f->plan.num_ops] = (struct plan_op){.kind = kind, .stream = stream, .layer = layer};
    return f->plan.num_ops++;
}

static struct trace_span span(int rank, int op, double start_ns, double end_ns)
{
    return (struct trace_span){.rank = rank,
                               .op = op,
                               .ready_ns = start_ns,
                               .start_ns = start_ns,
                               .end_ns = end_ns,
                               .sms = 100,
                               .cause = CAUSE_START,
                               .cause_op = -1,
                               .data_rank = -1,
                               .data_op = -1,
                               .part_ns = {[PART_SM] = (float)(end_ns - start_ns)}};
}

static void put(struct fixture *f, struct trace_span s)
{
    assert_int_equal(f->sink.span(f->sink.self, &s), 0);
}

static double path_sum(const struct trace_metrics *x)
{
    double sum = x->launch_ns;

    for (int p = 0; p < PART_COUNT; p++)
        sum += x->part_ns[p];
    return sum;
}

static void one_op_alone(void **state)
{
    struct fixture *f = *state;
    struct trace_metrics x;

    add_op(f, OP_GEMM_UP, 0, 0);
    put(f, span(0, 0, 0, 1000));
    put(f, span(1, 0, 0, 500));
    assert_int_equal(trace_measure(f->trace, &f->plan, &x), 0);
    NEAR(x.layer_ns, 1000);
    assert_int_equal(x.slowest_rank, 0);
    NEAR(x.sm_util, 0.75);
    NEAR(x.compute_ns, 1000);
    NEAR(x.comm_ns, 0);
    NEAR(x.exposed_comm_ns, 0);
    NEAR(x.part_ns[PART_SM], 1000);
    NEAR(x.launch_ns, 0);
}

static void ops_in_series_leave_launch_gaps(void **state)
{
    struct fixture *f = *state;
    struct trace_metrics x;

    for (int i = 0; i < 5; i++) {
        struct trace_span s = span(1, add_op(f, OP_GEMM_UP, 0, 0), i * 1100, i * 1100 + 1000);

        if (i)
            s.cause = CAUSE_STREAM, s.cause_op = i - 1;
        put(f, s);
    }
    assert_int_equal(trace_measure(f->trace, &f->plan, &x), 0);
    NEAR(x.layer_ns, 5400);
    assert_int_equal(x.slowest_rank, 1);
    NEAR(x.launch_ns, 400);
    NEAR(x.part_ns[PART_SM], 5000);
    NEAR(path_sum(&x), x.layer_ns);
}

static void exposed_is_comm_without_compute(void **state)
{
    struct fixture *f = *state;
    struct trace_metrics x;

    add_op(f, OP_DISPATCH, 0, 0);
    add_op(f, OP_GEMM_UP, 1, 0);
    add_op(f, OP_ALL_REDUCE, 2, 0);
    add_op(f, OP_GEMM_DOWN, 1, 0);
    put(f, span(0, 0, 0, 400));    /* comm 0..400 */
    put(f, span(0, 1, 300, 600));  /* compute 300..600 */
    put(f, span(0, 2, 500, 1000)); /* coll 500..1000 */
    put(f, span(0, 3, 700, 800));  /* compute 700..800 */
    assert_int_equal(trace_measure(f->trace, &f->plan, &x), 0);
    NEAR(x.comm_ns, 900);
    NEAR(x.compute_ns, 400);
    NEAR(x.exposed_comm_ns, 300 + 100 + 200);
}

static void perfect_overlap_exposes_nothing(void **state)
{
    struct fixture *f = *state;
    struct trace_metrics x;

    add_op(f, OP_DISPATCH, 0, 0);
    add_op(f, OP_GEMM_UP, 1, 0);
    put(f, span(0, 0, 0, 1000));
    put(f, span(0, 1, 0, 1000));
    assert_int_equal(trace_measure(f->trace, &f->plan, &x), 0);
    NEAR(x.layer_ns, 1000);
    NEAR(x.exposed_comm_ns, 0);
}

static void steady_period_is_per_layer(void **state)
{
    struct fixture *f = *state;
    struct trace_metrics x;

    f->plan.num_layers = 5;
    f->plan.period_layers = 2;
    for (int i = 0; i < 5; i++) {
        static const double end_ns[] = {5000, 6000, 7500, 9000, 9100};
        struct trace_span s =
            span(0, add_op(f, OP_GEMM_UP, 0, i), i ? end_ns[i - 1] : 0, end_ns[i]);

        if (i)
            s.cause = CAUSE_STREAM, s.cause_op = i - 1;
        put(f, s);
    }
    assert_int_equal(trace_measure(f->trace, &f->plan, &x), 0);
    NEAR(x.layer_ns, 1500); /* (9000 - 6000) / 2: neither the first nor the last layer */
    NEAR(x.compute_ns, 1500);
    NEAR(x.part_ns[PART_SM], 1500);
    NEAR(path_sum(&x), x.layer_ns);
}

/* rank 1: gemm 0..2000, send 2100..3000; rank 0: recv 100..6000 waits for it, bytes fly to 5500. */
static void path_follows_data_to_the_sender(void **state)
{
    struct fixture *f = *state;
    struct trace_metrics x;
    struct trace_span s;

    add_op(f, OP_GEMM_DOWN, 0, 0);
    add_op(f, OP_COMBINE_SEND, 0, 0);
    add_op(f, OP_COMBINE_RECV, 0, 0);
    put(f, span(1, 0, 0, 2000));
    s = span(1, 1, 2100, 3000);
    s.cause = CAUSE_STREAM, s.cause_op = 0;
    put(f, s);
    s = span(0, 2, 100, 6000);
    s.wait_ns = 5400;
    s.data_rank = 1, s.data_op = 1;
    memset(s.part_ns, 0, sizeof s.part_ns);
    s.part_ns[PART_WAIT] = 2900;
    s.part_ns[PART_NIC] = 2500;
    s.part_ns[PART_HBM] = 500;
    put(f, s);
    assert_int_equal(trace_measure(f->trace, &f->plan, &x), 0);
    NEAR(x.layer_ns, 6000);
    NEAR(x.part_ns[PART_HBM], 500);
    NEAR(x.part_ns[PART_NIC], 2500);
    NEAR(x.part_ns[PART_SM], 900 + 2000);
    NEAR(x.part_ns[PART_WAIT], 0); /* what it waited for stands there instead */
    NEAR(x.launch_ns, 100);
    NEAR(path_sum(&x), x.layer_ns);
}

/* The receive starts when the bytes have long been flying: the flight before it is the NIC's. */
static void path_books_flight_no_kernel_saw(void **state)
{
    struct fixture *f = *state;
    struct trace_metrics x;
    struct trace_span s;

    add_op(f, OP_DISPATCH_SEND, 0, 0);
    add_op(f, OP_DISPATCH_RECV, 0, 0);
    put(f, span(1, 0, 0, 1000));
    s = span(0, 1, 3000, 5500);
    s.wait_ns = 2000;
    s.data_rank = 1, s.data_op = 0;
    s.part_ns[PART_SM] = 500;
    s.part_ns[PART_NIC] = 2000;
    put(f, s);
    assert_int_equal(trace_measure(f->trace, &f->plan, &x), 0);
    NEAR(x.part_ns[PART_NIC], 4000);
    NEAR(x.part_ns[PART_SM], 1500);
    NEAR(path_sum(&x), 5500);
}

static void path_of_fused_ops_ends(void **state)
{
    struct fixture *f = *state;
    struct trace_metrics x;

    add_op(f, OP_DISPATCH, 0, 0);
    for (int r = 0; r < 2; r++) { /* each waits for the other */
        struct trace_span s = span(r, 0, r * 100, 1000);

        s.ready_ns = r * 100;
        s.wait_ns = 300;
        s.data_rank = 1 - r, s.data_op = 0;
        s.part_ns[PART_SM] = (float)(700 - r * 100);
        s.part_ns[PART_WAIT] = 300;
        put(f, s);
    }
    assert_int_equal(trace_measure(f->trace, &f->plan, &x), 0);
    NEAR(path_sum(&x), 1000);
    NEAR(x.part_ns[PART_WAIT], 100); /* rank 1's late start */
}

static void late_rank_start_is_a_wait(void **state)
{
    struct fixture *f = *state;
    struct trace_metrics x;
    struct trace_span s;

    add_op(f, OP_GEMM_UP, 0, 0);
    s = span(0, 0, 700, 1000);
    s.ready_ns = 600;
    put(f, s);
    assert_int_equal(trace_measure(f->trace, &f->plan, &x), 0);
    NEAR(x.layer_ns, 1000);
    NEAR(x.part_ns[PART_WAIT], 600);
    NEAR(x.launch_ns, 100);
}

static void measured_spans_find_their_predecessor(void **state)
{
    struct fixture *f = *state;
    struct trace_metrics x;

    for (int i = 0; i < 3; i++) {
        struct trace_span s = span(0, add_op(f, OP_GEMM_UP, i % 2, 0), i * 500, i * 500 + 450);

        s.cause = CAUSE_UNKNOWN;
        memset(s.part_ns, 0, sizeof s.part_ns);
        put(f, s);
    }
    assert_int_equal(trace_measure(f->trace, &f->plan, &x), 0);
    NEAR(x.part_ns[PART_SM], 3 * 450);
    NEAR(x.launch_ns, 100);
}

static void alien_and_missing_spans_are_errors(void **state)
{
    struct fixture *f = *state;
    struct trace_metrics x;

    add_op(f, OP_GEMM_UP, 0, 0);
    assert_int_equal(trace_measure(f->trace, &f->plan, &x), ERR_DATA);
    put(f, span(0, 5, 0, 1));
    assert_int_equal(trace_measure(f->trace, &f->plan, &x), ERR_DATA);
}

static void sorting_orders_rank_start_op(void **state)
{
    static const int op[] = {1, 2, 0, 0}, rank[] = {0, 0, 0, 1};
    struct fixture *f = *state;

    put(f, span(1, 0, 0, 10));
    put(f, span(0, 2, 5, 10));
    put(f, span(0, 1, 5, 10));
    put(f, span(0, 0, 7, 10));
    trace_sort(f->trace);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(f->trace->spans[i].op, op[i]);
        assert_int_equal(f->trace->spans[i].rank, rank[i]);
    }
}

static void last_counter_value_of_an_instant_stays(void **state)
{
    struct fixture *f = *state;
    struct trace_counter c = {.rank = 0, .which = 0, .t_ns = 5, .value = 9};
    struct trace_counter other = {.rank = 1, .which = 0, .t_ns = 5, .value = 4};

    assert_int_equal(f->sink.counter(f->sink.self, &c), 0);
    assert_int_equal(f->sink.counter(f->sink.self, &other), 0);
    c.value = 3;
    assert_int_equal(f->sink.counter(f->sink.self, &c), 0);
    assert_int_equal(f->trace->num_counters, 2);
    NEAR(f->trace->counters[0].value, 3);
}

static void names_are_never_null(void **state)
{
    (void)state;
    assert_string_equal(trace_part_name(PART_NVLINK), "nvlink");
    assert_string_equal(trace_part_name((enum trace_part)99), "unknown");
    assert_string_equal(trace_cause_name(CAUSE_SMS), "sms");
    assert_string_equal(trace_cause_name((enum trace_cause)99), "unknown");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(one_op_alone),
        T(ops_in_series_leave_launch_gaps),
        T(exposed_is_comm_without_compute),
        T(perfect_overlap_exposes_nothing),
        T(steady_period_is_per_layer),
        T(path_follows_data_to_the_sender),
        T(path_books_flight_no_kernel_saw),
        T(path_of_fused_ops_ends),
        T(late_rank_start_is_a_wait),
        T(measured_spans_find_their_predecessor),
        T(alien_and_missing_spans_are_errors),
        T(sorting_orders_rank_start_op),
        T(last_counter_value_of_an_instant_stays),
        T(names_are_never_null),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
