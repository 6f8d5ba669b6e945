#include "report/engine.h"

#include <stdlib.h>

#include "base/err.h"

int engine_settings_print(const struct policy *p, const struct knobs *k,
                          const struct policy_place *place, const char *indent, FILE *f)
{
    char *text = NULL;
    size_t size = 0;
    FILE *lines = p->settings ? open_memstream(&text, &size) : NULL;

    if (!p->settings)
        return 0;
    if (!lines)
        return ERR_NOMEM;
    p->settings(k, place, lines);
    fclose(lines);
    for (const char *at = text; *at; at++) {
        if (at == text || at[-1] == '\n')
            fputs(indent, f);
        fputc(*at, f);
    }
    free(text);
    return 0;
}
