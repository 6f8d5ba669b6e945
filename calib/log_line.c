#include "calib/log_line.h"

#include <ctype.h>
#include <string.h>

#define MOST_TAG 128 /* bytes before which a tag must end */

void log_lines_open(struct log_lines *l, const char *text)
{
    l->next = text;
    l->line = 0;
    l->text[0] = '\0';
}

/* Copies a line without colours and controls. */
static void copy_plain(char *out, const char *from, size_t len)
{
    size_t at = 0;

    for (size_t i = 0; i < len && at + 1 < LOG_LINE_MAX; i++) {
        if (from[i] == '\x1b' && i + 1 < len && from[i + 1] == '[') {
            for (i += 2; i < len && !isalpha((unsigned char)from[i]); i++)
                ;
        } else if (from[i] != '\r' && from[i] != '\0') {
            out[at++] = from[i];
        }
    }
    out[at] = '\0';
}

/* "2026-01-31T10:00:00.123Z " or "2026-01-31 10:00:00 "; 0 = no time stamp. */
static size_t stamp_length(const char *s)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd";
    size_t i;

    for (i = 0; form[i]; i++)
        if (form[i] == 'd'   ? !isdigit((unsigned char)s[i])
            : form[i] == 'T' ? s[i] != 'T' && s[i] != ' '
                             : s[i] != form[i])
            return 0;
    while (s[i] && s[i] != ' ')
        i++;
    return i + (s[i] == ' ');
}

/* What comes before the program's own words; 0 = nothing known. */
static size_t tag_length(const char *s)
{
    static const char *const streams[] = {"<stdout>:", "<stderr>:", "stdout F ", "stderr F "};
    size_t digits = strspn(s, "0123456789"), stamp = stamp_length(s);

    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
        const char *at = strstr(s, streams[i]);
        bool begins = i < 2 || at == s;

        if (at && begins && at - s < MOST_TAG)
            return (size_t)(at - s) + strlen(streams[i]);
    }
    if (stamp)
        return stamp;
    if (digits && digits < 6 && s[digits] == ':' && s[digits + 1] == ' ')
        return digits + 2; /* srun --label */
    if (strncmp(s, "[default", 8) == 0 && strstr(s, "]:"))
        return (size_t)(strstr(s, "]:") - s) + 2; /* torchrun */
    return 0;
}

bool log_lines_next(struct log_lines *l)
{
    size_t len = strcspn(l->next, "\n"), tag;
    char *text = l->text;

    if (!*l->next)
        return false;
    copy_plain(text, l->next, len);
    l->next += len + (l->next[len] == '\n');
    l->line++;
    for (int i = 0; i < 4 && (tag = tag_length(text + strspn(text, " \t"))) > 0; i++) {
        const char *rest = text + strspn(text, " \t") + tag;

        memmove(text, rest, strlen(rest) + 1);
    }
    return true;
}
