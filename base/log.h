/* base/log.h: talk for people, on stderr. Results go to stdout and never through here.
 * An error is logged once, where it is first detected; callers above only pass the code on. */
#ifndef PEOSIM_BASE_LOG_H
#define PEOSIM_BASE_LOG_H

#define LOG_PRINTF(a, b) __attribute__((format(printf, a, b)))

/* "peosim: error: text" */
void log_error(const char *fmt, ...) LOG_PRINTF(1, 2);
/* "peosim: file:line: error: text"; line 0 means that the file has no lines worth naming. */
void log_error_at(const char *file, int line, const char *fmt, ...) LOG_PRINTF(3, 4);
void log_warn(const char *fmt, ...) LOG_PRINTF(1, 2);
void log_warn_at(const char *file, int line, const char *fmt, ...) LOG_PRINTF(3, 4);
void log_note(const char *fmt, ...) LOG_PRINTF(1, 2);

#endif
