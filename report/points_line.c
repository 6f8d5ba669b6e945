#include "report/points_line.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"

int points_line_split(char *row, char **cells)
{
    bool quoted = false;
    int n = 0;

    cells[n++] = row;
    for (char *at = row; *at; at++) {
        if (*at == '"')
            quoted = !quoted;
        if (*at != ',' || quoted || n == CELLS_MAX)
            continue;
        *at = '\0';
        cells[n++] = at + 1;
    }
    return n;
}

int points_line_vary(const struct config *c)
{
    int n = 0;

    for (int i = 0; i < c->num_axes; i++)
        n += c->axes[i].num_values > 1 || !strcmp(c->axes[i].opt->key, "batch");
    return n;
}

void points_line_unquote(char *cell)
{
    char *to = cell;
    bool quoted = cell[0] == '"';

    for (const char *at = cell + quoted; *at && !(quoted && at[0] == '"' && at[1] != '"'); at++) {
        *to++ = *at;
        at += quoted && at[0] == '"';
    }
    *to = '\0';
}

int points_line_each(const char *folder, const char *name,
                     int (*fn)(void *self, char *line, bool head), void *self)
{
    char path[1024], *line = NULL;
    size_t size = 0;
    bool head = true;
    ssize_t n;
    FILE *f;
    int err = 0;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "re");
    if (!f) {
        log_error("%s: cannot open: %s", path, strerror(errno));
        return ERR_IO;
    }
    for (; !err && (n = getline(&line, &size, f)) > 0; head = false) {
        if (line[n - 1] == '\n')
            line[n - 1] = '\0';
        err = fn(self, line, head);
    }
    free(line);
    fclose(f);
    return err;
}
