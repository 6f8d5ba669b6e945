/* Progressive filling from scratch: for many flows that start at once, where telling one link after
 * another would take longer, and as the way out should incremental solving ever not settle.
 *
 * All rates rise together until a link is full or a flow meets its cap; these flows are done and
 * the rest go on. Links wait in a heap by the rate at which they would be full; that only rises
 * when flows elsewhere are done, so a stale key is found out when it comes to the top. */
#include "sim/flow/net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool ranked_before(const struct ranked *a, const struct ranked *b)
{
    return a->key < b->key || (a->key == b->key && a->id < b->id);
}

static void queue_down(struct ranked *queue, uint32_t count, uint32_t at)
{
    struct ranked moved = queue[at];
    uint32_t child;

    while ((child = 2 * at + 1) < count) {
        if (child + 1 < count && ranked_before(&queue[child + 1], &queue[child]))
            child++;
        if (!ranked_before(&queue[child], &moved))
            break;
        queue[at] = queue[child];
        at = child;
    }
    queue[at] = moved;
}

static uint32_t queue_fill(struct sim_flow_net *net)
{
    uint32_t count = 0;

    for (uint32_t l = LINK_FIRST; l < net->link_count; l++) {
        struct link *k = &net->links[l];

        if (!k->live || !k->all_count)
            continue;
        net->spare[l] = net->hot[l].capacity;
        net->unfilled[l] = k->all_count;
        net->queue[count++] = (struct ranked){net->spare[l] / k->all_count, l};
    }
    for (uint32_t i = count / 2; i-- > 0;)
        queue_down(net->queue, count, i);
    return count;
}

static int ranked_rise(const void *a, const void *b)
{
    if (ranked_before(a, b))
        return -1;
    return ranked_before(b, a);
}

/* The flows that have a cap, least cap first. Each is found on the first link of its path. */
static uint32_t caps_rank(struct sim_flow_net *net)
{
    uint32_t count = 0;

    for (uint32_t l = LINK_FIRST; l < net->link_count && net->links[LINK_CAP].all_count; l++) {
        const struct link *k = &net->links[l];

        for (uint32_t i = 0; i < k->all_count; i++) {
            const struct flow *f = flow_at(net, k->all[i]);

            if (f->path[0].link == l && f->cap < INFINITY)
                net->ranked[count++] = (struct ranked){f->cap, k->all[i]};
        }
    }
    if (count > 1)
        qsort(net->ranked, count, sizeof *net->ranked, ranked_rise);
    return count;
}

static void flow_fill(struct sim_flow_net *net, uint32_t id, uint32_t bottleneck, double rate)
{
    struct flow *f = flow_at(net, id);

    for (uint32_t i = 0; i < f->links; i++) {
        uint32_t l = f->path[i].link;

        net->unfilled[l]--;
        net->spare[l] -= rate;
        if (l != bottleneck)
            net->others[l] += rate;
        if (bottleneck == LINK_CAP && net->links[l].capped_most < f->cap)
            net->links[l].capped_most = f->cap;
    }
    member_add(net, bottleneck, id);
}

static void link_fill(struct sim_flow_net *net, uint32_t l, double level)
{
    struct link *k = &net->links[l];

    net->hot[l].level = level;
    for (uint32_t i = 0; i < k->all_count; i++)
        if (flow_at(net, k->all[i])->bottleneck == NONE)
            flow_fill(net, k->all[i], l, level);
}

static void all_release(struct sim_flow_net *net)
{
    for (uint32_t l = LINK_CAP; l < net->link_count; l++) {
        members_release(net, l);
        if (l == LINK_CAP)
            continue;
        net->others[l] = 0;
        net->hot[l].level = INFINITY;
        net->links[l].capped_most = 0;
    }
}

/* All live links stand in the order already; only their levels are new. */
static void order_sort(struct sim_flow_net *net)
{
    uint32_t count = net->order_end - ORDER_FIRST;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t l = net->order[ORDER_FIRST + i];

        net->queue[i] = (struct ranked){net->hot[l].level, l};
    }
    qsort(net->queue, count, sizeof *net->queue, ranked_rise);
    for (uint32_t i = 0; i < count; i++) {
        net->order[ORDER_FIRST + i] = net->queue[i].id;
        net->rank[ORDER_FIRST + i] = net->queue[i].key;
        net->hot[net->queue[i].id].place = ORDER_FIRST + i;
    }
    memset(net->dirty, 0, net->order_end);
    net->cursor = net->order_end;
    net->sweep = false;
    while (net->rounded_count)
        net->links[net->rounded[--net->rounded_count]].rounded = false;
}

void rates_fill(struct sim_flow_net *net)
{
    uint32_t caps, cap = 0, count;

    all_release(net);
    net->fresh_count = 0;
    caps = caps_rank(net);
    count = queue_fill(net);
    while (count) {
        uint32_t l = net->queue[0].id;
        double level = fmax(net->spare[l], 0) / net->unfilled[l];

        while (cap < caps && flow_at(net, net->ranked[cap].id)->bottleneck != NONE)
            cap++;
        if (!net->unfilled[l]) {
            net->queue[0] = net->queue[--count];
        } else if (level > net->queue[0].key) {
            net->queue[0].key = level;
        } else if (cap < caps && net->ranked[cap].key <= level) {
            flow_fill(net, net->ranked[cap].id, LINK_CAP, net->ranked[cap].key);
            continue;
        } else {
            link_fill(net, l, level);
            net->stats.levels_solved++;
            net->queue[0] = net->queue[--count];
        }
        if (count)
            queue_down(net->queue, count, 0);
    }
    order_sort(net);
    net->stats.refills++;
}
