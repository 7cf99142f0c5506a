/* Gathering of a team for a call, and the memory of late members in the process. */
#include "claims.h"

#include <stddef.h>
#include <string.h>

enum {
    LONGEST_PAUSE_NS = 1000000000,
    RELAPSE_NS = 100000000, /* late in a call so soon after a pause: the next is twice as long */
};

/* ---- memory of late members -------------------------------------------------------------- */

/* Time of the next try of a team, and the last pause. Several callers may write; any of their
 * values will do. */
static uint64_t next_try, last_pause;
static int missed_a_call; /* parked members did, and none came since */

static int is_pausing(void) {
    const uint64_t until = __atomic_load_n(&next_try, __ATOMIC_RELAXED);
    return until && fr_now() < until;
}

/* `start`: when the call with the late member began. One that began before the last pause ended
 * tells nothing new: a call beside it has told. */
static void remember_late(uint64_t start) {
    const uint64_t tried = __atomic_load_n(&next_try, __ATOMIC_RELAXED);
    uint64_t pause = __atomic_load_n(&last_pause, __ATOMIC_RELAXED);
    if (start < tried) return;
    pause = pause && start - tried < RELAPSE_NS ? 2 * pause : FR_PAUSE_NS;
    if (pause > LONGEST_PAUSE_NS) pause = LONGEST_PAUSE_NS;
    __atomic_store_n(&last_pause, pause, __ATOMIC_RELAXED);
    __atomic_store_n(&next_try, fr_now() + pause, __ATOMIC_RELAXED);
}

int32_t fr_team_size(int32_t threads) {
    return threads > 1 && fr_threads_available() && !is_pausing() ? threads : 1;
}

/* ---- gathering --------------------------------------------------------------------------- */

static struct fr_team *take_team(void) {
    for (int i = 0; i < FR_TEAMS; i++) {
        struct fr_team *team = &fr_teams[i];
        if (__atomic_load_n(&team->taken, __ATOMIC_RELAXED)) continue;
        if (__atomic_exchange_n(&team->taken, 1, __ATOMIC_ACQUIRE)) continue;
        __atomic_store_n(&team->started, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&team->closed, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&team->done, 0, __ATOMIC_RELEASE);
        __atomic_store_n(&team->processor, fr_processor(), __ATOMIC_RELAXED);
        team->late = 0, team->waited = 0;
        team->start = fr_now();
        return team;
    }
    return NULL;
}

/* Reserves idle workers for members 1, 2, ... of `threads`; returns how many members there can
 * be. A call that may not wait for a parked thread only wakes it: for the next call. */
static int reserve(struct fr_team *team, int threads, int may_wait) {
    const int alive = fr_threads_ensure(threads - 1);
    int members = 1;
    for (int i = 0; i < alive && members < threads; i++) {
        struct fr_worker *worker = &fr_workers[i];
        if (claim_now(worker)) continue;
        if (!may_wait && fr_threads_wake(worker)) continue;
        if (!change(worker, 0, claim_of(team, RESERVED))) continue;
        team->absent[members] = 0;
        team->worker[members++] = worker;
    }
    return members;
}

/* Returns whether the worker was parked. */
static int post(struct fr_worker *worker, const struct fr_team *team) {
    __atomic_store_n(&worker->claim, claim_of(team, POSTED), __ATOMIC_SEQ_CST);
    return fr_threads_wake(worker);
}

/* Makes a worker idle that has left the team; returns whether it had. */
static int set_free(struct fr_worker *worker, const struct fr_team *team) {
    const uint64_t claim = claim_now(worker);
    return is_of(claim, team) && state_of(claim) >= LEFT && change(worker, claim, 0);
}

static void leave_team(struct fr_team *team, int members) {
    for (int i = 1; i < members; i++) set_free(team->worker[i], team);
    if (team->late) remember_late(team->start);
    __atomic_store_n(&team->taken, 0, __ATOMIC_RELEASE);
}

/* The caller of a team of `members`, or alone where that is one. */
static struct fr_member lead(struct fr_team *team, int members, int gathered) {
    team->gathered = gathered;
    if (members > 1) return (struct fr_member){.team = team, .threads = members, .share = -1};
    leave_team(team, 1);
    return FR_ALONE;
}

/* A team with workers reserved for it, NULL where none is to be had. */
static struct fr_team *reserve_team(int threads, int may_wait, int *members) {
    if (threads > FR_MAX_THREADS) threads = FR_MAX_THREADS;
    struct fr_team *team = fr_team_size(threads) > 1 ? take_team() : NULL;
    if (!team) return NULL;
    *members = reserve(team, threads, may_wait);
    if (*members > 1) return team;
    leave_team(team, 1);
    return NULL;
}

static void start(struct fr_member *m, fr_team_function *function, void *context) {
    struct fr_team *team = m->team;
    team->function = function, team->context = context, team->threads = m->threads;
    team->start = fr_now();
    __atomic_store_n(&team->started, 1, __ATOMIC_RELEASE);
}

/* The caller's part of a run, until no member is in it any more. */
static void take_part(struct fr_member *m, fr_team_function *function, void *context) {
    const uint64_t mode = fr_float_mode_enter();
    function(context, m);
    if (m->team) {
        while (fr_next_share(m) >= 0) continue; /* the end is a phase, too */
    }
    fr_float_mode_restore(mode);
}

#if !FR_THREADS_PER_CALL

static int count(const struct fr_team *team, int members, uint64_t state) {
    int found = 0;
    for (int i = 1; i < members; i++) found += claim_now(team->worker[i]) == claim_of(team, state);
    return found;
}

/* Waits until no member is still to come; returns whether all came. */
static int await_members(const struct fr_team *team, int members, uint64_t patience) {
    uint64_t since = 0;
    for (unsigned polls = 1; count(team, members, POSTED); polls++) {
        if (polls < BARE_POLLS) continue;
        fr_pause();
        if (polls % BARE_POLLS) continue;
        const uint64_t now = fr_now();
        if (!since) since = now;
        if (now - since > patience) break;
    }
    return count(team, members, ARRIVED) == members - 1;
}

/* Keeps as many of the members that came as fill the team, half of it, or a quarter, ...: memory
 * is laid out for these sizes. Returns how many. */
static int keep_members(struct fr_team *team, int threads, int members) {
    struct fr_worker *came[FR_MAX_THREADS];
    int size = threads, kept = 1, count = 1;
    for (int i = 1; i < members; i++) {
        struct fr_worker *worker = team->worker[i];
        if (change(worker, claim_of(team, POSTED), claim_of(team, AWAY))) continue;
        if (set_free(worker, team)) continue;
        came[count++] = worker;
    }
    while (size > count) size /= 2;
    for (int i = 1; i < count; i++) {
        if (kept < size) team->worker[kept++] = came[i];
        else if (change(came[i], claim_of(team, ARRIVED), claim_of(team, AWAY))) continue;
        else set_free(came[i], team);
    }
    return size;
}

/* A parked thread may need longer than a call waits, even on a quiet machine: it is awake for the
 * next call then, and only one that misses that, too, is late. */
static void judge_arrival(struct fr_team *team, int all_came, int parked) {
    if (all_came) __atomic_store_n(&missed_a_call, 0, __ATOMIC_RELAXED);
    else if (!parked || __atomic_exchange_n(&missed_a_call, 1, __ATOMIC_RELAXED)) team->late = 1;
}

int fr_team_gather(struct fr_member *caller, int threads, double macs) {
    /* Neither a division of doubles nor an unsigned number of one: they may set the caller's flag
     * of inexact results. */
    const int64_t patience = macs < 1e15 ? (int64_t)macs / FR_JOIN_MACS : FR_JOIN_NS;
    const int may_wait = patience >= FR_JOIN_NS;
    int members = 1, parked = 0;
    struct fr_team *team = reserve_team(threads, may_wait, &members);
    *caller = FR_ALONE;
    if (!team) return 1;
    for (int i = 1; i < members; i++) parked |= post(team->worker[i], team);
    const int all_came = await_members(team, members, may_wait ? FR_JOIN_NS : (uint64_t)patience);
    judge_arrival(team, all_came, parked);
    *caller = lead(team, keep_members(team, threads, members), 1);
    return caller->threads;
}

void fr_team_run(struct fr_member *caller, fr_team_function *function, void *context) {
    if (caller->team) start(caller, function, context);
    take_part(caller, function, context);
    if (caller->team) leave_team(caller->team, caller->threads);
}

/* Nobody waits for members: who comes while there are shares takes one. */
static void run_divided(int threads, fr_team_function *function, void *context) {
    int members = 1;
    struct fr_team *team = reserve_team(threads, 1, &members);
    struct fr_member caller = team ? lead(team, members, 0) : FR_ALONE;
    if (team) {
        start(&caller, function, context);
        for (int i = 1; i < members; i++) post(team->worker[i], team);
    }
    take_part(&caller, function, context);
    if (team) leave_team(team, members);
}

#else

/* A worker is a slot that a thread of the region serves, if there is one. */
static void free_slot(struct fr_worker *worker) {
    __atomic_store_n(&worker->claim, 0, __ATOMIC_RELEASE);
}

int fr_team_gather(struct fr_member *caller, int threads, double macs) {
    int members = 1;
    struct fr_team *team = macs > 0 ? reserve_team(threads, 1, &members) : NULL;
    *caller = FR_ALONE;
    if (!team) return 1;
    int size = threads;
    while (size > members) size /= 2;
    for (int i = size; i < members; i++) free_slot(team->worker[i]);
    *caller = lead(team, size, 1);
    return caller->threads;
}

struct region {
    struct fr_member *caller;
    fr_team_function *function;
    void *context;
};

static void run_region(void *context, int thread) {
    const struct region *region = context;
    if (thread == 0) take_part(region->caller, region->function, region->context);
    else fr_team_serve(region->caller->team->worker[thread]);
}

/* A region ends when all of its threads have been in it: members that came late, too. */
void fr_team_run(struct fr_member *caller, fr_team_function *function, void *context) {
    struct fr_team *team = caller->team;
    if (!team) {
        take_part(caller, function, context);
        return;
    }
    struct region region = {caller, function, context};
    start(caller, function, context);
    for (int i = 1; i < caller->threads; i++) post(team->worker[i], team);
    const int granted = fr_threads_run(caller->threads, run_region, &region);
    for (int i = granted; i < caller->threads; i++) free_slot(team->worker[i]);
    leave_team(team, caller->threads);
}

static void run_divided(int threads, fr_team_function *function, void *context) {
    struct fr_member caller;
    fr_team_gather(&caller, threads, 1);
    fr_team_run(&caller, function, context);
}

#endif

struct divided {
    fr_share_function *function;
    void *context;
};

/* Borders of shares are rounded down, so the last is the largest: it is the caller's, who then does
 * not wait for others that have more to do. */
static void divide(void *context, struct fr_member *m) {
    const struct divided *d = context;
    const int32_t n = m->threads;
    for (int32_t i; (i = fr_next_share(m)) >= 0;) d->function(d->context, n - 1 - i, n);
}

void fr_divide(int pays, int threads, fr_share_function *function, void *context) {
    struct divided d = {function, context};
    run_divided(pays ? threads : 1, divide, &d);
}

void fr_team_forget(void) {
    memset(fr_teams, 0, sizeof fr_teams);
    next_try = last_pause = 0;
    missed_a_call = 0;
}
