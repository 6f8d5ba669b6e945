/* build/bench_heap: the hold operation (take the first event, put it back at a later time) with 1e3
 * to 1e6 events pending: the heap of base/heap.h, plain binary and 8-ary heaps of the same slots,
 * and a ladder queue. Exponential increments. Medians of n runs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/heap.h"
#include "tests/flow_reference.h"

static double cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct item {
    double t;
    uint64_t seq;
};

static int before(struct item a, struct item b)
{
    return a.t < b.t || (a.t == b.t && a.seq < b.seq);
}

/* A d-ary heap that knows no places: push and pop only, so a lower bound for an intrusive one. */
struct plain {
    struct item *items;
    uint32_t count, arity;
};

static void plain_push(struct plain *h, struct item item)
{
    uint32_t at = h->count++;

    while (at && before(item, h->items[(at - 1) / h->arity])) {
        h->items[at] = h->items[(at - 1) / h->arity];
        at = (at - 1) / h->arity;
    }
    h->items[at] = item;
}

static struct item plain_pop(struct plain *h)
{
    struct item first = h->items[0], moved = h->items[--h->count];
    uint32_t at = 0, child;

    while ((child = at * h->arity + 1) < h->count) {
        uint32_t end = child + h->arity < h->count ? child + h->arity : h->count, best = child;

        for (uint32_t i = child + 1; i < end; i++)
            if (before(h->items[i], h->items[best]))
                best = i;
        if (!before(h->items[best], moved))
            break;
        h->items[at] = h->items[best];
        at = best;
    }
    h->items[at] = moved;
    return first;
}

/* A ladder queue of two rungs: far events unsorted, the rung in use cut into buckets, and the
 * bucket in use sorted (Tang, Goh and Thng, 2005, in short). */
enum { BUCKETS = 4096 };

struct bag {
    struct item *items;
    uint32_t count, room;
};

struct ladder {
    struct bag top, bottom, buckets[BUCKETS];
    uint32_t at, bottom_at;
    double from, width, top_from;
};

static void bag_add(struct bag *b, struct item item)
{
    if (b->count == b->room) {
        b->room = b->room ? 2 * b->room : 16;
        b->items = realloc(b->items, b->room * sizeof *b->items);
        if (!b->items)
            abort();
    }
    b->items[b->count++] = item;
}

static int item_rise(const void *a, const void *b)
{
    return before(*(const struct item *)b, *(const struct item *)a) ? 1 : -1;
}

static void bottom_insert(struct ladder *q, struct item item)
{
    uint32_t i;

    bag_add(&q->bottom, item);
    for (i = q->bottom.count - 1; i > q->bottom_at && before(item, q->bottom.items[i - 1]); i--)
        q->bottom.items[i] = q->bottom.items[i - 1];
    q->bottom.items[i] = item;
}

static void ladder_push(struct ladder *q, struct item item)
{
    double bucket;

    if (item.t >= q->top_from) {
        bag_add(&q->top, item);
        return;
    }
    bucket = (item.t - q->from) / q->width;
    if (bucket < q->at)
        bottom_insert(q, item);
    else
        bag_add(&q->buckets[bucket < BUCKETS ? (uint32_t)bucket : BUCKETS - 1], item);
}

static void rung_build(struct ladder *q)
{
    double low = INFINITY, high = -INFINITY;
    struct bag old = q->top;

    for (uint32_t i = 0; i < old.count; i++) {
        low = fmin(low, old.items[i].t);
        high = fmax(high, old.items[i].t);
    }
    memset(&q->top, 0, sizeof q->top);
    q->from = low;
    q->width = fmax((high - low) / BUCKETS, 1e-9);
    q->top_from = q->from + q->width * BUCKETS;
    q->at = 0;
    for (uint32_t i = 0; i < old.count; i++)
        ladder_push(q, old.items[i]);
    free(old.items);
}

static struct item ladder_pop(struct ladder *q)
{
    while (q->bottom_at == q->bottom.count) {
        struct bag empty = q->bottom;

        while (q->at < BUCKETS && !q->buckets[q->at].count)
            q->at++;
        if (q->at == BUCKETS) {
            rung_build(q);
            continue;
        }
        empty.count = 0;
        q->bottom = q->buckets[q->at];
        q->buckets[q->at++] = empty;
        q->bottom_at = 0;
        qsort(q->bottom.items, q->bottom.count, sizeof *q->bottom.items, item_rise);
    }
    return q->bottom.items[q->bottom_at++];
}

static void ladder_free(struct ladder *q)
{
    for (uint32_t i = 0; i < BUCKETS; i++)
        free(q->buckets[i].items);
    free(q->top.items);
    free(q->bottom.items);
    free(q);
}

static double *steps_make(uint32_t count)
{
    double *steps = calloc(count, sizeof *steps);
    uint64_t state = 3;

    for (uint32_t i = 0; steps && i < count; i++)
        steps[i] = -log(1 - ref_uniform(&state)) * 1000;
    return steps;
}

enum { HOLDS = 400000, STEPS = 1 << 16 };

static double intrusive_ns(uint32_t pending, const double *steps)
{
    struct sim_heap_node *nodes = calloc(pending, sizeof *nodes);
    struct sim_heap heap;
    uint64_t seq = 0;
    double begin;

    if (!nodes)
        abort();
    sim_heap_open(&heap);
    for (uint32_t i = 0; i < pending; i++) {
        sim_heap_node_init(&nodes[i]);
        if (sim_heap_push(&heap, &nodes[i], steps[seq % STEPS], seq))
            abort();
        seq++;
    }
    begin = cpu_s();
    for (int i = 0; i < HOLDS; i++) {
        struct sim_heap_node *n = sim_heap_pop(&heap);

        if (sim_heap_push(&heap, n, n->t_ns + steps[seq % STEPS], seq))
            abort();
        seq++;
    }
    begin = cpu_s() - begin;
    sim_heap_close(&heap);
    free(nodes);
    return begin * 1e9 / HOLDS;
}

static double plain_ns(uint32_t pending, uint32_t arity, const double *steps)
{
    struct plain h = {calloc(pending + 1, sizeof *h.items), 0, arity};
    uint64_t seq = 0;
    double begin;

    if (!h.items)
        abort();
    for (; seq < pending; seq++)
        plain_push(&h, (struct item){steps[seq % STEPS], seq});
    begin = cpu_s();
    for (int i = 0; i < HOLDS; i++, seq++) {
        struct item item = plain_pop(&h);

        plain_push(&h, (struct item){item.t + steps[seq % STEPS], seq});
    }
    begin = cpu_s() - begin;
    free(h.items);
    return begin * 1e9 / HOLDS;
}

static double ladder_ns(uint32_t pending, const double *steps)
{
    struct ladder *q = calloc(1, sizeof *q);
    uint64_t seq = 0;
    double begin;

    if (!q)
        abort();
    q->at = BUCKETS;
    q->top_from = -INFINITY;
    for (; seq < pending; seq++)
        ladder_push(q, (struct item){steps[seq % STEPS], seq});
    begin = cpu_s();
    for (int i = 0; i < HOLDS; i++, seq++) {
        struct item item = ladder_pop(q);

        ladder_push(q, (struct item){item.t + steps[seq % STEPS], seq});
    }
    begin = cpu_s() - begin;
    ladder_free(q);
    return begin * 1e9 / HOLDS;
}

static int double_rise(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

enum { RUNS = 5, QUEUES = 4 };

static double once_ns(int queue, uint32_t pending, const double *steps)
{
    switch (queue) {
    case 0:
        return plain_ns(pending, 2, steps);
    case 1:
        return plain_ns(pending, 8, steps);
    case 2:
        return ladder_ns(pending, steps);
    default:
        return intrusive_ns(pending, steps);
    }
}

int main(void)
{
    double *steps = steps_make(STEPS);

    if (!steps)
        abort();
    printf("ns per hold operation, median of %d\n%9s %10s %10s %10s %18s\n", RUNS, "pending",
           "binary", "8-ary", "ladder", "4-ary, intrusive");
    for (uint32_t pending = 1000; pending <= 1000000; pending *= 10) {
        printf("%9u", pending);
        for (int queue = 0; queue < QUEUES; queue++) {
            double ns[RUNS];

            for (int i = 0; i < RUNS; i++)
                ns[i] = once_ns(queue, pending, steps);
            qsort(ns, RUNS, sizeof *ns, double_rise);
            printf(" %*.0f", queue == 3 ? 18 : 10, ns[RUNS / 2]);
        }
        puts("");
    }
    free(steps);
    return 0;
}
