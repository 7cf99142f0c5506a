/* A stack's weights as the forward pass reads them: its matrices, and the places of weights. */
#include "model.h"
#include "team.h"

#include <string.h>

/* ---- layout ------------------------------------------------------------------------------ */

/* The part of a layer's blocks that multiplies `inputs` values with the gates of a column of
 * cells.def. */
static struct fr_matrix view_of(const struct fr_layer *l, int32_t inputs, const char *part) {
    const int32_t gates = fr_num_gates(part);
    const int32_t padded = (l->units + FR_GROUP - 1) / FR_GROUP * FR_GROUP;
    struct fr_matrix m =
        fr_matrix_of(inputs, gates * padded, l->slots > 1 ? gates * l->unit : l->unit);
    m.y_first = fr_first_slot(part) * l->unit;
    m.y_stride = l->slots * l->unit;
    m.chains = fr_chains((int64_t)fr_cells[l->cell].info.gates * l->units);
    m.bias = l->bias;
    return m;
}

static void lay_out_layer(struct fr_layer *l, const fr_shape *s, int32_t layer,
                          struct fr_arena *arena) {
    const struct fr_cell_data *cell = &fr_cells[s->cell];
    memset(l, 0, sizeof *l);
    l->cell = s->cell;
    l->gate_activation = s->gate_activation;
    l->gate_alpha = s->gate_alpha, l->gate_beta = s->gate_beta;
    l->units = s->hidden_size;
    l->slots = cell->slots;
    l->unit = cell->slots > 1 ? FR_GROUP : FR_ROW;
    l->blocks = (l->units + l->unit - 1) / l->unit;
    l->bias = fr_take(arena, fr_gate_row(l), sizeof(float));
    l->x = view_of(l, (int32_t)(layer ? fr_features(s) : s->input_size), cell->x);
    l->h = view_of(l, (int32_t)fr_output_size(s), cell->h);
    l->u = view_of(l, l->units, cell->u);
    fr_take_weights((struct fr_matrix *const[]){&l->x, &l->h, &l->u}, 3, arena);
    if (cell->info.unit_parameters) {
        l->unit_parameters =
            fr_take(arena, (size_t)cell->info.unit_parameters * fr_unit_row(l), sizeof(float));
    }
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

/* The gates of W (G * H, inputs) that a view has, block after block. */
static void pack_view(const struct fr_layer *l, const struct fr_matrix *m, const char *part,
                      const float *W) {
    const int32_t H = l->units, first = fr_first_slot(part), count = fr_num_gates(part);
    for (int32_t u = 0; u < H; u += FR_GROUP) {
        const int32_t units = H - u < FR_GROUP ? H - u : FR_GROUP, block = u / l->unit;
        for (int32_t i = 0; i < count; i++) {
            const size_t row = (size_t)fr_gate_of(part, first + i) * (size_t)H + (size_t)u;
            fr_pack_outputs(m, block * m->width + i * l->unit + u % l->unit, units,
                            W + row * (size_t)m->inputs);
        }
    }
}

/* Offset of item `i` of the `count` that every unit has, in the order [block][item][U]. */
static size_t unit_at(const struct fr_layer *l, size_t count, size_t i, size_t u) {
    const size_t U = (size_t)l->unit;
    return (u / U * count + i) * U + u % U;
}

/* The bias that starts the chain of a slot: b_ih, b_hh, or their sum, rounded once. Slots that x
 * does not fill have the gate that h has there. */
static void pack_bias(const struct fr_layer *l, const float *b_ih, const float *b_hh) {
    const struct fr_cell_data *cell = &fr_cells[l->cell];
    const size_t H = (size_t)l->units;
    for (int32_t slot = 0; slot < l->slots; slot++) {
        const int32_t gate = fr_gate_of(cell->x[slot] == '-' ? cell->h : cell->x, slot);
        const size_t from = (size_t)gate * H;
        for (size_t u = 0; u < H; u++) {
            float *out = l->bias + unit_at(l, (size_t)l->slots, (size_t)slot, u);
            *out = cell->bias[slot] == 'x'   ? b_ih[from + u]
                   : cell->bias[slot] == 'h' ? b_hh[from + u]
                                             : b_ih[from + u] + b_hh[from + u];
        }
    }
}

static void pack_unit_parameters(const struct fr_layer *l, const float *W) {
    const size_t H = (size_t)l->units;
    const size_t count = (size_t)fr_cells[l->cell].info.unit_parameters;
    for (size_t i = 0; i < count; i++) {
        for (size_t u = 0; u < H; u++) l->unit_parameters[unit_at(l, count, i, u)] = W[i * H + u];
    }
}

static void pack_layer(const struct fr_layer *l, const struct fr_tensors *t) {
    const struct fr_cell_data *cell = &fr_cells[l->cell];
    pack_view(l, &l->x, cell->x, t->ih);
    pack_view(l, &l->h, cell->h, t->hh);
    pack_view(l, &l->u, cell->u, t->hh);
    if (t->b_ih) pack_bias(l, t->b_ih, t->b_hh);
    pack_unit_parameters(l, t->unit);
    if (l->projection.outputs) fr_pack_matrix(&l->projection, t->hr, NULL);
}

void fr_model_load(fr_model *model, const float *parameters) {
    const fr_shape *s = &model->shape;
    const uint64_t mode =
        fr_float_mode_enter(); /* biases are added: always with the same rounding */
    for (int32_t i = 0; i < s->num_layers * s->num_directions; i++) {
        const struct fr_tensors tensors = fr_layer_tensors(s, i, (float *)parameters);
        pack_layer(&model->layers[i], &tensors);
    }
    fr_float_mode_restore(mode);
}
