/* Shapes, the flat parameter vector, and packing: where a number of PyTorch's tensors goes.
 * The packed layout itself is described in kernels.h. */
#include "model.h"
#include "team.h"

#include <stdio.h>
#include <string.h>

const struct fr_cell_info fr_cells[FR_CELLS] = {
#define CELL(name, phases, slots, x_slot, x_gates, h_slot, h_gates, u_gates, biases, states, \
             peepholes, direct)                                                              \
    {#name,     phases, slots,   x_slot,  h_slot,  states,                                   \
     peepholes, direct, x_gates, h_gates, u_gates, biases},
#include "../cells/cells.def"
#undef CELL
};

int32_t fr_cell(const char *name) {
    for (int32_t i = 0; i < FR_CELLS; i++) {
        if (strcmp(fr_cells[i].name, name) == 0) return i;
    }
    return -1;
}

static int in_range(int32_t value, int32_t low, int32_t high) {
    return low <= value && value <= high;
}

const char *fr_shape_error(const fr_shape *s) {
    if (!in_range(s->cell, 0, FR_CELLS - 1)) return "cell is not one that fr_cell returns";
    if (!in_range(s->input_size, 0, FR_MAX_SIZE)) return "input_size must be 0 to 1048576";
    if (!in_range(s->hidden_size, 1, FR_MAX_SIZE)) return "hidden_size must be 1 to 1048576";
    if (!in_range(s->num_layers, 1, FR_MAX_LAYERS)) return "num_layers must be 1 to 1024";
    if (!in_range(s->num_directions, 1, 2)) return "num_directions must be 1 or 2";
    if (!in_range(s->bias, 0, 1)) return "bias must be 0 or 1";
    if (!in_range(s->merge_sum, 0, 1)) return "merge_sum must be 0 or 1";
    if (s->proj_size && fr_cells[s->cell].states != 2) return "only an LSTM has a projection";
    if (!in_range(s->proj_size, 0, s->hidden_size - 1))
        return "proj_size must be 0 or less than hidden_size";
    return NULL;
}

/* ---- the flat parameter vector ----------------------------------------------------------- */

enum kind { WEIGHT_IH, WEIGHT_HH, BIAS_IH, BIAS_HH, WEIGHT_CH, WEIGHT_HR, KINDS };

/* First and second dimension of a kind of tensor in layer `layer`; 0, 0: the shape has none. */
static void dimensions(const fr_shape *s, int32_t layer, enum kind kind, int64_t *rows,
                       int64_t *columns) {
    const struct fr_cell_info *cell = &fr_cells[s->cell];
    const int64_t H = s->hidden_size, wide = fr_gates(cell) * H;
    *rows = *columns = 0;
    switch (kind) {
    case WEIGHT_IH:
        *rows = wide, *columns = layer ? fr_features(s) : s->input_size;
        break;
    case WEIGHT_HH:
        *rows = wide, *columns = fr_output_size(s);
        break;
    case BIAS_IH:
    case BIAS_HH:
        *rows = s->bias ? wide : 0;
        break;
    case WEIGHT_CH:
        *rows = cell->peepholes * H;
        break;
    case WEIGHT_HR:
        *rows = s->proj_size, *columns = s->proj_size ? H : 0;
        break;
    case KINDS:
        break;
    }
}

static size_t floats(int64_t rows, int64_t columns, enum kind kind) {
    const int matrix = kind == WEIGHT_IH || kind == WEIGHT_HH || kind == WEIGHT_HR;
    return (size_t)rows * (size_t)(matrix ? columns : 1);
}

/* Offsets of the tensors of one layer and direction that starts at `offset`; returns its end. */
static size_t layer_offsets(const fr_shape *s, int32_t layer, size_t offset, size_t at[KINDS]) {
    for (enum kind kind = 0; kind < KINDS; kind++) {
        int64_t rows, columns;
        dimensions(s, layer, kind, &rows, &columns);
        at[kind] = offset;
        offset += floats(rows, columns, kind);
    }
    return offset;
}

size_t fr_parameter_count(const fr_shape *s) {
    size_t offset = 0, at[KINDS];
    for (int32_t i = 0; i < s->num_layers * s->num_directions; i++) {
        offset = layer_offsets(s, i / s->num_directions, offset, at);
    }
    return offset;
}

int fr_parameter(const fr_shape *s, int32_t index, fr_tensor *tensor) {
    static const char *const names[KINDS] = {"weight_ih", "weight_hh", "bias_ih",
                                             "bias_hh",   "weight_ch", "weight_hr"};
    size_t offset = 0, at[KINDS];
    if (index < 0) return 0;
    for (int32_t i = 0; i < s->num_layers * s->num_directions; i++) {
        const int32_t layer = i / s->num_directions;
        const size_t next = layer_offsets(s, layer, offset, at);
        for (enum kind kind = 0; kind < KINDS; kind++) {
            int64_t rows, columns;
            dimensions(s, layer, kind, &rows, &columns);
            if (rows == 0 || index-- > 0) continue;
            const char *suffix = i % s->num_directions ? "_reverse" : "";
            const int matrix = kind == WEIGHT_IH || kind == WEIGHT_HH || kind == WEIGHT_HR;
            snprintf(tensor->name, sizeof tensor->name, "%s_l%d%s", names[kind], (int)layer,
                     suffix);
            tensor->rows = rows;
            tensor->columns = matrix ? columns : -1;
            tensor->offset = at[kind];
            return 1;
        }
        offset = next;
    }
    return 0;
}

/* ---- layout ------------------------------------------------------------------------------ */

static int32_t groups_of(int64_t outputs) { return (int32_t)((outputs + FR_GROUP - 1) / FR_GROUP); }

/* Interleaved chains per sum: only where the outputs alone leave the latency of the fused
 * multiply-add uncovered. Part of the numeric contract: a function of the outputs alone. */
static int32_t chains_of(int64_t outputs) { return outputs <= 32 ? 4 : outputs <= 64 ? 2 : 1; }

/* Blocks that are walked together must not start a multiple of 4 KiB apart: they would meet in the
 * same sets of the cache. */
static size_t skewed(size_t block_floats) {
    return block_floats % 1024 == 0 ? block_floats + 32 : block_floats;
}

void fr_lay_out_matrix(struct fr_matrix *m, int32_t inputs, int32_t outputs,
                       struct fr_arena *arena) {
    const int32_t groups = groups_of(outputs), last = groups - (groups - 1) / 4 * 4;
    m->inputs = inputs, m->outputs = outputs;
    m->blocks = (groups + 3) / 4;
    m->chains = chains_of(outputs);
    m->block_stride = skewed((size_t)inputs * FR_ROW);
    const size_t size =
        (size_t)(m->blocks - 1) * m->block_stride + (size_t)inputs * (size_t)(last * FR_GROUP);
    m->weights = fr_take(arena, size, sizeof(float));
    m->bias = fr_take(arena, (size_t)m->blocks * FR_ROW, sizeof(float));
}

/* Groups of 16 outputs in a row of block `block`, for a product of `gates` gates. */
static int32_t row_groups(const struct fr_layer *l, size_t gates, int32_t block) {
    if (l->slots > 1) return (int32_t)gates;
    const int32_t left = groups_of(l->units) - 4 * block;
    return left < 4 ? left : 4;
}

static size_t block_floats(const struct fr_layer *l, int32_t block) {
    const struct fr_cell_info *cell = &fr_cells[l->cell];
    const size_t x = (size_t)row_groups(l, strlen(cell->x_gates), block);
    const size_t h = (size_t)row_groups(l, strlen(cell->h_gates), block);
    const size_t u = strlen(cell->u_gates);
    return ((size_t)l->inputs * x + (size_t)l->recurrent * h + (size_t)l->units * u) * FR_GROUP;
}

static void lay_out_layer(struct fr_layer *l, const fr_shape *s, int32_t layer,
                          struct fr_arena *arena) {
    const struct fr_cell_info *cell = &fr_cells[s->cell];
    memset(l, 0, sizeof *l);
    l->cell = s->cell;
    l->inputs = (int32_t)(layer ? fr_features(s) : s->input_size);
    l->recurrent = (int32_t)fr_output_size(s);
    l->units = s->hidden_size;
    l->slots = cell->slots;
    l->unit = cell->slots > 1 ? FR_GROUP : FR_ROW;
    l->blocks = (l->units + l->unit - 1) / l->unit;
    l->chains = chains_of(fr_gates(cell) * l->units);
    l->block_stride = skewed(block_floats(l, 0));
    const size_t size = (size_t)(l->blocks - 1) * l->block_stride + block_floats(l, l->blocks - 1);
    l->weights = fr_take(arena, size, sizeof(float));
    l->bias = fr_take(arena, fr_gate_row(l), sizeof(float));
    if (cell->peepholes) l->peepholes = fr_take(arena, 3 * fr_unit_row(l), sizeof(float));
    if (s->proj_size) fr_lay_out_matrix(&l->projection, s->hidden_size, s->proj_size, arena);
}

static fr_model *lay_out(const fr_shape *s, struct fr_arena *arena) {
    const int32_t count = s->num_layers * s->num_directions;
    fr_model *model = fr_take(arena, 1, sizeof *model);
    struct fr_layer *layers = fr_take(arena, (size_t)count, sizeof *layers);
    for (int32_t i = 0; i < count; i++) {
        struct fr_layer scratch;
        lay_out_layer(layers ? &layers[i] : &scratch, s, i / s->num_directions, arena);
    }
    if (model) *model = (fr_model){*s, layers};
    return model;
}

size_t fr_model_size(const fr_shape *shape) {
    if (fr_shape_error(shape)) return 0;
    struct fr_arena arena = {NULL, 0};
    lay_out(shape, &arena);
    return fr_used(&arena);
}

fr_model *fr_model_create(const fr_shape *shape, void *memory) {
    if (fr_shape_error(shape)) return NULL;
    memset(memory, 0, fr_model_size(shape));
    struct fr_arena arena = {memory, 0};
    return lay_out(shape, &arena);
}

const fr_shape *fr_model_shape(const fr_model *model) { return &model->shape; }

/* ---- packing ----------------------------------------------------------------------------- */

/* to[k][i] = from[i][k] for up to 16 rows of from, in squares that stay in L1. */
static void transpose_rows(float *to, size_t to_stride, const float *from, size_t from_stride,
                           size_t rows, size_t K) {
    for (size_t k0 = 0; k0 < K; k0 += FR_GROUP) {
        const size_t end = K - k0 < FR_GROUP ? K : k0 + FR_GROUP;
        for (size_t i = 0; i < rows; i++) {
            const float *row = from + i * from_stride;
            for (size_t k = k0; k < end; k++) to[k * to_stride + i] = row[k];
        }
    }
}

/* Copies the rows of W (gates * H, K) that belong to `block` to w: [k][gate][16 or units]. */
static void pack_rows(const struct fr_layer *l, int32_t block, const char *gates, const float *W,
                      size_t K, float *w) {
    const size_t H = (size_t)l->units, first = (size_t)block * (size_t)l->unit;
    const size_t width = (size_t)row_groups(l, strlen(gates), block) * FR_GROUP;
    const size_t units = first + (size_t)l->unit <= H ? (size_t)l->unit : H - first;
    for (size_t g = 0; gates[g]; g++) {
        const float *rows = W + ((size_t)(gates[g] - '0') * H + first) * K;
        for (size_t u = 0; u < units; u += FR_GROUP) {
            transpose_rows(w + g * FR_GROUP + u, width, rows + u * K, K,
                           units - u < FR_GROUP ? units - u : FR_GROUP, K);
        }
    }
}

/* The bias that starts the chain of a slot: b_ih, b_hh, or their sum, rounded once. Slots outside
 * the x range take the order of the h gates. */
static void pack_bias(const struct fr_layer *l, const float *b_ih, const float *b_hh, float *bias) {
    const struct fr_cell_info *cell = &fr_cells[l->cell];
    const size_t H = (size_t)l->units, U = (size_t)l->unit;
    for (int32_t slot = 0; slot < l->slots; slot++) {
        const int x = slot - cell->x_slot;
        const char digit = x >= 0 && x < (int)strlen(cell->x_gates)
                               ? cell->x_gates[x]
                               : cell->h_gates[slot - cell->h_slot];
        const size_t from = (size_t)(digit - '0') * H;
        for (size_t u = 0; u < H; u++) {
            float *out = bias + ((u / U) * (size_t)l->slots + (size_t)slot) * U + u % U;
            *out = cell->biases[slot] == 'x'   ? b_ih[from + u]
                   : cell->biases[slot] == 'h' ? b_hh[from + u]
                                               : b_ih[from + u] + b_hh[from + u];
        }
    }
}

void fr_pack_matrix(const struct fr_matrix *m, const float *W, const float *b) {
    const size_t K = (size_t)m->inputs;
    for (int32_t o = 0; o < m->outputs; o += FR_GROUP) {
        const int32_t block = o / FR_ROW, left = groups_of(m->outputs) - 4 * block;
        const size_t width = (size_t)((left < 4 ? left : 4) * FR_GROUP);
        const size_t rows = (size_t)(m->outputs - o < FR_GROUP ? m->outputs - o : FR_GROUP);
        float *out = m->weights + (size_t)block * m->block_stride + (size_t)(o % FR_ROW);
        transpose_rows(out, width, W + (size_t)o * K, K, rows, K);
    }
    for (int32_t o = 0; o < m->outputs; o++) m->bias[o] = b ? b[o] : 0.0f;
}

static void pack_layer(const fr_shape *s, const struct fr_layer *l, const float *parameters,
                       const size_t at[KINDS]) {
    const struct fr_cell_info *cell = &fr_cells[l->cell];
    const size_t U = (size_t)l->unit;
    for (int32_t block = 0; block < l->blocks; block++) {
        const size_t I = (size_t)l->inputs, K = (size_t)l->recurrent;
        const size_t wide_x = (size_t)row_groups(l, strlen(cell->x_gates), block) * FR_GROUP;
        const size_t wide_h = (size_t)row_groups(l, strlen(cell->h_gates), block) * FR_GROUP;
        float *w = l->weights + (size_t)block * l->block_stride;
        pack_rows(l, block, cell->x_gates, parameters + at[WEIGHT_IH], I, w);
        pack_rows(l, block, cell->h_gates, parameters + at[WEIGHT_HH], K, w + I * wide_x);
        pack_rows(l, block, cell->u_gates, parameters + at[WEIGHT_HH], K,
                  w + I * wide_x + K * wide_h);
    }
    if (s->bias) pack_bias(l, parameters + at[BIAS_IH], parameters + at[BIAS_HH], l->bias);
    for (size_t u = 0; cell->peepholes && u < (size_t)l->units; u++) {
        for (size_t i = 0; i < 3; i++) {
            l->peepholes[(u / U * 3 + i) * U + u % U] =
                parameters[at[WEIGHT_CH] + i * (size_t)l->units + u];
        }
    }
    if (s->proj_size) fr_pack_matrix(&l->projection, parameters + at[WEIGHT_HR], NULL);
}

void fr_model_load(fr_model *model, const float *parameters) {
    const fr_shape *s = &model->shape;
    const uint64_t mode =
        fr_float_mode_enter(); /* biases are added: always with the same rounding */
    size_t offset = 0, at[KINDS];
    for (int32_t i = 0; i < s->num_layers * s->num_directions; i++) {
        offset = layer_offsets(s, i / s->num_directions, offset, at);
        pack_layer(s, &model->layers[i], parameters, at);
    }
    fr_float_mode_restore(mode);
}

/* ---- the backward pass ------------------------------------------------------------------- */

void fr_lay_out_backs(struct fr_backs *b, const struct fr_layer *l, struct fr_arena *arena) {
    const struct fr_cell_info *cell = &fr_cells[l->cell];
    const int32_t units = l->blocks * l->unit;
    memset(b, 0, sizeof *b);
    if (l->inputs)
        fr_lay_out_matrix(&b->x, (int32_t)strlen(cell->x_gates) * units, l->inputs, arena);
    fr_lay_out_matrix(&b->h, (int32_t)strlen(cell->h_gates) * units, l->recurrent, arena);
    if (cell->u_gates[0])
        fr_lay_out_matrix(&b->u, (int32_t)strlen(cell->u_gates) * units, l->units, arena);
    if (l->projection.outputs)
        fr_lay_out_matrix(&b->projection, l->projection.outputs, l->units, arena);
}

static fr_transpose *lay_out_transpose(const fr_model *model, struct fr_arena *arena) {
    const int32_t count = model->shape.num_layers * model->shape.num_directions;
    fr_transpose *transpose = fr_take(arena, 1, sizeof *transpose);
    struct fr_backs *backs = fr_take(arena, (size_t)count, sizeof *backs);
    for (int32_t i = 0; i < count; i++) {
        struct fr_backs scratch;
        fr_lay_out_backs(backs ? &backs[i] : &scratch, &model->layers[i], arena);
    }
    if (transpose) transpose->backs = backs;
    return transpose;
}

size_t fr_transpose_size(const fr_model *model) {
    struct fr_arena arena = {NULL, 0};
    lay_out_transpose(model, &arena);
    return fr_used(&arena);
}

fr_transpose *fr_transpose_create(const fr_model *model, void *memory) {
    struct fr_arena arena = {memory, 0};
    memset(memory, 0, fr_transpose_size(model));
    return lay_out_transpose(model, &arena);
}

/* Row k of the inputs is a row of W (rows, outputs) as it is. */
static void pack_input(const struct fr_matrix *m, size_t k, const float *row) {
    for (int32_t block = 0; block < m->blocks; block++) {
        const int32_t at = block * FR_ROW, left = m->outputs - at, groups = groups_of(left);
        const size_t width = (size_t)((groups < 4 ? groups : 4) * FR_GROUP);
        memcpy(m->weights + (size_t)block * m->block_stride + k * width, row + at,
               (size_t)(left < FR_ROW ? left : FR_ROW) * sizeof *row);
    }
}

/* Inputs in the order of the tape, [block][gate][U]; W (gates * H, outputs). */
static void pack_gates_back(const struct fr_layer *l, const struct fr_matrix *m, const char *gates,
                            const float *W) {
    const size_t H = (size_t)l->units, U = (size_t)l->unit, count = strlen(gates);
    for (size_t g = 0; g < count; g++) {
        for (size_t u = 0; u < H; u++) {
            const size_t k = (u / U * count + g) * U + u % U;
            pack_input(m, k, W + ((size_t)(gates[g] - '0') * H + u) * (size_t)m->outputs);
        }
    }
}

void fr_transpose_load(const fr_model *model, fr_transpose *transpose, const float *parameters) {
    const fr_shape *s = &model->shape;
    size_t offset = 0, at[KINDS];
    for (int32_t i = 0; i < s->num_layers * s->num_directions; i++) {
        const struct fr_layer *l = &model->layers[i];
        const struct fr_cell_info *cell = &fr_cells[l->cell];
        const struct fr_backs *b = &transpose->backs[i];
        offset = layer_offsets(s, i / s->num_directions, offset, at);
        if (l->inputs) pack_gates_back(l, &b->x, cell->x_gates, parameters + at[WEIGHT_IH]);
        pack_gates_back(l, &b->h, cell->h_gates, parameters + at[WEIGHT_HH]);
        if (b->u.outputs) pack_gates_back(l, &b->u, cell->u_gates, parameters + at[WEIGHT_HH]);
        for (size_t k = 0; k < (size_t)b->projection.inputs; k++) {
            pack_input(&b->projection, k, parameters + at[WEIGHT_HR] + k * (size_t)l->units);
        }
    }
}

void fr_pack_transposed(const struct fr_matrix *m, const float *W) {
    for (size_t k = 0; k < (size_t)m->inputs; k++) pack_input(m, k, W + k * (size_t)m->outputs);
}

struct fr_tensors fr_layer_tensors(const fr_shape *s, int32_t index, float *parameters) {
    size_t offset = 0, at[KINDS];
    for (int32_t i = 0; i <= index; i++)
        offset = layer_offsets(s, i / s->num_directions, offset, at);
    return (struct fr_tensors){
        .ih = parameters + at[WEIGHT_IH],
        .hh = parameters + at[WEIGHT_HH],
        .b_ih = s->bias ? parameters + at[BIAS_IH] : NULL,
        .b_hh = s->bias ? parameters + at[BIAS_HH] : NULL,
        .ch = parameters + at[WEIGHT_CH],
        .hr = parameters + at[WEIGHT_HR],
    };
}
