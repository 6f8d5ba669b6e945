/* validate/gpu_marks.h: from stamps and records to the times of ops. Inside back end 2 only. */
#ifndef PEOSIM_VALIDATE_GPU_MARKS_H
#define PEOSIM_VALIDATE_GPU_MARKS_H

#include "validate/gpu_backend.h"

#define GPU_TRACED_REPLAYS 7

/* What one replay left; records: CUPTI's, or NULL. All [passes][run_marks]. */
struct gpu_left {
    struct kernel_stamp *stamps;
    struct gpu_record *records;
    bool *own; /* a stamp that is an op's own; with records */
    struct gpu_cupti_fit fit;
};

/* Pass l >= 1 of a graph. It begins where the mark before it ends, or where the last op of the pass
 * before it ended. */
void gpu_marks_of_pass(const struct gpu_run *r, const struct gpu_left *left, int l,
                       struct gpu_mark *m);
/* From all ranks' marks: medians per kind, and the trace of the pass whose length is the median.
 * The first pass of a graph is left out: it carries the ranks' skew. */
int gpu_marks_evaluate(const struct gpu_run *r, const struct gpu_mark *all,
                       struct gpu_result *result, struct trace **trace);
/* Stamped replays, then recorded ones (gpu_spans.c): fills traced_us, spans_ok, the times of kinds
 * and, on rank 0, the trace. Collective. */
int gpu_spans_measure(struct gpu_run *r, struct gpu_result *result, struct trace **trace);

#endif
