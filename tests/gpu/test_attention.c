/* The attention kernels against their references. `test_attention small` leaves out the shapes that
 * are slow under a memory checker. test_attention [all|small [SEED]] */
#include <string.h>
#include <time.h>

#include "kernels/ref_attention.h"
#include "kernels/stamp.h"
#include "tests/gpu/gemm_data.h"

enum { POISON = 0xff }; /* two of them are a NaN */
#define TOLERANCE 5e-3

static int failures;
static uint64_t seed;

static void check(int ok, const char *what, double error)
{
    if (!ok)
        failures++;
    printf("%s %s (%.2e)\n", ok ? "ok  " : "FAIL", what, error);
}

static void *normals(size_t count)
{
    void *p = data_host(count * 2);

    data_fill(GEMM_BF16, p, count, &seed);
    return p;
}

static void *poisoned(size_t bytes)
{
    void *p = data_device(bytes);

    CUDA(cudaMemset(p, POISON, bytes));
    return p;
}

static double error_of(int n, const uint16_t *got, const double *want)
{
    double *x = data_host((size_t)n * sizeof *x), error;

    for (int i = 0; i < n; i++)
        x[i] = ref_bf16_value(got[i]);
    error = ref_relative_error(n, x, want);
    free(x);
    return error;
}

/* Every row_step-th row of every batch_step-th batch. */
static double core_error(const struct attention_shape *s, const uint16_t *q, const uint16_t *kv,
                         const uint16_t *out, int batch_step, int row_step)
{
    int rows = s->q_tokens * (s->heads / s->kv_heads);
    double *want = data_host((size_t)s->v_dim * sizeof *want), worst = 0;

    for (int b = 0; b < s->requests * s->kv_heads; b += batch_step)
        for (int r = 0; r < rows; r += row_step) {
            LAUNCH(ref_attention_row(s, q, kv, b, r, want));
            worst = fmax(worst,
                         error_of(s->v_dim,
                                  out + ((size_t)b * (size_t)rows + (size_t)r) * (size_t)s->v_dim,
                                  want));
        }
    free(want);
    return worst;
}

static void core_case(const char *name, const struct attention_shape *s, int batch_step,
                      int row_step)
{
    size_t q_bytes = attention_q_bytes(s), kv_bytes = attention_kv_bytes(s);
    size_t out_bytes = attention_out_bytes(s);
    uint16_t *q = normals(q_bytes / 2), *kv = normals(kv_bytes / 2), *out = data_host(out_bytes);
    void *dq = data_upload(q, q_bytes), *dkv = data_upload(kv, kv_bytes);
    void *dout = poisoned(out_bytes);
    struct attention *plan;

    LAUNCH(kernels_attention_open(&plan, s));
    LAUNCH(kernels_attention_launch(plan, dq, dkv, dout, NULL));
    CUDA(cudaMemcpy(out, dout, out_bytes, cudaMemcpyDeviceToHost));
    double error = core_error(s, q, kv, out, batch_step, row_step);

    check(error <= TOLERANCE, name, error);
    kernels_attention_close(plan);
    CUDA(cudaFree(dq));
    CUDA(cudaFree(dkv));
    CUDA(cudaFree(dout));
    free(q);
    free(kv);
    free(out);
}

static void core_tests(int all)
{
    int sms = data_sm_count();
    struct attention_shape gqa = {5, 1, 99, 32, 4, 128, 128, 256, 128, 0.088f, sms};
    struct attention_shape several = {3, 3, 40, 8, 2, 64, 64, 128, 64, 0.125f, sms / 2};
    struct attention_shape prompt = {2, 70, 5, 4, 4, 192, 128, 320, 192, 0.072f, sms};
    struct attention_shape mla = {3, 1, 300, 16, 1, 576, 512, 576, 0, 0.0417f, sms};
    struct attention_shape first = {2, 1, 0, 16, 1, 576, 512, 576, 0, 0.0417f, sms};
    struct attention_shape full = {40, 1, 2048, 128, 1, 576, 512, 576, 0, 0.0417f, sms};
    struct attention_shape pieces = {24, 512, 0, 32, 4, 128, 128, 256, 128, 0.088f, sms};

    core_case("core: grouped queries, decode", &gqa, 1, 1);
    core_case("core: three tokens a request, causal", &several, 1, 1);
    core_case("core: a prompt behind a cache", &prompt, 1, 1);
    core_case("core: latent cache", &mla, 1, 1);
    core_case("core: an empty cache", &first, 1, 1);
    if (all)
        core_case("core: 40 requests of DeepSeek-V3's shape", &full, 13, 17);
    if (all)
        core_case("core: scores in several pieces", &pieces, 95, 601);
}

static void norm_case(int rows, int width, int with_residual)
{
    size_t n = (size_t)rows * (size_t)width;
    uint16_t *x = normals(n), *residual = normals(n), *weight = normals((size_t)width);
    uint16_t *out = data_host(2 * n), *sum = data_host(2 * n);
    struct attention_norm_args a = {.ctas = data_sm_count(),
                                    .rows = rows,
                                    .width = width,
                                    .x = data_upload(x, 2 * n),
                                    .residual = with_residual ? data_upload(residual, 2 * n) : NULL,
                                    .weight = data_upload(weight, 2 * (size_t)width),
                                    .residual_out = poisoned(2 * n),
                                    .out = poisoned(2 * n)};
    double *want = data_host((size_t)width * sizeof *want), worst = 0;
    char name[64];

    LAUNCH(kernels_attention_norm_launch(&a, NULL));
    CUDA(cudaMemcpy(out, a.out, 2 * n, cudaMemcpyDeviceToHost));
    CUDA(cudaMemcpy(sum, a.residual_out, 2 * n, cudaMemcpyDeviceToHost));
    for (int r = 0; r < rows; r++) {
        size_t at = (size_t)r * (size_t)width;

        ref_attention_norm_row(width, x + at, with_residual ? residual + at : NULL, weight, want);
        worst = fmax(worst, error_of(width, out + at, want));
        for (int i = 0; with_residual && i < width; i++)
            want[i] = ref_bf16_value(x[at + (size_t)i]) + ref_bf16_value(residual[at + (size_t)i]);
        if (with_residual)
            worst = fmax(worst, error_of(width, sum + at, want));
    }
    snprintf(name, sizeof name, "norm: %d x %d%s", rows, width, with_residual ? ", residual" : "");
    check(worst <= TOLERANCE, name, worst);
    const void *device[] = {a.x, a.residual, a.weight, a.residual_out, a.out};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        CUDA(cudaFree((void *)device[i]));
    free(x);
    free(residual);
    free(weight);
    free(out);
    free(sum);
    free(want);
}

/* Scales are the reference's own; values lie no farther from what they stand for than the nearest
 * e4m3 value does (in the middle between two either is right). */
static void quant_case(int rows, int width)
{
    size_t n = (size_t)rows * (size_t)width, groups = (size_t)width / 128;
    uint16_t *in = normals(n);
    uint8_t *out = data_host(n), *bytes = data_host((size_t)width);
    float *scale = data_host((size_t)rows * groups * 4), *scales = data_host(groups * 4);
    double *row = data_host((size_t)width * sizeof *row), worst = 0;
    struct attention_quant_args a = {.ctas = 7,
                                     .rows = rows,
                                     .width = width,
                                     .in = data_upload(in, 2 * n),
                                     .out = poisoned(n),
                                     .scale = poisoned((size_t)rows * groups * 4)};
    char name[64];

    LAUNCH(kernels_attention_quant_launch(&a, NULL));
    CUDA(cudaMemcpy(out, a.out, n, cudaMemcpyDeviceToHost));
    CUDA(cudaMemcpy(scale, a.scale, (size_t)rows * groups * 4, cudaMemcpyDeviceToHost));
    for (int r = 0; r < rows; r++) {
        for (int i = 0; i < width; i++)
            row[i] = ref_bf16_value(in[(size_t)r * (size_t)width + (size_t)i]);
        ref_quant_row(width, row, bytes, scales);
        for (int i = 0; i < width; i++) {
            double unit = (double)scales[i / 128];
            double got = ref_e4m3_value(out[(size_t)r * (size_t)width + (size_t)i]) *
                         (double)scale[(size_t)(i / 128) * (size_t)rows + (size_t)r];
            double farther = fabs(got - row[i]) - fabs(ref_e4m3_value(bytes[i]) * unit - row[i]);

            worst = isnan(got) ? INFINITY : fmax(worst, farther / unit);
        }
    }
    snprintf(name, sizeof name, "quantise: %d x %d", rows, width);
    check(worst <= 1e-3, name, worst);
    CUDA(cudaFree((void *)a.in));
    CUDA(cudaFree(a.out));
    CUDA(cudaFree(a.scale));
    free(in);
    free(out);
    free(bytes);
    free(scale);
    free(scales);
    free(row);
}

struct append {
    struct attention_append_args a;
    uint16_t *q_new, *kv_new, *q, *kv;
    float *rotary;
    double worst;
    int touched; /* words that are neither poison nor wanted */
};

static void append_open(struct append *x, const struct attention_shape *s, int rope, int q_first,
                        int k_first)
{
    size_t tokens = (size_t)s->requests * (size_t)s->q_tokens;
    size_t q_new = tokens * (size_t)s->heads * (size_t)rope;
    size_t kv_new = tokens * (size_t)s->kv_heads * (size_t)s->kv_width;
    size_t angles = (size_t)s->q_tokens * (size_t)rope / 2;

    memset(x, 0, sizeof *x);
    x->q_new = normals(q_new);
    x->kv_new = normals(kv_new);
    x->q = data_host(attention_q_bytes(s));
    x->kv = data_host(attention_kv_bytes(s));
    x->rotary = data_host(angles * 2 * sizeof(float));
    for (size_t i = 0; i < angles; i++) {
        double angle = 6.283 * data_uniform(&seed);

        x->rotary[2 * i] = (float)cos(angle);
        x->rotary[2 * i + 1] = (float)sin(angle);
    }
    x->a = (struct attention_append_args){.ctas = 5,
                                          .shape = *s,
                                          .rope = rope,
                                          .q_first = q_first,
                                          .k_first = k_first,
                                          .q_new = data_upload(x->q_new, 2 * q_new),
                                          .kv_new = data_upload(x->kv_new, 2 * kv_new),
                                          .rotary = data_upload(x->rotary, angles * 8),
                                          .q = poisoned(attention_q_bytes(s)),
                                          .kv = poisoned(attention_kv_bytes(s))};
    LAUNCH(kernels_attention_append_launch(&x->a, NULL));
    CUDA(cudaMemcpy(x->q, x->a.q, attention_q_bytes(s), cudaMemcpyDeviceToHost));
    CUDA(cudaMemcpy(x->kv, x->a.kv, attention_kv_bytes(s), cudaMemcpyDeviceToHost));
}

static void append_close(struct append *x)
{
    const void *device[] = {x->a.q_new, x->a.kv_new, x->a.rotary, x->a.q, x->a.kv};

    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        CUDA(cudaFree((void *)device[i]));
    free(x->q_new);
    free(x->kv_new);
    free(x->q);
    free(x->kv);
    free(x->rotary);
}

static void append_token(struct append *x, int token)
{
    const struct attention_shape *s = &x->a.shape;
    int rope = x->a.rope, group = s->heads / s->kv_heads, t = token % s->q_tokens;
    double *want = data_host((size_t)(s->kv_width + rope) * sizeof *want);

    for (int h = 0; h < s->heads; h++) {
        size_t batch = (size_t)(token / s->q_tokens * s->kv_heads + h / group);
        size_t row = batch * (size_t)(s->q_tokens * group) + (size_t)(t * group + h % group);

        ref_attention_rotate(
            rope, x->q_new + ((size_t)token * (size_t)s->heads + (size_t)h) * (size_t)rope,
            x->rotary + (size_t)t * (size_t)rope, want);
        x->worst = fmax(
            x->worst, error_of(rope, x->q + row * (size_t)s->qk_dim + (size_t)x->a.q_first, want));
    }
    for (int h = 0; h < s->kv_heads; h++) {
        const uint16_t *from =
            x->kv_new + ((size_t)token * (size_t)s->kv_heads + (size_t)h) * (size_t)s->kv_width;
        size_t batch = (size_t)(token / s->q_tokens * s->kv_heads + h);
        size_t key = batch * (size_t)attention_keys_padded(s) + (size_t)(s->context_len + t);

        for (int c = 0; c < s->kv_width; c++)
            want[c] = ref_bf16_value(from[c]);
        ref_attention_rotate(rope, from + x->a.k_first, x->rotary + (size_t)t * (size_t)rope,
                             want + x->a.k_first);
        x->worst = fmax(x->worst, error_of(s->kv_width, x->kv + key * (size_t)s->kv_width, want));
    }
    free(want);
}

static void append_case(const char *name, const struct attention_shape *s, int rope, int q_first,
                        int k_first)
{
    struct append x;

    append_open(&x, s, rope, q_first, k_first);
    for (int t = 0; t < s->requests * s->q_tokens; t++)
        append_token(&x, t);
    for (size_t i = 0; i < attention_kv_bytes(s) / 2; i++) {
        int key = (int)(i / (size_t)s->kv_width % (size_t)attention_keys_padded(s));

        x.touched += (key < s->context_len || key >= attention_keys(s)) && x.kv[i] != 0xffff;
    }
    check(x.worst <= TOLERANCE && x.touched == 0, name, x.worst);
    append_close(&x);
}

static void append_tests(void)
{
    struct attention_shape mla = {3, 1, 11, 16, 1, 576, 512, 576, 0, 1, 1};
    struct attention_shape gqa = {2, 3, 6, 8, 2, 128, 128, 256, 128, 1, 1};

    append_case("append: latent cache, rope at the end of a head", &mla, 64, 512, 512);
    append_case("append: keys and values, three tokens a request", &gqa, 128, 0, 0);
}

int main(int argc, char **argv)
{
    int all = argc < 2 || strcmp(argv[1], "small") != 0;

    seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL);
    if (!data_gpu_present("test_attention"))
        return 0;
    printf("seed %llu\n", (unsigned long long)seed);
    core_tests(all);
    norm_case(3, 7168, 1);
    norm_case(200, 2112, 0);
    norm_case(1, 16384, 1);
    quant_case(5, 7168);
    quant_case(33, 128);
    append_tests();
    printf("%s\n", failures ? "FAILED" : "all passed");
    return failures != 0;
}
