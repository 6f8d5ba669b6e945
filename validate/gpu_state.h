/* validate/gpu_state.h: what else a GPU does or suffers while it is measured, by NVML, which is
 * looked for at run time. Inside back end 2 only. */
#ifndef PEOSIM_VALIDATE_GPU_STATE_H
#define PEOSIM_VALIDATE_GPU_STATE_H

struct gpu_state;

/* Of CUDA device `device` of this process. NULL where there is no NVML or no memory: then nobody
 * looks. */
struct gpu_state *gpu_state_open(int device);
void gpu_state_close(struct gpu_state *s); /* accepts NULL */
/* GPU_SHARED: other processes have contexts there; GPU_THROTTLED: heat or the power supply holds a
 * clock back now (a power cap alone does not count: dense multiplication reaches it by itself). 0
 * for NULL. Takes the host about a millisecond, the GPU nothing. */
unsigned gpu_state_look(const struct gpu_state *s);

#endif
