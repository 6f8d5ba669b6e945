/* The members of a link: who they are, and which one finishes first. */
#include "sim/flow/net.h"

#include <assert.h>
#include <math.h>

/* LINK_CAP has no use for the others. */
static void others_set(struct link *k, uint32_t i, uint32_t l, const struct flow *f)
{
    uint32_t other[2] = {LINK_NONE, LINK_NONE};

    if (f->links > 3) {
        other[0] = OTHER_LONG;
        k->long_members++;
    } else if (l != LINK_CAP) {
        for (uint32_t j = 0, n = 0; j < f->links; j++)
            if (f->path[j].link != l)
                other[n++] = f->path[j].link;
    }
    if (i % GROUP == 0) {
        for (uint32_t j = 1; j < GROUP; j++)
            k->other[i + j] = k->third[i + j] = LINK_NONE;
    }
    k->other[i] = other[0];
    k->third[i] = other[1];
    k->third_members += other[1] != LINK_NONE;
}

void member_add(struct sim_flow_net *net, uint32_t l, uint32_t id)
{
    struct link *k = &net->links[l];
    struct flow *f = flow_at(net, id);
    uint32_t i;

    link_sync(net, l);
    i = net->hot[l].members++;
    assert(f->bottleneck == NONE && i < k->room);
    if (i == 0 && l != LINK_CAP)
        k->service = 0; /* keeps it small, and so finish times sharp */
    k->finish[i] = k->service + (l == LINK_CAP ? f->left / f->cap : f->left);
    others_set(k, i, l, f);
    k->flow[i] = id;
    f->bottleneck = l;
    f->member = i;
    if (i == 0) {
        k->cap_least = INFINITY;
        k->start_last_ns = f->start_ns;
        k->finish_last = k->finish_mean = k->finish[i];
    } else {
        k->start_last_ns = fmax(k->start_last_ns, f->start_ns);
        k->finish_last = fmax(k->finish_last, k->finish[i]);
        k->finish_mean += (k->finish[i] - k->finish_mean) / net->hot[l].members;
    }
    if (f->cap < k->cap_least)
        k->cap_least = f->cap;
    if (i == 0 || (k->first != NONE && k->finish[i] < k->finish_first)) {
        k->first = i;
        k->finish_first = k->finish[i];
    }
    link_touch(net, l);
}

static double bytes_left(const struct sim_flow_net *net, uint32_t l, const struct flow *f)
{
    const struct link *k = &net->links[l];
    double left = k->finish[f->member] - k->service;

    if (l == LINK_CAP)
        left *= f->cap;
    return left > 0 ? left : 0;
}

void member_remove(struct sim_flow_net *net, uint32_t id)
{
    struct flow *f = flow_at(net, id);
    uint32_t l = f->bottleneck, i = f->member, last;
    struct link *k = &net->links[l];

    link_sync(net, l);
    last = --net->hot[l].members;
    f->left = bytes_left(net, l, f);
    k->long_members -= k->other[i] == OTHER_LONG;
    k->third_members -= k->third[i] != LINK_NONE;
    if (k->first == i) {
        k->first = NONE;
        link_touch(net, l);
    } else if (k->first == last) {
        k->first = i;
    }
    if (i != last) {
        k->finish[i] = k->finish[last];
        k->other[i] = k->other[last];
        k->third[i] = k->third[last];
        k->flow[i] = k->flow[last];
        flow_at(net, k->flow[i])->member = i;
    }
    k->other[last] = k->third[last] = LINK_NONE;
    f->bottleneck = NONE;
}

void members_release(struct sim_flow_net *net, uint32_t l)
{
    struct link *k = &net->links[l];
    uint32_t members = net->hot[l].members;

    if (!members)
        return;
    link_sync(net, l);
    for (uint32_t i = 0; i < members; i++) {
        struct flow *f = flow_at(net, k->flow[i]);

        f->left = bytes_left(net, l, f);
        f->bottleneck = NONE;
    }
    net->hot[l].members = 0;
    k->long_members = k->third_members = 0;
    k->first = NONE;
    link_touch(net, l);
}

/* Four chains, since a comparison waits for the one before it in its chain. */
static double least_find(const double *finish, uint32_t count)
{
    double a = INFINITY, b = INFINITY, c = INFINITY, d = INFINITY;
    uint32_t i = 0;

    for (; i + 4 <= count; i += 4) {
        a = finish[i] < a ? finish[i] : a;
        b = finish[i + 1] < b ? finish[i + 1] : b;
        c = finish[i + 2] < c ? finish[i + 2] : c;
        d = finish[i + 3] < d ? finish[i + 3] : d;
    }
    for (; i < count; i++)
        a = finish[i] < a ? finish[i] : a;
    a = b < a ? b : a;
    c = d < c ? d : c;
    return c < a ? c : a;
}

/* The same, and the last and the mean. */
static double spread_find(struct link *k, uint32_t count)
{
    const double *finish = k->finish;
    double least[2] = {INFINITY, INFINITY}, last[2] = {0}, sum[2] = {0};
    uint32_t i = 0;

    for (; i + 2 <= count; i += 2) {
        for (uint32_t j = 0; j < 2; j++) {
            double x = finish[i + j];

            least[j] = x < least[j] ? x : least[j];
            last[j] = x > last[j] ? x : last[j];
            sum[j] += x;
        }
    }
    if (i < count) {
        least[0] = fmin(least[0], finish[i]);
        last[0] = fmax(last[0], finish[i]);
        sum[0] += finish[i];
    }
    k->finish_last = last[0] > last[1] ? last[0] : last[1];
    k->finish_mean = (sum[0] + sum[1]) / count;
    return least[0] < least[1] ? least[0] : least[1];
}

static void first_find(const struct sim_flow_net *net, uint32_t l)
{
    struct link *k = &net->links[l];
    uint32_t i = 0, count = net->hot[l].members;

    k->finish_first = net->patience > 0 ? spread_find(k, count) : least_find(k->finish, count);
    while (k->finish[i] != k->finish_first)
        i++;
    k->first = i;
}

static void link_settle(struct sim_flow_net *net, uint32_t l)
{
    struct link *k = &net->links[l];

    k->touched = false;
    if (net->hot[l].members) {
        if (k->first == NONE)
            first_find(net, l);
        link_sync(net, l);
        if (l != LINK_CAP) {
            link_next_set(net, l);
            return;
        }
    }
    net->next_ns[l] = net->hot[l].members ? fmax(k->finish_first, net->now_ns) : INFINITY;
    net->block_stale[l >> BLOCK_BITS] = 1;
}

static double block_least(const struct sim_flow_net *net, uint32_t block)
{
    uint32_t from = block * BLOCK, left = net->link_count - from;

    return least_find(net->next_ns + from, left < BLOCK ? left : BLOCK);
}

/* About half of all links change at an event, and a scan of blocks costs less than that many moves
 * in a heap of links. */
static double drain_next_ns(struct sim_flow_net *net)
{
    double least = INFINITY;

    for (uint32_t b = 0; b * BLOCK < net->link_count; b++) {
        if (net->block_stale[b]) {
            net->block_ns[b] = block_least(net, b);
            net->block_stale[b] = 0;
        }
        least = net->block_ns[b] < least ? net->block_ns[b] : least;
    }
    return least;
}

/* Computes the next finish of every link that something happened to. */
void touched_settle(struct sim_flow_net *net)
{
    for (uint32_t i = 0; i < net->touched_count; i++)
        link_settle(net, net->touched[i]);
    net->touched_count = 0;
    net->drain_ns = drain_next_ns(net);
}
