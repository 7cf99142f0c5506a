#include "team.h"

#include "include/fastrnn.h"

#include <sched.h>
#include <stddef.h>
#include <time.h>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(_OPENMP) || defined(FR_PTHREADS)
#include <pthread.h>
#endif

/* ---- teams ------------------------------------------------------------------------------------ */

/* A forked child has none of its parent's threads. libgomp hangs when asked for them again, whoever
 * used it in the parent, so a child never asks. Plain threads are made anew for every call. */
#if defined(_OPENMP)
static int forked;

static void in_child(void) { __atomic_store_n(&forked, 1, __ATOMIC_RELAXED); }

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, in_child); }

int fr_threads_available(void) { return !__atomic_load_n(&forked, __ATOMIC_RELAXED); }
#elif defined(FR_PTHREADS)
int fr_threads_available(void) { return 1; }
#else
int fr_threads_available(void) { return 0; }
#endif

#if defined(_OPENMP)

void fr_team_run(int threads, fr_team_function *function, void *context) {
#pragma omp parallel num_threads(threads)
    {
        const uint64_t mode = fr_float_mode_enter();
        function(context, omp_get_thread_num(), omp_get_num_threads());
        fr_float_mode_restore(mode);
    }
}

#elif defined(FR_PTHREADS)

/* Plain threads, for builds without OpenMP and for ThreadSanitizer, which does not know libgomp. */
struct part {
    fr_team_function *function;
    void *context;
    int thread;
    int *granted; /* 0 until it is known how many threads there are */
};

static void *part_main(void *argument) {
    const struct part *part = argument;
    int granted;
    while ((granted = __atomic_load_n(part->granted, __ATOMIC_ACQUIRE)) == 0) sched_yield();
    const uint64_t mode = fr_float_mode_enter();
    part->function(part->context, part->thread, granted);
    fr_float_mode_restore(mode);
    return NULL;
}

void fr_team_run(int threads, fr_team_function *function, void *context) {
    pthread_t handle[FR_MAX_THREADS];
    struct part part[FR_MAX_THREADS];
    int started = 1, granted = 0;
    for (; started < threads; started++) {
        part[started] = (struct part){function, context, started, &granted};
        if (pthread_create(&handle[started], NULL, part_main, &part[started])) break;
    }
    __atomic_store_n(&granted, started, __ATOMIC_RELEASE);
    part[0] = (struct part){function, context, 0, &granted};
    part_main(&part[0]);
    for (int i = 1; i < started; i++) pthread_join(handle[i], NULL);
}

#else

void fr_team_run(int threads, fr_team_function *function, void *context) {
    (void)threads;
    const uint64_t mode = fr_float_mode_enter();
    function(context, 0, 1);
    fr_float_mode_restore(mode);
}

#endif

void fr_team_run_if(int pays, int threads, fr_team_function *function, void *context) {
    if (pays && threads > 1 && fr_threads_available()) {
        fr_team_run(threads < FR_MAX_THREADS ? threads : FR_MAX_THREADS, function, context);
        return;
    }
    const uint64_t mode = fr_float_mode_enter();
    function(context, 0, 1);
    fr_float_mode_restore(mode);
}

/* ---- meeting ---------------------------------------------------------------------------------- */

static const uint64_t PHASE = (uint64_t)1 << 32, TAKEN = (uint64_t)1 << 31;

/* Polls before a waiting thread yields, and yields before it takes over: 1 to 3 ms together, less
 * than a time slice. Much less would mistake a partner that is only slower (a chunk's x product may
 * take a millisecond) for one that is off the CPU: with 4000 polls, LSTM 512 with 8 rows ran at half
 * the speed. Tests wait for less, so that they meet the rare paths; at least 64 polls. */
#ifndef FR_POLLS
#define FR_POLLS 60000
#define FR_YIELDS 4
#endif
enum { POLLS = FR_POLLS, YIELDS = FR_YIELDS };

void fr_meeting_start(struct fr_meeting_point *point) {
    __atomic_store_n(&point->word, 0, __ATOMIC_RELEASE);
}

static inline void pause_briefly(int polls) {
    if (polls < 64) return; /* a pause may cost more than 100 cycles: not while the partner is close */
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

enum fr_meeting fr_meet(struct fr_meeting_point *point, int threads, int may_take_over) {
    uint64_t word = __atomic_load_n(&point->word, __ATOMIC_RELAXED), next;
    do {
        if (word & TAKEN) return FR_LEAVE;
        next = (uint32_t)word + 1 == (uint32_t)threads ? (word & ~(PHASE - 1)) + PHASE : word + 1;
    } while (!__atomic_compare_exchange_n(&point->word, &word, next, 1, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    if (next >> 32 != word >> 32) return FR_MET;
    const uint64_t phase = next >> 32;
    for (int polls = 0, yields = 0;; polls++) {
        word = __atomic_load_n(&point->word, __ATOMIC_ACQUIRE);
        if (word >> 32 != phase) return FR_MET;
        if (word & TAKEN) return FR_LEAVE;
        pause_briefly(polls);
        if (polls < POLLS) continue;
        if (may_take_over && yields >= YIELDS) {
            if (__atomic_compare_exchange_n(&point->word, &word, word | TAKEN, 0, __ATOMIC_ACQ_REL,
                                            __ATOMIC_RELAXED)) {
                return FR_TAKE_OVER;
            }
            continue;
        }
        if (++yields <= 2 * YIELDS) sched_yield();
        else nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        polls = POLLS - 64;
    }
}

/* ---- floating-point mode ---------------------------------------------------------------------- */

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
    const uint64_t traps = (uint64_t)0x9f00, rounding = (uint64_t)3 << 22, flush_to_zero = (uint64_t)1 << 24;
    const uint64_t flush = (mode | flush_to_zero) & ~(traps | rounding);
    __asm__ volatile("msr fpcr, %0" ::"r"(flush));
    return mode;
}

void fr_float_mode_restore(uint64_t mode) { __asm__ volatile("msr fpcr, %0" ::"r"(mode)); }

#else

uint64_t fr_float_mode_enter(void) { return 0; }
void fr_float_mode_restore(uint64_t mode) { (void)mode; }

#endif
