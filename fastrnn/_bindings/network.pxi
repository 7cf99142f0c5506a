# Networks: operations over packed weights, for whole sequences and for streams. Part of _core.pyx.

_KINDS = {
    "input": FR_OP_INPUT, "tokens": FR_OP_TOKENS, "embed": FR_OP_EMBED, "recurrent": FR_OP_RECURRENT,
    "linear": FR_OP_LINEAR, "conv": FR_OP_CONV, "conv_time": FR_OP_CONV_TIME, "activate": FR_OP_ACTIVATE,
    "channels": FR_OP_CHANNELS, "layer_norm": FR_OP_LAYER_NORM, "add": FR_OP_ADD,
    "multiply": FR_OP_MULTIPLY, "concatenate": FR_OP_CONCATENATE, "select": FR_OP_SELECT,
    "reshape": FR_OP_RESHAPE, "previous": FR_OP_PREVIOUS, "attend": FR_OP_ATTEND, "listed": FR_OP_LISTED,
    "pool": FR_OP_POOL, "flip": FR_OP_FLIP,
}


cdef class _Operations:
    """Operations on their way to a network: the structs, and what keeps their arrays alive."""
    cdef fr_operation *array
    cdef int32_t *inputs
    cdef int32_t count, taken
    cdef list kept

    def __cinit__(self, int32_t count, int32_t inputs):
        self.array = <fr_operation *>allocate(max(count, 1) * sizeof(fr_operation))
        self.inputs = <int32_t *>allocate(max(inputs, 1) * sizeof(int32_t))
        memset(self.array, 0, max(count, 1) * sizeof(fr_operation))
        self.kept = []

    def __dealloc__(self):
        free(self.array)
        free(self.inputs)

    cdef const float *_floats(self, object array, tuple shape, str name) except? NULL:
        """Float32 of this shape, kept; NULL for None."""
        cdef Arrays arrays = Arrays()
        if array is None:
            return NULL
        self.kept.append(arrays)
        return <const float *>arrays.take(array, name, shape, False, False)

    cdef int add(self, str kind, tuple places, dict options) except -1:
        """One operation; see Network."""
        cdef fr_operation *o = &self.array[self.count]
        cdef Stack stack
        cdef Dense dense
        cdef Activation activation
        cdef Convolution convolution
        weights = options.get("weights")
        o.kind, o.num_inputs, o.inputs = _KINDS[kind], len(places), &self.inputs[self.taken]
        for operation in places:
            self.inputs[self.taken] = operation
            self.taken += 1
        o.length, o.channels = options.get("length", 1), options.get("channels", 0)
        o.first, o.function = options.get("first", 0), options.get("function", 0)
        o.eps = options.get("eps", 0.0)
        if kind == "recurrent":
            stack = weights
            o.model = stack.model
            self._take_stack(o, stack, options)
        elif kind == "linear":
            dense = weights
            o.linear = dense.linear
        elif kind == "activate":
            activation = weights
            o.function, o.alpha, o.beta = activation.call.function, activation.call.a, activation.call.b
        elif kind == "conv" or kind == "conv_time":
            convolution = weights
            if convolution.backward:
                raise ValueError("weights are packed for the way back")
            o.conv = convolution.conv
        elif kind == "attend":
            self._take_attention(o, options)
        self.kept.append(weights)
        self._take_arrays(o, options)
        self.count += 1
        return 0

    cdef int _take_stack(self, fr_operation *o, Stack stack, dict options) except -1:
        cdef Table table = options.get("table")
        states = stack.shape.num_layers * stack.shape.num_directions
        if table is not None:
            if table.stack is not stack:
                raise ValueError("table was folded for another stack")
            o.table = table.rows
            self.kept.append(table)
        o.h0 = self._floats(options.get("h0"), (states, stack.h_size), "h0")
        o.c0 = self._floats(options.get("c0"), (states, stack.shape.hidden_size), "c0")
        return 0

    cdef int _take_arrays(self, fr_operation *o, dict options) except -1:
        cdef Arrays arrays = Arrays()
        embedding, listed, size = options.get("embedding"), options.get("listed"), (o.channels,)
        if embedding is not None:
            o.channels = embedding.shape[1]
            o.table = self._floats(embedding, embedding.shape, "embedding")
        if listed is not None:
            # A copy: nobody may change between check and use what is an index in the core.
            listed = copy_of_indices(listed, "listed", 0, o.channels)
            self.kept.append(arrays)
            o.listed = <const int64_t *>arrays.take(listed, "listed", (len(listed),), True, False)
        if options.get("scale") is not None:
            o.scale = self._floats(options["scale"], (len(options["scale"]),), "scale")
            o.shift = self._floats(options.get("shift"), (len(options["scale"]),), "shift")
        return 0

    cdef int _take_attention(self, fr_operation *o, dict options) except -1:
        """keys (S, B, A), values (S, B, M), score (A,) or None, lengths (B,) or None, factor of the scores."""
        cdef Memory memory = Memory()
        cdef Arrays arrays = Arrays()
        cdef fr_attention *a
        memory.size = sizeof(fr_attention)
        memory.data = allocate(memory.size)
        memset(memory.data, 0, memory.size)
        a = <fr_attention *>memory.data
        keys, values, lengths = options["keys"], options["values"], options.get("lengths")
        if keys.ndim != 3 or values.ndim != 3 or 0 in keys.shape or 0 in values.shape:
            raise ValueError("keys and values must be (S, B, A) and (S, B, M), none of them 0")
        a.steps, a.positions, a.memory_rows, a.size = 1, keys.shape[0], keys.shape[1], keys.shape[2]
        a.features, a.scale = values.shape[2], options.get("factor", 1.0)
        a.keys = self._floats(keys, keys.shape, "keys")
        a.values = self._floats(values, (a.positions, a.memory_rows, a.features), "values")
        a.score = self._floats(options.get("score"), (a.size,), "score")
        if lengths is not None:
            lengths = copy_of_indices(lengths, "lengths", 0, a.positions + 1)
            a.lengths = <const int64_t *>arrays.take(lengths, "lengths", (a.memory_rows,), True, False)
        o.attention = a
        self.kept += [memory, arrays]
        return 0


cdef class Network:
    """Operations that fit each other, over packed weights: shared, and never written after it is made.

    operations: tuples (kind, places, options), where `places` are those of the operations whose values it
    reads. Kinds are those of enum fr_operation_kind in lower case, options the fields of fr_operation, with
    weights (a Stack, Dense, Convolution or Activation), table, embedding (V, E) and the arrays of an attention. `outputs`: places.
    `kind`: how errors call the network. vocabulary: how many tokens its input knows, 0 if it takes floats.
    """

    def __init__(self, str kind, list operations, list outputs):
        cdef fr_graph graph
        cdef _Operations made
        cdef const char *error
        cdef int32_t places[MAX_PORTS]
        if self.network is not NULL:
            raise RuntimeError("a network is initialised once")
        made = _Operations(len(operations), sum([len(inputs) for _, inputs, _ in operations]))
        self.kind, self.ports, self.memories, self.work = kind, [], {}, 0
        self.kinds = [kind_of for kind_of, _, _ in operations]
        self.weights = [options["weights"] for _, _, options in operations if "weights" in options]
        for kind_of, inputs, options in operations:
            self._count(made.count, kind_of, inputs, options)
            made.add(kind_of, inputs, options)
        if len(self.ports) > MAX_PORTS or len(outputs) > MAX_PORTS:
            raise ValueError(f"a network has at most {MAX_PORTS} inputs and outputs")
        self.num_inputs, self.num_outputs = len(self.ports), 0
        for place in outputs:
            places[self.num_outputs] = place
            self.num_outputs += 1
        graph.operations, graph.num_operations = made.array, made.count
        graph.outputs, graph.num_outputs = places, self.num_outputs
        self.num_bytes = fr_network_size(&graph)
        if self.num_bytes == 0:
            raise ValueError("a network has 1 to 4096 operations and at least one output")
        self.memory = allocate(self.num_bytes)
        error = fr_network_create(&graph, self.memory, &self.network)
        if error is not NULL:
            self.network = NULL
            raise ValueError(error.decode())
        self.places, self.kept = outputs, made.kept
        self.outputs = [self.shape_of(place)[:2] for place in outputs]
        if self.num_inputs == 1:
            self.vocabulary = self.ports[0] if type(self.ports[0]) is int else 0
        if self.num_inputs and not self.vocabulary:
            self.length_in, self.channels_in = self.ports[0]
        self.length_out, self.channels_out = self.outputs[0]
        self.width_out = self.length_out * self.channels_out

    def __dealloc__(self):
        free(self.memory)

    def _size(self, port):
        return 1 if type(port) is int else port[0] * port[1]

    def _count(self, int32_t place, str kind, tuple places, dict options):
        """Notes inputs, (length, channels) or the size of a vocabulary, and about how much a step has to do."""
        cdef Stack stack
        cdef Dense dense
        cdef Convolution convolution
        if kind == "input":
            self.ports.append((options.get("length", 1), options["channels"]))
        elif kind == "tokens":
            self.ports.append(options["vocabulary"])
        elif kind == "recurrent":
            stack = options["weights"]
            self.work += stack.num_parameters
        elif kind == "linear":
            dense = options["weights"]
            self.work += <double>dense.in_features * <double>dense.out_features
        elif kind == "conv" or kind == "conv_time":
            convolution = options["weights"]
            self.work += <double>convolution.num_packed_bytes / 4 * options.get("positions", 1)
        elif kind == "attend":
            self.memories[place] = options["keys"].shape[1]
            self.work += RELEASE_GIL

    def shape_of(self, int32_t place):
        """length and channels of an operation's value, and whether there is one for the whole sequence."""
        cdef int32_t length, channels
        at_end = fr_network_shape(self.network, place, &length, &channels)
        return length, channels, bool(at_end)

    def part_of(self, int32_t place, int32_t part):
        """(states, width) of a part of what streams carry for an operation, or None."""
        cdef int64_t states, width
        if not fr_network_part(self.network, place, part, &states, &width):
            return None
        return states, width

    def run_error(self):
        """Why the network takes no whole sequences, or None."""
        cdef const char *error = fr_network_run_error(self.network)
        return None if error is NULL else error.decode()

    def step_error(self):
        """Why the network cannot stream, or None."""
        cdef const char *error = fr_network_step_error(self.network)
        return None if error is NULL else error.decode()
