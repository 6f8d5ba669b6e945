#include "sim/flow/flow.h"
#include "sim/flow/net.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Levels are exact to EXACT_TOLERANCE, so flows that should finish together do so to a few times
 * that of their duration; they are then taken together, as equals. */
static const double EXACT_TOLERANCE = 1e-12;
static const double EXACT_SLACK = 4e-12;

/* Grows an array of `from` elements to `to`; what is new is zero. */
static int array_grow(struct sim_flow_net *net, void *array, size_t size, size_t from, size_t to)
{
    void *old, *grown;

    memcpy(&old, array, sizeof old);
    grown = realloc(old, to * size);
    if (!grown)
        return ERR_NOMEM;
    memset((char *)grown + from * size, 0, (to - from) * size);
    memcpy(array, &grown, sizeof grown);
    net->memory += (to - from) * size;
    return 0;
}

/* The same for what is laid out by cache lines. */
int net_lines_grow(struct sim_flow_net *net, void *array, size_t size, size_t from, size_t to)
{
    size_t bytes = (to * size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    void *old, *grown = aligned_alloc(CACHE_LINE, bytes);

    if (!grown)
        return ERR_NOMEM;
    memcpy(&old, array, sizeof old);
    if (from)
        memcpy(grown, old, from * size);
    memset((char *)grown + from * size, 0, (to - from) * size);
    free(old);
    memcpy(array, &grown, sizeof grown);
    net->memory += (to - from) * size;
    return 0;
}

#define GROW_LINES(net, array, from, to) net_lines_grow(net, &(array), sizeof *(array), from, to)
#define GROW(net, array, from, to)       array_grow(net, &(array), sizeof *(array), from, to)

/* Room for links. Arrays that grew stay grown when a later one fails: room is only ever too much.
 */
static int links_reserve(struct sim_flow_net *net, uint32_t room)
{
    uint32_t old = net->link_room;
    int rc;

    if (room <= old)
        return 0;
    if (room > UINT32_MAX / 4)
        return ERR_NOMEM;
    if ((rc = GROW(net, net->others, old, room)) || (rc = GROW_LINES(net, net->hot, old, room)) ||
        (rc = GROW_LINES(net, net->links, old, room)) ||
        (rc = GROW(net, net->next_ns, old, room)) || (rc = GROW(net, net->block_ns, old, room)) ||
        (rc = GROW(net, net->block_stale, old, room)) ||
        (rc = GROW(net, net->links_free, old, room)) || (rc = GROW(net, net->rounded, old, room)) ||
        (rc = GROW(net, net->touched, old, room)) || (rc = GROW(net, net->queue, old, room)) ||
        (rc = GROW(net, net->spare, old, room)) || (rc = GROW(net, net->unfilled, old, room)) ||
        (rc = GROW(net, net->order, old ? old + ORDER_FIRST : 0, room + ORDER_FIRST)) ||
        (rc = GROW(net, net->rank, old ? old + ORDER_FIRST : 0, room + ORDER_FIRST)) ||
        (rc = GROW(net, net->dirty, old ? old + 2 * ORDER_FIRST : 0, room + 2 * ORDER_FIRST)))
        return rc;
    net->link_room = room;
    return 0;
}

static int chunk_add(struct sim_flow_net *net)
{
    struct flow *chunk = NULL;
    uint32_t base = net->flow_room, room = base + FLOW_CHUNK;
    int rc;

    if (base > UINT32_MAX / 4)
        return ERR_NOMEM;
    if (net->chunk_count == net->chunk_room) {
        uint32_t chunk_room = net->chunk_room ? 2 * net->chunk_room : 8;
        uint32_t old = net->chunk_room * FLOW_CHUNK, new = chunk_room *FLOW_CHUNK;

        if ((rc = GROW(net, net->chunks, net->chunk_room, chunk_room)) ||
            (rc = GROW(net, net->fresh, old, new)) || (rc = GROW(net, net->done, old, new)) ||
            (rc = GROW(net, net->ranked, old, new)))
            return rc;
        net->chunk_room = chunk_room;
    }
    if ((rc = GROW_LINES(net, chunk, 0, FLOW_CHUNK)))
        return rc;
    net->chunks[net->chunk_count++] = chunk;
    net->flow_room = room;
    for (uint32_t i = FLOW_CHUNK; i-- > 0;) {
        chunk[i].id = base + i;
        chunk[i].next = net->flows_free;
        net->flows_free = base + i;
    }
    return 0;
}

static int flows_reserve(struct sim_flow_net *net, uint32_t room)
{
    while (net->flow_room < room) {
        int rc = chunk_add(net);

        if (rc)
            return rc;
    }
    return 0;
}

static void capacity_note(struct sim_flow_net *net, double capacity)
{
    if (capacity > 0 && capacity < net->capacity_least)
        net->capacity_least = capacity;
}

static void link_init(struct sim_flow_net *net, uint32_t l, double capacity, double latency_ns)
{
    struct link *k = &net->links[l];

    capacity_note(net, capacity);
    net->others[l] = 0;
    net->hot[l] = (struct link_hot){.level = INFINITY, .capacity = capacity};
    k->first = NONE;
    k->service = 0;
    k->service_ns = net->now_ns;
    k->latency_ns = latency_ns;
    k->drained_bytes = 0;
    k->slots = 0;
    k->capped_most = 0;
    k->ceiling = capacity;
    k->live = true;
    net->next_ns[l] = INFINITY;
    net->block_stale[l >> BLOCK_BITS] = 1;
}

static int net_init(struct sim_flow_net *net, const struct sim_flow_cfg *cfg)
{
    bool coalesced = cfg->fidelity == SIM_FLOW_COALESCED;
    double tolerance = cfg->tolerance == 0 ? SIM_FLOW_TOLERANCE : cfg->tolerance;
    uint32_t links = cfg->links_hint < 62 ? 64 : cfg->links_hint + LINK_FIRST;
    int rc;

    if (coalesced && !(tolerance > 0 && tolerance <= 0.1))
        return ERR_RANGE;
    net->fidelity = cfg->fidelity;
    net->tolerance = coalesced ? tolerance : EXACT_TOLERANCE;
    net->hysteresis = coalesced ? 2 * tolerance : EXACT_TOLERANCE;
    net->slack = coalesced ? tolerance : EXACT_SLACK;
    net->patience = coalesced ? 0.7 * tolerance : 0;
    net->memory = sizeof *net;
    net->flows_free = NONE;
    net->capacity_least = net->drain_ns = INFINITY;
    net->order_end = net->cursor = ORDER_FIRST;
    for (int i = 0; i < LANES; i++)
        net->lanes[i].head = NONE;
    sim_heap_open(&net->late);
    sim_heap_open(&net->gates_due);
    if ((rc = links_reserve(net, links)) || (rc = flows_reserve(net, cfg->flows_hint)))
        return rc;
    net->rank[ORDER_FIRST - 1] = -1; /* below any level */
    net->link_count = LINK_FIRST;
    link_init(net, LINK_NONE, 0, 0);
    link_init(net, LINK_CAP, 0, 0);
    return cfg->fidelity == SIM_FLOW_FAST ? pairs_open(net) : 0;
}

int sim_flow_net_open(const struct sim_flow_cfg *cfg, struct sim_flow_net **out)
{
    static const struct sim_flow_cfg plain = {.fidelity = SIM_FLOW_EXACT};
    struct sim_flow_net *net = calloc(1, sizeof *net);
    int rc;

    if (!net)
        return ERR_NOMEM;
    rc = net_init(net, cfg ? cfg : &plain);
    if (rc) {
        sim_flow_net_close(net);
        return rc;
    }
    *out = net;
    return 0;
}

void sim_flow_net_close(struct sim_flow_net *net)
{
    if (!net)
        return;
    for (uint32_t l = 0; l < net->link_room; l++)
        free(net->links[l].finish);
    for (uint32_t i = 0; i < net->chunk_count; i++)
        free(net->chunks[i]);
    for (uint32_t i = 0; i < net->long_count; i++)
        free(net->long_blocks[i]);
    sim_heap_close(&net->late);
    sim_heap_close(&net->gates_due);
    pairs_close(net->pairs);
    for (uint32_t i = 0; i < net->plane_count; i++)
        free(net->planes[i].out);
    free(net->planes);
    free(net->gates);
    free(net->others);
    free(net->hot);
    free(net->links);
    free(net->next_ns);
    free(net->block_ns);
    free(net->block_stale);
    free(net->links_free);
    free(net->touched);
    free(net->rounded);
    free(net->queue);
    free(net->spare);
    free(net->unfilled);
    free(net->order);
    free(net->rank);
    free(net->dirty);
    free(net->chunks);
    free(net->long_blocks);
    free(net->fresh);
    free(net->done);
    free(net->ranked);
    free(net);
}

static bool quantity_ok(double x)
{
    return x >= 0 && x < INFINITY;
}

static bool link_ok(const struct sim_flow_net *net, uint32_t l)
{
    return l >= LINK_FIRST && l < net->link_count && net->links[l].live;
}

int sim_link_add(struct sim_flow_net *net, double capacity_GBps, double latency_ns)
{
    uint32_t l;

    if (!quantity_ok(capacity_GBps) || !quantity_ok(latency_ns))
        return ERR_RANGE;
    if (net->links_free_count) {
        l = net->links_free[--net->links_free_count];
    } else {
        if (net->link_count == net->link_room) {
            int rc = links_reserve(net, 2 * net->link_room);

            if (rc)
                return rc;
        }
        l = net->link_count++;
    }
    link_init(net, l, capacity_GBps, latency_ns);
    net->hot[l].place = net->order_end;
    net->dirty[net->order_end] = 0;
    net->rank[net->order_end] = INFINITY;
    net->order[net->order_end++] = l;
    return (int)l;
}

int sim_link_capacity_set(struct sim_flow_net *net, uint32_t link, double capacity_GBps)
{
    double was_GBps;

    if (!link_ok(net, link) || !quantity_ok(capacity_GBps))
        return ERR_RANGE;
    was_GBps = net->hot[link].capacity;
    /* What rounding left behind at the old capacity may be much at the new one. */
    if (capacity_GBps < was_GBps)
        rounding_note(net, link);
    capacity_note(net, capacity_GBps);
    net->hot[link].capacity = capacity_GBps;
    if (net->links[link].ceiling < capacity_GBps)
        net->links[link].ceiling = capacity_GBps;
    if (net->pairs && pairs_has(net->pairs, link)) {
        pairs_capacity_changed(net, link, was_GBps);
        return 0;
    }
    link_mark(net, link);
    net->unsolved = true;
    return 0;
}

/* Levels in the order rise; a link without flows has none, and so ends up among the last, which
 * may change places. */
int sim_link_remove(struct sim_flow_net *net, uint32_t link)
{
    uint32_t last;

    if (!link_ok(net, link) || net->links[link].all_count)
        return ERR_RANGE;
    if (net->pairs && !pairs_limit_remove(net, link, false))
        return ERR_RANGE;
    net->links[link].retired = false;
    net->hot[link].level = INFINITY;
    order_settle(net, link);
    last = net->order[--net->order_end];
    net->order[net->hot[link].place] = last;
    net->rank[net->hot[link].place] = net->hot[last].level;
    net->dirty[net->hot[link].place] = net->dirty[net->order_end];
    net->dirty[net->order_end] = 0;
    net->hot[last].place = net->hot[link].place;
    if (net->hot[last].place < net->cursor)
        net->cursor = net->hot[last].place;
    net->links[link].live = false;
    net->links_free[net->links_free_count++] = link;
    return 0;
}

int sim_link_retire(struct sim_flow_net *net, uint32_t link)
{
    if (!link_ok(net, link))
        return ERR_RANGE;
    if (net->pairs && !pairs_limit_remove(net, link, true))
        return 0;
    if (!net->links[link].all_count)
        return sim_link_remove(net, link);
    net->links[link].retired = true;
    return 0;
}

double sim_link_rate_GBps(struct sim_flow_net *net, uint32_t link)
{
    const struct link_hot *h = &net->hot[link];

    assert(link_ok(net, link));
    if (net->pairs && pairs_has(net->pairs, link))
        return pairs_rate_GBps(net, link);
    if (net->unsolved)
        rates_solve(net);
    return h->members ? net->others[link] + h->members * h->level : net->others[link];
}

uint32_t sim_link_flow_count(const struct sim_flow_net *net, uint32_t link)
{
    assert(link_ok(net, link));
    if (net->pairs && pairs_has(net->pairs, link))
        return pairs_flow_count(net, link);
    return net->links[link].all_count;
}

double sim_link_drained_bytes(const struct sim_flow_net *net, uint32_t link)
{
    assert(link_ok(net, link));
    return net->links[link].drained_bytes;
}

static bool path_ok(const struct sim_flow_net *net, const struct sim_flow_spec *s)
{
    if (s->link_count < 1 || s->link_count > SIM_FLOW_PATH_MAX)
        return false;
    for (uint32_t i = 0; i < s->link_count; i++) {
        if (!link_ok(net, s->links[i]))
            return false;
        for (uint32_t j = 0; j < i; j++)
            if (s->links[i] == s->links[j])
                return false;
    }
    return true;
}

/* Room is whole groups, at least one. */
static int link_room_grow(struct sim_flow_net *net, struct link *k)
{
    uint32_t old = k->room, room = old ? 2 * old : 8;
    uint32_t **lists[] = {&k->other, &k->third, &k->flow, &k->all};
    double *finish = malloc(room * (sizeof *finish + 4 * sizeof **lists[0]));
    uint32_t *list = (uint32_t *)(void *)(finish + room);

    if (!finish)
        return ERR_NOMEM;
    if (old)
        memcpy(finish, k->finish, old * sizeof *finish);
    for (int i = 0; i < 4; i++, list += room) {
        if (old)
            memcpy(list, *lists[i], old * sizeof *list);
        *lists[i] = list;
    }
    free(k->finish);
    k->finish = finish;
    k->room = room;
    net->memory += (room - old) * (sizeof *finish + 4 * sizeof *list);
    return 0;
}

/* A link has room for all its flows among its members, so solving rates allocates nothing. */
static int room_make(struct sim_flow_net *net, const struct sim_flow_spec *s)
{
    int rc;

    if (net->flows_free == NONE && (rc = chunk_add(net)))
        return rc;
    if ((rc = sim_heap_reserve(&net->late, net->undelivered + 1)))
        return rc;
    for (uint32_t i = 0; i < s->link_count; i++) {
        struct link *k = &net->links[s->links[i]];

        if (k->all_count == k->room && (rc = link_room_grow(net, k)))
            return rc;
    }
    if (s->cap_GBps < INFINITY && net->links[LINK_CAP].all_count == net->links[LINK_CAP].room)
        return link_room_grow(net, &net->links[LINK_CAP]);
    return 0;
}

static struct hop *long_path_take(struct sim_flow_net *net)
{
    struct hop *path = net->long_free;

    if (path) {
        memcpy(&net->long_free, (void *)path, sizeof(void *));
        return path;
    }
    if (net->long_count == net->long_room) {
        uint32_t room = net->long_room * 2 + 64;

        if (GROW(net, net->long_blocks, net->long_room, room))
            return NULL;
        net->long_room = room;
    }
    path = calloc(SIM_FLOW_PATH_MAX, sizeof *path);
    if (path) {
        net->long_blocks[net->long_count++] = path;
        net->memory += SIM_FLOW_PATH_MAX * sizeof *path;
    }
    return path;
}

static void long_path_give(struct sim_flow_net *net, struct hop *path)
{
    memcpy((void *)path, &net->long_free, sizeof(void *));
    net->long_free = path;
}

static void flow_free(struct sim_flow_net *net, uint32_t id)
{
    struct flow *f = flow_at(net, id);

    if (f->path != f->hops)
        long_path_give(net, f->path);
    f->next = net->flows_free;
    net->flows_free = id;
    net->undelivered--;
}

static void flow_link(struct sim_flow_net *net, uint32_t id)
{
    struct flow *f = flow_at(net, id);

    for (uint32_t i = 0; i < f->links; i++) {
        struct link *k = &net->links[f->path[i].link];

        f->path[i].at = k->all_count;
        k->all[k->all_count++] = id;
        k->slots |= 1u << i;
    }
    net->links[LINK_CAP].all_count += f->cap < INFINITY;
    net->running++;
}

/* hop->at of the flow that takes the freed place: paths are short, a search is cheap. */
static void all_remove(struct sim_flow_net *net, uint32_t l, uint32_t at)
{
    struct link *k = &net->links[l];
    uint32_t last = k->all[--k->all_count];
    struct flow *f = flow_at(net, last);

    k->all[at] = last;
    for (uint32_t i = 0; i < f->links; i++)
        if (f->path[i].link == l)
            f->path[i].at = at;
    if (k->all_count)
        return;
    net->others[l] = 0; /* what rounding left there */
    k->capped_most = 0;
    k->slots = 0;
}

static void flow_unlink(struct sim_flow_net *net, uint32_t id)
{
    struct flow *f = flow_at(net, id);

    for (uint32_t i = 0; i < f->links; i++) {
        net->links[f->path[i].link].drained_bytes += f->bytes;
        all_remove(net, f->path[i].link, f->path[i].at);
    }
    net->links[LINK_CAP].all_count -= f->cap < INFINITY;
    net->running--;
}

/* Flows that wait are no more than there are flows, so moving them down makes room. */
static void done_add(struct sim_flow_net *net, uint32_t id)
{
    if (net->done_count == net->chunk_room * FLOW_CHUNK) {
        net->done_count -= net->done_at;
        memmove(net->done, net->done + net->done_at, net->done_count * sizeof *net->done);
        net->done_at = 0;
    }
    net->done[net->done_count++] = id;
}

static void flow_init(struct sim_flow_net *net, uint32_t id, const struct sim_flow_spec *s)
{
    struct flow *f = flow_at(net, id);

    f->bottleneck = NONE;
    f->cap = s->cap_GBps;
    f->left = f->bytes = s->bytes;
    f->start_ns = net->now_ns;
    f->latency_ns = s->latency_ns;
    f->tag = s->tag;
    f->drain = f->arrive = SIM_FLOW_NO_GATE;
    f->links = (uint8_t)s->link_count;
    f->events = (uint8_t)s->events;
    sim_heap_node_init(&f->delivery);
    f->delivery.seq = net->seq++;
    for (uint32_t i = 0; i < s->link_count; i++) {
        f->path[i].link = s->links[i];
        f->latency_ns += net->links[s->links[i]].latency_ns;
    }
}

/* Of a flow that the spec describes; *id may be NULL. */
static int flow_start(struct sim_flow_net *net, const struct sim_flow_spec *s, struct flow **out)
{
    struct hop *path = NULL;
    uint32_t id;
    int rc;

    if (!path_ok(net, s) || !quantity_ok(s->bytes) || !(s->cap_GBps > 0) ||
        !quantity_ok(s->latency_ns) || s->events > (SIM_FLOW_DRAINED | SIM_FLOW_DELIVERED))
        return ERR_RANGE;
    rc = room_make(net, s);
    if (rc)
        return rc;
    if (s->link_count > HOPS_INLINE && !(path = long_path_take(net)))
        return ERR_NOMEM;
    id = net->flows_free;
    net->flows_free = flow_at(net, id)->next;
    flow_at(net, id)->path = path ? path : flow_at(net, id)->hops;
    flow_init(net, id, s);
    *out = flow_at(net, id);
    net->undelivered++;
    net->stats.flows_started++;
    net->stats.bytes_started += s->bytes;
    if (net->undelivered > net->stats.flows_peak)
        net->stats.flows_peak = net->undelivered;
    if (s->bytes == 0) {
        done_add(net, id);
        return 0;
    }
    if (net->running == 0)
        net->busy_since_ns = net->now_ns;
    flow_link(net, id);
    net->fresh[net->fresh_count++] = id;
    net->unsolved = true;
    return 0;
}

int sim_flow_start(struct sim_flow_net *net, const struct sim_flow_spec *s)
{
    struct flow *f;

    for (uint32_t i = 0; net->pairs && i < s->link_count && i < SIM_FLOW_PATH_MAX; i++)
        if (pairs_has(net->pairs, s->links[i]))
            return ERR_RANGE; /* such links know flows as legs only */
    return flow_start(net, s, &f);
}

/* A leg as the exact engine sees it. */
static int leg_start(struct sim_flow_net *net, const struct sim_flow_leg *leg)
{
    const struct ports *p = &net->planes[leg->plane];
    struct sim_flow_spec s = {.events = leg->events,
                              .bytes = leg->bytes,
                              .cap_GBps = INFINITY,
                              .latency_ns = leg->latency_ns,
                              .tag = leg->tag};
    uint32_t links[3];
    struct flow *f;
    int err;

    s.links = links;
    if (leg->limit)
        links[s.link_count++] = leg->limit;
    if (leg->in != SIM_FLOW_NO_PORT) {
        links[s.link_count++] = p->out[leg->out];
        links[s.link_count++] = p->in[leg->in];
    }
    err = flow_start(net, &s, &f);
    if (err)
        return err;
    f->drain = leg->drain;
    f->arrive = leg->arrive;
    f->who = leg->who;
    return 0;
}

int sim_flow_legs_start(struct sim_flow_net *net, const struct sim_flow_leg *legs, uint32_t count)
{
    int err = 0;

    if (net->pairs)
        return pairs_start(net, legs, count);
    for (uint32_t i = 0; i < count && !err; i++)
        err = leg_start(net, &legs[i]);
    return err;
}

int sim_flow_plane_add(struct sim_flow_net *net, const uint32_t *out, const uint32_t *in,
                       uint32_t ports)
{
    struct ports *planes;
    struct ports p = {malloc(2 * ports * sizeof *out), NULL, ports};

    if (net->pairs) {
        free(p.out);
        return pairs_plane_add(net, out, in, ports);
    }
    planes = realloc(net->planes, (net->plane_count + 1) * sizeof *planes);
    if (planes)
        net->planes = planes;
    if (!planes || !p.out) {
        free(p.out);
        return ERR_NOMEM;
    }
    p.in = p.out + ports;
    memcpy(p.out, out, ports * sizeof *out);
    memcpy(p.in, in, ports * sizeof *in);
    planes[net->plane_count] = p;
    return (int)net->plane_count++;
}

static void flow_drain(struct sim_flow_net *net, uint32_t id)
{
    struct flow *f = flow_at(net, id);
    double took_ns = net->now_ns - f->start_ns;

    others_add(net, f, -flow_rate(net, f));
    member_remove(net, id);
    flow_unlink(net, id);
    for (uint32_t i = 0; i < f->links; i++)
        if (net->links[f->path[i].link].retired && !net->links[f->path[i].link].all_count)
            sim_link_remove(net, f->path[i].link);
    if (took_ns > net->longest_ns)
        net->longest_ns = took_ns;
    done_add(net, id);
    net->unsolved = true;
}

/* How early the longest flow may be drained now; no flow may be earlier. */
static double slack_most_ns(const struct sim_flow_net *net)
{
    double age_ns = net->now_ns - net->busy_since_ns;

    if (net->longest_ns > 0 && net->longest_ns < age_ns)
        age_ns = net->longest_ns;
    return net->slack * age_ns;
}

/* Bytes by which a member is not yet done, negative where it is more than done. */
static double member_left(const struct link *k, uint32_t member)
{
    return k->finish[member] - k->service;
}

static bool drains_now(const struct sim_flow_net *net, uint32_t l, uint32_t member)
{
    const struct link *k = &net->links[l];
    double age_ns = net->now_ns - flow_at(net, k->flow[member])->start_ns;
    double rate = l == LINK_CAP ? 1 : net->hot[l].level;

    return member_left(k, member) <= net->slack * age_ns * rate;
}

/* Whether the last members of a link would all be drained, well before they are done: nobody would
 * be left to owe the bytes, and the end of the link's work is what a makespan is made of. */
static bool ends_early(const struct sim_flow_net *net, uint32_t l)
{
    const struct link *k = &net->links[l];
    double reach = net->slack * (net->now_ns - k->start_last_ns) * net->hot[l].level;

    return net->patience > 0 && l != LINK_CAP && k->finish_last - k->service <= reach &&
           k->finish_mean - k->service > 0.25 * reach;
}

/* Drains what finishes on a link now or, within its slack, soon. The first is due if anything is;
 * when it has company, one pass finds all of it. What is drained early is owed by those who stay,
 * so that a full link carries its capacity and no more. */
static void link_drain(struct sim_flow_net *net, uint32_t l, double slack_ns)
{
    struct link *k = &net->links[l];
    bool due = net->next_ns[l] <= net->now_ns;
    double reach, owed;

    link_sync(net, l);
    if (!due && (!drains_now(net, l, k->first) || ends_early(net, l)))
        return;
    owed = member_left(k, k->first);
    flow_drain(net, k->flow[k->first]);
    reach = k->service + slack_ns * (l == LINK_CAP ? 1 : net->hot[l].level);
    for (uint32_t i = net->hot[l].members; i-- > 0;) {
        if (k->finish[i] <= reach && drains_now(net, l, i)) {
            owed += member_left(k, i);
            flow_drain(net, k->flow[i]);
        }
    }
    if (l != LINK_CAP && net->hot[l].members)
        k->service -= owed / net->hot[l].members;
}

/* Sorts by the upper halves, of which none is above most: a byte at a time, least first. Ends with
 * the sorted keys in the one array or the other, and says which. */
static uint64_t *keys_sort(uint64_t *keys, uint64_t *spare, uint32_t count, uint64_t most)
{
    for (int shift = 32; shift < 64 && most >> (shift - 32); shift += 8) {
        uint32_t ends[257] = {0};
        uint64_t *sorted = spare;

        for (uint32_t i = 0; i < count; i++)
            ends[(keys[i] >> shift & 255) + 1]++;
        for (int digit = 0; digit < 256; digit++)
            ends[digit + 1] += ends[digit];
        for (uint32_t i = 0; i < count; i++)
            sorted[ends[keys[i] >> shift & 255]++] = keys[i];
        spare = keys;
        keys = sorted;
    }
    return keys;
}

/* Few flows are drained at once, most of the time. */
static void done_insert(struct sim_flow_net *net, uint32_t from, uint32_t at)
{
    uint32_t id = net->done[at];
    uint64_t seq = flow_at(net, id)->delivery.seq;

    for (; at > from && flow_at(net, net->done[at - 1])->delivery.seq > seq; at--)
        net->done[at] = net->done[at - 1];
    net->done[at] = id;
}

/* Puts drained flows from place `from` on in the order of their starts. */
static void done_sort(struct sim_flow_net *net, uint32_t from)
{
    uint32_t count = net->done_count - from;
    uint64_t least = UINT64_MAX, most = 0;
    uint64_t *keys = (uint64_t *)(void *)net->ranked; /* twice as long as that */

    for (uint32_t i = from; i < net->done_count; i++) {
        uint64_t seq = flow_at(net, net->done[i])->delivery.seq;

        least = seq < least ? seq : least;
        most = seq > most ? seq : most;
    }
    if (count <= 24 || most - least > UINT32_MAX) {
        for (uint32_t i = from + 1; i < net->done_count; i++)
            done_insert(net, from, i);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = net->done[from + i];

        keys[i] = (flow_at(net, id)->delivery.seq - least) << 32 | id;
    }
    keys = keys_sort(keys, keys + count, count, most - least);
    for (uint32_t i = 0; i < count; i++)
        net->done[from + i] = (uint32_t)keys[i];
}

/* Fills unfilled with the links on which a member may be drained now. */
static uint32_t due_find(struct sim_flow_net *net, double until_ns)
{
    uint32_t count = 0;

    for (uint32_t b = 0; b * BLOCK < net->link_count; b++) {
        if (net->block_ns[b] > until_ns)
            continue;
        for (uint32_t l = b * BLOCK; l < (b + 1) * BLOCK && l < net->link_count; l++)
            if (net->next_ns[l] <= until_ns)
                net->unfilled[count++] = l;
    }
    return count;
}

/* Flows are spread over far more memory than a cache holds: asks early for the first of each link,
 * and then for those that will take the places they leave. */
static void due_prefetch(const struct sim_flow_net *net, const uint32_t *due, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct link *k = &net->links[due[i]];

        flow_prefetch(net, k->flow[k->first]);
        flow_prefetch(net, k->flow[net->hot[due[i]].members - 1]);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct link *k = &net->links[due[i]];
        const struct flow *f = flow_at(net, k->flow[k->first]);

        for (uint32_t j = 0; j < f->links; j++) {
            const struct link *m = &net->links[f->path[j].link];

            flow_prefetch(net, m->all[m->all_count - 1]);
        }
    }
}

/* Drains everything that is due now. */
static void due_drain(struct sim_flow_net *net)
{
    double slack_ns = slack_most_ns(net);
    double until_ns = net->now_ns + slack_ns * (1 + net->patience / net->slack);
    uint32_t from = net->done_count, count = due_find(net, until_ns);

    if (count > 16)
        due_prefetch(net, net->unfilled, count);
    for (uint32_t i = 0; i < count; i++)
        link_drain(net, net->unfilled[i], slack_ns);
    assert(net->done_count > from);
    done_sort(net, from);
}

static struct lane *lane_find(struct sim_flow_net *net, double latency_ns)
{
    struct lane *empty = NULL;

    for (int i = 0; i < LANES; i++) {
        struct lane *lane = &net->lanes[i];

        if (lane->head == NONE)
            empty = lane;
        else if (lane->latency_ns == latency_ns)
            return lane;
    }
    return empty;
}

static void lane_head_set(const struct sim_flow_net *net, struct lane *lane, uint32_t id)
{
    const struct sim_heap_node *node = &flow_at(net, id)->delivery;

    lane->head = id;
    lane->t_ns = node->t_ns;
    lane->seq = node->seq;
    if (flow_at(net, id)->next != NONE)
        flow_prefetch(net, flow_at(net, id)->next);
}

static void delivery_add(struct sim_flow_net *net, uint32_t id)
{
    struct flow *f = flow_at(net, id);
    struct lane *lane = lane_find(net, f->latency_ns);
    double t_ns = net->now_ns + f->latency_ns;

    if (!lane) {
        int rc = sim_heap_push(&net->late, &f->delivery, t_ns, f->delivery.seq);

        assert(rc == 0); /* room was made when the flow started */
        (void)rc;
        return;
    }
    f->delivery.t_ns = t_ns;
    f->next = NONE;
    if (lane->head == NONE)
        lane_head_set(net, lane, id);
    else
        flow_at(net, lane->tail)->next = id;
    lane->tail = id;
    lane->latency_ns = f->latency_ns;
}

/* When the next delivery is due, INFINITY if there is none; *lane is where it waits, -1 for the
 * heap. */
static double delivery_next_ns(const struct sim_flow_net *net, int *lane)
{
    const struct sim_heap_node *late = sim_heap_peek(&net->late);
    double t_ns = late ? late->t_ns : INFINITY;
    uint64_t seq = late ? late->seq : UINT64_MAX;

    *lane = -1;
    for (int i = 0; i < LANES; i++) {
        const struct lane *n = &net->lanes[i];

        if (n->head == NONE || n->t_ns > t_ns || (n->t_ns == t_ns && n->seq > seq))
            continue;
        t_ns = n->t_ns;
        seq = n->seq;
        *lane = i;
    }
    return t_ns;
}

/* Whether the flow reports it. */
static bool delivery_take(struct sim_flow_net *net, int lane, struct sim_flow_event *event)
{
    uint32_t id;
    struct flow *f;
    bool reports;

    if (lane < 0) {
        f = sim_heap_entry(sim_heap_pop(&net->late), struct flow, delivery);
        id = f->id;
    } else {
        id = net->lanes[lane].head;
        f = flow_at(net, id);
        net->lanes[lane].head = NONE;
        if (f->next != NONE)
            lane_head_set(net, &net->lanes[lane], f->next);
    }
    *event = (struct sim_flow_event){net->now_ns, f->tag, SIM_FLOW_DELIVERED, 0};
    reports = f->events & SIM_FLOW_DELIVERED;
    if (f->arrive != SIM_FLOW_NO_GATE)
        net_gate_drop(net, f->arrive, net->now_ns, f->who);
    flow_free(net, id);
    return reports;
}

/* Counts the next drained flow, sends it on, and says whether it reports that. */
static bool done_take(struct sim_flow_net *net, struct sim_flow_event *event)
{
    uint32_t id = net->done[net->done_at++];
    const struct flow *f = flow_at(net, id);
    bool reports = f->events & SIM_FLOW_DRAINED;

    if (net->done_at + 4 < net->done_count)
        flow_prefetch(net, net->done[net->done_at + 4]);
    if (net->done_at == net->done_count)
        net->done_at = net->done_count = 0;
    *event = (struct sim_flow_event){net->now_ns, f->tag, SIM_FLOW_DRAINED, 0};
    net->stats.flows_drained++;
    net->stats.bytes_drained += f->bytes;
    if (f->drain != SIM_FLOW_NO_GATE)
        net_gate_drop(net, f->drain, net->now_ns, f->who);
    if (f->events & SIM_FLOW_DELIVERED || f->arrive != SIM_FLOW_NO_GATE)
        delivery_add(net, id);
    else
        flow_free(net, id);
    return reports;
}

double sim_flow_now_ns(const struct sim_flow_net *net)
{
    return net->now_ns;
}

/* When something next happens, with all drained flows reported; *lane as in delivery_next_ns, or
 * -2 if a drain comes before the next delivery. */
static double next_ns_find(struct sim_flow_net *net, int *lane)
{
    double delivery_ns;

    if (net->unsolved)
        rates_solve(net);
    delivery_ns = delivery_next_ns(net, lane);
    if (delivery_ns <= net->drain_ns)
        return delivery_ns;
    *lane = -2;
    return net->drain_ns;
}

static double exact_next_ns(struct sim_flow_net *net)
{
    int lane;

    return net->done_at < net->done_count ? net->now_ns : next_ns_find(net, &lane);
}

double sim_flow_next_ns(struct sim_flow_net *net)
{
    double next_ns = fmin(exact_next_ns(net), net_gate_next_ns(net));

    if (net->pairs)
        next_ns = fmin(next_ns, fmin(pairs_event_ns(net->pairs), pairs_next_ns(net->pairs)));
    return fmax(next_ns, net->now_ns);
}

/* A step that was no event. */
enum { STEP_MORE = 2 };

/* Does what comes next at or before until_ns: 1 if that is an event, STEP_MORE if not, 0 if nothing
 * is left there. */
static int exact_step(struct sim_flow_net *net, double until_ns, struct sim_flow_event *event)
{
    double next_ns;
    int lane;

    if (net->done_at < net->done_count)
        return done_take(net, event) ? 1 : STEP_MORE;
    next_ns = next_ns_find(net, &lane);
    if (next_ns > until_ns || next_ns == INFINITY)
        return 0;
    assert(next_ns >= net->now_ns);
    net->now_ns = next_ns;
    if (lane >= -1) {
        net->stats.flows_delivered++;
        return delivery_take(net, lane, event) ? 1 : STEP_MORE;
    }
    due_drain(net);
    return STEP_MORE;
}

/* The same where planes have their own time. Of equal times, what has happened is told first. */
static int fast_step(struct sim_flow_net *net, double until_ns, struct sim_flow_event *event)
{
    double event_ns = pairs_event_ns(net->pairs), act_ns = pairs_next_ns(net->pairs);
    double exact_ns = exact_next_ns(net), next_ns = fmin(event_ns, fmin(act_ns, exact_ns));

    if (next_ns > until_ns || next_ns == INFINITY)
        return 0;
    if (event_ns <= next_ns) {
        pairs_event_take(net, event);
        return 1;
    }
    if (exact_ns <= next_ns)
        return exact_step(net, exact_ns, event);
    return pairs_act(net) ? ERR_NOMEM : STEP_MORE;
}

int sim_flow_pop(struct sim_flow_net *net, double until_ns, struct sim_flow_event *event)
{
    if (!(until_ns >= net->now_ns))
        return ERR_RANGE;
    for (;;) {
        double gate_ns = net_gate_next_ns(net), step_ns = fmin(gate_ns, until_ns);
        int got = 0;

        if (gate_ns > net->now_ns)
            got = net->pairs ? fast_step(net, step_ns, event) : exact_step(net, step_ns, event);
        if (got == STEP_MORE)
            continue;
        if (got)
            return got;
        if (gate_ns <= until_ns && gate_ns < INFINITY) {
            net_gate_take(net, event);
            return 1;
        }
        if (until_ns < INFINITY)
            net->now_ns = until_ns;
        return 0;
    }
}

int sim_flow_advance(struct sim_flow_net *net, double until_ns,
                     int (*report)(void *user, const struct sim_flow_event *event), void *user)
{
    struct sim_flow_event event;
    int rc;

    while ((rc = sim_flow_pop(net, until_ns, &event)) == 1) {
        rc = report(user, &event);
        if (rc)
            break;
    }
    return rc;
}

void sim_flow_stats_get(const struct sim_flow_net *net, struct sim_flow_stats *stats)
{
    *stats = net->stats;
    stats->memory_bytes = net->memory + net->late.room * sizeof *net->late.slots;
}
