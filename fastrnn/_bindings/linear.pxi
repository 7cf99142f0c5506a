# Linear maps and their gradients. Part of _core.pyx.

cdef class Dense:
    """A packed weight matrix and bias, y = x W^T + b; like a Stack, written before anybody else sees it."""

    def __cinit__(self, like, int out_features=0, bint bias=False):
        """like: in_features, or a map, for another one of its shape that shares its store."""
        cdef Dense other
        if type(like) is Dense:
            other = like
            self.in_features, self.out_features, self.bias = other.in_features, other.out_features, other.bias
            self.store = other.store
        else:
            self.in_features, self.out_features, self.bias = like, out_features, bias
            self.store = Store(0)
        self.num_packed_bytes = fr_linear_size(self.in_features, self.out_features)
        if self.num_packed_bytes == 0:
            raise ValueError(f"no linear map from {like} to {out_features} features is possible")
        self.linear = fr_linear_create(self.in_features, self.out_features,
                                       self.store.block(&self.store.weights, self.num_packed_bytes))

    def __dealloc__(self):
        if self.store is not None and self.linear is not NULL:
            self.store.put(&self.store.weights, self.linear)
        else:
            free(self.linear)

    def renewed(self, weight, bias=None):
        """A map of the same shape with weight (out, in) and bias (out,)."""
        cdef Arrays arrays = Arrays()
        cdef Dense new
        if (bias is not None) != self.bias:
            raise ValueError(f"bias must be {'given' if self.bias else 'None'}")
        w = <const float *>arrays.take(weight, "weight", (self.out_features, self.in_features), False, False)
        b = <const float *>arrays.take(bias, "bias", (self.out_features,), False, False)
        new = Dense(self)
        with nogil:
            fr_linear_load(new.linear, w, b)
        return new

    def renewed_transposed(self, weight):
        """A map of the same shape with weight (in, out): then y = x weight."""
        cdef Arrays arrays = Arrays()
        cdef Dense new
        if self.bias:
            raise ValueError("a transposed map has no bias")
        w = <const float *>arrays.take(weight, "weight", (self.in_features, self.out_features), False, False)
        new = Dense(self)
        with nogil:
            fr_linear_load_transposed(new.linear, w)
        return new

    def run(self, x, owner):
        """A new y (*, out) of x (*, in); `owner`: the layer whose argument this is."""
        cdef cnp.ndarray a = floats(x, "x"), y
        cdef const float *data = data_of(a)
        cdef int32_t threads = num_threads()
        cdef int64_t rows
        cdef float *out
        if a.ndim == 0:
            raise ValueError(f"x has 0 dimensions, {this(owner)} expects at least 1")
        if cnp.PyArray_DIMS(a)[a.ndim - 1] != self.in_features:
            got = cnp.PyArray_DIMS(a)[a.ndim - 1]
            raise ValueError(f"x has {got} features, {this(owner)} expects {self.in_features}")
        y = new_like(a, self.out_features)
        out = data_of(y)
        rows = cnp.PyArray_SIZE(a) // self.in_features
        if <double>rows * self.in_features * self.out_features < RELEASE_GIL:
            fr_linear_forward(self.linear, rows, data, self.in_features, out, self.out_features, 1)
        else:
            with nogil:
                fr_linear_forward(self.linear, rows, data, self.in_features, out, self.out_features, threads)
        return y

    def forward(self, x, y):
        """x (M, in) -> y (M, out)."""
        cdef Arrays arrays = Arrays()
        cdef Py_buffer *view = arrays.add(x, "x", False, False)
        cdef int64_t rows = view.shape[0] if view.ndim else 0
        cdef int32_t threads = num_threads()
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
    cdef int32_t threads = num_threads()
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
