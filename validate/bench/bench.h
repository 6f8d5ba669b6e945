/* validate/bench/bench.h: what the microbenchmarks share. Inside back end 2 only. */
#ifndef PEOSIM_VALIDATE_BENCH_BENCH_H
#define PEOSIM_VALIDATE_BENCH_BENCH_H

#include <stdio.h>

#include "validate/gpu_session.h"

#define BENCH_MAX_STAMPS 64
#define BENCH_REPS       9
#define BENCH_FEW_REPS   5

/* One line of the CSV; 0 leaves a cell empty. */
struct bench_row {
    const char *kind, *dtype;
    int num_sms, tokens, experts, rounds, round, hidden, inter, rows, groups, n, k, topk;
    double bytes;
    double alone_us;   /* interference: the same kernel alone */
    double overlap_us; /* interference: how long both ran */
    double wait_us;    /* receives: time to see that the data is there */
    int block_m;       /* grouped GEMM: rows of a tile, forced, as finished tiles are counted */
    double skew;       /* rows by a power law of this exponent over local experts; 0: even */
    int hot_rows;      /* exchange: most rows of one expert from one rank */
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
double bench_wait_us(const struct bench *b, int stamp);
/* Times what `start` enqueues on the session's stream, which leaves stamp 0: BENCH_FEW_REPS times
 * after a first one. */
int bench_repeat(struct bench *b, int (*start)(struct bench *b, const void *args), const void *args,
                 const struct bench_row *row);
/* Random values in the packed tensors, as many rows per expert as given. */
int bench_rows_set(struct bench *b, int rows);
int bench_rows_upload(struct bench *b, const int *rows);
int bench_operands(struct bench *b);
struct grouped_gemm_args;
struct grouped_gemm_args bench_gemm_args(struct bench *b, bool up, int first, int count,
                                         int num_sms, int hint);

/* The exchange of the session's layer */
struct dispatch_args bench_dispatch_args(struct bench *b, int round, int rounds, int num_sms);
struct combine_args bench_combine_args(struct bench *b, int round, int rounds, int num_sms);
/* Tokens' choices; skew: by a power law over each rank's experts. */
int bench_inputs_draw(struct bench *b, int tokens);
int bench_inputs_skewed(struct bench *b, int tokens, double skew, int *hot_rows);
/* The library all-to-alls of the choices that bench_inputs_draw draws, dispatches then combines of
 * `rounds` rounds each. */
struct bench_a2a {
    struct plan *plan;
    struct gpu_a2a *a2a;
};
int bench_a2a_open(struct bench *b, int tokens, int rounds, int num_sms, struct bench_a2a *out);
void bench_a2a_close(struct bench_a2a *x);
/* Can the exchange's kernels run on so few SMs? */
bool bench_grid_possible(const struct bench *b, int rounds, int num_sms);
int bench_barrier(struct bench *b);

/* Something that is launched again and again: library kernels leave no stamps. */
struct bench_chain {
    int (*launch)(void *self, cudaStream_t stream);
    void *self;
    int count; /* launches in one graph */
};
/* us[BENCH_REPS]: time of one launch, the gaps inside it and behind it included. */
int bench_chain_time(struct bench *b, const struct bench_chain *c, double *us);

int bench_exchange(struct bench *b, const int *tokens, int num_tokens); /* gpu_bench_comm.c */
int bench_exchange_skewed(struct bench *b);
int bench_dedup(struct bench *b, const int *tokens, int num_tokens);
int bench_links(struct bench *b);
int bench_a2a(struct bench *b);
int bench_interference(struct bench *b); /* gpu_bench_beside.c */
int bench_a2a_beside(struct bench *b);
int bench_experts(struct bench *b);          /* gpu_bench_compute.c */
int bench_dense(struct bench *b, int least); /* tokens */
/* A chain of launches of one library GEMM; names the row by what the library had. */
int bench_dense_point(struct bench *b, struct gpu_dense_entry *e, const struct dense_gemm_args *a,
                      struct bench_row *row);
int bench_dense_shapes(struct bench *b); /* shapes.c: beside the session's last layer */
int bench_machine(struct bench *b);
int bench_router(struct bench *b);    /* gpu_bench_dense.c */
int bench_crossover(struct bench *b); /* opens layers of its own */
int bench_attention(struct bench *b); /* gpu_bench_attn.c */

#endif
