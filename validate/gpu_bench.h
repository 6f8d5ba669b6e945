/* validate/gpu_bench.h: what the microbenchmarks share. Inside back end 2 only. */
#ifndef PEOSIM_VALIDATE_GPU_BENCH_H
#define PEOSIM_VALIDATE_GPU_BENCH_H

#include <stdio.h>

#include "validate/gpu_session.h"

#define BENCH_MAX_STAMPS 64
#define BENCH_REPS       9

/* One line of the CSV; 0 leaves a cell empty. */
struct bench_row {
    const char *kind, *dtype;
    int num_sms, tokens, experts, rounds, round, hidden, inter, rows, groups, n, k, topk;
    double bytes, alone_us;
};

struct bench {
    struct gpu_session *s;
    FILE *csv; /* rank 0 */
    bool quick;
    const char *only;                 /* the one part to run; NULL: all */
    cudaStream_t side;                /* less urgent than the session's */
    struct kernel_stamp *stamps;      /* device, BENCH_MAX_STAMPS */
    struct kernel_stamp *reset, *got; /* pinned */
    int num_rows;
};

/* Collective. us[n] are this rank's samples: the line holds the median and p95 over samples of the
 * mean over ranks. */
int bench_report(struct bench *b, const struct bench_row *row, const double *us, int n);
/* Device stamps made ready on the session's stream; read back after everything is done. */
int bench_stamps_reset(struct bench *b);
int bench_stamps_read(struct bench *b);
/* Duration of a stamp read back, in us. */
double bench_us(const struct bench *b, int stamp);
/* Random values in the packed tensors, as many rows per expert as given. */
int bench_rows_set(struct bench *b, int rows);
int bench_operands(struct bench *b);
struct grouped_gemm_args;
struct grouped_gemm_args bench_gemm_args(struct bench *b, bool up, int first, int count,
                                         int num_sms, int hint);

int bench_exchange(struct bench *b, const int *tokens, int num_tokens); /* gpu_bench_comm.c */
int bench_links(struct bench *b);
int bench_interference(struct bench *b);
int bench_a2a(struct bench *b);
int bench_experts(struct bench *b); /* gpu_bench_compute.c */
int bench_dense(struct bench *b);
int bench_machine(struct bench *b);
int bench_router(struct bench *b);    /* gpu_bench_dense.c */
int bench_crossover(struct bench *b); /* opens layers of its own */

#endif
