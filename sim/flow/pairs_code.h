/* sim/flow/pairs_code.h: the inner loops of the fast fidelity, included once for each kind of
 * processor. The same operations in the same order on any: results do not depend on it. */
#ifndef PEOSIM_SIM_FLOW_PAIRS_CODE_H
#define PEOSIM_SIM_FLOW_PAIRS_CODE_H

#include <stdint.h>

#include "sim/flow/pairs.h"

/* Links whose share is above the least of other sides by no more than this are settled before it.
 */
#define SETTLE_TOGETHER 2e-3f
/* A link's capacity is not moved further than this by what it owes or is owed. */
#define CAP_LOWEST  0.5f
#define CAP_HIGHEST 2.0f
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
#define VEC_LEAST(x)   vec_least((__m256)(x))
static inline float vec_least(__m256 v)
{
    __m128 four = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_min_ss(two, _mm_shuffle_ps(two, two, 1)));
}
#else
#define VEC_MIN(a, b)  VEC_PICK((a) < (b), a, b)
#define VEC_MAX(a, b)  VEC_PICK((a) > (b), a, b)
#define VEC_BITS(mask) vec_bits((const int32_t *)&(mask))
#define VEC_LEAST(x)   vec_least((const float *)&(x))
static inline float vec_least(const float *v)
{
    float a = lesser(v[0], v[4]), b = lesser(v[1], v[5]);
    float c = lesser(v[2], v[6]), d = lesser(v[3], v[7]);

    return lesser(lesser(a, b), lesser(c, d));
}
static inline unsigned vec_bits(const int32_t *mask)
{
    unsigned bits = 0;

    for (int i = 0; i < PAIRS_LANES; i++)
        bits |= (unsigned)(mask[i] & 1) << i;
    return bits;
}
#endif
#define VEC_ALL(x) ((vecf){x, x, x, x, x, x, x, x})

/* The capacity over the next epoch: the link's credit is spread over as long as the last one, or
 * over all that it still has to carry. */
static inline void credit_cap(vecf *cap, const vecf *base, const vecf *credit, const vecf *ns)
{
    veci some = *ns > VEC_ALL(0.0f);
    vecf with = VEC_PICK(some, *base + *credit / *ns, *base);

    with = VEC_MIN(VEC_MAX(with, VEC_ALL(CAP_LOWEST) * *base), VEC_ALL(CAP_HIGHEST) * *base);
    *cap = VEC_MAX(with, VEC_ALL(CAP_LEAST));
}

static inline void links_begin(struct pair_links *k, uint32_t j)
{
    ((vecf *)k->level)[j] = VEC_ALL(PAIRS_FREE);
    ((vecf *)k->bound)[j] = VEC_ALL(0.0f);
    ((vecf *)k->ended)[j] = VEC_ALL(0.0f);
    ((vecf *)k->freed)[j] = VEC_ALL(0.0f);
}

/* Links of ports; out's capacities are left in out_level, a scratch. */
static inline void ports_begin(struct plane *p)
{
    vecf tail = VEC_ALL(0.0f), epoch = VEC_ALL((float)p->epoch_ns);

    for (uint32_t j = 0; j < p->cols / PAIRS_LANES; j++) {
        vecf in_cap = ((const vecf *)p->in_cap)[j], out_cap = ((const vecf *)p->out_cap)[j];
        vecf in_ns = ((const vecf *)p->in_left)[j] / VEC_MAX(in_cap, VEC_ALL(CAP_LEAST));
        vecf out_ns = ((const vecf *)p->out_left)[j] / VEC_MAX(out_cap, VEC_ALL(CAP_LEAST));
        vecf n = ((const vecf *)p->in_count)[j];

        tail = VEC_MAX(tail, VEC_MAX(in_ns, out_ns));
        in_ns = VEC_MIN(in_ns, epoch);
        out_ns = VEC_MIN(out_ns, epoch);
        credit_cap((vecf *)p->in.cap + j, &in_cap, (const vecf *)p->in_credit + j, &in_ns);
        credit_cap((vecf *)p->out_level + j, &out_cap, (const vecf *)p->out_credit + j, &out_ns);
        ((vecf *)p->in.n)[j] = n;
        ((vecf *)p->in_open)[j] = VEC_PICK(n > VEC_ALL(0.0f), VEC_ALL(1.0f), VEC_ALL(0.0f));
        links_begin(&p->in, j);
    }
    p->tail_ns = ((const float *)&tail)[0];
    for (int i = 1; i < PAIRS_LANES; i++)
        p->tail_ns = -lesser(-p->tail_ns, -((const float *)&tail)[i]);
}

static void pairs_begin(struct plane *p)
{
    vecf epoch = VEC_ALL((float)p->epoch_ns);
    unsigned limits = 0;

    ports_begin(p);
    for (uint32_t row = 0; row < p->rows; row++) {
        p->out.cap[row] = p->out_level[p->port[row]];
        p->out.n[row] = p->count[row];
    }
    for (uint32_t row = 0; row < p->rows && p->shared; row++)
        if (p->leader[row] != row) {
            p->out.n[p->leader[row]] += p->count[row];
            p->out.n[row] = 0;
        }
    for (uint32_t j = 0; j < p->rows / PAIRS_LANES; j++) {
        vecf count = ((const vecf *)p->count)[j], none = VEC_ALL(0.0f);
        vecf own = ((const vecf *)p->limited)[j] * (count + ((const vecf *)p->solo)[j]);
        veci some = own > none;

        ((vecf *)p->open)[j] = VEC_PICK(count > none, VEC_ALL(1.0f), none);
        ((vecf *)p->cells)[j] = count;
        ((vecf *)p->own.n)[j] = own;
        limits |= VEC_BITS(some);
        credit_cap((vecf *)p->own.cap + j, (const vecf *)p->own_cap + j,
                   (const vecf *)p->own_credit + j, &epoch);
        links_begin(&p->own, j);
        links_begin(&p->out, j);
    }
    p->limits = limits != 0;
}

static inline void links_raise(struct pair_links *k, uint32_t count, float busy_ns)
{
    vecf none = VEC_ALL(0.0f);

    for (uint32_t j = 0; j < count / PAIRS_LANES; j++) {
        vecf level = ((const vecf *)k->level)[j], freed = ((const vecf *)k->freed)[j];
        vecf stay = ((const vecf *)k->bound)[j] - ((const vecf *)k->ended)[j];
        veci more = (level < VEC_ALL(PAIRS_FREE)) & (freed > none) & (stay > VEC_ALL(0.5f));

        ((vecf *)k->raised)[j] = level + VEC_PICK(more, freed / (stay * VEC_ALL(busy_ns)), none);
    }
}

static void pairs_raise(struct plane *p, float busy_ns)
{
    links_raise(&p->in, p->cols, busy_ns);
    links_raise(&p->out, p->rows, busy_ns);
    links_raise(&p->own, p->rows, busy_ns);
}

/* As long as there are flows to settle an account with. */
static inline void credit_next(vecf *credit, const vecf *level, const vecf *flows, const vecf *cap,
                               float ns, const vecf *served)
{
    veci full = (*level < VEC_ALL(PAIRS_FREE)) & (*flows > VEC_ALL(0.0f));

    *credit = VEC_PICK(full, *credit + *cap * VEC_ALL(ns) - *served, VEC_ALL(0.0f));
}

static void pairs_credits(struct plane *p, float ns)
{
    vecf none = VEC_ALL(0.0f), rate = VEC_ALL(1 / ns);

    for (uint32_t j = 0; j < p->rows / PAIRS_LANES; j++) {
        vecf flows = ((const vecf *)p->count)[j] + ((const vecf *)p->solo)[j];
        vecf served = ((const vecf *)p->served)[j] + ((const vecf *)p->solo_served)[j];

        flows = flows * ((const vecf *)p->limited)[j];
        credit_next((vecf *)p->own_credit + j, (const vecf *)p->own.level + j, &flows,
                    (const vecf *)p->own_cap + j, ns, &served);
        ((vecf *)p->solo_served)[j] = none;
    }
    for (uint32_t j = 0; j < p->cols / PAIRS_LANES; j++) {
        vecf sent = ((const vecf *)p->out_sent)[j], got = ((const vecf *)p->in_served)[j];

        credit_next((vecf *)p->out_credit + j, (const vecf *)p->out_level + j,
                    (const vecf *)p->out_count + j, (const vecf *)p->out_cap + j, ns, &sent);
        credit_next((vecf *)p->in_credit + j, (const vecf *)p->in.level + j,
                    (const vecf *)p->in_count + j, (const vecf *)p->in_cap + j, ns, &got);
        ((vecf *)p->out_left)[j] = VEC_MAX(((const vecf *)p->out_left)[j] - sent, none);
        ((vecf *)p->in_left)[j] = VEC_MAX(((const vecf *)p->in_left)[j] - got, none);
        ((vecf *)p->out_load)[j] = sent * rate;
        ((vecf *)p->in_load)[j] = got * rate;
    }
}

/* One link loses flows that run at level. */
static inline void link_take(struct pair_links *k, uint32_t l, float level, float flows)
{
    k->cap[l] -= level * flows;
    k->n[l] -= flows;
}

/* The link holds back the flows that are open on it. */
static inline void link_settle(struct pair_links *k, uint32_t l)
{
    k->level[l] = k->share[l];
    k->bound[l] = k->n[l];
    k->n[l] = 0;
}

/* Puts the links whose share is at most `most` on the list. */
static inline uint32_t links_list(const struct pair_links *k, uint32_t count, float most,
                                  uint32_t *list)
{
    uint32_t listed = 0;

    for (uint32_t j = 0; j < count / PAIRS_LANES; j++) {
        veci low = ((const vecf *)k->share)[j] <= VEC_ALL(most);
        unsigned bits = VEC_BITS(low);

        for (; bits; bits &= bits - 1)
            list[listed++] = j * PAIRS_LANES + (uint32_t)__builtin_ctz(bits);
    }
    return listed;
}

/* The open cells of so many rows run at the rows' levels: takes them from the columns' links. */
static inline void rows_take(struct plane *p, const uint32_t *rows, uint32_t count,
                             const float *level)
{
    for (uint32_t j = 0; j < p->cols / PAIRS_LANES; j++) {
        vecf open = ((const vecf *)p->in_open)[j];
        vecf cap = ((const vecf *)p->in.cap)[j], n = ((const vecf *)p->in.n)[j];

        for (uint32_t i = 0; i < count; i++) {
            vecf flows = ((const vecf *)(p->weight + (size_t)rows[i] * p->cols))[j] * open;

            n -= flows;
            cap -= VEC_ALL(level[i]) * flows;
        }
        ((vecf *)p->in.cap)[j] = cap;
        ((vecf *)p->in.n)[j] = n;
    }
    for (uint32_t i = 0; i < count; i++)
        p->open[rows[i]] = 0;
}

/* Likewise for columns, from the rows' links. */
static inline void cols_take(struct plane *p, const uint32_t *cols, uint32_t count,
                             const float *level)
{
    for (uint32_t j = 0; j < p->rows / PAIRS_LANES; j++) {
        vecf open = ((const vecf *)p->open)[j], all = VEC_ALL(0.0f), bytes = VEC_ALL(0.0f);

        for (uint32_t i = 0; i < count; i++) {
            const float *weight = p->weight_in + (size_t)cols[i] * p->row_room;
            vecf flows = ((const vecf *)weight)[j] * open;

            all += flows;
            bytes += VEC_ALL(level[i]) * flows;
        }
        ((vecf *)p->cells)[j] -= all;
        ((vecf *)p->out.n)[j] -= all;
        ((vecf *)p->out.cap)[j] -= bytes;
        if (p->limits) {
            ((vecf *)p->own.n)[j] -= all;
            ((vecf *)p->own.cap)[j] -= bytes;
        }
    }
}

/* What rows that stand behind another row of their port have lost is their port's loss. */
static inline void followers_take(struct plane *p, uint32_t col, float level)
{
    const float *weight = p->weight_in + (size_t)col * p->row_room;

    for (uint32_t row = 0; row < p->rows; row++) {
        float flows = weight[row] * p->open[row];

        if (flows > 0 && p->leader[row] != row)
            link_take(&p->out, p->leader[row], level, flows);
    }
}

static void cols_settle(struct plane *p, float most)
{
    uint32_t count = links_list(&p->in, p->cols, most, p->settled);

    for (uint32_t i = 0; i < count; i++) {
        p->settled_level[i] = p->in.share[p->settled[i]];
        link_settle(&p->in, p->settled[i]);
        p->in_open[p->settled[i]] = 0;
    }
    cols_take(p, p->settled, count, p->settled_level);
    for (uint32_t i = 0; i < count && p->shared; i++)
        followers_take(p, p->settled[i], p->settled_level[i]);
}

/* Of the rows on the list those with open cells stay. */
static void limits_settle(struct plane *p, float most)
{
    uint32_t count = links_list(&p->own, p->rows, most, p->settled), open = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = p->settled[i];

        p->settled_level[open] = p->own.share[row];
        link_settle(&p->own, row);
        if (p->open[row] == 0)
            continue;
        link_take(&p->out, p->leader[row], p->settled_level[open], p->cells[row]);
        p->settled[open++] = row;
    }
    rows_take(p, p->settled, open, p->settled_level);
}

/* The row's cells are held back by its port: its limit has so much less to share. */
static inline uint32_t port_row_settle(struct plane *p, uint32_t row, float level, uint32_t count)
{
    if (p->limits && p->own.n[row] > 0.5f)
        link_take(&p->own, row, level, p->cells[row]);
    p->settled[count] = row;
    p->settled_level[count] = level;
    return count + 1;
}

static void ports_settle(struct plane *p, float most)
{
    uint32_t count = 0;

    if (!p->shared) {
        count = links_list(&p->out, p->rows, most, p->settled);
        for (uint32_t i = 0; i < count; i++) {
            port_row_settle(p, p->settled[i], p->out.share[p->settled[i]], i);
            link_settle(&p->out, p->settled[i]);
        }
        rows_take(p, p->settled, count, p->settled_level);
        return;
    }
    for (uint32_t row = 0; row < p->rows; row++) {
        uint32_t leader = p->leader[row];

        if (p->open[row] != 0 && p->out.share[leader] <= most)
            count = port_row_settle(p, row, p->out.share[leader], count);
    }
    for (uint32_t row = 0; row < p->rows; row++)
        if (p->out.share[row] <= most)
            link_settle(&p->out, row);
    rows_take(p, p->settled, count, p->settled_level);
}

/* Sets the links' shares and returns the least. */
static float shares_set(struct pair_links *k, uint32_t count)
{
    vecf low = VEC_ALL(PAIRS_FREE);

    for (uint32_t j = 0; j < count / PAIRS_LANES; j++) {
        vecf n = ((const vecf *)k->n)[j],
             cap = VEC_MAX(((const vecf *)k->cap)[j], VEC_ALL(CAP_LEAST));
        veci some = n > VEC_ALL(0.5f);
        vecf share = VEC_PICK(some, cap / n, VEC_ALL(PAIRS_FREE));

        ((vecf *)k->share)[j] = share;
        low = VEC_MIN(share, low);
    }
    return VEC_LEAST(low);
}

/* The highest share that is settled while the least of the other sides is `others`. */
static inline float settle_below(float others)
{
    return lesser(others * (1 + SETTLE_TOGETHER), PAIRS_FREE / 2);
}

/* Progressive filling: all rates rise together until links are full; their flows are settled.
 * Links of one side have no flow in common, so all of them below the least share of the other
 * sides are next to be full, whatever their order. */
static void pairs_fill(struct plane *p)
{
    float in = shares_set(&p->in, p->cols), out = shares_set(&p->out, p->rows);
    float own = p->limits ? shares_set(&p->own, p->rows) : PAIRS_FREE;

    while (in < PAIRS_FREE / 2 || out < PAIRS_FREE / 2 || own < PAIRS_FREE / 2) {
        if (in <= out && in <= own)
            cols_settle(p, settle_below(lesser(out, own)));
        else if (out <= own)
            ports_settle(p, settle_below(lesser(in, own)));
        else
            limits_settle(p, settle_below(lesser(in, out)));
        in = shares_set(&p->in, p->cols);
        out = shares_set(&p->out, p->rows);
        own = p->limits ? shares_set(&p->own, p->rows) : PAIRS_FREE;
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
        p->need_ns[row] = VEC_LEAST(low);
        if (p->solo[row] > 0 && p->solo_left[row] / p->own.level[row] < p->need_ns[row])
            p->need_ns[row] = p->solo_left[row] / p->own.level[row];
        if (p->need_ns[row] < least) {
            least = p->need_ns[row];
            p->first_row = row;
        }
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
            p->served[row] += ((const float *)&sum)[i];
    }
}

#endif
