/* Segments of work: each run advances at one pace, set by its SMs or by its share of HBM. */
#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "sim/sim_state.h"

/* Work whose rest takes less than this is done: the clock, a double near 1e7 ns, cannot tell it
 * from rounding, and an event that moves no time would come back for ever. */
#define DONE_NS    1e-6
#define DONE_SHARE 1e-12
enum { SHARERS_MAX = 32 };

static bool is_working(const struct run *r)
{
    return (r->phase == PHASE_HEAD || r->phase == PHASE_TAIL) && r->num_batches > 0;
}

static const struct cost_segment *segment_of(const struct run *r)
{
    return r->phase == PHASE_HEAD ? &r->w.head : &r->w.tail;
}

static int resident(const struct run *r)
{
    int ctas = 0;

    for (int i = 0; i < r->num_batches; i++)
        if (r->batch[i].left > 0)
            ctas += r->batch[i].ctas;
    return ctas;
}

static void advance_run(struct sim *s, struct run *r, double ns)
{
    for (int i = 0; i < r->num_batches; i++)
        if (r->batch[i].left > 0)
            r->batch[i].left = fmax(r->batch[i].left - ns * r->pace, 0);
    run_spend(s, r, r->late_ns > 0 ? PART_BLOCKED : r->hbm_bound ? PART_HBM : PART_SM, ns);
}

/* Brings the work of a rank up to now at the paces set before. */
static void work_advance(struct sim *s, struct rank_state *rank)
{
    double ns = s->now_ns - rank->work_ns;

    rank->work_ns = s->now_ns;
    if (ns <= 0)
        return;
    for (int i = 0; i < rank->num_running; i++) {
        struct run *r = run_at(s, rank->running[i]);

        if (is_working(r))
            advance_run(s, r, ns);
    }
}

void work_dirty(struct sim *s, int rank)
{
    if (!s->ranks[rank].dirty) {
        s->ranks[rank].dirty = true;
        s->dirty_ranks[s->num_dirty++] = rank;
    }
}

bool work_begin(struct sim *s, struct run *r, const struct cost_segment *seg)
{
    r->num_batches = 0;
    if (seg->sm_ns <= 0 && seg->hbm_bytes <= 0)
        return false;
    work_advance(s, &s->ranks[r->rank]);
    r->batch[0] = (struct cta_batch){r->sms, 1};
    r->num_batches = 1;
    r->pace = 0;
    work_dirty(s, r->rank);
    return true;
}

void work_more_ctas(struct sim *s, struct run *r, int ctas)
{
    work_advance(s, &s->ranks[r->rank]);
    work_dirty(s, r->rank);
    if (!is_working(r)) /* still in its fixed part: they all begin together */
        return;
    if (r->num_batches == SIM_BATCHES) {
        /* Rather than forget CTAs, let them join the batch that started last: at most a little of
         * their work is taken as done. Eight separate grants to one kernel have not been seen. */
        r->batch[SIM_BATCHES - 1].ctas += ctas;
        return;
    }
    r->batch[r->num_batches++] = (struct cta_batch){ctas, 1};
}

double work_slowdown(const struct sim *s, const struct run *r)
{
    const struct rank_state *rank = &s->ranks[r->rank];
    double factor = 1;

    for (int i = 0; i < rank->num_running; i++) {
        const struct run *other = run_at(s, rank->running[i]);

        if (other != r)
            factor *= s->cost->interference(s->cost->self, s->plan, r->rank, r->op, other->op);
    }
    return factor;
}

/* Kernels that start within so little of each other find the SMs as if at once. */
#define START_NS 2000

static void placement_set(const struct sim *s, struct run *r)
{
    const struct rank_state *rank = &s->ranks[r->rank];

    if (!s->cost->placement || s->now_ns - r->start_ns > START_NS)
        return;
    for (int i = 0; i < rank->num_running; i++) {
        const struct run *other = run_at(s, rank->running[i]);

        if (other != r)
            r->placed = fmax(r->placed,
                             s->cost->placement(s->cost->self, s->plan, r->rank, r->op, other->op));
    }
}

struct sharer {
    struct run *run;
    double bytes;  /* of its resident CTAs' whole share */
    double demand; /* GB/s that it would draw alone */
    double share;
};

/* Max-min shares of the GPU's HBM: the least demand is served first. */
static void hbm_share(struct sharer *sharer, int n, double capacity_GBps)
{
    double left = capacity_GBps;

    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && sharer[j].demand < sharer[j - 1].demand; j--) {
            struct sharer swap = sharer[j];

            sharer[j] = sharer[j - 1];
            sharer[j - 1] = swap;
        }
    for (int i = 0; i < n; i++) {
        double fair = left / (n - i);

        sharer[i].share = sharer[i].demand < fair ? sharer[i].demand : fair;
        left -= sharer[i].share;
    }
}

static int sharers_of(struct sim *s, struct rank_state *rank, struct sharer *sharer)
{
    int n = 0;

    for (int i = 0; i < rank->num_running && n < SHARERS_MAX; i++) {
        struct run *r = run_at(s, rank->running[i]);
        const struct cost_segment *seg = segment_of(r);
        double part, cap;

        if (!is_working(r))
            continue;
        part = (double)resident(r) / r->w.grid;
        r->sm_ns = seg->sm_ns * r->slow * r->placed * work_slowdown(s, r);
        cap = r->w.hbm_GBps * part;
        sharer[n] = (struct sharer){.run = r, .bytes = seg->hbm_bytes * part, .demand = cap};
        if (r->sm_ns > 0)
            sharer[n].demand = fmin(cap, sharer[n].bytes / r->sm_ns);
        n++;
    }
    return n;
}

/* Nothing of a follower's units is ready before all CTAs run: tiles of a CTA lie in all units. */
static double progress(const struct run *r)
{
    double left = r->pending_ctas ? 1 : 0;

    for (int i = 0; i < r->num_batches; i++)
        left = fmax(left, r->batch[i].left);
    return 1 - left;
}

/* Time until something happens to a run at its pace: a batch ends, or a wave of its tiles. */
static double next_of(const struct sim *s, const struct run *r)
{
    double least = INFINITY;

    for (int i = 0; i < r->num_batches; i++)
        if (r->batch[i].left > 0)
            least = fmin(least, r->batch[i].left / r->pace);
        else if (r->batch[i].ctas > 0)
            least = 0; /* another event of this very time came before its end */
    if (s->follower_op[r->op] >= 0 && !r->pending_ctas && r->wave + 1 < r->w.waves)
        least = fmin(least, fmax((r->wave + 1.0) / r->w.waves - progress(r), 0) / r->pace);
    return least;
}

/* Sends beside a kernel that slows them push less, and latencies stretch. */
static void pushes_set(struct sim *s, struct rank_state *rank)
{
    for (int i = 0; i < rank->num_running; i++) {
        struct run *r = run_at(s, rank->running[i]);
        double slow;

        placement_set(s, r);
        fixed_stretch(s, r);
        if (!r->push_link)
            continue;
        slow = work_slowdown(s, r);
        if (slow == r->push_slow)
            continue;
        r->push_slow = slow;
        if (sim_link_capacity_set(s->net, r->push_link,
                                  fmin(cost_push_GBps(&r->w, slow), PUSH_UNLIMITED_GBPS)))
            sim_fail(s, ERR_INTERNAL);
    }
}

static void paces_set(struct sim *s, struct rank_state *rank)
{
    struct sharer sharer[SHARERS_MAX];
    double least = INFINITY;
    int n;

    work_advance(s, rank);
    pushes_set(s, rank);
    n = sharers_of(s, rank, sharer);
    hbm_share(sharer, n, s->cost->hbm_GBps);
    for (int i = 0; i < n; i++) {
        struct run *r = sharer[i].run;
        double by_sm = r->sm_ns > 0 ? 1 / r->sm_ns : INFINITY;
        double by_hbm = sharer[i].bytes > 0 ? sharer[i].share / sharer[i].bytes : INFINITY;

        r->pace = fmin(by_sm, by_hbm);
        r->hbm_bound = by_hbm < by_sm * (1 - 1e-9);
        least = fmin(least, next_of(s, r));
    }
    if (isfinite(least))
        sim_timer_set(s, &rank->work, s->now_ns + least);
    else
        sim_heap_remove(&s->heap, &rank->work.node);
}

/* Streams and SMs first, since they decide who runs; then the paces of those that do. */
void work_settle(struct sim *s)
{
    while (s->num_dirty && !s->err) {
        int index = s->dirty_ranks[--s->num_dirty];
        struct rank_state *rank = &s->ranks[index];

        rank->dirty = false;
        for (int i = 0; i < s->plan->num_streams; i++)
            stream_poke(s, index, i);
        sms_allocate(s, index);
        if (!rank->dirty)
            paces_set(s, rank);
    }
}

static bool is_done(const struct run *r, const struct cta_batch *b)
{
    return b->left <= DONE_SHARE || b->left <= r->pace * DONE_NS;
}

/* Ends the batches that are done; CTAs that end before the others leave their SMs. */
static bool batches_expire(struct sim *s, struct run *r)
{
    bool all = r->pending_ctas == 0;

    for (int i = 0; i < r->num_batches; i++)
        all = all && is_done(r, &r->batch[i]);
    if (all)
        return true;
    for (int i = 0; i < r->num_batches; i++)
        if (r->batch[i].left > 0 && is_done(r, &r->batch[i]))
            r->batch[i].left = 0;
    for (int i = 0; i < r->num_batches; i++)
        if (r->batch[i].left <= 0 && r->batch[i].ctas > 0) {
            int ctas = r->batch[i].ctas;

            r->batch[i].ctas = 0;
            r->late_ns = s->now_ns;
            sms_release(s, r, ctas);
        }
    return false;
}

static void wave_expire(struct sim *s, struct run *r)
{
    int op = s->follower_op[r->op], id;

    if (op < 0 || r->pending_ctas)
        return;
    while (r->wave + 1 < r->w.waves &&
           progress(r) >= (r->wave + 1.0) / r->w.waves - DONE_SHARE - r->pace * DONE_NS) {
        r->wave++;
        id = s->run_of[cell(s, r->rank, op)];
        if (id != SIM_NO_RUN && run_at(s, id)->phase == PHASE_UNITS)
            run_next(s, run_at(s, id));
    }
}

/* The rank's work timer: something that works has reached an end. */
void work_expire(struct sim *s, struct rank_state *rank)
{
    work_advance(s, rank);
    for (int i = 0; i < rank->num_running; i++) {
        struct run *r = run_at(s, rank->running[i]);
        int id = r->id;

        if (!is_working(r))
            continue;
        wave_expire(s, r);
        if (!batches_expire(s, r))
            continue;
        r->num_batches = 0;
        run_next(s, r);
        if (i < rank->num_running && rank->running[i] != id)
            i--; /* it ended and left the list */
        else if (i == rank->num_running)
            break;
    }
    work_dirty(s, rank->rank);
}
