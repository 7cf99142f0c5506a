#include "team.h"

#if defined(__x86_64__)

uint64_t fr_float_mode_enter(void) {
    const unsigned mode = __builtin_ia32_stmxcsr();
    /* flush to zero, denormals are zero, all exceptions masked; round to nearest */
    __builtin_ia32_ldmxcsr((mode | 0x9fc0) & ~0x6000u);
    return mode;
}

/* Restores the caller's control bits and exception flags. */
void fr_float_mode_restore(uint64_t mode) { __builtin_ia32_ldmxcsr((unsigned)mode); }

#elif defined(__aarch64__)

uint64_t fr_float_mode_enter(void) {
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    const uint64_t traps = (uint64_t)0x9f00, rounding = (uint64_t)3 << 22,
                   flush_to_zero = (uint64_t)1 << 24;
    const uint64_t flush = (mode | flush_to_zero) & ~(traps | rounding);
    __asm__ volatile("msr fpcr, %0" ::"r"(flush));
    return mode;
}

void fr_float_mode_restore(uint64_t mode) { __asm__ volatile("msr fpcr, %0" ::"r"(mode)); }

#else

uint64_t fr_float_mode_enter(void) { return 0; }
void fr_float_mode_restore(uint64_t mode) { (void)mode; }

#endif
