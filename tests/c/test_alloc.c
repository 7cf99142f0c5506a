/* What hot calls must not do: take memory from the system, change the floating-point mode of their
 * caller, or let denormals through. Needs glibc, whose allocator it wraps. */
#include "problems.h"

#include "../../src_c/ops/activation.h"
#include "../../src_c/ops/conv.h"
#include "../../src_c/time/team.h"

#include <errno.h>
#include <malloc.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* ---- the allocator, counted -------------------------------------------------------------- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

static long allocations;

void *malloc(size_t size) {
    allocations++;
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
    allocations++;
    return __libc_calloc(count, size);
}
void *realloc(void *memory, size_t size) {
    allocations++;
    return __libc_realloc(memory, size);
}
void *memalign(size_t alignment, size_t size) {
    allocations++;
    return __libc_memalign(alignment, size);
}
void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void **memory, size_t alignment, size_t size) {
    *memory = memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}
void free(void *memory) {
    allocations += memory != NULL;
    __libc_free(memory);
}

/* ---- the floating-point mode ------------------------------------------------------------- */

static uint64_t float_mode(void) {
#if defined(__x86_64__)
    return _mm_getcsr();
#elif defined(__aarch64__)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
#else
    return 0;
#endif
}

/* Something that a caller may have set: round upwards, and here also no flushing. */
static void set_unusual_mode(void) {
#if defined(__x86_64__)
    _mm_setcsr((_mm_getcsr() | 0x4000u) & ~0x803fu);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)1 << 22));
#endif
}

static void set_usual_mode(void) {
#if defined(__x86_64__)
    _mm_setcsr(0x1f80u);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)0));
#endif
}

/* ---- every hot call ---------------------------------------------------------------------- */

static const struct problem PROBLEMS[] = {
    {"rnn_tanh", 9, 33, 0, 2, 2, 0, 12, 5, 1, .model = NULL},
    {"lstm", 9, 33, 0, 2, 1, 0, 12, 5, 0, .model = NULL},
    {"lstm_peephole", 9, 33, 20, 2, 2, 1, 12, 5, 1, .model = NULL},
    {"gru", 9, 130, 0, 3, 1, 0, 12, 1, 0, .model = NULL},
    {"gru_reset_before", 9, 33, 0, 2, 2, 1, 12, 5, 1, .model = NULL},
};

/* Between these two nothing is allocated and the mode stays. */
static long allocations_before;
static uint64_t mode_before;
static void begin(void) {
    set_unusual_mode();
    mode_before = float_mode();
    allocations_before = allocations;
}
static void end(const char *call, const char *cell) {
    const long count = allocations - allocations_before;
    const uint64_t mode = float_mode();
    set_usual_mode();
    CHECK(count == 0, "%s, %s: %ld calls of the allocator", call, cell, count);
    CHECK(mode == mode_before, "%s, %s: mode 0x%llx became 0x%llx", call, cell,
          (unsigned long long)mode_before, (unsigned long long)mode);
}

/* A whole network around the stack: steps and sequences. */
static void check_network(const struct problem *p, float *y, const float *expected) {
    static const int32_t input = 0, stack = 1;
    const fr_operation operations[] = {
        {.kind = FR_OP_INPUT, .length = 1, .channels = p->I},
        {.kind = FR_OP_RECURRENT, .num_inputs = 1, .inputs = &input, .model = p->model}};
    const fr_graph graph = {2, 1, operations, &stack};
    fr_network *network;
    fr_network_create(&graph, aligned(fr_network_size(&graph)), &network);
    fr_slots *slots = fr_slots_create(network, p->N, aligned(fr_slots_size(network, p->N)));
    void *workspace = aligned(fr_run_size(network, p->T, p->N, 1));
    const size_t step = p->y_count / (size_t)p->T;
    for (int whole = 0; whole < 2; whole++) {
        fr_slots_write(network, slots, stack, 0, p->N, NULL, p->h0);
        fr_slots_write(network, slots, stack, 1, p->N, NULL, p->c0);
        begin();
        if (whole) {
            const void *const x[] = {p->x};
            float *const out[] = {y};
            const fr_run run = {p->T, p->N, p->N, 1, NULL, x, out};
            fr_network_run(network, slots, &run, workspace, 1);
        }
        for (int t = 0; t < p->T && !whole; t++) {
            const void *const x[] = {p->x + t * p->N * p->I};
            float *const out[] = {y + (size_t)t * step};
            fr_network_step(network, slots, p->N, NULL, x, out);
        }
        end(whole ? "fr_network_run" : "fr_network_step", p->cell);
        CHECK(p->ragged || memcmp(y, expected, p->y_count * sizeof *y) == 0,
              "%s: the caller's rounding mode mattered to a network", p->cell);
    }
    free(network), free(slots), free(workspace);
}

static void check_stream(const struct problem *p, float *y, const float *expected) {
    const int64_t tokens[5] = {3, 0, 6, 6, 1};
    float *table = aligned(fr_table_size(p->model, 7)),
          *embedding = random_floats((size_t)(7 * p->I), 9, 1.0f);
    fr_state *state = fr_state_create(p->model, p->N, aligned(fr_state_size(p->model, p->N)));
    fr_state_set(p->model, state, p->h0, p->c0);
    const size_t step = p->y_count / (size_t)p->T;
    begin();
    for (int t = 0; t < p->T; t++)
        fr_step(p->model, state, p->x + t * p->N * p->I, y + (size_t)t * step);
    end("fr_step", p->cell);
    CHECK(memcmp(y, expected, p->y_count * sizeof *y) == 0,
          "%s: the caller's rounding mode mattered", p->cell);
    begin();
    fr_table_fill(p->model, 7, embedding, table);
    end("fr_table_fill", p->cell);
    begin();
    for (int t = 0; t < p->T; t++) fr_step_tokens(p->model, state, table, tokens, y);
    end("fr_step_tokens", p->cell);
    free(table), free(embedding), free(state);
}

/* The first layer forward and backward; parameters, dx and dh0 one after the other into `out`. */
static void train(const struct problem *p, fr_backward_weights *weights, const fr_tape_plan *plan,
                  void *tape, void *workspace, float *y, float *out, const float *dy) {
    const size_t count = fr_parameter_count(&p->shape), inputs = (size_t)(p->T * p->N * p->I);
    const fr_sequence q = {
        .steps = p->T,
        .rows = p->N,
        .step_stride = p->N,
        .row_stride = 1,
        .lengths = p->lengths,
        .x = p->x,
        .h0 = p->h0,
        .c0 = p->c0,
        .y = y,
        .tape = fr_tape_create(p->model, plan, tape),
    };
    const fr_gradients g = {
        .dy = dy, .dx = out + count, .dh0 = out + count + inputs, .parameters = out};
    fr_forward(p->model, &q, workspace, 1);
    fr_backward(p->model, weights, &q, &g, workspace, 1);
}

static void check_training(const struct problem *p, int kept_steps) {
    int64_t elements = 0;
    for (int n = 0; n < p->N; n++) elements += p->lengths ? p->lengths[n] : p->T;
    const fr_tape_plan plan = {0, 1, p->T, p->N, elements, kept_steps, 0};
    const size_t floats = fr_parameter_count(&p->shape) + (size_t)(p->T * p->N * p->I) + p->h_count;
    float *parameters = random_floats(fr_parameter_count(&p->shape), 1, 0.2f),
          *dy = random_floats(p->y_count, 5, 1.0f);
    float *y = aligned(p->y_count * sizeof *y), *usual = calloc(floats, sizeof *usual),
          *out = calloc(floats, sizeof *out);
    void *tape = aligned(fr_tape_size(p->model, &plan)),
         *workspace = aligned(fr_training_size(p->model, &plan));
    fr_backward_weights *weights =
        fr_backward_weights_create(p->model, aligned(fr_backward_weights_size(p->model)));
    fr_backward_weights_load(p->model, weights, parameters);
    train(p, weights, &plan, tape, workspace, y, usual, dy);
    begin();
    train(p, weights, &plan, tape, workspace, y, out, dy);
    end("fr_backward", p->cell);
    CHECK(memcmp(out, usual, floats * sizeof *out) == 0,
          "%s: the caller's rounding mode mattered to gradients", p->cell);
    free(parameters), free(dy), free(y), free(usual), free(out), free(tape), free(workspace),
        free(weights);
}

static void check_calls(struct problem p) {
    make_problem(&p);
    float *solution = aligned(solution_bytes(&p));
    void *workspace = aligned(fr_workspace_size(p.model, p.T, p.N, 1));
    float *expected = solve(&p, 1);
    memset(solution, 0, solution_bytes(&p));
    begin();
    solve_in(&p, 1, workspace, solution);
    end("fr_forward", p.cell);
    CHECK(memcmp(solution, expected, solution_bytes(&p)) == 0,
          "%s: the caller's rounding mode mattered", p.cell);
    set_unusual_mode();
    CHECK(solves(&p, 2, expected), "%s: the caller's rounding mode mattered to a team", p.cell);
    set_usual_mode();
    if (p.D == 1) check_stream(&p, solution, expected), check_network(&p, solution, expected);
    check_training(&p, p.T), check_training(&p, 5);
    free(solution), free(workspace), free(expected);
    free_problem(&p);
}

static void check_linear(void) {
    enum { INPUTS = 70, OUTPUTS = 130, ROWS = 100 };
    float *w = random_floats(OUTPUTS * INPUTS, 1, 1.0f), *x = random_floats(ROWS * INPUTS, 2, 1.0f);
    float *y = aligned(ROWS * OUTPUTS * sizeof *y);
    fr_linear *linear = fr_linear_create(INPUTS, OUTPUTS, aligned(fr_linear_size(INPUTS, OUTPUTS)));
    fr_linear_load(linear, w, NULL);
    begin();
    fr_linear_forward(linear, ROWS, x, INPUTS, y, OUTPUTS, 1);
    fr_linear_forward(linear, 1, x, INPUTS, y, OUTPUTS, 1);
    end("fr_linear_forward", "linear");
    free(w), free(x), free(y), free(linear);
}

static void check_conv(void) {
    enum { N = 2, T = 40, C = 9, O = 20 };
    const fr_conv_shape shape = {C, O, 3, 1, 2, 1, 4, 0};
    float *w = random_floats(O * C * 3, 1, 1.0f), *x = random_floats(T * N * C, 2, 1.0f);
    float *y = aligned(T * N * O * sizeof *y), *past = aligned(N * 4 * C * sizeof *past);
    fr_conv *conv = fr_conv_create(&shape, aligned(fr_conv_size(&shape)));
    fr_conv_back *back = fr_conv_back_create(&shape, aligned(fr_conv_back_size(&shape)));
    void *workspace = aligned(fr_conv_workspace_size(conv, 1));
    void *back_workspace = aligned(fr_conv_back_workspace_size(back, 1));
    fr_conv_load(conv, w, NULL);
    fr_conv_back_load(back, w);
    fr_conv_call call = {.signals = N, .length = T, .x_signal = C, .x_position = N * C};
    call.y_signal = O, call.y_position = N * O;
    call.x = x, call.y = y, call.dy = y, call.dx = x, call.dweight = w;
    begin();
    fr_conv_forward(conv, &call, workspace, 1);
    fr_conv_next_past(conv, &call, past);
    end("fr_conv_forward", "conv");
    begin();
    fr_conv_backward(back, &call, back_workspace, 1);
    end("fr_conv_backward", "conv");
    void *state = aligned(fr_conv_state_size(conv));
    const float *in = x;
    fr_conv_state_set(conv, state, past);
    begin();
    const uint64_t mode = fr_float_mode_enter(); /* which is the caller's business there */
    for (int t = 0; t < T; t++) fr_conv_step(conv, 1, &state, &in, &y, workspace);
    fr_float_mode_restore(mode);
    end("fr_conv_step", "conv");
    free(w), free(x), free(y), free(past), free(conv), free(back), free(workspace);
    free(back_workspace), free(state);
}

static void check_activations(void) {
    enum { M = 3, C = 37 };
    for (int32_t i = 0; i < FR_ACTIVATIONS; i++) {
        float *x = random_floats(M * 2 * C, 1, 1.0f), *y = aligned(M * C * sizeof *y);
        const float *usual = fr_activations[i].usual;
        fr_activation a = {i, usual[0], usual[1], M, C, x, y, y, x};
        begin();
        fr_activate(&a, 1);
        fr_activate_back(&a, 1);
        end("fr_activate", fr_activations[i].name);
        free(x), free(y);
    }
}

/* ---- denormals --------------------------------------------------------------------------- */

static int count_denormals(const float *x, size_t n) {
    int count = 0;
    for (size_t i = 0; i < n; i++) count += fpclassify(x[i]) == FP_SUBNORMAL;
    return count;
}

/* h = h / 2 for 400 steps: denormal from step 127 on if nothing flushes, and 0 from there if it
 * does. */
static void check_decay(int threads) {
    enum { T = 400, H = 130, N = 3 };
    struct problem p = {"rnn_identity", 4, H, 0, 1, 1, 0, T, N, 0, .model = NULL};
    make_problem(&p);
    float *parameters = aligned(fr_parameter_count(&p.shape) * sizeof *parameters);
    fr_tensor recurrent;
    fr_parameter(&p.shape, 1, &recurrent);
    memset(parameters, 0, fr_parameter_count(&p.shape) * sizeof *parameters);
    for (size_t u = 0; u < H; u++) parameters[recurrent.offset + u * H + u] = 0.5f;
    fr_model_load(p.model, parameters);
    for (size_t i = 0; i < p.h_count; i++) p.h0[i] = 1.0f;
    float *y = solve(&p, threads);
    CHECK(count_denormals(y, p.y_count) == 0, "%d denormals in y", count_denormals(y, p.y_count));
    CHECK(y[125 * N * H] == 0x1p-126f, "the smallest normal number is %g", y[125 * N * H]);
    CHECK(y[126 * N * H] == 0.0f && y[p.y_count - 1] == 0.0f, "denormals became %g",
          y[126 * N * H]);
    free(parameters), free(y);
    free_problem(&p);
}

/* Gated cells that forget: no output is denormal, however long they run on nothing. */
static void check_quiet_input(const char *cell) {
    struct problem p = {cell, 4, 40, 0, 2, 1, 0, 3000, 2, 0, .model = NULL};
    make_problem(&p);
    p.shape.bias = 0;
    free(p.model);
    float *parameters = random_floats(fr_parameter_count(&p.shape), 1, 0.05f);
    p.model = fr_model_create(&p.shape, aligned(fr_model_size(&p.shape)));
    fr_model_load(p.model, parameters);
    for (size_t i = 8; i < (size_t)(p.T * p.N * p.I); i++) p.x[i] = 1e-42f; /* itself denormal */
    float *y = solve(&p, 1);
    CHECK(count_denormals(y, p.y_count) == 0, "%s: %d denormals", cell,
          count_denormals(y, p.y_count));
    CHECK(y[p.y_count - 1] == 0.0f, "%s ends with %g", cell, y[p.y_count - 1]);
    free(parameters), free(y);
    free_problem(&p);
}

int main(void) {
    const long before = allocations;
    free(aligned(64));
    CHECK(allocations == before + 2, "the allocator is not counted");
    for (size_t i = 0; i < sizeof PROBLEMS / sizeof *PROBLEMS; i++) check_calls(PROBLEMS[i]);
    check_linear();
    check_conv();
    check_activations();
    for (int threads = 1; threads <= 3; threads++) check_decay(threads);
    check_quiet_input("rnn_tanh"), check_quiet_input("lstm");
    check_quiet_input("gru"), check_quiet_input("gru_reset_before");
    return report("test_alloc");
}
