/* Training: tapes and gradients of recurrent layers, losses, updates. Letters and promises as in
 * fastrnn.h. */
#ifndef FASTRNN_TRAIN_H
#define FASTRNN_TRAIN_H

#include "fastrnn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- training ---------------------------------------------------------------------------- */

/* Training goes layer by layer. fr_forward with a tape runs the tape's layer alone (both
 * directions): x is that layer's input, y its output; h0, c0, hn and cn have the shapes of the
 * whole stack, and the layer uses its own part of them. The outputs have the same bits as without a
 * tape.
 *
 * The tape keeps, for the rows that exist, the activated gates and c (for every row and step G*H +
 * H floats for an LSTM, 4*H for a GRU; H more where a second phase or a projection reads what else
 * is not kept), or, if kept_steps < steps, only c before every kept_steps-th step: the backward
 * pass then computes the rest again, kept_steps at a time, with the same bits as a result. */
typedef struct fr_tape_plan {
    int32_t layer, threads;
    int64_t steps, rows; /* T, N */
    int64_t elements;    /* sum of the lengths; T * N without lengths */
    int64_t kept_steps;  /* 1 to T */
    int64_t vocabulary;  /* V, if the sequence has tokens; else 0 */
} fr_tape_plan;

FR_API size_t fr_tape_size(const fr_model *model, const fr_tape_plan *plan);
FR_API fr_tape *fr_tape_create(const fr_model *model, const fr_tape_plan *plan, void *memory);
/* Bytes of workspace that fr_forward and fr_backward need for such a tape, with up to plan.threads.
 */
FR_API size_t fr_training_size(const fr_model *model, const fr_tape_plan *plan);

/* Weights packed for the backward pass; read-only once loaded, as a model. */
typedef struct fr_backward_weights fr_backward_weights;

FR_API size_t fr_backward_weights_size(const fr_model *model);
FR_API fr_backward_weights *fr_backward_weights_create(const fr_model *model, void *memory);
FR_API void fr_backward_weights_load(const fr_model *model, fr_backward_weights *weights,
                                     const float *parameters);

typedef struct fr_gradients {
    const float *dy;        /* like y; NULL: zeros */
    const float *dhn, *dcn; /* like hn, cn; NULL: zeros */
    float *dx;              /* like x, zero past a row's end; NULL: not wanted */
    float *dh0, *dc0;       /* like h0, c0; NULL: not wanted */
    float *parameters;      /* (fr_parameter_count): added to; NULL: not wanted */
    const float *
        embedding; /* with tokens (then parameters are wanted, dx is not): what filled the table, */
    float *dembedding; /* (V, I), and its gradient, added to; NULL: not wanted */
    float *flow;       /* (D, T, 2): for time t the sum over rows and units of the squares of the
                          gradient of h (of an LSTM's o tanh(c) before a projection), and how many
                          gates are saturated; NULL: not wanted */
} fr_gradients;

/* The backward pass of the layer that the tape was made for: the same sequence as in fr_forward,
 * its x and y untouched. A tape serves one backward pass. The sum of every weight's gradient starts
 * from what is there and takes the steps from the last to the first (of the reverse direction its
 * own last, t rising), the rows of a step in rising order; that of a state or an input takes the
 * slots of the gates in the order of the tape, the forward direction first. So no bit depends on
 * threads, neighbours or kept_steps. With tokens, gates' gradients are first added up per token, in
 * the same order, and weight_ih's gradient takes the tokens in rising order: V rows instead of T *
 * N. */
FR_API void fr_backward(const fr_model *model, const fr_backward_weights *weights,
                        const fr_sequence *sequence, const fr_gradients *gradients, void *workspace,
                        int32_t threads);

/* Gradients of a linear map over x (T, N, inputs): dweight (outputs, inputs) += dy^T x and dbias
 * (outputs) += sums of dy, t falling and n rising, each NULL if not wanted. The gradient of x is
 * the map with the transposed weight, see fr_linear_load_transposed. */
FR_API size_t fr_linear_gradient_size(int32_t inputs, int32_t outputs, int32_t threads);
FR_API void fr_linear_gradient(int32_t inputs, int32_t outputs, int64_t steps, int64_t rows,
                               const float *x, const float *dy, float *dweight, float *dbias,
                               void *workspace, int32_t threads);
/* Packs weight (inputs, outputs): y = x weight, no bias. */
FR_API void fr_linear_load_transposed(fr_linear *linear, const float *weight);

/* ---- losses and updates ------------------------------------------------------------------ */

/* Softmax cross-entropy of M rows over V classes. Row m has the loss
 * (1 - s) (lse - x[target]) + s (lse - mean x), lse = log sum exp x, s = smoothing, and the
 * gradient scale (softmax x - (1 - s) onehot - s / V). A row whose target is negative has loss and
 * gradient 0. */
typedef struct fr_softmax {
    int64_t rows, classes;  /* M, V >= 1 */
    const float *logits;    /* (M, V), `stride` floats between rows */
    const int64_t *targets; /* (M) */
    float *losses;          /* (M), or NULL: not wanted */
    float *dlogits;         /* (M, V), `dstride` floats between rows, or NULL; may be logits */
    int64_t *correct;       /* rows whose first largest logit is the target's; NULL: not wanted */
    int64_t stride, dstride;
    double smoothing, scale;
} fr_softmax;

FR_API void fr_cross_entropy(const fr_softmax *softmax, int32_t threads);

/* One step of an optimiser, p and g being a parameter and its gradient:
 *     p *= shrink; g += weight_decay p                     (g itself is not written)
 *     SGD      m = momentum m + gain g; p -= rate (nesterov ? g + nesterov m : m)   without m: g
 *     Adam     m += gain (g - m); v = decay v + (1 - decay) g^2; p -= rate m / (sqrt v / root +
 * eps) RMSprop  v likewise; d = sqrt v + eps or, with a, a += (1 - decay)(g - a), d = sqrt(v - a^2)
 * + eps; p -= rate g / d, or with m: m = momentum m + g / d, p -= rate m Adagrad  v += g^2; p -=
 * rate g / (sqrt v + eps) with PyTorch's order of operations. What varies with the number of the
 * step is the caller's. */
enum fr_rule { FR_SGD, FR_ADAM, FR_RMSPROP, FR_ADAGRAD };

typedef struct fr_update {
    int32_t rule; /* enum fr_rule */
    size_t n;
    float *parameters;     /* p (n) */
    const float *gradient; /* g (n) */
    float *m, *v, *a;      /* (n) each, as far as the rule has them, else NULL */
    float rate, weight_decay, shrink, momentum, gain, nesterov;
    float decay, rest; /* rest = 1 - decay, rounded once */
    float root, eps;
} fr_update;

FR_API void fr_update_run(const fr_update *update, int32_t threads);

/* Blocks of a vector whose squares are added one block after the other. */
enum { FR_NORM_BLOCK = 4096 };
/* The sum of squares of x (n), in float64; `partials` has room for n / FR_NORM_BLOCK, rounded up.
 */
FR_API double fr_squared_norm(size_t n, const float *x, double *partials, int32_t threads);
/* x *= factor. */
FR_API void fr_scale(size_t n, float *x, float factor, int32_t threads);
/* x = x limited to [-bound, bound]; NaN stays. */
FR_API void fr_clip(size_t n, float *x, float bound, int32_t threads);

/* The gradient of an embedding: dw[tokens[index]] += dy[index], steps falling, rows rising; index =
 * t * step_stride + n * row_stride as in fr_sequence. */
typedef struct fr_scatter {
    int64_t steps, rows; /* T, N */
    int64_t step_stride, row_stride;
    int64_t columns;       /* I */
    const int64_t *tokens; /* [index] -> a row of dw */
    const float *dy;       /* [index] -> (I) */
    float *dw;             /* (V, I) */
} fr_scatter;

FR_API void fr_add_rows(const fr_scatter *scatter, int32_t threads);

/* ---- attention --------------------------------------------------------------------------- */

/* Gradients to which the backward pass adds, without sources; `weights` are those of the forward
 * pass. If keys are values, dkeys may be dvalues. */
typedef struct fr_attention_gradients {
    const float *dcontext;             /* (T, N, M) */
    float *dqueries, *dkeys, *dvalues; /* shaped like queries, keys and values */
    float *dscore;                     /* (N, A): of v, row by row; NULL without score */
    float *workspace;                  /* (T, N, S) */
} fr_attention_gradients;

FR_API void fr_attend_back(const fr_attention *attention, const fr_attention_gradients *gradients,
                           int32_t threads);

#ifdef __cplusplus
}
#endif
#endif
