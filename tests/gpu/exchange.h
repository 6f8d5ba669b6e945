/* tests/gpu/exchange.h: what programs that run the exchange kernels on real GPUs share: one process
 * per GPU with its handle, buffers, drawn inputs and their reference, and whole exchanges launched
 * by any schedule. Only main and the functions below end the process: a failed CHECK says where and
 * exits, and the parent ends the other ranks. */
#ifndef PEOSIM_TESTS_GPU_EXCHANGE_H
#define PEOSIM_TESTS_GPU_EXCHANGE_H

#include <stdint.h>

#include "kernels/comm.h"

/* Of every such program. */
struct exchange_options {
    int rank, ranks;   /* rank is -1 in the parent */
    int gpus;          /* at most so many; 0: all there are */
    unsigned int seed; /* of the inputs; 0: drawn from the clock, so that each run has its own */
    double deadline_s; /* of each wait on the device */
};

/* The kernels of the exchanges under way, by launch order: who ran when, should one wait in vain.
 */
struct exchange_trail {
    struct kernel_stamp *stamps; /* device; NULL: none is kept */
    const char *names[64];
    int parity[64], count;
};

/* What one exchange works in; one per parity. Device memory. Shapes as in kernels/comm.h. */
struct exchange_buffers {
    void *packed_x;
    float *packed_scales;
    struct kernels_row_source *sources;
    int *rows;
    int2 *segments;
    void *y_packed;
    void *y;             /* BF16 [max_tokens][hidden]: the exchange's result */
    unsigned int *units; /* SBO's counters */
    size_t packed_bytes, y_packed_bytes, y_bytes, scale_bytes, units_bytes;
};

/* One rank. The streams do not wait for the default stream. */
struct exchange_env {
    struct exchange_options opt;
    struct kernels_comm *comm; /* NULL unless open */
    struct slots slots;
    cudaStream_t main, side;
    cudaEvent_t event[2];
    struct exchange_buffers buf[2];
    /* Inputs on the device: BF16 [tokens][hidden], the choices in both integer types and their
     * weights [tokens][topk], the factor of each local expert. */
    void *x, *idx32, *idx64;
    float *weights, *factors;
    /* The same on the host, with room for two results. */
    uint16_t *host_x, *host_y, *first_y;
    int *host_idx;
    float *host_weights;
    double *ref; /* [tokens][hidden] */
    struct exchange_trail trail;
};

/* How an exchange is run. */
struct exchange_how {
    int rounds, num_sms, fused, sbo, parity;
    int dedup;     /* by kernels/dedup.h */
    int idx_bytes; /* 8: 64-bit choices and column-major scales, else 32-bit and row-major ones */
    enum kernels_copy copy;
    unsigned int delay_ns;
    int hot_rows; /* as dispatch_args has it */
    struct kernels_pacing pacing;
};

/* Which experts the tokens choose; what each means is beside the code that draws them. */
enum exchange_routing {
    EXCHANGE_UNIFORM,
    EXCHANGE_SKEWED,
    EXCHANGE_ONE_RANK,
    EXCHANGE_ONE_EXPERT,
    EXCHANGE_MASKED,
    EXCHANGE_ROUTINGS
};

/* Says what failed, with what the device says of it, and exits with 1. */
void exchange_die(const struct exchange_env *e, const char *file, int line, const char *what);

#define CHECK(e, condition)                                                                        \
    do {                                                                                           \
        if (!(condition))                                                                          \
            exchange_die(e, __FILE__, __LINE__, #condition);                                       \
    } while (0)

/* Zeroed memory, never NULL; for cudaFree and free. The device's zeros are ordered before what the
 * default stream does next. */
void *exchange_device_alloc(const struct exchange_env *e, size_t bytes);
void *exchange_host_alloc(const struct exchange_env *e, size_t bytes);

/* The next 32 bits of the generator (splitmix64) whose state the caller owns. */
unsigned int exchange_rng_next(unsigned long long *state);

/* Collective: a handle of this shape (ranks and rank are filled in), and all buffers for it.
 * timeout_ns of a wait on the device; 0: the option's deadline. exchange_close frees both, and
 * leaves the streams. */
void exchange_open(struct exchange_env *e, struct slots_shape shape, size_t scratch_bytes,
                   long long timeout_ns, const unsigned char *id);
void exchange_close(struct exchange_env *e);

/* Draws x, choices and weights of `tokens` tokens, on host and device. The same for the same seeds
 * (the option's and this one), of each rank its own. */
void exchange_inputs_make(struct exchange_env *e, enum exchange_routing routing, int tokens,
                          unsigned int seed);

/* ref, in double, from these inputs: x as it was cast for the wire times the sum of each choice's
 * weight times its expert's factor, which is all that the stand-in for the experts does. */
void exchange_reference_make(struct exchange_env *e, int tokens);

/* The two kernels' arguments for round 0 in the buffers of how->parity, without stamps. */
struct dispatch_args exchange_dispatch_args(struct exchange_env *e, const struct exchange_how *how,
                                            int tokens);
struct combine_args exchange_combine_args(struct exchange_env *e, const struct exchange_how *how,
                                          int tokens);

/* Dispatch, the stand-in for the experts, and combine: y of how->parity once `stream` is done.
 * SBO also uses the side stream, which `stream` waits for. Capturable. */
void exchange_launch(struct exchange_env *e, const struct exchange_how *how, int tokens,
                     cudaStream_t stream);

/* Waits for both streams; a wait in vain on the device fails. */
void exchange_finish(struct exchange_env *e);
/* The same, but prints the trail once half a deadline has passed. Between exchange_trail_begin and
 * exchange_trail_end. */
void exchange_finish_watched(struct exchange_env *e);

/* From here on launches keep a trail, of 64 kernels at most; begun again, it is empty. Nothing may
 * be under way. */
void exchange_trail_begin(struct exchange_env *e);
void exchange_trail_end(struct exchange_env *e);

/* What body(e, arg) launches on the main stream, as a graph that the caller destroys. */
cudaGraphExec_t exchange_capture(struct exchange_env *e,
                                 void (*body)(struct exchange_env *, const void *),
                                 const void *arg);

enum exchange_kind { EXCHANGE_FLAG, EXCHANGE_INT, EXCHANGE_UINT, EXCHANGE_REAL, EXCHANGE_TEXT };

/* An option of the command line. `to`: int, int, unsigned int, double or const char *, by kind; it
 * is left alone where the option is not given. */
struct exchange_option {
    const char *name;  /* "--replays" */
    const char *value; /* what the usage calls it: "N"; NULL for a flag */
    enum exchange_kind kind;
    void *to;
};

struct exchange_program {
    const struct exchange_option *own; /* beside the shared ones; a NULL name ends them */
    /* One rank's work, without an open handle: id is for the first exchange_open. */
    void (*run)(struct exchange_env *e, unsigned char *id, const void *arg);
    const void *arg;
};

/* All of main: reads the options (--gpus, --seed, --deadline and the program's own), then runs this
 * program again once per GPU and, in those, program->run. Prints "skipped" where there is no GPU,
 * else whether all ranks passed. Returns the exit status: 0, 1, or 2 for bad usage. */
int exchange_main(int argc, char **argv, const struct exchange_program *program);

#endif
