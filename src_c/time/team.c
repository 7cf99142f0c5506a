/* Phases of a run: how members claim their shares, and the caller those of late members. */
#include "claims.h"

struct fr_team fr_teams[FR_TEAMS];

_Static_assert(FR_SLEEP_NS >= FR_LATE_NS, "the caller sleeps when late members are dismissed");

/* ---- phases ------------------------------------------------------------------------------ */

static void add_done(struct fr_team *team) {
    FR_AT(DONE);
    __atomic_fetch_add(&team->done, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&team->sleeping, __ATOMIC_SEQ_CST)) fr_wake(&team->done);
}

/* 1 if the phase is over; others may have done their shares of the next one by now. */
static int is_over(const struct fr_member *m) {
    const uint32_t done = __atomic_load_n(&m->team->done, __ATOMIC_SEQ_CST);
    return (int32_t)(done - (uint32_t)(m->phase + 1) * (uint32_t)m->threads) >= 0;
}

/* ---- a worker ---------------------------------------------------------------------------- */

static void be_idle(struct fr_worker *worker) {
    __atomic_store_n(&worker->claim, 0, __ATOMIC_SEQ_CST);
}

/* A worker on the caller's processor would only keep it from the caller. */
static int is_in_the_way(const struct fr_team *team) {
    const int32_t processor = __atomic_load_n(&team->processor, __ATOMIC_RELAXED);
    return FR_MIND_PROCESSOR && processor >= 0 && processor == fr_processor();
}

/* Waits until the condition holds; 0: the claim was taken away, or waiting does not help. */
#define WAIT_AS_WORKER(m, condition)                                              \
    do {                                                                          \
        uint64_t since = 0;                                                       \
        for (unsigned polls = 1; !(condition); polls++) {                         \
            if (polls < BARE_POLLS) continue;                                     \
            fr_pause();                                                           \
            if (polls % BARE_POLLS) continue;                                     \
            if (state_of(claim_now((m)->worker)) == AWAY) return 0;               \
            if (is_in_the_way((m)->team)) return 0;                               \
            const uint64_t now = fr_now();                                        \
            if (!since) since = now;                                              \
            if (now - since > FR_RESIGN_NS + (since - (m)->joined) / 2) return 0; \
        }                                                                         \
    } while (0)

/* Leaves after `shares` shares, unless it was sent away; then it is idle. */
static void leave(struct fr_member *m, uint64_t claim, uint64_t shares) {
    m->gone = 1;
    const uint64_t left = LEFT + 2 * shares + (uint64_t)is_in_the_way(m->team);
    if (!change(m->worker, claim, claim_of(m->team, left))) be_idle(m->worker);
}

/* Waits for the end of the phase and claims the share of the next one. */
static int go_on(struct fr_member *m) {
    WAIT_AS_WORKER(m, is_over(m));
    if (__atomic_load_n(&m->team->closed, __ATOMIC_RELAXED)) return 0;
    FR_AT(CLAIM);
    if (!change(m->worker, in_phase(m->team, m->phase), in_phase(m->team, m->phase + 1))) return 0;
    FR_AT(CLAIMED);
    m->phase++;
    return 1;
}

static int32_t next_as_worker(struct fr_member *m) {
    if (m->share < 0) return m->share = m->thread;
    add_done(m->team);
    if (!go_on(m)) leave(m, in_phase(m->team, m->phase), m->phase + 1);
    return m->share = -1;
}

/* Arrives, waits for the call to start, and claims the share of its first phase. */
static int join(struct fr_member *m) {
    struct fr_team *team = m->team;
    FR_AT(ARRIVE);
    m->joined = fr_now();
    if (!change(m->worker, claim_of(team, POSTED), claim_of(team, ARRIVED))) return 0;
    WAIT_AS_WORKER(m, __atomic_load_n(&team->started, __ATOMIC_ACQUIRE));
    FR_AT(CLAIM);
    if (!change(m->worker, claim_of(team, ARRIVED), in_phase(team, 0))) return 0;
    FR_AT(CLAIMED);
    m->threads = team->threads;
    for (m->thread = 1; team->worker[m->thread] != m->worker;) m->thread++;
    return 1;
}

int fr_team_wants(const struct fr_worker *worker) {
    const uint64_t claim = claim_now(worker);
    return claim && (state_of(claim) == POSTED || state_of(claim) == AWAY);
}

int fr_team_serve(struct fr_worker *worker) {
    struct fr_team *team = &fr_teams[(claim_now(worker) >> 48) - 1];
    struct fr_member m = {.team = team, .worker = worker, .share = -1};
    if (!join(&m)) {
        leave(&m, claim_of(team, ARRIVED), 0);
        return 0;
    }
    const uint64_t mode = fr_float_mode_enter();
    team->function(team->context, &m);
    fr_float_mode_restore(mode);
    if (m.gone) return 0;
    be_idle(worker); /* first: the caller may begin its next call at once */
    add_done(team);  /* the end is a phase, too */
    return 1;
}

/* ---- the caller -------------------------------------------------------------------------- */

/* 1 if the caller must do the share of member i, which has left, or is sent away here because it
 * has not claimed the share and may not be waited for. */
static int is_missing(const struct fr_member *m, int32_t i, int may_wait) {
    const struct fr_team *team = m->team;
    for (;;) { /* the worker may claim the share, or leave, at the same time */
        const uint64_t claim = claim_now(team->worker[i]), state = state_of(claim);
        if (!is_of(claim, team)) return 0; /* idle, or of another team: it ended */
        if (state >= LEFT) return (state - LEFT) / 2 < m->phase + 1;
        if (state >= FIRST_PHASE + m->phase || may_wait) return 0;
        if (change(team->worker[i], claim, claim_of(team, AWAY))) return 1;
    }
}

/* One that left because others had more to do, or the caller lost its core, is not late. */
static int has_waited(const struct fr_team *team, const struct fr_worker *worker) {
    const uint64_t claim = claim_now(worker);
    return is_of(claim, team) && state_of(claim) >= LEFT && !(claim & 1);
}

/* A member whose share of this phase the caller must do from here on; 0: none. */
static int32_t find_missing(const struct fr_member *m, uint64_t waiting) {
    struct fr_team *team = m->team;
    const int expected = team->gathered || m->phase; /* else whoever comes too late is not missed */
    const int may_wait = expected && !team->closed && waiting < FR_LATE_NS;
    for (int32_t i = 1; i < m->threads; i++) {
        if (team->absent[i] || !is_missing(m, i, may_wait)) continue;
        team->absent[i] = 1;
        team->late |= expected && !has_waited(team, team->worker[i]);
        FR_AT(LATE);
        return i;
    }
    return 0;
}

/* Only when all that are not done have their shares at hand: nobody else would wake the caller. */
static void sleep_for_share(struct fr_member *m) {
    struct fr_team *team = m->team;
    __atomic_store_n(&team->sleeping, 1, __ATOMIC_SEQ_CST);
    const uint32_t done = __atomic_load_n(&team->done, __ATOMIC_SEQ_CST);
    if (!is_over(m)) fr_sleep_on(&team->done, done);
    __atomic_store_n(&team->sleeping, 0, __ATOMIC_SEQ_CST);
}

/* Waits for the end of the phase; returns a share that the caller must do itself, or -1. */
static int32_t wait_as_caller(struct fr_member *m) {
    struct fr_team *team = m->team;
    uint64_t since = 0, now = 0;
    int32_t missing = -1;
    for (unsigned polls = 1; !is_over(m); polls++) {
        if (polls < BARE_POLLS) continue;
        fr_pause();
        if (polls % BARE_POLLS) continue;
        now = fr_now();
        if (!since) since = now;
        __atomic_store_n(&team->processor, fr_processor(), __ATOMIC_RELAXED);
        const int32_t i = find_missing(m, now - since);
        if (i) {
            missing = i;
            break;
        }
        if (now - since > FR_SLEEP_NS) {
            sleep_for_share(m);
            now = fr_now(); /* the phase may be over: the sleep counts, all the same */
        }
        if (team->waited + (now - since) > FR_SLOW_NS + (now - team->start) / 2) {
            team->late = 1;
            __atomic_store_n(&team->closed, 1, __ATOMIC_RELAXED);
        }
    }
    team->waited += now - since;
    return missing;
}

static int32_t next_as_caller(struct fr_member *m) {
    struct fr_team *team = m->team;
    if (m->share < 0) {
        team->next = 1;
        return m->share = 0;
    }
    add_done(team);
    while (team->next < m->threads) {
        const int32_t i = team->next++;
        if (team->absent[i]) return m->share = i;
    }
    m->share = wait_as_caller(m);
    if (m->share < 0) m->phase++;
    return m->share;
}

int32_t fr_next_shared(struct fr_member *m) {
    return m->worker ? next_as_worker(m) : next_as_caller(m);
}
