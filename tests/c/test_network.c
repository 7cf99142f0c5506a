/* Networks in C: whole sequences, steps and any subset of slots have the same bits, whatever the
 * slots' ages, and those of the parts that they are made of; for all kernels named as arguments. */
#include "support.h"
#include "../../src_c/ops/activation.h"
#include "../../src_c/ops/conv.h"

enum { I = 5, H = 19, SLOTS = 7, STEPS = 23, CHANNELS = 6, FRAME = 9, TAPS = 3 };

/* x -> [conv along time; frame: conv -> relu -> select] -> stack -> linear -> (+) previous y. */
struct network {
    fr_network *network;
    fr_model *model;
    fr_linear *head;
    fr_conv *past, *frame;
    float *scale, *h0;
    fr_operation operations[12];
    int32_t inputs[12][2], count, output;
};

static int32_t add(struct network *n, fr_operation operation, int32_t x, int32_t other) {
    int32_t *inputs = n->inputs[n->count];
    inputs[0] = x, inputs[1] = other;
    operation.inputs = inputs, operation.num_inputs = (x >= 0) + (other >= 0);
    n->operations[n->count] = operation;
    return n->count++;
}

static fr_conv *make_conv(fr_conv_shape shape, uint64_t seed) {
    fr_conv *conv = fr_conv_create(&shape, aligned(fr_conv_size(&shape)));
    const size_t count = (size_t)(shape.outputs * shape.inputs * shape.kernel);
    float *weight = random_floats(count, seed, 0.4f);
    fr_conv_load(conv, weight, NULL);
    free(weight);
    return conv;
}

static fr_linear *make_linear(int32_t inputs, int32_t outputs, uint64_t seed) {
    fr_linear *linear = fr_linear_create(inputs, outputs, aligned(fr_linear_size(inputs, outputs)));
    float *weight = random_floats((size_t)(inputs * outputs), seed, 0.3f);
    fr_linear_load(linear, weight, NULL);
    free(weight);
    return linear;
}

/* `feedback`: the head's output of the step before is added, and sequences go step by step. */
static void make_network(struct network *n, const char *cell, int feedback) {
    memset(n, 0, sizeof *n);
    const int32_t x =
        add(n, (fr_operation){.kind = FR_OP_INPUT, .length = 1, .channels = I}, -1, -1);
    const int32_t f =
        add(n, (fr_operation){.kind = FR_OP_INPUT, .length = FRAME, .channels = CHANNELS}, -1, -1);
    n->past = make_conv((fr_conv_shape){I, 8, TAPS, 1, 2, 1, 4, 0}, 1);
    n->frame = make_conv((fr_conv_shape){CHANNELS, 4, 4, 3, 1, 2, 1, 1}, 2);
    const int32_t along = add(n, (fr_operation){.kind = FR_OP_CONV_TIME, .conv = n->past}, x, -1);
    int32_t inside = add(n, (fr_operation){.kind = FR_OP_CONV, .conv = n->frame}, f, -1);
    inside =
        add(n, (fr_operation){.kind = FR_OP_ACTIVATE, .function = FR_ACTIVATION_relu}, inside, -1);
    inside = add(n, (fr_operation){.kind = FR_OP_RESHAPE, .length = 1, .channels = 12}, inside, -1);
    const int32_t both = add(n, (fr_operation){.kind = FR_OP_CONCATENATE}, along, inside);
    const fr_shape shape = {.cell = fr_cell(cell),
                            .input_size = 20,
                            .hidden_size = H,
                            .num_layers = 2,
                            .num_directions = 1,
                            .bias = 1};
    n->model = fr_model_create(&shape, aligned(fr_model_size(&shape)));
    float *parameters = random_floats(fr_parameter_count(&shape), 3, 0.4f);
    fr_model_load(n->model, parameters);
    free(parameters);
    n->h0 = random_floats(2 * H, 4, 0.5f);
    int32_t y =
        add(n, (fr_operation){.kind = FR_OP_RECURRENT, .model = n->model, .h0 = n->h0}, both, -1);
    n->head = make_linear(H, 3, 5);
    y = add(n, (fr_operation){.kind = FR_OP_LINEAR, .linear = n->head}, y, -1);
    if (feedback) {
        const int32_t before =
            add(n, (fr_operation){.kind = FR_OP_PREVIOUS, .length = 1, .channels = 3}, n->count + 1,
                -1);
        y = add(n, (fr_operation){.kind = FR_OP_ADD}, y, before);
    }
    n->output = y;
    const fr_graph graph = {n->count, 1, n->operations, &n->output};
    const char *error = fr_network_create(&graph, aligned(fr_network_size(&graph)), &n->network);
    CHECK(!error, "%s", error);
}

static void free_network(struct network *n) {
    free(n->network), free(n->model), free(n->head), free(n->past), free(n->frame), free(n->h0);
}

static fr_slots *make_slots(const struct network *n, int64_t capacity) {
    return fr_slots_create(n->network, capacity, aligned(fr_slots_size(n->network, capacity)));
}

static uint64_t next_random(uint64_t *seed) {
    return (uint64_t)(int64_t)(uniform(seed, 1.0f) * 8388608.0f + 8388608.0f);
}

/* Any subset of slots in any order, each at its own age, against streams that are alone; now and
 * then a slot begins anew or becomes a copy of another one, whose stream is copied too. */
static void test_subsets(const char *cell, int feedback) {
    struct network n;
    make_network(&n, cell, feedback);
    fr_slots *group = make_slots(&n, SLOTS), *alone[SLOTS];
    for (int i = 0; i < SLOTS; i++) alone[i] = make_slots(&n, 1);
    uint64_t seed = 11;
    float *x = random_floats(SLOTS * I, 1, 1.0f),
          *f = random_floats(SLOTS * FRAME * CHANNELS, 2, 1.0f);
    float *y = aligned(SLOTS * 3 * sizeof *y), single[3];
    for (int round = 0; round < 60; round++) {
        int64_t slot[SLOTS], rows = 0;
        for (int i = 0; i < SLOTS; i++)
            if (next_random(&seed) % 2) slot[rows++] = i;
        for (int64_t r = rows - 1; r > 0; r--) {
            const int64_t other = (int64_t)(next_random(&seed) % (uint64_t)(r + 1)), kept = slot[r];
            slot[r] = slot[other], slot[other] = kept;
        }
        for (size_t i = 0; i < SLOTS * I; i++) x[i] = uniform(&seed, 1.0f);
        const void *const inputs[] = {x, f};
        float *const outputs[] = {y};
        fr_network_step(n.network, group, rows, slot, inputs, outputs);
        for (int64_t r = 0; r < rows; r++) {
            const void *const one[] = {x + r * I, f + r * FRAME * CHANNELS};
            float *const out[] = {single};
            fr_network_step(n.network, alone[slot[r]], 1, NULL, one, out);
            CHECK(memcmp(single, y + 3 * r, sizeof single) == 0, "%s round %d slot %d", cell, round,
                  (int)slot[r]);
        }
        const int64_t from = (int64_t)(next_random(&seed) % SLOTS), zero = 0;
        if (round % 7 == 3) {
            fr_slots_reset(n.network, group, 1, &from);
            fr_slots_reset(n.network, alone[from], 1, &zero);
        }
        if (round % 7 == 5) {
            const int64_t to = (from + 1) % SLOTS;
            fr_slots_copy(group, from, to);
            for (int32_t o = 0; o < n.count; o++) {
                for (int32_t part = 0; part < 2; part++) {
                    int64_t states, width;
                    float values[2 * 64];
                    if (!fr_network_part(n.network, o, part, &states, &width)) continue;
                    fr_slots_read(n.network, group, o, part, 1, &to, values);
                    fr_slots_write(n.network, alone[to], o, part, 1, NULL, values);
                }
            }
        }
    }
    for (int i = 0; i < SLOTS; i++) free(alone[i]);
    free(group), free(x), free(f), free(y);
    free_network(&n);
}

/* Whole sequences in one piece, in two, with threads, and step by step; rows of any length. */
static void test_sequences(const char *cell) {
    enum { N = 4 };
    struct network n;
    make_network(&n, cell, 0);
    float *x = random_floats(STEPS * N * I, 6, 1.0f);
    float *f = random_floats(STEPS * N * FRAME * CHANNELS, 7, 1.0f);
    float *y = aligned(STEPS * N * 3 * sizeof *y), *z = aligned(STEPS * N * 3 * sizeof *z);
    const int64_t lengths[N] = {STEPS, 9, 0, 1}, cuts[] = {0, 10, STEPS};
    float *const whole[] = {y};
    fr_slots *slots = make_slots(&n, N), *steps = make_slots(&n, N);
    const void *const inputs[] = {x, f};
    fr_run run = {STEPS, N, N, 1, NULL, inputs, whole};
    void *workspace = aligned(fr_run_size(n.network, STEPS, N, 3));
    fr_network_run(n.network, slots, &run, workspace, 1);
    for (int t = 0; t < STEPS; t++) {
        const void *const at[] = {x + t * N * I, f + t * N * FRAME * CHANNELS};
        float *const out[] = {z + t * N * 3};
        fr_network_step(n.network, steps, N, NULL, at, out);
    }
    CHECK(memcmp(y, z, STEPS * N * 3 * sizeof *y) == 0, "%s: steps differ", cell);
    for (int threads = 1; threads <= 3; threads += 2) {
        fr_slots_reset(n.network, slots, N, NULL);
        for (int c = 0; c < 2; c++) {
            const int64_t t = cuts[c];
            const void *const at[] = {x + t * N * I, f + t * N * FRAME * CHANNELS};
            float *const out[] = {z + t * N * 3};
            const fr_run piece = {cuts[c + 1] - t, N, N, 1, NULL, at, out};
            fr_network_run(n.network, slots, &piece, workspace, threads);
        }
        CHECK(memcmp(y, z, STEPS * N * 3 * sizeof *y) == 0, "%s: pieces differ", cell);
    }
    fr_slots_reset(n.network, slots, N, NULL);
    run.lengths = lengths, run.outputs = (float *const[]){z};
    fr_network_run(n.network, slots, &run, workspace, 1);
    for (int t = 0; t < STEPS; t++) {
        for (int i = 0; i < N; i++) {
            const float *at = z + (t * N + i) * 3, *wanted = y + (t * N + i) * 3;
            const int dead = t >= lengths[i];
            CHECK(dead ? at[0] == 0 && at[2] == 0 : memcmp(at, wanted, 12) == 0,
                  "%s: row %d step %d", cell, i, t);
        }
    }
    /* What rows carry is from their own ends: one more step of each is the next of the whole. */
    float next[N * 3], tail[N * 3];
    const void *const more[] = {x, f};
    float *const out[] = {next}, *const other[] = {tail};
    fr_network_step(n.network, slots, N, NULL, more, out);
    for (int i = 0; i < N; i++) {
        fr_slots *one = make_slots(&n, 1);
        for (int t = 0; t < lengths[i]; t++) {
            const void *const at[] = {x + (t * N + i) * I, f + (t * N + i) * FRAME * CHANNELS};
            fr_network_step(n.network, one, 1, NULL, at, NULL);
        }
        const void *const at[] = {x + i * I, f + i * FRAME * CHANNELS};
        fr_network_step(n.network, one, 1, NULL, at, other);
        CHECK(memcmp(next + 3 * i, tail, 12) == 0, "%s: row %d goes on from elsewhere", cell, i);
        free(one);
    }
    free(slots), free(steps), free(x), free(f), free(y), free(z), free(workspace);
    free_network(&n);
}

/* Rows are put in another order, repeated and dropped, together with all that they carry. */
static void test_reorder(void) {
    const int64_t indices[] = {4, 4, 0, 2, 4};
    struct network n;
    make_network(&n, "lstm", 1);
    fr_slots *group = make_slots(&n, SLOTS), *copy = make_slots(&n, 1);
    float *x = random_floats(SLOTS * I, 1, 1.0f),
          *f = random_floats(SLOTS * FRAME * CHANNELS, 2, 1.0f);
    float y[SLOTS * 3], single[3];
    const void *const inputs[] = {x, f};
    float *const outputs[] = {y}, *const out[] = {single};
    for (int t = 0; t < 3; t++) fr_network_step(n.network, group, SLOTS, NULL, inputs, outputs);
    fr_slots_reorder(group, indices, 5);
    CHECK(fr_slots_rows(group) == 5, "rows");
    fr_network_step(n.network, group, 5, NULL, inputs, outputs);
    for (int i = 0; i < 5; i++) {
        const int64_t row = indices[i];
        const void *const before[] = {x + row * I, f + row * FRAME * CHANNELS};
        const void *const after[] = {x + i * I, f + i * FRAME * CHANNELS};
        fr_slots_reset(n.network, copy, 1, NULL);
        for (int t = 0; t < 3; t++) fr_network_step(n.network, copy, 1, NULL, before, NULL);
        fr_network_step(n.network, copy, 1, NULL, after, out);
        CHECK(memcmp(single, y + 3 * i, sizeof single) == 0, "row %d", i);
    }
    free(group), free(copy), free(x), free(f);
    free_network(&n);
}

static void refuses(fr_operation *operations, int32_t count, int32_t output, const char *what) {
    const fr_graph graph = {count, 1, operations, &output};
    fr_network *network = NULL;
    void *memory = aligned(fr_network_size(&graph) + 1);
    CHECK(fr_network_create(&graph, memory, &network) != NULL && network == NULL, "%s", what);
    free(memory);
}

static void test_refusals(void) {
    static const int32_t zero = 0, one = 1, pair[2] = {0, 1}, itself[2] = {0, 2}, none = -1;
    fr_linear *linear = make_linear(5, 4, 1);
    const fr_operation input = {.kind = FR_OP_INPUT, .length = 1, .channels = 3};
    fr_operation o[3] = {
        input, {.kind = FR_OP_LINEAR, .num_inputs = 1, .inputs = &zero, .linear = linear}, input};
    refuses(o, 2, 1, "a map that reads other channels");
    o[0].channels = 5;
    refuses(o, 2, 0, "an output that is an input");
    refuses(o, 2, 7, "an output that is nothing");
    o[1].inputs = &one;
    refuses(o, 2, 1, "an operation that reads itself");
    o[1].inputs = &none;
    refuses(o, 2, 1, "an operation before the first");
    o[1].inputs = &zero, o[1].kind = FR_OPS;
    refuses(o, 2, 1, "no operation");
    o[1] = (fr_operation){.kind = FR_OP_ADD, .num_inputs = 2, .inputs = itself};
    refuses(o, 3, 1, "a sum with a later value");
    o[1].inputs = pair, o[1].num_inputs = 1;
    refuses(o, 2, 1, "a sum of one value");
    o[0].channels = 1 << 30;
    refuses(o, 1, 0, "a value that is too large");
    const fr_graph empty = {0, 1, o, &zero};
    CHECK(fr_network_size(&empty) == 0, "no operations");
    free(linear);
}

int main(int argc, char **argv) {
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        if (!fr_isa_select(argv[i])) return 2;
        const char *cells[] = {"rnn_relu", "gru", "gru_reset_before", "lstm", "lstm_peephole"};
        for (int c = 0; c < 5; c++) {
            test_subsets(cells[c], 0), test_subsets(cells[c], 1);
            test_sequences(cells[c]);
        }
        test_reorder();
        test_refusals();
        failed |= report("test_network");
    }
    return failed;
}
