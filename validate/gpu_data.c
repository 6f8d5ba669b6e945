#include "validate/gpu_data.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "kernels/comm_ref.h"
#include "kernels/ref_gemm.h"

#define WINDOW_SPREAD ((size_t)32 << 20) /* bytes over which the windows of experts are spread */
#define SCALE_SPREAD  4096
#define TABLE_SIZE    65536
#define MAX_THREADS   64

uint64_t data_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double data_uniform(uint64_t *state)
{
    return (double)(data_random(state) >> 11) * 0x1p-53;
}

static double normal(uint64_t *state)
{
    double u = 1 - data_uniform(state);

    return sqrt(-2 * log(u)) * cos(6.283185307179586 * data_uniform(state));
}

/* Drawn from a table of normal values: the draw is what costs time. */
void data_fill(void *to, size_t count, bool fp8, double deviation, uint64_t *state)
{
    uint16_t *table = malloc(TABLE_SIZE * sizeof *table);

    if (!table) /* leaves what calloc gave: the check of the results would notice */
        return;
    for (int i = 0; i < TABLE_SIZE; i++)
        table[i] = fp8 ? ref_e4m3_bits(normal(state) * 448 / 3.5)
                       : ref_bf16_bits(normal(state) * deviation);
    for (size_t i = 0; i < count; i += 4) {
        uint64_t draw = data_random(state);

        for (size_t j = 0; j < 4 && i + j < count; j++) {
            uint16_t value = table[draw >> 16 * j & 0xffff];

            if (fp8)
                ((uint8_t *)to)[i + j] = (uint8_t)value;
            else
                ((uint16_t *)to)[i + j] = value;
        }
    }
    free(table);
}

size_t data_matrix_bytes(const struct data_weights *w, enum data_matrix m)
{
    return m == DATA_UP ? w->matrix_bytes : w->matrix_bytes / 2;
}

size_t data_matrix_scales(const struct data_weights *w, enum data_matrix m)
{
    size_t up = (size_t)(2 * w->inter / 128) * (size_t)(w->hidden / 128);

    return m == DATA_UP ? up : (size_t)(w->hidden / 128) * (size_t)(w->inter / 128);
}

size_t data_weights_offset(const struct data_weights *w, int set, enum data_matrix m)
{
    (void)w;
    return (size_t)(2 * set + (int)m) * 2654435761u % (WINDOW_SPREAD / 256) * 256;
}

size_t data_weights_scale_offset(int set, enum data_matrix m)
{
    return (size_t)(2 * set + (int)m) * 97 % SCALE_SPREAD;
}

int data_weights_open(struct data_weights *w, int hidden, int inter, bool fp8, uint64_t seed)
{
    size_t width = fp8 ? 1 : 2;
    uint64_t state = seed;

    memset(w, 0, sizeof *w);
    w->hidden = hidden;
    w->inter = inter;
    w->fp8 = fp8;
    w->matrix_bytes = (size_t)2 * (size_t)inter * (size_t)hidden * width;
    w->base_bytes = w->matrix_bytes + WINDOW_SPREAD;
    w->scale_count = data_matrix_scales(w, DATA_UP) + SCALE_SPREAD;
    w->base = calloc(1, w->base_bytes);
    w->scales = calloc(w->scale_count, sizeof *w->scales);
    if (!w->base || !w->scales) {
        data_weights_close(w);
        return ERR_NOMEM;
    }
    data_fill(w->base, w->base_bytes / width, fp8, 1.0 / 64, &state);
    /* Together with e4m3 values of deviation 128, weights have one of 1/64. */
    for (size_t i = 0; i < w->scale_count; i++)
        w->scales[i] = (float)((0.5 + data_uniform(&state)) / (128 * 64));
    return 0;
}

void data_weights_close(struct data_weights *w)
{
    free(w->base);
    free(w->scales);
    w->base = NULL;
    w->scales = NULL;
}

uint64_t data_hash(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *p = data;

    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ p[i]) * 1099511628211u;
    return hash;
}

struct reference {
    const struct data_weights *w;
    const struct slots *slots;
    const struct data_inputs *in;
    const int *token;
    int num, first, step;
    float e4m3[256];
    double *ref;
    int err;
};

/* c[j] = a . row j of the matrix, over its stored values and scales. */
static void product(const struct reference *r, int set, enum data_matrix m, int n, int k,
                    const double *a, double *c)
{
    const struct data_weights *w = r->w;
    const unsigned char *bytes = w->base + data_weights_offset(w, set, m);
    const float *scale = w->scales + data_weights_scale_offset(set, m);

    for (int j = 0; j < n; j++) {
        double sum = 0;

        for (int g = 0; g < k / 128; g++) {
            size_t at = (size_t)j * (size_t)k + (size_t)g * 128;
            const double *x = a + (size_t)g * 128;
            double part[4] = {0};

            for (int i = 0; i < 128; i++)
                part[i % 4] +=
                    x[i] *
                    (double)(w->fp8
                                 ? r->e4m3[bytes[at + (size_t)i]]
                                 : comm_ref_from_bf16(((const uint16_t *)bytes)[at + (size_t)i]));
            sum += (part[0] + part[1] + part[2] + part[3]) *
                   (w->fp8 ? (double)scale[(size_t)(j / 128) * (size_t)(k / 128) + (size_t)g] : 1);
        }
        c[j] = sum;
    }
}

struct scratch {
    double *x, *up, *act, *y;
    uint16_t *up_bf16;
    uint8_t *bytes;
    float *scale;
};

/* One expert's answer to one token (s->x), in s->y. */
static void expert_apply(const struct reference *r, int set, struct scratch *s)
{
    int hidden = r->w->hidden, inter = r->w->inter;

    product(r, set, DATA_UP, 2 * inter, hidden, s->x, s->up);
    for (int i = 0; i < 2 * inter; i++)
        s->up_bf16[i] = ref_bf16_bits(s->up[i]);
    ref_silu_mul_row(inter, s->up_bf16, s->act);
    if (r->w->fp8) {
        ref_quant_row(inter, s->act, s->bytes, s->scale);
        for (int i = 0; i < inter; i++)
            s->act[i] = (double)r->e4m3[s->bytes[i]] * (double)s->scale[i / 128];
    } else {
        for (int i = 0; i < inter; i++)
            s->act[i] = ref_bf16_value(ref_bf16_bits(s->act[i]));
    }
    product(r, set, DATA_DOWN, hidden, inter, s->act, s->y);
}

static void token_apply(const struct reference *r, int i, struct scratch *s)
{
    int hidden = r->w->hidden, token = r->token[i], topk = r->in->topk;
    double *ref = r->ref + (size_t)i * (size_t)hidden;

    memset(ref, 0, (size_t)hidden * sizeof *ref);
    comm_ref_cast(s->x, r->in->x + (size_t)token * (size_t)hidden, hidden, r->w->fp8);
    for (int k = 0; k < topk; k++) {
        size_t at = (size_t)token * (size_t)topk + (size_t)k;
        int expert = r->in->expert[at];

        if (expert < 0)
            continue;
        expert_apply(r,
                     slots_expert_gpu(r->slots, expert) * r->slots->experts_local +
                         slots_expert_local(r->slots, expert),
                     s);
        for (int h = 0; h < hidden; h++)
            ref[h] += (double)r->in->weight[at] * s->y[h];
    }
}

static void scratch_free(struct scratch *s)
{
    free(s->x);
    free(s->up);
    free(s->act);
    free(s->y);
    free(s->up_bf16);
    free(s->bytes);
    free(s->scale);
}

static void *reference_thread(void *self)
{
    struct reference *r = self;
    size_t hidden = (size_t)r->w->hidden, inter = (size_t)r->w->inter;
    struct scratch s = {
        .x = malloc(hidden * sizeof(double)),
        .up = malloc(2 * inter * sizeof(double)),
        .act = malloc(inter * sizeof(double)),
        .y = malloc(hidden * sizeof(double)),
        .up_bf16 = malloc(2 * inter * sizeof(uint16_t)),
        .bytes = malloc(inter),
        .scale = malloc((inter / 128 + 1) * sizeof(float)),
    };

    if (!s.x || !s.up || !s.act || !s.y || !s.up_bf16 || !s.bytes || !s.scale)
        r->err = ERR_NOMEM;
    for (int i = r->first; !r->err && i < r->num; i += r->step)
        token_apply(r, i, &s);
    scratch_free(&s);
    return NULL;
}

int data_reference(const struct data_weights *w, const struct slots *slots,
                   const struct data_inputs *in, const int *token, int num, int threads,
                   double *ref)
{
    struct reference *part = calloc(MAX_THREADS, sizeof *part);
    pthread_t id[MAX_THREADS];
    bool started[MAX_THREADS] = {false};
    int err = 0;

    if (!part)
        return ERR_NOMEM;
    threads = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
    for (int i = 0; i < threads; i++) {
        part[i] = (struct reference){.w = w,
                                     .slots = slots,
                                     .in = in,
                                     .token = token,
                                     .num = num,
                                     .first = i,
                                     .step = threads,
                                     .ref = ref};
        for (int b = 0; b < 256; b++)
            part[i].e4m3[b] = (float)ref_e4m3_value((uint8_t)b);
        started[i] = pthread_create(&id[i], NULL, reference_thread, &part[i]) == 0;
        if (!started[i]) /* then this thread does it */
            reference_thread(&part[i]);
    }
    for (int i = 0; i < threads; i++) {
        if (started[i])
            pthread_join(id[i], NULL);
        if (part[i].err)
            err = part[i].err;
    }
    free(part);
    return err;
}
