/* kernels/comm_handle.cuh: the insides of struct kernels_comm, for comm.cu and gin.cu only. */
#ifndef PEOSIM_KERNELS_COMM_HANDLE_CUH
#define PEOSIM_KERNELS_COMM_HANDLE_CUH

#include <nccl.h>
#include <nccl_device.h>
#include "kernels/comm_device.cuh"

#define COMM_ALLTOALL_MAX 8

struct kernels_comm {
    struct kernels_comm_config config;
    struct slots slots;
    struct comm_device device[SLOTS_PARITIES];
    int sm_count;
    ncclComm_t nccl;
    void *window_base;
    ncclWindow_t window;
    ncclDevComm devcomm;
    int has_devcomm;
    int far;    /* some rank lies beyond NVLink */
    int broken; /* the ranks are no longer in step: close without them */
    void *counters; /* one allocation behind every counter of `device` */
    unsigned long long *status;
    void *bounce; /* for gathers */
    size_t bounce_bytes;
    cudaStream_t stream; /* of the synchronous functions */
    int alltoall_ctas[COMM_ALLTOALL_MAX];
    ncclComm_t alltoall[COMM_ALLTOALL_MAX];
    int alltoall_used[COMM_ALLTOALL_MAX];
    unsigned long long alltoall_asked[COMM_ALLTOALL_MAX]; /* when last, in opens */
    unsigned long long alltoall_opens;
    unsigned long long pings[SLOTS_MAX_RANKS]; /* ping-pongs done with each rank */
    int status_logged;
};

#define COMM_NCCL(call) comm_nccl_check((call), #call, __FILE__, __LINE__)
int comm_nccl_check(ncclResult_t err, const char *what, const char *file, int line);

#endif
