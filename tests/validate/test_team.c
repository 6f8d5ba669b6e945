/* validate/team.c and launch.c: who a process is, how the id travels, and a parent's care for its
 * ranks. No GPU: the ranks are this program again, and argv[1] says how they behave. */
#include "validate/team.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "base/err.h"
#include "tests/check.h"
#include "validate/team_mpi.h"

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int clear(void **state)
{
    static const char *const names[] = {"PEOSIM_RANK",
                                        "PEOSIM_RANKS",
                                        "PEOSIM_ID_FILE",
                                        "OMPI_COMM_WORLD_RANK",
                                        "OMPI_COMM_WORLD_SIZE",
                                        "OMPI_COMM_WORLD_LOCAL_RANK",
                                        "PMIX_NAMESPACE",
                                        "OMPI_MCA_ess_base_jobid",
                                        "PMI_RANK",
                                        "PMI_SIZE",
                                        "PMI_JOBID",
                                        "MPI_LOCALRANKID",
                                        "SLURM_PROCID",
                                        "SLURM_NTASKS",
                                        "SLURM_STEP_NUM_TASKS",
                                        "SLURM_LOCALID",
                                        "SLURM_STEP_ID",
                                        "SLURM_JOB_ID"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    return 0;
}

/* Pairs of name and value, ended by NULL. */
static void set(const char *const *pairs)
{
    clear(NULL);
    for (; *pairs; pairs += 2)
        setenv(pairs[0], pairs[1], 1);
}
#define SET(...) set((const char *const[]){__VA_ARGS__, NULL})

static void nobody_started_us(void **state)
{
    struct gpu_team team;

    (void)state;
    assert_int_equal(gpu_team_join(&team), 0);
    SET("OMPI_COMM_WORLD_RANK", "0", "OMPI_COMM_WORLD_SIZE", "1"); /* mpirun -n 1: a parent */
    assert_int_equal(gpu_team_join(&team), 0);
}

static void a_parent_of_ours_comes_first(void **state)
{
    struct gpu_team team;

    (void)state;
    SET("PEOSIM_RANK", "0", "PEOSIM_RANKS", "1", "OMPI_COMM_WORLD_RANK", "2",
        "OMPI_COMM_WORLD_SIZE", "4", "OMPI_COMM_WORLD_LOCAL_RANK", "1");
    assert_int_equal(gpu_team_join(&team), 1);
    assert_true(team.spawned);
    assert_int_equal(team.ranks, 1);
    assert_int_equal(team.local_rank, 0);
    assert_true(team.id_fd >= 0 && team.result_fd >= 0);
    SET("PEOSIM_RANK", "1", "PEOSIM_RANKS", "2");
    assert_int_equal(gpu_team_join(&team), 1);
    assert_int_equal(team.local_rank, 1);
    assert_int_equal(team.result_fd, -1);
}

static void open_mpi_is_known(void **state)
{
    struct gpu_team team;

    (void)state;
    SET("OMPI_COMM_WORLD_RANK", "5", "OMPI_COMM_WORLD_SIZE", "8", "OMPI_COMM_WORLD_LOCAL_RANK", "1",
        "PMIX_NAMESPACE", "prterun-a/b@1", "PEOSIM_ID_FILE", "/shared/id", "SLURM_PROCID", "0");
    assert_int_equal(gpu_team_join(&team), 1);
    assert_int_equal(team.rank, 5);
    assert_int_equal(team.ranks, 8);
    assert_int_equal(team.local_rank, 1);
    assert_false(team.spawned);
    assert_string_equal(team.id_path, "/shared/id.prterun-a_b@1.0");
}

static void pmi_is_known(void **state)
{
    struct gpu_team team;

    (void)state;
    SET("PMI_RANK", "1", "PMI_SIZE", "2", "PMI_JOBID", "77", "PEOSIM_ID_FILE", "id");
    assert_int_equal(gpu_team_join(&team), 1);
    assert_int_equal(team.rank, 1);
    assert_int_equal(team.local_rank, -1);
    assert_string_equal(team.id_path, "id.77.0");
}

static void a_slurm_step_is_known(void **state)
{
    struct gpu_team team;

    (void)state;
    SET("SLURM_PROCID", "3", "SLURM_STEP_NUM_TASKS", "4", "SLURM_NTASKS", "16", "SLURM_LOCALID",
        "1", "SLURM_STEP_ID", "2", "SLURM_JOB_ID", "1234", "PEOSIM_ID_FILE", "id");
    assert_int_equal(gpu_team_join(&team), 1);
    assert_int_equal(team.rank, 3);
    assert_int_equal(team.ranks, 4);
    assert_int_equal(team.local_rank, 1);
    assert_string_equal(team.id_path, "id.1234.2");
}

/* A batch script and salloc's shell have the variables, but are no tasks of a step. */
static void a_slurm_script_is_no_rank(void **state)
{
    static const char *const steps[] = {"4294967291", "4294967290", "4294967294", ""};
    struct gpu_team team;

    (void)state;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        SET("SLURM_PROCID", "0", "SLURM_STEP_NUM_TASKS", "4", "SLURM_STEP_ID", steps[i],
            "PEOSIM_ID_FILE", "id");
        assert_int_equal(gpu_team_join(&team), 0);
    }
}

static void contradictions_are_refused(void **state)
{
    struct gpu_team team;
    char name[600];

    (void)state;
    SET("OMPI_COMM_WORLD_RANK", "4", "OMPI_COMM_WORLD_SIZE", "4", "PEOSIM_ID_FILE", "id");
    CHECK_FAILS(gpu_team_join(&team), ERR_USAGE, "OMPI_COMM_WORLD_RANK=4");
    SET("PMI_RANK", "1", "PEOSIM_ID_FILE", "id");
    CHECK_FAILS(gpu_team_join(&team), ERR_USAGE, "PMI_RANK is set, but PMI_SIZE is not");
    SET("PMI_RANK", "1", "PMI_SIZE", "two", "PEOSIM_ID_FILE", "id");
    CHECK_FAILS(gpu_team_join(&team), ERR_USAGE, "PMI_SIZE=two");
    SET("PMI_RANK", "-1", "PMI_SIZE", "2", "PEOSIM_ID_FILE", "id");
    CHECK_FAILS(gpu_team_join(&team), ERR_USAGE, "PMI_RANK=-1");
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    SET("PMI_RANK", "1", "PMI_SIZE", "2", "PEOSIM_ID_FILE", name);
    CHECK_FAILS(gpu_team_join(&team), ERR_USAGE, "too long");
}

static void without_a_file_the_id_needs_mpi(void **state)
{
    struct gpu_team team;

    (void)state;
    SET("PMI_RANK", "1", "PMI_SIZE", "2");
    if (team_mpi_built()) {
        assert_int_equal(gpu_team_join(&team), 1);
        assert_string_equal(team.id_path, "");
    } else {
        CHECK_FAILS(gpu_team_join(&team), ERR_USAGE, "set PEOSIM_ID_FILE");
    }
}

/* --- how the id travels ---------------------------------------------------------------------- */

static void id_fill(unsigned char id[GPU_TEAM_ID_BYTES])
{
    for (int i = 0; i < GPU_TEAM_ID_BYTES; i++)
        id[i] = (unsigned char)(i * 7 + 1);
}

static void the_id_travels_by_file(void **state)
{
    char path[] = "/tmp/peosim_id_XXXXXX";
    unsigned char want[GPU_TEAM_ID_BYTES], got[GPU_TEAM_ID_BYTES] = {0};
    struct gpu_team team = {.ranks = 2, .id_fd = -1, .result_fd = -1};
    int status = 1;
    pid_t pid;

    (void)state;
    close(mkstemp(path));
    unlink(path);
    snprintf(team.id_path, sizeof team.id_path, "%s", path);
    id_fill(want);
    pid = fork();
    if (pid == 0) { /* rank 0 is late */
        usleep(100000);
        _exit(gpu_team_id_share(&team, want, 5) ? 1 : 0);
    }
    team.rank = 1;
    assert_int_equal(gpu_team_id_share(&team, got, 30), 0);
    assert_memory_equal(got, want, sizeof want);
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    gpu_team_id_forget(&team); /* rank 0's to do */
    assert_int_equal(access(path, F_OK), 0);
    team.rank = 0;
    gpu_team_id_forget(&team);
    assert_int_equal(access(path, F_OK), -1);
    team.rank = 1;
    CHECK_FAILS(gpu_team_id_share(&team, got, 0.1), ERR_TIMEOUT, "rank 1 waited for rank 0");
}

static void the_id_travels_by_pipe(void **state)
{
    unsigned char want[GPU_TEAM_ID_BYTES], got[GPU_TEAM_ID_BYTES] = {0};
    struct gpu_team reader = {.rank = 1, .ranks = 2, .result_fd = -1}, writer = reader;
    int fd[2];

    (void)state;
    id_fill(want);
    assert_int_equal(pipe(fd), 0);
    reader.id_fd = fd[0];
    writer.rank = 0;
    writer.id_fd = fd[1];
    assert_int_equal(gpu_team_id_share(&writer, want, 1), 0);
    assert_int_equal(gpu_team_id_share(&reader, got, 1), 0);
    assert_memory_equal(got, want, sizeof want);
    assert_int_equal(pipe(fd), 0);
    reader.id_fd = fd[0];
    CHECK_FAILS(gpu_team_id_share(&reader, got, 0.1), ERR_TIMEOUT, "rank 1 waited for rank 0");
    close(fd[1]);
    assert_int_equal(pipe(fd), 0);
    close(fd[1]); /* rank 0 is gone */
    reader.id_fd = fd[0];
    assert_int_equal(gpu_team_id_share(&reader, got, 5), ERR_IO);
}

/* --- a parent and its ranks ------------------------------------------------------------------ */

/* A rank of the tests below. Returns its exit status. */
static int rank_main(const char *how, struct gpu_team *team)
{
    unsigned char want[GPU_TEAM_ID_BYTES], id[GPU_TEAM_ID_BYTES] = {0};

    id_fill(want);
    if (team->rank == 0)
        id_fill(id);
    if (!strcmp(how, "no_id"))
        sleep(60);
    if (!strcmp(how, "early") && team->rank == 0)
        return 3;
    if (gpu_team_id_share(team, id, 30) || memcmp(id, want, sizeof id) != 0)
        return 4;
    if (!strcmp(how, "fails") && team->rank == 1)
        return 5;
    if (!strcmp(how, "killed") && team->rank == 1)
        raise(SIGKILL);
    if (!strcmp(how, "fails") || !strcmp(how, "killed") || !strcmp(how, "silent"))
        sleep(60);
    if (gpu_team_send(team, "one", 3) || gpu_team_send(team, "three", 5))
        return 6;
    if (!strcmp(how, "stays")) {
        close(team->result_fd);
        sleep(60);
    }
    return 0;
}

struct records {
    char text[64];
    int err;
};

static int take(void *self, const void *record, size_t bytes)
{
    struct records *r = self;

    strncat(r->text, record, bytes);
    strcat(r->text, ";");
    return r->err;
}

/* Starts two ranks; checks what comes out, what it says and that it does not take long. */
static void spawn(const char *how, double deadline_s, struct records *r, int code, const char *say)
{
    char program[] = "test_team", mode[16];
    char *argv[] = {program, mode, NULL};
    struct gpu_receiver receiver = {r, take};
    struct check_stderr c;
    double start = now_s();
    int err;
    char *text;

    snprintf(mode, sizeof mode, "%s", how);
    check_stderr_begin(&c);
    err = gpu_team_spawn(2, argv, deadline_s, &receiver);
    text = check_stderr_end(&c);
    if (err != code || (say ? !strstr(text, say) : *text != '\0'))
        print_error("%s: %d, said: %s\n", how, err, text);
    assert_int_equal(err, code);
    assert_true(say ? strstr(text, say) != NULL : *text == '\0');
    assert_true(now_s() - start < 20);
    free(text);
}

static void records_come_in_order(void **state)
{
    struct records r = {"", 0};

    (void)state;
    spawn("records", 30, &r, 0, NULL);
    assert_string_equal(r.text, "one;three;");
}

static void a_receiver_may_end_the_run(void **state)
{
    struct records r = {"", ERR_DATA};

    (void)state;
    spawn("records", 30, &r, ERR_DATA, NULL);
    assert_string_equal(r.text, "one;");
}

static void a_failing_rank_ends_the_others(void **state)
{
    struct records r = {"", 0};

    (void)state;
    spawn("fails", 30, &r, ERR_GPU, "rank 1 ended with status 5");
    spawn("early", 30, &r, ERR_GPU, "rank 0 ended with status 3");
}

static void a_killed_rank_ends_the_others(void **state)
{
    struct records r = {"", 0};

    (void)state;
    spawn("killed", 30, &r, ERR_GPU, "rank 1 was ended by signal 9");
}

static void silent_ranks_are_ended(void **state)
{
    struct records r = {"", 0};

    (void)state;
    spawn("silent", 0.3, &r, ERR_TIMEOUT, "rank 0 has sent nothing for 0.3 s");
    spawn("no_id", 0.3, &r, ERR_TIMEOUT, "rank 0 has not made NCCL's id within 0.3 s");
    spawn("stays", 0.5, &r, ERR_TIMEOUT, "ranks still run 0.5 s after rank 0 has sent all");
}

static bool alive(pid_t pid)
{
    char path[64], state = 'X';
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    f = fopen(path, "r");
    if (f && fscanf(f, "%*d %*s %c", &state) != 1)
        state = 'X';
    if (f)
        fclose(f);
    return state != 'X' && state != 'Z';
}

/* Ranks hold GPUs: none may stay behind when the parent is killed. */
static void ranks_end_with_their_parent(void **state)
{
    struct gpu_receiver receiver = {NULL, take};
    char program[] = "test_team", mode[] = "silent", children[128];
    char *argv[] = {program, mode, NULL};
    int found[2] = {0, 0}, n = 0;
    double start = now_s();
    FILE *f;
    pid_t pid = fork();

    (void)state;
    if (pid == 0)
        _exit(gpu_team_spawn(2, argv, 60, &receiver) ? 1 : 0);
    snprintf(children, sizeof children, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    while (n < 2 && now_s() - start < 20) {
        usleep(100000);
        f = fopen(children, "r");
        n = f ? fscanf(f, "%d %d", &found[0], &found[1]) : 0;
        if (f)
            fclose(f);
        else
            break;
    }
    usleep(300000); /* they must have come so far as to know their parent */
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    if (n < 2)
        skip(); /* no such file here */
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 50 && alive(found[i]); k++)
            usleep(100000);
        assert_false(alive(found[i]));
    }
}

/* --- MPI ------------------------------------------------------------------------------------- */

/* One of mpirun's processes. */
static int mpi_main(const char *how)
{
    struct gpu_team team;
    unsigned char want[GPU_TEAM_ID_BYTES], id[GPU_TEAM_ID_BYTES] = {0};

    if (gpu_team_join(&team) != 1 || team.id_path[0])
        return 2;
    id_fill(want);
    if (team.rank == 0)
        id_fill(id);
    if (team.rank == 1 && !strcmp(how, "mpi_fails")) {
        fprintf(stderr, "rank 1 has its reasons\n");
        return 3;
    }
    if (team.rank == 1 && !strcmp(how, "mpi_late"))
        sleep(60);
    if (gpu_team_id_share(&team, id, strcmp(how, "mpi_late") ? 30 : 1))
        return 4;
    return memcmp(id, want, sizeof id) ? 5 : 0;
}

static int mpirun(const char *how, char **text)
{
    struct check_stderr c;
    char exe[400] = "", cmd[700];
    int status;

    assert_true(readlink("/proc/self/exe", exe, sizeof exe - 1) > 0);
    snprintf(cmd, sizeof cmd, "timeout 60 mpirun -n 2 '%s' %s 1>&2", exe, how);
    check_stderr_begin(&c);
    status = system(cmd);
    *text = check_stderr_end(&c);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 124;
}

static void the_id_travels_by_mpi(void **state)
{
    char *text;

    (void)state;
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* the library's own */
    if (!team_mpi_built() || system("command -v mpirun >/dev/null") ||
        system("mpirun -n 2 true 2>/dev/null"))
        skip();
    assert_int_equal(mpirun("mpi", &text), 0);
    free(text);
    assert_int_not_equal(mpirun("mpi_fails", &text), 0);
    assert_non_null(strstr(text, "rank 1 has its reasons"));
    free(text);
    assert_in_range(mpirun("mpi_late", &text), 1, 123); /* 124: it hung */
    assert_non_null(strstr(text, "rank 0 of 2 waited for MPI"));
    free(text);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nobody_started_us, clear),
        cmocka_unit_test_setup(a_parent_of_ours_comes_first, clear),
        cmocka_unit_test_setup(open_mpi_is_known, clear),
        cmocka_unit_test_setup(pmi_is_known, clear),
        cmocka_unit_test_setup(a_slurm_step_is_known, clear),
        cmocka_unit_test_setup(a_slurm_script_is_no_rank, clear),
        cmocka_unit_test_setup(contradictions_are_refused, clear),
        cmocka_unit_test_setup(without_a_file_the_id_needs_mpi, clear),
        cmocka_unit_test_setup(the_id_travels_by_file, clear),
        cmocka_unit_test_setup(the_id_travels_by_pipe, clear),
        cmocka_unit_test_setup(records_come_in_order, clear),
        cmocka_unit_test_setup(a_receiver_may_end_the_run, clear),
        cmocka_unit_test_setup(a_failing_rank_ends_the_others, clear),
        cmocka_unit_test_setup(a_killed_rank_ends_the_others, clear),
        cmocka_unit_test_setup(silent_ranks_are_ended, clear),
        cmocka_unit_test_setup(ranks_end_with_their_parent, clear),
        cmocka_unit_test_setup(the_id_travels_by_mpi, clear),
    };
    struct gpu_team team;

    if (argc > 1 && !strncmp(argv[1], "mpi", 3))
        return mpi_main(argv[1]);
    if (argc > 1)
        return gpu_team_join(&team) == 1 ? rank_main(argv[1], &team) : 2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
