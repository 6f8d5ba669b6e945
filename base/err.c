#include "base/err.h"

const char *err_text(int code)
{
    switch (code) {
#define ERR_CASE(name, number, text)                                                               \
    case number:                                                                                   \
        return text;
        ERR_LIST(ERR_CASE)
#undef ERR_CASE
    case 0:
        return "ok";
    default:
        return "unknown error";
    }
}

int err_exit_status(int code)
{
    switch (code) {
    case 0:
        return 0;
    case ERR_CONFIG:
    case ERR_PARSE:
    case ERR_RANGE:
    case ERR_USAGE:
    case ERR_NOTFOUND:
    case ERR_INFEASIBLE:
    case ERR_DATA:
    case ERR_IO:
        return 2;
    default:
        return 1;
    }
}
