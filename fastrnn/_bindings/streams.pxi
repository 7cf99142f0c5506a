# One step at a time, with what comes before and behind the layers. Part of _core.pyx.

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
        num_threads()  # and kernels
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
        if self.ready:
            raise RuntimeError("a Look is initialised once")
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
        self.ready = True

    cdef float *_buffer(self, int64_t width) except NULL:
        shape = (self.capacity, width)
        return <float *>self.buffers.take(numpy.zeros(shape, float32), "buffer", shape, False, True)

    def read(self, weights not None):
        """Copies where the first rows looked in the last step to weights (N, S)."""
        cdef Arrays arrays = Arrays()
        cdef fr_attention *a = &self.look.attention
        cdef Py_buffer *view = arrays.add(weights, "weights", False, True)
        if not self.ready or view.ndim != 2 or view.shape[0] > self.capacity or view.shape[1] != a.positions:
            raise ValueError(f"weights has shape {shape_of(view)}, expected (N, {a.positions})")
        memcpy(view.buf, a.weights, view.len)


cdef class Stream:
    """The state of one stream (batch of streams) through a stack, and the step that advances it."""

    def __init__(self, Stack stack not None, int64_t rows, Table table=None, Dense head=None, embedding=None,
                 Look look=None, listed=None, outputs=None):
        if self.state is not NULL:
            raise RuntimeError("a stream is initialised once")
        num_threads()  # here for all its steps, which take one thread, and kernels
        if stack.shape.num_directions != 1:
            raise ValueError("a bidirectional layer cannot stream: its backward direction needs the end of the sequence")
        if rows < 1 or rows > 0x7fffffff:
            raise ValueError(f"a stream has at least 1 row, got {rows}")
        if table is not None and (table.stack is not stack or embedding is not None):
            raise ValueError("table was folded for another stack, or there is an embedding beside it")
        if look is not None and (not look.ready or look.look.units != stack.h_size or look.capacity != rows or head is None):
            raise ValueError("look does not fit these layers and rows, or there is no head behind it")
        if head is not None and head.in_features != stack.h_size:
            raise ValueError(f"head expects {head.in_features} features, the stack has {stack.h_size}")
        self.stack, self.rows, self.capacity, self.table, self.head = stack, rows, rows, table, head
        memset(&self.network, 0, sizeof(fr_network))  # an __init__ that failed may have come before
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
        size, self.vocabulary = self.stack.shape.input_size, 0
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
        cdef cnp.ndarray a
        cdef cnp.npy_intp *shape
        cdef bint flat
        self._check()
        if self.vocabulary:
            return self._step_tokens(x, out)
        a = floats(x, "x")
        shape = cnp.PyArray_DIMS(a)
        flat = a.ndim == 1 and self.rows == 1
        if not ((flat or a.ndim == 2 and shape[0] == self.rows) and shape[a.ndim - 1] == self.stack.shape.input_size):
            self._refuse(a)
        return self._advance(data_of(a), NULL, out, flat, 1 if flat else shape[0])

    cdef int _refuse(self, cnp.ndarray x) except -1:
        size, shape = self.stack.shape.input_size, (<object>x).shape
        if 0 < x.ndim < 3 and shape[x.ndim - 1] != size:
            raise ValueError(f"x has {shape[x.ndim - 1]} features, this {self.stack.kind} expects {size}")
        expected = f"({self.rows}, {size})" + (f" or ({size},)" if self.rows == 1 else "")
        raise ValueError(f"x has shape {shape}, this stream expects {expected}")

    cdef object _advance(self, const float *x, const int64_t *tokens, object out, bint flat, int64_t rows):
        """Runs the step of `rows` rows into `out`, or into a new array; the last chance to refuse."""
        cdef Py_buffer target
        cdef cnp.npy_intp[2] shape
        if out is None:
            shape[0], shape[1] = self.rows, self.network.outputs
            out = new_floats(1, shape + 1) if flat else new_floats(2, shape)
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
                raise ValueError(f"x holds token {shown(x)}, the vocabulary is 0 to {self.vocabulary - 1}")
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
        tokens = numpy.array(as_int64(tokens, "tokens"), order="C")  # a copy, as in a step
        cdef Py_buffer *view = arrays.add(tokens, "tokens", True, False)
        cdef const int64_t *data = <const int64_t *>view.buf
        cdef int64_t steps = view.shape[0] if view.ndim else 0, rows = self.rows
        check_shape("tokens", shape_of(view), (steps, rows))
        self._enter_tokens(data, steps * rows, rows, 1, self.network.outputs)
        try:
            with nogil:
                fr_network_read(&self.network, steps, data)
        finally:
            fr_leave(&self.busy)

    cdef int _enter_tokens(self, const int64_t *tokens, int64_t count, int64_t rows, int64_t classes,
                           int64_t outputs) except -1:
        """Claims the stream for many steps, if it takes all of `classes` tokens and gives such logits."""
        self._check()
        if self.vocabulary < classes or self.network.outputs != outputs:
            raise ValueError(f"the stream takes {self.vocabulary or 'floats, no'} tokens and gives "
                             f"{self.network.outputs} outputs, expected {classes} and {outputs}")
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
