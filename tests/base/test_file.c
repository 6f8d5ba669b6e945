#include "tests/check.h"

#include <sys/stat.h>

#include "base/err.h"
#include "base/file.h"

/* A folder of our own; state points at its name. */
static int make_folder(void **state)
{
    char name[] = "/tmp/peosim-test-XXXXXX";

    *state = mkdtemp(name) ? strdup(name) : NULL;
    return *state ? 0 : -1;
}

static int remove_folder(void **state)
{
    char cmd[256];
    int rc;

    snprintf(cmd, sizeof cmd, "chmod -R u+w '%s' && rm -rf '%s'", (char *)*state, (char *)*state);
    rc = system(cmd);
    free(*state);
    return rc;
}

static const char *in(void **state, const char *name, char path[256])
{
    snprintf(path, 256, "%s/%s", (char *)*state, name);
    return path;
}

static void write_text(const char *path, const char *text)
{
    struct file_out out;

    assert_int_equal(file_create(&out, path), 0);
    fputs(text, out.f);
    assert_int_equal(file_commit(&out), 0);
}

static void check_content(const char *path, const char *want)
{
    char *text;
    size_t len;

    assert_int_equal(file_read(path, 1000, &text, &len), 0);
    assert_int_equal(len, strlen(want));
    assert_string_equal(text, want);
    free(text);
}

static int count_entries(void **state)
{
    char cmd[300];
    FILE *p;
    int n = -1;

    snprintf(cmd, sizeof cmd, "ls -A '%s' | wc -l", (char *)*state);
    p = popen(cmd, "r");
    assert_non_null(p);
    assert_int_equal(fscanf(p, "%d", &n), 1);
    pclose(p);
    return n;
}

static void files_appear_whole_or_not_at_all(void **state)
{
    struct file_out out;
    char path[256];

    in(state, "a.txt", path);
    write_text(path, "old");
    assert_int_equal(file_create(&out, path), 0);
    fputs("half", out.f);
    fflush(out.f);
    check_content(path, "old");
    file_abort(&out);
    file_abort(&out);
    check_content(path, "old");
    write_text(path, "new");
    check_content(path, "new");
    assert_int_equal(count_entries(state), 1); /* no temporary file stays */
}

static void links_are_written_through(void **state)
{
    char real[256], link[256];
    struct stat st;

    write_text(in(state, "real.txt", real), "old");
    assert_int_equal(symlink("real.txt", in(state, "link.txt", link)), 0);
    write_text(link, "new");
    check_content(real, "new");
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
}

static int write_much(const char *path)
{
    struct file_out out;
    int rc = file_create(&out, path);

    if (rc)
        return rc;
    for (int i = 0; i < 100000; i++)
        fputs("0123456789", out.f);
    return file_commit(&out);
}

static void full_disk_is_noticed(void **state)
{
    struct stat st;

    (void)state;
    CHECK_FAILS(write_much("/dev/full"), ERR_IO, "No space left");
    assert_int_equal(stat("/dev/full", &st), 0);
    assert_true(S_ISCHR(st.st_mode)); /* not renamed over */
}

static void unwritable_places_say_one_line(void **state)
{
    struct file_out out;
    char path[256];

    CHECK_FAILS(file_create(&out, in(state, "no/such/folder.txt", path)), ERR_IO, "cannot write");
    CHECK_FAILS(file_create(&out, (char *)*state), ERR_IO, "folder");
    write_text(in(state, "file", path), "x");
    CHECK_FAILS(file_create(&out, in(state, "file/below", path)), ERR_IO, "cannot write");
    CHECK_FAILS(file_mkdirs(in(state, "file/below", path)), ERR_IO, "cannot make the folder");
    CHECK_FAILS(file_mkdirs(in(state, "file", path)), ERR_IO, "taken by a file");
    if (geteuid() != 0) { /* root may write everywhere */
        assert_int_equal(chmod((char *)*state, 0500), 0);
        CHECK_FAILS(file_create(&out, in(state, "b.txt", path)), ERR_IO, "Permission denied");
    }
}

static void folders_are_made_with_their_parents(void **state)
{
    char path[256];
    struct stat st;

    assert_int_equal(file_mkdirs(in(state, "a/b//c/", path)), 0);
    assert_int_equal(file_mkdirs(path), 0);
    assert_int_equal(stat(in(state, "a/b/c", path), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(file_mkdirs("/"), 0);
    assert_int_equal(file_mkdirs("."), 0);
    CHECK_FAILS(file_mkdirs(""), ERR_IO, "cannot make");
}

static void reading_is_bounded(void **state)
{
    char path[256], *text;
    size_t len;

    write_text(in(state, "ten", path), "0123456789");
    assert_int_equal(file_read(path, 10, &text, &len), 0);
    free(text);
    CHECK_FAILS(file_read(path, 9, &text, &len), ERR_RANGE, "at most 9 bytes");
    CHECK_FAILS(file_read("/dev/zero", 1 << 20, &text, &len), ERR_RANGE, "too big");
    CHECK_FAILS(file_read((char *)*state, 9, &text, &len), ERR_IO, "folder");
    CHECK_FAILS(file_read(in(state, "absent", path), 9, &text, &len), ERR_NOTFOUND, "absent");
    check_content("/dev/null", "");
}

static void hashes(void **state)
{
    static const char *const abc =
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    char path[256], hex[65];

    file_hash_text("abc", 3, hex);
    assert_string_equal(hex, abc);
    write_text(in(state, "abc", path), "abc");
    assert_int_equal(file_hash(path, hex), 0);
    assert_string_equal(hex, abc);
    CHECK_FAILS(file_hash(in(state, "absent", path), hex), ERR_NOTFOUND, "absent");
}

static void packed_files_are_read(void **state)
{
    static const unsigned char whole[] = {0x1f, 0x8b, 8,    0,    0,    0,    0,    0, 0,
                                          3,    0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0xe7, 2, 0,
                                          0x20, 0x30, 0x3a, 0x36, 6,    0,    0,    0};
    char path[256], *text = NULL;
    struct file_out out;
    size_t len;

    for (size_t cut = 0; cut < 2; cut++) {
        assert_int_equal(file_create(&out, in(state, "t.gz", path)), 0);
        fwrite(whole, 1, sizeof whole - 10 * cut, out.f);
        assert_int_equal(file_commit(&out), 0);
        if (cut) {
            CHECK_FAILS(file_read_unpacked(path, 100, &text, &len), ERR_PARSE, "not whole");
            continue;
        }
        assert_int_equal(file_read_unpacked(path, 100, &text, &len), 0);
        assert_string_equal(text, "hello\n");
        free(text);
        CHECK_FAILS(file_read_unpacked(path, 3, &text, &len), ERR_RANGE, "t.gz");
    }
    write_text(in(state, "plain", path), "as it is");
    assert_int_equal(file_read_unpacked(path, 100, &text, &len), 0);
    assert_string_equal(text, "as it is");
    free(text);
}

static void shipped_files_are_found(void **state)
{
    char path[256], *found;

    assert_int_equal(file_find_shipped("configs/models/dbrx.json", &found), 0);
    assert_string_equal(found, "configs/models/dbrx.json");
    free(found);
    assert_int_equal(file_mkdirs(in(state, "home/hw", path)), 0);
    write_text(in(state, "home/hw/t.yaml", path), "x");
    setenv("PEOSIM_HOME", in(state, "home", path), 1);
    assert_int_equal(file_find_shipped("hw/t.yaml", &found), 0);
    assert_string_equal(found, in(state, "home/hw/t.yaml", path));
    free(found);
    unsetenv("PEOSIM_HOME");
    assert_int_equal(file_find_shipped("hw/no-such.yaml", &found), ERR_NOTFOUND);
    assert_null(found);
    assert_int_equal(file_find_shipped("", &found), ERR_NOTFOUND);
    assert_int_equal(file_find_shipped("/no/such", &found), ERR_NOTFOUND);
    assert_int_equal(file_find_shipped("tests", &found), ERR_NOTFOUND); /* a folder is no file */
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(files_appear_whole_or_not_at_all),
        IN_FOLDER(links_are_written_through),
        IN_FOLDER(packed_files_are_read),
        cmocka_unit_test(full_disk_is_noticed),
        IN_FOLDER(unwritable_places_say_one_line),
        IN_FOLDER(folders_are_made_with_their_parents),
        IN_FOLDER(reading_is_bounded),
        IN_FOLDER(hashes),
        IN_FOLDER(shipped_files_are_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
