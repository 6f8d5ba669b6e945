/* A folder of results: whole or not at all, other people's files untouched, nothing left behind. */
#include "tests/check.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/err.h"
#include "base/file.h"
#include "report/results.h"

static char box[64];

static int setup(void **state)
{
    (void)state;
    snprintf(box, sizeof box, "/tmp/peosim_results_XXXXXX");
    return mkdtemp(box) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    file_remove_tree(box);
    return 0;
}

static const char *in_box(const char *name)
{
    static char path[2048];

    snprintf(path, sizeof path, "%s/%s", box, name);
    return path;
}

static bool is_there(const char *name)
{
    struct stat st;

    return lstat(in_box(name), &st) == 0;
}

static void write_one(struct results *r, const char *name)
{
    struct file_out f;

    assert_int_equal(results_create(r, name, &f), 0);
    fputs("x", f.f);
    assert_int_equal(results_done(&f, 0), 0);
}

static void publish(const char *a, const char *b)
{
    struct results r;

    assert_int_equal(results_open(&r, in_box("out")), 0);
    write_one(&r, a);
    if (b)
        write_one(&r, b);
    assert_int_equal(results_commit(&r), 0);
    results_abort(&r);
}

static ino_t folder_inode(void)
{
    struct stat st;

    assert_int_equal(stat(in_box("out"), &st), 0);
    return st.st_ino;
}

static void new_results_take_the_place_of_old_ones(void **state)
{
    ino_t before;

    (void)state;
    publish("a", "b");
    before = folder_inode();
    publish("a", "c");
    assert_true(folder_inode() != before); /* in one step */
    assert_true(is_there("out/a") && is_there("out/c") && !is_there("out/b"));
    assert_int_equal(mkdir(in_box("out/mine"), 0777), 0);
    before = folder_inode();
    publish("d", NULL);
    assert_true(folder_inode() == before);
    assert_true(is_there("out/mine") && is_there("out/d") && !is_there("out/a"));
}

/* A run that dies leaves its folder to the next; one that lives keeps it. */
static void what_a_killed_run_left_goes(void **state)
{
    struct results live, other;
    char left[64];
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        if (results_open(&live, in_box("out")))
            _exit(1);
        kill(getpid(), SIGKILL);
    }
    waitpid(pid, NULL, 0);
    snprintf(left, sizeof left, "out/.part.%d", (int)pid);
    assert_true(is_there(left));
    assert_int_equal(mkdir(in_box(".out.peosim-new.7"), 0777), 0);
    assert_int_equal(mkdir(in_box(".out.peosim-new.7x"), 0777), 0);
    assert_int_equal(results_open(&live, in_box("out")), 0);
    assert_false(is_there(left));
    assert_false(is_there(".out.peosim-new.7"));
    assert_true(is_there(".out.peosim-new.7x")); /* not ours */
    pid = fork();
    if (pid == 0)
        _exit(results_open(&other, in_box("out")));
    waitpid(pid, NULL, 0);
    assert_true(access(live.part, F_OK) == 0);
    results_abort(&live);
}

/* Somebody removed the folder of a run: its files cannot be made, and that is all. */
static void a_folder_that_went_is_an_error(void **state)
{
    struct results r;
    struct file_out f = {0};

    (void)state;
    assert_int_equal(results_open(&r, in_box("out")), 0);
    file_remove_tree(r.part);
    assert_int_equal(results_create(&r, "a.csv", &f), ERR_IO);
    assert_int_equal(results_done(&f, ERR_IO), ERR_IO);
    results_abort(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(new_results_take_the_place_of_old_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_killed_run_left_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_folder_that_went_is_an_error, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
