/* tests/config_text.h: a configuration from a test's own text. */
#ifndef PEOSIM_TESTS_CONFIG_TEXT_H
#define PEOSIM_TESTS_CONFIG_TEXT_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "study/config.h"
#include "tests/check.h"

/* The caller frees with config_free. */
static inline struct config *config_of_text(const char *text)
{
    char path[] = "/tmp/peosim_config_XXXXXX";
    struct config *c;
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (long)strlen(text));
    close(fd);
    assert_int_equal(config_read(path, NULL, 0, &c), 0);
    unlink(path);
    return c;
}

#endif
