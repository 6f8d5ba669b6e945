#include "serve/traffic.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <jansson.h>

#include "base/err.h"
#include "base/log.h"

enum { BLOCK_TOKENS = 512, SEEN_BITS = 20, MAX_LINE = 1 << 22, MAX_TOKENS = 10000000 };
#define MAX_SECONDS 3e9

struct traffic {
    struct traffic_spec spec;
    gsl_rng *rng;
    double clock_s;
    FILE *f;
    int line;
    char *text;
    size_t room;
    uint64_t *seen; /* hash + 1 of the block that has the place; 0: none */
};

static int trace_open(struct traffic *t)
{
    t->f = fopen(t->spec.path, "r");
    if (!t->f) {
        log_error("%s: %s", t->spec.path, strerror(errno));
        return errno == ENOENT ? ERR_NOTFOUND : ERR_IO;
    }
    t->seen = calloc((size_t)1 << SEEN_BITS, sizeof *t->seen);
    return t->seen ? 0 : ERR_NOMEM;
}

int traffic_open(const struct traffic_spec *spec, struct traffic **out)
{
    struct traffic *t = calloc(1, sizeof *t);
    bool rate =
        spec->kind == TRAFFIC_POISSON || spec->kind == TRAFFIC_GAMMA || spec->kind == TRAFFIC_EVEN;
    int err = t ? 0 : ERR_NOMEM;

    if (!err && rate && !(spec->requests_s > 0)) {
        log_error("requests_s must be above 0 for arrivals at a rate");
        err = ERR_RANGE;
    }
    if (!err) {
        t->spec = *spec;
        t->rng = gsl_rng_alloc(gsl_rng_mt19937);
        err = t->rng ? 0 : ERR_NOMEM;
    }
    if (!err)
        gsl_rng_set(t->rng, spec->seed + 1);
    if (!err && spec->kind == TRAFFIC_TRACE)
        err = trace_open(t);
    if (err) {
        traffic_close(t);
        t = NULL;
    }
    *out = t;
    return err;
}

void traffic_close(struct traffic *t)
{
    if (!t)
        return;
    if (t->rng)
        gsl_rng_free(t->rng);
    if (t->f)
        fclose(t->f);
    free(t->text);
    free(t->seen);
    free(t);
}

static double gap_s(struct traffic *t)
{
    double mean = 1 / t->spec.requests_s;

    if (t->spec.kind == TRAFFIC_EVEN)
        return mean;
    if (t->spec.kind == TRAFFIC_GAMMA && t->spec.variation > 0) {
        double shape = 1 / (t->spec.variation * t->spec.variation);

        return gsl_ran_gamma(t->rng, shape, mean / shape);
    }
    return gsl_ran_exponential(t->rng, mean);
}

static int length(struct traffic *t, int tokens)
{
    double share = t->spec.spread > 0 ? 1 - t->spec.spread * gsl_rng_uniform(t->rng) : 1;

    return (int)fmax(round(tokens * share), 1);
}

static int fault(const struct traffic *t, const char *what)
{
    log_error_at(t->spec.path, t->line, "%s", what);
    return ERR_DATA;
}

/* Leading blocks that were there before; all of them are from now on. */
static int cached_tokens(struct traffic *t, const json_t *hashes, int prompt)
{
    size_t n = json_array_size(hashes), hits = 0;
    bool hit = true;

    for (size_t i = 0; i < n; i++) {
        uint64_t hash = (uint64_t)json_integer_value(json_array_get(hashes, i)) + 1;
        uint64_t *place = &t->seen[(hash * 0x9e3779b97f4a7c15u) >> (64 - SEEN_BITS)];

        hit = hit && *place == hash;
        hits += hit;
        *place = hash;
    }
    /* The last token is computed anew: its logits are wanted. */
    return (int)fmin((double)hits * BLOCK_TOKENS, prompt - 1);
}

static bool number_of(const json_t *o, const char *key, double *out)
{
    const json_t *x = json_object_get(o, key);

    *out = json_number_value(x);
    return json_is_number(x) && isfinite(*out);
}

static int request_parse(struct traffic *t, const json_t *o, struct traffic_request *out)
{
    const json_t *hashes = json_object_get(o, "hash_ids");
    double ms, prompt, answer, at;

    if (!number_of(o, "timestamp", &ms) || !number_of(o, "input_length", &prompt) ||
        !number_of(o, "output_length", &answer))
        return fault(t, "expected the numbers timestamp, input_length and output_length");
    at = ms / 1e3 / (t->spec.speed > 0 ? t->spec.speed : 1);
    if (ms < 0 || at > MAX_SECONDS)
        return fault(t, "timestamp is negative or beyond a century");
    if (at < t->clock_s)
        return fault(t, "timestamp is before that of the line above: the trace is not sorted");
    if (prompt < 1 || answer < 1 || prompt > MAX_TOKENS || answer > MAX_TOKENS)
        return fault(t, "input_length and output_length are between 1 and 10000000 tokens");
    if (hashes && !json_is_array(hashes))
        return fault(t, "hash_ids is no list");
    t->clock_s = at;
    *out = (struct traffic_request){at, (int)prompt, (int)answer, 0};
    out->cached = hashes ? cached_tokens(t, hashes, out->prompt) : 0;
    return 0;
}

static int trace_next(struct traffic *t, struct traffic_request *out, bool *more)
{
    json_t *o;
    ssize_t n;
    int err;

    do {
        n = getline(&t->text, &t->room, t->f);
        t->line++;
        if (n > MAX_LINE)
            return fault(t, "a line of more than 4 MiB");
    } while (n > 0 && strspn(t->text, " \t\r\n") == (size_t)n);
    *more = n > 0;
    if (n <= 0) {
        if (ferror(t->f))
            return ERR_IO;
        if (t->clock_s == 0 && t->line == 1)
            return fault(t, "no request in this trace");
        return 0;
    }
    o = json_loadb(t->text, (size_t)n, 0, NULL);
    err = json_is_object(o) ? request_parse(t, o, out) : fault(t, "no JSON object, or cut off");
    json_decref(o);
    return err;
}

int traffic_next(struct traffic *t, double now_s, struct traffic_request *out, bool *more)
{
    *more = true;
    if (t->spec.kind == TRAFFIC_TRACE)
        return trace_next(t, out, more);
    if (t->spec.kind == TRAFFIC_CLOSED)
        t->clock_s = now_s;
    else
        t->clock_s += gap_s(t);
    *out = (struct traffic_request){t->clock_s, length(t, t->spec.prompt),
                                    length(t, t->spec.answer), 0};
    return 0;
}
