#include "base/num.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"

int num_double(const char *text, double *out)
{
    char *end;
    double v;

    /* strtod takes more than we want: "nan", "0x10", leading blanks. */
    if (!text || !text[0] || text[strspn(text, "0123456789+-.eE")] != '\0')
        return ERR_PARSE;
    v = strtod(text, &end);
    if (end == text || *end || !isfinite(v))
        return ERR_PARSE;
    *out = v;
    return 0;
}

int num_int(const char *text, long long *out)
{
    char *end;
    double v;

    if (num_double(text, &v) != 0)
        return ERR_PARSE;
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (end != text && !*end)
        return errno ? ERR_PARSE : 0;
    if (v != floor(v) || fabs(v) > 9007199254740992.0)
        return ERR_PARSE;
    *out = (long long)v;
    return 0;
}

int num_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no", "off"};

    for (int i = 0; text && i < 3; i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *out = strcasecmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return ERR_PARSE;
}
