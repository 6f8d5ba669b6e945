/* base/arena.h: many small allocations with one life and one free. */
#ifndef PEOSIM_BASE_ARENA_H
#define PEOSIM_BASE_ARENA_H

#include <stddef.h>

struct arena;

struct arena *arena_new(void); /* NULL when memory is out */
void arena_free(struct arena *a);
/* Zeroed, aligned for any object; NULL when memory is out. */
void *arena_alloc(struct arena *a, size_t size);
/* A NUL-terminated copy of len bytes. */
char *arena_copy(struct arena *a, const char *text, size_t len);

#endif
