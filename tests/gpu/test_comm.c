/* The exchange on real GPUs: right results for every schedule, replayed, held up at random, paced
 * and with two batches in flight; waits that end, arguments that are refused. Inputs are drawn anew
 * in each run; --seed repeats one. Prints "skipped" where there is no GPU. */
#include "kernels/comm_ref.h"
#include "kernels/delay.h"
#include "tests/gpu/exchange.h"
#include "tests/gpu/world.h"

struct test_options {
    int quick; /* few cases, for the sanitizer */
    int replays;
};

/* How many exchanges have been compared, and the largest distance from the reference so far. */
struct score {
    int points;
    double worst;
};

/* No exchange may be under way: the window is poisoned too, between barriers. */
static void poison(struct exchange_env *e, int parity)
{
    struct exchange_buffers *b = &e->buf[parity];
    CHECK(e, kernels_comm_barrier(e->comm, e->main) == 0);
    CHECK(e, kernels_comm_poison(e->comm, e->main) == 0);
    CHECK(e, kernels_comm_barrier(e->comm, e->main) == 0);
    CHECK(e, cudaMemsetAsync(b->packed_x, 0xff, b->packed_bytes, e->main) == cudaSuccess);
    CHECK(e, cudaMemsetAsync(b->packed_scales, 0xff, b->scale_bytes, e->main) == cudaSuccess);
    CHECK(e, cudaMemsetAsync(b->y_packed, 0xff, b->y_packed_bytes, e->main) == cudaSuccess);
    CHECK(e, cudaMemsetAsync(b->y, 0xff, b->y_bytes, e->main) == cudaSuccess);
}

/* y (device) against the double reference, or bit by bit against the first result for these inputs.
 */
static void check_rows(struct exchange_env *e, const void *y, int tokens, int first,
                       struct score *score)
{
    size_t bytes = (size_t)tokens * (size_t)e->slots.shape.hidden * 2;
    CHECK(e, cudaMemcpy(e->host_y, y, bytes, cudaMemcpyDeviceToHost) == cudaSuccess);
    score->points++;
    if (!first) {
        CHECK(e, memcmp(e->host_y, e->first_y, bytes) == 0);
        return;
    }
    memcpy(e->first_y, e->host_y, bytes);
    int hidden = e->slots.shape.hidden;
    for (int t = 0; t < tokens; t++) {
        size_t at = (size_t)t * (size_t)hidden;
        double distance = comm_ref_distance(e->host_y + at, e->ref + at, hidden);
        if (!(distance < 5e-3))
            fprintf(stderr, "rank %d token %d of %d: distance %g\n", e->opt.rank, t, tokens,
                    distance);
        CHECK(e, distance < 5e-3);
        score->worst = distance > score->worst ? distance : score->worst;
    }
}

static void check_y(struct exchange_env *e, int parity, int tokens, int first, struct score *score)
{
    check_rows(e, e->buf[parity].y, tokens, first, score);
}

/* One row per token and rank: sums are rounded once more, so that the bits are its own. */
static void test_dedup(struct exchange_env *e, int tokens, struct score *score)
{
    static const struct exchange_how hows[] = {
        {.rounds = 1, .num_sms = 132, .dedup = 1},
        {.rounds = 1, .num_sms = 132, .dedup = 1, .parity = 1, .idx_bytes = 8},
        {.rounds = 1, .num_sms = 24, .dedup = 1, .delay_ns = 20000},
        {.rounds = 1, .num_sms = 5, .dedup = 1, .parity = 1, .delay_ns = 50000},
    };
    for (size_t i = 0; i < sizeof(hows) / sizeof(hows[0]); i++) {
        poison(e, hows[i].parity);
        exchange_launch(e, &hows[i], tokens, e->main);
        exchange_finish(e);
        check_y(e, hows[i].parity, tokens, i == 0, score);
    }
}

/* Every schedule over the same inputs; all must give the same bits. */
static void test_inputs(struct exchange_env *e, enum exchange_routing routing, int tokens,
                        unsigned int seed, struct score *score)
{
    static const struct exchange_how hows[] = {
        {.rounds = 1, .num_sms = 132, .fused = 1, .copy = KERNELS_COPY_BULK},
        {.rounds = 1, .num_sms = 132, .fused = 1, .copy = KERNELS_COPY_STORES, .parity = 1},
        {.rounds = 1, .num_sms = 132, .copy = KERNELS_COPY_BULK, .idx_bytes = 8},
        {.rounds = 1, .num_sms = 132, .copy = KERNELS_COPY_BULK, .sbo = 1, .parity = 1},
        {.rounds = 1, .num_sms = 24, .copy = KERNELS_COPY_STORES, .sbo = 1},
        {.rounds = 2, .num_sms = 132, .copy = KERNELS_COPY_STORES, .parity = 1},
        {.rounds = 2, .num_sms = 16, .copy = KERNELS_COPY_BULK, .delay_ns = 20000},
        {.rounds = 4, .num_sms = 8, .copy = KERNELS_COPY_BULK, .idx_bytes = 8, .parity = 1},
        {.rounds = 4, .num_sms = 24, .copy = KERNELS_COPY_STORES, .delay_ns = 50000},
        {.rounds = 1, .num_sms = 11, .fused = 1, .copy = KERNELS_COPY_BULK, .delay_ns = 50000},
        {.rounds = 1, .num_sms = 132, .hot_rows = 1000, .copy = KERNELS_COPY_BULK},
        {.rounds = 1, .num_sms = 24, .fused = 1, .hot_rows = 1000, .delay_ns = 20000},
        {.rounds = 4, .num_sms = 16, .hot_rows = 1000, .idx_bytes = 8, .parity = 1},
    };
    int first = 1;
    exchange_inputs_make(e, routing, tokens, seed);
    exchange_reference_make(e, tokens);
    for (size_t i = 0; i < sizeof(hows) / sizeof(hows[0]); i++) {
        const struct exchange_how *how = &hows[i];
        struct kernels_grid grid;
        /* The combine's receive serves the experts of all rounds. */
        if (e->slots.experts_local % how->rounds != 0 ||
            kernels_comm_grid(e->slots.shape.experts, how->num_sms, 1, &grid) != 0)
            continue;
        poison(e, how->parity);
        exchange_launch(e, how, tokens, e->main);
        exchange_finish(e);
        check_y(e, how->parity, tokens, first, score);
        first = 0;
    }
    test_dedup(e, tokens, score);
}

/* RAGGED in `tokens`: each rank draws a number of its own. */
enum { RAGGED = 1 << 20 };

static int tokens_of(const struct exchange_env *e, int tokens, unsigned int seed)
{
    unsigned long long rng =
        ((unsigned long long)(e->opt.seed + seed) << 8) + (unsigned int)e->opt.rank;
    return tokens != RAGGED
               ? tokens
               : (int)(exchange_rng_next(&rng) % (unsigned int)(e->slots.shape.max_tokens + 1));
}

static void test_shape(struct exchange_env *e, const char *name, struct slots_shape shape,
                       const int *tokens, const unsigned char *id)
{
    double begin_s = world_now_s();
    struct score score = {0};
    exchange_open(e, shape, 1 << 20, 0, id);
    for (int i = 0; tokens[i] >= 0; i++) {
        for (int routing = 0; routing < EXCHANGE_ROUTINGS; routing++) {
            unsigned int seed = (unsigned int)(i * EXCHANGE_ROUTINGS + routing + 1);
            test_inputs(e, (enum exchange_routing)routing, tokens_of(e, tokens[i], seed), seed,
                        &score);
        }
    }
    if (e->opt.rank == 0)
        printf("ok   %-34s %3d exchanges, worst distance %.2e, %.1f s\n", name, score.points,
               score.worst, world_now_s() - begin_s);
    fflush(stdout);
}

/* One stretch of replays over the same inputs, and the exchanges in each. */
enum stretch { STRETCH = 50, LAYERS = 4 };

/* What a replay works on. */
struct replay {
    int tokens;
    int dedup; /* one row per token and rank */
    void *log; /* device: y of every exchange of a stretch */
};

/* Leaves y of each exchange in the log. */
static void replay_body(struct exchange_env *e, const void *arg)
{
    const struct replay *r = arg;
    size_t bytes = e->buf[0].y_bytes;
    static const struct exchange_how layers[LAYERS] = {
        {.rounds = 1, .num_sms = 132, .fused = 1, .delay_ns = 3000},
        {.rounds = 2, .num_sms = 24, .parity = 1, .copy = KERNELS_COPY_STORES, .delay_ns = 3000},
        {.rounds = 1, .num_sms = 132, .sbo = 1, .hot_rows = 1000},
        {.rounds = 4, .num_sms = 16, .parity = 1, .hot_rows = 1000, .delay_ns = 3000}};
    for (size_t i = 0; i < LAYERS; i++) {
        struct exchange_how how = layers[i];
        if (e->slots.experts_local % how.rounds != 0)
            how.rounds = 1;
        if (r->dedup) {
            how.dedup = how.rounds = 1;
            how.sbo = 0;
        }
        exchange_launch(e, &how, r->tokens, e->main);
        CHECK(e, cudaMemcpyAsync((char *)r->log + i * bytes, e->buf[how.parity].y, bytes,
                                 cudaMemcpyDeviceToDevice, e->main) == cudaSuccess);
    }
}

/* Replays in a row on poisoned memory, without a pause; every y of theirs is compared afterwards.
 */
static void replay_stretch(struct exchange_env *e, cudaGraphExec_t exec, const struct replay *r,
                           int replays, struct score *score)
{
    size_t bytes = e->buf[0].y_bytes, step = LAYERS * bytes;
    CHECK(e, cudaMemsetAsync(r->log, 0xff, STRETCH * step, e->main) == cudaSuccess);
    for (int parity = 0; parity < 2; parity++)
        poison(e, parity);
    /* The last replay's stays in place 0, where all of them leave it. */
    for (int i = replays - 1; i >= 0; i--) {
        CHECK(e, cudaGraphLaunch(exec, e->main) == cudaSuccess);
        if (i > 0)
            CHECK(e, cudaMemcpyAsync((char *)r->log + (size_t)i * step, r->log, step,
                                     cudaMemcpyDeviceToDevice, e->main) == cudaSuccess);
    }
    exchange_finish(e);
    for (int i = 0; i < replays * LAYERS; i++)
        check_rows(e, (char *)r->log + (size_t)i * bytes, r->tokens, i == 0, score);
}

/* Replays of four exchanges of different schedules, with random delays. Each stretch has inputs of
 * its own; the graph stays. */
static void test_replays(struct exchange_env *e, int dedup, int replays)
{
    size_t log_bytes = STRETCH * LAYERS * e->buf[0].y_bytes;
    struct replay r = {e->slots.shape.max_tokens, dedup, exchange_device_alloc(e, log_bytes)};
    struct score score = {0};
    double begin_s = world_now_s();
    cudaGraphExec_t exec = exchange_capture(e, replay_body, &r);
    for (int i = 0; i < replays; i += STRETCH) {
        exchange_inputs_make(e, (enum exchange_routing)(i / STRETCH % EXCHANGE_ROUTINGS), r.tokens,
                             4242 + (unsigned int)i);
        exchange_reference_make(e, r.tokens);
        replay_stretch(e, exec, &r, replays - i < STRETCH ? replays - i : STRETCH, &score);
    }
    CHECK(e, cudaGraphExecDestroy(exec) == cudaSuccess);
    cudaFree(r.log);
    if (e->opt.rank == 0)
        printf("ok   %d replays of four exchanges%s, %.1f s\n", replays,
               dedup ? " without duplicates" : "", world_now_s() - begin_s);
    fflush(stdout);
}

/* Two half batches at once, a parity each, on two streams. Ranks meet before each pair. */
static void test_two_batches(struct exchange_env *e, int pairs)
{
    int tokens = e->slots.shape.max_tokens;
    struct score score = {0};
    struct exchange_how a = {.rounds = 1, .num_sms = 24, .delay_ns = 10000};
    struct exchange_how b = {.rounds = 2, .num_sms = 24, .parity = 1, .delay_ns = 10000};
    if (e->slots.experts_local % 2 != 0)
        return;
    exchange_inputs_make(e, EXCHANGE_UNIFORM, tokens, 77);
    exchange_reference_make(e, tokens);
    for (int i = 0; i < pairs; i++) {
        poison(e, 0);
        poison(e, 1);
        exchange_finish(e);
        exchange_trail_begin(e);
        exchange_launch(e, &a, tokens, e->main);
        exchange_launch(e, &b, tokens, e->side);
        exchange_finish_watched(e);
        check_y(e, 0, tokens, i == 0, &score);
        check_y(e, 1, tokens, 0, &score);
    }
    if (e->opt.rank == 0)
        printf("ok   two batches in flight\n");
}

/* The same without meeting: ranks drift apart as far as the exchange itself lets them, held up for
 * up to a millisecond at random. */
static void test_drift(struct exchange_env *e, int pairs)
{
    int tokens = e->slots.shape.max_tokens;
    struct score score = {0};
    struct exchange_how a = {.rounds = 1, .num_sms = 24, .delay_ns = 1000000};
    struct exchange_how b = {.rounds = 2, .num_sms = 24, .parity = 1, .delay_ns = 1000000};
    if (e->slots.experts_local % 2 != 0)
        return;
    exchange_inputs_make(e, EXCHANGE_UNIFORM, tokens, 78);
    exchange_reference_make(e, tokens);
    poison(e, 0);
    poison(e, 1);
    exchange_finish(e);
    exchange_trail_begin(e);
    for (int i = 0; i < pairs; i++) {
        exchange_launch(e, &a, tokens, e->main);
        exchange_launch(e, &b, tokens, e->side);
    }
    exchange_finish_watched(e);
    check_y(e, 0, tokens, 1, &score);
    check_y(e, 1, tokens, 0, &score);
    exchange_trail_end(e);
    if (e->opt.rank == 0)
        printf("ok   %d pairs of batches in a row\n", pairs);
}

/* A message over the emulated network takes its latency and its bytes' time. */
static void test_pacing(struct exchange_env *e, const long long *offset_ns)
{
    int tokens = e->slots.shape.max_tokens;
    struct score score = {0};
    long long *device_offset = exchange_device_alloc(e, (size_t)e->opt.ranks * 8);
    CHECK(e, cudaMemcpy(device_offset, offset_ns, (size_t)e->opt.ranks * 8,
                        cudaMemcpyHostToDevice) == cudaSuccess);
    struct exchange_how how = {.rounds = 1, .num_sms = 132, .fused = 1};
    exchange_inputs_make(e, EXCHANGE_UNIFORM, tokens, 5);
    exchange_reference_make(e, tokens);
    double ms[2];
    for (int paced = 0; paced < 2; paced++) {
        if (paced)
            how.pacing = (struct kernels_pacing){1.0, 300000, device_offset};
        float elapsed;
        exchange_launch(e, &how, tokens, e->main);
        CHECK(e, kernels_comm_barrier(e->comm, e->main) == 0);
        CHECK(e, cudaEventRecord(e->event[0], e->main) == cudaSuccess);
        exchange_launch(e, &how, tokens, e->main);
        CHECK(e, cudaEventRecord(e->event[1], e->main) == cudaSuccess);
        exchange_finish(e);
        check_y(e, 0, tokens, paced == 0, &score);
        CHECK(e, cudaEventElapsedTime(&elapsed, e->event[0], e->event[1]) == cudaSuccess);
        ms[paced] = elapsed;
    }
    /* Twice 300 us of latency, and what leaves a rank, whether or not the GPU stands for its
     * receiver too, at 1 byte/ns; uniform routing sends each rank about as much. */
    int ranks = e->slots.shape.vranks;
    double sent = (double)tokens * e->slots.shape.topk * (ranks - 1) / ranks;
    double least_ms =
        ranks > 1 ? 0.55 + 0.8e-6 * sent * (e->slots.message_bytes + e->slots.row_bytes) : 0;
    CHECK(e, ms[1] >= least_ms);
    if (e->opt.rank == 0)
        printf("ok   pacing: %d ranks on %d GPUs: exchange %.3f ms, with 2 x 0.300 ms latency and "
               "1 GB/s %.3f ms, at least %.3f\n",
               ranks, e->opt.ranks, ms[0], ms[1], least_ms);
    cudaFree(device_offset);
}

static void test_alltoall(struct exchange_env *e)
{
    size_t ranks = (size_t)e->opt.ranks, bytes = 4096;
    size_t counts[WORLD_MAX], offsets[WORLD_MAX];
    unsigned char *host = exchange_host_alloc(e, ranks * bytes);
    unsigned char *in = exchange_device_alloc(e, ranks * bytes);
    unsigned char *out = exchange_device_alloc(e, ranks * bytes);
    for (size_t r = 0; r < ranks; r++) {
        counts[r] = bytes;
        offsets[r] = r * bytes;
        memset(host + r * bytes, (int)((size_t)e->opt.rank * 16 + r), bytes);
    }
    CHECK(e, cudaMemcpy(in, host, ranks * bytes, cudaMemcpyHostToDevice) == cudaSuccess);
    CHECK(e, kernels_comm_alltoall_open(e->comm, 4) == 0);
    CHECK(e, kernels_comm_alltoall_open(e->comm, 4) == 0);
    struct alltoall_args a = {e->comm, 4, in, out, counts, offsets, counts, offsets};
    CHECK(e, kernels_alltoall_launch(&a, e->main) == 0);
    exchange_finish(e);
    CHECK(e, cudaMemcpy(host, out, ranks * bytes, cudaMemcpyDeviceToHost) == cudaSuccess);
    for (size_t r = 0; r < ranks; r++)
        for (size_t i = 0; i < bytes; i++)
            CHECK(e, host[r * bytes + i] == (unsigned char)(r * 16 + (size_t)e->opt.rank));
    cudaFree(in);
    cudaFree(out);
    free(host);
    if (e->opt.rank == 0)
        printf("ok   NCCL all-to-all on 4 CTAs\n");
}

/* More CTA counts than there are communicators: the oldest makes room, and may come again. */
static void test_many_alltoalls(struct exchange_env *e)
{
    for (int ctas = 4; ctas <= 12; ctas++)
        CHECK(e, kernels_comm_alltoall_open(e->comm, ctas) == 0);
    test_alltoall(
        e); /* 4 had made room and comes again in the place of 5; 6 is asked for, 7 goes */
    CHECK(e, kernels_comm_alltoall_open(e->comm, 6) == 0);
    CHECK(e, kernels_comm_alltoall_open(e->comm, 13) == 0);
    test_alltoall(e);
}

static void test_push(struct exchange_env *e)
{
    size_t bytes = 65536 + 48;
    if (e->opt.ranks < 2)
        return;
    unsigned char *host = exchange_host_alloc(e, bytes), *from = exchange_device_alloc(e, bytes);
    for (int copy = KERNELS_COPY_STORES; copy <= KERNELS_COPY_BULK; copy++) {
        for (size_t i = 0; i < bytes; i++)
            host[i] = (unsigned char)((size_t)(e->opt.rank * 31 + copy * 7) + i * 13 + i / 256);
        CHECK(e, cudaMemcpy(from, host, bytes, cudaMemcpyHostToDevice) == cudaSuccess);
        struct push_args a = {.comm = e->comm,
                              .ctas = 5,
                              .copy = (enum kernels_copy)copy,
                              .bytes = bytes,
                              .from = from};
        CHECK(e, kernels_push_launch(&a, e->main) == 0);
        CHECK(e, kernels_comm_barrier(e->comm, e->main) == 0);
        exchange_finish(e);
        for (int r = 0; r < e->opt.ranks; r++) {
            if (r == e->opt.rank)
                continue;
            CHECK(e, cudaMemcpy(host, kernels_push_landing(e->comm, r, bytes), bytes,
                                cudaMemcpyDeviceToHost) == cudaSuccess);
            for (size_t i = 0; i < bytes; i++)
                CHECK(e,
                      host[i] == (unsigned char)((size_t)(r * 31 + copy * 7) + i * 13 + i / 256));
        }
        CHECK(e, kernels_comm_barrier(e->comm, e->main) == 0);
        exchange_finish(e);
    }
    cudaFree(from);
    free(host);
    if (e->opt.rank == 0)
        printf("ok   pushes land\n");
}

/* Refused arguments, and grids that cannot be. */
static void test_refusals(struct exchange_env *e)
{
    struct exchange_how how = {.rounds = 1, .num_sms = 132, .fused = 1};
    struct dispatch_args d = exchange_dispatch_args(e, &how, 1);
    d.tokens = e->slots.shape.max_tokens + 1;
    CHECK(e, kernels_dispatch_send_launch(&d, e->main) == ERR_RANGE);
    d = exchange_dispatch_args(e, &how, 1);
    d.rounds = e->slots.experts_local + 1;
    CHECK(e, kernels_dispatch_send_launch(&d, e->main) == ERR_RANGE);
    if (e->slots.shape.experts >= 15) {
        d = exchange_dispatch_args(e, &how, 1);
        d.num_sms = 1;
        CHECK(e, kernels_dispatch_recv_launch(&d, e->main) == ERR_INFEASIBLE);
    }
    if (e->opt.rank == 0)
        printf("ok   bad arguments are refused\n");
}

/* A receive that nobody sends to must end with ERR_TIMEOUT. The handle is spent after it. */
static void test_timeout(struct exchange_env *e, const unsigned char *id)
{
    struct slots_shape shape = {
        .vranks = e->opt.ranks, .experts = 8, .hidden = 512, .topk = 2, .max_tokens = 8, .fp8 = 1};
    struct exchange_how how = {.rounds = 1, .num_sms = 132};
    exchange_open(e, shape, 0, 50000000, id);
    struct dispatch_args d = exchange_dispatch_args(e, &how, 1);
    CHECK(e, kernels_dispatch_recv_launch(&d, e->main) == 0);
    CHECK(e, cudaStreamSynchronize(e->main) == cudaSuccess);
    CHECK(e, kernels_comm_status(e->comm) == ERR_TIMEOUT);
    exchange_close(e);
    if (e->opt.rank == 0)
        printf("ok   a wait in vain ends with its reason\n");
}

/* Rank 0 makes an id for one more handle; all get it through the open one. */
static void next_id(struct exchange_env *e, unsigned char *id)
{
    unsigned char mine[KERNELS_COMM_ID_BYTES] = {0}, all[WORLD_MAX * KERNELS_COMM_ID_BYTES];
    if (e->opt.rank == 0)
        CHECK(e, kernels_comm_id(mine) == 0);
    CHECK(e, kernels_comm_gather(e->comm, mine, all, sizeof(mine)) == 0);
    memcpy(id, all, sizeof(mine));
}

static void run_tests(struct exchange_env *e, unsigned char *id, const struct test_options *opt)
{
    int w = e->opt.ranks;
    long long offset_ns[WORLD_MAX], trip_ns[WORLD_MAX];
    struct slots_shape tiny = {
        .vranks = w, .experts = 16, .hidden = 512, .topk = 4, .max_tokens = 32, .fp8 = 1};
    test_shape(e, "16 experts, 512 wide, FP8", tiny,
               opt->quick ? (const int[]){7, -1} : (const int[]){1, 7, 32, 0, RAGGED, RAGGED, -1},
               id);
    CHECK(e, kernels_comm_clocks(e->comm, offset_ns, trip_ns) == 0);
    test_alltoall(e);
    test_push(e);
    test_refusals(e);
    test_two_batches(e, opt->quick ? 6 : 20);
    test_drift(e, opt->quick ? 3 : 20);
    test_replays(e, 0, opt->quick ? 3 : opt->replays);
    test_replays(e, 1, opt->quick ? 3 : opt->replays);
    next_id(e, id);
    if (opt->quick) {
        exchange_close(e);
        return;
    }
    test_pacing(e, offset_ns);
    exchange_close(e);
    test_timeout(e, id);
}

static void run_large_tests(struct exchange_env *e, unsigned char *id, int replays)
{
    int w = e->opt.ranks;
    long long offset_ns[WORLD_MAX], trip_ns[WORLD_MAX];
    struct slots_shape deepseek = {
        .vranks = w, .experts = 64, .hidden = 7168, .topk = 8, .max_tokens = 128, .fp8 = 1};
    struct slots_shape bf16 = {
        .vranks = w, .experts = 32, .hidden = 2048, .topk = 6, .max_tokens = 512, .fp8 = 0};
    struct slots_shape wide = {
        .vranks = w, .experts = 128, .hidden = 2048, .topk = 8, .max_tokens = 512, .fp8 = 1};
    struct slots_shape folded = {
        .vranks = 4 * w, .experts = 64, .hidden = 1024, .topk = 8, .max_tokens = 48, .fp8 = 1};
    test_shape(e, "64 experts, 7168 wide, FP8", deepseek, (const int[]){1, 128, RAGGED, -1}, id);
    test_replays(e, 0, replays);
    test_replays(e, 1, replays);
    next_id(e, id);
    exchange_close(e);
    test_shape(e, "32 experts, 2048 wide, BF16", bf16, (const int[]){33, 512, RAGGED, -1}, id);
    next_id(e, id);
    exchange_close(e);
    test_shape(e, "128 experts, 2048 wide, FP8", wide, (const int[]){1, 512, RAGGED, -1}, id);
    next_id(e, id);
    exchange_close(e);
    test_shape(e, "slices: 4 virtual ranks per GPU", folded, (const int[]){16, 48, -1}, id);
    CHECK(e, kernels_comm_clocks(e->comm, offset_ns, trip_ns) == 0);
    test_pacing(e, offset_ns);
    test_many_alltoalls(e);
    next_id(e, id);
    exchange_close(e);
}

static void run(struct exchange_env *e, unsigned char *id, const void *arg)
{
    const struct test_options *opt = arg;
    if (e->opt.rank == 0)
        printf("seed %u\n", e->opt.seed);
    if (!opt->quick)
        run_large_tests(e, id, opt->replays / 5);
    run_tests(e, id, opt);
}

int main(int argc, char **argv)
{
    struct test_options opt = {.replays = 1000};
    const struct exchange_option own[] = {{"--quick", NULL, EXCHANGE_FLAG, &opt.quick},
                                          {"--replays", "N", EXCHANGE_INT, &opt.replays},
                                          {0}};
    struct exchange_program program = {own, run, &opt};
    return exchange_main(argc, argv, &program);
}
