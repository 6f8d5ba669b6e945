/* trace/backend.h: who runs a plan. sim/ and validate/gpu_* each give one; commands see only this.
 */
#ifndef PEOSIM_TRACE_BACKEND_H
#define PEOSIM_TRACE_BACKEND_H

#include "plan/plan.h"
#include "trace/trace.h"

struct backend {
    const char *name; /* "sim" or "gpu" */
    void *self;
    /* Runs the plan once on all ranks; spans go to sink. 0 or an error code. */
    int (*run)(void *self, const struct plan *plan, struct trace_sink *sink, uint64_t *events);
};

#endif
