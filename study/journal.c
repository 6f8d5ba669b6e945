#include "study/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/watch.h"

#define LINE_MAX_BYTES (JOURNAL_ROW_MAX + 256)
/* Points put in order at a time: 16 bytes each. */
#define WINDOW ((size_t)1 << 18)
/* More processes than this do not write one sweep. */
#define FILES_MAX 4096

struct journal {
    char folder[512];
    char key[65];
    size_t num_points, count;
    unsigned char *have; /* one bit per point */
    int fd;              /* -1 before journal_begin */
    char path[600];
    double synced_s;
};

/* FNV-1a: catches torn and mangled lines; nobody forges them. */
static uint32_t checksum(const char *text, size_t len)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)text[i]) * 16777619u;
    return h;
}

static void path_of(const char *folder, int rank, char *buf, size_t size)
{
    snprintf(buf, size, "%s/journal.%d", folder, rank);
}

static int head_format(const struct journal *j, char *buf, size_t size)
{
    return snprintf(buf, size, "peosim-journal 1 %s %zu\n", j->key, j->num_points);
}

/* index TAB key TAB name TAB layer_us TAB gain_pct TAB row TAB checksum */
static int line_format(const struct journal *j, const struct journal_point *p, char *buf,
                       size_t size)
{
    int n = snprintf(buf, size, "%zu\t%.8s\t%s\t%.17g\t%.17g\t%s\t", p->index, j->key, p->name,
                     p->layer_us, p->gain_pct, p->row);

    if (n < 0 || (size_t)n + 10 > size)
        return ERR_RANGE;
    return n + snprintf(buf + n, size - (size_t)n, "%08" PRIx32 "\n", checksum(buf, (size_t)n));
}

/* Cuts the next field off at a tab; NULL when there is none. */
static char *field_cut(char **at)
{
    char *field = *at, *tab = field ? strchr(field, '\t') : NULL;

    if (!tab)
        return NULL;
    *tab = '\0';
    *at = tab + 1;
    return field;
}

/* Takes a line apart (and to pieces); false when it is torn or not one of this sweep's. */
static bool line_parse(const struct journal *j, char *line, size_t len, struct journal_point *p)
{
    char *at = line, *field[6];

    if (len < 10 || line[len - 1] != '\n' || memchr(line, '\0', len) || line[len - 10] != '\t' ||
        strtoul(line + len - 9, NULL, 16) != checksum(line, len - 9))
        return false;
    for (int i = 0; i < 6; i++)
        if (!(field[i] = field_cut(&at)))
            return false;
    if (strncmp(field[1], j->key, 8) || strlen(field[2]) >= sizeof p->name ||
        strlen(field[5]) >= sizeof p->row)
        return false;
    p->index = strtoull(field[0], NULL, 10);
    memcpy(p->name, field[2], strlen(field[2]) + 1);
    p->layer_us = strtod(field[3], NULL);
    p->gain_pct = strtod(field[4], NULL);
    memcpy(p->row, field[5], strlen(field[5]) + 1);
    return p->index < j->num_points;
}

/* One file's good lines, where they begin, and where the last good one ended. */
struct scan {
    const struct journal *j;
    int (*line)(void *self, const struct journal_point *p, int file, long long at);
    void *self;
    size_t bad; /* lines left out that are not the last */
    long long good_end;
};

static int head_check(const struct journal *j, const char *path, const char *line)
{
    char head[160];
    size_t points;
    char key[65] = "";

    head_format(j, head, sizeof head);
    if (!strcmp(line, head))
        return 0;
    if (sscanf(line, "peosim-journal 1 %64s %zu", key, &points) < 1) {
        log_error_at(path, 1, "not a journal of this version of peosim; --restart discards it");
        return ERR_CONFIG;
    }
    log_error_at(path, 1,
                 "holds the sweep %.12s, not %.12s (another configuration, profile, model or "
                 "program): use another --output-dir, or --restart to discard it",
                 key, j->key);
    return ERR_CONFIG;
}

static int lines_scan(struct scan *s, FILE *f, const char *path, int file)
{
    char *line = NULL;
    size_t size = 0, torn = 0;
    ssize_t n;
    int err = 0;

    /* A head without its end is a crash before the first result: an empty journal. */
    n = getline(&line, &size, f);
    if (n > 0 && line[n - 1] == '\n')
        err = head_check(s->j, path, line);
    else
        n = 0;
    s->good_end = n > 0 && !err ? n : 0;
    for (long long at = s->good_end; n > 0 && !err; at += n) {
        struct journal_point p;

        n = getline(&line, &size, f);
        if (n <= 0)
            break;
        if (!line_parse(s->j, line, (size_t)n, &p)) {
            torn++;
            continue;
        }
        s->bad += torn;
        torn = 0;
        s->good_end = at + n;
        err = s->line(s->self, &p, file, at);
    }
    if (!err && ferror(f)) {
        log_error("%s: cannot read: %s", path, strerror(errno));
        err = ERR_IO;
    }
    free(line);
    return err;
}

static int files_scan(struct scan *s)
{
    int err = 0, missing = 0;

    /* A rank that had nothing to do leaves no file: look a little past a gap. */
    for (int rank = 0; rank < FILES_MAX && missing < 64 && !err; rank++) {
        char path[600];
        FILE *f;

        path_of(s->j->folder, rank, path, sizeof path);
        f = fopen(path, "re");
        if (!f && errno != ENOENT) {
            log_error("%s: cannot open: %s", path, strerror(errno));
            err = ERR_IO;
        }
        missing = f ? 0 : missing + 1;
        if (!f)
            continue;
        err = lines_scan(s, f, path, rank);
        fclose(f);
    }
    return err;
}

static int have_note(void *self, const struct journal_point *p, int file, long long at)
{
    struct journal *j = self;
    unsigned char bit = (unsigned char)(1 << p->index % 8);

    (void)file;
    (void)at;
    if (!(j->have[p->index / 8] & bit))
        j->count++;
    j->have[p->index / 8] |= bit;
    return 0;
}

int journal_open(const char *folder, const char *key, size_t num_points, struct journal **out)
{
    struct journal *j = calloc(1, sizeof *j);
    struct scan s = {.j = j, .line = have_note, .self = j};
    int err = 0;

    if (!j)
        return ERR_NOMEM;
    j->fd = -1;
    j->num_points = num_points;
    j->have = calloc(num_points / 8 + 1, 1);
    memcpy(j->key, key, 64);
    if ((size_t)snprintf(j->folder, sizeof j->folder, "%s", folder) >= sizeof j->folder)
        err = ERR_RANGE;
    if (!err)
        err = j->have ? files_scan(&s) : ERR_NOMEM;
    if (!err && s.bad)
        log_warn("%s: %zu damaged line%s of the journal left out; these points are computed again",
                 folder, s.bad, s.bad == 1 ? "" : "s");
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
    if (j->fd >= 0) {
        fdatasync(j->fd);
        close(j->fd);
    }
    free(j->have);
    free(j);
}

/* A journal that another process is writing must not be pulled from under it. */
static int file_remove(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC), err = 0;

    if (fd < 0 && errno == ENOENT)
        return ERR_NOTFOUND;
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
        log_error("%s: another sweep is writing here", path);
        err = ERR_IO;
    } else if (unlink(path)) {
        log_error("%s: cannot remove: %s", path, strerror(errno));
        err = ERR_IO;
    }
    if (fd >= 0)
        close(fd);
    return err;
}

int journal_remove(const char *folder)
{
    int missing = 0;

    for (int rank = 0; rank < FILES_MAX && missing < 64; rank++) {
        char path[600];

        int err;

        path_of(folder, rank, path, sizeof path);
        err = file_remove(path);
        missing = err == ERR_NOTFOUND ? missing + 1 : 0;
        if (err && err != ERR_NOTFOUND)
            return err;
    }
    return 0;
}

static int bytes_write(struct journal *j, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(j->fd, text, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            log_error("%s: cannot write: %s; the points before are kept", j->path, strerror(errno));
            return ERR_IO;
        }
        text += n;
        len -= (size_t)n;
    }
    return 0;
}

static int nothing(void *self, const struct journal_point *p, int file, long long at)
{
    (void)self;
    (void)p;
    (void)file;
    (void)at;
    return 0;
}

/* Cuts the file after its last good line, and gives a new one its head. */
static int tail_mend(struct journal *j)
{
    struct scan s = {.j = j, .line = nothing};
    char head[160];
    FILE *f = fopen(j->path, "re");
    int err = f ? lines_scan(&s, f, j->path, 0) : ERR_IO;

    if (f)
        fclose(f);
    if (!err && ftruncate(j->fd, s.good_end))
        err = ERR_IO;
    if (!err && !s.good_end)
        err = bytes_write(j, head, (size_t)head_format(j, head, sizeof head));
    return err;
}

int journal_begin(struct journal *j, int rank)
{
    int err;

    path_of(j->folder, rank, j->path, sizeof j->path);
    j->fd = open(j->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (j->fd < 0) {
        log_error("%s: cannot open: %s", j->path, strerror(errno));
        return ERR_IO;
    }
    if (flock(j->fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
        log_error("%s: another sweep is writing here", j->path);
        return ERR_IO;
    }
    err = tail_mend(j);
    j->synced_s = watch_now_s();
    return err;
}

int journal_append(struct journal *j, const struct journal_point *p)
{
    char line[LINE_MAX_BYTES];
    int n = line_format(j, p, line, sizeof line), err;

    if (n < 0) {
        log_error("%s: the line of point %zu is too long", j->path, p->index);
        return n;
    }
    err = bytes_write(j, line, (size_t)n);
    if (!err && watch_now_s() - j->synced_s > 1) {
        fdatasync(j->fd);
        j->synced_s = watch_now_s();
    }
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

/* Where the lines of a window of points are. */
struct place {
    int file; /* -1 = none */
    long long at;
};

struct window {
    size_t from, to;
    struct place *places;
};

static int place_note(void *self, const struct journal_point *p, int file, long long at)
{
    struct window *w = self;

    if (p->index >= w->from && p->index < w->to && w->places[p->index - w->from].file < 0)
        w->places[p->index - w->from] = (struct place){file, at};
    return 0;
}

static int place_read(struct journal *j, FILE **f, int *file, const struct place *at,
                      struct journal_point *p)
{
    char path[600], *line = NULL;
    size_t size = 0;
    ssize_t n = -1;
    int err = 0;

    if (*file != at->file) {
        if (*f)
            fclose(*f);
        path_of(j->folder, at->file, path, sizeof path);
        *f = fopen(path, "re");
        *file = at->file;
    }
    if (*f && !fseeko(*f, at->at, SEEK_SET))
        n = getline(&line, &size, *f);
    if (n <= 0 || !line_parse(j, line, (size_t)n, p)) {
        log_error("%s/journal.%d: changed while it was read", j->folder, at->file);
        err = ERR_IO;
    }
    free(line);
    return err;
}

static int window_read(struct journal *j, struct window *w,
                       int (*fn)(void *self, const struct journal_point *p), void *self)
{
    struct scan s = {.j = j, .line = place_note, .self = w};
    FILE *f = NULL;
    int file = -1, err;

    for (size_t i = 0; i < w->to - w->from; i++)
        w->places[i].file = -1;
    err = files_scan(&s);
    for (size_t i = 0; i < w->to - w->from && !err; i++) {
        struct journal_point p;

        if (w->places[i].file < 0)
            continue;
        err = place_read(j, &f, &file, &w->places[i], &p);
        if (!err)
            err = fn(self, &p);
    }
    if (f)
        fclose(f);
    return err;
}

int journal_read(struct journal *j, size_t from, size_t to,
                 int (*fn)(void *self, const struct journal_point *p), void *self)
{
    struct window w = {0};
    int err = 0;

    w.places = malloc((to - from < WINDOW ? to - from + 1 : WINDOW) * sizeof *w.places);
    if (!w.places)
        return ERR_NOMEM;
    for (w.from = from; w.from < to && !err; w.from = w.to) {
        w.to = to - w.from < WINDOW ? to : w.from + WINDOW;
        err = window_read(j, &w, fn, self);
    }
    free(w.places);
    return err;
}
