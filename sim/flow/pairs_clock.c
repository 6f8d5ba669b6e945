/* Time in the planes of the fast fidelity: when flows join, until when rates hold, what ends. */
#include "sim/flow/pairs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/flow/net.h"

/* Flows shorter than so much of the usual do not make an epoch shorter. */
#define TYPICAL_PART 0.25
/* The most of what is left to do that one epoch covers. */
#define TAIL_PART 0.5
/* Nothing ends later than this many ns from now. */
#define NEED_NEVER 1e8f

/* What a row may have of a limit that several ports share. */
static double limit_GBps(const struct sim_flow_net *net, const struct plane *p, uint32_t row)
{
    double GBps = net->hot[p->limit[row]].capacity, all = 0;
    uint32_t first = net->pairs->limit_row[p->limit[row]].row;

    if (p->limit_next[first] == PAIRS_NONE)
        return GBps;
    for (uint32_t r = first; r != PAIRS_NONE; r = p->limit_next[r])
        all += p->count[r] + p->solo[r];
    return GBps * (p->count[row] + p->solo[row]) / most_of(all, 1);
}

/* The first row of a port that has flows stands for its link out. */
static void leaders_set(struct plane *p)
{
    uint32_t *first = p->port_first;

    p->shared = false;
    p->led = true;
    for (uint32_t i = 0; i < p->ports; i++)
        first[i] = PAIRS_NONE;
    for (uint32_t row = 0; row < p->rows; row++) {
        p->leader[row] = row;
        if (!p->used[row] || p->count[row] == 0)
            continue;
        if (first[p->port[row]] == PAIRS_NONE)
            first[p->port[row]] = row;
        p->leader[row] = first[p->port[row]];
        p->shared |= p->leader[row] != row;
    }
}

static void rates_set(struct sim_flow_net *net, struct plane *p)
{
    if (!p->led)
        leaders_set(p);
    for (uint32_t row = 0; row < p->rows && p->spread; row++)
        if (p->limit[row])
            p->own_cap[row] = (float)limit_GBps(net, p, row);
    net->pairs->code->begin(p);
    net->pairs->code->fill(p);
    for (uint32_t row = 0; row < p->rows; row++)
        p->level[row] = lesser(p->own.level[row], p->out.level[p->leader[row]]);
    net->stats.instants++;
}

/* Flows that wait to join were to start before now: they get what they would have had by now at
 * their first rate, and their links are charged for it, but for what these had idle. */
static double late_bytes(const struct plane *p, const struct pair_flow *w, double now_ns)
{
    double rate =
        w->col == PAIRS_NONE ? p->own.level[w->row] : lesser(p->level[w->row], p->in.level[w->col]);

    return least_of(rate * (now_ns - w->start_ns), w->bytes);
}

static void waits_note(const struct plane *p, const struct pair_flow *w, double now_ns)
{
    uint32_t port = p->port[w->row];
    float waits = (float)(now_ns - w->start_ns);

    p->out_waits[port] = waits > p->out_waits[port] ? waits : p->out_waits[port];
    p->in_waits[w->col] = waits > p->in_waits[w->col] ? waits : p->in_waits[w->col];
}

/* What a link had idle while flows waited: a full one had nothing, and what it did not carry stands
 * on its account already. */
static float idle_bytes(float waits_ns, float cap_GBps, float load_GBps, float credit)
{
    return credit == 0 && cap_GBps > load_GBps ? waits_ns * (cap_GBps - load_GBps) : 0;
}

static void idle_give(struct plane *p)
{
    for (uint32_t i = 0; i < p->ports; i++) {
        p->out_idle[i] =
            idle_bytes(p->out_waits[i], p->out_cap[i], p->out_load[i], p->out_credit[i]);
        p->in_idle[i] = idle_bytes(p->in_waits[i], p->in_cap[i], p->in_load[i], p->in_credit[i]);
        p->out_waits[i] = p->in_waits[i] = 0;
    }
}

static void idle_take(float *idle, float *credit, float bytes)
{
    float from_idle = lesser(*idle, bytes);

    *idle -= from_idle;
    *credit -= bytes - from_idle;
}

static void flow_join(struct sim_flow_net *net, struct plane *p, struct pair_flow *w, double now_ns)
{
    float late = (float)late_bytes(p, w, now_ns);
    float bytes = (float)most_of(w->bytes - late, 1e-3);
    size_t cell = (size_t)w->row * p->cols + w->col;

    if (w->col == PAIRS_NONE) {
        pairs_queue_insert(net->pairs, &p->solo_left[w->row], &p->solo_head[w->row], w, bytes);
        return;
    }
    p->out_left[p->port[w->row]] -= late;
    p->in_left[w->col] -= late;
    idle_take(&p->out_idle[p->port[w->row]], &p->out_credit[p->port[w->row]], late);
    idle_take(&p->in_idle[w->col], &p->in_credit[w->col], late);
    pairs_queue_insert(net->pairs, &p->left[cell], &p->head[cell], w, bytes);
}

/* Pairs of a plane that is quiet for long owe nothing to anyone. */
static void credits_forget(struct plane *p)
{
    memset(p->out_credit, 0, p->ports * sizeof *p->out_credit);
    memset(p->in_credit, 0, p->ports * sizeof *p->in_credit);
    memset(p->out_load, 0, p->ports * sizeof *p->out_load);
    memset(p->in_load, 0, p->ports * sizeof *p->in_load);
    memset(p->out_left, 0, p->ports * sizeof *p->out_left);
    memset(p->in_left, 0, p->ports * sizeof *p->in_left);
    for (uint32_t row = 0; row < p->rows; row++)
        p->own_credit[row] = 0;
    p->epoch_ns = 0;
}

/* Whether credits of the last epoch are worth an end of their own to the next. */
static bool credit_is_due(const struct plane *p, double epoch_ns)
{
    float part = (float)(0.05 * epoch_ns);

    for (uint32_t i = 0; i < p->ports; i++)
        if (fabsf(p->out_credit[i]) > part * p->out_cap[i] ||
            fabsf(p->in_credit[i]) > part * p->in_cap[i])
            return true;
    return false;
}

/* The duration of the flow that ends first. */
static double first_duration(const struct sim_flow_net *net, const struct plane *p)
{
    uint32_t row = p->first_row, best = PAIRS_NONE;
    const float *left = p->left + (size_t)row * p->cols;
    float least = (float)p->first_ns * 1.00001f;

    for (uint32_t col = 0; col < p->cols; col++)
        if (left[col] > 0 && left[col] <= least * lesser(p->level[row], p->in.level[col]))
            best = p->head[(size_t)row * p->cols + col];
    if (best == PAIRS_NONE)
        best = p->solo_head[row];
    return p->from_ns + p->first_ns - pair_flow_at(net->pairs, best)->start_ns;
}

/* No longer than a part of what the link with most to carry takes: the end of it all is kept. */
static double busy_ns(const struct sim_flow_net *net, const struct plane *p)
{
    double ns = net->pairs->eps * most_of(first_duration(net, p), TYPICAL_PART * p->typical_ns);

    return p->tail_ns > 0 ? least_of(ns, TAIL_PART * p->tail_ns + 0.1 * ns) : ns;
}

/* When the first flow ends, and how long the epoch then goes on. */
static void first_set(struct sim_flow_net *net, struct plane *p)
{
    p->first_ns = net->pairs->code->need(p);
    if (p->first_ns >= NEED_NEVER)
        return;
    p->next_ns = p->from_ns + p->first_ns;
    p->busy_ns = busy_ns(net, p);
}

/* Rates were found as if this epoch were as long as the last. One that is longer keeps them where
 * no link owes or is owed 0.1% of what it carries in the last. Else it ends then or, where the
 * credits are too small for that, has them spread over all of it: the rates that settle them in an
 * instant would hold for long. */
static void credits_spread(struct sim_flow_net *net, struct plane *p)
{
    double ns = p->first_ns + p->busy_ns;

    if (ns <= 1.5 * p->epoch_ns || !credit_is_due(p, 0.02 * p->epoch_ns))
        return;
    if (credit_is_due(p, p->busy_ns)) {
        p->next_ns = least_of(p->next_ns, p->from_ns + p->epoch_ns);
        return;
    }
    p->epoch_ns = ns;
    rates_set(net, p);
    first_set(net, p);
}

/* Lets waiting flows join, and finds rates and how long they hold. */
static void plane_solve(struct sim_flow_net *net, struct plane *p)
{
    struct pairs *f = net->pairs;

    pairs_rows_retire(net, p);
    if (!p->running)
        credits_forget(p);
    for (uint32_t i = 0; i < p->pending_count; i++) {
        struct pair_flow *w = pair_flow_at(f, p->pending[i]);

        pairs_cell_count(p, w->row, w->col, 1);
        p->running++;
        if (w->col == PAIRS_NONE)
            continue;
        waits_note(p, w, p->from_ns);
        p->out_left[p->port[w->row]] += w->bytes;
        p->in_left[w->col] += w->bytes;
    }
    p->next_ns = INFINITY;
    p->state = PAIRS_IDLE;
    if (!p->running)
        return;
    rates_set(net, p);
    if (p->pending_count)
        idle_give(p);
    for (uint32_t i = 0; i < p->pending_count; i++)
        flow_join(net, p, pair_flow_at(f, p->pending[i]), p->from_ns);
    p->pending_count = 0;
    p->state = PAIRS_RUNNING;
    first_set(net, p);
    if (p->first_ns < NEED_NEVER && p->epoch_ns > 0)
        credits_spread(net, p);
}

/* The link that holds a cell back; links of all three kinds have numbers in a row. */
static uint32_t bound_by(struct plane *p, uint32_t row, uint32_t col, struct pair_links **k,
                         uint32_t *l)
{
    uint32_t leader = p->leader[row];

    if (col != PAIRS_NONE && p->in.level[col] < p->level[row]) {
        *k = &p->in;
        return *l = col;
    }
    if (col == PAIRS_NONE || p->own.level[row] < p->out.level[leader]) {
        *k = &p->own;
        *l = row;
        return p->cols + row;
    }
    *k = &p->out;
    *l = leader;
    return p->cols + p->rows + leader;
}

static int last_rise(const void *a, const void *b, void *plane)
{
    const struct pair_end *x = *(struct pair_end *const *)a, *y = *(struct pair_end *const *)b;
    struct pair_links *k;
    uint32_t l, x_link = bound_by(plane, x->row, x->col, &k, &l);
    uint32_t y_link = bound_by(plane, y->row, y->col, &k, &l);

    if (x_link != y_link)
        return x_link < y_link ? -1 : 1;
    return (x->left > y->left) - (x->left < y->left);
}

/* Where all that a link holds back ends in the epoch, nobody is left to be faster by what the first
 * leave over: they themselves are, one after another, with the link full until the last. */
static void last_ends(const struct pairs *f, struct plane *p, float total_ns)
{
    uint32_t count = 0, link = PAIRS_NONE;
    float at = 0, ns = 0, left = 0;

    for (uint32_t i = 0; i < p->end_count; i++) {
        struct pair_links *k;
        uint32_t l;

        if (p->ends[i].col != PAIRS_NONE)
            __builtin_prefetch(
                pair_flow_at(f, p->head[(size_t)p->ends[i].row * p->cols + p->ends[i].col]));
        bound_by(p, p->ends[i].row, p->ends[i].col, &k, &l);
        if (k->ended[l] > 1.5f && k->bound[l] - k->ended[l] < 0.5f)
            p->last[count++] = &p->ends[i];
    }
    if (count)
        qsort_r(p->last, count, sizeof *p->last, last_rise, p);
    for (uint32_t i = 0; i < count; i++) {
        struct pair_end *e = p->last[i];
        struct pair_links *k;
        uint32_t l, of = bound_by(p, e->row, e->col, &k, &l);

        if (of != link) {
            link = of;
            at = ns = 0;
            left = k->ended[l];
        }
        ns += (e->left - at) * left / (k->level[l] * k->ended[l]);
        at = e->left;
        left -= 1;
        e->after_ns = lesser(ns, total_ns);
    }
}

struct advance {
    struct sim_flow_net *net;
    struct plane *plane;
    float quiet_ns, busy_ns;
};

/* When `bytes` have been sent: at rate over the quiet part, and then faster and faster, so that
 * over the whole of the busy part it is `raised`. */
static double end_ns(const struct advance *a, float rate, float raised, float bytes)
{
    float late = bytes - rate * a->quiet_ns, more = raised - rate;

    if (late <= 0 || a->busy_ns <= 0)
        return rate > 0 ? lesser(bytes / rate, a->quiet_ns + a->busy_ns) : a->quiet_ns;
    late = 2 * late / (rate + sqrtf(rate * rate + 4 * more * late / a->busy_ns));
    return a->quiet_ns + lesser(late, a->busy_ns);
}

/* The first flows of a queue have been sent; returns the bytes not needed by those that ended. */
static float queue_end(struct advance *a, float *left, uint32_t *head, float rate, float raised,
                       float served, float after_ns)
{
    struct sim_flow_net *net = a->net;
    struct plane *p = a->plane;
    float at = *left, over = 0;

    for (;;) {
        struct pair_flow *w = pair_flow_at(net->pairs, *head);
        double t_ns = p->from_ns + (after_ns >= 0 ? after_ns : end_ns(a, rate, raised, at));
        uint32_t next = w->next;

        over += served > at ? served - at : 0;
        p->typical_ns += 0.05 * (t_ns - w->start_ns - p->typical_ns);
        pairs_cell_count(p, w->row, w->col, -1);
        p->flows[w->row]--;
        p->running--;
        pairs_flow_end(net, w, t_ns);
        if (next == PAIRS_NONE) {
            *left = 0;
            return over;
        }
        after_ns = -1;
        *head = next;
        at += pair_flow_at(net->pairs, next)->gap;
        if (at > served * 1.000001f) {
            *left = at - served;
            return over;
        }
    }
}

/* When the first flow of a cell ends, if that is known. Cells come in the order of ends. */
static float known_end(struct plane *p, uint32_t row, uint32_t col)
{
    const struct pair_end *e = &p->ends[p->end_at];

    while (p->end_at < p->end_count && (e->row < row || (e->row == row && e->col < col))) {
        p->end_at++;
        e++;
    }
    return p->end_at < p->end_count && e->row == row && e->col == col ? e->after_ns : -1;
}

static void cell_end(void *self, uint32_t row, uint32_t col, float served)
{
    struct advance *a = self;
    struct plane *p = a->plane;
    size_t cell = (size_t)row * p->cols + col;
    float over =
        queue_end(a, &p->left[cell], &p->head[cell], lesser(p->level[row], p->in.level[col]),
                  lesser(p->raised[row], p->in.raised[col]), served, known_end(p, row, col));

    p->served[row] -= over;
    p->in_served[col] -= over;
}

static void solos_advance(struct advance *a)
{
    struct plane *p = a->plane;

    for (uint32_t row = 0; row < p->rows; row++) {
        float flows = p->solo[row], served;

        if (flows == 0)
            continue;
        served = p->own.level[row] * a->quiet_ns + p->own.raised[row] * a->busy_ns;
        p->solo_served[row] = served * flows;
        if (p->solo_left[row] - served > 1e-6f * p->solo_left[row])
            p->solo_left[row] -= served;
        else
            p->solo_served[row] -=
                queue_end(a, &p->solo_left[row], &p->solo_head[row], p->own.level[row],
                          p->own.raised[row], served, known_end(p, row, PAIRS_NONE));
    }
}

/* A full link was to carry its capacity; what it carried more or less goes on its account. */
static void credits_set(struct sim_flow_net *net, struct plane *p, double ns)
{
    memset(p->out_sent, 0, p->ports * sizeof *p->out_sent);
    memset(p->out_count, 0, p->ports * sizeof *p->out_count);
    for (uint32_t row = 0; row < p->rows; row++) {
        p->out_sent[p->port[row]] += p->served[row];
        p->out_count[p->port[row]] += p->count[row];
    }
    for (uint32_t i = 0; i < p->ports; i++)
        p->out_level[i] =
            p->port_first[i] == PAIRS_NONE ? PAIRS_FREE : p->out.level[p->port_first[i]];
    net->pairs->code->credits(p, (float)ns);
}

/* Brings the plane to from_ns + quiet_ns + busy_ns. */
static void plane_advance(struct sim_flow_net *net, struct plane *p, double quiet_ns,
                          double busy_ns_)
{
    struct advance a = {net, p, (float)quiet_ns, (float)busy_ns_};
    double ns = quiet_ns + busy_ns_;

    memset(p->in_served, 0, p->cols * sizeof *p->in_served);
    memset(p->served, 0, p->rows * sizeof *p->served);
    if (busy_ns_ > 0) {
        net->pairs->code->ending(p, (float)ns);
        net->pairs->code->raise(p, (float)busy_ns_);
        for (uint32_t row = 0; row < p->rows; row++)
            p->raised[row] = lesser(p->own.raised[row], p->out.raised[p->leader[row]]);
        last_ends(net->pairs, p, (float)ns);
    }
    p->end_at = 0;
    net->pairs->code->advance(p, a.quiet_ns, a.busy_ns, cell_end, &a);
    p->end_at = 0;
    solos_advance(&a);
    p->end_count = 0;
    if (ns > 0) {
        credits_set(net, p, ns);
        p->epoch_ns = ns;
    }
    p->from_ns += ns;
}

/* Something is due: the end of an epoch, the first end of a flow, or flows that join. */
static void plane_act(struct sim_flow_net *net, struct plane *p)
{
    double now_ns = p->next_ns;

    if (p->state == PAIRS_RUNNING && !p->pending_count && p->first_ns < NEED_NEVER &&
        now_ns >= p->from_ns + p->first_ns) {
        plane_advance(net, p, p->first_ns, p->busy_ns);
        p->state = PAIRS_COMMITTED;
        p->next_ns = p->from_ns;
        return;
    }
    if (p->state == PAIRS_RUNNING)
        plane_advance(net, p, now_ns - p->from_ns, 0);
    p->from_ns = now_ns;
    plane_solve(net, p);
}

static struct plane *plane_next(const struct pairs *f)
{
    struct plane *best = f->planes[0];

    for (uint32_t i = 1; i < f->plane_count; i++)
        if (f->planes[i]->next_ns < best->next_ns)
            best = f->planes[i];
    return best;
}

double pairs_next_ns(const struct pairs *f)
{
    return f->plane_count ? plane_next(f)->next_ns : INFINITY;
}

int pairs_act(struct sim_flow_net *net)
{
    struct plane *p = plane_next(net->pairs);

    net->now_ns = most_of(net->now_ns, p->next_ns);
    plane_act(net, p);
    return 0;
}
