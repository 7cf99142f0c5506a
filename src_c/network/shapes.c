/* Checks that operations fit each other: the shape of every value, and its part of a slot. */
#include "network.h"

#define NEEDS(condition, sentence) \
    if (!(condition)) return sentence

static const char *is_size(int64_t size) {
    return size < 1 || size > FR_MAX_SIZE ? "a size is 1 to 2^20" : NULL;
}

static const char *set_shape(struct operation *out, int64_t length, int64_t channels) {
    NEEDS(!is_size(length) && !is_size(channels) && length * channels <= FR_MAX_WIDTH,
          "a value has 1 to 2^26 floats");
    out->length = (int32_t)length, out->channels = (int32_t)channels;
    out->width = (size_t)length * (size_t)channels;
    return NULL;
}

/* A value whose length and channels are those of the other, or 1, goes with it. */
static int goes_with(const struct operation *x, const struct operation *other) {
    return (x->length == other->length || x->length == 1) &&
           (x->channels == other->channels || x->channels == 1);
}

static const char *shape_pair(const struct operation *operations, const fr_operation *g,
                              struct operation *out) {
    NEEDS(g->num_inputs == 2, "a sum or a product has two inputs");
    const struct operation *a = &operations[g->inputs[0]], *b = &operations[g->inputs[1]];
    NEEDS(goes_with(a, b) || goes_with(b, a), "the inputs of a sum or product differ in shape");
    NEEDS(a->at_end == b->at_end, "one of two inputs is a value for the whole sequence");
    const struct operation *wide = goes_with(b, a) ? a : b;
    return set_shape(out, wide->length, wide->channels);
}

static const char *shape_concatenated(const struct operation *operations, const fr_operation *g,
                                      struct operation *out) {
    int64_t channels = 0;
    NEEDS(g->num_inputs >= 1, "nothing to concatenate");
    for (int32_t i = 0; i < g->num_inputs; i++) {
        const struct operation *x = &operations[g->inputs[i]];
        NEEDS(x->length == operations[g->inputs[0]].length, "concatenated values differ in length");
        NEEDS(x->at_end == operations[g->inputs[0]].at_end,
              "one of the inputs is a value for the whole sequence");
        channels += x->channels;
    }
    return set_shape(out, operations[g->inputs[0]].length, channels);
}

static const char *shape_recurrent(const struct operation *x, const fr_operation *g,
                                   struct operation *out) {
    NEEDS(g->model, "a recurrent operation needs a model");
    const fr_shape *s = &g->model->shape;
    NEEDS(!x->at_end, "a recurrent operation reads a value for the whole sequence");
    if (x->given.kind == FR_OP_TOKENS) {
        NEEDS(g->table && s->num_directions == 1, "a stack on tokens needs a table, and D = 1");
    } else {
        NEEDS((int64_t)x->width == s->input_size, "a stack reads another number of floats");
    }
    out->layout = fr_lay_out_slot(g->model);
    return set_shape(out, 1, fr_features(s));
}

static const char *shape_attended(const struct operation *x, const fr_operation *g,
                                  struct operation *out) {
    const fr_attention *a = g->attention;
    NEEDS(a && a->keys && a->values, "attention needs keys and values");
    NEEDS(a->positions >= 1 && a->memory_rows >= 1, "attention needs a memory");
    NEEDS((int64_t)x->width == a->size, "attention compares queries of another size");
    return set_shape(out, 1, a->features);
}

static const char *shape_convolved(const struct operation *x, const fr_operation *g,
                                   struct operation *out) {
    NEEDS(g->conv, "a convolution needs its weights");
    const fr_conv_shape *s = fr_conv_shape_of(g->conv);
    NEEDS(s->inputs == x->channels, "a convolution reads other channels");
    if (g->kind == FR_OP_CONV) {
        const int64_t length = fr_conv_length(s, x->length);
        NEEDS(length > 0, "no window of a convolution fits into a frame");
        return set_shape(out, length, s->outputs);
    }
    NEEDS(x->length == 1 && !x->at_end, "a convolution along time reads one vector for every step");
    NEEDS(s->stride == 1 && (int64_t)s->before + s->after == (s->kernel - 1) * (int64_t)s->dilation,
          "a convolution along time gives as many steps as it reads");
    return set_shape(out, 1, s->outputs);
}

static const char *shape_activated(const struct operation *x, const fr_operation *g,
                                   struct operation *out) {
    NEEDS(g->function >= 0 && g->function < FR_ACTIVATIONS, "no such activation");
    const int is_pair = fr_activations[g->function].over == FR_OVER_PAIR;
    NEEDS(!is_pair || x->channels % 2 == 0, "a magnitude needs two halves of channels");
    return set_shape(out, x->length, is_pair ? x->channels / 2 : x->channels);
}

static const char *shape_one(const struct operation *x, const fr_operation *g,
                             struct operation *out) {
    NEEDS(g->num_inputs == 1, "an operation has another number of inputs");
    NEEDS(x->given.kind != FR_OP_TOKENS || g->kind == FR_OP_EMBED || g->kind == FR_OP_RECURRENT,
          "only an embedding or a stack reads tokens");
    switch (g->kind) {
    case FR_OP_EMBED:
        NEEDS(x->given.kind == FR_OP_TOKENS && g->table,
              "an embedding reads tokens and needs a table");
        return set_shape(out, 1, g->channels);
    case FR_OP_RECURRENT:
        return shape_recurrent(x, g, out);
    case FR_OP_LINEAR:
        NEEDS(g->linear, "a linear operation needs a map");
        NEEDS(g->linear->matrix.inputs == x->channels, "a linear map reads other channels");
        return set_shape(out, x->length, g->linear->matrix.outputs);
    case FR_OP_CONV:
    case FR_OP_CONV_TIME:
        return shape_convolved(x, g, out);
    case FR_OP_ACTIVATE:
        return shape_activated(x, g, out);
    case FR_OP_FLIP:
        NEEDS(!x->at_end, "there is one value for the whole sequence, and no steps to flip");
        return set_shape(out, x->length, x->channels);
    case FR_OP_CHANNELS:
        NEEDS(g->scale && (g->shift || g->function == FR_PRELU), "scale or shift is missing");
        return set_shape(out, x->length, x->channels);
    case FR_OP_LAYER_NORM:
        NEEDS(g->scale && g->shift, "scale and shift are missing");
        return set_shape(out, x->length, x->channels);
    case FR_OP_SELECT:
        NEEDS(g->first >= 0 && g->channels >= 1 && g->first <= x->channels - g->channels,
              "the selected channels are not there");
        return set_shape(out, x->length, g->channels);
    case FR_OP_RESHAPE:
        NEEDS(g->length >= 1 && g->channels >= 1 &&
                  (size_t)g->length * (size_t)g->channels == x->width,
              "another shape has as many floats");
        return set_shape(out, g->length, g->channels);
    case FR_OP_ATTEND:
        return shape_attended(x, g, out);
    case FR_OP_LISTED:
        NEEDS(g->listed && x->length == 1, "a list is missing");
        return set_shape(out, 1, g->channels);
    case FR_OP_POOL:
        NEEDS(!x->at_end && g->function >= FR_LAST && g->function <= FR_MAX, "no such pool");
        out->at_end = 1;
        return set_shape(out, x->length, x->channels);
    }
    return "no such operation";
}

const char *fr_shape_operation(const struct operation *operations, const fr_graph *graph,
                               int32_t at, struct operation *out) {
    const fr_operation *g = &graph->operations[at];
    *out = (struct operation){.given = *g, .output = -1};
    NEEDS(g->kind >= 0 && g->kind < FR_OPS, "no such operation");
    NEEDS(g->num_inputs >= 0 && (g->num_inputs == 0 || g->inputs), "inputs are missing");
    for (int32_t i = 0; i < g->num_inputs; i++) {
        const int32_t most = g->kind == FR_OP_PREVIOUS ? graph->num_operations : at;
        NEEDS(g->inputs[i] >= 0 && g->inputs[i] < most, "an input is no earlier operation");
        if (g->kind != FR_OP_PREVIOUS) out->at_end |= operations[g->inputs[i]].at_end;
    }
    switch (g->kind) {
    case FR_OP_TOKENS:
        NEEDS(g->num_inputs == 0, "an input reads nothing");
        return set_shape(out, 1, 1);
    case FR_OP_INPUT:
        NEEDS(g->num_inputs == 0, "an input reads nothing");
        return set_shape(out, g->length, g->channels);
    case FR_OP_PREVIOUS:
        NEEDS(g->num_inputs == 1, "a previous value is of one operation");
        return set_shape(out, g->length, g->channels);
    case FR_OP_ADD:
    case FR_OP_MULTIPLY:
        return shape_pair(operations, g, out);
    case FR_OP_CONCATENATE:
        return shape_concatenated(operations, g, out);
    }
    return shape_one(g->num_inputs ? &operations[g->inputs[0]] : NULL, g, out);
}

/* Attention keeps the source, as one int64 in a header, and its weights. */
size_t fr_operation_state(const struct operation *o) {
    switch (o->given.kind) {
    case FR_OP_RECURRENT:
        return o->layout.floats;
    case FR_OP_CONV_TIME:
        return fr_conv_continues(fr_conv_shape_of(o->given.conv))
                   ? fr_conv_state_size(o->given.conv) / sizeof(float)
                   : 0;
    case FR_OP_PREVIOUS:
        return o->width;
    case FR_OP_ATTEND:
        return FR_GROUP + (size_t)o->given.attention->positions;
    }
    return 0;
}
