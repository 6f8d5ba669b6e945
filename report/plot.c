#include "report/plot.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/watch.h"

extern char **environ;

#define PLOT_MAX_EXTRA  5
#define PLOT_TIMEOUT_MS (120 * 1000)

bool plot_available(void)
{
    const char *path = getenv("PATH");

    while (path && *path) {
        size_t len = strcspn(path, ":");
        char file[4096];
        int n = snprintf(file, sizeof file, "%.*s/gnuplot", (int)len, path);

        if (n > 0 && (size_t)n < sizeof file && !access(file, X_OK))
            return true;
        path += len + (path[len] == ':');
    }
    return false;
}

/* Reads what gnuplot says until it closes its end; the first size - 1 bytes are kept. */
static int collect(int fd, char *said, size_t size)
{
    double until_s = watch_now_s() + PLOT_TIMEOUT_MS * 1e-3;
    size_t used = 0;

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        long left_ms = (long)((until_s - watch_now_s()) * 1e3);
        char chunk[1024];
        ssize_t n;

        if (left_ms <= 0)
            return ERR_TIMEOUT;
        if (poll(&p, 1, (int)left_ms) <= 0)
            continue;
        n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        if ((size_t)n > size - 1 - used)
            n = (ssize_t)(size - 1 - used);
        memcpy(said + used, chunk, (size_t)n);
        used += (size_t)n;
    }
    said[used] = 0;
    return 0;
}

static int spawn(char **argv, int say_fd, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    int err = posix_spawn_file_actions_init(&actions);

    if (err)
        return err;
    /* stdout is for results: what gnuplot prints goes with its complaints. */
    err = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!err)
        err = posix_spawn_file_actions_adddup2(&actions, say_fd, STDOUT_FILENO);
    if (!err)
        err = posix_spawn_file_actions_adddup2(&actions, say_fd, STDERR_FILENO);
    if (!err)
        err = posix_spawnp(pid, "gnuplot", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return err;
}

static int reap(pid_t pid, int *status)
{
    while (waitpid(pid, status, 0) < 0)
        if (errno != EINTR)
            return ERR_IO;
    return 0;
}

/* gnuplot shows the line and a caret under it; one line is enough for a warning. */
static const char *one_line(char *said)
{
    for (char *c = said; *c; c++)
        if (*c == '\n' || *c == '\t')
            *c = ' ';
    return said + strspn(said, " ");
}

static int run(char **argv, const char *script)
{
    char said[600] = "";
    int fd[2], status = 0, err;
    pid_t pid = -1;

    if (pipe2(fd, O_CLOEXEC)) {
        log_warn("cannot start gnuplot: %s", strerror(errno));
        return ERR_IO;
    }
    err = spawn(argv, fd[1], &pid);
    close(fd[1]);
    if (err) {
        log_warn("cannot start gnuplot: %s; pictures are not drawn (Debian: apt install "
                 "gnuplot-nox fonts-dejavu-core)",
                 strerror(err));
        err = err == ENOENT ? ERR_NOTFOUND : ERR_IO;
        goto out;
    }
    err = collect(fd[0], said, sizeof said);
    if (err) {
        kill(pid, SIGKILL);
        log_warn("%s: gnuplot did not finish within %d s", script, PLOT_TIMEOUT_MS / 1000);
    }
    if (reap(pid, &status) && !err)
        err = ERR_IO;
    if (!err && !(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
        log_warn("%s: gnuplot failed: %s", script, one_line(said));
        err = ERR_IO;
    }
out:
    close(fd[0]);
    return err;
}

/* Half a picture is worse than none. */
static void remove_pictures(const char *out)
{
    static const char *const ext[] = {"png", "svg"};

    for (size_t i = 0; i < 2; i++) {
        char path[4096];
        int n = snprintf(path, sizeof path, "%s.%s", out, ext[i]);

        if (n > 0 && (size_t)n < sizeof path)
            unlink(path);
    }
}

/* gnuplot reports no error when the disk is full: a whole picture ends as its format says. */
static bool is_whole(const char *out, const char *ext, const char *end, size_t len)
{
    char path[4096], tail[64] = "";
    size_t n = 0;
    FILE *f;

    snprintf(path, sizeof path, "%s.%s", out, ext);
    f = fopen(path, "rb");
    if (f && !fseek(f, -(long)sizeof tail, SEEK_END))
        n = fread(tail, 1, sizeof tail, f);
    if (f)
        fclose(f);
    return n && memmem(tail, n, end, len);
}

int plot_draw(const char *name, const char *csv, const char *out, const char *title,
              const char *const *extra)
{
    char relative[128], *script = NULL;
    const char *argv[7 + PLOT_MAX_EXTRA] = {"gnuplot", "-c", NULL, csv, out, title};
    int n = 6, err;

    snprintf(relative, sizeof relative, "plots/%s.gp", name);
    err = file_find_shipped(relative, &script);
    if (err) {
        log_warn("%s: not found; the picture %s is not drawn", relative, out);
        return err;
    }
    argv[2] = script;
    for (int i = 0; extra && extra[i] && i < PLOT_MAX_EXTRA; i++)
        argv[n++] = extra[i];
    argv[n] = NULL;
    /* posix_spawn takes char *const[] but does not change the strings. */
    err = run((char **)argv, script);
    if (!err && (!is_whole(out, "png", "IEND", 4) || !is_whole(out, "svg", "</svg>", 6))) {
        log_warn("%s: gnuplot could not write the whole picture", out);
        err = ERR_IO;
    }
    if (err && err != ERR_NOTFOUND)
        remove_pictures(out);
    free(script);
    return err;
}
