#include "tests/check.h"

#include <math.h>

#include "kernels/tiles.h"
#include "model/law/cost.h"
#include "model/law/cost_coll.h"
#include "model/law/gemm.h"
#include "model/law/ll.h"
#include "model/routing.h"
#include "plan/plan.h"

struct world {
    struct hw_profile *profile;
    struct plan_routing *routing;
    struct plan *plan;
    struct cost cost;
    double v[HW_FIELD_COUNT];
};

static void world_open(struct world *w, const char *profile, int ranks, int tokens, int experts,
                       int topk)
{
    struct routing_spec spec = {.kind = ROUTING_BALANCED, .n_group = 1, .topk_group = 1};

    memset(w, 0, sizeof *w);
    assert_int_equal(hw_profile_read(profile, &w->profile), 0);
    assert_int_equal(cost_open(w->profile, &w->cost), 0);
    assert_int_equal(routing_make(&spec, ranks, tokens, experts, topk, &w->routing), 0);
    assert_int_equal(plan_new(&w->plan, ranks, experts, (int)hw_value(w->profile, HW_GPU_NUM_SMS)),
                     0);
    w->plan->ranks_per_node = ranks < 8 ? ranks : 8;
    assert_true(plan_batch_add(w->plan, w->routing, 0, tokens) >= 0);
    for (int i = 0; i < HW_FIELD_COUNT; i++)
        w->v[i] = w->profile->f[i].value;
}

static void world_close(struct world *w)
{
    cost_close(&w->cost);
    plan_free(w->plan);
    routing_free(w->routing);
    hw_profile_free(w->profile);
}

static struct cost_work work_of(struct world *w, const struct plan_op *op, int rank)
{
    int index = plan_op_add(w->plan, op);
    struct cost_work out;

    assert_true(index >= 0);
    memset(&out, 0xff, sizeof out);
    w->cost.work(w->cost.self, w->plan, rank, index, &out);
    return out;
}

static struct plan_op op_of(const struct world *w, enum plan_op_kind kind, int sms)
{
    struct plan_op op = {.kind = kind,
                         .sms = sms,
                         .num_rounds = 1,
                         .num_experts = w->plan->experts_per_rank,
                         .n = 7168,
                         .dtype = DTYPE_FP8};

    return op;
}

/* Grids that DeepEP's kernels were seen to launch. */
static void test_low_latency_grid_rule(void **state)
{
    (void)state;
    assert_int_equal(law_ll_grid(64, 132), 64);
    assert_int_equal(law_ll_grid(80, 24), 20);
    assert_int_equal(law_ll_grid(256, 132), 128);
    assert_int_equal(law_ll_grid(8, 132), 8);
    assert_int_equal(law_ll_combine_grid(8, 1024, 132), 128);
    assert_int_equal(law_ll_combine_grid(256, 3, 132), 128);
}

static void test_message_bytes(void **state)
{
    (void)state;
    assert_int_equal(cost_message_bytes(FLOW_DISPATCH, DTYPE_FP8, 7168), 7408);
    assert_int_equal(cost_message_bytes(FLOW_COMBINE, DTYPE_BF16, 7168), 14336);
    assert_int_equal(cost_message_bytes(FLOW_DISPATCH, DTYPE_BF16, 7168), 14352);
    assert_int_equal(cost_message_bytes(FLOW_COMBINE, DTYPE_LOGFMT10, 7168), 8960 + 224);
}

static void test_closed_form_of_one_kernel(void **state)
{
    struct cost_work w = {.head = {100, 50, 4000},
                          .tail = {10, 500, 100},
                          .issue_ns = 30,
                          .push_GBps = 2,
                          .hbm_GBps = 100};
    struct law_traffic t = {.local_bytes = 100,
                            .nvlink_bytes = 700,
                            .nic_bytes = 900,
                            .nvlink_GBps = 7,
                            .nic_GBps = 3,
                            .hbm_GBps = 40,
                            .lat_ns = 5};

    (void)state;
    /* head 100 + max(50, 4000/40); send max(30, 800/2, 100, 300); latency 5; tail 10 + 500 */
    assert_true(fabs(law_alone_ns(&w, &t) - (200 + 400 + 5 + 510)) < 1e-9);
    t.nic_GBps = 1;
    assert_true(fabs(law_alone_ns(&w, &t) - (200 + 900 + 5 + 510)) < 1e-9);
}

static void check_sane(const struct cost_work *w, int sms, const char *what)
{
    double numbers[] = {w->head.fixed_ns, w->head.sm_ns,     w->head.hbm_bytes, w->tail.fixed_ns,
                        w->tail.sm_ns,    w->tail.hbm_bytes, w->issue_ns,       w->flops};

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!(isfinite(numbers[i]) && numbers[i] >= 0))
            fail_msg("%s: number %zu is %g", what, i, numbers[i]);
    assert_in_range(w->grid, 1, sms);
    assert_true(w->waves >= 1);
    assert_true(isfinite(w->push_GBps) && w->push_GBps > 0);
    assert_true(isfinite(w->hbm_GBps) && w->hbm_GBps > 0);
}

static void test_every_kind_has_a_cost(void **state)
{
    static const char *const names[] = {"h20", "h800", "h100", "h200", "b200"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int kind = 0; kind < OP_KIND_COUNT; kind++)
            for (int sms = 1; sms <= 64; sms *= 8) {
                struct world w;
                struct plan_op op;
                struct cost_work out;

                world_open(&w, names[i], 16, 32, 64, 8);
                w.plan->attn = (struct plan_attn){.heads = 128,
                                                  .kv_heads = 128,
                                                  .qk_head_dim = 192,
                                                  .v_head_dim = 128,
                                                  .kv_lora_rank = 512,
                                                  .qk_rope_head_dim = 64,
                                                  .kv_bytes_per_token = 1152,
                                                  .context_len = 4096,
                                                  .q_tokens = 1,
                                                  .tp = 1};
                op = op_of(&w, (enum plan_op_kind)kind, sms);
                op.rows = 32;
                op.k = 2048;
                op.coll_bytes = 1 << 20;
                op.coll_ranks = 8;
                out = work_of(&w, &op, 3);
                check_sane(&out, sms, plan_op_kind_name((enum plan_op_kind)kind));
                assert_int_equal(out.rendezvous,
                                 plan_op_kind_class((enum plan_op_kind)kind) == OP_CLASS_COLL);
                world_close(&w);
            }
}

static void test_no_rows_cost_only_the_start(void **state)
{
    struct world w;
    struct plan_op op;
    struct cost_work out;
    struct plan_counts *counts;

    (void)state;
    world_open(&w, "h200", 4, 16, 64, 2);
    counts = w.routing->counts; /* of the table as drawn; the second batch is to be counted anew */
    w.routing->counts = NULL;
    for (size_t i = 0; i < 4u * 16 * 2; i++)
        w.routing->expert[i] = -1;
    plan_batch_add(w.plan, w.routing, 0, 16);
    for (int gemm = 0; gemm < GEMM_IMPL_COUNT; gemm++) {
        op = op_of(&w, OP_GEMM_UP, 132);
        op.batch = 1;
        op.k = 2048;
        op.gemm = (enum plan_gemm)gemm;
        out = work_of(&w, &op, 0);
        check_sane(&out, 132, "gemm without rows");
        assert_true(out.flops == 0 && out.head.hbm_bytes == 0);
    }
    op = op_of(&w, OP_DISPATCH, 132);
    op.batch = 1;
    out = work_of(&w, &op, 0);
    check_sane(&out, 132, "dispatch without rows");
    w.routing->counts = counts;
    world_close(&w);
}

static double alone_ns(struct world *w, const struct cost_work *out, double bytes)
{
    struct law_traffic t = {.local_bytes = bytes / 8,
                            .nvlink_bytes = bytes * 7 / 8,
                            .nvlink_GBps = cost_nvlink_GBps(w->profile),
                            .nic_GBps = cost_nic_GBps(w->profile),
                            .hbm_GBps = w->cost.hbm_GBps};

    return law_alone_ns(out, &t);
}

/* The reason why overlap by rounds can lose: each round walks all tokens with fewer CTAs. */
static void test_rounds_are_not_free(void **state)
{
    struct world w;
    double whole, parts = 0;
    double bytes = 512.0 * 8 * 7408;

    (void)state;
    world_open(&w, "h200", 8, 512, 256, 8);
    {
        struct plan_op op = op_of(&w, OP_DISPATCH_SEND, 132);
        struct cost_work out = work_of(&w, &op, 0);

        whole = alone_ns(&w, &out, bytes);
    }
    for (int r = 0; r < 4; r++) {
        struct plan_op op = op_of(&w, OP_DISPATCH_SEND, 132);
        struct cost_work out;

        op.round = r;
        op.num_rounds = 4;
        op.num_experts = 8;
        op.first_expert = 8 * r;
        out = work_of(&w, &op, 0);
        assert_int_equal(out.grid, 64);
        parts += alone_ns(&w, &out, bytes / 4);
    }
    assert_true(parts > 1.05 * whole);
    world_close(&w);
}

static void test_a_gemm_on_fewer_sms_takes_longer_but_runs_each_sm_faster(void **state)
{
    struct world w;
    struct plan_op op;
    struct cost_work all, half;

    (void)state;
    world_open(&w, "h200", 8, 2048, 64, 8);
    op = op_of(&w, OP_GEMM_UP, 132);
    op.k = 7168;
    op.n = 4096;
    all = work_of(&w, &op, 0);
    op.sms = 66;
    half = work_of(&w, &op, 0);
    assert_true(half.head.sm_ns > 1.5 * all.head.sm_ns);
    assert_true(half.head.sm_ns < 2.05 * all.head.sm_ns);
    assert_true(half.waves > all.waves);
    world_close(&w);
}

/* The validator's kernel: tile t is CTA t % sms's, so one CTA may get all the full tiles. */
static void test_own_gemm_takes_as_long_as_its_slowest_cta(void **state)
{
    struct hw_profile *p = NULL;
    double v[HW_FIELD_COUNT];
    int32_t alike[4] = {64, 64, 64, 64}, uneven[4] = {192, 192, 192, 192};
    struct law_grouped in = {.layout = GEMM_MASKED,
                             .dtype = DTYPE_FP8,
                             .rows = alike,
                             .groups = 4,
                             .n = 512,
                             .k = 2048,
                             .block_m = 128,
                             .sms = 16,
                             .num_sms = 16};
    struct cost_work w, two;

    (void)state;
    assert_int_equal(hw_profile_read("h200-own", &p), 0);
    for (int i = 0; i < HW_FIELD_COUNT; i++)
        v[i] = p->f[i].value;
    v[HW_GPU_HBM_GBPS] = 1e9; /* SMs alone decide */
    v[HW_GROUPED_POWER_DROP] = 0;
    law_grouped_work(v, &in, &w);
    assert_int_equal(w.grid, 16);
    assert_int_equal(w.waves, 1);
    /* 32 tiles, full and half by turns: with 16 CTAs those of even number get two full ones. */
    in.rows = uneven;
    law_grouped_work(v, &in, &two);
    in.block_m = 128;
    in.rows = (const int32_t[]){128, 128, 128, 128};
    law_grouped_work(v, &in, &w);
    assert_true(fabs(two.head.sm_ns - 2 * w.head.sm_ns) < 1e-6 * w.head.sm_ns);
    in.sms = 15; /* an odd number mixes them */
    in.rows = uneven;
    law_grouped_work(v, &in, &two);
    assert_true(two.head.sm_ns + two.tail.sm_ns < 3 * w.head.sm_ns);
    hw_profile_free(p);
}

/* What the kernel does and what its law takes it to do. */
static void check_tile_rule(bool fp8, int experts, int n, int sms, int rows, int block_m)
{
    int32_t each[128]; /* every third expert with few rows, unless all have */
    for (int e = 0; e < experts; e++)
        each[e] = e % 3 == 1 ? rows / 20 : rows;
    struct tiles_shape shape = {fp8, experts, rows, n, sms, block_m, block_m > 0, each};
    struct tiles kernel = tiles_choose(&shape);
    struct law_grouped in = {.dtype = fp8 ? DTYPE_FP8 : DTYPE_BF16,
                             .rows = each,
                             .groups = experts,
                             .n = n,
                             .block_m = block_m,
                             .sms = sms,
                             .num_sms = 132};
    struct law_tile law = law_own_tile(3, &in, rows);

    assert_int_equal(law.m, kernel.wide ? 128 : kernel.block_m);
    assert_int_equal(law.n, kernel.wide ? 256 : 128);
    assert_int_equal(law.split, kernel.split);
    assert_int_equal(law.mixed, kernel.mixed);
    assert_int_equal(law.sms, sms);
}

static void test_own_tile_rule_is_the_kernels(void **state)
{
    static const int sms[] = {132, 124, 116, 100, 68, 8}, block_ms[] = {0, 64, 128, 256};
    static const int ns[] = {1536, 2048, 4096, 7168, 896};

    (void)state;
    for (int fp8 = 0; fp8 < 2; fp8++)
        for (int experts = 1; experts <= 128; experts *= 2)
            for (int i = 0; i < 6 * 5 * 4; i++)
                for (int rows = 1; rows < 3000; rows += rows / 9 + 1)
                    check_tile_rule(fp8 > 0, experts, ns[i % 5], sms[i / 5 % 6], rows,
                                    block_ms[i / 30]);
}

/* Work of the SMs alone, all of it: HBM is no limit. */
static double own_sm_ns(const double *v, const struct law_grouped *in)
{
    struct cost_work w;

    law_grouped_work(v, in, &w);
    return w.head.sm_ns + w.tail.sm_ns;
}

/* 16 CTAs, tiles of 256 x 128 or in BF16 of 128 x 256: the 4 of a fourth pass are halved and take
 * half a pass, for which FP8's others are a little slower. */
static void test_a_poor_last_pass_is_halved(void **state)
{
    struct hw_profile *p = NULL;
    double v[HW_FIELD_COUNT], three, half;
    int32_t rows[13];
    struct law_grouped in = {.layout = GEMM_MASKED,
                             .dtype = DTYPE_FP8,
                             .rows = rows,
                             .n = 512,
                             .k = 2048,
                             .sms = 16,
                             .num_sms = 16};

    (void)state;
    assert_int_equal(hw_profile_read("h200-own", &p), 0);
    for (int i = 0; i < HW_FIELD_COUNT; i++)
        v[i] = p->f[i].value;
    v[HW_GPU_HBM_GBPS] = 1e9;
    v[HW_GROUPED_POWER_DROP] = 0;
    v[HW_GROUPED_SPLIT_LOSS] = 0.125;
    for (int i = 0; i < 13; i++)
        rows[i] = 128;
    in.groups = 4;
    half = own_sm_ns(v, &in); /* 16 of 128 x 128 */
    for (int i = 0; i < 13; i++)
        rows[i] = 256;
    for (int rule = 1; rule <= 2; rule++) {
        v[HW_GROUPED_TILE_RULE] = rule;
        for (int unlike = 0; unlike < 2; unlike++) { /* one of them: the others decide */
            double want;

            rows[0] = 256 - 60 * unlike;
            in.groups = 12;
            three = own_sm_ns(v, &in);
            want = rule == 1 ? three / 3 * 4 : 1.125 * three + half;
            in.groups = 13;
            assert_true(fabs(own_sm_ns(v, &in) / want - 1) < 1e-9);
        }
    }
    in.dtype = DTYPE_BF16;
    half = own_sm_ns(v, &in);
    in.groups = 12;
    three = own_sm_ns(v, &in);
    half -= three;
    assert_true(half > three / 6 && half < 0.9 * three / 3);
    hw_profile_free(p);
}

/* Only the last round of a combine adds up what came back; all pack their rows. */
static void test_library_all_to_all_packs_rows(void **state)
{
    double v[HW_FIELD_COUNT] = {[HW_A2A_FIXED_US] = 10,
                                [HW_A2A_ROW_NS] = 400,
                                [HW_A2A_CTA_GBPS] = 20,
                                [HW_A2A_PUSH_EFF] = 1,
                                [HW_NET_NVLINK_GBPS] = 450};
    struct law_a2a in = {8, 7168, 1000, 2000};
    struct cost_work w, rounds[2];
    struct plan_op op;
    struct world world;

    (void)state;
    law_a2a_work(v, &in, &w);
    assert_true(fabs(w.head.sm_ns - 50e3) < 1e-6 && fabs(w.tail.sm_ns - 100e3) < 1e-6);
    world_open(&world, "h200-own", 4, 64, 64, 8);
    op = op_of(&world, OP_A2A_COMBINE, 8);
    op.comm = COMM_NCCL;
    op.num_rounds = 2;
    op.num_experts /= 2;
    for (op.round = 0; op.round < 2; op.round++)
        rounds[op.round] = work_of(&world, &op, 1);
    assert_true(rounds[0].head.sm_ns > 0 && rounds[0].tail.sm_ns == 0);
    assert_true(fabs(rounds[1].tail.sm_ns / (64 * 8 / 8 * world.v[HW_A2A_ROW_NS]) - 1) < 1e-9);
    world_close(&world);
}

/* A CTA takes its tokens in turns, and four sums at a time; bytes are of copies, not of rows. */
static void test_dedup_takes_turns(void **state)
{
    double v[HW_FIELD_COUNT] = {[HW_DEDUP_DISP_TOKEN_NS] = 4000,
                                [HW_DEDUP_DISP_CTA_GBPS] = 40,
                                [HW_DEDUP_COMB_TURN_NS] = 5000,
                                [HW_DEDUP_COMB_CTA_GBPS] = 1e6,
                                [HW_LL_DISP_PUSH_EFF] = 1,
                                [HW_LL_COMB_PUSH_EFF] = 1,
                                [HW_NET_NVLINK_GBPS] = 450,
                                [HW_GPU_HBM_GBPS] = 4800,
                                [HW_GPU_HBM_EFF] = 1,
                                [HW_GPU_SM_HBM_GBPS] = 80};
    struct law_dedup in = {.sms = 24,
                           .tokens = 24,
                           .topk = 8,
                           .ranks = 2,
                           .hidden = 7168,
                           .copies = 48,
                           .rows = 192,
                           .copy_bytes = 7424};
    struct cost_work one, two;

    (void)state;
    law_own_dedup(v, &in, &one);
    assert_true(fabs(in.copies * in.copy_bytes / one.push_GBps - 4000) < 1e-6);
    in.tokens = 25;
    law_own_dedup(v, &in, &two);
    assert_true(fabs(one.push_GBps / two.push_GBps - 2) < 1e-9);
    assert_true(fabs(two.tail.hbm_bytes - 192.0 * 7424) < 1e-6);
    in.combine = true;
    in.rows = 0;
    in.copies = 96;
    law_own_dedup(v, &in, &one);
    in.copies = 97;
    law_own_dedup(v, &in, &two);
    assert_true(fabs(96 / one.push_GBps * 2 - 97 / two.push_GBps) < 1e-9);
}

/* Ranks that rank 1's tokens reach, counted from the routing table; four ranks at most. */
static int ranks_reached(const struct world *w)
{
    const struct plan_routing *r = w->routing;
    int copies = 0;

    for (int t = 0; t < r->tokens; t++) {
        unsigned seen = 0;

        for (int j = 0; j < r->topk; j++)
            seen |= 1u << (r->expert[(r->tokens + t) * r->topk + j] / w->plan->experts_per_rank);
        copies += __builtin_popcount(seen);
    }
    return copies;
}

/* One copy per rank is packed once, whatever its experts there; on the way back it is unpacked
 * once, and only the rows that it was made of are read for it. */
static void test_copies_per_rank_are_packed_once(void **state)
{
    struct plan_flow flow = {.dedup = FLOW_PER_RANK, .bytes_per_row = 14336};
    struct cost_work there, back;
    struct plan_op op;
    struct world w;
    double row_ns, rows = 0;

    (void)state;
    world_open(&w, "h200-own", 4, 64, 64, 8);
    row_ns = w.v[HW_A2A_ROW_NS] / 16;
    op = op_of(&w, OP_A2A_DISPATCH, 16);
    op.comm = COMM_NCCL_RANK;
    flow.num_experts = op.num_experts;
    flow.send_op = flow.recv_op = plan_op_add(w.plan, &op);
    assert_true(plan_flow_add(w.plan, &flow) >= 0);
    w.cost.work(w.cost.self, w.plan, 1, flow.send_op, &there);
    op.kind = OP_A2A_COMBINE;
    flow.dir = FLOW_COMBINE;
    flow.send_op = flow.recv_op = plan_op_add(w.plan, &op);
    assert_true(plan_flow_add(w.plan, &flow) >= 0);
    w.cost.work(w.cost.self, w.plan, 1, flow.send_op, &back);
    for (int e = 0; e < w.plan->experts_per_rank; e++)
        rows += w.plan->batches[0].rows[w.plan->experts_per_rank + e];
    assert_true(ranks_reached(&w) < 64 * 8);
    assert_true(fabs(there.head.sm_ns / (ranks_reached(&w) * row_ns) - 1) < 1e-9);
    assert_true(fabs(there.tail.sm_ns / (rows * row_ns) - 1) < 1e-9);
    assert_true(fabs(back.head.sm_ns / (rows * row_ns) - 1) < 1e-9);
    assert_true(fabs(back.tail.sm_ns / (ranks_reached(&w) * row_ns) - 1) < 1e-9);
    world_close(&w);
}

/* What stays on the GPU does not pass NVLink: half of the bytes at three times the speed. */
static void test_local_stores_do_not_share_the_cap(void **state)
{
    struct cost_work w = {.push_GBps = 1e9, .cap_GBps = 100, .local_GBps = 300, .hbm_GBps = 1};
    struct law_traffic t = {.local_bytes = 600, .nvlink_bytes = 600, .hbm_GBps = 1};

    (void)state;
    assert_true(fabs(law_alone_ns(&w, &t) - (6 + 2)) < 1e-6);
    t.nvlink_bytes = 0;
    assert_true(fabs(law_alone_ns(&w, &t) - 2) < 1e-6);
    w.local_GBps = 0;
    assert_true(fabs(law_alone_ns(&w, &t) - 6) < 1e-6);
}

/* Memory latency stretches with the SMs that a GEMM has and with its share of HBM bandwidth. */
static void test_latency_stretch(void **state)
{
    double v[HW_FIELD_COUNT] = {[HW_GPU_NUM_SMS] = 100,
                                [HW_GPU_HBM_GBPS] = 1000,
                                [HW_INTERFERENCE_SMS_POWER] = 2,
                                [HW_INTERFERENCE_HBM_POWER] = 3};

    (void)state;
    assert_true(fabs(law_latency_stretch(v, 4, 50, 500) - 1.125) < 1e-12);
    assert_true(fabs(law_latency_stretch(v, 4, 200, 2000) - 5) < 1e-12); /* no more than all */
    assert_true(law_latency_stretch(v, 4, 50, 0) == 1);
}

/* Slowed: fixed times and pushes stretch, what NVLink takes does not. */
static void test_slowed_kernel(void **state)
{
    struct cost_work w = {.head = {.fixed_ns = 100},
                          .tail = {.fixed_ns = 50, .sm_ns = 10},
                          .push_GBps = 8,
                          .poll_ns = 20,
                          .hbm_GBps = 100,
                          .slow_fixed = true};
    struct law_traffic t = {.nvlink_bytes = 800, .nvlink_GBps = 4, .hbm_GBps = 100, .lat_ns = 0};

    (void)state;
    assert_true(fabs(law_alone_ns(&w, &t) - (100 + 200 + 20 + 60)) < 1e-9);
    assert_true(fabs(law_slowed_ns(&w, &t, 2) - (200 + 200 + 40 + 120)) < 1e-9);
    assert_true(fabs(law_slowed_ns(&w, &t, 4) - (400 + 400 + 80 + 240)) < 1e-9);
    w.cap_GBps = 1; /* far below: it decides, whatever slows the rest */
    assert_true(fabs(law_slowed_ns(&w, &t, 2) / (200 + 800 + 40 + 120) - 1) < 2e-3);
    w.slow_fixed = false;
    assert_true(fabs(law_slowed_ns(&w, &t, 2) / (100 + 800 + 20 + 70) - 1) < 2e-3);
}

static void check_deepgemm_tile(const struct law_grouped *in, int m, const int tile[4])
{
    struct law_tile t = law_deepgemm_tile(in, m);

    assert_int_equal(t.m, tile[0]);
    assert_int_equal(t.n, tile[1]);
    assert_int_equal(t.cluster_m, tile[2]);
    assert_int_equal(t.cluster_n, tile[3]);
}

/* As DeepGEMM 2.6.1 printed them. */
static void test_deepgemm_tile_rule(void **state)
{
    struct law_grouped in = {
        .layout = GEMM_MASKED, .dtype = DTYPE_FP8, .groups = 1, .n = 4096, .k = 7168, .sms = 132};

    (void)state;
    check_deepgemm_tile(&in, 1, (const int[]){64, 32, 1, 1});
    in.groups = 2;
    in.sms = 100;
    check_deepgemm_tile(&in, 1, (const int[]){64, 96, 1, 1});
    in.groups = 8;
    in.sms = 92;
    check_deepgemm_tile(&in, 2048, (const int[]){128, 192, 1, 1});
    in.sms = 124;
    check_deepgemm_tile(&in, 128, (const int[]){128, 160, 2, 1});
    in.layout = GEMM_CONTIGUOUS;
    in.dtype = DTYPE_BF16;
    in.sms = 100;
    check_deepgemm_tile(&in, 1024, (const int[]){128, 176, 1, 2});
}

static void test_masked_padding_shows(void **state)
{
    struct world w;
    int32_t one[8], full[8], more[8];
    struct law_grouped in = {.layout = GEMM_MASKED,
                             .dtype = DTYPE_FP8,
                             .groups = 8,
                             .n = 4096,
                             .k = 7168,
                             .expected_m = 64,
                             .sms = 78,
                             .num_sms = 78};
    struct cost_work a, b, c;

    (void)state;
    world_open(&w, "h20", 8, 8, 64, 8);
    for (int i = 0; i < 8; i++) {
        one[i] = 1;
        full[i] = 64;
        more[i] = 65;
    }
    in.rows = one;
    law_grouped_work(w.v, &in, &a);
    in.rows = full;
    law_grouped_work(w.v, &in, &b);
    in.rows = more;
    law_grouped_work(w.v, &in, &c);
    assert_true(b.head.sm_ns < 1.05 * a.head.sm_ns); /* only the rows' own bytes differ */
    assert_true(c.head.sm_ns > 1.3 * b.head.sm_ns);
    world_close(&w);
}

/* Eight experts of 72 rows, two blocks each: on 132 SMs DeepGEMM shares the weights in a cluster,
 * on 100 it does not, and a part of them is read again. */
static void test_a_second_block_of_rows_reads_weights_again(void **state)
{
    struct world w;
    int32_t one[8], two[8];
    struct law_grouped in = {.layout = GEMM_MASKED,
                             .dtype = DTYPE_FP8,
                             .groups = 8,
                             .n = 4096,
                             .k = 7168,
                             .expected_m = 64,
                             .num_sms = 132};
    double weights = 8.0 * 4096 * 7168, rows = 8.0 * 8 * (7168 + 2 * 4096);
    struct cost_work a, b;

    (void)state;
    world_open(&w, "h200", 8, 8, 64, 8);
    for (int i = 0; i < 8; i++) {
        one[i] = 64;
        two[i] = 72;
    }
    for (in.sms = 132; in.sms >= 100; in.sms -= 32) {
        struct law_tile t = law_deepgemm_tile(&in, 64);

        in.rows = one;
        law_grouped_work(w.v, &in, &a);
        in.rows = two;
        law_grouped_work(w.v, &in, &b);
        assert_true((t.cluster_m > 1) == (in.sms == 132));
        assert_true(fabs(b.head.hbm_bytes - a.head.hbm_bytes - rows -
                         (in.sms == 132 ? 0 : w.v[HW_MASKED_REREAD] * weights)) < 1);
    }
    in.sms = 132;
    law_grouped_work(w.v, &in, &a);
    w.v[HW_MASKED_PAIR] *= 1.2;
    law_grouped_work(w.v, &in, &b);
    assert_true(b.head.sm_ns > 1.02 * a.head.sm_ns && b.head.sm_ns < 1.2 * a.head.sm_ns);
    world_close(&w);
}

/* Beside a GEMM a dispatch receive starts and looks later; its copy keeps its rate. */
static void test_a_slowed_receive_copies_as_fast(void **state)
{
    struct law_ll in = {.part = LAW_RECV,
                        .sms = 16,
                        .num_sms = 132,
                        .experts = 32,
                        .num_rounds = 2,
                        .tokens = 128,
                        .topk = 8,
                        .hidden = 7168,
                        .message_bytes = 7408,
                        .ranks = 4,
                        .ranks_per_node = 4,
                        .rows_recv = 512};
    struct law_traffic t = {.hbm_GBps = 1e5};
    struct cost_work few, many;
    struct world w;

    (void)state;
    world_open(&w, "h200", 8, 8, 64, 8);
    law_ll_dispatch(w.v, &in, &many);
    in.rows_recv = 1;
    law_ll_dispatch(w.v, &in, &few);
    assert_true(many.tail.hbm_bytes > 0 && many.hbm_GBps <= 16 * w.v[HW_GPU_SM_HBM_GBPS]);
    assert_true(fabs(law_slowed_ns(&many, &t, 2) - law_alone_ns(&many, &t) - many.tail.fixed_ns) <
                1e-6);
    assert_true(law_alone_ns(&many, &t) - law_alone_ns(&few, &t) > 5000);
    world_close(&w);
}

static void test_work_is_pure(void **state)
{
    struct world w;
    struct plan_op op;
    struct cost_work a, b;

    (void)state;
    world_open(&w, "h100", 16, 64, 256, 8);
    op = op_of(&w, OP_COMBINE, 24);
    op.dtype = DTYPE_BF16;
    a = work_of(&w, &op, 5);
    b = work_of(&w, &op, 5);
    assert_true(a.grid == b.grid && a.push_GBps == b.push_GBps && a.issue_ns == b.issue_ns &&
                a.head.fixed_ns == b.head.fixed_ns && a.tail.sm_ns == b.tail.sm_ns);
    assert_true(a.issue_ns > 0); /* half of the ranks are on another node */
    world_close(&w);
}

/* A rank of a tensor-parallel group has 1/tp of the heads for tp times the tokens: the same work.
 */
static void test_attention_work_does_not_depend_on_tp(void **state)
{
    const double context = 4096 + 1, widths = 512 + 64 + 512;

    (void)state;
    for (int tp = 1; tp <= 8; tp *= 8) {
        struct cost_work out;
        struct plan_op op;
        struct world w;

        world_open(&w, "h800", 16, 32, 64, 8);
        w.plan->attn = (struct plan_attn){.heads = 128 / tp,
                                          .qk_head_dim = 192,
                                          .v_head_dim = 128,
                                          .kv_lora_rank = 512,
                                          .qk_rope_head_dim = 64,
                                          .context_len = 4096,
                                          .q_tokens = 1,
                                          .tp = tp};
        op = op_of(&w, OP_ATTN_CORE, 132);
        op.rows = 32 * tp;
        out = work_of(&w, &op, 0);
        assert_true(fabs(out.flops / (2 * 32 * 128.0 * context * widths) - 1) < 1e-12);
        world_close(&w);
    }
}

/* DeepSeek-V3 and Qwen3-235B by hand; model/law/cost.h has the terms. */
static void test_bytes_beside_the_projections(void **state)
{
    struct plan_attn mla = {.heads = 128,
                            .kv_heads = 1,
                            .qk_head_dim = 192,
                            .v_head_dim = 128,
                            .q_lora_rank = 1536,
                            .kv_lora_rank = 512,
                            .qk_rope_head_dim = 64,
                            .kv_bytes_per_token = 1152};
    struct plan_attn gqa = {.heads = 64,
                            .kv_heads = 4,
                            .qk_head_dim = 128,
                            .v_head_dim = 128,
                            .kv_bytes_per_token = 2048};

    (void)state;
    assert_true(cost_norm_bytes(7168) == 57344);
    assert_true(cost_attn_side_bytes(&mla, false) == 8192 + 33024 + 1152 + 1152);
    assert_true(cost_attn_side_bytes(&mla, true) == 8192 + 33024 + 1152 + 1152 + 32896 + 49152);
    assert_true(cost_attn_side_bytes(&gqa, true) == 34816 + 2048 + 2048);
}

/* They add to the projection's own bytes, and on a full GPU move at act.hbm_eff. */
static void test_norms_are_not_free(void **state)
{
    struct cost_work with, out;
    struct plan_op op;
    struct world w;
    double bytes;

    (void)state;
    world_open(&w, "h800", 8, 32, 64, 8);
    w.plan->attn = (struct plan_attn){.heads = 8, .kv_heads = 8, .qk_head_dim = 128, .tp = 4};
    op = op_of(&w, OP_ATTN_OUT, 132);
    op.rows = 4096;
    op.k = 7168;
    out = work_of(&w, &op, 0);
    op.kind = OP_ATTN_PROJ;
    with = work_of(&w, &op, 0);
    bytes = 4096 * (57344 + cost_attn_side_bytes(&w.plan->attn, false)) + 1024 * 57344.0;
    assert_true(fabs(with.tail.hbm_bytes - out.tail.hbm_bytes - bytes) < 1);
    assert_true(fabs((with.tail.sm_ns - out.tail.sm_ns) * w.v[HW_ACT_HBM_EFF] *
                         w.v[HW_GPU_HBM_GBPS] / bytes -
                     1) < 1e-9);
    world_close(&w);
}

/* Bytes by hand, and the time they take where bytes are all that matters. */
static void test_permute_moves_copies_in_and_rows_out(void **state)
{
    struct cost_work out;
    struct plan_op op;
    struct world w;

    (void)state;
    assert_true(cost_permute_bytes(OP_PERMUTE, 3, 5, DTYPE_FP8, 7168) == 8 * (7168 + 224));
    assert_true(cost_permute_bytes(OP_PERMUTE, 3, 5, DTYPE_BF16, 7168) == 8 * 14336);
    assert_true(cost_permute_bytes(OP_UNPERMUTE, 3, 5, DTYPE_FP8, 7168) == 8 * 14336);
    world_open(&w, "h800", 8, 4096, 64, 8);
    op = op_of(&w, OP_UNPERMUTE, 132);
    op.dtype = DTYPE_BF16;
    out = work_of(&w, &op, 0);
    /* At what gathers reach. No flow group: as many copies as rows, 4096 * 8 on a rank */
    assert_true(out.head.hbm_bytes == 2 * 4096 * 8.0 * 14336);
    assert_true(
        fabs(out.head.sm_ns * w.v[HW_ACT_GATHER_EFF] * w.v[HW_GPU_HBM_GBPS] / out.head.hbm_bytes -
             1) < 1e-9);
    world_close(&w);
}

static void test_collectives_come_from_tables(void **state)
{
    struct hw_profile *p = NULL;
    double two, three, four;
    bool outside, assumed;

    (void)state;
    assert_int_equal(hw_profile_read("h200", &p), 0);
    assert_int_equal(cost_coll_ns(p, "all_reduce", 2, 1 << 20, &two, &outside, &assumed), 0);
    assert_int_equal(cost_coll_ns(p, "all_reduce", 4, 1 << 20, &four, &outside, &assumed), 0);
    assert_false(outside);
    assert_int_equal(cost_coll_ns(p, "all_reduce", 3, 1 << 20, &three, &outside, &assumed), 0);
    assert_true(three > fmin(two, four) && three < fmax(two, four));
    cost_coll_ns(p, "all_reduce", 16, 1 << 20, &three, &outside, &assumed);
    assert_true(outside);
    assert_int_not_equal(cost_coll_ns(p, "no_such", 4, 1, &two, &outside, &assumed), 0);
    hw_profile_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_low_latency_grid_rule),
        cmocka_unit_test(test_message_bytes),
        cmocka_unit_test(test_closed_form_of_one_kernel),
        cmocka_unit_test(test_every_kind_has_a_cost),
        cmocka_unit_test(test_no_rows_cost_only_the_start),
        cmocka_unit_test(test_rounds_are_not_free),
        cmocka_unit_test(test_a_gemm_on_fewer_sms_takes_longer_but_runs_each_sm_faster),
        cmocka_unit_test(test_own_gemm_takes_as_long_as_its_slowest_cta),
        cmocka_unit_test(test_latency_stretch),
        cmocka_unit_test(test_slowed_kernel),
        cmocka_unit_test(test_own_tile_rule_is_the_kernels),
        cmocka_unit_test(test_a_poor_last_pass_is_halved),
        cmocka_unit_test(test_library_all_to_all_packs_rows),
        cmocka_unit_test(test_copies_per_rank_are_packed_once),
        cmocka_unit_test(test_local_stores_do_not_share_the_cap),
        cmocka_unit_test(test_deepgemm_tile_rule),
        cmocka_unit_test(test_masked_padding_shows),
        cmocka_unit_test(test_a_second_block_of_rows_reads_weights_again),
        cmocka_unit_test(test_a_slowed_receive_copies_as_fast),
        cmocka_unit_test(test_work_is_pure),
        cmocka_unit_test(test_attention_work_does_not_depend_on_tp),
        cmocka_unit_test(test_bytes_beside_the_projections),
        cmocka_unit_test(test_norms_are_not_free),
        cmocka_unit_test(test_permute_moves_copies_in_and_rows_out),
        cmocka_unit_test(test_dedup_takes_turns),
        cmocka_unit_test(test_collectives_come_from_tables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
