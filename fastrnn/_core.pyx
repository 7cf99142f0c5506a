# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False
"""Extension types over the C core: checks, ownership and the GIL. No mathematics, no loop over data.

Arrays are reached through the buffer protocol. Every shape is checked here once; behind it the
core trusts its arguments.
"""

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

import numpy

from fastrnn._arrays import as_float32, as_int64

cdef object ndarray = numpy.ndarray
cdef object new_array = numpy.empty
cdef object float32 = numpy.dtype(numpy.float32)
cdef object int64 = numpy.dtype(numpy.int64)

# Work in multiply-adds from which the GIL is released: about a microsecond.
cdef enum:
    RELEASE_GIL = 16384
    SPARE_BYTES = 32 << 20  # largest workspace kept from one call to the next

cdef int32_t num_threads = 1


def set_num_threads(int n):
    """Sets how many threads a call may use, at least 1; the default of every later call."""
    global num_threads
    if n < 1 or n > FR_MAX_THREADS:
        raise ValueError(f"num_threads must be 1 to {FR_MAX_THREADS}, got {n}")
    num_threads = n


def get_num_threads():
    """How many threads a call may use."""
    return num_threads


def select_isa(str name):
    """Uses the kernels "base", "avx2", "avx512" or "neon"; ValueError if this CPU has none such."""
    if not fr_isa_select(name.encode()):
        raise ValueError(f'this CPU or build has no "{name}" kernels')


def get_isa():
    """The name of the kernels in use."""
    return fr_isa().decode()


def threads_available():
    """False in a build without threads and in a forked child of a process that used them."""
    return bool(fr_threads_available())


def activation(int function, const float[::1] x not None, float[::1] y not None):
    """y = exp (0), sigmoid (1) or tanh (2) of x, as the kernels compute it."""
    if not 0 <= function <= 2:
        raise ValueError(f"function must be 0, 1 or 2, got {function}")
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"y has {y.shape[0]} values, x has {x.shape[0]}")
    if x.shape[0]:
        with nogil:
            fr_activation(function, &x[0], &y[0], x.shape[0])


def calibrate_fma(int64_t rounds):
    """Does `rounds` of independent multiply-adds without the GIL; returns how many they were."""
    cdef int64_t count
    with nogil:
        count = fr_calibrate_fma(rounds)
    return count


def calibrate_read(const float[::1] x not None, int64_t sweeps):
    """Reads x (n,), there and back in turn, without the GIL; returns how many floats were read."""
    cdef int64_t count
    if x.shape[0] == 0:
        return 0
    with nogil:
        count = fr_calibrate_read(&x[0], x.shape[0], sweeps)
    return count


def allocation_size(size_t size):
    """Bytes that an allocation of `size` bytes takes: whole cache lines, or whole huge pages."""
    return fr_allocation_size(size)


cdef int check_shape(str name, tuple got, tuple expected) except -1:
    if got != expected:
        raise ValueError(f"{name} has shape {got}, expected {expected}")
    return 0


cdef void *allocate(size_t size) except NULL:
    cdef void *memory = fr_allocate(size)
    if memory is NULL:
        raise MemoryError(f"cannot allocate {size} bytes")
    return memory


cdef int acquire(Py_buffer *view, object array, str name, bint integer, bint writable) except -1:
    """Borrows the memory of a C-contiguous float32 (or int64) array."""
    cdef int flags = PyBUF_FORMAT | PyBUF_ND | PyBUF_STRIDES | (PyBUF_WRITABLE if writable else 0)
    cdef char code
    try:
        PyObject_GetBuffer(array, view, flags)
    except (TypeError, ValueError, BufferError):
        kind = "a writable" if writable else "an"
        raise TypeError(f"{name} must be {kind} array with a plain buffer, got {type(array).__name__}") from None
    code = view.format[0] if view.format is not NULL and view.format[0] and not view.format[1] else 0
    if not (view.itemsize == 8 and code in (b"l", b"q") if integer else view.itemsize == 4 and code == b"f"):
        wanted = "int64" if integer else "float32"
        got = view.format.decode() if view.format is not NULL else "bytes"
        PyBuffer_Release(view)
        raise TypeError(f"{name} must be {wanted}, got buffer format {got!r}")
    if not PyBuffer_IsContiguous(view, b"C") or <size_t>view.buf % <size_t>view.itemsize:
        PyBuffer_Release(view)
        raise ValueError(f"{name} must be C-contiguous and aligned")
    return 0


cdef tuple shape_of(Py_buffer *view, Py_ssize_t last=-1):
    """The shape of a buffer, optionally with another last dimension."""
    shape = [view.shape[i] for i in range(view.ndim)]
    if last >= 0:
        shape[view.ndim - 1] = last
    return tuple(shape)


cdef class Arrays:
    """The borrowed arrays of one call; released together."""

    def __dealloc__(self):
        for i in range(self.count):
            PyBuffer_Release(&self.views[i])

    cdef Py_buffer *add(self, object array, str name, bint integer, bint writable) except NULL:
        if self.count == 10:
            raise SystemError("a call borrows at most 10 arrays")
        acquire(&self.views[self.count], array, name, integer, writable)
        self.count += 1
        return &self.views[self.count - 1]

    cdef void *take(self, object array, str name, tuple shape, bint integer, bint writable) except? NULL:
        """The memory of an array of this shape; NULL for None."""
        if array is None:
            return NULL
        cdef Py_buffer *view = self.add(array, name, integer, writable)
        check_shape(name, shape_of(view), shape)
        return view.buf


cdef class Stack:
    """A stack of recurrent layers with packed weights; read-only while it computes."""

    def __cinit__(self, str cell, int input_size, int hidden_size, int num_layers, int num_directions,
                  int proj_size, bint bias, bint merge_sum):
        cdef const char *error
        cdef fr_tensor tensor
        cdef int index = 0
        self.shape = fr_shape(fr_cell(cell.encode()), input_size, hidden_size, proj_size, num_layers,
                              num_directions, bias, merge_sum)
        error = fr_shape_error(&self.shape)
        if error is not NULL:
            raise ValueError(error.decode())
        self.kind = cell.split("_")[0].upper()
        self.num_parameters = fr_parameter_count(&self.shape)
        self.tensors = []
        while fr_parameter(&self.shape, index, &tensor):
            shape = [tensor.rows] if tensor.columns < 0 else [tensor.rows, tensor.columns]
            self.tensors.append((tensor.name.decode(), tuple(shape), tensor.offset))
            index += 1
        self.h_size = proj_size if proj_size else hidden_size
        self.features = self.h_size * (2 if num_directions == 2 and not merge_sum else 1)
        self.num_packed_bytes = fr_model_size(&self.shape)
        self.model = fr_model_create(&self.shape, allocate(self.num_packed_bytes))
        self.spare_tapes = []

    def __dealloc__(self):
        free(self.model)
        free(self.spare)

    def pack(self, const float[::1] parameters not None):
        """Copies the flat parameter vector (num_parameters,) into the packed layout."""
        check_shape("parameters", (parameters.shape[0],), (self.num_parameters,))
        with nogil:
            fr_model_load(self.model, &parameters[0])

    cdef int _borrow(self, size_t size, void **memory) except -1:
        # The first cache line of a block holds its size.
        cdef size_t *block = <size_t *>fr_swap(&self.spare, NULL)
        if block is not NULL and block[0] < size:
            free(block)
            block = NULL
        if block is NULL:
            block = <size_t *>allocate(size + 64)
            block[0] = size
        memory[0] = <char *>block + 64
        return 0

    cdef void _give_back(self, void *memory) noexcept:
        cdef size_t *block = <size_t *>(<char *>memory - 64)
        free(fr_swap(&self.spare, block) if block[0] <= SPARE_BYTES else block)

    def forward(self, x, y, h0=None, c0=None, hn=None, cn=None, lengths=None, starts=None, bint batch_first=False):
        """Runs whole sequences; the arrays are those of fr_sequence in fastrnn.h.

        x (T, N, I), y (T, N, F), or (N, T, ...) if batch_first; packed data: x (total, I), y (total, F),
        starts (T,), lengths (N,) falling. h0, hn (L*D, N, R); c0, cn (L*D, N, H).
        """
        cdef Arrays arrays = Arrays()
        # Copies: nobody may change between check and use what is an index in the core.
        lengths, starts = [None if a is None else numpy.array(a, numpy.int64) for a in (lengths, starts)]
        cdef fr_sequence q = self._sequence(arrays, y, lengths, starts, batch_first)
        cdef Py_buffer *view = arrays.add(x, "x", False, False)
        check_shape("x", shape_of(view), shape_of(&arrays.views[0], self.shape.input_size))
        q.x = <const float *>view.buf
        self._states(arrays, &q, h0, c0, hn, cn)
        self._run(&q)

    def training_bytes(self, int64_t steps, int64_t rows, int64_t elements, int64_t kept_steps):
        """Bytes of the tape of one layer, and of the workspace that its training needs beside it."""
        cdef fr_tape_plan plan
        # The first layer and the others differ in their inputs.
        cdef int last = self.shape.num_layers - 1
        plan = self._plan(last, steps, rows, elements, kept_steps)
        workspace = fr_training_size(self.model, &plan)
        plan.layer = 0
        return fr_tape_size(self.model, &plan), max(workspace, fr_training_size(self.model, &plan))

    cdef fr_tape_plan _plan(self, int layer, int64_t steps, int64_t rows, int64_t elements, int64_t kept_steps) except *:
        cdef fr_tape_plan plan
        plan.layer, plan.threads, plan.steps, plan.rows = layer, num_threads, steps, rows
        plan.elements, plan.kept_steps, plan.vocabulary = elements, kept_steps, 0
        if fr_tape_size(self.model, &plan) == 0:
            raise MemoryError(f"{steps} steps of {rows} rows need more memory than there can be")
        return plan

    cdef Memory _tape_memory(self, size_t size):
        # Threads may train one stack at once: whoever comes first has the spare tape.
        cdef Memory memory = None
        try:
            memory = self.spare_tapes.pop()
        except IndexError:
            pass
        if memory is not None and size <= memory.size <= 2 * size:
            return memory
        memory = Memory()
        memory.data, memory.size = allocate(size), size
        return memory

    def record(self, int layer, Transpose transpose not None, x, y, h0=None, c0=None, hn=None, cn=None,
               lengths=None, starts=None, bint batch_first=False, int64_t kept_steps=0):
        """Runs layer `layer` alone and keeps what its backward pass needs; returns the Tape.

        As `forward`, but x (T, N, inputs of the layer); the states are those of the whole stack.
        kept_steps: how many steps the tape keeps, 0: all.
        """
        cdef Tape tape = Tape.__new__(Tape)
        cdef Py_buffer *view
        if not 0 <= layer < self.shape.num_layers or transpose.stack is not self:
            raise ValueError("layer and transpose must belong to this stack")
        lengths, starts = [None if a is None else numpy.array(a, numpy.int64) for a in (lengths, starts)]
        tape.arrays, tape.stack, tape.transpose = Arrays(), self, transpose
        tape.sequence = self._sequence(tape.arrays, y, lengths, starts, batch_first)
        tape.y_shape = shape_of(&tape.arrays.views[0])
        view = tape.arrays.add(x, "x", False, False)
        tape.x_shape = shape_of(view)
        check_shape("x", tape.x_shape, shape_of(&tape.arrays.views[0], self.features if layer else self.shape.input_size))
        tape.sequence.x = <const float *>view.buf
        self._states(tape.arrays, &tape.sequence, h0, c0, hn, cn)
        elements = int(lengths.sum()) if lengths is not None else tape.sequence.steps * tape.sequence.rows
        self._start(tape, layer, transpose, elements, kept_steps)
        return tape

    def record_tokens(self, Transpose transpose not None, tokens, Table table not None, y, h0=None, c0=None,
                      hn=None, cn=None, lengths=None, int64_t kept_steps=0):
        """The same for the first layer on tokens (T, N), whose x part is in the table."""
        cdef Tape tape = Tape.__new__(Tape)
        if transpose.stack is not self or table.stack is not self:
            raise ValueError("table and transpose must belong to this stack")
        lengths = None if lengths is None else numpy.array(lengths, numpy.int64)
        tape.arrays, tape.stack, tape.transpose, tape.table = Arrays(), self, transpose, table
        tape.sequence = self._sequence(tape.arrays, y, lengths, None, False)
        tape.y_shape = shape_of(&tape.arrays.views[0])
        self._tokens(tape.arrays, &tape.sequence, tokens, table)
        self._states(tape.arrays, &tape.sequence, h0, c0, hn, cn)
        elements = int(lengths.sum()) if lengths is not None else tape.sequence.steps * tape.sequence.rows
        self._start(tape, 0, transpose, elements, kept_steps)
        return tape

    cdef int _start(self, Tape tape, int layer, Transpose transpose, int64_t elements, int64_t kept_steps) except -1:
        """Makes the tape and runs the layer."""
        cdef fr_tape_plan plan
        cdef void *workspace
        if tape.sequence.steps == 0 or tape.sequence.rows == 0:
            raise ValueError("x has 0 steps or rows, expected at least 1")
        plan = self._plan(layer, tape.sequence.steps, tape.sequence.rows, elements, kept_steps or tape.sequence.steps)
        if tape.table is not None:
            plan.vocabulary = tape.table.tokens
        tape.memory = self._tape_memory(fr_tape_size(self.model, &plan))
        tape.sequence.tape = fr_tape_create(self.model, &plan, tape.memory.data)
        tape.threads, tape.directions = plan.threads, self.shape.num_directions
        tape.workspace_size = fr_training_size(self.model, &plan)
        self.pending += 1
        transpose.pending += 1
        tape.used = 0
        self._borrow(tape.workspace_size, &workspace)
        with nogil:
            fr_forward(self.model, &tape.sequence, workspace, plan.threads)
        self._give_back(workspace)
        return 0

    def forward_tokens(self, tokens, Table table not None, y, h0=None, c0=None, hn=None, cn=None):
        """The same for tokens (T, N), int64, each in 0..V-1, whose x part is in the table."""
        cdef Arrays arrays = Arrays()
        cdef fr_sequence q = self._sequence(arrays, y, None, None, False)
        if table.stack is not self:
            raise ValueError("table was folded for another stack")
        self._tokens(arrays, &q, tokens, table)
        self._states(arrays, &q, h0, c0, hn, cn)
        self._run(&q)

    cdef int _tokens(self, Arrays arrays, fr_sequence *q, object tokens, Table table) except -1:
        tokens = numpy.array(tokens, numpy.int64)  # a copy: nobody may change it after the check
        q.tokens = <const int64_t *>arrays.take(tokens, "tokens", (q.steps, q.rows), True, False)
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < table.tokens:
            raise ValueError(f"tokens must be 0 to {table.tokens - 1}, got {tokens.min()} to {tokens.max()}")
        q.table = table.rows
        return 0

    cdef fr_sequence _sequence(self, Arrays arrays, object y, object lengths, object starts, bint batch_first) except *:
        """Sizes and strides of a call, from y and, for packed data, from starts and lengths."""
        cdef fr_sequence q
        cdef Py_buffer *view = arrays.add(y, "y", False, True)
        memset(&q, 0, sizeof(q))
        if view.ndim != (3 if starts is None else 2) or view.shape[view.ndim - 1] != self.features:
            raise ValueError(f"y has shape {shape_of(view)}, expected {3 if starts is None else 2} dimensions, "
                             f"the last of {self.features}")
        q.y = <float *>view.buf
        if starts is None:
            q.steps, q.rows = view.shape[batch_first], view.shape[not batch_first]
            q.step_stride = 1 if batch_first else q.rows
            q.row_stride = q.steps if batch_first else 1
        else:
            q.steps, q.rows = len(starts), len(lengths)
            check_packing(starts, lengths, view.shape[0])
            q.starts = <const int64_t *>arrays.take(starts, "starts", (q.steps,), True, False)
        q.lengths = <const int64_t *>arrays.take(lengths, "lengths", (q.rows,), True, False)
        if q.rows > 0x7fffffff:
            raise ValueError(f"the batch has {q.rows} rows, at most {0x7fffffff} are possible")
        if lengths is not None and q.rows and not 0 <= lengths.min() <= lengths.max() <= q.steps:
            raise ValueError(f"lengths must be 0 to {q.steps}, got {lengths.min()} to {lengths.max()}")
        return q

    cdef int _states(self, Arrays arrays, fr_sequence *q, object h0, object c0, object hn, object cn) except -1:
        states = self.shape.num_layers * self.shape.num_directions
        h_shape = (states, q.rows, self.h_size)
        c_shape = (states, q.rows, self.shape.hidden_size)
        q.h0 = <const float *>arrays.take(h0, "h0", h_shape, False, False)
        q.c0 = <const float *>arrays.take(c0, "c0", c_shape, False, False)
        q.hn = <float *>arrays.take(hn, "hn", h_shape, False, True)
        q.cn = <float *>arrays.take(cn, "cn", c_shape, False, True)
        return 0

    cdef int _run(self, fr_sequence *q) except -1:
        cdef int32_t threads = num_threads
        cdef void *workspace
        cdef size_t size
        cdef double work = <double>self.num_parameters * <double>q.rows * <double>q.steps
        if q.steps == 0:
            raise ValueError("x has 0 steps, expected at least 1")
        if q.rows == 0:
            return 0
        size = fr_workspace_size(self.model, q.steps, q.rows, threads)
        if size == 0:
            raise MemoryError(f"{q.steps} steps of {q.rows} rows need more memory than there can be")
        self._borrow(size, &workspace)
        if work < RELEASE_GIL:
            fr_forward(self.model, q, workspace, 1)
        else:
            with nogil:
                fr_forward(self.model, q, workspace, threads)
        self._give_back(workspace)
        return 0


cdef class Memory:
    """A block of memory."""

    def __dealloc__(self):
        free(self.data)


cdef class Transpose:
    """The weights of a stack as its backward pass reads them; read-only while tapes are pending."""

    def __cinit__(self, Stack stack not None):
        self.stack = stack
        self.transpose = fr_transpose_create(stack.model, allocate(fr_transpose_size(stack.model)))

    def __dealloc__(self):
        free(self.transpose)

    def pack(self, const float[::1] parameters not None):
        """Copies the flat parameter vector (num_parameters,) into the layout of the backward pass."""
        check_shape("parameters", (parameters.shape[0],), (self.stack.num_parameters,))
        with nogil:
            fr_transpose_load(self.stack.model, self.transpose, &parameters[0])


cdef class Tape:
    """What one layer's forward pass keeps; made by Stack.record, used up by one backward pass."""

    def __dealloc__(self):
        if self.memory is not None:
            self._release()

    cdef int _release(self) except -1:
        self.stack.pending -= 1
        self.transpose.pending -= 1
        if len(self.stack.spare_tapes) < self.stack.shape.num_layers:
            self.stack.spare_tapes.append(self.memory)
        self.memory = None
        self.arrays = None
        return 0

    def backward(self, parameters, dy=None, dhn=None, dcn=None, dx=None, dh0=None, dc0=None, flow=None,
                 embedding=None, dembedding=None):
        """Adds to parameters (num_parameters,), fills dx, dh0, dc0 and flow (D, T, 2) as far as given.

        dy like y, dhn and dcn like hn and cn, None for zeros. A tape of tokens needs the embedding (V, I)
        that filled its table and adds to dembedding instead of filling dx. See fr_gradients in fastrnn.h.
        """
        cdef Arrays arrays = Arrays()
        cdef fr_gradients g
        cdef void *workspace
        cdef int32_t threads = num_threads
        if not fr_enter(&self.used):
            raise RuntimeError("a pullback can be called once: its tape is used up")
        try:
            states = self.stack.shape.num_layers * self.stack.shape.num_directions
            h_shape = (states, self.sequence.rows, self.stack.h_size)
            c_shape = (states, self.sequence.rows, self.stack.shape.hidden_size)
            g.dy = <const float *>arrays.take(dy, "dy", self.y_shape, False, False)
            g.dhn = <const float *>arrays.take(dhn, "dhn", h_shape, False, False)
            g.dcn = <const float *>arrays.take(dcn, "dcn", c_shape, False, False)
            g.dx = g.dembedding = NULL
            g.embedding = NULL
            if self.table is None:
                g.dx = <float *>arrays.take(dx, "dx", self.x_shape, False, True)
            else:
                shape = (self.table.tokens, self.stack.shape.input_size)
                g.embedding = <const float *>arrays.add(embedding, "embedding", False, False).buf
                check_shape("embedding", shape_of(&arrays.views[arrays.count - 1]), shape)
                g.dembedding = <float *>arrays.take(dembedding, "dembedding", shape, False, True)
            g.dh0 = <float *>arrays.take(dh0, "dh0", h_shape, False, True)
            g.dc0 = <float *>arrays.take(dc0, "dc0", c_shape, False, True)
            arrays.add(parameters, "parameters", False, True)
            check_shape("parameters", shape_of(&arrays.views[arrays.count - 1]), (self.stack.num_parameters,))
            g.parameters = <float *>arrays.views[arrays.count - 1].buf
            g.flow = <float *>arrays.take(flow, "flow", (self.directions, self.sequence.steps, 2), False, True)
        except BaseException:
            fr_leave(&self.used)
            raise
        self.stack._borrow(self.workspace_size, &workspace)
        with nogil:
            fr_backward(self.stack.model, self.transpose.transpose, &self.sequence, &g, workspace, threads)
        self.stack._give_back(workspace)
        self._release()


cdef int check_packing(object starts, object lengths, Py_ssize_t total) except -1:
    """Packed rows must lie where starts and lengths say: step t has the rows that are longer than t."""
    falling = (numpy.diff(lengths) <= 0).all()
    alive = numpy.searchsorted(-lengths, -numpy.arange(len(starts))) if falling else starts
    ends = numpy.cumsum(alive)
    if not (falling and numpy.array_equal(starts, ends - alive) and total == alive.sum()):
        raise ValueError("starts and lengths do not describe packed data of this size")
    return 0


cdef class Dense:
    """A packed weight matrix and bias: y = x W^T + b."""

    def __cinit__(self, int in_features, int out_features, bint bias):
        cdef size_t size = fr_linear_size(in_features, out_features)
        if size == 0:
            raise ValueError(f"no linear map from {in_features} to {out_features} features is possible")
        self.in_features, self.out_features, self.bias = in_features, out_features, bias
        self.num_packed_bytes = size
        self.linear = fr_linear_create(in_features, out_features, allocate(size))

    def __dealloc__(self):
        free(self.linear)

    def pack_transposed(self, weight):
        """Copies weight (in, out) into the packed layout: then y = x weight."""
        cdef Arrays arrays = Arrays()
        if self.bias:
            raise ValueError("a transposed map has no bias")
        w = <const float *>arrays.take(weight, "weight", (self.in_features, self.out_features), False, False)
        with nogil:
            fr_linear_load_transposed(self.linear, w)

    def pack(self, weight, bias=None):
        """Copies weight (out, in) and bias (out,) into the packed layout."""
        cdef Arrays arrays = Arrays()
        if (bias is not None) != self.bias:
            raise ValueError(f"bias must be {'given' if self.bias else 'None'}")
        w = <const float *>arrays.take(weight, "weight", (self.out_features, self.in_features), False, False)
        b = <const float *>arrays.take(bias, "bias", (self.out_features,), False, False)
        with nogil:
            fr_linear_load(self.linear, w, b)

    def forward(self, x, y):
        """x (M, in) -> y (M, out)."""
        cdef Arrays arrays = Arrays()
        cdef Py_buffer *view = arrays.add(x, "x", False, False)
        cdef int64_t rows = view.shape[0] if view.ndim else 0
        cdef int32_t threads = num_threads
        check_shape("x", shape_of(view), (rows, self.in_features))
        out = <float *>arrays.take(y, "y", (rows, self.out_features), False, True)
        data = <const float *>view.buf
        with nogil:
            fr_linear_forward(self.linear, rows, data, self.in_features, out, self.out_features, threads)


def linear_gradient(x, dy, dweight=None, dbias=None):
    """dweight (out, in) += dy^T x and dbias (out,) += sums of dy, for x (T, N, in) and dy (T, N, out)."""
    cdef Arrays arrays = Arrays()
    cdef Py_buffer *view = arrays.add(x, "x", False, False)
    cdef Py_buffer *grad = arrays.add(dy, "dy", False, False)
    cdef void *memory
    cdef int32_t threads = num_threads
    if view.ndim != 3 or grad.ndim != 3 or shape_of(view)[:2] != shape_of(grad)[:2]:
        raise ValueError(f"x has shape {shape_of(view)} and dy {shape_of(grad)}, expected (T, N, in) and (T, N, out)")
    inputs, outputs = view.shape[2], grad.shape[2]
    steps, rows = view.shape[0], view.shape[1]
    weight = <float *>arrays.take(dweight, "dweight", (outputs, inputs), False, True)
    bias = <float *>arrays.take(dbias, "dbias", (outputs,), False, True)
    cdef size_t size = fr_linear_gradient_size(inputs, outputs, threads)
    if size == 0:
        raise ValueError(f"no linear map from {inputs} to {outputs} features is possible")
    memory = allocate(size)
    cdef const float *x_data = <const float *>view.buf
    cdef const float *dy_data = <const float *>grad.buf
    cdef int32_t in_features = inputs, out_features = outputs
    cdef int64_t T = steps, N = rows
    with nogil:
        fr_linear_gradient(in_features, out_features, T, N, x_data, dy_data, weight, bias, memory, threads)
    free(memory)


cdef class Table:
    """A folded embedding: the x part of a stack's first layer for every token."""

    def __cinit__(self, Stack stack not None, embedding):
        cdef Arrays arrays = Arrays()
        cdef Py_buffer *view = arrays.add(embedding, "embedding", False, False)
        tokens = view.shape[0] if view.ndim else 0
        check_shape("embedding", shape_of(view), (tokens, stack.shape.input_size))
        if stack.shape.num_directions != 1:
            raise ValueError("a bidirectional stack has no folded embedding")
        self.stack, self.tokens = stack, tokens
        self.nbytes = fr_table_size(stack.model, tokens)
        if self.nbytes == 0 and tokens:
            raise MemoryError(f"a table of {tokens} tokens needs more memory than there can be")
        self.rows = <float *>allocate(self.nbytes)
        data = <const float *>view.buf
        with nogil:
            fr_table_fill(stack.model, self.tokens, data, self.rows)

    def __dealloc__(self):
        free(self.rows)


cdef class Look:
    """Attention between a stream's layers and its head, for one step at a time; see fr_look.

    keys (S, B, A), values (S, B, M), score (A,), lengths (B,) are kept; sources (N,): which of the B
    memories each row of the stream looks at. fed_size: E, with input feeding.
    """

    def __init__(self, Dense query not None, Dense combine not None, keys, values, score, lengths, sources,
                 float scale=1.0, fed_size=None):
        cdef fr_look *l = &self.look
        cdef fr_attention *a = &l.attention
        cdef Arrays memory = Arrays()
        cdef Py_buffer *view = memory.add(keys, "keys", False, False)
        cdef Py_buffer *other = memory.add(values, "values", False, False)
        if view.ndim != 3 or other.ndim != 3 or 0 in shape_of(view) or 0 in shape_of(other):
            raise ValueError("keys and values must be (S, B, A) and (S, B, M), none of them 0")
        a.steps, a.positions, a.memory_rows, a.size = 1, view.shape[0], view.shape[1], view.shape[2]
        a.features, l.units, a.scale = other.shape[2], query.in_features, scale
        check_shape("values", shape_of(other), (a.positions, a.memory_rows, a.features))
        if (query.out_features, combine.in_features, combine.out_features) != (a.size, a.features + l.units, l.units):
            raise ValueError("query and combine do not fit the memory")
        sources = copy_of_indices(sources, "sources", 0, a.memory_rows)
        lengths = None if lengths is None else copy_of_indices(lengths, "lengths", 0, a.positions + 1)
        self.capacity = rows = len(sources)
        a.keys, a.values = <const float *>view.buf, <const float *>other.buf
        a.score = <const float *>memory.take(score, "score", (a.size,), False, False)
        a.lengths = <const int64_t *>memory.take(lengths, "lengths", (a.memory_rows,), True, False)
        a.sources = l.sources = <int64_t *>memory.take(sources, "sources", (rows,), True, True)
        self.memory, self.buffers, self.query, self.combine = memory, Arrays(), query, combine
        l.query, l.combine = query.linear, combine.linear
        l.spare_sources = <int64_t *>self.buffers.take(sources.copy(), "sources", (rows,), True, True)
        l.queries, l.joined = self._buffer(a.size), self._buffer(a.features + l.units)
        a.queries = l.queries
        l.hidden, a.context = self._buffer(l.units), self._buffer(a.features)
        a.weights, l.spare_weights = self._buffer(a.positions), self._buffer(a.positions)
        if fed_size is not None:
            l.fed_size = fed_size
            l.inputs = self._buffer(l.fed_size + l.units)

    cdef float *_buffer(self, int64_t width) except NULL:
        shape = (self.capacity, width)
        return <float *>self.buffers.take(numpy.zeros(shape, float32), "buffer", shape, False, True)

    def read(self, weights not None):
        """Copies where the first rows looked in the last step to weights (N, S)."""
        cdef Arrays arrays = Arrays()
        cdef fr_attention *a = &self.look.attention
        cdef Py_buffer *view = arrays.add(weights, "weights", False, True)
        if self.buffers is None or view.ndim != 2 or view.shape[0] > self.capacity or view.shape[1] != a.positions:
            raise ValueError(f"weights has shape {shape_of(view)}, expected (N, {a.positions})")
        memcpy(view.buf, a.weights, view.len)


cdef class Stream:
    """The state of one stream (batch of streams) through a stack, and the step that advances it."""

    def __init__(self, Stack stack not None, int64_t rows, Table table=None, Dense head=None, embedding=None,
                 Look look=None, listed=None, outputs=None):
        if self.state is not NULL:
            raise RuntimeError("a stream is initialised once")
        if stack.shape.num_directions != 1:
            raise ValueError("a bidirectional layer cannot stream: its backward direction needs the end of the sequence")
        if rows < 1 or rows > 0x7fffffff:
            raise ValueError(f"a stream has at least 1 row, got {rows}")
        if table is not None and (table.stack is not stack or embedding is not None):
            raise ValueError("table was folded for another stack, or there is an embedding beside it")
        if look is not None and (look.look.units != stack.h_size or look.capacity != rows or head is None):
            raise ValueError("look does not fit these layers and rows, or there is no head behind it")
        if head is not None and head.in_features != stack.h_size:
            raise ValueError(f"head expects {head.in_features} features, the stack has {stack.h_size}")
        self.stack, self.rows, self.capacity, self.table, self.head = stack, rows, rows, table, head
        self.look, self.network.look = look, NULL if look is None else &look.look
        self._take_tokens(embedding)
        self.network.model = stack.model
        self.network.outputs = stack.h_size if head is None else head.out_features
        self.network.head = NULL if head is None else head.linear
        if listed is not None:
            self._take_list(listed, outputs)
        self.num_state_bytes = fr_state_size(stack.model, rows)
        if self.num_state_bytes == 0:
            raise MemoryError(f"a stream of {rows} rows needs more memory than there can be")
        self.state = self.network.state = fr_state_create(stack.model, rows, allocate(self.num_state_bytes))
        work = <double>stack.num_parameters
        if head is not None:
            work += <double>head.in_features * <double>head.out_features
        self.small = look is None and work * <double>rows < RELEASE_GIL

    def __dealloc__(self):
        free(self.state)

    def _take_tokens(self, embedding):
        """What turns tokens into the first layer's input: the table, or an embedding (V, E), which is kept."""
        cdef Py_buffer *view
        size = self.stack.shape.input_size
        if self.look is not None and self.look.look.inputs is not NULL:
            size -= self.stack.h_size
            if embedding is None or self.look.look.fed_size != size:
                raise ValueError("look feeds the layers, which does not fit their inputs and the embedding")
        if self.table is not None:
            self.vocabulary, self.network.table = self.table.tokens, self.table.rows
        if embedding is None:
            return
        self.embedding = Arrays()
        view = self.embedding.add(embedding, "embedding", False, False)
        self.vocabulary = view.shape[0] if view.ndim else 0
        check_shape("embedding", shape_of(view), (self.vocabulary, size))
        self.network.embedding = <const float *>view.buf

    def _take_list(self, listed, int32_t outputs):
        """The head's outputs are those numbered `listed` (K,) among `outputs`."""
        listed = copy_of_indices(listed, "listed", 0, outputs)
        spread = new_array((self.rows, len(listed)), float32)
        self.listed = Arrays()
        self.network.listed = <const int64_t *>self.listed.take(listed, "listed", (self.head.out_features,), True, False)
        self.network.short_outputs = <float *>self.listed.take(spread, "spread", spread.shape, False, True)
        self.network.num_listed, self.network.outputs = self.head.out_features, outputs

    def step(self, x, out=None):
        """Advances by one time step: x (I,) or (N, I), or token ids () or (N,) -> y (F,) or (N, F).

        out: a float32 array that receives y; then nothing is allocated. The state changes only when
        every argument was right.
        """
        cdef Py_buffer view
        cdef bint flat
        self._check()
        if self.vocabulary:
            return self._step_tokens(x, out)
        borrow_float32(x, &view)
        try:
            flat = view.ndim == 1 and self.rows == 1
            if not ((flat or view.ndim == 2 and view.shape[0] == self.rows)
                    and view.shape[view.ndim - 1] == self.stack.shape.input_size):
                self._refuse(&view)
            out = self._advance(<const float *>view.buf, NULL, out, flat, 1 if flat else view.shape[0])
        finally:
            PyBuffer_Release(&view)
        return out

    cdef int _refuse(self, Py_buffer *x) except -1:
        size = self.stack.shape.input_size
        if x.ndim and x.ndim < 3 and x.shape[x.ndim - 1] != size:
            raise ValueError(f"x has {x.shape[x.ndim - 1]} features, this {self.stack.kind} expects {size}")
        expected = f"({self.rows}, {size})" + (f" or ({size},)" if self.rows == 1 else "")
        raise ValueError(f"x has shape {shape_of(x)}, this stream expects {expected}")

    cdef object _advance(self, const float *x, const int64_t *tokens, object out, bint flat, int64_t rows):
        """Runs the step of `rows` rows into `out`, or into a new array; the last chance to refuse."""
        cdef Py_buffer target
        if out is None:
            out = new_array(self._y_shape(flat), float32)
        acquire(&target, out, "out", False, True)
        try:
            if (target.ndim != 2 - flat or target.shape[target.ndim - 1] != self.network.outputs
                    or (not flat and target.shape[0] != self.rows)):
                check_shape("out", shape_of(&target), self._y_shape(flat))
            self._enter()
            if self.rows != rows:
                fr_leave(&self.busy)
                raise RuntimeError("this stream is being reordered by another thread; make one stream per thread")
            if self.small:
                fr_network_step(&self.network, x, tokens, <float *>target.buf)
            else:
                with nogil:
                    fr_network_step(&self.network, x, tokens, <float *>target.buf)
            fr_leave(&self.busy)
        finally:
            PyBuffer_Release(&target)
        return out

    cdef int _check(self) except -1:
        if self.state is NULL:
            raise RuntimeError("this stream was not initialised")
        return 0

    cdef int _enter(self) except -1:
        if not fr_enter(&self.busy):
            raise RuntimeError("this stream is in use by another thread; make one stream per thread")
        return 0

    cdef tuple _y_shape(self, bint flat):
        if flat:
            return (self.network.outputs,)
        return (self.rows, self.network.outputs)

    cdef object _step_tokens(self, object x, object out):
        cdef Arrays arrays
        cdef int64_t token = 0
        cdef const int64_t *tokens = &token
        cdef int64_t rows = 1
        cdef bint flat = type(x) is int
        if not flat:
            if type(x) is not ndarray or x.dtype is not int64 or not x.flags.c_contiguous:
                x = as_int64(x, "x")
            flat = x.ndim == 0
        if flat and self.rows == 1:
            if not 0 <= x < self.vocabulary:
                raise ValueError(f"x holds token {x}, the vocabulary is 0 to {self.vocabulary - 1}")
            token = x
        else:
            arrays = Arrays()
            rows = self.rows
            x = numpy.array(x, int64)  # a copy: nobody may change it after the check
            tokens = <const int64_t *>arrays.take(x, "x", (rows,), True, False)
            check_range("x", "token", tokens, rows, "the vocabulary is", self.vocabulary)
        return self._advance(NULL, tokens, out, flat, rows)

    def read(self, tokens):
        """Advances over tokens (T, N) without outputs."""
        cdef Arrays arrays = Arrays()
        tokens = numpy.array(tokens, numpy.int64, order="C")  # a copy, as in a step
        cdef Py_buffer *view = arrays.add(tokens, "tokens", True, False)
        cdef const int64_t *data = <const int64_t *>view.buf
        cdef int64_t steps = view.shape[0] if view.ndim else 0
        check_shape("tokens", shape_of(view), (steps, self.rows))
        self._enter_tokens(data, steps * self.rows, self.rows, self.network.outputs)
        try:
            with nogil:
                fr_network_read(&self.network, steps, data)
        finally:
            fr_leave(&self.busy)

    cdef int _enter_tokens(self, const int64_t *tokens, int64_t count, int64_t rows, int64_t classes) except -1:
        """Claims the stream for many steps, if it takes such tokens and gives such logits."""
        self._check()
        if not self.vocabulary or self.network.outputs != classes:
            raise ValueError(f"the stream gives {self.network.outputs} outputs for floats or {self.vocabulary} tokens")
        check_range("tokens", "token", tokens, count, "the vocabulary is", self.vocabulary)
        self._enter()
        if self.rows != rows:
            fr_leave(&self.busy)
            raise ValueError(f"the stream has {self.rows} rows, expected {rows}")
        return 0

    def reorder(self, indices):
        """Row n becomes a copy of row indices[n]; there are as many rows as indices from now on."""
        cdef Arrays arrays = Arrays()
        cdef Py_buffer *view
        cdef int64_t count
        self._check()
        if type(indices) is not ndarray or indices.dtype is not int64 or not indices.flags.c_contiguous:
            indices = as_int64(indices, "indices")
        indices = indices.copy()  # nobody may change it after the check
        view = arrays.add(indices, "indices", True, False)
        if view.ndim != 1 or not 1 <= view.shape[0] <= self.capacity:
            raise ValueError(f"indices has shape {shape_of(view)}, expected 1 to {self.capacity} row numbers")
        count = view.shape[0]
        self._enter()
        try:
            check_range("indices", "row", <const int64_t *>view.buf, count, "the rows are", self.rows)
            fr_network_reorder(&self.network, <const int64_t *>view.buf, count)
            self.rows = count
        finally:
            fr_leave(&self.busy)

    def reset(self):
        """Sets the state to zeros and the rows to as many as the stream was made with."""
        self._check()
        if self.rows != self.capacity:
            self.reorder(numpy.zeros(self.capacity, numpy.int64))
        self.set_state(None, None)

    def get_state(self, h=None, c=None):
        """Fills h (L, N, R) and c (L, N, H), as far as given."""
        cdef Arrays arrays = Arrays()
        self._check()
        self._enter()
        try:
            h_out = <float *>arrays.take(h, "h", self._h_shape(), False, True)
            c_out = <float *>arrays.take(c, "c", self._c_shape(), False, True)
            fr_state_get(self.stack.model, self.state, h_out, c_out)
        finally:
            fr_leave(&self.busy)

    def set_state(self, h=None, c=None):
        """Sets the state from h (L, N, R) and c (L, N, H); None means zeros."""
        cdef Arrays arrays = Arrays()
        self._check()
        self._enter()
        try:
            h_in = <const float *>arrays.take(h, "h", self._h_shape(), False, False)
            c_in = <const float *>arrays.take(c, "c", self._c_shape(), False, False)
            fr_state_set(self.stack.model, self.state, h_in, c_in)
        finally:
            fr_leave(&self.busy)

    cdef tuple _h_shape(self):
        return (self.stack.shape.num_layers, self.rows, self.stack.h_size)

    cdef tuple _c_shape(self):
        return (self.stack.shape.num_layers, self.rows, self.stack.shape.hidden_size)


cdef int check_range(str name, str kind, const int64_t *values, int64_t count, str range_is,
                     int64_t limit) except -1:
    """Every value must be 0 to limit - 1."""
    cdef int64_t wrong = fr_first_outside(values, count, limit)
    if wrong < count:
        raise ValueError(f"{name} holds {kind} {values[wrong]}, {range_is} 0 to {limit - 1}")
    return 0


cdef int borrow_float32(object x, Py_buffer *view) except -1:
    """The memory of x, which is first made a C-contiguous float32 array if it is none."""
    if type(x) is ndarray:
        PyObject_GetBuffer(x, view, PyBUF_FORMAT | PyBUF_ND | PyBUF_STRIDES)
        if (view.itemsize == 4 and view.format[0] == b"f" and not view.format[1]
                and PyBuffer_IsContiguous(view, b"C") and <size_t>view.buf % 4 == 0):
            return 0
        PyBuffer_Release(view)
    PyObject_GetBuffer(as_float32(x, "x"), view, PyBUF_FORMAT | PyBUF_ND | PyBUF_STRIDES)
    return 0


# ---- losses and updates ------------------------------------------------------------------------

cdef object copy_of_indices(object indices, str name, int64_t low, int64_t size):
    """Indices from `low` to size - 1, copied: nobody may change them between check and use."""
    indices = numpy.array(indices, numpy.int64)
    if indices.size and not low <= indices.min() <= indices.max() < size:
        raise ValueError(f"{name} must be {low} to {size - 1}, got {indices.min()} to {indices.max()}")
    return indices


cdef Py_buffer *add_rows_of(Arrays arrays, object array, str name) except NULL:
    cdef Py_buffer *view = arrays.add(array, name, False, False)
    if view.ndim != 2 or view.shape[1] == 0:
        raise ValueError(f"{name} has shape {shape_of(view)}, expected rows of at least one value")
    return view


def cross_entropy(logits, targets, losses=None, dlogits=None, double smoothing=0.0, double scale=1.0):
    """Losses (M,) and dlogits (M, V), as far as given, of logits (M, V) and targets (M,), -1 to V-1.

    A target of -1 is skipped. dlogits may be logits. Returns how many largest logits are the target's.
    """
    cdef Arrays arrays = Arrays()
    cdef fr_softmax s
    cdef int64_t correct = 0
    cdef int32_t threads = num_threads
    cdef Py_buffer *view = add_rows_of(arrays, logits, "logits")
    s.rows, s.classes = view.shape[0], view.shape[1]
    s.stride = s.dstride = s.classes
    s.logits = <const float *>view.buf
    targets = copy_of_indices(targets, "targets", -1, s.classes)
    s.targets = <const int64_t *>arrays.take(targets, "targets", (s.rows,), True, False)
    s.losses = <float *>arrays.take(losses, "losses", (s.rows,), False, True)
    s.dlogits = <float *>arrays.take(dlogits, "dlogits", (s.rows, s.classes), False, True)
    s.correct = &correct
    s.smoothing, s.scale = smoothing, scale
    with nogil:
        fr_cross_entropy(&s, threads)
    return correct


def log_softmax(x, y):
    """y = log softmax of every row of x (M, V); y may be x."""
    cdef Arrays arrays = Arrays()
    cdef int32_t threads = num_threads
    cdef Py_buffer *view = add_rows_of(arrays, x, "x")
    cdef int64_t rows = view.shape[0], classes = view.shape[1]
    source = <const float *>view.buf
    out = <float *>arrays.take(y, "y", (rows, classes), False, True)
    with nogil:
        fr_log_softmax(rows, classes, source, classes, out, classes, threads)


def update(str rule, parameters, gradient, m=None, v=None, a=None, *, float rate, float weight_decay=0.0,
           float shrink=1.0, float momentum=0.0, float gain=1.0, float nesterov=0.0, float decay=0.0,
           float rest=1.0, float root=1.0, float eps=0.0):
    """One step of "sgd", "adam", "rmsprop" or "adagrad" on vectors (n,); the names are fr_update's."""
    cdef Arrays arrays = Arrays()
    cdef fr_update u
    cdef int32_t threads = num_threads
    cdef Py_buffer *view = arrays.add(parameters, "parameters", False, True)
    rules = {"sgd": (FR_SGD, False), "adam": (FR_ADAM, True), "rmsprop": (FR_RMSPROP, True),
             "adagrad": (FR_ADAGRAD, True)}
    if rule not in rules:
        raise ValueError(f"rule is {rule!r}, expected one of {', '.join(rules)}")
    u.rule, needs_v = rules[rule]
    if (needs_v and v is None) or (rule == "adam" and m is None):
        raise ValueError(f"the rule {rule} needs {'m and v' if rule == 'adam' else 'v'}")
    u.n = view.shape[0] if view.ndim else 0
    shape = (u.n,)
    check_shape("parameters", shape_of(view), shape)
    u.parameters = <float *>view.buf
    u.gradient = <const float *>arrays.take(gradient, "gradient", shape, False, False)
    u.m = <float *>arrays.take(m, "m", shape, False, True)
    u.v = <float *>arrays.take(v, "v", shape, False, True)
    u.a = <float *>arrays.take(a, "a", shape, False, True)
    if u.gradient is NULL:
        raise TypeError("gradient must be float32, got None")
    u.rate, u.weight_decay, u.shrink, u.momentum, u.gain = rate, weight_decay, shrink, momentum, gain
    u.nesterov, u.decay, u.rest, u.root, u.eps = nesterov, decay, rest, root, eps
    with nogil:
        fr_update_run(&u, threads)


def squared_norm(const float[::1] x not None):
    """The sum of squares of x (n,) in float64; the same bits for any number of threads."""
    cdef int32_t threads = num_threads
    cdef size_t n = x.shape[0]
    cdef double[::1] partials = new_array(n // FR_NORM_BLOCK + 1)
    cdef double result
    if n == 0:
        return 0.0
    with nogil:
        result = fr_squared_norm(n, &x[0], &partials[0], threads)
    return result


def scale(float[::1] x not None, float factor):
    """x *= factor."""
    cdef int32_t threads = num_threads
    if x.shape[0]:
        with nogil:
            fr_scale(x.shape[0], &x[0], factor, threads)


def clip(float[::1] x not None, float bound):
    """Limits x to [-bound, bound]; NaN stays."""
    cdef int32_t threads = num_threads
    if x.shape[0]:
        with nogil:
            fr_clip(x.shape[0], &x[0], bound, threads)


def add_rows(tokens, dy, dw, bint batch_first=False):
    """dw[token] += dy for tokens (T, N), or (N, T) if batch_first, dy (..., I), dw (V, I).

    Steps in falling order, rows in rising order.
    """
    cdef Arrays arrays = Arrays()
    cdef fr_scatter s
    cdef int32_t threads = num_threads
    cdef Py_buffer *view = arrays.add(dw, "dw", False, True)
    if view.ndim != 2:
        raise ValueError(f"dw has shape {shape_of(view)}, expected 2 dimensions")
    s.dw = <float *>view.buf
    s.columns = view.shape[1]
    tokens = copy_of_indices(tokens, "tokens", 0, view.shape[0])
    if tokens.ndim != 2:
        raise ValueError(f"tokens has shape {tokens.shape}, expected 2 dimensions")
    s.steps, s.rows = tokens.shape[batch_first], tokens.shape[not batch_first]
    s.step_stride = 1 if batch_first else s.rows
    s.row_stride = s.steps if batch_first else 1
    s.tokens = <const int64_t *>arrays.take(tokens, "tokens", tokens.shape, True, False)
    s.dy = <const float *>arrays.take(dy, "dy", (*tokens.shape, s.columns), False, False)
    if s.dy is NULL:
        raise TypeError("dy must be float32, got None")
    with nogil:
        fr_add_rows(&s, threads)


# ---- attention ---------------------------------------------------------------------------------

cdef class Attended:
    """Queries (T, N, A) that looked at keys (S, B, A) and values (S, B, M); see fr_attention.

    score (A,) for additive scores, None for products times scale; lengths (B,); sources (N,) say
    which row of the memory each row looks at. Fills weights (T, N, S) and context (T, N, M).
    """

    def __init__(self, queries, keys, values, score, lengths, sources, weights, context, float scale=1.0):
        cdef int32_t threads = num_threads
        cdef Arrays arrays = Arrays()
        cdef fr_attention *a = &self.attention
        self.arrays = None  # until all is checked
        cdef Py_buffer *view = arrays.add(queries, "queries", False, False)
        cdef Py_buffer *memory = arrays.add(values, "values", False, False)
        if view.ndim != 3 or memory.ndim != 3 or 0 in (view.shape[2], memory.shape[2]):
            raise ValueError(f"queries has shape {shape_of(view)} and values {shape_of(memory)}, "
                             f"expected (T, N, A) and (S, B, M)")
        a.steps, a.rows, a.size = view.shape[0], view.shape[1], view.shape[2]
        a.positions, a.memory_rows, a.features = memory.shape[0], memory.shape[1], memory.shape[2]
        if sources is None and a.memory_rows != a.rows:
            raise ValueError(f"values has {a.memory_rows} rows, queries has {a.rows}")
        # Copies: nobody may change between check and use what is an index in the core.
        lengths = None if lengths is None else copy_of_indices(lengths, "lengths", 0, a.positions + 1)
        sources = None if sources is None else copy_of_indices(sources, "sources", 0, a.memory_rows)
        a.queries, a.values, a.scale = <const float *>view.buf, <const float *>memory.buf, scale
        a.keys = <const float *>arrays.take(keys, "keys", (a.positions, a.memory_rows, a.size), False, False)
        a.score = <const float *>arrays.take(score, "score", (a.size,), False, False)
        a.lengths = <const int64_t *>arrays.take(lengths, "lengths", (a.memory_rows,), True, False)
        a.sources = <const int64_t *>arrays.take(sources, "sources", (a.rows,), True, False)
        a.weights = <float *>arrays.take(weights, "weights", (a.steps, a.rows, a.positions), False, True)
        a.context = <float *>arrays.take(context, "context", (a.steps, a.rows, a.features), False, True)
        if a.keys is NULL or a.weights is NULL or a.context is NULL:
            raise TypeError("keys, weights and context must be float32 arrays, got None")
        self.arrays = arrays
        with nogil:
            fr_attend(a, threads)

    def backward(self, dcontext, dqueries, dkeys, dvalues, dscore, workspace):
        """Adds to dqueries, dkeys and dvalues, and to dscore (N, A); workspace (T, N, S)."""
        cdef int32_t threads = num_threads
        cdef Arrays arrays = Arrays()
        cdef fr_attention *a = &self.attention
        cdef fr_attention_gradients g
        if self.arrays is None or a.sources is not NULL or (dscore is None) != (a.score is NULL):
            raise ValueError("attention with sources has no way back, and dscore belongs to score")
        g.dcontext = <const float *>arrays.take(dcontext, "dcontext", (a.steps, a.rows, a.features), False, False)
        g.dqueries = <float *>arrays.take(dqueries, "dqueries", (a.steps, a.rows, a.size), False, True)
        g.dkeys = <float *>arrays.take(dkeys, "dkeys", (a.positions, a.rows, a.size), False, True)
        g.dvalues = <float *>arrays.take(dvalues, "dvalues", (a.positions, a.rows, a.features), False, True)
        g.dscore = <float *>arrays.take(dscore, "dscore", (a.rows, a.size), False, True)
        g.workspace = <float *>arrays.take(workspace, "workspace", (a.steps, a.rows, a.positions), False, True)
        if (g.dcontext is NULL or g.dqueries is NULL or g.dkeys is NULL or g.dvalues is NULL
                or g.workspace is NULL):
            raise TypeError("dcontext, dqueries, dkeys, dvalues and workspace must be float32 arrays, got None")
        with nogil:
            fr_attend_back(a, &g, threads)


# ---- decoding -----------------------------------------------------------------------------------

cdef int check_rows(Py_buffer *view, str name) except -1:
    if view.ndim != 2 or view.shape[0] < 1 or view.shape[1] < 1:
        raise ValueError(f"{name} has shape {shape_of(view)}, expected (rows, V)")
    return 0


cdef class Sampler:
    """Draws a token for every row of logits (N, V), whose arrays it keeps; see fr_sample, fr_draw_steps.

    raw (N, V) are the logits before processors, perhaps the same array; keys, positions (N,) say which
    random number a row uses (a position below 0: none, the row is skipped); tokens, logprobs (S + 1, N)
    are the record of up to S steps; ends (V,) marks the tokens that may end a text.
    """

    def __init__(self, logits, raw, keys, positions, tokens, logprobs, const uint8_t[::1] ends not None, *,
                 double temperature=1.0, int64_t top_k=0, double top_p=1.0, double min_p=0.0, double typical_p=1.0):
        cdef fr_sampling *s = &self.sampling
        cdef fr_draws *d = &self.draws
        cdef Arrays arrays = Arrays()
        cdef Py_buffer *view = arrays.add(logits, "logits", False, False)
        check_rows(view, "logits")
        self.capacity, s.classes, s.logits = view.shape[0], view.shape[1], <const float *>view.buf
        d.raw = <float *>arrays.take(raw, "raw", shape_of(view), False, True)
        s.keys = <const int64_t *>arrays.take(keys, "keys", (self.capacity,), True, False)
        d.positions = <int64_t *>arrays.take(positions, "positions", (self.capacity,), True, True)
        self.steps = len(tokens) - 1
        d.tokens = <int64_t *>arrays.take(tokens, "tokens", (self.steps + 1, self.capacity), True, True)
        d.logprobs = <float *>arrays.take(logprobs, "logprobs", (self.steps + 1, self.capacity), False, True)
        if self.steps < 1:
            raise ValueError("tokens has room for no step")
        check_shape("ends", (ends.shape[0],), (s.classes,))
        s.raw, s.positions, s.tokens = d.raw, d.positions, d.tokens + self.capacity
        s.logprobs = d.logprobs + self.capacity
        s.temperature, s.top_k, s.top_p, s.min_p, s.typical_p = temperature, top_k, top_p, min_p, typical_p
        self.ends, d.ends, d.sampling, d.capacity = ends, &ends[0], s, self.capacity
        self.threads = num_threads
        self.memory = Memory()
        self.memory.data = allocate(fr_sample_size(s.classes, self.threads))
        self.arrays = arrays

    def draw(self, int64_t rows):
        """Draws for the first `rows` rows, into row 1 of the record."""
        if self.arrays is None or not 0 <= rows <= self.capacity:
            raise ValueError(f"rows is {rows}, expected 0 to {self.capacity}")
        self.sampling.rows = rows
        if rows * self.sampling.classes < 1024:
            fr_sample(&self.sampling, self.memory.data, 1)
        else:
            with nogil:
                fr_sample(&self.sampling, self.memory.data, self.threads)

    def run(self, Stream stream not None, int64_t rows, int64_t steps):
        """Feeds row 0 of the record and goes on; returns the decided steps, see fr_draw_steps."""
        if self.arrays is None or not 0 <= rows <= self.capacity or not 0 <= steps <= self.steps:
            raise ValueError(f"rows is {rows} and steps {steps}, expected up to {self.capacity} and {self.steps}")
        stream._enter_tokens(self.draws.tokens, rows, rows, self.sampling.classes)
        self.draws.network = &stream.network
        try:
            with nogil:
                steps = fr_draw_steps(&self.draws, steps, self.memory.data, self.threads)
        finally:
            fr_leave(&stream.busy)
        return steps


cdef class Chooser:
    """Chooses the best continuations of groups of rows, whose arrays it keeps; see fr_choose, fr_search_steps.

    logprobs (N, V); first, last (G,): group g has the rows first[g] to last[g] - 1; best (G, k) float64,
    best_rows, best_tokens (G, k) receive results. tokens, parents, scores (float64), logprobs_taken
    (S + 1, N) are the record of up to S steps, whose row 0 has the scores of all rows; ends (V,) marks the
    tokens that may end a text; beams <= k; a row offers at most `branches` tokens (0: any number).
    """

    def __init__(self, logprobs, first, last, double[:, ::1] best not None, best_rows, best_tokens, tokens, parents,
                 double[:, ::1] scores not None, logprobs_taken, const uint8_t[::1] ends not None, int64_t beams,
                 int64_t branches=0):
        cdef fr_choice *c = &self.choice
        cdef fr_search *s = &self.search
        cdef Arrays arrays = Arrays()
        cdef Py_buffer *view = arrays.add(logprobs, "logprobs", False, True)
        check_rows(view, "logprobs")
        self.rows, c.classes, s.logits = view.shape[0], view.shape[1], <float *>view.buf
        self.capacity, c.k, self.steps = best.shape[0], best.shape[1], scores.shape[0] - 1
        if self.capacity < 1 or self.steps < 1 or not 1 <= beams <= c.k:
            raise ValueError("best, scores or beams is empty")
        s.first = <int64_t *>arrays.take(first, "first", (self.capacity,), True, True)
        s.last = <int64_t *>arrays.take(last, "last", (self.capacity,), True, True)
        c.best_rows = <int64_t *>arrays.take(best_rows, "best_rows", (self.capacity, c.k), True, True)
        c.tokens = <int64_t *>arrays.take(best_tokens, "best_tokens", (self.capacity, c.k), True, True)
        record = (self.steps + 1, self.rows)
        s.tokens = <int64_t *>arrays.take(tokens, "tokens", record, True, True)
        s.parents = <int64_t *>arrays.take(parents, "parents", record, True, True)
        s.logprobs = <float *>arrays.take(logprobs_taken, "logprobs_taken", record, False, True)
        check_shape("scores", (scores.shape[0], scores.shape[1]), record)
        check_shape("ends", (ends.shape[0],), (c.classes,))
        self.scores, self.best, self.ends = scores, best, ends
        s.scores, s.ends, s.choice, s.beams, s.capacity = &scores[0, 0], &ends[0], c, beams, self.rows
        c.logprobs, c.first, c.last, c.best, c.branches = s.logits, s.first, s.last, &best[0, 0], branches
        self.arrays = arrays

    def normalize(self, int64_t rows):
        """Log-softmax of the first `rows` rows of logprobs; returns the first row with NaN, or rows."""
        cdef int32_t threads = num_threads
        if self.arrays is None or not 0 <= rows <= self.rows:
            raise ValueError(f"rows is {rows}, expected 0 to {self.rows}")
        if rows * self.choice.classes < 1024:
            return fr_normalize(rows, self.choice.classes, self.search.logits, 1)
        with nogil:
            rows = fr_normalize(rows, self.choice.classes, self.search.logits, threads)
        return rows

    def choose(self, int64_t groups):
        """Chooses for the first `groups` groups."""
        cdef int32_t threads = num_threads
        if self.arrays is None or not 0 <= groups <= self.capacity:
            raise ValueError(f"groups is {groups}, expected 0 to {self.capacity}")
        if (fr_first_outside(self.choice.first, groups, self.rows) < groups
                or fr_first_outside(self.choice.last, groups, self.rows + 1) < groups):
            raise ValueError(f"first and last must lie in the {self.rows} rows")
        self.choice.groups, self.choice.scores = groups, self.search.scores
        if groups * self.choice.classes < 1024:
            fr_choose(&self.choice, 1)
        else:
            with nogil:
                fr_choose(&self.choice, threads)

    def run(self, Stream stream not None, int64_t groups, int64_t rows, int64_t steps):
        """Feeds row 0 of the record, `rows` rows of `groups` groups, and goes on; see fr_search_steps.

        Returns the decided steps and the first row with NaN of the one that waits, or -1.
        """
        cdef int32_t threads = num_threads
        if (self.arrays is None or not 1 <= groups <= self.capacity or not 0 <= steps <= self.steps
                or (rows != groups and rows != groups * self.search.beams) or groups * self.search.beams > self.rows
                or self.rows > stream.capacity):
            raise ValueError(f"groups is {groups}, rows is {rows} and steps is {steps}, which do not fit")
        stream._enter_tokens(self.search.tokens, rows, rows, self.choice.classes)
        self.search.network, self.choice.groups = &stream.network, groups
        try:
            with nogil:
                steps = fr_search_steps(&self.search, steps, threads)
            stream.rows = fr_state_rows(stream.state)
        finally:
            fr_leave(&stream.busy)
        return steps, self.search.nan_row


cdef class Grammar:
    """The tokens that every state of an automaton allows, applied to rows of logits; see fr_constrain.

    offsets (S + 1,), tokens (E,), needed (E,); logits (N, V), states, remaining (N,) are kept.
    """

    def __init__(self, offsets, tokens, needed, logits, states, remaining):
        cdef fr_grammar *g = &self.grammar
        cdef Arrays arrays = Arrays(), table = Arrays()
        cdef Py_buffer *view = arrays.add(logits, "logits", False, True)
        check_rows(view, "logits")
        self.capacity, g.classes, g.logits = view.shape[0], view.shape[1], <float *>view.buf
        g.states = <const int64_t *>arrays.take(states, "states", (self.capacity,), True, False)
        g.remaining = <const int64_t *>arrays.take(remaining, "remaining", (self.capacity,), True, False)
        # Copies: nobody may change between check and use what is an index in the core.
        offsets, tokens, needed = [numpy.array(a, numpy.int64) for a in (offsets, tokens, needed)]
        self.num_states = len(offsets) - 1
        if (self.num_states < 0 or offsets[0] != 0 or offsets[self.num_states] != len(tokens) or (numpy.diff(offsets) < 0).any()
                or (len(tokens) and not 0 <= tokens.min() <= tokens.max() < g.classes)):
            raise ValueError("offsets and tokens do not describe an automaton over this vocabulary")
        g.offsets = <const int64_t *>table.take(offsets, "offsets", (self.num_states + 1,), True, False)
        g.tokens = <const int64_t *>table.take(tokens, "tokens", (len(tokens),), True, False)
        g.needed = <const int64_t *>table.take(needed, "needed", (len(tokens),), True, False)
        self.arrays, self.table, self.states = arrays, table, states

    def apply(self, int64_t rows):
        """Masks the first `rows` rows; a state below 0 leaves its row as it is."""
        if self.arrays is None or not 0 <= rows <= self.capacity:
            raise ValueError(f"rows is {rows}, expected 0 to {self.capacity}")
        if rows and self.states[:rows].max() >= self.num_states:
            raise ValueError(f"states holds {self.states[:rows].max()}, the states are 0 to {self.num_states - 1}")
        self.grammar.rows = rows
        with nogil:
            fr_constrain(&self.grammar)


def uniform(int64_t key, int64_t position):
    """The random number in [0, 1) of a position of a sequence; see fr_uniform."""
    return fr_uniform(key, position)
