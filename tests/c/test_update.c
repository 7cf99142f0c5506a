/* Losses and updates: a float64 reference, any number of threads, and golden hashes that every
 * instruction set with a fused multiply-add must reproduce. Arguments: the instruction sets. */
#include "support.h"

static const uint64_t GOLDEN_SOFTMAX = 0x88417f6307d0c8ae, GOLDEN_UPDATE = 0x60e93ec0eb283b2e,
                      GOLDEN_VECTOR = 0x6c76299e9f13bfca;

enum { THREADS = 3 };
static const size_t SIZES[] = {1, 3, 16, 17, 63, 130, 4100, 150001};
enum { NUM_SIZES = sizeof SIZES / sizeof *SIZES };

static float *copy_of(const float *x, size_t n) {
    return memcpy(aligned(n * sizeof *x), x, n * sizeof *x);
}

/* ---- cross-entropy ----------------------------------------------------------------------- */

static void check_row(const float *x, int64_t V, int64_t target, double smoothing, float loss,
                      const float *dx) {
    double max = -INFINITY, sum = 0.0, mean = 0.0, worst = 0.0;
    for (int64_t k = 0; k < V; k++) max = x[k] > max ? x[k] : max;
    for (int64_t k = 0; k < V; k++) sum += exp(x[k] - max), mean += (x[k] - max) / (double)V;
    const double wanted =
        log(sum) - (1.0 - smoothing) * ((double)x[target] - max) - smoothing * mean;
    for (int64_t k = 0; k < V; k++) {
        const double at = (k == target ? 1.0 - smoothing : 0.0) + smoothing / (double)V;
        worst = fmax(worst, fabs(dx[k] - (exp(x[k] - max) / sum - at)));
    }
    CHECK(fabs(loss - wanted) < 1e-5 * (1.0 + fabs(wanted)), "V %ld: %g, not %g", (long)V, loss,
          wanted);
    CHECK(worst < 1e-5, "V %ld: gradient off by %g", (long)V, worst);
}

static uint64_t check_softmax(int64_t rows, int64_t V, double smoothing, uint64_t hash) {
    const size_t n = (size_t)(rows * V);
    float *x = random_floats(n, 7 + n, 8.0f), *losses = aligned((size_t)rows * sizeof *losses);
    int64_t *targets = aligned((size_t)rows * sizeof *targets), correct[THREADS + 1];
    for (int64_t m = 0; m < rows; m++) targets[m] = m == 1 ? -1 : (m * 31 + 5) % V;
    float *first = NULL;
    for (int threads = 1; threads <= THREADS; threads++) {
        float *y = copy_of(x, n); /* the gradient takes its place */
        const fr_softmax s = {rows, V, y,         targets, losses, y, &correct[threads],
                              V,    V, smoothing, 1.0};
        fr_cross_entropy(&s, threads);
        if (threads == 1) {
            for (int64_t m = 0; m < rows; m++) {
                if (m != 1) check_row(x + m * V, V, targets[m], smoothing, losses[m], y + m * V);
            }
            CHECK(rows < 2 || (losses[1] == 0.0f && y[V] == 0.0f), "a skipped row counts");
            first = y;
        } else {
            CHECK(memcmp(y, first, n * sizeof *y) == 0, "%d threads change bits", threads);
            CHECK(correct[threads] == correct[1], "%d threads change hits", threads);
            free(y);
        }
    }
    hash = hash_bits(hash_bits(hash, first, n), losses, (size_t)rows);
    fr_log_softmax(rows, V, x, V, x, V, 2);
    hash = hash_bits(hash, x, n);
    free(x), free(losses), free(targets), free(first);
    return hash;
}

/* ---- optimisers -------------------------------------------------------------------------- */

static const fr_update RULES[] = {
    {.rule = FR_SGD, .rate = 0.1f, .weight_decay = 0.01f, .shrink = 1.0f},
    {.rule = FR_SGD,
     .m = (float *)1,
     .rate = 0.1f,
     .shrink = 1.0f,
     .momentum = 0.9f,
     .gain = 0.8f,
     .nesterov = 0.9f},
    {.rule = FR_ADAM,
     .m = (float *)1,
     .v = (float *)1,
     .rate = 0.01f,
     .weight_decay = 0.1f,
     .shrink = 0.99f,
     .gain = 0.1f,
     .decay = 0.99f,
     .rest = 0.01f,
     .root = 0.3f,
     .eps = 1e-8f},
    {.rule = FR_RMSPROP,
     .m = (float *)1,
     .v = (float *)1,
     .a = (float *)1,
     .rate = 0.01f,
     .shrink = 1.0f,
     .momentum = 0.9f,
     .decay = 0.9f,
     .rest = 0.1f,
     .eps = 1e-8f},
    {.rule = FR_RMSPROP,
     .v = (float *)1,
     .rate = 0.01f,
     .shrink = 1.0f,
     .decay = 0.9f,
     .rest = 0.1f,
     .eps = 1e-8f},
    {.rule = FR_ADAGRAD, .v = (float *)1, .rate = 0.01f, .shrink = 1.0f, .eps = 1e-10f},
};
enum { NUM_RULES = sizeof RULES / sizeof *RULES };

/* Three steps; the hash of all vectors after them. The marks in RULES stand for vectors to make. */
static uint64_t run_rule(const fr_update *rule, size_t n, int threads, uint64_t hash) {
    float *vectors[5] = {random_floats(n, 1, 1.0f), random_floats(n, 2, 1.0f)};
    float *const marks[5] = {NULL, NULL, rule->m, rule->v, rule->a};
    for (int k = 2; k < 5; k++) {
        if (marks[k]) vectors[k] = memset(aligned(n * sizeof(float)), 0, n * sizeof(float));
    }
    fr_update u = *rule;
    u.n = n, u.parameters = vectors[0], u.gradient = vectors[1];
    u.m = vectors[2], u.v = vectors[3], u.a = vectors[4];
    for (int step = 0; step < 3; step++) fr_update_run(&u, threads);
    for (int k = 0; k < 5; k++) {
        if (vectors[k]) hash = hash_bits(hash, vectors[k], n);
        free(vectors[k]);
    }
    return hash;
}

static uint64_t check_updates(size_t n, uint64_t hash) {
    for (int rule = 0; rule < NUM_RULES; rule++) {
        const uint64_t alone = run_rule(&RULES[rule], n, 1, hash);
        for (int threads = 2; threads <= THREADS; threads++) {
            CHECK(run_rule(&RULES[rule], n, threads, hash) == alone, "rule %d, n %zu, %d threads",
                  rule, n, threads);
        }
        hash = alone;
    }
    return hash;
}

/* ---- other passes ------------------------------------------------------------------------ */

static uint64_t check_vector(size_t n, uint64_t hash) {
    float *x = random_floats(n, 3, 2.0f);
    double *partials = aligned((n / FR_NORM_BLOCK + 1) * sizeof *partials), wanted = 0.0;
    for (size_t i = 0; i < n; i++) wanted += (double)x[i] * x[i];
    const double norm = fr_squared_norm(n, x, partials, 1);
    CHECK(fabs(norm - wanted) <= 1e-12 * wanted, "n %zu: %.17g, not %.17g", n, norm, wanted);
    for (int threads = 2; threads <= THREADS; threads++) {
        CHECK(fr_squared_norm(n, x, partials, threads) == norm, "%d threads change the norm",
              threads);
    }
    float *y = copy_of(x, n);
    fr_clip(n, y, 1.0f, 2);
    fr_scale(n, y, 0.3f, 3);
    int right = 1;
    for (size_t i = 0; i < n; i++) right &= y[i] == fmaxf(-1.0f, fminf(1.0f, x[i])) * 0.3f;
    CHECK(right, "n %zu: clipped or scaled wrongly", n);
    const float rounded = (float)norm;
    hash = hash_bits(hash_bits(hash, y, n), &rounded, 1);
    free(x), free(y), free(partials);
    return hash;
}

static void check_scatter(int64_t columns) {
    enum { T = 30, N = 50, V = 4 };
    float *dy = random_floats((size_t)(T * N * columns), 5, 1.0f),
          *dw = random_floats((size_t)(V * columns), 6, 1.0f);
    int64_t tokens[T * N];
    for (int i = 0; i < T * N; i++) tokens[i] = i * 7 % V;
    float *wanted = copy_of(dw, (size_t)(V * columns));
    for (int t = T - 1; t >= 0; t--) {
        for (int n = 0; n < N; n++) {
            const int64_t i = t * N + n;
            for (int64_t k = 0; k < columns; k++)
                wanted[tokens[i] * columns + k] += dy[i * columns + k];
        }
    }
    for (int threads = 1; threads <= THREADS; threads++) {
        float *got = copy_of(dw, (size_t)(V * columns));
        const fr_scatter s = {T, N, N, 1, columns, tokens, dy, got};
        fr_add_rows(&s, threads);
        CHECK(memcmp(got, wanted, (size_t)(V * columns) * sizeof *got) == 0,
              "columns %ld, threads %d", (long)columns, threads);
        free(got);
    }
    free(dy), free(dw), free(wanted);
}

static void check_hash(const char *what, uint64_t got, uint64_t golden) {
    CHECK(got == golden || strcmp(fr_isa(), "base") == 0, "%s 0x%016llx", what,
          (unsigned long long)got);
}

static void check_isa(void) {
    static const int64_t CLASSES[] = {1, 2, 15, 16, 17, 33, 100, 4097, 10007};
    uint64_t softmax = HASH_START, updates = HASH_START, vectors = HASH_START;
    for (size_t i = 0; i < sizeof CLASSES / sizeof *CLASSES; i++) {
        softmax = check_softmax(5, CLASSES[i], 0.0, softmax);
        softmax = check_softmax(3, CLASSES[i], 0.1, softmax);
    }
    for (int i = 0; i < NUM_SIZES; i++) {
        updates = check_updates(SIZES[i], updates);
        vectors = check_vector(SIZES[i], vectors);
    }
    for (int64_t columns = 1; columns < 200; columns += 33) check_scatter(columns);
    check_hash("GOLDEN_SOFTMAX", softmax, GOLDEN_SOFTMAX);
    check_hash("GOLDEN_UPDATE", updates, GOLDEN_UPDATE);
    check_hash("GOLDEN_VECTOR", vectors, GOLDEN_VECTOR);
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
        check_isa();
        status |= report("test_update");
    }
    return status || failures;
}
