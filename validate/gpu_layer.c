#include "validate/gpu_session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "kernels/comm_ref.h"

static void half_close(struct gpu_half *h)
{
    void *all[] = {h->packed_x, h->packed_scales, h->sources,    h->rows,     h->segments,
                   h->gate_up,  h->act,           h->act_scales, h->y_packed, h->units};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        cudaFree(all[i]);
    memset(h, 0, sizeof *h);
}

struct half_part {
    void **p;
    size_t bytes;
    bool values; /* 0xff makes NaNs; the others are indices and counts, where 0 means none */
};

#define HALF_PARTS 10

static void half_parts(struct gpu_layer *l, int parity, struct half_part part[HALF_PARTS])
{
    struct gpu_half *h = &l->half[parity];
    size_t rows = (size_t)l->slots.experts_local * (size_t)l->slots.rows_max;
    size_t hidden = (size_t)l->shape.hidden, inter = (size_t)l->shape.inter;
    size_t locals = (size_t)l->slots.experts_local, width = l->shape.fp8 ? 1 : 2;
    size_t units = (rows / 64 + locals) * sizeof *h->units;
    struct half_part all[HALF_PARTS] = {
        {&h->packed_x, rows * hidden * width, true},
        {(void **)&h->packed_scales, rows * hidden / 128 * 4, true},
        {(void **)&h->sources, rows * sizeof *h->sources, false},
        {(void **)&h->rows, locals * sizeof *h->rows, false},
        {(void **)&h->segments, locals * (size_t)l->shape.vranks * sizeof *h->segments, false},
        {&h->gate_up, rows * inter * 4, true},
        {&h->act, rows * inter * width, true},
        {(void **)&h->act_scales, rows * inter / 128 * 4, true},
        {&h->y_packed, rows * hidden * 2, true},
        {(void **)&h->units, units, false}};

    memcpy(part, all, sizeof all);
}

int gpu_half_open(struct gpu_session *s, int parity)
{
    struct gpu_half *h = &s->layer->half[parity];
    struct half_part part[HALF_PARTS];
    int err = 0;

    if (h->packed_x)
        return 0;
    half_parts(s->layer, parity, part);
    for (int i = 0; !err && i < HALF_PARTS; i++) {
        err = gpu_alloc(part[i].p, part[i].bytes);
        if (!err && !part[i].values)
            err = GPU(cudaMemset(*part[i].p, 0, part[i].bytes));
    }
    if (err) /* or the next plan would take it for whole */
        half_close(h);
    return err;
}

static size_t output_bytes(const struct gpu_layer *l)
{
    return (size_t)l->shape.max_tokens * (size_t)l->shape.hidden * 2;
}

void *gpu_output_of(const struct gpu_layer *l, int layer)
{
    return (char *)l->y + (size_t)layer * output_bytes(l);
}

int gpu_outputs_open(struct gpu_session *s, int layers)
{
    struct gpu_layer *l = s->layer;
    int err;

    if (l->y_layers >= layers)
        return 0;
    cudaFree(l->y);
    l->y = NULL;
    l->y_layers = 0;
    err = gpu_alloc(&l->y, (size_t)layers * output_bytes(l));
    if (!err)
        l->y_layers = layers;
    return err;
}

int gpu_layer_poison(struct gpu_session *s, bool lists, cudaStream_t stream)
{
    struct gpu_layer *l = s->layer;
    struct half_part part[HALF_PARTS];
    int err = GPU(cudaMemsetAsync(l->y, 0xff, (size_t)l->y_layers * output_bytes(l), stream));

    for (int h = 0; h < 2 && l->half[h].packed_x; h++) {
        half_parts(l, h, part);
        for (int i = 0; !err && i < HALF_PARTS; i++)
            if (part[i].values || (lists && part[i].p != (void **)&l->half[h].units))
                err = GPU(
                    cudaMemsetAsync(*part[i].p, part[i].values ? 0xff : 0, part[i].bytes, stream));
    }
    return err ? err : kernels_comm_poison(l->comm, stream);
}

/* Every expert's matrices, from its window of the base. */
static int weights_upload(struct gpu_session *s)
{
    struct gpu_layer *l = s->layer;
    const struct data_weights *w = &l->weights;
    int locals = l->slots.experts_local;
    unsigned char *base = NULL;
    int err = gpu_alloc((void **)&base, w->base_bytes);

    if (!err)
        err = gpu_upload(base, w->base, w->base_bytes);
    for (int m = DATA_UP; !err && m <= DATA_DOWN; m++) {
        size_t bytes = data_matrix_bytes(w, m), scales = data_matrix_scales(w, m);
        void **to = m == DATA_UP ? &l->w_up : &l->w_down;
        float **to_scales = m == DATA_UP ? &l->w_up_scales : &l->w_down_scales;

        err = gpu_alloc(to, bytes * (size_t)locals);
        if (!err)
            err = gpu_alloc((void **)to_scales, scales * (size_t)locals * sizeof(float));
        for (int e = 0; !err && e < locals; e++) {
            int set = s->rank * locals + e;

            err = GPU(cudaMemcpy((char *)*to + bytes * (size_t)e,
                                 base + data_weights_offset(w, set, m), bytes,
                                 cudaMemcpyDeviceToDevice));
            if (!err)
                err = gpu_upload(*to_scales + scales * (size_t)e,
                                 w->scales + data_weights_scale_offset(set, m),
                                 scales * sizeof(float));
        }
    }
    cudaFree(base);
    return err;
}

static bool shape_same(const struct gpu_shape *a, const struct gpu_shape *b)
{
    return a->vranks == b->vranks && a->experts == b->experts && a->hidden == b->hidden &&
           a->inter == b->inter && a->topk == b->topk && a->max_tokens == b->max_tokens &&
           a->fp8 == b->fp8 && a->dedup == b->dedup;
}

/* What a layer of this shape takes at least: one buffer set, weights, inputs, outputs, window. */
static int layer_bytes(const struct gpu_session *s, const struct gpu_shape *shape, double *bytes)
{
    struct gpu_layer l = {.shape = *shape};
    struct slots_shape window = {.ranks = s->ranks,
                                 .rank = s->rank,
                                 .vranks = shape->vranks,
                                 .experts = shape->experts,
                                 .hidden = shape->hidden,
                                 .topk = shape->topk,
                                 .max_tokens = shape->max_tokens,
                                 .fp8 = shape->fp8,
                                 .dedup = shape->dedup};
    struct half_part part[HALF_PARTS];
    double weights = 3.0 * shape->hidden * shape->inter * (shape->fp8 ? 1 : 2);
    int err = slots_init(&l.slots, &window, 0);

    if (err)
        return err;
    half_parts(&l, 0, part);
    *bytes = (double)l.slots.total_bytes + weights * l.slots.experts_local +
             2.0 * (double)output_bytes(&l);
    for (int i = 0; i < HALF_PARTS; i++)
        *bytes += (double)part[i].bytes;
    return 0;
}

#define GiB 1073741824.0

/* Collective. Asked before any rank allocates: one that fails halfway keeps the others waiting. */
static int room_check(struct gpu_session *s, const struct gpu_shape *shape)
{
    size_t free_bytes = 0, total_bytes = 0;
    double need = 0;
    int err = layer_bytes(s, shape, &need);

    if (!err)
        err = GPU(cudaMemGetInfo(&free_bytes, &total_bytes));
    if (!err && need > (double)free_bytes) {
        log_warn("rank %d: GPU %d has %.1f of %.1f GiB free; this layer needs %.1f GiB", s->rank,
                 s->device, (double)free_bytes / GiB, (double)total_bytes / GiB, need / GiB);
        err = ERR_INFEASIBLE;
    }
    return gpu_agree(s, err);
}

int gpu_layer_open(struct gpu_session *s, const struct gpu_shape *shape, uint64_t seed)
{
    struct gpu_layer *l;
    size_t tokens = (size_t)shape->max_tokens, hidden = (size_t)shape->hidden;
    size_t choices = tokens * (size_t)shape->topk;
    int err;

    if (s->layer && shape_same(&s->layer->shape, shape))
        return 0;
    gpu_layer_close(s);
    err = room_check(s, shape);
    if (err)
        return err;
    l = s->layer = calloc(1, sizeof *l);
    if (!l)
        return ERR_NOMEM;
    l->shape = *shape;
    err = gpu_comm_open(s, shape, 0, &l->comm);
    if (!err)
        l->slots = *kernels_comm_slots(l->comm);
    if (!err)
        err = data_weights_open(&l->weights, shape->hidden, shape->inter, shape->fp8, seed);
    if (!err)
        err = weights_upload(s);
    if (!err)
        err = gpu_half_open(s, 0);
    if (!err)
        err = gpu_alloc(&l->x, tokens * hidden * 2);
    if (!err)
        err = gpu_outputs_open(s, 1);
    if (!err)
        err = gpu_alloc((void **)&l->topk_idx, choices * sizeof *l->topk_idx);
    if (!err)
        err = gpu_alloc((void **)&l->topk_weights, choices * sizeof *l->topk_weights);
    err = gpu_agree(s, err);
    if (err) /* or the next plan of this shape would run on what was never allocated */
        gpu_layer_close(s);
    return err;
}

static void inputs_close(struct gpu_layer *l)
{
    free(l->inputs.x);
    free(l->inputs.weight);
    free(l->expert);
    free(l->ref_token);
    free(l->ref);
    memset(&l->inputs, 0, sizeof l->inputs);
    l->expert = NULL;
    l->ref_token = NULL;
    l->ref = NULL;
    l->num_ref = 0;
    l->inputs_key = 0;
}

void gpu_layer_close(struct gpu_session *s)
{
    struct gpu_layer *l = s->layer;

    if (!l)
        return;
    gpu_drain(s, "a layer's memory goes");
    for (int i = 0; i < 2; i++)
        half_close(&l->half[i]);
    gpu_dense_close(&l->dense);
    inputs_close(l);
    data_weights_close(&l->weights);
    void *all[] = {l->w_up,         l->w_down, l->w_up_scales, l->w_down_scales, l->w_up_lines,
                   l->w_down_lines, l->x,      l->y,           l->topk_idx,      l->topk_weights};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        cudaFree(all[i]);
    kernels_comm_close(l->comm);
    free(l);
    s->layer = NULL;
}

int gpu_inputs(struct gpu_session *s, const struct plan_routing *routing, int tokens, uint64_t seed)
{
    struct gpu_layer *l = s->layer;
    size_t choices = (size_t)tokens * (size_t)routing->topk;
    size_t values = (size_t)tokens * (size_t)l->shape.hidden;
    const int32_t *expert = routing->expert + (size_t)s->rank * choices;
    uint64_t key = data_hash(seed ^ (uint64_t)tokens, expert, choices * sizeof *expert);
    uint64_t state = seed * 1000003 + (uint64_t)s->rank;
    int err;

    if (l->inputs_key == key)
        return 0;
    inputs_close(l);
    l->inputs.tokens = tokens;
    l->inputs.topk = routing->topk;
    l->inputs.x = malloc(values * sizeof *l->inputs.x);
    l->inputs.weight = malloc(choices * sizeof *l->inputs.weight);
    l->expert = malloc(choices * sizeof *l->expert);
    if (!l->inputs.x || !l->inputs.weight || !l->expert)
        return ERR_NOMEM;
    memcpy(l->expert, expert, choices * sizeof *expert);
    l->inputs.expert = l->expert;
    data_fill(l->inputs.x, values, false, 1.0, &state);
    for (int t = 0; t < tokens; t++) {
        float *w = l->inputs.weight + (size_t)t * (size_t)routing->topk;
        double sum = 0;

        for (int k = 0; k < routing->topk; k++)
            sum += w[k] = (float)(0.1 + data_uniform(&state));
        for (int k = 0; k < routing->topk; k++)
            w[k] = (float)(w[k] / sum);
    }
    err = gpu_upload(l->x, l->inputs.x, values * sizeof *l->inputs.x);
    if (!err)
        err = gpu_upload(l->topk_idx, l->expert, choices * sizeof *l->expert);
    if (!err)
        err = gpu_upload(l->topk_weights, l->inputs.weight, choices * sizeof(float));
    if (!err)
        l->inputs_key = key;
    return err;
}

/* The reference of up to `sample` tokens, spread over the batch; kept with the inputs. */
static int reference_make(struct gpu_session *s, int sample)
{
    struct gpu_layer *l = s->layer;
    int tokens = l->inputs.tokens, num = sample > 0 && sample < tokens ? sample : tokens;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (l->ref && l->num_ref == num)
        return 0;
    free(l->ref);
    free(l->ref_token);
    l->ref = malloc((size_t)num * (size_t)l->shape.hidden * sizeof *l->ref);
    l->ref_token = malloc((size_t)num * sizeof *l->ref_token);
    if (!l->ref || !l->ref_token)
        return ERR_NOMEM;
    l->num_ref = num;
    for (int i = 0; i < num; i++)
        l->ref_token[i] = (int)((long)i * tokens / num);
    return data_reference(&l->weights, &l->slots, &l->inputs, l->ref_token, num,
                          (int)(cores / s->ranks), l->ref);
}

/* The largest distance of a token of y from its reference. */
static double output_distance(const struct gpu_layer *l, const uint16_t *y)
{
    size_t hidden = (size_t)l->shape.hidden;
    double worst = 0;

    for (int i = 0; i < l->num_ref; i++) {
        double d = comm_ref_distance(y + (size_t)l->ref_token[i] * hidden,
                                     l->ref + (size_t)i * hidden, l->shape.hidden);

        if (isnan(d)) /* no comparison would show it */
            return INFINITY;
        worst = fmax(worst, d);
    }
    return worst;
}

int gpu_output_check(struct gpu_session *s, int layers, int sample, double *worst, int *checked,
                     uint64_t *hash)
{
    struct gpu_layer *l = s->layer;
    size_t bytes = (size_t)l->inputs.tokens * (size_t)l->shape.hidden * 2;
    uint16_t *y = malloc(bytes);
    int err = y ? reference_make(s, sample) : ERR_NOMEM;

    *worst = 0;
    *hash = 0;
    for (int i = 0; !err && i < layers; i++) {
        uint64_t before = *hash;

        err = GPU(cudaMemcpy(y, gpu_output_of(l, i), bytes, cudaMemcpyDeviceToHost));
        if (err)
            break;
        *worst = fmax(*worst, output_distance(l, y));
        *hash = data_hash(DATA_HASH_START, y, bytes);
        if (i > 0 && *hash != before) {
            log_error("rank %d: the output of layer %d differs from that of the one before",
                      s->rank, i);
            err = ERR_DATA;
        }
    }
    *checked = l->num_ref;
    free(y);
    return err;
}
