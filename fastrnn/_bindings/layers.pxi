# Recurrent stacks: packed weights, and their forward pass over a batch. Part of _core.pyx.

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
    def num_directions(self):
        """D."""
        return self.shape.num_directions

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

    def batch(self, owner, str name, x, state=None, lengths=None, int layout=0, list first=None,
              packed=None, starts=None, Table table=None):
        """The arguments of a call as a Batch: every check of them is made here, and only here.

        x: see Batch; of a packed batch its data, and then `packed` is what nn.packed.checked gave and lengths (N,) and
        starts (T,) follow from it; with a table, tokens (T, N) or (T,). state: h_0 (L*D, N, R), with c_0 (L*D, N, H) a
        pair if there are cells, without N for one row, without L*D for a single step, None for `first`, the learned
        h_0 (L*D, R) and c_0 (L*D, H), or zeros. layout: False (T, N, I), True (N, T, I) or SINGLE_STEP (N, I).
        lengths (N,) or None. owner: the layer whose arguments these are; name: how it calls the state.
        """
        cdef Batch batch = Batch.__new__(Batch)
        batch.stack, batch.owner, batch.single_step = self, owner, layout == ONE_STEP
        if packed is not None:
            batch.take_x(floats(x, "x.data"), "x.data", 2, 2)
            batch.take_packing(packed, lengths, starts)
        else:
            if table is not None:
                batch.take_tokens(x, table)
            else:
                batch.take_x(floats(x, "x"), "x", 1 if batch.single_step else 2, 2 if batch.single_step else 3)
            batch.take_sizes(layout, lengths)
        batch.take_state(state, name, first)
        return batch

    def forward(self, Batch batch not None):
        """(y, last state) of the batch after all layers, new arrays as whoever calls lays them out; see Batch.results."""
        cdef fr_sequence q = batch.sequence
        cdef cnp.ndarray y = batch.new_elements(self.features)
        cdef int32_t threads = num_threads
        cdef void *workspace
        cdef size_t size
        if batch.stack is not self:
            raise ValueError("batch was made for another stack")
        q.y = data_of(y)
        if q.rows:
            size = fr_workspace_size(self.model, q.steps, q.rows, threads)
            if size == 0:
                raise MemoryError(f"{q.steps} steps of {q.rows} rows need more memory than there can be")
            self.store.settle()
            workspace = self.store.borrow(size)
            if <double>self.num_parameters * <double>q.rows * <double>q.steps < RELEASE_GIL:
                fr_forward(self.model, &q, workspace, 1)
            else:
                with nogil:
                    fr_forward(self.model, &q, workspace, threads)
            self.store.give_back(workspace)
        return batch.results(y)

    def training_bytes(self, int64_t steps, int64_t rows, int64_t elements, int64_t checkpoint_every):
        """Bytes of the tape of one layer, and of the workspace that its training needs beside it."""
        # The first layer and the others differ in their inputs.
        cdef fr_tape_plan last, first
        # All threads: a call takes fewer, and less memory, while some were late.
        last = self._plan(self.shape.num_layers - 1, steps, rows, elements, checkpoint_every)
        first = last
        first.layer = 0
        return (fr_tape_size(self.model, &first),
                max(fr_training_size(self.model, &last), fr_training_size(self.model, &first)))

    cdef fr_tape_plan _plan(self, int layer, int64_t steps, int64_t rows, int64_t elements,
                            int64_t checkpoint_every) except *:
        cdef fr_tape_plan plan
        plan.layer, plan.threads, plan.steps, plan.rows = layer, num_threads, steps, rows
        plan.elements, plan.kept_steps, plan.vocabulary = elements, checkpoint_every, 0
        if fr_tape_size(self.model, &plan) == 0:
            raise MemoryError(f"{steps} steps of {rows} rows need more memory than there can be")
        return plan
