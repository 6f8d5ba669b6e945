#include "report/plot.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/watch.h"
#include "model/policy/policy.h"
#include "plan/op_kinds.h"

#define PLOT_MAX_EXTRA  5
#define PLOT_TIMEOUT_MS (120 * 1000)

/* gnuplot runs whatever follows '<' or '|' at the start of a file name, and opens others as they
 * are spelt. It therefore works in a folder of its own, where the table and the pictures have these
 * names; what the user called them it never learns. */
#define PLOT_TABLE "in.csv"
#define PLOT_OUT   "out"
#define PLOT_KINDS "kinds.gp"
#define PLOT_LOADS "loads.csv"

static const struct picture {
    const char *name, *ext, *end; /* a whole file ends so */
} pictures[] = {{PLOT_OUT ".png", "png", "IEND"}, {PLOT_OUT ".svg", "svg", "</svg>"}};
#define NUM_PICTURES (sizeof pictures / sizeof *pictures)

/* Only folders named from the root count: "." or an empty entry of PATH is the folder one happens
 * to stand in, which may be a stranger's. */
static bool find_gnuplot(char *file, size_t size)
{
    const char *path = getenv("PATH");

    while (path && *path) {
        size_t len = strcspn(path, ":");
        int n = snprintf(file, size, "%.*s/gnuplot", (int)len, path);

        if (*path == '/' && n > 0 && (size_t)n < size && !access(file, X_OK))
            return true;
        path += len + (path[len] == ':');
    }
    return false;
}

bool plot_available(void)
{
    char file[4096];

    return find_gnuplot(file, sizeof file);
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

/* In the folder `work`, which is its home too: gnuplot reads no settings of the user's, and font
 * caches are written there if anywhere. */
static int spawn(char **argv, const char *program, const char *work, int say_fd, pid_t *pid)
{
    char home[4200], cache[4200];
    char *env[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8", home, cache, NULL};
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC), err = null < 0 ? errno : 0;

    if (err)
        return err;
    snprintf(home, sizeof home, "HOME=%s", work);
    snprintf(cache, sizeof cache, "XDG_CACHE_HOME=%s", work);
    /* fork, not posix_spawn, which can change the folder only from glibc 2.29 on. stdout is for
     * results: what gnuplot prints goes with its complaints. */
    *pid = fork();
    if (*pid == 0) {
        if (dup2(null, STDIN_FILENO) >= 0 && dup2(say_fd, STDOUT_FILENO) >= 0 &&
            dup2(say_fd, STDERR_FILENO) >= 0 && chdir(work) == 0)
            execve(program, argv, env);
        _exit(127);
    }
    err = *pid < 0 ? errno : 0;
    close(null);
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

static int run(const char *program, char **argv, const char *work, const char *script)
{
    char said[600] = "";
    int fd[2], status = 0, err;
    pid_t pid = -1;

    if (pipe2(fd, O_CLOEXEC)) {
        log_warn("cannot start gnuplot: %s", strerror(errno));
        return ERR_IO;
    }
    err = spawn(argv, program, work, fd[1], &pid);
    close(fd[1]);
    if (err) {
        log_warn("cannot start %s: %s", program, strerror(err));
        err = ERR_IO;
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

/* gnuplot reports no error when the disk is full: a whole picture ends as its format says. */
static bool is_whole(const char *path, const char *end)
{
    char tail[64] = "";
    size_t n = 0;
    FILE *f = fopen(path, "rb");

    if (f && !fseek(f, -(long)sizeof tail, SEEK_END))
        n = fread(tail, 1, sizeof tail, f);
    if (f)
        fclose(f);
    return n && memmem(tail, n, end, strlen(end));
}

/* Controls and bytes that are no UTF-8 would end a title early or not be drawn at all. */
static char *printable(const char *text)
{
    char *copy = strdup(text);

    for (unsigned char *c = (unsigned char *)copy; c && *c;) {
        int more = *c < 0x80 ? 0 : *c >= 0xf0 && *c < 0xf5 ? 3 : *c >= 0xe0 && *c < 0xf0 ? 2 : 1;
        bool good = *c >= ' ' && *c != 0x7f && (*c < 0x80 || *c >= 0xc2) && *c < 0xf5;

        for (int i = 1; i <= more && good; i++)
            good = (c[i] & 0xc0) == 0x80;
        if (!good)
            *c = ' ';
        c += good ? more + 1 : 1;
    }
    return copy;
}

/* A new folder beside the pictures, so that they can be renamed into place, with the table in it.
 */
static int work_open(const char *csv, const char *out, char **work)
{
    const char *slash = strrchr(out, '/');
    char *table = realpath(csv, NULL), *link = NULL, *dir = NULL, *folder = NULL;
    int rc = ERR_NOMEM;

    if (!table) {
        log_warn("%s: %s; the picture %s is not drawn", csv, strerror(errno), out);
        return ERR_IO;
    }
    if (asprintf(&folder, "%.*s", slash ? (int)(slash - out + 1) : 2, slash ? out : "./") < 0 ||
        asprintf(&dir, "%s.plot-XXXXXX", folder) < 0)
        goto out;
    rc = ERR_IO;
    if (!mkdtemp(dir)) {
        log_warn("%s: %s; the picture %s is not drawn", folder, strerror(errno), out);
        goto out;
    }
    *work = realpath(dir, NULL);
    if (!*work || asprintf(&link, "%s/" PLOT_TABLE, *work) < 0 || symlink(table, link)) {
        log_warn("%s: %s; the picture %s is not drawn", dir, strerror(errno), out);
        free(*work);
        *work = NULL;
        file_remove_tree(dir);
        goto out;
    }
    rc = 0;
out:
    free(table);
    free(link);
    free(folder);
    free(dir);
    return rc;
}

/* What plots/style.gp and lanes.gp know of the program's tables, as functions of gnuplot: the place
 * of a policy among the policies (0 = none, -1 = no policy) and the rows of plan/op_kinds.h.
 * Colour: an index of the palette, -1 = grey, -2 = no kind of ours. */
static void kinds_write(FILE *f)
{
    fputs("policy_index(s) = ", f);
    for (size_t i = 0; i < policy_count(); i++)
        fprintf(f, "s eq '%s' ? %zu : ", policy_at(i)->name, i);
    fputs("-1\nkind_colour(s) = ", f);
    for (int k = 0; k < OP_KIND_COUNT; k++)
        fprintf(f, "s eq '%s' ? %d : ", plan_op_traits((enum plan_op_kind)k)->text,
                plan_part_colour(plan_op_traits((enum plan_op_kind)k)->part));
    fputs("-2\nkind_brief(s) = ", f);
    for (int k = 0; k < OP_KIND_COUNT; k++)
        fprintf(f, "s eq '%s' ? '%s' : ", plan_op_traits((enum plan_op_kind)k)->text,
                plan_op_traits((enum plan_op_kind)k)->brief);
    fputs("s[1:6]\nkind_is_half(s) = 0", f);
    for (int k = 0; k < OP_KIND_COUNT; k++)
        if (plan_op_traits((enum plan_op_kind)k)->network == OP_NET_SENDS ||
            plan_op_traits((enum plan_op_kind)k)->network == OP_NET_RECVS)
            fprintf(f, " || s eq '%s'", plan_op_traits((enum plan_op_kind)k)->text);
    fputc('\n', f);
}

static int kinds_file(const char *work, bool loads)
{
    char path[4096];
    FILE *f;

    if ((size_t)snprintf(path, sizeof path, "%s/" PLOT_KINDS, work) >= sizeof path)
        return ERR_RANGE;
    f = fopen(path, "we");
    if (!f)
        return ERR_IO;
    kinds_write(f);
    fprintf(f, "loads = '%s'\n", loads ? PLOT_LOADS : "");
    return fclose(f) ? ERR_IO : 0;
}

/* Beside a table of spans, NAMEspans.csv, may lie the loads of its links, NAMEcounters.csv. */
static bool loads_link(const char *csv, const char *work)
{
    static const char spans[] = "spans.csv";
    size_t len = strlen(csv), stem = len - (sizeof spans - 1);
    char *table = NULL, *real = NULL, *link = NULL;
    bool there = false;

    if (len < sizeof spans - 1 || strcmp(csv + stem, spans) ||
        asprintf(&table, "%.*scounters.csv", (int)stem, csv) < 0)
        return false;
    real = realpath(table, NULL);
    there = real && asprintf(&link, "%s/" PLOT_LOADS, work) >= 0 && !symlink(real, link);
    free(table);
    free(real);
    free(link);
    return there;
}

/* Only whole pictures take their places. */
static int publish(const char *work, const char *out)
{
    char *from[NUM_PICTURES] = {0}, *to[NUM_PICTURES] = {0};
    int rc = 0;

    for (size_t i = 0; i < NUM_PICTURES && rc == 0; i++)
        if (asprintf(&from[i], "%s/%s", work, pictures[i].name) < 0 ||
            asprintf(&to[i], "%s.%s", out, pictures[i].ext) < 0)
            rc = ERR_NOMEM;
    for (size_t i = 0; i < NUM_PICTURES && rc == 0; i++)
        if (!is_whole(from[i], pictures[i].end)) {
            log_warn("%s: gnuplot could not write the whole picture", to[i]);
            rc = ERR_IO;
        }
    for (size_t i = 0; i < NUM_PICTURES && rc == 0; i++)
        if (rename(from[i], to[i])) {
            log_warn("%s: cannot write the picture: %s", to[i], strerror(errno));
            rc = ERR_IO;
        }
    for (size_t i = 0; i < NUM_PICTURES; i++) {
        free(from[i]);
        free(to[i]);
    }
    return rc;
}

/* From the root, so that no folder's name can look like a command. */
static int find_script(const char *name, char **script)
{
    char relative[128], *found = NULL;
    int err;

    snprintf(relative, sizeof relative, "plots/%s.gp", name);
    err = file_find_installed(relative, &found);
    if (!err && !(*script = realpath(found, NULL)))
        err = ERR_NOTFOUND;
    free(found);
    return err;
}

int plot_draw(const char *name, const char *csv, const char *out, const char *title,
              const char *const *extra)
{
    char program[4096], *script = NULL, *work = NULL, *text[1 + PLOT_MAX_EXTRA] = {0};
    const char *argv[8 + PLOT_MAX_EXTRA] = {"gnuplot", "-d", "-c", NULL, PLOT_TABLE, PLOT_OUT};
    int n = 6, err = find_script(name, &script);

    if (err) {
        log_warn("plots/%s.gp: not found beside the program or in $PEOSIM_HOME; the picture %s is "
                 "not drawn",
                 name, out);
        return err;
    }
    if (!find_gnuplot(program, sizeof program)) {
        log_warn("there is no gnuplot; pictures are not drawn (Debian: apt install gnuplot-nox "
                 "fonts-dejavu-core)");
        err = ERR_NOTFOUND;
        goto out;
    }
    argv[3] = script;
    for (int i = 0; i == 0 || (extra && extra[i - 1] && i <= PLOT_MAX_EXTRA); i++)
        argv[n++] = text[i] = printable(i ? extra[i - 1] : title);
    argv[n] = NULL;
    err = work_open(csv, out, &work);
    if (!err)
        err = kinds_file(work, loads_link(csv, work));
    /* execve takes char *const[] but does not change the strings. */
    if (!err)
        err = run(program, (char **)argv, work, script);
    if (!err)
        err = publish(work, out);
out:
    if (work)
        file_remove_tree(work);
    for (int i = 0; i <= PLOT_MAX_EXTRA; i++)
        free(text[i]);
    free(work);
    free(script);
    return err;
}
