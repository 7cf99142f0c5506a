/* For valgrind: small calls of every kind on memory that counts as never written. It reports when a
 * result, or a decision on the way to it, depends on what nobody wrote. */
#include "problems.h"

static struct problem problems[] = {
    {"rnn_tanh", 5, 33, 0, 2, 2, 0, 6, 5, 1, .model = NULL},
    {"rnn_relu", 5, 70, 0, 1, 1, 0, 6, 1, 0, .model = NULL},
    {"lstm", 5, 17, 0, 2, 1, 0, 6, 5, 0, .model = NULL},
    {"lstm", 16, 112, 60, 2, 1, 0, 6, 2, 1, .model = NULL}, /* divides its units among threads */
    {"lstm_peephole", 5, 17, 9, 2, 2, 1, 6, 5, 1, .model = NULL},
    {"gru", 5, 33, 0, 3, 1, 0, 6, 7, 0, .model = NULL},
    {"gru_reset_before", 5, 33, 0, 2, 2, 1, 6, 5, 1, .model = NULL},
    {"gru_reset_before", 16, 128, 0, 2, 1, 0, 6, 1, 0, .model = NULL},
};

/* Looks at every bit, so that valgrind sees what was not written. */
static int is_finite(const float *x, size_t n) {
    int finite = 1;
    for (size_t i = 0; i < n; i++) finite &= isfinite(x[i]) != 0;
    return finite;
}

static void check_sequence(const struct problem *p) {
    float *expected = solve(p, 1);
    CHECK(is_finite(expected, p->y_count + p->h_count + p->c_count), "%s: results are not finite",
          p->cell);
    for (int threads = 2; threads <= 3; threads++) {
        CHECK(solves(p, threads, expected), "%s: other bits with %d threads", p->cell, threads);
    }
    free(expected);
}

static void check_stream(const struct problem *p) {
    const size_t R = (size_t)(p->P ? p->P : p->H), V = 4;
    const int64_t tokens[] = {3, 0, 2, 2, 1, 0, 3};
    float *y = blank((size_t)p->N * R * sizeof *y), *c = blank(p->c_count * sizeof *c);
    float *table = blank(fr_table_size(p->model, (int64_t)V)),
          *embedding = random_floats(V * (size_t)p->I, 5, 1.0f);
    fr_state *state = fr_state_create(p->model, p->N, blank(fr_state_size(p->model, p->N)));
    memset(c, 0, p->c_count * sizeof *c);
    fr_state_set(p->model, state, p->h0, NULL);
    fr_step(p->model, state, p->x, y);
    fr_table_fill(p->model, (int64_t)V, embedding, table);
    fr_step_tokens(p->model, state, table, tokens, y);
    fr_state_get(p->model, state, NULL, c);
    CHECK(is_finite(y, (size_t)p->N * R) && is_finite(c, p->c_count), "%s: a stream is not finite",
          p->cell);
    free(y), free(c), free(table), free(embedding), free(state);
}

static void check_linear(int inputs, int outputs, int rows) {
    float *w = random_floats((size_t)(inputs * outputs), 1, 1.0f),
          *x = random_floats((size_t)(inputs * rows), 2, 1.0f);
    float *y = blank((size_t)(rows * outputs) * sizeof *y);
    fr_linear *linear = fr_linear_create(inputs, outputs, blank(fr_linear_size(inputs, outputs)));
    fr_linear_load(linear, w, NULL);
    fr_linear_forward(linear, rows, x, inputs, y, outputs, 1);
    CHECK(is_finite(y, (size_t)(rows * outputs)), "linear %d -> %d is not finite", inputs, outputs);
    free(w), free(x), free(y), free(linear);
}

int main(void) {
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
        make_problem(&problems[i]);
        check_sequence(&problems[i]);
        if (problems[i].D == 1) check_stream(&problems[i]);
        free_problem(&problems[i]);
    }
    check_linear(1, 1, 1), check_linear(7, 70, 5), check_linear(65, 33, 14);
    return report("test_memory");
}
