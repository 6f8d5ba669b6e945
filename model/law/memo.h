/* model/law/memo.h: answers of the laws that search, kept: ranks, layers and points ask for the
 * same shapes over and over. One memo belongs to one profile and one thread; a shape that shares
 * its place with another takes it over. */
#ifndef PEOSIM_MODEL_LAW_MEMO_H
#define PEOSIM_MODEL_LAW_MEMO_H

#include "model/law/gemm.h"

struct law_memo;

/* ERR_NOMEM. */
int law_memo_open(struct law_memo **out);
void law_memo_close(struct law_memo *memo); /* NULL is fine */

/* law_deepgemm_tile(in, m), by in->memo where there is one. */
struct law_tile law_memo_tile(const struct law_grouped *in, int m);
/* law_dense_work(v, in, out); v is the same in all calls. */
void law_memo_dense(struct law_memo *memo, const double *v, const struct law_dense *in,
                    struct cost_work *out);

#endif
