/* nccl-tests: the printed table and the file of -J. Out-of-place times are taken. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/doc.h"
#include "base/err.h"
#include "base/log.h"
#include "calib/read.h"

#define MAX_US 1e7

static const struct {
    const char *program, *name;
} collectives[] = {{"all_reduce_perf", "all_reduce"},
                   {"all_gather_perf", "all_gather"},
                   {"reduce_scatter_perf", "reduce_scatter"},
                   {"alltoall_perf", "all_to_all"},
                   {"all_to_all_perf", "all_to_all"},
                   {"broadcast_perf", "broadcast"},
                   {"sendrecv_perf", "sendrecv"}};

static const char *collective_in(const char *text)
{
    for (size_t i = 0; text && i < sizeof collectives / sizeof *collectives; i++)
        if (strstr(text, collectives[i].program))
            return collectives[i].name;
    return NULL;
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

/* What the user says, else what the output says, else what the file is called. */
static const char *collective_of(const char *text, const char *path, const struct data_hint *hint)
{
    const char *coll = hint->collective ? collective_named(hint->collective) : collective_in(text);

    return coll || hint->collective ? coll : collective_in(base_name(path));
}

bool read_nccl_matches(const char *text)
{
    return strstr(text, "# nThread ") || strstr(text, "# nccl-tests version") ||
           strstr(text, "# Collective test starting:") || strstr(text, " redop ");
}

bool read_nccl_json_matches(const char *text)
{
    while (*text == ' ' || *text == '\n' || *text == '\r' || *text == '\t')
        text++;
    return *text == '{' && strstr(text, "\"nccl_version\"");
}

static int add_row(struct data_set *set, const struct data_hint *hint, const char *coll, int ranks,
                   int line, double bytes, double us)
{
    struct data_row r = {.law = DATA_COLLECTIVE,
                         .line = line,
                         .rounds = 1,
                         .ranks = hint->ranks > 0 ? hint->ranks : ranks,
                         .bytes = bytes,
                         .latency_us = us,
                         .reference = true};

    if (bytes == 0) /* nccl-tests prints size 0 where a size is too small to share out */
        return 0;
    if (!(bytes > 0)) {
        data_bad(set, line, "no size");
        return 0;
    }
    if (!isfinite(us) || us <= 0 || us > MAX_US) {
        data_bad(set, line, "a time of %g us", us);
        return 0;
    }
    if (hint->system)
        snprintf(r.system, sizeof r.system, "%.15s", hint->system);
    snprintf(r.coll, sizeof r.coll, "%.15s", coll);
    snprintf(r.group, sizeof r.group, "%s x%d", r.coll, r.ranks);
    return data_add(set, &r) ? 0 : ERR_NOMEM;
}

static int check_setup(const struct data_set *set, const struct data_hint *hint, const char *coll,
                       int ranks, int line)
{
    if (!coll) {
        log_error_at(set->path, line,
                     "no header says which collective this is; give --collective or name the file "
                     "after the program (alltoall_perf.txt)");
        return ERR_PARSE;
    }
    if (ranks < 2 && hint->ranks < 2) {
        log_error_at(set->path, line, "no header says how many GPUs took part; give --ranks");
        return ERR_PARSE;
    }
    return 0;
}

/* Columns: size count type redop root time algbw busbw #wrong ...; all_gather and the like leave
 * out redop or root in old versions, so the time is found from the type on. */
static bool table_line(const char *text, double *bytes, double *us)
{
    char word[7][32];
    long size, count;
    int n;

    n = sscanf(text, "%ld %ld %31s %31s %31s %31s %31s", &size, &count, word[0], word[1], word[2],
               word[3], word[4]);
    if (n < 6)
        return false;
    *bytes = (double)size;
    for (int i = 1; i < n - 2; i++) {
        char *dot = strchr(word[i], '.');

        if (dot && sscanf(word[i], "%lf", us) == 1)
            return true;
    }
    return n >= 6 && sscanf(word[3], "%lf", us) == 1;
}

/* The line where the output begins: what a header would have said before it is missing. */
static int first_line(const char *text)
{
    int line = 1;

    for (; *text == '\n' || *text == '\r' || *text == ' ' || *text == '\t'; text++)
        line += *text == '\n';
    return line;
}

bool read_nccl_bare(const char *text, const char *path, const struct data_hint *hint)
{
    double bytes, us;
    char line[1024];

    text += strspn(text, " \t\r\n");
    snprintf(line, sizeof line, "%.*s", (int)strcspn(text, "\n") % 1000, text);
    return collective_of("", path, hint) && table_line(line, &bytes, &us);
}

int read_nccl(struct data_set *set, const char *text, const struct data_hint *hint)
{
    const char *coll = collective_of(text, set->path, hint);
    int ranks = 0, line = 1, rc;
    char buf[1024];

    set->format = "nccl_tests";
    for (const char *p = text; (p = strstr(p, "#  Rank ")); p++)
        ranks++;
    if (ranks == 0)
        for (const char *p = text; (p = strstr(p, "# Rank ")); p++)
            ranks++;
    rc = check_setup(set, hint, coll, ranks, first_line(text));
    for (const char *p = text; *p && rc == 0; line++) {
        size_t len = strcspn(p, "\n");
        double bytes, us;

        snprintf(buf, sizeof buf, "%.*s", len < 1000 ? (int)len : 1000, p);
        if (buf[0] != '#' && table_line(buf, &bytes, &us))
            rc = add_row(set, hint, coll, ranks, line, bytes, us);
        p += len + (p[len] == '\n');
    }
    return rc;
}

static double json_number(const struct doc_node *map, const char *key)
{
    const struct doc_node *node = map && map->type == DOC_MAP ? doc_get(map, key) : NULL;
    double x = NAN;

    return node && doc_to_double(node, &x) == 0 ? x : NAN;
}

static const char *json_collective(const struct doc_node *root)
{
    const struct doc_node *args = doc_get(root, "args");
    const char *coll = NULL;

    for (const struct doc_node *a = args && args->type == DOC_LIST ? args->child : NULL; a && !coll;
         a = a->next)
        if (a->type == DOC_SCALAR)
            coll = collective_in(a->text);
    return coll;
}

static int json_ranks(const struct doc_node *root)
{
    const struct doc_node *config = doc_get(root, "config");
    const struct doc_node *devices =
        config && config->type == DOC_MAP ? doc_get(config, "devices") : NULL;

    return devices && devices->type == DOC_LIST ? devices->num_children : 0;
}

int read_nccl_json(struct data_set *set, const char *text, size_t len, const struct data_hint *hint)
{
    const struct doc_node *results, *root;
    struct doc *doc = NULL;
    const char *coll;
    int index = 0, ranks, rc = doc_parse_json(text, len, set->path, &doc);

    set->format = "nccl_tests_json";
    if (rc != 0)
        return rc;
    root = doc->root;
    coll = root->type == DOC_MAP ? json_collective(root) : NULL;
    coll = coll ? coll : collective_of("", set->path, hint);
    ranks = root->type == DOC_MAP ? json_ranks(root) : 0;
    rc = check_setup(set, hint, coll, ranks, 1);
    results = rc == 0 ? doc_get(root, "results") : NULL;
    for (const struct doc_node *r = results && results->type == DOC_LIST ? results->child : NULL;
         r && rc == 0; r = r->next) {
        const struct doc_node *body = r->type == DOC_MAP ? doc_get(r, "out_of_place") : NULL;

        index++;
        if (!body || body->type != DOC_MAP)
            body = r->type == DOC_MAP ? doc_get(r, "in_place") : NULL;
        rc = add_row(set, hint, coll, ranks, index, json_number(r, "size"),
                     json_number(body, "time"));
    }
    doc_free(doc);
    return rc;
}
