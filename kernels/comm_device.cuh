/* kernels/comm_device.cuh: what the exchange kernels share on the device. Internal to kernels/. */
#ifndef PEOSIM_KERNELS_COMM_DEVICE_CUH
#define PEOSIM_KERNELS_COMM_DEVICE_CUH

#include <stdint.h>
#include "kernels/comm.h"

#define COMM_SMEM_MAX       (224 * 1024) /* bytes of dynamic shared memory a kernel may ask for */
#define COMM_BULK_SMEM      (200 * 1024) /* of these, for rows in flight */
#define COMM_SENDER_BARRIER 15           /* named barrier of the sending warps */

enum comm_wait_kind { COMM_WAIT_DISPATCH = 1, COMM_WAIT_COMBINE, COMM_WAIT_UNIT, COMM_WAIT_PEER };

/* The device's side of the handle, passed to kernels by value. Counters are this GPU's own; the
 * first index is the parity. A channel is (local expert, virtual source): `experts` of them. */
struct comm_device {
    struct slots slots;
    unsigned char *peers[SLOTS_MAX_RANKS]; /* window of each GPU, NULL: beyond NVLink */
    unsigned char *self;
    int stage_always;                   /* peers beyond NVLink will want the staged tokens */
    unsigned int *dispatch_next;        /* [experts] next free slot at the expert */
    unsigned int *dispatch_sent;        /* [experts] messages out */
    unsigned int *dispatch_send_seq;    /* [experts] flags written */
    unsigned int *dispatch_recv_seq;    /* [channels] flags read */
    unsigned long long *dispatch_alloc; /* [El] arrived sources << 32 | rows given out */
    unsigned int *combine_sent;         /* [channels] */
    unsigned int *combine_send_seq;     /* [channels] */
    unsigned int *combine_recv_seq;     /* [1] */
    unsigned int *tickets;              /* [COMM_TICKETS] CTAs that have finished */
    unsigned int *dedup_seq;            /* [2] dispatches and combines without duplicates so far */
    int *dedup_tokens;                  /* [vranks] of the last such dispatch, by source */
    unsigned int *dedup_next;           /* [channels] rows given out; zero between dispatches */
    struct comm_spread *spread;         /* [1] of a dispatch receive with full channels */
    unsigned long long *gin_seen;       /* [2][experts] of dispatch channels, of combine experts */
    unsigned long long *nic_free_ns;    /* [1] paced mode: when the emulated NIC falls idle */
    unsigned long long *status;         /* [1] 0, or the first wait that failed */
    unsigned long long timeout_ns;
};

/* 0: combine receive, 1: combine send for SBO, 2: dispatch receive that spreads, 3 and 4: dispatch
 * and combine without duplicates */
#define COMM_TICKETS 5

/* The queue of a dispatch receive: parts of channels with many messages, which any CTA may unpack.
 * One receive of a parity runs at a time; the last CTA makes the queue ready for the next. */
enum { COMM_SPREAD_ROWS = 32, COMM_SPREAD_PARTS = 8192 };
struct comm_spread {
    unsigned int sequence; /* receives so far */
    unsigned int put, taken, claimed;
    unsigned int ready[COMM_SPREAD_PARTS]; /* the sequence number of the receive it is of */
    struct {
        int channel, row; /* row: of the channel's first message in the packed tensor */
        int first, count; /* messages */
    } part[COMM_SPREAD_PARTS];
};

struct comm_pacing_device {
    double ns_per_byte;
    long long latency_ns;
    const long long *clock_offset_ns;
    int rank;
};

/* The opaque handle's insides that launchers need; comm.cu defines these. */
struct comm_device kernels_comm_device(const struct kernels_comm *comm, int parity);
int kernels_comm_launch(const void *kernel, int ctas, int threads, size_t smem_bytes, void *params,
                        cudaStream_t stream);

struct ping_args;
/* delay.cu: ping-pongs first .. first + iters - 1 */
int kernels_ping_start(const struct comm_device *c, const struct ping_args *args,
                       unsigned long long first, cudaStream_t stream);

#define COMM_CUDA(call) comm_cuda_check((call), #call, __FILE__, __LINE__)
int comm_cuda_check(cudaError_t err, const char *what, const char *file, int line);

static inline struct comm_pacing_device comm_pacing(const struct kernels_pacing *pacing, int rank)
{
    struct comm_pacing_device d;
    d.ns_per_byte = pacing->bytes_per_ns > 0 ? 1.0 / pacing->bytes_per_ns : 0.0;
    d.latency_ns = pacing->latency_ns;
    d.clock_offset_ns = pacing->clock_offset_ns;
    d.rank = rank;
    return d;
}

#ifdef __CUDACC__

static __device__ __forceinline__ unsigned long long load_acquire_sys(const unsigned long long *at)
{
    unsigned long long v;
    asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(v) : "l"(at) : "memory");
    return v;
}

static __device__ __forceinline__ unsigned int load_acquire_gpu(const unsigned int *at)
{
    unsigned int v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(at) : "memory");
    return v;
}

static __device__ __forceinline__ void fence_sys(void)
{
    asm volatile("fence.acq_rel.sys;" ::: "memory");
}

/* For a counter of this GPU that stands for stores to others: whoever sees the count has them
 * ordered before its own release to the system, since causality adds up across scopes. */
static __device__ __forceinline__ void fence_gpu(void)
{
    asm volatile("fence.acq_rel.gpu;" ::: "memory");
}

/* The fence orders all that this thread has seen, other CTAs' fenced writes included, before v. */
static __device__ __forceinline__ void store_release_sys(unsigned long long *at,
                                                         unsigned long long v)
{
    fence_sys();
    asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(at), "l"(v) : "memory");
}

static __device__ __forceinline__ unsigned int add_acq_rel_gpu(unsigned int *at, unsigned int v)
{
    unsigned int old;
    asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], %2;"
                 : "=r"(old)
                 : "l"(at), "r"(v)
                 : "memory");
    return old;
}

/* Rows are read once and written once: keep them out of L1. */
static __device__ __forceinline__ int4 load_row16(const int4 *at)
{
    int4 v;
    asm volatile("ld.global.L1::no_allocate.v4.s32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(at)
                 : "memory"); /* stays behind the barrier that orders it */
    return v;
}

static __device__ __forceinline__ void store_row16(int4 *at, int4 v)
{
    asm volatile("st.global.L1::no_allocate.v4.s32 [%0], {%1, %2, %3, %4};" ::"l"(at), "r"(v.x),
                 "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}

static __device__ __forceinline__ void barrier_named(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* n 16-byte words by one warp: 8 loads, then 8 stores. */
static __device__ __forceinline__ void copy_words(int4 *to, const int4 *from, int n)
{
    const int unroll = 8;
    int i = threadIdx.x % 32;
    int4 v[unroll];
    for (; i + (unroll - 1) * 32 < n; i += unroll * 32) {
#pragma unroll
        for (int j = 0; j < unroll; j++)
            v[j] = load_row16(from + i + j * 32);
#pragma unroll
        for (int j = 0; j < unroll; j++)
            store_row16(to + i + j * 32, v[j]);
    }
#pragma unroll
    for (int j = 0; j < unroll; j++)
        if (i + j * 32 < n)
            v[j] = load_row16(from + i + j * 32);
#pragma unroll
    for (int j = 0; j < unroll; j++)
        if (i + j * 32 < n)
            store_row16(to + i + j * 32, v[j]);
}

/* Bulk copies, global -> shared -> global (a peer's too), are issued by one thread. */

static __device__ __forceinline__ unsigned int smem_address(const void *p)
{
    return (unsigned int)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void mbarrier_init(unsigned long long *barrier)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(smem_address(barrier)) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

static __device__ __forceinline__ void mbarrier_arrive(unsigned long long *barrier)
{
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(smem_address(barrier))
                 : "memory");
}

static __device__ __forceinline__ void bulk_load(void *smem, const void *from, unsigned int bytes,
                                                 unsigned long long *barrier)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(smem_address(barrier)),
        "r"(bytes)
        : "memory");
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(smem_address(smem)),
                 "l"(from), "r"(bytes), "r"(smem_address(barrier))
                 : "memory");
}

static __device__ __forceinline__ void mbarrier_wait(unsigned long long *barrier,
                                                     unsigned int phase)
{
    unsigned int done;
    do {
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done)
                     : "r"(smem_address(barrier)), "r"(phase)
                     : "memory");
    } while (!done);
}

static __device__ __forceinline__ void bulk_store(void *to, const void *smem, unsigned int bytes)
{
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to),
                 "r"(smem_address(smem)), "r"(bytes)
                 : "memory");
}

static __device__ __forceinline__ void bulk_commit(void)
{
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

/* Shared memory of all but the last N committed groups may be overwritten. */
template <int N> static __device__ __forceinline__ void bulk_wait_read(void)
{
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
}

/* All of this thread's bulk stores are done; ordered before its later ordinary stores. */
static __device__ __forceinline__ void bulk_wait_all(void)
{
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    asm volatile("fence.proxy.async;" ::: "memory");
}

static __device__ __forceinline__ void bulk_fence(void)
{
    asm volatile("fence.proxy.async;" ::: "memory");
}

static __device__ __forceinline__ void wait_failed(const struct comm_device *c, int kind, int index)
{
    unsigned long long word = (unsigned long long)kind << 32 | (unsigned int)index;
    atomicCAS(c->status, 0ull, word);
}

/* Once one wait has failed, the others give up at once: a graph of many kernels ends soon. */
static __device__ __forceinline__ int wait_expired(const struct comm_device *c,
                                                   unsigned long long start_ns)
{
    if (stamp_now_ns() - start_ns > c->timeout_ns)
        return 1;
    return *(volatile unsigned long long *)c->status != 0;
}

/* Waits for the flag's sequence number and, unless it is of a rank's messages to itself, for their
 * emulated arrival. Returns the count, 0 after a timeout. */
static __device__ __forceinline__ unsigned int
wait_flag(const struct comm_device *c, const struct slots_flag *flag, unsigned int sequence,
          const struct comm_pacing_device *pacing, int source_gpu, int own, int kind, int index)
{
    unsigned long long start_ns = stamp_now_ns(), word;
    int polls = 0;
    while ((word = load_acquire_sys(&flag->word)) >> 32 != sequence) {
        if ((++polls & 63) == 0 && wait_expired(c, start_ns)) {
            wait_failed(c, kind, index);
            return 0;
        }
    }
    if (pacing->ns_per_byte > 0 && !own) {
        long long offset_ns = 0;
        if (pacing->clock_offset_ns != NULL)
            offset_ns = pacing->clock_offset_ns[pacing->rank] - pacing->clock_offset_ns[source_gpu];
        unsigned long long due_ns =
            flag->time_ns + (unsigned long long)(offset_ns + pacing->latency_ns);
        while ((long long)(due_ns - stamp_now_ns()) > 0) {
            if (wait_expired(c, start_ns)) {
                wait_failed(c, kind, index);
                break;
            }
        }
    }
    return (unsigned int)word;
}

/* When `bytes` more have passed the emulated NIC, behind what is queued there. The NIC has had work
 * since since_ns: rows are posted one by one from then on, though their flag comes last. */
static __device__ __forceinline__ unsigned long long
pace_departure_ns(const struct comm_device *c, const struct comm_pacing_device *pacing,
                  unsigned long long since_ns, double bytes)
{
    const unsigned long long length_ns = (unsigned long long)(bytes * pacing->ns_per_byte);
    /* A maximum and an addition cannot fail, as a compare-and-swap of hundreds of flags would.
     * Whoever comes between the two only makes the queue longer. */
    atomicMax(c->nic_free_ns, since_ns);
    const unsigned long long next = atomicAdd(c->nic_free_ns, length_ns) + length_ns;
    unsigned long long now_ns = stamp_now_ns();
    return next > now_ns ? next : now_ns;
}

/* Writes a flag at a peer after everything this thread has seen done; own: of a rank's messages to
 * itself, which pass no network. */
static __device__ __forceinline__ void post_flag(const struct comm_device *c, unsigned char *peer,
                                                 size_t offset, unsigned int sequence,
                                                 unsigned int count,
                                                 const struct comm_pacing_device *pacing, int own,
                                                 unsigned long long since_ns, double bytes)
{
    struct slots_flag *flag = (struct slots_flag *)(peer + offset);
    if (pacing->ns_per_byte > 0 && !own)
        *(volatile unsigned long long *)&flag->time_ns =
            pace_departure_ns(c, pacing, since_ns, bytes);
    store_release_sys(&flag->word, slots_flag_word(sequence, count));
}

static __device__ __forceinline__ int topk_expert(const void *idx, int bytes, int i)
{
    return bytes == 8 ? (int)((const long long *)idx)[i] : ((const int *)idx)[i];
}

/* By one thread of a CTA: spins a pseudo-random time, different for each CTA and launch. */
static __device__ __forceinline__ void delay_spin(const struct kernels_delay *delay, int rank)
{
    if (delay->max_ns == 0)
        return;
    unsigned long long start_ns = stamp_now_ns();
    unsigned int h = delay->seed ^ (blockIdx.x * 0x9e3779b9u) ^ ((unsigned int)rank * 0x85ebca6bu) ^
                     (unsigned int)(start_ns >> 5);
    h = (h ^ (h >> 16)) * 0x7feb352du;
    h = (h ^ (h >> 15)) * 0x846ca68bu;
    h = (h ^ (h >> 16)) % delay->max_ns;
    while (stamp_now_ns() - start_ns < h) {
    }
}

/* True in the CTA that comes last; the ticket is then ready for the next launch. One thread. */
static __device__ __forceinline__ int ticket_last(unsigned int *ticket)
{
    if (add_acq_rel_gpu(ticket, 1) != gridDim.x - 1)
        return 0;
    *ticket = 0;
    return 1;
}

#endif
#endif
