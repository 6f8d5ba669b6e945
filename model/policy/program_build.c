/* Plans from a program: its steps in order, with the waits that their data needs. */
#include "base/err.h"
#include "model/policy/layer.h"
#include "model/policy/program.h"

struct build {
    struct layer_builder b;
    const struct program *p;
    int stream[PROGRAM_STREAMS];
    int last[PROGRAM_STEPS]; /* the op that ends a step, -1: it has none */
    int down[PROGRAM_ROUNDS];
    int output[2], num_output; /* what the next layer starts from */
};

static struct layer_round part_use(struct build *b, int round)
{
    b->b.part_first = b->b.part_num = 0;
    for (int r = 0; r < round; r++)
        b->b.part_first += b->p->size[r];
    if (round >= 0)
        b->b.part_num = b->p->size[round];
    return (struct layer_round){round < 0 ? 0 : round, b->p->num_rounds};
}

static void part_end(struct build *b)
{
    b->b.part_first = b->b.part_num = 0;
}

static int done(const struct build *b, enum program_kind kind, int round)
{
    int step = program_find(b->p, kind, round);

    return step < 0 ? -1 : b->last[step];
}

/* What a step's own data is made by. */
static int data_of(const struct build *b, const struct program_step *s)
{
    int op;

    switch (s->kind) {
    case STEP_ROUTER:
    case STEP_SHARED:
        return done(b, STEP_ATTENTION, -1);
    case STEP_DISPATCH:
    case STEP_DISPATCH_SEND:
        return done(b, STEP_ROUTER, -1);
    case STEP_DISPATCH_RECV:
        return done(b, STEP_DISPATCH_SEND, s->round);
    case STEP_FFN:
        op = done(b, STEP_DISPATCH, -1);
        return op >= 0 ? op : done(b, STEP_DISPATCH_RECV, s->round);
    case STEP_COMBINE_SEND:
        return b->down[s->round];
    default:
        return -1;
    }
}

static void also_output(struct build *b)
{
    for (int i = 0; i < b->num_output; i++)
        layer_also_after(&b->b, b->output[i], DEP_END);
}

static int output_of(const struct build *b)
{
    return b->num_output ? b->output[0] : -1;
}

/* Where a layer begins: attention, or without it what stands first. */
static int first_step(struct build *b, const struct program_step *s, int data)
{
    bool has = b->b.spec->attention;
    int op = -1;

    if (s->kind == STEP_ATTENTION && has)
        op = layer_attn_proj(&b->b, b->stream[s->stream], s->sms[0], data);
    if (s->kind == STEP_ROUTER) /* nothing in front of it: it waits for the layer before */
        op = layer_router(&b->b, b->stream[s->stream], s->sms[0], has ? data : output_of(b));
    if (s->kind == STEP_SHARED)
        op = layer_shared(&b->b, b->stream[s->stream], s->sms[0], has ? data : output_of(b));
    if (s->kind == STEP_ATTENTION && has) {
        also_output(b);
        op = layer_attn_core(&b->b, b->stream[s->stream], s->sms[0], -1);
    }
    return op;
}

static int ffn_step(struct build *b, const struct program_step *s, int data, int after)
{
    enum plan_gemm gemm = layer_default_gemm(b->b.spec);
    struct layer_ffn f = {.up_sms = s->sms[0],
                          .act_sms = s->sms[1],
                          .down_sms = s->sms[2],
                          .up_gemm = gemm,
                          .down_gemm = gemm};
    int send = program_find(b->p, STEP_COMBINE_SEND, s->round), op;

    if (send >= 0) {
        f.block_m = b->p->step[send].block_m;
        f.block_n = b->p->step[send].block_n;
    }
    op = layer_ffn(&b->b, part_use(b, s->round), b->stream[s->stream], &f, data, after);
    part_end(b);
    return b->down[s->round] = op;
}

/* One that follows tiles starts with the down GEMM, after the activation before it. */
static int combine_send_step(struct build *b, const struct program_step *s, int data)
{
    int after = s->block_m ? data - 1 : data, op;

    op = layer_combine_send(&b->b, part_use(b, s->round), b->stream[s->stream], s->sms[0], after);
    part_end(b);
    if (!b->b.err && s->block_m) {
        b->b.plan->ops[op].block_m = s->block_m;
        b->b.plan->ops[op].block_n = s->block_n;
        layer_also_after(&b->b, data, DEP_UNIT);
    }
    return op;
}

static int combine_recv_step(struct build *b, const struct program_step *s)
{
    int sent[PROGRAM_ROUNDS], op;

    for (int r = 0; r < b->p->num_rounds; r++)
        sent[r] = done(b, STEP_COMBINE_SEND, r);
    op = layer_combine_recv(&b->b, b->stream[s->stream], s->sms[0], sent, b->p->num_rounds, -1);
    for (int r = 0; r < b->p->num_rounds; r++)
        layer_also_after(&b->b, sent[r], DEP_END);
    return op;
}

static int combine_step(struct build *b, const struct program_step *s)
{
    int op = layer_combine(&b->b, b->stream[s->stream], s->sms[0], -1);

    for (int r = 0; r < b->p->num_rounds; r++)
        layer_also_after(&b->b, b->down[r], DEP_END);
    return op;
}

static int exchange_step(struct build *b, const struct program_step *s, int data)
{
    int stream = b->stream[s->stream], op;

    switch (s->kind) {
    case STEP_DISPATCH:
        return layer_dispatch(&b->b, stream, s->sms[0], data);
    case STEP_DISPATCH_SEND:
        op = layer_dispatch_send(&b->b, part_use(b, s->round), stream, s->sms[0], data);
        break;
    default:
        op = layer_dispatch_recv(&b->b, part_use(b, s->round), stream, s->sms[0],
                                 done(b, STEP_DISPATCH_SEND, s->round), data);
    }
    part_end(b);
    return op;
}

/* The end of a combine, widened where experts work on less than the hidden size. */
static int latent_step(struct build *b, const struct program_step *s, int op)
{
    return layer_latent_up(&b->b, b->stream[s->stream], s->sms[0], op);
}

/* What it waits for besides attaches to the first op of a step of several. */
static void step_add(struct build *b, int i)
{
    const struct program_step *s = &b->p->step[i];
    int data = data_of(b, s), after = s->after >= 0 ? b->last[s->after] : -1, op;

    if (s->kind == STEP_FFN) {
        b->last[i] = ffn_step(b, s, data, after);
        return;
    }
    if (s->kind <= STEP_SHARED) { /* every other step waits for the attention too */
        b->last[i] = first_step(b, s, after >= 0 ? after : data);
        return;
    }
    if (s->kind == STEP_COMBINE_RECV)
        op = combine_recv_step(b, s);
    else if (s->kind == STEP_COMBINE)
        op = combine_step(b, s);
    else if (s->kind == STEP_COMBINE_SEND)
        op = combine_send_step(b, s, data);
    else
        op = exchange_step(b, s, data);
    layer_also_after(&b->b, after, DEP_END);
    if (s->kind == STEP_COMBINE_RECV || s->kind == STEP_COMBINE)
        op = latent_step(b, s, op);
    b->last[i] = op;
}

static void layer_add(struct build *b)
{
    int shared;

    for (int i = 0; i < b->p->num_steps; i++)
        step_add(b, i);
    b->num_output = 0;
    b->output[b->num_output++] = done(b, STEP_COMBINE_RECV, -1) >= 0
                                     ? done(b, STEP_COMBINE_RECV, -1)
                                     : done(b, STEP_COMBINE, -1);
    shared = done(b, STEP_SHARED, -1);
    if (shared >= 0)
        b->output[b->num_output++] = shared;
}

static int program_build(const struct layer_spec *spec, const struct knobs *k, struct plan **out)
{
    struct build b = {.p = spec->program};

    layer_begin(&b.b, &policy_program, spec, k, false);
    for (int i = 0; i < b.p->num_streams; i++)
        b.stream[i] = layer_stream(&b.b, b.p->stream[i].name, b.p->stream[i].priority);
    for (b.b.layer = 0; b.b.layer < spec->layers; b.b.layer++) {
        b.b.buffer = b.b.layer % 2;
        layer_add(&b);
    }
    return layer_finish(&b.b, out);
}

static int program_fits(const struct layer_spec *spec, const struct knobs *k, char *why,
                        size_t size)
{
    const struct program *p = spec->program;
    int local = spec->model->experts / spec->ranks, sum = 0, err = layer_check(spec, k, why, size);
    bool parts;

    if (err)
        return err;
    if (!p)
        return layer_infeasible(why, size, "there is no plan file");
    for (int r = 0; r < p->num_rounds; r++)
        sum += p->size[r];
    parts = p->num_rounds > 1 || program_find(p, STEP_DISPATCH_SEND, 0) >= 0 ||
            program_find(p, STEP_COMBINE_SEND, 0) >= 0;
    if (p->num_sms != spec->num_sms)
        return layer_infeasible(why, size, "the plan is for a GPU of %d SMs, this one has %d",
                                p->num_sms, spec->num_sms);
    if (sum != local)
        return layer_infeasible(why, size, "the plan's rounds are of %d local experts, here are %d",
                                sum, local);
    if (parts && spec->comm != COMM_LOW_LATENCY)
        return layer_infeasible(why, size, "the plan's rounds need the low-latency kernels");
    for (int i = 0; spec->comm == COMM_NORMAL && i < p->num_steps; i++)
        if (p->step[i].sms[0] % 2 &&
            (p->step[i].kind == STEP_DISPATCH || p->step[i].kind == STEP_COMBINE))
            return layer_infeasible(why, size, "normal kernels take an even number of SMs, not %d",
                                    p->step[i].sms[0]);
    if (spec->attention && spec->attention_tp > 1)
        return layer_infeasible(why, size, "plan files know no tensor-parallel attention");
    if (layer_has_shared(spec) && program_find(p, STEP_SHARED, -1) < 0)
        return layer_infeasible(why, size, "the model has a shared expert, the plan none");
    if (spec->attention && program_find(p, STEP_ATTENTION, -1) < 0)
        return layer_infeasible(why, size, "the layer has attention, the plan none");
    return 0;
}

static const struct opt no_knobs[] = {KNOB_END};

const struct policy policy_program = {
    .name = "plan",
    .summary = "a schedule from a plan file",
    .knobs = no_knobs,
    .same_bits = true,
    .check = program_fits,
    .build = program_build,
};
