/* calib/read_peo.h: kernels of PEO layers on real GPUs (peo_spans): which op of the schedule each
 * is follows from its place among the kernels of its name. */
#ifndef PEOSIM_CALIB_READ_PEO_H
#define PEOSIM_CALIB_READ_PEO_H

#include "calib/read.h"

/* One kernel of a replay. */
struct peo_span {
    int tokens, schedule; /* schedule: PEO's method, 0 = no overlap */
    int num_rounds, sms;  /* sms: n, the communication SMs */
    int replay, line;
    enum plan_op_kind kind; /* fused or parts, as the schedule has it */
    int round;
    int kernel_sms; /* that this kernel was given, of num_sms */
    int stream;
    double start_us, dur_us;
};
struct peo_shape {
    int hidden, inter, experts, topk, ranks;
};

/* The shapes that the files name without stating them. ERR_NOTFOUND. */
int peo_shape_find(const char *name, struct peo_shape *out);
/* "non-overlap" is 0, "peo-2" is 2; -1: another. */
int peo_schedule(const char *name);

/* Spans of the file by schedule, replay and start; bad rows are named and skipped. The caller frees
 * *spans. ERR_NOMEM. */
int peo_spans_read(struct data_set *set, const struct csv *csv, struct peo_span **spans,
                   size_t *num, struct peo_shape *shape);
/* Rows of calib/data.h made of them. */
int read_peo_spans(struct data_set *set, const struct csv *csv);

#endif
