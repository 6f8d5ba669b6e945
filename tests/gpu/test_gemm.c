/* The GEMM and activation kernels against their references, and what must not change their results.
 * `test_gemm small` runs shapes small enough for a memory or race checker. test_gemm [all|small
 * [SEED]] */
#include <math.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "kernels/dense_gemm.h"
#include "kernels/grouped_gemm.h"
#include "kernels/silu_mul_quant.h"
#include "kernels/stamp.h"
#include "tests/gpu/gemm_data.h"

enum { POISON = 0xa5, MOST_EXPERTS = 640 };

static int failures;
static uint64_t
    seed; /* of this run's inputs; printed, and given back as an argument to repeat it */

static void check(int ok, const char *what)
{
    if (!ok)
        failures++;
    printf("%s %s\n", ok ? "ok  " : "FAIL", what);
}

static double tolerance(enum gemm_dtype dtype)
{
    return dtype == GEMM_FP8 ? 2e-2 : 5e-3;
}

static const char *dtype_name(enum gemm_dtype dtype)
{
    return dtype == GEMM_FP8 ? "fp8" : "bf16";
}

/* One grouped problem: operands on both sides, arguments that point at the device's. */
struct problem {
    struct grouped_gemm_args args;
    uint8_t *a, *b;
    float *a_scale, *b_scale;
    int rows[MOST_EXPERTS];
    size_t c_bytes;
    size_t a_row_bytes;
    int k_groups;
};

static void problem_open(struct problem *p, enum gemm_dtype dtype, int experts, const int *rows,
                         int max_rows, int n, int k, int scales_k_major, uint64_t from)
{
    const size_t width = dtype == GEMM_FP8 ? 1 : 2;
    const size_t a_count = (size_t)experts * max_rows * k;
    const size_t b_count = (size_t)experts * n * k;
    memset(p, 0, sizeof(*p));
    p->k_groups = k / 128;
    p->a_row_bytes = k * width;
    p->a = data_host(a_count * width);
    p->b = data_host(b_count * width);
    p->a_scale = data_host(a_count / 128 * sizeof(float));
    p->b_scale = data_host(b_count / 128 / 128 * sizeof(float));
    data_fill(dtype, p->a, a_count, &from);
    data_fill(dtype, p->b, b_count, &from);
    data_fill_scales(p->a_scale, a_count / 128, &from);
    data_fill_scales(p->b_scale, b_count / 128 / 128, &from);
    memcpy(p->rows, rows, experts * sizeof(int));
    p->c_bytes = (size_t)experts * max_rows * n * 2;
    p->args = (struct grouped_gemm_args){
        .dtype = dtype,
        .num_experts = experts,
        .expert_count = experts,
        .max_rows = max_rows,
        .n = n,
        .k = k,
        .num_sms = data_sm_count(),
        .a = data_upload(p->a, a_count * width),
        .a_scale = data_upload(p->a_scale, a_count / 128 * sizeof(float)),
        .a_scale_row_stride = scales_k_major ? 1 : p->k_groups,
        .a_scale_k_stride = scales_k_major ? max_rows : 1,
        .b = data_upload(p->b, b_count * width),
        .b_scale = data_upload(p->b_scale, b_count / 128 / 128 * sizeof(float)),
        .c = data_device(p->c_bytes),
        .rows = data_upload(rows, experts * sizeof(int)),
    };
}

static void problem_close(struct problem *p)
{
    const void *device[] = {p->args.a,       p->args.a_scale, p->args.b,
                            p->args.b_scale, p->args.c,       p->args.rows};
    for (size_t i = 0; i < sizeof(device) / sizeof(device[0]); i++)
        CUDA(cudaFree((void *)device[i]));
    free(p->a);
    free(p->b);
    free(p->a_scale);
    free(p->b_scale);
}

/* Runs the kernel on a poisoned output and copies that back into c. */
static void problem_run(const struct problem *p, uint16_t *c)
{
    CUDA(cudaMemset(p->args.c, POISON, p->c_bytes));
    LAUNCH(kernels_grouped_gemm_launch(&p->args, NULL));
    CUDA(cudaMemcpy(c, p->args.c, p->c_bytes, cudaMemcpyDeviceToHost));
}

static void row_reference(const struct problem *p, int expert, int row, const double *b,
                          double *a_row, double *c_row)
{
    const struct grouped_gemm_args *g = &p->args;
    const size_t line = (size_t)expert * g->max_rows + row;
    ref_dequantise(g->dtype, 1, g->k, p->a + line * p->a_row_bytes,
                   p->a_scale + (size_t)expert * g->max_rows * p->k_groups +
                       (size_t)row * g->a_scale_row_stride,
                   1, 0, g->a_scale_k_stride, a_row);
    ref_gemm_row(g->n, g->k, a_row, b, c_row);
}

/* The worst relative error over every row_step-th valid row; INFINITY when a row past the count
 * changed. */
static double problem_error(const struct problem *p, const uint16_t *c, int row_step)
{
    const struct grouped_gemm_args *g = &p->args;
    double *b = data_host((size_t)g->n * g->k * sizeof(double));
    double *a_row = data_host(g->k * sizeof(double));
    double *want = data_host(g->n * sizeof(double));
    double *got = data_host(g->n * sizeof(double));
    double worst = 0;
    for (int e = 0; e < g->num_experts; e++) {
        if (p->rows[e] > 0)
            ref_dequantise(g->dtype, g->n, g->k, p->b + (size_t)e * g->n * p->a_row_bytes,
                           p->b_scale + (size_t)e * g->n / 128 * p->k_groups, 128, p->k_groups, 1,
                           b);
        for (int row = 0; row < g->max_rows; row++) {
            const uint16_t *line = c + ((size_t)e * g->max_rows + row) * g->n;
            if (row >= p->rows[e]) {
                for (int j = 0; j < g->n; j++)
                    worst = line[j] == (POISON << 8 | POISON) ? worst : INFINITY;
            } else if (row % row_step == 0) {
                row_reference(p, e, row, b, a_row, want);
                for (int j = 0; j < g->n; j++)
                    got[j] = ref_bf16_value(line[j]);
                worst = fmax(worst, ref_relative_error(g->n, got, want));
            }
        }
    }
    free(b);
    free(a_row);
    free(want);
    free(got);
    return worst;
}

/* Every SM count, tile height and split into rounds must give the bits in `want`. */
static void check_invariance(struct problem *p, const uint16_t *want, const char *name)
{
    const int sms[] = {132, 131, 116, 100, 64, 7, 1};
    const int block_m[] = {64, 128, 256};
    struct grouped_gemm_args *g = &p->args;
    uint16_t *c = data_host(p->c_bytes);
    char text[128];
    for (int i = 0; i < 3; i++) {
        int same = 1;
        g->block_m = block_m[i];
        for (int j = 0; j < 7; j++) {
            g->num_sms = sms[j];
            problem_run(p, c);
            same &= memcmp(c, want, p->c_bytes) == 0;
        }
        snprintf(text, sizeof(text), "%s: block_m %d, 1..132 SMs: same bits", name, block_m[i]);
        check(same, text);
    }
    g->num_sms = 100;
    for (int rounds = 2; rounds <= g->num_experts; rounds++) {
        if (g->num_experts % rounds != 0)
            continue;
        CUDA(cudaMemset(g->c, POISON, p->c_bytes));
        g->expert_count = g->num_experts / rounds;
        for (int round = 0; round < rounds; round++) {
            g->first_expert = round * g->expert_count;
            g->block_m = block_m[round % 3];
            LAUNCH(kernels_grouped_gemm_launch(g, NULL));
        }
        CUDA(cudaMemcpy(c, g->c, p->c_bytes, cudaMemcpyDeviceToHost));
        snprintf(text, sizeof(text), "%s: %d rounds: same bits", name, rounds);
        check(memcmp(c, want, p->c_bytes) == 0, text);
    }
    g->first_expert = 0;
    g->expert_count = g->num_experts;
    g->block_m = 0;
    g->num_sms = data_sm_count();
    free(c);
}

/* A launch that knows each expert's rows gives few rows other tiles than many: the same bits, also
 * where what it was told is wrong. */
static void check_mixed(struct problem *p, const uint16_t *want, const char *name)
{
    const int sms[] = {132, 131, 100, 7, 1};
    struct grouped_gemm_args *g = &p->args;
    uint16_t *c = data_host(p->c_bytes);
    int wrong[MOST_EXPERTS], same = 1;
    char text[128];
    for (int e = 0; e < g->num_experts; e++)
        wrong[e] = e % 3 == 0 ? g->max_rows : 1 + e % 64;
    for (int lie = 0; lie < 2; lie++) {
        g->rows_each = lie ? wrong : p->rows;
        for (int i = 0; i < 5; i++) {
            g->num_sms = sms[i];
            problem_run(p, c);
            same &= memcmp(c, want, p->c_bytes) == 0;
        }
    }
    snprintf(text, sizeof(text), "%s: tiles by each expert's rows, 1..132 SMs: same bits", name);
    check(same, text);
    g->rows_each = NULL;
    g->num_sms = data_sm_count();
    free(c);
}

/* Shifting rows inside an expert shifts the output, bit for bit. Scales must be row-major. */
static void check_slots(struct problem *p, const uint16_t *want, const char *name)
{
    const struct grouped_gemm_args *g = &p->args;
    const int groups = p->k_groups;
    uint8_t *a = data_host((size_t)g->num_experts * g->max_rows * p->a_row_bytes);
    float *scale = data_host((size_t)g->num_experts * g->max_rows * groups * sizeof(float));
    uint16_t *c = data_host(p->c_bytes);
    int same = 1;
    char text[128];
    for (int e = 0; e < g->num_experts; e++) {
        for (int row = 0; row < p->rows[e]; row++) {
            const size_t from = (size_t)e * g->max_rows + row;
            const size_t to = (size_t)e * g->max_rows + (row + 37) % p->rows[e];
            memcpy(a + to * p->a_row_bytes, p->a + from * p->a_row_bytes, p->a_row_bytes);
            memcpy(scale + to * groups, p->a_scale + from * groups, groups * sizeof(float));
        }
    }
    CUDA(cudaMemcpy((void *)g->a, a, (size_t)g->num_experts * g->max_rows * p->a_row_bytes,
                    cudaMemcpyHostToDevice));
    CUDA(cudaMemcpy((void *)g->a_scale, scale,
                    (size_t)g->num_experts * g->max_rows * groups * sizeof(float),
                    cudaMemcpyHostToDevice));
    problem_run(p, c);
    for (int e = 0; e < g->num_experts; e++) {
        for (int row = 0; row < p->rows[e]; row++) {
            const size_t from = (size_t)e * g->max_rows + row;
            const size_t to = (size_t)e * g->max_rows + (row + 37) % p->rows[e];
            same &= memcmp(c + to * g->n, want + from * g->n, g->n * 2) == 0;
        }
    }
    snprintf(text, sizeof(text), "%s: rows in other slots: same bits", name);
    check(same, text);
    free(a);
    free(scale);
    free(c);
}

static void check_tile_done(struct problem *p, int block_m, const char *name)
{
    struct grouped_gemm_args *g = &p->args;
    const int blocks = (g->max_rows + block_m - 1) / block_m;
    const size_t bytes = (size_t)g->num_experts * blocks * sizeof(int);
    int *done = data_host(bytes);
    int right = 1;
    char text[128];
    g->tile_done = data_device(bytes);
    g->block_m = block_m;
    CUDA(cudaMemset(g->tile_done, 0, bytes));
    LAUNCH(kernels_grouped_gemm_launch(g, NULL));
    CUDA(cudaMemcpy(done, g->tile_done, bytes, cudaMemcpyDeviceToHost));
    for (int e = 0; e < g->num_experts; e++) {
        for (int b = 0; b < blocks; b++)
            right &= done[e * blocks + b] == (b * block_m < p->rows[e] ? g->n / 128 : 0);
    }
    snprintf(text, sizeof(text), "%s: tile counts, block_m %d", name, block_m);
    check(right, text);
    CUDA(cudaFree(g->tile_done));
    g->tile_done = NULL;
    g->block_m = 0;
    free(done);
}

static void check_stamp(struct problem *p, const char *name)
{
    struct grouped_gemm_args *g = &p->args;
    struct kernel_stamp stamp;
    char text[160];
    stamp_reset(&stamp);
    g->stamp = data_upload(&stamp, sizeof(stamp));
    g->num_sms = 100;
    LAUNCH(kernels_grouped_gemm_launch(g, NULL));
    CUDA(cudaMemcpy(&stamp, g->stamp, sizeof(stamp), cudaMemcpyDeviceToHost));
    CUDA(cudaFree(g->stamp));
    g->stamp = NULL;
    g->num_sms = data_sm_count();
    snprintf(text, sizeof(text), "%s: stamp: %u CTAs on %u SMs, %.2f us", name, stamp.ctas,
             stamp_sm_count(&stamp), (double)(stamp.end_ns - stamp.start_ns) * 1e-3);
    check(stamp.ctas == 100 && stamp_sm_count(&stamp) == 100 && stamp.end_ns > stamp.start_ns,
          text);
}

static void test_grouped(enum gemm_dtype dtype, int experts, const int *rows, int max_rows, int n,
                         int k, int scales_k_major, int row_step, int invariance)
{
    struct problem p;
    char name[64], text[128];
    snprintf(name, sizeof(name), "grouped %s %dx[%d,%d,%d]%s", dtype_name(dtype), experts, max_rows,
             n, k, scales_k_major ? " k-major scales" : "");
    problem_open(&p, dtype, experts, rows, max_rows, n, k, scales_k_major, seed + n + k);
    uint16_t *c = data_host(p.c_bytes);
    problem_run(&p, c);
    const double error = problem_error(&p, c, row_step);
    snprintf(text, sizeof(text), "%s: worst row %.2e", name, error);
    check(error <= tolerance(dtype), text);
    check_stamp(&p, name);
    check_tile_done(&p, 64, name);
    check_tile_done(&p, 128, name);
    check_tile_done(&p, 256, name);
    check_mixed(&p, c, name);
    if (invariance) {
        check_invariance(&p, c, name);
        if (!scales_k_major)
            check_slots(&p, c, name);
    }
    problem_close(&p);
    free(c);
}

/* The same launch again and again: a result that moves is a race. */
static void test_repeats(enum gemm_dtype dtype, int repeats)
{
    const int rows[16] = {64, 61, 70, 3, 0, 128, 64, 64, 33, 90, 64, 12, 64, 64, 127, 65};
    struct problem p;
    char text[128];
    int same = 1;
    problem_open(&p, dtype, 16, rows, 128, 2048, 3584, 1, seed);
    uint16_t *first = data_host(p.c_bytes);
    uint16_t *c = data_host(p.c_bytes);
    problem_run(&p, first);
    for (int i = 0; i < repeats; i++) {
        p.args.block_m = 64 << i % 3;
        problem_run(&p, c);
        same &= memcmp(c, first, p.c_bytes) == 0;
    }
    snprintf(text, sizeof(text), "grouped %s: %d repeats: same bits", dtype_name(dtype), repeats);
    check(same, text);
    problem_close(&p);
    free(first);
    free(c);
}

struct activation {
    struct silu_mul_quant_args args;
    uint16_t *in;
    uint8_t *out;
    float *scale;
    size_t out_bytes, scale_bytes;
};

static void activation_run(struct activation *t)
{
    CUDA(cudaMemset(t->args.out, POISON, t->out_bytes));
    CUDA(cudaMemset(t->args.scale, POISON, t->scale_bytes));
    LAUNCH(kernels_silu_mul_quant_launch(&t->args, NULL));
    CUDA(cudaMemcpy(t->out, t->args.out, t->out_bytes, cudaMemcpyDeviceToHost));
    CUDA(cudaMemcpy(t->scale, t->args.scale, t->scale_bytes, cudaMemcpyDeviceToHost));
}

/* How far an e4m3 value lies from what it stands for, in half steps of its grid; at most 1 where it
 * was rounded to the nearest. Comparing with a reference's rounded value would fail on values that
 * lie halfway, where the last bit of a float decides. */
static double fp8_half_steps(double exact, double got, double scale)
{
    const double v = fabs(exact) / scale;
    const int exponent = v > ldexp(1, -6) ? ilogb(v) : -6; /* below lie the subnormals */
    return fabs(got - exact) / scale / ldexp(1, exponent - 4);
}

/* The worst row of an FP8 activation, in half steps; INFINITY where a scale is wrong. */
static double activation_row_fp8(int inter, const double *exact, const double *got,
                                 const float *scale, int scale_stride, uint8_t *bytes,
                                 float *ref_scale)
{
    double worst = 0;
    ref_quant_row(inter, exact, bytes, ref_scale);
    for (int i = 0; i < inter; i++) {
        const float s = scale[(size_t)(i / 128) * scale_stride];
        if (!(fabs(s / ref_scale[i / 128] - 1) < 1e-5))
            return INFINITY;
        worst = fmax(worst, fp8_half_steps(exact[i], got[i], s));
    }
    return worst;
}

/* The worst over valid rows: FP8 in half steps, BF16 relative. */
static double activation_error(const struct activation *t, const int *rows)
{
    const struct silu_mul_quant_args *s = &t->args;
    const int fp8 = s->dtype == GEMM_FP8;
    const size_t row_bytes = fp8 ? s->inter : 2 * s->inter;
    double *y = data_host(s->inter * sizeof(double));
    double *got = data_host(s->inter * sizeof(double));
    uint8_t *bytes = data_host(s->inter);
    float *ref_scale = data_host(s->inter / 128 * sizeof(float));
    double worst = 0;
    for (int line = 0; line < s->num_experts * s->max_rows; line++) {
        const int e = line / s->max_rows, row = line % s->max_rows;
        const uint8_t *out = t->out + line * row_bytes;
        const float *scale = t->scale + (size_t)e * s->max_rows * (s->inter / 128) +
                             (size_t)row * s->scale_row_stride;
        if (row >= rows[e]) {
            for (size_t i = 0; i < row_bytes; i++)
                worst = out[i] == POISON ? worst : INFINITY;
            continue;
        }
        ref_silu_mul_row(s->inter, t->in + (size_t)line * 2 * s->inter, y);
        ref_dequantise(s->dtype, 1, s->inter, out, scale, 1, 0, s->scale_k_stride, got);
        worst = fmax(worst, fp8 ? activation_row_fp8(s->inter, y, got, scale, s->scale_k_stride,
                                                     bytes, ref_scale)
                                : ref_relative_error(s->inter, got, y));
    }
    free(y);
    free(got);
    free(bytes);
    free(ref_scale);
    return worst;
}

/* Each expert's scales packed by a stride of its own: the same scales, nothing between them. */
static void activation_strides(struct activation *t, const int *rows)
{
    struct silu_mul_quant_args *s = &t->args;
    const int groups = s->inter / 128;
    float *common = data_host(t->scale_bytes), *own = data_host(t->scale_bytes);
    int *strides = data_upload(rows, s->num_experts * sizeof(int));
    memcpy(common, t->scale, t->scale_bytes);
    memset(own, POISON, t->scale_bytes);
    for (int e = 0; e < s->num_experts; e++)
        for (int j = 0; j < groups; j++)
            memcpy(own + (size_t)e * s->max_rows * groups + (size_t)j * rows[e],
                   common + (size_t)e * s->max_rows * groups + (size_t)j * s->max_rows,
                   rows[e] * sizeof(float));
    s->scale_k_strides = strides;
    activation_run(t);
    check(memcmp(own, t->scale, t->scale_bytes) == 0,
          "activation: strides of each expert: the same scales");
    s->scale_k_strides = NULL;
    activation_run(t);
    CUDA(cudaFree(strides));
    free(common);
    free(own);
}

static void test_activation(enum gemm_dtype dtype, int experts, const int *rows, int max_rows,
                            int inter, int k_major)
{
    const size_t count = (size_t)experts * max_rows * inter;
    uint64_t from = seed + inter;
    struct activation t = {0};
    char text[128];
    t.in = data_host(4 * count);
    t.out_bytes = dtype == GEMM_FP8 ? count : 2 * count;
    t.scale_bytes = count / 128 * sizeof(float);
    t.out = data_host(t.out_bytes);
    t.scale = data_host(t.scale_bytes);
    data_fill(GEMM_BF16, t.in, 2 * count, &from);
    memset(t.in, 0, 2 * (size_t)inter); /* the first row is zero: its scale must not divide by it */
    t.args = (struct silu_mul_quant_args){
        .dtype = dtype,
        .num_experts = experts,
        .expert_count = experts,
        .max_rows = max_rows,
        .inter = inter,
        .num_sms = data_sm_count(),
        .in = data_upload(t.in, 4 * count),
        .out = data_device(t.out_bytes),
        .scale = data_device(t.scale_bytes),
        .scale_row_stride = k_major ? 1 : inter / 128,
        .scale_k_stride = k_major ? max_rows : 1,
        .rows = data_upload(rows, experts * sizeof(int)),
    };
    activation_run(&t);
    const double error = activation_error(&t, rows);
    snprintf(text, sizeof(text), "activation %s %dx[%d,%d]: worst row %.2e%s", dtype_name(dtype),
             experts, max_rows, inter, error, dtype == GEMM_FP8 ? " half steps" : "");
    check(error <= (dtype == GEMM_FP8 ? 1.01 : tolerance(dtype)), text);

    if (dtype == GEMM_FP8 && k_major)
        activation_strides(&t, rows);
    uint8_t *first = data_host(t.out_bytes);
    float *first_scale = data_host(t.scale_bytes);
    memcpy(first, t.out, t.out_bytes);
    memcpy(first_scale, t.scale, t.scale_bytes);
    t.args.num_sms = 5;
    activation_run(&t);
    check(memcmp(first, t.out, t.out_bytes) == 0 &&
              memcmp(first_scale, t.scale, t.scale_bytes) == 0,
          "activation: 5 SMs: same bits");
    CUDA(cudaFree((void *)t.args.in));
    CUDA(cudaFree(t.args.out));
    CUDA(cudaFree(t.args.scale));
    CUDA(cudaFree((void *)t.args.rows));
    free(t.in);
    free(t.out);
    free(t.scale);
    free(first);
    free(first_scale);
}

/* b's block scales as the library wants them: lines padded to a multiple of 4, here with NaN. */
static float *scales_padded(const struct problem *p, int n, int k)
{
    const size_t line = DENSE_SCALE_LINE(k), lines = n / 128;
    float *host = data_host(line * lines * sizeof(float)), *device;
    for (size_t i = 0; i < line * lines; i++)
        host[i] = i % line < (size_t)k / 128 ? p->b_scale[i / line * (k / 128) + i % line] : NAN;
    device = data_upload(host, line * lines * sizeof(float));
    free(host);
    return device;
}

/* The library's product against the same reference: also shows which way its block scales lie, and
 * how many rows it can do. */
static void test_dense(enum gemm_dtype dtype, enum dense_scaling scaling, int m, int k, int num_sms)
{
    const int n = 384;
    const int rows[1] = {m};
    const struct dense_gemm_shape shape = {
        .dtype = dtype, .scaling = scaling, .m = m, .n = n, .k = k, .num_sms = num_sms};
    struct dense_gemm *plan;
    struct problem p;
    char text[128];
    problem_open(&p, dtype, 1, rows, m, n, k, 1, seed);
    if (scaling == DENSE_SCALE_TENSOR) {
        for (int i = 0; i < m * p.k_groups; i++)
            p.a_scale[i] = 0.25f;
        for (int i = 0; i < n / 128 * p.k_groups; i++)
            p.b_scale[i] = 0.5f;
        CUDA(cudaMemcpy((void *)p.args.a_scale, p.a_scale, 4, cudaMemcpyHostToDevice));
        CUDA(cudaMemcpy((void *)p.args.b_scale, p.b_scale, 4, cudaMemcpyHostToDevice));
    }
    const int err = kernels_dense_gemm_open(&plan, &shape);
    if (err != 0) {
        printf("%s dense %s, scaling %d, m %d, k %d, %d SMs: %s\n",
               err == ERR_UNSUPPORTED ? "none" : "FAIL", dtype_name(dtype), scaling, m, k, num_sms,
               err_text(err));
        failures += err != ERR_UNSUPPORTED;
    } else {
        float *b_scale = scales_padded(&p, n, k);
        const struct dense_gemm_args args = {
            p.args.a, p.args.a_scale, p.args.b,
            scaling == DENSE_SCALE_BLOCK ? b_scale : p.args.b_scale, p.args.c};
        uint16_t *c = data_host(p.c_bytes);
        CUDA(cudaMemset(p.args.c, POISON, p.c_bytes));
        LAUNCH(kernels_dense_gemm_launch(plan, &args, NULL));
        CUDA(cudaMemcpy(c, p.args.c, p.c_bytes, cudaMemcpyDeviceToHost));
        const double error = problem_error(&p, c, 1);
        snprintf(text, sizeof(text), "dense %s, scaling %d, m %d, k %d, %d SMs: worst row %.2e",
                 dtype_name(dtype), scaling, m, k, num_sms, error);
        check(error <= tolerance(dtype), text);
        CUDA(cudaFree(b_scale));
        free(c);
    }
    kernels_dense_gemm_close(plan);
    problem_close(&p);
}

static void test_arguments(void)
{
    struct problem p;
    const int rows[2] = {1, 2};
    problem_open(&p, GEMM_BF16, 2, rows, 64, 128, 128, 0, 1);
    struct grouped_gemm_args bad = p.args;
    int refused = 1;
    bad.n = 100;
    refused &= kernels_grouped_gemm_launch(&bad, NULL) == ERR_RANGE;
    bad = p.args;
    bad.first_expert = 1;
    refused &= kernels_grouped_gemm_launch(&bad, NULL) == ERR_RANGE;
    bad = p.args;
    bad.block_m = 32;
    refused &= kernels_grouped_gemm_launch(&bad, NULL) == ERR_RANGE;
    bad = p.args;
    bad.a = (const char *)bad.a + 2;
    refused &= kernels_grouped_gemm_launch(&bad, NULL) == ERR_RANGE;
    check(refused, "bad arguments are refused");
    problem_close(&p);
}

static void test_reference_codecs(void)
{
    int same = 1;
    for (int bits = 0; bits < 256; bits++) {
        if ((bits & 0x7f) != 0x7f)
            same &= ref_e4m3_bits(ref_e4m3_value((uint8_t)bits)) == bits;
    }
    same &= ref_e4m3_value(0x7e) == 448 && ref_e4m3_bits(1000) == 0x7e;
    same &= ref_e4m3_value(0x38) == 1 && ref_e4m3_bits(1.0625) == 0x38; /* a tie goes to even */
    same &= ref_bf16_bits(1.0) == 0x3f80 && ref_bf16_value(0x3f80) == 1;
    check(same, "reference codecs");
}

int main(int argc, char **argv)
{
    const int small = argc > 1 && strcmp(argv[1], "small") == 0;
    const int few[4] = {3, 0, 65, 130};
    const int edges[10] = {0, 1, 63, 64, 65, 127, 128, 129, 512, 33};
    const int skewed[8] = {0, 700, 2, 0, 1, 0, 37, 0};
    const int decode[4] = {64, 17, 0, 128};
    const int prefill[3] = {512, 300, 200}; /* the tiles of the last pass are halved */
    const int uneven[8] = {9, 300, 64, 65, 0, 512, 1, 33};
    const int none[2] = {0, 0};
    int many[MOST_EXPERTS]; /* more than a CTA has tiles */
    const int dense_rows[] = {4, 36, 272, 1004};

    for (int e = 0; e < MOST_EXPERTS; e++)
        many[e] = e == 37 || e == 600 ? 140 : e % 11 == 0 ? 0 : 1 + e % 66;
    setvbuf(stdout, NULL, _IOLBF, 0);
    seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    test_reference_codecs();
    if (!data_gpu_present("test_gemm"))
        return failures != 0;
    for (int dtype = GEMM_FP8; dtype <= GEMM_BF16; dtype++) {
        if (small) {
            test_grouped(dtype, 4, few, 192, 256, 384, 0, 1, 0);
            test_activation(dtype, 4, few, 192, 384, 0);
            continue;
        }
        test_grouped(dtype, 10, edges, 512, 384, 640, 0, 1, 1);
        test_grouped(dtype, 10, edges, 600, 256, 1024, 1, 1, 1);
        test_grouped(dtype, 2, none, 64, 128, 256, 0, 1, 0);
        test_grouped(dtype, 8, skewed, 768, 256, 128, 1, 1, 1);
        test_grouped(dtype, 4, decode, 128, 4096, 7168, 1, 63, 0);
        test_grouped(dtype, 3, prefill, 512, 7168, 512, 0, 31, 1);
        test_grouped(dtype, 8, uneven, 512, 1024, 512, 0, 7, 1);
        test_grouped(dtype, MOST_EXPERTS, many, 140, 256, 128, 0, 23, 1);
        test_repeats(dtype, 30);
        test_activation(dtype, 10, edges, 512, 2048, 1);
        test_activation(dtype, 8, skewed, 700, 384, 0);
    }
    if (!small) {
        for (int sms = 0; sms <= 100; sms += 100) {
            test_dense(GEMM_BF16, DENSE_SCALE_NONE, 272, 1536, sms);
            test_dense(GEMM_FP8, DENSE_SCALE_TENSOR, 272, 1536, sms);
            for (size_t i = 0; i < sizeof(dense_rows) / sizeof(*dense_rows); i++) {
                test_dense(GEMM_FP8, DENSE_SCALE_BLOCK, dense_rows[i], 1536, sms);
                test_dense(GEMM_FP8, DENSE_SCALE_BLOCK, dense_rows[i], 640, sms);
            }
        }
        test_arguments();
    }
    printf("test_gemm: %d failed\n", failures);
    return failures != 0;
}
