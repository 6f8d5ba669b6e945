/* Any file or folder that holds a trace. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "trace/chrome.h"
#include "trace/csv.h"
#include "trace/log.h"
#include "trace/nsys.h"

static int text_read(const char *path, const char *text, size_t len, const struct trace_map *map,
                     struct trace_log **out)
{
    size_t first = strspn(text, " \t\r\n");

    if (trace_nsys_is_sqlite(text, len))
        return trace_nsys_read_sqlite(path, map, out);
    if (first == len) {
        log_error_at(path, 0, "the file is empty");
        return ERR_PARSE;
    }
    if (len > 1 && (unsigned char)text[0] == 0x1f && (unsigned char)text[1] == 0x8b) {
        log_error_at(path, 0, "the file is compressed; unpack it with gzip -d first");
        return ERR_PARSE;
    }
    if (text[first] == '{' || text[first] == '[')
        return trace_chrome_parse(text, len, path, map, out);
    if (trace_nsys_is_csv(text, len))
        return trace_nsys_parse_csv(text, len, path, map, out);
    return trace_csv_parse(text, len, path, out);
}

/* Nsight's clocks count from the start of its session. */
static void clock_begin(struct trace_log *log)
{
    double first = log->num_records ? log->records[0].start_ns : 0;

    for (size_t i = 0; i < log->num_records; i++)
        if (log->records[i].start_ns < first)
            first = log->records[i].start_ns;
    for (size_t i = 0; i < log->num_records; i++) {
        log->records[i].ready_ns -= first;
        log->records[i].start_ns -= first;
        log->records[i].end_ns -= first;
    }
    for (size_t i = 0; i < log->num_counters; i++)
        log->counters[i].t_ns -= first;
}

static int file_take(const char *path, const struct trace_map *map, struct trace_log **out)
{
    char *text = NULL;
    size_t len = 0;
    int err = file_read_unpacked(path, TRACE_MAX_BYTES, &text, &len);

    if (!err)
        err = text_read(path, text, len, map, out);
    if (!err && !strcmp((*out)->backend, "nsys"))
        clock_begin(*out);
    free(text);
    return err;
}

static bool rank_is_in(const struct trace_log *log, int rank)
{
    for (size_t i = 0; i < log->num_records; i++)
        if (log->records[i].rank == rank)
            return true;
    return false;
}

/* Adds another file's ranks, counted on where some of them are there already. */
static int ranks_add(struct trace_log *all, const struct trace_log *one)
{
    int shift = 0, err = 0;

    for (int rank = 0; rank < one->ranks && !shift; rank++)
        if (rank_is_in(one, rank) && rank_is_in(all, rank))
            shift = all->ranks;
    for (size_t i = 0; i < one->num_records && !err; i++) {
        struct trace_record r = one->records[i];

        r.rank += shift;
        r.data_rank += r.data_rank < 0 ? 0 : shift;
        err = trace_log_add(all, &r);
    }
    return err;
}

static int is_trace(const struct dirent *entry)
{
    static const char *const endings[] = {".json", ".json.gz", ".csv", ".csv.gz", ".sqlite"};
    size_t n = strlen(entry->d_name);

    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t m = strlen(endings[i]);

        if (n > m && !strcmp(entry->d_name + n - m, endings[i]))
            return 1;
    }
    return 0;
}

static int folder_file_add(struct trace_log *all, const char *folder, const char *file,
                           const struct trace_map *map)
{
    struct trace_log *one = NULL;
    char path[4096];
    int err;

    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, file) >= sizeof path)
        return ERR_RANGE;
    err = file_take(path, map, &one);
    if (!err) {
        clock_begin(one);
        err = ranks_add(all, one);
    }
    trace_log_free(one);
    return err;
}

static int folder_take(const char *path, const struct trace_map *map, struct trace_log **out)
{
    struct dirent **names = NULL;
    struct trace_log *all = NULL;
    int n = scandir(path, &names, is_trace, alphasort), err = 0;

    if (n <= 0) {
        log_error_at(path, 0, "the folder has no trace (.json, .csv, .sqlite; .gz or not)");
        err = ERR_NOTFOUND;
    }
    if (!err)
        err = trace_log_new(&all, "");
    for (int i = 0; i < n; i++) {
        if (!err)
            err = folder_file_add(all, path, names[i]->d_name, map);
        free(names[i]);
    }
    free(names);
    if (err)
        trace_log_free(all);
    else
        *out = all;
    return err;
}

int trace_log_read(const char *path, const struct trace_map *map, struct trace_log **out)
{
    struct trace_log *log = NULL;
    struct stat st;
    int err;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        err = folder_take(path, map, &log);
    else
        err = file_take(path, map, &log);
    if (!err && !log->num_records) {
        log_error_at(path, 0, "the trace has no spans%s",
                     map && map->num ? " that --map keeps" : "");
        err = ERR_DATA;
    }
    if (!err) {
        trace_log_sort(log);
        *out = log;
        log = NULL;
    }
    trace_log_free(log);
    return err;
}

int trace_log_keep(struct trace_log *log, const struct trace_window *part, const char *name)
{
    size_t kept = 0, counters = 0;

    for (size_t i = 0; i < log->num_records; i++) {
        const struct trace_record *r = &log->records[i];

        if (r->start_ns >= part->from_ns && r->start_ns < part->to_ns &&
            (part->layer < 0 || r->layer == part->layer))
            log->records[kept++] = *r;
    }
    for (size_t i = 0; i < log->num_counters; i++)
        if (log->counters[i].t_ns >= part->from_ns && log->counters[i].t_ns < part->to_ns)
            log->counters[counters++] = log->counters[i];
    log->num_records = kept;
    log->num_counters = counters;
    if (!kept) {
        log_error_at(name, 0, "no span of this layer starts within this window");
        return ERR_DATA;
    }
    clock_begin(log);
    return 0;
}
