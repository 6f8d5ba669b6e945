/* validate/gpu_experts.h: an expert GEMM as one library GEMM per expert (EPS-MoE's DenseGemm). The
 * host knows every expert's rows, so each GEMM has exactly its expert's. Inside back end 2 only. */
#ifndef PEOSIM_VALIDATE_GPU_EXPERTS_H
#define PEOSIM_VALIDATE_GPU_EXPERTS_H

#include "validate/gpu_session.h"

/* GEMMs of local experts first..first + count - 1 over the packed tensors of the session's layer,
 * in its data type: gate and up (n = 2 inter, k = hidden), or down. */
struct gpu_experts_shape {
    bool up;
    int first, count;
    int num_sms; /* 0: all */
};

struct gpu_experts {
    struct gpu_experts_shape shape;
    int n, k;
    /* [count]. done: rows that the library computes, a multiple of what it can do: the FP8 scales
     * of the expert's rows must lie as [k / 128][done], and rows past the expert's own are
     * computed from whatever lies there and not read by anyone. 0: no rows, no GEMM. Experts of
     * equal rows share a GEMM. */
    int *done;
    struct dense_gemm **gemm;
};

/* rows [count]. ERR_UNSUPPORTED, logged, where cuBLASLt has no such GEMM with these scales: no
 * other data type or scaling stands in for it. */
int gpu_experts_open(struct gpu_experts **out, struct gpu_session *s,
                     const struct gpu_experts_shape *shape, const int *rows);
void gpu_experts_close(struct gpu_experts *x); /* accepts NULL */

/* One after another on the stream. The library's kernels leave no stamp: a stamp is left by two
 * kernels of one CTA, before and after them. */
int gpu_experts_launch(const struct gpu_experts *x, struct gpu_session *s, int buffer,
                       cudaStream_t stream, struct kernel_stamp *stamp);

#endif
