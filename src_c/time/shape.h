/* What a shape says about its layers: cells, sizes, tensors. */
#ifndef FASTRNN_SHAPE_H
#define FASTRNN_SHAPE_H

#include "../include/fastrnn.h"
#include "../kernels.h"

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

/* The tensors of one layer and direction in a flat vector; biases NULL without. */
struct fr_tensors {
    float *ih, *hh, *b_ih, *b_hh, *ch, *hr;
};
struct fr_tensors fr_layer_tensors(const fr_shape *s, int32_t index, float *parameters);

#endif
