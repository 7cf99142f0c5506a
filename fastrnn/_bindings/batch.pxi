# The arrays of one call of a recurrent stack, in the layout of whoever calls. Part of _core.pyx.

@cython.final
@cython.no_gc
@cython.freelist(8)
cdef class Batch:
    """Arguments of one call, checked once and nowhere else, and room for its last states; see Stack.forward.

    x (T, N, I) or (N, T, I), packed (total, I), of a single step (N, I), or tokens, without I. Without N there is one
    row. y is laid out like x, and so are the states: (L*D, N, *), (L*D, *) for one row, for a single step without L*D.
    """

    @property
    def steps(self):
        """T."""
        return self.sequence.steps

    @property
    def rows(self):
        """N."""
        return self.sequence.rows

    @property
    def elements(self):
        """Number of steps of all rows together."""
        if self.lengths is None:
            return self.sequence.steps * self.sequence.rows
        return int(self.lengths.sum()) if self.starts is None else len(self.x)

    cdef int take_x(self, cnp.ndarray x, str name, int fewest, int most) except -1:
        """x, which lacks the rows if it has fewer than `most` dimensions."""
        cdef int32_t size = self.stack.shape.input_size
        if not fewest <= x.ndim <= most:
            expected = f"{fewest} or {most}" if fewest < most else f"{most}"
            raise ValueError(f"{name} has {x.ndim} dimensions, {this(self.owner)} expects {expected}")
        self.x, self.flat, self.axes = x, x.ndim < most, x.ndim - 1
        if cnp.PyArray_DIMS(x)[self.axes] != size:
            found = cnp.PyArray_DIMS(x)[self.axes]
            raise ValueError(f"x has {found} features, {this(self.owner)} expects {size}")
        self.sequence.x = data_of(x)
        return 0

    cdef int take_tokens(self, object tokens, Table table) except -1:
        """Tokens in place of x, whose part in the first layer is in the table."""
        if table.stack is not self.stack:
            raise ValueError("table was folded for another stack")
        self.x = cnp.PyArray_NewCopy(integers(tokens, table.name), cnp.NPY_CORDER)  # nobody may change it
        if not 1 <= self.x.ndim <= 2:
            raise ValueError(f"{table.name} has {self.x.ndim} dimensions, {this(self.owner)} expects 1 or 2")
        self.table, self.flat, self.axes = table, self.x.ndim == 1, self.x.ndim
        self.sequence.tokens, self.sequence.table = <const int64_t *>cnp.PyArray_DATA(self.x), table.rows
        if fr_first_outside(self.sequence.tokens, cnp.PyArray_SIZE(self.x), table.tokens) < cnp.PyArray_SIZE(self.x):
            check_indices(self.x, table.tokens, table.name)  # says which
        return 0

    cdef int take_sizes(self, bint batch_first, object lengths) except -1:
        """T and N of what is not packed, and how long the rows are."""
        cdef fr_sequence *q = &self.sequence
        cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(self.x)
        if self.flat and lengths is not None:
            raise ValueError("lengths needs a batch, but x has 2 dimensions")
        if self.stack.single_step:
            q.steps, q.rows = 1, 1 if self.flat else shape[0]
        else:
            q.steps, q.rows = shape[0 if self.flat else batch_first], 1 if self.flat else shape[not batch_first]
        q.step_stride, q.row_stride = 1 if batch_first else q.rows, q.steps if batch_first else 1
        if q.steps == 0:
            raise ValueError(f"x has 0 steps, {this(self.owner)} expects at least 1")
        if lengths is not None:
            self.lengths = copy_of_lengths(lengths, q.rows, q.steps)
            q.lengths = <const int64_t *>cnp.PyArray_DATA(self.lengths)
        return 0

    cdef int take_packed(self, object x, object lengths) except -1:
        """A packed batch, which has lengths of its own."""
        if lengths is not None:
            raise ValueError("lengths and a packed x exclude each other: x has its own lengths")
        # What the owner checked, and what follows from it: lengths (N,), starts (T,), which nobody else has.
        self.packed, self.lengths, self.starts = self.owner._unpack(x)
        self.take_x(floats(self.packed.data, "x.data"), "x.data", 2, 2)
        self.sequence.steps, self.sequence.rows = len(self.starts), len(self.lengths)
        self.sequence.lengths = <const int64_t *>cnp.PyArray_DATA(self.lengths)
        self.sequence.starts = <const int64_t *>cnp.PyArray_DATA(self.starts)
        return 0

    cdef int take_state(self, object state, str name, list first) except -1:
        """The initial state, h or (h, c): the given one, or `first` for all rows, or zeros; room for the last one."""
        cdef Stack stack = self.stack
        cdef int32_t H = stack.shape.hidden_size
        if state is None:
            if first:
                self.learned = True
                self.h_0 = cnp.PyArray_Repeat(first[0], self.sequence.rows, 0)
                self.c_0 = cnp.PyArray_Repeat(first[1], self.sequence.rows, 0) if stack.has_cell else None
        else:
            h, c = split_state(state, name, stack.has_cell)
            self.h_0 = self.state(h, "h" if stack.single_step else "h_0", stack.h_size)
            if stack.has_cell:
                self.c_0 = self.state(c, "c" if stack.single_step else "c_0", H)
        self.sequence.h0, self.sequence.c0 = data_or_null(self.h_0), data_or_null(self.c_0)
        if not stack.single_step:
            self.h_n = self.new_state(stack.h_size)
        if stack.has_cell:
            self.c_n = self.new_state(H)
        self.sequence.hn, self.sequence.cn = data_or_null(self.h_n), data_or_null(self.c_n)
        return 0

    cdef cnp.ndarray state(self, object value, str name, int32_t size):
        """An initial state as the core reads it."""
        cdef cnp.ndarray array = floats(value, name)
        cdef cnp.npy_intp[3] shape
        cdef int ndim = self.state_shape(shape, size)
        if not has_shape(array, ndim, shape):
            if self.flat and not self.stack.single_step and array.ndim != ndim:
                raise ValueError(f"{name} has {array.ndim} dimensions, an x of 2 dimensions expects 2")
            raise ValueError(f"{name} has shape {(<object>array).shape}, "
                             f"{this(self.owner)} expects {as_tuple(ndim, shape)}")
        return self.reordered(array, True)

    cdef int state_shape(self, cnp.npy_intp *shape, int32_t size) noexcept:
        """The shape of a state of `size` values as whoever calls has it; returns how many dimensions it has."""
        cdef int ndim = 0
        if not self.stack.single_step:
            shape[ndim] = self.stack.shape.num_layers * self.stack.shape.num_directions
            ndim += 1
        if not self.flat:
            shape[ndim] = self.sequence.rows
            ndim += 1
        shape[ndim] = size
        return ndim + 1

    cdef cnp.ndarray new_state(self, int32_t size):
        cdef cnp.npy_intp[3] shape
        cdef int ndim = self.state_shape(shape, size)
        return new_floats(ndim, shape)

    cdef cnp.ndarray reordered(self, cnp.ndarray state, bint inwards):
        """A state in the order of the packed rows, or back in that of whoever calls."""
        if state is None or self.packed is None:
            return state
        order = self.packed.sorted_indices if inwards else self.packed.unsorted_indices
        return state if order is None else numpy.take(state, order, axis=1)

    cdef int element_shape(self, cnp.npy_intp *shape, int32_t size) noexcept:
        """The shape of an array laid out like x, of `size` values; returns how many dimensions it has."""
        memcpy(shape, cnp.PyArray_DIMS(self.x), self.axes * sizeof(shape[0]))
        shape[self.axes] = size
        return self.axes + 1

    cdef cnp.ndarray new_elements(self, int32_t size):
        cdef cnp.npy_intp[3] shape
        cdef int ndim = self.element_shape(shape, size)
        return new_floats(ndim, shape)

    cdef cnp.ndarray elements_of(self, cnp.ndarray array, int32_t size):
        """An array between two layers, laid out like x, as the core reads it."""
        cdef cnp.npy_intp[3] shape
        cdef int ndim = self.element_shape(shape, size)
        if array is None or cnp.PyArray_TYPE(array) != cnp.NPY_FLOAT or not cnp.PyArray_ISCARRAY_RO(array):
            raise TypeError("what comes from another layer must be C-contiguous float32")
        if not has_shape(array, ndim, shape):
            raise ValueError(f"what comes from another layer must have shape {as_tuple(ndim, shape)}")
        return array

    cdef cnp.ndarray gradient(self, object value, str name, int ndim, const cnp.npy_intp *shape):
        """A gradient of this shape, as the core reads it; None stands for zeros."""
        if value is None:
            return None
        cdef cnp.ndarray array = floats(value, name)
        if not has_shape(array, ndim, shape):
            raise ValueError(f"{name} has shape {(<object>array).shape}, expected {as_tuple(ndim, shape)}")
        return array

    cdef object framed(self, cnp.ndarray elements):
        """y or dx as whoever calls has it."""
        return elements if self.packed is None or elements is None else self.packed._replace(data=elements)

    cdef object framed_state(self, cnp.ndarray h, cnp.ndarray c):
        """h or (h, c) as whoever calls has it."""
        if self.packed is not None:
            h, c = self.reordered(h, False), self.reordered(c, False)
        return (h, c) if self.stack.has_cell else h

    cpdef object results(self, cnp.ndarray y):
        """(y, last state) as whoever calls has them; of a single step the state alone, whose h is y."""
        if self.stack.single_step:
            return (y, self.c_n) if self.stack.has_cell else y
        return self.framed(y), self.framed_state(self.h_n, self.c_n)


@cython.final
cdef class Gradients:
    """Start of a batch's backward pass: dy and dstate, checked, and room for the states' gradients."""

    def __cinit__(self, Batch batch not None, dy, dstate):
        """dy: like y, dstate: like the last state, None for zeros."""
        cdef Stack stack = batch.stack
        cdef cnp.npy_intp[3] shape
        cdef int32_t H = stack.shape.hidden_size
        self.batch = batch
        name, given = ("dy", dy) if batch.packed is None else ("dy.data", getattr(dy, "data", dy))
        self.dy = batch.gradient(given, name, batch.element_shape(shape, stack.features), shape)
        if dstate is not None:
            h, c = split_state(dstate, "dstate", stack.has_cell)
            self.dh_n = batch.gradient(h, "dstate", batch.state_shape(shape, stack.h_size), shape)
            self.dc_n = batch.gradient(c, "dstate", batch.state_shape(shape, H), shape)
            self.dh_n, self.dc_n = batch.reordered(self.dh_n, True), batch.reordered(self.dc_n, True)
        self.dh_0 = batch.new_state(stack.h_size)
        self.dc_0 = batch.new_state(H) if stack.has_cell else None

    @property
    def first(self):
        """The gradients of the initial states, dh_0 and an LSTM's dc_0, as the core leaves them."""
        return [self.dh_0, self.dc_0] if self.batch.stack.has_cell else [self.dh_0]

    def results(self, cnp.ndarray dx):
        """(dx, dstate) as whoever calls has them; None for the dx of tokens."""
        if dx is None and self.batch.table is None:  # no rows, no tapes
            dx = self.batch.new_elements(self.batch.stack.shape.input_size)
        return self.batch.framed(dx), self.batch.framed_state(self.dh_0, self.dc_0)


cdef Batch new_batch(Stack stack, object owner, str name, object x, object state, object hx, object lengths, bint batch_first,
                     list first, Table table):
    """The arguments of Stack.forward as a batch."""
    cdef Batch batch = Batch.__new__(Batch)
    batch.stack, batch.owner = stack, owner
    if isinstance(x, tuple) and is_packed(x) and not stack.single_step:
        batch.take_packed(x, lengths)
    else:
        if table is not None:
            batch.take_tokens(x, table)
        else:
            batch.take_x(floats(x, "x"), "x", 2 - stack.single_step, 3 - stack.single_step)
        batch.take_sizes(batch_first, lengths)
    batch.take_state(state if hx is None else either(state, hx, name), name, first)
    batch.owner = None  # named in errors only; the collector of cycles does not look into a batch
    return batch


cdef bint is_packed(object x):
    """True for a packed batch, ours or PyTorch's, told by its fields."""
    return hasattr(x, "batch_sizes") and hasattr(x, "unsorted_indices")


cdef tuple split_state(object state, str name, bint has_cell):
    """h and c of a state; an RNN and a GRU have no c."""
    if not has_cell:
        return state if type(state) is ndarray else as_one(state, name), None
    if type(state) is tuple and len(<tuple>state) == 2 and state[0] is not None and state[1] is not None:
        return state
    return as_pair(state, name)


cdef bint has_shape(cnp.ndarray array, int ndim, const cnp.npy_intp *shape) noexcept:
    return array.ndim == ndim and memcmp(cnp.PyArray_DIMS(array), shape, ndim * sizeof(shape[0])) == 0


cdef tuple as_tuple(int ndim, const cnp.npy_intp *shape):
    """A shape of one to three dimensions."""
    return (shape[0], shape[1] if ndim > 1 else 0, shape[2] if ndim > 2 else 0)[:ndim]


cdef cnp.ndarray copy_of_lengths(object lengths, int64_t rows, int64_t steps):
    """Lengths (rows,) of 0 to `steps`, copied: nobody may change them between check and use."""
    cdef cnp.ndarray copy = cnp.PyArray_NewCopy(integers(lengths, "lengths"), cnp.NPY_CORDER)
    if (copy.ndim != 1 or cnp.PyArray_DIMS(copy)[0] != rows
            or fr_first_outside(<const int64_t *>cnp.PyArray_DATA(copy), rows, steps + 1) < rows):
        return as_lengths(copy, rows, steps)  # says what is wrong
    return copy


cdef str this(object owner):
    """Name of a layer in errors."""
    return f"this {type(owner).__name__}"
