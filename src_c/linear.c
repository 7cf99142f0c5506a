/* The linear map y = x W^T + b: output layers over the same packed blocks and tiles as the cells. */
#include "model.h"
#include "team.h"

#include <string.h>

enum {
    TOGETHER = 96,        /* rows per call of the kernel: pointers that the stack should hold */
    LEAST_WORK = 200000,  /* multiply-adds below which a second thread does not pay */
    ROWS_PER_THREAD = 12, /* below this, threads divide the outputs instead of the rows */
};

static fr_linear *lay_out(int32_t inputs, int32_t outputs, struct fr_arena *arena) {
    struct fr_matrix scratch;
    fr_linear *linear = fr_take(arena, 1, sizeof *linear);
    fr_lay_out_matrix(linear ? &linear->matrix : &scratch, inputs, outputs, arena);
    return linear;
}

size_t fr_linear_size(int32_t inputs, int32_t outputs) {
    if (inputs < 0 || inputs > FR_MAX_SIZE || outputs < 1 || outputs > FR_MAX_SIZE) return 0;
    struct fr_arena arena = {NULL, 0};
    lay_out(inputs, outputs, &arena);
    return fr_used(&arena);
}

fr_linear *fr_linear_create(int32_t inputs, int32_t outputs, void *memory) {
    const size_t size = fr_linear_size(inputs, outputs);
    if (size == 0) return NULL;
    memset(memory, 0, size);
    struct fr_arena arena = {memory, 0};
    return lay_out(inputs, outputs, &arena);
}

void fr_linear_load(fr_linear *linear, const float *weight, const float *bias) {
    fr_pack_matrix(&linear->matrix, weight, bias);
}

struct call {
    const struct fr_matrix *matrix;
    const float *x;
    float *y;
    int64_t rows, x_stride, y_stride;
};

static void run(const struct call *c, int64_t first, int64_t last, int32_t begin, int32_t end) {
    const float *in[TOGETHER];
    float *out[TOGETHER];
    for (int64_t row = first; row < last; row += TOGETHER) {
        const int64_t count = last - row < TOGETHER ? last - row : TOGETHER;
        for (int64_t r = 0; r < count; r++) {
            in[r] = c->x + (row + r) * c->x_stride;
            out[r] = c->y + (row + r) * c->y_stride;
        }
        const struct fr_product product = {c->matrix, in, out, count, begin, end};
        fr_active_kernels()->product(&product);
    }
}

static void run_thread(void *context, int thread, int threads) {
    const struct call *c = context;
    const int32_t blocks = c->matrix->blocks;
    if (c->rows >= (int64_t)threads * ROWS_PER_THREAD) {
        run(c, c->rows * thread / threads, c->rows * (thread + 1) / threads, 0, blocks);
    } else {
        run(c, 0, c->rows, (int32_t)((int64_t)blocks * thread / threads),
            (int32_t)((int64_t)blocks * (thread + 1) / threads));
    }
}

void fr_linear_forward(const fr_linear *linear, int64_t rows, const float *x, int64_t x_stride, float *y,
                       int64_t y_stride, int32_t threads) {
    const struct fr_matrix *m = &linear->matrix;
    struct call call = {m, x, y, rows, x_stride, y_stride};
    const double work = (double)m->inputs * m->outputs * (double)rows;
    if (threads > 1 && work >= LEAST_WORK && fr_threads_available()) {
        fr_team_run(threads < FR_MAX_THREADS ? threads : FR_MAX_THREADS, run_thread, &call);
        return;
    }
    const uint64_t mode = fr_float_mode_enter();
    run_thread(&call, 0, 1);
    fr_float_mode_restore(mode);
}
