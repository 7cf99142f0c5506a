/* Threads, and only here: teams, the barrier between steps, the floating-point mode.
 *
 * A team of n threads runs one function, one region per call. Inside, the threads of a unit split
 * meet at fr_meet after every step. A partner may be off the CPU for a whole time slice; then one
 * of the waiting threads takes the rest of the work over (enum fr_meeting) instead of waiting for
 * it at every step. By the numeric contract no one can tell who computed what.
 */
#ifndef FASTRNN_TEAM_H
#define FASTRNN_TEAM_H

#include <stdint.h>

typedef void fr_team_function(void *context, int thread, int threads);

/* Runs function(context, 0 .. n - 1, n), each in a thread of its own, and waits for all. n is
 * `threads`, or fewer if the system does not grant as many. */
void fr_team_run(int threads, fr_team_function *function, void *context);

/* The same if it `pays` and the system has threads to give, else in the calling thread alone. */
void fr_team_run_if(int pays, int threads, fr_team_function *function, void *context);

/* Where threads meet. A word holds the phase (upper half), the arrivals of this phase and, once
 * somebody took over, the mark of it: every change is one compare-and-swap, so that "the last one
 * arrived" and "one took over" exclude each other. */
struct fr_meeting_point {
    _Alignas(64) uint64_t word;
};

enum fr_meeting {
    FR_MET,       /* all arrived: go on */
    FR_TAKE_OVER, /* a partner is late: this thread goes on alone from here */
    FR_LEAVE,     /* another thread has taken over */
};

void fr_meeting_start(struct fr_meeting_point *point);
/* Waits until all `threads` have come; after a bounded wait takes over if `may_take_over`. */
enum fr_meeting fr_meet(struct fr_meeting_point *point, int threads, int may_take_over);

/* Flushes denormals in this thread; returns the mode that fr_float_mode_restore puts back. */
uint64_t fr_float_mode_enter(void);
void fr_float_mode_restore(uint64_t mode);

#endif
