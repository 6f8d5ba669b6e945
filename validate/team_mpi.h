/* validate/team_mpi.h: rank 0's id to all ranks by MPI, where the program was built with it. */
#ifndef PEOSIM_VALIDATE_TEAM_MPI_H
#define PEOSIM_VALIDATE_TEAM_MPI_H

#include <stdbool.h>
#include <stddef.h>

bool team_mpi_built(void);

/* Collective over `ranks` processes; MPI is begun and ended inside, so that none of it runs beside
 * what is measured. ERR_TIMEOUT ends the process after wait_s (base/watch.h); ERR_UNSUPPORTED where
 * the launcher belongs to another MPI (logged); ERR_IO. */
int team_mpi_bcast(int rank, int ranks, void *data, size_t bytes, double wait_s);

#endif
