/* One choice of kernels, made once: the widest that the CPU has, unless fr_isa_select says else. */
#include "include/fastrnn.h"
#include "kernels.h"
#include "time/team.h"

#include <string.h>

#if !defined(__GNUC__) || (defined(__clang__) && __clang_major__ < 9) || \
    (!defined(__clang__) && __GNUC__ < 9)
#error "fastrnn needs GCC 9 or Clang 9, or newer"
#endif

struct candidate {
    const struct fr_kernels *kernels;
    int supported;
};

enum { CANDIDATES = 3 };

/* Widest first. */
static void list(struct candidate out[CANDIDATES]) {
    memset(out, 0, CANDIDATES * sizeof *out);
#if defined(__x86_64__)
    __builtin_cpu_init();
    out[0] = (struct candidate){&fr_kernels_avx512, __builtin_cpu_supports("avx512f")};
    out[1] = (struct candidate){&fr_kernels_avx2,
                                __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")};
    out[2] = (struct candidate){&fr_kernels_base, 1};
#elif defined(__aarch64__)
    out[0] = (struct candidate){&fr_kernels_neon, 1};
#else
    out[0] = (struct candidate){&fr_kernels_base, 1};
#endif
}

static const struct fr_kernels *active;

const struct fr_kernels *fr_active_kernels(void) {
    const struct fr_kernels *kernels = __atomic_load_n(&active, __ATOMIC_RELAXED);
    if (kernels) return kernels;
    struct candidate candidates[CANDIDATES];
    list(candidates);
    int i = 0;
    while (!candidates[i].supported) i++;
    __atomic_store_n(&active, candidates[i].kernels, __ATOMIC_RELAXED);
    return candidates[i].kernels;
}

const char *fr_isa(void) { return fr_active_kernels()->name; }

int fr_isa_select(const char *name) {
    struct candidate candidates[CANDIDATES];
    list(candidates);
    for (int i = 0; i < CANDIDATES; i++) {
        if (candidates[i].supported && strcmp(candidates[i].kernels->name, name) == 0) {
            __atomic_store_n(&active, candidates[i].kernels, __ATOMIC_RELAXED);
            return 1;
        }
    }
    return 0;
}

/* The results go to volatile memory, so that the compiler cannot drop the work. */
int64_t fr_calibrate_fma(int64_t rounds) {
    float result;
    const int64_t count = fr_active_kernels()->fma(rounds, &result);
    volatile float sink = result;
    (void)sink;
    return count;
}

int64_t fr_calibrate_read(const float *x, size_t n, int64_t sweeps) {
    float result;
    const int64_t count = fr_active_kernels()->read(x, n, sweeps, &result);
    volatile float sink = result;
    (void)sink;
    return count;
}
