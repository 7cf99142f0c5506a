/* Facts of a shape about its layers: cells, sizes, tensors. */
#ifndef FASTRNN_SHAPE_H
#define FASTRNN_SHAPE_H

#include "../include/fastrnn.h"
#include "../kernels.h"

/* A line of cells.def: what it tells everybody, and how the slots lie. */
struct fr_cell_data {
    fr_cell_info info;
    int32_t slots;
    const char *x, *h, *u, *bias; /* a character for every slot */
    const char *unit;             /* three for every parameter of a unit */
};
extern const struct fr_cell_data fr_cells[FR_CELLS];

/* The gate whose rows slot `slot` is a product with, by a column of cells.def; -1: none. */
static inline int32_t fr_gate_of(const char *part, int32_t slot) {
    return part[slot] == '-' ? -1 : part[slot] - '0';
}
/* The slots that a column fills are neighbours: how many there are, and the first. */
int32_t fr_num_gates(const char *part);
int32_t fr_first_slot(const char *part);

static inline int64_t fr_output_size(const fr_shape *s) { /* R */
    return s->proj_size ? s->proj_size : s->hidden_size;
}
static inline int64_t fr_features(const fr_shape *s) { /* F */
    return fr_output_size(s) * (s->num_directions == 2 && !s->merge_sum ? 2 : 1);
}

/* The tensors of one layer and direction in a flat vector; biases NULL without. */
struct fr_tensors {
    float *ih, *hh, *b_ih, *b_hh, *unit, *hr;
};
struct fr_tensors fr_layer_tensors(const fr_shape *s, int32_t index, float *parameters);

#endif
