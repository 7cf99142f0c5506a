/* Decoding: from logits to tokens. Letters and promises as in fastrnn.h. */
#ifndef FASTRNN_DECODE_H
#define FASTRNN_DECODE_H

#include "fastrnn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- sampling ---------------------------------------------------------------------------- */

/* The draw of one token from a row of logits x (V), the first of equal ones coming before the
 * others wherever an order is needed. In turn:
 *     temperature  w = exp((x - max x) / temperature); 0: the first largest x; infinity: w = 1
 *                  where x > -inf
 *     top_k        only the k largest x keep their w (0: all)
 *     top_p        only the largest x whose w together reach this share of the sum (1: all)
 *     min_p        only w >= min_p (the largest w is 1)
 *     typical_p    only those with the smallest | -ln p + sum p ln p | that together reach this
 *                  share (1: all)
 *     the draw     the first token, ids rising, up to which the sum of w exceeds u * (sum of w)
 *                  where u = fr_uniform(key, position). Sums are in float64, ids rising. */
typedef struct fr_sampling {
    float temperature, min_p;
    double top_p, typical_p;
    int64_t top_k;
} fr_sampling;

/* The number in [0, 1), of 53 bits, that belongs to a position of the sequence `key`:
 * mix(mix(key) + (position + 1) 0x9e3779b97f4a7c15) / 2^64 with the mix of splitmix64. */
FR_API double fr_uniform(int64_t key, int64_t position);

/* Draws for up to N rows and S steps. */
typedef struct fr_sampler_plan {
    fr_sampling how;
    int64_t classes, capacity, steps; /* V <= INT32_MAX, N, S >= 1 */
    int32_t threads;
    int32_t has_processors; /* 1: `raw` and `logits` are two arrays, and runs have one step */
    const uint8_t *ends;    /* (V): whether a token may end a text; copied */
} fr_sampler_plan;

/* Arrays of a sampler, which are part of it. */
typedef struct fr_sampled {
    float *raw;            /* (N, V): what a network gave */
    float *logits;         /* (N, V): what is drawn from, after processors */
    int64_t *keys;         /* (N) */
    int64_t *positions;    /* (N): of the next token in its sequence; < 0: the row is skipped */
    const int64_t *tokens; /* (S, N): row t drawn in step t of a run */
    const float *logprobs; /* (S, N) */
} fr_sampled;

typedef struct fr_sampler fr_sampler;

FR_API size_t fr_sampler_size(const fr_sampler_plan *plan);
FR_API fr_sampler *fr_sampler_create(const fr_sampler_plan *plan, void *memory);
FR_API fr_sampled fr_sampler_arrays(fr_sampler *sampler);
/* Draws a token for each of the first `rows` rows, whose logits are there, and goes on for as long
 * as nothing needs a decision: feeds what was drawn to all rows of the slots and draws again, until
 * a token comes that may end a text, or a row that cannot go on, or `steps` (1 to S) have been
 * drawn. Returns how many; the last of them have not been fed. A token is -1 if every x is -inf, -2
 * if `raw` holds a NaN or +inf; logprobs is the logarithm of the softmax of `raw`, with the bits of
 * fr_log_softmax. The network takes all V tokens, its only input, and gives V logits, its only
 * output; one step needs neither it nor slots. */
FR_API int64_t fr_sampler_run(fr_sampler *sampler, const fr_network *network, fr_slots *slots,
                              int64_t rows, int64_t steps);

/* ---- beam search ------------------------------------------------------------------------- */

typedef struct fr_search_plan {
    int64_t classes, capacity, steps; /* V, N rows of beams, S >= 1 */
    int64_t groups;                   /* G: up to so many are searched in at once */
    int64_t k;                        /* candidates of a group, at least `beams` */
    int64_t beams;                    /* of every group in a run */
    int64_t branches;                 /* a row offers only so many, its most probable; 0: all */
    int32_t threads;
    const uint8_t *ends; /* (V): whether a token may end a text; copied */
} fr_search_plan;

/* Arrays of a search, which are part of it. */
typedef struct fr_searched {
    float *logits;      /* (N, V): what a network gave, then their log-softmax */
    double *scores;     /* (S, N) sums of logprobs; row 0: of the rows that are there */
    const double *best; /* (G, k) sums, falling */
    const int64_t *rows,
        *candidates;                 /* (G, k) of the best: their rows, -1: there is none; tokens */
    const int64_t *tokens, *parents; /* (S, N): row t + 1 taken in step t, row 0 unused; parents:
                                        rows of the step before */
    const float *logprobs;           /* (S, N), likewise */
} fr_searched;

typedef struct fr_search fr_search;

FR_API size_t fr_search_size(const fr_search_plan *plan);
FR_API fr_search *fr_search_create(const fr_search_plan *plan, void *memory);
FR_API fr_searched fr_search_arrays(fr_search *search);
/* The first `rows` rows of logits become their log-softmax; returns the first that holds a NaN, or
 * rows. */
FR_API int64_t fr_search_normalize(fr_search *search, int64_t rows);
/* Chooses among rows whose log-softmax is there: the best k of scores[row] + logprob (in float64)
 * in each of `groups` groups of rows, group g being first[g] to last[g] - 1: higher sums, then
 * lower rows, then lower tokens. Sums of -inf and NaN are not taken. Goes on as fr_sampler_run
 * does, with the first `beams` candidates of every group as the next rows, until one of them may
 * end a text or is not there, or `steps` (1 to S) choices have been made. Returns how many were
 * taken and fed; the choice after them waits, unless *nan_row, else -1, is the first row with a
 * NaN. One step needs neither network nor slots. */
FR_API int64_t fr_search_run(fr_search *search, const fr_network *network, fr_slots *slots,
                             int64_t groups, const int64_t *first, const int64_t *last,
                             int64_t steps, int64_t *nan_row);

/* ---- constraints ------------------------------------------------------------------------- */

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
