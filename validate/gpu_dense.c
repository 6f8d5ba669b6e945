#include "validate/gpu_session.h"

#include <string.h>

#include "base/err.h"
#include "base/log.h"

void gpu_dense_close(struct gpu_dense_memory *d)
{
    void *all[] = {d->x,    d->up,       d->down,      d->gate_up,     d->act,
                   d->out,  d->x_scales, d->up_scales, d->down_scales, d->act_scales,
                   d->rows, d->router,   d->logits,    d->choices,     d->choice_weights};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        cudaFree(all[i]);
    memset(d, 0, sizeof *d);
}

/* Fills device memory with the weights' random bytes, or with scales of ones to the power of two.
 */
static int fill_random(struct gpu_layer *l, void *to, size_t bytes)
{
    int err = 0;

    for (size_t at = 0; !err && at < bytes; at += l->weights.base_bytes) {
        size_t n = bytes - at < l->weights.base_bytes ? bytes - at : l->weights.base_bytes;

        err = gpu_upload((char *)to + at, l->weights.base, n);
    }
    return err;
}

static int fill_scales(struct gpu_layer *l, float *to, size_t count)
{
    int err = 0;

    for (size_t at = 0; !err && at < count; at += l->weights.scale_count) {
        size_t n = count - at < l->weights.scale_count ? count - at : l->weights.scale_count;

        err = gpu_upload(to + at, l->weights.scales, n * sizeof *to);
    }
    return err;
}

int gpu_dense_values(struct gpu_layer *l, void **out, size_t bytes)
{
    int err = gpu_alloc(out, bytes);

    return err ? err : fill_random(l, *out, bytes);
}

int gpu_dense_scales(struct gpu_layer *l, float **out, size_t count)
{
    int err = gpu_alloc((void **)out, count * sizeof **out);

    return err ? err : fill_scales(l, *out, count);
}

int gpu_dense_open(struct gpu_session *s, int inter)
{
    struct gpu_layer *l = s->layer;
    struct gpu_dense_memory *d = &l->dense;
    size_t hidden = (size_t)l->shape.hidden, tokens = (size_t)l->shape.max_tokens;
    size_t wide = (size_t)(inter > 0 ? inter : 128);
    size_t experts = (size_t)gpu_router_width(l->shape.experts);
    struct {
        void **p;
        size_t bytes;
        bool scales;
    } want[] = {{&d->x, tokens * hidden * 2, false},
                {&d->up, 2 * wide * hidden * 2, false},
                {&d->down, wide * hidden * 2, false},
                {&d->gate_up, tokens * wide * 4, false},
                {&d->act, tokens * wide * 2, false},
                {&d->out, tokens * hidden * 2, false},
                {(void **)&d->x_scales, tokens * hidden / 128 * 4, true},
                {(void **)&d->up_scales, 2 * wide * hidden / 128 * 4, true},
                {(void **)&d->down_scales, wide * hidden / 128 * 4, true},
                {(void **)&d->act_scales, tokens * wide / 128 * 4 + 4, true},
                {(void **)&d->rows, GPU_MAX_BATCHES * sizeof *d->rows, false},
                {&d->router, experts * hidden * 2, false},
                {&d->logits, tokens * experts * 2, false},
                {(void **)&d->choices, tokens * (size_t)l->shape.topk * 4, false},
                {(void **)&d->choice_weights, tokens * (size_t)l->shape.topk * 4, false}};
    int err = 0;

    if (d->x && d->inter >= inter)
        return 0;
    gpu_dense_close(d);
    d->inter = inter;
    for (size_t i = 0; !err && i < sizeof want / sizeof *want; i++)
        err = want[i].scales
                  ? gpu_dense_scales(l, (float **)want[i].p, want[i].bytes / sizeof(float))
                  : gpu_dense_values(l, want[i].p, want[i].bytes);
    if (err)
        gpu_dense_close(d);
    return err;
}

void gpu_dense_room(struct gpu_session *s, int wanted)
{
    if (s->num_dense + wanted <= GPU_MAX_DENSE)
        return;
    for (int i = 0; i < s->num_dense; i++)
        kernels_dense_gemm_close(s->dense[i].gemm);
    s->num_dense = 0;
}

int gpu_dense_find(struct gpu_session *s, struct dense_gemm_shape shape,
                   struct gpu_dense_entry **out)
{
    static const enum dense_scaling scalings[] = {DENSE_SCALE_BLOCK, DENSE_SCALE_TENSOR,
                                                  DENSE_SCALE_NONE};
    struct gpu_dense_entry *e;
    int err = ERR_UNSUPPORTED;

    for (int i = 0; i < s->num_dense; i++) {
        const struct dense_gemm_shape *have = &s->dense[i].shape;

        if (have->m == shape.m && have->n == shape.n && have->k == shape.k &&
            have->num_sms == shape.num_sms && s->dense[i].wanted == shape.dtype) {
            *out = &s->dense[i];
            return 0;
        }
    }
    if (s->num_dense == GPU_MAX_DENSE) { /* earlier ops hold the entries: none may be closed */
        log_error("more than %d different library GEMMs in one plan", GPU_MAX_DENSE);
        return ERR_UNSUPPORTED;
    }
    e = &s->dense[s->num_dense];
    e->wanted = shape.dtype;
    for (size_t i = 0; err == ERR_UNSUPPORTED && i < sizeof scalings / sizeof *scalings; i++) {
        e->shape = shape;
        e->shape.scaling = scalings[i];
        e->shape.dtype = scalings[i] == DENSE_SCALE_NONE ? GEMM_BF16 : GEMM_FP8;
        if (shape.dtype == GEMM_BF16 && scalings[i] != DENSE_SCALE_NONE)
            continue;
        if (scalings[i] == DENSE_SCALE_BLOCK && (shape.n % 128 || shape.k % 512))
            continue;
        err = kernels_dense_gemm_open(&e->gemm, &e->shape);
    }
    if (err) {
        log_error("cuBLASLt has no GEMM for %d x %d x %d", shape.m, shape.n, shape.k);
        return err;
    }
    *out = e;
    s->num_dense++;
    return 0;
}
