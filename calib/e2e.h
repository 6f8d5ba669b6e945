/* calib/e2e.h: whole deployments as they were measured: mean TTFT and TPOT by model, system,
 * engine, parallelism and concurrency (e2e_deployments.csv). A reader only: it says what a row
 * states; what is made of rows that leave things open is serve/deployment.h's. */
#ifndef PEOSIM_CALIB_E2E_H
#define PEOSIM_CALIB_E2E_H

#include <stdbool.h>
#include <stddef.h>

enum e2e_stated { E2E_STATED, E2E_CONTRADICTS_ID, E2E_NOT_STATED };
enum e2e_pool { E2E_DECODE, E2E_PREFILL, E2E_POOLS };

/* Workers and ranks as the row says; 0: the cell is empty. */
struct e2e_workers {
    int batch, workers, tp, dp, moe_tp, moe_ep;
};

struct e2e_row {
    int line;
    const char *id, *engine, *version, *model, *system, *precision, *gemm_dtype, *moe_dtype;
    bool disagg;
    int isl, osl, concurrency, pp;
    /* Aggregated rows have the decode pool alone. */
    struct e2e_workers pool[E2E_POOLS];
    int id_tp, id_ep; /* 0: the id names none */
    enum e2e_stated stated;
    double ttft_ms, tpot_ms;
};

struct csv;
struct e2e {
    struct csv *csv; /* owns the texts */
    struct e2e_row *row;
    size_t num;
    size_t bad; /* rows with a cell that is none; each was named by file and line */
};

/* Has it this file's columns? Silent. */
bool e2e_matches(const char *path);
/* ERR_NOTFOUND, ERR_IO, ERR_PARSE, ERR_DATA (no good row), ERR_NOMEM; logged. */
int e2e_read(const char *path, struct e2e *out);
void e2e_free(struct e2e *e); /* accepts a zeroed one */

#endif
