/* Decoders of every kind as networks, for tests of decoding. */
#ifndef FASTRNN_TEST_DECODER_H
#define FASTRNN_TEST_DECODER_H

#include "support.h"
#include "../../src_c/kernels.h"

enum parts { TABLE, EMBEDDING, ATTENTION, FEEDING, PARTS }; /* the last two: behind an embedding */
enum { H = 20, POSITIONS = 5, MEMORY = 7, KEY = 9, NETWORK_ROWS = 6 };

/* A network of V tokens, two layers, a head; with FEEDING the head has every other token only. */
struct network {
    fr_network *network;
    fr_slots *slots;
    fr_model *model;
    float *parameters, *embedding, *table, *memory[3];
    int64_t *listed, num_listed;
    fr_linear *head, *query, *combine;
    fr_attention attention;
    fr_operation operations[12];
    int32_t count, looks, hidden; /* operations: how many, attention's, that of h~ */
};

static fr_linear *make_linear(int32_t inputs, int32_t outputs, uint64_t seed) {
    fr_linear *linear = fr_linear_create(inputs, outputs, aligned(fr_linear_size(inputs, outputs)));
    float *weight = random_floats((size_t)inputs * (size_t)outputs, seed, 2.0f);
    fr_linear_load(linear, weight, NULL);
    free(weight);
    return linear;
}

static float *rows_of(size_t width) { return aligned(NETWORK_ROWS * width * sizeof(float)); }

/* Appends an operation on one value, or on two; returns its place. */
static int32_t add(struct network *n, fr_operation operation, int32_t x, int32_t other) {
    static int32_t pairs[12][2];
    int32_t *inputs = pairs[n->count];
    inputs[0] = x, inputs[1] = other;
    operation.inputs = inputs, operation.num_inputs = (x >= 0) + (other >= 0);
    n->operations[n->count] = operation;
    return n->count++;
}

/* h~ = tanh(combine [context; h]). */
static int32_t add_attention(struct network *n, int32_t h, int feeding) {
    n->query = make_linear(H, KEY, 8);
    n->combine = make_linear(MEMORY + H, H, 9);
    n->memory[0] = random_floats(POSITIONS * 2 * KEY, 10, 1.0f);
    n->memory[1] = random_floats(POSITIONS * 2 * MEMORY, 11, 1.0f);
    n->memory[2] = random_floats(KEY, 12, 1.0f);
    n->attention = (fr_attention){.positions = POSITIONS,
                                  .memory_rows = 2,
                                  .size = KEY,
                                  .features = MEMORY,
                                  .keys = n->memory[0],
                                  .values = n->memory[1],
                                  .score = feeding ? n->memory[2] : NULL,
                                  .scale = 0.5f};
    const int32_t query = add(n, (fr_operation){.kind = FR_OP_LINEAR, .linear = n->query}, h, -1);
    n->looks = add(n, (fr_operation){.kind = FR_OP_ATTEND, .attention = &n->attention}, query, -1);
    const int32_t both = add(n, (fr_operation){.kind = FR_OP_CONCATENATE}, n->looks, h);
    const int32_t combined =
        add(n, (fr_operation){.kind = FR_OP_LINEAR, .linear = n->combine}, both, -1);
    return add(n, (fr_operation){.kind = FR_OP_ACTIVATE, .function = FR_ACTIVATION_tanh}, combined,
               -1);
}

static int32_t add_layers(struct network *n, int64_t V, enum parts parts) {
    const int32_t tokens = add(n, (fr_operation){.kind = FR_OP_TOKENS}, -1, -1);
    fr_operation layers = {.kind = FR_OP_RECURRENT, .model = n->model};
    if (parts == TABLE) {
        n->table = aligned(fr_table_size(n->model, V));
        fr_table_fill(n->model, V, n->embedding, n->table);
        layers.table = n->table;
        return add(n, layers, tokens, -1);
    }
    int32_t x = add(n, (fr_operation){.kind = FR_OP_EMBED, .table = n->embedding, .channels = H},
                    tokens, -1);
    if (parts == FEEDING) { /* [embedding; h~ of the step before], which comes 7 places later */
        const fr_operation previous = {.kind = FR_OP_PREVIOUS, .length = 1, .channels = H};
        n->hidden = n->count + 7;
        x = add(n, (fr_operation){.kind = FR_OP_CONCATENATE}, x, add(n, previous, n->hidden, -1));
    }
    return add(n, layers, x, -1);
}

static void make_network(struct network *n, const char *cell, int64_t V, int64_t rows,
                         enum parts parts) {
    const fr_shape shape = {.cell = fr_cell(cell),
                            .input_size = parts == FEEDING ? 2 * H : H,
                            .hidden_size = H,
                            .num_layers = 2,
                            .num_directions = 1,
                            .bias = 1};
    memset(n, 0, sizeof *n);
    n->model = fr_model_create(&shape, aligned(fr_model_size(&shape)));
    n->parameters = random_floats(fr_parameter_count(&shape), 5, 0.5f);
    n->embedding = random_floats((size_t)V * H, 6, 1.0f);
    fr_model_load(n->model, n->parameters);
    int32_t h = add_layers(n, V, parts);
    if (parts >= ATTENTION) h = add_attention(n, h, parts == FEEDING);
    n->num_listed = parts == FEEDING ? (V + 1) / 2 : V;
    n->head = make_linear(H, (int32_t)n->num_listed, 7);
    int32_t out = add(n, (fr_operation){.kind = FR_OP_LINEAR, .linear = n->head}, h, -1);
    if (parts == FEEDING) {
        CHECK(h == n->hidden, "the previous value is of another operation");
        n->listed = aligned((size_t)V * sizeof *n->listed);
        for (int32_t k = 0; k < n->num_listed; k++) n->listed[k] = 2 * k;
        const fr_operation listed = {
            .kind = FR_OP_LISTED, .listed = n->listed, .channels = (int32_t)V};
        out = add(n, listed, out, -1);
    }
    const fr_graph graph = {n->count, 1, n->operations, &out};
    const char *error = fr_network_create(&graph, aligned(fr_network_size(&graph)), &n->network);
    CHECK(!error, "%s", error);
    n->slots = fr_slots_create(n->network, rows, aligned(fr_slots_size(n->network, rows)));
}

static void free_network(struct network *n) {
    free(n->network), free(n->slots), free(n->model), free(n->parameters), free(n->embedding);
    free(n->table), free(n->listed), free(n->head), free(n->query), free(n->combine);
    for (int i = 0; i < 3; i++) free(n->memory[i]);
}

/* As after creation; row n looks at memory n % 2. */
static void restart(struct network *n, int64_t rows) {
    const int64_t zeros[NETWORK_ROWS] = {0}, sources[NETWORK_ROWS] = {0, 1, 0, 1, 0, 1};
    fr_slots_reorder(n->slots, zeros, rows);
    fr_slots_reset(n->network, n->slots, rows, NULL);
    if (n->looks) fr_slots_look(n->network, n->slots, n->looks, rows, NULL, sources);
}

static void step(struct network *n, const int64_t *tokens, float *y) {
    const void *const inputs[] = {tokens};
    float *const outputs[] = {y};
    fr_network_step(n->network, n->slots, fr_slots_rows(n->slots), NULL, inputs,
                    y ? outputs : NULL);
}

/* Attention from queries (2, KEY) to context (2, MEMORY), row n looking at n. */
static void attend(const struct network *n, const float *queries, float *context) {
    const int64_t sources[] = {0, 1};
    float weights[2 * POSITIONS];
    fr_attention a = n->attention;
    a.steps = 1, a.rows = 2, a.queries = queries, a.sources = sources;
    a.weights = weights, a.context = context;
    fr_attend(&a, 1);
}

#endif
