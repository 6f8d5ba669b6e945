/* validate/gpu.h: back end 2 as commands see it: the same plan on real GPUs. Plain C, no CUDA
 * header. Where the program was built without CUDA, gpu_built() is false and everything else
 * returns ERR_UNSUPPORTED (validate/no_gpu.c). One process per GPU: validate/team.h. */
#ifndef PEOSIM_VALIDATE_GPU_H
#define PEOSIM_VALIDATE_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plan/plan.h"
#include "trace/trace.h"
#include "validate/team.h"

bool gpu_built(void);

/* What --experimental-gin says of itself wherever it is an option. */
#define GPU_GIN_HELP                                                                               \
    "let ranks lie beyond NVLink: sends by NCCL's GPU-initiated networking; UNTESTED"

struct gpu_options {
    int repeats;       /* samples of the layer time, after the first, which is discarded */
    int layers;        /* layers in one graph, so that its start is shared; >= 2. A plan of several
                          layers is run as often as it takes, but at least twice */
    bool eager;        /* launched one by one, no graph */
    int max_tokens;    /* buffers are made for so many tokens per rank */
    int check_tokens;  /* tokens per rank compared with the reference; 0 = all */
    double pace_GBps;  /* > 0: receives are held back as a network of this rate would (emulation) */
    double pace_us;    /* and this latency */
    double delay_us;   /* tests: every CTA of dispatch and combine starts up to so much later */
    int check_replays; /* tests: so many more replays, the output of each compared bit by bit */
    bool cupti;        /* record kernels with CUPTI too, where it is installed */
    uint64_t seed;     /* of inputs and weights */
};

/* How the times of an op are known, best first. Kernels of libraries leave no stamp: CUPTI records
 * them; without it their times are inferred from their neighbours'. */
enum gpu_source { GPU_SOURCE_STAMP, GPU_SOURCE_CUPTI, GPU_SOURCE_INFERRED };

static inline const char *gpu_source_name(enum gpu_source source)
{
    return source == GPU_SOURCE_STAMP ? "stamp" : source == GPU_SOURCE_CUPTI ? "cupti" : "inferred";
}

/* What CUPTI's pass gave: replays of the stamped graph while it records. */
struct gpu_cupti_result {
    int version;     /* CUPTI_API_VERSION of the library, 130001 for 13.0.1; 0: there was no pass */
    bool ok;         /* all kernels recorded, and the total moved by at most 5%; else not used */
    double total_us; /* median with stamps and CUPTI */
    double spread_us;      /* clocks: 90% of kernels' ends are nearer to their stamps' than this */
    int kernels;           /* own kernels compared: a record's length minus the stamp's, rank 0 */
    double longer_us;      /* median */
    double longer_most_us; /* farthest from 0 */
};

/* What one plan took and gave. The same on rank 0 only; others get zeros. */
struct gpu_result {
    int n;                            /* samples; each is the slowest rank's time of one layer (of
                                         several layers: in the steady period, plan_period) */
    double median_us, p95_us, min_us; /* untraced */
    double traced_us;                 /* median with stamps */
    bool spans_ok;                    /* tracing moved the total by at most 5% */
    int checked;                      /* tokens compared, all ranks */
    double worst_error;               /* largest ||y - ref|| / ||ref|| of a token */
    uint64_t hash;                    /* of all ranks' outputs */
    double clock_residual_us;         /* half the longest best round trip to rank 0 */
    double kind_us[OP_KIND_COUNT];    /* sum over the plan's ops of a kind, waiting excluded (fused
                                         kernels wait while they send: theirs is counted): mean
                                         over ranks, median over traced layers; < 0: none */
    double kind_wait_us[OP_KIND_COUNT];
    enum gpu_source kind_source[OP_KIND_COUNT]; /* of kind_us; the worst of its ops */
    struct gpu_cupti_result cupti;
    int emulated_ranks; /* > 0: slice mode, the EP size emulated */
};

struct gpu_session;

/* Collective. Refuses GPUs other than sm_90, and ranks beyond NVLink unless experimental_gin, which
 * sends to them by NCCL's GPU-initiated networking (untested). */
int gpu_session_open(struct gpu_session **out, struct gpu_team *team, bool experimental_gin);
void gpu_session_close(struct gpu_session *s); /* accepts NULL */

/* Collective: runs a plan whose ranks are the processes, or a multiple of them (slice mode: each
 * GPU carries the local experts of one rank of the larger group, and as many rows). Measures,
 * checks the output, and on rank 0 makes a trace (caller frees; spans only if spans_ok; NULL
 * elsewhere). ERR_UNSUPPORTED for ops without a kernel, ERR_INFEASIBLE for grids that cannot be
 * (logged; the session stays good after these two), ERR_GPU, ERR_TIMEOUT, ERR_DATA (wrong output).
 */
int gpu_session_run(struct gpu_session *s, const struct plan *plan, const struct gpu_options *o,
                    struct gpu_result *result, struct trace **trace);

/* Collective: the microbenchmarks that profiles are fitted to, never whole layers. Rank 0 writes
 * the CSV (columns in gpu_bench.c). quick: a few points, to see that it runs. only: one part of
 * them, "machine", "links", "experts", "dense", "exchange", "interference", "a2a", "router",
 * "crossover" or "attention"; NULL or "": all. ERR_USAGE for another name. */
int gpu_bench(struct gpu_session *s, const char *csv_path, bool quick, const char *only);

/* "driver 13000, CUDA 13000, NCCL 22809, NVIDIA H200": of this process's GPU. */
void gpu_versions(const struct gpu_session *s, char *buf, size_t size);

#endif
