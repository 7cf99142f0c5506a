/* Decoding in C: choices against sorting everything, draws against a plain loop, reordered states
 * against fresh ones, networks against their parts, runs of many steps against single calls; for
 * all kernels named as arguments, with the same bits for any threads. */
#include "support.h"
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
    double scores[ROWS], best[3 * MOST];
    int64_t rows[3 * MOST], tokens[3 * MOST];
    const int64_t first[] = {0, 3, 4}, last[] = {3, 4, 7};
    for (int r = 0; r < ROWS; r++) scores[r] = -0.5 * (r % 3);
    const fr_choice choice = {3, V, k, branches, first, last, x, scores, best, rows, tokens};
    fr_choose(&choice, threads);
    struct candidate *all = aligned((size_t)(ROWS * V) * sizeof *all);
    for (int g = 0; g < 3; g++) {
        int64_t n = 0;
        for (int64_t r = first[g]; r < last[g]; r++) {
            for (int64_t v = 0; v < V; v++) {
                const double value = (double)x[r * V + v];
                if (value == -INFINITY || !is_branch(x + r * V, V, v, branches)) continue;
                all[n++] = (struct candidate){scores[r] + value, r, v};
            }
        }
        qsort(all, (size_t)n, sizeof *all, by_rule);
        for (int64_t i = 0; i < k; i++) {
            const int64_t at = g * k + i;
            if (i >= n) CHECK(rows[at] == -1, "V %d group %d rank %d", (int)V, g, (int)i);
            else
                CHECK(rows[at] == all[i].row && tokens[at] == all[i].token &&
                          best[at] == all[i].score,
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
            else
                CHECK(tokens[0][r] >= 0 && tokens[0][r] < V && x[r * V + tokens[0][r]] > -INFINITY,
                      "row %d", r);
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
    fr_state_reorder(model, state, indices, 3);
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

enum parts { TABLE, EMBEDDING, ATTENTION, FEEDING, PARTS }; /* the last two: behind an embedding */
enum { H = 20, POSITIONS = 5, MEMORY = 7, KEY = 9, NETWORK_ROWS = 6 };

/* A network of V tokens, two layers, a head; with FEEDING the head has every other token only. */
struct network {
    fr_network network;
    fr_look look;
    float *parameters, *embedding, *table, *memory[3];
    int64_t *listed, sources[2][NETWORK_ROWS];
    fr_linear *head, *query, *combine;
};

static fr_linear *make_linear(int32_t inputs, int32_t outputs, uint64_t seed) {
    fr_linear *linear = fr_linear_create(inputs, outputs, aligned(fr_linear_size(inputs, outputs)));
    float *weight = random_floats((size_t)inputs * (size_t)outputs, seed, 2.0f);
    fr_linear_load(linear, weight, NULL);
    free(weight);
    return linear;
}

static float *rows_of(size_t width) { return aligned(NETWORK_ROWS * width * sizeof(float)); }

static void make_look(struct network *n, int feeding) {
    n->query = make_linear(H, KEY, 8);
    n->combine = make_linear(MEMORY + H, H, 9);
    n->memory[0] = random_floats(POSITIONS * 2 * KEY, 10, 1.0f);
    n->memory[1] = random_floats(POSITIONS * 2 * MEMORY, 11, 1.0f);
    n->memory[2] = random_floats(KEY, 12, 1.0f);
    n->look = (fr_look){.query = n->query,
                        .combine = n->combine,
                        .units = H,
                        .fed_size = H,
                        .sources = n->sources[0],
                        .spare_sources = n->sources[1],
                        .queries = rows_of(KEY),
                        .joined = rows_of(MEMORY + H),
                        .hidden = rows_of(H),
                        .spare_weights = rows_of(POSITIONS),
                        .inputs = feeding ? rows_of(2 * H) : NULL,
                        .attention = {.steps = 1,
                                      .positions = POSITIONS,
                                      .memory_rows = 2,
                                      .size = KEY,
                                      .features = MEMORY,
                                      .keys = n->memory[0],
                                      .values = n->memory[1],
                                      .score = feeding ? n->memory[2] : NULL,
                                      .sources = n->sources[0],
                                      .scale = 0.5f,
                                      .weights = rows_of(POSITIONS),
                                      .context = rows_of(MEMORY)}};
    n->look.attention.queries = n->look.queries;
    n->network.look = &n->look;
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
    fr_model *model = fr_model_create(&shape, aligned(fr_model_size(&shape)));
    n->parameters = random_floats(fr_parameter_count(&shape), 5, 0.5f);
    n->embedding = random_floats((size_t)V * H, 6, 1.0f);
    fr_model_load(model, n->parameters);
    fr_state *state = fr_state_create(model, rows, aligned(fr_state_size(model, rows)));
    n->network = (fr_network){.model = model, .state = state, .outputs = (int32_t)V};
    if (parts == TABLE) {
        n->table = aligned(fr_table_size(model, V));
        fr_table_fill(model, V, n->embedding, n->table);
        n->network.table = n->table;
    } else {
        n->network.embedding = n->embedding;
    }
    if (parts >= ATTENTION) make_look(n, parts == FEEDING);
    n->network.num_listed = parts == FEEDING ? (int32_t)(V + 1) / 2 : (int32_t)V;
    n->network.head = n->head = make_linear(H, n->network.num_listed, 7);
    if (parts == FEEDING) {
        n->listed = aligned((size_t)V * sizeof *n->listed);
        for (int32_t k = 0; k < n->network.num_listed; k++) n->listed[k] = 2 * k;
        n->network.listed = n->listed;
        n->network.short_outputs = rows_of((size_t)n->network.num_listed);
    }
}

static void free_network(struct network *n) {
    fr_look *l = &n->look;
    free((void *)n->network.model), free(n->network.state);
    free(n->parameters), free(n->embedding), free(n->table), free(n->listed),
        free(n->network.short_outputs);
    free(n->head), free(n->query), free(n->combine);
    for (int i = 0; i < 3; i++) free(n->memory[i]);
    free(l->queries), free(l->joined), free(l->hidden), free(l->spare_weights), free(l->inputs);
    free(l->attention.weights), free(l->attention.context);
}

/* As after creation; row n looks at memory n % 2. */
static void restart(struct network *n, const int64_t *zeros, int64_t rows) {
    fr_state_reorder(n->network.model, n->network.state, zeros, rows);
    fr_state_set(n->network.model, n->network.state, NULL, NULL);
    if (!n->network.look) return;
    memset(n->look.hidden, 0, NETWORK_ROWS * H * sizeof(float));
    memset(n->look.attention.weights, 0, NETWORK_ROWS * POSITIONS * sizeof(float));
    for (int i = 0; i < NETWORK_ROWS; i++) n->sources[0][i] = i % 2;
}

/* What a step gives with attention, against its parts; and that weights follow their rows. */
static void test_look(int64_t V) {
    const int64_t zeros[2] = {0}, tokens[2] = {1, 0}, swapped[3] = {1, 0, 1};
    struct network n;
    make_network(&n, "gru", V, NETWORK_ROWS, FEEDING);
    restart(&n, zeros, 2);
    float *y = rows_of((size_t)V), *wanted = rows_of((size_t)V);
    float x[2][2 * H] = {{0}}, h[2][H], joined[2][MEMORY + H], hidden[2][H];
    fr_state *state =
        fr_state_create(n.network.model, 2, aligned(fr_state_size(n.network.model, 2)));
    for (int t = 0; t < 3; t++) {
        fr_network_step(&n.network, NULL, tokens, y);
        for (int i = 0; i < 2; i++) memcpy(x[i], n.embedding + tokens[i] * H, H * sizeof(float));
        fr_step(n.network.model, state, x[0], h[0]);
        for (int i = 0; i < 2; i++) {
            memcpy(joined[i], n.look.attention.context + i * MEMORY, MEMORY * sizeof(float));
            memcpy(joined[i] + MEMORY, h[i], sizeof h[i]);
        }
        fr_linear_forward(n.combine, 2, joined[0], MEMORY + H, hidden[0], H, 1);
        const fr_activation squash = {
            .function = FR_ACTIVATION_tanh, .rows = 2, .size = H, .x = hidden[0], .y = hidden[0]};
        fr_activate(&squash, 1);
        fr_linear_forward(n.head, 2, hidden[0], H, wanted, n.network.num_listed, 1);
        for (int i = 0; i < 2; i++) {
            memcpy(x[i] + H, hidden[i], sizeof hidden[i]);
            for (int64_t v = 0; v < V; v++) {
                const float value = v % 2 ? -INFINITY : wanted[i * n.network.num_listed + v / 2];
                CHECK(y[i * V + v] == value, "V %d step %d row %d token %d", (int)V, t, i, (int)v);
            }
        }
    }
    float before[2][POSITIONS];
    memcpy(before, n.look.attention.weights, sizeof before);
    fr_network_reorder(&n.network, swapped, 3);
    for (int i = 0; i < 3; i++) {
        CHECK(n.sources[0][i] == swapped[i], "source of row %d", i);
        CHECK(memcmp(n.look.attention.weights + i * POSITIONS, before[swapped[i]],
                     sizeof before[0]) == 0,
              "weights");
        CHECK(memcmp(n.look.hidden + i * H, hidden[swapped[i]], sizeof hidden[0]) == 0,
              "hidden of row %d", i);
    }
    free_network(&n);
    free(state), free(y), free(wanted);
}

enum { LIVE = 3, STEPS = 9, RUN = (STEPS + 1) * 2 * LIVE };

/* Two searches of three beams: a run against single calls, whose bits are the same; then an end
 * token stops it where that token is among the first candidates. */
static void test_search_steps(const char *cell, int64_t V, enum parts parts) {
    const int64_t zeros[2 * LIVE] = {0};
    struct network n;
    make_network(&n, cell, V, 2 * LIVE, parts);
    float *logits = aligned((size_t)(2 * LIVE * V) * sizeof *logits), logprobs[RUN];
    uint8_t *ends = calloc((size_t)V, 1);
    double best[2 * LIVE], scores[RUN] = {0};
    int64_t first[2], last[2], rows[2 * LIVE], chosen[2 * LIVE], tokens[RUN] = {1, 0}, parents[RUN];
    fr_choice choice = {2, V, LIVE, 0, first, last, logits, scores, best, rows, chosen};
    fr_search search = {&n.network, &choice, logits,  first,  last,     ends, LIVE,
                        2 * LIVE,   tokens,  parents, scores, logprobs, 0};
    restart(&n, zeros, 2);
    CHECK(fr_search_steps(&search, STEPS, 1) == STEPS && search.nan_row == -1, "%s %d: all steps",
          cell, (int)V);

    double sums[2 * LIVE] = {0};
    int64_t feed[2 * LIVE] = {1, 0};
    fr_choice single = choice;
    single.scores = sums;
    restart(&n, zeros, 2);
    for (int t = 1; t <= STEPS; t++) {
        const int64_t each = t == 1 ? 1 : LIVE;
        fr_network_step(&n.network, NULL, feed, logits);
        fr_normalize(2 * each, V, logits, 1);
        for (int g = 0; g < 2; g++) first[g] = g * each, last[g] = (g + 1) * each;
        fr_choose(&single, 1);
        for (int i = 0; i < 2 * LIVE; i++) {
            const int at = t * 2 * LIVE + i;
            CHECK(tokens[at] == chosen[i] && parents[at] == rows[i] && scores[at] == best[i] &&
                      logprobs[at] == logits[rows[i] * V + chosen[i]],
                  "%s %d: step %d row %d", cell, (int)V, t, i);
            feed[i] = chosen[i], sums[i] = best[i];
        }
        fr_network_reorder(&n.network, rows, 2 * LIVE);
    }

    const int64_t end = tokens[5 * 2 * LIVE + 4]; /* of step 4 or an earlier one */
    int64_t wanted = STEPS;
    for (int at = RUN - 1; at >= 2 * LIVE; at--)
        wanted = tokens[at] == end ? at / (2 * LIVE) - 1 : wanted;
    ends[end] = 1;
    restart(&n, zeros, 2);
    CHECK(fr_search_steps(&search, STEPS, 1) == wanted, "%s %d: an end at step %d", cell, (int)V,
          (int)wanted);
    CHECK(fr_state_rows(n.network.state) == (wanted ? 2 * LIVE : 2),
          "the step after it was not taken");
    free_network(&n);
    free(logits), free(ends);
}

/* Two rows drawn: a run against single calls; then an end token stops it. */
static void test_draw_steps(const char *cell, int64_t V, enum parts parts) {
    const int64_t zeros[2] = {0};
    struct network n;
    make_network(&n, cell, V, 2, parts);
    float *logits = aligned((size_t)(2 * V) * sizeof *logits), logprobs[2 * (STEPS + 1)];
    uint8_t *ends = calloc((size_t)V, 1);
    void *workspace = aligned(fr_sample_size(V, 1));
    int64_t keys[2] = {7, 9}, positions[2] = {0, 4}, tokens[2 * (STEPS + 1)] = {1, 0};
    fr_sampling sampling = {2,    V,    logits, logits, keys, positions, NULL,
                            NULL, 1.0f, 0.0f,   0.9,    1.0,  0};
    const fr_draws draws = {&n.network, &sampling, logits, ends, 2, tokens, logprobs, positions};
    const int64_t fed[2] = {0, 1};
    restart(&n, zeros, 2);
    fr_network_read(&n.network, 1, fed);
    CHECK(fr_draw_steps(&draws, STEPS, workspace, 1) == STEPS, "%s %d: all draws", cell, (int)V);
    CHECK(positions[0] == STEPS && positions[1] == STEPS + 4, "positions");

    int64_t drawn[2] = {1, 0};
    float values[2];
    sampling.tokens = drawn, sampling.logprobs = values;
    restart(&n, zeros, 2);
    fr_network_step(&n.network, NULL, fed, logits);
    for (int t = 0; t < STEPS; t++) {
        fr_network_step(&n.network, NULL, drawn, logits);
        positions[0] = t, positions[1] = t + 4;
        fr_sample(&sampling, workspace, 1);
        for (int i = 0; i < 2; i++) {
            CHECK(drawn[i] == tokens[2 * (t + 1) + i] && values[i] == logprobs[2 * (t + 1) + i],
                  "%s %d: draw %d row %d", cell, (int)V, t, i);
        }
    }
    int64_t wanted = STEPS;
    for (int at = 2 * STEPS + 1; at >= 2; at--)
        wanted = tokens[at] == tokens[9] ? at / 2 - 1 : wanted;
    ends[tokens[9]] = 1;
    restart(&n, zeros, 2);
    fr_network_read(&n.network, 1, fed);
    positions[0] = 0, positions[1] = 4;
    CHECK(fr_draw_steps(&draws, STEPS, workspace, 1) == wanted, "%s %d: an end", cell, (int)V);
    free_network(&n);
    free(logits), free(ends), free(workspace);
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
            }
        }
        failed |= report("test_decode");
    }
    return failed;
}
