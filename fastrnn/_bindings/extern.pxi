# The C interface as far as the bindings use it. Part of _core.pxd.

cdef extern from "include/fastrnn_decode.h" nogil:
    pass


cdef extern from "include/fastrnn_train.h" nogil:
    pass


cdef extern from "include/fastrnn.h" nogil:
    enum: FR_MAX_THREADS

    ctypedef struct fr_shape:
        int32_t cell, input_size, hidden_size, proj_size
        int32_t num_layers, num_directions, bias, merge_sum
        int32_t gate_activation
        float gate_alpha, gate_beta

    enum: FR_GATE_SIGMOID, FR_GATE_HARD_SIGMOID

    ctypedef struct fr_cell_info:
        const char *name
        const char *family
        int32_t gates, states, phases, direct, project, gate_activations, unit_parameters
        const char *unit_tensor

    ctypedef struct fr_tensor:
        char name[48]
        int64_t rows, columns
        size_t offset

    ctypedef struct fr_model
    ctypedef struct fr_linear

    ctypedef struct fr_tape
    ctypedef struct fr_backward_weights

    ctypedef struct fr_sequence:
        int64_t steps, rows, step_stride, row_stride
        const int64_t *starts
        const int64_t *lengths
        const float *x
        const int64_t *tokens
        const float *table
        float *y
        const float *h0
        const float *c0
        float *hn
        float *cn
        fr_tape *tape

    ctypedef struct fr_tape_plan:
        int32_t layer, threads
        int64_t steps, rows, elements, kept_steps, vocabulary

    ctypedef struct fr_gradients:
        const float *dy
        const float *dhn
        const float *dcn
        float *dx
        float *dh0
        float *dc0
        float *parameters
        const float *embedding
        float *dembedding
        float *flow

    int32_t fr_cell_count()
    const fr_cell_info *fr_cell_at(int32_t cell)
    int32_t fr_cell(const char *name)
    const char *fr_shape_error(const fr_shape *shape)
    size_t fr_parameter_count(const fr_shape *shape)
    int fr_parameter(const fr_shape *shape, int32_t index, fr_tensor *tensor)

    size_t fr_model_size(const fr_shape *shape)
    fr_model *fr_model_create(const fr_shape *shape, void *memory)
    void fr_model_load(fr_model *model, const float *parameters)

    size_t fr_workspace_size(const fr_model *model, int64_t steps, int64_t rows, int32_t threads)
    void fr_forward(const fr_model *model, const fr_sequence *sequence, void *workspace, int32_t threads)

    size_t fr_table_size(const fr_model *model, int64_t tokens)
    void fr_table_fill(const fr_model *model, int64_t tokens, const float *embedding, float *table)

    size_t fr_linear_size(int32_t inputs, int32_t outputs)
    fr_linear *fr_linear_create(int32_t inputs, int32_t outputs, void *memory)
    void fr_linear_load(fr_linear *linear, const float *weight, const float *bias)
    void fr_linear_forward(const fr_linear *linear, int64_t rows, const float *x, int64_t x_stride,
                           float *y, int64_t y_stride, int32_t threads)

    size_t fr_tape_size(const fr_model *model, const fr_tape_plan *plan)
    fr_tape *fr_tape_create(const fr_model *model, const fr_tape_plan *plan, void *memory)
    size_t fr_training_size(const fr_model *model, const fr_tape_plan *plan)
    size_t fr_backward_weights_size(const fr_model *model)
    fr_backward_weights *fr_backward_weights_create(const fr_model *model, void *memory)
    void fr_backward_weights_load(const fr_model *model, fr_backward_weights *weights, const float *parameters)
    void fr_backward(const fr_model *model, const fr_backward_weights *weights, const fr_sequence *sequence,
                     const fr_gradients *gradients, void *workspace, int32_t threads)
    size_t fr_linear_gradient_size(int32_t inputs, int32_t outputs, int32_t threads)
    void fr_linear_gradient(int32_t inputs, int32_t outputs, int64_t steps, int64_t rows, const float *x,
                            const float *dy, float *dweight, float *dbias, void *workspace, int32_t threads)
    void fr_linear_load_transposed(fr_linear *linear, const float *weight)
    enum: FR_SGD, FR_ADAM, FR_RMSPROP, FR_ADAGRAD, FR_NORM_BLOCK

    ctypedef struct fr_softmax:
        int64_t rows, classes
        const float *logits
        const int64_t *targets
        float *losses
        float *dlogits
        int64_t *correct
        int64_t stride, dstride
        double smoothing, scale

    ctypedef struct fr_update:
        int32_t rule
        size_t n
        float *parameters
        const float *gradient
        float *m
        float *v
        float *a
        float rate, weight_decay, shrink, momentum, gain, nesterov, decay, rest, root, eps

    ctypedef struct fr_scatter:
        int64_t steps, rows, step_stride, row_stride, columns
        const int64_t *tokens
        const float *dy
        float *dw

    void fr_cross_entropy(const fr_softmax *softmax, int32_t threads)
    void fr_log_softmax(int64_t rows, int64_t classes, const float *x, int64_t x_stride, float *y,
                        int64_t y_stride, int32_t threads)
    void fr_update_run(const fr_update *update, int32_t threads)
    double fr_squared_norm(size_t n, const float *x, double *partials, int32_t threads)
    void fr_scale(size_t n, float *x, float factor, int32_t threads)
    void fr_clip(size_t n, float *x, float bound, int32_t threads)
    void fr_add_rows(const fr_scatter *scatter, int32_t threads)

    ctypedef struct fr_attention:
        int64_t steps, rows, positions, memory_rows, size, features
        const float *queries
        const float *keys
        const float *values
        const float *score
        const int64_t *lengths
        const int64_t *sources
        float *weights
        float *context
        float scale

    ctypedef struct fr_attention_gradients:
        const float *dcontext
        float *dqueries
        float *dkeys
        float *dvalues
        float *dscore
        float *workspace

    ctypedef struct fr_network
    ctypedef struct fr_slots
    ctypedef struct fr_conv

    enum:
        FR_OP_INPUT, FR_OP_TOKENS, FR_OP_EMBED, FR_OP_RECURRENT, FR_OP_LINEAR, FR_OP_CONV, FR_OP_CONV_TIME, FR_OP_ACTIVATE, FR_OP_CHANNELS, FR_OP_LAYER_NORM
        FR_OP_ADD, FR_OP_MULTIPLY, FR_OP_CONCATENATE, FR_OP_SELECT, FR_OP_RESHAPE, FR_OP_PREVIOUS, FR_OP_ATTEND
        FR_OP_LISTED, FR_OP_POOL, FR_OP_FLIP

    ctypedef struct fr_operation:
        int32_t kind, num_inputs
        const int32_t *inputs
        int32_t length, channels, first, function
        float alpha, beta
        double eps
        const fr_model *model
        const fr_linear *linear
        const fr_conv *conv
        const float *table
        const float *h0
        const float *c0
        const float *scale
        const float *shift
        const fr_attention *attention
        const int64_t *listed

    ctypedef struct fr_graph:
        int32_t num_operations, num_outputs
        const fr_operation *operations
        const int32_t *outputs

    ctypedef struct fr_run:
        int64_t steps, rows, step_stride, row_stride
        const int64_t *lengths
        const void *const *inputs
        float *const *outputs

    size_t fr_network_size(const fr_graph *graph)
    const char *fr_network_create(const fr_graph *graph, void *memory, fr_network **network)
    int fr_network_shape(const fr_network *network, int32_t operation, int32_t *length, int32_t *channels)
    const char *fr_network_step_error(const fr_network *network)
    const char *fr_network_run_error(const fr_network *network)
    int fr_network_part(const fr_network *network, int32_t operation, int32_t part, int64_t *states, int64_t *width)
    size_t fr_slots_size(const fr_network *network, int64_t capacity)
    fr_slots *fr_slots_create(const fr_network *network, int64_t capacity, void *memory)
    void fr_slots_reset(const fr_network *network, fr_slots *slots, int64_t rows, const int64_t *slot)
    void fr_slots_reorder(fr_slots *slots, const int64_t *indices, int64_t rows)
    int64_t fr_slots_rows(const fr_slots *slots)
    void fr_slots_read(const fr_network *network, const fr_slots *slots, int32_t operation, int32_t part,
                       int64_t rows, const int64_t *slot, float *values)
    void fr_slots_write(const fr_network *network, fr_slots *slots, int32_t operation, int32_t part,
                        int64_t rows, const int64_t *slot, const float *values)
    void fr_slots_look(const fr_network *network, fr_slots *slots, int32_t operation, int64_t rows,
                       const int64_t *slot, const int64_t *sources)
    void fr_network_step(const fr_network *network, fr_slots *slots, int64_t rows, const int64_t *slot,
                         const void *const *inputs, float *const *outputs)
    size_t fr_run_size(const fr_network *network, int64_t steps, int64_t rows, int32_t threads)
    void fr_network_run(const fr_network *network, fr_slots *slots, const fr_run *run, void *workspace,
                        int32_t threads)
    size_t fr_read_size(const fr_network *network, int64_t steps, int64_t rows, int32_t threads)
    void fr_network_read(const fr_network *network, fr_slots *slots, const fr_run *run, void *workspace,
                         int32_t threads)

    void fr_attend(const fr_attention *attention, int32_t threads)
    void fr_attend_back(const fr_attention *attention, const fr_attention_gradients *gradients, int32_t threads)

    const char *fr_isa()
    int fr_isa_select(const char *name)
    int fr_threads_available()
    int32_t fr_team_size(int32_t threads)
    int64_t fr_calibrate_fma(int64_t rounds)
    int64_t fr_calibrate_read(const float *x, size_t n, int64_t sweeps)


cdef extern from "ops/rows.h" nogil:
    int64_t fr_take_rows(int64_t n, const int64_t *indices, int64_t limit, int64_t width, const float *table, float *y)
    void fr_mix(int64_t n, float factor, const float *x, int add, float *y)


cdef extern from "kernels.h" nogil:
    enum: FR_ACTIVATIONS, FR_SCALE_SHIFT, FR_PRELU

    ctypedef struct fr_activation:
        int32_t function
        float a, b
        int64_t rows, size
        const float *x
        float *y
        const float *dy
        float *dx

    ctypedef struct fr_channels:
        int32_t rule
        int64_t rows, size
        const float *x
        const float *weight
        const float *bias
        float *y
        const float *dy
        float *dx
        float *dweight
        float *dbias


    ctypedef struct fr_norm:
        int64_t rows, size
        double eps
        const float *x
        const float *weight
        const float *bias
        float *y
        float *normal
        float *inverse
        const float *dy
        float *dx
        float *dweight
        float *dbias


cdef extern from "ops/norm.h" nogil:
    void fr_layer_norm(const fr_norm *norm, int32_t threads)
    void fr_layer_norm_back(const fr_norm *norm, int32_t threads)


cdef extern from "ops/overtime.h" nogil:
    ctypedef struct fr_over_time:
        int64_t steps, rows, width, step_stride, row_stride
        const int64_t *starts
        const int64_t *lengths
        const float *x
        float *y
        int64_t *places

    enum: FR_LAST, FR_MEAN, FR_MAX

    void fr_pool(const fr_over_time *call, int32_t kind, int32_t threads)
    void fr_pool_back(const fr_over_time *call, int32_t kind, int32_t threads)
    void fr_flip(const fr_over_time *call, int32_t threads)


cdef extern from "ops/activation.h" nogil:
    enum: FR_OVER_EACH, FR_OVER_PAIR, FR_OVER_ROW

    struct fr_activation_info:
        const char *name
        int32_t over, reads
        const char *parameter[2]
        float usual[2]

    const fr_activation_info *fr_activations
    int32_t fr_activation_named(const char *name)
    void fr_activate(const fr_activation *activation, int32_t threads)
    void fr_activate_back(const fr_activation *activation, int32_t threads)


cdef extern from "ops/elementwise.h" nogil:
    void fr_apply_channels(const fr_channels *channels, int32_t threads)
    void fr_apply_channels_back(const fr_channels *channels, int32_t threads)


cdef extern from "ops/conv.h" nogil:
    ctypedef struct fr_conv_shape:
        int32_t inputs, outputs, kernel, stride, dilation, groups, before, after

    ctypedef struct fr_conv_back

    ctypedef struct fr_conv_call:
        int64_t signals, length, x_signal, x_position, y_signal, y_position
        const float *x
        const float *past
        float *y
        const float *dy
        float *dx
        float *dpast
        float *dweight
        float *dbias

    const char *fr_conv_error(const fr_conv_shape *shape)
    int64_t fr_conv_length(const fr_conv_shape *shape, int64_t length)
    size_t fr_conv_size(const fr_conv_shape *shape)
    fr_conv *fr_conv_create(const fr_conv_shape *shape, void *memory)
    void fr_conv_load(fr_conv *conv, const float *weight, const float *bias)
    size_t fr_conv_workspace_size(const fr_conv *conv, int32_t threads)
    void fr_conv_forward(const fr_conv *conv, const fr_conv_call *call, void *workspace, int32_t threads)
    void fr_conv_next_past(const fr_conv *conv, const fr_conv_call *call, float *next)
    size_t fr_conv_back_size(const fr_conv_shape *shape)
    fr_conv_back *fr_conv_back_create(const fr_conv_shape *shape, void *memory)
    void fr_conv_back_load(fr_conv_back *back, const float *weight)
    size_t fr_conv_back_workspace_size(const fr_conv_back *back, int32_t threads)
    void fr_conv_backward(const fr_conv_back *back, const fr_conv_call *call, void *workspace, int32_t threads)


cdef extern from "host.h" nogil:
    void *fr_allocate(size_t bytes)
    size_t fr_allocation_size(size_t bytes)
    int fr_enter(int *mark)
    void fr_leave(int *mark)
    void *fr_swap(void **spare, void *memory)


cdef extern from *:
    """
    /* Sizes in the same power of two share a bit. */
    static size_t fr_size_bit(size_t size) { return (size_t)1 << (8 * sizeof size - 1 - __builtin_clzll(size | 1)); }
    static void fr_mark(size_t *bits, size_t bit) { __atomic_fetch_or(bits, bit, __ATOMIC_RELAXED); }
    static int fr_is_marked(size_t *bits, size_t bit) { return (__atomic_load_n(bits, __ATOMIC_RELAXED) & bit) != 0; }
    static void fr_unmark(size_t *bits) { __atomic_store_n(bits, 0, __ATOMIC_RELAXED); }

    /* Head of a workspace, a cache line: its size, and the call that it was last measured for. */
    struct fr_workspace { size_t size; int64_t steps, rows, threads; char memory[] __attribute__((aligned(64))); };
    """
    ctypedef struct fr_workspace "struct fr_workspace":
        size_t size
        int64_t steps, rows, threads
        char *memory
    size_t fr_size_bit(size_t size) noexcept nogil
    void fr_mark(size_t *bits, size_t bit) noexcept nogil
    int fr_is_marked(size_t *bits, size_t bit) noexcept nogil
    void fr_unmark(size_t *bits) noexcept nogil


cdef extern from "include/fastrnn_decode.h" nogil:
    pass


cdef extern from "include/fastrnn_train.h" nogil:
    pass


cdef extern from "include/fastrnn.h" nogil:
    ctypedef struct fr_sampling:
        float temperature, min_p
        double top_p, typical_p
        int64_t top_k

    ctypedef struct fr_sampler_plan:
        fr_sampling how
        int64_t classes, capacity, steps
        int32_t threads, has_processors
        const uint8_t *ends

    ctypedef struct fr_sampled:
        float *raw
        float *logits
        int64_t *keys
        int64_t *positions
        const int64_t *tokens
        const float *logprobs

    ctypedef struct fr_search_plan:
        int64_t classes, capacity, steps, groups, k, beams, branches
        int32_t threads
        const uint8_t *ends

    ctypedef struct fr_searched:
        float *logits
        double *scores
        const double *best
        const int64_t *rows
        const int64_t *candidates
        const int64_t *tokens
        const int64_t *parents
        const float *logprobs

    ctypedef struct fr_sampler
    ctypedef struct fr_search

    ctypedef struct fr_grammar:
        int64_t rows, classes
        float *logits
        const int64_t *states
        const int64_t *remaining
        const int64_t *offsets
        const int64_t *tokens
        const int64_t *needed

    double fr_uniform(int64_t key, int64_t position)
    size_t fr_sampler_size(const fr_sampler_plan *plan)
    fr_sampler *fr_sampler_create(const fr_sampler_plan *plan, void *memory)
    fr_sampled fr_sampler_arrays(fr_sampler *sampler)
    int64_t fr_sampler_run(fr_sampler *sampler, const fr_network *network, fr_slots *slots,
                           int64_t rows, int64_t steps)
    size_t fr_search_size(const fr_search_plan *plan)
    fr_search *fr_search_create(const fr_search_plan *plan, void *memory)
    fr_searched fr_search_arrays(fr_search *search)
    int64_t fr_search_normalize(fr_search *search, int64_t rows)
    int64_t fr_search_run(fr_search *search, const fr_network *network, fr_slots *slots, int64_t groups,
                          const int64_t *first, const int64_t *last, int64_t steps, int64_t *nan_row)
    void fr_constrain(const fr_grammar *grammar)
    int64_t fr_first_outside(const int64_t *values, int64_t n, int64_t limit)
