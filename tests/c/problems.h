/* Networks with inputs, for the tests that only compare bits: a problem is everything one call of
 * fr_forward needs, a solution is y, hn and cn one after the other. */
#ifndef FASTRNN_TEST_PROBLEMS_H
#define FASTRNN_TEST_PROBLEMS_H

#include "support.h"

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define VALGRIND_MAKE_MEM_UNDEFINED(memory, bytes) ((void)(memory), (void)(bytes))
#endif

/* Aligned memory that counts as never written, where valgrind watches. */
static inline void *blank(size_t bytes) {
    void *memory = aligned(bytes);
    VALGRIND_MAKE_MEM_UNDEFINED(memory, bytes);
    return memory;
}

struct problem {
    const char *cell; /* or a variant of one */
    int I, H, P, L, D, sum;
    int T, N;
    int ragged;
    /* from here on made by make_problem */
    fr_shape shape;
    fr_model *model;
    float *x, *h0, *c0; /* (T, N, I), (L*D, N, R), (L*D, N, H) */
    int64_t *lengths;   /* (N), or NULL */
    size_t y_count, h_count, c_count;
};

static inline void make_problem(struct problem *p) {
    p->shape = shape_with(p->cell, (fr_shape){.input_size = p->I,
                                              .hidden_size = p->H,
                                              .proj_size = p->P,
                                              .num_layers = p->L,
                                              .num_directions = p->D,
                                              .bias = 1,
                                              .merge_sum = p->sum});
    const size_t R = (size_t)(p->P ? p->P : p->H), F = R * (p->D == 2 && !p->sum ? 2 : 1);
    const size_t N = (size_t)p->N, T = (size_t)p->T, states = (size_t)(p->L * p->D);
    float *parameters = random_floats(fr_parameter_count(&p->shape), 1, 1.0f / sqrtf((float)p->H));
    p->model = fr_model_create(&p->shape, blank(fr_model_size(&p->shape)));
    fr_model_load(p->model, parameters);
    free(parameters);
    p->y_count = T * N * F, p->h_count = states * N * R, p->c_count = states * N * (size_t)p->H;
    p->x = random_floats(T * N * (size_t)p->I, 2, 1.0f);
    p->h0 = random_floats(p->h_count, 3, 0.5f);
    p->c0 = random_floats(p->c_count, 4, 0.5f);
    p->lengths = p->ragged ? aligned(N * sizeof *p->lengths) : NULL;
    for (int n = 0; n < p->N && p->ragged; n++) p->lengths[n] = p->T - 5 * n % (p->T + 1);
}

static inline void free_problem(struct problem *p) {
    free(p->model), free(p->x), free(p->h0), free(p->c0), free(p->lengths);
}

static inline size_t solution_bytes(const struct problem *p) {
    return (p->y_count + p->h_count + p->c_count) * sizeof(float);
}

static inline void solve_in(const struct problem *p, int threads, void *workspace,
                            float *solution) {
    const fr_sequence q = {
        .steps = p->T,
        .rows = p->N,
        .step_stride = p->N,
        .row_stride = 1,
        .lengths = p->lengths,
        .x = p->x,
        .h0 = p->h0,
        .c0 = p->c0,
        .y = solution,
        .hn = solution + p->y_count,
        .cn = solution + p->y_count + p->h_count,
    };
    fr_forward(p->model, &q, workspace, threads);
}

/* A solution of its own memory; cells without c leave zeros in its place. */
static inline float *solve(const struct problem *p, int threads) {
    float *solution = blank(solution_bytes(p));
    void *workspace = blank(fr_workspace_size(p->model, p->T, p->N, threads));
    memset(solution + p->y_count + p->h_count, 0, p->c_count * sizeof *solution);
    solve_in(p, threads, workspace, solution);
    free(workspace);
    return solution;
}

/* Whether a team of `threads` finds the bits of the serial solution. */
static inline int solves(const struct problem *p, int threads, const float *expected) {
    float *solution = solve(p, threads);
    const int equal = memcmp(solution, expected, solution_bytes(p)) == 0;
    free(solution);
    return equal;
}

#endif
