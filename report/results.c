#include "report/results.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
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

#define PART_MARK "/.part."
#define NEW_MARK  ".peosim-new." /* hidden, beside the folder: .NAME.peosim-new.PID */

/* A run holds its folder locked as long as it lives: what can be locked was left by one that was
 * killed. */
static void remove_if_left(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        file_remove_tree(path);
    close(fd);
}

/* Is `name` PREFIX, then a process? */
static bool is_left_name(const char *name, const char *prefix)
{
    size_t n = strlen(prefix);

    return strncmp(name, prefix, n) == 0 && name[n] &&
           strspn(name + n, "0123456789") == strlen(name + n);
}

static void remove_left_in(const char *folder, const char *prefix)
{
    char path[2 * RESULTS_PATH_MAX];
    struct dirent *entry;
    DIR *dir = opendir(folder);

    while (dir && (entry = readdir(dir)))
        if (is_left_name(entry->d_name, prefix)) {
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            remove_if_left(path);
        }
    if (dir)
        closedir(dir);
}

/* ".../NAME" -> ".../" and ".NAME.peosim-new.". */
static void new_prefix(const char *folder, char *parent, char *prefix, size_t size)
{
    const char *slash = strrchr(folder, '/');

    snprintf(parent, size, "%.*s", slash ? (int)(slash - folder) + 1 : 2, slash ? folder : "./");
    snprintf(prefix, size, ".%s" NEW_MARK, slash ? slash + 1 : folder);
}

/* Of runs that were killed, while they wrote and while they published. */
static void remove_left(const char *folder)
{
    char parent[RESULTS_PATH_MAX + 32], prefix[RESULTS_PATH_MAX + 32];

    new_prefix(folder, parent, prefix, sizeof parent);
    remove_left_in(folder, &PART_MARK[1]);
    remove_left_in(parent, prefix);
}

int results_open(struct results *r, const char *folder)
{
    size_t n = strlen(folder);
    int err, fd;

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
    remove_left(r->folder);
    snprintf(r->part, sizeof r->part, "%.*s" PART_MARK "%d", (int)n, folder, (int)getpid());
    err = file_mkdirs(r->part);
    if (err)
        return err;
    fd = open(r->part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r->lock = fd >= 0 ? fd + 1 : 0;
    if (fd >= 0)
        flock(fd, LOCK_EX | LOCK_NB); /* where locks do not work, leftovers stay */
    return 0;
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
    /* A writer that met a full disk says ERR_IO and leaves the message to the commit; a file that
     * could not be made has said so. */
    if (f->f && (!err || err == ERR_IO)) {
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

/* Is `name` a line of the list? */
static bool is_listed(const char *list, const char *name)
{
    size_t n = strlen(name);

    for (const char *at = list; at && *at; at = strchr(at, '\n'), at += at != NULL)
        if (strncmp(at, name, n) == 0 && (at[n] == '\n' || !at[n]))
            return true;
    return false;
}

/* What the run before left here, as its list says; "" = nothing. */
static char *old_list(const struct results *r)
{
    char path[RESULTS_PATH_MAX], *text = NULL;
    size_t len;

    if (join(path, r->folder, LIST_NAME) || access(path, R_OK) ||
        file_read(path, LIST_MAX, &text, &len))
        return strdup("");
    return text;
}

struct leaving {
    const struct results *r;
    const char *list;
    bool foreign; /* something in the folder is not a run's */
};

static int look_one(void *self, const char *name)
{
    struct leaving *l = self;

    if (!is_listed(l->list, name) && strcmp(name, LIST_NAME) != 0 &&
        strcmp(name, strrchr(l->r->part, '/') + 1) != 0)
        l->foreign = true;
    return 0;
}

/* Removes those of the old files that the new run did not replace. */
static void old_remove(const struct results *r, char *list, const char *written)
{
    char path[RESULTS_PATH_MAX], *save = NULL;

    for (char *name = strtok_r(list, "\n", &save); name; name = strtok_r(NULL, "\n", &save))
        if (!strchr(name, '/') && !is_listed(written, name) && !join(path, r->folder, name))
            unlink(path);
}

/* The order in which a folder gives its files is nobody's promise: the list is sorted. */
static int list_write(const struct results *r, FILE *f)
{
    struct dirent **entry;
    int n = scandir(r->part, &entry, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        if (strcmp(entry[i]->d_name, ".") && strcmp(entry[i]->d_name, "..") &&
            !strstr(entry[i]->d_name, ".tmp."))
            fprintf(f, "%s\n", entry[i]->d_name);
        free(entry[i]);
    }
    if (n >= 0)
        free(entry);
    return n < 0 ? ERR_IO : 0;
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

/* The new folder takes the old one's place in one step. Only where the old one holds nothing but a
 * run's files, is no link and is not where one stands; false = nothing was changed. */
static bool swap_folders(struct results *r, const char *list)
{
    struct leaving l = {.r = r, .list = list};
    char path[3 * RESULTS_PATH_MAX], real[PATH_MAX], here[PATH_MAX];
    char parent[RESULTS_PATH_MAX + 32], prefix[RESULTS_PATH_MAX + 32];
    struct stat st;

    if (each_file(r->folder, look_one, &l) || l.foreign || lstat(r->folder, &st) ||
        !S_ISDIR(st.st_mode) || !realpath(r->folder, real) || !getcwd(here, sizeof here) ||
        strncmp(here, real, strlen(real)) == 0)
        return false;
    new_prefix(r->folder, parent, prefix, sizeof parent);
    snprintf(path, sizeof path, "%s%s%d", parent, prefix, (int)getpid());
    if (chmod(r->part, st.st_mode & 07777) || rename(r->part, path))
        return false;
    if (renameat2(AT_FDCWD, path, AT_FDCWD, r->folder, RENAME_EXCHANGE)) {
        if (rename(path, r->part))
            log_error("%s: the new results stay in %s: %s", r->folder, path, strerror(errno));
        return false;
    }
    file_remove_tree(path);
    *r->part = '\0';
    return true;
}

/* One by one, each in the place of its forerunner; then what is left of the old ones goes. */
static int move_files(struct results *r, char *list)
{
    char path[RESULTS_PATH_MAX], *written = NULL;
    size_t len;
    int err = join(path, r->part, LIST_NAME);

    if (!err)
        err = file_read(path, LIST_MAX, &written, &len);
    if (!err)
        err = each_file(r->part, move_one, r);
    if (!err)
        old_remove(r, list, written);
    free(written);
    return err;
}

int results_commit(struct results *r)
{
    struct file_out f = {0};
    char *list = old_list(r);
    int err = list ? results_create(r, LIST_NAME, &f) : ERR_NOMEM;

    if (!err)
        err = list_write(r, f.f);
    err = results_done(&f, err);
    if (!err && !swap_folders(r, list))
        err = move_files(r, list);
    if (!err)
        results_abort(r);
    free(list);
    return err;
}

void results_abort(struct results *r)
{
    if (*r->part)
        file_remove_tree(r->part);
    if (r->lock)
        close(r->lock - 1);
    r->lock = 0;
    *r->part = '\0';
}
