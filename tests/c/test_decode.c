/* Decoding in C: choices against sorting everything, draws against a plain loop, reordered states
 * against fresh ones; for all kernels named as arguments, with the same bits for any threads. */
#include "support.h"

#include <math.h>

enum { ROWS = 7, MOST = 9 };

struct candidate {
    double score;
    int64_t row, token;
};

static int by_rule(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    if (x->row != y->row) return x->row < y->row ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

/* Logits of few different values, so that there are ties, and some -inf. */
static float *coarse(size_t n, uint64_t seed) {
    float *x = random_floats(n, seed, 4.0f);
    for (size_t i = 0; i < n; i++) x[i] = x[i] > 3.5f ? -INFINITY : floorf(x[i] * 2.0f) / 2.0f;
    return x;
}

static void test_choice(int64_t V, int64_t k, int32_t threads) {
    float *x = coarse((size_t)(ROWS * V), (uint64_t)V);
    double scores[ROWS], best[3 * MOST];
    int64_t rows[3 * MOST], tokens[3 * MOST];
    const int64_t first[] = {0, 3, 4}, last[] = {3, 4, 7};
    for (int r = 0; r < ROWS; r++) scores[r] = -0.5 * (r % 3);
    const fr_choice choice = {3, V, k, first, last, x, scores, best, rows, tokens};
    fr_choose(&choice, threads);
    struct candidate *all = aligned((size_t)(ROWS * V) * sizeof *all);
    for (int g = 0; g < 3; g++) {
        int64_t n = 0;
        for (int64_t r = first[g]; r < last[g]; r++) {
            for (int64_t v = 0; v < V; v++) {
                if (x[r * V + v] > -INFINITY) all[n++] = (struct candidate){scores[r] + (double)x[r * V + v], r, v};
            }
        }
        qsort(all, (size_t)n, sizeof *all, by_rule);
        for (int64_t i = 0; i < k; i++) {
            const int64_t at = g * k + i;
            if (i >= n) CHECK(rows[at] == -1, "V %d group %d rank %d", (int)V, g, (int)i);
            else CHECK(rows[at] == all[i].row && tokens[at] == all[i].token && best[at] == all[i].score,
                       "V %d group %d rank %d", (int)V, g, (int)i);
        }
    }
    free(all);
    free(x);
}

/* The draw without filters, from the weights in order. */
static int64_t plain_draw(const float *x, int64_t V, double u) {
    double sum = 0.0, below = 0.0;
    float max = -INFINITY;
    for (int64_t i = 0; i < V; i++) max = x[i] > max ? x[i] : max;
    for (int64_t i = 0; i < V; i++) sum += exp((double)(x[i] - max));
    for (int64_t i = 0; i < V; i++) {
        below += exp((double)(x[i] - max));
        if (below > u * sum) return i;
    }
    return -1;
}

static void test_sampling(int64_t V) {
    float *x = coarse((size_t)(ROWS * V), (uint64_t)V + 1);
    int64_t keys[ROWS], positions[ROWS], tokens[2][ROWS];
    float logprobs[2][ROWS];
    for (int r = 0; r < ROWS; r++) keys[r] = r * 77, positions[r] = r == 2 ? -1 : r;
    for (int64_t v = 0; v < V; v++) x[5 * V + v] = -INFINITY;
    x[6 * V + V / 2] = NAN;
    fr_sampling s = {ROWS, V, x, x, keys, positions, NULL, NULL, 1.0f, 0.0f, 1.0, 1.0, 0};
    for (int filtered = 0; filtered < 3; filtered++) {
        if (filtered == 1) s.top_k = V / 2 + 1, s.min_p = 0.01f;
        if (filtered == 2) s.top_p = 0.8, s.typical_p = 0.7, s.temperature = 2.0f;
        for (int t = 0; t < 2; t++) {
            void *workspace = aligned(fr_sample_size(V, t ? 3 : 1));
            s.tokens = tokens[t], s.logprobs = logprobs[t];
            tokens[t][2] = -7, logprobs[t][2] = 0.0f;
            fr_sample(&s, workspace, t ? 3 : 1);
            free(workspace);
        }
        for (int r = 0; r < ROWS; r++) {
            CHECK(tokens[0][r] == tokens[1][r], "V %d row %d: threads", (int)V, r);
            if (r == 2) CHECK(tokens[0][r] == -7, "a skipped row");
            else if (r == 6) CHECK(tokens[0][r] == -2, "NaN");
            else if (r == 5) CHECK(tokens[0][r] < 0, "nothing is allowed"); /* its softmax is NaN */
            else CHECK(tokens[0][r] >= 0 && tokens[0][r] < V && x[r * V + tokens[0][r]] > -INFINITY, "row %d", r);
            if (!filtered && r != 2 && r < 5) {
                const int64_t wanted = plain_draw(x + r * V, V, fr_uniform(keys[r], positions[r]));
                CHECK(tokens[0][r] == wanted, "V %d row %d: %d", (int)V, r, (int)wanted);
            }
        }
    }
    free(x);
}

static void test_constraint(void) {
    enum { V = 5 };
    float x[3 * V] = {1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5};
    const int64_t states[] = {1, -1, 0}, remaining[] = {3, 0, 0};
    const int64_t offsets[] = {0, 2, 3}, tokens[] = {0, 4, 2}, needed[] = {1, 0, 3};
    fr_constrain(&(fr_grammar){3, V, x, states, remaining, offsets, tokens, needed});
    const float wanted[3 * V] = {-INFINITY, -INFINITY, 3, -INFINITY, -INFINITY, 1, 2, 3, 4, 5,
                                 -INFINITY, -INFINITY, -INFINITY, -INFINITY, 5};
    CHECK(memcmp(x, wanted, sizeof x) == 0, "allowed tokens");
    CHECK(fr_first_outside(offsets, 3, 3) == 2 && fr_first_outside(offsets, 3, 4) == 3, "bounds");
    CHECK(fr_first_outside(states, 3, 9) == 1, "negative");
}

static void test_reorder(const char *cell, int32_t H, int32_t P) {
    const fr_shape shape = {fr_cell(cell), 3, H, P, 2, 1, 1, 0};
    float *parameters = random_floats(fr_parameter_count(&shape), 5, 0.5f);
    float *x = random_floats(2 * 4 * 3, 6, 1.0f), y[4 * 64], alone[64];
    const int64_t indices[] = {3, 1, 1};
    const int32_t R = P ? P : H;
    fr_model *model = fr_model_create(&shape, aligned(fr_model_size(&shape)));
    fr_model_load(model, parameters);
    fr_state *state = fr_state_create(model, 4, aligned(fr_state_size(model, 4)));
    fr_step(model, state, x, y);
    fr_state_reorder(model, state, indices, 3);
    fr_step(model, state, x + 12, y);
    for (int n = 0; n < 3; n++) {
        fr_state *single = fr_state_create(model, 1, aligned(fr_state_size(model, 1)));
        fr_step(model, single, x + 3 * indices[n], alone);
        fr_step(model, single, x + 12 + 3 * n, alone);
        CHECK(memcmp(alone, y + n * R, (size_t)R * sizeof *y) == 0, "%s %d %d row %d", cell, H, P, n);
        free(single);
    }
    free(state), free(model), free(x), free(parameters);
}

int main(int argc, char **argv) {
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        if (!fr_isa_select(argv[i])) return 2;
        const int64_t sizes[] = {1, 2, 15, 16, 17, 64, 130, 6001};
        for (size_t v = 0; v < sizeof sizes / sizeof *sizes; v++) {
            for (int64_t k = 1; k <= MOST; k += 2) test_choice(sizes[v], k, v % 2 ? 3 : 1);
            test_sampling(sizes[v]);
        }
        test_constraint();
        const char *cells[] = {"rnn_tanh", "gru", "gru_reset_before", "lstm", "lstm_peephole"};
        for (int c = 0; c < 5; c++) {
            test_reorder(cells[c], 5, 0);
            test_reorder(cells[c], 40, 0);
        }
        test_reorder("lstm", 60, 3);
        failed |= report("test_decode");
    }
    return failed;
}
