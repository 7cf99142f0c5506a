/* Shapes, and the flat parameter vector: where each of PyTorch's tensors stands in it. */
#include "shape.h"

#include <stdio.h>
#include <string.h>

const struct fr_cell_data fr_cells[FR_CELLS] = {
#define CELL(name, family, phases, x, h, u, bias, states, direct, project, gates, tensor, list) \
    {                                                                                           \
        {#name, #family, FR_NUM_GATES(x), states, phases, direct, project, gates,               \
         FR_NUM_UNIT_PARAMETERS(list), tensor},                                                 \
        FR_NUM_SLOTS(bias),                                                                     \
        x,                                                                                      \
        h,                                                                                      \
        u,                                                                                      \
        bias,                                                                                   \
        list,                                                                                   \
    },
#include "../cells/cells.def"
#undef CELL
};

int32_t fr_cell_count(void) { return FR_CELLS; }

const fr_cell_info *fr_cell_at(int32_t cell) {
    return 0 <= cell && cell < FR_CELLS ? &fr_cells[cell].info : NULL;
}

int32_t fr_cell(const char *name) {
    for (int32_t i = 0; i < FR_CELLS; i++) {
        if (strcmp(fr_cells[i].info.name, name) == 0) return i;
    }
    return -1;
}

int32_t fr_num_gates(const char *part) {
    int32_t count = 0;
    for (; *part; part++) count += *part != '-';
    return count;
}

int32_t fr_first_slot(const char *part) { return (int32_t)strspn(part, "-"); }

static int in_range(int32_t value, int32_t low, int32_t high) {
    return low <= value && value <= high;
}

static const char *gates_error(const fr_shape *s) {
    if (!in_range(s->gate_activation, 0, FR_GATE_ACTIVATIONS - 1))
        return "gate_activation is not one that there is";
    if (s->gate_activation == FR_GATE_SIGMOID) return NULL;
    if (!fr_cells[s->cell].info.gate_activations) return "this cell's activation is no choice";
    const float most = 3.4028234e38f; /* neither NaN nor infinite */
    if (!(0.0f < s->gate_alpha && s->gate_alpha <= most))
        return "gate_alpha must be positive and finite";
    if (!(-most <= s->gate_beta && s->gate_beta <= most)) return "gate_beta must be finite";
    return NULL;
}

const char *fr_shape_error(const fr_shape *s) {
    if (!in_range(s->cell, 0, FR_CELLS - 1)) return "cell is not one that fr_cell returns";
    if (!in_range(s->input_size, 0, FR_MAX_SIZE)) return "input_size must be 0 to 1048576";
    if (!in_range(s->hidden_size, 1, FR_MAX_SIZE)) return "hidden_size must be 1 to 1048576";
    if (!in_range(s->num_layers, 1, FR_MAX_LAYERS)) return "num_layers must be 1 to 1024";
    if (!in_range(s->num_directions, 1, 2)) return "num_directions must be 1 or 2";
    if (!in_range(s->bias, 0, 1)) return "bias must be 0 or 1";
    if (!in_range(s->merge_sum, 0, 1)) return "merge_sum must be 0 or 1";
    if (s->proj_size && !fr_cells[s->cell].info.project) return "this cell has no projection";
    if (!in_range(s->proj_size, 0, s->hidden_size - 1))
        return "proj_size must be 0 or less than hidden_size";
    return gates_error(s);
}

/* ---- the flat parameter vector ----------------------------------------------------------- */

enum kind { WEIGHT_IH, WEIGHT_HH, BIAS_IH, BIAS_HH, UNIT, WEIGHT_HR, KINDS };

/* First and second dimension of a kind of tensor in layer `layer`; 0, 0: the shape has none. */
static void dimensions(const fr_shape *s, int32_t layer, enum kind kind, int64_t *rows,
                       int64_t *columns) {
    const fr_cell_info *cell = &fr_cells[s->cell].info;
    const int64_t H = s->hidden_size, wide = cell->gates * H;
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
    case UNIT:
        *rows = cell->unit_parameters * H;
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

/* Offsets of the tensors of one layer and direction from the first of them; returns the number of
 * their floats. */
static size_t offsets(const fr_shape *s, int32_t layer, size_t at[KINDS]) {
    size_t offset = 0;
    for (enum kind kind = 0; kind < KINDS; kind++) {
        int64_t rows, columns;
        dimensions(s, layer, kind, &rows, &columns);
        at[kind] = offset;
        offset += floats(rows, columns, kind);
    }
    return offset;
}

/* Offset of layer and direction `index`; all layers but the first are of one size. */
static size_t start_of(const fr_shape *s, int32_t index) {
    size_t at[KINDS];
    const size_t D = (size_t)s->num_directions, i = (size_t)index;
    if (i <= D) return i * offsets(s, 0, at);
    return D * offsets(s, 0, at) + (i - D) * offsets(s, 1, at);
}

size_t fr_parameter_count(const fr_shape *s) {
    return start_of(s, s->num_layers * s->num_directions);
}

struct fr_tensors fr_layer_tensors(const fr_shape *s, int32_t index, float *parameters) {
    size_t at[KINDS];
    float *first = parameters + start_of(s, index);
    offsets(s, index / s->num_directions, at);
    return (struct fr_tensors){
        .ih = first + at[WEIGHT_IH],
        .hh = first + at[WEIGHT_HH],
        .b_ih = s->bias ? first + at[BIAS_IH] : NULL,
        .b_hh = s->bias ? first + at[BIAS_HH] : NULL,
        .unit = first + at[UNIT],
        .hr = first + at[WEIGHT_HR],
    };
}

int fr_parameter(const fr_shape *s, int32_t index, fr_tensor *tensor) {
    const char *const names[KINDS] = {
        "weight_ih", "weight_hh", "bias_ih", "bias_hh", fr_cells[s->cell].info.unit_tensor,
        "weight_hr"};
    size_t at[KINDS];
    if (index < 0) return 0;
    for (int32_t i = 0; i < s->num_layers * s->num_directions; i++) {
        const int32_t layer = i / s->num_directions;
        offsets(s, layer, at);
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
            tensor->offset = start_of(s, i) + at[kind];
            return 1;
        }
    }
    return 0;
}
