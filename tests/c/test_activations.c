/* Every activation of the table against float64, over all exponents, forward and backward, for the
 * kernels named as arguments: errors in ulp, infinities, NaN and denormals, rows, pairs and passes
 * per channel; with golden hashes, and the same bits for any threads and place in an array.
 *
 *     test_activations [--step N] ISA...      every N-th float is an input (40009 by default)
 */
#include "support.h"
#include "golden.h"

#include "../../src_c/ops/activation.h"
#include "../../src_c/ops/elementwise.h"

#include <math.h>

#define SMALLEST_NORMAL 0x1p-126
enum {
    BASE_SLACK = 40
}; /* without a fused multiply-add the rounding of x^2 in e^(-x^2 / 2) stays */

static uint32_t step = 40009; /* a prime: all bits of the mantissa vary */

/* ---- float64 ----------------------------------------------------------------------------- */

#define EXACT(name, formula)                                   \
    static double exact_##name(double x, double a, double b) { \
        (void)a, (void)b;                                      \
        return formula;                                        \
    }
static double sigmoid_of(double x) {
    const double e = exp(-fabs(x));
    return (x < 0 ? e : 1.0) / (1.0 + e);
}
static double softplus_of(double x) { return fmax(x, 0.0) + log1p(exp(-fabs(x))); }
/* x times what vanishes faster than x grows. */
static double gated(double x, double gate) { return gate == 0.0 ? copysign(0.0, x) : x * gate; }

EXACT(abs, fabs(x))
EXACT(clip, x<a ? a : x> b ? b : x)
EXACT(elu, x > 0 ? x : a * expm1(x))
EXACT(exp, exp(x))
EXACT(gelu, gated(x, 0.5 * erfc(-x / sqrt(2.0))))
EXACT(gelu_tanh, gated(x, sigmoid_of(2.0 * sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x))))
EXACT(hard_sigmoid, a *x + b < 0 ? 0.0 : a * x + b > 1 ? 1.0 : a * x + b)
EXACT(hard_swish, gated(x, (x < -3 ? 0.0 : x > 3 ? 6.0 : x + 3.0) / 6.0))
EXACT(leaky_relu, x > 0 ? x : a * x)
EXACT(log, log(x))
EXACT(log_sigmoid, -softplus_of(-x))
EXACT(mish, gated(x, tanh(softplus_of(x))))
EXACT(relu, x < 0 ? 0.0 : x)
EXACT(selu, 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * expm1(x)))
EXACT(sigmoid, sigmoid_of(x))
EXACT(silu, gated(x, sigmoid_of(x)))
EXACT(softplus, a *x > b ? x : softplus_of(a * x) / a)
EXACT(softsign, isinf(x) ? copysign(1.0, x) : x / (1.0 + fabs(x)))
EXACT(sqrt, sqrt(x))
EXACT(square, x *x)
EXACT(tanh, tanh(x))

typedef double exact_function(double x, double a, double b);
#define EXACT_EACH(name) exact_##name
#define EXACT_PAIR(name) NULL
#define EXACT_ROW(name) NULL
static exact_function *const exact[FR_ACTIVATIONS] = {
#define ACTIVATION(name, over, ...) [FR_ACTIVATION_##name] = EXACT_##over(name),
#include "../../src_c/cells/activations.def"
#undef ACTIVATION
};

/* Ulp: what every 4099th float gives, rounded up. */
#define BOUND(name, ulp) [FR_ACTIVATION_##name] = ulp
static const double bounds[FR_ACTIVATIONS] = {
    BOUND(abs, 0.0),      BOUND(clip, 0.0),      BOUND(elu, 1.5),          BOUND(exp, 1.0),
    BOUND(gelu, 4.0),     BOUND(gelu_tanh, 3.0), BOUND(hard_sigmoid, 1.0), BOUND(hard_swish, 2.5),
    BOUND(leaky_relu, 1), BOUND(log, 2.0),       BOUND(log_sigmoid, 3.0),  BOUND(mish, 3.5),
    BOUND(relu, 0.0),     BOUND(selu, 2.5),      BOUND(sigmoid, 2.0),      BOUND(silu, 3.0),
    BOUND(softplus, 3.0), BOUND(softsign, 1.5),  BOUND(sqrt, 0.5),         BOUND(square, 0.5),
    BOUND(tanh, 3.0),
};

/* Without a fused multiply-add the rounding of x^2 in e^(-x^2 / 2) stays, and alpha x + beta is 0
 * where it should be tiny. */
static double slack(int32_t function) {
    if (strcmp(fr_isa(), "base") != 0) return 1.0;
    return function == FR_ACTIVATION_hard_sigmoid ? INFINITY : 40.0;
}

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static double ulps(double wanted, float got) {
    int exponent;
    if (isnan(wanted) || isnan(got)) return isnan(wanted) == isnan(got) ? 0 : INFINITY;
    if (isinf(wanted) || fabs(wanted) >= 0x1.ffffffp+127)
        return isinf(got) && !signbit(got) == !signbit(wanted) ? 0 : INFINITY;
    if (fabs(wanted) < SMALLEST_NORMAL) return fabs(got - wanted) <= SMALLEST_NORMAL ? 0 : INFINITY;
    frexp(wanted, &exponent);
    return fabs(got - wanted) / ldexp(1.0, exponent - 24);
}

/* Values that instruction sets may differ in count as one: NaN, and about the smallest normal. */
static uint64_t add_to_hash(uint64_t hash, const float *y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float value = isnan(y[i]) ? NAN : fabsf(y[i]) <= (float)SMALLEST_NORMAL ? 0.0f : y[i];
        if (isnan(value)) value = float_of(0x7fc00000u);
        hash = hash_bits(hash, &value, 1);
    }
    return hash;
}

/* The same bits; of two NaN the compiler may pass on either. */
static int same(const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (bits_of(a[i]) != bits_of(b[i]) && !(isnan(a[i]) && isnan(b[i]))) return 0;
    return 1;
}

/* ---- one input --------------------------------------------------------------------------- */

/* Every step-th float, and those around what functions treat differently. */
static size_t make_inputs(float **x) {
    static const float near[] = {0.0f,   0x1p-126f, 1.0f,        3.0f,    9.02f, 10.0f,
                                 13.2f,  14.5f,     20.0f,       80.0f,   87.3f, 88.72f,
                                 100.0f, 1e3f,      0x1.fp+127f, INFINITY};
    const size_t count = (size_t)(0xffffffffu / step) + 1, around = 64;
    size_t n = 0;
    *x = aligned((count + sizeof near / sizeof *near * around * 4) * sizeof **x);
    for (size_t i = 0; i < count; i++) (*x)[n++] = float_of((uint32_t)i * step);
    for (size_t k = 0; k < sizeof near / sizeof *near; k++) {
        for (uint32_t i = 0; i < 2 * around; i++) {
            const uint32_t bits = bits_of(near[k]) - (uint32_t)around + i;
            (*x)[n++] = float_of(bits);
            (*x)[n++] = float_of(bits ^ 0x80000000u);
        }
    }
    return n;
}

static fr_activation usual(int32_t function) {
    const float *parameters = fr_activations[function].usual;
    return (fr_activation){.function = function, .a = parameters[0], .b = parameters[1]};
}

static float flushed(float x) { return fabsf(x) < (float)SMALLEST_NORMAL ? copysignf(0, x) : x; }

/* The largest error in ulp. */
static double check_each(fr_activation a, const float *x, size_t n, uint64_t *hash) {
    float *y = aligned(n * sizeof *y), *z = aligned(n * sizeof *z);
    double worst = 0, at = 0;
    a.rows = 1, a.size = (int64_t)n, a.x = x, a.y = y;
    fr_activate(&a, 1);
    for (size_t i = 0; i < n; i++) {
        const double error = ulps(exact[a.function](flushed(x[i]), a.a, a.b), y[i]);
        CHECK(!isfinite(y[i]) || y[i] == 0 || fabsf(y[i]) >= (float)SMALLEST_NORMAL, "%s(%a) = %a",
              fr_activations[a.function].name, x[i], y[i]);
        if (error > worst) worst = error, at = x[i];
    }
    const double bound = bounds[a.function] * slack(a.function);
    CHECK(worst <= bound, "%s: %g ulp at %a", fr_activations[a.function].name, worst, at);
    memcpy(z, x, n * sizeof *z);
    a.x = z, a.y = z; /* in place, by several threads, from another place of a vector */
    fr_activate(&a, 3);
    CHECK(same(y, z, n), "%s in place", fr_activations[a.function].name);
    for (size_t i = 1; i < 40; i++) {
        a.x = x + i, a.y = z, a.size = (int64_t)(i % 9);
        fr_activate(&a, 1);
        CHECK(same(y + i, z, (size_t)a.size), "%s of few", fr_activations[a.function].name);
    }
    *hash = add_to_hash(*hash, y, n);
    free(y), free(z);
    return worst;
}

/* Corners, where the slope on either side differs. */
static int is_corner(const fr_activation *a, double x, double h) {
    const double corners[] = {0.0, a->a, a->b, -3.0, 3.0, 6.0 * (0.5 - 1.0)};
    for (size_t i = 0; i < sizeof corners / sizeof *corners; i++)
        if (fabs(x - corners[i]) <= h) return 1;
    return 0;
}

/* The gradient against a difference quotient in float64, whose error is about h^2. */
static void check_each_back(fr_activation a, uint64_t *hash) {
    enum { N = 1003 };
    float x[N], y[N], dy[N], dx[N];
    uint64_t seed = 3;
    const int positive = a.function == FR_ACTIVATION_log || a.function == FR_ACTIVATION_sqrt;
    for (int i = 0; i < N; i++) {
        x[i] = positive ? 0.3f + fabsf(uniform(&seed, 9.0f)) : uniform(&seed, 9.0f);
        dy[i] = uniform(&seed, 1.0f);
    }
    a.rows = 17, a.size = 59, a.x = x, a.y = y, a.dy = dy, a.dx = dx;
    fr_activate(&a, 1);
    if (fr_activations[a.function].reads == FR_READS_X) a.y = NULL;
    else a.x = NULL;
    fr_activate_back(&a, 1);
    for (int i = 0; i < N; i++) {
        const double h = 1e-5;
        if (is_corner(&a, x[i], h)) continue;
        const double up = exact[a.function](x[i] + h, a.a, a.b);
        const double slope = (up - exact[a.function](x[i] - h, a.a, a.b)) / (2 * h);
        CHECK(fabs(dx[i] - slope * dy[i]) <= 1e-6 * fmax(1.0, fabs(slope)), "%s'(%a): %g, not %g",
              fr_activations[a.function].name, x[i], dx[i], slope * dy[i]);
    }
    *hash = add_to_hash(*hash, dx, N);
    a.dx = dy; /* in place */
    fr_activate_back(&a, 3);
    CHECK(memcmp(dx, dy, sizeof dx) == 0, "%s backward in place", fr_activations[a.function].name);
}

static void check_corners(void) {
    static const struct {
        int32_t function;
        float a, b, x, slope;
    } cases[] = {
        {FR_ACTIVATION_relu, 0, 0, 0, 0},
        {FR_ACTIVATION_abs, 0, 0, 0, 0},
        {FR_ACTIVATION_clip, -1, 1, -1, 0},
        {FR_ACTIVATION_clip, -1, 1, 1, 0},
        {FR_ACTIVATION_leaky_relu, 0.5f, 0, 0, 0.5f},
        {FR_ACTIVATION_elu, 0.5f, 0, 0, 0.5f},
        {FR_ACTIVATION_hard_sigmoid, 0.25f, 0.5f, 2, 0},
        {FR_ACTIVATION_hard_swish, 0, 0, -4, 0},
        {FR_ACTIVATION_hard_swish, 0, 0, 4, 1},
        {FR_ACTIVATION_gelu, 0, 0, INFINITY, 1},
        {FR_ACTIVATION_gelu, 0, 0, -INFINITY, 0},
        {FR_ACTIVATION_silu, 0, 0, INFINITY, 1},
        {FR_ACTIVATION_silu, 0, 0, -INFINITY, 0},
        {FR_ACTIVATION_mish, 0, 0, INFINITY, 1},
        {FR_ACTIVATION_mish, 0, 0, -INFINITY, 0},
        {FR_ACTIVATION_gelu_tanh, 0, 0, INFINITY, 1},
        {FR_ACTIVATION_gelu_tanh, 0, 0, -INFINITY, 0},
        {FR_ACTIVATION_softplus, 1, 20, INFINITY, 1},
        {FR_ACTIVATION_elu, 1, 0, -INFINITY, 0},
        {FR_ACTIVATION_softsign, 0, 0, INFINITY, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float x = cases[i].x, y, dy = 1, dx;
        fr_activation a = {cases[i].function, cases[i].a, cases[i].b, 1, 1, &x, &y, &dy, &dx};
        fr_activate(&a, 1);
        fr_activate_back(&a, 1);
        CHECK(dx == cases[i].slope, "%s'(%g) = %g", fr_activations[a.function].name, x, dx);
    }
}

/* ---- pairs ------------------------------------------------------------------------------- */

static void check_magnitude(uint64_t *hash) {
    enum { M = 5, C = 37 };
    static const float scales[M] = {1.0f, 1e-30f, 1e30f, 0x1p-125f, 3.4e38f};
    float x[M * 2 * C], y[M * C], dy[M * C], dx[M * 2 * C];
    uint64_t seed = 1;
    for (int i = 0; i < M * 2 * C; i++) x[i] = uniform(&seed, scales[i / (2 * C)] / 2);
    for (int i = 0; i < M * C; i++) dy[i] = uniform(&seed, 1.0f);
    x[0] = x[C] = 0.0f, x[1] = INFINITY;
    fr_activation a = {FR_ACTIVATION_magnitude, 0, 0, M, C, x, y, dy, dx};
    fr_activate(&a, 1);
    fr_activate_back(&a, 1);
    for (int i = 0; i < M * C; i++) {
        const int at = i / C * 2 * C + i % C;
        const double re = flushed(x[at]), im = flushed(x[at + C]), r = hypot(re, im);
        const double bound = strcmp(fr_isa(), "base") == 0 ? 3.0 : 2.0;
        CHECK(ulps(r, y[i]) <= bound, "|%a %a| = %a", re, im, y[i]);
        if (isinf(r)) continue;
        const double dre = r == 0 ? 0 : dy[i] * re / r, dim = r == 0 ? 0 : dy[i] * im / r;
        CHECK(fabs(dx[at] - dre) <= 4e-7 && fabs(dx[at + C] - dim) <= 4e-7, "gradient of |%a %a|",
              re, im);
    }
    *hash = add_to_hash(add_to_hash(*hash, y, M * C), dx + 2, M * 2 * C - 2);
}

/* ---- rows -------------------------------------------------------------------------------- */

static void reference_softmax(const float *x, int n, int is_log, double *y) {
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) max = fmax(max, x[i]);
    for (int i = 0; i < n; i++) sum += exp(x[i] - max);
    for (int i = 0; i < n; i++) y[i] = is_log ? x[i] - max - log(sum) : exp(x[i] - max) / sum;
}

static void check_row(int32_t function, int64_t n, uint64_t *hash) {
    enum { M = 3 };
    const int is_log = function == FR_ACTIVATION_log_softmax;
    const size_t count = (size_t)(M * n);
    float *x = random_floats(count, 1, 8.0f), *dy = random_floats(count, 2, 1.0f);
    float *y = aligned(count * sizeof *y), *dx = aligned(count * sizeof *dx);
    double *wanted = calloc((size_t)n, sizeof *wanted);
    if (n > 1) x[0] = -INFINITY, dy[0] = 0.0f;
    fr_activation a = {function, 0, 0, M, n, x, y, dy, dx};
    fr_activate(&a, 2);
    fr_activate_back(&a, 2);
    for (int row = 0; row < M; row++) {
        const float *at = x + row * n;
        double sum = 0;
        reference_softmax(at, (int)n, is_log, wanted);
        for (int i = 0; i < n; i++) sum += dy[row * n + i] * (is_log ? 1.0 : wanted[i]);
        for (int i = 0; i < n; i++) {
            const double slope = is_log ? dy[row * n + i] - exp(wanted[i]) * sum
                                        : wanted[i] * (dy[row * n + i] - sum);
            const double size = is_log ? fmax(1.0, fabs(wanted[i])) : wanted[i] * 16;
            if (!isinf(wanted[i]))
                CHECK(fabs(y[row * n + i] - wanted[i]) <= 0x1p-22 * size, "row %d of %d: %g", i,
                      (int)n, y[row * n + i] - wanted[i]);
            else CHECK(y[row * n + i] == wanted[i], "minus infinity");
            CHECK(fabs(dx[row * n + i] - slope) <= 4e-6, "gradient %d of %d", i, (int)n);
        }
    }
    *hash = add_to_hash(add_to_hash(*hash, y, count), dx, count);
    a.y = x;
    fr_activate(&a, 1);
    CHECK(memcmp(x, y, count * sizeof *x) == 0, "in place");
    free(x), free(dy), free(y), free(dx), free(wanted);
}

static void check_infinite_rows(void) {
    float x[6] = {INFINITY, 0, 1, -INFINITY, -INFINITY, -INFINITY}, y[6];
    fr_activation a = {FR_ACTIVATION_softmax, 0, 0, 2, 3, x, y, NULL, NULL};
    fr_activate(&a, 1);
    for (int i = 0; i < 6; i++) CHECK(isnan(y[i]), "row whose largest input is infinite");
}

/* ---- channels and two values ------------------------------------------------------------- */

static void check_channels(int32_t rule, int64_t M, int64_t C, uint64_t *hash) {
    const size_t count = (size_t)(M * C), c = (size_t)C;
    float *x = random_floats(count, 1, 1.0f), *dy = random_floats(count, 2, 1.0f);
    float *w = random_floats(c, 3, 1.0f), *b = random_floats(c, 4, 1.0f);
    float *y = aligned(count * sizeof *y), *dx = aligned(count * sizeof *dx);
    float *dw = random_floats(c, 5, 1.0f), *db = random_floats(c, 6, 1.0f);
    float *dw0 = random_floats(c, 5, 1.0f), *db0 = random_floats(c, 6, 1.0f);
    const fr_channels call = {rule, M, C, x, w, b, y, dy, dx, dw, db};
    fr_apply_channels(&call, 2);
    fr_apply_channels_back(&call, 2);
    for (int64_t k = 0; k < C; k++) {
        double sum_w = dw0[k], sum_b = db0[k];
        for (int64_t i = k; i < M * C; i += C) {
            const int flat = rule == FR_PRELU && x[i] > 0;
            const double slope = flat ? 1.0 : w[k], shift = rule == FR_PRELU ? 0.0 : b[k];
            CHECK(fabs(y[i] - (slope * x[i] + shift)) <= 3e-7, "channel %d", (int)k);
            CHECK(fabs(dx[i] - slope * dy[i]) <= 3e-7, "dx of channel %d", (int)k);
            sum_w += flat ? 0.0 : (double)x[i] * dy[i], sum_b += dy[i];
        }
        CHECK(fabs(dw[k] - sum_w) <= 1e-6 * (double)(M + 2), "dweight %d", (int)k);
        CHECK(fabs(db[k] - sum_b) <= 1e-6 * (double)(M + 2), "dbias %d", (int)k);
    }
    *hash = hash_bits(hash_bits(*hash, y, count), dx, count);
    *hash = hash_bits(hash_bits(*hash, dw, c), db, c);
    free(x), free(dy), free(w), free(b), free(y), free(dx), free(dw), free(db), free(dw0),
        free(db0);
}

static void check_two(int64_t n) {
    float *a = random_floats((size_t)n, 1, 1.0f), *b = random_floats((size_t)n, 2, 1.0f);
    float *sum = aligned((size_t)n * sizeof *sum), *product = aligned((size_t)n * sizeof *product);
    fr_add(n, a, b, sum, 3);
    fr_multiply(n, a, b, product, 3);
    for (int64_t i = 0; i < n; i++)
        CHECK(sum[i] == a[i] + b[i] && product[i] == a[i] * b[i], "element %d", (int)i);
    fr_add(n, a, b, a, 1);
    CHECK(memcmp(a, sum, (size_t)n * sizeof *a) == 0, "in place");
    free(a), free(b), free(sum), free(product);
}

/* ---- all of it --------------------------------------------------------------------------- */

static void check_all(const float *x, size_t n) {
    uint64_t hash = HASH_START;
    for (int32_t i = 0; i < FR_ACTIVATIONS; i++) {
        CHECK(fr_activation_named(fr_activations[i].name) == i, "%s", fr_activations[i].name);
        if (!exact[i]) continue;
        const double worst = check_each(usual(i), x, n, &hash);
        check_each_back(usual(i), &hash);
        if (step != 40009) printf("%-13s %.2f ulp\n", fr_activations[i].name, worst);
    }
    CHECK(fr_activation_named("") == -1, "no name");
    check_corners();
    check_magnitude(&hash);
    check_infinite_rows();
    for (int64_t size = 1; size < 20000; size = size * 3 + 1) {
        check_row(FR_ACTIVATION_softmax, size, &hash);
        check_row(FR_ACTIVATION_log_softmax, size, &hash);
        check_two(size);
        for (int32_t rule = FR_SCALE_SHIFT; rule <= FR_PRELU; rule++)
            check_channels(rule, 5, size, &hash);
    }
    check_channels(FR_SCALE_SHIFT, 0, 3, &hash);
    if (step == 40009 && strcmp(fr_isa(), "base") != 0)
        CHECK(hash == GOLDEN_ACTIVATIONS, "hash 0x%016llx", (unsigned long long)hash);
}

int main(int argc, char **argv) {
    int first = 1;
    float *x;
    if (argc > 2 && strcmp(argv[1], "--step") == 0) step = (uint32_t)atoi(argv[2]), first = 3;
    const size_t n = make_inputs(&x);
    for (int i = first; i < argc; i++) {
        CHECK(fr_isa_select(argv[i]), "this CPU has no %s kernels", argv[i]);
        check_all(x, n);
        report("test_activations");
    }
    free(x);
    return failures != 0;
}
