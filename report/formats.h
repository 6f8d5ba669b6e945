/* report/formats.h: the output formats, one row each; report/format_<name>.c has it. The first is
 * what people get who ask for none. */
RECORD_FORMAT(text)
RECORD_FORMAT(json)
RECORD_FORMAT(csv)
RECORD_FORMAT(jsonl)
