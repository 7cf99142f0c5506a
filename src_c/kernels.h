/* Interface of the kernels to time (sequence.c): one table of functions per instruction set.
 *
 * The packed layout. Units come in blocks of U: 16, or 64 for cells with one slot, so that a row of
 * weights is a few whole cache lines either way. A block holds, one after the other,
 *
 *     x rows   [k = 0..I-1][x gate][U]
 *     h rows   [k = 0..K-1][h gate][U]
 *     u rows   [k = 0..H-1][u gate][U]       second phase, if the cell has one
 *
 * so that one step of a stream is one linear sweep. Missing units are zero; a last block of a
 * one-slot cell is only as wide as it must be (16, 32, 48 or 64), and the h rows of a narrow one
 * begin where those of a full one would. Gate buffers, the bias and the
 * training tape share one order, [block][slot][U]: the x product lands exactly where the h product
 * starts, and the backward pass can put gradients in place of gates.
 *
 * The sum of every output is one chain over k in rising order, fused at every term, or `chains` of
 * them dealt out in turn (k mod chains) and added as a fixed tree after the x part and after the h
 * part. `chains` depends on the number of outputs alone, never on rows, threads or lanes.
 */
#ifndef FASTRNN_KERNELS_H
#define FASTRNN_KERNELS_H

#include "include/fastrnn.h"

enum {
    FR_GROUP = 16,    /* lanes that a block is padded to on every instruction set */
    FR_ROW = 64,      /* widest row of a block: 4 gates of 16 units or 64 units */
    FR_TILE_ROWS = 6, /* most rows that one product tile takes at a time */
};

enum fr_cell_id {
#define CELL(name, ...) FR_CELL_##name,
#include "cells/cells.def"
#undef CELL
    FR_CELLS
};

enum fr_activation_id {
#define ACTIVATION(name, ...) FR_ACTIVATION_##name,
#include "cells/activations.def"
#undef ACTIVATION
    FR_ACTIVATIONS
};

/* The columns of cells.def as constants: slots of a part, the first of them that it fills, and how
 * many; parameters per unit. */
#define FR_SLOT_HAS(part, slot) ((part "    ")[slot] >= '0')
#define FR_FIRST_SLOT(part)     \
    (FR_SLOT_HAS(part, 0)   ? 0 \
     : FR_SLOT_HAS(part, 1) ? 1 \
     : FR_SLOT_HAS(part, 2) ? 2 \
     : FR_SLOT_HAS(part, 3) ? 3 \
                            : 4)
#define FR_NUM_GATES(part) \
    (FR_SLOT_HAS(part, 0) + FR_SLOT_HAS(part, 1) + FR_SLOT_HAS(part, 2) + FR_SLOT_HAS(part, 3))
#define FR_NUM_SLOTS(part) ((int)sizeof(part) - 1)
#define FR_NUM_UNIT_PARAMETERS(list) ((int)sizeof(list) / 3)

/* Storage of a weight. */
enum fr_precision { FR_FLOAT32 };

/* A packed weight matrix, by itself or as a part of a layer's blocks. Block b has the outputs from
 * b * width on; its rows [k = 0..inputs-1][width] lie `stride` elements behind those of block
 * b - 1, and its result j goes to float y_first + b * y_stride + j of a row of y, so that a matrix
 * can write into the slots of a gate buffer. A bias lies as y does. */
struct fr_matrix {
    void *data;              /* (blocks, inputs, width), the last block narrower */
    float *bias;             /* as a row of y; zeros when there is none */
    size_t stride;           /* elements from one block to the next */
    int32_t inputs, outputs; /* outputs = 0: there is no such matrix */
    int32_t blocks, width;   /* width: a multiple of 16, at most FR_ROW */
    int32_t y_first, y_stride;
    int32_t chains, precision; /* enum fr_precision */
    int32_t far;               /* too large for a cache to keep it from one product to the next */
};

/* One recurrent layer in one direction: x, h and u are views of its blocks. Gates are padded units,
 * so their outputs are blocks * width, or for one slot the groups of 16 that exist. */
struct fr_layer {
    struct fr_matrix x, h, u;    /* from I; from K, which is H, or P with a projection; from H */
    struct fr_matrix projection; /* (P, H) */
    float *bias;                 /* (blocks, slots, U) */
    float *unit_parameters;      /* (blocks, count, U), or NULL */
    float gate_alpha, gate_beta;
    int32_t cell, gate_activation; /* enum fr_cell_id, enum fr_gate_activation */
    int32_t units;                 /* H */
    int32_t slots, unit;           /* slots per unit, U */
    int32_t blocks;
};

/* Floats from one row in [block][slot][U] order to the next, and of one row of padded units. Gate
 * rows are kept off multiples of 1 KiB: the rows of a tile would meet in the same sets of L1. */
static inline size_t fr_gate_row(const struct fr_layer *l) {
    const size_t floats = (size_t)l->blocks * (size_t)l->slots * (size_t)l->unit;
    return floats % 256 == 0 ? floats + 32 : floats;
}
static inline size_t fr_unit_row(const struct fr_layer *l) {
    return (size_t)l->blocks * (size_t)l->unit;
}

/* One time step of some rows for the blocks [begin, end), walked backwards if `reversed`. */
struct fr_step {
    const struct fr_layer *layer;
    const float *const *x;     /* [rows] -> (I); NULL when `gates` hold the x part */
    const float *const *gates; /* [rows] -> (blocks, slots, U); NULL when `x` is given */
    const float *const *h0;    /* [rows] -> (K) */
    float *const *h1;          /* [rows] -> (H), before a projection */
    const float *const *c0;    /* [rows] -> (blocks * U); may be those of c1 */
    float *const *c1;          /* [rows] -> (blocks * U) */
    float *const *saved; /* [rows] -> (blocks, slots, U): receives the slots; may be `gates`; NULL:
                            not wanted, but cells with a second phase need it */
    float *c_saved;      /* (rows, blocks * U): a copy of c1; NULL: not wanted */
    float *u;            /* (rows, blocks * U): r * h0 for a second phase, else unused */
    int32_t rows;
    int32_t begin, end;
    int32_t reversed;
};

/* One time step backwards, for some rows and the blocks [begin, end): gates become the gradients of
 * their pre-activations. A second phase comes between the products with the dz of u and of h. */
struct fr_back {
    const struct fr_layer *layer;
    float *const *gates;    /* [rows] -> (blocks, slots, U): in activated, out dz */
    const float *const *h0; /* [rows] -> (H); cells with a direct part only */
    const float *const *c0; /* [rows] -> (blocks * U), LSTM */
    const float *c1;        /* (rows, blocks * U), LSTM */
    const float *const *dy; /* [rows] -> (H): from the layer above; NULL: zeros */
    float *const *dh;       /* [rows] -> (blocks * U): in from later steps, out the direct part */
    float *dc;              /* (rows, blocks * U), LSTM: gradient of c1, then of c0 */
    const float *du;        /* (rows, blocks * U), second phase */
    float *const
        *dz_h; /* [rows] -> (blocks, h gates, U): a copy of those slots; NULL: not wanted */
    float *const *dz_u; /* [rows] -> (blocks, u gates, U) likewise */
    float *flow; /* (rows, blocks, 2): square of the gradient of h1, saturated gates; NULL: not
                    wanted */
    int32_t rows;
    int32_t begin, end;
};

/* y = bias + W x, or y += W x, for some rows and the blocks [begin, end). */
struct fr_product {
    const struct fr_matrix *matrix;
    const float *const *x; /* [rows] -> (inputs) */
    float *const *y;       /* [rows] -> results */
    int64_t rows;
    int32_t begin, end;
    int32_t accumulate; /* y += */
    int32_t reversed;   /* last block first: what is still in the cache comes first */
};

/* An activation over M rows of C outputs; a and b are its parameters, 0 where it has fewer. */
typedef struct fr_activation {
    int32_t function; /* enum fr_activation_id */
    float a, b;
    int64_t rows, size; /* M, C */
    const float *x;     /* (M, C), of a PAIR (M, 2 C); backward NULL unless `reads` has it */
    float *y;        /* (M, C), may be x unless of a PAIR; backward only read, or NULL likewise */
    const float *dy; /* (M, C), backward only */
    float *dx;       /* like x, is written, not added to; may be dy unless of a PAIR */
} fr_activation;

enum fr_channel_rule {
    FR_SCALE_SHIFT, /* y = x weight + bias, fused: a batch norm with fixed statistics */
    FR_PRELU,       /* y = x where x > 0, else x weight */
};

/* Each of M rows of C channels with the same weights. */
typedef struct fr_channels {
    int32_t rule;        /* enum fr_channel_rule */
    int64_t rows, size;  /* M, C */
    const float *x;      /* (M, C) */
    const float *weight; /* (C) */
    const float *bias;   /* (C), of FR_SCALE_SHIFT */
    float *y;            /* (M, C), may be x */
    const float *dy;     /* (M, C), backward only */
    float *dx;           /* (M, C), is written; may be dy; NULL: not wanted */
    float *dweight;      /* (C), added to, the last row first; NULL: not wanted */
    float *dbias;        /* (C) likewise */
} fr_channels;

/* y = normal * weight + bias, normal = (x - mean) / sqrt(variance + eps), over each of M rows of C.
 */
typedef struct fr_norm {
    int64_t rows, size; /* M, C */
    double eps;
    const float *x;      /* (M, C), forward */
    const float *weight; /* (C) */
    const float *bias;   /* (C), forward */
    float *y;            /* (M, C), forward; may be x */
    float *normal;       /* (M, C), written for the way back, where it is read; NULL: not wanted */
    float *inverse;      /* (M) likewise: 1 / sqrt(variance + eps) */
    const float *dy;     /* (M, C), backward only */
    float *dx;           /* (M, C), is written; may be dy */
    float *dweight;      /* (C), the sum over rows is added to it */
    float *dbias;        /* (C) likewise */
} fr_norm;

/* Rows of a panel, which one visit of a weight gradient adds. FR_STRIP columns lie together:
 * (strips, FR_PANEL_ROWS, FR_STRIP), padded with zeros. */
enum { FR_PANEL_ROWS = 256, FR_STRIP = 16 };

/* A depthwise convolution: y = bias + the sum over taps of x weight, every channel by itself, in 4
 * chains; or, backward, dx += dy weight, row after row. */
struct fr_depthwise {
    const float *weight;    /* (taps, stride) */
    const float *bias;      /* (stride) */
    const float *const *x;  /* [rows][taps] -> (C) */
    float *const *y;        /* [rows] -> (C) */
    const float *const *dy; /* [rows] -> (C), backward only */
    float *const *dx;       /* [rows][taps] -> (C), or NULL: not wanted */
    size_t stride;          /* C in whole groups of 16 */
    int64_t rows;
    int32_t taps, channels; /* K, C */
};

/* out[g][i] += a[row][g] b[row][i], row after row, for up to 16 neighbouring g. */
struct fr_outer {
    const float *const *a; /* [rows] -> (16) */
    const float *b;        /* a panel */
    float *const *out;     /* [outputs] -> (width) */
    int32_t rows, outputs, width;
};

/* out[g] += a[row][g], or += a[row][g] b[row][g], row after row, for up to 16 neighbouring g. */
struct fr_columns {
    const float *const *a, *const *b; /* [rows] -> (16); b may be NULL */
    float *out;                       /* (outputs) */
    int32_t rows, outputs;
};

struct fr_softmax;
struct fr_update;
struct fr_scatter;
struct fr_attention;
struct fr_attention_gradients;

/* Functions of one cell with one activation of its gates. */
struct fr_cell_kernels {
    void (*step)(const struct fr_step *);
    void (*second)(const struct fr_step *); /* second phase, NULL where there is none */
    void (*back)(const struct fr_back *);
    void (*back_second)(const struct fr_back *);
};

struct fr_kernels {
    const char *name;
    void (*product)(const struct fr_product *);
    struct fr_cell_kernels cell[FR_CELLS][FR_GATE_ACTIVATIONS];
    void (*depthwise)(const struct fr_depthwise *);
    void (*depthwise_back)(const struct fr_depthwise *);
    void (*outer)(const struct fr_outer *);
    void (*columns)(const struct fr_columns *);
    int64_t (*fma)(int64_t rounds, float *sink); /* returns the multiply-adds done */
    int64_t (*read)(const float *x, size_t n, int64_t sweeps, float *sink); /* the floats read */

    /* Elementwise passes (activation.h, elementwise.h). Activations take a range of what
     * fr_activation_units counts. */
    void (*activate)(const fr_activation *, int64_t first, int64_t last);
    void (*activate_back)(const fr_activation *, int64_t first, int64_t last);
    void (*channels)(const fr_channels *, int64_t first, int64_t last);      /* rows */
    void (*channels_back)(const fr_channels *, int64_t first, int64_t last); /* channels */
    void (*layer_norm)(const fr_norm *, int64_t first, int64_t last);        /* rows */
    void (*layer_norm_back)(const fr_norm *, int64_t first, int64_t last);   /* rows of dx */
    void (*layer_norm_sums)(const fr_norm *, int64_t first, int64_t last);   /* channels */
    void (*add)(const float *a, const float *b, float *y, size_t n);
    void (*multiply)(const float *a, const float *b, float *y, size_t n);

    /* Losses and updates (loss.c, update.c); structs of fastrnn.h, some rows or a range of each. */
    int64_t (*cross_entropy)(const struct fr_softmax *, int64_t first, int64_t last);
    void (*log_softmax)(const float *x, float *y, int64_t n);
    /* Decoding: log_softmax x = (x - *max) - *log_sum; the first index from `from` with x > bound,
     * or n; y = exp((x - max) / temperature). */
    void (*normalizer)(const float *x, int64_t n, float *max, float *log_sum);
    int64_t (*next_above)(const float *x, int64_t from, int64_t n, float bound);
    void (*weigh)(const float *x, float *y, int64_t n, float max, float temperature);
    void (*update)(const struct fr_update *, size_t first, size_t last);
    double (*squares)(const float *x, size_t n); /* of at most FR_NORM_BLOCK values */
    void (*scale)(float *x, size_t n, float factor);
    void (*clip)(float *x, size_t n, float bound);
    void (*add_rows)(const struct fr_scatter *, int64_t first, int64_t last); /* columns */

    /* Attention (attention.c): pairs of a row and a step, row * T + t; backwards whole rows. */
    void (*attend)(const struct fr_attention *, int64_t first, int64_t last);
    void (*attend_back)(const struct fr_attention *, const struct fr_attention_gradients *,
                        int64_t first, int64_t last);
};

static inline const struct fr_cell_kernels *fr_cell_kernels(const struct fr_kernels *kernels,
                                                            const struct fr_layer *layer) {
    return &kernels->cell[layer->cell][layer->gate_activation];
}

extern const struct fr_kernels fr_kernels_base, fr_kernels_avx2, fr_kernels_avx512, fr_kernels_neon;

/* The table in use (dispatch.c); chosen once, before the first call. */
const struct fr_kernels *fr_active_kernels(void);

#endif
