/* study/journal.h: the results of a sweep as they come, so that an interrupt loses at most the
 * points in flight. One SQLite database, FOLDER/journal.db: table `points` (idx, name, layer_us,
 * gain_pct, row), table `sweep` (key, num_points), and, once a sweep is whole, table `results` with
 * the columns of points.csv. While several processes run, each has a database of its own
 * (journal.RANK.db, no lock is shared between hosts); the first takes them in at the end.
 * A database is written through its write-ahead log and locked as a whole while it is written.
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

/* Reads what FOLDER holds: which of num_points points are there. Nothing is left open.
 * key: 64 hex digits. ERR_CONFIG (logged) when a journal belongs to another key or is no journal,
 * ERR_IO when another process is writing. */
int journal_open(const char *folder, const char *key, size_t num_points, struct journal **out);
void journal_close(struct journal *j); /* accepts NULL; what was appended is on the disk then */
/* Removes all journals of a folder. ERR_IO when another process is writing one. */
int journal_remove(const char *folder);

/* Opens this process's database. ERR_IO when another process has it open. */
int journal_begin(struct journal *j, int rank);
/* Keeps one point; by any thread. A crash of this process loses none that was appended, a crash of
 * the machine the last ones. ERR_IO, logged. */
int journal_append(struct journal *j, const struct journal_point *p);

bool journal_has(const struct journal *j, size_t index); /* as of journal_open */
size_t journal_count(const struct journal *j);           /* as of journal_open */

/* Calls fn for every point of [from, to) in order of index; process 0, after journal_begin and
 * after the others have closed theirs, whose points it takes in. Memory does not grow with the
 * range. The first error of fn ends it. */
int journal_read(struct journal *j, size_t from, size_t to,
                 int (*fn)(void *self, const struct journal_point *p), void *self);

/* Makes table `results` from a CSV with a header: one column of the same name each. Process 0. */
int journal_results(struct journal *j, const char *csv_path);

#endif
