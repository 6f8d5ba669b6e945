/* study/sweep_mpi.h: the processes of one sweep when it is started by mpirun or srun. Without MPI
 * in the build, or when not started so, there is one process. All calls are collective but for
 * mpi_counter_next and mpi_die; threads take turns. */
#ifndef PEOSIM_STUDY_SWEEP_MPI_H
#define PEOSIM_STUDY_SWEEP_MPI_H

#include <stddef.h>

struct mpi_world {
    int rank, size;
    int local_size; /* processes on this machine */
    void *state;    /* NULL = one process, nothing to talk to */
};

/* ERR_UNSUPPORTED (logged) when started as several processes by a launcher that this build cannot
 * talk to. */
int mpi_open(struct mpi_world *w);
void mpi_close(struct mpi_world *w);
/* The least of everybody's err: 0 only where all are. */
int mpi_agree(struct mpi_world *w, int err);
/* The sum of everybody's n. */
size_t mpi_sum(struct mpi_world *w, size_t n);
/* Hands out 0, 1, 2, ... over all processes, each number once. */
int mpi_counter_next(struct mpi_world *w, size_t *value);
/* Ends all processes with status 1 after this one has said why; returns where there is no MPI. */
void mpi_die(struct mpi_world *w);

#endif
