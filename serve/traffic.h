/* serve/traffic.h: requests as they arrive: a closed loop of clients, a random process, or a trace
 * file read line by line. Nothing is kept of requests that were handed out. */
#ifndef PEOSIM_SERVE_TRAFFIC_H
#define PEOSIM_SERVE_TRAFFIC_H

#include <stdbool.h>
#include <stddef.h>

enum traffic_kind { TRAFFIC_CLOSED, TRAFFIC_POISSON, TRAFFIC_GAMMA, TRAFFIC_EVEN, TRAFFIC_TRACE };

struct traffic_spec {
    enum traffic_kind kind;
    int clients;        /* CLOSED: each sends its next request when its last one is answered */
    double requests_s;  /* POISSON, GAMMA, EVEN */
    double variation;   /* GAMMA: standard deviation of the gaps over their mean */
    int prompt, answer; /* tokens; of a trace: the file's */
    double spread;      /* lengths are even between (1 - spread) and 1 of these */
    const char *path;   /* TRACE */
    double speed;       /* TRACE: its clock runs so many times faster; 0 = 1 */
    unsigned long seed;
};

struct traffic_request {
    double arrival_s;
    int prompt, answer;
    int cached; /* leading tokens of the prompt that an earlier request had too */
};

struct traffic;
/* A trace is JSON, one object a line, as Mooncake publishes them: timestamp (ms from the start),
 * input_length, output_length, and hash_ids, one per block of 512 prompt tokens, equal where all
 * tokens up to there are. Blocks seen before count as cached; a table of 2^20 blocks remembers
 * them, a later block pushing out an earlier one of its place.
 * ERR_NOTFOUND, ERR_IO, ERR_NOMEM, ERR_RANGE; logged. */
int traffic_open(const struct traffic_spec *spec, struct traffic **out);
void traffic_close(struct traffic *t); /* accepts NULL */

/* The next request in order of arrival; *more false: there is none. Of a closed loop: now_s is when
 * a client is free, and there is always one more. ERR_DATA (logged with file and line): cut off, no
 * JSON, a time before the one above, negative, or beyond what a request can have. */
int traffic_next(struct traffic *t, double now_s, struct traffic_request *out, bool *more);

#endif
