#include "validate/team_mpi.h"

#include "base/err.h"
#include "base/log.h"

#ifdef PEOSIM_MPI
#include <mpi.h>

#include "base/watch.h"

bool team_mpi_built(void)
{
    return true;
}

static int bcast(int rank, int ranks, void *data, size_t bytes)
{
    int size = 0, me = -1;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_rank(MPI_COMM_WORLD, &me);
    if (size != ranks || me != rank) {
        log_error("the launcher started rank %d of %d, but MPI here sees rank %d of %d: another "
                  "MPI than this program was built with? PEOSIM_ID_FILE does without",
                  rank, ranks, me, size);
        return ERR_UNSUPPORTED;
    }
    return MPI_Bcast(data, (int)bytes, MPI_BYTE, 0, MPI_COMM_WORLD) == MPI_SUCCESS ? 0 : ERR_IO;
}

int team_mpi_bcast(int rank, int ranks, void *data, size_t bytes, double wait_s)
{
    struct watch w;
    int err =
        watch_begin(&w, wait_s, "rank %d of %d waited for MPI to pass NCCL's id", rank, ranks);

    if (err)
        return err;
    if (MPI_Init(NULL, NULL) != MPI_SUCCESS) {
        log_error("rank %d: MPI_Init failed", rank);
        err = ERR_IO;
    }
    if (!err)
        err = bcast(rank, ranks, data, bytes);
    if (!err)
        MPI_Finalize();
    watch_end(&w);
    return err;
}

#else

bool team_mpi_built(void)
{
    return false;
}

int team_mpi_bcast(int rank, int ranks, void *data, size_t bytes, double wait_s)
{
    (void)data, (void)bytes, (void)wait_s;
    log_error("rank %d of %d: this build has no MPI", rank, ranks);
    return ERR_UNSUPPORTED;
}
#endif
