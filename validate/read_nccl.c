/* nccl-tests: the printed table and the file of -J. Out-of-place times are taken. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/doc.h"
#include "base/err.h"
#include "base/log.h"
#include "validate/read.h"

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

bool read_nccl_matches(const char *text)
{
    return strstr(text, "# nThread ") || strstr(text, "# nccl-tests version") ||
           strstr(text, "# Collective test starting:");
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
                       int ranks)
{
    if (!coll) {
        log_error_at(set->path, 0, "which collective was run does not show");
        return ERR_PARSE;
    }
    if (ranks < 2 && hint->ranks < 2) {
        log_error_at(set->path, 0, "how many GPUs took part does not show; give ranks");
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

int read_nccl(struct data_set *set, const char *text, const struct data_hint *hint)
{
    const char *coll = collective_in(text);
    int ranks = 0, line = 1, rc;
    char buf[1024];

    set->format = "nccl_tests";
    for (const char *p = text; (p = strstr(p, "#  Rank ")); p++)
        ranks++;
    if (ranks == 0)
        for (const char *p = text; (p = strstr(p, "# Rank ")); p++)
            ranks++;
    rc = check_setup(set, hint, coll, ranks);
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
    ranks = root->type == DOC_MAP ? json_ranks(root) : 0;
    rc = check_setup(set, hint, coll, ranks);
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
