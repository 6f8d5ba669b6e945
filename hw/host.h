/* hw/host.h: what this machine is: its GPUs by NVIDIA's management library, which is loaded when
 * asked for and needed by nothing else, and its RDMA NICs by the kernel's own files. */
#ifndef PEOSIM_HW_HOST_H
#define PEOSIM_HW_HOST_H

struct hw_host {
    char gpu[96];      /* as the driver names it: "NVIDIA H200"; of the first GPU */
    int gpus;          /* of this machine */
    int mixed;         /* 1: not all have that name */
    double memory_GB;  /* of one GPU */
    int nvlinks;       /* active links of the first GPU; 0: none, or not told */
    int nics;          /* ports of /sys/class/infiniband that are up */
    double nic_Gbitps; /* the slowest of them; 0: none */
};

/* 0; ERR_NOTFOUND (logged) without the library or a GPU; ERR_IO (logged) where it fails. */
int hw_host_read(struct hw_host *out);
/* The shipped profile of a GPU of this name ("h200"), or NULL: the caller frees it. */
char *hw_host_profile(const char *gpu);

#endif
