# Recurrent stacks, their tapes and gradients. Part of _core.pyx.

cdef class Stack:
    """A stack of recurrent layers with packed weights, which are written before anybody else sees it and never again.

    So any number of threads may use it while its layer moves on to the next one (`renewed`).
    """

    def __cinit__(self, cell, int input_size=0, int hidden_size=0, int num_layers=0, int num_directions=0,
                  int proj_size=0, bint bias=False, bint merge_sum=False):
        """cell: a cell's name, or a stack, for another one of its shape that shares its store."""
        if type(cell) is Stack:
            self._resemble(cell)
        else:
            self.shape = fr_shape(fr_cell((<str?>cell).encode()), input_size, hidden_size, proj_size, num_layers,
                                  num_directions, bias, merge_sum)
            self._describe(cell)
            self.store = Store(num_layers)
        self.model = fr_model_create(&self.shape, self.store.block(&self.store.weights, self.num_packed_bytes))

    @property
    def input_size(self):
        """I."""
        return self.shape.input_size

    @property
    def num_layers(self):
        """L."""
        return self.shape.num_layers

    @property
    def hidden_size(self):
        """H, the width of c."""
        return self.shape.hidden_size

    @property
    def state_size(self):
        """R, the width of h."""
        return self.h_size

    cdef int _resemble(self, Stack other) except -1:
        self.shape, self.kind, self.has_cell, self.tensors = other.shape, other.kind, other.has_cell, other.tensors
        self.num_parameters, self.num_packed_bytes = other.num_parameters, other.num_packed_bytes
        self.features, self.h_size, self.store = other.features, other.h_size, other.store
        return 0

    cdef int _describe(self, str cell) except -1:
        """What follows from the shape."""
        cdef const char *error = fr_shape_error(&self.shape)
        if error is not NULL:
            raise ValueError(error.decode())
        self.kind = cell.split("_")[0].upper()
        self.has_cell = self.kind == "LSTM"
        self.num_parameters = fr_parameter_count(&self.shape)
        self.tensors = tensors_of(&self.shape)
        self.h_size = self.shape.proj_size if self.shape.proj_size else self.shape.hidden_size
        self.features = self.h_size * (2 if self.shape.num_directions == 2 and not self.shape.merge_sum else 1)
        self.num_packed_bytes = fr_model_size(&self.shape)
        return 0

    def __dealloc__(self):
        if self.store is not None and self.model is not NULL:
            self.store.put(&self.store.weights, self.model)
        else:
            free(self.model)

    def renewed(self, const float[::1] parameters not None):
        """A stack of the same shape with the flat parameter vector (num_parameters,) packed; it shares the store."""
        cdef Stack new
        check_shape("parameters", (parameters.shape[0],), (self.num_parameters,))
        new = Stack(self)
        with nogil:
            fr_model_load(new.model, &parameters[0])
        return new

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

    def run(self, x, state, lengths, bint batch_first, owner):
        """A new y and last state, h_n or (h_n, c_n), of all layers.

        x (T, N, I), (N, T, I) if batch_first, or (T, I) for one row; state: h_0 (L*D, N, R), with c_0 (L*D, N, H) a
        pair if there are cells, without N for one row, None for zeros; lengths (N,) or None. `owner`: the layer
        whose arguments these are.
        """
        cdef fr_sequence q
        cdef cnp.ndarray a = floats(x, "x"), y
        cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(a)
        cdef bint flat = a.ndim == 2
        memset(&q, 0, sizeof(q))
        if not flat and a.ndim != 3:
            raise ValueError(f"x has {a.ndim} dimensions, {this(owner)} expects 2 or 3")
        if flat and lengths is not None:
            raise ValueError("lengths needs a batch, but x has 2 dimensions")
        self._check_features(shape[a.ndim - 1], owner)
        q.steps, q.rows = shape[0 if flat else batch_first], 1 if flat else shape[not batch_first]
        q.step_stride = 1 if batch_first else q.rows
        q.row_stride = q.steps if batch_first else 1
        if q.steps == 0:
            raise ValueError(f"x has 0 steps, {this(owner)} expects at least 1")
        if lengths is not None:
            lengths = copy_of_lengths(lengths, q.rows, q.steps)
            q.lengths = <const int64_t *>cnp.PyArray_DATA(lengths)
        y = new_like(a, self.features)
        q.x, q.y = data_of(a), data_of(y)
        return y, self._run_from(&q, state, self.shape.num_layers * self.shape.num_directions, flat, owner)

    def step(self, x, state, owner):
        """A new h, or (h, c), after one step of a cell, which is one layer in one direction.

        x (N, I) or (I,); state: h (N, H) or (H,), with c a pair if there are cells, None for zeros.
        """
        cdef fr_sequence q
        cdef cnp.ndarray a = floats(x, "x"), y
        cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(a)
        cdef bint flat = a.ndim == 1
        memset(&q, 0, sizeof(q))
        if not flat and a.ndim != 2:
            raise ValueError(f"x has {a.ndim} dimensions, {this(owner)} expects 1 or 2")
        self._check_features(shape[a.ndim - 1], owner)
        q.steps, q.rows = 1, 1 if flat else shape[0]
        q.step_stride, q.row_stride = q.rows, 1
        y = new_like(a, self.features)
        q.x, q.y = data_of(a), data_of(y)
        c = self._run_from(&q, state, 0, flat, owner)
        return (y, c) if self.has_cell else y

    cdef int _check_features(self, cnp.npy_intp size, owner) except -1:
        if size != self.shape.input_size:
            raise ValueError(f"x has {size} features, {this(owner)} expects {self.shape.input_size}")
        return 0

    cdef object _run_from(self, fr_sequence *q, object state, int depth, bint flat, owner):
        """Runs the sequence from a state; the new last state, (depth, N, *) or (depth, *) if `flat`.

        depth 0: that of a cell, (N, *) or (*,); its last h is y, and c alone is returned.
        """
        cdef cnp.ndarray h_0, c_0, h_n = None, c_n = None
        cdef int32_t H = self.shape.hidden_size
        h = c = None
        if self.has_cell:
            h, c = as_pair(state, "state")
        elif state is not None:
            h = as_one(state, "h_0" if depth else "h")
        if h is not None:
            h_0 = self._state(h, "h_0" if depth else "h", depth, q.rows, self.h_size, flat, owner)
            q.h0 = data_of(h_0)
        if c is not None:
            c_0 = self._state(c, "c_0" if depth else "c", depth, q.rows, H, flat, owner)
            q.c0 = data_of(c_0)
        if depth:
            h_n = new_state(depth, q.rows, self.h_size, flat)
            q.hn = data_of(h_n)
        if self.has_cell:
            c_n = new_state(depth, q.rows, H, flat)
            q.cn = data_of(c_n)
            self._run(q)
            return (h_n, c_n) if depth else c_n
        self._run(q)
        return h_n

    cdef cnp.ndarray _state(self, object value, str name, int depth, int64_t rows, int32_t size, bint flat, owner):
        """An initial state as the core reads it."""
        cdef cnp.ndarray a = floats(value, name)
        cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(a)
        cdef int ndim = (depth != 0) + (not flat) + 1
        if a.ndim != ndim and depth and flat:
            raise ValueError(f"{name} has {a.ndim} dimensions, an x of 2 dimensions expects 2")
        if (a.ndim != ndim or shape[ndim - 1] != size or (not flat and shape[ndim - 2] != rows)
                or (depth and shape[0] != depth)):
            expected = (<object>new_state(depth, rows, size, flat)).shape
            raise ValueError(f"{name} has shape {(<object>a).shape}, {this(owner)} expects {expected}")
        return a

    def training_bytes(self, int64_t steps, int64_t rows, int64_t elements, int64_t kept_steps):
        """Bytes of the tape of one layer, and of the workspace that its training needs beside it."""
        cdef fr_tape_plan plan
        # The first layer and the others differ in their inputs.
        cdef int last = self.shape.num_layers - 1
        # All threads: a call takes fewer, and less memory, while some were late.
        plan = self._plan(last, steps, rows, elements, kept_steps, num_threads)
        workspace = fr_training_size(self.model, &plan)
        plan.layer = 0
        return fr_tape_size(self.model, &plan), max(workspace, fr_training_size(self.model, &plan))

    cdef fr_tape_plan _plan(self, int layer, int64_t steps, int64_t rows, int64_t elements, int64_t kept_steps,
                            int32_t threads) except *:
        cdef fr_tape_plan plan
        plan.layer, plan.threads, plan.steps, plan.rows = layer, threads, steps, rows
        plan.elements, plan.kept_steps, plan.vocabulary = elements, kept_steps, 0
        if fr_tape_size(self.model, &plan) == 0:
            raise MemoryError(f"{steps} steps of {rows} rows need more memory than there can be")
        return plan

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
        cdef size_t tape_size
        if tape.sequence.steps == 0 or tape.sequence.rows == 0:
            raise ValueError("x has 0 steps or rows, expected at least 1")
        plan = self._plan(layer, tape.sequence.steps, tape.sequence.rows, elements,
                          kept_steps or tape.sequence.steps, num_threads)
        if tape.table is not None:
            plan.vocabulary = tape.table.tokens
        # The same memory for every call, also while some of the threads are not asked.
        tape_size, tape.workspace_size = fr_tape_size(self.model, &plan), fr_training_size(self.model, &plan)
        plan.threads = fr_team_size(num_threads)
        tape.memory = self.store.take_tape(max(tape_size, fr_tape_size(self.model, &plan)))
        tape.workspace_size = max(tape.workspace_size, fr_training_size(self.model, &plan))
        tape.sequence.tape = fr_tape_create(self.model, &plan, tape.memory.data)
        tape.threads, tape.directions = plan.threads, self.shape.num_directions
        tape.used = 0
        workspace = self.store.borrow(tape.workspace_size)
        with nogil:
            fr_forward(self.model, &tape.sequence, workspace, plan.threads)
        self.store.give_back(workspace)
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
        self.store.settle()
        workspace = self.store.borrow(size)
        if work < RELEASE_GIL:
            fr_forward(self.model, q, workspace, 1)
        else:
            with nogil:
                fr_forward(self.model, q, workspace, threads)
        self.store.give_back(workspace)
        return 0


cdef cnp.ndarray copy_of_lengths(object lengths, int64_t rows, int64_t steps):
    """Lengths (rows,) of 0 to `steps`, copied: nobody may change them between check and use."""
    cdef cnp.ndarray copy = cnp.PyArray_NewCopy(integers(lengths, "lengths"), cnp.NPY_CORDER)
    if (copy.ndim != 1 or cnp.PyArray_DIMS(copy)[0] != rows
            or fr_first_outside(<const int64_t *>cnp.PyArray_DATA(copy), rows, steps + 1) < rows):
        return as_lengths(copy, rows, steps)  # says what is wrong
    return copy


cdef str this(object owner):
    """How errors call a layer."""
    return f"this {type(owner).__name__}"


cdef cnp.ndarray new_state(int depth, int64_t rows, int32_t size, bint flat):
    """A state of `depth` layers (0: a cell), without rows if `flat`."""
    cdef cnp.npy_intp[3] shape
    cdef int ndim = 0
    if depth:
        shape[ndim] = depth
        ndim += 1
    if not flat:
        shape[ndim] = rows
        ndim += 1
    shape[ndim] = size
    return new_floats(ndim + 1, shape)


cdef class Transpose:
    """The weights of a stack as its backward pass reads them: as `parameters` (num_parameters,) are now."""

    def __cinit__(self, Stack stack not None, const float[::1] parameters not None):
        check_shape("parameters", (parameters.shape[0],), (stack.num_parameters,))
        self.stack = stack
        stack.store.trained = True
        self.transpose = fr_transpose_create(
            stack.model, stack.store.block(&stack.store.transposed, fr_transpose_size(stack.model)))
        with nogil:
            fr_transpose_load(stack.model, self.transpose, &parameters[0])

    def __dealloc__(self):
        if self.stack is not None and self.transpose is not NULL:
            self.stack.store.put(&self.stack.store.transposed, self.transpose)
        else:
            free(self.transpose)


cdef class Tape:
    """What one layer's forward pass keeps; made by Stack.record, used up by one backward pass."""

    def __dealloc__(self):
        if self.memory is not None and self.stack is not None:
            self._release()

    cdef int _release(self) except -1:
        self.stack.store.give_tape(self.memory)
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
        workspace = self.stack.store.borrow(self.workspace_size)
        with nogil:
            fr_backward(self.stack.model, self.transpose.transpose, &self.sequence, &g, workspace, threads)
        self.stack.store.give_back(workspace)
        self._release()


cdef int check_packing(object starts, object lengths, Py_ssize_t total) except -1:
    """Packed rows must lie where starts and lengths say: step t has the rows that are longer than t."""
    falling = (numpy.diff(lengths) <= 0).all()
    alive = numpy.searchsorted(-lengths, -numpy.arange(len(starts))) if falling else starts
    ends = numpy.cumsum(alive)
    if not (falling and numpy.array_equal(starts, ends - alive) and total == alive.sum()):
        raise ValueError("starts and lengths do not describe packed data of this size")
    return 0
