/* peosim sweep as a user meets it: the same bytes for any number of workers, kill -9 and resume,
 * damaged journals, refusals, MPI. Runs the program of the build ($PEOSIM). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "study/journal.h"

/* Small enough to take a second, large enough to be killed in the middle. */
static const char config[] = "model: qwen3-30b\n"
                             "batch: [4, 16, 64]\n"
                             "cluster: {profile: h800, nodes: [1, 2], gpus_per_node: 4}\n"
                             "policies:\n"
                             "  - policy: none\n"
                             "  - policy: peo\n"
                             "    overlap_method: [1, 2]\n"
                             "    num_rounds: [2, 4, 5]\n"
                             "    num_sms: [8, 16, 24]\n";
enum { POINTS = 6 * (1 + 12), SKIPPED = 6 * 6 };

struct dir {
    char path[64];
};

static int setup(void **state)
{
    static struct dir d;
    char path[128];
    FILE *f;

    snprintf(d.path, sizeof d.path, "/tmp/peosim_sweep_XXXXXX");
    assert_non_null(mkdtemp(d.path));
    snprintf(path, sizeof path, "%s/c.yaml", d.path);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(config, f);
    fclose(f);
    /* OpenMPI wants to be told that root may run it, and more processes than processors. */
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    *state = &d;
    return 0;
}

static int teardown(void **state)
{
    const struct dir *d = *state;
    char cmd[128];

    snprintf(cmd, sizeof cmd, "rm -rf %s", d->path);
    return system(cmd);
}

/* Runs a shell command with $D the test's folder and $P the program; its exit status. */
static int sh(const struct dir *d, const char *text)
{
    const char *program = getenv("PEOSIM");
    int status;

    setenv("P", program ? program : "./peosim", 1);
    setenv("D", d->path, 1);
    status = system(text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static char *text_of(const struct dir *d, const char *name)
{
    char path[160];
    char *text = calloc(1, 1 << 20);
    size_t n;
    FILE *f;

    assert_non_null(text);
    snprintf(path, sizeof path, "%s/%s", d->path, name);
    f = fopen(path, "r");
    assert_non_null(f);
    n = fread(text, 1, (1 << 20) - 1, f);
    text[n] = '\0';
    fclose(f);
    return text;
}

static size_t lines_of(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += *text == '\n';
    return n;
}

/* The sweep done at once: what every other way to do it must give. */
static void clean_run(const struct dir *d)
{
    assert_int_equal(sh(d, "$P sweep $D/c.yaml --quiet --no-plots --output-dir $D/clean "
                           ">$D/out 2>$D/err"),
                     0);
}

#define SAME_AS_CLEAN(d, folder)                                                                   \
    assert_int_equal(sh(d, "cmp $D/clean/points.csv $D/" folder "/points.csv && "                  \
                           "cmp $D/clean/best.csv $D/" folder "/best.csv"),                        \
                     0)

static void threads_do_not_change_bytes(void **state)
{
    const struct dir *d = *state;
    char *csv;

    clean_run(d);
    csv = text_of(d, "clean/points.csv");
    assert_int_equal(lines_of(csv), 1 + POINTS);
    free(csv);
    for (int jobs = 1; jobs <= 4; jobs *= 2) {
        char cmd[200];

        snprintf(cmd, sizeof cmd,
                 "$P sweep $D/c.yaml --quiet --no-plots --jobs %d --output-dir $D/jobs >$D/out "
                 "2>$D/err",
                 jobs);
        assert_int_equal(sh(d, cmd), 0);
        SAME_AS_CLEAN(d, "jobs");
        assert_int_equal(sh(d, "rm -r $D/jobs"), 0);
    }
}

static void impossible_knobs_are_counted(void **state)
{
    const struct dir *d = *state;
    char *out, *err, want[64];

    clean_run(d);
    out = text_of(d, "out");
    err = text_of(d, "err");
    snprintf(want, sizeof want, "%d points, %d skipped", POINTS, SKIPPED);
    assert_non_null(strstr(out, want));
    assert_non_null(strstr(err, "not divisible by num_rounds 5"));
    free(out);
    free(err);
}

/* Starts a sweep and kills it once the journal's log holds some points. */
static void killed_run(const struct dir *d)
{
    pid_t pid;

    setenv("D", d->path, 1);
    pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        char yaml[100], folder[100];
        const char *program = getenv("PEOSIM") ? getenv("PEOSIM") : "./peosim";

        snprintf(yaml, sizeof yaml, "%s/c.yaml", d->path);
        snprintf(folder, sizeof folder, "%s/killed", d->path);
        if (!freopen("/dev/null", "w", stderr) || !freopen("/dev/null", "w", stdout))
            _exit(3);
        execl(program, program, "sweep", yaml, "--jobs", "2", "--no-plots", "--output-dir", folder,
              (char *)NULL);
        _exit(3);
    }
    for (int i = 0; i < 20000; i++) {
        char path[100];
        struct stat st;

        usleep(200);
        snprintf(path, sizeof path, "%s/killed/journal.db-wal", d->path);
        if (!stat(path, &st) && st.st_size > 60000)
            break;
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* One number that a folder's journal answers. */
static int asked(const struct dir *d, const char *folder, const char *sql)
{
    char path[160];
    sqlite3 *db;
    sqlite3_stmt *ask;
    int n;

    snprintf(path, sizeof path, "%s/%s/journal.db", d->path, folder);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &ask, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(ask), SQLITE_ROW);
    n = sqlite3_column_int(ask, 0);
    sqlite3_finalize(ask);
    sqlite3_close(db);
    return n;
}

static void kill_and_resume(void **state)
{
    const struct dir *d = *state;
    char *err, want[64];
    int kept;

    clean_run(d);
    killed_run(d);
    assert_int_equal(sh(d, "cp -r $D/killed $D/copy"), 0);
    kept = asked(d, "copy", "SELECT count(*) FROM points");
    assert_in_range(kept, 1, POINTS);
    assert_int_equal(sh(d, "$P sweep $D/c.yaml --no-plots --output-dir $D/killed >$D/out 2>$D/err"),
                     0);
    SAME_AS_CLEAN(d, "killed");
    assert_int_equal(asked(d, "killed", "SELECT count(*) FROM points"), POINTS);
    err = text_of(d, "err");
    snprintf(want, sizeof want, "%d of %d points are there already", kept, POINTS + SKIPPED);
    assert_non_null(strstr(err, want));
    free(err);
}

/* The points with their columns, as a user asks for them. */
static void the_journal_answers(void **state)
{
    const struct dir *d = *state;

    clean_run(d);
    assert_int_equal(asked(d, "clean", "SELECT count(*) FROM results"), POINTS);
    assert_int_equal(asked(d, "clean",
                           "SELECT abs((SELECT sum(layer_us) FROM results) / "
                           "(SELECT sum(layer_us) FROM points) - 1) < 1e-4"),
                     1);
}

/* A log cut anywhere by a crash loses points at its end only; a damaged database is said. */
static void damaged_journals(void **state)
{
    const struct dir *d = *state;

    clean_run(d);
    killed_run(d);
    for (int i = 0; i < 5; i++) {
        char cmd[200];

        snprintf(cmd, sizeof cmd,
                 "rm -rf $D/cut; cp -r $D/killed $D/cut; n=$(wc -c <$D/cut/journal.db-wal); "
                 "truncate -s $((n * %d / 4)) $D/cut/journal.db-wal",
                 i);
        assert_int_equal(sh(d, cmd), 0);
        assert_int_equal(
            sh(d, "$P sweep $D/c.yaml --no-plots --output-dir $D/cut >$D/out 2>$D/err"), 0);
        SAME_AS_CLEAN(d, "cut");
    }
    assert_int_equal(
        sh(d, "cp $D/cut/points.csv $D/p; dd if=/dev/urandom of=$D/cut/journal.db bs=1000 count=4 "
              "conv=notrunc 2>$D/err; "
              "$P sweep $D/c.yaml --no-plots --output-dir $D/cut >$D/out 2>$D/err"),
        2);
    assert_int_equal(sh(d, "grep -q 'journal.db: not a journal .*--restart' $D/err && "
                           "cmp $D/p $D/cut/points.csv"),
                     0);
}

static void another_sweep_is_refused(void **state)
{
    const struct dir *d = *state;

    clean_run(d);
    assert_int_equal(sh(d, "cp $D/clean/points.csv $D/p"), 0);
    assert_int_equal(sh(d, "$P sweep $D/c.yaml --seed 2 --no-plots --output-dir $D/clean >$D/out "
                           "2>$D/err"),
                     2);
    assert_int_equal(sh(d, "grep -q 'journal.db: holds the sweep' $D/err"), 0);
    assert_int_equal(sh(d, "cmp $D/p $D/clean/points.csv"), 0);
    assert_int_equal(asked(d, "clean", "SELECT count(*) FROM points"), POINTS);
    assert_int_equal(sh(d, "echo garbage >$D/clean/journal.db; $P sweep $D/c.yaml --no-plots "
                           "--output-dir $D/clean >$D/out 2>$D/err"),
                     2);
    assert_int_equal(sh(d, "$P sweep $D/c.yaml --no-plots --restart --output-dir $D/clean >$D/out "
                           "2>$D/err && cmp $D/p $D/clean/points.csv"),
                     0);
}

static void two_at_once_are_refused(void **state)
{
    const struct dir *d = *state;
    char path[128];
    sqlite3 *db;

    clean_run(d);
    snprintf(path, sizeof path, "%s/clean/journal.db", d->path);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sh(d, "$P sweep $D/c.yaml --no-plots --output-dir $D/clean >$D/out 2>$D/err"),
                     2);
    assert_int_equal(sh(d, "grep -q 'another sweep is writing here' $D/err"), 0);
    assert_int_equal(sh(d, "$P sweep $D/c.yaml --no-plots --restart --output-dir $D/clean >$D/out "
                           "2>$D/err"),
                     2);
    sqlite3_close(db);
}

static void bad_grids(void **state)
{
    const struct dir *d = *state;

    assert_int_equal(sh(d, "i=1; b=1; while [ $i -lt 9000 ]; do i=$((i+1)); b=$b,$i; done; "
                           "$P sweep $D/c.yaml --batch $b --output-dir $D/big 2>$D/err"),
                     2);
    assert_int_equal(sh(d, "grep -q '342000 points, more than 100000; --yes' $D/err"), 0);
    assert_int_equal(sh(d, "test ! -e $D/big"), 0);
    assert_int_equal(sh(d, "sed 's/batch:.*/batch: []/' $D/c.yaml >$D/e.yaml; "
                           "$P sweep $D/e.yaml --output-dir $D/big 2>$D/err"),
                     2);
    assert_int_equal(sh(d, "grep -q 'e.yaml:2: error: batch: an empty list' $D/err"), 0);
    assert_int_equal(sh(d, "$P sweep $D/c.yaml --set num_rounds=5 --output-dir $D/big 2>$D/err"),
                     2);
    assert_int_equal(sh(d, "test ! -e $D/big"), 0);
}

/* Without MPI on this machine, or in this build, there is nothing to test. */
static void mpi_or_skip(const struct dir *d)
{
    if (sh(d, "command -v mpirun >/dev/null"))
        skip();
    if (sh(d, "mpirun -n 2 $P sweep $D/c.yaml --no-plots --output-dir $D/probe >$D/out 2>&1") &&
        !sh(d, "grep -q 'this build has no MPI' $D/out"))
        skip();
}

static void mpi_does_not_change_bytes(void **state)
{
    const struct dir *d = *state;

    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* the library's own */
    mpi_or_skip(d);
    clean_run(d);
    for (int n = 1; n <= 4; n *= 2) {
        char cmd[200];

        snprintf(cmd, sizeof cmd,
                 "mpirun -n %d $P sweep $D/c.yaml --jobs 1 --no-plots --output-dir $D/mpi%d "
                 ">$D/out 2>$D/err",
                 n, n);
        assert_int_equal(sh(d, cmd), 0);
    }
    SAME_AS_CLEAN(d, "mpi1");
    SAME_AS_CLEAN(d, "mpi2");
    SAME_AS_CLEAN(d, "mpi4");
    /* What four have done, one takes over. */
    assert_int_equal(sh(d, "$P sweep $D/c.yaml --no-plots --output-dir $D/mpi4 >$D/out 2>$D/err"),
                     0);
    SAME_AS_CLEAN(d, "mpi4");
}

/* The shell that becomes process 1 leaves behind one that kills it. */
static void mpi_rank_dies(void **state)
{
    const struct dir *d = *state;

    setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
    mpi_or_skip(d);
    clean_run(d);
    assert_int_not_equal(
        sh(d, "mpirun -n 2 sh -c '"
              "if [ \"${OMPI_COMM_WORLD_RANK:-$PMI_RANK}\" = 1 ]; then "
              "p=$$; (while [ $(stat -c %s $D/dies/journal.1.db-wal 2>/dev/null || echo 0) -lt "
              "30000 ]; do sleep 0.01; done; kill -9 $p) & fi; "
              "exec $P sweep $D/c.yaml --jobs 1 --no-plots --output-dir $D/dies' >$D/out 2>$D/err"),
        0);
    assert_int_equal(sh(d, "test -s $D/err && test -s $D/dies/journal.db-wal && "
                           "test ! -e $D/dies/points.csv"),
                     0);
    assert_int_equal(sh(d, "$P sweep $D/c.yaml --no-plots --output-dir $D/dies >$D/out 2>$D/err"),
                     0);
    SAME_AS_CLEAN(d, "dies");
}

static int collect(void *self, const struct journal_point *p)
{
    size_t *next = self;

    assert_int_equal(p->index, *next);
    assert_true(p->layer_us > (double)p->index && p->layer_us < (double)p->index + 0.2);
    (*next)++;
    return 0;
}

/* Points that two processes wrote in any order come back in grid order. */
static void journal_orders_points(void **state)
{
    const struct dir *d = *state;
    char key[65];
    size_t next = 0;

    memset(key, 'a', 64);
    key[64] = '\0';
    for (int rank = 1; rank >= 0; rank--) {
        struct journal *j;

        assert_int_equal(journal_open(d->path, key, 100, &j), 0);
        assert_int_equal(journal_count(j), rank ? 0 : 50);
        assert_int_equal(journal_begin(j, rank), 0);
        for (size_t i = 0; i < 50; i++) {
            struct journal_point p = {.index = (i * 37 % 50) * 2 + (size_t)rank};

            p.layer_us = (double)p.index + 0.1;
            snprintf(p.name, sizeof p.name, "peo 1");
            snprintf(p.row, sizeof p.row, "row,%zu", p.index);
            assert_int_equal(journal_append(j, &p), 0);
        }
        if (!rank)
            assert_int_equal(journal_read(j, 0, 100, collect, &next), 0);
        journal_close(j);
    }
    assert_int_equal(next, 100);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(threads_do_not_change_bytes),
        TEST(impossible_knobs_are_counted),
        TEST(kill_and_resume),
        TEST(the_journal_answers),
        TEST(damaged_journals),
        TEST(another_sweep_is_refused),
        TEST(two_at_once_are_refused),
        TEST(bad_grids),
        TEST(mpi_does_not_change_bytes),
        TEST(mpi_rank_dies),
        TEST(journal_orders_points),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
