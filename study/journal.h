/* study/journal.h: the results of a sweep as they come, so that an interrupt loses at most the
 * points in flight. One text file per writing process, FOLDER/journal.<rank>: a head with the
 * sweep's key, then one line per point with its index, the key's first digits and a checksum. Each
 * line is one write; lines that a crash left torn are left out when the journal is read, and their
 * points are computed again. Lines stand in the order in which they finished; journal_read gives
 * grid order.
 */
#ifndef PEOSIM_STUDY_JOURNAL_H
#define PEOSIM_STUDY_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

enum { JOURNAL_ROW_MAX = 4096 };

struct journal_point {
    size_t index;
    char name[32];             /* row of tables and pictures: "peo 3" */
    double layer_us, gain_pct; /* exactly as computed */
    char row[JOURNAL_ROW_MAX]; /* the point's line of the CSV, without the newline */
};

struct journal;

/* Reads what FOLDER holds: which of num_points points are there. Nothing is opened for writing.
 * key: 64 hex digits. ERR_CONFIG (logged) when a journal belongs to another key. */
int journal_open(const char *folder, const char *key, size_t num_points, struct journal **out);
void journal_close(struct journal *j); /* accepts NULL; what was appended is on the disk then */
/* Removes all journals of a folder. */
int journal_remove(const char *folder);

/* Opens this process's file, cutting off a torn end. ERR_IO when another process has it open. */
int journal_begin(struct journal *j, int rank);
/* Writes one line; at most a second of lines is not yet on the disk. ERR_IO, logged. */
int journal_append(struct journal *j, const struct journal_point *p);

bool journal_has(const struct journal *j, size_t index); /* as of journal_open */
size_t journal_count(const struct journal *j);           /* as of journal_open */

/* Calls fn for every point of [from, to) in order of index, from all files as they are on the disk
 * now. Memory does not grow with the range. The first error of fn ends it. */
int journal_read(struct journal *j, size_t from, size_t to,
                 int (*fn)(void *self, const struct journal_point *p), void *self);

#endif
