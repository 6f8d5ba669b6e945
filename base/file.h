/* base/file.h: files that appear whole or not at all, and hashes of what was read. */
#ifndef PEOSIM_BASE_FILE_H
#define PEOSIM_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The whole file, NUL-terminated; *len without the NUL. ERR_NOTFOUND, ERR_IO, ERR_RANGE (> max),
 * and directories are ERR_IO; logged. The caller frees *text. */
int file_read(const char *path, size_t max_bytes, char **text, size_t *len);
/* The same, and what gzip packed is unpacked (max_bytes counts what comes out). ERR_PARSE, logged,
 * where gzip fails or is not installed. */
int file_read_unpacked(const char *path, size_t max_bytes, char **text, size_t *len);

/* Links are written through; devices and pipes are written directly.
 * Writes to path.tmp.<pid>, renamed over path by file_commit; file_abort removes it. Write errors
 * (a full disk) surface in file_commit at the latest and leave the old file as it was. Logged. */
struct file_out {
    FILE *f;
    char *path, *tmp;
};
int file_create(struct file_out *out, const char *path);
int file_commit(struct file_out *out);
void file_abort(struct file_out *out); /* also after a failed create or commit; harmless then */

/* mkdir -p. ERR_IO, logged. */
int file_mkdirs(const char *path);

/* SHA-256 as 64 hex digits (libmd). */
void file_hash_text(const void *data, size_t len, char hex[65]);
int file_hash(const char *path, char hex[65]);

/* Finds a shipped file: `name` itself if it exists, else $PEOSIM_HOME/name, else beside the program
 * (dir of /proc/self/exe, or ../share/peosim from there), else PREFIX/share/peosim/name. The caller
 * frees *path. ERR_NOTFOUND, silent. */
int file_find_shipped(const char *name, char **path);
/* The same for what is run rather than read: `name` as it stands is not looked at, so that nothing
 * comes from the working folder; a program in a build folder finds the tree above it. */
int file_find_installed(const char *name, char **path);

/* rm -rf, links not followed. What cannot be removed stays; silent. */
void file_remove_tree(const char *path);

/* The names, sorted and without `ending`, of the files beside an installed one: "dpsk_ep64" for the
 * witness "configs/dpsk_ep64.yaml" and the ending ".yaml". NULL-terminated; the caller frees the
 * names and the list (file_names_free). NULL where the witness is not installed. */
char **file_names_installed(const char *witness, const char *ending);
void file_names_free(char **names); /* accepts NULL */
/* The same as one text, "b200, b300, ..."; the caller frees it. NULL where there are none. */
char *file_names_text(const char *witness, const char *ending);

#endif
