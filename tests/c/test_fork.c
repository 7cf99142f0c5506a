/* A forked child computes the same bits: with threads of its own, or, with OpenMP, in one thread,
 * for OpenMP's do not survive a fork and asking for them again may hang, whoever used them in the
 * parent. */
#define _GNU_SOURCE
#include "problems.h"

#include <sys/wait.h>
#include <unistd.h>

#if defined(_OPENMP) && !defined(FR_POOL)
enum { CHILD_HAS_THREADS = 0 };
#else
enum { CHILD_HAS_THREADS = 1 };
#endif

/* Runs the problem in a child; true if it was right and the child ended within a minute. */
static int child_solves(const struct problem *p, const float *expected) {
    fflush(stdout);
    const pid_t child = fork();
    if (child < 0) exit(2);
    if (child == 0) {
        alarm(60);
        const int right = fr_threads_available() == CHILD_HAS_THREADS && solves(p, 2, expected) &&
                          solves(p, 1, expected) && solves(p, 3, expected);
        _exit(right ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(void) {
    struct problem p = {"lstm", 40, 100, 0, 2, 1, 0, 20, 1, 0, .model = NULL};
    make_problem(&p);
    float *expected = solve(&p, 1);
    CHECK(fr_threads_available() == 1, "threads are not available at the start");
#if defined(_OPENMP)
#pragma omp parallel num_threads(2) /* threads of somebody else: the core has used no team yet */
    __asm__ volatile("");
#endif
    CHECK(child_solves(&p, expected), "a child of a process that has used no team of the core");
    CHECK(solves(&p, 2, expected), "a team in the parent");
    for (int i = 0; i < 5; i++) {
        CHECK(child_solves(&p, expected), "child %d of a process that has used a team", i);
        CHECK(fr_threads_available() == 1 && solves(&p, 3, expected), "the parent after fork %d",
              i);
    }
    free(expected);
    free_problem(&p);
    return report("test_fork");
}
