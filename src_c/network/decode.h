/* One step of a sampler and of a search: draws and choices over rows of logits. */
#ifndef FASTRNN_DECODE_INSIDE_H
#define FASTRNN_DECODE_INSIDE_H

#include "../include/fastrnn_decode.h"

/* One token for each of some rows; see fr_sampler_run. */
struct fr_draw {
    int64_t rows, classes;
    const float *logits, *raw;       /* (rows, V); raw: before processors; may be logits */
    const int64_t *keys, *positions; /* (rows) */
    int64_t *tokens;                 /* (rows) */
    float *logprobs;                 /* (rows) */
    fr_sampling how;
};

size_t fr_draw_size(int64_t classes, int32_t threads); /* bytes of workspace, 0: impossible */
void fr_draw_rows(const struct fr_draw *draw, void *workspace, int32_t threads);

/* The best k of some groups of rows; see fr_search_run. */
struct fr_choice {
    int64_t groups, classes, k;  /* G, V */
    int64_t branches;            /* 0: any number */
    const int64_t *first, *last; /* (G): rows of a group, first <= row < last */
    const float *logprobs;       /* (rows, V) */
    const double *scores;        /* (rows) */
    double *best;                /* (G, k) sums, falling */
    int64_t *best_rows, *tokens; /* (G, k) */
};

void fr_choose(const struct fr_choice *choice, int32_t threads);
/* Every row of x (rows, V) becomes its log-softmax; returns the first that holds a NaN, or rows. */
int64_t fr_normalize(int64_t rows, int64_t classes, float *x, int32_t threads);

#endif
