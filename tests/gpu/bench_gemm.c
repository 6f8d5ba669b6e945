/* How fast the expert FFN's kernels are: the whole masked FFN by SMs and rows, and the grouped GEMM
 * beside cuBLASLt on one GEMM of the same total size, same data type and scaling. Verify with
 * test_gemm first.
 *
 * Each figure is the median of REPLAYS replays of a CUDA graph of ITERATIONS back-to-back runs,
 * divided by ITERATIONS; the weights of one run are many times the L2. "rested": with idle time
 * before each replay, which keeps the GPU below its power limit; otherwise replays follow each
 * other. bench_gemm [FILE.csv]: everything; bench_gemm --csv FILE.csv: only the figures that have
 * an anchor, added to the file with their ratios. */
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/skew.h"
#include "kernels/dense_gemm.h"
#include "kernels/grouped_gemm.h"
#include "kernels/silu_mul_quant.h"
#include "kernels/stamp.h"
#include "tests/gpu/gemm_data.h"
#include "tests/gpu/speed.h"

enum {
    ITERATIONS = 6,
    REPLAYS = 21,
    WARM_UPS = 2,
    REST_US = 4000,
    HIDDEN = 7168,
    INTER = 2048,
    EXPERTS = 16,
    TOTAL_ROWS = 16384, /* most rows of all experts together */
    MANY_EXPERTS = 48,  /* Kimi-K2's of one rank of eight */
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
    int parts;              /* bit 0 gate+up, bit 1 activation, bit 2 down */
    int each[MANY_EXPERTS]; /* rows of every expert */
};

struct dense_case {
    struct dense_gemm *plan;
    struct dense_gemm_args args;
    size_t b_bytes;       /* of one expert's weights */
    size_t b_scale_count; /* likewise */
    int turn;
};

static FILE *csv;   /* every figure */
static FILE *speed; /* figures beside their anchors */

static void run_ffn(void *context, cudaStream_t stream)
{
    const struct ffn *f = context;
    if (f->parts & 1)
        LAUNCH(kernels_grouped_gemm_launch(&f->up, stream));
    if (f->parts & 2)
        LAUNCH(kernels_silu_mul_quant_launch(&f->act, stream));
    if (f->parts & 4)
        LAUNCH(kernels_grouped_gemm_launch(&f->down, stream));
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

/* One candidate of a comparison. */
struct work {
    void (*run)(void *, cudaStream_t);
    void *context;
    struct timing timing;
};

static cudaGraphExec_t graph_record(const struct work *w, cudaStream_t stream)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < ITERATIONS; i++)
        w->run(w->context, stream);
    CUDA(cudaStreamEndCapture(stream, &graph));
    CUDA(cudaGraphInstantiate(&exec, graph, 0));
    CUDA(cudaGraphDestroy(graph));
    return exec;
}

/* Candidates take turns, so that all meet the same clocks and temperature: a GPU that draws its
 * full power slows down within milliseconds. rest_us of idleness before each replay keeps that
 * away. */
static void time_works(struct work *works, int count, int rest_us)
{
    enum { MOST = 16 };
    cudaGraphExec_t exec[MOST];
    double us[MOST][REPLAYS];
    cudaStream_t stream;
    cudaEvent_t start, stop;
    CUDA(cudaStreamCreate(&stream));
    CUDA(cudaEventCreate(&start));
    CUDA(cudaEventCreate(&stop));
    for (int i = 0; i < count; i++)
        exec[i] = graph_record(&works[i], stream);
    for (int replay = -WARM_UPS; replay < REPLAYS; replay++) {
        for (int i = 0; i < count; i++) {
            float ms;
            if (rest_us > 0)
                usleep((useconds_t)rest_us);
            CUDA(cudaEventRecord(start, stream));
            CUDA(cudaGraphLaunch(exec[i], stream));
            CUDA(cudaEventRecord(stop, stream));
            CUDA(cudaEventSynchronize(stop));
            CUDA(cudaEventElapsedTime(&ms, start, stop));
            if (replay >= 0)
                us[i][replay] = ms * 1e3 / ITERATIONS;
        }
    }
    for (int i = 0; i < count; i++) {
        qsort(us[i], REPLAYS, sizeof(us[i][0]), compare_doubles);
        works[i].timing = (struct timing){us[i][REPLAYS / 2], us[i][(REPLAYS * 95 + 99) / 100 - 1]};
        CUDA(cudaGraphExecDestroy(exec[i]));
    }
    CUDA(cudaEventDestroy(start));
    CUDA(cudaEventDestroy(stop));
    CUDA(cudaStreamDestroy(stream));
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

/* slots: rows of all experts together, empty ones included. */
static void buffers_open(struct buffers *b, enum gemm_dtype dtype, int experts, int slots)
{
    const size_t width = dtype == GEMM_FP8 ? 1 : 2;
    const size_t weights = (size_t)experts * 2 * INTER * HIDDEN;
    uint64_t seed = 11;
    b->a = random_device(dtype, (size_t)slots * HIDDEN * width, &seed);
    b->b_up = random_device(dtype, weights * width, &seed);
    b->b_down = random_device(dtype, weights / 2 * width, &seed);
    b->gate_up = random_device(GEMM_BF16, (size_t)slots * 2 * INTER * 2, &seed);
    b->act = random_device(dtype, (size_t)slots * INTER * width, &seed);
    b->out = data_device((size_t)slots * HIDDEN * 2);
    b->a_scale = random_scales((size_t)slots * HIDDEN / 128, &seed);
    b->b_up_scale = random_scales(weights / 128 / 128, &seed);
    b->b_down_scale = random_scales(weights / 2 / 128 / 128, &seed);
    b->act_scale = random_scales((size_t)slots * INTER / 128, &seed);
    b->rows = data_device(experts * sizeof(int));
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
    for (int e = 0; e < experts; e++) {
        fullest = rows[e] > fullest ? rows[e] : fullest;
        f.each[e] = rows[e];
    }
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

static struct ffn ffn_even(const struct buffers *b, enum gemm_dtype dtype, int experts, int rows,
                           int num_sms)
{
    int each[EXPERTS];
    for (int e = 0; e < experts; e++)
        each[e] = rows;
    return ffn_make(b, dtype, experts, each, rows < 128 ? 128 : rows, num_sms);
}

static void report_ffn(const struct ffn *f, const char *name, int rows, int rest_us,
                       struct timing t)
{
    const double matrices = (f->parts & 1 ? 2.0 : 0) + (f->parts & 4 ? 1.0 : 0);
    const double weights = matrices * f->up.num_experts * HIDDEN * INTER;
    char variant[32];
    snprintf(variant, sizeof(variant), "m%d%s", kernels_grouped_gemm_block_m(&f->up),
             rest_us > 0 ? " rested" : "");
    report(name, f->up.dtype, f->up.num_experts, rows, f->up.n, f->up.k, f->up.num_sms, variant, t,
           2 * weights * rows, weights * (f->up.dtype == GEMM_FP8 ? 1 : 2));
}

/* The whole FFN and, in graphs of their own, its kernels. */
static void bench_ffn(const struct buffers *b, enum gemm_dtype dtype, int rows, int num_sms,
                      int rest_us)
{
    static const char *const names[4] = {"ffn", "gate_up", "activation", "down"};
    static const int parts[4] = {7, 1, 2, 4};
    struct ffn f[4];
    struct work works[4];
    for (int i = 0; i < 4; i++) {
        f[i] = ffn_even(b, dtype, EXPERTS, rows, num_sms);
        f[i].parts = parts[i];
        works[i] = (struct work){.run = run_ffn, .context = &f[i]};
        if (rest_us == 0)
            time_works(&works[i], 1, 0);
    }
    if (rest_us > 0)
        time_works(works, 4, rest_us);
    for (int i = 0; i < 4; i++)
        report_ffn(&f[i], names[i], rows, rest_us, works[i].timing);
}

/* The masked FFN beside the public kernels' figures, both with replays that follow each other and
 * with rested ones. */
static void anchor_ffn(const struct buffers *b, enum gemm_dtype dtype)
{
    static const struct {
        int sms;
        double anchor_us, goal_ratio;
    } anchors[] = {{132, 231, 231.0 / 220}, {116, 250, 0}, {100, 263, 0}};
    for (int i = 0; i < 6; i++) {
        struct ffn f = ffn_even(b, dtype, EXPERTS, 64, anchors[i / 2].sms);
        struct work w = {.run = run_ffn, .context = &f};
        char shape[96];
        time_works(&w, 1, i % 2 * REST_US);
        snprintf(shape, sizeof(shape), "16 experts x 64 rows h7168 i2048 %s %d SMs%s",
                 dtype_name(dtype), anchors[i / 2].sms, i % 2 ? " rested" : "");
        speed_write(speed, &(struct speed_row){"ffn", shape, w.timing.median_us, w.timing.p95_us,
                                               REPLAYS, 3.0 * EXPERTS * HIDDEN * INTER,
                                               anchors[i / 2].anchor_us, anchors[i / 2].goal_ratio,
                                               "DeepGEMM's masked FFN on such a GPU (the issue)"});
    }
}

static double ffn_bytes(const struct ffn *f, double width)
{
    double rows = 0, weights = 0, per = 0;
    for (int e = 0; e < f->up.expert_count; e++) {
        rows += f->each[e];
        weights += f->each[e] > 0;
    }
    if (f->parts & 1)
        per += 2.0 * HIDDEN * INTER;
    if (f->parts & 4)
        per += 1.0 * HIDDEN * INTER;
    return weights * per * width + rows * ((f->parts & 1 ? HIDDEN * width + 4 * INTER : 0) +
                                           (f->parts & 2 ? (4 + width) * INTER : 0) +
                                           (f->parts & 4 ? INTER * width + 2 * HIDDEN : 0));
}

/* Skewed rows beside as many even ones: the FFN's three kernels together, then its GEMMs. The goal
 * is that skew costs at most 15%. */
static void skew_case(const struct buffers *b, enum gemm_dtype dtype, int experts, int total)
{
    static const double exponents[] = {0, 0.8, 1.0, 1.2};
    static const char *const names[] = {"ffn", "gate_up", "down"};
    static const int parts[] = {7, 1, 4};
    double even_us[3] = {0};
    for (int i = 0; i < 4; i++) {
        int rows[MANY_EXPERTS], slots = (total * 3 / 8 + 127) / 128 * 128;
        skew_rows(experts, total, exponents[i], slots, rows);
        struct ffn f = ffn_make(b, dtype, experts, rows, slots, data_sm_count());
        f.up.rows_each = f.down.rows_each = f.each;
        for (int part = 0; part < 3; part++) {
            struct work w = {.run = run_ffn, .context = &f};
            char shape[128];
            f.parts = parts[part];
            time_works(&w, 1, REST_US);
            if (i == 0)
                even_us[part] = w.timing.median_us;
            snprintf(shape, sizeof(shape), "%d experts %d rows zipf %.1f h7168 i2048 %s %s rested",
                     experts, total, exponents[i], dtype_name(dtype), names[part]);
            speed_write(speed, &(struct speed_row){
                                   "skewed_ffn", shape, w.timing.median_us, w.timing.p95_us,
                                   REPLAYS, ffn_bytes(&f, dtype == GEMM_FP8 ? 1 : 2), even_us[part],
                                   i == 0 ? 0 : 0.85, "the same rows spread evenly; same run"});
        }
    }
}

static void bench_skew(enum gemm_dtype dtype)
{
    struct buffers b;
    const int slots = (3072 * 3 / 8 + 127) / 128 * 128;
    buffers_open(&b, dtype, MANY_EXPERTS, MANY_EXPERTS * slots);
    skew_case(&b, dtype, MANY_EXPERTS, 3072);
    skew_case(&b, dtype, EXPERTS, 1024);
    buffers_close(&b);
}

static int dense_case_open(struct dense_case *d, const struct buffers *b, enum gemm_dtype dtype,
                           enum dense_scaling scaling, int fast, int down, int m, int num_sms)
{
    const struct dense_gemm_shape shape = {.dtype = dtype,
                                           .scaling = scaling,
                                           .fast_accum = fast,
                                           .m = m,
                                           .n = down ? HIDDEN : 2 * INTER,
                                           .k = down ? INTER : HIDDEN,
                                           .num_sms = num_sms};
    *d = (struct dense_case){.args = {.a = down ? b->act : b->a,
                                      .a_scale = down ? b->act_scale : b->a_scale,
                                      .b = down ? b->b_down : b->b_up,
                                      .b_scale = down ? b->b_down_scale : b->b_up_scale,
                                      .c = down ? b->out : b->gate_up}};
    d->b_bytes = (size_t)shape.n * shape.k * (dtype == GEMM_FP8 ? 1 : 2);
    d->b_scale_count = (size_t)shape.n / 128 * (shape.k / 128);
    return kernels_dense_gemm_open(&d->plan, &shape);
}

static void bench_against_library(const struct buffers *b, enum gemm_dtype dtype, int experts,
                                  int rows, int down, int rest_us)
{
    const int m = experts * rows, sms = data_sm_count();
    const int n = down ? HIDDEN : 2 * INTER, k = down ? INTER : HIDDEN;
    const double flops = 2.0 * m * n * k;
    struct ffn f = ffn_even(b, dtype, experts, rows, sms);
    struct dense_case d[2];
    struct work works[3];
    char name[32];
    const int fp8 = dtype == GEMM_FP8;
    if (dense_case_open(&d[0], b, dtype, fp8 ? DENSE_SCALE_BLOCK : DENSE_SCALE_NONE, 0, down, m,
                        0) != 0 ||
        dense_case_open(&d[1], b, dtype, fp8 ? DENSE_SCALE_TENSOR : DENSE_SCALE_NONE, 1, down, m,
                        0) != 0)
        data_die(__FILE__, __LINE__, "cuBLASLt has no algorithm for this shape");
    f.parts = down ? 4 : 1;
    works[0] = (struct work){.run = run_ffn, .context = &f};
    works[1] = (struct work){.run = run_dense, .context = &d[0]};
    works[2] = (struct work){.run = run_dense, .context = &d[1]};
    time_works(works, fp8 ? 3 : 2, rest_us);
    snprintf(name, sizeof(name), "m%d%s", kernels_grouped_gemm_block_m(down ? &f.down : &f.up),
             rest_us > 0 ? " rested" : "");
    report("grouped", dtype, experts, rows, n, k, sms, name, works[0].timing, flops,
           (double)d[0].b_bytes * experts);
    report("cublaslt", dtype, 1, m, n, k, sms, rest_us > 0 ? "same, rested" : "same scaling",
           works[1].timing, flops, (double)d[0].b_bytes);
    if (fp8)
        report("cublaslt", dtype, 1, m, n, k, sms, rest_us > 0 ? "tensor, rested" : "per tensor",
               works[2].timing, flops, (double)d[0].b_bytes);
    const double bytes = ((double)m * k + (double)experts * n * k) * (fp8 ? 1 : 2) + 2.0 * m * n;
    char shape[96];
    snprintf(shape, sizeof(shape), "%d experts x %d rows n%d k%d %s %s", experts, rows, n, k,
             dtype_name(dtype), name);
    speed_write(speed, &(struct speed_row){
                           "grouped_gemm", shape, works[0].timing.median_us, works[0].timing.p95_us,
                           REPLAYS, bytes, works[1].timing.median_us, 0.85,
                           "cuBLASLt: one GEMM of the same total size and scaling"});
    kernels_dense_gemm_close(d[0].plan);
    kernels_dense_gemm_close(d[1].plan);
}

static void bench_dense(const struct buffers *b, enum gemm_dtype dtype, int m, int num_sms)
{
    struct dense_case d;
    struct work w = {.run = run_dense, .context = &d};
    if (dense_case_open(&d, b, dtype, dtype == GEMM_FP8 ? DENSE_SCALE_BLOCK : DENSE_SCALE_NONE, 0,
                        0, m, num_sms) != 0)
        data_die(__FILE__, __LINE__, "cuBLASLt has no algorithm for this shape");
    time_works(&w, 1, REST_US);
    report("cublaslt", dtype, 1, m, 2 * INTER, HIDDEN, num_sms, "SM target", w.timing,
           2.0 * m * 2 * INTER * HIDDEN, (double)d.b_bytes);
    kernels_dense_gemm_close(d.plan);
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

static void bench_library(const struct buffers *b, enum gemm_dtype dtype)
{
    static const int large[][2] = {{16, 512}, {8, 1024}, {4, 512}, {4, 2048}, {1, 8192}};
    for (int rest = 0; rest <= REST_US; rest += REST_US) {
        for (int i = 0; i < 5; i++) {
            for (int down = 0; down < 2; down++)
                bench_against_library(b, dtype, large[i][0], large[i][1], down, rest);
        }
    }
}

static void bench_dtype(enum gemm_dtype dtype)
{
    static const int sms[] = {132, 116, 100, 64};
    static const int sweep[] = {1, 16, 32, 48, 65, 96, 128, 192, 256, 512};
    struct buffers b;
    buffers_open(&b, dtype, EXPERTS, TOTAL_ROWS);
    if (speed != NULL) {
        if (dtype == GEMM_FP8)
            anchor_ffn(&b, dtype);
        bench_library(&b, dtype);
        buffers_close(&b);
        return;
    }
    bench_copy(&b);
    for (int rest = 0; rest <= REST_US; rest += REST_US) {
        for (int i = 0; i < 4; i++)
            bench_ffn(&b, dtype, 64, sms[i], rest);
    }
    for (int i = 0; i < 10; i++)
        bench_ffn(&b, dtype, sweep[i], 132, REST_US);
    bench_library(&b, dtype);
    for (int m = 128; m <= 2048; m *= 4) {
        for (int i = 0; i < 4; i++)
            bench_dense(&b, dtype, m, sms[i]);
    }
    buffers_close(&b);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!data_gpu_present("bench_gemm"))
        return 0;
    if (argc > 2 && strcmp(argv[1], "--csv") == 0) {
        speed = speed_open(argv[2]);
    } else if (argc == 2) {
        csv = fopen(argv[1], "w");
        if (csv != NULL)
            fprintf(csv, "what,dtype,experts,rows,n,k,num_sms,variant,median_us,p95_us,replays,"
                         "tflops,weight_GBps\n");
    }
    if (argc > 1 && csv == NULL && speed == NULL)
        data_die(__FILE__, __LINE__, "cannot write the CSV file");
    bench_dtype(GEMM_FP8);
    bench_dtype(GEMM_BF16);
    bench_skew(GEMM_FP8);
    bench_skew(GEMM_BF16);
    if (csv != NULL)
        fclose(csv);
    if (speed != NULL)
        fclose(speed);
    return 0;
}
