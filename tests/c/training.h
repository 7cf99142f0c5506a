/* A problem's forward and backward pass, layer by layer. */
#ifndef FASTRNN_TEST_TRAINING_H
#define FASTRNN_TEST_TRAINING_H

#include "problems.h"

/* Gradients of all that a problem consists of, for the loss <dy, y> + <dhn, hn> + <dcn, cn>. */
struct answer {
    float *dx, *dh0, *dc0, *parameters, *flow;
    size_t x_count, parameter_count, flow_count;
};

static inline float *weights_of(const struct problem *p) {
    return random_floats(fr_parameter_count(&p->shape), 1, 1.0f / sqrtf((float)p->H));
}

/* One after the other: x of every layer, and last y. */
static inline float **make_layers(const struct problem *p) {
    float **x = aligned((size_t)(p->L + 1) * sizeof *x);
    x[0] = p->x;
    for (int layer = 1; layer <= p->L; layer++) x[layer] = blank(p->y_count * sizeof(float));
    return x;
}

static inline int64_t elements_of(const struct problem *p) {
    int64_t sum = 0;
    for (int n = 0; n < p->N; n++) sum += p->lengths ? p->lengths[n] : p->T;
    return sum;
}

static inline struct answer differentiate(const struct problem *p, int threads, int kept_steps,
                                          const float *dsolution) {
    const size_t F = p->y_count / ((size_t)p->T * (size_t)p->N), rows = (size_t)p->T * (size_t)p->N;
    const size_t wide = F > (size_t)p->I ? F : (size_t)p->I;
    struct answer a = {.x_count = rows * (size_t)p->I,
                       .parameter_count = fr_parameter_count(&p->shape),
                       .flow_count = (size_t)(p->L * p->D * p->T * 2)};
    float *solution = blank(solution_bytes(p)), *parameters = weights_of(p), **x = make_layers(p);
    float *d[2] = {blank(rows * wide * sizeof(float)), blank(rows * wide * sizeof(float))};
    fr_tape **tape = aligned((size_t)p->L * sizeof *tape);
    fr_backward_weights *weights =
        fr_backward_weights_create(p->model, blank(fr_backward_weights_size(p->model)));
    void *workspace = NULL;
    fr_backward_weights_load(p->model, weights, parameters);
    a.dx = blank(a.x_count * sizeof(float)), a.dh0 = blank(p->h_count * sizeof(float));
    a.dc0 = blank(p->c_count * sizeof(float)), a.flow = blank(a.flow_count * sizeof(float));
    memset(a.dc0, 0, p->c_count * sizeof(float)); /* cells without c leave it alone */
    memset(solution + p->y_count + p->h_count, 0, p->c_count * sizeof(float));
    a.parameters = random_floats(a.parameter_count, 9, 0.25f); /* gradients are added to */
    for (int layer = 0; layer < 2 * p->L; layer++) {
        const int backward = layer >= p->L, k = backward ? 2 * p->L - 1 - layer : layer;
        const fr_tape_plan plan = {k, threads, p->T, p->N, elements_of(p), kept_steps, 0};
        if (!workspace) workspace = blank(fr_training_size(p->model, &plan));
        if (!backward)
            tape[k] = fr_tape_create(p->model, &plan, blank(fr_tape_size(p->model, &plan)));
        const fr_sequence q = {
            .steps = p->T,
            .rows = p->N,
            .step_stride = p->N,
            .row_stride = 1,
            .lengths = p->lengths,
            .x = x[k],
            .y = x[k + 1],
            .h0 = p->h0,
            .c0 = p->c0,
            .hn = solution + p->y_count,
            .cn = solution + p->y_count + p->h_count,
            .tape = tape[k],
        };
        free(workspace);
        workspace = blank(fr_training_size(p->model, &plan));
        if (!backward) {
            fr_forward(p->model, &q, workspace, threads);
            continue;
        }
        const fr_gradients g = {
            .dy = k == p->L - 1 ? dsolution : d[(k + 1) & 1],
            .dhn = dsolution + p->y_count,
            .dcn = dsolution + p->y_count + p->h_count,
            .dx = k ? d[k & 1] : a.dx,
            .dh0 = a.dh0,
            .dc0 = a.dc0,
            .parameters = a.parameters,
            .flow = a.flow + k * p->D * p->T * 2,
        };
        fr_backward(p->model, weights, &q, &g, workspace, threads);
        free(tape[k]);
    }
    memcpy(solution, x[p->L], p->y_count * sizeof(float));
    float *expected = solve(p, 1);
    CHECK(memcmp(solution, expected, solution_bytes(p)) == 0, "%s: a tape changes the outputs",
          p->cell);
    for (int layer = 1; layer <= p->L; layer++) free(x[layer]);
    free(expected), free(solution), free(parameters), free(x), free(d[0]), free(d[1]), free(tape),
        free(weights);
    free(workspace);
    return a;
}

static inline void free_answer(struct answer *a) {
    free(a->dx), free(a->dh0), free(a->dc0), free(a->parameters), free(a->flow);
}

static inline uint64_t hash_answer(const struct problem *p, const struct answer *a) {
    uint64_t hash = hash_bits(HASH_START, a->dx, a->x_count);
    hash = hash_bits(hash, a->dh0, p->h_count);
    hash = hash_bits(hash, a->dc0, p->c_count);
    hash = hash_bits(hash, a->flow, a->flow_count);
    return hash_bits(hash, a->parameters, a->parameter_count);
}

#endif
