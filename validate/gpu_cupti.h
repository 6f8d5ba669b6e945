/* validate/gpu_cupti.h: when kernels ran, by the activity records of CUPTI (CUDA's profiling
 * interface): the only times of library kernels, and a check of our own kernels' stamps. The
 * library is loaded at run time: where it or its headers are missing, opening it says so and all
 * else goes on without. Inside back end 2 only.
 *
 * Use: start; tag and capture or launch; replay; wait for the GPU; collect (any number of times);
 * stop. One at a time in a process, since CUPTI's buffer callbacks carry no user pointer. Source:
 * cupti_activity.h and cupti_callbacks.h of CUDA 13.0. */
#ifndef PEOSIM_VALIDATE_GPU_CUPTI_H
#define PEOSIM_VALIDATE_GPU_CUPTI_H

#include <stdbool.h>

#include "kernels/stamp.h"

struct gpu_cupti;

/* All kernels of one tag in one replay. CUPTI's clock, ns; kernels 0: none ran. A record spans a
 * little more than a stamp: from before the first CTA to after the last one. */
struct gpu_record {
    long long start_ns, end_ns;
    int kernels;
};

/* Loads the library, initialises nothing. ERR_UNSUPPORTED: it or its headers are missing, or it is
 * not of the headers' major version; *why then says which. ERR_NOMEM. */
int gpu_cupti_open(struct gpu_cupti **out, const char **why);
void gpu_cupti_close(struct gpu_cupti *c); /* accepts NULL; stops */
/* CUPTI_API_VERSION of the library loaded: 130001 is 13.0 update 1. */
int gpu_cupti_version(const struct gpu_cupti *c);

/* From here on kernels are recorded. The GPU must be idle. ERR_UNSUPPORTED (logged as a warning):
 * CUPTI refuses, as it does under another profiler. */
int gpu_cupti_start(struct gpu_cupti *c);
/* Detaches CUPTI from the process, so that later replays are what they were before it. The GPU must
 * be idle, and graphs captured since start gone. Accepts NULL. */
void gpu_cupti_stop(struct gpu_cupti *c);

/* Kernels that this process captures or launches from now on are the tag's (>= 0); -1: nobody's.
 * Those of a graph keep their tag in every replay. Accepts NULL, and costs nothing when stopped. */
void gpu_cupti_tag(struct gpu_cupti *c, int tag);

/* What ran since start or the last collect, by tag: records[0..num-1]. The GPU's work must be done.
 * ERR_DATA (logged as a warning): CUPTI has lost records. */
int gpu_cupti_collect(struct gpu_cupti *c, struct gpu_record *records, int num);

/* From CUPTI's clock to that of stamps, by kernels that have both. */
struct gpu_cupti_fit {
    int n;                      /* kernels with a stamp and a record */
    long long start_ns, end_ns; /* to add to a record's start and end: medians of their own, since
                                   both ends of a record lie outside the stamp's */
    double spread_ns;           /* 90% of those kernels' ends are nearer to their stamps' than this.
                                   Starts are not in it: where CTAs wait for SMs, a kernel has begun
                                   for CUPTI before its first CTA starts */
    double longer_ns;           /* record's length minus stamp's: median */
    double longer_most_ns;      /* and the one farthest from 0 */
};

/* Where own[i], records[i] and stamps[i] are of the same launch; all within one replay, since the
 * clocks drift. Several kernels under one tag, and those without a stamp (no CTA ended), are left
 * out. ERR_DATA: none is left; ERR_NOMEM. */
int gpu_cupti_fit(const struct gpu_record *records, const struct kernel_stamp *stamps,
                  const bool *own, int num, struct gpu_cupti_fit *out);

#endif
