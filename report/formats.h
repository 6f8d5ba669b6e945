/* report/formats.h: the output formats, in the order of --help; the first is for those who ask for
 * none. A new one is a file report/format_<name>.c that defines `const struct record_format
 * record_format_<name>`, and a row here. */
#ifndef PEOSIM_REPORT_FORMATS_H
#define PEOSIM_REPORT_FORMATS_H

/* clang-format off */
#define RECORD_FORMATS(X)                                                                          \
    X(text)                                                                                        \
    X(json)                                                                                        \
    X(csv)                                                                                         \
    X(jsonl)
/* clang-format on */

#endif
