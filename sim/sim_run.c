/* The parts of a kernel's life, one after another. */
#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "sim/sim_state.h"

void run_spend(struct sim *s, struct run *r, enum trace_part part, double ns)
{
    (void)s;
    r->part_ns[part] += (float)ns;
}

static void running_add(struct sim *s, struct run *r)
{
    struct rank_state *rank = &s->ranks[r->rank];

    if (rank->num_running == rank->cap_running) {
        int cap = rank->cap_running ? 2 * rank->cap_running : 8;
        int *running = realloc(rank->running, (size_t)cap * sizeof *running);

        if (!running) {
            sim_fail(s, ERR_NOMEM);
            return;
        }
        rank->running = running;
        rank->cap_running = cap;
    }
    rank->running[rank->num_running++] = r->id;
}

static void running_remove(struct sim *s, struct run *r)
{
    struct rank_state *rank = &s->ranks[r->rank];
    int i = 0;

    while (rank->running[i] != r->id)
        i++;
    rank->num_running--;
    for (; i < rank->num_running; i++)
        rank->running[i] = rank->running[i + 1];
}

void run_enter(const struct sim *s, struct run *r, enum phase phase)
{
    r->phase = phase;
    r->phase_ns = s->now_ns;
}

/* Starts a fixed latency; false when there is none. */
static bool fixed_begin(struct sim *s, struct run *r, enum phase phase, double ns)
{
    run_enter(s, r, phase);
    if (ns <= 0)
        return false;
    r->fixed_left_ns = ns;
    r->fixed_since_ns = s->now_ns;
    r->fixed_slow = r->w.slow_fixed ? work_slowdown(s, r) : 1;
    sim_timer_set(s, &r->timer, s->now_ns + ns * r->fixed_slow);
    return true;
}

void fixed_stretch(struct sim *s, struct run *r)
{
    double slow;

    if (!r->w.slow_fixed ||
        (r->phase != PHASE_HEAD_FIXED && r->phase != PHASE_POLL && r->phase != PHASE_TAIL_FIXED))
        return;
    slow = work_slowdown(s, r);
    if (slow == r->fixed_slow)
        return;
    r->fixed_left_ns = fmax(r->fixed_left_ns - (s->now_ns - r->fixed_since_ns) / r->fixed_slow, 0);
    r->fixed_since_ns = s->now_ns;
    r->fixed_slow = slow;
    sim_timer_set(s, &r->timer, s->now_ns + r->fixed_left_ns * slow);
}

void run_begin(struct sim *s, struct run *r)
{
    r->start_ns = s->now_ns;
    running_add(s, r);
    work_dirty(s, r->rank);
    if (!fixed_begin(s, r, PHASE_HEAD_FIXED, r->w.head.fixed_ns))
        run_next(s, r);
}

/* What comes with the SMs of a kernel; the last part to end ends its kernel. */
static void part_end(struct sim *s, const struct run *r)
{
    int kernel = s->kernel_of[r->op], id;
    struct run *k;

    if (kernel < 0)
        return;
    s->parts_done[cell(s, r->rank, kernel)]++;
    id = s->run_of[cell(s, r->rank, kernel)];
    if (id == SIM_NO_RUN || s->parts_done[cell(s, r->rank, kernel)] < s->num_parts[kernel])
        return;
    k = run_at(s, id);
    k->data_rank = r->rank;
    k->data_op = r->op;
    run_next(s, k);
}

static void follower_poke(struct sim *s, const struct run *r)
{
    int op = s->follower_op[r->op], id;

    if (op < 0)
        return;
    id = s->run_of[cell(s, r->rank, op)];
    if (id != SIM_NO_RUN && run_at(s, id)->phase == PHASE_UNITS)
        run_next(s, run_at(s, id));
}

static int span_emit(struct sim *s, const struct run *r)
{
    struct trace_span span = {
        .rank = r->rank,
        .stream = op_of(s, r)->stream,
        .op = r->op,
        .ready_ns = r->ready_ns,
        .start_ns = r->start_ns,
        .end_ns = s->now_ns,
        .wait_ns = r->wait_ns,
        .sms = r->most_sms,
        .cause = r->cause,
        .cause_op = r->cause_op,
        .data_rank = r->data_rank,
        .data_op = r->data_op,
    };

    for (int i = 0; i < PART_COUNT; i++)
        span.part_ns[i] = r->part_ns[i];
    return s->sink->span(s->sink->self, &span);
}

/* Returns the SMs, tells the stream and the rank; the run stays until what it sent has arrived. */
void run_end(struct sim *s, struct run *r)
{
    struct stream_state *st = &s->streams[r->rank * s->plan->num_streams + op_of(s, r)->stream];
    int err = span_emit(s, r);

    if (err)
        sim_fail(s, err);
    s->end_ns[cell(s, r->rank, r->op)] = s->now_ns;
    s->done++;
    s->ranks[r->rank].done_ops++;
    running_remove(s, r);
    if (s->kernel_of[r->op] < 0)
        sms_release(s, r, r->sms);
    else
        work_dirty(s, r->rank);
    run_enter(s, r, PHASE_ENDED);
    st->busy = false;
    st->next++;
    st->last_end_ns = s->now_ns;
    follower_poke(s, r);
    part_end(s, r);
    sim_run_free(s, r);
}

static bool followed_ended(const struct sim *s, const struct run *r)
{
    return s->end_ns[cell(s, r->rank, s->followed_op[r->op])] >= 0;
}

/* A GEMM whose rows were still coming: its tail is the blocks of the last of them. True: it must
 * wait. */
static bool rows_step(struct sim *s, struct run *r)
{
    if (!followed_ended(s, r))
        return true;
    r->data_rank = r->rank;
    r->data_op = s->followed_op[r->op];
    return fixed_begin(s, r, PHASE_TAIL_FIXED, r->w.tail.fixed_ns);
}

/* After the sends, if any: wait for data, for the other ranks, or nothing. True: it must wait. */
static bool wait_begin(struct sim *s, struct run *r)
{
    if (plan_op_recvs(op_of(s, r)->kind)) {
        if (fixed_begin(s, r, PHASE_POLL, r->w.poll_ns))
            return true;
        run_enter(s, r, PHASE_WAIT);
        return !recv_complete(s, r);
    }
    if (s->followed_op[r->op] >= 0 && !plan_op_sends(op_of(s, r)->kind)) {
        run_enter(s, r, PHASE_UNITS);
        return !followed_ended(s, r);
    }
    if (s->num_parts[r->op]) {
        run_enter(s, r, PHASE_PARTS);
        work_dirty(s, r->rank);
        return s->parts_done[cell(s, r->rank, r->op)] < s->num_parts[r->op];
    }
    if (r->w.rendezvous) {
        run_enter(s, r, PHASE_MEET);
        return !meet_arrive(s, r);
    }
    run_enter(s, r, PHASE_MEET);
    return false;
}

/* True: it must wait for its flows, or for units. */
static bool issue_begin(struct sim *s, struct run *r)
{
    run_enter(s, r, PHASE_ISSUE);
    if (!plan_op_sends(op_of(s, r)->kind))
        return false;
    send_begin(s, r);
    if (s->follower_op[r->op] >= 0)
        work_dirty(s, r->rank);
    if (s->followed_op[r->op] < 0)
        return r->posting || sends_held(s, r);
    run_enter(s, r, PHASE_UNITS);
    return units_step(s, r);
}

/* The flows under way have left: go on with the next units, or with what follows the sends. */
static bool issue_end(struct sim *s, struct run *r)
{
    if (plan_op_sends(op_of(s, r)->kind)) {
        issue_account(s, r);
        if (r->sent_units < r->units) {
            run_enter(s, r, PHASE_UNITS);
            return units_step(s, r);
        }
        send_finish(s, r);
    }
    return wait_begin(s, r);
}

void run_next(struct sim *s, struct run *r)
{
    bool busy = false;

    while (!busy && !s->err) {
        double spent = s->now_ns - r->phase_ns;

        switch (r->phase) {
        case PHASE_HEAD_FIXED:
            run_spend(s, r, PART_FIXED, spent);
            run_enter(s, r, PHASE_HEAD);
            busy = work_begin(s, r, &r->w.head);
            break;
        case PHASE_HEAD:
            busy = issue_begin(s, r);
            break;
        case PHASE_UNITS:
            r->wait_ns += spent;
            run_spend(s, r, PART_WAIT, spent);
            run_enter(s, r, PHASE_UNITS);
            busy = plan_op_sends(op_of(s, r)->kind) ? units_step(s, r) : rows_step(s, r);
            break;
        case PHASE_ISSUE:
            busy = issue_end(s, r);
            break;
        case PHASE_POLL:
            r->wait_ns += spent;
            run_spend(s, r, PART_WAIT, spent);
            run_enter(s, r, PHASE_WAIT);
            busy = !recv_complete(s, r);
            break;
        case PHASE_PARTS:
            r->wait_ns += spent;
            run_spend(s, r, PART_WAIT, spent);
            busy = fixed_begin(s, r, PHASE_TAIL_FIXED, r->w.tail.fixed_ns);
            break;
        case PHASE_WAIT:
        case PHASE_MEET:
            recv_account(s, r);
            busy = fixed_begin(s, r, PHASE_TAIL_FIXED, r->w.tail.fixed_ns);
            break;
        case PHASE_TAIL_FIXED:
            run_spend(s, r, PART_FIXED, spent);
            run_enter(s, r, PHASE_TAIL);
            busy = work_begin(s, r, &r->w.tail);
            break;
        case PHASE_TAIL:
            run_end(s, r);
            return;
        default:
            return;
        }
    }
}
