/* Many threads at once: eight callers on one model, and teams whose members are late.
 *
 *     test_threads [rounds]
 *
 * A member that is late loses its shares to the caller, and one that waits long for the others goes
 * by itself (team.h). Both are rare on an idle machine, so here nobody is patient, and members
 * dawdle at random. Link with all of the core except team.c and gather.c, which are parts of this
 * file; ThreadSanitizer can follow it with -DFR_POOL. */
#define _GNU_SOURCE
#define FR_JOIN_NS (together ? 100000000 : 1000000)
#define FR_JOIN_MACS 1
#define FR_LATE_NS 50000
#define FR_RESIGN_NS (together ? 1000000000 : 10000000)
#define FR_SLOW_NS 50000
#define FR_SLEEP_NS 50000
#define FR_PAUSE_NS 0
#define FR_MIND_PROCESSOR 0
#define FR_AT(place) at_place(place)
enum place { ARRIVE, CLAIM, CLAIMED, DONE, LATE };
static void at_place(enum place place);
static int together; /* calls wait until all of their team have come */

#define fr_team_gather gather_once
#include "../../src_c/time/gather.c"
#undef fr_team_gather
#include "../../src_c/time/team.c"

#include "training.h"

#include <pthread.h>
#include <unistd.h>

enum { CALLERS = 8, MOST_THREADS = 5 };

/* ---- late members ------------------------------------------------------------------------ */

static int lateness; /* one in so many places is passed late; 0: none */
static long taken_over;

static void at_place(enum place place) {
    static uint64_t passed;
    if (place == LATE) __atomic_fetch_add(&taken_over, 1, __ATOMIC_RELAXED);
    const int often = __atomic_load_n(&lateness, __ATOMIC_RELAXED);
    if (often == 0) return;
    const uint64_t count = __atomic_fetch_add(&passed, 1, __ATOMIC_RELAXED);
    uint64_t seed = count;
    if (uniform(&seed, 1.0f) > 2.0f / (float)often - 1.0f) return;
    const uint64_t start = fr_now(), late = count % 32 ? FR_LATE_NS + 20000 : FR_RESIGN_NS + 100000;
    while (fr_now() - start < late) fr_pause();
}

static void be_late(int often) { __atomic_store_n(&lateness, often, __ATOMIC_RELAXED); }

/* ---- whole teams ------------------------------------------------------------------------- */

enum { TEAM = 4 };
static int whole, parts; /* teams of four, and teams that are smaller than wanted */

static void do_nothing(void *context, struct fr_member *m) { (void)context, (void)m; }

/* What all calls of the core link with. */
int fr_team_gather(struct fr_member *caller, int threads, double macs);
int fr_team_gather(struct fr_member *caller, int threads, double macs) {
    int size = gather_once(caller, threads, macs);
    for (int tries = 0; together && size < threads && tries < 100; tries++) {
        fr_team_run(caller, do_nothing, NULL);
        usleep(1000); /* until its members are idle */
        size = gather_once(caller, threads, 1e15);
    }
    __atomic_fetch_add(&whole, size == TEAM, __ATOMIC_RELAXED); /* callers may be several */
    __atomic_fetch_add(&parts, size < threads, __ATOMIC_RELAXED);
    return size;
}

/* ---- problems ---------------------------------------------------------------------------- */

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

/* Divided by units (one row), by rows, and by directions. */
static struct problem training[] = {
    {"lstm", 40, 160, 0, 2, 1, 0, 12, 1, 0, .model = NULL},
    {"lstm", 40, 160, 70, 1, 1, 0, 40, 1, 0, .model = NULL},
    {"gru_reset_before", 40, 160, 0, 1, 1, 0, 40, 1, 0, .model = NULL},
    {"lstm_peephole", 40, 160, 0, 1, 1, 0, 20, 1, 0, .model = NULL},
    {"gru", 40, 160, 0, 1, 1, 0, 40, 1, 0, .model = NULL},
    {"rnn_tanh", 40, 300, 0, 1, 1, 0, 30, 1, 0, .model = NULL},
    {"gru", 40, 100, 0, 1, 1, 0, 12, 20, 1, .model = NULL},
    {"gru", 40, 128, 0, 1, 2, 1, 12, 3, 1, .model = NULL},
};

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static int count_wrong(const struct problem *p, const float *expected, int least, int most,
                       int rounds) {
    int wrong = 0;
    for (int round = 0; round < rounds; round++) {
        be_late(8 << round % 8);
        for (int threads = least; threads <= most; threads++)
            wrong += !solves(p, threads, expected);
    }
    be_late(0);
    return wrong;
}

/* On a busy machine hardly a team comes together: then more rounds, until some member was late. */
static void check_late(struct problem *problems, int count, int least, int most, int rounds) {
    const long start = taken_over;
    for (int i = 0; i < count; i++) {
        struct problem *p = &problems[i];
        make_problem(p);
        float *expected = solve(p, 1);
        const long before = taken_over;
        int wrong = count_wrong(p, expected, least, most, rounds);
        for (int more = 0; i == count - 1 && taken_over == start && more < 100; more++) {
            wrong += count_wrong(p, expected, least, most, rounds);
        }
        printf("%-16s H %3d P %3d D %d: %ld take-overs\n", p->cell, p->H, p->P, p->D,
               taken_over - before);
        CHECK(wrong == 0, "%s: %d calls differ from a serial one", p->cell, wrong);
        free(expected);
        free_problem(p);
    }
    CHECK(taken_over > start, "%s and others: no one took over, so nothing was tested",
          problems->cell);
}

/* The backward pass changes gates in place: nothing of it may be done twice. */
static void check_late_training(const struct problem *p, int rounds) {
    float *dsolution = random_floats(p->y_count + p->h_count + p->c_count, 8, 1.0f);
    struct answer answer = differentiate(p, 1, p->T, dsolution);
    const uint64_t expected = hash_answer(p, &answer);
    const long before = taken_over;
    free_answer(&answer);
    int wrong = 0;
    for (int round = 0; round < rounds || (taken_over == before && round < 100 * rounds); round++) {
        be_late(8 << round % 8);
        answer = differentiate(p, 2 + round % 3, round % 2 ? p->T : 5, dsolution);
        wrong += hash_answer(p, &answer) != expected;
        free_answer(&answer);
    }
    be_late(0);
    printf("%-16s H %3d P %3d D %d N %d: %ld take-overs in training\n", p->cell, p->H, p->P, p->D,
           p->N, taken_over - before);
    CHECK(wrong == 0, "%s: gradients of %d trainings differ from a serial one", p->cell, wrong);
    CHECK(taken_over > before, "%s: no one took over, so nothing was tested", p->cell);
    free(dsolution);
}

/* Nobody is late: each of four members has units of its own, at every step of every layer. Teams
 * that are smaller would divide two directions otherwise. */
static void check_whole_teams(struct problem *problems, int count, int trains) {
    for (int i = 0; i < count; i++) {
        struct problem *p = &problems[i];
        make_problem(p);
        float *expected = solve(p, 1);
        together = 1, whole = parts = 0;
        CHECK(solves(p, TEAM, expected), "%s H %d D %d: a whole team differs", p->cell, p->H, p->D);
        free(expected);
        if (trains) {
            float *dsolution = random_floats(p->y_count + p->h_count + p->c_count, 8, 1.0f);
            struct answer team = differentiate(p, TEAM, p->T, dsolution);
            together = 0;
            struct answer alone = differentiate(p, 1, p->T, dsolution);
            CHECK(hash_answer(p, &team) == hash_answer(p, &alone),
                  "%s H %d D %d: gradients of a whole team differ", p->cell, p->H, p->D);
            free_answer(&team), free_answer(&alone);
            free(dsolution);
        }
        together = 0;
        CHECK(whole > 2 * trains && !parts, "%s H %d D %d: %d teams of four, %d of fewer", p->cell,
              p->H, p->D, whole, parts);
        free_problem(p);
    }
}

/* Gradients of the parameters and of an embedding of 21 tokens, one after the other: both are sums
 * per token first, in memory that begins as anything. */
static float *token_gradients(const struct problem *p, int threads) {
    enum { TOKENS = 21 };
    const size_t count = fr_parameter_count(&p->shape), embedded = (size_t)(TOKENS * p->I);
    const fr_tape_plan plan = {0, threads, p->T, p->N, p->T * p->N, p->T, TOKENS};
    int64_t *tokens = aligned((size_t)plan.elements * sizeof *tokens);
    for (int64_t i = 0; i < plan.elements; i++) tokens[i] = (i * 7 + 3) % TOKENS;
    float *embedding = random_floats(embedded, 11, 1.0f), *dy = random_floats(p->y_count, 12, 1.0f);
    float *table = blank(fr_table_size(p->model, TOKENS)), *y = blank(p->y_count * sizeof *y);
    float *parameters = weights_of(p), *gradients = random_floats(count + embedded, 9, 0.25f);
    fr_tape *tape = fr_tape_create(p->model, &plan, blank(fr_tape_size(p->model, &plan)));
    fr_backward_weights *weights =
        fr_backward_weights_create(p->model, blank(fr_backward_weights_size(p->model)));
    void *workspace = blank(fr_training_size(p->model, &plan));
    fr_backward_weights_load(p->model, weights, parameters);
    fr_table_fill(p->model, TOKENS, embedding, table);
    const fr_sequence q = {
        .steps = p->T,
        .rows = p->N,
        .step_stride = p->N,
        .row_stride = 1,
        .tokens = tokens,
        .table = table,
        .y = y,
        .tape = tape,
    };
    const fr_gradients g = {
        .dy = dy,
        .parameters = gradients,
        .embedding = embedding,
        .dembedding = gradients + count,
    };
    fr_forward(p->model, &q, workspace, threads);
    free(workspace);
    workspace = blank(fr_training_size(p->model, &plan));
    fr_backward(p->model, weights, &q, &g, workspace, threads);
    free(tokens), free(embedding), free(dy), free(table), free(y), free(parameters), free(tape),
        free(weights), free(workspace);
    return gradients;
}

/* Tokens, too, are divided among the members of a whole team. */
static void check_token_training(struct problem *p) {
    make_problem(p);
    const size_t count = fr_parameter_count(&p->shape) + (size_t)(21 * p->I);
    float *alone = token_gradients(p, 1);
    together = 1, whole = parts = 0;
    float *team = token_gradients(p, TEAM);
    together = 0;
    int sound = 1;
    for (size_t i = 0; i < count; i++) sound &= fabsf(alone[i]) < 1e4f;
    CHECK(sound, "%s: gradients of tokens contain what memory held", p->cell);
    CHECK(memcmp(alone, team, count * sizeof *team) == 0, "%s: gradients of tokens", p->cell);
    CHECK(whole && !parts, "%s: %d teams of four, %d of fewer", p->cell, whole, parts);
    free(alone), free(team);
    free_problem(p);
}

/* ---- many callers ------------------------------------------------------------------------ */

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
    float *w = random_floats(O * I, 5, 0.1f), *x = random_floats(ROWS * I, 6, 1.0f),
          *y = aligned(ROWS * O * sizeof *y);
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
    check_whole_teams(small, COUNT(small), 0);
    check_whole_teams(ragged, COUNT(ragged), 0);
    check_whole_teams(both_ways, COUNT(both_ways), 1);
    check_token_training(&(struct problem){"lstm", 40, 64, 0, 1, 1, 0, 40, 3, 0, .model = NULL});
    check_token_training(
        &(struct problem){"light_gru", 40, 80, 0, 1, 1, 0, 40, 3, 0, .model = NULL});
    check_whole_teams(training, COUNT(training) - 2, 1); /* the last two have fewer threads */
    check_late(small, COUNT(small), 2, 3, rounds);
    check_late(ragged, COUNT(ragged), 3, 4, rounds);
    check_late(both_ways, COUNT(both_ways), 4, MOST_THREADS, (rounds + 9) / 10);
    for (int i = 0; i < COUNT(training); i++) {
        make_problem(&training[i]);
        check_late_training(&training[i], rounds);
        free_problem(&training[i]);
    }
    const long before = taken_over;
    for (int i = 0; i < COUNT(small); i++) check_callers(&small[i], (rounds + 3) / 4);
    for (int i = 0; i < COUNT(ragged); i++) check_callers(&ragged[i], (rounds + 3) / 4);
    printf("eight callers: %ld take-overs\n", taken_over - before);
    return report("test_threads");
}
