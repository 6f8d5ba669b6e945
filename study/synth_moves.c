#include "study/synth_moves.h"

#include <string.h>

uint32_t synth_next(uint64_t *x)
{
    *x = *x * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*x >> 33);
}

static int pick(uint64_t *x, int n)
{
    return n > 0 ? (int)(synth_next(x) % (uint32_t)n) : 0;
}

/* Steps in a new order: new step i was from[i]. */
struct order {
    struct program_step step[2 * PROGRAM_STEPS];
    int from[2 * PROGRAM_STEPS], num;
};

static void put(struct order *o, const struct program_step *s, int from)
{
    o->step[o->num] = *s;
    o->from[o->num++] = from;
}

static bool use(struct program *p, const struct order *o)
{
    int where[PROGRAM_STEPS];

    if (o->num > PROGRAM_STEPS)
        return false;
    memset(where, -1, sizeof where);
    for (int i = o->num - 1; i >= 0; i--)
        if (o->from[i] >= 0)
            where[o->from[i]] = i;
    for (int i = 0; i < o->num; i++) {
        int after = o->step[i].after < 0 ? -1 : where[o->step[i].after];

        p->step[i] = o->step[i];
        p->step[i].after = after < i ? after : -1;
    }
    p->num_steps = o->num;
    return true;
}

/* Takes step `at` out and puts it where step `to` stands. */
static bool step_to(struct program *p, int at, int to)
{
    struct program_step moved = p->step[at];
    struct order o = {.num = 0};

    for (int i = 0; i <= p->num_steps; i++) {
        if (i == to)
            put(&o, &moved, at);
        if (i < p->num_steps && i != at)
            put(&o, &p->step[i], i);
    }
    return at != to && at + 1 != to && use(p, &o);
}

static int sms_of(const struct program *p, uint64_t *x)
{
    static const int few[] = {2, 3, 4, 6, 8, 12, 16, 20, 24, 32};
    int n = few[pick(x, sizeof few / sizeof *few)], how = pick(x, 5);

    n = how < 2 ? n : how < 4 ? p->num_sms - n : p->num_sms;
    return n < 1 ? 1 : n;
}

static bool move_shared(struct program *p, uint64_t *x)
{
    int at = program_find(p, STEP_SHARED, -1);

    if (at < 0)
        return false;
    if (pick(x, 3) == 0)
        p->step[at].stream = pick(x, p->num_streams);
    if (pick(x, 3) == 0)
        p->step[at].sms[0] = sms_of(p, x);
    p->step[at].after = -1;
    return step_to(p, at, pick(x, p->num_steps + 1));
}

static bool move_size(struct program *p, uint64_t *x)
{
    int a = pick(x, p->num_rounds), b = pick(x, p->num_rounds), n;

    if (a == b || p->size[a] < 2)
        return false;
    n = 1 + pick(x, p->size[a] - 1);
    if (pick(x, 2))
        n = 1;
    p->size[a] -= n;
    p->size[b] += n;
    return true;
}

static bool move_split(struct program *p, uint64_t *x)
{
    int a = pick(x, p->num_rounds), n;
    struct order o = {.num = 0};

    if (p->num_rounds == PROGRAM_ROUNDS || p->size[a] < 2 || program_follows_tiles(p))
        return false;
    n = 1 + pick(x, p->size[a] - 1);
    for (int i = 0; i < p->num_steps; i++) {
        struct program_step s = p->step[i];

        s.round += s.round > a;
        put(&o, &s, i);
        if (s.round == a) {
            s.round++;
            put(&o, &s, -1);
        }
    }
    if (!use(p, &o))
        return false;
    for (int r = p->num_rounds; r > a; r--)
        p->size[r] = p->size[r - 1];
    p->size[a + 1] -= n;
    p->size[a] = n;
    p->num_rounds++;
    return true;
}

static bool move_merge(struct program *p, uint64_t *x)
{
    int a = pick(x, p->num_rounds - 1);
    struct order o = {.num = 0};

    if (p->num_rounds < 2)
        return false;
    for (int i = 0; i < p->num_steps; i++) {
        struct program_step s = p->step[i];

        if (s.round == a + 1)
            continue;
        s.round -= s.round > a + 1;
        put(&o, &s, i);
    }
    p->size[a] += p->size[a + 1];
    for (int r = a + 1; r + 1 < p->num_rounds; r++)
        p->size[r] = p->size[r + 1];
    p->num_rounds--;
    return use(p, &o);
}

static bool move_sms(struct program *p, uint64_t *x)
{
    struct program_step *s = &p->step[pick(x, p->num_steps)];
    int sms = sms_of(p, x);

    if (s->kind == STEP_FFN && pick(x, 2)) {
        s->sms[pick(x, 3)] = sms;
        return true;
    }
    s->sms[0] = s->sms[1] = s->sms[2] = sms;
    return true;
}

/* Of all steps of a kind, or of all but the first or last round's. */
static bool move_sms_all(struct program *p, uint64_t *x)
{
    enum program_kind kind = p->step[pick(x, p->num_steps)].kind;
    int sms = sms_of(p, x), but = pick(x, 3);

    for (int i = 0; i < p->num_steps; i++) {
        struct program_step *s = &p->step[i];

        if (s->kind != kind || (but == 1 && s->round == 0) ||
            (but == 2 && s->round == p->num_rounds - 1))
            continue;
        s->sms[0] = s->sms[1] = s->sms[2] = sms;
    }
    return true;
}

static bool move_stream(struct program *p, uint64_t *x)
{
    static const char *const names[] = {"main", "compute", "comm", "side"};
    struct program_step *s = &p->step[pick(x, p->num_steps)];
    enum program_kind kind = s->kind;
    bool all = pick(x, 2);
    int to;

    if (p->num_streams < PROGRAM_STREAMS && pick(x, 3) == 0) {
        struct plan_stream *n = &p->stream[p->num_streams];

        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            bool taken = false;

            for (int j = 0; j < p->num_streams; j++)
                taken |= !strcmp(p->stream[j].name, names[i]);
            if (!taken)
                strcpy(n->name, names[i]);
        }
        n->priority = -pick(x, 2);
        p->num_streams++;
    }
    to = pick(x, p->num_streams);
    for (int i = 0; i < p->num_steps; i++)
        if (&p->step[i] == s || (all && p->step[i].kind == kind))
            p->step[i].stream = to;
    return true;
}

static bool move_order(struct program *p, uint64_t *x)
{
    int at = 1 + pick(x, p->num_steps - 1), far = 1 + pick(x, 4);
    int to = pick(x, 2) ? at - far : at + 1 + far;

    return to >= 1 && to <= p->num_steps && step_to(p, at, to);
}

static bool move_priority(struct program *p, uint64_t *x)
{
    p->stream[pick(x, p->num_streams)].priority = -pick(x, 3);
    return true;
}

/* All dispatch kernels as one, or the one as rounds. */
static bool move_dispatch(struct program *p, uint64_t *x)
{
    bool whole = program_find(p, STEP_DISPATCH, -1) >= 0;
    int sms = sms_of(p, x);
    struct order o = {.num = 0};

    for (int i = 0; i < p->num_steps; i++) {
        struct program_step s = p->step[i];

        if (!whole && s.kind == STEP_DISPATCH_SEND && s.round == 0) {
            s.kind = STEP_DISPATCH;
            s.sms[0] = p->num_sms;
            put(&o, &s, i);
        } else if (whole && s.kind == STEP_DISPATCH) {
            for (int r = 0; r < p->num_rounds; r++) {
                s.round = r;
                s.kind = STEP_DISPATCH_SEND;
                s.sms[0] = r ? sms : p->num_sms;
                put(&o, &s, -1);
                s.kind = STEP_DISPATCH_RECV;
                put(&o, &s, -1);
            }
        } else if (s.kind != STEP_DISPATCH_SEND && s.kind != STEP_DISPATCH_RECV) {
            put(&o, &s, i);
        }
    }
    return use(p, &o);
}

/* The combine of one round follows tiles, or no longer does: kernels that do both rounds and tiles
 * do not exist. */
static bool move_tiles(struct program *p, uint64_t *x)
{
    int at = program_find(p, STEP_COMBINE_SEND, 0);

    (void)x;
    if (p->num_rounds > 1 || at < 0)
        return false;
    p->step[at].block_m = p->step[at].block_m ? 0 : 64;
    p->step[at].block_n = p->step[at].block_m ? 128 : 0;
    return true;
}

bool synth_move(struct program *p, uint64_t *x)
{
    static bool (*const moves[])(struct program *, uint64_t *) = {
        move_shared, move_shared, move_size,    move_size,     move_split,    move_merge,
        move_sms,    move_sms,    move_sms_all, move_sms_all,  move_stream,   move_stream,
        move_order,  move_order,  move_order,   move_priority, move_dispatch, move_tiles};
    struct program was = *p;
    char why[160];
    int line;

    if (moves[pick(x, sizeof moves / sizeof *moves)](p, x) &&
        program_check(p, &line, why, sizeof why) == 0)
        return true;
    *p = was;
    return false;
}

static void sizes_text(const struct program *p, char *buf, size_t size)
{
    size_t at = 0;

    buf[0] = '\0';
    for (int r = 0; r < p->num_rounds && at < size; r++)
        at += (size_t)snprintf(buf + at, size - at, "%s%d", r ? "+" : "", p->size[r]);
}

static const char *before_of(const struct program *p, int at, char *buf, size_t size)
{
    if (at < 1)
        return "first";
    program_step_name(&p->step[at - 1], buf, size);
    return buf;
}

static void shared_words(const struct program *a, const struct program *b, FILE *f)
{
    int was = program_find(a, STEP_SHARED, -1), is = program_find(b, STEP_SHARED, -1);
    char from[32], to[32];

    if (was < 0 || is < 0 ||
        (!strcmp(before_of(a, was, from, sizeof from), before_of(b, is, to, sizeof to)) &&
         !strcmp(a->stream[a->step[was].stream].name, b->stream[b->step[is].stream].name)))
        return;
    fprintf(f, "the shared expert behind %s on %s (was behind %s on %s)\n",
            before_of(b, is, to, sizeof to), b->stream[b->step[is].stream].name,
            before_of(a, was, from, sizeof from), a->stream[a->step[was].stream].name);
}

static bool step_words(const struct program *a, const struct program *b,
                       const struct program_step *s, FILE *f)
{
    int at = program_find(a, s->kind, s->round);
    const struct program_step *was = at < 0 ? NULL : &a->step[at];
    const char *stream = b->stream[s->stream].name;
    char name[32];

    program_step_name(s, name, sizeof name);
    if (!was || s->kind == STEP_SHARED)
        return false;
    if (!memcmp(was->sms, s->sms, sizeof s->sms) && !strcmp(stream, a->stream[was->stream].name))
        return false;
    if (s->kind == STEP_FFN)
        fprintf(f, "%s on %s with %d/%d/%d SMs (was %s, %d/%d/%d)\n", name, stream, s->sms[0],
                s->sms[1], s->sms[2], a->stream[was->stream].name, was->sms[0], was->sms[1],
                was->sms[2]);
    else
        fprintf(f, "%s on %s with %d SMs (was %s, %d)\n", name, stream, s->sms[0],
                a->stream[was->stream].name, was->sms[0]);
    return true;
}

void synth_words(const struct program *a, const struct program *b, int most, FILE *f)
{
    char was[128], is[128];
    int said = 0, more = 0;

    sizes_text(a, was, sizeof was);
    sizes_text(b, is, sizeof is);
    if (strcmp(was, is))
        fprintf(f, "rounds of %s local experts (was %s)\n", is, was);
    if ((program_find(a, STEP_DISPATCH, -1) < 0) != (program_find(b, STEP_DISPATCH, -1) < 0))
        fprintf(f, "dispatch %s\n",
                program_find(b, STEP_DISPATCH, -1) < 0 ? "in rounds, sent and received apart"
                                                       : "as one fused kernel");
    shared_words(a, b, f);
    for (int i = 0; i < b->num_steps; i++) {
        if (said >= most)
            more++;
        else
            said += step_words(a, b, &b->step[i], f);
    }
    if (more)
        fprintf(f, "and the order and SMs of up to %d more launches: the plan file has all\n",
                more);
}
