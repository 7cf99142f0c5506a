/* Many threads at once: eight callers on one model, and teams whose members are late.
 *
 *     test_threads [rounds]
 *
 * A team's member that waits too long for a late one takes the rest of the work over (team.h). This
 * is rare on an idle machine, so here team.c waits only briefly, and members dawdle at random before
 * and after they meet. Link with all of the core except team.c, which is part of this file; with
 * -DFR_PTHREADS ThreadSanitizer can follow it. */
#define _GNU_SOURCE
#define FR_POLLS 500
#define FR_YIELDS 1
#define fr_meet patient_meet
#include "../../src_c/team.c"
#undef fr_meet

#include "problems.h"

enum { CALLERS = 8, MOST_THREADS = 5 };

/* ---- late members ----------------------------------------------------------------------------- */

static int lateness; /* one meeting in so many is late; 0: none */
static long taken_over;

static void dawdle(void) {
    static uint64_t calls;
    if (lateness == 0) return;
    uint64_t seed = __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
    if (uniform(&seed, 1.0f) > 2.0f / (float)lateness - 1.0f) return;
    nanosleep(&(struct timespec){.tv_nsec = 1000}, NULL);
}

enum fr_meeting fr_meet(struct fr_meeting_point *point, int threads, int may_take_over);
enum fr_meeting fr_meet(struct fr_meeting_point *point, int threads, int may_take_over) {
    if (may_take_over) dawdle(); /* has done its part of the step, and nobody knows it */
    const enum fr_meeting meeting = patient_meet(point, threads, may_take_over);
    if (meeting == FR_TAKE_OVER) __atomic_fetch_add(&taken_over, 1, __ATOMIC_RELAXED);
    if (meeting == FR_MET && may_take_over) dawdle(); /* comes late to the next step */
    return meeting;
}

/* ---- problems --------------------------------------------------------------------------------- */

/* Just large enough that a call divides the units (fr_choose_mode in plan.c): fewer rows than
 * threads, or weights that do not fit a cache. */
static struct problem small[] = {
    {"lstm", 8, 100, 0, 3, 1, 0, 9, 1, 0, .model = NULL},
    {"lstm", 8, 112, 60, 3, 1, 0, 9, 1, 0, .model = NULL},
    {"lstm_peephole", 8, 100, 0, 4, 1, 0, 9, 1, 0, .model = NULL},
    {"gru", 8, 128, 0, 3, 1, 0, 9, 1, 0, .model = NULL},
    {"gru_reset_before", 8, 128, 0, 3, 1, 0, 9, 1, 0, .model = NULL},
    {"rnn_tanh", 8, 208, 0, 3, 1, 0, 9, 1, 0, .model = NULL},
};
static struct problem ragged[] = {
    {"lstm", 40, 100, 0, 3, 1, 0, 13, 2, 1, .model = NULL},
    {"lstm", 40, 112, 60, 3, 1, 0, 13, 2, 1, .model = NULL},
    {"gru_reset_before", 40, 128, 0, 3, 1, 0, 13, 2, 1, .model = NULL},
    {"gru", 40, 150, 0, 3, 1, 0, 70, 2, 1, .model = NULL}, /* more than one chunk */
};
static struct problem both_ways[] = {
    {"lstm", 16, 240, 0, 3, 2, 0, 6, 5, 1, .model = NULL},
    {"lstm", 16, 480, 240, 3, 2, 1, 5, 5, 1, .model = NULL},
    {"gru", 16, 340, 0, 3, 2, 1, 6, 5, 1, .model = NULL},
    {"gru_reset_before", 16, 280, 0, 3, 2, 0, 6, 5, 1, .model = NULL},
};

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static void check_late(struct problem *problems, int count, int least, int most, int rounds) {
    for (int i = 0; i < count; i++) {
        struct problem *p = &problems[i];
        make_problem(p);
        float *expected = solve(p, 1);
        const long before = taken_over;
        int wrong = 0, calls = 0;
        for (int round = 0; round < rounds; round++) {
            lateness = 2 << round % 10;
            for (int threads = least; threads <= most; threads++, calls++) wrong += !solves(p, threads, expected);
        }
        lateness = 0;
        printf("%-16s H %3d P %3d D %d: %d calls, %ld take-overs\n", p->cell, p->H, p->P, p->D, calls,
               taken_over - before);
        CHECK(wrong == 0, "%s: %d of %d calls differ from a serial one", p->cell, wrong, calls);
        CHECK(taken_over > before, "%s: no one took over, so nothing was tested", p->cell);
        free(expected);
        free_problem(p);
    }
}

/* ---- many callers ----------------------------------------------------------------------------- */

struct shared {
    const struct problem *problem;
    const float *expected;
    const fr_linear *linear;
    const float *x, *y; /* (ROWS, I), (ROWS, O) */
    int rounds;
};
enum { I = 70, O = 130, ROWS = 30 };

/* A stream through the first row of the problem, step by step. */
static int streams(const struct problem *p, const float *expected) {
    const size_t R = (size_t)(p->P ? p->P : p->H), last = p->h_count - R;
    float *h = aligned(p->h_count * sizeof *h);
    fr_state *state = fr_state_create(p->model, p->N, aligned(fr_state_size(p->model, p->N)));
    fr_state_set(p->model, state, p->h0, p->c0);
    for (int t = 0; t < p->T; t++) fr_step(p->model, state, p->x + t * p->N * p->I, NULL);
    fr_state_get(p->model, state, h, NULL);
    const int equal = memcmp(h + last, expected + p->y_count + last, R * sizeof *h) == 0;
    free(h), free(state);
    return equal;
}

static void *call_all(void *context) {
    const struct shared *s = context;
    intptr_t wrong = 0;
    float *y = aligned(ROWS * O * sizeof *y);
    for (int round = 0; round < s->rounds; round++) {
        const int threads = 1 + round % 3;
        wrong += !solves(s->problem, threads, s->expected);
        wrong += !s->problem->ragged && !streams(s->problem, s->expected);
        fr_linear_forward(s->linear, ROWS, s->x, I, y, O, threads);
        wrong += memcmp(y, s->y, ROWS * O * sizeof *y) != 0;
    }
    free(y);
    return (void *)wrong;
}

static void check_callers(struct problem *p, int rounds) {
    make_problem(p);
    float *w = random_floats(O * I, 5, 0.1f), *x = random_floats(ROWS * I, 6, 1.0f), *y = aligned(ROWS * O * sizeof *y);
    fr_linear *linear = fr_linear_create(I, O, aligned(fr_linear_size(I, O)));
    fr_linear_load(linear, w, NULL);
    fr_linear_forward(linear, ROWS, x, I, y, O, 1);
    float *expected = solve(p, 1);
    const struct shared shared = {p, expected, linear, x, y, rounds};
    pthread_t callers[CALLERS];
    intptr_t wrong = 0;
    for (int i = 0; i < CALLERS; i++) {
        if (pthread_create(&callers[i], NULL, call_all, (void *)&shared)) exit(2);
    }
    for (int i = 0; i < CALLERS; i++) {
        void *result;
        pthread_join(callers[i], &result);
        wrong += (intptr_t)result;
    }
    CHECK(wrong == 0, "%s: %ld results differ with eight callers", p->cell, (long)wrong);
    free(w), free(x), free(y), free(linear), free(expected);
    free_problem(p);
}

int main(int argc, char **argv) {
    const int rounds = argc > 1 ? atoi(argv[1]) : 300;
    check_late(small, COUNT(small), 2, 3, rounds);
    check_late(ragged, COUNT(ragged), 3, 4, rounds);
    check_late(both_ways, COUNT(both_ways), 4, MOST_THREADS, (rounds + 9) / 10);
    const long before = taken_over;
    for (int i = 0; i < COUNT(small); i++) check_callers(&small[i], (rounds + 3) / 4);
    for (int i = 0; i < COUNT(ragged); i++) check_callers(&ragged[i], (rounds + 3) / 4);
    printf("eight callers: %ld take-overs\n", taken_over - before);
    return report("test_threads");
}
