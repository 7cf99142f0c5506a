/* Decoding in C: choices against sorting everything, draws against a plain loop, reordered states
 * against fresh ones, networks against their parts, runs of many steps against single calls; for
 * all kernels named as arguments, with the same bits for any threads. */
#include "decoder.h"
#include "../../src_c/ops/activation.h"

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

/* Whether a token is one of the first `branches` of its row. */
static int is_branch(const float *x, int64_t V, int64_t token, int64_t branches) {
    int64_t before = 0;
    for (int64_t v = 0; v < V && before < branches; v++)
        before += x[v] > x[token] || (x[v] == x[token] && v < token);
    return branches == 0 || before < branches;
}

static void test_choice(int64_t V, int64_t k, int64_t branches, int32_t threads) {
    float *x = coarse((size_t)(ROWS * V), (uint64_t)V);
    uint8_t *ends = calloc((size_t)V, 1);
    const int64_t first[] = {0, 3, 4}, last[] = {3, 4, 7};
    const fr_search_plan plan = {V, ROWS, 1, 3, k, 1, branches, threads, ends};
    fr_search *search = fr_search_create(&plan, aligned(fr_search_size(&plan)));
    const fr_searched a = fr_search_arrays(search);
    memcpy(a.logits, x, (size_t)(ROWS * V) * sizeof *x);
    for (int r = 0; r < ROWS; r++) a.scores[r] = -0.5 * (r % 3);
    int64_t nan_row = 0;
    CHECK(fr_search_run(search, NULL, NULL, 3, first, last, 1, &nan_row) == 0 && nan_row == -1,
          "one step takes nothing");
    struct candidate *all = aligned((size_t)(ROWS * V) * sizeof *all);
    for (int g = 0; g < 3; g++) {
        int64_t n = 0;
        for (int64_t r = first[g]; r < last[g]; r++) {
            for (int64_t v = 0; v < V; v++) {
                const double value = (double)x[r * V + v];
                if (value == -INFINITY || !is_branch(x + r * V, V, v, branches)) continue;
                all[n++] = (struct candidate){a.scores[r] + value, r, v};
            }
        }
        qsort(all, (size_t)n, sizeof *all, by_rule);
        for (int64_t i = 0; i < k; i++) {
            const int64_t at = g * k + i;
            if (i >= n) CHECK(a.rows[at] == -1, "V %d group %d rank %d", (int)V, g, (int)i);
            else
                CHECK(a.rows[at] == all[i].row && a.candidates[at] == all[i].token &&
                          a.best[at] == all[i].score,
                      "V %d group %d rank %d", (int)V, g, (int)i);
        }
    }
    free(all), free(x), free(ends), free(search);
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

static fr_sampler *make_sampler(fr_sampling how, int64_t V, int64_t rows, int64_t steps,
                                int32_t threads, const uint8_t *ends) {
    const fr_sampler_plan plan = {how, V, rows, steps, threads, 0, ends};
    return fr_sampler_create(&plan, aligned(fr_sampler_size(&plan)));
}

static void test_sampling(int64_t V) {
    float *x = coarse((size_t)(ROWS * V), (uint64_t)V + 1);
    uint8_t *ends = calloc((size_t)V, 1);
    for (int64_t v = 0; v < V; v++) x[5 * V + v] = -INFINITY;
    x[6 * V + V / 2] = NAN;
    for (int filtered = 0; filtered < 3; filtered++) {
        fr_sampling how = {1.0f, 0.0f, 1.0, 1.0, 0};
        if (filtered >= 1) how.top_k = V / 2 + 1, how.min_p = 0.01f;
        if (filtered == 2) how.top_p = 0.8, how.typical_p = 0.7, how.temperature = 2.0f;
        int64_t tokens[2][ROWS];
        for (int t = 0; t < 2; t++) {
            fr_sampler *sampler = make_sampler(how, V, ROWS, 1, t ? 3 : 1, ends);
            const fr_sampled a = fr_sampler_arrays(sampler);
            memcpy(a.raw, x, (size_t)(ROWS * V) * sizeof *x);
            for (int r = 0; r < ROWS; r++) a.keys[r] = r * 77, a.positions[r] = r == 2 ? -1 : r;
            CHECK(fr_sampler_run(sampler, NULL, NULL, ROWS, 1) == 1, "one step");
            memcpy(tokens[t], a.tokens, sizeof tokens[t]);
            free(sampler);
        }
        for (int r = 0; r < ROWS; r++) {
            const int64_t token = tokens[0][r];
            CHECK(token == tokens[1][r], "V %d row %d: threads", (int)V, r);
            if (r == 2) CHECK(token == 0, "a skipped row");
            else if (r == 6) CHECK(token == -2, "NaN");
            else if (r == 5) CHECK(token < 0, "nothing is allowed"); /* its softmax is NaN */
            else CHECK(token >= 0 && token < V && x[r * V + token] > -INFINITY, "row %d", r);
            if (!filtered && r != 2 && r < 5) {
                const int64_t wanted = plain_draw(x + r * V, V, fr_uniform(r * 77, r));
                CHECK(token == wanted, "V %d row %d: %d", (int)V, r, (int)wanted);
            }
        }
    }
    free(x), free(ends);
}

static void test_constraint(void) {
    enum { V = 5 };
    float x[3 * V] = {1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5};
    const int64_t states[] = {1, -1, 0}, remaining[] = {3, 0, 0};
    const int64_t offsets[] = {0, 2, 3}, tokens[] = {0, 4, 2}, needed[] = {1, 0, 3};
    fr_constrain(&(fr_grammar){3, V, x, states, remaining, offsets, tokens, needed});
    const float wanted[3 * V] = {-INFINITY, -INFINITY, 3,         -INFINITY, -INFINITY, 1, 2, 3, 4,
                                 5,         -INFINITY, -INFINITY, -INFINITY, -INFINITY, 5};
    CHECK(memcmp(x, wanted, sizeof x) == 0, "allowed tokens");
    CHECK(fr_first_outside(offsets, 3, 3) == 2 && fr_first_outside(offsets, 3, 4) == 3, "bounds");
    CHECK(fr_first_outside(states, 3, 9) == 1, "negative");
}

static void test_reorder(const char *cell, int32_t H, int32_t P) {
    const fr_shape shape = {.cell = fr_cell(cell),
                            .input_size = 3,
                            .hidden_size = H,
                            .proj_size = P,
                            .num_layers = 2,
                            .num_directions = 1,
                            .bias = 1};
    float *parameters = random_floats(fr_parameter_count(&shape), 5, 0.5f);
    float *x = random_floats(2 * 4 * 3, 6, 1.0f), y[4 * 64], alone[64];
    const int64_t indices[] = {3, 1, 1};
    const int32_t R = P ? P : H;
    fr_model *model = fr_model_create(&shape, aligned(fr_model_size(&shape)));
    fr_model_load(model, parameters);
    fr_state *state = fr_state_create(model, 4, aligned(fr_state_size(model, 4)));
    fr_step(model, state, x, y);
    fr_state_reorder(state, indices, 3);
    fr_step(model, state, x + 12, y);
    for (int n = 0; n < 3; n++) {
        fr_state *single = fr_state_create(model, 1, aligned(fr_state_size(model, 1)));
        fr_step(model, single, x + 3 * indices[n], alone);
        fr_step(model, single, x + 12 + 3 * n, alone);
        CHECK(memcmp(alone, y + n * R, (size_t)R * sizeof *y) == 0, "%s %d %d row %d", cell, H, P,
              n);
        free(single);
    }
    free(state), free(model), free(x), free(parameters);
}

/* What a step gives with attention, against its parts; and that weights follow their rows. */
static void test_look(int64_t V) {
    const int64_t tokens[2] = {1, 0}, swapped[3] = {1, 0, 1};
    struct network n;
    make_network(&n, "gru", V, NETWORK_ROWS, FEEDING);
    restart(&n, 2);
    float *y = rows_of((size_t)V), *wanted = rows_of((size_t)V);
    float x[2][2 * H] = {{0}}, h[2][H], joined[2][MEMORY + H], hidden[2][H];
    float queries[2][KEY], context[2][MEMORY];
    fr_state *state = fr_state_create(n.model, 2, aligned(fr_state_size(n.model, 2)));
    for (int t = 0; t < 3; t++) {
        step(&n, tokens, y);
        for (int i = 0; i < 2; i++) memcpy(x[i], n.embedding + tokens[i] * H, H * sizeof(float));
        fr_step(n.model, state, x[0], h[0]);
        fr_linear_forward(n.query, 2, h[0], H, queries[0], KEY, 1);
        attend(&n, queries[0], context[0]);
        for (int i = 0; i < 2; i++) {
            memcpy(joined[i], context[i], sizeof context[i]);
            memcpy(joined[i] + MEMORY, h[i], sizeof h[i]);
        }
        fr_linear_forward(n.combine, 2, joined[0], MEMORY + H, hidden[0], H, 1);
        const fr_activation squash = {
            .function = FR_ACTIVATION_tanh, .rows = 2, .size = H, .x = hidden[0], .y = hidden[0]};
        fr_activate(&squash, 1);
        fr_linear_forward(n.head, 2, hidden[0], H, wanted, n.num_listed, 1);
        for (int i = 0; i < 2; i++) {
            memcpy(x[i] + H, hidden[i], sizeof hidden[i]);
            for (int64_t v = 0; v < V; v++) {
                const float value = v % 2 ? -INFINITY : wanted[i * n.num_listed + v / 2];
                CHECK(y[i * V + v] == value, "V %d step %d row %d token %d", (int)V, t, i, (int)v);
            }
        }
    }
    float before[2][POSITIONS], after[3][POSITIONS], kept[3][H];
    fr_slots_read(n.network, n.slots, n.looks, 0, 2, NULL, before[0]);
    fr_slots_reorder(n.slots, swapped, 3);
    fr_slots_read(n.network, n.slots, n.looks, 0, 3, NULL, after[0]);
    fr_slots_read(n.network, n.slots, 2, 0, 3, NULL, kept[0]);
    for (int i = 0; i < 3; i++) {
        CHECK(memcmp(after[i], before[swapped[i]], sizeof before[0]) == 0, "weights of row %d", i);
        CHECK(memcmp(kept[i], hidden[swapped[i]], sizeof hidden[0]) == 0, "hidden of row %d", i);
    }
    const int64_t same[3] = {0, 0, 0};
    step(&n, same, y); /* rows 0 and 2 look where row 1 did, and row 1 where row 0 did */
    CHECK(memcmp(y, y + 2 * V, (size_t)V * sizeof *y) == 0, "a copied row differs");
    CHECK(memcmp(y, y + V, (size_t)V * sizeof *y) != 0, "a source did not follow its row");
    free_network(&n);
    free(state), free(y), free(wanted);
}

enum { LIVE = 3, STEPS = 9, RUN = STEPS * 2 * LIVE };

/* Feeds `tokens` to rows of two beams' groups, whose log-softmax then waits. */
static void feed_search(struct network *n, fr_search *search, const int64_t *tokens) {
    step(n, tokens, fr_search_arrays(search).logits);
    fr_search_normalize(search, fr_slots_rows(n->slots));
}

/* Two searches of three beams: a run against runs of one step, whose bits are the same; then an end
 * token stops it where that token is among the first candidates. */
static void test_search_steps(const char *cell, int64_t V, enum parts parts) {
    struct network n;
    make_network(&n, cell, V, 2 * LIVE, parts);
    uint8_t *ends = calloc((size_t)V, 1);
    fr_search_plan plan = {V, 2 * LIVE, STEPS, 2, LIVE, LIVE, 0, 1, ends};
    fr_search *search = fr_search_create(&plan, aligned(fr_search_size(&plan)));
    fr_search *single = fr_search_create(&plan, aligned(fr_search_size(&plan)));
    const fr_searched a = fr_search_arrays(search), b = fr_search_arrays(single);
    const int64_t fed[2] = {1, 0}, first[] = {0, 1}, last[] = {1, 2};
    int64_t nan_row = 0;
    restart(&n, 2);
    feed_search(&n, search, fed);
    CHECK(fr_search_run(search, n.network, n.slots, 2, first, last, STEPS, &nan_row) == STEPS - 1 &&
              nan_row == -1,
          "%s %d: all steps", cell, (int)V);

    restart(&n, 2);
    feed_search(&n, single, fed);
    for (int t = 1; t < STEPS; t++) {
        const int64_t each = t == 1 ? 1 : LIVE, from[] = {0, each}, to[] = {each, 2 * each};
        fr_search_run(single, NULL, NULL, 2, from, to, 1, &nan_row);
        for (int i = 0; i < 2 * LIVE; i++) {
            const int at = t * 2 * LIVE + i;
            CHECK(a.tokens[at] == b.candidates[i] && a.parents[at] == b.rows[i] &&
                      a.scores[at] == b.best[i] &&
                      a.logprobs[at] == b.logits[b.rows[i] * V + b.candidates[i]],
                  "%s %d: step %d row %d", cell, (int)V, t, i);
            b.scores[i] = b.best[i];
        }
        fr_slots_reorder(n.slots, b.rows, 2 * LIVE);
        feed_search(&n, single, b.candidates);
    }
    CHECK(memcmp(a.logits, b.logits, (size_t)(2 * LIVE * V) * sizeof *a.logits) == 0,
          "%s %d: the logits that wait", cell, (int)V);

    const int64_t end = a.tokens[5 * 2 * LIVE + 4]; /* of step 4 or an earlier one */
    int64_t wanted = STEPS - 1;
    for (int at = RUN - 1; at >= 2 * LIVE; at--)
        wanted = a.tokens[at] == end ? at / (2 * LIVE) - 1 : wanted;
    ends[end] = 1;
    fr_search_create(&plan, search);
    restart(&n, 2);
    feed_search(&n, search, fed);
    CHECK(fr_search_run(search, n.network, n.slots, 2, first, last, STEPS, &nan_row) == wanted,
          "%s %d: an end at step %d", cell, (int)V, (int)wanted);
    CHECK(fr_slots_rows(n.slots) == (wanted ? 2 * LIVE : 2), "the choice after it was taken");
    free_network(&n);
    free(search), free(single), free(ends);
}

/* A sampler whose two rows have read and been fed a token. */
static fr_sampler *begin_draws(struct network *n, int64_t V, const uint8_t *ends) {
    const int64_t read[2] = {0, 1}, fed[2] = {1, 0};
    fr_sampler *sampler =
        make_sampler((fr_sampling){1.0f, 0.0f, 0.9, 1.0, 0}, V, 2, STEPS, 1, ends);
    const fr_sampled a = fr_sampler_arrays(sampler);
    a.keys[0] = 7, a.keys[1] = 9, a.positions[1] = 4;
    restart(n, 2);
    step(n, read, NULL);
    step(n, fed, a.raw);
    return sampler;
}

/* Two rows drawn: a run against runs of one step; then an end token stops it. */
static void test_draw_steps(const char *cell, int64_t V, enum parts parts) {
    struct network n;
    make_network(&n, cell, V, 2, parts);
    uint8_t *ends = calloc((size_t)V, 1);
    fr_sampler *sampler = begin_draws(&n, V, ends);
    const fr_sampled a = fr_sampler_arrays(sampler);
    CHECK(fr_sampler_run(sampler, n.network, n.slots, 2, STEPS) == STEPS, "%s %d: all draws", cell,
          (int)V);
    CHECK(a.positions[0] == STEPS - 1 && a.positions[1] == STEPS + 3, "positions");

    fr_sampler *single = begin_draws(&n, V, ends);
    const fr_sampled b = fr_sampler_arrays(single);
    for (int t = 0; t < STEPS; t++) {
        b.positions[0] = t, b.positions[1] = t + 4;
        CHECK(fr_sampler_run(single, NULL, NULL, 2, 1) == 1, "one step");
        for (int i = 0; i < 2; i++) {
            CHECK(a.tokens[2 * t + i] == b.tokens[i] && a.logprobs[2 * t + i] == b.logprobs[i],
                  "%s %d: draw %d row %d", cell, (int)V, t, i);
        }
        step(&n, b.tokens, b.raw);
    }

    const int64_t end = a.tokens[9];
    int64_t wanted = STEPS;
    for (int at = 2 * STEPS - 1; at >= 0; at--) wanted = a.tokens[at] == end ? at / 2 + 1 : wanted;
    ends[end] = 1;
    fr_sampler *ended = begin_draws(&n, V, ends);
    CHECK(fr_sampler_run(ended, n.network, n.slots, 2, STEPS) == wanted, "%s %d: an end", cell,
          (int)V);
    free_network(&n);
    free(sampler), free(single), free(ended), free(ends);
}

enum { LONG = 11 };

/* Rows read at once, each to its own end, and in two parts: the bits of rows that step alone. */
static void test_reading(const char *cell, int64_t V, enum parts parts, int32_t threads) {
    const int64_t lengths[3] = {4, 0, LONG};
    int64_t tokens[LONG * 3], last[3];
    float *y = rows_of((size_t)V), *alone = rows_of((size_t)V);
    struct network n;
    make_network(&n, cell, V, 3, parts);
    for (int i = 0; i < LONG * 3; i++) tokens[i] = i * i % V;
    for (int split = 0; split < LONG; split += 5) {
        restart(&n, 3);
        for (int64_t from = 0, to = split; from < LONG; from = to, to = LONG) {
            int64_t part[3];
            for (int r = 0; r < 3; r++) {
                const int64_t end = lengths[r] < to ? lengths[r] : to;
                part[r] = end > from ? end - from : 0;
            }
            const void *const inputs[] = {tokens + 3 * from};
            const fr_run run = {to - from, 3, 3, 1, part, inputs, NULL};
            if (to == from) continue;
            void *memory = aligned(fr_read_size(n.network, run.steps, 3, threads));
            fr_network_read(n.network, n.slots, &run, memory, threads);
            free(memory);
        }
        for (int r = 0; r < 3; r++) last[r] = (r + 1) % V;
        step(&n, last, y);
        for (int r = 0; r < 3; r++) {
            restart(&n, 1);
            const int64_t source = r % 2;
            if (n.looks) fr_slots_look(n.network, n.slots, n.looks, 1, NULL, &source);
            for (int64_t t = 0; t < lengths[r]; t++) step(&n, tokens + 3 * t + r, NULL);
            step(&n, last + r, alone);
            CHECK(memcmp(y + r * V, alone, (size_t)V * sizeof *y) == 0, "%s %d split %d row %d",
                  cell, (int)V, split, r);
        }
    }
    free_network(&n);
    free(y), free(alone);
}

int main(int argc, char **argv) {
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        if (!fr_isa_select(argv[i])) return 2;
        const int64_t sizes[] = {1, 2, 15, 16, 17, 64, 130, 6001};
        for (size_t v = 0; v < sizeof sizes / sizeof *sizes; v++) {
            for (int64_t k = 1; k <= MOST; k += 2) {
                for (int64_t branches = 0; branches < 5; branches += 2) {
                    test_choice(sizes[v], k, branches, v % 2 ? 3 : 1);
                }
            }
            test_sampling(sizes[v]);
        }
        test_constraint();
        const char *cells[] = {"rnn_tanh", "gru", "gru_reset_before", "lstm", "lstm_peephole"};
        for (int c = 0; c < 5; c++) {
            test_reorder(cells[c], 5, 0);
            test_reorder(cells[c], 40, 0);
        }
        test_reorder("lstm", 60, 3);
        test_look(17);
        for (int c = 0; c < 5; c++) {
            for (int parts = 0; parts < PARTS; parts++) {
                test_search_steps(cells[c], c % 2 ? 17 : 600, (enum parts)parts);
                test_draw_steps(cells[c], c % 2 ? 17 : 600, (enum parts)parts);
                test_reading(cells[c], c % 2 ? 17 : 600, (enum parts)parts, 1 + 2 * (c % 2));
            }
        }
        failed |= report("test_decode");
    }
    return failed;
}
