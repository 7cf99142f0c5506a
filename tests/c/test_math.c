/* vf_exp, vf_sigmoid and vf_tanh against float64, over all exponents.
 *
 *   gcc -std=gnu11 -O2 -ffp-contract=off -DFR_ISA_AVX2 -DFR_LANES=8 -mavx2 -mfma \
 *       tests/c/test_math.c -o test_math -lm
 *   test_math [--all] [exp|sigmoid|tanh]...
 *
 * By default every 4099th float is an input (a prime, so that all mantissa bits vary), and all near
 * the limits; --all takes all 2^32. Prints for each function the largest error in ulp and an FNV-1a
 * hash of the results. The hashes of the default sweep must be the golden ones on every ISA that
 * has a fused multiply-add.
 *
 * In the hash all NaN are one NaN, and denormal results are zeros: whether they are flushed is up
 * to the mode of the CPU. Nothing else may be, so the default sweep runs in both modes.
 */
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "../../src_c/simd/math.h"

#define STEP 4099
#define SMALLEST_NORMAL 0x1p-126
#define SHOWN_FAILURES 5
#if defined(FR_ISA_BASE)
#define MORE_ULP 0.25 /* vf_fma rounds twice: sigmoid reaches 2.1 */
#else
#define MORE_ULP 0.0
#endif

typedef struct {
    const char *name;
    void (*run)(const float *x, float *y); /* FR_LANES each */
    double (*exact)(double x);
    void (*check)(float x, float y); /* what else must hold; reports by itself */
    double bound;                    /* ulp */
    uint64_t golden;                 /* hash of the default sweep */
} Function;

typedef struct {
    double error; /* ulp */
    float at;
    uint64_t hash;
} Sweep;

static int failures;

static void fail(const char *what, float x, float y) {
    if (failures++ < SHOWN_FAILURES) printf("FAILED %s: x = %a (%g), result %a\n", what, x, x, y);
}

static void fail_hash(const char *what, uint64_t expected, uint64_t got) {
    failures++;
    printf("FAILED %s: expected %016" PRIx64 ", got %016" PRIx64 "\n", what, expected, got);
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

static void run_exp(const float *x, float *y) { vf_store(y, vf_exp(vf_load(x))); }
static void run_sigmoid(const float *x, float *y) { vf_store(y, vf_sigmoid(vf_load(x))); }
static void run_tanh(const float *x, float *y) { vf_store(y, vf_tanh(vf_load(x))); }

/* The denominator is at least 1 and the exponential at most 1: no cancellation, no overflow. */
static double exact_sigmoid(double x) {
    const double e = exp(-fabs(x));
    return (x < 0 ? e : 1.0) / (1.0 + e);
}

static float one(void (*run)(const float *, float *), float x) {
    float in[FR_LANES], out[FR_LANES];
    for (int n = 0; n < FR_LANES; n++) in[n] = x;
    run(in, out);
    return out[0];
}

static void check_exp(float x, float y) {
    if (signbit(y) && !isnan(y)) fail("exp >= 0", x, y);
    if (x == 0 && y != 1) fail("exp(0) = 1", x, y);
    if (exp(x) < SMALLEST_NORMAL && y != 0) fail("exp is 0 below the smallest normal", x, y);
}

static void check_sigmoid(float x, float y) {
    if (!isnan(x) && !(y >= 0 && y <= 1)) fail("0 <= sigmoid <= 1", x, y);
    const double sum = (double)y + one(run_sigmoid, -x);
    if (fabs(sum - 1.0) > 0x1p-23) fail("sigmoid(x) + sigmoid(-x) = 1", x, y);
}

static void check_tanh(float x, float y) {
    if (isnan(x)) return;
    if (!(fabsf(y) <= 1)) fail("|tanh| <= 1", x, y);
    if (bits_of(one(run_tanh, -x)) != (bits_of(y) ^ 0x80000000u)) fail("tanh is odd", x, y);
    if (x == 0 && bits_of(x) != bits_of(y)) fail("tanh(+-0) = +-0", x, y);
    if (fabsf(x) > 9.02f && y != copysignf(1, x)) fail("tanh saturates to +-1", x, y);
}

static const Function functions[] = {
    {"exp", run_exp, exp, check_exp, 2.0, 0xae2de8e4b79b0abd},
    {"sigmoid", run_sigmoid, exact_sigmoid, check_sigmoid, 2.0, 0xbbb3ea5e3ca02498},
    {"tanh", run_tanh, tanh, check_tanh, 3.0, 0x394fba23377ea11f},
};
enum { FUNCTIONS = sizeof functions / sizeof functions[0] };

/* Error of y in ulp of the exact result; results that are not normal floats have rules instead. */
static double ulp_error(const Function *f, float x, float y) {
    const double exact = f->exact(x);
    if (isnan(exact) || isnan(y)) {
        if (isnan(exact) != isnan(y)) fail("NaN in, NaN out", x, y);
        return 0;
    }
    if (exact >= 0x1.ffffffp+127) { /* halfway between the largest float and 2^128 */
        if (y != INFINITY) fail("overflow gives inf", x, y);
        return 0;
    }
    if (fabs(exact) < SMALLEST_NORMAL) {
        if (!(fabs(y - exact) <= SMALLEST_NORMAL)) fail("underflow", x, y);
        return 0;
    }
    int exponent;
    frexp(exact, &exponent);
    return fabs(y - exact) / ldexp(1.0, exponent - 24);
}

static uint64_t add_to_hash(uint64_t hash, float y) {
    uint32_t bits = bits_of(y);
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) bits = 0x7fc00000u;
    if (magnitude < 0x00800000u) bits &= 0x80000000u;
    for (int n = 0; n < 4; n++) hash = (hash ^ (bits >> (8 * n) & 0xff)) * 0x100000001b3u;
    return hash;
}

/* Every step-th float from first to last, given by their bits. */
static void sweep(const Function *f, uint64_t first, uint64_t last, uint64_t step, bool check,
                  Sweep *s) {
    for (uint64_t bits = first; bits <= last; bits += step * FR_LANES) {
        float x[FR_LANES], y[FR_LANES];
        for (int n = 0; n < FR_LANES; n++) x[n] = float_of((uint32_t)(bits + step * n));
        f->run(x, y);
        for (int n = 0; n < FR_LANES && bits + step * n <= last; n++) {
            s->hash = add_to_hash(s->hash, y[n]);
            if (!check) continue;
            f->check(x[n], y[n]);
            const double error = ulp_error(f, x[n], y[n]);
            if (error > s->error) {
                s->error = error;
                s->at = x[n];
            }
        }
    }
}

static Sweep sweep_all(const Function *f, uint64_t step, bool check) {
    Sweep s = {.hash = 0xcbf29ce484222325u};
    sweep(f, 0, UINT32_MAX, step, check, &s);
    if (step == 1) return s;
    /* Zeros, exp's and sigmoid's limits, tanh's saturation, the infinities: 256 floats around. */
    const float near[] = {0x1p-126f, 0x1.62e43p+6f, 0x1.5d589ep+6f, 80.0f, 88.375f,    88.75f,
                          9.01f,     10.0f,         17.3f,          1.0f,  0x1.fp+127f};
    for (size_t k = 0; k < sizeof near / sizeof near[0]; k++) {
        const uint64_t bits = bits_of(near[k]);
        sweep(f, bits - 128, bits + 128, 1, check, &s);
        sweep(f, 0x80000000u + bits - 128, 0x80000000u + bits + 128, 1, check, &s);
    }
    sweep(f, 0, 128, 1, check, &s);
    sweep(f, 0x7f800000u - 128, 0x80000000u + 128, 1, check, &s);
    sweep(f, 0xff800000u - 128, 0xff800000u + 128, 1, check, &s);
    return s;
}

/* Flush denormal operands and results to zero, as the library does in its calls. */
static void flush_denormals(bool on) {
#if defined(__x86_64__)
    _mm_setcsr(on ? _mm_getcsr() | 0x8040u : _mm_getcsr() & ~0x8040u);
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    fpcr = on ? fpcr | (1u << 24) : fpcr & ~(UINT64_C(1) << 24);
    __asm__ volatile("msr fpcr, %0" ::"r"(fpcr));
#endif
}

static bool chosen(const char *name, int count, char **names) {
    for (int n = 0; n < count; n++)
        if (!strcmp(name, names[n])) return true;
    return count == 0;
}

int main(int argc, char **argv) {
    const bool all = argc > 1 && !strcmp(argv[1], "--all");
    for (int k = 0; k < FUNCTIONS; k++) {
        const Function *const f = &functions[k];
        if (!chosen(f->name, argc - 1 - all, argv + 1 + all)) continue;
        const Sweep s = sweep_all(f, all ? 1 : STEP, true);
        printf("%-8s max error %.4f ulp at %a, hash %016" PRIx64 "\n", f->name, s.error, s.at,
               s.hash);
        if (s.error > f->bound + MORE_ULP) fail("error bound", s.at, one(f->run, s.at));
        if (all) continue;
#if !defined(FR_ISA_BASE) /* without a fused multiply-add the bits are its own */
        if (s.hash != f->golden) fail_hash("golden hash", f->golden, s.hash);
#endif
        flush_denormals(true);
        const Sweep flushed = sweep_all(f, STEP, false);
        flush_denormals(false);
        if (flushed.hash != s.hash) fail_hash("hash with flushing", s.hash, flushed.hash);
    }
    printf("%s\n", failures ? "FAILED" : "ok");
    return failures != 0;
}
