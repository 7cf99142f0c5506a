/* The C core without Python: every cell and option against the float64 reference, and the numeric
 * contract: the same bits alone and in a batch, with any number of threads, at once or step by
 * step, padded or packed, and (by golden hashes) on every instruction set with fused multiply-add.
 *
 *     test_core [ISA ...]      the kernels to test; without arguments, all that this CPU has
 */
#include "reference.h"

#include "golden.h"

struct options {
    const char *cell;
    int I, H, P, L, D, sum, bias;
};

static fr_shape shape_of(const struct options *o) {
    return shape_with(o->cell, (fr_shape){.input_size = o->I,
                                          .hidden_size = o->H,
                                          .proj_size = o->P,
                                          .num_layers = o->L,
                                          .num_directions = o->D,
                                          .bias = o->bias,
                                          .merge_sum = o->sum});
}

struct net {
    fr_shape shape;
    float *parameters;
    fr_model *model;
    int R, F, S; /* h size, features, states (L * D) */
};

static struct net make_net(const struct options *o) {
    struct net n = {.shape = shape_of(o)};
    const size_t count = fr_parameter_count(&n.shape);
    n.parameters = random_floats(count, 7, 1.0f / sqrtf((float)o->H));
    n.model = fr_model_create(&n.shape, aligned(fr_model_size(&n.shape)));
    fr_model_load(n.model, n.parameters);
    n.R = o->P ? o->P : o->H;
    n.F = n.R * (o->D == 2 && !o->sum ? 2 : 1);
    n.S = o->L * o->D;
    return n;
}

static void free_net(struct net *n) {
    free(n->model);
    free(n->parameters);
}

static void forward(const struct net *n, const fr_sequence *q, int threads) {
    void *workspace = aligned(fr_workspace_size(n->model, q->steps, q->rows, threads));
    fr_forward(n->model, q, workspace, threads);
    free(workspace);
}

struct result {
    float *y, *hn, *cn;
    size_t y_count, h_count, c_count;
};

static struct result make_result(const struct net *n, int64_t T, int64_t N) {
    struct result r = {.y_count = (size_t)(T * N * n->F),
                       .h_count = (size_t)(n->S * N * n->R),
                       .c_count = (size_t)(n->S * N * n->shape.hidden_size)};
    r.y = aligned(r.y_count * sizeof(float));
    r.hn = aligned(r.h_count * sizeof(float));
    r.cn = aligned(r.c_count * sizeof(float));
    memset(r.cn, 0, r.c_count * sizeof(float)); /* cells without c leave it alone */
    return r;
}

static void free_result(struct result *r) {
    free(r->y);
    free(r->hn);
    free(r->cn);
}

static int same(const struct result *a, const struct result *b) {
    return memcmp(a->y, b->y, a->y_count * sizeof(float)) == 0 &&
           memcmp(a->hn, b->hn, a->h_count * sizeof(float)) == 0 &&
           memcmp(a->cn, b->cn, a->c_count * sizeof(float)) == 0;
}

/* Rounding errors of a sum of K products grow like eps * sqrt(K); every step and layer hands them
 * on at most once over (|W h| contracts for these weights), and identity and relu cells do not
 * bound them: the last factor covers the slope of four gates. */
static double tolerance(const struct options *o, int64_t T) {
    const double K = o->I + o->H + 1, eps = 1.1920929e-7;
    return eps * (4 + sqrt(K)) * sqrt((double)(T * o->L)) * 8;
}

static double error_of(const struct net *n, const fr_sequence *q, const struct result *got,
                       int64_t row) {
    const int H = n->shape.hidden_size, I = n->shape.input_size;
    const int64_t T = q->lengths ? q->lengths[row] : q->steps, N = q->rows;
    double *x = calloc((size_t)(T * I + 1), sizeof *x),
           *y = calloc((size_t)(T * n->F + 1), sizeof *y);
    double *h0 = calloc((size_t)(n->S * n->R), sizeof *h0),
           *c0 = calloc((size_t)(n->S * H), sizeof *c0);
    double *hn = calloc((size_t)(n->S * n->R), sizeof *hn),
           *cn = calloc((size_t)(n->S * H), sizeof *cn);
    double worst = 0;
    for (int64_t t = 0; t < T; t++) {
        for (int i = 0; i < I; i++)
            x[t * I + i] = q->x[(t * q->step_stride + row * q->row_stride) * I + i];
    }
    for (int s = 0; s < n->S; s++) {
        for (int i = 0; i < n->R && q->h0; i++) h0[s * n->R + i] = q->h0[(s * N + row) * n->R + i];
        for (int i = 0; i < H && q->c0; i++) c0[s * H + i] = q->c0[(s * N + row) * H + i];
    }
    double *parameters = widened(n->parameters, fr_parameter_count(&n->shape));
    reference(&n->shape, parameters, (int)T, x, y, h0, c0, hn, cn);
    for (int64_t t = 0; t < q->steps; t++) {
        for (int i = 0; i < n->F; i++) {
            const double expected = t < T ? y[t * n->F + i] : 0.0;
            const float value = got->y[(t * q->step_stride + row * q->row_stride) * n->F + i];
            worst = fmax(worst, isnan(value) ? 1e9 : fabs((double)value - expected));
        }
    }
    for (int s = 0; s < n->S; s++) {
        for (int i = 0; i < n->R; i++) {
            worst = fmax(worst, fabs(got->hn[(s * N + row) * n->R + i] - hn[s * n->R + i]));
        }
        const int has_c = fr_cell_at(n->shape.cell)->states == 2;
        for (int i = 0; i < H && has_c; i++) {
            worst = fmax(worst, fabs(got->cn[(s * N + row) * H + i] - cn[s * H + i]));
        }
    }
    free(x), free(y), free(h0), free(c0), free(hn), free(cn), free(parameters);
    return worst;
}

/* ---- one configuration ------------------------------------------------------------------- */

static uint64_t check_network(const struct options *o, int64_t T, int64_t N) {
    struct net n = make_net(o);
    uint64_t seed = 99, hash = HASH_START;
    float *x = random_floats((size_t)(T * N * o->I) + 1, 3, 1.0f);
    float *h0 = random_floats((size_t)(n.S * N * n.R), 4, 0.5f);
    float *c0 = random_floats((size_t)(n.S * N * o->H), 5, 0.5f);
    int64_t *lengths = aligned((size_t)N * sizeof *lengths);
    for (int64_t i = 0; i < N; i++)
        lengths[i] = (int64_t)((uniform(&seed, 0.5f) + 0.5f) * (float)(T + 1));
    char what[128];
    snprintf(what, sizeof what, "%s I%d H%d P%d L%d D%d sum%d bias%d T%d N%d", o->cell, o->I, o->H,
             o->P, o->L, o->D, o->sum, o->bias, (int)T, (int)N);
    for (int ragged = 0; ragged < 2; ragged++) {
        struct result whole = make_result(&n, T, N);
        fr_sequence q = {.steps = T,
                         .rows = N,
                         .step_stride = N,
                         .row_stride = 1,
                         .x = x,
                         .y = whole.y,
                         .h0 = h0,
                         .c0 = c0,
                         .hn = whole.hn,
                         .cn = whole.cn,
                         .lengths = ragged ? lengths : NULL};
        forward(&n, &q, 1);
        for (int64_t row = 0; row < N; row += N > 8 ? 7 : 1) {
            const double error = error_of(&n, &q, &whole, row);
            CHECK(error <= tolerance(o, T), "%s row %d ragged %d: error %.3g", what, (int)row,
                  ragged, error);
        }
        hash = hash_bits(hash, whole.y, whole.y_count);
        hash = hash_bits(hash, whole.hn, whole.h_count);
        hash = hash_bits(hash, whole.cn, whole.c_count);
        for (int threads = 2; threads <= 3; threads++) {
            struct result other = make_result(&n, T, N);
            fr_sequence again = q;
            again.y = other.y, again.hn = other.hn, again.cn = other.cn;
            forward(&n, &again, threads);
            CHECK(same(&whole, &other), "%s differs with %d threads, ragged %d", what, threads,
                  ragged);
            free_result(&other);
        }
        { /* the last row alone, in the other memory order */
            const int64_t row = N - 1;
            struct result alone = make_result(&n, T, 1);
            float *x1 = aligned((size_t)(T * o->I + 1) * sizeof *x1);
            float *h1 = aligned((size_t)(n.S * n.R) * sizeof *h1),
                  *c1 = aligned((size_t)(n.S * o->H) * sizeof *c1);
            for (int64_t t = 0; t < T; t++) {
                memcpy(x1 + t * o->I, x + (t * N + row) * o->I, (size_t)o->I * sizeof *x1);
            }
            for (int s = 0; s < n.S; s++) {
                memcpy(h1 + s * n.R, h0 + (s * N + row) * n.R, (size_t)n.R * sizeof *h1);
                memcpy(c1 + s * o->H, c0 + (s * N + row) * o->H, (size_t)o->H * sizeof *c1);
            }
            fr_sequence one = {.steps = T,
                               .rows = 1,
                               .step_stride = 1,
                               .row_stride = T,
                               .x = x1,
                               .y = alone.y,
                               .h0 = h1,
                               .c0 = c1,
                               .hn = alone.hn,
                               .cn = alone.cn,
                               .lengths = ragged ? &lengths[row] : NULL};
            forward(&n, &one, 2);
            int equal = 1;
            for (int64_t t = 0; t < T; t++) {
                equal &= !memcmp(alone.y + t * n.F, whole.y + (t * N + row) * n.F,
                                 (size_t)n.F * sizeof(float));
            }
            for (int s = 0; s < n.S; s++) {
                equal &= !memcmp(alone.hn + s * n.R, whole.hn + (s * N + row) * n.R,
                                 (size_t)n.R * sizeof(float));
            }
            CHECK(equal, "%s: a row alone differs from itself in a batch, ragged %d", what, ragged);
            free_result(&alone);
            free(x1), free(h1), free(c1);
        }
        if (!ragged && o->D == 1) { /* step by step, and cut in two */
            struct result steps = make_result(&n, T, N), cut = make_result(&n, T, N);
            fr_state *state = fr_state_create(n.model, N, aligned(fr_state_size(n.model, N)));
            fr_state_set(n.model, state, h0, c0);
            for (int64_t t = 0; t < T; t++)
                fr_step(n.model, state, x + t * N * o->I, steps.y + t * N * n.F);
            fr_state_get(n.model, state, steps.hn, steps.cn);
            CHECK(same(&whole, &steps), "%s differs step by step", what);
            if (T > 1) {
                fr_sequence first = q, second = q;
                float *middle = aligned(cut.h_count * sizeof(float)),
                      *middle_c = aligned(cut.c_count * sizeof(float));
                first.steps = T / 2, first.y = cut.y, first.hn = middle, first.cn = middle_c;
                second.steps = T - T / 2, second.x = x + T / 2 * N * o->I,
                second.y = cut.y + T / 2 * N * n.F;
                second.h0 = middle, second.c0 = middle_c, second.hn = cut.hn, second.cn = cut.cn;
                forward(&n, &first, 1);
                forward(&n, &second, 3);
                CHECK(same(&whole, &cut), "%s differs when cut in two", what);
                free(middle), free(middle_c);
            }
            free(state);
            free_result(&steps), free_result(&cut);
        }
        free_result(&whole);
    }
    free(x), free(h0), free(c0), free(lengths);
    free_net(&n);
    return hash;
}

/* Tokens through a folded embedding equal the embedded rows through the layer. */
static void check_tokens(const char *cell, int I, int H) {
    enum { V = 11, T = 5, N = 3 };
    const struct options o = {cell, I, H, 0, 2, 1, 0, 1};
    struct net n = make_net(&o);
    float *embedding = random_floats((size_t)(V * I), 6, 1.0f),
          *x = aligned((size_t)(T * N * I) * sizeof *x);
    float *table = aligned(fr_table_size(n.model, V));
    int64_t tokens[T * N];
    struct result a = make_result(&n, T, N), b = make_result(&n, T, N), c = make_result(&n, T, N);
    for (int i = 0; i < T * N; i++) {
        tokens[i] = (i * 7 + 3) % V;
        memcpy(x + i * I, embedding + tokens[i] * I, (size_t)I * sizeof *x);
    }
    fr_table_fill(n.model, V, embedding, table);
    fr_sequence q = {.steps = T,
                     .rows = N,
                     .step_stride = N,
                     .row_stride = 1,
                     .x = x,
                     .y = a.y,
                     .hn = a.hn,
                     .cn = a.cn};
    forward(&n, &q, 1);
    q.x = NULL, q.tokens = tokens, q.table = table, q.y = b.y, q.hn = b.hn, q.cn = b.cn;
    forward(&n, &q, 2);
    CHECK(same(&a, &b), "%s I%d H%d: tokens differ from embedded rows", cell, I, H);
    fr_state *state = fr_state_create(n.model, N, aligned(fr_state_size(n.model, N)));
    for (int t = 0; t < T; t++)
        fr_step_tokens(n.model, state, table, tokens + t * N, c.y + t * N * n.F);
    fr_state_get(n.model, state, c.hn, c.cn);
    CHECK(same(&a, &c), "%s I%d H%d: token steps differ", cell, I, H);
    free(embedding), free(x), free(table), free(state);
    free_result(&a), free_result(&b), free_result(&c);
    free_net(&n);
}

static uint64_t check_linear(int inputs, int outputs, int64_t rows) {
    fr_linear *linear = fr_linear_create(inputs, outputs, aligned(fr_linear_size(inputs, outputs)));
    float *w = random_floats((size_t)(inputs * outputs), 1, 0.3f),
          *b = random_floats((size_t)outputs, 2, 0.3f);
    float *x = random_floats((size_t)(rows * inputs), 3, 1.0f),
          *y = aligned((size_t)(rows * outputs) * sizeof *y);
    fr_linear_load(linear, w, b);
    fr_linear_forward(linear, rows, x, inputs, y, outputs, 2);
    double worst = 0;
    for (int64_t r = 0; r < rows; r++) {
        for (int o = 0; o < outputs; o++) {
            double sum = b[o];
            for (int k = 0; k < inputs; k++) sum += (double)w[o * inputs + k] * x[r * inputs + k];
            worst = fmax(worst, fabs(sum - y[r * outputs + o]));
        }
    }
    CHECK(worst < 1.2e-7 * (4 + inputs), "linear %d -> %d, %d rows: error %.3g", inputs, outputs,
          (int)rows, worst);
    const uint64_t hash = hash_bits(HASH_START, y, (size_t)(rows * outputs));
    float *one = aligned((size_t)outputs * sizeof *one);
    fr_linear_forward(linear, 1, x + (rows - 1) * inputs, inputs, one, outputs, 1);
    CHECK(memcmp(one, y + (rows - 1) * outputs, (size_t)outputs * sizeof *one) == 0,
          "a row alone differs");
    free(linear), free(w), free(b), free(x), free(y), free(one);
    return hash;
}

/* Packed rows, sorted and without padding, equal the padded ones. */
static void check_packed(const char *cell) {
    enum { T = 6, N = 4, I = 9, H = 21 };
    const struct options o = {cell, I, H, 0, 2, 2, 0, 1};
    const int64_t lengths[N] = {6, 4, 4, 1}, starts[T] = {0, 4, 7, 10, 13, 14};
    struct net n = make_net(&o);
    float *packed = random_floats(15 * I, 8, 1.0f), *padded = aligned(T * N * I * sizeof *padded);
    struct result a = make_result(&n, T, N), b = make_result(&n, T, N);
    for (int t = 0; t < T; t++) {
        for (int r = 0; r < N && lengths[r] > t; r++) {
            memcpy(padded + (t * N + r) * I, packed + (starts[t] + r) * I, I * sizeof *packed);
        }
    }
    fr_sequence q = {.steps = T,
                     .rows = N,
                     .step_stride = N,
                     .row_stride = 1,
                     .x = padded,
                     .y = a.y,
                     .hn = a.hn,
                     .cn = a.cn,
                     .lengths = lengths};
    forward(&n, &q, 1);
    q.x = packed, q.starts = starts, q.y = b.y, q.hn = b.hn, q.cn = b.cn;
    forward(&n, &q, 2);
    int equal = !memcmp(a.hn, b.hn, a.h_count * sizeof(float)) &&
                !memcmp(a.cn, b.cn, a.c_count * sizeof(float));
    for (int t = 0; t < T; t++) {
        for (int r = 0; r < N && lengths[r] > t; r++) {
            equal &= !memcmp(a.y + (t * N + r) * n.F, b.y + (starts[t] + r) * n.F,
                             (size_t)n.F * sizeof(float));
        }
    }
    CHECK(equal, "%s: packed differs from padded", cell);
    free(packed), free(padded);
    free_result(&a), free_result(&b);
    free_net(&n);
}

static void check_shapes(void) {
    const fr_shape good = shape_of(&(struct options){"lstm", 3, 5, 2, 2, 2, 0, 1});
    CHECK(fr_shape_error(&good) == NULL, "a good shape is refused");
    fr_shape bad[] = {good, good, good, good, good, good, good, good, good, good, good};
    bad[0].cell = -1, bad[1].hidden_size = 0, bad[2].cell = fr_cell("gru"), bad[3].proj_size = 5;
    bad[4].input_size = -3, bad[5].num_directions = 3, bad[6].hidden_size = 1 << 21;
    bad[7].gate_activation = FR_GATE_ACTIVATIONS, bad[8].gate_activation = FR_GATE_HARD_SIGMOID;
    bad[9] = shape_of(&(struct options){"lstm hard", 3, 5, 2, 2, 2, 0, 1});
    bad[9].gate_beta = (float)INFINITY;
    bad[10] = shape_of(&(struct options){"lstm hard", 3, 5, 0, 2, 2, 0, 1});
    bad[10].cell = fr_cell("rnn_tanh");
    CHECK(fr_cell_at(-1) == NULL && fr_cell_at(fr_cell_count()) == NULL, "there is no such cell");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(fr_shape_error(&bad[i]) && fr_model_size(&bad[i]) == 0, "bad shape %d is accepted",
              (int)i);
    }
    struct net n = make_net(&(struct options){"lstm", 0, 16, 0, 2, 1, 0, 1});
    CHECK(fr_table_size(n.model, (int64_t)1 << 60) == 0, "an impossible table has a size");
    CHECK(fr_state_size(n.model, -1) == 0 && fr_state_size(n.model, INT64_MAX) == 0,
          "impossible rows have a size");
    CHECK(fr_workspace_size(n.model, (int64_t)1 << 53, 1 << 8, 1) == 0,
          "an impossible workspace has a size");
    free_net(&n);
    size_t end = 0;
    fr_tensor tensor;
    CHECK(!fr_parameter(&good, -1, &tensor), "there is a tensor -1");
    for (int i = 0; fr_parameter(&good, i, &tensor); i++) {
        CHECK(tensor.offset == end, "%s does not follow its predecessor", tensor.name);
        end += (size_t)(tensor.rows * (tensor.columns < 0 ? 1 : tensor.columns));
    }
    CHECK(end == fr_parameter_count(&good), "the tensors do not fill the vector");
    CHECK(!fr_isa_select("no such kernels"), "an unknown instruction set is accepted");
}

/* ---- all configurations ------------------------------------------------------------------ */

/* Order and repetition count. */
static uint64_t chain(uint64_t hash, uint64_t next) { return hash * 0x9e3779b97f4a7c15u + next; }

static uint64_t check_cell(const char *cell) {
    static const int sizes[] = {1, 3, 7, 8, 16, 17, 33, 64, 65};
    uint64_t hash = HASH_START;
    const int project = info_of(cell)->project;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int H = sizes[i], I = sizes[(i * 5 + 2) % 9];
        const struct options plain = {cell, I, H, 0, 1, 1, 0, 1};
        hash = chain(hash, check_network(&plain, 1 + (int)i, 1 + (int)i % 7));
        const struct options rich = {cell, I, H,          project && H > 2 ? H / 2 : 0,
                                     2,    2, (int)i & 1, (int)i % 3 != 0};
        hash = chain(hash, check_network(&rich, 4, 1 + (int)i));
    }
    const struct options wide = {cell, 40, 130, 0, 1, 1, 0, 1},
                         deep = {cell, 600, 48, project ? 20 : 0, 3, 1, 0, 1};
    hash = chain(hash, check_network(&wide, 60, 2));
    hash = chain(hash, check_network(&deep, 3, 33));
    const struct options team = {cell, 96, 200, 0, 2, 1, 0, 1};
    hash = chain(hash, check_network(&team, 40, 1));
    check_tokens(cell, 10, 37);
    check_packed(cell);
    return hash;
}

static void check_isa(const char *isa) {
    const int exact = strcmp(isa, "base") != 0;
    for (int i = 0; i < fr_cell_count(); i++) {
        for (int variant = 0; variant < variants_of(fr_cell_at(i)); variant++) {
            char name[64];
            name_variant(name, fr_cell_at(i), variant);
            const uint64_t hash = check_cell(name), expected = GOLDEN_OF(GOLDEN, name);
            CHECK(!exact || hash == expected, "%s on %s: hash 0x%016llx, expected 0x%016llx", name,
                  isa, (unsigned long long)hash, (unsigned long long)expected);
        }
    }
    uint64_t hash =
        chain(check_linear(5, 3, 1), chain(check_linear(64, 130, 7), check_linear(600, 64, 100)));
    CHECK(!exact || hash == GOLDEN_LINEAR, "linear on %s: hash 0x%016llx", isa,
          (unsigned long long)hash);
    check_shapes();
}

int main(int argc, char **argv) {
    static const char *const all[] = {"base", "avx2", "avx512", "neon"};
    int status = 0;
    for (int i = 0; i < (argc > 1 ? argc - 1 : 4); i++) {
        const char *isa = argc > 1 ? argv[i + 1] : all[i];
        if (!fr_isa_select(isa)) {
            if (argc > 1) CHECK(0, "this CPU has no %s kernels", isa);
            continue;
        }
        check_isa(isa);
        status |= report("test_core");
    }
    return status || failures;
}
