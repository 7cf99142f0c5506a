"""Extension types, and through extern.pxi the C interface as far as they use it."""

cimport numpy as cnp
from cpython.buffer cimport Py_buffer
from libc.stdint cimport int32_t, int64_t, uint8_t


include "_bindings/extern.pxi"


cdef class Arrays:
    cdef Py_buffer[10] views
    cdef int count
    cdef Py_buffer *add(self, object array, str name, bint integer, bint writable) except NULL
    cdef void *take(self, object array, str name, tuple shape, bint integer, bint writable) except? NULL


cdef class Memory:
    cdef void *data
    cdef size_t size


cdef class Store:
    cdef void *workspace
    cdef void *weights
    cdef void *backward_weights
    cdef list tapes
    cdef int max_tapes
    cdef public bint trained
    cdef size_t returned, repeated  # bits of the sizes of tapes that came back, and of those that came again
    cdef size_t large  # 1 if `tapes` may hold more than SPARE_BYTES
    cdef fr_workspace *borrow(self, size_t size) except NULL
    cdef fr_workspace *borrow_for(self, const fr_model *model, int64_t steps, int64_t rows, int32_t threads) except NULL
    cdef void give_back(self, fr_workspace *block) noexcept nogil
    cdef Memory take_tape(self, size_t size)
    cdef int give_tape(self, Memory memory) except -1
    cdef size_t _tape_bytes(self) except? 0
    cdef int _drop_tapes(self) except -1
    cdef int settle(self) except -1
    cdef void *block(self, void **spare, size_t size) except NULL
    cdef void put(self, void **spare, void *memory) noexcept nogil


cdef class Batch
cdef class Table


cdef class Stack:
    cdef fr_shape shape
    cdef fr_model *model
    cdef readonly Store store
    cdef readonly size_t num_parameters
    cdef readonly size_t num_packed_bytes
    cdef readonly list tensors
    cdef readonly str kind
    cdef int32_t features, h_size
    cdef readonly bint has_cell
    cdef bint single_step
    cdef int _resemble(self, Stack other) except -1
    cdef int _describe(self) except -1
    cpdef object run(self, Batch batch)
    cdef fr_tape_plan _plan(self, int layer, int64_t steps, int64_t rows, int64_t elements,
                            int64_t checkpoint_every) except *


cdef class Batch:
    cdef fr_sequence sequence  # all but y
    cdef readonly Stack stack
    cdef readonly cnp.ndarray x, lengths
    cdef readonly bint learned  # whether the initial state is the learned one
    cdef cnp.ndarray starts, h_0, c_0, h_n, c_n
    cdef object owner, packed
    cdef Table table
    cdef int axes  # of x, without its features
    cdef bint flat
    cdef int take_x(self, cnp.ndarray x, str name, int fewest, int most) except -1
    cdef int take_tokens(self, object tokens, Table table) except -1
    cdef int take_sizes(self, bint batch_first, object lengths) except -1
    cdef int take_packed(self, object x, object lengths) except -1
    cdef int take_state(self, object state, str name, list first) except -1
    cdef cnp.ndarray state(self, object value, str name, int32_t size)
    cdef int state_shape(self, cnp.npy_intp *shape, int32_t size) noexcept
    cdef cnp.ndarray new_state(self, int32_t size)
    cdef cnp.ndarray reordered(self, cnp.ndarray state, bint inwards)
    cdef int element_shape(self, cnp.npy_intp *shape, int32_t size) noexcept
    cdef cnp.ndarray new_elements(self, int32_t size)
    cdef cnp.ndarray elements_of(self, cnp.ndarray array, int32_t size)
    cdef cnp.ndarray gradient(self, object value, str name, int ndim, const cnp.npy_intp *shape)
    cdef object framed(self, cnp.ndarray elements)
    cdef object framed_state(self, cnp.ndarray h, cnp.ndarray c)
    cpdef object results(self, cnp.ndarray y)


cdef class Gradients:
    cdef Batch batch
    cdef cnp.ndarray dy, dh_n, dc_n, dh_0, dc_0


cdef class BackwardWeights:
    cdef fr_backward_weights *packed
    cdef readonly Stack stack


cdef class Tape:
    cdef fr_sequence sequence
    cdef Batch batch
    cdef BackwardWeights weights
    cdef Memory memory
    cdef cnp.ndarray x, y
    cdef size_t workspace_size
    cdef int layer, used


cdef class Dense:
    cdef fr_linear *linear
    cdef readonly Store store
    cdef readonly int32_t in_features, out_features
    cdef readonly bint bias
    cdef readonly size_t num_packed_bytes


cdef class Activation:
    cdef fr_activation call
    cdef const fr_activation_info *info
    cdef readonly str kept
    cdef int _rows(self, fr_activation *call, cnp.ndarray x, object owner) except -1


cdef class Convolution:
    cdef fr_conv_shape shape
    cdef void *memory
    cdef fr_conv *conv
    cdef fr_conv_back *back
    cdef readonly Store store
    cdef readonly bint bias, backward
    cdef readonly size_t num_packed_bytes
    cdef int _call(self, fr_conv_call *call, cnp.ndarray x, bint over_time, object owner) except -1
    cdef cnp.ndarray _past(self, fr_conv_call *call, object past, cnp.ndarray x)
    cdef tuple _past_shape(self, cnp.ndarray x)


cdef class Table:
    cdef float *rows
    cdef readonly Stack stack
    cdef readonly int64_t tokens
    cdef readonly size_t nbytes
    cdef str name


cdef class Network:
    cdef fr_network *network
    cdef void *memory
    cdef readonly str kind
    cdef readonly list kinds, weights  # of the operations
    cdef readonly list ports, outputs, places  # of inputs and outputs
    cdef readonly dict memories  # of attention: how many rows they have
    cdef list kept
    cdef readonly int64_t vocabulary
    cdef readonly size_t num_bytes
    cdef int32_t num_inputs, num_outputs, length_in, channels_in, length_out, channels_out
    cdef int64_t width_out
    cdef double work  # about how many multiply-adds a step of one row takes


cdef class Slots:
    cdef fr_slots *slots
    cdef readonly Network network
    cdef readonly int64_t rows, capacity
    cdef readonly size_t num_bytes


cdef class Stream:
    cdef const fr_network *core
    cdef fr_slots *state
    cdef readonly Network network
    cdef Slots slots
    cdef readonly int64_t rows, capacity, vocabulary
    cdef int busy
    cdef bint small
    cdef int _refuse(self, cnp.ndarray x) except -1
    cdef object _advance(self, cnp.ndarray a, const void *x, object out, bint flat, int64_t rows)
    cdef void _run(self, int64_t rows, const void *const *inputs, float *const *outputs) noexcept
    cdef int _output_shape(self, cnp.npy_intp *shape, bint flat, int64_t rows) noexcept
    cdef int _take_rows(self) except -1
    cdef int _check(self) except -1
    cdef int _enter(self) except -1
    cdef int _enter_rows(self, int64_t rows) except -1
    cdef object _step_tokens(self, object x, object out)
    cdef int _enter_run(self, int64_t rows, int64_t classes) except -1


cdef class OverTime:
    cdef fr_over_time call
    cdef int32_t threads
    cdef tuple shape, row
    cdef cnp.ndarray lengths, starts, places, x  # keeps what the pointers point to
    cdef cnp.ndarray _take(self, object given, str name, tuple shape, tuple result)


cdef class Attended:
    cdef fr_attention attention
    cdef readonly cnp.ndarray weights, context
    cdef tuple arrays  # keeps what the pointers point to


# ---- decoding -----------------------------------------------------------------------------------

cdef class Sampler:
    cdef fr_sampler *sampler
    cdef Memory memory
    cdef readonly object raw, logits, keys, positions, tokens, logprobs
    cdef int64_t classes, capacity, steps
    cdef bint has_processors
    cdef int busy


cdef class Chooser:
    cdef fr_search *search
    cdef Memory memory
    cdef readonly object logits, first, last, best, best_rows, best_tokens, tokens, parents, scores, logprobs
    cdef int64_t classes, capacity, rows, steps, beams
    cdef int busy


cdef class Grammar:
    cdef fr_grammar grammar
    cdef Arrays arrays
    cdef Arrays table
    cdef const int64_t *given_states
    cdef object states
    cdef int64_t capacity, num_states
    cdef int busy
