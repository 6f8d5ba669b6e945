/* study/synthesize.h: schedules found by search, beyond those that policies name. Begins with the
 * best of every policy of the configuration; changes the best few at random, one to three things at
 * a time (rounds and their sizes, order, streams, SMs, fused or split, the shared expert's place);
 * keeps what is faster. What was simulated is not simulated again, and a scenario ends early where
 * the bound leaves less than SYNTH_CLOSE. The same seed and number of evaluations give the same
 * answer for any number of threads: scenarios are searched apart. */
#ifndef PEOSIM_STUDY_SYNTHESIZE_H
#define PEOSIM_STUDY_SYNTHESIZE_H

#include "model/policy/program.h"
#include "study/bound.h"
#include "study/search.h"

#define SYNTH_CLOSE 0.005

struct synth_pick {
    size_t scenario;
    /* The fastest of the configuration's policies with their searched knobs. */
    const struct policy *named;
    struct knobs knobs;
    double named_us;
    bool has_from;       /* the named one, or the best that steps describe, as a program */
    struct program from; /* what the search's best is held against in words */
    /* The best of all: a program, or the named one where nothing found is faster. */
    bool found;
    struct program program;
    double us;
    struct bound bound; /* the lower of both kinds of kernels */
    double gain_pct;    /* named_us / us - 1 */
    bool has_interval;
    double gain_low_pct, gain_high_pct; /* 90% of drawn profiles, and gain_pct */
    size_t simulations;
};

struct synthesis {
    const struct config *config;
    struct synth_pick *pick;
    size_t num_picks;
};

struct synth_options {
    int evaluations; /* simulations per scenario behind those of the policies */
    int draws;       /* profiles per interval, 0: none */
    unsigned long seed;
};

/* ERR_NOMEM, or what evaluating gives. interrupt: of base/interrupt.h or -1; once it comes each
 * scenario keeps the best that it has. */
int synthesize(const struct config *c, int jobs, int interrupt, const struct synth_options *options,
               struct synthesis **out);
void synthesis_free(struct synthesis *s); /* accepts NULL */

#endif
