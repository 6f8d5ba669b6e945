/* build/a2a SIZES.csv [--coalesced] [--bandwidth GB/s] [--latency us]
 *
 * Runs the flow engine on any square matrix of bytes (row = source, column = destination, the
 * diagonal ignored): all flows start at 0 over full-duplex NICs and a switch that never blocks.
 * Prints src,dst,bytes,start_s,finish_s, one line per flow, so that anyone can check the engine
 * against their own simulator. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "sim/flow/flow.h"

struct options {
    const char *path;
    enum sim_flow_fidelity fidelity;
    double nic_GBps, latency_us;
};

struct sizes {
    double *bytes;
    size_t count, room;
    uint32_t hosts;
};

static int number_option(const char *name, const char *text, double *value)
{
    char *end;

    *value = text ? strtod(text, &end) : 0;
    if (!text || end == text || *end || !(*value >= 0) || isinf(*value)) {
        log_error("%s needs a number that is not negative", name);
        return ERR_USAGE;
    }
    return 0;
}

static int options_read(int argc, char **argv, struct options *o)
{
    *o = (struct options){NULL, SIM_FLOW_EXACT, 50, 5};
    for (int i = 1; i < argc; i++) {
        int rc = 0;

        if (!strcmp(argv[i], "--coalesced"))
            o->fidelity = SIM_FLOW_COALESCED;
        else if (!strcmp(argv[i], "--bandwidth"))
            rc = number_option(argv[i], argv[i + 1], &o->nic_GBps), i++;
        else if (!strcmp(argv[i], "--latency"))
            rc = number_option(argv[i], argv[i + 1], &o->latency_us), i++;
        else if (argv[i][0] != '-' && !o->path)
            o->path = argv[i];
        else
            rc = ERR_USAGE;
        if (rc)
            return rc;
    }
    return o->path && o->nic_GBps > 0 ? 0 : ERR_USAGE;
}

static int size_add(struct sizes *s, double bytes)
{
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 1024;
        double *grown = realloc(s->bytes, room * sizeof *grown);

        if (!grown)
            return ERR_NOMEM;
        s->bytes = grown;
        s->room = room;
    }
    s->bytes[s->count++] = bytes;
    return 0;
}

static int row_read(struct sizes *s, const char *path, int line, char *text)
{
    uint32_t columns = 0;

    for (char *at = text; *at && *at != '\n' && *at != '\r';) {
        char *end;
        double bytes = strtod(at, &end);

        if (end == at || !(bytes >= 0) || isinf(bytes) || !strchr(",\r\n", *end)) {
            log_error_at(path, line, "not a size: %.20s", at);
            return ERR_PARSE;
        }
        if (size_add(s, bytes))
            return ERR_NOMEM;
        columns++;
        at = *end == ',' ? end + 1 : end;
    }
    if (columns == 0)
        return 0;
    if (line == 1)
        s->hosts = columns;
    if (columns != s->hosts) {
        log_error_at(path, line, "%u columns where the first line has %u", columns, s->hosts);
        return ERR_PARSE;
    }
    return 0;
}

static int sizes_read(const char *path, struct sizes *s)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t room = 0;
    int rc = 0;

    if (!file) {
        log_error("%s: %s", path, strerror(errno));
        return ERR_IO;
    }
    for (int line = 1; !rc && getline(&text, &room, file) >= 0; line++)
        rc = row_read(s, path, line, text);
    if (!rc && (!s->hosts || s->count != (size_t)s->hosts * s->hosts)) {
        log_error_at(path, 0, "%zu sizes are not a square matrix", s->count);
        rc = ERR_PARSE;
    }
    free(text);
    fclose(file);
    return rc;
}

static int note_finish(void *user, const struct sim_flow_event *event)
{
    ((double *)user)[event->tag] = event->t_ns;
    return 0;
}

/* Links: egress of host i at 2i, ingress at 2i + 1, after the first id. The route's latency is put
 * on the egress link. */
static int flows_start(struct sim_flow_net *net, const struct options *o, const struct sizes *s)
{
    int first = 0;

    for (uint32_t i = 0; i < 2 * s->hosts; i++) {
        int link = sim_link_add(net, o->nic_GBps, i % 2 ? 0 : o->latency_us * 1e3);

        if (link < 0)
            return link;
        if (i == 0)
            first = link;
    }
    for (uint32_t src = 0; src < s->hosts; src++) {
        for (uint32_t dst = 0; dst < s->hosts; dst++) {
            size_t at = (size_t)src * s->hosts + dst;
            uint32_t path[] = {(uint32_t)first + 2 * src, (uint32_t)first + 2 * dst + 1};
            struct sim_flow_spec spec = {path, 2, SIM_FLOW_DELIVERED, s->bytes[at], INFINITY,
                                         0,    at};
            int rc = src == dst ? 0 : sim_flow_start(net, &spec);

            if (rc)
                return rc;
        }
    }
    return 0;
}

static void finishes_print(const struct sizes *s, const double *finish_ns)
{
    puts("src,dst,bytes,start_s,finish_s");
    for (size_t at = 0; at < s->count; at++) {
        uint32_t src = (uint32_t)(at / s->hosts), dst = (uint32_t)(at % s->hosts);

        if (src != dst)
            printf("%u,%u,%.17g,0,%.17g\n", src, dst, s->bytes[at], finish_ns[at] * 1e-9);
    }
}

static int a2a_run(const struct options *o, const struct sizes *s)
{
    struct sim_flow_cfg cfg = {.fidelity = o->fidelity, .links_hint = 2 * s->hosts};
    double *finish_ns = calloc(s->count, sizeof *finish_ns);
    struct sim_flow_net *net = NULL;
    int rc = finish_ns ? sim_flow_net_open(&cfg, &net) : ERR_NOMEM;

    if (!rc)
        rc = flows_start(net, o, s);
    if (!rc)
        rc = sim_flow_advance(net, INFINITY, note_finish, finish_ns);
    if (!rc)
        finishes_print(s, finish_ns);
    else
        log_error("%s", err_text(rc));
    sim_flow_net_close(net);
    free(finish_ns);
    return rc;
}

int main(int argc, char **argv)
{
    struct sizes sizes = {0};
    struct options o;
    int rc = options_read(argc, argv, &o);

    if (rc)
        fputs("usage: a2a SIZES.csv [--coalesced] [--bandwidth GB/s] [--latency us]\n", stderr);
    if (!rc)
        rc = sizes_read(o.path, &sizes);
    if (!rc)
        rc = a2a_run(&o, &sizes);
    free(sizes.bytes);
    return err_exit_status(rc);
}
