# The arrays of a step of several inputs or outputs, or of many steps alike. Part of _core.pyx.

@cython.final
cdef class Ports:
    """Inputs and outputs of a step of a stream, checked: kept alive here, and apart from each other.

    `bound`: the arrays are used as they are, for many steps; else they may be converted and new ones be made.
    """

    cdef const void *inputs[MAX_PORTS]
    cdef float *outputs[MAX_PORTS]
    cdef list kept
    cdef object result
    cdef int64_t rows
    cdef bint flat, bound

    def __cinit__(self, Stream stream not None, x, out, bint bound):
        cdef Network network = stream.network
        self.rows, self.bound, self.kept = stream.rows, bound, []
        given = given_ports(x, "x", network.num_inputs, f"this {network.kind} expects")
        for i, (value, port) in enumerate(zip(given, network.ports)):
            self._take_input(i, value, () if type(port) is int else shape_of_row(port), port)
        results = [None] * network.num_outputs
        if out is not None:
            results = list(given_ports(out, "y" if bound else "out", network.num_outputs, f"this {network.kind} gives"))
        for i, shape in enumerate(network.outputs):
            results[i] = self._take_output(i, results[i], shape_of_row(shape))
        self._keep_apart(network)
        self.result = tuple(results) if len(results) > 1 else results[0]

    cdef int _take_input(self, int i, object value, tuple one, object port) except -1:
        cdef bint tokens = type(port) is int
        cdef Arrays borrowed
        if not self.bound:
            value = numpy.array(as_int64(value, "x")) if tokens else floats(value, "x")
        shape = numpy.shape(value)
        flat = self.rows == 1 and shape == one
        if not flat and shape != (self.rows, *one):
            expected = f"{(self.rows, *one)}" + (f" or {one}" if self.rows == 1 else "")
            raise ValueError(f"x has shape {shape}, this stream expects {expected}")
        if i == 0:
            self.flat = flat
        borrowed = Arrays()
        self.inputs[i] = borrowed.take(value, "x", shape, tokens, False)
        if tokens and not self.bound:
            check_range("x", "token", <const int64_t *>self.inputs[i], self.rows, "the vocabulary is", port)
        self.kept.append(borrowed)
        return 0

    cdef object _take_output(self, int i, object value, tuple one):
        cdef Arrays borrowed = Arrays()
        shape = one if self.flat else (self.rows, *one)
        if value is None:
            value = new_array(shape, float32)
        self.outputs[i] = <float *>borrowed.take(value, "y" if self.bound else "out", shape, False, True)
        self.kept.append(borrowed)
        return value

    cdef int _keep_apart(self, Network network) except -1:
        """No output overlaps another one, nor an input, which is copied if it may be."""
        cdef int i, k
        cdef size_t x_floats, y_floats
        cdef cnp.ndarray copy
        for i in range(network.num_outputs):
            y_floats = self.rows * network._size(network.outputs[i])
            for k in range(i):
                if overlap(self.outputs[i], y_floats, self.outputs[k], self.rows * network._size(network.outputs[k])):
                    raise ValueError(f"outputs {k} and {i} overlap, expected arrays of their own")
            for k in range(network.num_inputs):
                x_floats = self.rows * network._size(network.ports[k]) * (1 + (type(network.ports[k]) is int))
                if not overlap(self.outputs[i], y_floats, self.inputs[k], x_floats):
                    continue
                if self.bound:
                    raise ValueError("y overlaps x, expected arrays of their own")
                copy = new_array(x_floats, float32)
                memcpy(cnp.PyArray_DATA(copy), self.inputs[k], x_floats * sizeof(float))
                self.inputs[k] = cnp.PyArray_DATA(copy)
                self.kept.append(copy)
        return 0


cdef tuple given_ports(object value, str name, int count, str who):
    """One value for every input or output."""
    values = tuple(value) if isinstance(value, (tuple, list)) and count != 1 else (value,)
    if len(values) != count:
        kinds = "inputs" if name == "x" else "arrays"
        raise ValueError(f"{name} holds {len(values)} {kinds}, {who} {count}")
    return values


@cython.final
cdef class BoundStep:
    """A step of a stream from the same arrays into the same arrays; made by Stream.bind."""

    cdef Stream stream
    cdef Ports ports
    cdef list token_ports  # (place, vocabulary, memory for what was checked, which nobody else changes)

    def __cinit__(self, Stream stream not None, x, y):
        if y is None:
            raise TypeError("y is None, expected a float32 array, or a tuple of them")
        self.stream, self.ports = stream, Ports(stream, x, y, True)
        self.token_ports = [(i, port, new_array(self.ports.rows, int64))
                       for i, port in enumerate(stream.network.ports) if type(port) is int]

    def __call__(self):
        cdef Stream stream = self.stream
        cdef Ports ports = self.ports
        cdef const void *inputs[MAX_PORTS]
        if stream.rows != ports.rows:
            raise RuntimeError(f"this step was bound to {ports.rows} rows, but its stream has {stream.rows} now")
        stream._enter_rows(ports.rows)
        if self.token_ports:
            memcpy(inputs, ports.inputs, sizeof(inputs))
            try:
                self._take_tokens(inputs)
            except ValueError:
                fr_leave(&stream.busy)
                raise
            stream._run(ports.rows, inputs, ports.outputs)
        else:
            stream._run(ports.rows, ports.inputs, ports.outputs)
        return ports.result

    cdef int _take_tokens(self, const void **inputs) except -1:
        """Points at copies of the tokens of now."""
        cdef int place
        cdef cnp.ndarray copy
        for place, vocabulary, copy in self.token_ports:
            memcpy(cnp.PyArray_DATA(copy), inputs[place], self.ports.rows * sizeof(int64_t))
            inputs[place] = cnp.PyArray_DATA(copy)
            check_range("x", "token", <const int64_t *>inputs[place], self.ports.rows, "the vocabulary is", vocabulary)
        return 0
