/* validate/gpu_launch.c: one process per GPU. The parent of a team spawns itself once per rank; the
 * children find who they are in their environment, NCCL's id comes through pipes (descriptor 3),
 * and rank 0's results return through descriptor 4. No CUDA here: the parent must not touch it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "validate/gpu.h"

#define TEAM_MAX     64
#define ID_BYTES     128
#define ID_FD        3
#define RESULT_FD    4
#define RECORD_MAX   ((size_t)64 << 20)
#define LAST_WORDS_S 3.0 /* what the other ranks may still say after one has failed */

extern char **environ;

bool gpu_built(void)
{
    return true;
}

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int env_int(const char *name, int *value)
{
    const char *text = getenv(name);

    if (!text || !*text)
        return 0;
    *value = atoi(text);
    return 1;
}

/* A batch script sees SLURM_NTASKS too, without being one of its tasks. Slurm numbers its own steps
 * (batch, interactive) from the top of 32 bits. */
static bool in_slurm_step(void)
{
    const char *step = getenv("SLURM_STEP_ID");

    return step && *step && strtoull(step, NULL, 10) < 0xfffffff0u;
}

static int local_rank_of(int rank, bool spawned)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID",
                                        "SLURM_LOCALID"};
    int local;

    for (size_t i = 0; !spawned && i < sizeof names / sizeof *names; i++)
        if (env_int(names[i], &local) && local >= 0)
            return local;
    return spawned ? rank : -1;
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

int gpu_team_join(struct gpu_team *team)
{
    static const char *const names[][2] = {{"PEOSIM_RANK", "PEOSIM_RANKS"},
                                           {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                           {"PMI_RANK", "PMI_SIZE"},
                                           {"SLURM_PROCID", "SLURM_NTASKS"}};
    const char *path = getenv("PEOSIM_ID_FILE");

    memset(team, 0, sizeof *team);
    team->id_fd = team->result_fd = -1;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!env_int(names[i][0], &team->rank) || !env_int(names[i][1], &team->ranks))
            continue;
        team->local_rank = local_rank_of(team->rank, i == 0);
        if (i == 0) {
            team->id_fd = ID_FD;
            team->result_fd = team->rank == 0 ? RESULT_FD : -1;
            return 1;
        }
        if (team->ranks < 2 || (i == 3 && !in_slurm_step()))
            continue;
        if (!path) {
            log_error("rank %d of %d: set PEOSIM_ID_FILE to a file that every rank can see",
                      team->rank, team->ranks);
            return ERR_USAGE;
        }
        return id_path_make(team, path, i == 3) ? ERR_USAGE : 1;
    }
    return 0;
}

/* Reads exactly `bytes` before the deadline. ERR_TIMEOUT, ERR_IO, or ERR_NOTFOUND at a clean end of
 * file before the first byte. */
static int read_all(int fd, void *to, size_t bytes, double deadline)
{
    for (size_t got = 0; got < bytes;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        double left = deadline - now_s();
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

struct child {
    pid_t pid; /* 0: none, or ended and waited for */
};

struct nursery {
    int ranks;
    struct child child[TEAM_MAX];
    int id[TEAM_MAX][2]; /* pipes; of rank 0: from it, of others: to them */
    int result[2];
};

static void fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* The environment of a child: ours without the team's variables, and its own two. Descriptors that
 * are not its own carry the close-on-exec flag. */
static char **env_make(const char *rank, const char *ranks)
{
    size_t n = 0, kept = 0;
    char **env;

    while (environ[n])
        n++;
    env = calloc(n + 3, sizeof *env);
    for (size_t i = 0; env && i < n; i++)
        if (strncmp(environ[i], "PEOSIM_RANK", 11) != 0)
            env[kept++] = environ[i];
    if (env) {
        env[kept++] = (char *)rank;
        env[kept] = (char *)ranks;
    }
    return env;
}

static int child_start(struct nursery *n, int rank, char **argv)
{
    char text[2][32];
    char **env;
    posix_spawn_file_actions_t actions;
    int status;

    snprintf(text[0], sizeof text[0], "PEOSIM_RANK=%d", rank);
    snprintf(text[1], sizeof text[1], "PEOSIM_RANKS=%d", n->ranks);
    env = env_make(text[0], text[1]);
    if (!env || posix_spawn_file_actions_init(&actions)) {
        free(env);
        return ERR_NOMEM;
    }
    status = posix_spawn_file_actions_adddup2(&actions, n->id[rank][rank == 0], ID_FD);
    if (!status && rank == 0)
        status = posix_spawn_file_actions_adddup2(&actions, n->result[1], RESULT_FD);
    if (!status)
        status = posix_spawn(&n->child[rank].pid, "/proc/self/exe", &actions, NULL, argv, env);
    posix_spawn_file_actions_destroy(&actions);
    free(env);
    if (status)
        log_error("cannot start rank %d: %s", rank, strerror(status));
    return status ? ERR_IO : 0;
}

/* A pipe whose ends stay clear of the descriptors that children get, and out of the children. */
static int pipe_make(int fd[2])
{
    int raw[2];

    if (pipe(raw))
        return ERR_IO;
    for (int i = 0; i < 2; i++) {
        fd[i] = fcntl(raw[i], F_DUPFD_CLOEXEC, 10);
        close(raw[i]);
    }
    return fd[0] < 0 || fd[1] < 0 ? ERR_IO : 0;
}

static int nursery_open(struct nursery *n, int ranks, char **argv)
{
    int err = 0;

    memset(n, 0, sizeof *n);
    n->ranks = ranks;
    n->result[0] = n->result[1] = -1;
    for (int r = 0; r < ranks; r++)
        n->id[r][0] = n->id[r][1] = -1;
    err = pipe_make(n->result);
    for (int r = 0; !err && r < ranks; r++)
        err = pipe_make(n->id[r]);
    for (int r = 0; !err && r < ranks; r++)
        err = child_start(n, r, argv);
    for (int r = 0; r < ranks; r++)
        fd_close(&n->id[r][r == 0]); /* the child's end */
    fd_close(&n->result[1]);
    return err;
}

static void nursery_close(struct nursery *n)
{
    for (int r = 0; r < n->ranks; r++) {
        if (n->child[r].pid > 0) {
            kill(n->child[r].pid, SIGKILL);
            waitpid(n->child[r].pid, NULL, 0);
        }
        fd_close(&n->id[r][0]);
        fd_close(&n->id[r][1]);
    }
    fd_close(&n->result[0]);
    fd_close(&n->result[1]);
}

/* Collects children that have ended. Returns how many still run; *failed names a bad one. */
static int nursery_look(struct nursery *n, int *failed)
{
    int alive = 0, status;

    for (int r = 0; r < n->ranks; r++) {
        if (n->child[r].pid <= 0)
            continue;
        if (waitpid(n->child[r].pid, &status, WNOHANG) == 0) {
            alive++;
            continue;
        }
        n->child[r].pid = 0;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            continue;
        if (*failed < 0)
            *failed = r;
        if (WIFSIGNALED(status))
            log_error("rank %d was ended by signal %d", r, WTERMSIG(status));
        else
            log_error("rank %d ended with status %d", r, WEXITSTATUS(status));
    }
    return alive;
}

static int ids_pass(struct nursery *n, double deadline)
{
    unsigned char id[ID_BYTES];
    int err = read_all(n->id[0][0], id, sizeof id, deadline);

    if (err) /* rank 0 says why */
        return ERR_GPU;
    for (int r = 1; !err && r < n->ranks; r++)
        err = write_all(n->id[r][1], id, sizeof id);
    return err;
}

/* One record from rank 0. Wakes up often to see whether a rank has failed. ERR_NOTFOUND: rank 0 has
 * closed its end. */
static int record_take(struct nursery *n, double *deadline, double patience_s, int *failed,
                       const struct gpu_receiver *receiver)
{
    struct pollfd p = {.fd = n->result[0], .events = POLLIN};
    uint64_t bytes;
    void *record;
    int err, before = *failed;

    nursery_look(n, failed);
    if (before < 0 && *failed >= 0)
        *deadline = now_s() + LAST_WORDS_S;
    if (now_s() > *deadline)
        return *failed >= 0 ? ERR_GPU : ERR_TIMEOUT;
    if (poll(&p, 1, 100) <= 0)
        return 0;
    err = read_all(n->result[0], &bytes, sizeof bytes, now_s() + 10);
    if (err)
        return err;
    record = bytes <= RECORD_MAX ? malloc(bytes + 1) : NULL;
    if (!record)
        return ERR_IO;
    err = read_all(n->result[0], record, bytes, now_s() + 30);
    if (!err)
        err = receiver->take(receiver->self, record, bytes);
    free(record);
    if (*failed < 0)
        *deadline = now_s() + patience_s;
    return err;
}

static int children_end(struct nursery *n, int *failed, double patience_s)
{
    double deadline = now_s() + patience_s;

    while (nursery_look(n, failed) > 0) {
        if (*failed >= 0 && deadline > now_s() + LAST_WORDS_S)
            deadline = now_s() + LAST_WORDS_S;
        if (now_s() > deadline)
            return *failed >= 0 ? ERR_GPU : ERR_TIMEOUT;
        usleep(5000);
    }
    return *failed >= 0 ? ERR_GPU : 0;
}

int gpu_team_spawn(int ranks, char **argv, double deadline_s, const struct gpu_receiver *receiver)
{
    struct nursery n;
    int err, failed = -1;
    double deadline = now_s() + deadline_s;

    if (ranks < 1 || ranks > TEAM_MAX) {
        log_error("%d ranks: one host has 1 to %d", ranks, TEAM_MAX);
        return ERR_RANGE;
    }
    signal(SIGPIPE, SIG_IGN); /* a rank that is gone shows as a failed write */
    err = nursery_open(&n, ranks, argv);
    if (!err)
        err = ids_pass(&n, now_s() + 60);
    while (!err)
        err = record_take(&n, &deadline, deadline_s, &failed, receiver);
    if (err == ERR_NOTFOUND) /* all records are in */
        err = 0;
    if (!err)
        err = children_end(&n, &failed, 60);
    else
        children_end(&n, &failed, LAST_WORDS_S);
    if (err == ERR_TIMEOUT)
        log_error("the ranks have said nothing for %.0f s; they are ended", deadline_s);
    nursery_close(&n);
    return err;
}
