/* validate/team.h: the processes of one run on GPUs, one per GPU: who they are, what they tell each
 * other before NCCL can, and the parent that starts them. No CUDA: built everywhere.
 *
 * On one host a parent, which never initialises CUDA, starts its own program once per rank; on
 * several hosts mpirun or srun starts all of them. Rank 0 holds the results. */
#ifndef PEOSIM_VALIDATE_TEAM_H
#define PEOSIM_VALIDATE_TEAM_H

#include <stdbool.h>
#include <stddef.h>

#define GPU_TEAM_MAX      64
#define GPU_TEAM_ID_BYTES 128 /* of what rank 0 tells the others: NCCL's id */

/* Who takes what rank 0 sends: records in the order sent. 0, or an error that ends the run. */
struct gpu_receiver {
    void *self;
    int (*take)(void *self, const void *record, size_t bytes);
};

struct gpu_team {
    int rank, ranks;   /* processes */
    int local_rank;    /* among those of this host; -1: not known */
    bool spawned;      /* by a parent of ours; else by mpirun or srun */
    int id_fd;         /* where the id is written (rank 0) or read; -1: id_path, or MPI */
    int result_fd;     /* rank 0 of a spawned team: to the parent; -1: receiver */
    char id_path[512]; /* a file all ranks see; empty: MPI carries the id */
    struct gpu_receiver receiver;
};

/* Is this process a rank? 1: *team is filled, from the parent's variables or from those of Open
 * MPI, MPICH/PMI or a Slurm step; 0: no; or ERR_USAGE (values that contradict each other; no way to
 * pass the id). The id goes through the file whose name PEOSIM_ID_FILE begins and the job's id
 * ends; else through MPI, where the program was built with it. */
int gpu_team_join(struct gpu_team *team);

/* Collective: rank 0's id to all ranks. ERR_TIMEOUT after wait_s, ERR_IO; says why. */
int gpu_team_id_share(struct gpu_team *team, unsigned char id[GPU_TEAM_ID_BYTES], double wait_s);
/* Once all ranks have it (or nobody may any more): removes the file. */
void gpu_team_id_forget(const struct gpu_team *team);

/* Starts this program with argv as `ranks` ranks and hands every record that rank 0 sends to the
 * receiver. When a rank fails or deadline_s has passed since the last record, ends the others. 0,
 * ERR_GPU (a rank failed, it said why), ERR_TIMEOUT, ERR_IO, or what the receiver returned. */
int gpu_team_spawn(int ranks, char **argv, double deadline_s, const struct gpu_receiver *receiver);

/* Rank 0: passes a record on. */
int gpu_team_send(struct gpu_team *team, const void *record, size_t bytes);

/* Reads exactly `bytes`. ERR_TIMEOUT after wait_s, ERR_IO, or ERR_NOTFOUND at a clean end of file
 * before the first byte. Says nothing. */
int gpu_team_read(int fd, void *to, size_t bytes, double wait_s);

#endif
