/* The claims of a team's members: what team.c (phases) and gather.c (their beginning and end)
 * share. */
#ifndef FASTRNN_CLAIMS_H
#define FASTRNN_CLAIMS_H

#include "../include/fastrnn.h"
#include "team.h"
#include "threads.h"

/* Times in nanoseconds; tests are less patient, so that they meet the rare paths. */
#ifndef FR_JOIN_NS
#define FR_JOIN_NS 100000    /* for members to come, at most, */
#define FR_JOIN_MACS 160     /* and 1 for so many multiply-adds: a quarter of the call */
#define FR_LATE_NS 100000    /* for a member to claim its share */
#define FR_RESIGN_NS 1000000 /* for a member to wait, and half of the time it was there */
#define FR_SLOW_NS 200000    /* for shares at hand, in all of a call, and half of its time */
#define FR_SLEEP_NS 100000   /* the caller polls for a share at hand, then sleeps */
#define FR_PAUSE_NS 1000000  /* the first pause after a late member */
#define FR_MIND_PROCESSOR 1  /* a member leaves that is on the caller's processor */
#endif

enum {
    FR_TEAMS = 64,   /* at the same time; further calls run alone */
    BARE_POLLS = 64, /* a pause may cost more than 100 cycles: not while the others are close */
};

/* Places at which tests delay a thread, and count. */
#ifndef FR_AT
#define FR_AT(place)
#endif

/* State that members and the caller share, and state of the caller about its members. */
struct fr_team {
    _Alignas(128) uint32_t done;    /* shares done in this run, modulo 2^32 */
    uint32_t sleeping;              /* the caller sleeps on it */
    _Alignas(128) uint32_t started; /* the call is known: */
    int32_t threads;
    fr_team_function *function;
    void *context;
    uint32_t closed;   /* whoever ends a phase is gone */
    int32_t processor; /* of the caller; -1: unknown */
    /* the caller's own: */
    _Alignas(128) int taken;
    int32_t next;    /* shares of this phase from here on were not looked at */
    int late;        /* a member was */
    int gathered;    /* members came before the run began */
    uint64_t start;  /* begin of the run; before it, of the gathering */
    uint64_t waited; /* for members that had a share at hand */
    struct fr_worker *worker[FR_MAX_THREADS]; /* by member, from 1 on */
    uint8_t absent[FR_MAX_THREADS];           /* by member: the caller does its shares */
};

extern struct fr_team fr_teams[FR_TEAMS];

/* A worker's claim is 0 when it is idle, or a team's number and a state. The caller reserves and
 * posts the worker; the worker arrives, claims its share of one phase after the other, and is
 * idle when it ends the last: no later, for the next call wants it. In between the caller may
 * send it AWAY, and the worker, having waited long, may have LEFT; each by compare-and-swap, so
 * that both know who does a share. A worker that is AWAY may look at its team for a while longer,
 * even when the team serves another call: it can do no harm, for it can claim nothing. One that
 * has LEFT stays so until the end of the call, for the caller must know after how many shares. */
enum { RESERVED, POSTED, ARRIVED, AWAY, FIRST_PHASE };
static const uint64_t LEFT = (uint64_t)1 << 47; /* + 2 x shares done, + 1: was in the way */

static inline uint64_t claim_of(const struct fr_team *team, uint64_t state) {
    return (uint64_t)(team - fr_teams + 1) << 48 | (state & 0xffffffffffffu);
}

static inline uint64_t in_phase(const struct fr_team *team, uint64_t phase) {
    return claim_of(team, FIRST_PHASE + phase);
}

static inline int change(struct fr_worker *worker, uint64_t from, uint64_t to) {
    return __atomic_compare_exchange_n(&worker->claim, &from, to, 0, __ATOMIC_SEQ_CST,
                                       __ATOMIC_RELAXED);
}

static inline uint64_t claim_now(const struct fr_worker *worker) {
    return __atomic_load_n(&worker->claim, __ATOMIC_ACQUIRE);
}

static inline uint64_t state_of(uint64_t claim) { return claim & 0xffffffffffffu; }

static inline int is_of(uint64_t claim, const struct fr_team *team) {
    return claim >> 48 == claim_of(team, 0) >> 48;
}

#endif
