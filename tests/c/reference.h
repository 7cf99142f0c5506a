/* Stacks of layers in plain float64, without regard to speed: no packing, no blocks, no SIMD,
 * PyTorch's tensors by their names. A cell is its line of cells.def and its equations, compiled for
 * double; what they should say is stated once more, in NumPy, in tests/reference.py. */
#ifndef FASTRNN_TEST_REFERENCE_H
#define FASTRNN_TEST_REFERENCE_H

#include "support.h"

/* ---- the equations, for one double ------------------------------------------------------- */

typedef double vf;
#define VF_INLINE static inline
VF_INLINE vf vf_set1(double x) { return x; }
VF_INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
VF_INLINE vf vf_min(vf bound, vf x) { return bound < x ? bound : x; }
VF_INLINE vf vf_max(vf bound, vf x) { return bound > x ? bound : x; }
VF_INLINE int vf_lt(vf a, vf b) { return a < b; }
VF_INLINE vf vf_select(int condition, vf a, vf b) { return condition ? a : b; }
VF_INLINE vf vf_outside(double low, double high, vf x) { return x < low || x > high; }
VF_INLINE vf vf_sigmoid(vf x) { return 1.0 / (1.0 + exp(-x)); }
VF_INLINE vf vf_tanh(vf x) { return tanh(x); }

#include "../../src_c/simd/cells.inc"

/* Cells with one phase have no gates to do first. */
struct equations {
    const char *x, *h, *u, *bias, *unit;
    void (*gates)(struct gates s, vf *z, vf h0, vf *u);
    void (*forward)(struct gates s, vf *z, vf h0, vf c0, const vf *p, vf *h1, vf *c1);
};

static const struct equations EQUATIONS[] = {
#define GATES_OF_1(name) NULL
#define GATES_OF_2(name) name##_gates
#define CELL(name, family, phases, x, h, u, bias, states, direct, project, gates, tensor, unit) \
    {x, h, u, bias, unit, GATES_OF_##phases(name), name##_forward},
#include "../../src_c/cells/cells.def"
#undef CELL
};

/* The same numbers; the caller frees them. */
static inline double *widened(const float *x, size_t n) {
    double *wide = calloc(n + 1, sizeof *wide);
    for (size_t i = 0; i < n; i++) wide[i] = x[i];
    return wide;
}

/* ---- one layer --------------------------------------------------------------------------- */

static inline const double *parameter(const fr_shape *s, const double *p, const char *name,
                                      int layer, int reverse) {
    char full[48];
    fr_tensor tensor;
    snprintf(full, sizeof full, "%s_l%d%s", name, layer, reverse ? "_reverse" : "");
    for (int i = 0; fr_parameter(s, i, &tensor); i++) {
        if (strcmp(tensor.name, full) == 0) return p + tensor.offset;
    }
    return NULL;
}

static inline double row_product(const double *W, size_t row, const double *x, int n) {
    double sum = 0;
    for (int k = 0; W && k < n; k++) sum += W[row * (size_t)n + (size_t)k] * x[k];
    return sum;
}

/* One step of one row: h (R) and c (H) are updated in place. */
static inline void reference_step(const fr_shape *s, const double *p, int layer, int reverse,
                                  const double *x, int inputs, double *h, double *c) {
    const struct equations *e = &EQUATIONS[s->cell];
    const fr_cell_info *cell = fr_cell_at(s->cell);
    const struct gates gates = {s->gate_activation == FR_GATE_HARD_SIGMOID, s->gate_alpha,
                                s->gate_beta};
    const int H = s->hidden_size, R = s->proj_size ? s->proj_size : H;
    const double *W = parameter(s, p, "weight_ih", layer, reverse),
                 *U = parameter(s, p, "weight_hh", layer, reverse);
    const double *b = parameter(s, p, "bias_ih", layer, reverse),
                 *d = parameter(s, p, "bias_hh", layer, reverse);
    const double *own = parameter(s, p, cell->unit_tensor, layer, reverse),
                 *V = parameter(s, p, "weight_hr", layer, reverse);
    double *z = calloc((size_t)(4 * H), sizeof *z), *u = calloc((size_t)H, sizeof *u);
    double *out = calloc((size_t)H, sizeof *out);
    for (int i = 0; i < H; i++) {
        for (size_t slot = 0; e->bias[slot]; slot++) {
            const char gate = e->x[slot] == '-' ? e->h[slot] : e->x[slot];
            const size_t at = (size_t)((gate - '0') * H + i);
            double *sum = &z[4 * i + (int)slot];
            if (b && e->bias[slot] != 'h') *sum += b[at];
            if (d && e->bias[slot] != 'x') *sum += d[at];
            if (e->x[slot] != '-') *sum += row_product(W, at, x, inputs);
            if (e->h[slot] != '-') *sum += row_product(U, at, h, R);
        }
        if (e->gates) e->gates(gates, &z[4 * i], h[i], &u[i]);
    }
    for (int i = 0; i < H; i++) {
        double factors[4] = {0};
        for (size_t slot = 0; e->bias[slot]; slot++) {
            if (e->u[slot] != '-')
                z[4 * i + (int)slot] += row_product(U, (size_t)((e->u[slot] - '0') * H + i), u, H);
        }
        for (int k = 0; k < cell->unit_parameters; k++) factors[k] = own[k * H + i];
        e->forward(gates, &z[4 * i], cell->direct ? h[i] : 0.0, c[i], factors, &out[i], &c[i]);
    }
    for (int r = 0; r < R; r++) h[r] = s->proj_size ? row_product(V, (size_t)r, out, H) : out[r];
    free(z), free(u), free(out);
}

/* A whole stack on one row: x (T, I) -> y (T, F); h0, hn (L*D, R), c0, cn (L*D, H). */
static inline void reference(const fr_shape *s, const double *p, int T, const double *x, double *y,
                             const double *h0, const double *c0, double *hn, double *cn) {
    const int R = s->proj_size ? s->proj_size : s->hidden_size, H = s->hidden_size,
              D = s->num_directions;
    const int F = R * (D == 2 && !s->merge_sum ? 2 : 1),
              most = F > s->input_size ? F : s->input_size;
    double *in = calloc((size_t)(T * most + 1), sizeof *in);
    int inputs = s->input_size;
    memcpy(in, x, (size_t)(T * inputs) * sizeof *in);
    for (int layer = 0; layer < s->num_layers; layer++) {
        memset(y, 0, (size_t)(T * F) * sizeof *y);
        for (int d = 0; d < D; d++) {
            double *h = hn + (layer * D + d) * R, *c = cn + (layer * D + d) * H;
            memcpy(h, h0 + (layer * D + d) * R, (size_t)R * sizeof *h);
            memcpy(c, c0 + (layer * D + d) * H, (size_t)H * sizeof *c);
            for (int i = 0; i < T; i++) {
                const int t = d ? T - 1 - i : i;
                reference_step(s, p, layer, d, in + t * inputs, inputs, h, c);
                for (int r = 0; r < R; r++) y[t * F + (F > R ? d * R : 0) + r] += h[r];
            }
        }
        memcpy(in, y, (size_t)(T * F) * sizeof *in);
        inputs = F;
    }
    free(in);
}

#endif
