#include "report/results.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"

#define LIST_NAME "files.txt"
#define LIST_MAX  (1u << 20)

static int join(char out[RESULTS_PATH_MAX], const char *folder, const char *name)
{
    if ((size_t)snprintf(out, RESULTS_PATH_MAX, "%s/%s", folder, name) < RESULTS_PATH_MAX)
        return 0;
    log_error("%s: the path is too long", folder);
    return ERR_RANGE;
}

int results_open(struct results *r, const char *folder)
{
    size_t n = strlen(folder);
    int err;

    memset(r, 0, sizeof *r);
    while (n > 1 && folder[n - 1] == '/')
        n--;
    if (n + 32 > RESULTS_PATH_MAX) {
        log_error("%s: the path is too long", folder);
        return ERR_RANGE;
    }
    snprintf(r->folder, sizeof r->folder, "%.*s", (int)n, folder);
    err = file_mkdirs(r->folder); /* says at once whether the place is good */
    if (err)
        return err;
    snprintf(r->part, sizeof r->part, "%.*s/.part.%d", (int)n, folder, (int)getpid());
    return file_mkdirs(r->part);
}

int results_path(const struct results *r, const char *name, char path[RESULTS_PATH_MAX])
{
    return join(path, r->part, name);
}

int results_create(const struct results *r, const char *name, struct file_out *f)
{
    char path[RESULTS_PATH_MAX];
    int err = results_path(r, name, path);

    return err ? err : file_create(f, path);
}

int results_done(struct file_out *f, int err)
{
    /* A writer that met a full disk says ERR_IO and leaves the message to the commit. */
    if (!err || err == ERR_IO) {
        int commit = file_commit(f);

        err = commit ? commit : err;
    }
    file_abort(f);
    return err;
}

/* Calls fn for every file of a folder; the first error ends it. */
static int each_file(const char *folder, int (*fn)(void *self, const char *name), void *self)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    int err = 0;

    if (!dir)
        return ERR_IO;
    while (!err && (entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            err = fn(self, entry->d_name);
    closedir(dir);
    return err;
}

/* Removes what the last run left, as its list says. */
static void old_remove(const struct results *r)
{
    char path[RESULTS_PATH_MAX], *text = NULL, *save = NULL;
    size_t len;

    if (join(path, r->folder, LIST_NAME) || access(path, R_OK) ||
        file_read(path, LIST_MAX, &text, &len))
        return;
    for (char *name = strtok_r(text, "\n", &save); name; name = strtok_r(NULL, "\n", &save))
        if (!strchr(name, '/') && !join(path, r->folder, name))
            unlink(path);
    free(text);
}

static int list_one(void *self, const char *name)
{
    struct file_out *f = self;

    fprintf(f->f, "%s\n", name);
    return 0;
}

static int move_one(void *self, const char *name)
{
    struct results *r = self;
    char from[RESULTS_PATH_MAX], to[RESULTS_PATH_MAX];
    int err = join(from, r->part, name);

    if (!err)
        err = join(to, r->folder, name);
    if (!err && rename(from, to)) {
        log_error("%s: cannot move it into place: %s", to, strerror(errno));
        err = ERR_IO;
    }
    return err;
}

int results_commit(struct results *r)
{
    struct file_out list = {0};
    int err = results_create(r, LIST_NAME, &list);

    if (!err)
        err = each_file(r->part, list_one, &list);
    err = results_done(&list, err);
    if (err)
        return err;
    old_remove(r);
    err = each_file(r->part, move_one, r);
    if (!err)
        results_abort(r);
    return err;
}

static int remove_one(void *self, const char *name)
{
    struct results *r = self;
    char path[RESULTS_PATH_MAX];

    if (!join(path, r->part, name))
        unlink(path);
    return 0;
}

void results_abort(struct results *r)
{
    if (!*r->part)
        return;
    each_file(r->part, remove_one, r);
    rmdir(r->part);
    *r->part = '\0';
}
