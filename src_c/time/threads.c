/* Threads that may become members of a team: forks, sleeping, and the pool or OpenMP's. */
#define _GNU_SOURCE
#include "threads.h"
#include "../include/fastrnn.h"

#include <string.h>
#include <time.h>

uint64_t fr_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#if defined(__linux__)
#include <sched.h>
int fr_processor(void) { return sched_getcpu(); }
#else
int fr_processor(void) { return -1; }
#endif

struct fr_worker fr_workers[FR_MAX_THREADS];

#if defined(FR_POOL) || FR_THREADS_PER_CALL

#include <pthread.h>

/* ---- forks ------------------------------------------------------------------------------- */

/* A forked child has none of its parent's threads, and whatever they had claimed is free. */
static void in_child(void);

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, in_child); }

static void forget_threads(void) {
    memset(fr_workers, 0, sizeof fr_workers);
    fr_team_forget();
}

/* ---- sleeping ---------------------------------------------------------------------------- */

#if defined(__linux__)

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

void fr_sleep_on(uint32_t *word, uint32_t value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

void fr_wake(uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, FR_MAX_THREADS, NULL, NULL, 0);
}

static void forget_sleepers(void) {}

#else

/* One condition for all: a thread that wakes up reads its own word. */
static pthread_mutex_t bed = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t bell = PTHREAD_COND_INITIALIZER;

void fr_sleep_on(uint32_t *word, uint32_t value) {
    pthread_mutex_lock(&bed);
    if (__atomic_load_n(word, __ATOMIC_SEQ_CST) == value) pthread_cond_wait(&bell, &bed);
    pthread_mutex_unlock(&bed);
}

void fr_wake(uint32_t *word) {
    (void)word;
    pthread_mutex_lock(&bed);
    pthread_cond_broadcast(&bell);
    pthread_mutex_unlock(&bed);
}

static void forget_sleepers(void) {
    bed = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    bell = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
}

#endif

int fr_threads_wake(struct fr_worker *worker) {
    if (!__atomic_load_n(&worker->asleep, __ATOMIC_SEQ_CST)) return 0;
    if (!__atomic_exchange_n(&worker->asleep, 0, __ATOMIC_SEQ_CST)) return 0;
    fr_wake(&worker->asleep);
    return 1;
}

#endif

/* ---- a pool of our own ------------------------------------------------------------------- */

#if defined(FR_POOL)

#include <signal.h>

/* Time for which an idle worker polls for the next call before it parks: longer than a call takes
 * that wakes it but may not wait for it (gather.c), and than the time between the calls of a
 * training step; no longer, because polling takes the core from others. */
#ifndef FR_LOOKOUT_NS
#define FR_LOOKOUT_NS 1000000
#endif

static void look_out(const struct fr_worker *worker) {
    uint64_t start = 0;
    for (unsigned polls = 1; !fr_team_wants(worker); polls++) {
        fr_pause();
        if (polls % 64) continue;
        const uint64_t now = fr_now();
        if (!start) start = now;
        else if (now - start > FR_LOOKOUT_NS) return;
    }
}

static void park(struct fr_worker *worker) {
    __atomic_store_n(&worker->asleep, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&worker->asleep, __ATOMIC_SEQ_CST) && !fr_team_wants(worker)) {
        fr_sleep_on(&worker->asleep, 1);
    }
    __atomic_store_n(&worker->asleep, 0, __ATOMIC_SEQ_CST);
}

static void *worker_main(void *argument) {
    struct fr_worker *worker = argument;
    for (int kept_up = 1;;) { /* a late worker had no core: polling would take one from others */
        if (kept_up) look_out(worker);
        if (!fr_team_wants(worker)) park(worker);
        kept_up = fr_team_wants(worker) ? fr_team_serve(worker) : 1;
    }
    return NULL;
}

static int start_thread(struct fr_worker *worker) {
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    if (pthread_attr_init(&attributes)) return 0;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 1 << 20);
    sigfillset(&all); /* signals are the program's own threads', but for faults of this thread */
    sigdelset(&all, SIGSEGV), sigdelset(&all, SIGBUS), sigdelset(&all, SIGFPE),
        sigdelset(&all, SIGILL);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&thread, &attributes, worker_main, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return !failed;
}

static int growing; /* somebody is starting threads; nobody waits for it */
static int alive;   /* workers that have a thread: the first ones */

int fr_threads_ensure(int count) {
    if (count > FR_MAX_THREADS - 1) count = FR_MAX_THREADS - 1;
    int have = __atomic_load_n(&alive, __ATOMIC_ACQUIRE);
    if (have >= count || __atomic_exchange_n(&growing, 1, __ATOMIC_ACQUIRE)) return have;
    have = __atomic_load_n(&alive, __ATOMIC_ACQUIRE);
    for (; have < count && start_thread(&fr_workers[have]); have++) {
        __atomic_store_n(&alive, have + 1, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&growing, 0, __ATOMIC_RELEASE);
    return have;
}

static void in_child(void) {
    alive = growing = 0;
    forget_sleepers();
    forget_threads();
}

int fr_threads_available(void) { return 1; }

#elif FR_THREADS_PER_CALL

#include <omp.h>

/* libgomp hangs in a child when asked for the parent's threads again, whoever used them there. */
static int forked;

static void in_child(void) {
    __atomic_store_n(&forked, 1, __ATOMIC_RELAXED);
    forget_sleepers();
    forget_threads();
}

int fr_threads_available(void) { return !__atomic_load_n(&forked, __ATOMIC_RELAXED); }

int fr_threads_ensure(int count) { return count < FR_MAX_THREADS ? count : FR_MAX_THREADS - 1; }

int fr_threads_run(int threads, void (*function)(void *context, int thread), void *context) {
    int granted = 1;
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num();
        if (thread == 0) granted = omp_get_num_threads();
        function(context, thread);
    }
    return granted;
}

#else

int fr_threads_available(void) { return 0; }
int fr_threads_ensure(int count) { return (void)count, 0; }
int fr_threads_wake(struct fr_worker *worker) { return (void)worker, 0; }
void fr_sleep_on(uint32_t *word, uint32_t value) { (void)word, (void)value; }
void fr_wake(uint32_t *word) { (void)word; }

#endif
