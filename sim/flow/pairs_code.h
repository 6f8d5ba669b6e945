/* sim/flow/pairs_code.h: the inner loops of the fast fidelity, included once for each kind of
 * processor. The same operations in the same order on any: results do not depend on it. */
#ifndef PEOSIM_SIM_FLOW_PAIRS_CODE_H
#define PEOSIM_SIM_FLOW_PAIRS_CODE_H

#include <stdint.h>

#include "sim/flow/pairs.h"

/* Links whose share is within so much of the least are settled together, each at its own. */
#define SETTLE_TOGETHER 2e-3f
/* What is left of a link that rounding has used up. */
#define CAP_LEAST 1e-6f
/* A flow with so small a part of what it had left is done. */
#define LEFT_NOTHING 1e-6f

typedef float vecf __attribute__((vector_size(4 * PAIRS_LANES)));
typedef int32_t veci __attribute__((vector_size(4 * PAIRS_LANES)));
typedef int64_t vecl __attribute__((vector_size(4 * PAIRS_LANES)));

/* Lane by lane, a where the mask is set, else b. Macros, since a function that takes such vectors
 * has no settled calling convention. */
#define VEC_PICK(mask, a, b) ((vecf)(((veci)(a) & (mask)) | ((veci)(b) & ~(mask))))
#if defined(__AVX2__)
#include <immintrin.h>
#define VEC_MIN(a, b)  ((vecf)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define VEC_MAX(a, b)  ((vecf)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define VEC_BITS(mask) ((unsigned)_mm256_movemask_ps((__m256)(mask)))
#else
#define VEC_MIN(a, b)  VEC_PICK((a) < (b), a, b)
#define VEC_MAX(a, b)  VEC_PICK((a) > (b), a, b)
#define VEC_BITS(mask) vec_bits((const int32_t *)&(mask))
static inline unsigned vec_bits(const int32_t *mask)
{
    unsigned bits = 0;

    for (int i = 0; i < PAIRS_LANES; i++)
        bits |= (unsigned)(mask[i] & 1) << i;
    return bits;
}
#endif
#define VEC_ALL(x) ((vecf){x, x, x, x, x, x, x, x})

static inline float vec_least(const float *v)
{
    float least = v[0];

    for (int i = 1; i < PAIRS_LANES; i++)
        least = v[i] < least ? v[i] : least;
    return least;
}

static inline float links_least(const struct pair_links *k, uint32_t count, float least)
{
    const vecf *share = (const vecf *)k->share;
    vecf low = VEC_ALL(least);

    for (uint32_t j = 0; j < count / PAIRS_LANES; j++)
        low = VEC_MIN(share[j], low);
    return vec_least((const float *)&low);
}

static inline void share_set(struct pair_links *k, uint32_t l)
{
    float cap = k->cap[l] > CAP_LEAST ? k->cap[l] : CAP_LEAST;

    k->cap[l] = cap;
    k->share[l] = k->n[l] > 0.5f ? cap / k->n[l] : PAIRS_FREE;
}

/* Takes `flows` flows at `level` from the links of a whole vector. */
static inline void shares_take(struct pair_links *k, uint32_t j, float level, const vecf *flows)
{
    vecf *cap = (vecf *)k->cap + j, *n = (vecf *)k->n + j;
    vecf left = *n - *flows, rest = *cap - VEC_ALL(level) * *flows;
    veci some = left > VEC_ALL(0.5f);

    rest = VEC_MAX(rest, VEC_ALL(CAP_LEAST));
    *n = left;
    *cap = rest;
    ((vecf *)k->share)[j] = VEC_PICK(some, rest / left, VEC_ALL(PAIRS_FREE));
}

static inline void link_take(struct pair_links *k, uint32_t l, float level, float flows)
{
    k->cap[l] -= level * flows;
    k->n[l] -= flows;
    share_set(k, l);
}

static inline void link_settle(struct pair_links *k, uint32_t l, float level)
{
    k->level[l] = level;
    k->bound[l] = k->n[l];
    k->n[l] = 0;
    k->share[l] = PAIRS_FREE;
}

/* The open cells of a row run at level. */
static inline void row_settle(struct plane *p, uint32_t row, float level)
{
    const vecf *weight = (const vecf *)(p->weight + (size_t)row * p->cols);
    const vecf *open = (const vecf *)p->in_open;

    p->open[row] = 0;
    for (uint32_t j = 0; j < p->cols / PAIRS_LANES; j++) {
        vecf flows = weight[j] * open[j];

        shares_take(&p->in, j, level, &flows);
    }
}

static inline void own_settle(struct plane *p, uint32_t row, float level)
{
    link_settle(&p->own, row, level);
    if (p->open[row] == 0)
        return;
    link_take(&p->out, p->leader[row], level, p->cells[row]);
    row_settle(p, row, level);
}

static inline void out_row_settle(struct plane *p, uint32_t row, float level)
{
    if (p->limits && p->own.n[row] > 0.5f)
        link_take(&p->own, row, level, p->cells[row]);
    row_settle(p, row, level);
}

static inline void out_settle(struct plane *p, uint32_t leader, float level)
{
    link_settle(&p->out, leader, level);
    if (!p->shared) {
        out_row_settle(p, leader, level);
        return;
    }
    for (uint32_t row = 0; row < p->rows; row++)
        if (p->leader[row] == leader && p->open[row] != 0)
            out_row_settle(p, row, level);
}

/* What rows that stand behind another row of their port have lost is their port's loss. */
static inline void followers_take(struct plane *p, const float *weight, float level)
{
    for (uint32_t row = 0; row < p->rows; row++) {
        float flows = weight[row] * p->open[row];

        if (flows > 0 && p->leader[row] != row)
            link_take(&p->out, p->leader[row], level, flows);
    }
}

static inline void in_settle(struct plane *p, uint32_t col, float level)
{
    const float *column = p->weight_in + (size_t)col * p->row_room;
    const vecf *weight = (const vecf *)column, *open = (const vecf *)p->open;
    vecf *cells = (vecf *)p->cells;

    link_settle(&p->in, col, level);
    p->in_open[col] = 0;
    for (uint32_t j = 0; j < p->rows / PAIRS_LANES; j++) {
        vecf flows = weight[j] * open[j];

        cells[j] -= flows;
        shares_take(&p->out, j, level, &flows);
        if (p->limits)
            shares_take(&p->own, j, level, &flows);
    }
    if (p->shared)
        followers_take(p, column, level);
}

static inline void links_settle(struct plane *p, struct pair_links *k, uint32_t count, float most,
                                void (*settle)(struct plane *p, uint32_t l, float level))
{
    for (uint32_t j = 0; j < count / PAIRS_LANES; j++) {
        veci low = ((const vecf *)k->share)[j] <= VEC_ALL(most);
        unsigned bits = VEC_BITS(low);

        for (; bits; bits &= bits - 1) {
            uint32_t l = j * PAIRS_LANES + (uint32_t)__builtin_ctz(bits);

            if (k->share[l] <= most)
                settle(p, l, k->share[l]);
        }
    }
}

/* Progressive filling: all rates rise together until links are full; their flows are settled. */
static void pairs_fill(struct plane *p)
{
    for (;;) {
        float least = links_least(&p->in, p->cols, PAIRS_FREE), most;

        least = links_least(&p->out, p->rows, least);
        if (p->limits)
            least = links_least(&p->own, p->rows, least);
        if (least >= PAIRS_FREE / 2)
            return;
        most = least * (1 + SETTLE_TOGETHER);
        if (p->limits)
            links_settle(p, &p->own, p->rows, most, own_settle);
        links_settle(p, &p->out, p->rows, most, out_settle);
        links_settle(p, &p->in, p->cols, most, in_settle);
    }
}

static float pairs_need(struct plane *p)
{
    const vecf *in = (const vecf *)p->in.level;
    float least = PAIRS_FREE;

    for (uint32_t row = 0; row < p->rows; row++) {
        const vecf *left = (const vecf *)(p->left + (size_t)row * p->cols);
        vecf level = VEC_ALL(p->level[row]), low = VEC_ALL(PAIRS_FREE);

        p->need_ns[row] = PAIRS_FREE;
        if (p->count[row] == 0 && p->solo[row] == 0)
            continue;
        for (uint32_t j = 0; j < p->cols / PAIRS_LANES; j++) {
            vecf need = left[j] / VEC_MIN(level, in[j]);
            veci some = left[j] > VEC_ALL(0.0f);

            need = VEC_PICK(some, need, VEC_ALL(PAIRS_FREE));
            low = VEC_MIN(need, low);
        }
        p->need_ns[row] = vec_least((const float *)&low);
        if (p->solo[row] > 0 && p->solo_left[row] / p->own.level[row] < p->need_ns[row])
            p->need_ns[row] = p->solo_left[row] / p->own.level[row];
        least = p->need_ns[row] < least ? p->need_ns[row] : least;
    }
    return least;
}

/* One flow of a cell ends: its links get back what it would have carried on. */
static inline void cell_ending(struct plane *p, uint32_t row, uint32_t col, float total_ns)
{
    uint32_t leader = p->leader[row];
    float level = p->level[row], rate = p->in.level[col] < level ? p->in.level[col] : level;
    float freed = rate * total_ns - p->left[(size_t)row * p->cols + col];

    p->in.freed[col] += freed;
    p->out.freed[leader] += freed;
    p->own.freed[row] += freed;
    if (p->in.level[col] < level)
        p->in.ended[col] += 1;
    else if (p->own.level[row] < p->out.level[leader])
        p->own.ended[row] += 1;
    else
        p->out.ended[leader] += 1;
    p->ends[p->end_count++] = (struct pair_end){row, col, p->left[(size_t)row * p->cols + col], -1};
}

static void pairs_ending(struct plane *p, float total_ns)
{
    const vecf *in = (const vecf *)p->in.level;

    p->end_count = 0;
    for (uint32_t row = 0; row < p->rows; row++) {
        const vecf *left = (const vecf *)(p->left + (size_t)row * p->cols);
        vecf level = VEC_ALL(p->level[row]), total = VEC_ALL(total_ns);

        if (p->need_ns[row] > total_ns)
            continue;
        for (uint32_t j = 0; j < p->cols / PAIRS_LANES; j++) {
            veci done = (left[j] > VEC_ALL(0.0f)) & (left[j] <= VEC_MIN(level, in[j]) * total);
            unsigned bits = VEC_BITS(done);

            for (; bits; bits &= bits - 1)
                cell_ending(p, row, j * PAIRS_LANES + (uint32_t)__builtin_ctz(bits), total_ns);
        }
        if (p->solo[row] > 0 && p->solo_left[row] <= p->own.level[row] * total_ns) {
            p->own.freed[row] += p->own.level[row] * total_ns - p->solo_left[row];
            p->own.ended[row] += 1;
            p->ends[p->end_count++] = (struct pair_end){row, PAIRS_NONE, p->solo_left[row], -1};
        }
    }
}

static void pairs_advance(struct plane *p, float quiet_ns, float busy_ns,
                          void (*end)(void *self, uint32_t row, uint32_t col, float served),
                          void *self)
{
    const vecf *in = (const vecf *)p->in.level, *in_raised = (const vecf *)p->in.raised;
    vecf quiet = VEC_ALL(quiet_ns), busy = VEC_ALL(busy_ns), none = VEC_ALL(0.0f);
    vecf *in_served = (vecf *)p->in_served;

    for (uint32_t row = 0; row < p->rows; row++) {
        vecf *left = (vecf *)(p->left + (size_t)row * p->cols), sum = none;
        const vecf *weight = (const vecf *)(p->weight + (size_t)row * p->cols);
        vecf level = VEC_ALL(p->level[row]), raised = VEC_ALL(p->raised[row]);

        if (p->count[row] == 0)
            continue;
        for (uint32_t j = 0; j < p->cols / PAIRS_LANES; j++) {
            vecf had = left[j], rest, carried;
            vecf served = VEC_MIN(level, in[j]) * quiet + VEC_MIN(raised, in_raised[j]) * busy;
            veci some = had > none, done;
            unsigned bits;

            served = VEC_PICK(some, served, none);
            rest = had - served;
            done = some & (rest <= had * VEC_ALL(LEFT_NOTHING));
            left[j] = VEC_PICK(done, had, rest);
            carried = served * weight[j];
            sum += carried;
            in_served[j] += carried;
            for (bits = VEC_BITS(done); bits; bits &= bits - 1) {
                uint32_t lane = (uint32_t)__builtin_ctz(bits);

                end(self, row, j * PAIRS_LANES + lane, ((const float *)&served)[lane]);
            }
        }
        for (int i = 0; i < PAIRS_LANES; i++)
            p->served[row] += (double)((const float *)&sum)[i];
    }
}

#endif
