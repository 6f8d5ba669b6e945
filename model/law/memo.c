#include "model/law/memo.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

enum { TILE_PLACES = 1024, DENSE_PLACES = 256, KEY_INTS = 7 };

/* Compared as bytes; num_sms or sms of a shape is never 0, so an empty place equals no key. */
struct memo_key {
    int v[KEY_INTS];
};

struct tile_place {
    struct memo_key key;
    struct law_tile tile;
};

struct dense_place {
    struct memo_key key;
    const struct hw_table *table;
    struct cost_work work;
};

struct law_memo {
    struct tile_place tile[TILE_PLACES];
    struct dense_place dense[DENSE_PLACES];
};

int law_memo_open(struct law_memo **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? 0 : ERR_NOMEM;
}

void law_memo_close(struct law_memo *memo)
{
    free(memo);
}

static unsigned place_of(const struct memo_key *key, unsigned places)
{
    unsigned hash = 2166136261u;

    for (int i = 0; i < KEY_INTS; i++)
        hash = (hash ^ (unsigned)key->v[i]) * 16777619u;
    return (hash ^ hash >> 15) % places;
}

static bool same(const struct memo_key *a, const struct memo_key *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

struct law_tile law_memo_tile(const struct law_grouped *in, int m)
{
    struct memo_key key = {
        {in->layout, in->dtype, in->groups, in->n, in->k, in->sms, m},
    };
    struct tile_place *p;

    if (!in->memo)
        return law_deepgemm_tile(in, m);
    p = &in->memo->tile[place_of(&key, TILE_PLACES)];
    if (!same(&p->key, &key))
        *p = (struct tile_place){key, law_deepgemm_tile(in, m)};
    return p->tile;
}

void law_memo_dense(struct law_memo *memo, const double *v, const struct law_dense *in,
                    struct cost_work *out)
{
    struct memo_key key = {
        {in->dtype, in->m, in->n, in->k, in->sms, in->num_sms, in->quantise},
    };
    struct dense_place *p = &memo->dense[place_of(&key, DENSE_PLACES)];

    if (!same(&p->key, &key) || p->table != in->table) {
        law_dense_work(v, in, &p->work);
        p->key = key;
        p->table = in->table;
    }
    *out = p->work;
}
