# Live streams through a network, and whole sequences. Part of _core.pyx.

cdef class Table:
    """A folded embedding: the x part of a stack's first layer for every token; errors call tokens `name`."""

    def __cinit__(self, Stack stack not None, embedding, str name="tokens"):
        cdef Arrays arrays = Arrays()
        cdef Py_buffer *view = arrays.add(embedding, "embedding", False, False)
        tokens = view.shape[0] if view.ndim else 0
        check_shape("embedding", shape_of(view), (tokens, stack.shape.input_size))
        if stack.shape.num_directions != 1:
            raise ValueError("a bidirectional stack has no folded embedding")
        self.stack, self.tokens, self.name = stack, tokens, name
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


cdef tuple shape_of_row(tuple shape):
    """(length, channels) of a value, or (channels,) of a single vector."""
    return shape if shape[0] > 1 else shape[1:]


cdef class Slots:
    """States that the rows of a network carry from step to step, in one block; see fr_slots."""

    def __cinit__(self, Network network not None, int64_t rows):
        num_threads()  # here for all its steps, which take one thread, and kernels
        if network.network is NULL:
            raise ValueError("this network was not initialised")
        if rows < 0 or rows > 0x7fffffff:
            raise ValueError(f"a batch has 0 to {0x7fffffff} rows, got {rows}")
        self.network, self.rows, self.capacity = network, rows, rows
        self.num_bytes = fr_slots_size(network.network, rows)
        if self.num_bytes == 0:
            raise MemoryError(f"a stream of {rows} rows needs more memory than there can be")
        self.slots = fr_slots_create(network.network, rows, allocate(self.num_bytes))

    def __dealloc__(self):
        free(self.slots)

    def read(self, int32_t place, int32_t part):
        """A part (states, N, width) of what the rows carry for an operation, a copy."""
        cdef int64_t states, width
        cdef cnp.npy_intp[3] shape
        cdef cnp.ndarray values
        if not fr_network_part(self.network.network, place, part, &states, &width):
            raise ValueError(f"operation {place} has no part {part}")
        shape[0], shape[1], shape[2] = states, self.rows, width
        values = new_floats(3, shape)
        fr_slots_read(self.network.network, self.slots, place, part, self.rows, NULL, data_of(values))
        return values

    def write(self, int32_t place, int32_t part, values):
        """Sets such a part; None: as after a reset."""
        cdef Arrays arrays = Arrays()
        cdef int64_t states, width
        if not fr_network_part(self.network.network, place, part, &states, &width):
            raise ValueError(f"operation {place} has no part {part}")
        data = <const float *>arrays.take(values, "values", (states, self.rows, width), False, False)
        fr_slots_write(self.network.network, self.slots, place, part, self.rows, NULL, data)

    def look(self, int32_t place, sources):
        """Rows (N,) of an attention's memory, the one that each row of the batch looks at."""
        cdef Arrays arrays = Arrays()
        if place not in self.network.memories:
            raise ValueError(f"operation {place} has no memory")
        sources = copy_of_indices(sources, "sources", 0, self.network.memories[place])
        data = <const int64_t *>arrays.take(sources, "sources", (self.rows,), True, False)
        fr_slots_look(self.network.network, self.slots, place, self.rows, NULL, data)

    def run(self, list x, lengths, bint batch_first):
        """Whole sequences of all rows; returns the list of outputs, new arrays.

        x: for every input (T, N, ...) or, if batch_first, (N, T, ...), checked float32 or int64; lengths (N,).
        """
        cdef fr_run run
        cdef const void *inputs[MAX_PORTS]
        cdef float *outputs[MAX_PORTS]
        cdef int32_t threads = num_threads()
        cdef Memory memory = Memory()
        cdef Network network = self.network
        cdef int i = 0
        cdef Arrays arrays = Arrays()
        error = network.run_error()
        if error is not None:
            raise ValueError(error)
        memset(&run, 0, sizeof(run))
        run.steps, run.rows = x[0].shape[batch_first], x[0].shape[not batch_first]
        run.step_stride = 1 if batch_first else run.rows
        run.row_stride = run.steps if batch_first else 1
        if run.steps < 1 or run.rows != self.rows or len(x) != network.num_inputs:
            raise ValueError("x does not fit the rows and inputs")
        for port in network.ports:
            if type(port) is int:
                tokens = x[i].copy()  # nobody may change it after the check
                check_range("x", "token", <const int64_t *>cnp.PyArray_DATA(tokens), tokens.size, "the vocabulary is", port)
                x[i] = tokens
            elif x[i].size != run.steps * run.rows * network._size(port):
                raise ValueError("x does not fit the inputs")
            inputs[i] = cnp.PyArray_DATA(x[i])
            i += 1
        if lengths is not None:
            lengths = copy_of_lengths(lengths, run.rows, run.steps)
            run.lengths = <const int64_t *>cnp.PyArray_DATA(lengths)
        i, y, lead = 0, [], x[0].shape[:2]
        for place, shape in zip(network.places, network.outputs):
            at_end = network.shape_of(place)[2]
            sizes = ((run.rows,) if at_end else lead) + shape_of_row(shape)
            y.append(new_array(sizes, float32))
            outputs[i] = data_of(y[i])
            i += 1
        memory.size = fr_run_size(network.network, run.steps, run.rows, threads)
        if memory.size == 0:
            raise MemoryError(f"{run.steps} steps of {run.rows} rows need more memory than there can be")
        memory.data = allocate(memory.size)
        run.inputs, run.outputs = inputs, outputs
        if network.work * <double>(run.steps * run.rows) < RELEASE_GIL:
            fr_network_run(network.network, self.slots, &run, memory.data, 1)
        else:
            with nogil:
                fr_network_run(network.network, self.slots, &run, memory.data, threads)
        return y


cdef class Stream:
    """The rows of a batch of streams through a network, and the step that advances them."""

    def __init__(self, Network network not None, int64_t rows):
        if self.slots is not None:
            raise RuntimeError("a stream is initialised once")
        if network.network is NULL:
            raise ValueError("this network was not initialised")
        error = network.step_error()
        if error is not None:
            raise ValueError(f"a {network.kind} cannot stream: {error}")
        if rows < 1 or rows > 0x7fffffff:
            raise ValueError(f"a stream has at least 1 row, got {rows}")
        slots = Slots(network, rows)
        self.network, self.core, self.state = network, network.network, (<Slots>slots).slots
        self.rows, self.capacity, self.vocabulary = rows, rows, network.vocabulary
        self.small = network.work * <double>rows < RELEASE_GIL
        self.slots = slots

    @property
    def num_state_bytes(self):
        """Bytes of what the rows carry, and of the memory of a step."""
        return self.slots.num_bytes

    def step(self, x, out=None):
        """Advances by one time step: x (I,) or (N, I), or token ids () or (N,) -> y (F,) or (N, F).

        Frames are (L, C) or (N, L, C) instead. Several inputs are a tuple, several outputs as well. out: a
        float32 array (or a tuple of them) that receives y; then nothing is allocated. The state changes only
        when every argument was right.
        """
        cdef cnp.ndarray a
        cdef cnp.npy_intp *shape
        cdef bint flat
        cdef int axes
        self._check()
        if self.network.num_inputs != 1 or self.network.num_outputs != 1:
            return self._step_ports(x, out)
        if self.vocabulary:
            return self._step_tokens(x, out)
        a = floats(x, "x")
        shape, axes = cnp.PyArray_DIMS(a), 1 + (self.network.length_in > 1)
        flat = a.ndim == axes and self.rows == 1
        if (not (flat or a.ndim == axes + 1 and shape[0] == self.rows)
                or shape[a.ndim - 1] != self.network.channels_in
                or (axes == 2 and shape[a.ndim - 2] != self.network.length_in)):
            self._refuse(a)
        return self._advance(a, data_of(a), out, flat, 1 if flat else shape[0])

    cdef int _refuse(self, cnp.ndarray x) except -1:
        size, shape = self.network.channels_in, (<object>x).shape
        if 0 < x.ndim < 3 and shape[x.ndim - 1] != size:
            raise ValueError(f"x has {shape[x.ndim - 1]} features, this {self.network.kind} expects {size}")
        one = shape_of_row(self.network.ports[0])
        expected = f"{(self.rows, *one)}" + (f" or {one}" if self.rows == 1 else "")
        raise ValueError(f"x has shape {shape}, this stream expects {expected}")

    cdef object _advance(self, cnp.ndarray a, const void *x, object out, bint flat, int64_t rows):
        """Runs the step of `rows` rows into `out`, or into a new array; the last chance to refuse.

        x: the memory of a, or tokens, which are a copy.
        """
        cdef Arrays borrowed
        cdef cnp.npy_intp[3] shape
        cdef int ndim = self._output_shape(shape, flat, rows)
        cdef float *y
        if out is None:
            out = new_floats(ndim, shape)
            y = data_of(out)
        else:
            if is_writable_array(out, ndim, shape):
                y = data_of(out)
            else:  # any other buffer, whose protocol takes longer than a small step
                borrowed = Arrays()
                y = <float *>borrowed.take(out, "out", as_tuple(ndim, shape), False, True)
            if a is not None and overlap(x, cnp.PyArray_SIZE(a), y, rows * self.network.width_out):
                a = cnp.PyArray_NewCopy(a, cnp.NPY_CORDER)
                x = cnp.PyArray_DATA(a)
        self._enter_rows(rows)
        self._run(rows, &x, &y)
        return out

    cdef void _run(self, int64_t rows, const void *const *inputs, float *const *outputs) noexcept:
        """One step of a stream that is claimed, and then is not any more."""
        if self.small:
            fr_network_step(self.core, self.state, rows, NULL, inputs, outputs)
        else:
            with nogil:
                fr_network_step(self.core, self.state, rows, NULL, inputs, outputs)
        fr_leave(&self.busy)

    cdef int _output_shape(self, cnp.npy_intp *shape, bint flat, int64_t rows) noexcept:
        """The shape of what a step of `rows` rows gives; returns how many dimensions it has."""
        cdef int ndim = 0
        if not flat:
            shape[ndim] = rows
            ndim += 1
        if self.network.length_out > 1:
            shape[ndim] = self.network.length_out
            ndim += 1
        shape[ndim] = self.network.channels_out
        return ndim + 1

    def _step_ports(self, x, out):
        """A step with several inputs or outputs."""
        cdef Ports ports = Ports(self, x, out, False)
        self._enter_rows(ports.rows)
        self._run(ports.rows, ports.inputs, ports.outputs)
        return ports.result

    def bind(self, x, y):
        """A callable that takes no argument: `step(x, out=y)` from the same memory into the same memory.

        Its arguments are checked here, once, so that a call is little more than the kernels. x and y are float32
        arrays (token ids int64, which every call checks), or tuples of them, that do not overlap; the callable keeps
        them and returns y. It ends with the number of rows: after `reorder` to fewer rows, bind again.
        """
        self._check()
        return BoundStep(self, x, y)

    cdef int _check(self) except -1:
        if self.slots is None:
            raise RuntimeError("this stream was not initialised")
        return 0

    cdef int _enter(self) except -1:
        if not fr_enter(&self.busy):
            raise RuntimeError("this stream is in use by another thread; make one stream per thread")
        return 0

    cdef int _enter_rows(self, int64_t rows) except -1:
        """Claims the stream, if it still has as many rows as when the arguments were looked at."""
        self._enter()
        if self.rows != rows:
            fr_leave(&self.busy)
            raise RuntimeError("this stream is being reordered by another thread; make one stream per thread")
        return 0

    cdef object _step_tokens(self, object x, object out):
        cdef cnp.ndarray a
        cdef cnp.npy_intp[1] shape
        cdef int64_t token, rows = self.rows
        if type(x) is not int:
            a = cnp.PyArray_NewCopy(integers(x, "x"), cnp.NPY_CORDER)  # nobody may change it after the check
            if a.ndim or rows != 1:
                shape[0] = rows
                if not has_shape(a, 1, shape):
                    check_shape("x", (<object>a).shape, (rows,))
                tokens = <const int64_t *>cnp.PyArray_DATA(a)
                check_range("x", "token", tokens, rows, "the vocabulary is", self.vocabulary)
                return self._advance(None, tokens, out, False, rows)
            x = int(a)
        elif rows != 1:
            check_shape("x", (), (rows,))
        if not 0 <= x < self.vocabulary:
            raise ValueError(f"x holds token {shown(x)}, the vocabulary is 0 to {self.vocabulary - 1}")
        token = x
        return self._advance(None, &token, out, True, 1)

    def read(self, tokens, lengths=None):
        """Advances over tokens (T, N), each row over its first lengths (N,), without outputs."""
        cdef Memory memory = Memory()
        cdef fr_run run
        cdef const void *data
        cdef int32_t threads = num_threads()
        cdef int64_t rows = self.rows
        self._check()
        if not self.vocabulary:
            raise ValueError("the stream takes floats, no tokens")
        tokens = numpy.array(as_int64(tokens, "tokens"), order="C")  # a copy, as in a step
        steps = tokens.shape[0] if tokens.ndim else 0
        check_shape("tokens", tokens.shape, (steps, rows))
        data = cnp.PyArray_DATA(tokens)
        check_range("tokens", "token", <const int64_t *>data, steps * rows, "the vocabulary is", self.vocabulary)
        memset(&run, 0, sizeof(run))
        run.steps, run.rows, run.step_stride, run.row_stride, run.inputs = steps, rows, rows, 1, &data
        if lengths is not None:
            lengths = copy_of_lengths(lengths, rows, steps)
            run.lengths = <const int64_t *>cnp.PyArray_DATA(lengths)
        if run.steps == 0:
            return
        memory.size = fr_read_size(self.core, run.steps, rows, threads)
        if memory.size == 0:
            raise MemoryError(f"{steps} steps of {rows} rows need more memory than there can be")
        memory.data = allocate(memory.size)
        self._enter_rows(rows)
        with nogil:
            fr_network_read(self.core, self.state, &run, memory.data, threads)
        fr_leave(&self.busy)

    cdef int _enter_run(self, int64_t rows, int64_t classes) except -1:
        """Claims the stream to feed it what is drawn from the logits of its `rows` rows, of `classes` tokens."""
        self._check()
        if self.vocabulary < classes or self.network.width_out != classes or self.network.num_outputs != 1:
            raise ValueError(f"the stream takes {self.vocabulary or 'floats, no'} tokens and gives "
                             f"{self.network.width_out} outputs, expected {classes} of both")
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
            fr_slots_reorder(self.state, <const int64_t *>view.buf, count)
            self._take_rows()
        finally:
            fr_leave(&self.busy)

    cdef int _take_rows(self) except -1:
        """Takes note of how many rows there are now."""
        self.rows = self.slots.rows = fr_slots_rows(self.state)
        return 0

    def reset(self):
        """Returns to the first state with as many rows as the stream was made with."""
        self._check()
        if self.rows != self.capacity:
            self.reorder(numpy.zeros(self.capacity, numpy.int64))
        self._enter()
        fr_slots_reset(self.core, self.state, self.rows, NULL)
        fr_leave(&self.busy)

    def read_part(self, int32_t place, int32_t part):
        """A copy of a part (states, N, width) of what the rows carry for an operation; see Slots."""
        self._check()
        self._enter()
        try:
            return self.slots.read(place, part)
        finally:
            fr_leave(&self.busy)

    def write_parts(self, list parts):
        """Sets parts: tuples (place, part, values (states, N, width))."""
        self._check()
        self._enter()
        try:
            for place, part, values in parts:
                self.slots.write(place, part, values)
        finally:
            fr_leave(&self.busy)

    def look(self, int32_t place, sources):
        """Rows (N,) of an attention's memory, the one that each row of the batch looks at."""
        self._check()
        self._enter()
        try:
            self.slots.look(place, sources)
        finally:
            fr_leave(&self.busy)
