/* Every input of tests/corpus/data, written after the formats of nccl-tests, DeepEP and CSV
 * tables in all their dialects, gives the rows that FILE.want lists, or the error it names.
 * FILE.args: what the user says ("ranks=8 system=h200"). PEOSIM_CORPUS_UPDATE=1 writes the .want
 * files anew, for review. */
#include <dirent.h>

#include "base/err.h"
#include "base/file.h"
#include "tests/check.h"
#include "calib/data.h"

#define FOLDER "tests/corpus/data"

struct text {
    char buf[65536];
    size_t len;
};

static void add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *t, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    t->len += (size_t)vsnprintf(t->buf + t->len, sizeof t->buf - t->len, fmt, ap);
    va_end(ap);
    assert_true(t->len < sizeof t->buf);
}

static const char *dtype_text(enum plan_dtype t)
{
    return t == DTYPE_FP8        ? " fp8"
           : t == DTYPE_LOGFMT10 ? " logfmt10"
           : t == DTYPE_NVFP4    ? " nvfp4"
                                 : " bf16";
}

static void add_row(struct text *t, const struct data_row *r)
{
    static const char *const parts[] = {"", "_send", "_recv"};

    add(t, "%d: %s%s", r->line, data_law_name(r->law), parts[r->part]);
    if (r->coll[0])
        add(t, " %s", r->coll);
    add(t, " x%d on %d node%s", r->ranks, r->nodes, r->nodes == 1 ? "" : "s");
    if (r->system[0])
        add(t, " of %s", r->system);
    if (r->tokens > 0)
        add(t, ", %d tokens %d/%d/%d%s", r->tokens, r->hidden, r->experts, r->topk,
            dtype_text(r->dtype));
    if (r->num_sms > 0)
        add(t, ", %d SMs", r->num_sms);
    if (r->bytes > 0)
        add(t, ", %.0f bytes", r->bytes);
    if (r->groups > 0)
        add(t, ", %d groups of %d rows", r->groups, r->rows);
    else if (r->rows > 0)
        add(t, ", %d rows", r->rows);
    if (r->n > 0)
        add(t, ", %d x %d%s", r->n, r->k, dtype_text(r->dtype));
    add(t, ", %.10g us", r->latency_us);
    if (r->notify_us > 0 || r->epilogue_us > 0)
        add(t, " (of it %.10g)", r->notify_us + r->epilogue_us);
    add(t, "%s\n", r->reference ? "" : ", not fitted to");
}

/* "ranks=8 system=h200"; the strings are cut out of `text`. */
static void read_args(char *text, struct data_hint *hint)
{
    const struct {
        const char *key;
        const char **text;
        int *number;
    } all[] = {
        {"system=", &hint->system, NULL},         {"profile=", &hint->profile, NULL},
        {"collective=", &hint->collective, NULL}, {"ranks=", NULL, &hint->ranks},
        {"experts=", NULL, &hint->experts},       {"ranks_per_node=", NULL, &hint->ranks_per_node}};
    char *save = NULL;

    for (char *w = strtok_r(text, " \n", &save); w; w = strtok_r(NULL, " \n", &save)) {
        size_t i = 0, n = sizeof all / sizeof *all;

        while (i < n && strncmp(w, all[i].key, strlen(all[i].key)) != 0)
            i++;
        assert_true(i < n);
        w += strlen(all[i].key);
        if (all[i].text)
            *all[i].text = w;
        else
            *all[i].number = atoi(w);
    }
}

/* What stderr said and the rows. */
static void answer(const char *path, const char *args, struct text *t)
{
    struct data_hint hint = {0};
    struct data_set *set = NULL;
    char *text = NULL, copy[256] = "", *said;
    struct check_stderr c;
    size_t len;
    int rc;

    assert_int_equal(file_read(path, 1 << 20, &text, &len), 0);
    snprintf(copy, sizeof copy, "%s", args);
    read_args(copy, &hint);
    check_stderr_begin(&c);
    rc = data_parse(text, len, strrchr(path, '/') + 1, &hint, false, &set);
    said = check_stderr_end(&c);
    assert_non_null(said);
    t->len = 0;
    add(t, "%s", said);
    free(said);
    assert_true((rc == 0) == (set != NULL));
    for (size_t i = 0; set && i < set->n; i++)
        add_row(t, &set->rows[i]);
    data_free(set);
    free(text);
}

static void check_one(const char *name)
{
    static struct text got;
    char path[512], want_path[520], args_path[520], *want = NULL, *args = NULL;
    size_t len;

    snprintf(path, sizeof path, FOLDER "/%s", name);
    snprintf(want_path, sizeof want_path, "%s.want", path);
    snprintf(args_path, sizeof args_path, "%s.args", path);
    if (access(args_path, R_OK) == 0)
        assert_int_equal(file_read(args_path, 4096, &args, &len), 0);
    answer(path, args ? args : "", &got);
    if (getenv("PEOSIM_CORPUS_UPDATE")) {
        FILE *f = fopen(want_path, "w");

        assert_non_null(f);
        fputs(got.buf, f);
        assert_int_equal(fclose(f), 0);
    }
    assert_int_equal(file_read(want_path, 65536, &want, &len), 0);
    if (strcmp(want, got.buf) != 0)
        fail_msg("%s: wanted\n%sgot\n%s", name, want, got.buf);
    free(want);
    free(args);
}

static bool ends_in(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);

    return n >= m && strcmp(name + n - m, end) == 0;
}

static void test_every_input_gives_its_rows(void **state)
{
    DIR *dir = opendir(FOLDER);
    struct dirent *entry;
    int num = 0;

    (void)state;
    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.' || ends_in(entry->d_name, ".want") ||
            ends_in(entry->d_name, ".args"))
            continue;
        check_one(entry->d_name);
        num++;
    }
    closedir(dir);
    print_message("%d inputs\n", num);
    assert_true(num > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_input_gives_its_rows)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
