#include "validate/gpu_experts.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "kernels/delay.h"

/* The block scales of weights in lines as long as cuBLASLt wants them; made once per layer. */
static int scale_lines_open(struct gpu_session *s, bool up)
{
    struct gpu_layer *l = s->layer;
    float **to = up ? &l->w_up_lines : &l->w_down_lines;
    const float *from = up ? l->w_up_scales : l->w_down_scales;
    size_t k = (size_t)(up ? l->shape.hidden : l->shape.inter) / 128;
    size_t n = (size_t)(up ? 2 * l->shape.inter : l->shape.hidden) / 128;
    size_t line = DENSE_SCALE_LINE(k * 128), lines = n * (size_t)l->slots.experts_local;
    int err;

    if (*to)
        return 0;
    err = gpu_alloc((void **)to, lines * line * sizeof(float));
    return err ? err
               : GPU(cudaMemcpy2D(*to, line * sizeof(float), from, k * sizeof(float),
                                  k * sizeof(float), lines, cudaMemcpyDeviceToDevice));
}

/* Rows that the library computes: it has block-scaled FP8 for multiples of 4 only (CUDA 13.0). */
static int rows_done(const struct gpu_session *s, int rows)
{
    return s->layer->shape.fp8 ? (rows + 3) / 4 * 4 : rows;
}

/* Another expert's GEMM of as many rows, or a new one. */
static int gemm_open(struct gpu_experts *x, struct gpu_session *s, int e, int rows)
{
    bool fp8 = s->layer->shape.fp8;
    struct dense_gemm_shape shape = {.dtype = fp8 ? GEMM_FP8 : GEMM_BF16,
                                     .scaling = fp8 ? DENSE_SCALE_BLOCK : DENSE_SCALE_NONE,
                                     .m = rows_done(s, rows),
                                     .n = x->n,
                                     .k = x->k,
                                     .num_sms = x->shape.num_sms};
    const struct dense_gemm *with = NULL;
    int err = ERR_UNSUPPORTED;

    x->done[e] = shape.m;
    for (int i = 0; i < e; i++) {
        with = with ? with : x->gemm[i];
        if (x->gemm[i] && x->done[i] == shape.m) {
            x->gemm[e] = x->gemm[i];
            return 0;
        }
    }
    if (shape.m <= s->layer->slots.rows_max)
        err = kernels_dense_gemm_open_with(&x->gemm[e], &shape, with);
    if (err == ERR_UNSUPPORTED)
        log_warn("rank %d: cuBLASLt has no %s GEMM of %d x %d x %d here (memory for %d rows)",
                 s->rank, fp8 ? "block-scaled FP8" : "BF16", shape.m, x->n, x->k,
                 s->layer->slots.rows_max);
    return err;
}

int gpu_experts_open(struct gpu_experts **out, struct gpu_session *s,
                     const struct gpu_experts_shape *shape, const int *rows)
{
    const struct gpu_shape *l = &s->layer->shape;
    struct gpu_experts *x = calloc(1, sizeof *x);
    int err = x ? 0 : ERR_NOMEM;

    *out = x;
    if (err)
        return err;
    x->shape = *shape;
    x->n = shape->up ? 2 * l->inter : l->hidden;
    x->k = shape->up ? l->hidden : l->inter;
    x->done = calloc((size_t)shape->count, sizeof *x->done);
    x->gemm = calloc((size_t)shape->count, sizeof *x->gemm);
    if (!x->done || !x->gemm)
        err = ERR_NOMEM;
    if (!err && l->fp8)
        err = scale_lines_open(s, shape->up);
    for (int e = 0; !err && e < shape->count; e++)
        if (rows[e] > 0)
            err = gemm_open(x, s, e, rows[e]);
    return err;
}

void gpu_experts_close(struct gpu_experts *x)
{
    if (!x)
        return;
    for (int e = x->shape.count - 1; x->gemm && e >= 0; e--) { /* the first lends its workspace */
        bool shared = false;

        for (int i = 0; i < e; i++)
            shared |= x->gemm[i] == x->gemm[e];
        if (!shared)
            kernels_dense_gemm_close(x->gemm[e]);
    }
    free(x->gemm);
    free(x->done);
    free(x);
}

int gpu_experts_launch(const struct gpu_experts *x, struct gpu_session *s, int buffer,
                       cudaStream_t stream, struct kernel_stamp *stamp)
{
    struct gpu_layer *l = s->layer;
    struct gpu_half *h = &l->half[buffer];
    size_t rows = (size_t)l->slots.rows_max, n = (size_t)x->n, k = (size_t)x->k;
    size_t width = l->shape.fp8 ? 1 : 2, groups = k / 128;
    const char *a = x->shape.up ? h->packed_x : h->act, *b = x->shape.up ? l->w_up : l->w_down;
    const float *a_scale = x->shape.up ? h->packed_scales : h->act_scales;
    const float *b_scale = x->shape.up ? l->w_up_lines : l->w_down_lines;
    char *c = x->shape.up ? h->gate_up : h->y_packed;
    int err = gpu_mark_launch(stream, stamp);

    for (int i = 0; !err && i < x->shape.count; i++) {
        size_t e = (size_t)(x->shape.first + i);
        struct dense_gemm_args args = {.a = a + e * rows * k * width,
                                       .a_scale = a_scale + e * rows * groups,
                                       .b = b + e * n * k * width,
                                       .b_scale = b_scale + e * (n / 128) * DENSE_SCALE_LINE(k),
                                       .c = c + e * rows * n * 2};

        if (x->gemm[i])
            err = kernels_dense_gemm_launch(x->gemm[i], &args, stream);
    }
    return err ? err : gpu_mark_launch(stream, stamp);
}
