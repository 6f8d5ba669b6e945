/* validate/gpu.h: back end 2 as commands see it: the same plan on real GPUs. Plain C, no CUDA
 * header. Where the program was built without CUDA, gpu_built() is false and everything else
 * returns ERR_UNSUPPORTED (validate/no_gpu.c). One process per GPU: validate/team.h. */
#ifndef PEOSIM_VALIDATE_GPU_H
#define PEOSIM_VALIDATE_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plan/plan.h"
#include "trace/gpu_result.h"
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
