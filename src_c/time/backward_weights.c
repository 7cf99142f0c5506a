/* A stack's weights as the backward pass reads them: from gradients of gates, in the order of the
 * tape, to gradients of the inputs of the gates. */
#include "model.h"

#include <string.h>

void fr_lay_out_backward(struct fr_backward_layer *out, const struct fr_layer *l,
                         struct fr_arena *arena) {
    const struct fr_cell_data *cell = &fr_cells[l->cell];
    const int32_t units = l->blocks * l->unit;
    memset(out, 0, sizeof *out);
    if (l->x.inputs) fr_lay_out_matrix(&out->x, fr_num_gates(cell->x) * units, l->x.inputs, arena);
    fr_lay_out_matrix(&out->h, fr_num_gates(cell->h) * units, l->h.inputs, arena);
    if (l->u.outputs) fr_lay_out_matrix(&out->u, fr_num_gates(cell->u) * units, l->u.inputs, arena);
    if (l->projection.outputs)
        fr_lay_out_matrix(&out->projection, l->projection.outputs, l->units, arena);
}

static fr_backward_weights *lay_out(const fr_model *model, struct fr_arena *arena) {
    const int32_t count = model->shape.num_layers * model->shape.num_directions;
    fr_backward_weights *weights = fr_take(arena, 1, sizeof *weights);
    struct fr_backward_layer *layers = fr_take(arena, (size_t)count, sizeof *layers);
    for (int32_t i = 0; i < count; i++) {
        struct fr_backward_layer scratch;
        fr_lay_out_backward(layers ? &layers[i] : &scratch, &model->layers[i], arena);
    }
    if (weights) weights->layers = layers;
    return weights;
}

size_t fr_backward_weights_size(const fr_model *model) {
    struct fr_arena arena = {NULL, 0};
    lay_out(model, &arena);
    return fr_used(&arena);
}

fr_backward_weights *fr_backward_weights_create(const fr_model *model, void *memory) {
    struct fr_arena arena = {memory, 0};
    memset(memory, 0, fr_backward_weights_size(model));
    return lay_out(model, &arena);
}

/* Inputs in the order of the tape, [block][gate][U]; W (G * H, outputs). */
static void pack_gates(const struct fr_layer *l, const struct fr_matrix *m, const char *part,
                       const float *W) {
    const int32_t H = l->units, U = l->unit, first = fr_first_slot(part);
    const int32_t count = m->outputs ? fr_num_gates(part) : 0;
    for (int32_t i = 0; i < count; i++) {
        for (int32_t u = 0; u < H; u++) {
            const size_t row = (size_t)fr_gate_of(part, first + i) * (size_t)H + (size_t)u;
            fr_pack_input(m, (u / U * count + i) * U + u % U, W + row * (size_t)m->outputs);
        }
    }
}

void fr_backward_weights_load(const fr_model *model, fr_backward_weights *weights,
                              const float *parameters) {
    const fr_shape *s = &model->shape;
    for (int32_t i = 0; i < s->num_layers * s->num_directions; i++) {
        const struct fr_layer *l = &model->layers[i];
        const struct fr_cell_data *cell = &fr_cells[l->cell];
        const struct fr_backward_layer *b = &weights->layers[i];
        const struct fr_tensors t = fr_layer_tensors(s, i, (float *)parameters);
        pack_gates(l, &b->x, cell->x, t.ih);
        pack_gates(l, &b->h, cell->h, t.hh);
        pack_gates(l, &b->u, cell->u, t.hh);
        fr_pack_transposed(&b->projection, t.hr);
    }
}
