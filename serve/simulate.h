/* serve/simulate.h: requests through instances of an engine with continuous batching.
 *
 * An instance works in steps. A step holds one token of every request that decodes (at most
 * max_requests) and a chunk of waiting prompts (at most step_tokens in all), first come first
 * served; the order says who goes first. A request is admitted when its whole cache, prompt and
 * answer, fits what is left of cache_tokens. Its first token comes with the end of the step that
 * ends its prompt, each further one with a step.
 *
 * Disaggregated: prompts are computed by instances of their own; a request's cache then waits for
 * its turn on that instance's link to a decode instance, and its first token counts from there.
 *
 * Arrivals go to the instance with fewest requests. Memory is that of the requests in flight: times
 * go into histograms with cells of 0.5%. */
#ifndef PEOSIM_SERVE_SIMULATE_H
#define PEOSIM_SERVE_SIMULATE_H

#include <stdint.h>

#include "serve/step.h"
#include "serve/traffic.h"

enum serve_order {
    SERVE_PROMPTS_FIRST, /* a step with prompts holds nothing else (SGLang) */
    SERVE_MIXED          /* decoding tokens first, prompts fill the step (chunked prefill) */
};

struct serve_rules {
    int workers, prefill_workers; /* prefill_workers 0: aggregated */
    int max_requests, step_tokens;
    enum serve_order order;
    double cache_tokens; /* of one instance; 0 = no limit */
    double cache_bytes;  /* of one prompt token, for the transfer */
    double link_GBps;    /* of a prefill instance; 0 = the transfer takes no time */
    uint64_t requests;   /* answered at least, then the run ends; 0 = until a trace ends */
    /* Time of a step, us; prefill: on an instance for prompts alone. */
    int (*step_us)(void *self, const struct step_load *load, bool prefill, double *us);
    void *self;
};

struct serve_times {
    double mean, p50, p90, p99;
};

struct serve_result {
    uint64_t requests, steps;
    struct serve_times ttft_ms, tpot_ms; /* tpot: of requests with two tokens and more */
    double elapsed_s, tokens;            /* answered tokens */
    double busy, prefill_busy;           /* share of time that instances work */
    double mean_batch;                   /* decoding requests in a step that has some */
    double cached_share;                 /* of prompt tokens */
    double most_in_flight;
};

/* ERR_DATA: a bad trace; ERR_INFEASIBLE: a request that no instance can hold (logged); those of
 * step_us. */
int serve_simulate(const struct serve_rules *rules, const struct traffic_spec *traffic,
                   struct serve_result *out);

/* The percentile of a result's times, between those that it keeps. */
double serve_times_at(const struct serve_times *t, double percentile);

#endif
