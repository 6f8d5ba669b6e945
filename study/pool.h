/* study/pool.h: numbered pieces of work on several threads, one evaluator each. What comes out does
 * not depend on how many. */
#ifndef PEOSIM_STUDY_POOL_H
#define PEOSIM_STUDY_POOL_H

#include "study/evaluate.h"

/* Calls work(self, e, i) once for every i < n, in order of i within a thread; the first error ends
 * the rest and is returned. progress (may be NULL) is called from one thread at a time. */
int pool_run(size_t n, int jobs, int (*work)(void *self, struct evaluator *e, size_t i), void *self,
             void (*progress)(void *self, size_t done, size_t all), void *progress_self);

#endif
