/* Keeping levels right after a change, touching only what the change touches.
 *
 * Links whose others or members changed are dirty. They are solved in the order of rising level,
 * because a level depends on lower levels only; each solution is told to the other links of the
 * members, which makes these dirty. Any order ends at the max-min allocation (the least level is
 * right as soon as its links have been solved, then the next, and so on); this one takes about one
 * solution per link that changes. */
#include "sim/flow/net.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void link_mark(struct sim_flow_net *net, uint32_t l)
{
    uint32_t place = net->hot[l].place;

    net->dirty[place] = 1;
    if (place < net->cursor)
        net->cursor = place;
}

void rounding_note(struct sim_flow_net *net, uint32_t l)
{
    if (l >= LINK_FIRST && !net->links[l].rounded) {
        net->links[l].rounded = true;
        net->rounded[net->rounded_count++] = l;
    }
}

/* Adds to the rate that every link of the flow but its bottleneck sees. Where next to nothing of a
 * rate taken away is left, what is left may be rounding. */
void others_add(struct sim_flow_net *net, const struct flow *f, double rate_GBps)
{
    for (uint32_t i = 0; i < f->links; i++) {
        uint32_t l = f->path[i].link;

        if (l != f->bottleneck) {
            net->others[l] += rate_GBps;
            if (net->others[l] < -1e-6 * rate_GBps)
                rounding_note(net, l);
        }
        link_mark(net, l);
    }
}

static void place_move(struct sim_flow_net *net, uint32_t from, uint32_t to)
{
    net->order[to] = net->order[from];
    net->rank[to] = net->rank[from];
    net->dirty[to] = net->dirty[from];
    net->hot[net->order[to]].place = to;
}

/* Puts a link where its level belongs; equal levels stay as they are. */
void order_settle(struct sim_flow_net *net, uint32_t l)
{
    uint32_t place = net->hot[l].place;
    double level = net->hot[l].level;
    uint8_t dirty = net->dirty[place];

    if (place < net->cursor)
        net->cursor = place;
    for (; place + 1 < net->order_end && net->rank[place + 1] < level; place++)
        place_move(net, place + 1, place);
    for (; place > ORDER_FIRST && net->rank[place - 1] > level; place--)
        place_move(net, place - 1, place);
    net->order[place] = l;
    net->rank[place] = level;
    net->dirty[place] = dirty;
    net->hot[l].place = place;
    if (place < net->cursor)
        net->cursor = place;
}

/* The level that members and others ask for. Without members: the least that it can become if the
 * link is overfull, INFINITY if it is not. */
static inline double level_wanted(const struct sim_flow_net *net, uint32_t l)
{
    const struct link_hot *h = &net->hot[l];
    double level;

    if (!h->members) {
        if (net->others[l] <= h->capacity * (1 + net->tolerance))
            return INFINITY;
        return h->capacity / net->links[l].all_count;
    }
    level = (h->capacity - net->others[l]) / h->members;
    return level > 0 ? level : 0;
}

static bool level_differs(const struct sim_flow_net *net, double a, double b)
{
    if (a == b)
        return false;
    if (isinf(a) || isinf(b))
        return true;
    return fabs(a - b) > net->tolerance * (a > b ? a : b);
}

static bool below(const struct sim_flow_net *net, double a, double b)
{
    return a < b * (1 - net->hysteresis);
}

static bool may_share(const struct sim_flow_net *net, uint32_t l, uint32_t m)
{
    uint32_t slots = net->links[l].slots | net->links[m].slots;

    return (slots & (slots - 1)) != 0;
}

/* Adds to what the links see, and marks each. */
static void links_tell(struct sim_flow_net *net, const uint32_t *links, uint32_t count, double by)
{
    const struct link_hot *hot = net->hot;
    uint8_t *dirty = net->dirty;
    uint32_t least = net->cursor;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t place = hot[links[i]].place;

        net->others[links[i]] += by;
        dirty[place] = 1;
        least = place < least ? place : least;
    }
    net->cursor = least;
}

/* The innermost loop of exact mode; without marks, so a sweep must follow. */
static void links_tell_unmarked(struct sim_flow_net *net, const uint32_t *links, uint32_t count,
                                double by)
{
    double *others = net->others;

    for (uint32_t i = 0; i < count; i++)
        others[links[i]] += by;
}

/* The same for a whole list of other links, which is filled up to full groups. */
static inline void list_tell_unmarked(double *others, const uint32_t *links, uint32_t count,
                                      double by)
{
    const uint32_t *end = links + count;

    _Static_assert(GROUP == 4, "as many as are told below");
    for (; links < end; links += GROUP) {
        others[links[0]] += by;
        others[links[1]] += by;
        others[links[2]] += by;
        others[links[3]] += by;
    }
}

static void long_members_tell(struct sim_flow_net *net, uint32_t l, uint32_t from, uint32_t to,
                              double by)
{
    const struct link *k = &net->links[l];

    for (uint32_t i = from; i < to; i++) {
        const struct flow *f;

        if (k->other[i] != OTHER_LONG) {
            links_tell(net, &k->other[i], 1, by);
            links_tell(net, &k->third[i], 1, by);
            continue;
        }
        f = flow_at(net, k->flow[i]);
        for (uint32_t j = 0; j < f->links; j++)
            if (f->path[j].link != l)
                links_tell(net, &f->path[j].link, 1, by);
    }
}

/* Tells the other links of members from..to that the rate rose by `by`. Where most links are told,
 * looking at all of them afterwards costs less than marking each. */
static void members_tell(struct sim_flow_net *net, uint32_t l, uint32_t from, uint32_t to,
                         double by)
{
    const struct link *k = &net->links[l];
    uint32_t count = to - from;

    if (k->long_members) {
        long_members_tell(net, l, from, to, by);
    } else if (net->sweep || count * 16 > net->order_end) {
        links_tell_unmarked(net, k->other + from, count, by);
        if (k->third_members)
            links_tell_unmarked(net, k->third + from, count, by);
        net->sweep = true;
    } else {
        links_tell(net, k->other + from, count, by);
        if (k->third_members)
            links_tell(net, k->third + from, count, by);
    }
}

/* Where capacities differ by many orders, a rate may for a moment be far above what other links of
 * the path can carry; when it has come down again, their others keep the rounding of the large
 * value. Such links are remembered, and their others summed up anew in the end. */
static void flow_rounding_note(struct sim_flow_net *net, const struct flow *f, double rate)
{
    for (uint32_t j = 0; j < f->links; j++)
        if (rate > 16 * net->hot[f->path[j].link].capacity)
            rounding_note(net, f->path[j].link);
}

static void members_rounding_note(struct sim_flow_net *net, uint32_t l, double level)
{
    if (level > 16 * net->capacity_least)
        for (uint32_t i = 0; i < net->hot[l].members; i++)
            flow_rounding_note(net, flow_at(net, net->links[l].flow[i]), level);
}

/* Links that members have in common with l stand above it, or below it by less than hysteresis. */
static void cursor_to_ties(struct sim_flow_net *net, uint32_t l)
{
    uint32_t place = net->hot[l].place;
    double low = net->hot[l].level * (1 - 2 * net->hysteresis);

    while (place > ORDER_FIRST && net->rank[place - 1] >= low)
        place--;
    if (place < net->cursor)
        net->cursor = place;
}

/* Gives a link its level. The other links know `known` members at the old level and have not been
 * told of the rest at all. */
static void level_publish(struct sim_flow_net *net, uint32_t l, double level, uint32_t known)
{
    struct link_hot *h = &net->hot[l];
    double old = h->level;

    link_sync(net, l);
    h->level = level;
    members_rounding_note(net, l, level);
    if (known && level != old)
        members_tell(net, l, 0, known, level - old);
    if (known < h->members)
        members_tell(net, l, known, h->members, level);
    order_settle(net, l);
    if (net->sweep)
        cursor_to_ties(net, l);
    link_touch(net, l);
    net->stats.levels_solved++;
}

/* The other link of least level on the path of a member. */
static uint32_t least_other(const struct sim_flow_net *net, const struct link *k, uint32_t l,
                            uint32_t i)
{
    const struct flow *f;
    uint32_t best = LINK_NONE;

    if (k->other[i] != OTHER_LONG)
        return net->hot[k->third[i]].level < net->hot[k->other[i]].level ? k->third[i]
                                                                         : k->other[i];
    f = flow_at(net, k->flow[i]);
    for (uint32_t j = 0; j < f->links; j++) {
        uint32_t m = f->path[j].link;

        if (m != l && net->hot[m].level < net->hot[best].level)
            best = m;
    }
    return best;
}

static void flow_rebind(struct sim_flow_net *net, uint32_t id, uint32_t to)
{
    struct flow *f = flow_at(net, id);
    uint32_t from = f->bottleneck;
    double old = flow_rate(net, f), rate;

    member_remove(net, id);
    member_add(net, to, id);
    rate = flow_rate(net, f);
    for (uint32_t i = 0; i < f->links; i++) {
        uint32_t l = f->path[i].link;
        double left = net->others[l] - (l == from ? 0 : old);

        if (l != from && left < 1e-6 * old)
            rounding_note(net, l);
        net->others[l] = left + (l == to ? 0 : rate);
        link_mark(net, l);
    }
    if (rate > 16 * net->capacity_least)
        flow_rounding_note(net, f, rate);
    net->stats.moves++;
}

static void cap_note(struct sim_flow_net *net, const struct flow *f)
{
    for (uint32_t i = 0; i < f->links; i++) {
        struct link *k = &net->links[f->path[i].link];

        if (k->capped_most < f->cap)
            k->capped_most = f->cap;
    }
}

/* Whether a link that may share flows with l has a level between two levels, one of them that of l.
 * Levels a little beyond l's own count: flows do not move for less than the tolerance. */
static bool crosses(const struct sim_flow_net *net, uint32_t l, double low, double high)
{
    low *= 1 - 2 * net->hysteresis;
    high *= 1 + 2 * net->hysteresis;
    for (uint32_t p = net->hot[l].place + 1; p < net->order_end; p++) {
        if (net->rank[p] > high || net->rank[p] == INFINITY)
            break;
        if (net->rank[p] >= low && may_share(net, l, net->order[p]))
            return true;
    }
    for (uint32_t p = net->hot[l].place; p > ORDER_FIRST; p--) {
        if (net->rank[p - 1] < low)
            break;
        if (net->rank[p - 1] < INFINITY && may_share(net, l, net->order[p - 1]))
            return true;
    }
    return false;
}

/* Members whose cap a rising level has passed leave for LINK_CAP, or for a link that holds them
 * back even more. */
static bool capped_leave(struct sim_flow_net *net, uint32_t l, double level)
{
    struct link *k = &net->links[l];
    double least = INFINITY;
    bool left = false;

    for (uint32_t i = net->hot[l].members; i-- > 0;) {
        uint32_t id = k->flow[i];
        const struct flow *f = flow_at(net, id);

        if (below(net, f->cap, level)) {
            uint32_t m = least_other(net, k, l, i);

            if (f->cap <= net->hot[m].level)
                m = LINK_CAP;
            flow_rebind(net, id, m);
            if (m == LINK_CAP)
                cap_note(net, f);
            left = true;
        } else if (f->cap < least) {
            least = f->cap;
        }
    }
    k->cap_least = least;
    return left;
}

/* Members that another link holds back more leave for that link. */
static bool slower_leave(struct sim_flow_net *net, uint32_t l, double level)
{
    const struct link *k = &net->links[l];
    const struct link_hot *hot = net->hot;
    double limit = level * (1 - net->hysteresis);
    bool pairs = !k->third_members && !k->long_members, left = false;

    for (uint32_t i = hot[l].members; i-- > 0;) {
        uint32_t m = k->other[i];

        if (pairs) {
            if (hot[m].level >= limit)
                continue;
        } else {
            /* LINK_NONE, the third of many, has no level either. */
            if (m != OTHER_LONG && hot[m].level >= limit && hot[k->third[i]].level >= limit)
                continue;
            m = least_other(net, k, l, i);
            if (hot[m].level >= limit)
                continue;
        }
        flow_rebind(net, k->flow[i], m);
        left = true;
    }
    return left;
}

/* Each departure lets the level rise further, so whoever must leave now need not come back. */
static void level_raise(struct sim_flow_net *net, uint32_t l, double level)
{
    double from = net->hot[l].level;
    bool left = true;

    while (left && net->hot[l].members) {
        left = false;
        if (below(net, net->links[l].cap_least, level))
            left = capped_leave(net, l, level);
        if (crosses(net, l, from, level))
            left |= slower_leave(net, l, level);
        from = level;
        level = level_wanted(net, l);
    }
    /* If all have left, the marks of their leaving bring the link back. */
    if (net->hot[l].members)
        level_publish(net, l, level, net->hot[l].members);
}

/* The flows of a link that run faster than level and are not its members: among all of its flows,
 */
static uint32_t faster_among_all(struct sim_flow_net *net, uint32_t l, double level)
{
    struct link *k = &net->links[l];
    uint32_t count = 0;

    k->capped_most = 0;
    for (uint32_t i = 0; i < k->all_count; i++) {
        const struct flow *f = flow_at(net, k->all[i]);
        double rate;

        if (f->bottleneck == l)
            continue;
        if (f->bottleneck == LINK_CAP && f->cap > k->capped_most)
            k->capped_most = f->cap;
        rate = flow_rate(net, f);
        if (below(net, level, rate))
            net->ranked[count++] = (struct ranked){rate, k->all[i]};
    }
    return count;
}

/* or among the members of one other link. */
static uint32_t shared_members(struct sim_flow_net *net, uint32_t l, uint32_t m, uint32_t count)
{
    const struct link *k = &net->links[m];
    uint32_t members = net->hot[m].members;

    for (uint32_t i = 0; i < members; i++)
        if (k->other[i] == l)
            net->ranked[count++] = (struct ranked){net->hot[m].level, k->flow[i]};
    for (uint32_t i = 0; i < members && k->third_members; i++)
        if (k->third[i] == l)
            net->ranked[count++] = (struct ranked){net->hot[m].level, k->flow[i]};
    return count;
}

/* The links between level and the level of l whose members may be faster than level; more than
 * `most` are not worth looking at one by one, nor are links whose members' paths are not at hand.
 */
static bool faster_links(const struct sim_flow_net *net, uint32_t l, double level, uint32_t most,
                         uint32_t *found, uint32_t *count)
{
    double high = net->hot[l].level * (1 + 2 * net->hysteresis);
    uint32_t p = net->hot[l].place;

    *count = 0;
    if (net->hot[l].level == INFINITY)
        return false;
    while (p + 1 < net->order_end && net->rank[p + 1] <= high)
        p++;
    for (; p >= ORDER_FIRST; p--) {
        uint32_t m = net->order[p];

        if (!below(net, level, net->rank[p]))
            break;
        if (m == l || !may_share(net, l, m))
            continue;
        if (*count == most || net->links[m].long_members)
            return false;
        found[(*count)++] = m;
    }
    return true;
}

/* Fills ranked with the flows of a link that run faster than level elsewhere. */
static uint32_t faster_find(struct sim_flow_net *net, uint32_t l, double level)
{
    uint32_t links[16], link_count, count = 0;

    if (below(net, level, net->links[l].capped_most) ||
        !faster_links(net, l, level, sizeof links / sizeof *links, links, &link_count))
        return faster_among_all(net, l, level);
    for (uint32_t i = 0; i < link_count; i++)
        count = shared_members(net, l, links[i], count);
    return count;
}

/* The rate of the flows on a link that are neither members nor in ranked. Subtracting is quicker
 * than summing up, unless next to nothing would be left. */
static double slower_rate(const struct sim_flow_net *net, uint32_t l, double level, uint32_t count)
{
    const struct link *k = &net->links[l];
    double rate = net->others[l];

    if (rate <= 16 * net->hot[l].capacity) {
        for (uint32_t i = 0; i < count; i++)
            rate -= net->ranked[i].key;
        return rate;
    }
    rate = 0;
    for (uint32_t i = 0; i < k->all_count; i++) {
        const struct flow *f = flow_at(net, k->all[i]);

        if (f->bottleneck != l && !below(net, level, flow_rate(net, f)))
            rate += flow_rate(net, f);
    }
    return rate;
}

/* Which of the flows in ranked have to become members so that sum(min(level, rate elsewhere)) =
 * capacity: with all of them the level is too low, so those it does not hold back go, which lifts
 * it, until none goes. Keeps the others, and returns how many. */
static uint32_t slowed_keep(struct sim_flow_net *net, uint32_t l, double least, uint32_t count)
{
    const struct link_hot *h = &net->hot[l];
    double left = h->capacity - slower_rate(net, l, least, count);
    uint32_t before;

    do {
        double level = left / (h->members + count);

        before = count;
        for (uint32_t i = count; i-- > 0 && h->members + count > 1;) {
            if (net->ranked[i].key > level)
                continue;
            left -= net->ranked[i].key;
            net->ranked[i] = net->ranked[--count];
        }
    } while (count < before);
    return count;
}

/* Flows faster than a falling level become members. The other links have not been told of these, so
 * that one telling does for all. */
static void level_lower(struct sim_flow_net *net, uint32_t l, double level)
{
    uint32_t known = net->hot[l].members, count = faster_find(net, l, level);

    count = slowed_keep(net, l, level, count);
    for (uint32_t i = 0; i < count; i++) {
        others_add(net, flow_at(net, net->ranked[i].id), -net->ranked[i].key);
        member_remove(net, net->ranked[i].id);
        member_add(net, l, net->ranked[i].id);
    }
    net->stats.moves += count;
    if (net->hot[l].members)
        level_publish(net, l, level_wanted(net, l), known);
}

/* Whether a level can change without passing that of another link or a cap. */
static inline bool level_is_free(const struct sim_flow_net *net, uint32_t l, double level)
{
    const struct link_hot *h = &net->hot[l];
    double low = (level < h->level ? level : h->level) * (1 - 2 * net->hysteresis);
    double high = (level < h->level ? h->level : level) * (1 + 2 * net->hysteresis);

    return h->members && high < INFINITY && net->rank[h->place - 1] < low &&
           (h->place + 1 == net->order_end || net->rank[h->place + 1] > high) &&
           net->links[l].cap_least >= high && net->links[l].capped_most <= low;
}

/* level_publish for a level that is free: most are. It tells only links that come later, so in a
 * sweep nothing need be marked. */
static inline void level_shift(struct sim_flow_net *net, uint32_t l, double level)
{
    struct link_hot *h = &net->hot[l];
    struct link *k = &net->links[l];
    double by = level - h->level;

    if (level > 16 * net->capacity_least)
        members_rounding_note(net, l, level);
    k->service += h->level * (net->now_ns - k->service_ns);
    k->service_ns = net->now_ns;
    h->level = level;
    net->rank[h->place] = level;
    if (!net->sweep || k->long_members) {
        members_tell(net, l, 0, h->members, by);
    } else {
        list_tell_unmarked(net->others, k->other, h->members, by);
        if (k->third_members)
            list_tell_unmarked(net->others, k->third, h->members, by);
    }
    if (k->first == NONE)
        link_touch(net, l);
    else if (!k->touched)
        link_next_set(net, l);
    net->stats.levels_solved++;
}

static bool rounding_mend(struct sim_flow_net *net)
{
    if (!net->rounded_count)
        return false;
    while (net->rounded_count) {
        uint32_t l = net->rounded[--net->rounded_count];
        const struct link *k = &net->links[l];

        net->links[l].rounded = false;
        net->others[l] = 0;
        for (uint32_t i = 0; i < k->all_count; i++) {
            const struct flow *f = flow_at(net, k->all[i]);

            if (f->bottleneck != l)
                net->others[l] += flow_rate(net, f);
        }
        if (k->live)
            link_mark(net, l);
    }
    return true;
}

/* A level that may pass others. */
static void level_cross(struct sim_flow_net *net, uint32_t l, double level)
{
    /* A level without members holds nobody back; flows elsewhere may now run above it. */
    if (!net->hot[l].members && net->hot[l].level < INFINITY)
        level_publish(net, l, INFINITY, 0);
    if (!level_differs(net, level, net->hot[l].level))
        return;
    if (level > net->hot[l].level)
        level_raise(net, l, level);
    else
        level_lower(net, l, level);
}

static void link_solve(struct sim_flow_net *net, uint32_t l)
{
    double level = level_wanted(net, l);

    net->links[l].ceiling = net->hot[l].capacity;
    if (!level_is_free(net, l, level))
        level_cross(net, l, level);
    else if (level_differs(net, level, net->hot[l].level))
        level_shift(net, l, level);
}

/* A started flow joins the link that would hold it back most. A link without level counts, and if
 * chosen starts, with its capacity (or the former one, if that was more and has just been lowered):
 * no flow on it is faster, so none has to leave or come before the link is solved. */
static void fresh_place(struct sim_flow_net *net, uint32_t id)
{
    struct flow *f = flow_at(net, id);
    uint32_t best = LINK_NONE;
    double least = INFINITY;

    for (uint32_t i = 0; i < f->links; i++) {
        const struct link_hot *h = &net->hot[f->path[i].link];
        double level = h->members ? h->level : net->links[f->path[i].link].ceiling;

        if (best == LINK_NONE || level < least) {
            least = level;
            best = f->path[i].link;
        }
    }
    if (f->cap <= least) {
        member_add(net, LINK_CAP, id);
        cap_note(net, f);
    } else {
        member_add(net, best, id);
        if (net->hot[best].members == 1) {
            net->hot[best].level = least;
            order_settle(net, best);
        }
    }
    others_add(net, f, flow_rate(net, f));
}

/* Eight places at a time; the array ends in more than eight zeros. */
static uint32_t marked_next(const struct sim_flow_net *net, uint32_t place)
{
    while (place < net->order_end) {
        uint64_t eight;

        memcpy(&eight, net->dirty + place, sizeof eight);
        if (eight) {
            while (!net->dirty[place])
                place++;
            break;
        }
        place += 8;
    }
    return place;
}

/* !level_differs(level_wanted()) without the division. */
static inline bool level_settled(const struct sim_flow_net *net, uint32_t l)
{
    const struct link_hot *h = &net->hot[l];
    double served = h->members * h->level;

    if (h->members)
        return fabs(net->others[l] + served - h->capacity) <= net->tolerance * served;
    return h->level == INFINITY && net->others[l] <= h->capacity * (1 + net->tolerance);
}

/* Solves all links from the cursor on, marked or not. Most levels are free. */
static void links_sweep(struct sim_flow_net *net, uint64_t limit)
{
    uint32_t place = net->cursor < ORDER_FIRST ? ORDER_FIRST : net->cursor;

    while (place < net->order_end && net->stats.levels_solved < limit) {
        uint32_t l = net->order[place];
        double level;

        net->dirty[place++] = 0;
        if (level_settled(net, l))
            continue;
        level = level_wanted(net, l);
        net->cursor = place;
        if (level_is_free(net, l, level)) {
            level_shift(net, l, level);
        } else {
            net->links[l].ceiling = net->hot[l].capacity;
            level_cross(net, l, level);
        }
        place = net->cursor;
    }
    net->cursor = place;
}

/* Solves marked links, until there are none or a sweep is due. */
static void marked_solve(struct sim_flow_net *net, uint64_t limit)
{
    uint32_t place = net->cursor < ORDER_FIRST ? ORDER_FIRST : net->cursor;

    while (!net->sweep && net->stats.levels_solved < limit) {
        place = marked_next(net, place);
        net->cursor = place;
        if (place >= net->order_end)
            break;
        net->dirty[place] = 0;
        net->cursor = place + 1;
        link_solve(net, net->order[place]);
        place = net->cursor;
    }
}

/* Solves links until all are settled; false if that takes longer than the limit. */
static bool links_solve(struct sim_flow_net *net, uint64_t limit)
{
    do {
        marked_solve(net, limit);
        if (net->sweep)
            links_sweep(net, limit);
        if (net->stats.levels_solved >= limit)
            return false;
        net->sweep = false;
    } while (rounding_mend(net));
    return true;
}

void rates_solve(struct sim_flow_net *net)
{
    /* Far more than convergence needs; a filling from scratch always ends. */
    uint64_t limit = net->stats.levels_solved + 64 * (uint64_t)net->order_end + 4096;

    if (net->fresh_count && net->fresh_count * 4 > net->running) {
        rates_fill(net);
    } else {
        for (uint32_t i = 0; i < net->fresh_count; i++)
            fresh_place(net, net->fresh[i]);
        net->fresh_count = 0;
        if (!links_solve(net, limit))
            rates_fill(net);
    }
    net->stats.instants++;
    net->unsolved = false;
    touched_settle(net);
}
