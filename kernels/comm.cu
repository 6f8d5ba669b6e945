/* kernels/comm.cu: owns NCCL, the symmetric window and the counters. See comm.h. */
#include <stdlib.h>
#include <string.h>
extern "C" {
#include "base/log.h"
}
#include "kernels/comm_handle.cuh"
#include "kernels/delay.h"

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
    if (err != 0)
        return err;
    ncclDevCommRequirements needs;
    memset(&needs, 0, sizeof(needs));
    if (comm->config.experimental_gin) {
        needs.ginForceEnable = true;
        needs.ginContextCount = 1;
        needs.ginSignalCount = slots_signal_count(&comm->slots);
    }
    err = COMM_NCCL(ncclDevCommCreate(comm->nccl, &needs, &comm->devcomm));
    comm->has_devcomm = err == 0;
    return err;
}

static int open_counters(struct kernels_comm *comm, unsigned char *peers[SLOTS_MAX_RANKS])
{
    const struct slots *s = &comm->slots;
    size_t experts = (size_t)s->shape.experts, locals = (size_t)s->experts_local;
    size_t words64 = locals + 2 * experts, words32 = 6 * experts + 1 + COMM_TICKETS;
    size_t parity_bytes = slots_align(8 * words64 + 4 * words32, 256);
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
        d->stage_always = comm->config.experimental_gin;
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
    }
    return COMM_CUDA(cudaDeviceSynchronize());
}

/* Without GIN every peer must be in reach of NVLink. */
static int check_peers(const struct kernels_comm *comm, unsigned char *peers[SLOTS_MAX_RANKS])
{
    for (int r = 0; r < comm->slots.shape.ranks; r++) {
        if (peers[r] == NULL && !comm->config.experimental_gin) {
            log_error("rank %d cannot store to the memory of rank %d, and sends by network are "
                      "experimental (experimental_gin)",
                      comm->slots.shape.rank, r);
            return ERR_UNSUPPORTED;
        }
    }
    return 0;
}

static int open_all(struct kernels_comm *comm, const unsigned char *id)
{
    unsigned char *peers[SLOTS_MAX_RANKS];
    int err = check_nccl_version();
    if (err == 0)
        err = check_device(comm);
    if (err != 0)
        return err;
    setenv("NCCL_NVLS_ENABLE", "0", 1); /* no multicast anywhere */
    err = COMM_CUDA(cudaStreamCreateWithFlags(&comm->stream, cudaStreamNonBlocking));
    if (err == 0) {
        comm->bounce_bytes = 1 << 20;
        err = COMM_CUDA(cudaMalloc(&comm->bounce, comm->bounce_bytes));
    }
    ncclUniqueId nccl_id;
    memcpy(&nccl_id, id, sizeof(nccl_id));
    if (err == 0)
        err = COMM_NCCL(ncclCommInitRank(&comm->nccl, comm->slots.shape.ranks, nccl_id,
                                         comm->slots.shape.rank));
    if (err == 0)
        err = open_window(comm);
    if (err == 0)
        err = find_peers(comm, peers);
    if (err == 0)
        err = check_peers(comm, peers);
    if (err == 0)
        err = open_counters(comm, peers);
    /* No rank may store into a window that another is still clearing. */
    if (err == 0)
        err = kernels_comm_barrier(comm, comm->stream);
    if (err == 0)
        err = COMM_CUDA(cudaStreamSynchronize(comm->stream));
    return err;
}

extern "C" int kernels_comm_open(struct kernels_comm **out,
                                 const struct kernels_comm_config *config,
                                 const unsigned char id[KERNELS_COMM_ID_BYTES])
{
    struct kernels_comm *comm = (struct kernels_comm *)calloc(1, sizeof(*comm));
    if (comm == NULL)
        return ERR_NOMEM;
    comm->config = *config;
    comm->config.shape.gin = config->experimental_gin;
    if (comm->config.timeout_ns <= 0)
        comm->config.timeout_ns = 10000000000ll;
    int err = slots_init(&comm->slots, &comm->config.shape, config->scratch_bytes);
    if (err == 0)
        err = open_all(comm, id);
    if (err != 0) {
        kernels_comm_close(comm);
        comm = NULL;
    }
    *out = comm;
    return err;
}

extern "C" void kernels_comm_close(struct kernels_comm *comm)
{
    if (comm == NULL)
        return;
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
    if (comm->stream != NULL)
        COMM_CUDA(cudaStreamDestroy(comm->stream));
    COMM_CUDA(cudaFree(comm->bounce));
    COMM_CUDA(cudaFree(comm->counters));
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
                               {s->staging_offset, s->scratch_offset}};
    int err = 0;
    for (size_t i = 0; err == 0 && i < sizeof(areas) / sizeof(*areas); i++)
        err = COMM_CUDA(cudaMemsetAsync((unsigned char *)comm->window_base + areas[i][0], 0xff,
                                        areas[i][1] - areas[i][0], stream));
    return err;
}

extern "C" int kernels_comm_sm_count(const struct kernels_comm *comm)
{
    return comm->sm_count;
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
    return ERR_TIMEOUT;
}

extern "C" int kernels_comm_barrier(struct kernels_comm *comm, cudaStream_t stream)
{
    return COMM_NCCL(
        ncclAllReduce(comm->bounce, comm->bounce, 1, ncclInt, ncclSum, comm->nccl, stream));
}

extern "C" int kernels_comm_gather(struct kernels_comm *comm, const void *mine, void *all,
                                   size_t bytes)
{
    size_t ranks = (size_t)comm->slots.shape.ranks;
    if (bytes * (ranks + 1) + 256 > comm->bounce_bytes)
        return ERR_RANGE;
    char *in = (char *)comm->bounce + 256, *out = in + bytes;
    int err = COMM_CUDA(cudaMemcpyAsync(in, mine, bytes, cudaMemcpyHostToDevice, comm->stream));
    if (err == 0)
        err = COMM_NCCL(ncclAllGather(in, out, bytes, ncclChar, comm->nccl, comm->stream));
    if (err == 0)
        err = COMM_CUDA(
            cudaMemcpyAsync(all, out, bytes * ranks, cudaMemcpyDeviceToHost, comm->stream));
    if (err == 0)
        err = COMM_CUDA(cudaStreamSynchronize(comm->stream));
    return err;
}

extern "C" int kernels_comm_clocks(struct kernels_comm *comm, long long *offset_ns,
                                   long long *round_trip_ns)
{
    int ranks = comm->slots.shape.ranks, rank = comm->slots.shape.rank;
    struct ping_result mine[SLOTS_MAX_RANKS], all[SLOTS_MAX_RANKS * SLOTS_MAX_RANKS];
    memset(mine, 0, sizeof(mine));
    struct ping_result *result = (struct ping_result *)comm->bounce;
    int err = 0;
    for (int r = 1; err == 0 && r < ranks; r++) {
        if (rank != 0 && rank != r)
            continue;
        struct ping_args args = {comm, rank == 0 ? r : 0, 2000, result};
        err = kernels_ping_launch(&args, comm->stream);
        if (err == 0)
            err = COMM_CUDA(cudaMemcpyAsync(&mine[r], result, sizeof(*result),
                                            cudaMemcpyDeviceToHost, comm->stream));
        if (err == 0)
            err = COMM_CUDA(cudaStreamSynchronize(comm->stream));
    }
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
    if (alltoall_find(comm, ctas) >= 0)
        return 0;
    for (int i = 0; i < COMM_ALLTOALL_MAX; i++) {
        if (comm->alltoall[i] != NULL)
            continue;
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.minCTAs = ctas;
        config.maxCTAs = ctas;
        comm->alltoall_ctas[i] = ctas;
        return COMM_NCCL(
            ncclCommSplit(comm->nccl, 0, comm->slots.shape.rank, &comm->alltoall[i], &config));
    }
    return ERR_RANGE;
}

extern "C" int kernels_alltoall_launch(const struct alltoall_args *args, cudaStream_t stream)
{
    int found = alltoall_find(args->comm, args->ctas);
    if (found < 0)
        return ERR_RANGE;
    ncclComm_t nccl = args->comm->alltoall[found];
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

extern "C" const void *kernels_push_landing(const struct kernels_comm *comm, int from, size_t bytes)
{
    return (const char *)comm->window_base + slots_push(&comm->slots) + (size_t)from * bytes;
}

extern "C" int kernels_ping_launch(const struct ping_args *args, cudaStream_t stream)
{
    struct kernels_comm *comm = args->comm;
    int rank = comm->slots.shape.rank;
    if (args->peer < 0 || args->peer >= comm->slots.shape.ranks || args->peer == rank ||
        args->iters < 1 || comm->device[0].peers[args->peer] == NULL)
        return ERR_RANGE;
    unsigned long long first = comm->pings[args->peer] + 1;
    comm->pings[args->peer] += (unsigned long long)args->iters;
    return kernels_ping_start(&comm->device[0], args, first, stream);
}
