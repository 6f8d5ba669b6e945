#include "model/law/four_bit.h"

#include <math.h>

#include "hw/fields.h"
#include "model/moe.h"

bool law_is_four_bit(enum plan_dtype dtype)
{
    return dtype == DTYPE_NVFP4 || dtype == DTYPE_MXFP4 || dtype == DTYPE_W4A8 ||
           dtype == DTYPE_W4A16;
}

static double rate_TFLOPS(const double *v, enum plan_dtype dtype)
{
    if (dtype == DTYPE_NVFP4 && v[HW_GPU_FP4_TFLOPS] > 0)
        return v[HW_GPU_FP4_TFLOPS];
    return v[dtype == DTYPE_W4A16 ? HW_GPU_BF16_TFLOPS : HW_GPU_FP8_TFLOPS];
}

void law_four_bit(const double *v, enum plan_dtype dtype, double weights, int num_sms,
                  struct cost_work *out)
{
    double bytes = moe_dtype_bytes(dtype);
    double share = fmin((double)out->grid / num_sms, 1);
    double tensor_ns = out->flops / (rate_TFLOPS(v, dtype) * 1e3 * share);

    out->head.hbm_bytes = fmax(out->head.hbm_bytes - weights * (1 - bytes), 0);
    out->head.sm_ns = fmax(out->head.sm_ns * bytes, tensor_ns);
    out->assumed = true;
}
