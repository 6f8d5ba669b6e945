#include "trace/nsys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "base/csv.h"
#include "base/err.h"
#include "base/log.h"

/* A kernel or copy as both exports tell it. */
struct work {
    double start_ns, ns;
    int rank, stream;
    const char *name;
};

static int work_add(struct trace_log *log, const struct work *w, const struct trace_map *map)
{
    int kind = map ? trace_map_find(map, w->name) : -1;
    char stream[24];
    struct trace_record r = {.rank = w->rank,
                             .stream = w->stream,
                             .op = -1,
                             .label = w->name,
                             .kind = w->name,
                             .class_name = "other",
                             .stream_name = stream,
                             .round = -1,
                             .ready_ns = w->start_ns,
                             .start_ns = w->start_ns,
                             .end_ns = w->start_ns + w->ns,
                             .cause = CAUSE_UNKNOWN,
                             .cause_op = -1,
                             .data_rank = -1,
                             .data_op = -1};

    if (kind < 0 && map && map->num)
        return 0;
    if (kind >= 0) {
        r.kind = plan_op_kind_name((enum plan_op_kind)kind);
        r.class_name = trace_kind_class(kind);
    }
    snprintf(stream, sizeof stream, "stream %d", w->stream);
    return trace_log_add(log, &r);
}

/* Columns by any of their names over the versions. */
enum col { COL_START, COL_NS, COL_DEVICE, COL_STREAM, COL_NAME, COL_COUNT };
static const char *const col_names[COL_COUNT][3] = {
    {"Start (ns)", "Start(nsec)", "Start (nsec)"},
    {"Duration (ns)", "Duration(nsec)", "Duration (nsec)"},
    {"Device", "Device", "Device"},
    {"Strm", "Stream", "Strm"},
    {"Name", "Name", "Name"}};

bool trace_nsys_is_csv(const char *text, size_t len)
{
    const char *end = memchr(text, '\n', len);
    size_t n = end ? (size_t)(end - text) : len;

    for (int v = 0; v < 3; v++)
        if (memmem(text, n, col_names[COL_START][v], strlen(col_names[COL_START][v])))
            return true;
    return false;
}

bool trace_nsys_is_sqlite(const char *text, size_t len)
{
    static const char magic[] = "SQLite format 3";

    return len > sizeof magic && !memcmp(text, magic, sizeof magic);
}

static int cols_find(const struct csv *csv, int col[COL_COUNT])
{
    for (int c = 0; c < COL_COUNT; c++) {
        col[c] = -1;
        for (int v = 0; v < 3 && col[c] < 0; v++)
            col[c] = csv_col(csv, col_names[c][v]);
        if (col[c] < 0 && c != COL_DEVICE && c != COL_STREAM) {
            log_error_at(csv->path, 1, "no column '%s' (nsys stats --report cuda_gpu_trace)",
                         col_names[c][0]);
            return ERR_PARSE;
        }
    }
    return 0;
}

/* "NVIDIA H200 (3)" -> 3. */
static int device_of(const char *text)
{
    const char *open = strrchr(text, '(');
    long n = open ? strtol(open + 1, NULL, 10) : strtol(text, NULL, 10);

    return n >= 0 && n < TRACE_MAX_RANKS ? (int)n : 0;
}

static int csv_row(const struct csv *csv, size_t row, const int col[COL_COUNT],
                   const struct trace_map *map, struct trace_log *log)
{
    struct work w = {.name = csv_at(csv, row, col[COL_NAME])};

    if (csv_double(csv, row, col[COL_START], &w.start_ns) ||
        csv_double(csv, row, col[COL_NS], &w.ns) || w.ns < 0 || csv->bad[row]) {
        log_error_at(csv->path, csv->line[row], "start and duration must be numbers of ns");
        return ERR_DATA;
    }
    if (col[COL_DEVICE] >= 0)
        w.rank = device_of(csv_at(csv, row, col[COL_DEVICE]));
    if (col[COL_STREAM] >= 0)
        w.stream = (int)strtol(csv_at(csv, row, col[COL_STREAM]), NULL, 10);
    return work_add(log, &w, map);
}

int trace_nsys_parse_csv(const char *text, size_t len, const char *name,
                         const struct trace_map *map, struct trace_log **out)
{
    struct trace_log *log = NULL;
    struct csv *csv = NULL;
    int col[COL_COUNT], err = csv_parse(text, len, name, &csv);

    if (!err)
        err = cols_find(csv, col);
    if (!err)
        err = trace_log_new(&log, "nsys");
    for (size_t row = 0; !err && row < csv->num_rows; row++)
        err = csv_row(csv, row, col, map, log);
    csv_free(csv);
    if (err)
        trace_log_free(log);
    else
        *out = log;
    return err;
}

/* Copies are there only where some were made. */
static bool table_is_there(sqlite3 *db, const char *table)
{
    sqlite3_stmt *ask = NULL;
    bool there = false;

    if (sqlite3_prepare_v2(db, "SELECT 1 FROM sqlite_master WHERE name = ?", -1, &ask, NULL) ==
        SQLITE_OK) {
        sqlite3_bind_text(ask, 1, table, -1, SQLITE_STATIC);
        there = sqlite3_step(ask) == SQLITE_ROW;
    }
    sqlite3_finalize(ask);
    return there;
}

/* Columns: start, end, rank (pairs of device and process counted from 0), stream, name. */
#define KERNELS                                                                                    \
    "SELECT k.start, k.end, dense_rank() OVER (ORDER BY k.deviceId, k.globalPid) - 1, k.streamId," \
    " s.value FROM CUPTI_ACTIVITY_KIND_KERNEL k JOIN StringIds s ON s.id = k.shortName"
#define COPIES                                                                                     \
    "SELECT start, end, dense_rank() OVER (ORDER BY deviceId, globalPid) - 1, streamId,"           \
    " 'memcpy' FROM CUPTI_ACTIVITY_KIND_MEMCPY"

static int rows_take(sqlite3 *db, const char *sql, const char *path, const struct trace_map *map,
                     struct trace_log *log)
{
    sqlite3_stmt *ask = NULL;
    int err = 0, rc = sqlite3_prepare_v2(db, sql, -1, &ask, NULL);

    while (rc == SQLITE_OK && !err && sqlite3_step(ask) == SQLITE_ROW) {
        struct work w = {.start_ns = sqlite3_column_double(ask, 0),
                         .ns = sqlite3_column_double(ask, 1) - sqlite3_column_double(ask, 0),
                         .rank = sqlite3_column_int(ask, 2),
                         .stream = sqlite3_column_int(ask, 3),
                         .name = (const char *)sqlite3_column_text(ask, 4)};

        if (!w.name || w.ns < 0) {
            log_error_at(path, 0, "a kernel without a name, or one that ends before it starts");
            err = ERR_DATA;
        } else {
            err = work_add(log, &w, map);
        }
    }
    if (!err && sqlite3_errcode(db) != SQLITE_OK && sqlite3_errcode(db) != SQLITE_DONE) {
        log_error_at(path, 0, "not an export of Nsight Systems: %s", sqlite3_errmsg(db));
        err = ERR_PARSE;
    }
    sqlite3_finalize(ask);
    return err;
}

int trace_nsys_read_sqlite(const char *path, const struct trace_map *map, struct trace_log **out)
{
    struct trace_log *log = NULL;
    sqlite3 *db = NULL;
    int err = 0;

    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK) {
        log_error_at(path, 0, "cannot open: %s", db ? sqlite3_errmsg(db) : "out of memory");
        err = ERR_IO;
    }
    if (!err)
        err = trace_log_new(&log, "nsys");
    if (!err)
        err = rows_take(db, KERNELS, path, map, log);
    if (!err && table_is_there(db, "CUPTI_ACTIVITY_KIND_MEMCPY"))
        err = rows_take(db, COPIES, path, map, log);
    sqlite3_close(db);
    if (err)
        trace_log_free(log);
    else
        *out = log;
    return err;
}
