/* model/policy/program.h: a schedule as data: the launches of one layer in order, each with its
 * stream and SMs. Plan files hold one (docs/bound.md, "Plan files"); `peosim synthesize` writes
 * them; policy_program builds plans of any number of layers from it. What each step needs it waits
 * for by itself, on whatever stream that runs; a step may wait for more. */
#ifndef PEOSIM_MODEL_POLICY_PROGRAM_H
#define PEOSIM_MODEL_POLICY_PROGRAM_H

#include <stdio.h>

#include "model/policy/policy.h"

enum { PROGRAM_VERSION = 1, PROGRAM_ROUNDS = 32, PROGRAM_STEPS = 160, PROGRAM_STREAMS = 4 };

enum program_kind {
    STEP_ATTENTION, /* nothing where a layer is simulated without */
    STEP_ROUTER,
    STEP_SHARED, /* nothing where the model has none */
    STEP_DISPATCH,
    STEP_DISPATCH_SEND,
    STEP_DISPATCH_RECV,
    STEP_FFN,
    STEP_COMBINE,
    STEP_COMBINE_SEND,
    STEP_COMBINE_RECV,
    STEP_KINDS
};

struct program_step {
    enum program_kind kind;
    int round;  /* -1: of all experts */
    int stream; /* index */
    int sms[3]; /* FFN: gate+up, activation, down; else the first */
    int block_m,
        block_n; /* combine send: follows the down GEMM by units of this size; 0: its end */
    int after;   /* an earlier step that it waits for too; -1 */
    int line;    /* of its file; 0 */
};

struct program {
    int num_sms;                          /* of the GPU that it was made for */
    int num_rounds, size[PROGRAM_ROUNDS]; /* local experts of each round */
    struct plan_stream stream[PROGRAM_STREAMS];
    int num_streams;
    struct program_step step[PROGRAM_STEPS];
    int num_steps;
};

/* ERR_PARSE, ERR_CONFIG (with the line), ERR_IO, ERR_NOTFOUND, logged. What it reads has passed
 * program_check. */
int program_read(const char *path, struct program *out);
int program_write(const struct program *p, FILE *f);

/* Every rule that holds whatever the model: steps after what they need, everything sent received,
 * no step twice, no waiting for what is launched later, SMs of the GPU. 0, or ERR_CONFIG with a
 * sentence in why and the line of the step at fault in *line. */
int program_check(const struct program *p, int *line, char *why, size_t size);

const char *program_kind_name(enum program_kind kind);
/* "ffn 2": as plan files have it. */
void program_step_name(const struct program_step *s, char *buf, size_t size);
/* The first step of a kind and round, or -1. */
int program_find(const struct program *p, enum program_kind kind, int round);
/* Does a combine follow tiles of a down GEMM? */
bool program_follows_tiles(const struct program *p);

/* Appends a step; its index, or -1 where there is no room. */
int program_step_add(struct program *p, enum program_kind kind, int round, int stream, int sms);
/* The schedule of none, peo or sbo, settled knobs, as a program: the same plan. ERR_UNSUPPORTED
 * (not logged) for policies and libraries that steps do not describe. */
int program_of(const struct layer_spec *spec, const struct policy *policy, const struct knobs *k,
               struct program *out);

/* Builds what layer_spec.program holds. Not a row of POLICIES: it has no schedule of its own. */
extern const struct policy policy_program;

#endif
