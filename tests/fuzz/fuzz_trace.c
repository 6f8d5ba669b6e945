/* Trace readers (CSV and Chrome) on any bytes, and what is done with a trace that was read. With
 * libFuzzer, run with -close_fd_mask=2: messages about bad input are what it is expected to make.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace/chrome.h"
#include "trace/csv.h"
#include "trace/diff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(struct trace_log *log)
{
    static const struct trace_diff_opts opts = {.tolerance_ns = 1};
    struct trace_diff *diff = NULL;
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        abort();
    trace_log_sort(log);
    trace_csv_write(log, f);
    trace_chrome_write(log, f, "fuzz", NULL);
    if (!trace_diff_new(&diff, log, log, &opts)) {
        trace_diff_print(diff, "a", "b", f);
        trace_diff_print_json(diff, "a", "b", f);
        trace_diff_write_csv(diff, f);
        trace_diff_write_lanes(diff, "a", "b", f);
    }
    trace_diff_free(diff);
    fclose(f);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1); /* readers may count on a NUL after the text */
    struct trace_log *log = NULL;
    bool json;

    if (!text)
        abort();
    memcpy(text, data, size);
    text[size] = 0;
    json = size && (text[0] == '{' || text[0] == '[');
    if (!(json ? trace_chrome_parse(text, size, "fuzz", NULL, &log)
               : trace_csv_parse(text, size, "fuzz", &log)))
        use(log);
    trace_log_free(log);
    free(text);
    return 0;
}
