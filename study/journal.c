#include "study/journal.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/csv.h"
#include "base/err.h"
#include "base/log.h"

/* More processes than this do not write one sweep. */
#define FILES_MAX 4096
/* A rank that had nothing to do leaves no file: look a little past a gap. */
#define GAP_MAX 64
/* How long another process's look at a journal is waited for. */
#define BUSY_MS 500

struct journal {
    char folder[512];
    char key[65];
    size_t num_points, count;
    unsigned char *have; /* one bit per point */
    char path[600];      /* this process's, once begun */
    sqlite3 *db;
    sqlite3_stmt *insert;
    pthread_mutex_t lock; /* of insert */
};

static void path_of(const char *folder, int rank, char *buf, size_t size)
{
    if (rank)
        snprintf(buf, size, "%s/journal.%d.db", folder, rank);
    else
        snprintf(buf, size, "%s/journal.db", folder);
}

/* Says what SQLite met; the code that fits it. */
static int db_error(sqlite3 *db, const char *path)
{
    int rc = sqlite3_errcode(db) & 0xff;

    if (rc == SQLITE_NOMEM)
        return ERR_NOMEM;
    if (rc == SQLITE_BUSY || rc == SQLITE_LOCKED) {
        log_error("%s: another sweep is writing here", path);
        return ERR_IO;
    }
    if (rc == SQLITE_NOTADB || rc == SQLITE_CORRUPT || rc == SQLITE_ERROR) {
        log_error("%s: not a journal of this version of peosim, or a damaged one (%s): --restart "
                  "discards it",
                  path, sqlite3_errmsg(db));
        return ERR_CONFIG;
    }
    log_error("%s: %s", path, sqlite3_errmsg(db));
    return ERR_IO;
}

static int db_run(sqlite3 *db, const char *path, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_error(db, path);
}

static int db_prepare(sqlite3 *db, const char *path, const char *sql, sqlite3_stmt **out)
{
    return sqlite3_prepare_v2(db, sql, -1, out, NULL) == SQLITE_OK ? 0 : db_error(db, path);
}

/* Locked as a whole: the write-ahead log then needs no memory that processes share, which network
 * file systems do not have. */
static int db_open(const char *path, bool create, sqlite3 **db)
{
    int flags = SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0);

    if (sqlite3_open_v2(path, db, flags, NULL) != SQLITE_OK) {
        int err = *db ? db_error(*db, path) : ERR_NOMEM;

        sqlite3_close(*db);
        *db = NULL;
        return err;
    }
    sqlite3_busy_timeout(*db, BUSY_MS);
    return db_run(*db, path, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA synchronous=NORMAL");
}

/* The sweep that a database holds must be this one. */
static int db_check(const struct journal *j, sqlite3 *db, const char *path)
{
    sqlite3_stmt *ask = NULL;
    int err = db_prepare(db, path, "SELECT key, num_points FROM sweep", &ask);

    if (!err && sqlite3_step(ask) != SQLITE_ROW)
        err = db_error(db, path);
    if (!err) {
        const char *key = (const char *)sqlite3_column_text(ask, 0);

        if (!key || strcmp(key, j->key) || (size_t)sqlite3_column_int64(ask, 1) != j->num_points) {
            log_error("%s: holds the sweep %.12s, not %.12s (another configuration, profile, model "
                      "or program): use another --output-dir, or --restart to discard it",
                      path, key ? key : "?", j->key);
            err = ERR_CONFIG;
        }
    }
    sqlite3_finalize(ask);
    return err;
}

/* Whether a crash ended the process before its first commit: nothing is in it. */
static bool db_is_empty(sqlite3 *db)
{
    sqlite3_stmt *ask = NULL;
    bool empty = false;

    if (sqlite3_prepare_v2(db, "SELECT count(*) FROM sqlite_master", -1, &ask, NULL) == SQLITE_OK &&
        sqlite3_step(ask) == SQLITE_ROW)
        empty = sqlite3_column_int(ask, 0) == 0;
    sqlite3_finalize(ask);
    return empty;
}

static int have_note(struct journal *j, sqlite3 *db, const char *path)
{
    sqlite3_stmt *ask = NULL;
    int err = db_prepare(db, path, "SELECT idx FROM points", &ask), rc = SQLITE_DONE;

    while (!err && (rc = sqlite3_step(ask)) == SQLITE_ROW) {
        uint64_t i = (uint64_t)sqlite3_column_int64(ask, 0);
        unsigned char bit = (unsigned char)(1 << i % 8);

        if (i >= j->num_points)
            continue;
        if (!(j->have[i / 8] & bit))
            j->count++;
        j->have[i / 8] |= bit;
    }
    if (!err && rc != SQLITE_DONE)
        err = db_error(db, path);
    sqlite3_finalize(ask);
    return err;
}

/* Closes a database that was looked at: what its log held is in it then, and the log gone. */
static void db_close(sqlite3 *db)
{
    if (db)
        sqlite3_exec(db, "PRAGMA journal_mode=DELETE", NULL, NULL, NULL);
    sqlite3_close(db);
}

static int file_look(struct journal *j, const char *path)
{
    sqlite3 *db = NULL;
    int err = db_open(path, false, &db);

    if (!err && !db_is_empty(db)) {
        err = db_check(j, db, path);
        if (!err)
            err = have_note(j, db, path);
    }
    db_close(db);
    return err;
}

/* Calls fn for every database of the folder, from rank `first` on. */
static int files_each(struct journal *j, const char *folder, int first,
                      int (*fn)(struct journal *j, const char *path))
{
    int err = 0;

    for (int rank = first, missing = 0; rank < FILES_MAX && missing < GAP_MAX && !err; rank++) {
        char path[600];

        path_of(folder, rank, path, sizeof path);
        if (access(path, F_OK)) {
            missing++;
            continue;
        }
        missing = 0;
        err = fn(j, path);
    }
    return err;
}

int journal_open(const char *folder, const char *key, size_t num_points, struct journal **out)
{
    struct journal *j = calloc(1, sizeof *j);
    int err = 0;

    if (!j)
        return ERR_NOMEM;
    pthread_mutex_init(&j->lock, NULL);
    j->num_points = num_points;
    j->have = calloc(num_points / 8 + 1, 1);
    memcpy(j->key, key, 64);
    if ((size_t)snprintf(j->folder, sizeof j->folder, "%s", folder) >= sizeof j->folder)
        err = ERR_RANGE;
    if (!err)
        err = j->have ? files_each(j, folder, 0, file_look) : ERR_NOMEM;
    if (err)
        journal_close(j);
    else
        *out = j;
    return err;
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    sqlite3_finalize(j->insert);
    db_close(j->db);
    pthread_mutex_destroy(&j->lock);
    free(j->have);
    free(j);
}

/* A database and its log. */
static int file_unlink(const char *path)
{
    static const char *const endings[] = {"", "-wal", "-shm", "-journal"};

    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char name[620];

        snprintf(name, sizeof name, "%s%s", path, endings[i]);
        if (unlink(name) && errno != ENOENT) {
            log_error("%s: cannot remove: %s", name, strerror(errno));
            return ERR_IO;
        }
    }
    return 0;
}

/* A journal that another process is writing must not be pulled from under it. */
static int file_remove(struct journal *j, const char *path)
{
    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);

    (void)j;
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, "PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE", NULL, NULL, NULL);
    sqlite3_close(db);
    if ((rc & 0xff) == SQLITE_BUSY) {
        log_error("%s: another sweep is writing here", path);
        return ERR_IO;
    }
    return file_unlink(path); /* a damaged one too */
}

int journal_remove(const char *folder)
{
    return files_each(NULL, folder, 0, file_remove);
}

static const char tables[] =
    "CREATE TABLE IF NOT EXISTS sweep (key TEXT, num_points INTEGER);"
    "CREATE TABLE IF NOT EXISTS points (idx INTEGER PRIMARY KEY, name TEXT, layer_us REAL,"
    " gain_pct REAL, row TEXT)";

static int head_write(struct journal *j)
{
    sqlite3_stmt *say = NULL;
    int err =
        db_prepare(j->db, j->path,
                   "INSERT INTO sweep SELECT ?1, ?2 WHERE NOT EXISTS (SELECT * FROM sweep)", &say);

    if (err)
        return err;
    sqlite3_bind_text(say, 1, j->key, -1, SQLITE_STATIC);
    sqlite3_bind_int64(say, 2, (sqlite3_int64)j->num_points);
    if (sqlite3_step(say) != SQLITE_DONE)
        err = db_error(j->db, j->path);
    sqlite3_finalize(say);
    return err;
}

int journal_begin(struct journal *j, int rank)
{
    int err;

    path_of(j->folder, rank, j->path, sizeof j->path);
    err = db_open(j->path, true, &j->db);
    if (!err)
        err = db_run(j->db, j->path, "PRAGMA journal_mode=WAL; BEGIN EXCLUSIVE");
    if (!err)
        err = db_run(j->db, j->path, tables);
    if (!err)
        err = head_write(j);
    if (!err)
        err = db_run(j->db, j->path, "COMMIT");
    if (!err)
        err = db_prepare(j->db, j->path, "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?)",
                         &j->insert);
    return err;
}

int journal_append(struct journal *j, const struct journal_point *p)
{
    int err = 0;

    pthread_mutex_lock(&j->lock);
    sqlite3_bind_int64(j->insert, 1, (sqlite3_int64)p->index);
    sqlite3_bind_text(j->insert, 2, p->name, -1, SQLITE_STATIC);
    sqlite3_bind_double(j->insert, 3, p->layer_us);
    sqlite3_bind_double(j->insert, 4, p->gain_pct);
    sqlite3_bind_text(j->insert, 5, p->row, -1, SQLITE_STATIC);
    if (sqlite3_step(j->insert) != SQLITE_DONE) {
        log_error("%s: cannot write: %s; the points before are kept", j->path,
                  sqlite3_errmsg(j->db));
        err = ERR_IO;
    }
    sqlite3_reset(j->insert);
    pthread_mutex_unlock(&j->lock);
    return err;
}

bool journal_has(const struct journal *j, size_t index)
{
    return j->have[index / 8] >> index % 8 & 1;
}

size_t journal_count(const struct journal *j)
{
    return j->count;
}

/* Takes another process's points in, and its database away. */
static int file_take_in(struct journal *j, const char *path)
{
    sqlite3_stmt *attach = NULL;
    int err = db_prepare(j->db, j->path, "ATTACH ? AS other", &attach);

    if (err)
        return err;
    sqlite3_bind_text(attach, 1, path, -1, SQLITE_STATIC);
    if (sqlite3_step(attach) != SQLITE_DONE)
        err = db_error(j->db, path);
    sqlite3_finalize(attach);
    if (!err)
        err = db_run(j->db, path, "INSERT OR IGNORE INTO points SELECT * FROM other.points");
    if (!err)
        err = db_run(j->db, path, "DETACH other");
    return err ? err : file_unlink(path);
}

/* A NULL where SQLite has no text is an empty text. */
static void text_take(sqlite3_stmt *ask, int col, char *buf, size_t size)
{
    const char *text = (const char *)sqlite3_column_text(ask, col);

    snprintf(buf, size, "%s", text ? text : "");
}

static int rows_each(struct journal *j, sqlite3_stmt *ask,
                     int (*fn)(void *self, const struct journal_point *p), void *self)
{
    int rc = SQLITE_DONE, err = 0;

    while (!err && (rc = sqlite3_step(ask)) == SQLITE_ROW) {
        struct journal_point p = {.index = (size_t)sqlite3_column_int64(ask, 0),
                                  .layer_us = sqlite3_column_double(ask, 2),
                                  .gain_pct = sqlite3_column_double(ask, 3)};

        text_take(ask, 1, p.name, sizeof p.name);
        text_take(ask, 4, p.row, sizeof p.row);
        err = fn(self, &p);
    }
    if (!err && rc != SQLITE_DONE)
        err = db_error(j->db, j->path);
    return err;
}

int journal_read(struct journal *j, size_t from, size_t to,
                 int (*fn)(void *self, const struct journal_point *p), void *self)
{
    sqlite3_stmt *ask = NULL;
    int err = files_each(j, j->folder, 1, file_take_in);

    if (!err)
        err = db_prepare(j->db, j->path,
                         "SELECT idx, name, layer_us, gain_pct, row FROM points "
                         "WHERE idx >= ? AND idx < ? ORDER BY idx",
                         &ask);
    if (err)
        return err;
    sqlite3_bind_int64(ask, 1, (sqlite3_int64)from);
    sqlite3_bind_int64(ask, 2, (sqlite3_int64)to);
    err = rows_each(j, ask, fn, self);
    sqlite3_finalize(ask);
    return err;
}

/* CREATE TABLE results ("a" NUMERIC, ...) and INSERT INTO results VALUES (?, ...). */
static int results_sql(const struct csv *csv, char **create, char **insert)
{
    size_t create_len, insert_len;
    FILE *c = open_memstream(create, &create_len), *i = open_memstream(insert, &insert_len);

    if (c && i) {
        fprintf(c, "CREATE TABLE results (");
        fprintf(i, "INSERT INTO results VALUES (");
        for (int col = 0; col < csv->num_cols; col++) {
            char *name = sqlite3_mprintf("%s\"%w\" NUMERIC", col ? ", " : "", csv->header[col]);

            fputs(name ? name : "", c);
            fputs(col ? ", ?" : "?", i);
            sqlite3_free(name);
        }
        fprintf(c, ")");
        fprintf(i, ")");
    }
    return (c && fclose(c)) + (i && fclose(i)) || !*create || !*insert ? ERR_NOMEM : 0;
}

static int results_fill(struct journal *j, const struct csv *csv, const char *insert)
{
    sqlite3_stmt *put = NULL;
    int err = db_prepare(j->db, j->path, insert, &put);

    for (size_t row = 0; row < csv->num_rows && !err; row++) {
        for (int col = 0; col < csv->num_cols; col++) {
            const char *cell = csv_at(csv, row, col);

            if (*cell)
                sqlite3_bind_text(put, col + 1, cell, -1, SQLITE_STATIC);
            else
                sqlite3_bind_null(put, col + 1);
        }
        if (sqlite3_step(put) != SQLITE_DONE)
            err = db_error(j->db, j->path);
        sqlite3_reset(put);
    }
    sqlite3_finalize(put);
    return err;
}

/* Lines of a CSV behind its header: what is put in at a time. */
struct block {
    char *text;
    size_t size, head, len, lines;
    bool open; /* within quotes */
};

static int block_add(struct block *b, const char *line, size_t n)
{
    if (b->len + n + 1 > b->size) {
        size_t size = (b->len + n + 1) * 2;
        char *text = realloc(b->text, size);

        if (!text)
            return ERR_NOMEM;
        b->text = text;
        b->size = size;
    }
    memcpy(b->text + b->len, line, n);
    b->len += n;
    b->text[b->len] = '\0';
    b->lines++;
    for (size_t i = 0; i < n; i++)
        b->open ^= line[i] == '"';
    return 0;
}

static int block_put(struct journal *j, struct block *b, const char *name, bool first)
{
    char *create = NULL, *insert = NULL;
    struct csv *csv = NULL;
    int err = csv_parse(b->text, b->len, name, &csv);

    if (!err)
        err = results_sql(csv, &create, &insert);
    if (!err && first)
        err = db_run(j->db, j->path, create);
    if (!err)
        err = results_fill(j, csv, insert);
    free(create);
    free(insert);
    csv_free(csv);
    b->len = b->head;
    b->lines = 0;
    return err;
}

static int blocks_put(struct journal *j, FILE *f, const char *name)
{
    struct block b = {0};
    char *line = NULL;
    size_t size = 0;
    ssize_t n;
    bool first = true;
    int err = 0;

    while (!err && (n = getline(&line, &size, f)) > 0) {
        err = block_add(&b, line, (size_t)n);
        if (!b.head)
            b.head = b.len;
        if (err || b.open || b.lines < 4096)
            continue;
        err = block_put(j, &b, name, first);
        first = false;
    }
    if (!err && (first || b.len > b.head))
        err = block_put(j, &b, name, first);
    free(line);
    free(b.text);
    return err;
}

int journal_results(struct journal *j, const char *csv_path)
{
    FILE *f = fopen(csv_path, "re");
    int err = 0;

    if (!f) {
        log_error("%s: cannot open: %s", csv_path, strerror(errno));
        return ERR_IO;
    }
    err = db_run(j->db, j->path, "BEGIN; DROP TABLE IF EXISTS results");
    if (!err)
        err = blocks_put(j, f, csv_path);
    if (!err)
        err = db_run(j->db, j->path, "COMMIT");
    fclose(f);
    return err;
}
