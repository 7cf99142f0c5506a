#include "norm.h"
#include "../time/team.h"

enum { LEAST_WORK = 32768 }; /* elements below which a second thread does not pay */

static void rows_share(void *context, int share, int shares) {
    const fr_norm *n = context;
    fr_active_kernels()->layer_norm(n, n->rows * share / shares, n->rows * (share + 1) / shares);
}

static void back_share(void *context, int share, int shares) {
    const fr_norm *n = context;
    fr_active_kernels()->layer_norm_back(n, n->rows * share / shares,
                                         n->rows * (share + 1) / shares);
}

/* Channels, whole groups of them, so that each one's sums over rows stay in one hand. */
static void sums_share(void *context, int share, int shares) {
    const fr_norm *n = context;
    const int64_t groups = (n->size + FR_GROUP - 1) / FR_GROUP;
    const int64_t end = groups * (share + 1) / shares * FR_GROUP;
    fr_active_kernels()->layer_norm_sums(n, groups * share / shares * FR_GROUP,
                                         end < n->size ? end : n->size);
}

static int pays(const fr_norm *norm) { return norm->rows * norm->size >= LEAST_WORK; }

void fr_layer_norm(const fr_norm *norm, int32_t threads) {
    fr_norm call = *norm;
    fr_divide(pays(norm), threads, rows_share, &call);
}

/* The sums first: dx may take the place of dy. */
void fr_layer_norm_back(const fr_norm *norm, int32_t threads) {
    fr_norm call = *norm;
    fr_divide(pays(norm), threads, sums_share, &call);
    fr_divide(pays(norm), threads, back_share, &call);
}
