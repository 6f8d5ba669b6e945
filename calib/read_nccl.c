/* nccl-tests: the printed table, in the layouts of all its versions, and the file of -J.
 *
 * A table's columns are those its header names, counted from the right where a version leaves redop
 * or root out: a time is known by its place, not by its looks, since from five digits on it has no
 * decimals. Out-of-place times are taken; in-place ones where there are no others. */
#include <ctype.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/doc.h"
#include "base/err.h"
#include "base/log.h"
#include "calib/log_line.h"
#include "calib/read.h"

#define MAX_US     1e7
#define MAX_WORDS  40
#define MAX_DEVICE (1 << 16)

static const struct {
    const char *program, *name;
} collectives[] = {{"all_reduce_perf", "all_reduce"},
                   {"all_gather_perf", "all_gather"},
                   {"reduce_scatter_perf", "reduce_scatter"},
                   {"alltoall_perf", "all_to_all"},
                   {"all_to_all_perf", "all_to_all"},
                   {"alltoallv_perf", "all_to_allv"},
                   {"broadcast_perf", "broadcast"},
                   {"reduce_perf", "reduce"},
                   {"gather_perf", "gather"},
                   {"scatter_perf", "scatter"},
                   {"hypercube_perf", "hypercube"},
                   {"sendrecv_perf", "sendrecv"}};

/* The program whose name ends at `end` ("..._perf"); in_name: a file's name may put words before.
 */
static const char *collective_ending(const char *text, const char *end, bool in_name)
{
    const char *best = NULL;
    size_t longest = 0;

    for (size_t i = 0; i < sizeof collectives / sizeof *collectives; i++) {
        size_t n = strlen(collectives[i].program);
        const char *from = end - n;

        if ((size_t)(end - text) < n || memcmp(from, collectives[i].program, n) != 0 ||
            n <= longest)
            continue;
        if (from > text && !in_name && (isalnum((unsigned char)from[-1]) || from[-1] == '_'))
            continue;
        longest = n;
        best = collectives[i].name;
    }
    return best;
}

/* The last program named in the text; *named: some "..._perf" is there, known or not. */
static const char *collective_in(const char *text, bool in_name, bool *named)
{
    const char *found = NULL;

    *named = false;
    for (const char *p = text; (p = strstr(p, "_perf")); p += 5) {
        if (isalnum((unsigned char)p[5]) || (p[5] == '_' && !in_name))
            continue;
        *named = true;
        found = collective_ending(text, p + 5, in_name);
    }
    return found;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* "alltoall", "all_to_all_perf" ...: a collective as users call it; NULL = unknown. */
static const char *collective_named(const char *name)
{
    for (size_t i = 0; name && i < sizeof collectives / sizeof *collectives; i++)
        if (strcmp(name, collectives[i].name) == 0 || strcmp(name, collectives[i].program) == 0 ||
            (strncmp(name, collectives[i].program, strlen(name)) == 0 &&
             strcmp(collectives[i].program + strlen(name), "_perf") == 0))
            return collectives[i].name;
    return NULL;
}

/* What the user says, else what the file is called. */
static const char *collective_told(const char *path, const struct data_hint *hint)
{
    bool named;

    return hint->collective ? collective_named(hint->collective)
                            : collective_in(base_name(path), true, &named);
}

bool read_nccl_matches(const char *text)
{
    return strstr(text, "# nThread ") || strstr(text, "# nccl-tests version") ||
           strstr(text, "# Collective test starting:") || strstr(text, " redop ") ||
           strstr(text, "  algbw  busbw ");
}

bool read_nccl_json_matches(const char *text)
{
    while (*text == ' ' || *text == '\n' || *text == '\r' || *text == '\t')
        text++;
    return *text == '{' && strstr(text, "\"nccl_version\"");
}

/* One "# Rank" line. */
struct device {
    int group, rank;
    long pid;
    uint64_t host;
};

/* What a table's columns are. */
struct layout {
    int body;   /* columns from a time to the next or to the end */
    int groups; /* times per row */
    bool cpu;   /* times of the host (-C) */
    double unit_us;
};

/* One run of one program, of which a file may hold several. */
struct section {
    struct data_set *set;
    const struct data_hint *hint;
    const char *coll;  /* what it says of itself */
    const char *only;  /* the one collective that the whole file names */
    bool several;      /* the file names more than one */
    bool unknown;      /* it names a program that is none of nccl-tests' */
    bool in_header[3]; /* nThread, version, starting: a second of a kind begins the next section */
    int line, rows;    /* of the first header line; rows read or refused */
    int per_process;   /* GPUs: threads * GPUs of a thread; 0 = not said */
    struct device *device;
    size_t num_devices, cap;
    bool cut;     /* the list of devices ends in "..." */
    char gpu[16]; /* "h200"; "" = not said */
    int gpu_line;
    bool mixed;
    struct layout layout;
    bool has_layout;
    double pending_bytes; /* of a row whose times another program's line cut off; 0 = none */
    int pending_line;
    int ranks, nodes; /* 0 = not known yet */
};

static void section_reset(struct section *s)
{
    struct section kept = *s;

    *s = (struct section){.set = kept.set,
                          .hint = kept.hint,
                          .only = kept.only,
                          .several = kept.several,
                          .device = kept.device,
                          .cap = kept.cap};
}

static uint64_t text_hash(const char *s)
{
    uint64_t h = 1469598103934665603ull;

    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211ull;
    return h;
}

/* "NVIDIA H100 80GB HBM3" -> "h100"; PCIe and NVL cards are other machines and say so. */
void read_gpu_name(const char *text, char *out, size_t size)
{
    size_t n;
    const char *form = "";

    for (const char *skip = "NVIDIA "; *skip && strncmp(text, "NVIDIA ", 7) == 0; skip = "")
        text += 7;
    if (strncmp(text, "Tesla ", 6) == 0)
        text += 6;
    for (n = 0; n + 1 < size && isalnum((unsigned char)text[n]); n++)
        out[n] = (char)tolower((unsigned char)text[n]);
    out[n] = '\0';
    if (strstr(text, "PCIe") || strstr(text, "PCIE"))
        form = "-pcie";
    else if (strstr(text, " NVL"))
        form = "-nvl";
    if (n > 0 && n + strlen(form) < size)
        snprintf(out + n, size - n, "%s", form);
}

static void note_gpu(struct section *s, const char *text, int line)
{
    char gpu[sizeof s->gpu];

    read_gpu_name(text, gpu, sizeof gpu);
    if (!gpu[0] || strcmp(gpu, s->gpu) == 0)
        return;
    s->mixed = s->mixed || s->gpu[0];
    if (!s->gpu[0])
        s->gpu_line = line;
    snprintf(s->gpu, sizeof s->gpu, "%s", gpu);
}

static int add_device(struct section *s, struct device d)
{
    if (s->num_devices == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 64;
        struct device *grown = cap <= MAX_DEVICE ? realloc(s->device, cap * sizeof *grown) : NULL;

        if (!grown)
            return ERR_NOMEM;
        s->device = grown;
        s->cap = cap;
    }
    s->device[s->num_devices++] = d;
    return 0;
}

static int device_line(struct section *s, const char *text, int line)
{
    char host[256] = "";
    struct device d = {0};
    int at = 0, index;

    if (sscanf(text, "# Rank %d Group %d Pid %ld on %255s device %d [%*[^]]] %n", &d.rank, &d.group,
               &d.pid, host, &index, &at) < 5 &&
        sscanf(text, "# Rank %d Pid %ld on %255s device %d [%*[^]]] %n", &d.rank, &d.pid, host,
               &index, &at) < 4)
        return 0;
    d.host = text_hash(host);
    if (at > 0)
        note_gpu(s, text + at, line);
    return add_device(s, d);
}

static int device_compare(const void *a, const void *b)
{
    const struct device *x = a, *y = b;
    int c = (x->group > y->group) - (x->group < y->group);

    if (c == 0)
        c = (x->rank > y->rank) - (x->rank < y->rank);
    if (c == 0)
        c = (x->host > y->host) - (x->host < y->host);
    return c ? c : (x->pid > y->pid) - (x->pid < y->pid);
}

/* Ranks and hosts of the first group. Ranks that are missing from the list, or listed twice, leave
 * the count unknown. */
static void count_devices(struct section *s)
{
    size_t n = 0, hosts = 0, processes = 0;

    if (s->num_devices == 0)
        return;
    qsort(s->device, s->num_devices, sizeof *s->device, device_compare);
    while (n < s->num_devices && s->device[n].group == s->device[0].group) {
        const struct device *d = &s->device[n];
        bool new_host = true, new_process = true;

        if (d->rank != (int)n)
            return;
        for (size_t i = n; i-- > 0 && (new_host || new_process);) {
            new_host = new_host && s->device[i].host != d->host;
            new_process =
                new_process && (s->device[i].host != d->host || s->device[i].pid != d->pid);
        }
        hosts += new_host;
        processes += new_process;
        n++;
    }
    if (s->cut || (s->per_process > 0 && n != processes * (size_t)s->per_process))
        return;
    s->ranks = (int)n;
    s->nodes = (int)hosts;
}

static int missing(const struct section *s, int line, const char *what)
{
    log_error_at(s->set->path, line, "%s", what);
    return ERR_PARSE;
}

static int find_collective(struct section *s, int line)
{
    const char *told = collective_told(s->set->path, s->hint);

    if (!s->coll && !s->unknown && s->only && !s->several)
        s->coll = s->only;
    if (!s->coll && (s->hint->collective || !(s->unknown || s->several)))
        s->coll = told;
    if (!s->coll)
        return missing(s, line,
                       s->unknown && !s->hint->collective
                           ? "the program named here is none of nccl-tests'; give --collective if "
                             "it is one of them"
                           : "no header says which collective this is; give --collective or name "
                             "the file after the program (alltoall_perf.txt)");
    if (s->hint->collective && told != s->coll && (!told || strcmp(told, s->coll) != 0)) {
        log_error_at(s->set->path, line, "this is %s, but --collective says %s", s->coll,
                     s->hint->collective);
        return ERR_PARSE;
    }
    return 0;
}

static int find_ranks(struct section *s, int line)
{
    int per_node = s->hint->ranks_per_node;

    count_devices(s);
    if (s->ranks == 0 && s->hint->ranks > 0)
        s->ranks = s->hint->ranks;
    if (s->ranks == 0)
        return missing(
            s, line,
            s->num_devices
                ? "the list of devices is not whole, so the number of GPUs is not known; "
                  "give --ranks"
                : "no header says how many GPUs took part; give --ranks");
    if (s->ranks < 2)
        return missing(s, line, "one GPU took part, so nothing was sent (built without MPI?)");
    if (s->nodes == 0 && per_node > 0 && s->ranks % per_node != 0)
        return missing(s, line, "--ranks is no multiple of --ranks-per-node");
    if (s->nodes == 0 && per_node > 0)
        s->nodes = s->ranks > per_node ? s->ranks / per_node : 1;
    if (s->nodes == 0 && s->ranks > 8)
        return missing(s, line,
                       "no header says on how many hosts these GPUs are; give "
                       "--ranks-per-node");
    if (s->nodes == 0)
        s->nodes = 1;
    return 0;
}

/* The profile that the rows may go to. Without --system the log's own GPU must be the profile's. */
static int find_system(struct section *s, int line)
{
    const char *profile = s->hint->profile;
    size_t n = strlen(s->gpu);

    if (s->hint->system) {
        snprintf(s->gpu, sizeof s->gpu, "%.15s", s->hint->system);
        return 0;
    }
    if (s->mixed)
        return missing(s, s->gpu_line, "GPUs of several kinds took part; give --system");
    if (!s->gpu[0] || !profile)
        return 0;
    /* "h200-own" is an H200 too. */
    if (strncmp(profile, s->gpu, n) == 0 && (!profile[n] || profile[n] == '-')) {
        snprintf(s->gpu, sizeof s->gpu, "%.15s", profile);
        return 0;
    }
    log_error_at(
        s->set->path, s->gpu_line ? s->gpu_line : line,
        "this ran on %s, and the profile is of %s; give --system %s to use it all the same", s->gpu,
        profile, profile);
    return ERR_DATA;
}

/* Before the first row of a section: what all its rows share. */
static int section_begin(struct section *s, int line)
{
    int rc = find_collective(s, s->line ? s->line : line);

    if (rc == 0)
        rc = find_ranks(s, s->line ? s->line : line);
    if (rc == 0)
        rc = find_system(s, line);
    if (rc == 0 && s->nodes > 1)
        log_warn_at(s->set->path, s->line ? s->line : line,
                    "%s of %d GPUs ran on %d hosts: kept apart from tables of one node, and no law "
                    "is fitted to it",
                    s->coll, s->ranks, s->nodes);
    return rc;
}

static int add_row(struct section *s, int line, double bytes, double us, double algbw_GBps)
{
    struct data_row r = {.law = DATA_COLLECTIVE,
                         .line = line,
                         .rounds = 1,
                         .bytes = bytes,
                         .latency_us = us,
                         .reference = true};
    int rc = s->rows++ == 0 ? section_begin(s, line) : 0;
    double moved = us * algbw_GBps * 1e3;

    if (rc != 0 || bytes == 0) /* size 0 is printed where a size is too small to share out */
        return rc;
    if (!(bytes > 0)) {
        data_bad(s->set, line, "no size");
        return 0;
    }
    if (s->layout.cpu) {
        data_bad(s->set, line, "a time of the host (-C), not of the GPUs");
        return 0;
    }
    if (!isfinite(us) || us <= 0 || us > MAX_US) {
        data_bad(s->set, line, "a time of %g us", us);
        return 0;
    }
    /* Versions count an all-gather's size once or per rank, and round: no more than that. */
    if (algbw_GBps > 0.05 && (moved > 2.0 * s->ranks * bytes || moved < bytes / (2.0 * s->ranks))) {
        data_bad(s->set, line, "%g us and %g GB/s do not belong to one transfer of %g bytes", us,
                 algbw_GBps, bytes);
        return 0;
    }
    r.ranks = s->ranks;
    r.nodes = s->nodes;
    snprintf(r.system, sizeof r.system, "%s", s->gpu);
    snprintf(r.coll, sizeof r.coll, "%s", s->coll);
    if (s->nodes > 1)
        snprintf(r.group, sizeof r.group, "%s x%d on %d hosts", r.coll, r.ranks, r.nodes);
    else
        snprintf(r.group, sizeof r.group, "%s x%d", r.coll, r.ranks);
    return data_add(s->set, &r) ? 0 : ERR_NOMEM;
}

struct words {
    char *word[MAX_WORDS];
    int n;
};

static void words_of(char *text, struct words *w)
{
    char *save = NULL;

    w->n = 0;
    for (char *t = strtok_r(text, " \t", &save); t && w->n < MAX_WORDS;
         t = strtok_r(NULL, " \t", &save))
        w->word[w->n++] = t;
}

static bool is_number(const char *s, double *x)
{
    char *end;

    if (!isdigit((unsigned char)*s) && *s != '-' && *s != '.')
        return false;
    *x = strtod(s, &end);
    return end != s && !*end;
}

static bool is_whole(const char *s)
{
    size_t digits = strspn(s, "0123456789");

    return digits > 0 && digits < 16 && !s[digits];
}

/* "2026-01-31" "10:00:00", behind the columns where asked for (-T). */
static bool is_time_of_day(const struct words *w)
{
    return w->n > 2 && strlen(w->word[w->n - 2]) == 10 && w->word[w->n - 2][4] == '-' &&
           strlen(w->word[w->n - 1]) == 8 && w->word[w->n - 1][2] == ':';
}

/* "# size count type redop root time algbw busbw #wrong time ...": from the first version's "bytes
 * N type op time algbw busbw res" (in ms) to per-iteration reports. */
static bool layout_line(struct section *s, char *text)
{
    struct layout l = {.unit_us = 1};
    struct words w;
    int first = 0, second = 0, end;

    words_of(text + 1, &w);
    if (w.n < 6 || (strcmp(w.word[0], "size") != 0 && strcmp(w.word[0], "bytes") != 0))
        return false;
    end = w.n - (strcmp(w.word[w.n - 1], "timestamp") == 0);
    for (int i = 1; i < end; i++)
        if (strcmp(w.word[i], "time") == 0 || strcmp(w.word[i], "cputime") == 0) {
            l.cpu = l.cpu || w.word[i][0] == 'c';
            l.groups++;
            if (!first)
                first = i;
            else if (!second)
                second = i;
        }
    if (!first)
        return false;
    l.body = (second ? second : end) - first;
    l.unit_us = w.word[0][0] == 'b' ? 1e3 : 1;
    s->layout = l;
    s->has_layout = true;
    return true;
}

/* The time among the words from `at` on, which are all that a row holds behind its type. */
static int time_index(const struct section *s, const struct words *w, int at)
{
    static const int bodies[] = {4, 8};
    int left = w->n - at;
    double x;

    if (left > 0 && !is_number(w->word[at], &x) && strcmp(w->word[at], "N/A") != 0) {
        at++; /* redop */
        left--;
    }
    for (int i = 0; i < 2; i++) {
        int body = s->has_layout ? s->layout.body : bodies[i];

        for (int groups = 2; groups >= 1; groups--)
            for (int root = 0; root < 2; root++)
                if (left == groups * body + root)
                    return at + root;
    }
    return -1;
}

/* Moves `at` over what an unknown launcher may have put before the row. */
static bool row_begins(const struct words *w, int *at)
{
    for (*at = 0; *at < 4 && *at + 3 <= w->n; ++*at)
        if (is_whole(w->word[*at]) && is_whole(w->word[*at + 1]) &&
            isalpha((unsigned char)w->word[*at + 2][0]))
            return true;
    return false;
}

/* A row that ends in NCCL's own words waits for its times, unless some of them came before. */
static void cut_row(struct section *s, const struct words *w, int at, double bytes, int line)
{
    int numbers = 0, i;
    double x;

    for (i = at; i < w->n && strcmp(w->word[i], "NCCL") != 0; i++)
        numbers += is_number(w->word[i], &x);
    s->pending_bytes = i < w->n && numbers <= 1 ? bytes : 0;
    s->pending_line = line;
    if (s->pending_bytes <= 0)
        data_bad(s->set, line,
                 i < w->n ? "another program's line cuts this row"
                          : "the columns are not those of the header");
}

static int table_row(struct section *s, struct words *w, int line, bool *taken)
{
    double bytes, us, algbw = 0;
    int at, t;

    *taken = row_begins(w, &at);
    if (!*taken)
        return 0;
    if (is_time_of_day(w))
        w->n -= 2;
    bytes = strtod(w->word[at], NULL);
    t = time_index(s, w, at + 3);
    if (t >= 0 && is_number(w->word[t], &us)) {
        if (t + 1 < w->n && !is_number(w->word[t + 1], &algbw))
            algbw = 0;
        return add_row(s, line, bytes, us * (s->has_layout ? s->layout.unit_us : 1), algbw);
    }
    cut_row(s, w, at + 3, bytes, line);
    return 0;
}

/* The times of a row that NCCL's own words cut in two. */
static int pending_row(struct section *s, const struct words *w)
{
    double bytes = s->pending_bytes, us, algbw = 0, x;
    int body = s->has_layout ? s->layout.body : 4;

    if (w->n % body > 1 || w->n < body || !is_number(w->word[w->n % body], &us))
        return 0;
    for (int i = 0; i < w->n; i++)
        if (!is_number(w->word[i], &x) && strcmp(w->word[i], "N/A") != 0)
            return 0;
    is_number(w->word[w->n % body + 1], &algbw);
    s->pending_bytes = 0;
    return add_row(s, s->pending_line, bytes, us * (s->has_layout ? s->layout.unit_us : 1), algbw);
}

static void pending_end(struct section *s)
{
    if (s->pending_bytes > 0)
        data_bad(s->set, s->pending_line, "another program's line cuts this row");
    s->pending_bytes = 0;
}

/* A name of a program; it is the present section's before its rows and the next one's after. */
static void note_program(struct section *s, const char *text, int line)
{
    bool named;
    const char *coll = collective_in(text, false, &named);

    if (!named)
        return;
    if (s->rows > 0) {
        pending_end(s);
        section_reset(s);
    }
    if (!s->line)
        s->line = line;
    s->coll = coll;
    s->unknown = !coll;
}

static int header_line(struct section *s, char *text, int line)
{
    static const char *const marks[] = {"# nThread ", "# nccl-tests version",
                                        "# Collective test starting:"};
    const char *at;
    int threads, gpus;

    if (strstr(text, "Collective test concluded"))
        return 0;
    for (int i = 0; i < 3; i++)
        if (strncmp(text, marks[i], strlen(marks[i])) == 0) {
            if (s->in_header[i] || s->rows > 0) {
                pending_end(s);
                section_reset(s);
            }
            s->in_header[i] = true;
            if (!s->line)
                s->line = line;
        }
    if (sscanf(text, "# nThread %d nGpus %d", &threads, &gpus) == 2 && threads > 0 && gpus > 0 &&
        threads < 1024 && gpus < 1024)
        s->per_process = threads * gpus;
    at = text + 1 + strspn(text + 1, " ");
    if (strncmp(at, "Rank ", 5) == 0)
        return device_line(s, text, line);
    if (strncmp(at, "...", 3) == 0)
        s->cut = true;
    note_program(s, text, line);
    layout_line(s, text);
    return 0;
}

static int any_line(struct section *s, char *text, int line)
{
    char copy[LOG_LINE_MAX];
    struct words w;
    bool taken;
    char *at = text + strspn(text, " \t");
    int rc;

    if (*at == '#')
        return header_line(s, at, line);
    if (strncmp(at, "...", 3) == 0 && s->num_devices > 0 && s->rows == 0)
        s->cut = true;
    snprintf(copy, sizeof copy, "%s", text);
    words_of(copy, &w);
    if (w.n == 0)
        return 0;
    rc = table_row(s, &w, line, &taken);
    if (taken || strstr(text, "NCCL INFO") || strstr(text, "NCCL WARN"))
        return rc;
    if (s->pending_bytes > 0)
        return pending_row(s, &w);
    note_program(s, text, line);
    return 0;
}

/* Is one collective named in the whole text, or are several? */
static void name_only(struct section *s, const char *text)
{
    struct log_lines l;
    bool named;

    for (log_lines_open(&l, text); log_lines_next(&l);) {
        const char *coll = collective_in(l.text, false, &named);

        if (!named || strstr(l.text, "NCCL INFO"))
            continue;
        s->several = s->several || (s->only && coll != s->only);
        s->only = coll ? coll : s->only;
    }
}

bool read_nccl_bare(const char *text, const char *path, const struct data_hint *hint)
{
    struct section s = {0};
    struct log_lines l;
    struct words w;
    int at;

    if (!collective_told(path, hint) && !strstr(text, "<stdout>:"))
        return false;
    log_lines_open(&l, text);
    while (log_lines_next(&l)) {
        words_of(l.text, &w);
        if (w.n > 0)
            return row_begins(&w, &at) && time_index(&s, &w, at + 3) > 0;
    }
    return false;
}

int read_nccl(struct data_set *set, const char *text, const struct data_hint *hint)
{
    struct section s = {.set = set, .hint = hint};
    struct log_lines l;
    int rc = 0;

    set->format = "nccl_tests";
    set->runs = true;
    name_only(&s, text);
    for (log_lines_open(&l, text); rc == 0 && log_lines_next(&l);)
        rc = any_line(&s, l.text, l.line);
    pending_end(&s);
    if (rc == 0 && set->n == 0 && set->bad == 0) {
        rc = s.rows == 0 ? find_collective(&s, s.line ? s.line : 1) : 0;
        if (rc == 0)
            log_error_at(set->path, 0, "no row of a table of nccl-tests is in it");
        rc = rc ? rc : ERR_DATA;
    }
    free(s.device);
    return rc;
}

static double json_number(const struct doc_node *map, const char *key)
{
    const struct doc_node *node = map && map->type == DOC_MAP ? doc_get(map, key) : NULL;
    double x = NAN;

    return node && doc_to_double(node, &x) == 0 ? x : NAN;
}

static const char *json_text(const struct doc_node *map, const char *key)
{
    const struct doc_node *node = map && map->type == DOC_MAP ? doc_get(map, key) : NULL;

    return node && node->type == DOC_SCALAR ? node->text : "";
}

static void json_collective(struct section *s, const struct doc_node *root)
{
    const struct doc_node *args = doc_get(root, "args");

    for (const struct doc_node *a = args && args->type == DOC_LIST ? args->child : NULL; a;
         a = a->next)
        if (a->type == DOC_SCALAR && !s->coll && !s->unknown)
            note_program(s, a->text, 1);
    s->line = 1;
}

/* Versions list the first GPU of each process, which has threads * GPUs of them, or every GPU. */
static int json_devices(struct section *s, const struct doc_node *root)
{
    const struct doc_node *config = doc_get(root, "config");
    const struct doc_node *list =
        config && config->type == DOC_MAP ? doc_get(config, "devices") : NULL;
    double threads = json_number(config, "nthreads"), gpus = json_number(config, "ngpus");
    int per_process =
        threads >= 1 && gpus >= 1 && threads * gpus < 1024 ? (int)(threads * gpus) : 1;
    int rc = 0, n = 0;
    bool every_gpu = false;

    for (const struct doc_node *d = list && list->type == DOC_LIST ? list->child : NULL; d;
         d = d->next) {
        every_gpu = every_gpu || (n == 1 && json_number(d, "rank") == 1);
        n++;
        note_gpu(s, json_text(d, "device_info"), d->line);
    }
    per_process = every_gpu ? 1 : per_process;
    for (const struct doc_node *d = n ? list->child : NULL; d && rc == 0; d = d->next)
        for (int i = 0; i < per_process && rc == 0; i++)
            rc = add_device(s, (struct device){.rank = (int)s->num_devices,
                                               .host = text_hash(json_text(d, "hostname"))});
    return rc;
}

static int json_row(struct section *s, const struct doc_node *r)
{
    const struct doc_node *body = r->type == DOC_MAP ? doc_get(r, "out_of_place") : NULL;

    if (!body || body->type != DOC_MAP)
        body = r->type == DOC_MAP ? doc_get(r, "in_place") : NULL;
    s->layout.cpu = body && body->type == DOC_MAP && doc_get(body, "cpu_time");
    return add_row(s, r->line, json_number(r, "size"), json_number(body, "time"),
                   json_number(body, "alg_bw"));
}

int read_nccl_json(struct data_set *set, const char *text, size_t len, const struct data_hint *hint)
{
    struct section s = {.set = set, .hint = hint};
    const struct doc_node *results, *root;
    struct doc *doc = NULL;
    int rc = doc_parse_json(text, len, set->path, &doc);

    set->format = "nccl_tests_json";
    set->runs = true;
    if (rc != 0)
        return rc;
    root = doc->root;
    if (root->type == DOC_MAP) {
        json_collective(&s, root);
        rc = json_devices(&s, root);
    }
    results = rc == 0 && root->type == DOC_MAP ? doc_get(root, "results") : NULL;
    for (const struct doc_node *r = results && results->type == DOC_LIST ? results->child : NULL;
         r && rc == 0; r = r->next)
        rc = json_row(&s, r);
    doc_free(doc);
    free(s.device);
    return rc;
}
