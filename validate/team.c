/* validate/team.c: who a process is, by what its launcher left in the environment, and rank 0's id
 * to the others. */
#include "validate/team.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/watch.h"
#include "validate/team_mpi.h"

#define ID_FD     3 /* of a spawned rank; validate/launch.c */
#define RESULT_FD 4

/* 1: *value is set; 0: no such variable; ERR_USAGE: not a number of processes. */
static int env_int(const char *name, int *value)
{
    const char *text = getenv(name);
    char *end;
    long v;

    if (!text || !*text)
        return 0;
    v = strtol(text, &end, 10);
    if (*end || v < 0 || v > 1000000) {
        log_error("%s=%s: not a number of processes", name, text);
        return ERR_USAGE;
    }
    *value = (int)v;
    return 1;
}

/* A batch script sees SLURM_NTASKS too, without being one of its tasks. Slurm numbers its own steps
 * (batch, interactive) from the top of 32 bits. */
static bool in_slurm_step(void)
{
    const char *step = getenv("SLURM_STEP_ID");

    return step && *step && strtoull(step, NULL, 10) < 0xfffffff0u;
}

static int local_rank_find(struct gpu_team *team)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID",
                                        "SLURM_LOCALID"};
    int found = 0;

    team->local_rank = team->spawned ? team->rank : -1;
    for (size_t i = 0; !team->spawned && !found && i < sizeof names / sizeof *names; i++)
        found = env_int(names[i], &team->local_rank);
    return found < 0 ? found : 0;
}

static const char *job_id(void)
{
    static const char *const names[] = {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "PMI_JOBID",
                                        "SLURM_JOB_ID"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i]) && *getenv(names[i]))
            return getenv(names[i]);
    return "0";
}

/* The name carries the job, so that no rank takes the file of an earlier one for its own. The step
 * only where srun started the ranks: mpirun's may be in several. */
static int id_path_make(struct gpu_team *team, const char *path, bool step)
{
    size_t size = sizeof team->id_path, at = strlen(path);
    int n = snprintf(team->id_path, size, "%s.%s.%s", path, job_id(),
                     step ? getenv("SLURM_STEP_ID") : "0");

    for (; at < size && team->id_path[at]; at++)
        if (team->id_path[at] == '/')
            team->id_path[at] = '_';
    if (n > 0 && (size_t)n < size)
        return 0;
    log_error("PEOSIM_ID_FILE: the name is too long");
    return ERR_USAGE;
}

static int id_way_find(struct gpu_team *team, bool step)
{
    const char *path = getenv("PEOSIM_ID_FILE");

    if (path && *path)
        return id_path_make(team, path, step);
    if (team_mpi_built())
        return 0;
    log_error("rank %d of %d: this build has no MPI: set PEOSIM_ID_FILE to the name of a file that "
              "every rank can see",
              team->rank, team->ranks);
    return ERR_USAGE;
}

/* 1: both are set and agree; 0: neither is set; ERR_USAGE. */
static int rank_find(const char *rank_name, const char *ranks_name, struct gpu_team *team)
{
    int rank = env_int(rank_name, &team->rank);
    int ranks = rank > 0 ? env_int(ranks_name, &team->ranks) : 0;

    if (rank <= 0 || ranks < 0)
        return rank < 0 ? rank : ranks;
    if (ranks == 0) {
        log_error("%s is set, but %s is not", rank_name, ranks_name);
        return ERR_USAGE;
    }
    if (team->rank >= team->ranks) {
        log_error("%s=%d, but %s=%d", rank_name, team->rank, ranks_name, team->ranks);
        return ERR_USAGE;
    }
    return 1;
}

/* A rank of a parent of ours ends with it, however that ends. */
static int spawned_fill(struct gpu_team *team)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    team->spawned = true;
    team->id_fd = ID_FD;
    team->result_fd = team->rank == 0 ? RESULT_FD : -1;
    return local_rank_find(team);
}

static int launched_fill(struct gpu_team *team, bool step)
{
    int err = local_rank_find(team);

    return err ? err : id_way_find(team, step);
}

int gpu_team_join(struct gpu_team *team)
{
    static const char *const names[][2] = {{"PEOSIM_RANK", "PEOSIM_RANKS"},
                                           {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                           {"PMI_RANK", "PMI_SIZE"},
                                           {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bool spawned = i == 0, step = i == 3;
        int found, err;

        memset(team, 0, sizeof *team);
        team->id_fd = team->result_fd = -1;
        if (step && !in_slurm_step())
            continue;
        found = rank_find(names[i][0], names[i][1], team);
        if (found < 0)
            return found;
        if (!found || (!spawned && team->ranks < 2)) /* one process may be a parent itself */
            continue;
        err = spawned ? spawned_fill(team) : launched_fill(team, step);
        return err ? err : 1;
    }
    return 0;
}

int gpu_team_read(int fd, void *to, size_t bytes, double wait_s)
{
    double deadline = watch_now_s() + wait_s;

    for (size_t got = 0; got < bytes;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        double left = deadline - watch_now_s();
        ssize_t n;

        if (left <= 0)
            return ERR_TIMEOUT;
        if (poll(&p, 1, (int)(left * 1e3) + 1) <= 0)
            continue;
        n = read(fd, (char *)to + got, bytes - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return got == 0 && n == 0 ? ERR_NOTFOUND : ERR_IO;
        got += (size_t)n;
    }
    return 0;
}

static int write_all(int fd, const void *from, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = write(fd, (const char *)from + done, bytes - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ERR_IO;
        done += (size_t)n;
    }
    return 0;
}

int gpu_team_send(struct gpu_team *team, const void *record, size_t bytes)
{
    uint64_t head = bytes;
    int err;

    if (team->receiver.take)
        return team->receiver.take(team->receiver.self, record, bytes);
    if (team->result_fd < 0)
        return 0;
    err = write_all(team->result_fd, &head, sizeof head);
    return err ? err : write_all(team->result_fd, record, bytes);
}

/* From the file that rank 0 writes, whole or not at all. */
static int id_from_file(const struct gpu_team *team, unsigned char *id, double wait_s)
{
    double deadline = watch_now_s() + wait_s;

    while (watch_now_s() < deadline) {
        FILE *f = fopen(team->id_path, "rb");
        size_t n = f ? fread(id, 1, GPU_TEAM_ID_BYTES, f) : 0;

        if (f)
            fclose(f);
        if (n == GPU_TEAM_ID_BYTES)
            return 0;
        usleep(20000);
    }
    log_error("rank %d waited for rank 0 to write NCCL's id to %s: in vain for %g s (%s)",
              team->rank, team->id_path, wait_s, err_text(ERR_TIMEOUT));
    return ERR_TIMEOUT;
}

static int id_to_file(const char *path, const unsigned char *id)
{
    char part[600];
    FILE *f;
    int err;

    snprintf(part, sizeof part, "%s.part", path);
    f = fopen(part, "wb");
    err = f && fwrite(id, 1, GPU_TEAM_ID_BYTES, f) == GPU_TEAM_ID_BYTES ? 0 : ERR_IO;
    if (f && fclose(f))
        err = ERR_IO;
    if (!err && rename(part, path))
        err = ERR_IO;
    if (err)
        log_error("%s: %s", path, strerror(errno));
    return err;
}

static int id_by_pipe(struct gpu_team *team, unsigned char *id, double wait_s)
{
    int err = team->rank == 0 ? write_all(team->id_fd, id, GPU_TEAM_ID_BYTES)
                              : gpu_team_read(team->id_fd, id, GPU_TEAM_ID_BYTES, wait_s);

    close(team->id_fd);
    team->id_fd = -1;
    if (err == ERR_TIMEOUT)
        log_error("rank %d waited for rank 0 to make NCCL's id: in vain for %g s (%s)", team->rank,
                  wait_s, err_text(err));
    return err == ERR_NOTFOUND ? ERR_IO : err; /* rank 0 has failed and says why */
}

int gpu_team_id_share(struct gpu_team *team, unsigned char id[GPU_TEAM_ID_BYTES], double wait_s)
{
    if (team->id_fd >= 0)
        return id_by_pipe(team, id, wait_s);
    if (!team->id_path[0])
        return team_mpi_bcast(team->rank, team->ranks, id, GPU_TEAM_ID_BYTES, wait_s);
    return team->rank == 0 ? id_to_file(team->id_path, id) : id_from_file(team, id, wait_s);
}

void gpu_team_id_forget(const struct gpu_team *team)
{
    if (team->rank == 0 && team->id_path[0])
        unlink(team->id_path);
}
