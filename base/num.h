/* base/num.h: numbers as users write them, the same rules in YAML, JSON, CSV and --set.
 * All return 0 or ERR_PARSE and say nothing: the caller words the message. */
#ifndef PEOSIM_BASE_NUM_H
#define PEOSIM_BASE_NUM_H

#include <stdbool.h>

/* Decimal with optional exponent. Hexadecimal, NaN, infinities, overflow, blanks and digit
 * separators are refused. */
int num_double(const char *text, double *out);
/* Whole numbers; 1e6 and 8.0 count as whole (up to 2^53). */
int num_int(const char *text, long long *out);
/* true/false, yes/no, on/off in any case. */
int num_bool(const char *text, bool *out);

#endif
