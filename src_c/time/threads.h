/* Threads for the members of a team (threads.c), and their ways to wait.
 *
 * Three builds: -DFR_POOL keeps threads of its own from call to call, parked while they have
 * nothing to do; -fopenmp borrows OpenMP's for the time of a call; without either there are none.
 */
#ifndef FASTRNN_THREADS_H
#define FASTRNN_THREADS_H

#include <stdint.h>

#if defined(_OPENMP) && !defined(FR_POOL)
#define FR_THREADS_PER_CALL 1
/* Runs function(context, i) for i = 0 to n - 1 in threads of OpenMP, 0 in this one; returns n,
 * `threads` or fewer. */
int fr_threads_run(int threads, void (*function)(void *context, int thread), void *context);
#else
#define FR_THREADS_PER_CALL 0
#endif

/* One thread that may become a member of a team. */
struct fr_worker {
    _Alignas(128) uint64_t claim;  /* its claim, by the protocol of team.c */
    _Alignas(128) uint32_t asleep; /* 1: parked until somebody sets it to 0 */
};

extern struct fr_worker fr_workers[];

/* Gives threads to the first `count` workers; returns how many have one, maybe fewer or more. */
int fr_threads_ensure(int count);
/* Wakes a worker that is parked; returns whether it was. */
int fr_threads_wake(struct fr_worker *worker);
/* Serves as `worker`, which a team wants (team.c). Returns 1 if it kept up with the team. */
int fr_team_serve(struct fr_worker *worker);
/* 1 if a team has posted the worker, and maybe sent it away since (team.c). */
int fr_team_wants(const struct fr_worker *worker);
/* Forgets all teams, in a forked child (team.c). */
void fr_team_forget(void);

/* Sleeps while *word is `value`, or wakes up for no reason; fr_wake wakes whoever sleeps on the
 * word. */
void fr_sleep_on(uint32_t *word, uint32_t value);
void fr_wake(uint32_t *word);
/* Nanoseconds of a clock that never goes back. */
uint64_t fr_now(void);
/* The processor that this thread is on, -1: unknown. */
int fr_processor(void);

static inline void fr_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
