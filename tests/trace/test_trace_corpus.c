/* Every trace of tests/corpus/trace, written after what profilers and users hand in, gives the
 * spans that FILE.want lists, or the error it names. PEOSIM_CORPUS_UPDATE=1 writes the .want files
 * anew, for review. */
#include <dirent.h>

#include "base/file.h"
#include "tests/check.h"
#include "trace/log.h"

#define FOLDER "tests/corpus/trace"

static void add_spans(const struct trace_log *log, FILE *f)
{
    for (size_t i = 0; i < log->num_records; i++) {
        const struct trace_record *r = &log->records[i];

        fprintf(f, "rank %d stream %d %s: %s %s, %.10g to %.10g us\n", r->rank, r->stream,
                r->stream_name, r->class_name, r->label, r->start_ns / 1e3, r->end_ns / 1e3);
    }
}

/* What stderr said and the spans; the caller frees it. */
static char *answer(const char *path)
{
    struct trace_log *log = NULL;
    struct check_stderr c;
    char *text = NULL, *said;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    int rc;

    assert_non_null(f);
    check_stderr_begin(&c);
    rc = trace_log_read(path, NULL, &log);
    said = check_stderr_end(&c);
    assert_non_null(said);
    fputs(said, f);
    free(said);
    assert_true((rc == 0) == (log != NULL));
    if (log)
        add_spans(log, f);
    trace_log_free(log);
    assert_int_equal(fclose(f), 0);
    return text;
}

static void check_one(const char *name)
{
    char path[512], want_path[520], *want = NULL, *got;
    size_t len;

    snprintf(path, sizeof path, FOLDER "/%s", name);
    snprintf(want_path, sizeof want_path, "%s.want", path);
    got = answer(path);
    if (getenv("PEOSIM_CORPUS_UPDATE")) {
        FILE *f = fopen(want_path, "w");

        assert_non_null(f);
        fputs(got, f);
        assert_int_equal(fclose(f), 0);
    }
    assert_int_equal(file_read(want_path, 65536, &want, &len), 0);
    if (strcmp(want, got) != 0)
        fail_msg("%s: wanted\n%sgot\n%s", name, want, got);
    free(want);
    free(got);
}

static void test_every_trace_gives_its_spans(void **state)
{
    DIR *dir = opendir(FOLDER);
    struct dirent *entry;
    int num = 0;

    (void)state;
    assert_non_null(dir);
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.' && !strstr(entry->d_name, ".want")) {
            check_one(entry->d_name);
            num++;
        }
    closedir(dir);
    assert_true(num > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_trace_gives_its_spans)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
