/* validate/launch.c: one process per GPU. The parent of a team spawns itself once per rank; the
 * children find who they are in their environment (validate/team.c), NCCL's id comes through pipes
 * (descriptor 3), and rank 0's results return through descriptor 4. No CUDA here: the parent must
 * not touch it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/watch.h"
#include "validate/team.h"

#define ID_FD         3
#define RESULT_FD     4
#define RECORD_MAX    ((size_t)64 << 20)
#define ID_WAIT_S     60.0
#define RECORD_WAIT_S 30.0
#define END_WAIT_S    60.0
#define LAST_WORDS_S  3.0 /* what the other ranks may still say after one has failed */

extern char **environ;

struct child {
    pid_t pid; /* 0: none, or ended and waited for */
};

struct nursery {
    int ranks;
    struct child child[GPU_TEAM_MAX];
    int id[GPU_TEAM_MAX][2]; /* pipes; of rank 0: from it, of others: to them */
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

    if (pipe(raw)) {
        log_error("a pipe to a rank: %s", strerror(errno));
        return ERR_IO;
    }
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

static int ids_pass(struct nursery *n, double wait_s)
{
    unsigned char id[GPU_TEAM_ID_BYTES];
    int err = gpu_team_read(n->id[0][0], id, sizeof id, wait_s);

    if (err == ERR_TIMEOUT) {
        log_error("rank 0 has not made NCCL's id within %g s; the ranks are ended", wait_s);
        return err;
    }
    for (int r = 1; !err && r < n->ranks; r++)
        if (write(n->id[r][1], id, sizeof id) != (ssize_t)sizeof id)
            err = ERR_GPU;    /* less than a pipe holds: it fails only where nobody reads */
    return err ? ERR_GPU : 0; /* the rank that is gone says why */
}

static int record_read(struct nursery *n, const struct gpu_receiver *receiver)
{
    uint64_t bytes;
    void *record;
    int err = gpu_team_read(n->result[0], &bytes, sizeof bytes, RECORD_WAIT_S);

    if (err)
        return err;
    record = bytes <= RECORD_MAX ? malloc(bytes + 1) : NULL;
    if (!record)
        return ERR_IO;
    err = gpu_team_read(n->result[0], record, bytes, RECORD_WAIT_S);
    if (err == ERR_TIMEOUT)
        log_error("rank 0 stopped within a record for %g s; the ranks are ended", RECORD_WAIT_S);
    if (!err)
        err = receiver->take(receiver->self, record, bytes);
    free(record);
    return err;
}

/* One record from rank 0. Wakes up often to see whether a rank has failed. ERR_NOTFOUND: rank 0 has
 * closed its end. */
static int record_take(struct nursery *n, double *deadline, double patience_s, int *failed,
                       const struct gpu_receiver *receiver)
{
    struct pollfd p = {.fd = n->result[0], .events = POLLIN};
    int err, before = *failed;

    nursery_look(n, failed);
    if (before < 0 && *failed >= 0)
        *deadline = watch_now_s() + LAST_WORDS_S;
    if (watch_now_s() > *deadline && *failed >= 0)
        return ERR_GPU;
    if (watch_now_s() > *deadline) {
        log_error("rank 0 has sent nothing for %g s; the ranks are ended", patience_s);
        return ERR_TIMEOUT;
    }
    if (poll(&p, 1, 100) <= 0)
        return 0;
    err = record_read(n, receiver);
    if (*failed < 0)
        *deadline = watch_now_s() + patience_s;
    return err;
}

/* Until all have ended; once one has failed, the others get LAST_WORDS_S. Says nothing of ranks
 * that still run then: the caller ends them. */
static int children_end(struct nursery *n, int *failed, double patience_s)
{
    double deadline = watch_now_s() + patience_s;

    while (nursery_look(n, failed) > 0) {
        if (*failed >= 0 && deadline > watch_now_s() + LAST_WORDS_S)
            deadline = watch_now_s() + LAST_WORDS_S;
        if (watch_now_s() > deadline)
            return *failed >= 0 ? ERR_GPU : ERR_TIMEOUT;
        usleep(5000);
    }
    return *failed >= 0 ? ERR_GPU : 0;
}

int gpu_team_spawn(int ranks, char **argv, double deadline_s, const struct gpu_receiver *receiver)
{
    struct nursery n;
    int err, failed = -1;
    double deadline;

    if (ranks < 1 || ranks > GPU_TEAM_MAX) {
        log_error("%d ranks: one host has 1 to %d", ranks, GPU_TEAM_MAX);
        return ERR_RANGE;
    }
    signal(SIGPIPE, SIG_IGN); /* a rank that is gone shows as a failed write */
    err = nursery_open(&n, ranks, argv);
    if (!err)
        err = ids_pass(&n, deadline_s < ID_WAIT_S ? deadline_s : ID_WAIT_S);
    deadline = watch_now_s() + deadline_s;
    while (!err)
        err = record_take(&n, &deadline, deadline_s, &failed, receiver);
    if (err && err != ERR_NOTFOUND) {
        children_end(&n, &failed, failed >= 0 ? 0 : LAST_WORDS_S);
    } else { /* all records are in */
        double wait_s = deadline_s < END_WAIT_S ? deadline_s : END_WAIT_S;

        err = children_end(&n, &failed, wait_s);
        if (err == ERR_TIMEOUT)
            log_error("ranks still run %g s after rank 0 has sent all; they are ended", wait_s);
    }
    nursery_close(&n);
    return err;
}
