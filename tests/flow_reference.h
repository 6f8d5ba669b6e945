/* tests/flow_reference.h: a slow and simple max-min simulation to hold the engine against, and the
 * random cases on which that is done. Shares nothing with sim/. */
#ifndef PEOSIM_TESTS_FLOW_REFERENCE_H
#define PEOSIM_TESTS_FLOW_REFERENCE_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

enum { REF_PATH_MAX = 8 };

struct ref_flow {
    uint32_t links[REF_PATH_MAX], link_count;
    double start_ns, bytes, cap;
    double drained_ns; /* result */
    double left, rate; /* scratch */
    bool set;
};

struct ref_case {
    double *capacity;
    uint32_t link_count;
    struct ref_flow *flows;
    uint32_t flow_count;
};

static inline uint64_t ref_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline double ref_uniform(uint64_t *state)
{
    return (double)(ref_random(state) >> 11) * 0x1p-53;
}

static inline uint32_t ref_below(uint64_t *state, uint32_t n)
{
    return (uint32_t)(ref_random(state) % n);
}

static inline double ref_gauss(uint64_t *state)
{
    double sum = -6;

    for (int i = 0; i < 12; i++)
        sum += ref_uniform(state);
    return sum;
}

static inline void ref_flow_set(struct ref_flow *f, double rate, double *left, uint32_t *unset)
{
    f->rate = rate;
    f->set = true;
    for (uint32_t i = 0; i < f->link_count; i++) {
        left[f->links[i]] -= rate;
        unset[f->links[i]]--;
    }
}

/* Textbook progressive filling: the tightest link or the least cap first, again and again. */
static inline void ref_rates(struct ref_case *c, double now_ns, double *left, uint32_t *unset)
{
    uint32_t to_set = 0;

    for (uint32_t l = 0; l < c->link_count; l++) {
        left[l] = c->capacity[l];
        unset[l] = 0;
    }
    for (uint32_t i = 0; i < c->flow_count; i++) {
        struct ref_flow *f = &c->flows[i];

        f->set = f->start_ns > now_ns || f->drained_ns < INFINITY;
        f->rate = 0;
        if (f->set)
            continue;
        to_set++;
        for (uint32_t j = 0; j < f->link_count; j++)
            unset[f->links[j]]++;
    }
    while (to_set) {
        uint32_t tight = UINT32_MAX;
        double level = INFINITY;
        struct ref_flow *capped = NULL;

        for (uint32_t l = 0; l < c->link_count; l++) {
            if (unset[l] && fmax(left[l], 0) / unset[l] < level) {
                level = fmax(left[l], 0) / unset[l];
                tight = l;
            }
        }
        for (uint32_t i = 0; i < c->flow_count; i++)
            if (!c->flows[i].set && c->flows[i].cap < (capped ? capped->cap : level))
                capped = &c->flows[i];
        if (capped) {
            ref_flow_set(capped, capped->cap, left, unset);
            to_set--;
            continue;
        }
        for (uint32_t i = 0; i < c->flow_count; i++) {
            struct ref_flow *f = &c->flows[i];
            bool on = false;

            for (uint32_t j = 0; j < f->link_count; j++)
                on |= f->links[j] == tight;
            if (f->set || !on)
                continue;
            ref_flow_set(f, level, left, unset);
            to_set--;
        }
    }
}

/* Fills in drained_ns of every flow; INFINITY where a flow stands still for ever. */
static inline void ref_run(struct ref_case *c)
{
    double *left = calloc(c->link_count, sizeof *left), now_ns = 0;
    uint32_t *unset = calloc(c->link_count, sizeof *unset);

    for (uint32_t i = 0; i < c->flow_count; i++) {
        c->flows[i].left = c->flows[i].bytes;
        c->flows[i].drained_ns = c->flows[i].bytes > 0 ? INFINITY : c->flows[i].start_ns;
    }
    for (;;) {
        double next_ns = INFINITY;

        ref_rates(c, now_ns, left, unset);
        for (uint32_t i = 0; i < c->flow_count; i++) {
            struct ref_flow *f = &c->flows[i];

            if (f->start_ns > now_ns)
                next_ns = fmin(next_ns, f->start_ns);
            else if (f->rate > 0)
                next_ns = fmin(next_ns, now_ns + f->left / f->rate);
        }
        if (next_ns == INFINITY)
            break;
        for (uint32_t i = 0; i < c->flow_count; i++) {
            struct ref_flow *f = &c->flows[i];

            if (f->rate <= 0)
                continue;
            f->left -= f->rate * (next_ns - now_ns);
            if (f->left <= 1e-13 * f->bytes || f->left / f->rate < 4 * DBL_EPSILON * next_ns)
                f->drained_ns = next_ns;
        }
        now_ns = next_ns;
    }
    free(left);
    free(unset);
}

enum ref_shape { REF_SWITCH, REF_UPLINKS, REF_ANY, REF_SHAPES };

static inline void ref_path_make(struct ref_flow *f, enum ref_shape shape, uint32_t hosts,
                                 uint32_t links, uint64_t *state)
{
    uint32_t src = ref_below(state, hosts), dst = ref_below(state, hosts - 1);

    dst += dst >= src;
    f->link_count = 0;
    if (shape == REF_ANY) {
        uint32_t want = 1 + ref_below(state, REF_PATH_MAX < links ? REF_PATH_MAX : links);

        while (f->link_count < want) {
            uint32_t l = ref_below(state, links);
            bool had = false;

            for (uint32_t i = 0; i < f->link_count; i++)
                had |= f->links[i] == l;
            if (!had)
                f->links[f->link_count++] = l;
        }
        return;
    }
    f->links[f->link_count++] = 2 * src;
    if (shape == REF_UPLINKS && src / 4 != dst / 4) {
        f->links[f->link_count++] = 2 * hosts + 2 * (src / 4);
        f->links[f->link_count++] = 2 * hosts + 2 * (dst / 4) + 1;
    }
    f->links[f->link_count++] = 2 * dst + 1;
}

static inline double ref_bytes_make(int sizes, uint64_t *state)
{
    switch (sizes) {
    case 0:
        return 1e6; /* equal */
    case 1:
        return 1e6 * exp(0.5 * ref_gauss(state));
    case 2:
        return exp(log(1e9) * ref_uniform(state)); /* 1 byte to 1 GB */
    default:
        return ref_below(state, 4) ? 1e5 * (1 + ref_below(state, 5)) : 0;
    }
}

/* A random case; the same seed always makes the same one. Shapes, kinds of sizes, of starts and of
 * caps all alternate with the seed. Free with ref_case_free. */
static inline struct ref_case ref_case_make(uint64_t seed, uint32_t flows_most)
{
    uint64_t state = seed * 7919 + 1;
    enum ref_shape shape = (enum ref_shape)(seed % REF_SHAPES);
    int sizes = (int)(seed / 3 % 4), starts = (int)(seed / 12 % 3), caps = (int)(seed / 36 % 3);
    uint32_t hosts = 2 + ref_below(&state, 11);
    struct ref_case c = {.link_count = 2 * hosts + 2 * ((hosts + 3) / 4),
                         .flow_count = 1 + ref_below(&state, flows_most)};

    c.capacity = calloc(c.link_count, sizeof *c.capacity);
    c.flows = calloc(c.flow_count, sizeof *c.flows);
    for (uint32_t l = 0; l < c.link_count; l++)
        c.capacity[l] = seed & 1 ? 50 : 10 + 90 * ref_uniform(&state);
    for (uint32_t i = 0; i < c.flow_count; i++) {
        struct ref_flow *f = &c.flows[i];

        ref_path_make(f, shape, hosts, c.link_count, &state);
        f->bytes = ref_bytes_make(sizes, &state);
        f->start_ns = starts == 0   ? 0
                      : starts == 1 ? 1e4 * ref_below(&state, 8)
                                    : 1e5 * ref_uniform(&state);
        f->cap = caps == 0 ? INFINITY : caps == 1 ? 5.0 * (1 + ref_below(&state, 4)) : INFINITY;
        if (caps == 2 && ref_below(&state, 2))
            f->cap = exp(log(100) * ref_uniform(&state));
    }
    return c;
}

static inline void ref_case_free(struct ref_case *c)
{
    free(c->capacity);
    free(c->flows);
}

#endif
