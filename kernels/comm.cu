/* kernels/comm.cu: owns NCCL, the symmetric window and the counters. See comm.h. */
#include <stdlib.h>
#include <string.h>
extern "C" {
#include "base/log.h"
#include "base/watch.h"
}
#include "kernels/comm_handle.cuh"
#include "kernels/delay.h"
#include "kernels/gin.h"

#define COMM_HOST_WAIT_S 60.0

static_assert(sizeof(ncclUniqueId) == KERNELS_COMM_ID_BYTES, "the id of another NCCL");

int comm_cuda_check(cudaError_t err, const char *what, const char *file, int line)
{
    if (err == cudaSuccess)
        return 0;
    log_error("%s:%d: %s: %s", file, line, what, cudaGetErrorString(err));
    return ERR_GPU;
}

int comm_nccl_check(ncclResult_t err, const char *what, const char *file, int line)
{
    if (err == ncclSuccess)
        return 0;
    log_error("%s:%d: %s: %s: %s", file, line, what, ncclGetErrorString(err),
              ncclGetLastError(NULL));
    return ERR_GPU;
}

/* From here to watch_end the host waits for the other ranks, or for the GPU that does. */
static int comm_watch(struct watch *w, const struct kernels_comm *comm, const char *what)
{
    return watch_begin(w, comm->config.host_wait_s, "rank %d of %d waited %s",
                       comm->slots.shape.rank, comm->slots.shape.ranks, what);
}

int kernels_comm_launch(const void *kernel, int ctas, int threads, size_t smem_bytes, void *params,
                        cudaStream_t stream)
{
    int err = COMM_CUDA(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, COMM_SMEM_MAX));
    if (err != 0)
        return err;
    cudaLaunchAttribute attribute;
    memset(&attribute, 0, sizeof(attribute));
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned int)ctas);
    config.blockDim = dim3((unsigned int)threads);
    config.dynamicSmemBytes = smem_bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    void *args[] = {params};
    return COMM_CUDA(cudaLaunchKernelExC(&config, kernel, args));
}

struct comm_device kernels_comm_device(const struct kernels_comm *comm, int parity)
{
    return comm->device[parity == 1];
}

/* The device API's structs are laid out by the version, so another library would misread them. */
static int check_nccl_version(void)
{
    int loaded = 0;
    int err = COMM_NCCL(ncclGetVersion(&loaded));
    if (err == 0 && loaded != NCCL_VERSION_CODE) {
        log_error("the loaded NCCL is version %d, but this program was compiled with %d; put the "
                  "matching libnccl.so.2 first in LD_LIBRARY_PATH",
                  loaded, NCCL_VERSION_CODE);
        err = ERR_UNSUPPORTED;
    }
    return err;
}

static int check_device(struct kernels_comm *comm)
{
    int device, major, minor, cooperative;
    int err = COMM_CUDA(cudaGetDevice(&device));
    if (err == 0)
        err = COMM_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    if (err == 0)
        err = COMM_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    if (err == 0)
        err = COMM_CUDA(cudaDeviceGetAttribute(&cooperative, cudaDevAttrCooperativeLaunch, device));
    if (err == 0)
        err = COMM_CUDA(
            cudaDeviceGetAttribute(&comm->sm_count, cudaDevAttrMultiProcessorCount, device));
    if (err == 0 && (major != 9 || minor != 0 || !cooperative)) {
        log_error("the GPU is sm_%d%d; these kernels are for sm_90a only", major, minor);
        err = ERR_UNSUPPORTED;
    }
    return err;
}

extern "C" int kernels_comm_id(unsigned char id[KERNELS_COMM_ID_BYTES])
{
    ncclUniqueId nccl_id;
    int err = check_nccl_version();
    if (err == 0)
        err = COMM_NCCL(ncclGetUniqueId(&nccl_id));
    if (err == 0)
        memcpy(id, &nccl_id, sizeof(nccl_id));
    return err;
}

static __global__ void peer_pointers_kernel(ncclWindow_t window, int lsa_ranks, unsigned char **out)
{
    for (int i = threadIdx.x; i < lsa_ranks; i += blockDim.x)
        out[i] = (unsigned char *)ncclGetLsaPointer(window, 0, i);
}

static int find_peers(struct kernels_comm *comm, unsigned char *peers[SLOTS_MAX_RANKS])
{
    memset(peers, 0, SLOTS_MAX_RANKS * sizeof(*peers));
    peers[comm->slots.shape.rank] = (unsigned char *)comm->window_base;
    if (!comm->has_devcomm)
        return 0;
    ncclTeam_t lsa = ncclTeamLsa(comm->nccl);
    unsigned char *host[SLOTS_MAX_RANKS], **out = (unsigned char **)comm->bounce;
    if (lsa.nRanks > SLOTS_MAX_RANKS)
        return ERR_UNSUPPORTED;
    peer_pointers_kernel<<<1, 32, 0, comm->stream>>>(comm->window, lsa.nRanks, out);
    int err = COMM_CUDA(cudaGetLastError());
    if (err == 0)
        err = COMM_CUDA(cudaMemcpyAsync(host, out, (size_t)lsa.nRanks * sizeof(*out),
                                        cudaMemcpyDeviceToHost, comm->stream));
    if (err == 0)
        err = COMM_CUDA(cudaStreamSynchronize(comm->stream));
    for (int i = 0; err == 0 && i < lsa.nRanks; i++) {
        int world = ncclTeamRankToWorld(comm->nccl, lsa, i);
        if (world != comm->slots.shape.rank)
            peers[world] = host[i];
    }
    return err;
}

/* The device communicator, for the peers' addresses and, beyond NVLink, for GIN. */
static int open_devcomm(struct kernels_comm *comm)
{
    ncclDevCommRequirements needs;
    memset(&needs, 0, sizeof(needs));
    if (comm->far) {
        needs.ginForceEnable = true;
        needs.ginContextCount = 1;
        needs.ginSignalCount = slots_signal_count(&comm->slots);
    }
    ncclResult_t result = ncclDevCommCreate(comm->nccl, &needs, &comm->devcomm);
    comm->has_devcomm = result == ncclSuccess;
    if (comm->far && !comm->has_devcomm) {
        log_error("rank %d: --experimental-gin: NCCL has no GPU-initiated networking (GIN) here, "
                  "which needs RDMA NICs that reach GPU memory: %s",
                  comm->slots.shape.rank, ncclGetErrorString(result));
        return ERR_UNSUPPORTED;
    }
    return COMM_NCCL(result);
}

static int open_window(struct kernels_comm *comm)
{
    int err = COMM_NCCL(ncclMemAlloc(&comm->window_base, comm->slots.total_bytes));
    if (err == 0)
        err = COMM_CUDA(cudaMemset(comm->window_base, 0, comm->slots.total_bytes));
    if (err == 0)
        err = COMM_CUDA(cudaDeviceSynchronize());
    if (err != 0 || comm->slots.shape.ranks == 1)
        return err;
    err = COMM_NCCL(ncclCommWindowRegister(comm->nccl, comm->window_base, comm->slots.total_bytes,
                                           &comm->window, NCCL_WIN_COLL_SYMMETRIC));
    if (err == 0 && comm->window == NULL) {
        log_error("NCCL made no symmetric window; is NCCL_WIN_ENABLE or NCCL_CUMEM_ENABLE 0?");
        err = ERR_UNSUPPORTED;
    }
    return err != 0 ? err : open_devcomm(comm);
}

static int open_counters(struct kernels_comm *comm, unsigned char *peers[SLOTS_MAX_RANKS])
{
    const struct slots *s = &comm->slots;
    size_t experts = (size_t)s->shape.experts, locals = (size_t)s->experts_local;
    size_t words64 = locals + 2 * experts,
           words32 = 7 * experts + 3 + COMM_TICKETS + SLOTS_MAX_RANKS;
    size_t spread_at = slots_align(8 * words64 + 4 * words32, 256);
    size_t parity_bytes = spread_at + slots_align(sizeof(struct comm_spread), 256);
    size_t bytes = SLOTS_PARITIES * parity_bytes + 256;
    int err = COMM_CUDA(cudaMalloc(&comm->counters, bytes));
    if (err == 0)
        err = COMM_CUDA(cudaMemset(comm->counters, 0, bytes));
    if (err != 0)
        return err;
    unsigned char *at = (unsigned char *)comm->counters;
    comm->status = (unsigned long long *)at;
    for (int parity = 0; parity < SLOTS_PARITIES; parity++) {
        struct comm_device *d = &comm->device[parity];
        d->slots = *s;
        memcpy(d->peers, peers, sizeof(d->peers));
        d->self = (unsigned char *)comm->window_base;
        d->stage_always = comm->far;
        d->status = comm->status;
        d->nic_free_ns = comm->status + 1;
        d->timeout_ns = (unsigned long long)comm->config.timeout_ns;
        d->dispatch_alloc = (unsigned long long *)(at + 256 + (size_t)parity * parity_bytes);
        d->gin_seen = d->dispatch_alloc + locals;
        d->dispatch_next = (unsigned int *)(d->gin_seen + 2 * experts);
        d->dispatch_sent = d->dispatch_next + experts;
        d->dispatch_send_seq = d->dispatch_sent + experts;
        d->dispatch_recv_seq = d->dispatch_send_seq + experts;
        d->combine_sent = d->dispatch_recv_seq + experts;
        d->combine_send_seq = d->combine_sent + experts;
        d->combine_recv_seq = d->combine_send_seq + experts;
        d->tickets = d->combine_recv_seq + 1;
        d->dedup_seq = d->tickets + COMM_TICKETS;
        d->dedup_tokens = (int *)(d->dedup_seq + 2);
        d->dedup_next = d->dedup_seq + 2 + SLOTS_MAX_RANKS;
        d->spread = (struct comm_spread *)((unsigned char *)d->dispatch_alloc + spread_at);
    }
    return COMM_CUDA(cudaDeviceSynchronize());
}

/* Who is in reach of stores, and whether the others are allowed; before NCCL makes anything for
 * them, since that may fail with a reason that says less. */
static int check_reach(struct kernels_comm *comm)
{
    int ranks = comm->slots.shape.ranks;
    comm->far = ranks > 1 && ncclTeamLsa(comm->nccl).nRanks < ranks;
    if (!comm->far)
        return 0;
    if (!comm->config.experimental_gin) {
        if (comm->slots.shape.rank == 0)
            log_error("of %d ranks only %d are in one NVLink domain; sends beyond it are untested "
                      "and need --experimental-gin",
                      ranks, ncclTeamLsa(comm->nccl).nRanks);
        return ERR_UNSUPPORTED;
    }
    comm->config.shape.gin = 1; /* what GIN sends must lie in the window */
    return slots_init(&comm->slots, &comm->config.shape, comm->config.scratch_bytes);
}

static int open_nccl(struct kernels_comm *comm, const unsigned char *id)
{
    ncclUniqueId nccl_id;
    struct watch w;
    memcpy(&nccl_id, id, sizeof(nccl_id));
    setenv("NCCL_NVLS_ENABLE", "0", 1); /* no multicast anywhere */
    int err = comm_watch(&w, comm, "for the other ranks to join NCCL's communicator");
    if (err != 0)
        return err;
    err = COMM_NCCL(
        ncclCommInitRank(&comm->nccl, comm->slots.shape.ranks, nccl_id, comm->slots.shape.rank));
    watch_end(&w);
    return err != 0 ? err : check_reach(comm);
}

static int open_memory(struct kernels_comm *comm)
{
    unsigned char *peers[SLOTS_MAX_RANKS];
    struct watch w;
    int err = comm_watch(&w, comm, "for the other ranks to register their windows");
    if (err != 0)
        return err;
    err = open_window(comm);
    if (err == 0)
        err = find_peers(comm, peers);
    watch_end(&w);
    return err != 0 ? err : open_counters(comm, peers);
}

/* No rank may store into a window that another is still clearing. It also connects the ranks, so
 * that later barriers do not hold the host. */
static int open_barrier(struct kernels_comm *comm)
{
    struct watch w;
    int err = comm_watch(&w, comm, "for the other ranks' windows");
    if (err != 0)
        return err;
    err = kernels_comm_barrier(comm, comm->stream);
    if (err == 0)
        err = COMM_CUDA(cudaStreamSynchronize(comm->stream));
    watch_end(&w);
    return err;
}

static int open_all(struct kernels_comm *comm, const unsigned char *id)
{
    int err = check_nccl_version();
    if (err == 0)
        err = check_device(comm);
    if (err != 0)
        return err;
    err = COMM_CUDA(cudaStreamCreateWithFlags(&comm->stream, cudaStreamNonBlocking));
    if (err == 0) {
        comm->bounce_bytes = 1 << 20;
        err = COMM_CUDA(cudaMalloc(&comm->bounce, comm->bounce_bytes));
    }
    if (err == 0)
        err = open_nccl(comm, id);
    if (err == 0)
        err = open_memory(comm);
    return err != 0 ? err : open_barrier(comm);
}

extern "C" int kernels_comm_open(struct kernels_comm **out,
                                 const struct kernels_comm_config *config,
                                 const unsigned char id[KERNELS_COMM_ID_BYTES])
{
    struct kernels_comm *comm = (struct kernels_comm *)calloc(1, sizeof(*comm));
    *out = comm;
    if (comm == NULL)
        return ERR_NOMEM;
    comm->config = *config;
    comm->config.shape.gin = 0;
    if (comm->config.timeout_ns <= 0)
        comm->config.timeout_ns = 10000000000ll;
    if (comm->config.host_wait_s <= 0)
        comm->config.host_wait_s = COMM_HOST_WAIT_S;
    int err = slots_init(&comm->slots, &comm->config.shape, config->scratch_bytes);
    if (err == 0)
        err = open_all(comm, id);
    if (err != 0) {
        comm->broken = 1; /* the others may have got further, or not so far */
        kernels_comm_close(comm);
        comm = NULL;
    }
    *out = comm;
    return err;
}

/* NCCL's parts, in step with the other ranks. */
static void close_nccl(struct kernels_comm *comm)
{
    for (int i = 0; i < COMM_ALLTOALL_MAX; i++)
        if (comm->alltoall[i] != NULL)
            COMM_NCCL(ncclCommDestroy(comm->alltoall[i]));
    if (comm->has_devcomm)
        COMM_NCCL(ncclDevCommDestroy(comm->nccl, &comm->devcomm));
    if (comm->window != NULL)
        COMM_NCCL(ncclCommWindowDeregister(comm->nccl, comm->window));
    if (comm->window_base != NULL)
        COMM_NCCL(ncclMemFree(comm->window_base));
    if (comm->nccl != NULL)
        COMM_NCCL(ncclCommDestroy(comm->nccl));
}

/* Out of step: NCCL ends what waits for the others, and drops windows by itself. */
static void abort_nccl(struct kernels_comm *comm)
{
    for (int i = 0; i < COMM_ALLTOALL_MAX; i++)
        if (comm->alltoall[i] != NULL)
            COMM_NCCL(ncclCommAbort(comm->alltoall[i]));
    if (comm->nccl != NULL)
        COMM_NCCL(ncclCommAbort(comm->nccl));
    if (comm->window_base != NULL)
        COMM_NCCL(ncclMemFree(comm->window_base));
}

extern "C" void kernels_comm_close(struct kernels_comm *comm)
{
    struct watch w;
    if (comm == NULL)
        return;
    int watched = comm_watch(&w, comm, "to close NCCL's communicator") == 0;
    if (comm->broken)
        abort_nccl(comm);
    else
        close_nccl(comm);
    if (comm->stream != NULL)
        COMM_CUDA(cudaStreamDestroy(comm->stream));
    COMM_CUDA(cudaFree(comm->bounce));
    COMM_CUDA(cudaFree(comm->counters));
    if (watched)
        watch_end(&w);
    free(comm);
}

extern "C" const struct slots *kernels_comm_slots(const struct kernels_comm *comm)
{
    return &comm->slots;
}

extern "C" int kernels_comm_poison(struct kernels_comm *comm, cudaStream_t stream)
{
    const struct slots *s = &comm->slots;
    const size_t areas[][2] = {{s->dispatch_offset, s->dispatch_flags_offset},
                               {s->combine_offset, s->combine_flags_offset},
                               {s->staging_offset, s->dedup_counts_offset},
                               {s->dedup_bodies_offset, s->dedup_flags_offset},
                               {s->dedup_places_offset, s->dedup_back_flags_offset}};
    int err = 0;
    for (size_t i = 0; err == 0 && i < sizeof(areas) / sizeof(*areas); i++)
        err = COMM_CUDA(cudaMemsetAsync((unsigned char *)comm->window_base + areas[i][0], 0xff,
                                        areas[i][1] - areas[i][0], stream));
    return err;
}

extern "C" int kernels_comm_status(struct kernels_comm *comm)
{
    static const char *const kinds[] = {"something", "the dispatch of channel",
                                        "the combine of expert", "the tiles of unit",
                                        "a ping of rank"};
    unsigned long long word = 0;
    int err = COMM_CUDA(cudaMemcpy(&word, comm->status, sizeof(word), cudaMemcpyDeviceToHost));
    if (err != 0 || word == 0)
        return err;
    unsigned int kind = (unsigned int)(word >> 32);
    if (!comm->status_logged)
        log_error("rank %d: waited %.1f s in vain for %s %u", comm->slots.shape.rank,
                  (double)comm->config.timeout_ns * 1e-9, kinds[kind < 5 ? kind : 0],
                  (unsigned int)word);
    comm->status_logged = 1;
    comm->broken = 1;
    return ERR_TIMEOUT;
}

extern "C" int kernels_comm_barrier(struct kernels_comm *comm, cudaStream_t stream)
{
    return COMM_NCCL(
        ncclAllReduce(comm->bounce, comm->bounce, 1, ncclInt, ncclSum, comm->nccl, stream));
}

static int gather(struct kernels_comm *comm, const void *mine, void *all, size_t bytes)
{
    char *in = (char *)comm->bounce + 256, *out = in + bytes;
    int err = COMM_CUDA(cudaMemcpyAsync(in, mine, bytes, cudaMemcpyHostToDevice, comm->stream));
    if (err == 0)
        err = COMM_NCCL(ncclAllGather(in, out, bytes, ncclChar, comm->nccl, comm->stream));
    if (err == 0) /* holds the host, since `all` is ordinary memory */
        err = COMM_CUDA(cudaMemcpyAsync(all, out, bytes * (size_t)comm->slots.shape.ranks,
                                        cudaMemcpyDeviceToHost, comm->stream));
    if (err == 0)
        err = COMM_CUDA(cudaStreamSynchronize(comm->stream));
    return err;
}

extern "C" int kernels_comm_gather(struct kernels_comm *comm, const void *mine, void *all,
                                   size_t bytes)
{
    struct watch w;
    if (bytes * ((size_t)comm->slots.shape.ranks + 1) + 256 > comm->bounce_bytes)
        return ERR_RANGE;
    int err = comm_watch(&w, comm, "for the other ranks' part of a gather");
    if (err != 0)
        return err;
    err = gather(comm, mine, all, bytes);
    watch_end(&w);
    return err;
}

static int ping(struct kernels_comm *comm, int peer, struct ping_result *mine)
{
    struct ping_result *result = (struct ping_result *)comm->bounce;
    struct ping_args args = {comm, peer, 2000, result};
    struct watch w;
    int err = comm_watch(&w, comm, "for another rank's ping");
    if (err != 0)
        return err;
    err = kernels_ping_launch(&args, comm->stream);
    if (err == 0)
        err = COMM_CUDA(
            cudaMemcpyAsync(mine, result, sizeof(*result), cudaMemcpyDeviceToHost, comm->stream));
    if (err == 0)
        err = COMM_CUDA(cudaStreamSynchronize(comm->stream));
    watch_end(&w);
    return err;
}

extern "C" int kernels_comm_clocks(struct kernels_comm *comm, long long *offset_ns,
                                   long long *round_trip_ns)
{
    int ranks = comm->slots.shape.ranks, rank = comm->slots.shape.rank, err = 0;
    struct ping_result mine[SLOTS_MAX_RANKS], all[SLOTS_MAX_RANKS * SLOTS_MAX_RANKS];
    memset(mine, 0, sizeof(mine));
    for (int r = 1; err == 0 && r < ranks; r++)
        if (rank == 0 || rank == r)
            err = ping(comm, rank == 0 ? r : 0, &mine[r]);
    if (err == 0)
        err = kernels_comm_status(comm);
    if (err == 0)
        err = kernels_comm_gather(comm, mine, all, (size_t)ranks * sizeof(*mine));
    for (int r = 0; err == 0 && r < ranks; r++) {
        offset_ns[r] = all[r].offset_ns; /* what rank 0 measured */
        round_trip_ns[r] = all[r].min_ns;
    }
    return err;
}

static int alltoall_find(const struct kernels_comm *comm, int ctas)
{
    for (int i = 0; i < COMM_ALLTOALL_MAX; i++)
        if (comm->alltoall[i] != NULL && comm->alltoall_ctas[i] == ctas)
            return i;
    return -1;
}

extern "C" int kernels_comm_alltoall_open(struct kernels_comm *comm, int ctas)
{
    if (ctas < 1)
        return ERR_RANGE;
    int i = alltoall_find(comm, ctas), have = i >= 0;
    for (int j = 0; !have && j < COMM_ALLTOALL_MAX; j++)
        if (i < 0 || comm->alltoall_asked[j] < comm->alltoall_asked[i])
            i = j; /* not asked for longest: it makes room, on all ranks alike */
    comm->alltoall_asked[i] = ++comm->alltoall_opens;
    if (have)
        return 0;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.minCTAs = ctas;
    config.maxCTAs = ctas;
    /* No clusters: of four they wait, beside a GEMM, for four free SMs of one GPC until it ends. */
    config.cgaClusterSize = 0;
    struct watch w;
    int err = comm_watch(&w, comm, "for the other ranks to split NCCL's communicator");
    if (err != 0)
        return err;
    if (comm->alltoall[i] != NULL)
        err = COMM_NCCL(ncclCommDestroy(comm->alltoall[i]));
    comm->alltoall[i] = NULL;
    comm->alltoall_ctas[i] = ctas;
    comm->alltoall_used[i] = 0;
    if (err == 0)
        err = COMM_NCCL(
            ncclCommSplit(comm->nccl, 0, comm->slots.shape.rank, &comm->alltoall[i], &config));
    watch_end(&w);
    return err;
}

static int alltoall(const struct alltoall_args *args, ncclComm_t nccl, cudaStream_t stream)
{
    int err = COMM_NCCL(ncclGroupStart());
    for (int r = 0; err == 0 && r < args->comm->slots.shape.ranks; r++) {
        if (args->send_bytes[r] > 0)
            err = COMM_NCCL(ncclSend((const char *)args->send + args->send_offsets[r],
                                     args->send_bytes[r], ncclChar, r, nccl, stream));
        if (err == 0 && args->recv_bytes[r] > 0)
            err = COMM_NCCL(ncclRecv((char *)args->recv + args->recv_offsets[r],
                                     args->recv_bytes[r], ncclChar, r, nccl, stream));
    }
    int end = COMM_NCCL(ncclGroupEnd());
    return err != 0 ? err : end;
}

extern "C" int kernels_alltoall_launch(const struct alltoall_args *args, cudaStream_t stream)
{
    struct kernels_comm *comm = args->comm;
    int found = alltoall_find(comm, args->ctas);
    struct watch w;
    if (found < 0) {
        log_error("no communicator for all-to-alls of %d CTAs is open", args->ctas);
        return ERR_RANGE;
    }
    if (comm->alltoall_used[found])
        return alltoall(args, comm->alltoall[found], stream);
    /* The first one connects the ranks and holds the host meanwhile. */
    int err = comm_watch(&w, comm, "for the other ranks to connect for an all-to-all");
    if (err != 0)
        return err;
    err = alltoall(args, comm->alltoall[found], stream);
    comm->alltoall_used[found] = 1;
    watch_end(&w);
    return err;
}

extern "C" const void *kernels_push_landing(const struct kernels_comm *comm, int from, size_t bytes)
{
    return (const char *)comm->window_base + slots_push(&comm->slots) + (size_t)from * bytes;
}

extern "C" int kernels_ping_launch(const struct ping_args *args, cudaStream_t stream)
{
    struct kernels_comm *comm = args->comm;
    int rank = comm->slots.shape.rank;
    if (args->peer < 0 || args->peer >= comm->slots.shape.ranks || args->peer == rank ||
        args->iters < 1)
        return ERR_RANGE;
    unsigned long long first = comm->pings[args->peer] + 1;
    comm->pings[args->peer] += (unsigned long long)args->iters;
    if (comm->device[0].peers[args->peer] == NULL)
        return kernels_gin_ping(args, first, stream);
    return kernels_ping_start(&comm->device[0], args, first, stream);
}
