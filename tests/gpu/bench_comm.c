/* How fast the exchange is on real GPUs: the figures that have an anchor (--csv FILE adds them to
 * the file with their ratios), or everything by SMs, tokens, rounds and sizes (--bench DIR). Prints
 * "skipped" where there is no GPU. */
#include <math.h>
#include "kernels/dedup.h"
#include "kernels/delay.h"
#include "tests/gpu/exchange.h"
#include "tests/gpu/speed.h"
#include "tests/gpu/world.h"

#define MAX_POINTS 400

/* Neither: the anchored figures are printed only. */
struct bench_options {
    const char *dir, *csv;
};

struct series {
    double median_us, p95_us, min_us;
    int n;
};

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Times replays of a graph that holds `ops` operations; every replay counts as its slowest rank.
 * All ranks begin together. */
static struct series time_graph(struct exchange_env *e,
                                void (*body)(struct exchange_env *, const void *), const void *arg,
                                int ops, int n)
{
    cudaGraphExec_t exec = exchange_capture(e, body, arg);
    double mine[MAX_POINTS], worst[MAX_POINTS];
    double *all = exchange_host_alloc(e, WORLD_MAX * sizeof(mine));
    for (int i = -3; i < n; i++) {
        float ms;
        CHECK(e, kernels_comm_barrier(e->comm, e->main) == 0);
        CHECK(e, cudaEventRecord(e->event[0], e->main) == cudaSuccess);
        CHECK(e, cudaGraphLaunch(exec, e->main) == cudaSuccess);
        CHECK(e, cudaEventRecord(e->event[1], e->main) == cudaSuccess);
        exchange_finish(e);
        CHECK(e, cudaEventElapsedTime(&ms, e->event[0], e->event[1]) == cudaSuccess);
        if (i >= 0)
            mine[i] = ms * 1e3 / ops;
    }
    CHECK(e, cudaGraphExecDestroy(exec) == cudaSuccess);
    CHECK(e, kernels_comm_gather(e->comm, mine, all, (size_t)n * sizeof(double)) == 0);
    for (int i = 0; i < n; i++) {
        worst[i] = 0;
        for (int r = 0; r < e->opt.ranks; r++)
            worst[i] = fmax(worst[i], all[r * n + i]);
    }
    free(all);
    qsort(worst, (size_t)n, sizeof(double), compare_double);
    return (struct series){worst[n / 2], worst[n * 95 / 100], worst[0], n};
}

struct bench {
    FILE *csv;
    struct exchange_env *e;
};

static void report(struct bench *b, const char *op, const char *copy, int sms, int tokens,
                   int rounds, double bytes, struct series s)
{
    if (b->csv == NULL)
        return;
    fprintf(b->csv, "%s,%s,%d,%d,%d,%d,%d,%d,%.0f,%.3f,%.3f,%.3f,%d\n", op, copy, b->e->opt.ranks,
            b->e->slots.shape.experts, b->e->slots.shape.hidden, sms, tokens, rounds, bytes,
            s.median_us, s.p95_us, s.min_us, s.n);
    fflush(b->csv);
}

static const char *copy_name(enum kernels_copy copy)
{
    return copy == KERNELS_COPY_STORES ? "stores" : "bulk";
}

struct op_bench {
    struct exchange_how how;
    int tokens, ops;
    int dispatch, combine;
};

static void op_body(struct exchange_env *e, const void *arg)
{
    const struct op_bench *x = arg;
    for (int i = 0; i < x->ops; i++) {
        struct exchange_how how = x->how;
        how.parity = i % 2;
        struct dispatch_args d = exchange_dispatch_args(e, &how, x->tokens);
        struct combine_args c = exchange_combine_args(e, &how, x->tokens);
        if (x->dispatch && how.dedup)
            CHECK(e, kernels_dedup_dispatch_launch(&d, e->main) == 0);
        if (x->combine && how.dedup)
            CHECK(e, kernels_dedup_combine_launch(&c, e->main) == 0);
        if (how.dedup)
            continue;
        if (x->dispatch && how.fused)
            CHECK(e, kernels_dispatch_fused_launch(&d, e->main) == 0);
        for (d.round = 0; x->dispatch && !how.fused && d.round < d.rounds; d.round++)
            CHECK(e, kernels_dispatch_send_launch(&d, e->main) == 0);
        for (d.round = 0; x->dispatch && !how.fused && d.round < d.rounds; d.round++)
            CHECK(e, kernels_dispatch_recv_launch(&d, e->main) == 0);
        if (x->combine && how.fused)
            CHECK(e, kernels_combine_fused_launch(&c, e->main) == 0);
        for (c.round = 0; x->combine && !how.fused && c.round < c.rounds; c.round++)
            CHECK(e, kernels_combine_send_launch(&c, e->main) == 0);
        if (x->combine && !how.fused)
            CHECK(e, kernels_combine_recv_launch(&c, e->main) == 0);
    }
}

/* Both parities hold a real exchange, so that a combine alone has rows to send. */
static void bench_prepare(struct exchange_env *e, int tokens)
{
    exchange_inputs_make(e, EXCHANGE_UNIFORM, tokens, 9);
    for (int i = 0; i < 4; i++) {
        struct exchange_how how = {
            .rounds = 1, .num_sms = 132, .fused = 1, .parity = i % 2, .dedup = i < 2};
        exchange_launch(e, &how, tokens, e->main);
    }
    exchange_finish(e);
}

static double moved_bytes(const struct exchange_env *e, int tokens, int combine)
{
    return (double)tokens * e->slots.shape.topk *
           (combine ? e->slots.row_bytes : e->slots.message_bytes);
}

static struct series bench_exchange(struct bench *b, struct exchange_how how, int tokens,
                                    int dispatch, int combine)
{
    struct op_bench x = {how, tokens, 20, dispatch, combine};
    struct series s = time_graph(b->e, op_body, &x, x.ops, 40);
    char op[64];
    snprintf(op, sizeof(op), "%s%s%s", dispatch ? "dispatch" : "", combine ? "combine" : "",
             how.fused ? "" : "_split");
    report(b, op, copy_name(how.copy), how.num_sms, tokens, how.rounds,
           (dispatch ? moved_bytes(b->e, tokens, 0) : 0) +
               (combine ? moved_bytes(b->e, tokens, 1) : 0),
           s);
    return s;
}

/* What no kernel can do without, at the nominal 450 GB/s of NVLink and 4.8 TB/s of HBM: a row to
 * each other rank that a token touches, while the rows of the experts are written or read. */
static double dedup_limit_us(const struct exchange_env *e, int tokens, int combine)
{
    const struct slots *s = &e->slots;
    double far = 0, bytes = combine ? s->row_bytes : s->body_bytes;
    for (int t = 0; t < tokens; t++) {
        unsigned long long ranks = 0;
        for (int k = 0; k < s->shape.topk; k++) {
            int expert = e->host_idx[t * s->shape.topk + k];
            if (expert >= 0)
                ranks |= 1ull << slots_expert_gpu(s, expert);
        }
        far += __builtin_popcountll(ranks & ~(1ull << s->shape.rank));
    }
    return fmax(far * bytes / 450e3, (double)tokens * s->shape.topk * bytes / 4800e3);
}

/* The exchange without duplicates beside its limit, and both kernels beside the 45 us. */
static void speed_dedup(struct exchange_env *e, FILE *csv)
{
    static const char *const names[] = {"dedup_dispatch", "dedup_combine", "dedup_both"};
    int tokens = 128;
    char shape[96];
    snprintf(shape, sizeof(shape), "EP%d h7168 64 experts top-8 128 tokens 132 SMs", e->opt.ranks);
    for (int i = 0; i < 3; i++) {
        struct op_bench x = {{.rounds = 1, .num_sms = 132, .dedup = 1}, tokens, 20, i != 1, i != 0};
        struct series s = time_graph(e, op_body, &x, x.ops, 100);
        double limit_us = (i != 1 ? dedup_limit_us(e, tokens, 0) : 0) +
                          (i != 0 ? dedup_limit_us(e, tokens, 1) : 0);
        struct speed_row row = {.name = names[i],
                                .shape = shape,
                                .median_us = s.median_us,
                                .p95_us = s.p95_us,
                                .n = s.n,
                                .bytes = limit_us * 450e3,
                                .anchor_us = limit_us,
                                .source = "the limit: a row per token and other rank at 450 GB/s"};
        if (e->opt.rank == 0)
            speed_write(csv, &row);
        if (i < 2 || e->opt.ranks != 2)
            continue;
        row.anchor_us = 45;
        row.goal_ratio = 1;
        row.source = "the goal at EP2";
        if (e->opt.rank == 0)
            speed_write(csv, &row);
    }
}

struct push_bench {
    struct push_args a;
    int ops;
};

static void push_body(struct exchange_env *e, const void *arg)
{
    const struct push_bench *x = arg;
    for (int i = 0; i < x->ops; i++) {
        struct push_args a = x->a;
        a.from = (const char *)x->a.from + (size_t)(i % 4) * x->a.bytes;
        CHECK(e, kernels_push_launch(&a, e->main) == 0);
    }
}

static void bench_pushes(struct bench *b, void *from)
{
    struct exchange_env *e = b->e;
    static const int sms[] = {1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 64, 132};
    static const size_t sizes[] = {16384, 131072, 1048576, 16777216};
    if (e->opt.ranks < 2)
        return;
    if (e->opt.rank == 0)
        printf("egress GB/s, all GPUs push to all others (stores / bulk)\n%12s", "SMs");
    for (size_t i = 0; e->opt.rank == 0 && i < 4; i++)
        printf("%16zu B", sizes[i]);
    for (size_t j = 0; j < sizeof(sms) / sizeof(sms[0]); j++) {
        if (e->opt.rank == 0)
            printf("\n%12d", sms[j]);
        for (size_t i = 0; i < 4; i++) {
            double rate[3] = {0};
            for (int copy = KERNELS_COPY_STORES; copy <= KERNELS_COPY_BULK; copy++) {
                int ops = sizes[i] > 2000000 ? 4 : 20;
                struct push_bench x = {{.comm = e->comm,
                                        .ctas = sms[j],
                                        .copy = (enum kernels_copy)copy,
                                        .bytes = sizes[i],
                                        .from = from},
                                       ops};
                struct series s = time_graph(e, push_body, &x, ops, sizes[i] > 2000000 ? 9 : 15);
                double bytes = (double)sizes[i] * (e->opt.ranks - 1);
                report(b, "push", copy_name((enum kernels_copy)copy), sms[j], 0, 1, bytes, s);
                rate[copy] = bytes / s.median_us * 1e-3;
            }
            if (e->opt.rank == 0)
                printf("   %6.1f /%6.1f", rate[1], rate[2]);
        }
    }
    if (e->opt.rank == 0)
        printf("\n");
}

static void bench_table(struct bench *b)
{
    struct exchange_env *e = b->e;
    double best[2] = {1e9, 1e9}, pair = 1e9;
    for (int copy = KERNELS_COPY_STORES; copy <= KERNELS_COPY_BULK; copy++) {
        struct exchange_how how = {
            .rounds = 1, .num_sms = 132, .fused = 1, .copy = (enum kernels_copy)copy};
        struct series d = bench_exchange(b, how, 128, 1, 0), c = bench_exchange(b, how, 128, 0, 1);
        struct series both = bench_exchange(b, how, 128, 1, 1);
        how.fused = 0;
        struct series sd = bench_exchange(b, how, 128, 1, 0);
        struct series sc = bench_exchange(b, how, 128, 0, 1);
        if (e->opt.rank == 0)
            printf("T=128 132 SMs %-6s median/p95 us (n=%d x 20): dispatch %.1f/%.1f combine "
                   "%.1f/%.1f both %.1f/%.1f; split %.1f %.1f\n",
                   copy_name(how.copy), d.n, d.median_us, d.p95_us, c.median_us, c.p95_us,
                   both.median_us, both.p95_us, sd.median_us, sc.median_us);
        best[0] = fmin(best[0], d.median_us);
        best[1] = fmin(best[1], c.median_us);
        pair = fmin(pair, both.median_us);
    }
    if (e->opt.rank == 0)
        printf("against DeepEP's 35 and 62 us (ratio, below 1 is faster): dispatch %.2f, combine "
               "%.2f, both %.2f; goal 98 us: %.1f\n",
               best[0] / 35, best[1] / 62, pair / 97, pair);
}

/* Sends and receives by SMs, tokens and rounds. */
static void bench_sweep(struct bench *b)
{
    static const int sms[] = {8, 16, 24, 32, 64, 132};
    for (int copy = KERNELS_COPY_STORES; copy <= KERNELS_COPY_BULK; copy++) {
        for (size_t i = 0; i < 6; i++) {
            struct exchange_how how = {
                .rounds = 1, .num_sms = sms[i], .fused = 1, .copy = (enum kernels_copy)copy};
            struct series d = bench_exchange(b, how, 128, 1, 0);
            struct series c = bench_exchange(b, how, 128, 0, 1);
            how.fused = 0;
            how.rounds = 4;
            struct series d4 = bench_exchange(b, how, 128, 1, 0);
            struct series c4 = bench_exchange(b, how, 128, 0, 1);
            if (b->e->opt.rank == 0)
                printf("%-6s %3d SMs: dispatch %6.1f combine %6.1f us; R=4 split %6.1f %6.1f\n",
                       copy_name(how.copy), sms[i], d.median_us, c.median_us, d4.median_us,
                       c4.median_us);
        }
    }
}

static void bench_tokens(struct bench *b)
{
    static const int tokens[] = {1, 8, 32, 64, 128};
    for (size_t i = 0; i < 5; i++) {
        bench_prepare(b->e, tokens[i]);
        struct exchange_how how = {
            .rounds = 1, .num_sms = 132, .fused = 1, .copy = KERNELS_COPY_BULK};
        struct series d = bench_exchange(b, how, tokens[i], 1, 0);
        struct series c = bench_exchange(b, how, tokens[i], 0, 1);
        if (b->e->opt.rank == 0)
            printf("T=%3d: dispatch %.1f combine %.1f us\n", tokens[i], d.median_us, c.median_us);
    }
}

/* Where the time of a kernel goes, from its stamps (rank 0's, medians of 21 launches). */
static void bench_stamps(struct exchange_env *e, enum kernels_copy copy)
{
    struct kernel_stamp zero, got, *stamp = exchange_device_alloc(e, sizeof(*stamp));
    double us[4][21], wait_us[4][21];
    struct exchange_how how = {.rounds = 1, .num_sms = 132, .copy = copy};
    for (int i = 0; i < 21; i++) {
        how.parity = i % 2;
        struct dispatch_args d = exchange_dispatch_args(e, &how, 128);
        struct combine_args c = exchange_combine_args(e, &how, 128);
        d.stamp = stamp;
        c.stamp = stamp;
        for (int op = 0; op < 4; op++) {
            stamp_reset(&zero);
            CHECK(e, cudaMemcpyAsync(stamp, &zero, sizeof(zero), cudaMemcpyHostToDevice, e->main) ==
                         cudaSuccess);
            CHECK(e, kernels_comm_barrier(e->comm, e->main) == 0);
            int err = op == 0   ? kernels_dispatch_send_launch(&d, e->main)
                      : op == 1 ? kernels_dispatch_recv_launch(&d, e->main)
                      : op == 2 ? kernels_combine_send_launch(&c, e->main)
                                : kernels_combine_recv_launch(&c, e->main);
            CHECK(e, err == 0);
            CHECK(e, cudaMemcpyAsync(&got, stamp, sizeof(got), cudaMemcpyDeviceToHost, e->main) ==
                         cudaSuccess);
            exchange_finish(e);
            us[op][i] = (double)(got.end_ns - got.start_ns) * 1e-3;
            wait_us[op][i] = (double)got.wait_max_ns * 1e-3;
        }
    }
    for (int op = 0; op < 4; op++) {
        qsort(us[op], 21, sizeof(double), compare_double);
        qsort(wait_us[op], 21, sizeof(double), compare_double);
    }
    if (e->opt.rank == 0)
        printf("stamps %-6s alone, us (waited): dispatch send %.1f recv %.1f (%.1f), combine send "
               "%.1f recv %.1f (%.1f)\n",
               copy_name(copy), us[0][10], us[1][10], wait_us[1][10], us[2][10], us[3][10],
               wait_us[3][10]);
    cudaFree(stamp);
}

struct hbm_bench {
    struct hbm_copy_args a;
};

static void hbm_body(struct exchange_env *e, const void *arg)
{
    const struct hbm_bench *x = arg;
    CHECK(e, kernels_hbm_copy_launch(&x->a, e->main) == 0);
}

static void bench_hbm(struct bench *b, void *memory, size_t bytes)
{
    static const int sms[] = {1, 4, 16, 32, 64, 132};
    for (size_t i = 0; i < 6; i++) {
        struct hbm_bench x = {{sms[i], (char *)memory + bytes / 2, memory, bytes / 2, NULL}};
        struct series s = time_graph(b->e, hbm_body, &x, 1, 9);
        report(b, "hbm_copy", "stores", sms[i], 0, 1, (double)bytes, s);
        if (b->e->opt.rank == 0)
            printf("%sHBM copy %d SMs %.0f GB/s%s", i ? ", " : "", sms[i],
                   (double)bytes / s.median_us * 1e-3, i == 5 ? " (read + written)\n" : "");
    }
}

/* Opens the shape that the anchors were measured at: DeepSeek's, 64 experts of it. */
static void open_deepseek(struct exchange_env *e, const unsigned char *id)
{
    struct slots_shape shape = {.vranks = e->opt.ranks,
                                .experts = 64,
                                .hidden = 7168,
                                .topk = 8,
                                .max_tokens = 128,
                                .fp8 = 1};
    exchange_open(e, shape, (size_t)e->opt.ranks << 24, 0, id);
}

/* Device memory of noise, which repeats every 64 MiB: bytes are a multiple of that. */
static void *noise_alloc(const struct exchange_env *e, size_t bytes)
{
    size_t period = (size_t)1 << 26;
    unsigned int *noise = exchange_host_alloc(e, period);
    unsigned long long rng = (unsigned long long)e->opt.rank;
    for (size_t i = 0; i < period / sizeof(*noise); i++)
        noise[i] = exchange_rng_next(&rng);
    char *memory = exchange_device_alloc(e, bytes);
    for (size_t at = 0; at < bytes; at += period)
        CHECK(e, cudaMemcpy(memory + at, noise, period, cudaMemcpyHostToDevice) == cudaSuccess);
    free(noise);
    return memory;
}

static FILE *bench_csv_open(const struct exchange_env *e, const char *dir)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/comm_bench_%d.csv", dir, e->opt.ranks);
    FILE *csv = fopen(path, "w");
    CHECK(e, csv != NULL);
    fprintf(csv,
            "op,copy,ranks,experts,hidden,sms,tokens,rounds,bytes,median_us,p95_us,min_us,n\n");
    return csv;
}

static void run_everything(struct exchange_env *e, const unsigned char *id, const char *dir)
{
    size_t bytes = (size_t)1 << 30;
    long long offset_ns[WORLD_MAX], trip_ns[WORLD_MAX];
    open_deepseek(e, id);
    struct bench b = {e->opt.rank == 0 ? bench_csv_open(e, dir) : NULL, e};
    void *memory = noise_alloc(e, bytes);
    CHECK(e, kernels_comm_clocks(e->comm, offset_ns, trip_ns) == 0);
    for (int r = 1; e->opt.rank == 0 && r < e->opt.ranks; r++)
        printf("clock of rank %d: offset %lld ns, round trip %lld ns\n", r, offset_ns[r],
               trip_ns[r]);
    bench_hbm(&b, memory, bytes);
    bench_pushes(&b, memory);
    bench_tokens(&b);
    bench_sweep(&b);
    bench_stamps(e, KERNELS_COPY_STORES);
    bench_stamps(e, KERNELS_COPY_BULK);
    bench_table(&b);
    if (b.csv != NULL)
        fclose(b.csv);
    cudaFree(memory);
    exchange_close(e);
}

/* The two kernels and both in one graph, by the copies that AUTO means. The anchor is EP4's: fewer
 * GPUs send less over NVLink, so that their figures have none. */
static void speed_exchanges(struct exchange_env *e, FILE *csv)
{
    static const struct {
        const char *name;
        int dispatch, combine;
        double anchor_us, goal_ratio;
    } cases[] = {
        {"dispatch", 1, 0, 35, 0}, {"combine", 0, 1, 62, 0}, {"both", 1, 1, 97, 97.0 / 98}};
    int ranks = e->opt.ranks, tokens = 128;
    char shape[96];
    snprintf(shape, sizeof(shape), "EP%d h7168 64 experts top-8 128 tokens 132 SMs", ranks);
    bench_prepare(e, tokens);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct op_bench x = {{.rounds = 1, .num_sms = 132, .fused = 1},
                             tokens,
                             20,
                             cases[i].dispatch,
                             cases[i].combine};
        struct series s = time_graph(e, op_body, &x, x.ops, 100);
        double bytes = (cases[i].dispatch ? moved_bytes(e, tokens, 0) : 0) +
                       (cases[i].combine ? moved_bytes(e, tokens, 1) : 0);
        struct speed_row row = {cases[i].name,
                                shape,
                                s.median_us,
                                s.p95_us,
                                s.n,
                                bytes * (ranks - 1) / ranks,
                                cases[i].anchor_us,
                                cases[i].goal_ratio,
                                "DeepEP's low-latency kernels at EP4 (the issue)"};
        if (ranks != 4) {
            row.anchor_us = row.goal_ratio = 0;
            row.source = "none: the anchor is EP4's";
        }
        if (e->opt.rank == 0)
            speed_write(csv, &row);
    }
}

/* 16 MiB to each peer, all GPUs at once. The goal is a rate: 305 GB/s of egress. */
static void speed_pushes(struct exchange_env *e, FILE *csv, const void *from)
{
    size_t each = (size_t)16 << 20;
    double bytes = (double)each * (e->opt.ranks - 1);
    for (int copy = KERNELS_COPY_STORES; e->opt.ranks > 1 && copy <= KERNELS_COPY_BULK; copy++) {
        struct push_bench x = {{.comm = e->comm,
                                .ctas = 24,
                                .copy = (enum kernels_copy)copy,
                                .bytes = each,
                                .from = from},
                               4};
        struct series s = time_graph(e, push_body, &x, x.ops, 41);
        char shape[96];
        snprintf(shape, sizeof(shape), "%d GPUs 16 MiB to each peer 24 SMs %s", e->opt.ranks,
                 copy_name((enum kernels_copy)copy));
        struct speed_row row = {"push",        shape, s.median_us,
                                s.p95_us,      s.n,   bytes,
                                bytes / 305e3, 1,     "goal of 305 GB/s egress (the issue)"};
        if (e->opt.rank == 0)
            speed_write(csv, &row);
    }
}

static void run_anchored(struct exchange_env *e, const unsigned char *id, const char *path)
{
    /* Four pushes take turns, so that none reads from the L2. */
    size_t bytes = (size_t)64 << 20;
    open_deepseek(e, id);
    FILE *csv = e->opt.rank == 0 && path != NULL ? speed_open(path) : NULL;
    CHECK(e, e->opt.rank != 0 || path == NULL || csv != NULL);
    void *memory = noise_alloc(e, bytes);
    speed_exchanges(e, csv);
    speed_dedup(e, csv);
    speed_pushes(e, csv, memory);
    if (csv != NULL)
        fclose(csv);
    cudaFree(memory);
    exchange_close(e);
}

static void run(struct exchange_env *e, unsigned char *id, const void *arg)
{
    const struct bench_options *opt = arg;
    if (opt->csv == NULL && opt->dir != NULL)
        run_everything(e, id, opt->dir);
    else
        run_anchored(e, id, opt->csv);
}

int main(int argc, char **argv)
{
    struct bench_options opt = {NULL, NULL};
    const struct exchange_option own[] = {{"--csv", "FILE", EXCHANGE_TEXT, &opt.csv},
                                          {"--bench", "DIR", EXCHANGE_TEXT, &opt.dir},
                                          {0}};
    struct exchange_program program = {own, run, &opt};
    return exchange_main(argc, argv, &program);
}
