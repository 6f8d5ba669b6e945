/* plan/plan.c: counts follow from the routing table; plan_check refuses what no back end could run.
 */
#include "tests/check.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "plan/counts.h"
#include "plan/plan.h"

/* 4 ranks on 2 nodes, 8 experts (2 a rank), 3 tokens a rank, top-2; some masked. */
enum { W = 4, E = 8, T = 3, K = 2 };

static struct plan_routing table(int32_t *expert)
{
    for (int i = 0; i < W * T * K; i++)
        expert[i] = (i * 5 + i / 7) % E;
    expert[3] = -1;
    return (struct plan_routing){
        .ranks = W, .tokens = T, .topk = K, .experts = E, .expert = expert};
}

static struct plan *plan_of(const struct plan_routing *r)
{
    struct plan *p;

    assert_int_equal(plan_new(&p, W, E, 132), 0);
    p->ranks_per_node = 2;
    assert_int_equal(plan_batch_add(p, r, 0, T), 0);
    assert_int_equal(plan_stream_add(p, "main", 0), 0);
    return p;
}

static struct plan_op comm(enum plan_op_kind kind)
{
    return (struct plan_op){.kind = kind, .sms = 8, .num_rounds = 1, .num_experts = 2, .n = 16};
}

static void test_counts_are_those_of_the_table(void **state)
{
    int32_t expert[W * T * K];
    struct plan_routing r = table(expert);
    struct plan *p = plan_of(&r);

    (void)state;
    for (int dst = 0; dst < W; dst++)
        for (int e = 0; e < 2; e++) {
            int all = 0;

            for (int src = 0; src < W; src++) {
                int n = 0;

                for (int i = 0; i < T * K; i++)
                    n += expert[src * T * K + i] == dst * 2 + e;
                assert_int_equal(plan_pair_rows(p, 0, src, dst, e, 1), n);
                all += n;
            }
            assert_int_equal(plan_expert_rows(p, 0, dst, e), all);
        }
    plan_free(p);
}

/* The bytes of a flow by brute force over tokens, for each rule of dedup. */
static int copies(const int32_t *expert, int src, int dst, enum plan_flow_dedup dedup)
{
    int n = 0;

    for (int t = 0; t < T; t++) {
        int hits = 0;

        for (int k = 0; k < K; k++) {
            int e = expert[(src * T + t) * K + k];

            hits += e >= 0 && e / 2 == dst;
        }
        n += dedup == FLOW_PER_EXPERT ? hits : hits > 0;
    }
    return n;
}

static void test_flow_rows_by_dedup(void **state)
{
    int32_t expert[W * T * K];
    struct plan_routing r = table(expert);
    struct plan *p = plan_of(&r);
    struct plan_op send = comm(OP_DISPATCH_SEND), recv = comm(OP_DISPATCH_RECV);
    int rows[W], fwd[W];

    (void)state;
    plan_op_add(p, &send);
    plan_op_add(p, &recv);
    for (int rule = FLOW_PER_EXPERT; rule <= FLOW_PER_RANK; rule++) {
        struct plan_flow f = {.send_op = 0,
                              .recv_op = 1,
                              .dedup = (enum plan_flow_dedup)rule,
                              .num_experts = 2,
                              .bytes_per_row = 10};
        int i = plan_flow_add(p, &f);

        assert_true(i >= 0);
        for (int src = 0; src < W; src++) {
            plan_flow_rows(p, i, src, rows, fwd);
            for (int dst = 0; dst < W; dst++)
                assert_int_equal(rows[dst], copies(expert, src, dst, (enum plan_flow_dedup)rule));
        }
    }
    plan_free(p);
}

/* Layers ask for the same slice again and again; another rule or range is another count. A table
 * with counts of its own lends them to all its plans. */
static void test_counts_are_made_once(void **state)
{
    int32_t expert[W * T * K];
    struct plan_routing r = table(expert);
    struct plan *plan[2];
    const int32_t *first = NULL;

    (void)state;
    r.counts = plan_counts_new();
    for (int i = 0; i < 2; i++) {
        struct plan_op send = comm(OP_DISPATCH_SEND), recv = comm(OP_DISPATCH_RECV);
        struct plan_flow f = {
            .recv_op = 1, .dedup = FLOW_PER_RANK, .num_experts = 2, .bytes_per_row = 10};

        plan[i] = plan_of(&r);
        plan_op_add(plan[i], &send);
        plan_op_add(plan[i], &recv);
        assert_int_equal(plan_flow_add(plan[i], &f), 0);
        f.dir = FLOW_COMBINE;
        assert_int_equal(plan_flow_add(plan[i], &f), 1);
        f.num_experts = 1;
        assert_int_equal(plan_flow_add(plan[i], &f), 2);
        assert_ptr_equal(plan[i]->flows[0].pair, plan[i]->flows[1].pair);
        assert_ptr_not_equal(plan[i]->flows[0].pair, plan[i]->flows[2].pair);
        if (first)
            assert_ptr_equal(plan[i]->flows[0].pair, first);
        first = plan[i]->flows[0].pair;
        assert_ptr_equal(plan[i]->batches[0].prefix, plan[0]->batches[0].prefix);
        assert_null(plan[i]->counts);
    }
    plan_free(plan[0]);
    plan_free(plan[1]);
    plan_counts_free(r.counts);
}

/* One copy per node crosses, to the rank of the same index; the rest is forwarded inside. */
static void test_node_dedup_conserves_copies(void **state)
{
    int32_t expert[W * T * K];
    struct plan_routing r = table(expert);
    struct plan *p = plan_of(&r);
    struct plan_op send = comm(OP_DISPATCH_SEND), recv = comm(OP_DISPATCH_RECV);
    struct plan_flow f = {
        .send_op = 0, .recv_op = 1, .dedup = FLOW_PER_NODE, .num_experts = 2, .bytes_per_row = 10};
    int rows[W], fwd[W], arrived[W] = {0}, wanted[W] = {0};

    (void)state;
    plan_op_add(p, &send);
    plan_op_add(p, &recv);
    assert_int_equal(plan_flow_add(p, &f), 0);
    for (int src = 0; src < W; src++) {
        plan_flow_rows(p, 0, src, rows, fwd);
        for (int dst = 0; dst < W; dst++) {
            wanted[dst] += copies(expert, src, dst, FLOW_PER_RANK);
            arrived[dst] += fwd[dst];
            if (dst / 2 == src / 2)
                arrived[dst] += rows[dst];
            else
                assert_true(dst % 2 == src % 2 || rows[dst] == 0);
        }
    }
    /* What crosses and stays at its proxy is not in fwd: add the tokens that wanted the proxy. */
    for (int src = 0; src < W; src++)
        for (int dst = 0; dst < W; dst++)
            if (dst / 2 != src / 2 && dst % 2 == src % 2)
                arrived[dst] += copies(expert, src, dst, FLOW_PER_RANK);
    for (int dst = 0; dst < W; dst++) {
        assert_int_equal(arrived[dst], wanted[dst]);
        assert_int_equal(p->flows[0].copies[dst], wanted[dst]);
    }
    plan_free(p);
}

/* Copies follow the flow group of the same experts, and are rows where nothing deduplicates. */
static void test_copies_of_a_permute(void **state)
{
    int32_t expert[W * T * K];
    struct plan_routing r = table(expert);
    struct plan *p = plan_of(&r);
    struct plan_op send = comm(OP_DISPATCH_SEND), recv = comm(OP_DISPATCH_RECV);
    struct plan_op permute = {.kind = OP_PERMUTE, .sms = 1, .num_rounds = 1, .num_experts = 2};
    struct plan_flow f = {.send_op = 0,
                          .recv_op = 1,
                          .dedup = FLOW_PER_EXPERT,
                          .num_experts = 2,
                          .bytes_per_row = 10};

    (void)state;
    plan_op_add(p, &send);
    plan_op_add(p, &recv);
    assert_int_equal(plan_op_add(p, &permute), 2);
    assert_int_equal(plan_flow_add(p, &f), 0);
    for (int rank = 0; rank < W; rank++)
        assert_int_equal(plan_op_copies(p, 2, rank), plan_op_rows(p, 2, rank, NULL));
    f.dedup = FLOW_PER_NODE;
    assert_int_equal(plan_flow_add(p, &f), 1);
    for (int rank = 0; rank < W; rank++) {
        int want = 0;

        for (int src = 0; src < W; src++)
            want += copies(expert, src, rank, FLOW_PER_RANK);
        assert_int_equal(plan_op_copies(p, 2, rank), want);
    }
    p->ops[2].num_experts = 1; /* no group of these */
    assert_int_equal(plan_op_copies(p, 2, 0), plan_op_rows(p, 2, 0, NULL));
    plan_free(p);
}

static void test_units_cover_all_rows_once(void **state)
{
    int32_t expert[W * T * K];
    struct plan_routing r = table(expert);
    struct plan *p = plan_of(&r);
    struct plan_op op = comm(OP_COMBINE_SEND);

    (void)state;
    op.block_m = 2;
    op.block_n = 16;
    plan_op_add(p, &op);
    for (int rank = 0; rank < W; rank++) {
        int rows[W] = {0};

        for (int u = 0; u < plan_op_num_units(p, 0, rank); u++)
            plan_unit_rows(p, 0, rank, u, rows);
        for (int src = 0; src < W; src++)
            assert_int_equal(rows[src], plan_pair_rows(p, 0, src, rank, 0, 2));
    }
    plan_free(p);
}

static int checked(void (*spoil)(struct plan *))
{
    int32_t expert[W * T * K];
    struct plan_routing r = table(expert);
    struct plan *p = plan_of(&r);
    struct plan_op send = comm(OP_DISPATCH_SEND), recv = comm(OP_DISPATCH_RECV);
    struct plan_flow f = {.send_op = 0, .recv_op = 1, .num_experts = 2, .bytes_per_row = 10};
    int err;

    plan_op_add(p, &send);
    plan_op_add(p, &recv);
    plan_dep_add(p, 0, DEP_END);
    plan_flow_add(p, &f);
    if (spoil)
        spoil(p);
    err = plan_check(p);
    plan_free(p);
    return err;
}

static void spoil_sms(struct plan *p)
{
    p->ops[0].sms = 133;
}
static void spoil_stream(struct plan *p)
{
    p->ops[1].stream = 1;
}
static void spoil_experts(struct plan *p)
{
    p->ops[1].num_experts = 3;
}
static void spoil_cycle(struct plan *p)
{
    p->deps[0].op = 1;
}
static void spoil_flow(struct plan *p)
{
    p->flows[0].recv_op = 0;
}
static void spoil_round(struct plan *p)
{
    p->ops[0].round = 1;
}
static void spoil_unit(struct plan *p)
{
    p->deps[0].kind = DEP_UNIT;
}
static void spoil_no_flow(struct plan *p)
{
    p->num_flows = 0;
}

static void test_check_finds_each_fault(void **state)
{
    void (*const spoils[])(struct plan *) = {spoil_sms,   spoil_stream, spoil_experts,
                                             spoil_cycle, spoil_flow,   spoil_round,
                                             spoil_unit,  spoil_no_flow};

    (void)state;
    assert_int_equal(checked(NULL), 0);
    for (size_t i = 0; i < sizeof spoils / sizeof *spoils; i++)
        assert_int_equal(checked(spoils[i]), ERR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_are_those_of_the_table),
        cmocka_unit_test(test_flow_rows_by_dedup),
        cmocka_unit_test(test_counts_are_made_once),
        cmocka_unit_test(test_node_dedup_conserves_copies),
        cmocka_unit_test(test_copies_of_a_permute),
        cmocka_unit_test(test_units_cover_all_rows_once),
        cmocka_unit_test(test_check_finds_each_fault),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
