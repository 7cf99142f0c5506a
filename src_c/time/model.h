/* Inside of the objects that fastrnn.h keeps opaque. */
#ifndef FASTRNN_MODEL_H
#define FASTRNN_MODEL_H

#include "../include/fastrnn_train.h"
#include "../kernels.h"

struct fr_model {
    fr_shape shape;
    struct fr_layer *layers; /* (L * D), direction inside layer as in PyTorch */
};

struct fr_linear {
    struct fr_matrix matrix;
};

/* The tensors of one layer and direction in a flat vector; biases NULL without. */
struct fr_tensors {
    float *ih, *hh, *b_ih, *b_hh, *ch, *hr;
};
struct fr_tensors fr_layer_tensors(const fr_shape *s, int32_t index, float *parameters);

/* What a cell looks like, from cells.def. */
struct fr_cell_info {
    const char *name;
    int32_t phases, slots, x_slot, h_slot, states, peepholes, direct;
    const char *x_gates, *h_gates, *u_gates, *biases;
};
extern const struct fr_cell_info fr_cells[FR_CELLS];

static inline int64_t fr_gates(const struct fr_cell_info *cell) {
    int64_t n = 0;
    while (cell->x_gates[n]) n++;
    return n;
}

static inline int64_t fr_output_size(const fr_shape *s) { /* R */
    return s->proj_size ? s->proj_size : s->hidden_size;
}
static inline int64_t fr_features(const fr_shape *s) { /* F */
    return fr_output_size(s) * (s->num_directions == 2 && !s->merge_sum ? 2 : 1);
}

/* Lays things out one after the other in the caller's memory, each on a cache line. With base NULL
 * it only counts: the size of an object and its layout come from one piece of code. */
struct fr_arena {
    char *base;
    size_t used;
};
static inline void *fr_take(struct fr_arena *arena, size_t count, size_t size) {
    const size_t at = arena->used, most = SIZE_MAX - FR_ALIGNMENT;
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > most ||
        __builtin_add_overflow(at, (bytes + FR_ALIGNMENT - 1) / FR_ALIGNMENT * FR_ALIGNMENT,
                               &arena->used)) {
        arena->used = SIZE_MAX;
    }
    return arena->base ? arena->base + at : NULL;
}
/* A count of elements for fr_take; SIZE_MAX, which no size survives, if it overflows. */
static inline size_t fr_times(size_t a, size_t b) {
    size_t product;
    return __builtin_mul_overflow(a, b, &product) ? SIZE_MAX : product;
}
/* What a size function returns: 0 stands for more than there can be. */
static inline size_t fr_used(const struct fr_arena *arena) {
    return arena->used == SIZE_MAX ? 0 : arena->used;
}

/* The weights of one layer and direction as the backward pass reads them: from the gradients of its
 * gates, in the order of the tape, to those of x, h, u and of what a projection projects. */
struct fr_backs {
    struct fr_matrix x, h, u, projection;
};

void fr_lay_out_backs(struct fr_backs *backs, const struct fr_layer *layer, struct fr_arena *arena);

struct fr_transpose {
    struct fr_backs *backs; /* (L * D) */
};

/* model.c: a weight matrix in blocks, also for the linear map. */
void fr_lay_out_matrix(struct fr_matrix *m, int32_t inputs, int32_t outputs,
                       struct fr_arena *arena);
void fr_pack_transposed(const struct fr_matrix *m, const float *W); /* W (inputs, outputs) */
void fr_pack_matrix(const struct fr_matrix *m, const float *W, const float *b);

#endif
