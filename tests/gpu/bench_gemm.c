/* How fast the expert FFN's kernels are: the whole masked FFN by SMs and rows, and the grouped GEMM
 * beside cuBLASLt on one GEMM of the same total size, same data type and scaling. Verify with
 * test_gemm first.
 *
 * Each figure is the median of REPLAYS replays of a CUDA graph of ITERATIONS back-to-back runs,
 * divided by ITERATIONS; the weights of one run are many times the L2. bench_gemm [FILE.csv] */
#include <string.h>

#include "base/err.h"
#include "kernels/dense_gemm.h"
#include "kernels/grouped_gemm.h"
#include "kernels/silu_mul_quant.h"
#include "kernels/stamp.h"
#include "tests/gpu/gemm_data.h"

enum {
    ITERATIONS = 6,
    REPLAYS = 21,
    WARM_UPS = 2,
    HIDDEN = 7168,
    INTER = 2048,
    EXPERTS = 16,
    TOTAL_ROWS = 16384, /* most rows of all experts together */
};

struct timing {
    double median_us, p95_us;
};

/* Device buffers that every case shares, large enough for BF16. */
struct buffers {
    void *a, *b_up, *b_down, *gate_up, *act, *out;
    float *a_scale, *b_up_scale, *b_down_scale, *act_scale;
    int *rows;
};

struct ffn {
    struct grouped_gemm_args up, down;
    struct silu_mul_quant_args act;
    int parts; /* bit 0 gate+up, bit 1 activation, bit 2 down */
    int tune;
};

struct dense_case {
    struct dense_gemm *plan;
    struct dense_gemm_args args;
    size_t b_bytes;       /* of one expert's weights */
    size_t b_scale_count; /* likewise */
    int turn;
};

int kernels_grouped_gemm_tuned(const struct grouped_gemm_args *args, int tune, cudaStream_t stream);

static FILE *csv;

static void run_ffn(void *context, cudaStream_t stream)
{
    const struct ffn *f = context;
    if (f->parts & 1)
        LAUNCH(kernels_grouped_gemm_tuned(&f->up, f->tune, stream));
    if (f->parts & 2)
        LAUNCH(kernels_silu_mul_quant_launch(&f->act, stream));
    if (f->parts & 4)
        LAUNCH(kernels_grouped_gemm_tuned(&f->down, f->tune, stream));
}

/* Each run takes another expert's weights, so that they do not stay in the L2. */
static void run_dense(void *context, cudaStream_t stream)
{
    struct dense_case *d = context;
    struct dense_gemm_args args = d->args;
    const int turn = d->turn++ % EXPERTS;
    args.b = (const char *)args.b + turn * d->b_bytes;
    args.b_scale = args.b_scale + turn * d->b_scale_count;
    LAUNCH(kernels_dense_gemm_launch(d->plan, &args, stream));
}

static int compare_doubles(const void *x, const void *y)
{
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static struct timing time_graph(void (*run)(void *, cudaStream_t), void *context)
{
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t start, stop;
    double us[REPLAYS];
    CUDA(cudaStreamCreate(&stream));
    CUDA(cudaEventCreate(&start));
    CUDA(cudaEventCreate(&stop));
    CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < ITERATIONS; i++)
        run(context, stream);
    CUDA(cudaStreamEndCapture(stream, &graph));
    CUDA(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = -WARM_UPS; i < REPLAYS; i++) {
        float ms;
        CUDA(cudaEventRecord(start, stream));
        CUDA(cudaGraphLaunch(exec, stream));
        CUDA(cudaEventRecord(stop, stream));
        CUDA(cudaEventSynchronize(stop));
        CUDA(cudaEventElapsedTime(&ms, start, stop));
        if (i >= 0)
            us[i] = ms * 1e3 / ITERATIONS;
    }
    qsort(us, REPLAYS, sizeof(us[0]), compare_doubles);
    CUDA(cudaGraphExecDestroy(exec));
    CUDA(cudaGraphDestroy(graph));
    CUDA(cudaEventDestroy(start));
    CUDA(cudaEventDestroy(stop));
    CUDA(cudaStreamDestroy(stream));
    return (struct timing){us[REPLAYS / 2], us[(REPLAYS * 95 + 99) / 100 - 1]};
}

/* Fills size bytes of device memory by repeating a random block. */
static void *random_device(enum gemm_dtype dtype, size_t bytes, uint64_t *seed)
{
    const size_t block = bytes < (32u << 20) ? bytes : 32u << 20;
    char *device = data_device(bytes);
    void *host = data_host(block);
    data_fill(dtype, host, dtype == GEMM_FP8 ? block : block / 2, seed);
    for (size_t at = 0; at < bytes; at += block)
        CUDA(cudaMemcpy(device + at, host, at + block <= bytes ? block : bytes - at,
                        cudaMemcpyHostToDevice));
    free(host);
    return device;
}

static float *random_scales(size_t count, uint64_t *seed)
{
    float *host = data_host(count * sizeof(float));
    data_fill_scales(host, count, seed);
    for (size_t i = 0; i < count; i++)
        host[i] *= 0.01f; /* keeps the activations of the chain near 1 */
    float *device = data_upload(host, count * sizeof(float));
    free(host);
    return device;
}

static void buffers_open(struct buffers *b, enum gemm_dtype dtype)
{
    const size_t width = dtype == GEMM_FP8 ? 1 : 2;
    const size_t weights = (size_t)EXPERTS * 2 * INTER * HIDDEN;
    uint64_t seed = 11;
    b->a = random_device(dtype, (size_t)TOTAL_ROWS * HIDDEN * width, &seed);
    b->b_up = random_device(dtype, weights * width, &seed);
    b->b_down = random_device(dtype, weights / 2 * width, &seed);
    b->gate_up = random_device(GEMM_BF16, (size_t)TOTAL_ROWS * 2 * INTER * 2, &seed);
    b->act = random_device(dtype, (size_t)TOTAL_ROWS * INTER * width, &seed);
    b->out = data_device((size_t)TOTAL_ROWS * HIDDEN * 2);
    b->a_scale = random_scales((size_t)TOTAL_ROWS * HIDDEN / 128, &seed);
    b->b_up_scale = random_scales(weights / 128 / 128, &seed);
    b->b_down_scale = random_scales(weights / 2 / 128 / 128, &seed);
    b->act_scale = random_scales((size_t)TOTAL_ROWS * INTER / 128, &seed);
    b->rows = data_device(EXPERTS * sizeof(int));
}

static void buffers_close(struct buffers *b)
{
    void *all[] = {b->a,       b->b_up,       b->b_down,       b->gate_up,   b->act, b->out,
                   b->a_scale, b->b_up_scale, b->b_down_scale, b->act_scale, b->rows};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        CUDA(cudaFree(all[i]));
}

static struct ffn ffn_make(const struct buffers *b, enum gemm_dtype dtype, int experts,
                           const int *rows, int max_rows, int num_sms)
{
    struct ffn f = {.parts = 7};
    int fullest = 0;
    for (int e = 0; e < experts; e++)
        fullest = rows[e] > fullest ? rows[e] : fullest;
    CUDA(cudaMemcpy(b->rows, rows, experts * sizeof(int), cudaMemcpyHostToDevice));
    f.up = (struct grouped_gemm_args){.dtype = dtype,
                                      .num_experts = experts,
                                      .expert_count = experts,
                                      .max_rows = max_rows,
                                      .n = 2 * INTER,
                                      .k = HIDDEN,
                                      .num_sms = num_sms,
                                      .rows_hint = fullest,
                                      .a = b->a,
                                      .a_scale = b->a_scale,
                                      .a_scale_row_stride = 1,
                                      .a_scale_k_stride = max_rows,
                                      .b = b->b_up,
                                      .b_scale = b->b_up_scale,
                                      .c = b->gate_up,
                                      .rows = b->rows};
    f.down = f.up;
    f.down.n = HIDDEN;
    f.down.k = INTER;
    f.down.a = b->act;
    f.down.a_scale = b->act_scale;
    f.down.b = b->b_down;
    f.down.b_scale = b->b_down_scale;
    f.down.c = b->out;
    f.act = (struct silu_mul_quant_args){.dtype = dtype,
                                         .num_experts = experts,
                                         .expert_count = experts,
                                         .max_rows = max_rows,
                                         .inter = INTER,
                                         .num_sms = num_sms,
                                         .in = b->gate_up,
                                         .out = b->act,
                                         .scale = b->act_scale,
                                         .scale_row_stride = 1,
                                         .scale_k_stride = max_rows,
                                         .rows = b->rows};
    return f;
}

static const char *dtype_name(enum gemm_dtype dtype)
{
    return dtype == GEMM_FP8 ? "fp8" : "bf16";
}

static void report(const char *what, enum gemm_dtype dtype, int experts, int rows, int n, int k,
                   int num_sms, const char *variant, struct timing t, double flops, double bytes)
{
    printf("%-12s %-4s %2d x %5d n %4d k %4d sms %3d %-16s %8.2f us p95 %8.2f %7.1f TFLOPS %6.0f "
           "GB/s\n",
           what, dtype_name(dtype), experts, rows, n, k, num_sms, variant, t.median_us, t.p95_us,
           flops / t.median_us * 1e-6, bytes / t.median_us * 1e-3);
    if (csv != NULL)
        fprintf(csv, "%s,%s,%d,%d,%d,%d,%d,%s,%.3f,%.3f,%d,%.2f,%.1f\n", what, dtype_name(dtype),
                experts, rows, n, k, num_sms, variant, t.median_us, t.p95_us, REPLAYS,
                flops / t.median_us * 1e-6, bytes / t.median_us * 1e-3);
}

/* One FFN: the whole, then each kernel in a graph of its own. Weight bytes only. */
static void bench_ffn(const struct buffers *b, enum gemm_dtype dtype, int experts, int rows,
                      int num_sms, int tune, int in_parts)
{
    static const char *const names[8] = {"", "gate_up", "activation", "", "down", "", "", "ffn"};
    static const int parts[4] = {7, 1, 2, 4};
    int each[EXPERTS];
    char variant[32];
    for (int e = 0; e < experts; e++)
        each[e] = rows;
    struct ffn f = ffn_make(b, dtype, experts, each, rows < 128 ? 128 : rows, num_sms);
    f.tune = tune;
    snprintf(variant, sizeof(variant), "m%d tune %d", kernels_grouped_gemm_block_m(&f.up), tune);
    for (int i = 0; i < (in_parts ? 4 : 1); i++) {
        f.parts = parts[i];
        const double matrices =
            (f.parts & 1 ? 2.0 : 0) + (f.parts & 4 ? 1.0 : 0); /* of hidden x inter */
        const struct timing t = time_graph(run_ffn, &f);
        report(names[f.parts], dtype, experts, rows, 2 * INTER, HIDDEN, num_sms, variant, t,
               2.0 * matrices * experts * rows * HIDDEN * INTER,
               matrices * experts * HIDDEN * INTER * (dtype == GEMM_FP8 ? 1 : 2));
    }
}

static double bench_dense(const struct buffers *b, enum gemm_dtype dtype,
                          enum dense_scaling scaling, int fast, int down, int m, int num_sms,
                          const char *variant)
{
    const struct dense_gemm_shape shape = {.dtype = dtype,
                                           .scaling = scaling,
                                           .fast_accum = fast,
                                           .m = m,
                                           .n = down ? HIDDEN : 2 * INTER,
                                           .k = down ? INTER : HIDDEN,
                                           .num_sms = num_sms};
    struct dense_case d = {.args = {.a = down ? b->act : b->a,
                                    .a_scale = down ? b->act_scale : b->a_scale,
                                    .b = down ? b->b_down : b->b_up,
                                    .b_scale = down ? b->b_down_scale : b->b_up_scale,
                                    .c = down ? b->out : b->gate_up}};
    const int err = kernels_dense_gemm_open(&d.plan, &shape);
    if (err != 0) {
        printf("%-12s %-4s m %5d %s: %s\n", "cublaslt", dtype_name(dtype), m, variant,
               err_text(err));
        return 0;
    }
    d.b_bytes = (size_t)shape.n * shape.k * (dtype == GEMM_FP8 ? 1 : 2);
    d.b_scale_count = (size_t)shape.n / 128 * (shape.k / 128);
    const struct timing t = time_graph(run_dense, &d);
    const double flops = 2.0 * m * shape.n * shape.k;
    report("cublaslt", dtype, 1, m, shape.n, shape.k, num_sms, variant, t, flops,
           (double)d.b_bytes);
    kernels_dense_gemm_close(d.plan);
    return flops / t.median_us * 1e-6;
}

/* cuBLASLt before and after the grouped kernel, so that a drift of the clocks shows. */
static void bench_against_library(const struct buffers *b, enum gemm_dtype dtype, int experts,
                                  int rows, int down, int block_m, int tune)
{
    const enum dense_scaling scaling = dtype == GEMM_FP8 ? DENSE_SCALE_BLOCK : DENSE_SCALE_NONE;
    const int sms = data_sm_count();
    int each[EXPERTS];
    char variant[32];
    double library = 0;
    for (int e = 0; e < experts; e++)
        each[e] = rows;
    struct ffn f = ffn_make(b, dtype, experts, each, rows, sms);
    f.parts = down ? 4 : 1;
    f.tune = tune;
    struct grouped_gemm_args *g = down ? &f.down : &f.up;
    g->block_m = block_m;
    snprintf(variant, sizeof(variant), "m%d tune %d", kernels_grouped_gemm_block_m(g), tune);
    const double before =
        bench_dense(b, dtype, scaling, 0, down, experts * rows, 0, "same scaling");
    const struct timing t = time_graph(run_ffn, &f);
    const double flops = 2.0 * experts * rows * g->n * g->k;
    report("grouped", dtype, experts, rows, g->n, g->k, sms, variant, t, flops,
           (double)experts * g->n * g->k * (dtype == GEMM_FP8 ? 1 : 2));
    const double after = bench_dense(b, dtype, scaling, 0, down, experts * rows, 0, "same scaling");
    library = before > after ? before : after;
    if (library == 0 && dtype == GEMM_FP8) {
        library =
            bench_dense(b, dtype, DENSE_SCALE_TENSOR, 0, down, experts * rows, 0, "per tensor");
        bench_dense(b, dtype, DENSE_SCALE_TENSOR, 1, down, experts * rows, 0, "tensor, fast");
    }
    if (library > 0)
        printf("  grouped / cuBLASLt = %.3f\n", flops / t.median_us * 1e-6 / library);
}

/* The ceiling for streaming weights: a device copy, bytes read plus written. */
static void bench_copy(const struct buffers *b)
{
    const size_t bytes = (size_t)EXPERTS * INTER * HIDDEN;
    cudaEvent_t start, stop;
    float ms;
    CUDA(cudaEventCreate(&start));
    CUDA(cudaEventCreate(&stop));
    for (int i = 0; i < 3; i++) {
        CUDA(cudaEventRecord(start, NULL));
        CUDA(cudaMemcpyAsync(b->b_down, b->b_up, bytes, cudaMemcpyDeviceToDevice, NULL));
        CUDA(cudaEventRecord(stop, NULL));
        CUDA(cudaEventSynchronize(stop));
        CUDA(cudaEventElapsedTime(&ms, start, stop));
    }
    printf("device copy of %zu MB: %.0f GB/s read + written\n", bytes >> 20,
           2.0 * (double)bytes / ms * 1e-6);
    CUDA(cudaEventDestroy(start));
    CUDA(cudaEventDestroy(stop));
}

static void bench_dtype(enum gemm_dtype dtype)
{
    static const int sms[] = {132, 116, 108, 100, 64};
    static const int sweep[] = {1, 16, 32, 65, 96, 128, 192, 256, 512};
    static const int tunes[] = {0, 1, 4, 8, 5};
    static const int large[][2] = {{16, 512}, {4, 512}, {8, 1024}, {4, 2048}, {1, 8192}};
    struct buffers b;
    buffers_open(&b, dtype);
    bench_copy(&b);
    for (int i = 0; i < 5; i++) {
        for (int j = 0; j < (dtype == GEMM_FP8 ? 5 : 2); j++)
            bench_ffn(&b, dtype, EXPERTS, 64, sms[i], tunes[j], 1);
    }
    for (int i = 0; i < 9; i++) {
        for (int j = 0; j < 3; j++)
            bench_ffn(&b, dtype, EXPERTS, sweep[i], 132, j, 0);
    }
    for (int i = 0; i < 5; i++) {
        for (int down = 0; down < 2; down++) {
            for (int j = 0; j < 4; j++)
                bench_against_library(&b, dtype, large[i][0], large[i][1], down, j < 2 ? 256 : 128,
                                      j % 2 * 2);
        }
    }
    for (int m = 128; m <= 2048; m *= 4) {
        for (int i = 0; i < 5; i++)
            bench_dense(&b, dtype, dtype == GEMM_FP8 ? DENSE_SCALE_TENSOR : DENSE_SCALE_NONE, 1, 0,
                        m, sms[i], "fast");
    }
    buffers_close(&b);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!data_gpu_present("bench_gemm"))
        return 0;
    if (argc > 1) {
        csv = fopen(argv[1], "w");
        if (csv == NULL)
            data_die(__FILE__, __LINE__, "cannot write the CSV file");
        fprintf(csv, "what,dtype,experts,rows,n,k,num_sms,variant,median_us,p95_us,replays,tflops,"
                     "weight_GBps\n");
    }
    bench_dtype(GEMM_FP8);
    bench_dtype(GEMM_BF16);
    if (csv != NULL)
        fclose(csv);
    return 0;
}
