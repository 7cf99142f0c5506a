/* Inside of the objects that fastrnn.h keeps opaque. */
#ifndef FASTRNN_MODEL_H
#define FASTRNN_MODEL_H

#include "../include/fastrnn_train.h"
#include "../matrix/matrix.h"
#include "shape.h"

struct fr_model {
    fr_shape shape;
    struct fr_layer *layers; /* (L * D), direction inside layer as in PyTorch */
};

struct fr_linear {
    struct fr_matrix matrix;
};

/* The weights of one layer and direction as the backward pass reads them: from the gradients of its
 * gates, in the order of the tape, to those of x, h, u and of what a projection projects. */
struct fr_backward_layer {
    struct fr_matrix x, h, u, projection;
};

struct fr_backward_weights {
    struct fr_backward_layer *layers; /* (L * D) */
};

void fr_lay_out_backward(struct fr_backward_layer *out, const struct fr_layer *layer,
                         struct fr_arena *arena);

#endif
