# Recurrent stacks: packed weights, and their forward pass over a batch. Part of _core.pyx.

cdef class Stack:
    """A stack of recurrent layers with packed weights, which are written before anybody else sees it and never again.

    So any number of threads may use it while its layer moves on to the next one (`renewed`).
    """

    def __cinit__(self, cell, int input_size=0, int hidden_size=0, int num_layers=0, int num_directions=0,
                  int proj_size=0, bint bias=False, bint merge_sum=False, gates="sigmoid", bint single_step=False):
        """cell: a cell's name, or a stack, for another one of its shape that shares its store.

        single_step: of a cell, one layer in one direction, whose calls take one step, without the axis of steps.
        """
        if type(cell) is Stack:
            self._resemble(cell)
        else:
            self.shape = new_shape(cell, input_size, hidden_size, num_layers, num_directions, proj_size, bias,
                                   merge_sum, gates)
            self._describe()
            if single_step and num_layers * num_directions != 1:
                raise ValueError("a single step is that of one layer in one direction")
            self.single_step = single_step
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
        self.single_step = other.single_step
        return 0

    cdef int _describe(self) except -1:
        """Sizes that follow from the shape."""
        cdef const fr_cell_info *cell = fr_cell_at(self.shape.cell)
        self.kind = cell.family.decode()
        self.has_cell = cell.states == 2
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

    def forward(self, owner, str name, x, state=None, hx=None, lengths=None, bint batch_first=False, list first=None,
                Table table=None):
        """(y, last state) of all layers, or of a single step the state; new arrays, laid out as x is.

        x: see Batch; with a table, tokens (T, N) or (T,). state, or hx: h_0 (L*D, N, R), with c_0 (L*D, N, H) a pair if
        there are cells, without N for one row, without L*D for a single step, None for `first`, the learned h_0
        (L*D, R) and c_0 (L*D, H), or zeros. lengths (N,) or None. owner: the layer whose arguments these are; name: how
        it calls the state.
        """
        return self.run(new_batch(self, owner, name, x, state, hx, lengths, batch_first, first, table))

    def batch(self, owner, str name, x, state=None, hx=None, lengths=None, bint batch_first=False, list first=None,
              Table table=None):
        """The same arguments, checked."""
        return new_batch(self, owner, name, x, state, hx, lengths, batch_first, first, table)

    cpdef object run(self, Batch batch):
        """Results of `forward` for a batch of this stack."""
        cdef fr_sequence q = batch.sequence
        cdef cnp.ndarray y = batch.new_elements(self.features)
        cdef int32_t threads = num_threads()
        cdef fr_workspace *workspace
        if batch.stack is not self:
            raise ValueError("batch was made for another stack")
        q.y = data_of(y)
        if q.rows:
            self.store.settle()
            workspace = self.store.borrow_for(self.model, q.steps, q.rows, threads)
            if <double>self.num_parameters * <double>q.rows * <double>q.steps < RELEASE_GIL:
                fr_forward(self.model, &q, workspace.memory, 1)
            else:
                with nogil:
                    fr_forward(self.model, &q, workspace.memory, threads)
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
        plan.layer, plan.threads, plan.steps, plan.rows = layer, num_threads(), steps, rows
        plan.elements, plan.kept_steps, plan.vocabulary = elements, checkpoint_every, 0
        if fr_tape_size(self.model, &plan) == 0:
            raise MemoryError(f"{steps} steps of {rows} rows need more memory than there can be")
        return plan
