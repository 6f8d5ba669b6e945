/* validate/bench/shapes.c: library GEMMs of routers and shared experts in shapes beyond those of
 * the layers that the other microbenchmarks open: few and many experts, small and wide experts. */
#include "base/err.h"
#include "validate/bench/bench.h"

#define MOST_TOKENS 1024
#define MOST_N      7168
#define MOST_K      7168

/* Operands for the largest of the shapes. */
struct operands {
    void *a, *b, *c;
    float *a_scale, *b_scale;
};

static void operands_close(struct operands *o)
{
    void *all[] = {o->a, o->b, o->c, o->a_scale, o->b_scale};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        cudaFree(all[i]);
}

static int operands_open(struct gpu_layer *l, struct operands *o)
{
    size_t a = (size_t)MOST_TOKENS * MOST_K, b = (size_t)MOST_N * MOST_K;
    int err = gpu_dense_values(l, &o->a, a * 2);

    if (!err)
        err = gpu_dense_values(l, &o->b, b * 2);
    if (!err)
        err = gpu_alloc(&o->c, (size_t)MOST_TOKENS * MOST_N * 2);
    if (!err)
        err = gpu_dense_scales(l, &o->a_scale, a / 128);
    return err ? err : gpu_dense_scales(l, &o->b_scale, b / 128);
}

static int shape_point(struct bench *b, const struct operands *o, enum gemm_dtype dtype, int m,
                       int n, int k)
{
    struct dense_gemm_shape shape = {.dtype = dtype, .m = m, .n = n, .k = k};
    struct dense_gemm_args args = {.a = o->a, .b = o->b, .c = o->c};
    struct bench_row row = {.num_sms = b->s->sm_count, .rows = m, .groups = 1, .n = n, .k = k};
    struct gpu_dense_entry *e;
    int err;

    if (dtype == GEMM_FP8) {
        args.a_scale = o->a_scale;
        args.b_scale = o->b_scale;
    }
    gpu_dense_room(b->s, 1);
    err = gpu_dense_find(b->s, shape, &e);
    return err ? err : bench_dense_point(b, e, &args, &row);
}

static int routers(struct bench *b, const struct operands *o)
{
    static const int tokens[] = {16, 48, 96, 192, 512, 1024}, hidden[] = {2048, 3072, 5120, 7168};
    static const int experts[] = {16, 64, 160, 320, 384, 512};
    int err = 0;

    for (int i = 0; !err && i < 6; i++)
        for (int k = 0; !err && k < 4; k++)
            for (int n = 0; !err && n < 6; n++)
                err = shape_point(b, o, GEMM_BF16, tokens[i], experts[n], hidden[k]);
    return err;
}

static int shared_experts(struct bench *b, const struct operands *o)
{
    static const int tokens[] = {16, 48, 96, 192, 512, 1024}, hidden[] = {2560, 4608, 7168};
    static const int inter[] = {384, 640, 1024, 1792, 3072};
    int err = 0;

    for (int i = 0; !err && i < 6; i++)
        for (int k = 0; !err && k < 3; k++)
            for (int n = 0; !err && n < 5; n++) {
                err = shape_point(b, o, GEMM_FP8, tokens[i], 2 * inter[n], hidden[k]);
                if (!err)
                    err = shape_point(b, o, GEMM_FP8, tokens[i], hidden[k], inter[n]);
            }
    return err;
}

int bench_dense_shapes(struct bench *b)
{
    struct operands o = {0};
    int err = operands_open(b->s->layer, &o);

    if (!err)
        err = routers(b, &o);
    if (!err)
        err = shared_experts(b, &o);
    operands_close(&o);
    return err;
}
