/* Inside of networks: operations with their shapes, and where each value and each state is. */
#ifndef FASTRNN_NETWORK_H
#define FASTRNN_NETWORK_H

#include "../ops/activation.h"
#include "../ops/conv.h"
#include "../ops/linear.h"
#include "../time/stream.h"

/* An operation of the network, as given and what follows from it. */
struct operation {
    fr_operation given;
    int32_t length, channels; /* of its value */
    size_t width;             /* length * channels */
    int32_t at_end;           /* one value for the whole sequence, behind a pool */
    int32_t place;            /* in the list */
    int32_t port;             /* FR_OP_INPUT, FR_OP_TOKENS: which of the caller's inputs; else -1 */
    int32_t output;           /* which of the outputs it is, -1: none */
    int32_t is_carried;       /* a state depends on it: runs also where no output is wanted */
    int32_t buffer;           /* where its value stands, if not in the caller's memory */
    int32_t source;           /* the place of its first input */
    size_t source_width;      /* and that one's width */
    int32_t folded;           /* a stack on tokens */
    size_t state;             /* its place in a slot, in floats */
    struct fr_stack_slot layout;
};

struct fr_network {
    int32_t num_operations, num_inputs, num_outputs, num_buffers;
    struct operation *operations;
    int32_t *inputs, *outputs; /* (num_inputs), (num_outputs) places of operations */
    int32_t num_active, num_carried;
    int32_t *active, *carried; /* places of operations to run, and of those a state depends on */
    size_t *buffer_size;       /* (num_buffers) floats per row and step */
    size_t slot_size;          /* floats */
    int32_t has_previous;
};

/* Elements of what one operation reads and writes at once: rows of a step, or rows and steps of
 * sequences. */
struct task {
    const struct fr_network *network;
    const struct operation *operation;
    int64_t rows;
    const float *const *value; /* [operation] -> (rows, width); of tokens int64 */
    float *y;                  /* (rows, width) */
};

/* Input i of the task's operation. */
static inline const float *fr_x(const struct task *t, int32_t i) {
    return t->value[t->operation->given.inputs[i]];
}

/* shapes.c: the shape of operation `at` from those before it; NULL or an error. */
const char *fr_shape_operation(const struct operation *operations, const fr_graph *graph,
                               int32_t at, struct operation *out);
/* Floats of a slot that an operation needs. */
size_t fr_operation_state(const struct operation *o);

/* pointwise.c: operations without state, rows [first, last) of the task, in one thread. */
void fr_run_rows(const struct task *task, int64_t first, int64_t last);

static inline const struct operation *fr_input_of(const fr_network *n, const struct operation *o,
                                                  int32_t i) {
    return &n->operations[o->given.inputs[i]];
}

#endif
