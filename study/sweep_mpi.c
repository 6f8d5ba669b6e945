#include "study/sweep_mpi.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"

/* What launchers leave in the environment of each process. */
static int launched_size(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i]))
            return atoi(getenv(names[i]));
    /* srun --mpi=pmix says the size only through PMIx; a batch script itself has no PMIX_RANK. */
    return getenv("PMIX_RANK") && getenv("SLURM_NTASKS") ? atoi(getenv("SLURM_NTASKS")) : 1;
}

#ifdef PEOSIM_MPI
#include <mpi.h>

struct mpi_state {
    MPI_Win window;
    long long counter; /* rank 0's is the one that counts */
};

static int check(int rc, const char *what)
{
    if (rc == MPI_SUCCESS)
        return 0;
    log_error("MPI: %s failed", what);
    return ERR_IO;
}

static int world_fill(struct mpi_world *w)
{
    MPI_Comm local;
    int err = check(MPI_Comm_rank(MPI_COMM_WORLD, &w->rank), "MPI_Comm_rank");

    if (!err)
        err = check(MPI_Comm_size(MPI_COMM_WORLD, &w->size), "MPI_Comm_size");
    if (!err)
        err = check(
            MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local),
            "MPI_Comm_split_type");
    if (err)
        return err;
    err = check(MPI_Comm_size(local, &w->local_size), "MPI_Comm_size");
    MPI_Comm_free(&local);
    return err;
}

int mpi_open(struct mpi_world *w)
{
    struct mpi_state *s;
    int level, err;

    *w = (struct mpi_world){.size = 1, .local_size = 1};
    if (launched_size() < 2)
        return 0;
    s = calloc(1, sizeof *s);
    if (!s)
        return ERR_NOMEM;
    w->state = s;
    s->window = MPI_WIN_NULL;
    err = check(MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level), "MPI_Init_thread");
    if (err) {
        free(s);
        w->state = NULL;
    }
    if (!err && level < MPI_THREAD_SERIALIZED) {
        log_error("MPI: this library does not let threads take turns");
        err = ERR_UNSUPPORTED;
    }
    if (!err)
        err = world_fill(w);
    if (!err)
        err = check(MPI_Win_create(&s->counter, sizeof s->counter, sizeof s->counter, MPI_INFO_NULL,
                                   MPI_COMM_WORLD, &s->window),
                    "MPI_Win_create");
    return err;
}

void mpi_close(struct mpi_world *w)
{
    struct mpi_state *s = w->state;

    if (!s)
        return;
    if (s->window != MPI_WIN_NULL)
        MPI_Win_free(&s->window);
    MPI_Finalize();
    free(s);
    w->state = NULL;
}

int mpi_agree(struct mpi_world *w, int err)
{
    int least = err;

    if (w->state && MPI_Allreduce(&err, &least, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD) != MPI_SUCCESS)
        return ERR_IO;
    return least;
}

size_t mpi_sum(struct mpi_world *w, size_t n)
{
    unsigned long long own = n, all = n;

    if (w->state)
        MPI_Allreduce(&own, &all, 1, MPI_UNSIGNED_LONG_LONG, MPI_SUM, MPI_COMM_WORLD);
    return (size_t)all;
}

int mpi_counter_next(struct mpi_world *w, size_t *value)
{
    struct mpi_state *s = w->state;
    long long one = 1, got = 0;
    int err;

    if (!s)
        return ERR_INTERNAL;
    err = check(MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, s->window), "MPI_Win_lock");
    if (!err)
        err = check(MPI_Fetch_and_op(&one, &got, MPI_LONG_LONG, 0, 0, MPI_SUM, s->window),
                    "MPI_Fetch_and_op");
    if (!err)
        err = check(MPI_Win_unlock(0, s->window), "MPI_Win_unlock");
    *value = (size_t)got;
    return err;
}

void mpi_die(struct mpi_world *w)
{
    if (w->state)
        MPI_Abort(MPI_COMM_WORLD, 1);
}

#else

int mpi_open(struct mpi_world *w)
{
    *w = (struct mpi_world){.size = 1, .local_size = 1};
    if (launched_size() < 2)
        return 0;
    log_error("started as %d processes, but this build has no MPI: install libopenmpi-dev or "
              "libmpich-dev and build again",
              launched_size());
    return ERR_UNSUPPORTED;
}

void mpi_close(struct mpi_world *w)
{
    (void)w;
}

int mpi_agree(struct mpi_world *w, int err)
{
    (void)w;
    return err;
}

size_t mpi_sum(struct mpi_world *w, size_t n)
{
    (void)w;
    return n;
}

int mpi_counter_next(struct mpi_world *w, size_t *value)
{
    (void)w;
    (void)value;
    return ERR_INTERNAL;
}

void mpi_die(struct mpi_world *w)
{
    (void)w;
}
#endif
