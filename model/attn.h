/* model/attn.h: closed forms of one attention or state-space module (plan/attn.h): weights, cache
 * or state, work. Of all heads; a rank's share follows from a shape with fewer heads. */
#ifndef PEOSIM_MODEL_ATTN_H
#define PEOSIM_MODEL_ATTN_H

#include "plan/attn.h"

/* Weights, biases and norms apart: what computes queries, keys, values, gates and indices from the
 * hidden state; and the output projection. */
double attn_params_in(const struct attn_shape *s);
double attn_params_out(const struct attn_shape *s);
double attn_params(const struct attn_shape *s);
/* One rank's share under tensor parallelism over tp ranks: heads are split (KV heads down to one,
 * which is then repeated); latents and the indexer of latents are whole on every rank. */
struct attn_shape attn_of_rank(const struct attn_shape *s, int tp);

/* Elements of cache that one request of `context` tokens keeps in one layer, and beside them those
 * of the indexer's keys (stored in FP8 whatever the cache's type). */
double attn_cache_elements(const struct attn_shape *s, double context);
double attn_index_elements(const struct attn_shape *s, double context);
/* Both in bytes: index keys take one byte and a four-byte scale a key. */
double attn_cache_bytes(const struct attn_shape *s, double context, double bytes_per_element);
/* Bytes of state that one request keeps whatever its context. */
double attn_state_bytes(const struct attn_shape *s);

/* Keys (latents, tokens) that one query attends to among `context`. */
double attn_keys(const struct attn_shape *s, double context);
/* Bytes that one decoding token reads of cache, index keys and state (the state is written too). */
double attn_read_bytes(const struct attn_shape *s, double context, double bytes_per_element);
/* FLOPs of one token besides its projections: scores and values over the keys attended to, index
 * scores, the state's update. absorbed: MLA works on the latent. */
double attn_flops(const struct attn_shape *s, double context, bool absorbed);

#endif
