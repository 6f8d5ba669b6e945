/* tests/gpu/world.h: one process per GPU on this host. The parent never initialises CUDA: it asks a
 * child how many GPUs there are, then spawns itself once per rank and carries NCCL's id from rank 0
 * to the others by pipes (descriptor 3 of each child). */
#ifndef PEOSIM_TESTS_GPU_WORLD_H
#define PEOSIM_TESTS_GPU_WORLD_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORLD_MAX 64

extern char **environ;

static inline double world_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Reads exactly `bytes`, or fails after seconds. */
static inline int world_read(int fd, void *to, size_t bytes, double seconds)
{
    double deadline = world_now_s() + seconds;
    for (size_t got = 0; got < bytes;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        double left = deadline - world_now_s();
        if (left <= 0 || poll(&p, 1, (int)(left * 1e3) + 1) < 0)
            return -1;
        if (p.revents == 0)
            continue;
        ssize_t n = read(fd, (char *)to + got, bytes - got);
        if (n <= 0)
            return -1;
        got += (size_t)n;
    }
    return 0;
}

/* Spawns this program with `args`; child_fd becomes its descriptor 3, other_fd is closed in it. */
static inline pid_t world_spawn(char **args, int child_fd, int other_fd)
{
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return -1;
    int err = other_fd != 3 ? posix_spawn_file_actions_addclose(&actions, other_fd) : 0;
    if (err == 0)
        err = posix_spawn_file_actions_adddup2(&actions, child_fd, 3);
    if (err == 0)
        err = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, args, environ);
    posix_spawn_file_actions_destroy(&actions);
    return err == 0 ? pid : -1;
}

/* The number of GPUs, by a child started with --probe, which writes it to descriptor 3. */
static inline int world_gpus(char *program)
{
    int fds[2], count = 0;
    if (pipe(fds) != 0)
        return 0;
    char *args[] = {program, (char *)"--probe", NULL};
    pid_t pid = world_spawn(args, fds[1], fds[0]);
    close(fds[1]);
    if (pid < 0 || world_read(fds[0], &count, sizeof(count), 120) != 0)
        count = 0;
    close(fds[0]);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    return count;
}

/* Waits for all children; when one fails or time is up, ends the others. Returns 0 if all did. */
static inline int world_wait(const pid_t *pids, int ranks, double seconds)
{
    double deadline = world_now_s() + seconds;
    int alive = ranks, failed = 0, done[WORLD_MAX] = {0};
    while (alive > 0) {
        for (int r = 0; r < ranks; r++) {
            int status;
            if (done[r] || waitpid(pids[r], &status, WNOHANG) == 0)
                continue;
            done[r] = 1;
            alive--;
            if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                fprintf(stderr, "rank %d failed (status %d)\n", r, status);
                failed = 1;
                /* The others may have more to say about it. */
                deadline = deadline < world_now_s() + 3 ? deadline : world_now_s() + 3;
            }
        }
        if (world_now_s() > deadline) {
            for (int r = 0; r < ranks; r++)
                if (!done[r])
                    kill(pids[r], SIGKILL);
            failed = 1;
            deadline = world_now_s() + 60;
        }
        usleep(2000);
    }
    return failed;
}

/* Runs args (program, then options) plus "--rank r --ranks n" as `ranks` processes. id_bytes of
 * id travel from rank 0 to the others. Returns the exit status. */
static inline int world_run(char **args, int ranks, size_t id_bytes, double seconds)
{
    pid_t pids[WORLD_MAX];
    int from0[2], to[WORLD_MAX][2], n = 0, err = 0;
    char *full[32], rank_text[16], ranks_text[16], id[256];
    while (args[n] != NULL && n < 24) {
        full[n] = args[n];
        n++;
    }
    snprintf(ranks_text, sizeof(ranks_text), "%d", ranks);
    char *rest[] = {(char *)"--rank", rank_text, (char *)"--ranks", ranks_text, NULL};
    memcpy(full + n, rest, sizeof(rest));
    if (id_bytes > sizeof(id) || ranks > WORLD_MAX || pipe(from0) != 0)
        return 1;
    for (int r = 0; r < ranks; r++) {
        snprintf(rank_text, sizeof(rank_text), "%d", r);
        if (r == 0) {
            pids[0] = world_spawn(full, from0[1], from0[0]);
            close(from0[1]);
        } else {
            if (pipe(to[r]) != 0)
                return 1;
            pids[r] = world_spawn(full, to[r][0], to[r][1]);
            close(to[r][0]);
        }
        if (pids[r] < 0)
            return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    if (world_read(from0[0], id, id_bytes, 120) != 0)
        err = 1;
    for (int r = 1; r < ranks; r++) {
        if (err == 0 && write(to[r][1], id, id_bytes) != (ssize_t)id_bytes)
            err = 1;
        close(to[r][1]);
    }
    close(from0[0]);
    return world_wait(pids, ranks, err ? 5 : seconds) || err;
}

#endif
