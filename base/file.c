#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sha2.h>

#include "base/err.h"
#include "base/log.h"

#ifndef PEOSIM_PREFIX
#define PEOSIM_PREFIX "/usr/local"
#endif

static int file_open_read(const char *path, FILE **f)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        log_error_at(path, 0, "cannot read: %s", strerror(errno));
        return errno == ENOENT || errno == ENOTDIR ? ERR_NOTFOUND : ERR_IO;
    }
    if (S_ISDIR(st.st_mode)) {
        log_error_at(path, 0, "is a folder, not a file");
        return ERR_IO;
    }
    *f = fopen(path, "rb");
    if (!*f) {
        log_error_at(path, 0, "cannot read: %s", strerror(errno));
        return ERR_IO;
    }
    return 0;
}

/* Reads until the end or one byte past the limit: st_size says nothing about pipes and devices. */
static int file_slurp(FILE *f, const char *path, size_t max_bytes, char **text, size_t *len)
{
    size_t cap = 0, used = 0, got = 1;
    char *buf = NULL;
    int rc = 0;

    while (got > 0 && used <= max_bytes) {
        size_t want;
        if (used + 2 > cap) {
            char *bigger;
            cap = cap ? cap * 2 : 65536;
            bigger = realloc(buf, cap);
            if (!bigger) {
                rc = ERR_NOMEM;
                goto out;
            }
            buf = bigger;
        }
        want = cap - used - 1;
        if (want > max_bytes + 1 - used)
            want = max_bytes + 1 - used;
        got = fread(buf + used, 1, want, f);
        used += got;
    }
    if (ferror(f)) {
        log_error_at(path, 0, "cannot read: %s", strerror(errno));
        rc = ERR_IO;
    } else if (used > max_bytes) {
        log_error_at(path, 0, "is too big: at most %zu bytes are read", max_bytes);
        rc = ERR_RANGE;
    }
out:
    if (rc) {
        free(buf);
        return rc;
    }
    buf[used] = '\0';
    *text = buf;
    *len = used;
    return 0;
}

int file_read(const char *path, size_t max_bytes, char **text, size_t *len)
{
    FILE *f = NULL;
    int rc = file_open_read(path, &f);

    if (rc)
        return rc;
    rc = file_slurp(f, path, max_bytes, text, len);
    fclose(f);
    return rc;
}

/* gzip -dc, whose input is the open file: no name reaches its command line. 0, or an errno. */
static int gzip_start(int from_fd, int to_fd, pid_t *pid)
{
    *pid = fork();
    if (*pid == 0) {
        char name[] = "gzip", flag[] = "-dc";
        char *argv[] = {name, flag, NULL}, *env[] = {NULL};
        int null = open("/dev/null", O_WRONLY); /* we say what is wrong */

        if (null >= 0 && dup2(null, STDERR_FILENO) >= 0 && dup2(from_fd, STDIN_FILENO) >= 0 &&
            dup2(to_fd, STDOUT_FILENO) >= 0) {
            execve("/usr/bin/gzip", argv, env);
            execve("/bin/gzip", argv, env);
        }
        _exit(127);
    }
    return *pid < 0 ? errno : 0;
}

static int gzip_end(pid_t pid, const char *path)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return ERR_IO;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    log_error("%s: %s", path,
              WIFEXITED(status) && WEXITSTATUS(status) == 127
                  ? "compressed, and gzip is not installed"
                  : "not whole: gzip cannot unpack it");
    return ERR_PARSE;
}

static int gzip_slurp(FILE *packed, const char *path, size_t max_bytes, char **text, size_t *len)
{
    int pipe_fd[2] = {-1, -1}, rc, ended;
    FILE *f = NULL;
    pid_t pid;

    if (pipe2(pipe_fd, O_CLOEXEC) || gzip_start(fileno(packed), pipe_fd[1], &pid)) {
        log_error("%s: cannot start gzip: %s", path, strerror(errno));
        return ERR_IO;
    }
    close(pipe_fd[1]);
    f = fdopen(pipe_fd[0], "rb");
    rc = f ? file_slurp(f, path, max_bytes, text, len) : ERR_NOMEM;
    if (f)
        fclose(f);
    else
        close(pipe_fd[0]);
    ended = gzip_end(pid, path);
    if (!rc && ended) {
        free(*text);
        *text = NULL;
    }
    return rc ? rc : ended;
}

int file_read_unpacked(const char *path, size_t max_bytes, char **text, size_t *len)
{
    unsigned char magic[2] = {0, 0};
    FILE *f = NULL;
    int rc = file_open_read(path, &f);

    if (rc)
        return rc;
    if (pread(fileno(f), magic, 2, 0) == 2 && magic[0] == 0x1f && magic[1] == 0x8b)
        rc = gzip_slurp(f, path, max_bytes, text, len);
    else
        rc = file_slurp(f, path, max_bytes, text, len);
    fclose(f);
    return rc;
}

/* A link is written through, not replaced; a device or pipe cannot be renamed over, so it is
 * written directly (tmp stays NULL). */
static int file_out_paths(struct file_out *out, const char *path)
{
    struct stat st;
    bool exists = stat(path, &st) == 0;

    if (exists && S_ISDIR(st.st_mode)) {
        log_error_at(path, 0, "cannot write: is a folder");
        return ERR_IO;
    }
    out->path = exists ? realpath(path, NULL) : strdup(path);
    if (!out->path)
        return ERR_NOMEM;
    if (exists && !S_ISREG(st.st_mode))
        return 0;
    if (asprintf(&out->tmp, "%s.tmp.%ld", out->path, (long)getpid()) < 0) {
        out->tmp = NULL;
        return ERR_NOMEM;
    }
    return 0;
}

int file_create(struct file_out *out, const char *path)
{
    int rc;

    memset(out, 0, sizeof *out);
    rc = file_out_paths(out, path);
    if (rc == 0) {
        out->f = fopen(out->tmp ? out->tmp : out->path, "w");
        if (!out->f) {
            log_error_at(path, 0, "cannot write: %s", strerror(errno));
            free(out->tmp); /* nothing of ours to remove */
            out->tmp = NULL;
            rc = ERR_IO;
        }
    }
    if (rc)
        file_abort(out);
    return rc;
}

int file_commit(struct file_out *out)
{
    int rc = 0, bad, err;

    /* Flushing again after a failed write fails again, and so tells the reason. */
    errno = 0;
    bad = fflush(out->f) != 0;
    err = errno;
    bad = bad || ferror(out->f);
    if (fclose(out->f) != 0 && !bad) {
        bad = 1;
        err = errno;
    }
    out->f = NULL;
    if (!bad && out->tmp && rename(out->tmp, out->path) != 0) {
        bad = 1;
        err = errno;
    }
    if (bad) {
        log_error_at(out->path, 0, "cannot write: %s",
                     err ? strerror(err) : "a write failed; is the disk full?");
        rc = ERR_IO;
    } else {
        free(out->tmp);
        out->tmp = NULL;
    }
    file_abort(out);
    return rc;
}

void file_abort(struct file_out *out)
{
    if (out->f)
        fclose(out->f);
    if (out->tmp)
        unlink(out->tmp);
    free(out->tmp);
    free(out->path);
    memset(out, 0, sizeof *out);
}

int file_mkdirs(const char *path)
{
    char *copy = strdup(path);
    struct stat st;
    int rc = 0;

    if (!copy)
        return ERR_NOMEM;
    for (char *p = copy + 1; copy[0] && rc == 0; p++) {
        bool end = *p == '\0';
        if (*p != '/' && !end)
            continue;
        *p = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            rc = ERR_IO;
        if (end)
            break;
        *p = '/';
    }
    if (rc) {
        log_error_at(path, 0, "cannot make the folder: %s", strerror(errno));
    } else if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        log_error_at(path, 0, "cannot make the folder: the name is taken by a file");
        rc = ERR_IO;
    }
    free(copy);
    return rc;
}

void file_hash_text(const void *data, size_t len, char hex[65])
{
    SHA2_CTX ctx;

    SHA256Init(&ctx);
    SHA256Update(&ctx, data, len);
    SHA256End(&ctx, hex);
}

int file_hash(const char *path, char hex[65])
{
    FILE *f = NULL;
    int rc = file_open_read(path, &f);

    if (rc)
        return rc;
    fclose(f);
    if (!SHA256File(path, hex)) {
        log_error_at(path, 0, "cannot read: %s", strerror(errno));
        return ERR_IO;
    }
    return 0;
}

/* Takes `candidate` (from malloc, maybe NULL) as the answer when such a file exists. */
static bool file_take(char *candidate, char **path)
{
    struct stat st;

    if (candidate && stat(candidate, &st) == 0 && !S_ISDIR(st.st_mode)) {
        *path = candidate;
        return true;
    }
    free(candidate);
    return false;
}

static char *file_join(const char *a, const char *b, const char *c)
{
    char *s = NULL;

    return asprintf(&s, "%s%s%s", a, b, c) < 0 ? NULL : s;
}

int file_find_installed(const char *name, char **path)
{
    static const char *const from_program[] = {
        "/", "/../", "/../share/peosim/"}; /* the last finds a tree that was moved as a whole */
    const char *home = getenv("PEOSIM_HOME");
    char exe[4096], *slash;
    ssize_t n;

    *path = NULL;
    if (name[0] == '/' || name[0] == '\0')
        return ERR_NOTFOUND;
    if (home && home[0] && file_take(file_join(home, "/", name), path))
        return 0;
    n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = '\0';
    slash = strrchr(exe, '/');
    if (slash)
        *slash = '\0';
    for (size_t i = 0; slash && i < sizeof from_program / sizeof *from_program; i++)
        if (file_take(file_join(exe, from_program[i], name), path))
            return 0;
    return file_take(file_join(PEOSIM_PREFIX, "/share/peosim/", name), path) ? 0 : ERR_NOTFOUND;
}

int file_find_shipped(const char *name, char **path)
{
    *path = NULL;
    return file_take(strdup(name), path) ? 0 : file_find_installed(name, path);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    remove(path);
    return 0;
}

void file_remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int name_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Adds the name to the list, which always has room for its end. */
static char **name_add(char **names, size_t n, const char *name, size_t len)
{
    char **grown = realloc(names, (n + 2) * sizeof *names);

    if (!grown) {
        file_names_free(names);
        return NULL;
    }
    grown[n] = strndup(name, len);
    grown[n + 1] = NULL;
    return grown;
}

char **file_names_installed(const char *witness, const char *ending)
{
    char *path = NULL, **names = NULL;
    size_t n = 0, tail = strlen(ending);
    struct dirent *entry;
    DIR *dir = NULL;

    if (file_find_installed(witness, &path) == 0) {
        *strrchr(path, '/') = 0;
        dir = opendir(path);
    }
    while (dir && (entry = readdir(dir))) {
        size_t len = strlen(entry->d_name);

        if (len <= tail || strcmp(entry->d_name + len - tail, ending) != 0)
            continue;
        names = name_add(names, n, entry->d_name, len - tail);
        if (!names)
            break;
        n++;
    }
    if (dir)
        closedir(dir);
    free(path);
    if (names)
        qsort(names, n, sizeof *names, name_order);
    return names;
}

void file_names_free(char **names)
{
    for (size_t i = 0; names && names[i]; i++)
        free(names[i]);
    free(names);
}

char *file_names_text(const char *witness, const char *ending)
{
    char **names = file_names_installed(witness, ending), *text = NULL;
    size_t size;
    FILE *f = names ? open_memstream(&text, &size) : NULL;

    for (size_t i = 0; f && names[i]; i++)
        fprintf(f, "%s%s", i ? ", " : "", names[i]);
    if (f)
        fclose(f);
    file_names_free(names);
    return text;
}
