/* Attention: pairs of a row and a step are divided among the threads, backwards whole rows. */
#include "../include/fastrnn_train.h"
#include "../kernels.h"
#include "../time/team.h"

enum { LEAST_WORK = 200000, TANH_WORK = 16 }; /* multiply-adds for which a second thread pays */

static int pays(const fr_attention *a) {
    const double each = (double)a->size * (a->score ? TANH_WORK : 1) + (double)a->features;
    return each * (double)a->positions * (double)a->steps * (double)a->rows >= LEAST_WORK;
}

static void attend_share(void *context, int share, int shares) {
    const fr_attention *a = context;
    const int64_t pairs = a->rows * a->steps;
    fr_active_kernels()->attend(a, pairs * share / shares, pairs * (share + 1) / shares);
}

void fr_attend(const fr_attention *attention, int32_t threads) {
    fr_attention call = *attention;
    fr_divide(pays(&call), threads, attend_share, &call);
}

struct back {
    const fr_attention *attention;
    const fr_attention_gradients *gradients;
};

static void back_share(void *context, int share, int shares) {
    const struct back *b = context;
    const int64_t rows = b->attention->rows;
    fr_active_kernels()->attend_back(b->attention, b->gradients, rows * share / shares,
                                     rows * (share + 1) / shares);
}

void fr_attend_back(const fr_attention *attention, const fr_attention_gradients *gradients,
                    int32_t threads) {
    struct back call = {attention, gradients};
    fr_divide(pays(attention), threads, back_share, &call);
}
