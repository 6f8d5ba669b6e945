/* study/synth_moves.h: random changes of a program, for study/synthesize.c. */
#ifndef PEOSIM_STUDY_SYNTH_MOVES_H
#define PEOSIM_STUDY_SYNTH_MOVES_H

#include <stdint.h>

#include "model/policy/program.h"

/* The next of a stream of numbers that depends on *x alone. */
uint32_t synth_next(uint64_t *x);

/* Changes one thing in *p; false where the draw does not apply or gives no valid program (then *p
 * is as it was). */
bool synth_move(struct program *p, uint64_t *x);

/* What is different about b, in words, one a line, at most `most` of them; a may be NULL. */
void synth_words(const struct program *a, const struct program *b, int most, FILE *f);

#endif
