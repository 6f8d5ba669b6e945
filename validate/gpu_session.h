/* validate/gpu_session.h: what gpu_*.c files share: this rank's GPU, its exchange with the others,
 * and the memory of a layer. Inside back end 2 only. */
#ifndef PEOSIM_VALIDATE_GPU_SESSION_H
#define PEOSIM_VALIDATE_GPU_SESSION_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "kernels/comm.h"
#include "kernels/dense_gemm.h"
#include "validate/gpu.h"
#include "validate/gpu_data.h"

#define GPU_MAX_RANKS   64
#define GPU_MAX_DENSE   96
#define GPU_ROUTER_STEP 16
#define GPU_MAX_BATCHES 2    /* of a plan: whole, or two halves */
#define GPU_WAIT_S      60.0 /* deadline of every wait of the host */
#define GPU_DRAIN_S     15.0 /* once work is given up */

int gpu_check(cudaError_t status, const char *what, const char *file, int line);
#define GPU(call) gpu_check(call, #call, __FILE__, __LINE__)

/* What the memory of a layer depends on. */
struct gpu_shape {
    int vranks; /* EP size; the processes, or a multiple of them */
    int experts, hidden, inter, topk, max_tokens;
    bool fp8;
    bool dedup; /* room for the exchange of one row per token and rank */
};

/* The packed tensors of one buffer set; M = rows_max rows per local expert. */
struct gpu_half {
    void *packed_x; /* [El][M][H] e4m3 or BF16 */
    float *packed_scales;
    struct kernels_row_source *sources;
    int *rows;
    int2 *segments;
    void *gate_up; /* BF16 [El][M][2 inter] */
    void *act;     /* [El][M][inter] */
    float *act_scales;
    void *y_packed; /* BF16 [El][M][H] */
    unsigned int *units;
};

/* The shared expert and the router: dense operands of fixed random values. */
struct gpu_dense_memory {
    int inter;
    void *x, *up, *down, *gate_up, *act, *out;
    float *x_scales, *up_scales, *down_scales, *act_scales;
    int *rows;             /* of each batch */
    void *router, *logits; /* experts rounded up to GPU_ROUTER_STEP, as the library wants them */
    int *choices;          /* of the router's top-k; nobody reads them: the plan has its own */
    float *choice_weights;
};

struct gpu_layer {
    struct gpu_shape shape;
    struct kernels_comm *comm;
    struct slots slots;
    struct data_weights weights;
    void *w_up, *w_down;
    float *w_up_scales, *w_down_scales;
    float *w_up_lines, *w_down_lines; /* the same, padded, for library GEMMs per expert; or NULL */
    struct gpu_half half[2];
    struct gpu_dense_memory dense;
    void *x, *y; /* BF16 [max_tokens][H]; y: as many for each layer of the plan */
    int y_layers;
    int *topk_idx;
    float *topk_weights;
    /* What is uploaded, and the reference for some of its tokens. */
    struct data_inputs inputs;
    int32_t *expert; /* the choices of this rank's tokens; inputs.expert */
    uint64_t inputs_key;
    int *ref_token;
    int num_ref;
    double *ref;
};

struct gpu_dense_entry {
    enum gemm_dtype wanted; /* shape says what the library had instead */
    struct dense_gemm_shape shape;
    struct dense_gemm *gemm;
};

struct gpu_cupti;
struct gpu_state;

struct gpu_session {
    struct gpu_team *team;
    int rank, ranks, sm_count, device;
    bool experimental_gin;        /* every communicator may send beyond NVLink */
    bool failed;                  /* the ranks are no longer in step: nothing collective any more */
    struct kernels_comm *control; /* a small handle for gathers, barriers and clocks */
    struct gpu_layer *layer;      /* of the last shape */
    cudaStream_t main;
    struct gpu_dense_entry dense[GPU_MAX_DENSE];
    int num_dense;
    double gap_ns; /* between two kernels of a stream in a graph */
    long long clock_offset_ns[GPU_MAX_RANKS], clock_trip_ns[GPU_MAX_RANKS];
    long long *pace_offset_ns; /* device copy */
    struct gpu_state *state;   /* NULL: there is no NVML */
    struct gpu_cupti *cupti;   /* opened on first use */
    bool cupti_off;            /* on some rank it cannot be used; that was said */
};

/* gpu_session.c: the GPU, the exchange among ranks, clocks, versions. */

/* Device memory, filled with 0xff so that unwritten values show. ERR_GPU, logged. */
int gpu_alloc(void **out, size_t bytes);
int gpu_upload(void *to, const void *from, size_t bytes);
/* The stream's work is done, and no device wait passed its deadline. ERR_TIMEOUT, ERR_GPU. */
int gpu_wait(struct gpu_session *s, cudaStream_t stream);
/* The same of an event, and of the time since the call: for many pieces of work in a row. */
int gpu_wait_event(struct gpu_session *s, cudaEvent_t event);
/* A kernel of one CTA that only leaves a stamp; NULL: none. */
int gpu_mark_launch(cudaStream_t stream, struct kernel_stamp *stamp);
/* Until the GPU is idle, before `what`; ends the process where that takes GPU_DRAIN_S. ERR_GPU. */
int gpu_drain(struct gpu_session *s, const char *what);
/* Remembers that err (unless 0 or a refusal that all ranks share) ends the session. Returns err. */
int gpu_session_failed(struct gpu_session *s, int err);
/* Collective: bytes of every rank in rank order; any size. */
int gpu_gather(struct gpu_session *s, const void *mine, void *all, size_t bytes);
/* Collective: measures the clocks' offsets to rank 0. */
int gpu_clocks(struct gpu_session *s);
/* The versions as lines that begin with #, which readers of CSV skip and calibrate knows. */
void gpu_versions_comment(const struct gpu_session *s, FILE *f);
/* The worst error code of all ranks; collective, so that all go on or all stop. */
int gpu_agree(struct gpu_session *s, int err);

/* gpu_layer.c: the memory of a layer, its inputs, its reference. */

/* Collective: the memory of a layer, kept as long as the shape stays. Buffer set 0 is made; the
 * other one on first use (gpu_half_open). */
int gpu_layer_open(struct gpu_session *s, const struct gpu_shape *shape, uint64_t seed);
/* Collective: one more exchange among all ranks; scratch: bytes per peer x ranks for pushes. */
int gpu_comm_open(struct gpu_session *s, const struct gpu_shape *shape, size_t scratch_bytes,
                  struct kernels_comm **out);
void gpu_layer_close(struct gpu_session *s);
int gpu_half_open(struct gpu_session *s, int parity);
/* Outputs for plans of so many layers: every layer works on the same x and the same weights, so
 * that all of them must give the same. */
int gpu_outputs_open(struct gpu_session *s, int layers);
/* Layer's part of y. */
void *gpu_output_of(const struct gpu_layer *l, int layer);
/* Forgets what earlier layers computed: y, the buffer sets and this GPU's window become NaN, and
 * with `lists` rows, sources and segments become empty (not where the host filled them). Between
 * barriers only. */
int gpu_layer_poison(struct gpu_session *s, bool lists, cudaStream_t stream);
/* gpu_dense.c: operands and plans of library GEMMs. */

/* Device memory of the weights' random bytes, or of scales that suit them. ERR_GPU. */
int gpu_dense_values(struct gpu_layer *l, void **out, size_t bytes);
int gpu_dense_scales(struct gpu_layer *l, float **out, size_t count);
/* The operands of dense ops: router, and a shared expert of this width (0: none). */
int gpu_dense_open(struct gpu_session *s, int inter);
void gpu_dense_close(struct gpu_dense_memory *d);
/* How wide the GEMM of a router over so many experts is. */
static inline int gpu_router_width(int experts)
{
    return (experts + GPU_ROUTER_STEP - 1) / GPU_ROUTER_STEP * GPU_ROUTER_STEP;
}
/* A cuBLASLt plan, kept. FP8 falls back to one scale per tensor, then BF16, where cuBLASLt has no
 * block-scaled kernel; the shape in the entry says what it is. */
int gpu_dense_find(struct gpu_session *s, struct dense_gemm_shape shape,
                   struct gpu_dense_entry **out);
/* Makes room for so many new ones, by closing all if need be: only while nothing holds an entry. */
void gpu_dense_room(struct gpu_session *s, int wanted);

/* This rank's tokens: routing of rank `rank` of the plan's group, random values, weights that sum
 * to one. Kept while nothing changed. */
int gpu_inputs(struct gpu_session *s, const struct plan_routing *routing, int tokens,
               uint64_t seed);
/* Compares y of each layer on the device with the reference for up to `sample` tokens (0: all) and
 * hashes all of one. worst and hash are this rank's. ERR_DATA: two layers differ (logged). */
int gpu_output_check(struct gpu_session *s, int layers, int sample, double *worst, int *checked,
                     uint64_t *hash);

#endif
