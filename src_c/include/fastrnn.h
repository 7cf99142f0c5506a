/* fastrnn: recurrent networks on a CPU. The C interface.
 *
 * Letters: T steps, N rows (batch), I inputs, H units, P projected size (0: none), R = P ? P : H
 * the size of h, G gates (RNN 1, GRU 3, LSTM 4), L layers, D directions (1 or 2), F = D * R
 * features of an output (R if the directions are summed). A shape in a comment is row-major, last
 * index fastest.
 *
 * Memory belongs to the caller. The library never allocates, frees, prints, exits or takes a lock
 * (aside from starting, waking and waiting for threads in a call with several): a *_size function
 * says how many bytes, 0 if that is impossible, and a *_create function lays an object out in them.
 * Objects start at an address that is a multiple of FR_ALIGNMENT and stay where they are; other
 * pointers need the alignment of their type. No output may overlap an input or another output, hn
 * and h0 included. Functions that check say so; the others trust their arguments and cannot fail.
 *
 * A model and a linear map are read-only once loaded: any number of threads may use them at once.
 * A workspace belongs to one call, a state to one stream; neither may be used by two threads at
 * once.
 *
 * Results. Every sum is one chain in a fixed order with a fused multiply-add at every term, so an
 * output has the same bits for any batch size and neighbours, any number of threads, any split of a
 * sequence into calls (one step at a time included), and on AVX2, AVX-512 and NEON. Only the "base"
 * kernels (no fused multiply-add) are outside this promise, and between x86-64 and AArch64 the
 * payload of a NaN and results that only rounding lifts to the smallest normal float. NaN in gives
 * NaN out. Denormals are flushed to zero inside calls, whatever the caller's floating-point mode,
 * which is restored on return.
 */
#ifndef FASTRNN_H
#define FASTRNN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(FR_API) /* a host that links the core into itself may keep it to itself: -DFR_API= */
#elif defined(__GNUC__)
#define FR_API __attribute__((visibility("default")))
#else
#error "fastrnn needs GCC or Clang"
#endif

enum {
    FR_ALIGNMENT = 64,     /* bytes, of every object */
    FR_MAX_SIZE = 1 << 20, /* of I, H, P, inputs and outputs */
    FR_MAX_LAYERS = 1 << 10,
    FR_MAX_THREADS = 256,
};

/* ---- shape: what a stack of layers is ---------------------------------------------------- */

/* Activation of gates: 1 / (1 + exp(-x)), or max(0, min(1, alpha x + beta)). */
enum fr_gate_activation { FR_GATE_SIGMOID, FR_GATE_HARD_SIGMOID, FR_GATE_ACTIVATIONS };

typedef struct fr_shape {
    int32_t cell;                /* fr_cell("lstm"), ... */
    int32_t input_size;          /* I */
    int32_t hidden_size;         /* H */
    int32_t proj_size;           /* P < H, where the cell can project; 0: no projection */
    int32_t num_layers;          /* L */
    int32_t num_directions;      /* D */
    int32_t bias;                /* 0: no bias tensors */
    int32_t merge_sum;           /* D = 2: 1 adds the directions, 0 concatenates them */
    int32_t gate_activation;     /* enum fr_gate_activation; sigmoid unless the cell has a choice */
    float gate_alpha, gate_beta; /* of a hard sigmoid: alpha > 0; else 0 */
} fr_shape;

/* Description of a cell. Those of one family are one layer with options. */
typedef struct fr_cell_info {
    const char *name;         /* "gru_reset_before" */
    const char *family;       /* "GRU" */
    int32_t gates;            /* G */
    int32_t states;           /* 1: h; 2: h and c */
    int32_t phases;           /* 2: a product needs the gates of all units first */
    int32_t direct;           /* 1: h0 meets the units also outside the products */
    int32_t project;          /* 1: h can be projected */
    int32_t gate_activations; /* 1: the gates' activation can be chosen */
    int32_t unit_parameters;  /* parameters that a unit has for itself, in the tensor */
    const char *unit_tensor;  /* "weight_ch" (unit_parameters * H); "" if there are none */
} fr_cell_info;

FR_API int32_t fr_cell_count(void);
/* Cells are counted from 0; NULL if there is none of that number. */
FR_API const fr_cell_info *fr_cell_at(int32_t cell);
/* The cell of that name, or -1. */
FR_API int32_t fr_cell(const char *name);

/* NULL if the shape is valid, else a sentence that says what is wrong. */
FR_API const char *fr_shape_error(const fr_shape *shape);

/* The parameters of a stack are one flat vector of floats, tensor after tensor in PyTorch's order:
 * per layer and direction weight_ih (G*H, inputs), weight_hh (G*H, R), bias_ih (G*H), bias_hh
 * (G*H), the cell's unit_tensor (unit_parameters*H), weight_hr (P, H), as far as the shape has
 * them. */
typedef struct fr_tensor {
    char name[48];   /* PyTorch's name, e.g. weight_ih_l0_reverse */
    int64_t rows;    /* first dimension */
    int64_t columns; /* second dimension; -1: there is none */
    size_t offset;   /* floats from the start of the vector */
} fr_tensor;

FR_API size_t fr_parameter_count(const fr_shape *shape);
/* Describes tensor `index`; returns 0 when there is no such tensor. */
FR_API int fr_parameter(const fr_shape *shape, int32_t index, fr_tensor *tensor);

/* ---- model: a shape with packed weights -------------------------------------------------- */

typedef struct fr_model fr_model;

FR_API size_t fr_model_size(const fr_shape *shape);
/* Lays a model out in `memory`; all weights are zero until loaded. NULL if the shape is invalid. */
FR_API fr_model *fr_model_create(const fr_shape *shape, void *memory);
/* Packs (copies) parameters (fr_parameter_count) into the model. */
FR_API void fr_model_load(fr_model *model, const float *parameters);
FR_API const fr_shape *fr_model_shape(const fr_model *model);

/* ---- sequences --------------------------------------------------------------------------- */

/* Step t of row n is element `index` = starts ? starts[t] + n : t * step_stride + n * row_stride of
 * x, y and tokens. So (T, N, ...) has strides N, 1; (N, T, ...) has 1, T; packed data has starts.
 */
typedef struct fr_tape fr_tape; /* see training */

typedef struct fr_sequence {
    int64_t steps, rows;             /* T >= 1; N from 0 to INT32_MAX */
    int64_t step_stride, row_stride; /* used when starts is NULL */
    const int64_t *starts;           /* (T) or NULL; then lengths are given and fall with n */
    const int64_t *lengths;          /* (N) in any order, 0..T each; NULL: all T */
    const float *x;                  /* [index] -> (I) */
    const int64_t *tokens;           /* instead of x: [index] -> a row of the table */
    const float *table;              /* with tokens: from fr_table_fill */
    float *y;             /* [index] -> (F); zero past a row's end, untouched if packed */
    const float *h0, *c0; /* (L*D, N, R) and (L*D, N, H), or NULL for zeros */
    float *hn, *cn;       /* likewise, a row's own last state, or NULL: not wanted */
    fr_tape *tape;        /* training: see there; else NULL */
} fr_sequence;

/* Bytes of workspace that fr_forward needs for exactly this T, N and number of threads; a smaller
 * call may need more. */
FR_API size_t fr_workspace_size(const fr_model *model, int64_t steps, int64_t rows,
                                int32_t threads);
/* Runs whole sequences with at most `threads` threads; fewer where more would not pay. */
FR_API void fr_forward(const fr_model *model, const fr_sequence *sequence, void *workspace,
                       int32_t threads);

/* ---- streams: one step at a time --------------------------------------------------------- */

typedef struct fr_state fr_state;

/* For D = 1. A state holds h and c of every layer for N rows, and what a step needs beside them. */
FR_API size_t fr_state_size(const fr_model *model, int64_t rows);
FR_API fr_state *fr_state_create(const fr_model *model, int64_t rows, void *memory);
/* Sets h (L, N, R) and c (L, N, H), N being the rows that are there now; NULL means zeros. */
FR_API void fr_state_set(const fr_model *model, fr_state *state, const float *h, const float *c);
/* Reads them; either may be NULL. */
FR_API void fr_state_get(const fr_model *model, const fr_state *state, float *h, float *c);
/* x (N, I) -> y (N, R); y may be NULL. Never allocates, locks or starts a thread. */
FR_API void fr_step(const fr_model *model, fr_state *state, const float *x, float *y);
/* The same for tokens (N), each a row of the table. */
FR_API void fr_step_tokens(const fr_model *model, fr_state *state, const float *table,
                           const int64_t *tokens, float *y);
/* N, the rows that are there now. */
FR_API int64_t fr_state_rows(const fr_state *state);
/* Row n becomes a copy of what was row indices[n] < N; `rows`, from 1 to the N that the state was
 * made for, is how many there are from now on: rows may be repeated, dropped and put in any order.
 */
FR_API void fr_state_reorder(fr_state *state, const int64_t *indices, int64_t rows);

/* ---- folded embedding: the x part of the first layer, once per token --------------------- */

/* Bytes of a table for V tokens (D = 1). */
FR_API size_t fr_table_size(const fr_model *model, int64_t tokens);
/* table = bias + W_ih embedding (V, I), in the model's internal order; the same bits as without. */
FR_API void fr_table_fill(const fr_model *model, int64_t tokens, const float *embedding,
                          float *table);

/* ---- linear map -------------------------------------------------------------------------- */

typedef struct fr_linear fr_linear;

FR_API size_t fr_linear_size(int32_t inputs, int32_t outputs);
FR_API fr_linear *fr_linear_create(int32_t inputs, int32_t outputs, void *memory);
/* Packs weight (outputs, inputs) and bias (outputs), NULL: none. */
FR_API void fr_linear_load(fr_linear *linear, const float *weight, const float *bias);
/* y (M, outputs) = x (M, inputs) W^T + bias; x_stride and y_stride are floats between rows. */
FR_API void fr_linear_forward(const fr_linear *linear, int64_t rows, const float *x,
                              int64_t x_stride, float *y, int64_t y_stride, int32_t threads);

/* y (M, V) = x - log sum exp x in every row; y may be x. */
FR_API void fr_log_softmax(int64_t rows, int64_t classes, const float *x, int64_t x_stride,
                           float *y, int64_t y_stride, int32_t threads);

/* ---- convolution in one dimension -------------------------------------------------------- */

/* An output is the bias and a sum over a window of K vectors of C channels, `dilation` positions
 * apart; windows lie `stride` apart, with so many zeros before and after the signal. */
typedef struct fr_conv_shape {
    int32_t inputs, outputs, kernel; /* C, O, K */
    int32_t stride, dilation;
    int32_t groups; /* g, divides C and O */
    int32_t before, after;
} fr_conv_shape;

typedef struct fr_conv fr_conv;

/* NULL if the shape is valid, else a sentence that says what is wrong. */
FR_API const char *fr_conv_error(const fr_conv_shape *shape);
/* Bytes, 0 for an invalid shape. */
FR_API size_t fr_conv_size(const fr_conv_shape *shape);
/* NULL for an invalid shape. */
FR_API fr_conv *fr_conv_create(const fr_conv_shape *shape, void *memory);
/* Packs weight (O, C / g, K) and bias (O), NULL: none. */
FR_API void fr_conv_load(fr_conv *conv, const float *weight, const float *bias);

/* The activation of that name ("relu", "tanh", "softmax", ...; all in cells/activations.def), for
 * networks, or -1. */
FR_API int32_t fr_activation_named(const char *name);

/* ---- attention --------------------------------------------------------------------------- */

/* Queries (T, N, A) look at S positions of a memory with keys (S, B, A) and values (S, B, M); row n
 * at those of sources[n]. Scores: scale q . k, or with `score` v (A): v . tanh(q + k). weights =
 * softmax of the scores over the row's own positions, exactly 0 past its length; context = sum of
 * weights times values, 0 for a row without positions. */
typedef struct fr_attention {
    int64_t steps, rows, positions; /* T, N, S */
    int64_t memory_rows;            /* B; N without sources */
    int64_t size, features;         /* A, M >= 1 */
    const float *queries, *keys, *values;
    const float *score;     /* (A), or NULL for products */
    const int64_t *lengths; /* (B) from 0 to S, or NULL: all S */
    const int64_t *sources; /* (N) from 0 to B - 1, or NULL: row n of B = N */
    float *weights;         /* (T, N, S) */
    float *context;         /* (T, N, M) */
    float scale;
} fr_attention;

FR_API void fr_attend(const fr_attention *attention, int32_t threads);

/* ---- networks: a whole model ------------------------------------------------------------- */

/* A network is a list of operations, each of which gives one value: per row and step `length`
 * vectors of `channels` floats, (length, channels). An operation is named by its place in the list
 * and reads values of earlier ones. Packed weights and arrays are the caller's, shared and
 * read-only, and outlive the network. */
enum fr_operation_kind {
    FR_OP_INPUT,       /* (length, channels) floats from the caller */
    FR_OP_TOKENS,      /* one int64 from 0 to V - 1 from the caller */
    FR_OP_EMBED,       /* a row of table (V, channels) for every token */
    FR_OP_RECURRENT,   /* model; h0 (L * D, R), c0 (L * D, H): first state, NULL: zeros. Of tokens:
                          table from fr_table_fill */
    FR_OP_LINEAR,      /* linear, applied to every vector */
    FR_OP_CONV,        /* conv along `length`, inside a step */
    FR_OP_CONV_TIME,   /* conv along time; streams if it is causal with stride 1 */
    FR_OP_ACTIVATE,    /* `function` from fr_activation_named, with its parameters alpha, beta */
    FR_OP_CHANNELS,    /* `function` 0: x * scale + shift, 1: x where x > 0, else x * scale */
    FR_OP_LAYER_NORM,  /* over the channels, with eps, scale and shift */
    FR_OP_ADD,         /* of two values of one shape; one channel or one vector stands for all */
    FR_OP_MULTIPLY,    /* likewise */
    FR_OP_CONCATENATE, /* channels, one after the other */
    FR_OP_SELECT,      /* channels [first, first + channels) */
    FR_OP_RESHAPE,     /* the same floats as (length, channels) */
    FR_OP_PREVIOUS,    /* value of any operation, later ones too, in the step before; at first 0 */
    FR_OP_ATTEND,      /* queries (A) -> context (M): `attention`, where each row has a source */
    FR_OP_LISTED,      /* (K) -> (channels): x[k] at listed[k], -inf elsewhere */
    FR_OP_POOL,        /* one value for the whole sequence: `function` FR_LAST, FR_MEAN, FR_MAX */
    FR_OP_FLIP,        /* the steps of every row from its last to its first */
    FR_OPS
};
enum { FR_LAST, FR_MEAN, FR_MAX };
enum { FR_MAX_OPERATIONS = 1 << 12, FR_MAX_WIDTH = 1 << 26 }; /* floats of a value */

typedef struct fr_operation {
    int32_t kind;          /* enum fr_operation_kind; of what follows, what the kind names */
    int32_t num_inputs;    /* 1 for most */
    const int32_t *inputs; /* (num_inputs) places of operations */
    int32_t length, channels;
    int32_t first, function;
    float alpha, beta;
    double eps;
    const fr_model *model;
    const fr_linear *linear;
    const fr_conv *conv;
    const float *table, *h0, *c0, *scale, *shift;
    const fr_attention *attention; /* keys, values, score, lengths, scale, and their sizes */
    const int64_t *listed;
} fr_operation;

typedef struct fr_graph {
    int32_t num_operations, num_outputs;
    const fr_operation *operations;
    const int32_t *outputs; /* (num_outputs) places of operations */
} fr_graph;

typedef struct fr_network fr_network;

/* 0 if there are no operations, too many, or no outputs. */
FR_API size_t fr_network_size(const fr_graph *graph);
/* Lays a network out; copies the graph, but not weights and arrays. NULL, or a sentence that says
 * which operations do not fit each other; then there is no network. */
FR_API const char *fr_network_create(const fr_graph *graph, void *memory, fr_network **network);
/* The shape of an operation's value; returns 1 if it has one value for the whole sequence. */
FR_API int fr_network_shape(const fr_network *network, int32_t operation, int32_t *length,
                            int32_t *channels);
/* NULL if the network can go step by step, else a sentence that says why not; and the same for
 * whole sequences. */
FR_API const char *fr_network_step_error(const fr_network *network);
FR_API const char *fr_network_run_error(const fr_network *network);

/* States of live streams: a slot each, of constant size, and memory for a step of all of them.
 * `slot` (rows) picks slots by number, each at most once, in any order; NULL means the rows in
 * their own order: at first slot n is row n, and fr_slots_reorder changes it. */
typedef struct fr_slots fr_slots;

FR_API size_t fr_slots_size(const fr_network *network, int64_t capacity);
/* All slots are as after a reset. */
FR_API fr_slots *fr_slots_create(const fr_network *network, int64_t capacity, void *memory);
/* Returns slots to their first state: learned ones, else zeros. A source stays. */
FR_API void fr_slots_reset(const fr_network *network, fr_slots *slots, int64_t rows,
                           const int64_t *slot);
/* `to` becomes a copy of `from`. */
FR_API void fr_slots_copy(fr_slots *slots, int64_t from, int64_t to);
/* Row n becomes a copy of the former row indices[n]; `rows`, from 1 to the capacity, is their
 * number from now on. */
FR_API void fr_slots_reorder(fr_slots *slots, const int64_t *indices, int64_t rows);
FR_API int64_t fr_slots_rows(const fr_slots *slots);

/* State of a slot for an operation, in parts of (states, rows, width) floats: a stack's h and c
 * (states: L * D), the inputs that a convolution along time still needs, oldest first, a previous
 * value, the weights of attention (states: 1). 0 if there is no such part. */
FR_API int fr_network_part(const fr_network *network, int32_t operation, int32_t part,
                           int64_t *states, int64_t *width);
FR_API void fr_slots_read(const fr_network *network, const fr_slots *slots, int32_t operation,
                          int32_t part, int64_t rows, const int64_t *slot, float *values);
/* NULL: as after a reset. */
FR_API void fr_slots_write(const fr_network *network, fr_slots *slots, int32_t operation,
                           int32_t part, int64_t rows, const int64_t *slot, const float *values);
/* Row of the memory that each row looks at; all slots begin with 0. */
FR_API void fr_slots_look(const fr_network *network, fr_slots *slots, int32_t operation,
                          int64_t rows, const int64_t *slot, const int64_t *sources);

/* One step of some rows. inputs: for every FR_OP_INPUT and FR_OP_TOKENS, in the order of the
 * operations, (rows, length * channels) floats or (rows) int64; outputs: (rows, width) for each, or
 * NULL: not wanted. Never allocates, locks or starts a thread. */
FR_API void fr_network_step(const fr_network *network, fr_slots *slots, int64_t rows,
                            const int64_t *slot, const void *const *inputs, float *const *outputs);

/* Whole sequences of all rows, from what their slots carry, which they carry on. Step t of row n is
 * element t * step_stride + n * row_stride of inputs and outputs; a pooled output is (rows, width).
 */
typedef struct fr_run {
    int64_t steps, rows, step_stride, row_stride;
    const int64_t *lengths; /* (rows) from 0 to steps, or NULL; outputs past them are 0 */
    const void *const *inputs;
    float *const *outputs;
} fr_run;

FR_API size_t fr_run_size(const fr_network *network, int64_t steps, int64_t rows, int32_t threads);
FR_API void fr_network_run(const fr_network *network, fr_slots *slots, const fr_run *run,
                           void *workspace, int32_t threads);

/* The same without outputs, for what the slots carry on: reads tokens, the only input. A network
 * that cannot run whole sequences goes step by step. */
FR_API size_t fr_read_size(const fr_network *network, int64_t steps, int64_t rows, int32_t threads);
FR_API void fr_network_read(const fr_network *network, fr_slots *slots, const fr_run *run,
                            void *workspace, int32_t threads);

/* ---- process ----------------------------------------------------------------------------- */

/* The kernels in use: "base", "avx2", "avx512" or "neon". */
FR_API const char *fr_isa(void);
/* Uses the kernels of that name from now on; returns 0 if this CPU or build does not have them.
 * Call it before other threads use the library. */
FR_API int fr_isa_select(const char *name);
/* 1 if calls can use more than one thread: built with threads; with OpenMP's, not in a forked
 * child, where they may hang. */
FR_API int fr_threads_available(void);
/* Number of threads for which a call that may use `threads` would ask now: 1 for a while after one
 * of them was late, because other programs wanted the processors. */
FR_API int32_t fr_team_size(int32_t threads);
/* Independent multiply-adds and nothing else, `rounds` per register: time it to know the peak of a
 * core. Returns how many multiply-adds were done. */
FR_API int64_t fr_calibrate_fma(int64_t rounds);
/* Reads x (n), there and back in turn, `sweeps` times, in whole chunks of 1024 floats: time it to
 * know the read bandwidth at this footprint. Returns how many floats were read. */
FR_API int64_t fr_calibrate_read(const float *x, size_t n, int64_t sweeps);

#ifdef __cplusplus
}
#endif
#endif
