/* Teams of threads, phases and shares; the floating-point mode of a call.
 *
 * A call that pays for it runs in a team: the thread that calls, and workers. All members run the
 * same function, which is a sequence of phases. A phase has one share for every member, and goes
 *
 *     while ((i = fr_next_share(member)) >= 0) do share i of member->threads;
 *     if (member->gone) return;
 *
 * The loop ends when every share of the phase is done, whoever did it. A share is claimed before it
 * begins, by compare-and-swap, and so is run exactly once: by its owner, member i, or by the caller
 * where member i is late. So nobody waits for a thread that has no core, unless it lost it in the
 * middle of a share. A member that was late once is `gone`: the caller does its shares from there
 * on. A member that has waited long for the caller goes by itself. Whoever is gone returns at once
 * and touches nothing of the call, whose memory may be free already.
 *
 * Outside the loops a member only keeps its own books (its own pointers, which step it is): all
 * that others see is written inside. By the numeric contract no one can tell who computed what.
 *
 * The process remembers late members: the next calls run in one thread, for a pause that doubles
 * while members stay late (gather.c).
 */
#ifndef FASTRNN_TEAM_H
#define FASTRNN_TEAM_H

#include <stdint.h>

struct fr_worker;

struct fr_member {
    struct fr_team *team;     /* NULL: alone */
    struct fr_worker *worker; /* NULL: the caller */
    int32_t thread, threads;  /* its number, 0 for the caller; members, and shares of a phase */
    int32_t share;            /* the one at hand, -1 between phases */
    int32_t gone;
    uint64_t phase;
    uint64_t joined; /* when, of a worker */
};

#define FR_ALONE ((struct fr_member){.threads = 1, .share = -1})

int32_t fr_next_shared(struct fr_member *member);

/* The next share of the phase that this member is to do, -1: the phase is over. */
static inline int32_t fr_next_share(struct fr_member *member) {
    if (member->team) return fr_next_shared(member);
    return member->share = -1 - member->share; /* alone: 0, then -1 */
}

typedef void fr_team_function(void *context, struct fr_member *member);
typedef void fr_share_function(void *context, int share, int shares);

/* Gathers up to `threads` members for a call of so many multiply-adds and returns how many there
 * are; 1: none but the caller. fr_team_run must follow. */
int fr_team_gather(struct fr_member *caller, int threads, double macs);
/* Runs the function in all members that were gathered; when it returns none is in it any more. */
void fr_team_run(struct fr_member *caller, fr_team_function *function, void *context);

/* function(context, i, n) for the n shares of one phase: with up to `threads` threads if it
 * `pays`. */
void fr_divide(int pays, int threads, fr_share_function *function, void *context);

/* Flushes denormals in this thread; returns the mode that fr_float_mode_restore puts back. */
uint64_t fr_float_mode_enter(void);
void fr_float_mode_restore(uint64_t mode);

#endif
