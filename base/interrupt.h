/* base/interrupt.h: Ctrl-C that is asked for instead of dying of it, so that a long command can
 * keep what it has. */
#ifndef PEOSIM_BASE_INTERRUPT_H
#define PEOSIM_BASE_INTERRUPT_H

#include <stdbool.h>

/* From now on SIGINT waits in what is returned; threads started later inherit that. -1: cannot, and
 * SIGINT ends the program as before. */
int interrupt_open(void);
/* Has one come? Never waits; the same for every thread that asks. -1: no. */
bool interrupt_came(int fd);
/* SIGINT ends the program again; those that came are forgotten. Accepts -1. */
void interrupt_close(int fd);

#endif
