/* tests/check.h: what every unit test needs: cmocka, and stderr kept for a look at messages. */
#ifndef PEOSIM_TESTS_CHECK_H
#define PEOSIM_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* stderr of the calls between begin and end; the text must be freed. */
struct check_stderr {
    int saved;
    FILE *f;
};

static inline void check_stderr_begin(struct check_stderr *c)
{
    fflush(stderr);
    c->f = tmpfile();
    assert_non_null(c->f);
    c->saved = dup(2);
    dup2(fileno(c->f), 2);
}

static inline char *check_stderr_end(struct check_stderr *c)
{
    char *text = calloc(1, 65536);
    size_t n;

    fflush(stderr);
    dup2(c->saved, 2);
    close(c->saved);
    rewind(c->f);
    n = text ? fread(text, 1, 65535, c->f) : 0;
    (void)n;
    fclose(c->f);
    return text;
}

/* Runs `call` and checks its code, that it said exactly one line, and that the line holds `want`.
 */
#define CHECK_FAILS(call, code, want)                                                              \
    do {                                                                                           \
        struct check_stderr check_c;                                                               \
        int check_rc;                                                                              \
        char *check_text, *check_eol;                                                              \
        check_stderr_begin(&check_c);                                                              \
        check_rc = (call);                                                                         \
        check_text = check_stderr_end(&check_c);                                                   \
        assert_non_null(check_text);                                                               \
        check_eol = strchr(check_text, '\n');                                                      \
        if (check_rc != (code) || !strstr(check_text, want) || !check_eol || check_eol[1])         \
            print_error("rc %d (want %d), said: %s(want '%s')\n", check_rc, (code), check_text,    \
                        want);                                                                     \
        assert_int_equal(check_rc, (code));                                                        \
        assert_non_null(strstr(check_text, want));                                                 \
        assert_true(check_eol &&check_eol[1] == '\0');                                             \
        free(check_text);                                                                          \
    } while (0)

#endif
