/* The linear map y = x W^T + b: output layers over the same packed blocks and tiles as the cells.
 */
#include "linear.h"
#include "../time/model.h"
#include "../time/team.h"
#include "outer.h"

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

void fr_linear_load_transposed(fr_linear *linear, const float *weight) {
    fr_pack_transposed(&linear->matrix, weight);
}

struct call {
    const struct fr_matrix *matrix;
    const float *x;
    float *y;
    int64_t rows, x_stride, y_stride;
};

void fr_linear_rows(const struct fr_matrix *matrix, int64_t first, int64_t last, const float *x,
                    int64_t x_stride, float *y, int64_t y_stride, int32_t begin, int32_t end) {
    const float *in[TOGETHER];
    float *out[TOGETHER];
    for (int64_t row = first; row < last; row += TOGETHER) {
        const int64_t count = last - row < TOGETHER ? last - row : TOGETHER;
        for (int64_t r = 0; r < count; r++) {
            in[r] = x + (row + r) * x_stride;
            out[r] = y + (row + r) * y_stride;
        }
        const struct fr_product product = {matrix,          in,           out, count, begin, end,
                                           .accumulate = 0, .reversed = 0};
        fr_active_kernels()->product(&product);
    }
}

static void run(const struct call *c, int64_t first, int64_t last, int32_t begin, int32_t end) {
    fr_linear_rows(c->matrix, first, last, c->x, c->x_stride, c->y, c->y_stride, begin, end);
}

static void run_share(void *context, int share, int shares) {
    const struct call *c = context;
    const int32_t blocks = c->matrix->blocks;
    if (c->rows >= (int64_t)shares * ROWS_PER_THREAD) {
        run(c, c->rows * share / shares, c->rows * (share + 1) / shares, 0, blocks);
    } else {
        run(c, 0, c->rows, (int32_t)((int64_t)blocks * share / shares),
            (int32_t)((int64_t)blocks * (share + 1) / shares));
    }
}

void fr_linear_forward(const fr_linear *linear, int64_t rows, const float *x, int64_t x_stride,
                       float *y, int64_t y_stride, int32_t threads) {
    const struct fr_matrix *m = &linear->matrix;
    struct call call = {m, x, y, rows, x_stride, y_stride};
    const double work = (double)m->inputs * m->outputs * (double)rows;
    fr_divide(work >= LEAST_WORK, threads, run_share, &call);
}

/* ---- gradients of the weights ------------------------------------------------------------ */

struct gradient {
    int32_t inputs, outputs;
    int64_t steps, rows;
    const float *x, *dy;
    float *dweight, *dbias;
    float *memory; /* per thread: a panel, and the ragged last columns of its rows */
};

static size_t thread_floats(int32_t inputs) {
    return fr_panel_floats(inputs) + FR_PANEL_ROWS * FR_GROUP;
}

size_t fr_linear_gradient_size(int32_t inputs, int32_t outputs, int32_t threads) {
    if (fr_linear_size(inputs, outputs) == 0) return 0;
    return (size_t)(threads < 1                ? 1
                    : threads < FR_MAX_THREADS ? threads
                                               : FR_MAX_THREADS) *
           thread_floats(inputs) * sizeof(float);
}

static void add_share(void *context, int share, int shares) {
    const struct gradient *g = context;
    const int64_t total = g->steps * g->rows;
    const int32_t groups = (g->outputs + FR_GROUP - 1) / FR_GROUP;
    float *panel = g->memory + (size_t)share * thread_floats(g->inputs);
    const float *x[FR_PANEL_ROWS], *dy[FR_PANEL_ROWS];
    for (int64_t done = 0; done < total; done += FR_PANEL_ROWS) {
        const int32_t count =
            total - done < FR_PANEL_ROWS ? (int32_t)(total - done) : FR_PANEL_ROWS;
        for (int32_t k = 0; k < count; k++) {
            const int64_t step = g->steps - 1 - (done + k) / g->rows;
            const int64_t row = step * g->rows + (done + k) % g->rows;
            x[k] = g->x + row * g->inputs;
            dy[k] = g->dy + row * g->outputs;
        }
        fr_fill_panel(panel, x, count, g->inputs);
        const struct fr_outer_rows rows = {.rows = count,
                                           .width = g->inputs,
                                           .panel = panel,
                                           .dy = dy,
                                           .outputs = g->outputs,
                                           .dweight = g->dweight,
                                           .dbias = g->dbias,
                                           .ragged = panel + fr_panel_floats(g->inputs)};
        for (int64_t i = (int64_t)groups * share / shares;
             i < (int64_t)groups * (share + 1) / shares; i++) {
            fr_add_outer_rows(&rows, (int32_t)i * FR_GROUP);
        }
    }
}

void fr_linear_gradient(int32_t inputs, int32_t outputs, int64_t steps, int64_t rows,
                        const float *x, const float *dy, float *dweight, float *dbias,
                        void *workspace, int32_t threads) {
    struct gradient g = {inputs, outputs, steps, rows, x, dy, dweight, dbias, workspace};
    const double work = (double)inputs * outputs * (double)steps * (double)rows;
    fr_divide(work >= LEAST_WORK, threads, add_share, &g);
}
