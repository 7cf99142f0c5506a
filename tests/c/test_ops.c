/* Convolutions against plain loops in float64, forward and backward, for all kernels named as
 * arguments: with a golden hash, and the same bits for whole signals, split ones and streams, for
 * any layout and number of threads. */
#include "support.h"
#include "golden.h"

#include "../../src_c/ops/conv.h"

#include <math.h>

static int same(const float *a, const float *b, size_t n) {
    return memcmp(a, b, n * sizeof *a) == 0;
}

/* Errors of chains of K terms of size `scale`, with room for their growth. */
static double chain_bound(int K, double scale) { return 4 * 0x1p-24 * sqrt(K + 1.0) * scale; }

/* ---- convolutions ------------------------------------------------------------------------ */

struct signals {
    int64_t S, L;
    int over_time; /* (L, S, C) instead of (S, L, C) */
};

static size_t element(const struct signals *g, int64_t signal, int64_t at, int64_t length) {
    return (size_t)(g->over_time ? at * g->S + signal : signal * length + at);
}

static fr_conv_call call_of(const fr_conv_shape *s, const struct signals *g) {
    const int64_t P = fr_conv_length(s, g->L);
    return (fr_conv_call){.signals = g->S,
                          .length = g->L,
                          .x_signal = g->over_time ? s->inputs : g->L * s->inputs,
                          .x_position = g->over_time ? g->S * s->inputs : s->inputs,
                          .y_signal = g->over_time ? s->outputs : P * s->outputs,
                          .y_position = g->over_time ? g->S * s->outputs : s->outputs};
}

/* All gradients and the outputs of one problem, in float64 or float32. */
struct problem {
    fr_conv_shape s;
    struct signals g;
    int64_t P;
    size_t x_count, y_count, w_count, past_count;
    float *x, *past, *weight, *bias, *dy;
};

static struct problem problem_of(fr_conv_shape s, struct signals g, int with_past) {
    struct problem p = {.s = s, .g = g, .P = fr_conv_length(&s, g.L)};
    p.x_count = (size_t)(g.S * g.L * s.inputs);
    p.y_count = (size_t)(g.S * p.P * s.outputs);
    p.w_count = (size_t)(s.outputs * s.inputs / s.groups * s.kernel);
    p.past_count = (size_t)(g.S * s.before * s.inputs);
    p.x = random_floats(p.x_count, 1, 1.0f);
    p.dy = random_floats(p.y_count, 2, 1.0f);
    p.weight = random_floats(p.w_count, 3, 1.0f);
    p.bias = random_floats((size_t)s.outputs, 4, 1.0f);
    p.past = with_past ? random_floats(p.past_count, 5, 1.0f) : NULL;
    return p;
}

/* The input that tap k of a window sees, and where its gradient goes, -1: zeros. */
static double seen(const struct problem *p, int64_t signal, int64_t position, int k, int c,
                   ptrdiff_t *where) {
    const fr_conv_shape *s = &p->s;
    const int64_t at = position * s->stride - s->before + (int64_t)k * s->dilation;
    *where = -1;
    if (at >= p->g.L) return 0.0;
    if (at >= 0) {
        *where = (ptrdiff_t)(element(&p->g, signal, at, p->g.L) * (size_t)s->inputs) + c;
        return p->x[*where];
    }
    if (!p->past) return 0.0;
    const ptrdiff_t i = (ptrdiff_t)((signal * s->before + s->before + at) * s->inputs + c);
    *where = (ptrdiff_t)p->x_count + i;
    return p->past[i];
}

/* y, and gradients: d (x_count + past_count), dw and db start from what is there. */
static void reference_conv(const struct problem *p, double *y, double *d, double *dw, double *db) {
    const fr_conv_shape *s = &p->s;
    const int per_group = s->inputs / s->groups, outputs = s->outputs / s->groups;
    for (int64_t n = 0; n < p->g.S; n++) {
        for (int64_t t = 0; t < p->P; t++) {
            for (int o = 0; o < s->outputs; o++) {
                const size_t at = element(&p->g, n, t, p->P) * (size_t)s->outputs + (size_t)o;
                const double dy = p->dy[at];
                y[at] = p->bias[o];
                db[o] += dy;
                for (int k = 0; k < s->kernel; k++) {
                    for (int c = 0; c < per_group; c++) {
                        const size_t w = (size_t)((o * per_group + c) * s->kernel + k);
                        ptrdiff_t where;
                        const double x = seen(p, n, t, k, o / outputs * per_group + c, &where);
                        y[at] += p->weight[w] * x;
                        dw[w] += dy * x;
                        if (where >= 0) d[where] += dy * p->weight[w];
                    }
                }
            }
        }
    }
}

static void check_close(const char *what, const float *got, const double *wanted, size_t n,
                        double bound) {
    double worst = 0;
    for (size_t i = 0; i < n; i++) worst = fmax(worst, fabs(got[i] - wanted[i]));
    CHECK(worst <= bound, "%s: off by %g, at most %g", what, worst, bound);
}

static fr_conv *loaded(const struct problem *p) {
    fr_conv *conv = fr_conv_create(&p->s, aligned(fr_conv_size(&p->s)));
    fr_conv_load(conv, p->weight, p->bias);
    return conv;
}

static float *forward(const struct problem *p, const fr_conv *conv, int threads) {
    fr_conv_call call = call_of(&p->s, &p->g);
    call.x = p->x, call.past = p->past, call.y = aligned(p->y_count * sizeof(float));
    void *workspace = aligned(fr_conv_workspace_size(conv, threads));
    fr_conv_forward(conv, &call, workspace, threads);
    free(workspace);
    return call.y;
}

static void check_forward(const struct problem *p, const fr_conv *conv, const double *wanted,
                          uint64_t *hash) {
    const int K = p->s.kernel * p->s.inputs / p->s.groups;
    float *y = forward(p, conv, 1), *y3 = forward(p, conv, 3);
    check_close("y", y, wanted, p->y_count, chain_bound(K, sqrt(K + 1.0)));
    CHECK(same(y, y3, p->y_count), "threads");
    *hash = hash_bits(*hash, y, p->y_count);
    free(y), free(y3);
}

static void check_backward(const struct problem *p, const double *d, const double *dw,
                           const double *db, uint64_t *hash) {
    const size_t O = (size_t)p->s.outputs;
    float *first[4] = {NULL};
    for (int threads = 1; threads <= 3; threads += 2) {
        fr_conv_back *back = fr_conv_back_create(&p->s, aligned(fr_conv_back_size(&p->s)));
        fr_conv_back_load(back, p->weight);
        fr_conv_call call = call_of(&p->s, &p->g);
        float *g[4] = {aligned(p->x_count * sizeof(float)), aligned(p->past_count * sizeof(float)),
                       random_floats(p->w_count, 6, 1.0f), random_floats(O, 7, 1.0f)};
        call.x = p->x, call.past = p->past, call.dy = p->dy;
        call.dx = g[0], call.dpast = p->past ? g[1] : NULL, call.dweight = g[2], call.dbias = g[3];
        void *workspace = aligned(fr_conv_back_workspace_size(back, threads));
        fr_conv_backward(back, &call, workspace, threads);
        free(workspace);
        const size_t counts[4] = {p->x_count, p->past ? p->past_count : 0, p->w_count, O};
        const double rows = (double)p->g.S * (double)p->P;
        const int terms = p->s.kernel * p->s.outputs;
        check_close("dx", g[0], d, counts[0], chain_bound(terms, sqrt(terms + 1.0)));
        check_close("dpast", g[1], d + p->x_count, counts[1],
                    chain_bound(terms, sqrt(terms + 1.0)));
        check_close("dweight", g[2], dw, counts[2], chain_bound((int)rows, sqrt(rows + 1)));
        check_close("dbias", g[3], db, counts[3], chain_bound((int)rows, sqrt(rows + 1)));
        for (int i = 0; i < 4; i++) {
            if (threads == 1) *hash = hash_bits(*hash, g[i], counts[i]);
            else CHECK(same(g[i], first[i], counts[i]), "gradient %d, threads", i);
            if (threads > 1) free(first[i]), free(g[i]);
            first[i] = g[i];
        }
        free(back);
    }
}

/* The signals in the other layout have the same outputs. */
static void check_layout(const struct problem *p, const fr_conv *conv) {
    struct problem other = *p;
    const size_t C = (size_t)p->s.inputs, O = (size_t)p->s.outputs;
    other.g.over_time = !p->g.over_time;
    other.x = aligned(p->x_count * sizeof(float));
    for (int64_t n = 0; n < p->g.S; n++)
        for (int64_t t = 0; t < p->g.L; t++)
            memcpy(other.x + element(&other.g, n, t, p->g.L) * C,
                   p->x + element(&p->g, n, t, p->g.L) * C, C * sizeof(float));
    float *y = forward(p, conv, 1), *z = forward(&other, conv, 1);
    for (int64_t n = 0; n < p->g.S; n++)
        for (int64_t t = 0; t < p->P; t++)
            CHECK(
                same(y + element(&p->g, n, t, p->P) * O, z + element(&other.g, n, t, p->P) * O, O),
                "signal %d position %d in the other layout", (int)n, (int)t);
    free(y), free(z), free(other.x);
}

/* Signals (T, N, C) of a convolution that continues: in two parts, and step by step. */
static void check_split(const struct problem *p, const fr_conv *conv) {
    const int64_t N = p->g.S, C = p->s.inputs, O = p->s.outputs, before = p->s.before;
    float *y = forward(p, conv, 1), *z = aligned(p->y_count * sizeof(float));
    float *next = aligned(p->past_count * sizeof(float)),
          *last = aligned(p->past_count * sizeof(float));
    fr_conv_call call = call_of(&p->s, &p->g);
    void *workspace = aligned(fr_conv_workspace_size(conv, 1));
    call.length = p->g.L / 3, call.x = p->x, call.past = p->past, call.y = z;
    fr_conv_forward(conv, &call, workspace, 1);
    fr_conv_next_past(conv, &call, next);
    call.x += call.length * N * C, call.y += call.length * N * O, call.past = next;
    call.length = p->g.L - call.length;
    fr_conv_forward(conv, &call, workspace, 1);
    fr_conv_next_past(conv, &call, last);
    CHECK(same(y, z, p->y_count), "split");

    const size_t size = fr_conv_state_size(conv);
    char *memory = aligned(size * (size_t)N);
    void *states[8];
    const float *in[8];
    float *out[8], *read = aligned(p->past_count * sizeof(float));
    memset(z, 0, p->y_count * sizeof *z);
    for (int64_t n = 0; n < N; n++) {
        states[n] = memory + size * (size_t)(N - 1 - n); /* slots in any order */
        fr_conv_state_set(conv, states[n], p->past ? p->past + n * before * C : NULL);
    }
    for (int64_t t = 0; t < p->g.L; t++) {
        for (int64_t n = 0; n < N; n++)
            in[n] = p->x + (t * N + n) * C, out[n] = z + (t * N + n) * O;
        fr_conv_step(conv, N, states, in, out, workspace);
    }
    CHECK(same(y, z, p->y_count), "step by step");
    for (int64_t n = 0; n < N; n++) fr_conv_state_get(conv, states[n], read + n * before * C);
    CHECK(same(read, last, p->past_count), "the past of a state and of the sequence");
    free(y), free(z), free(next), free(last), free(memory), free(read), free(workspace);
}

static void test_conv(fr_conv_shape s, struct signals g, int with_past, uint64_t *hash) {
    const struct problem p = problem_of(s, g, with_past);
    const size_t O = (size_t)s.outputs;
    double *y = calloc(p.y_count + 1, sizeof *y), *db = calloc(O, sizeof *db);
    double *d = calloc(p.x_count + p.past_count + 1, sizeof *d),
           *dw = calloc(p.w_count, sizeof *dw);
    float *dw0 = random_floats(p.w_count, 6, 1.0f), *db0 = random_floats(O, 7, 1.0f);
    for (size_t i = 0; i < p.w_count; i++) dw[i] = dw0[i];
    for (size_t i = 0; i < O; i++) db[i] = db0[i];
    reference_conv(&p, y, d, dw, db);
    fr_conv *conv = loaded(&p);
    const int before = failures;
    check_forward(&p, conv, y, hash);
    check_backward(&p, d, dw, db, hash);
    if (!with_past) check_layout(&p, conv);
    if (fr_conv_continues(&s) && g.over_time) check_split(&p, conv);
    if (failures > before)
        printf("  C %d O %d K %d stride %d dilation %d groups %d before %d after %d, S %d L %d\n",
               s.inputs, s.outputs, s.kernel, s.stride, s.dilation, s.groups, s.before, s.after,
               (int)g.S, (int)g.L);
    free(y), free(d), free(dw), free(db), free(dw0), free(db0), free(conv);
    free(p.x), free(p.dy), free(p.weight), free(p.bias), free(p.past);
}

static void test_convs(void) {
    /* C, O, K, stride, dilation, groups, before, after */
    static const fr_conv_shape shapes[] = {
        {3, 5, 1, 1, 1, 1, 0, 0},    {3, 5, 3, 1, 1, 1, 0, 0},    {3, 70, 3, 2, 1, 1, 1, 1},
        {17, 33, 4, 3, 2, 1, 5, 2},  {1, 20, 64, 32, 1, 1, 0, 0}, {6, 4, 3, 1, 1, 2, 1, 1},
        {12, 12, 3, 2, 2, 12, 2, 2}, {6, 12, 5, 1, 1, 6, 4, 0},   {16, 16, 3, 1, 1, 1, 2, 0},
        {7, 40, 3, 1, 4, 1, 8, 0},   {5, 3, 1, 1, 1, 1, 0, 0},    {64, 64, 16, 1, 1, 1, 15, 0},
        {8, 6, 2, 1, 20, 2, 20, 0},  {300, 8, 2, 1, 1, 1, 1, 0},
    };
    static const struct signals signals[] = {
        {1, 40, 0}, {3, 71, 0}, {5, 70, 1}, {1, 33, 1}, {0, 9, 0}};
    uint64_t hash = HASH_START;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (size_t k = 0; k < sizeof signals / sizeof *signals; k++) {
            test_conv(shapes[i], signals[k], 0, &hash);
            if (fr_conv_continues(&shapes[i])) test_conv(shapes[i], signals[k], 1, &hash);
        }
    }
    test_conv((fr_conv_shape){4, 4, 9, 1, 1, 1, 0, 0}, (struct signals){2, 8, 0}, 0, &hash);
    /* depthwise: whole vectors of channels and a ragged end, along time with a past and without */
    static const fr_conv_shape depthwise[] = {
        {37, 37, 5, 1, 2, 37, 8, 0}, {64, 64, 9, 1, 1, 64, 4, 4}, {2, 2, 3, 5, 1, 2, 1, 0},
        {16, 16, 1, 1, 1, 16, 0, 0}, {33, 33, 4, 2, 3, 33, 9, 1},
    };
    uint64_t unused = HASH_START; /* the sums of a channel are those above */
    for (size_t i = 0; i < sizeof depthwise / sizeof *depthwise; i++) {
        for (size_t k = 0; k < sizeof signals / sizeof *signals; k++) {
            test_conv(depthwise[i], signals[k], 0, &unused);
            if (fr_conv_continues(&depthwise[i])) test_conv(depthwise[i], signals[k], 1, &unused);
        }
    }
    if (strcmp(fr_isa(), "base") != 0)
        CHECK(hash == GOLDEN_CONV, "hash 0x%016llx", (unsigned long long)hash);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        CHECK(fr_isa_select(argv[i]), "this CPU has no %s kernels", argv[i]);
        test_convs();
        report("test_ops");
    }
    return failures != 0;
}
