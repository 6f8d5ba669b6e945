/* validate/read.h: the readers behind data_read. Each appends rows to set, names bad ones with
 * data_bad and returns 0 or an error code. */
#ifndef PEOSIM_VALIDATE_READ_H
#define PEOSIM_VALIDATE_READ_H

#include "base/csv.h"
#include "validate/data.h"

/* The format whose columns the header has; ERR_PARSE names what the nearest format lacks. */
int read_csv(struct data_set *set, const struct csv *csv);

/* DeepEP's test_low_latency.py, test_intranode.py and test_internode.py. */
bool read_deepep_matches(const char *text);
int read_deepep(struct data_set *set, const char *text, const struct data_hint *hint);

/* nccl-tests: the table it prints, and its -J file. */
bool read_nccl_matches(const char *text);
int read_nccl(struct data_set *set, const char *text, const struct data_hint *hint);
bool read_nccl_json_matches(const char *text);
int read_nccl_json(struct data_set *set, const char *text, size_t len,
                   const struct data_hint *hint);

#endif
