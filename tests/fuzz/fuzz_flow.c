/* Drives a flow net with whatever operations the input spells, and checks what must always hold:
 * time does not go back, nothing is NaN, no link carries more than it can, every event comes once,
 * and everything ends. Build with -fsanitize=fuzzer, or see tests/sim/test_fuzz_flow.c. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/flow/flow.h"

enum { LINKS_MOST = 24, FLOWS_MOST = 300 };

struct fuzz {
    const uint8_t *data;
    size_t left;
    struct sim_flow_net *net;
    uint32_t links[LINKS_MOST], link_count;
    double capacity[LINKS_MOST], over; /* the load allowed, relative to capacity */
    uint32_t flows;
    uint8_t events_due[FLOWS_MOST];
    double last_ns;
    int depth;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz_flow: %s\n", what);
    abort();
}

static uint8_t byte_take(struct fuzz *f)
{
    if (!f->left)
        return 0;
    f->left--;
    return *f->data++;
}

/* Values worth trying: zero, tiny, huge, equal, and anything between. */
static double value_take(struct fuzz *f)
{
    uint8_t kind = byte_take(f), x = byte_take(f);

    switch (kind % 6) {
    case 0:
        return 0;
    case 1:
        return 50;
    case 2:
        return 1e-6 * (x + 1);
    case 3:
        return 1e9 * (x + 1);
    case 4:
        return ldexp(1 + x / 256.0, (int)(kind / 6) - 20);
    default:
        return x;
    }
}

static void link_add(struct fuzz *f)
{
    double capacity = value_take(f), latency = byte_take(f) & 1 ? value_take(f) : 0;
    int link;

    if (f->link_count == LINKS_MOST)
        return;
    link = sim_link_add(f->net, capacity, latency);
    insist(link > 0, "a link was refused");
    f->capacity[f->link_count] = capacity;
    f->links[f->link_count++] = (uint32_t)link;
}

static void link_remove(struct fuzz *f)
{
    uint32_t at = f->link_count ? byte_take(f) % f->link_count : 0;

    if (!f->link_count || sim_link_remove(f->net, f->links[at]))
        return;
    f->links[at] = f->links[--f->link_count];
    f->capacity[at] = f->capacity[f->link_count];
}

static void capacity_set(struct fuzz *f)
{
    uint32_t at = f->link_count ? byte_take(f) % f->link_count : 0;
    double capacity = value_take(f);

    if (!f->link_count)
        return;
    insist(sim_link_capacity_set(f->net, f->links[at], capacity) == 0, "a capacity was refused");
    f->capacity[at] = capacity;
}

static void flow_start(struct fuzz *f)
{
    uint32_t path[SIM_FLOW_PATH_MAX], count = 0, want = 1 + byte_take(f) % SIM_FLOW_PATH_MAX;
    struct sim_flow_spec spec = {path, 0, byte_take(f) & 3, value_take(f), 0, 0, f->flows};

    spec.cap_GBps = byte_take(f) & 1 ? value_take(f) : INFINITY;
    if (spec.cap_GBps <= 0)
        spec.cap_GBps = INFINITY;
    spec.latency_ns = byte_take(f) & 1 ? value_take(f) : 0;
    for (uint32_t i = 0; i < want && f->link_count; i++) {
        uint32_t link = f->links[byte_take(f) % f->link_count];
        int had = 0;

        for (uint32_t j = 0; j < count; j++)
            had |= path[j] == link;
        if (!had)
            path[count++] = link;
    }
    spec.link_count = count;
    if (!count || f->flows == FLOWS_MOST)
        return;
    insist(sim_flow_start(f->net, &spec) == 0, "a flow was refused");
    f->events_due[f->flows++] = (uint8_t)spec.events;
}

static void loads_check(struct fuzz *f)
{
    for (uint32_t i = 0; i < f->link_count; i++) {
        double rate = sim_link_rate_GBps(f->net, f->links[i]);

        insist(rate >= -1e-9 * f->capacity[i] - 1e-12 && rate <= f->capacity[i] * f->over + 1e-12,
               "a link carries more than it can");
    }
}

static int note_event(void *user, const struct sim_flow_event *event)
{
    struct fuzz *f = user;

    insist(event->t_ns >= f->last_ns, "time went back");
    f->last_ns = event->t_ns;
    insist(event->tag < f->flows && (f->events_due[event->tag] & event->kind),
           "an event that nobody asked for, or twice");
    f->events_due[event->tag] &= (uint8_t)~event->kind;
    if (f->depth < 3 && (byte_take(f) & 3) == 1) {
        f->depth++;
        flow_start(f);
        f->depth--;
    }
    return 0;
}

static void advance(struct fuzz *f)
{
    double now_ns = sim_flow_now_ns(f->net), next_ns = sim_flow_next_ns(f->net);
    double until_ns = byte_take(f) & 1 ? now_ns + value_take(f) : next_ns;

    insist(next_ns >= now_ns, "the next event is past");
    if (until_ns == INFINITY || until_ns > 1e15)
        until_ns = now_ns;
    insist(sim_flow_advance(f->net, until_ns, note_event, f) == 0, "an advance failed");
    insist(sim_flow_now_ns(f->net) == until_ns, "an advance did not arrive");
}

/* With capacities back, everything that was started must end. */
static void finish(struct fuzz *f)
{
    struct sim_flow_stats stats;

    for (uint32_t i = 0; i < f->link_count; i++) {
        f->capacity[i] = f->capacity[i] > 1 ? f->capacity[i] : 1;
        sim_link_capacity_set(f->net, f->links[i], f->capacity[i]);
    }
    loads_check(f);
    f->depth = 3;
    insist(sim_flow_advance(f->net, INFINITY, note_event, f) == 0, "the last advance failed");
    sim_flow_stats_get(f->net, &stats);
    insist(stats.flows_drained == f->flows, "a flow did not end");
    insist(fabs(stats.bytes_drained - stats.bytes_started) <= 1e-9 * stats.bytes_started,
           "bytes were lost");
    for (uint32_t i = 0; i < f->flows; i++)
        insist(!f->events_due[i], "an event did not come");
    while (f->link_count)
        insist(sim_link_remove(f->net, f->links[--f->link_count]) == 0, "a link stayed busy");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz f = {.data = data, .left = size};
    struct sim_flow_cfg cfg = {0};

    if (byte_take(&f) & 1)
        cfg.fidelity = SIM_FLOW_COALESCED;
    f.over = cfg.fidelity == SIM_FLOW_EXACT ? 1 + 1e-9 : 1 + 3.1 * SIM_FLOW_TOLERANCE;
    insist(sim_flow_net_open(&cfg, &f.net) == 0, "the net did not open");
    for (int i = 0; i < 4; i++)
        link_add(&f);
    while (f.left) {
        uint8_t what = byte_take(&f) % 16;

        if (what == 0)
            link_add(&f);
        else if (what == 1)
            link_remove(&f);
        else if (what == 2)
            capacity_set(&f);
        else if (what == 3)
            loads_check(&f);
        else if (what < 7)
            advance(&f);
        else
            flow_start(&f);
    }
    finish(&f);
    sim_flow_net_close(f.net);
    return 0;
}
