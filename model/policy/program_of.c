/* The schedules of none, peo and sbo as programs: where a search begins, and what `plan --save`
 * writes. */
#include <string.h>

#include "base/err.h"
#include "model/policy/layer.h"
#include "model/policy/program.h"

int program_step_add(struct program *p, enum program_kind kind, int round, int stream, int sms)
{
    struct program_step *s = &p->step[p->num_steps];

    if (p->num_steps == PROGRAM_STEPS)
        return -1;
    *s = (struct program_step){
        .kind = kind, .round = round, .stream = stream, .sms = {sms, sms, sms}, .after = -1};
    return p->num_steps++;
}

static void stream(struct program *p, const char *name, int priority)
{
    struct plan_stream *s = &p->stream[p->num_streams++];

    strncpy(s->name, name, sizeof s->name - 1);
    s->priority = priority;
}

static void begin(struct program *p, const struct layer_spec *spec, int rounds)
{
    int local = spec->model->experts / spec->ranks;

    memset(p, 0, sizeof *p);
    p->num_sms = spec->num_sms;
    p->num_rounds = rounds;
    for (int r = 0; r < rounds; r++)
        p->size[r] = local / rounds;
}

enum { MAIN, COMPUTE, COMM };

static void head(struct program *p, const struct layer_spec *spec, int shared)
{
    program_step_add(p, STEP_ATTENTION, -1, MAIN, p->num_sms);
    program_step_add(p, STEP_ROUTER, -1, MAIN, p->num_sms);
    if (shared == SHARED_BEFORE_DISPATCH && layer_has_shared(spec))
        program_step_add(p, STEP_SHARED, -1, MAIN, p->num_sms);
}

static void tail(struct program *p, const struct layer_spec *spec, int shared)
{
    if (shared == SHARED_AFTER_COMBINE && layer_has_shared(spec))
        program_step_add(p, STEP_SHARED, -1, MAIN, p->num_sms);
}

static void of_none(const struct layer_spec *spec, const struct knobs *k, struct program *p)
{
    const struct plan_comm_traits *comm = plan_comm_traits(spec->comm);
    bool held = comm->sms == COMM_SMS_HELD && spec->normal_num_sms < spec->num_sms;
    int N = spec->num_sms, n = held ? spec->normal_num_sms : N;

    begin(p, spec, 1);
    stream(p, "main", 0);
    head(p, spec, k->shared_expert);
    if (k->split_phases) {
        program_step_add(p, STEP_DISPATCH_SEND, 0, MAIN, N);
        program_step_add(p, STEP_DISPATCH_RECV, 0, MAIN, N);
    } else {
        program_step_add(p, STEP_DISPATCH, -1, MAIN, n);
    }
    program_step_add(p, STEP_FFN, 0, MAIN, N);
    if (k->split_phases) {
        program_step_add(p, STEP_COMBINE_SEND, 0, MAIN, N);
        program_step_add(p, STEP_COMBINE_RECV, -1, MAIN, N);
    } else {
        program_step_add(p, STEP_COMBINE, -1, MAIN, n);
    }
    tail(p, spec, k->shared_expert);
}

static void of_sbo(const struct layer_spec *spec, const struct knobs *k, struct program *p)
{
    int N = spec->num_sms, n = k->combine_num_sms, at;

    begin(p, spec, 1);
    stream(p, "main", 0);
    stream(p, "comm", -1);
    head(p, spec, SHARED_LEFT_OUT);
    program_step_add(p, STEP_DISPATCH_SEND, 0, MAIN, N);
    if (layer_has_shared(spec))
        program_step_add(p, STEP_SHARED, -1, MAIN, N);
    program_step_add(p, STEP_DISPATCH_RECV, 0, MAIN, N);
    at = program_step_add(p, STEP_FFN, 0, MAIN, N);
    p->step[at].sms[2] = N - n;
    at = program_step_add(p, STEP_COMBINE_SEND, 0, 1, n);
    p->step[at].block_m = k->block_m;
    p->step[at].block_n = k->block_n;
    program_step_add(p, STEP_COMBINE_RECV, -1, MAIN, N);
}

/* What a knob of 0 stands for. */
static int or (int value, int otherwise)
{
    return value > 0 ? value : otherwise;
}

static void peo_dispatch(const struct knobs *k, struct program *p)
{
    int N = p->num_sms, R = p->num_rounds, n = k->num_sms, sends = or (k->deepep_send_num_sms, n);
    int recvs = or (k->deepep_recv_num_sms, n), m = k->overlap_method;
    bool sglang = k->launch_order == LAUNCH_SGLANG;

    if (m == 4)
        program_step_add(p, STEP_DISPATCH, -1, MAIN, N);
    for (int r = 0; r < R && m != 4; r++) {
        program_step_add(p, STEP_DISPATCH_SEND, r, MAIN,
                         m == 1 || !r || (m == 2 && sglang) ? N : sends);
        if (m == 2)
            program_step_add(p, STEP_DISPATCH_RECV, r, MAIN, r ? recvs : N);
    }
    for (int r = 0; r < R && (m == 1 || m == 3); r++) {
        bool on_comm = m == 3 && r < R - 1;
        int at = program_step_add(p, STEP_DISPATCH_RECV, r, on_comm ? COMM : MAIN,
                                  r                   ? recvs
                                  : m == 3 && on_comm ? N - recvs
                                  : m == 3            ? recvs
                                                      : N);

        if (m == 3 && r == R - 1 && r > 0)
            p->step[at].after = program_find(p, STEP_DISPATCH_RECV, r - 1);
    }
}

static void peo_ffn(const struct knobs *k, struct program *p, int r)
{
    int N = p->num_sms, R = p->num_rounds, n = k->num_sms, m = k->overlap_method, at;
    int where = COMPUTE, sms = N - n;

    if (m == 3 && r <= R - 3)
        sms = N - 2 * n;
    else if (m == 3)
        where = COMM;
    if (m == 4 && r == 0) {
        where = MAIN;
        sms = N;
    }
    at = program_step_add(p, STEP_FFN, r, where, sms);
    if (sms != N) {
        p->step[at].sms[0] = or (k->up_deepgemm_num_sms, sms);
        p->step[at].sms[2] = or (k->down_deepgemm_num_sms, sms);
    }
    if ((m == 3 && r == R - 2 && r > 0) || (m == 4 && r == 1))
        p->step[at].after = program_find(p, STEP_FFN, r - 1);
}

static void peo_combine(const struct knobs *k, struct program *p, int r)
{
    program_step_add(p, STEP_COMBINE_SEND, r, MAIN,
                     r == p->num_rounds - 1 ? p->num_sms : or (k->deepep_send_num_sms, k->num_sms));
}

static void of_peo(const struct layer_spec *spec, const struct knobs *k, struct program *p)
{
    bool gemms_first = k->launch_order == LAUNCH_SGLANG;

    begin(p, spec, k->num_rounds);
    stream(p, "main", -1);
    stream(p, "compute", 0);
    if (k->overlap_method == 3)
        stream(p, "comm", -1);
    head(p, spec, k->shared_expert);
    peo_dispatch(k, p);
    for (int r = 0; r < p->num_rounds; r++) {
        peo_ffn(k, p, r);
        if (!gemms_first)
            peo_combine(k, p, r);
    }
    for (int r = 0; r < p->num_rounds && gemms_first; r++)
        peo_combine(k, p, r);
    program_step_add(p, STEP_COMBINE_RECV, -1, MAIN, p->num_sms);
    tail(p, spec, k->shared_expert);
}

int program_of(const struct layer_spec *spec, const struct policy *policy, const struct knobs *k,
               struct program *out)
{
    const struct plan_comm_traits *comm = plan_comm_traits(spec->comm);

    if (comm->kernels != COMM_KERNELS_DEEPEP || (spec->attention && spec->attention_tp > 1))
        return ERR_UNSUPPORTED;
    if (policy == &policy_none)
        of_none(spec, k, out);
    else if (policy == &policy_peo && k->num_rounds <= PROGRAM_ROUNDS)
        of_peo(spec, k, out);
    else if (policy == &policy_sbo)
        of_sbo(spec, k, out);
    else
        return ERR_UNSUPPORTED;
    return out->num_steps < PROGRAM_STEPS ? 0 : ERR_UNSUPPORTED;
}
