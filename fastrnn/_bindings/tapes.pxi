# Training: the backward weights of a stack, tapes of its layers, gradients. Part of _core.pyx.

@cython.final
cdef class BackwardWeights:
    """The weights of a stack as its backward pass reads them: as `parameters` (num_parameters,) are now."""

    def __cinit__(self, Stack stack not None, const float[::1] parameters not None):
        check_shape("parameters", (parameters.shape[0],), (stack.num_parameters,))
        self.stack = stack
        stack.store.trained = True
        self.packed = fr_backward_weights_create(
            stack.model, stack.store.block(&stack.store.backward_weights, fr_backward_weights_size(stack.model)))
        with nogil:
            fr_backward_weights_load(stack.model, self.packed, &parameters[0])

    def __dealloc__(self):
        if self.stack is not None and self.packed is not NULL:
            self.stack.store.put(&self.stack.store.backward_weights, self.packed)
        else:
            free(self.packed)

    def record(self, Batch batch not None, int layer, cnp.ndarray x, int64_t checkpoint_every):
        """(y, tape) of layer `layer` alone, with what its backward pass needs; the states are the batch's.

        x: None for the batch's own x, of the first layer; else what the layer below gave, laid out like it.
        checkpoint_every: how many steps the tape keeps at a time; between them it keeps c alone.
        """
        cdef Tape tape = Tape.__new__(Tape)
        cdef Stack stack = self.stack
        cdef fr_sequence *q = &tape.sequence
        cdef fr_tape_plan plan
        cdef size_t tape_size
        cdef fr_workspace *workspace
        if batch.stack is not stack or not 0 <= layer < stack.shape.num_layers or (x is None) != (layer == 0):
            raise ValueError("batch, layer and x must belong to this stack")
        if batch.sequence.rows == 0:
            raise ValueError("x has 0 rows, a tape expects at least 1")
        tape.batch, tape.weights, tape.sequence, tape.layer = batch, self, batch.sequence, layer
        tape.y = batch.new_elements(stack.features)
        q.y = data_of(tape.y)
        if layer:
            tape.x = batch.elements_of(x, stack.features)
            q.x, q.tokens, q.table = data_of(tape.x), NULL, NULL
        plan = stack._plan(layer, q.steps, q.rows, batch.elements, checkpoint_every)
        if q.tokens is not NULL:
            plan.vocabulary = batch.table.tokens
        # The same memory for every call, also while some of the threads are not asked.
        tape_size, tape.workspace_size = fr_tape_size(stack.model, &plan), fr_training_size(stack.model, &plan)
        plan.threads = fr_team_size(num_threads())
        tape.memory = stack.store.take_tape(max(tape_size, fr_tape_size(stack.model, &plan)))
        tape.workspace_size = max(tape.workspace_size, fr_training_size(stack.model, &plan))
        q.tape = fr_tape_create(stack.model, &plan, tape.memory.data)
        workspace = stack.store.borrow(tape.workspace_size)
        with nogil:
            fr_forward(stack.model, q, workspace.memory, plan.threads)
        stack.store.give_back(workspace)
        return tape.y, tape


@cython.final
cdef class Tape:
    """Values that one layer's forward pass keeps; made by BackwardWeights.record, used up by one backward pass."""

    def __dealloc__(self):
        if self.memory is not None and self.batch is not None:
            self.batch.stack.store.give_tape(self.memory)

    def backward(self, Gradients gradients not None, cnp.ndarray dy, parameters, flow=None,
                 embedding=None, dembedding=None):
        """dx, after adding to `parameters` and filling what is the layer's of dh_0, dc_0 and flow (D, T, 2).

        dy: None for that of the gradients, of the last layer; else what the layer above gave. A tape of tokens needs
        the embedding (V, I) that filled its table, adds to dembedding and gives None. See fr_gradients in fastrnn.h.
        """
        cdef Stack stack = self.weights.stack
        cdef fr_gradients g
        cdef fr_workspace *workspace
        cdef cnp.ndarray dx = None
        cdef int32_t threads = num_threads()
        cdef int64_t places
        cdef bint last = self.layer == stack.shape.num_layers - 1
        if gradients.batch is not self.batch or (dy is not None and last):
            raise ValueError("gradients and dy must belong to this tape")
        if not last:
            dy = self.batch.elements_of(dy, stack.features)
        elif gradients.dy is not None:
            dy = gradients.dy
        g.dy, g.dhn, g.dcn = data_or_null(dy), data_or_null(gradients.dh_n), data_or_null(gradients.dc_n)
        g.dh0, g.dc0 = data_or_null(gradients.dh_0), data_or_null(gradients.dc_0)
        g.dx = g.dembedding = g.flow = NULL
        g.embedding = NULL
        g.parameters = room_of(parameters, "parameters", stack.num_parameters)
        if flow is not None:
            g.flow = room_of(flow, "flow", stack.shape.num_directions * self.sequence.steps * 2)
        if self.sequence.tokens is not NULL:
            places = self.batch.table.tokens * stack.shape.input_size
            g.embedding = room_of(embedding, "embedding", places)
            g.dembedding = room_of(dembedding, "dembedding", places)
        else:
            dx = self.batch.new_elements(stack.features if self.layer else stack.shape.input_size)
            g.dx = data_of(dx)
        if not fr_enter(&self.used):
            raise RuntimeError("a pullback can be called once: its tape is used up")
        workspace = stack.store.borrow(self.workspace_size)
        with nogil:
            fr_backward(stack.model, self.weights.packed, &self.sequence, &g, workspace.memory, threads)
        stack.store.give_back(workspace)
        stack.store.give_tape(self.memory)
        self.memory = None
        return dx
