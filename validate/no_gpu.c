/* validate/no_gpu.c: what the program says about GPUs where it was built without CUDA. */
#ifndef PEOSIM_GPU
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "validate/gpu.h"

static int missing(void)
{
    log_error("this program was built without CUDA and NCCL; `make gpu` builds it with them");
    return ERR_UNSUPPORTED;
}

bool gpu_built(void)
{
    return false;
}

int gpu_session_open(struct gpu_session **out, struct gpu_team *team, bool experimental_gin)
{
    (void)team, (void)experimental_gin;
    *out = NULL;
    return missing();
}

void gpu_session_close(struct gpu_session *s)
{
    (void)s;
}

int gpu_session_run(struct gpu_session *s, const struct plan *plan, const struct gpu_options *o,
                    struct gpu_result *result, struct trace **trace)
{
    (void)s, (void)plan, (void)o, (void)result, (void)trace;
    return missing();
}

int gpu_bench(struct gpu_session *s, const char *csv_path, bool quick, const char *only)
{
    (void)s, (void)csv_path, (void)quick, (void)only;
    return missing();
}

void gpu_versions(const struct gpu_session *s, char *buf, size_t size)
{
    (void)s;
    snprintf(buf, size, "built without CUDA");
}
#else
/* gpu_*.c answer instead; a translation unit must hold something. */
typedef int no_gpu_unused;
#endif
