/* sim/: closed forms with costs made up for the purpose, where every time is known beforehand. */
#include "tests/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "sim/sim.h"

enum { N = 100, OPS_MAX = 16 };
#define HBM 1000.0 /* GB/s = bytes per ns */

#define TEST_NVLINK    200.0
#define TEST_NVLINK_NS 600.0
#define TEST_NIC       50.0
#define TEST_NIC_NS    5000.0

static struct sim_topology_cfg test_topology(int ranks, int domain)
{
    return (struct sim_topology_cfg){.endpoints = (uint32_t)ranks,
                                     .per_node = (uint32_t)domain,
                                     .nvlink_GBps = TEST_NVLINK,
                                     .nvlink_latency_ns = TEST_NVLINK_NS,
                                     .nics_per_node = (uint32_t)domain,
                                     .nic_GBps = TEST_NIC,
                                     .nic_latency_ns = TEST_NIC_NS};
}

/* Costs by op index. */
struct made_up {
    struct cost_work work[OPS_MAX];
    double slow; /* interference of everything with everything */
};

static void made_up_work(void *self, const struct plan *plan, int rank, int op,
                         struct cost_work *out)
{
    (void)plan;
    (void)rank;
    *out = ((struct made_up *)self)->work[op];
}

static double made_up_interference(void *self, const struct plan *plan, int rank, int op, int other)
{
    (void)plan;
    (void)rank;
    (void)op;
    (void)other;
    return ((struct made_up *)self)->slow;
}

struct setup {
    struct plan *plan;
    struct made_up costs;
    struct cost cost;
    struct sim_topology_cfg topo;
    struct sim_options options;
    struct trace *trace;
    int32_t expert[64];
    struct plan_routing routing;
};

/* W ranks, one expert each; every rank's token 0 goes to expert (rank + 1) % W. */
static void setup_open(struct setup *s, int W, int domain)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < W; i++)
        s->expert[i] = (i + 1) % W;
    s->routing = (struct plan_routing){
        .ranks = W, .tokens = 1, .topk = 1, .experts = W, .expert = s->expert};
    assert_int_equal(plan_new(&s->plan, W, W, N), 0);
    assert_int_equal(plan_batch_add(s->plan, &s->routing, 0, 1), 0);
    s->costs.slow = 1;
    s->cost = (struct cost){.self = &s->costs,
                            .hbm_GBps = HBM,
                            .work = made_up_work,
                            .interference = made_up_interference};
    s->options.counter_rank = -1;
    s->topo = test_topology(W, domain);
}

static void setup_close(struct setup *s)
{
    trace_free(s->trace);
    plan_free(s->plan);
}

static int op_add(struct setup *s, int stream, int sms, double fixed_ns, double sm_ns, double bytes)
{
    struct plan_op op = {.kind = OP_MLP_UP,
                         .stream = stream,
                         .sms = sms,
                         .num_rounds = 1,
                         .rows = 1,
                         .n = 1,
                         .k = 1};
    int i = plan_op_add(s->plan, &op);

    s->costs.work[i] = (struct cost_work){
        .grid = sms, .head = {fixed_ns, sm_ns, bytes}, .hbm_GBps = HBM, .waves = 1};
    return i;
}

static int simulate(struct setup *s)
{
    struct trace_sink sink;

    trace_free(s->trace);
    s->trace = NULL;
    assert_int_equal(plan_check(s->plan), 0);
    assert_int_equal(trace_new(&s->trace, "sim", s->plan->ranks), 0);
    sink = trace_collect(s->trace);
    return sim_run(s->plan, &s->cost, &s->topo, &s->options, &sink, NULL);
}

static const struct trace_span *span(const struct setup *s, int rank, int op)
{
    for (size_t i = 0; i < s->trace->num_spans; i++)
        if (s->trace->spans[i].rank == rank && s->trace->spans[i].op == op)
            return &s->trace->spans[i];
    fail_msg("op %d of rank %d left no span", op, rank);
    return NULL;
}

static void near_to(double a, double b)
{
    if (fabs(a - b) > 1e-9 * fmax(1, fabs(b)))
        fail_msg("%.12g is not %.12g", a, b);
}

static void test_one_kernel_alone_is_its_cost(void **state)
{
    struct setup s;

    (void)state;
    setup_open(&s, 1, 1);
    plan_stream_add(s.plan, "main", 0);
    op_add(&s, 0, N, 1000, 5000, 1e6); /* bytes would take 1000 ns: SMs decide */
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 0)->end_ns, 6000);
    s.costs.work[0].head.hbm_bytes = 8e6; /* now HBM does */
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 0)->end_ns, 9000);
    s.costs.work[0].hbm_GBps = 500; /* these SMs draw no more */
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 0)->end_ns, 17000);
    setup_close(&s);
}

static void test_kernels_in_series_add_up_with_gaps(void **state)
{
    struct setup s;

    (void)state;
    setup_open(&s, 1, 1);
    s.cost.graph_gap_ns = 700;
    plan_stream_add(s.plan, "main", 0);
    for (int i = 0; i < 10; i++)
        op_add(&s, 0, N, 100, 1000 * (i + 1), 0);
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 9)->end_ns, 10 * 100 + 55 * 1000 + 9 * 700);
    setup_close(&s);
}

static void test_perfect_overlap_is_the_maximum(void **state)
{
    struct setup s;

    (void)state;
    setup_open(&s, 1, 1);
    plan_stream_add(s.plan, "main", 0);
    plan_stream_add(s.plan, "compute", 0);
    op_add(&s, 0, 40, 0, 3000, 0);
    op_add(&s, 1, 60, 0, 8000, 0);
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 0)->end_ns, 3000);
    near_to(span(&s, 0, 1)->end_ns, 8000);
    setup_close(&s);
}

static void test_hbm_is_shared_max_min(void **state)
{
    struct setup s;

    (void)state;
    setup_open(&s, 1, 1);
    plan_stream_add(s.plan, "main", 0);
    plan_stream_add(s.plan, "compute", 0);
    /* Both could draw all of it: half each, 2 ms together. */
    op_add(&s, 0, 50, 0, 0, 1e6);
    op_add(&s, 1, 50, 0, 0, 1e6);
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 0)->end_ns, 2000);
    near_to(span(&s, 0, 1)->end_ns, 2000);
    /* One wants 200 GB/s for its SMs' sake: the other has 800. */
    s.costs.work[0].head = (struct cost_segment){0, 10000, 2e6};
    s.costs.work[1].head = (struct cost_segment){0, 0, 4e6};
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 0)->end_ns, 10000);
    near_to(span(&s, 0, 1)->end_ns, 5000);
    setup_close(&s);
}

static void test_interference_slows_both_while_both_run(void **state)
{
    struct setup s;

    (void)state;
    setup_open(&s, 1, 1);
    s.costs.slow = 1.25;
    plan_stream_add(s.plan, "main", 0);
    plan_stream_add(s.plan, "compute", 0);
    op_add(&s, 0, 50, 0, 1000, 0);
    op_add(&s, 1, 50, 0, 3000, 0);
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 0)->end_ns, 1250);
    near_to(span(&s, 0, 1)->end_ns, 3250); /* 1000 of its 3000 took 1250 */
    setup_close(&s);
}

/* One CTA without an SM runs a second pass: twice the time for one missing SM in a hundred. */
static void test_a_blocked_cta_costs_a_pass(void **state)
{
    struct setup s;

    (void)state;
    setup_open(&s, 1, 1);
    plan_stream_add(s.plan, "comm", -1);
    plan_stream_add(s.plan, "compute", 0);
    op_add(&s, 0, 1, 0, 50000, 0);
    op_add(&s, 1, N, 0, 10000, 0);
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 1)->end_ns, 20000);
    assert_true(span(&s, 0, 1)->part_ns[PART_BLOCKED] > 9999);
    setup_close(&s);
}

static void test_a_cooperative_kernel_waits_for_all_its_sms(void **state)
{
    struct setup s;

    (void)state;
    setup_open(&s, 1, 1);
    plan_stream_add(s.plan, "compute", 0);
    plan_stream_add(s.plan, "comm", -1);
    op_add(&s, 0, 90, 0, 10000, 0);
    op_add(&s, 1, 1, 0, 100, 0); /* so that the next one comes second */
    op_add(&s, 1, 20, 0, 1000, 0);
    s.plan->ops[2].cooperative = true;
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 2)->ready_ns, 100);
    near_to(span(&s, 0, 2)->start_ns, 10000);
    assert_int_equal(span(&s, 0, 2)->cause, CAUSE_SMS);
    s.plan->ops[2].cooperative = false; /* 10 SMs are free: it begins at once, and ends late */
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 2)->start_ns, 100);
    near_to(span(&s, 0, 2)->end_ns, 2100);
    setup_close(&s);
}

static void test_the_urgent_stream_is_served_first(void **state)
{
    struct setup s;

    (void)state;
    for (int urgent = -1; urgent <= 1; urgent += 2) {
        setup_open(&s, 1, 1);
        plan_stream_add(s.plan, "main", 0);
        plan_stream_add(s.plan, "compute", 0);
        plan_stream_add(s.plan, "comm", urgent);
        op_add(&s, 0, N, 0, 1000, 0);
        op_add(&s, 1, N, 0, 1000, 0);
        op_add(&s, 2, N, 0, 1000, 0);
        assert_int_equal(simulate(&s), 0);
        /* All three are ready at 0: the urgent one runs first, the least urgent last. */
        near_to(span(&s, 0, 2)->end_ns, urgent < 0 ? 1000 : 3000);
        setup_close(&s);
    }
}

static void test_dependencies_across_streams(void **state)
{
    struct setup s;

    (void)state;
    setup_open(&s, 1, 1);
    s.cost.graph_gap_ns = 500;
    s.cost.cross_stream_ns = 300;
    plan_stream_add(s.plan, "main", 0);
    plan_stream_add(s.plan, "compute", 0);
    op_add(&s, 0, 10, 0, 1000, 0);
    op_add(&s, 1, 10, 0, 1000, 0);
    plan_dep_add(s.plan, 0, DEP_END);
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 1)->ready_ns, 1000);
    near_to(span(&s, 0, 1)->start_ns, 1800);
    assert_int_equal(span(&s, 0, 1)->cause, CAUSE_DEP);
    assert_int_equal(span(&s, 0, 1)->cause_op, 0);
    setup_close(&s);
}

static void test_eager_launches_come_one_by_one(void **state)
{
    struct setup s;

    (void)state;
    setup_open(&s, 1, 1);
    s.options.eager = true;
    s.cost.eager_launch_ns = 4000;
    plan_stream_add(s.plan, "main", 0);
    for (int i = 0; i < 3; i++)
        op_add(&s, 0, N, 0, 1000, 0);
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 2)->start_ns, 12000);
    assert_int_equal(span(&s, 0, 2)->cause, CAUSE_LAUNCH);
    setup_close(&s);
}

/* A send and a receive of `bytes` per row, every rank to the next. */
static void exchange(struct setup *s, int bytes, int sms)
{
    struct plan_op send = {
        .kind = OP_DISPATCH_SEND, .sms = sms, .num_rounds = 1, .num_experts = 1, .n = 1};
    struct plan_op recv = {
        .kind = OP_DISPATCH_RECV, .sms = sms, .num_rounds = 1, .num_experts = 1, .n = 1};
    struct plan_flow f = {.num_experts = 1, .bytes_per_row = bytes};

    plan_stream_add(s->plan, "main", 0);
    f.send_op = plan_op_add(s->plan, &send);
    f.recv_op = plan_op_add(s->plan, &recv);
    assert_true(plan_flow_add(s->plan, &f) >= 0);
    for (int i = 0; i < 2; i++)
        s->costs.work[i] = (struct cost_work){
            .grid = sms, .hbm_GBps = HBM, .waves = 1, .push_GBps = 1e4, .issue_ns = 0};
    s->costs.work[1].tail = (struct cost_segment){200, 0, 0};
}

static void test_nvlink_send_holds_its_sms_until_drained(void **state)
{
    struct setup s;

    (void)state;
    setup_open(&s, 4, 4);
    exchange(&s, 1000000, 20);
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 2, 0)->end_ns, 1e6 / TEST_NVLINK);
    near_to(span(&s, 2, 1)->end_ns, 1e6 / TEST_NVLINK + TEST_NVLINK_NS + 200);
    s.costs.work[0].push_GBps = TEST_NVLINK / 4; /* its own SMs are the limit */
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 2, 0)->end_ns, 4e6 / TEST_NVLINK);
    setup_close(&s);
}

static void test_rdma_bytes_fly_without_sms(void **state)
{
    struct setup s;

    (void)state;
    setup_open(&s, 4, 1);
    exchange(&s, 1000000, 20);
    s.costs.work[0].issue_ns = 3000;
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 1, 0)->end_ns, 3000);
    near_to(span(&s, 1, 1)->end_ns, 1e6 / TEST_NIC + TEST_NIC_NS + 200);
    near_to(span(&s, 1, 1)->wait_ns, 1e6 / TEST_NIC + TEST_NIC_NS - 3000);
    s.costs.work[0].issue_ns = 1e5; /* posting is slower than the NIC: it decides */
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 1, 1)->end_ns, 1e5 + TEST_NIC_NS + 200);
    setup_close(&s);
}

static void test_an_emulated_send_stores_and_then_queues(void **state)
{
    struct setup s;

    (void)state;
    setup_open(&s, 4, 4);
    exchange(&s, 1000000, 20);
    s.options.emulation = (struct sim_emulation){4, 10, 3000};
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 1, 0)->end_ns, 1e6 / TEST_NVLINK); /* SMs are held as long as it stores */
    near_to(span(&s, 1, 1)->end_ns, 1e6 / 10 + 3000 + 200);
    s.options.emulation.pace_GBps = 1e6; /* the queue is no limit: then the stores are */
    s.options.emulation.pace_latency_ns = 0;
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 1, 1)->end_ns, 1e6 / TEST_NVLINK + TEST_NVLINK_NS + 200);
    s.options.emulation = (struct sim_emulation){1, 10, 3000}; /* all ranks on one GPU */
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 1, 0)->end_ns, 1e6 / 1e4);
    near_to(span(&s, 1, 1)->end_ns, 1e6 / 10 + 3000 + 200); /* to other ranks all the same */
    s.options.emulation.pace_GBps = 0;
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 1, 1)->end_ns, 1e6 / 1e4 + 200);
    setup_close(&s);
}

/* Two sends, each received at the end, their bytes through one NIC: first come, first sent. */
static void test_an_emulated_queue_sends_first_what_came_first(void **state)
{
    struct setup s;
    struct plan_flow f = {.num_experts = 1, .bytes_per_row = 1000000};
    struct plan_op op = {.sms = 20, .num_rounds = 2, .num_experts = 1, .n = 1};
    int sends[2], recvs[2];

    (void)state;
    setup_open(&s, 4, 4);
    plan_stream_add(s.plan, "main", 0);
    for (int i = 0; i < 2; i++) {
        op.kind = OP_DISPATCH_SEND;
        op.round = i;
        sends[i] = plan_op_add(s.plan, &op);
    }
    for (int i = 0; i < 2; i++) {
        op.kind = OP_DISPATCH_RECV;
        op.round = i;
        recvs[i] = plan_op_add(s.plan, &op);
        f.send_op = sends[i];
        f.recv_op = recvs[i];
        assert_true(plan_flow_add(s.plan, &f) >= 0);
    }
    for (int i = 0; i < 4; i++)
        s.costs.work[i] =
            (struct cost_work){.grid = 20, .hbm_GBps = HBM, .waves = 1, .push_GBps = 1e4};
    s.options.emulation = (struct sim_emulation){4, 10, 3000};
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 1, recvs[0])->end_ns, 1e6 / 10 + 3000); /* not 2e6 / 10, as if they shared */
    near_to(span(&s, 1, recvs[1])->end_ns, 2e6 / 10 + 3000);
    setup_close(&s);
}

static void test_a_receive_looks_for_its_data_at_least_so_long(void **state)
{
    struct setup s;

    (void)state;
    setup_open(&s, 4, 4);
    exchange(&s, 1000000, 20);
    s.costs.work[1].poll_ns = TEST_NVLINK_NS + 100;
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 1, 1)->end_ns, 1e6 / TEST_NVLINK + TEST_NVLINK_NS + 100 + 200);
    near_to(span(&s, 1, 1)->wait_ns, TEST_NVLINK_NS + 100);
    s.costs.work[1].poll_ns = TEST_NVLINK_NS - 100; /* the data comes later than that */
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 1, 1)->end_ns, 1e6 / TEST_NVLINK + TEST_NVLINK_NS + 200);
    setup_close(&s);
}

static void test_latency_stretches_while_something_runs_beside(void **state)
{
    struct setup s;

    (void)state;
    setup_open(&s, 1, 1);
    s.costs.slow = 2;
    plan_stream_add(s.plan, "main", 0);
    plan_stream_add(s.plan, "compute", 0);
    op_add(&s, 0, 50, 1000, 0, 0);
    op_add(&s, 1, 50, 0, 500, 0);
    s.costs.work[0].slow_fixed = true;
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 1)->end_ns, 1000);
    near_to(span(&s, 0, 0)->end_ns, 1500); /* half of it passed in the first 1000 */
    setup_close(&s);
}

/* The end of one must not take away the timer of the other. */
static void test_a_latency_and_work_that_end_together(void **state)
{
    struct setup s;

    (void)state;
    setup_open(&s, 1, 1);
    plan_stream_add(s.plan, "main", 0);
    plan_stream_add(s.plan, "compute", 0);
    op_add(&s, 0, 50, 1000, 0, 0);
    op_add(&s, 1, 50, 0, 1000, 0);
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 0)->end_ns, 1000);
    near_to(span(&s, 0, 1)->end_ns, 1000);
    setup_close(&s);
}

static void test_receives_wait_for_the_last_sender(void **state)
{
    struct setup s;
    double start[4] = {0, 50000, 0, 0};

    (void)state;
    setup_open(&s, 4, 4);
    exchange(&s, 1000000, 20);
    s.options.start_ns = start;
    assert_int_equal(simulate(&s), 0);
    /* Everybody waits for rank 1's counts, rank 2 for its bytes too. */
    near_to(span(&s, 2, 1)->end_ns, 50000 + 1e6 / TEST_NVLINK + TEST_NVLINK_NS + 200);
    assert_int_equal(span(&s, 2, 1)->data_rank, 1);
    assert_true(span(&s, 2, 1)->part_ns[PART_WAIT] > 40000);
    setup_close(&s);
}

static void test_collectives_meet(void **state)
{
    struct setup s;
    double start[4] = {0, 7000, 0, 0};
    struct plan_op op = {
        .kind = OP_ALL_REDUCE, .sms = 8, .num_rounds = 1, .coll_bytes = 8, .coll_ranks = 2};

    (void)state;
    setup_open(&s, 4, 4);
    plan_stream_add(s.plan, "main", 0);
    plan_op_add(s.plan, &op);
    s.costs.work[0] = (struct cost_work){
        .grid = 8, .hbm_GBps = HBM, .waves = 1, .rendezvous = true, .tail = {1000, 0, 0}};
    s.options.start_ns = start;
    assert_int_equal(simulate(&s), 0);
    near_to(span(&s, 0, 0)->end_ns, 8000); /* groups {0,1} and {2,3} */
    near_to(span(&s, 3, 0)->end_ns, 1000);
    setup_close(&s);
}

/* Rank 0's receive runs first and holds all SMs that its own send would need. */
static void test_a_schedule_that_cannot_end_says_so(void **state)
{
    struct setup s;
    struct plan_op recv = {
        .kind = OP_DISPATCH_RECV, .stream = 1, .sms = N, .num_rounds = 1, .num_experts = 1, .n = 1};
    struct plan_op send = {
        .kind = OP_DISPATCH_SEND, .sms = N, .num_rounds = 1, .num_experts = 1, .n = 1};
    struct plan_flow f = {.num_experts = 1, .bytes_per_row = 8};

    (void)state;
    setup_open(&s, 2, 2);
    plan_stream_add(s.plan, "main", 0);
    plan_stream_add(s.plan, "comm", -1);
    f.send_op = plan_op_add(s.plan, &send);
    f.recv_op = plan_op_add(s.plan, &recv);
    plan_flow_add(s.plan, &f);
    for (int i = 0; i < 2; i++)
        s.costs.work[i] =
            (struct cost_work){.grid = N, .hbm_GBps = HBM, .waves = 1, .push_GBps = 100};
    assert_int_equal(simulate(&s), ERR_STALLED);
    setup_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_kernel_alone_is_its_cost),
        cmocka_unit_test(test_kernels_in_series_add_up_with_gaps),
        cmocka_unit_test(test_perfect_overlap_is_the_maximum),
        cmocka_unit_test(test_hbm_is_shared_max_min),
        cmocka_unit_test(test_interference_slows_both_while_both_run),
        cmocka_unit_test(test_a_blocked_cta_costs_a_pass),
        cmocka_unit_test(test_a_cooperative_kernel_waits_for_all_its_sms),
        cmocka_unit_test(test_the_urgent_stream_is_served_first),
        cmocka_unit_test(test_dependencies_across_streams),
        cmocka_unit_test(test_eager_launches_come_one_by_one),
        cmocka_unit_test(test_nvlink_send_holds_its_sms_until_drained),
        cmocka_unit_test(test_rdma_bytes_fly_without_sms),
        cmocka_unit_test(test_an_emulated_send_stores_and_then_queues),
        cmocka_unit_test(test_an_emulated_queue_sends_first_what_came_first),
        cmocka_unit_test(test_a_receive_looks_for_its_data_at_least_so_long),
        cmocka_unit_test(test_latency_stretches_while_something_runs_beside),
        cmocka_unit_test(test_a_latency_and_work_that_end_together),
        cmocka_unit_test(test_receives_wait_for_the_last_sender),
        cmocka_unit_test(test_collectives_meet),
        cmocka_unit_test(test_a_schedule_that_cannot_end_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
