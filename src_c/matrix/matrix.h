/* Packed weight matrices: layout and packing. Only this folder and simd/ know the place
 * of a weight in memory. Outputs are counted as packed: output `block` * width + j.
 */
#ifndef FASTRNN_MATRIX_H
#define FASTRNN_MATRIX_H

#include "../arena.h"
#include "../kernels.h"

/* Blocks of `width` (16 to 64) outputs whose results lie side by side; no memory yet. */
struct fr_matrix fr_matrix_of(int32_t inputs, int32_t outputs, int32_t width);

/* Number of chains that the sums of so many outputs have. */
int32_t fr_chains(int64_t outputs);

/* Takes the weights of matrices with equally many blocks: block 0 of all of them, block 1, ... so
 * that a walk over all of them reads the memory once from end to end. Those without outputs, which
 * come last, take none. */
enum { FR_TOGETHER = 3 }; /* at most so many */
void fr_take_weights(struct fr_matrix *const *matrices, int count, struct fr_arena *arena);

/* A matrix by itself, in blocks of 64, with its bias. */
void fr_lay_out_matrix(struct fr_matrix *m, int32_t inputs, int32_t outputs,
                       struct fr_arena *arena);

/* W (rows, inputs) become the outputs from `output` on: at most 16, all of one group of 16. */
void fr_pack_outputs(const struct fr_matrix *m, int32_t output, int32_t rows, const float *W);
/* W (outputs) become the weights of input k. */
void fr_pack_input(const struct fr_matrix *m, int32_t k, const float *W);

/* Place of the weight from an input to an output, for weights that come one by one. */
float *fr_weight_at(const struct fr_matrix *m, int32_t input, int32_t output);

/* Whole matrices: W (outputs, inputs) and b (outputs), NULL for zeros; W (inputs, outputs). */
void fr_pack_matrix(const struct fr_matrix *m, const float *W, const float *b);
void fr_pack_transposed(const struct fr_matrix *m, const float *W);

#endif
