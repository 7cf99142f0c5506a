/* What a team does with members that are slow, and what the process remembers of it. Whether a
 * worker gets a core at all is the system's affair: what needs one is tried until it had it. Link
 * with all of the core except team.c and gather.c, which are parts of this file. */
#define _GNU_SOURCE
#define fr_now test_now /* the clock may be set */
/* Patient enough for a machine on which both threads often wait for a core. */
#define FR_JOIN_NS 20000000
#define FR_JOIN_MACS 160
#define FR_LATE_NS 3000000
#define FR_RESIGN_NS resign_ns
#define FR_SLOW_NS 200000
#define FR_SLEEP_NS 3000000
#define FR_PAUSE_NS 1000000
#define FR_MIND_PROCESSOR 0

static unsigned long long resign_ns = 1000000000;

#include "../../src_c/time/gather.c"
#include "../../src_c/time/team.c"

#include "support.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { TRIES = 1000, PHASES = 40 };

static uint64_t set_clock; /* 0: it runs */

uint64_t test_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return set_clock ? set_clock : (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void forget_pauses(void) { next_try = last_pause = 0, missed_a_call = 0; }

/* ---- a member that sleeps in its shares -------------------------------------------------- */

struct phases {
    int done[PHASES][2];
    int by_worker;
    sigset_t blocked; /* in a worker */
};

static void run_phases(void *context, struct fr_member *m) {
    struct phases *p = context;
    for (int phase = 0; phase < PHASES; phase++) {
        for (int32_t i; (i = fr_next_share(m)) >= 0;) {
            __atomic_fetch_add(&p->done[phase][i], 1, __ATOMIC_RELAXED);
            if (!m->worker) continue;
            __atomic_fetch_add(&p->by_worker, 1, __ATOMIC_RELAXED);
            pthread_sigmask(SIG_SETMASK, NULL, &p->blocked);
            usleep(8000);
        }
        if (m->gone) return;
    }
}

static void check_slow_member(void) {
    struct phases p;
    int tries = 0, wrong = 0;
    do {
        struct fr_member caller;
        memset(&p, 0, sizeof p);
        forget_pauses();
        fr_threads_wake(&fr_workers[0]);
        usleep(500); /* it looks out now */
        const int members = fr_team_gather(&caller, 2, 1e12);
        fr_team_run(&caller, run_phases, &p);
        for (int i = 0; i < PHASES * members; i++) wrong += p.done[i / members][i % members] != 1;
    } while (p.by_worker == 0 && ++tries < TRIES);
    CHECK(wrong == 0, "%d shares were not run exactly once", wrong);
    CHECK(tries < TRIES, "no worker ever had a core");
    CHECK(sigismember(&p.blocked, SIGTERM) == 1, "the program's signals reach a worker");
    CHECK(sigismember(&p.blocked, SIGSEGV) == 0, "a fault in a worker ends without a word");
    CHECK(p.by_worker <= 5, "the caller slept for %d of %d slow shares", p.by_worker, PHASES);
    CHECK(fr_team_size(2) == 1 || last_pause, "a slow member is remembered");
}

/* ---- shares of different sizes ----------------------------------------------------------- */

static pthread_t main_thread;

/* One row for two threads, as calls divide rows. */
static void take_rows(void *context, int share, int shares) {
    int *by_worker = context;
    if (!pthread_equal(pthread_self(), main_thread)) *by_worker = 1;
    if ((share + 1) / shares > share / shares) usleep(60000);
}

static void empty_shares(void *context, struct fr_member *m) {
    int *by_worker = context;
    for (int phase = 0; phase < 2; phase++) {
        for (int32_t i; (i = fr_next_share(m)) >= 0;) {
            if (m->worker) *by_worker += 1;
            else usleep(60000);
        }
        if (m->gone) return;
    }
}

/* A member with less to do than the caller is not late, nor is the caller that has more. */
static void check_different_shares(void) {
    int tries[2] = {0, 0}, by_worker;
    main_thread = pthread_self();
    resign_ns = 15000000;
    for (int divided = 0; divided < 2; divided++) {
        do {
            struct fr_member caller;
            forget_pauses();
            fr_threads_wake(&fr_workers[0]);
            usleep(500);
            by_worker = 0;
            if (divided) {
                fr_divide(1, 2, take_rows, &by_worker);
            } else {
                fr_team_gather(&caller, 2, 1e12);
                fr_team_run(&caller, empty_shares, &by_worker);
            }
        } while ((by_worker == 0 || last_pause) && ++tries[divided] < 100);
    }
    resign_ns = 1000000000;
    CHECK(tries[0] < 100, "a member that waited for the caller was late");
    CHECK(tries[1] < 100, "a member with an empty share was late, or the caller had it");
}

/* ---- pauses ------------------------------------------------------------------------------ */

enum { MS = 1000000 };

/* A call from `start` to `end`, in milliseconds, with a late member; returns the last pause. */
static int late_call(int start, int end) {
    set_clock = (uint64_t)end * MS;
    remember_late((uint64_t)start * MS);
    return (int)(last_pause / MS);
}

static void check_pauses(void) {
    forget_pauses();
    CHECK(late_call(1000, 1001) == 1, "the first pause");            /* until 1002 */
    CHECK(late_call(1003, 1005) == 2, "late again");                 /* until 1007 */
    CHECK(late_call(1010, 1500) == 4, "late again, in a long call"); /* until 1504 */
    CHECK(late_call(1504, 1505) == 8 && is_pausing(), "and again");  /* until 1513 */
    CHECK(late_call(1504, 1506) == 8, "a call beside it");
    set_clock = 1512ull * MS;
    CHECK(is_pausing(), "the call beside it has not cut the pause");
    set_clock = 1513ull * MS;
    CHECK(!is_pausing(), "the pause has an end");
    CHECK(late_call(1700, 1701) == 1, "members kept up for a while");
    for (int i = 0, at = 1702; i < 12; i++) late_call(at, at), at = (int)(next_try / MS);
    CHECK(last_pause == LONGEST_PAUSE_NS, "pauses have a longest");
    set_clock = 0;
    forget_pauses();
}

int main(void) {
    check_slow_member();
    check_different_shares();
    check_pauses();
    return report("test_teams");
}
