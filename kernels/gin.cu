/* kernels/gin.cu: see gin.h for what is promised. UNTESTED. One thread serves an expert (or
 * channel) from first put to signal, because a signal is ordered only behind the puts that the same
 * thread issued on its context. */
#include "kernels/gin.h"
extern "C" {
#include "base/log.h"
}
#include "kernels/comm_handle.cuh"
#include "kernels/delay.h"

struct gin_params {
    struct comm_device c;
    ncclDevComm devcomm;
    ncclWindow_t window;
    struct dispatch_args dispatch;
    struct combine_args combine;
    int parity, local_first, locals;
};

static __device__ __forceinline__ bool beyond(const struct gin_params &p, int gpu)
{
    return p.c.peers[gpu] == NULL;
}

static __device__ void put_messages(const struct gin_params &p, const ncclGin &gin, int expert)
{
    const struct slots *s = &p.c.slots;
    ncclTeam world = ncclTeamWorld(p.devcomm);
    int gpu = slots_expert_gpu(s, expert), local = slots_expert_local(s, expert);
    int vsrc = slots_vsrc(s, s->shape.rank, slots_expert_vrank(s, expert)), slot = 0;
    for (int i = 0; i < p.dispatch.tokens * s->shape.topk; i++) {
        if (topk_expert(p.dispatch.topk_idx, p.dispatch.topk_idx_bytes, i) != expert)
            continue;
        int token = i / s->shape.topk, k = i % s->shape.topk;
        size_t header = slots_staging_header(s, p.parity, token, k);
        *(int4 *)(p.c.self + header) = make_int4(token, k, vsrc, 0);
        fence_sys();
        size_t to = slots_dispatch_message(s, p.parity, local, vsrc, slot++);
        gin.put(world, gpu, p.window, to, p.window, header, sizeof(struct slots_header));
        gin.put(world, gpu, p.window, to + sizeof(struct slots_header), p.window,
                slots_staging_body(s, p.parity, token), s->body_bytes);
    }
    unsigned int signal = (unsigned int)slots_dispatch_signal(s, p.parity, local, vsrc);
    gin.signal(world, gpu, ncclGin_SignalAdd{signal, slots_flag_word(1, (unsigned int)slot)});
}

static __global__ void gin_dispatch_kernel(const __grid_constant__ struct gin_params p)
{
    const struct slots *s = &p.c.slots;
    if (threadIdx.x == 0)
        stamp_begin(p.dispatch.stamp);
    ncclGin gin(p.devcomm, 0);
    int n = s->shape.vranks * p.locals;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        int expert = i / p.locals * s->experts_local + p.local_first + i % p.locals;
        if (beyond(p, slots_expert_gpu(s, expert)))
            put_messages(p, gin, expert);
    }
    gin.flush(ncclCoopThread());
    __syncthreads();
    if (threadIdx.x == 0)
        stamp_end(p.dispatch.stamp);
}

/* Waits for the next flag's worth of a signal and writes it as the ordinary flag. */
static __device__ void signal_to_flag(const struct gin_params &p, const ncclGin &gin, int signal,
                                      unsigned long long *seen, size_t flag, int kind, int index)
{
    unsigned long long start_ns = stamp_now_ns(), now;
    unsigned int sequence = (unsigned int)(*seen >> 32) + 1;
    while ((unsigned int)((now = gin.readSignal((ncclGinSignal_t)signal)) >> 32) < sequence) {
        if (wait_expired(&p.c, start_ns)) {
            wait_failed(&p.c, kind, index);
            return;
        }
    }
    unsigned int count = (unsigned int)now - (unsigned int)*seen;
    *seen = slots_flag_word(sequence, (unsigned int)now);
    store_release_sys((unsigned long long *)(p.c.self + flag), slots_flag_word(sequence, count));
}

static __global__ void gin_dispatch_flags_kernel(const __grid_constant__ struct gin_params p)
{
    const struct slots *s = &p.c.slots;
    ncclGin gin(p.devcomm, 0);
    for (int i = threadIdx.x; i < p.locals * s->shape.vranks; i += blockDim.x) {
        int local = p.local_first + i / s->shape.vranks, vsrc = i % s->shape.vranks;
        if (beyond(p, slots_vsrc_gpu(s, vsrc)))
            signal_to_flag(p, gin, slots_dispatch_signal(s, p.parity, local, vsrc),
                           &p.c.gin_seen[slots_channel(s, local, vsrc)],
                           slots_dispatch_flag(s, p.parity, local, vsrc), COMM_WAIT_DISPATCH,
                           slots_channel(s, local, vsrc));
    }
}

/* A warp serves a channel: rows must pass through the window, since only it is registered. */
static __device__ void put_rows(const struct gin_params &p, const ncclGin &gin, int local, int vsrc)
{
    const struct slots *s = &p.c.slots;
    ncclTeam world = ncclTeamWorld(p.devcomm);
    int gpu = slots_vsrc_gpu(s, vsrc), lane = threadIdx.x % 32;
    int2 segment = p.combine.segments[slots_channel(s, local, vsrc)];
    for (int i = 0; i < segment.y; i++) {
        size_t at = (size_t)local * (size_t)s->rows_max + (size_t)(segment.x + i);
        size_t staged = slots_combine_staging(s, p.parity, local, vsrc, i);
        copy_words((int4 *)(p.c.self + staged),
                   (const int4 *)((const unsigned char *)p.combine.y_packed + at * s->row_bytes),
                   (int)s->row_bytes / 16);
        fence_sys();
        __syncwarp();
        struct kernels_row_source source = p.combine.sources[at];
        if (lane == 0)
            gin.put(world, gpu, p.window, slots_combine_row(s, p.parity, source.token, source.k),
                    p.window, staged, s->row_bytes);
    }
    unsigned int signal = (unsigned int)slots_combine_signal(
        s, p.parity, slots_channel_expert(s, s->shape.rank, local, vsrc));
    if (lane == 0)
        gin.signal(world, gpu,
                   ncclGin_SignalAdd{signal, slots_flag_word(1, (unsigned int)segment.y)});
}

static __global__ void gin_combine_kernel(const __grid_constant__ struct gin_params p)
{
    const struct slots *s = &p.c.slots;
    if (threadIdx.x == 0)
        stamp_begin(p.combine.stamp);
    ncclGin gin(p.devcomm, 0);
    int warps = gridDim.x * blockDim.x / 32, warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    for (int i = warp; i < p.locals * s->shape.vranks; i += warps) {
        int vsrc = i % s->shape.vranks;
        if (beyond(p, slots_vsrc_gpu(s, vsrc)))
            put_rows(p, gin, p.local_first + i / s->shape.vranks, vsrc);
    }
    gin.flush(ncclCoopThread());
    __syncthreads();
    if (threadIdx.x == 0)
        stamp_end(p.combine.stamp);
}

static __global__ void gin_combine_flags_kernel(const __grid_constant__ struct gin_params p)
{
    const struct slots *s = &p.c.slots;
    ncclGin gin(p.devcomm, 0);
    for (int expert = threadIdx.x; expert < s->shape.experts; expert += blockDim.x)
        if (beyond(p, slots_expert_gpu(s, expert)))
            signal_to_flag(p, gin, slots_combine_signal(s, p.parity, expert),
                           &p.c.gin_seen[s->shape.experts + expert],
                           slots_combine_flag(s, p.parity, expert), COMM_WAIT_COMBINE, expert);
}

struct gin_ping_params {
    struct comm_device c;
    ncclDevComm devcomm;
    ncclWindow_t window;
    struct ping_args a;
    unsigned long long first;
};

/* This rank's own flag carries the time; the signal comes behind it. */
static __device__ void gin_ping_send(const struct gin_ping_params &p, const ncclGin &gin)
{
    const struct slots *s = &p.c.slots;
    ncclTeam world = ncclTeamWorld(p.devcomm);
    size_t at = slots_ping(s, s->shape.rank);
    ((volatile struct slots_flag *)(p.c.self + at))->time_ns = stamp_now_ns();
    fence_sys();
    gin.put(world, p.a.peer, p.window, at, p.window, at, sizeof(struct slots_flag));
    gin.signal(world, p.a.peer,
               ncclGin_SignalAdd{(unsigned int)slots_ping_signal(s, s->shape.rank), 1ull});
    gin.flush(ncclCoopThread()); /* the next ping writes the flag anew */
}

/* Waits for ping number n of the peer; 0 on timeout. */
static __device__ int gin_ping_wait(const struct gin_ping_params &p, const ncclGin &gin,
                                    unsigned long long n)
{
    unsigned long long start_ns = stamp_now_ns();
    ncclGinSignal_t signal = (ncclGinSignal_t)slots_ping_signal(&p.c.slots, p.a.peer);
    while (gin.readSignal(signal) < n) {
        if (wait_expired(&p.c, start_ns)) {
            wait_failed(&p.c, COMM_WAIT_PEER, p.a.peer);
            return 0;
        }
    }
    return 1;
}

static __global__ void gin_ping_kernel(const __grid_constant__ struct gin_ping_params p)
{
    const struct slots *s = &p.c.slots;
    ncclGin gin(p.devcomm, 0);
    const volatile struct slots_flag *in =
        (const volatile struct slots_flag *)(p.c.self + slots_ping(s, p.a.peer));
    int measures = s->shape.rank < p.a.peer;
    struct ping_result best = {1ll << 62, 0.0, 0};
    unsigned long long begin_ns = stamp_now_ns();
    for (int i = 0; i < p.a.iters; i++) {
        unsigned long long sent_ns = stamp_now_ns();
        if (measures)
            gin_ping_send(p, gin);
        if (!gin_ping_wait(p, gin, p.first + (unsigned long long)i))
            return;
        long long trip_ns = (long long)(stamp_now_ns() - sent_ns);
        if (!measures) {
            gin_ping_send(p, gin);
        } else if (trip_ns < best.min_ns) {
            best.min_ns = trip_ns;
            best.offset_ns = (long long)(in->time_ns - sent_ns) - trip_ns / 2;
        }
    }
    best.mean_ns = (double)(stamp_now_ns() - begin_ns) / p.a.iters;
    if (measures)
        *p.a.result = best;
}

int kernels_gin_wanted(const struct kernels_comm *comm)
{
    return comm->far;
}

int kernels_gin_ping(const struct ping_args *args, unsigned long long first, cudaStream_t stream)
{
    const struct kernels_comm *comm = args->comm;
    struct gin_ping_params p = {comm->device[0], comm->devcomm, comm->window, *args, first};
    return kernels_comm_launch((const void *)gin_ping_kernel, 1, 1, 0, &p, stream);
}

static int gin_launch(const void *kernel, struct gin_params *p, const struct kernels_comm *comm,
                      const struct kernels_pacing *pacing, int round, int rounds,
                      cudaStream_t stream)
{
    if (!comm->far)
        return 0;
    if (pacing->bytes_per_ns > 0) {
        log_error("an emulated network (pacing) and a real one (GIN) do not go together");
        return ERR_UNSUPPORTED;
    }
    if (p->parity < 0 || p->parity >= SLOTS_PARITIES || rounds < 1 || round < 0 ||
        round >= rounds || comm->slots.experts_local % rounds != 0)
        return ERR_RANGE;
    p->c = kernels_comm_device(comm, p->parity);
    p->devcomm = comm->devcomm;
    p->window = comm->window;
    p->locals = comm->slots.experts_local / rounds;
    p->local_first = round * p->locals;
    return kernels_comm_launch(kernel, 1, 256, 0, p, stream);
}

static int gin_dispatch(const void *kernel, const struct dispatch_args *args, cudaStream_t stream)
{
    struct gin_params p = {};
    p.dispatch = *args;
    p.parity = args->parity;
    return gin_launch(kernel, &p, args->comm, &args->pacing, args->round, args->rounds, stream);
}

int kernels_gin_dispatch(const struct dispatch_args *args, cudaStream_t stream)
{
    return gin_dispatch((const void *)gin_dispatch_kernel, args, stream);
}

int kernels_gin_dispatch_flags(const struct dispatch_args *args, cudaStream_t stream)
{
    return gin_dispatch((const void *)gin_dispatch_flags_kernel, args, stream);
}

int kernels_gin_combine(const struct combine_args *args, cudaStream_t stream)
{
    struct gin_params p = {};
    p.combine = *args;
    p.parity = args->parity;
    return gin_launch((const void *)gin_combine_kernel, &p, args->comm, &args->pacing, args->round,
                      args->rounds, stream);
}

int kernels_gin_combine_flags(const struct combine_args *args, cudaStream_t stream)
{
    struct gin_params p = {};
    p.combine = *args;
    p.parity = args->parity;
    return gin_launch((const void *)gin_combine_flags_kernel, &p, args->comm, &args->pacing, 0, 1,
                      stream);
}
