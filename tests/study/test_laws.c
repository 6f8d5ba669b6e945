/* Two builders fill the inputs of a law: cost.c from an op of a plan, fit_predict.c from a measured
 * row. Law by law, an op simulated alone must take what the fit predicts for a row of its shape. */
#include "tests/check.h"

#include <math.h>

#include "calib/fit_predict.h"
#include "model/law/cost.h"
#include "model/routing.h"
#include "sim/sim.h"

enum { RANKS = 8, TOKENS = 128, EXPERTS = 64, TOPK = 8, HIDDEN = 7168, INTER = 2048 };

struct world {
    struct hw_profile *profile;
    struct plan_routing *routing;
    struct plan *plan;
    int num_sms;
};

static void world_open(struct world *w, enum routing_kind routing)
{
    struct routing_spec spec = {.kind = routing, .n_group = 1, .topk_group = 1, .seed = 1};

    assert_int_equal(hw_profile_read("h200", &w->profile), 0);
    w->num_sms = (int)hw_value(w->profile, HW_GPU_NUM_SMS);
    assert_int_equal(routing_make(&spec, RANKS, TOKENS, EXPERTS, TOPK, &w->routing), 0);
    assert_int_equal(plan_new(&w->plan, RANKS, EXPERTS, w->num_sms), 0);
    assert_true(plan_batch_add(w->plan, w->routing, 0, TOKENS) >= 0);
    assert_true(plan_stream_add(w->plan, "main", 0) >= 0);
}

static void world_close(struct world *w)
{
    plan_free(w->plan);
    routing_free(w->routing);
    hw_profile_free(w->profile);
}

static int span_take(void *self, const struct trace_span *span)
{
    double *ns = self;

    *ns = fmax(*ns, span->end_ns - span->start_ns);
    return 0;
}

/* The slowest rank's time of the plan's one op, in us. */
static double simulated_us(const struct world *w)
{
    struct sim_topology_cfg topo = {.endpoints = RANKS,
                                    .per_node = RANKS,
                                    .nvlink_GBps = cost_nvlink_GBps(w->profile),
                                    .nvlink_latency_ns =
                                        hw_value(w->profile, HW_NET_NVLINK_LAT_US) * 1e3,
                                    .nics_per_node = RANKS,
                                    .nic_GBps = cost_nic_GBps(w->profile),
                                    .nodes_per_leaf = 1,
                                    .oversubscription = 1};
    struct sim_options options = {.fidelity = SIM_FLOW_EXACT, .counter_rank = -1};
    double ns = 0;
    struct trace_sink sink = {.self = &ns, .span = span_take};
    struct cost cost;

    assert_int_equal(cost_open(w->profile, &cost), 0);
    assert_int_equal(plan_check(w->plan), 0);
    assert_int_equal(sim_run(w->plan, &cost, &topo, &options, &sink, NULL), 0);
    cost_close(&cost);
    return ns / 1e3;
}

static double predicted_us(const struct world *w, const struct data_row *row)
{
    struct predictor p;

    predictor_init(&p, w->profile);
    return predict_us(&p, row);
}

static struct data_row row_of(enum data_law law)
{
    return (struct data_row){.law = law,
                             .ranks = RANKS,
                             .nodes = 1,
                             .tokens = TOKENS,
                             .hidden = HIDDEN,
                             .inter = INTER,
                             .experts = EXPERTS,
                             .topk = TOPK,
                             .rounds = 1};
}

static struct plan_op op_of(const struct world *w, enum plan_op_kind kind)
{
    return (struct plan_op){
        .kind = kind, .sms = w->num_sms, .num_rounds = 1, .dtype = DTYPE_FP8, .n = HIDDEN};
}

static void same(const char *law, double simulated, double predicted, double tolerance)
{
    if (!(fabs(simulated / predicted - 1) <= tolerance))
        fail_msg("%s: simulated %.6f us, the fit predicts %.6f us", law, simulated, predicted);
}

static void test_grouped_gemms(void **state)
{
    static const struct {
        enum data_law law;
        enum plan_gemm gemm;
    } layouts[] = {{DATA_MASKED, GEMM_MASKED}, {DATA_CONTIGUOUS, GEMM_CONTIGUOUS}};

    (void)state;
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        struct data_row row = row_of(layouts[i].law);
        int32_t rows[EXPERTS / RANKS];
        struct world w;
        struct plan_op op;

        world_open(&w, ROUTING_BALANCED);
        op = op_of(&w, OP_GEMM_UP);
        op.num_experts = EXPERTS / RANKS;
        op.n = row.n = 2 * INTER;
        op.k = row.k = HIDDEN;
        op.gemm = layouts[i].gemm;
        assert_int_equal(plan_op_add(w.plan, &op), 0);
        row.dtype = DTYPE_FP8;
        row.num_local = row.groups = EXPERTS / RANKS;
        row.num_draws = 1;
        row.expert_rows = rows;
        for (int e = 0; e < EXPERTS / RANKS; e++)
            rows[e] = plan_expert_rows(w.plan, 0, 0, e);
        row.rows = rows[0];
        same(data_law_name(row.law), simulated_us(&w), predicted_us(&w, &row), 1e-9);
        world_close(&w);
    }
}

static void test_dense_gemms(void **state)
{
    static const struct {
        enum data_law law;
        enum plan_dtype dtype;
    } types[] = {{DATA_DENSE_BF16, DTYPE_BF16}, {DATA_DENSE_BLOCK, DTYPE_FP8}};

    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct data_row row = row_of(types[i].law);
        struct world w;
        struct plan_op op;

        world_open(&w, ROUTING_BALANCED);
        op = op_of(&w, OP_MLP_DOWN);
        op.rows = row.rows = 512;
        op.n = row.n = HIDDEN;
        op.k = row.k = INTER;
        op.dtype = row.dtype = types[i].dtype;
        op.gemm = GEMM_DENSE;
        assert_int_equal(plan_op_add(w.plan, &op), 0);
        same(data_law_name(row.law), simulated_us(&w), predicted_us(&w, &row), 1e-9);
        world_close(&w);
    }
}

static void test_activation(void **state)
{
    struct data_row row = row_of(DATA_ACT);
    struct world w;
    struct plan_op op;

    (void)state;
    world_open(&w, ROUTING_BALANCED);
    op = op_of(&w, OP_ACT_QUANT);
    op.num_experts = row.groups = EXPERTS / RANKS;
    op.n = INTER;
    row.rows = TOKENS * TOPK * RANKS / EXPERTS;
    row.dtype = DTYPE_FP8;
    assert_int_equal(plan_op_add(w.plan, &op), 0);
    same("act", simulated_us(&w), predicted_us(&w, &row), 1e-9);
    world_close(&w);
}

/* Above the sizes that an engine's own all-reduce takes in, which the simulator prefers. */
static void test_collectives(void **state)
{
    static const enum plan_op_kind kinds[] = {OP_ALL_REDUCE, OP_REDUCE_SCATTER, OP_ALL_GATHER};

    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct data_row row = row_of(DATA_COLLECTIVE);
        struct world w;
        struct plan_op op;

        world_open(&w, ROUTING_BALANCED);
        op = op_of(&w, kinds[i]);
        op.coll_bytes = 1 << 28;
        op.coll_ranks = RANKS;
        op.comm = COMM_NCCL;
        row.bytes = 1 << 28;
        snprintf(row.coll, sizeof row.coll, "%s", plan_op_kind_name(kinds[i]));
        assert_int_equal(plan_op_add(w.plan, &op), 0);
        same(row.coll, simulated_us(&w), predicted_us(&w, &row), 1e-9);
        world_close(&w);
    }
}

/* Exchanges meet links, which the fit takes as balanced and the simulator as they are; and normal
 * kernels send a copy per rank touched, which the fit expects and a routing table holds. */
static void test_exchanges(void **state)
{
    static const struct {
        enum data_law law;
        enum plan_op_kind kind;
        enum plan_comm comm;
        enum plan_dtype dtype;
        int sms;
    } kernels[] = {{DATA_LL_DISPATCH, OP_DISPATCH, COMM_LOW_LATENCY, DTYPE_FP8, 0},
                   {DATA_LL_COMBINE, OP_COMBINE, COMM_LOW_LATENCY, DTYPE_BF16, 0},
                   {DATA_NORMAL_DISPATCH, OP_DISPATCH, COMM_NORMAL, DTYPE_BF16, 24},
                   {DATA_NORMAL_COMBINE, OP_COMBINE, COMM_NORMAL, DTYPE_BF16, 24}};

    (void)state;
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        struct data_row row = row_of(kernels[i].law);
        const struct plan_comm_traits *comm = plan_comm_traits(kernels[i].comm);
        enum plan_flow_dir dir = plan_op_dir(kernels[i].kind);
        struct plan_flow flow = {.dir = dir, .dedup = comm->dedup, .num_experts = EXPERTS / RANKS};
        struct world w;
        struct plan_op op;

        world_open(&w, comm->message == COMM_MESSAGE_COPY ? ROUTING_UNIFORM : ROUTING_BALANCED);
        op = op_of(&w, kernels[i].kind);
        op.sms = kernels[i].sms ? kernels[i].sms : w.num_sms;
        op.comm = kernels[i].comm;
        op.cooperative = true;
        op.dtype = row.dtype = kernels[i].dtype;
        op.num_experts = EXPERTS / RANKS;
        row.num_sms = kernels[i].sms;
        assert_int_equal(plan_op_add(w.plan, &op), 0);
        flow.bytes_per_flag = comm->flag_bytes;
        flow.bytes_per_row = comm->message == COMM_MESSAGE_ROW
                                 ? cost_message_bytes(dir, op.dtype, HIDDEN)
                                 : cost_copy_bytes(dir, op.dtype, HIDDEN, TOPK);
        assert_true(plan_flow_add(w.plan, &flow) >= 0);
        same(data_law_name(row.law), simulated_us(&w), predicted_us(&w, &row), 0.02);
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grouped_gemms), cmocka_unit_test(test_dense_gemms),
        cmocka_unit_test(test_activation),    cmocka_unit_test(test_collectives),
        cmocka_unit_test(test_exchanges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
