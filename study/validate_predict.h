/* study/validate_predict.h: the points that are measured: which plan each is, and, once all are
 * measured, what is predicted for them. */
#ifndef PEOSIM_STUDY_VALIDATE_PREDICT_H
#define PEOSIM_STUDY_VALIDATE_PREDICT_H

#include "study/validate.h"

/* Every point of the configuration, none measured. ERR_NOMEM. */
int validate_set_open(struct validate_set *v, const struct config *c);
void validate_set_close(struct validate_set *v);
/* Tokens per rank of the largest scenario. */
int validate_largest_batch(const struct validate_set *v, int *out);
/* The point's plan, without any prediction; the caller frees it and the scenario. */
int validate_plan(const struct validate_set *v, struct evaluator *e, size_t index,
                  struct scenario *s, struct plan **plan);
/* Sets the point's batch and shapes. */
int validate_describe(const struct validate_set *v, struct evaluator *e, struct validate_point *p);
/* Sets what is predicted of the point; the caller frees the predicted trace and its plan, which
 * both begin as NULL. from: the folder that its times were read from, or NULL; they must be of the
 * model and group that are predicted: ERR_DATA. */
int validate_predict(const struct validate_set *v, struct evaluator *e, struct validate_point *p,
                     const char *from, struct trace **trace, struct plan **plan);
/* Slices, paced receives and other kernels stand for what is not here: sets v->emulation, and
 * predictions become those of the emulation. asked: GPUs, pace and its latency as asked for. */
void validate_emulate(struct validate_set *v, struct evaluator *e,
                      const struct sim_emulation *asked);

#endif
