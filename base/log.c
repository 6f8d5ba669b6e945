#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

static void log_write(const char *file, int line, const char *level, const char *fmt, va_list ap)
{
    char text[1024];

    vsnprintf(text, sizeof text, fmt, ap);
    /* Messages quote the user's input: it may not break the line or steer the terminal. */
    for (char *p = text; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    }
    if (file && line > 0)
        fprintf(stderr, "peosim: %s:%d: %s%s\n", file, line, level, text);
    else if (file)
        fprintf(stderr, "peosim: %s: %s%s\n", file, level, text);
    else
        fprintf(stderr, "peosim: %s%s\n", level, text);
}

#define LOG_BODY(file, line, level)                                                                \
    do {                                                                                           \
        va_list ap;                                                                                \
        va_start(ap, fmt);                                                                         \
        log_write(file, line, level, fmt, ap);                                                     \
        va_end(ap);                                                                                \
    } while (0)

void log_error(const char *fmt, ...)
{
    LOG_BODY(NULL, 0, "error: ");
}

void log_error_at(const char *file, int line, const char *fmt, ...)
{
    LOG_BODY(file, line, "error: ");
}

void log_warn(const char *fmt, ...)
{
    LOG_BODY(NULL, 0, "warning: ");
}

void log_warn_at(const char *file, int line, const char *fmt, ...)
{
    LOG_BODY(file, line, "warning: ");
}

void log_note(const char *fmt, ...)
{
    LOG_BODY(NULL, 0, "");
}
