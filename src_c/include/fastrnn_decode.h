/* Decoding: from logits to tokens. Letters and promises as in fastrnn.h. */
#ifndef FASTRNN_DECODE_H
#define FASTRNN_DECODE_H

#include "fastrnn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- decoding ---------------------------------------------------------------------------- */

/* Draws one token per row from logits (rows, V), the first of equal ones coming before the others
 * wherever an order is needed. Row n is skipped if positions[n] < 0. In turn:
 *     temperature  w = exp((x - max x) / temperature); 0: the first largest x; infinity: w = 1
 * where x > -inf top_k        only the k largest x keep their w (0: all) top_p        only the
 * largest x whose w together reach this share of the sum (1: all) min_p        only w >= min_p (the
 * largest w is 1) typical_p    only those with the smallest | -ln p + sum p ln p | that together
 * reach this share (1: all) the draw     the first token, ids rising, up to which the sum of w
 * exceeds u * (sum of w) where u = fr_uniform(keys[n], positions[n]). Sums are in float64, ids
 * rising. tokens[n] is -1 if every x is -inf, -2 if `raw` holds a NaN or +inf; logprobs[n] is the
 * logarithm of the softmax of `raw`, with the bits of fr_log_softmax. */
typedef struct fr_sampling {
    int64_t rows, classes;           /* V <= INT32_MAX */
    const float *logits, *raw;       /* (rows, V); raw: before processors; may be logits */
    const int64_t *keys, *positions; /* (rows) */
    int64_t *tokens;                 /* (rows) */
    float *logprobs;                 /* (rows) */
    float temperature, min_p;
    double top_p, typical_p;
    int64_t top_k;
} fr_sampling;

/* The number in [0, 1), of 53 bits, that belongs to a position of the sequence `key`:
 * mix(mix(key) + (position + 1) 0x9e3779b97f4a7c15) / 2^64 with the mix of splitmix64. */
FR_API double fr_uniform(int64_t key, int64_t position);
FR_API size_t fr_sample_size(int64_t classes, int32_t threads); /* bytes of workspace */
FR_API void fr_sample(const fr_sampling *sampling, void *workspace, int32_t threads);

/* The best k of scores[row] + logprobs[row][token] (in float64) in each of G groups of rows: higher
 * sums, then lower rows, then lower tokens. Sums of -inf and NaN are not taken; what is missing at
 * the end of a group has row -1. With `branches` a row offers only so many, its most probable
 * tokens. */
typedef struct fr_choice {
    int64_t groups, classes, k;  /* G, V */
    int64_t branches;            /* 0: any number */
    const int64_t *first, *last; /* (G): rows of a group, first <= row < last */
    const float *logprobs;       /* (rows, V) */
    const double *scores;        /* (rows) */
    double *best;                /* (G, k) sums, falling */
    int64_t *best_rows, *tokens; /* (G, k) */
} fr_choice;

FR_API void fr_choose(const fr_choice *choice, int32_t threads);
/* Every row of x (rows, V) becomes its log-softmax; returns the first that holds a NaN, or rows. */
FR_API int64_t fr_normalize(int64_t rows, int64_t classes, float *x, int32_t threads);

/* Sampling and beam search over the tokens of a network, for as long as nothing needs a decision:
 * until a token comes that may end a text, or a row that cannot go on. What was fed and found stays
 * in a record of (steps + 1, capacity) values: row 0 holds what to begin with, row t + 1 what step
 * t took. A run returns how many steps were decided. If these are fewer than `steps`, one more has
 * been made, and what it found (a draw in the next row, a search in its choice) waits: a caller
 * decides, reorders the state and begins anew. The network takes all of the V tokens that may be
 * found. */
typedef struct fr_draws {
    const fr_network *network;
    fr_sampling *sampling; /* of all rows of the state; raw is where the network's logits go */
    float *raw;            /* the same */
    const uint8_t *ends;   /* (V): whether a token may end a text */
    int64_t capacity;
    int64_t *tokens;    /* (steps + 1, capacity); the last step's may be an end, or below 0 */
    float *logprobs;    /* (steps + 1, capacity), row 0 unused */
    int64_t *positions; /* sampling's; one more after every decided step */
} fr_draws;

FR_API int64_t fr_draw_steps(const fr_draws *draws, int64_t steps, void *workspace,
                             int32_t threads);

/* G groups have one row each or `beams` rows each, group by group, and `beams` after every decided
 * step. */
typedef struct fr_search {
    const fr_network *network;
    fr_choice *choice;     /* of the last step; its k is at least `beams` */
    float *logits;         /* choice's logprobs */
    int64_t *first, *last; /* choice's */
    const uint8_t *ends;
    int64_t beams, capacity;
    int64_t *tokens, *parents; /* (steps + 1, capacity); parents: rows of the step before */
    double *scores;            /* (steps + 1, capacity) sums of logprobs */
    float *logprobs;           /* (steps + 1, capacity) */
    int64_t nan_row; /* result: the first row of the waiting step that holds a NaN, or -1 */
} fr_search;

FR_API int64_t fr_search_steps(fr_search *search, int64_t steps, int32_t threads);

/* Sets to -inf what an automaton does not allow: row n is in states[n] (< 0: free), whose tokens
 * stand, rising, from offsets[state] to offsets[state + 1], each with the number of tokens that are
 * still needed after it; those that need more than remaining[n] are not allowed. */
typedef struct fr_grammar {
    int64_t rows, classes;
    float *logits;                            /* (rows, V) */
    const int64_t *states, *remaining;        /* (rows) */
    const int64_t *offsets, *tokens, *needed; /* (S + 1), (E), (E) */
} fr_grammar;

FR_API void fr_constrain(const fr_grammar *grammar);

/* The first index whose value is not 0 to limit - 1, or n: for callers that check what they pass
 * on. */
FR_API int64_t fr_first_outside(const int64_t *values, int64_t n, int64_t limit);

#ifdef __cplusplus
}
#endif
#endif
