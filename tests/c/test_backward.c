/* The backward pass without Python: every cell and option against differences of the float64
 * reference, and the numeric contract: the same bits with any number of threads, with a tape of all
 * steps or of a few, and (by golden hashes) on every instruction set with fused multiply-add.
 *
 *     test_backward [ISA ...]      the kernels to test; without arguments, all that this CPU has
 */
#include "reference.h"
#include "training.h"

#include "golden.h"

/* ---- the slope in one direction ---------------------------------------------------------- */

/* The loss in float64, at a point moved by `by` along random directions. */
static double loss_at(const struct problem *p, const float *dsolution, double by) {
    const size_t F = p->y_count / ((size_t)p->T * (size_t)p->N), R = (size_t)(p->P ? p->P : p->H);
    const size_t T = (size_t)p->T, N = (size_t)p->N, I = (size_t)p->I, H = (size_t)p->H,
                 S = (size_t)(p->L * p->D);
    const size_t count = fr_parameter_count(&p->shape);
    float *at = weights_of(p), *v = random_floats(count, 21, 1.0f);
    double *w = widened(at, count);
    float *vx = random_floats(T * N * I, 22, 1.0f), *vh = random_floats(p->h_count, 23, 1.0f);
    float *vc = random_floats(p->c_count, 24, 1.0f);
    double *x = calloc(T * I + 1, sizeof *x), *y = calloc(T * F + 1, sizeof *y), loss = 0;
    double *h0 = calloc(S * R, sizeof *h0), *c0 = calloc(S * H, sizeof *c0);
    double *hn = calloc(S * R, sizeof *hn), *cn = calloc(S * H, sizeof *cn);
    const int has_c = info_of(p->cell)->states == 2;
    for (size_t i = 0; i < count; i++) w[i] += by * v[i];
    for (size_t n = 0; n < N; n++) {
        const size_t length = p->lengths ? (size_t)p->lengths[n] : T;
        for (size_t t = 0; t < length; t++) {
            for (size_t i = 0; i < I; i++) {
                x[t * I + i] = p->x[(t * N + n) * I + i] + by * vx[(t * N + n) * I + i];
            }
        }
        for (size_t s = 0; s < S; s++) {
            for (size_t i = 0; i < R; i++)
                h0[s * R + i] = p->h0[(s * N + n) * R + i] + by * vh[(s * N + n) * R + i];
            for (size_t i = 0; i < H; i++)
                c0[s * H + i] = p->c0[(s * N + n) * H + i] + by * vc[(s * N + n) * H + i];
        }
        reference(&p->shape, w, (int)length, x, y, h0, c0, hn, cn);
        for (size_t t = 0; t < length; t++) {
            for (size_t i = 0; i < F; i++) loss += y[t * F + i] * dsolution[(t * N + n) * F + i];
        }
        for (size_t s = 0; s < S; s++) {
            for (size_t i = 0; i < R; i++)
                loss += hn[s * R + i] * dsolution[p->y_count + (s * N + n) * R + i];
            for (size_t i = 0; i < H && has_c; i++) {
                loss += cn[s * H + i] * dsolution[p->y_count + p->h_count + (s * N + n) * H + i];
            }
        }
    }
    free(w), free(at), free(v), free(vx), free(vh), free(vc), free(x), free(y), free(h0), free(c0),
        free(hn), free(cn);
    return loss;
}

static double dot(const float *a, const float *minus, size_t n, uint64_t seed) {
    float *v = random_floats(n, seed, 1.0f);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((double)a[i] - (minus ? minus[i] : 0.0f)) * v[i];
    free(v);
    return sum;
}

/* The gradients along the directions of loss_at. */
static double slope(const struct problem *p, const struct answer *a) {
    float *before = random_floats(a->parameter_count, 9, 0.25f);
    const double sum = dot(a->parameters, before, a->parameter_count, 21) +
                       dot(a->dx, NULL, a->x_count, 22) + dot(a->dh0, NULL, p->h_count, 23) +
                       dot(a->dc0, NULL, p->c_count, 24);
    free(before);
    return sum;
}

static uint64_t check_problem(struct problem problem) {
    struct problem *p = &problem;
    make_problem(p);
    float *dsolution = random_floats(p->y_count + p->h_count + p->c_count, 8, 1.0f);
    struct answer first = differentiate(p, 1, p->T, dsolution);
    const uint64_t hash = hash_answer(p, &first);
    const double by = ldexp(1.0, -24); /* so short a way steps over hardly a kink */
    const double expected = (loss_at(p, dsolution, by) - loss_at(p, dsolution, -by)) / (2.0 * by);
    const double got = slope(p, &first),
                 scale = fabs(expected) + sqrt((double)first.parameter_count);
    CHECK(fabs(got - expected) < 2e-3 * scale,
          "%s I %d H %d P %d L %d D %d T %d N %d: slope %g, expected %g", p->cell, p->I, p->H, p->P,
          p->L, p->D, p->T, p->N, got, expected);
    const int half = (p->T + 1) / 2, ways[4][2] = {{2, p->T}, {3, half}, {2, half}, {1, 1}};
    for (int i = 0; i < 4; i++) {
        struct answer again = differentiate(p, ways[i][0], ways[i][1], dsolution);
        CHECK(hash_answer(p, &again) == hash,
              "%s I %d H %d P %d L %d D %d T %d N %d: %d threads, %d steps kept", p->cell, p->I,
              p->H, p->P, p->L, p->D, p->T, p->N, ways[i][0], ways[i][1]);
        free_answer(&again);
    }
    free_answer(&first);
    free(dsolution);
    free_problem(p);
    return hash;
}

static uint64_t chain(uint64_t hash, uint64_t next) { return hash * 0x9e3779b97f4a7c15u + next; }

static uint64_t check_cell(const char *cell) {
    static const int sizes[] = {1, 7, 16, 33, 65};
    const int project = info_of(cell)->project;
    uint64_t hash = HASH_START;
    for (int i = 0; i < 5; i++) {
        const int H = sizes[i], I = sizes[(i * 2 + 1) % 5];
        hash = chain(hash, check_problem((struct problem){cell, I, H, 0, 1, 1, 0, 3 + i, 1 + i,
                                                          .ragged = 0}));
        hash = chain(hash, check_problem((struct problem){cell, I, H, project && H > 2 ? H / 2 : 0,
                                                          2, 2, i & 1, 4, 3 + i, .ragged = 1}));
    }
    hash =
        chain(hash, check_problem((struct problem){cell, 40, 150, 0, 1, 1, 0, 9, 2, .ragged = 0}));
    hash = chain(hash, check_problem((struct problem){cell, 40, 150, project ? 70 : 0, 1, 1, 0, 5,
                                                      60, .ragged = 1}));
    return hash;
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
        for (int c = 0; c < fr_cell_count(); c++) {
            for (int variant = 0; variant < variants_of(fr_cell_at(c)); variant++) {
                char name[64];
                name_variant(name, fr_cell_at(c), variant);
                const uint64_t hash = check_cell(name);
                const uint64_t expected = GOLDEN_OF(GOLDEN_BACKWARD, name);
                CHECK(strcmp(isa, "base") == 0 || hash == expected,
                      "%s on %s: hash 0x%016llx, expected 0x%016llx", name, isa,
                      (unsigned long long)hash, (unsigned long long)expected);
            }
        }
        status |= report("test_backward");
    }
    return status || failures;
}
