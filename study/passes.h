/* study/passes.h: whole decode steps and prefill passes of every point of a configuration. */
#ifndef PEOSIM_STUDY_PASSES_H
#define PEOSIM_STUDY_PASSES_H

#include "study/pass.h"

struct passes_options {
    double acceptance, reserve_GB;
    int draws;
    bool all_layers;
};

struct passes_point {
    size_t scenario;
    const struct policy *policy;
    struct knobs knobs;
    bool skipped, left; /* left: interrupted before it began; skipped too */
    int batch, ranks, phase;
    double tokens; /* that one step yields on one GPU */
    double requests;
    int passes; /* prefill: that a prompt takes */
    struct pass_result r;
    struct pass_spread spread;
    struct memory_sum memory;
    char why[400]; /* skipped: what does not fit */
};

struct passes {
    const struct config *config;
    struct passes_options options;
    struct passes_point *points;
    size_t n, num_left;
    int interrupt;
};

/* Reads what all points name and finds those that cannot run; passes_free in any case. */
int passes_open(const struct config *c, const struct passes_options *o, struct passes *out);
/* Evaluates all points on `jobs` threads. ERR_INFEASIBLE (logged) where none fits its GPUs; what
 * does not is named once per batch. interrupt: of base/interrupt.h, or -1; once it comes no more
 * points begin, and num_left of them are skipped. */
int passes_run(struct passes *a, int jobs, int interrupt,
               void (*progress)(void *self, size_t done, size_t all), void *self);
void passes_free(struct passes *a);

double passes_tokens_s_gpu(const struct passes_point *p);
/* Of one request; prefill has none. */
double passes_tpot_ms(const struct passes_point *p);
/* Of a prompt that finds the GPUs idle: its passes. Decode has none. */
double passes_ttft_ms(const struct passes_point *p);
/* The point with the most tokens per second and GPU, NULL where none can run. */
const struct passes_point *passes_best(const struct passes *a);
/* Of several points of a scenario, is this the one with most tokens per second? */
bool passes_is_best(const struct passes *a, size_t i);
/* The timeline of one point's pass (pass_timeline). title: what it is of. */
int passes_timeline(const struct passes *a, const struct passes_point *p, char *title, size_t size,
                    struct trace_log **out);

#endif
