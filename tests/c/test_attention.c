/* Attention without Python: both scores there and back against float64, what lies past a length
 * cannot matter, and the numeric contract: the same bits however the work is split, for a step of a
 * row alone, and (by a golden hash) on every instruction set with fused multiply-add.
 *
 *     test_attention [ISA ...]      the kernels to test; without arguments, all that this CPU has
 */
#include "support.h"

#include "../../src_c/kernels.h"
#include "../../src_c/time/team.h"
#include "golden.h"

enum kind { PRODUCT, SHARED, ADDITIVE, KINDS }; /* SHARED: products with the values themselves */
static const char *const names[KINDS] = {"product", "shared", "additive"};

struct problem {
    enum kind kind;
    int64_t T, N, S, B, A, M;
    int ragged;
    /* from here on made by make_problem */
    float *queries, *keys, *values, *score, *dcontext, *before;
    int64_t *lengths, *sources;
    /* of a solution, in floats: weights, context, and the gradients */
    size_t context, dqueries, dkeys, dvalues, dscore, count;
};

static int64_t source_of(const struct problem *p, int64_t n) {
    return p->sources ? p->sources[n] : n;
}

static int64_t length_of(const struct problem *p, int64_t source) {
    return p->lengths ? p->lengths[source] : p->S;
}

/* No position past a length may be read. */
static void spoil(const struct problem *p, float *memory, int64_t width) {
    for (int64_t b = 0; b < p->B; b++) {
        for (int64_t s = length_of(p, b); s < p->S; s++) {
            for (int64_t i = 0; i < width; i++) memory[(s * p->B + b) * width + i] = NAN;
        }
    }
}

static void make_problem(struct problem *p) {
    const size_t T = (size_t)p->T, N = (size_t)p->N, S = (size_t)p->S, B = (size_t)p->B;
    const size_t A = (size_t)p->A, M = (size_t)p->M;
    p->queries = random_floats(T * N * A, 1, 1.0f), p->values = random_floats(S * B * M, 2, 1.0f);
    p->keys = p->kind == SHARED ? p->values : random_floats(S * B * A, 3, 1.0f);
    p->score = p->kind == ADDITIVE ? random_floats(A, 4, 1.0f) : NULL;
    p->dcontext = random_floats(T * N * M, 5, 1.0f);
    p->lengths = p->ragged ? aligned(B * sizeof *p->lengths) : NULL;
    for (int64_t b = 0; b < p->B && p->ragged; b++) p->lengths[b] = (p->S + 3 * b) % (p->S + 1);
    p->sources = p->B != p->N ? aligned(N * sizeof *p->sources) : NULL;
    for (int64_t n = 0; n < p->N && p->sources; n++) p->sources[n] = (p->B - 1) * (n / 3) % p->B;
    spoil(p, p->values, p->M);
    if (p->kind != SHARED) spoil(p, p->keys, p->A);
    p->context = T * N * S, p->dqueries = p->context + T * N * M,
    p->dkeys = p->dqueries + T * N * A;
    p->dvalues = p->kind == SHARED ? p->dkeys : p->dkeys + S * B * A;
    p->dscore = p->dvalues + S * B * M, p->count = p->dscore + N * A;
    if (p->sources) p->count = p->dqueries;       /* there is no way back */
    p->before = random_floats(p->count, 6, 0.5f); /* gradients are added to */
}

static void free_problem(struct problem *p) {
    if (p->kind != SHARED) free(p->keys);
    free(p->queries), free(p->values), free(p->score), free(p->dcontext), free(p->before);
    free(p->lengths), free(p->sources);
}

static fr_attention attention_of(const struct problem *p, float *solution) {
    return (fr_attention){
        .steps = p->T,
        .rows = p->N,
        .positions = p->S,
        .memory_rows = p->B,
        .size = p->A,
        .features = p->M,
        .queries = p->queries,
        .keys = p->keys,
        .values = p->values,
        .score = p->score,
        .lengths = p->lengths,
        .sources = p->sources,
        .weights = solution,
        .context = solution + p->context,
        .scale = 1.0f / sqrtf((float)p->A),
    };
}

static fr_attention_gradients gradients_of(const struct problem *p, float *solution) {
    return (fr_attention_gradients){
        .dcontext = p->dcontext,
        .dqueries = solution + p->dqueries,
        .dkeys = solution + p->dkeys,
        .dvalues = solution + p->dvalues,
        .dscore = p->score ? solution + p->dscore : NULL,
        .workspace = aligned((size_t)(p->T * p->N * p->S) * sizeof(float)),
    };
}

static float *new_solution(const struct problem *p) {
    float *solution = aligned(p->count * sizeof *solution);
    memcpy(solution, p->before, p->count * sizeof *solution);
    return solution;
}

static float *solve(const struct problem *p, int32_t threads) {
    float *solution = new_solution(p);
    const fr_attention a = attention_of(p, solution);
    fr_attend(&a, threads);
    if (p->sources) return solution;
    const fr_attention_gradients g = gradients_of(p, solution);
    fr_attend_back(&a, &g, threads);
    free(g.workspace);
    return solution;
}

/* In two calls of the kernels each, the later part first. */
static float *solve_split(const struct problem *p, int64_t pairs, int64_t rows) {
    const struct fr_kernels *kernels = fr_active_kernels();
    float *solution = new_solution(p);
    const fr_attention a = attention_of(p, solution);
    const uint64_t mode = fr_float_mode_enter();
    kernels->attend(&a, pairs, p->T * p->N);
    kernels->attend(&a, 0, pairs);
    if (!p->sources) {
        const fr_attention_gradients g = gradients_of(p, solution);
        kernels->attend_back(&a, &g, rows, p->N);
        kernels->attend_back(&a, &g, 0, rows);
        free(g.workspace);
    }
    fr_float_mode_restore(mode);
    return solution;
}

/* ---- the reference ----------------------------------------------------------------------- */

static const float *memory_at(const struct problem *p, const float *memory, int64_t width,
                              int64_t s, int64_t n) {
    return memory + (s * p->B + source_of(p, n)) * width;
}

static double score_of(const struct problem *p, float scale, const float *query, const float *key) {
    double sum = 0.0;
    for (int64_t i = 0; i < p->A; i++) {
        sum += p->score ? p->score[i] * tanh((double)query[i] + key[i])
                        : (double)scale * query[i] * key[i];
    }
    return sum;
}

static void refer_forward(const struct problem *p, float scale, double *solution) {
    for (int64_t at = 0; at < p->T * p->N; at++) {
        const int64_t n = at % p->N, length = length_of(p, source_of(p, n));
        double *weights = solution + at * p->S,
               *context = solution + p->context + (size_t)(at * p->M);
        double sum = 0.0;
        for (int64_t s = 0; s < p->S; s++) {
            weights[s] = s < length ? exp(score_of(p, scale, p->queries + at * p->A,
                                                   memory_at(p, p->keys, p->A, s, n)))
                                    : 0.0;
            sum += weights[s];
        }
        for (int64_t m = 0; m < p->M; m++) context[m] = 0.0;
        for (int64_t s = 0; s < length; s++) {
            const float *value = memory_at(p, p->values, p->M, s, n);
            weights[s] /= sum;
            for (int64_t m = 0; m < p->M; m++) context[m] += weights[s] * value[m];
        }
    }
}

/* What one position of one step adds to the gradients. */
static void refer_position(const struct problem *p, float scale, int64_t at, int64_t s,
                           double dscore, double weight, double *solution) {
    const int64_t n = at % p->N, place = s * p->N + n;
    const float *query = p->queries + at * p->A, *key = p->keys + place * p->A;
    double *dquery = solution + p->dqueries + (size_t)(at * p->A),
           *dv = solution + p->dscore + (size_t)(n * p->A);
    double *dkey = solution + p->dkeys + (size_t)(place * p->A),
           *dvalue = solution + p->dvalues + (size_t)(place * p->M);
    for (int64_t m = 0; m < p->M; m++) dvalue[m] += weight * p->dcontext[at * p->M + m];
    for (int64_t i = 0; i < p->A; i++) {
        if (p->score) {
            const double h = tanh((double)query[i] + key[i]),
                         inner = dscore * p->score[i] * (1.0 - h * h);
            dv[i] += dscore * h, dquery[i] += inner, dkey[i] += inner;
        } else {
            dquery[i] += dscore * scale * key[i], dkey[i] += dscore * scale * query[i];
        }
    }
}

static void refer_backward(const struct problem *p, float scale, double *solution) {
    double *dweights = aligned((size_t)p->S * sizeof *dweights);
    for (int64_t at = 0; at < p->T * p->N; at++) {
        const int64_t n = at % p->N, length = length_of(p, n);
        const double *weights = solution + at * p->S;
        double mean = 0.0;
        for (int64_t s = 0; s < length; s++) {
            const float *value = memory_at(p, p->values, p->M, s, n);
            dweights[s] = 0.0;
            for (int64_t m = 0; m < p->M; m++)
                dweights[s] += (double)value[m] * p->dcontext[at * p->M + m];
            mean += weights[s] * dweights[s];
        }
        for (int64_t s = 0; s < length; s++) {
            refer_position(p, scale, at, s, weights[s] * (dweights[s] - mean), weights[s],
                           solution);
        }
    }
    free(dweights);
}

static double *refer(const struct problem *p) {
    const float scale = attention_of(p, p->before).scale;
    double *solution = aligned(p->count * sizeof *solution);
    for (size_t i = 0; i < p->count; i++) solution[i] = p->before[i];
    refer_forward(p, scale, solution);
    if (!p->sources) refer_backward(p, scale, solution);
    return solution;
}

/* ---- the checks -------------------------------------------------------------------------- */

#define PLACE "%s T %d N %d S %d B %d A %d M %d ragged %d: "
#define PLACE_OF(p)                                                                    \
    names[(p)->kind], (int)(p)->T, (int)(p)->N, (int)(p)->S, (int)(p)->B, (int)(p)->A, \
        (int)(p)->M, (p)->ragged

/* Chains of A / 16, M / 16, S and T terms of about 1, a few roundings besides, through softmax. */
static double tolerance_of(const struct problem *p) {
    const double terms = (double)(p->A + p->M) / 16.0 + (double)(p->S + p->T);
    return 0x1p-24 * 4.0 * (terms + 16.0 + (p->score ? 4.0 * sqrt((double)p->A) : 0.0));
}

static void check_values(const struct problem *p, const float *solution) {
    double *expected = refer(p), worst = 0.0;
    for (size_t i = 0; i < p->count; i++) {
        const double error = fabs(solution[i] - expected[i]) / (1.0 + fabs(expected[i]));
        worst = error <= worst ? worst : error; /* a NaN is the worst */
    }
    CHECK(worst <= tolerance_of(p), PLACE "off by %.3g, allowed are %.3g", PLACE_OF(p), worst,
          tolerance_of(p));
    free(expected);
}

static void check_padding(const struct problem *p, const float *solution) {
    int64_t wrong = 0;
    for (int64_t at = 0; at < p->T * p->N; at++) {
        for (int64_t s = length_of(p, source_of(p, at % p->N)); s < p->S; s++)
            wrong += solution[at * p->S + s] != 0.0f;
    }
    CHECK(wrong == 0, PLACE "%d weights past a length", PLACE_OF(p), (int)wrong);
}

static void check_same(const struct problem *p, const float *expected, float *solution,
                       const char *how) {
    CHECK(memcmp(solution, expected, p->count * sizeof *solution) == 0, PLACE "%s", PLACE_OF(p),
          how);
    free(solution);
}

/* Every step of every row in a call of its own. */
static void check_alone(const struct problem *p, const float *solution) {
    float *weights = aligned((size_t)p->S * sizeof *weights),
          *context = aligned((size_t)p->M * sizeof *context);
    for (int64_t at = 0; at < p->T * p->N; at++) {
        const int64_t source = source_of(p, at % p->N);
        fr_attention a = attention_of(p, NULL);
        a.steps = a.rows = 1, a.queries += at * p->A, a.sources = &source, a.weights = weights,
        a.context = context;
        fr_attend(&a, 1);
        CHECK(memcmp(weights, solution + at * p->S, (size_t)p->S * sizeof *weights) == 0 &&
                  memcmp(context, solution + p->context + at * p->M,
                         (size_t)p->M * sizeof *context) == 0,
              PLACE "step %d of row %d alone", PLACE_OF(p), (int)(at / p->N), (int)(at % p->N));
    }
    free(weights), free(context);
}

static uint64_t check_problem(struct problem problem) {
    struct problem *p = &problem;
    make_problem(p);
    float *solution = solve(p, 1);
    const uint64_t hash = hash_bits(HASH_START, solution, p->count);
    check_values(p, solution);
    check_padding(p, solution);
    check_alone(p, solution);
    check_same(p, solution, solve(p, 3), "3 threads");
    for (int64_t i = 0; i < 5; i++) {
        const int64_t pairs = p->T * p->N, rows = p->N;
        check_same(p, solution, solve_split(p, pairs * i / 5, rows * i / 5), "split");
    }
    free(solution);
    free_problem(p);
    return hash;
}

static uint64_t chain(uint64_t hash, uint64_t next) { return hash * 0x9e3779b97f4a7c15u + next; }

static uint64_t check_kind(enum kind kind) {
    static const int64_t sizes[] = {1, 3, 7, 8, 15, 16, 17, 33, 48, 65, 100, 130};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    uint64_t hash = HASH_START;
    for (int64_t i = 0; i < SIZES; i++) {
        const int64_t M = sizes[i * 5 % SIZES], A = kind == SHARED ? M : sizes[i], S = 7 * i % 15;
        hash = chain(hash, check_problem((struct problem){kind, 1 + i, 2 + i % 3, S, 2 + i % 3, A,
                                                          M, .ragged = 0}));
        hash = chain(hash,
                     check_problem((struct problem){kind, 1 + i % 4, 6, S, 6, A, M, .ragged = 1}));
        hash = chain(hash,
                     check_problem((struct problem){kind, 1 + i % 2, 7, S, 3, A, M, .ragged = 1}));
    }
    hash = chain(hash, check_problem((struct problem){kind, 0, 3, 5, 3, 4, 4, .ragged = 0}));
    for (int64_t T = 1; T <= 9; T += 4) { /* enough work for several threads */
        hash = chain(hash, check_problem((struct problem){kind, T, 63 / T, 41, 63 / T, 65, 65,
                                                          .ragged = T > 1}));
    }
    return hash;
}

/* The largest score of a row counts, not what scores are: no overflow, and no weights of nothing.
 */
static void check_large_scores(void) {
    enum { S = 19, A = 5 };
    float query[A], keys[S * A], weights[S], context[A];
    for (int i = 0; i < A; i++) query[i] = 1e3f;
    for (int i = 0; i < S * A; i++) keys[i] = i / A == 11 ? 1e3f : -1e3f;
    const fr_attention a = {1,    1,    S,    1,    A,       A,       query, keys,
                            keys, NULL, NULL, NULL, weights, context, 1.0f};
    fr_attend(&a, 1);
    for (int s = 0; s < S; s++)
        CHECK(weights[s] == (s == 11 ? 1.0f : 0.0f), "weight %d is %g", s, (double)weights[s]);
    for (int i = 0; i < A; i++)
        CHECK(context[i] == 1e3f, "context %d is %g", i, (double)context[i]);
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
        for (enum kind kind = 0; kind < KINDS; kind++) {
            const uint64_t hash = check_kind(kind);
            CHECK(strcmp(isa, "base") == 0 || hash == GOLDEN_ATTENTION[kind],
                  "%s on %s: hash 0x%016llx, expected 0x%016llx", names[kind], isa,
                  (unsigned long long)hash, (unsigned long long)GOLDEN_ATTENTION[kind]);
        }
        check_large_scores();
        status |= report("test_attention");
    }
    return status || failures;
}
