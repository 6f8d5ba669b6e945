/* validate/bench/bench.c: the microbenchmarks that profiles are fitted to.
 *
 * Columns: kind,system,dtype,num_sms,tokens,experts,rounds,round,hidden,inter,rows,groups,n,k,topk,
 * ranks,bytes,alone_us,overlap_us,wait_us,latency_us,n_rep,p95_us,block_m,skew,hot_rows. Kernels of
 * our own are timed by their stamps (first CTA's start to last CTA's end), so that no launch is
 * counted; receives run after the data has come; wait_us is what of it they still took to see that.
 * A line holds the median over repetitions of the mean over ranks. */
#include "validate/bench/bench.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/stats.h"
#include "kernels/grouped_gemm.h"

struct bench_shape {
    int experts, hidden, inter, topk;
};

static void cell(FILE *f, double value)
{
    if (value > 0)
        fprintf(f, ",%.10g", value);
    else
        fprintf(f, ",");
}

static void row_write(const struct bench *b, const struct bench_row *r, double median_us,
                      double p95_us, int n)
{
    FILE *f = b->csv;
    bool rounds = r->rounds > 0;

    fprintf(f, "%s,,%s", r->kind, r->dtype ? r->dtype : "");
    cell(f, r->num_sms);
    cell(f, r->tokens);
    cell(f, r->experts);
    cell(f, r->rounds);
    if (rounds)
        fprintf(f, ",%d", r->round);
    else
        fprintf(f, ",");
    cell(f, r->hidden);
    cell(f, r->inter);
    cell(f, r->rows);
    cell(f, r->groups);
    cell(f, r->n);
    cell(f, r->k);
    cell(f, r->topk);
    cell(f, b->s->ranks);
    cell(f, r->bytes);
    cell(f, r->alone_us);
    cell(f, r->overlap_us);
    cell(f, r->wait_us);
    fprintf(f, ",%.4f,%d,%.4f", median_us, n, p95_us);
    cell(f, r->block_m);
    cell(f, r->skew);
    cell(f, r->hot_rows);
    fputc('\n', f);
}

int bench_report(struct bench *b, const struct bench_row *row, const double *us, int n)
{
    struct gpu_session *s = b->s;
    double *all = calloc((size_t)n * (size_t)(s->ranks + 1), sizeof *all);
    double *mean = all ? all + (size_t)n * (size_t)s->ranks : NULL;
    int err = all ? gpu_gather(s, us, all, (size_t)n * sizeof *us) : ERR_NOMEM;

    for (int r = 0; !err && r < s->ranks; r++)
        for (int i = 0; i < n; i++)
            mean[i] += all[r * n + i] / s->ranks;
    if (!err && s->rank == 0)
        row_write(b, row, stats_median(mean, (size_t)n), stats_quantile(mean, (size_t)n, 0.95), n);
    b->num_rows++;
    free(all);
    return err;
}

int bench_stamps_reset(struct bench *b)
{
    return GPU(cudaMemcpyAsync(b->stamps, b->reset, BENCH_MAX_STAMPS * sizeof *b->stamps,
                               cudaMemcpyHostToDevice, b->s->main));
}

int bench_stamps_read(struct bench *b)
{
    int err = GPU(cudaMemcpyAsync(b->got, b->stamps, BENCH_MAX_STAMPS * sizeof *b->stamps,
                                  cudaMemcpyDeviceToHost, b->s->main));

    if (!err)
        err = gpu_wait(b->s, b->s->main);
    return err ? err : gpu_wait(b->s, b->side);
}

double bench_us(const struct bench *b, int stamp)
{
    return (double)(long long)(b->got[stamp].end_ns - b->got[stamp].start_ns) * 1e-3;
}

double bench_wait_us(const struct bench *b, int stamp)
{
    return (double)b->got[stamp].wait_max_ns * 1e-3;
}

int bench_repeat(struct bench *b, int (*start)(struct bench *b, const void *args), const void *args,
                 const struct bench_row *row)
{
    double us[BENCH_FEW_REPS];
    int err = 0;

    for (int rep = -1; !err && rep < BENCH_FEW_REPS; rep++) {
        err = bench_stamps_reset(b);
        if (!err)
            err = start(b, args);
        if (!err)
            err = bench_stamps_read(b);
        if (!err && rep >= 0)
            us[rep] = bench_us(b, 0);
    }
    return err ? err : bench_report(b, row, us, BENCH_FEW_REPS);
}

int bench_rows_upload(struct bench *b, const int *rows)
{
    return gpu_upload(b->s->layer->half[0].rows, rows,
                      (size_t)b->s->layer->slots.experts_local * sizeof *rows);
}

int bench_rows_set(struct bench *b, int rows)
{
    int value[SLOTS_MAX_EXPERTS];

    for (int i = 0; i < b->s->layer->slots.experts_local; i++)
        value[i] = rows;
    return bench_rows_upload(b, value);
}

/* The tensors that GEMMs and sends read hold 0xff, which is not a number: give them the weights'
 * random bytes. */
int bench_operands(struct bench *b)
{
    struct gpu_layer *l = b->s->layer;
    struct gpu_half *h = &l->half[0];
    size_t rows = (size_t)l->slots.experts_local * (size_t)l->slots.rows_max;
    size_t hidden = (size_t)l->shape.hidden, width = l->shape.fp8 ? 1 : 2;
    size_t source = data_matrix_bytes(&l->weights, DATA_UP) * (size_t)l->slots.experts_local;
    size_t scales = rows * hidden / 128;
    float *ones = malloc(scales * sizeof *ones);
    int err = ones ? 0 : ERR_NOMEM;

    for (size_t at = 0; !err && at < rows * hidden * width; at += source) {
        size_t n = rows * hidden * width - at < source ? rows * hidden * width - at : source;

        err = GPU(cudaMemcpy((char *)h->packed_x + at, l->w_up, n, cudaMemcpyDeviceToDevice));
    }
    for (size_t i = 0; !err && i < scales; i++)
        ones[i] = (float)(0.5 + (double)(i * 2654435761u % 1024) / 1024) / 128;
    if (!err)
        err = gpu_upload(h->packed_scales, ones, scales * sizeof *ones);
    free(ones);
    return err;
}

struct grouped_gemm_args bench_gemm_args(struct bench *b, bool up, int first, int count,
                                         int num_sms, int hint)
{
    struct gpu_layer *l = b->s->layer;
    struct gpu_half *h = &l->half[0];
    int rows = l->slots.rows_max, k = up ? l->shape.hidden : l->shape.inter;

    return (struct grouped_gemm_args){.dtype = l->shape.fp8 ? GEMM_FP8 : GEMM_BF16,
                                      .num_experts = l->slots.experts_local,
                                      .first_expert = first,
                                      .expert_count = count,
                                      .max_rows = rows,
                                      .n = up ? 2 * l->shape.inter : l->shape.hidden,
                                      .k = k,
                                      .num_sms = num_sms,
                                      .rows_hint = hint,
                                      .a = up ? h->packed_x : h->act,
                                      .a_scale = up ? h->packed_scales : h->act_scales,
                                      .a_scale_row_stride = up ? k / 128 : 1,
                                      .a_scale_k_stride = up ? 1 : rows,
                                      .b = up ? l->w_up : l->w_down,
                                      .b_scale = up ? l->w_up_scales : l->w_down_scales,
                                      .c = up ? h->gate_up : h->y_packed,
                                      .rows = h->rows};
}

static int bench_open(struct bench *b, struct gpu_session *s, bool quick)
{
    size_t bytes = BENCH_MAX_STAMPS * sizeof(struct kernel_stamp);
    int least = 0, most = 0, err;

    memset(b, 0, sizeof *b);
    b->s = s;
    b->quick = quick;
    err = GPU(cudaDeviceGetStreamPriorityRange(&least, &most));
    if (!err)
        err = GPU(cudaStreamCreateWithPriority(&b->side, cudaStreamNonBlocking, least));
    if (!err)
        err = gpu_alloc((void **)&b->stamps, bytes);
    if (!err)
        err = GPU(cudaMallocHost((void **)&b->reset, bytes));
    if (!err)
        err = GPU(cudaMallocHost((void **)&b->got, bytes));
    for (int i = 0; !err && i < BENCH_MAX_STAMPS; i++)
        stamp_reset(&b->reset[i]);
    return err;
}

static void bench_close(struct bench *b)
{
    if (b->side)
        cudaStreamDestroy(b->side);
    cudaFree(b->stamps);
    cudaFreeHost(b->reset);
    cudaFreeHost(b->got);
}

static int chain_capture(struct bench *b, const struct bench_chain *c, cudaGraph_t *graph)
{
    cudaStream_t stream = b->s->main;
    int ended, err = GPU(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));

    if (err)
        return err;
    for (int i = 0; !err && i < c->count; i++)
        err = c->launch(c->self, stream);
    ended = GPU(cudaStreamEndCapture(stream, graph));
    return err ? err : ended;
}

int bench_chain_time(struct bench *b, const struct bench_chain *c, double *us)
{
    cudaStream_t stream = b->s->main;
    cudaEvent_t event[2] = {NULL, NULL};
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    int err = chain_capture(b, c, &graph);

    if (!err)
        err = GPU(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = 0; !err && i < 2; i++)
        err = GPU(cudaEventCreate(&event[i]));
    for (int rep = -2; !err && rep < BENCH_REPS; rep++) {
        float ms = 0;

        err = GPU(cudaGraphLaunch(exec, stream)); /* hides the start of the next */
        if (!err)
            err = GPU(cudaEventRecord(event[0], stream));
        if (!err)
            err = GPU(cudaGraphLaunch(exec, stream));
        if (!err)
            err = GPU(cudaEventRecord(event[1], stream));
        if (!err)
            err = gpu_wait(b->s, stream);
        if (!err)
            err = GPU(cudaEventElapsedTime(&ms, event[0], event[1]));
        if (!err && rep >= 0)
            us[rep] = (double)ms * 1e3 / c->count;
    }
    for (int i = 0; i < 2; i++)
        if (event[i])
            cudaEventDestroy(event[i]);
    if (exec)
        cudaGraphExecDestroy(exec);
    if (graph)
        cudaGraphDestroy(graph);
    return err;
}

/* A name that is no part would measure nothing and leave an empty file. */
static int only_check(const char *only)
{
    static const char *const parts[] = {"machine",   "links",        "experts", "dense",
                                        "exchange",  "interference", "a2a",     "router",
                                        "crossover", "attention"};

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!only || !only[0] || strcmp(only, parts[i]) == 0)
            return 0;
    log_error("no microbenchmarks are called %s", only);
    return ERR_USAGE;
}

static bool wanted(const struct bench *b, const char *part)
{
    return !b->only || strcmp(b->only, part) == 0;
}

static int bench_shape(struct bench *b, const struct bench_shape *x, int max_tokens)
{
    static const int tokens[] = {16, 64, 128, 256, 512};
    struct gpu_shape shape = {.vranks = b->s->ranks,
                              .experts = x->experts,
                              .hidden = x->hidden,
                              .inter = x->inter,
                              .topk = x->topk,
                              .max_tokens = max_tokens,
                              .fp8 = true,
                              .dedup = true};
    int num = 0, err = gpu_layer_open(b->s, &shape, 1);

    while (num < 5 && tokens[num] <= max_tokens)
        num++;
    if (!err)
        err = bench_operands(b);
    if (!err && wanted(b, "experts"))
        err = bench_experts(b); /* first: it fills what the combine sends */
    if (!err && wanted(b, "dense"))
        err = bench_dense(b, 1);
    if (!err && wanted(b, "router"))
        err = bench_router(b);
    if (!err && wanted(b, "exchange"))
        err = bench_exchange(b, tokens, num);
    if (!err && wanted(b, "exchange"))
        err = bench_exchange_skewed(b);
    if (!err && wanted(b, "exchange"))
        err = bench_dedup(b, tokens, num);
    if (!err && wanted(b, "interference"))
        err = bench_interference(b);
    return err;
}

/* Prefill sizes: library all-to-alls, alone and beside GEMMs, and a shared expert's GEMMs. */
static int bench_pipeline(struct bench *b, const struct bench_shape *x)
{
    struct gpu_shape shape = {.vranks = b->s->ranks,
                              .experts = x->experts,
                              .hidden = x->hidden,
                              .inter = x->inter,
                              .topk = x->topk,
                              .max_tokens = 2048,
                              .fp8 = true};
    int err = 0;

    if (!wanted(b, "a2a") && !wanted(b, "interference") && !wanted(b, "dense"))
        return 0;
    err = gpu_layer_open(b->s, &shape, 1);
    if (!err)
        err = bench_operands(b);
    if (!err && wanted(b, "a2a"))
        err = bench_a2a(b);
    if (!err && wanted(b, "interference") && x->hidden == 7168)
        err = bench_a2a_beside(b);
    if (!err && wanted(b, "dense"))
        err = bench_dense(b, 1024);
    return err;
}

int gpu_bench(struct gpu_session *s, const char *csv_path, bool quick, const char *only)
{
    /* DeepSeek-V3, Qwen3-235B, DeepSeek-V3 with 64 experts, Qwen3-Coder-480B, Qwen3-30B; many small
     * experts and few large ones. */
    static const struct bench_shape shapes[] = {
        {256, 7168, 2048, 8}, {128, 4096, 1536, 8}, {64, 7168, 2048, 8}, {160, 6144, 2560, 8},
        {128, 2048, 768, 8},  {512, 2560, 640, 8},  {16, 5120, 4096, 2}};
    struct file_out out = {0};
    struct bench b;
    int err = only_check(only), num = quick ? 1 : 7;

    if (!err && s->rank == 0)
        err = file_create(&out, csv_path);
    err = gpu_agree(s, err);
    if (!err)
        err = bench_open(&b, s, quick);
    if (err)
        goto out;
    b.only = only && only[0] ? only : NULL;
    b.csv = out.f;
    if (b.csv)
        gpu_versions_comment(s, b.csv);
    if (b.csv)
        fprintf(b.csv, "kind,system,dtype,num_sms,tokens,experts,rounds,round,hidden,inter,rows,"
                       "groups,n,k,topk,ranks,bytes,alone_us,overlap_us,wait_us,latency_us,n_rep,"
                       "p95_us,block_m,skew,hot_rows\n");
    if (wanted(&b, "machine"))
        err = bench_machine(&b);
    if (!err && wanted(&b, "links"))
        err = bench_links(&b);
    for (int i = 0; !err && i < num; i++) {
        err = bench_shape(&b, &shapes[i], quick ? 64 : 512);
        if (!err && s->rank == 0)
            log_note("%d experts, hidden %d: %d lines so far", shapes[i].experts, shapes[i].hidden,
                     b.num_rows);
    }
    if (!err && !quick && wanted(&b, "dense"))
        err = bench_dense_shapes(&b);
    for (int i = 0; !err && !quick && i < num - 2; i++)
        err = bench_pipeline(&b, &shapes[i]);
    if (!err && wanted(&b, "crossover"))
        err = bench_crossover(&b);
    if (!err && wanted(&b, "attention"))
        err = bench_attention(&b);
    bench_close(&b);
out:
    if (!err && s->rank == 0)
        err = file_commit(&out);
    file_abort(&out);
    return gpu_session_failed(s, err);
}
