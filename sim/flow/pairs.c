/* Planes of the fast fidelity: ports, rows, and the queues of their pairs. */
#include "sim/flow/pairs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "sim/flow/net.h"

/* Flows that start join within this part of the least time that all of theirs take. */
#define JOIN_PART 0.001

#define GROW(net, array, from, to) net_lines_grow(net, &(array), sizeof *(array), from, to)

static uint32_t lanes_up(uint32_t n)
{
    return (n + PAIRS_LANES - 1) / PAIRS_LANES * PAIRS_LANES;
}

static int links_grow(struct sim_flow_net *net, struct pair_links *k, uint32_t from, uint32_t to)
{
    float **f[] = {&k->cap,   &k->n,     &k->share, &k->level,
                   &k->bound, &k->ended, &k->freed, &k->raised};
    int err = 0;

    for (size_t i = 0; i < sizeof f / sizeof *f && !err; i++)
        err = GROW(net, *f[i], from, to);
    for (uint32_t i = from; i < to && !err; i++)
        k->share[i] = k->level[i] = k->raised[i] = PAIRS_FREE;
    return err;
}

static void links_free(struct pair_links *k)
{
    free(k->cap);
    free(k->n);
    free(k->share);
    free(k->level);
    free(k->bound);
    free(k->ended);
    free(k->freed);
    free(k->raised);
}

/* The transposed matrix has its rows along its lines. */
static int weight_in_grow(struct sim_flow_net *net, struct plane *p, uint32_t to)
{
    float *grown = NULL;
    int err = GROW(net, grown, 0, (size_t)p->cols * to);

    if (err)
        return err;
    for (uint32_t col = 0; col < p->cols && p->row_room; col++)
        memcpy(grown + (size_t)col * to, p->weight_in + (size_t)col * p->row_room,
               p->row_room * sizeof *grown);
    net->memory -= (size_t)p->cols * p->row_room * sizeof *grown;
    free(p->weight_in);
    p->weight_in = grown;
    return 0;
}

static int rows_grow(struct sim_flow_net *net, struct plane *p)
{
    uint32_t from = p->row_room, to = from ? 2 * from : p->cols;
    size_t cols = p->cols;
    int err;

    if ((err = weight_in_grow(net, p, to)) ||
        (err = GROW(net, p->weight, from * cols, to * cols)) ||
        (err = GROW(net, p->left, from * cols, to * cols)) ||
        (err = GROW(net, p->head, from * cols, to * cols)) ||
        (err = GROW(net, p->port, from, to)) || (err = GROW(net, p->limit, from, to)) ||
        (err = GROW(net, p->leader, from, to)) || (err = GROW(net, p->flows, from, to)) ||
        (err = GROW(net, p->used, from, to)) || (err = GROW(net, p->count, from, to)) ||
        (err = GROW(net, p->solo, from, to)) || (err = GROW(net, p->solo_left, from, to)) ||
        (err = GROW(net, p->solo_head, from, to)) || (err = GROW(net, p->open, from, to)) ||
        (err = GROW(net, p->cells, from, to)) || (err = GROW(net, p->level, from, to)) ||
        (err = GROW(net, p->raised, from, to)) || (err = GROW(net, p->need_ns, from, to)) ||
        (err = GROW(net, p->served, from, to)) || (err = GROW(net, p->solo_served, from, to)) ||
        (err = GROW(net, p->own_credit, from, to)) || (err = GROW(net, p->own_cap, from, to)) ||
        (err = GROW(net, p->limited, from, to)) || (err = GROW(net, p->retired, from, to)) ||
        (err = GROW(net, p->limit_next, from, to)) || (err = GROW(net, p->settled, from, to)) ||
        (err = GROW(net, p->settled_level, from, to)) ||
        (err = links_grow(net, &p->own, from, to)) || (err = links_grow(net, &p->out, from, to)))
        return err;
    p->row_room = to;
    return 0;
}

static void plane_free(struct plane *p)
{
    if (!p)
        return;
    links_free(&p->own);
    links_free(&p->out);
    links_free(&p->in);
    free(p->out_link);
    free(p->in_link);
    free(p->merged);
    free(p->weight);
    free(p->weight_in);
    free(p->left);
    free(p->head);
    free(p->port);
    free(p->limit);
    free(p->leader);
    free(p->flows);
    free(p->used);
    free(p->count);
    free(p->solo);
    free(p->solo_left);
    free(p->solo_head);
    free(p->open);
    free(p->cells);
    free(p->level);
    free(p->raised);
    free(p->need_ns);
    free(p->served);
    free(p->in_open);
    free(p->in_count);
    free(p->in_served);
    free(p->out_load);
    free(p->in_load);
    free(p->solo_served);
    free(p->own_credit);
    free(p->own_cap);
    free(p->limited);
    free(p->out_cap);
    free(p->in_cap);
    free(p->out_sent);
    free(p->out_count);
    free(p->out_level);
    free(p->retired);
    free(p->limit_next);
    free(p->settled);
    free(p->settled_level);
    free(p->out_waits);
    free(p->in_waits);
    free(p->out_left);
    free(p->in_left);
    free(p->out_idle);
    free(p->in_idle);
    free(p->out_credit);
    free(p->in_credit);
    free(p->port_first);
    free(p->pending);
    free(p->ends);
    free(p->last);
    free(p);
}

static int plane_arrays(struct sim_flow_net *net, struct plane *p)
{
    size_t ports = p->ports, cols = p->cols;
    int err;

    if ((err = GROW(net, p->out_link, 0, ports)) || (err = GROW(net, p->in_link, 0, ports)) ||
        (err = GROW(net, p->merged, 0, ports)) || (err = GROW(net, p->in_open, 0, cols)) ||
        (err = GROW(net, p->in_count, 0, cols)) || (err = GROW(net, p->in_served, 0, cols)) ||
        (err = GROW(net, p->out_load, 0, cols)) || (err = GROW(net, p->in_load, 0, cols)) ||
        (err = GROW(net, p->out_waits, 0, cols)) || (err = GROW(net, p->in_waits, 0, cols)) ||
        (err = GROW(net, p->out_left, 0, cols)) || (err = GROW(net, p->in_left, 0, cols)) ||
        (err = GROW(net, p->out_idle, 0, cols)) || (err = GROW(net, p->in_idle, 0, cols)) ||
        (err = GROW(net, p->out_credit, 0, cols)) || (err = GROW(net, p->in_credit, 0, cols)) ||
        (err = GROW(net, p->out_cap, 0, cols)) || (err = GROW(net, p->in_cap, 0, cols)) ||
        (err = GROW(net, p->out_sent, 0, cols)) || (err = GROW(net, p->out_count, 0, cols)) ||
        (err = GROW(net, p->out_level, 0, cols)) || (err = GROW(net, p->port_first, 0, ports)) ||
        (err = links_grow(net, &p->in, 0, p->cols)))
        return err;
    return rows_grow(net, p);
}

static int limits_reserve(struct sim_flow_net *net, uint32_t link)
{
    struct pairs *f = net->pairs;
    uint32_t room = f->limit_room ? f->limit_room : 256;
    int err;

    if (link < f->limit_room)
        return 0;
    while (room <= link)
        room *= 2;
    if ((err = GROW(net, f->limit_row, f->limit_room, room)))
        return err;
    f->limit_room = room;
    return 0;
}

int pairs_plane_add(struct sim_flow_net *net, const uint32_t *out, const uint32_t *in,
                    uint32_t ports)
{
    struct pairs *f = net->pairs;
    struct plane **planes = realloc(f->planes, (f->plane_count + 1) * sizeof *planes);
    struct plane *p = calloc(1, sizeof *p);
    int err;

    if (planes)
        f->planes = planes;
    if (!planes || !p) {
        free(p);
        return ERR_NOMEM;
    }
    p->id = f->plane_count;
    p->ports = ports;
    p->cols = lanes_up(ports);
    p->next_ns = INFINITY;
    err = plane_arrays(net, p);
    if (err) {
        plane_free(p);
        return err;
    }
    for (uint32_t i = 0; i < ports; i++) {
        p->out_link[i] = out[i];
        p->in_link[i] = in[i];
        p->out_cap[i] = (float)net->hot[out[i]].capacity;
        p->in_cap[i] = (float)net->hot[in[i]].capacity;
        p->merged[i] = p->port_first[i] = PAIRS_NONE;
        err = limits_reserve(net, out[i] > in[i] ? out[i] : in[i]);
        if (err) {
            plane_free(p);
            return err;
        }
        f->limit_row[out[i]] = f->limit_row[in[i]] = (struct limit_row){p->id + 1, PAIRS_NONE};
    }
    f->planes[f->plane_count++] = p;
    return (int)p->id;
}

int pairs_open(struct sim_flow_net *net)
{
    struct pairs *f = calloc(1, sizeof *f);

    if (!f)
        return ERR_NOMEM;
    f->flows_free = f->reports_free = PAIRS_NONE;
    f->eps = PAIRS_EPS;
    f->code = pairs_code_avx2() ? pairs_code_avx2() : pairs_code_plain();
    sim_heap_open(&f->events);
    net->pairs = f;
    return 0;
}

void pairs_close(struct pairs *f)
{
    if (!f)
        return;
    for (uint32_t i = 0; i < f->plane_count; i++)
        plane_free(f->planes[i]);
    for (uint32_t i = 0; i < f->chunk_count; i++)
        free(f->chunks[i]);
    for (uint32_t i = 0; i < f->report_chunk_count; i++)
        free(f->report_chunks[i]);
    free(f->report_chunks);
    sim_heap_close(&f->events);
    free(f->planes);
    free(f->chunks);
    free(f->limit_row);
    free(f);
}

static int chunk_add(struct sim_flow_net *net)
{
    struct pairs *f = net->pairs;
    struct pair_flow **chunks = realloc(f->chunks, (f->chunk_count + 1) * sizeof *chunks);
    struct pair_flow *chunk = NULL;
    int err = chunks ? GROW(net, chunk, 0, PAIR_CHUNK) : ERR_NOMEM;

    if (chunks)
        f->chunks = chunks;
    if (err)
        return err;
    for (uint32_t i = PAIR_CHUNK; i-- > 0;) {
        chunk[i].id = f->chunk_count * PAIR_CHUNK + i;
        chunk[i].next = f->flows_free;
        f->flows_free = chunk[i].id;
    }
    chunks[f->chunk_count++] = chunk;
    return 0;
}

static struct pair_report *report_at(const struct pairs *f, uint32_t id)
{
    return &f->report_chunks[id >> PAIR_CHUNK_BITS][id & (PAIR_CHUNK - 1)];
}

static int report_chunk_add(struct sim_flow_net *net)
{
    struct pairs *f = net->pairs;
    struct pair_report **chunks =
        realloc(f->report_chunks, (f->report_chunk_count + 1) * sizeof *chunks);
    struct pair_report *chunk = NULL;
    int err = chunks ? GROW(net, chunk, 0, PAIR_CHUNK) : ERR_NOMEM;

    if (chunks)
        f->report_chunks = chunks;
    if (!err)
        err = sim_heap_reserve(&f->events, (f->report_chunk_count + 1) * PAIR_CHUNK);
    if (err) {
        free(chunk);
        return err;
    }
    for (uint32_t i = PAIR_CHUNK; i-- > 0;) {
        chunk[i].next = f->reports_free;
        sim_heap_node_init(&chunk[i].node);
        f->reports_free = f->report_chunk_count * PAIR_CHUNK + i;
    }
    chunks[f->report_chunk_count++] = chunk;
    return 0;
}

static int report_new(struct sim_flow_net *net, const struct sim_flow_leg *leg, uint32_t *id)
{
    struct pairs *f = net->pairs;
    struct pair_report *r;
    int err;

    *id = PAIRS_NONE;
    if (!leg->events)
        return 0;
    if (f->reports_free == PAIRS_NONE && (err = report_chunk_add(net)))
        return err;
    *id = f->reports_free;
    r = report_at(f, *id);
    f->reports_free = r->next;
    r->tag = leg->tag;
    r->who = leg->who;
    r->events = leg->events;
    r->latency_ns = (float)leg->latency_ns;
    return 0;
}

static int report_push(struct sim_flow_net *net, uint32_t id, double drained_ns)
{
    struct pair_report *r = report_at(net->pairs, id);
    double t_ns = r->events & SIM_FLOW_DRAINED ? drained_ns : drained_ns + r->latency_ns;

    r->next = id; /* its own number, while it is in the heap */
    return sim_heap_push(&net->pairs->events, &r->node, t_ns, net->seq++);
}

/* The lowest row that is free. */
static int row_take(struct sim_flow_net *net, struct plane *p, uint32_t port, uint32_t limit,
                    uint32_t *out)
{
    uint32_t row = 0;
    int err;

    while (row < p->row_room && p->used[row])
        row++;
    if (row == p->row_room && (err = rows_grow(net, p)))
        return err;
    p->used[row] = 1;
    p->port[row] = port;
    p->limit[row] = limit;
    p->limit_next[row] = PAIRS_NONE;
    p->own_credit[row] = 0;
    p->limited[row] = limit ? 1 : 0;
    p->own_cap[row] = limit ? (float)net->hot[limit].capacity : 0;
    if (row >= p->rows)
        p->rows = lanes_up(row + 1);
    *out = row;
    return 0;
}

static void row_give(struct plane *p, uint32_t row)
{
    p->used[row] = 0;
    p->limit[row] = 0;
    p->limited[row] = p->own_cap[row] = p->own_credit[row] = 0;
    while (p->rows) {
        for (uint32_t i = p->rows - PAIRS_LANES; i < p->rows; i++)
            if (p->used[i])
                return;
        p->rows -= PAIRS_LANES;
    }
}

/* The row of a port's flows under a limit (0: none). */
static int row_of(struct sim_flow_net *net, struct plane *p, uint32_t port, uint32_t limit,
                  uint32_t *row)
{
    struct pairs *f = net->pairs;
    struct limit_row *at;
    int err;

    if (!limit) {
        if (p->merged[port] == PAIRS_NONE && (err = row_take(net, p, port, 0, &p->merged[port])))
            return err;
        *row = p->merged[port];
        return 0;
    }
    err = limits_reserve(net, limit);
    if (err)
        return err;
    at = &f->limit_row[limit];
    if (at->plane && at->plane != p->id + 1)
        return ERR_RANGE;
    for (uint32_t r = at->plane ? at->row : PAIRS_NONE; r != PAIRS_NONE; r = p->limit_next[r])
        if (p->port[r] == port) {
            *row = r;
            return 0;
        }
    err = row_take(net, p, port, limit, row);
    if (err)
        return err;
    p->limit_next[*row] = at->plane ? at->row : PAIRS_NONE;
    p->spread |= at->plane != 0;
    *at = (struct limit_row){p->id + 1, *row};
    return 0;
}

/* Puts a flow into its pair's queue, in the order in which they end. */
void pairs_queue_insert(struct pairs *f, float *left, uint32_t *head, struct pair_flow *w,
                        float bytes)
{
    float at = *left;
    bool empty = at == 0;
    struct pair_flow *before;

    w->next = PAIRS_NONE;
    if (empty || bytes < at) {
        if (!empty) {
            pair_flow_at(f, *head)->gap = at - bytes;
            w->next = *head;
        }
        *head = w->id;
        *left = bytes;
        return;
    }
    before = pair_flow_at(f, *head);
    while (before->next != PAIRS_NONE && at + pair_flow_at(f, before->next)->gap <= bytes) {
        before = pair_flow_at(f, before->next);
        at += before->gap;
    }
    w->gap = bytes - at;
    w->next = before->next;
    before->next = w->id;
    if (w->next != PAIRS_NONE)
        pair_flow_at(f, w->next)->gap -= w->gap;
}

static void flow_free(struct pairs *f, struct pair_flow *w)
{
    w->next = f->flows_free;
    f->flows_free = w->id;
}

int pairs_flow_end(struct sim_flow_net *net, struct pair_flow *w, double t_ns)
{
    struct pairs *f = net->pairs;
    int err = 0;

    net->stats.flows_drained++;
    net->stats.flows_delivered++;
    net->stats.bytes_drained += w->bytes;
    net->undelivered--;
    if (w->drain != SIM_FLOW_NO_GATE)
        err = net_gate_drop(net, w->drain, t_ns, w->who);
    if (w->arrive != SIM_FLOW_NO_GATE && !err)
        err = net_gate_drop(net, w->arrive, t_ns + w->latency_ns, w->who);
    if (w->report != PAIRS_NONE && !err)
        err = report_push(net, w->report, t_ns);
    flow_free(f, w);
    return err;
}

double pairs_event_ns(const struct pairs *f)
{
    const struct sim_heap_node *node = sim_heap_peek(&f->events);

    return node ? node->t_ns : INFINITY;
}

/* Who tells both drain and delivery waits again for the second. */
void pairs_event_take(struct sim_flow_net *net, struct sim_flow_event *event)
{
    struct pairs *f = net->pairs;
    struct pair_report *r = sim_heap_entry(sim_heap_pop(&f->events), struct pair_report, node);
    unsigned kind = r->events & SIM_FLOW_DRAINED ? SIM_FLOW_DRAINED : SIM_FLOW_DELIVERED;
    uint32_t id = r->next;

    net->now_ns = most_of(net->now_ns, r->node.t_ns);
    *event = (struct sim_flow_event){net->now_ns, r->tag, kind, r->who};
    r->events &= ~kind;
    if (r->events) {
        report_push(net, id, r->node.t_ns);
        return;
    }
    r->next = f->reports_free;
    f->reports_free = id;
}

bool pairs_has(const struct pairs *f, uint32_t link)
{
    return link < f->limit_room && f->limit_row[link].plane;
}

void pairs_rows_retire(struct sim_flow_net *net, struct plane *p)
{
    for (uint32_t row = 0; row < p->rows && p->retiring; row++)
        if (p->retired[row] && !p->flows[row])
            sim_link_retire(net, p->limit[row]);
}

bool pairs_limit_remove(struct sim_flow_net *net, uint32_t link, bool retire)
{
    struct pairs *f = net->pairs;
    struct limit_row *at = link < f->limit_room ? &f->limit_row[link] : NULL;
    bool idle = true;
    struct plane *p;

    if (!at || !at->plane)
        return true;
    if (at->row == PAIRS_NONE) {
        at->plane = 0; /* a plane's port: the net is being taken down */
        return true;
    }
    p = f->planes[at->plane - 1];
    for (uint32_t row = at->row; row != PAIRS_NONE; row = p->limit_next[row]) {
        p->retiring += retire && !p->retired[row];
        p->retired[row] |= retire;
        idle &= !p->flows[row];
    }
    if (!idle)
        return false;
    for (uint32_t row = at->row; row != PAIRS_NONE; row = p->limit_next[row]) {
        p->retiring -= p->retired[row];
        p->retired[row] = 0;
        row_give(p, row);
    }
    *at = (struct limit_row){0, 0};
    return true;
}

static struct plane *plane_of(const struct pairs *f, uint32_t link)
{
    return f->planes[f->limit_row[link].plane - 1];
}

/* An epoch's account is drawn up with the capacity at its end; what the link had less, or more,
 * before now is taken off. Only full links have accounts. */
static void capacity_account(struct sim_flow_net *net, struct plane *p, uint32_t link,
                             double was_GBps)
{
    double bytes = (was_GBps - net->hot[link].capacity) * (net->now_ns - p->from_ns), all = 0;
    uint32_t first = net->pairs->limit_row[link].row;

    for (uint32_t i = 0; i < p->ports && first == PAIRS_NONE; i++) {
        uint32_t row = p->port_first[i];

        if (p->out_link[i] == link && row != PAIRS_NONE && p->out.level[row] < PAIRS_FREE)
            p->out_credit[i] += (float)bytes;
        if (p->in_link[i] == link && p->in.level[i] < PAIRS_FREE)
            p->in_credit[i] += (float)bytes;
    }
    for (uint32_t row = first; row != PAIRS_NONE; row = p->limit_next[row])
        all += p->count[row] + p->solo[row];
    for (uint32_t row = first; row != PAIRS_NONE; row = p->limit_next[row])
        if (p->own.level[row] < PAIRS_FREE)
            p->own_credit[row] += (float)(bytes * (p->count[row] + p->solo[row]) / most_of(all, 1));
}

static void capacity_note(const struct sim_flow_net *net, struct plane *p, uint32_t link)
{
    float GBps = (float)net->hot[link].capacity;
    uint32_t first = net->pairs->limit_row[link].row;

    for (uint32_t i = 0; i < p->ports && first == PAIRS_NONE; i++) {
        p->out_cap[i] = p->out_link[i] == link ? GBps : p->out_cap[i];
        p->in_cap[i] = p->in_link[i] == link ? GBps : p->in_cap[i];
    }
    for (uint32_t row = first; row != PAIRS_NONE; row = p->limit_next[row])
        p->own_cap[row] = GBps;
}

/* Rates change a little later: who changes one capacity at a time changes more of them soon. */
void pairs_capacity_changed(struct sim_flow_net *net, uint32_t link, double was_GBps)
{
    struct plane *p = plane_of(net->pairs, link);

    if (p->state != PAIRS_IDLE)
        capacity_account(net, p, link, was_GBps);
    capacity_note(net, p, link);
    if (p->state == PAIRS_RUNNING)
        p->next_ns = least_of(p->next_ns, net->now_ns + 0.25 * PAIRS_EPS * p->typical_ns);
}

static double row_rate(const struct plane *p, uint32_t row)
{
    const float *weight = p->weight + (size_t)row * p->cols;
    double sum = 0;

    for (uint32_t col = 0; col < p->cols; col++)
        if (weight[col] > 0)
            sum += weight[col] * lesser(p->level[row], p->in.level[col]);
    return sum;
}

static double in_rate(const struct plane *p, uint32_t col)
{
    double sum = 0;

    for (uint32_t row = 0; row < p->rows; row++)
        sum +=
            p->weight_in[(size_t)col * p->row_room + row] * lesser(p->level[row], p->in.level[col]);
    return p->in_count[col] > 0 ? sum : 0;
}

double pairs_rate_GBps(struct sim_flow_net *net, uint32_t link)
{
    const struct plane *p = plane_of(net->pairs, link);
    double sum = 0;

    for (uint32_t row = 0; row < p->rows; row++)
        if (p->used[row] && (p->limit[row] == link || p->out_link[p->port[row]] == link)) {
            sum += row_rate(p, row);
            if (p->limit[row] == link && p->solo[row] > 0)
                sum += p->solo[row] * p->own.level[row];
        }
    for (uint32_t port = 0; port < p->ports; port++)
        if (p->in_link[port] == link)
            sum += in_rate(p, port);
    return sum;
}

uint32_t pairs_flow_count(const struct sim_flow_net *net, uint32_t link)
{
    const struct plane *p = plane_of(net->pairs, link);
    uint32_t sum = 0;

    for (uint32_t row = 0; row < p->rows; row++)
        if (p->used[row] && (p->limit[row] == link || p->out_link[p->port[row]] == link))
            sum += p->flows[row];
    for (uint32_t port = 0; port < p->ports; port++)
        if (p->in_link[port] == link)
            sum += (uint32_t)p->in_count[port];
    return sum;
}

/* Room for the ends of all flows, so that an epoch allocates nothing. */
static int ends_reserve(struct sim_flow_net *net, struct plane *p, uint32_t count)
{
    uint32_t room = p->end_room ? p->end_room : 64;
    int err;

    while (room < count)
        room *= 2;
    if (room == p->end_room)
        return 0;
    if ((err = GROW(net, p->ends, p->end_room, room)) ||
        (err = GROW(net, p->last, p->end_room, room)))
        return err;
    p->end_room = room;
    return 0;
}

static int pending_add(struct sim_flow_net *net, struct plane *p, uint32_t id)
{
    if (p->pending_count == p->pending_room) {
        uint32_t room = p->pending_room ? 2 * p->pending_room : 64;
        int err = GROW(net, p->pending, p->pending_room, room);

        if (err)
            return err;
        p->pending_room = room;
    }
    p->pending[p->pending_count++] = id;
    return 0;
}

static int leg_start(struct sim_flow_net *net, struct plane *p, uint32_t row,
                     const struct sim_flow_leg *leg)
{
    struct pairs *f = net->pairs;
    struct pair_flow *w;
    int err;

    if (f->flows_free == PAIRS_NONE && (err = chunk_add(net)))
        return err;
    w = pair_flow_at(f, f->flows_free);
    if ((err = report_new(net, leg, &w->report)) || (err = pending_add(net, p, w->id)))
        return err;
    f->flows_free = w->next;
    w->row = row;
    w->col = leg->in;
    w->start_ns = net->now_ns;
    w->latency_ns = (float)leg->latency_ns;
    w->bytes = (float)leg->bytes;
    w->arrive = leg->arrive;
    w->drain = leg->drain;
    w->who = leg->who;
    p->flows[row]++;
    return 0;
}

/* By when what starts now has joined: before any of it is far on its way. */
static void joins_by(struct sim_flow_net *net, struct plane *p, uint32_t port, uint32_t limit,
                     double bytes)
{
    double GBps = net->hot[limit ? limit : p->out_link[port]].capacity;
    double by_ns = net->now_ns + (GBps > 0 ? JOIN_PART * bytes / GBps : 0);

    if (p->state != PAIRS_COMMITTED && by_ns < p->next_ns)
        p->next_ns = by_ns;
}

int pairs_start(struct sim_flow_net *net, const struct sim_flow_leg *legs, uint32_t count)
{
    struct pairs *f = net->pairs;

    for (uint32_t i = 0; i < count;) {
        const struct sim_flow_leg *first = &legs[i];
        struct plane *p = f->planes[first->plane];
        double bytes = 0;
        uint32_t row;
        int err = row_of(net, p, first->out, first->limit, &row);

        for (; !err && i < count && legs[i].plane == first->plane && legs[i].out == first->out &&
               legs[i].limit == first->limit;
             i++) {
            err = leg_start(net, p, row, &legs[i]);
            bytes += legs[i].bytes;
            net->stats.flows_started++;
            net->stats.bytes_started += legs[i].bytes;
            net->undelivered++;
        }
        if (!err)
            err = ends_reserve(net, p, p->running + p->pending_count);
        if (err)
            return err;
        joins_by(net, p, first->out, first->limit, bytes);
    }
    if (net->undelivered > net->stats.flows_peak)
        net->stats.flows_peak = net->undelivered;
    return 0;
}
