/* Losses over rows of logits: rows are divided among the threads, each is computed by one. */
#include "../include/fastrnn_train.h"
#include "../kernels.h"
#include "../time/team.h"

enum { LEAST_WORK = 32768 }; /* logits below which a second thread does not pay: about 25 us */

static void cross_entropy_share(void *context, int share, int shares) {
    const fr_softmax *s = context;
    const int64_t first = s->rows * share / shares, last = s->rows * (share + 1) / shares;
    const int64_t correct = fr_active_kernels()->cross_entropy(s, first, last);
    if (s->correct) __atomic_fetch_add(s->correct, correct, __ATOMIC_RELAXED);
}

void fr_cross_entropy(const fr_softmax *softmax, int32_t threads) {
    fr_softmax call = *softmax;
    if (call.correct) *call.correct = 0;
    fr_divide(call.rows * call.classes >= LEAST_WORK, threads, cross_entropy_share, &call);
}

struct log_call {
    int64_t rows, classes, x_stride, y_stride;
    const float *x;
    float *y;
};

static void log_softmax_share(void *context, int share, int shares) {
    const struct log_call *c = context;
    const int64_t last = c->rows * (share + 1) / shares;
    for (int64_t row = c->rows * share / shares; row < last; row++) {
        fr_active_kernels()->log_softmax(c->x + row * c->x_stride, c->y + row * c->y_stride,
                                         c->classes);
    }
}

void fr_log_softmax(int64_t rows, int64_t classes, const float *x, int64_t x_stride, float *y,
                    int64_t y_stride, int32_t threads) {
    struct log_call call = {rows, classes, x_stride, y_stride, x, y};
    fr_divide(rows * classes >= LEAST_WORK, threads, log_softmax_share, &call);
}
