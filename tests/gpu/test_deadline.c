/* Waits of the host have deadlines: where a rank does not come, the other says what it waited for
 * and ends. Needs two GPUs. Rank 0 of each case is watched; rank 1 stays away, or leaves. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cuda_runtime_api.h>

#include "base/err.h"
#include "kernels/comm.h"
#include "tests/gpu/world.h"

#define WAIT_S     3.0  /* deadline of the host's waits, for this test */
#define OPENING_S  25.0 /* CUDA's and NCCL's start, before a wait begins */
#define TEXT_BYTES 8192

struct deadline_case {
    const char *name;
    bool both; /* rank 1 is started too */
    const char *say;
};

static const struct deadline_case cases[] = {
    {"join", false, "rank 0 of 2 waited for the other ranks to join NCCL's communicator"},
    {"gather", true, "rank 0 of 2 waited for the other ranks' part of a gather"},
    {"split", true, "rank 0 of 2 waited for the other ranks to split NCCL's communicator"},
};

static int rank_main(int rank, const char *name)
{
    unsigned char id[KERNELS_COMM_ID_BYTES];
    int mine = rank, all[2];
    struct kernels_comm *comm = NULL;
    struct kernels_comm_config config = {.shape = {.ranks = 2,
                                                   .rank = rank,
                                                   .vranks = 2,
                                                   .experts = 2,
                                                   .hidden = 512,
                                                   .topk = 1,
                                                   .max_tokens = 1,
                                                   .fp8 = 1},
                                         .host_wait_s = WAIT_S};
    if (cudaSetDevice(rank) != cudaSuccess)
        return 10;
    if (rank == 0 && (kernels_comm_id(id) != 0 || write(3, id, sizeof(id)) != sizeof(id)))
        return 11;
    if (rank != 0 && world_read(3, id, sizeof(id), 60) != 0)
        return 12;
    if (kernels_comm_open(&comm, &config, id) != 0)
        return 13;
    if (kernels_comm_gather(comm, &mine, all, sizeof(mine)) != 0 || all[0] != 0 || all[1] != 1)
        return 14;
    if (rank == 1) { /* stays, and says nothing */
        sleep(120);
        return 15;
    }
    if (strcmp(name, "split") == 0)
        kernels_comm_alltoall_open(comm, 4);
    else
        kernels_comm_gather(comm, &mine, all, sizeof(mine));
    return 16; /* the deadline should have ended this process */
}

static pid_t rank_start(char *program, const char *rank, const char *name, int *fd, int end)
{
    int fds[2];
    if (pipe(fds) != 0)
        return -1;
    char *args[] = {program, (char *)"--rank", (char *)rank, (char *)name, NULL};
    pid_t pid = world_spawn(args, fds[end], fds[!end]);
    close(fds[end]);
    *fd = fds[!end];
    return pid;
}

/* Rank 0's exit status, or -1 when it hung. */
static int rank_end(pid_t pid, double seconds)
{
    double deadline = world_now_s() + seconds;
    int status = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (world_now_s() > deadline) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return -1;
        }
        usleep(2000);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
}

static int case_run(char *program, const struct deadline_case *c)
{
    unsigned char id[KERNELS_COMM_ID_BYTES];
    char text[TEXT_BYTES] = "";
    FILE *said = tmpfile();
    int saved = dup(2), fd[2] = {-1, -1};
    pid_t other = -1;
    if (said == NULL || saved < 0)
        return 1;
    dup2(fileno(said), 2);
    pid_t pid = rank_start(program, "0", c->name, &fd[0], 1);
    int got = world_read(fd[0], id, sizeof(id), OPENING_S);
    double start = world_now_s();
    if (c->both)
        other = rank_start(program, "1", c->name, &fd[1], 0);
    if (got == 0 && c->both && write(fd[1], id, sizeof(id)) != sizeof(id))
        got = -1;
    int status = rank_end(pid, OPENING_S + WAIT_S);
    double took = world_now_s() - start;
    if (other > 0) {
        kill(other, SIGKILL);
        waitpid(other, NULL, 0);
    }
    dup2(saved, 2);
    close(saved);
    for (int i = 0; i < 2; i++)
        if (fd[i] >= 0)
            close(fd[i]);
    rewind(said);
    text[fread(text, 1, sizeof(text) - 1, said)] = '\0';
    fclose(said);
    bool right = got == 0 && status == err_exit_status(ERR_TIMEOUT) && took > WAIT_S / 2 &&
                 strstr(text, c->say) != NULL && strstr(text, err_text(ERR_TIMEOUT)) != NULL;
    printf("%s %s: ended after %.1f s with status %d\n", right ? "ok  " : "FAIL", c->name, took,
           status);
    printf("     %s", text);
    return !right;
}

int main(int argc, char **argv)
{
    int failed = 0;
    if (argc > 1 && strcmp(argv[1], "--probe") == 0) {
        int count = 0;
        if (cudaGetDeviceCount(&count) != cudaSuccess)
            count = 0;
        return write(3, &count, sizeof(count)) == sizeof(count) ? 0 : 1;
    }
    if (argc > 3 && strcmp(argv[1], "--rank") == 0)
        return rank_main(atoi(argv[2]), argv[3]);
    int gpus = world_gpus(argv[0]);
    if (gpus < 2) {
        printf("skipped: two GPUs are needed, found %d\n", gpus);
        return 0;
    }
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        failed |= case_run(argv[0], &cases[i]);
    printf("%s\n", failed ? "FAILED" : "passed");
    return failed;
}
