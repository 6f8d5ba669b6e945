/* base/err.h: the one list of error codes. Functions return 0 or one of these (all negative). */
#ifndef PEOSIM_BASE_ERR_H
#define PEOSIM_BASE_ERR_H

#define ERR_LIST(X)                                                                                \
    X(NOMEM, -1, "out of memory")                                                                  \
    X(IO, -2, "input/output error")                                                                \
    X(PARSE, -3, "cannot parse the input")                                                         \
    X(CONFIG, -4, "bad configuration")                                                             \
    X(RANGE, -5, "value out of range")                                                             \
    X(UNSUPPORTED, -6, "not supported")                                                            \
    X(DATA, -7, "bad measurement data")                                                            \
    X(FIT, -8, "the fit failed")                                                                   \
    X(TIMEOUT, -9, "deadline passed")                                                              \
    X(GPU, -10, "GPU or NCCL error")                                                               \
    X(INTERNAL, -11, "internal error")                                                             \
    X(USAGE, -12, "bad usage")                                                                     \
    X(NOTFOUND, -13, "not found")                                                                  \
    X(STALLED, -14, "the simulation cannot make progress")                                         \
    X(INFEASIBLE, -15, "this combination of knobs is not possible")                                \
    X(STOPPED, -16, "interrupted")

enum err_code {
#define ERR_ENUM(name, code, text) ERR_##name = code,
    ERR_LIST(ERR_ENUM)
#undef ERR_ENUM
};

/* The text of a code; "ok" for 0, "unknown error" for anything else. Never NULL. */
const char *err_text(int code);

/* The exit status of the program for a code: 0 ok, 2 bad usage or configuration, 1 everything else.
 */
int err_exit_status(int code);

#endif
