/* serve/planner.h: the cheapest deployment that serves a traffic within its promises, by simulated
 * requests: every combination of GPU kind, engine, split and mode that is asked for, with as few
 * instances of it as keep the promises at their percentile. */
#ifndef PEOSIM_SERVE_PLANNER_H
#define PEOSIM_SERVE_PLANNER_H

#include "base/opt.h"
#include "serve/engine.h"
#include "serve/simulate.h"

enum { PLANNER_SYSTEMS = 8 };

/* The keys of its file; lists are words with commas between. */
struct planner_keys {
    char *model, *gpus, *engines, *modes, *gemm_dtype, *expert_dtype, *kv_dtype;
    char *tp, *dp, *ep;
    int max_workers, max_requests, step_tokens;
    double reserve_GB, link_GBps;
    int kind, isl, osl, requests, seed;
    double requests_s, variation, spread, speed;
    char *trace;
    double ttft_ms, tpot_ms, percentile;
    double usd[PLANNER_SYSTEMS];
};
extern const struct opt planner_options[];

struct planned {
    struct serve_deployment d; /* workers as found */
    bool runs, ok;             /* ok: keeps both promises */
    bool pareto;               /* no other of these is cheaper and as fast for a user */
    char why[200];             /* does not run, or misses: the reason */
    double cache_tokens;       /* of one instance */
    struct serve_result r;
    double ttft_ms, tpot_ms; /* at the percentile */
    int decode_gpus, gpus;
    double usd_per_hour, usd_per_Mtoken;
    double tokens_s_gpu, tokens_s_decode_gpu; /* output tokens over all GPUs; over decode's alone */
};

struct planner {
    struct planner_keys keys;
    char *path, hash[65];
    struct planned *row; /* cheapest that keeps the promises first */
    size_t num;
    size_t simulations;
};

/* sets: "key=value" words over the file. ERR_CONFIG and others, logged with file and line. */
int planner_open(const char *path, const char *const *sets, size_t num_sets, struct planner *out);
void planner_close(struct planner *p); /* accepts a zeroed one */
int planner_run(struct planner *p);

#endif
