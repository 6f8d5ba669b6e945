/* serve/judge.h: measured deployments (calib/e2e.h) against what is predicted of them. */
#ifndef PEOSIM_SERVE_JUDGE_H
#define PEOSIM_SERVE_JUDGE_H

#include "base/stats.h"
#include "serve/estimate.h"

struct judged_row {
    const struct e2e_row *row;
    struct serve_deployment d;
    struct serve_load load;
    bool answered, drafts;
    bool apart; /* repeats of one configuration differ by over 10% */
    char why[200];
    double tpot_ms, ttft_ms; /* predicted; NAN where not answered */
};

struct judged {
    struct e2e e2e;
    struct serve_tables *tables;
    struct engine engine[SERVE_ENGINES];
    struct judged_row *row;
    size_t num, answered, apart; /* apart: configurations */
};

/* Reads the file, finds every row's loads (simulating passes as needed) and predicts with the
 * shipped engine parameters. Errors of e2e_read and engine_read. */
int judge_open(const char *path, struct judged *out);
void judge_close(struct judged *j); /* accepts a zeroed one */
/* Predicts row by row; engine of row i: engines[row.d.engine]. */
void judge_predict(struct judged *j, const struct engine engines[SERVE_ENGINES]);

/* Does the row's configuration follow from what it states? Others are reported apart. */
static inline bool judged_is_stated(const struct judged_row *r)
{
    return r->row->stated != E2E_NOT_STATED;
}

/* What rows are grouped by. */
enum judge_by {
    JUDGE_ALL,
    JUDGE_MODE,
    JUDGE_ENGINE,
    JUDGE_SYSTEM,
    JUDGE_MODEL,
    JUDGE_EP,
    JUDGE_PRECISION,
    JUDGE_BYS
};
const char *judge_by_name(enum judge_by by);
void judge_group(const struct judged_row *r, enum judge_by by, char *buf, size_t size);

struct judge_line {
    const char *by;
    char group[64];
    size_t rows; /* of which so many are answered: tpot.n */
    struct stats_error tpot, ttft;
};
enum { JUDGE_MAX_LINES = 96 };
/* Errors by group. stated: rows that state their configuration, else the others; apart: also those
 * set apart. Returns how many lines. */
int judge_lines(const struct judged *j, bool stated, bool apart, struct judge_line *out);

/* Configurations of one model, system and lengths at equal concurrency, ordered by TPOT: Kendall's
 * tau-b over sets of three and more, its mean weighted by pairs. NAN: no such set. */
double judge_order(const struct judged *j, size_t *sets);

#endif
