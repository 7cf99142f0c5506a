#include "activation.h"
#include "../time/team.h"

#include <string.h>

enum { LEAST_WORK = 32768 }; /* outputs below which a second thread does not pay: about 20 us */

const struct fr_activation_info fr_activations[FR_ACTIVATIONS] = {
#define ACTIVATION(name, over, reads, a, a_usual, b, b_usual) \
    [FR_ACTIVATION_##name] = {#name, FR_OVER_##over, FR_READS_##reads, {a, b}, {a_usual, b_usual}},
#include "../cells/activations.def"
#undef ACTIVATION
};

int32_t fr_activation_named(const char *name) {
    for (int32_t i = 0; i < FR_ACTIVATIONS; i++)
        if (strcmp(fr_activations[i].name, name) == 0) return i;
    return -1;
}

static void forward_share(void *context, int share, int shares) {
    const fr_activation *a = context;
    const int64_t units = fr_activation_units(a);
    fr_active_kernels()->activate(a, units * share / shares, units * (share + 1) / shares);
}

static void backward_share(void *context, int share, int shares) {
    const fr_activation *a = context;
    const int64_t units = fr_activation_units(a);
    fr_active_kernels()->activate_back(a, units * share / shares, units * (share + 1) / shares);
}

static void divide(const fr_activation *activation, int32_t threads, fr_share_function *function) {
    fr_activation call = *activation;
    fr_divide(call.rows * call.size >= LEAST_WORK, threads, function, &call);
}

void fr_activate(const fr_activation *activation, int32_t threads) {
    divide(activation, threads, forward_share);
}

void fr_activate_back(const fr_activation *activation, int32_t threads) {
    divide(activation, threads, backward_share);
}
