/* trace/gpu_result.h: what a plan took and gave on GPUs, beside its spans: filled by validate/,
 * read back and held against predictions above. */
#ifndef PEOSIM_TRACE_GPU_RESULT_H
#define PEOSIM_TRACE_GPU_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "plan/plan.h"

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

/* What else the GPUs did or suffered while totals were taken: bits of gpu_result.disturbed. */
enum { GPU_SHARED = 1, GPU_THROTTLED = 2 };

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
    unsigned disturbed; /* GPU_SHARED: other processes had work there; GPU_THROTTLED: heat or power
                           held a clock back; of any rank */
    int emulated_ranks; /* > 0: slice mode, the EP size emulated */
};

#endif
