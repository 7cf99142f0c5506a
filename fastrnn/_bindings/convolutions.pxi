# Convolutions. Part of _core.pyx.

cdef class Convolution:
    """A packed convolution; see conv.h. Like a Stack, written before anybody else sees it."""

    def __cinit__(self, like, int outputs=0, int kernel=0, int stride=1, int dilation=1, int groups=1, int before=0,
                  int after=0, bint bias=False, bint backward=False):
        """like: the channels in, or a convolution, for another one of its shape that shares its store."""
        cdef Convolution other
        cdef const char *error
        if type(like) is Convolution:
            other = like
            self.shape, self.bias, self.backward, self.store = other.shape, other.bias, other.backward, other.store
        else:
            self.bias, self.backward, self.store = bias, backward, Store(0)
            self.shape = fr_conv_shape(like, outputs, kernel, stride, dilation, groups, before, after)
        error = fr_conv_error(&self.shape)
        if error is not NULL:
            raise ValueError(error.decode())
        self.num_packed_bytes = fr_conv_back_size(&self.shape) if self.backward else fr_conv_size(&self.shape)
        if self.num_packed_bytes == 0:
            raise MemoryError("a convolution of this size needs more memory than there can be")
        self.memory = self.store.block(&self.store.weights, self.num_packed_bytes)
        if self.backward:
            self.back = fr_conv_back_create(&self.shape, self.memory)
        else:
            self.conv = fr_conv_create(&self.shape, self.memory)

    def __dealloc__(self):
        if self.store is not None and self.memory is not NULL:
            self.store.put(&self.store.weights, self.memory)
        else:
            free(self.memory)

    def renewed(self, weight, bias=None):
        """A convolution of the same shape with weight (O, C / groups, K) and bias (O,)."""
        cdef Arrays arrays = Arrays()
        cdef Convolution new
        if (bias is not None) != self.bias:
            raise ValueError(f"bias must be {'given' if self.bias else 'None'}")
        shape = (self.shape.outputs, self.shape.inputs // self.shape.groups, self.shape.kernel)
        w = <const float *>arrays.take(weight, "weight", shape, False, False)
        b = <const float *>arrays.take(bias, "bias", (self.shape.outputs,), False, False)
        new = Convolution(self)
        with nogil:
            if new.backward:
                fr_conv_back_load(new.back, w)
            else:
                fr_conv_load(new.conv, w, b)
        return new

    cdef int _call(self, fr_conv_call *call, cnp.ndarray x, bint over_time, object owner) except -1:
        """The signals of x: (T, N, C) or (T, C) over time, else (*, L, C)."""
        cdef int64_t C = self.shape.inputs, O = self.shape.outputs
        cdef cnp.npy_intp *dims = cnp.PyArray_DIMS(x)
        memset(call, 0, sizeof(call[0]))
        if x.ndim < 2 or (over_time and x.ndim > 3):
            expected = "2 or 3" if over_time else "at least 2"
            raise ValueError(f"x has {x.ndim} dimensions, {this(owner)} expects {expected}")
        if dims[x.ndim - 1] != C:
            raise ValueError(f"x has {dims[x.ndim - 1]} channels, {this(owner)} expects {C}")
        call.length = dims[0] if over_time else dims[x.ndim - 2]
        if call.length == 0 or fr_conv_length(&self.shape, call.length) == 0:
            least = ((self.shape.kernel - 1) * <int64_t>self.shape.dilation + 1
                     - self.shape.before - self.shape.after)
            raise ValueError(f"x has {call.length} {'steps' if over_time else 'positions'}, "
                             f"{this(owner)} expects at least {max(least, 1)}")
        if over_time:
            call.signals = dims[1] if x.ndim == 3 else 1
            call.x_signal, call.x_position = C, call.signals * C
            call.y_signal, call.y_position = O, call.signals * O
        else:
            call.signals = cnp.PyArray_SIZE(x) // (call.length * C)
            call.x_signal, call.x_position = call.length * C, C
            call.y_signal, call.y_position = fr_conv_length(&self.shape, call.length) * O, O
        call.x = data_of(x)
        return 0

    cdef cnp.ndarray _past(self, fr_conv_call *call, object past, cnp.ndarray x):
        """The past of the signals (N, before, C), without N if x has none; None: zeros."""
        cdef cnp.ndarray a
        if past is None:
            return None
        a = floats(past, "past")
        check_shape("past", (<object>a).shape, self._past_shape(x))
        call.past = data_of(a)
        return a

    cdef tuple _past_shape(self, cnp.ndarray x):
        rows = (self.shape.before, self.shape.inputs)
        return rows if x.ndim == 2 else (cnp.PyArray_DIMS(x)[1], *rows)

    def run(self, x, bint over_time, owner, past=None):
        """A new y of x: (T', N, O), (T', O) or (*, L', O); `owner`: the layer whose argument this is.

        past (N, before, C) or (before, C), for a causal convolution over time: what came before x.
        """
        cdef cnp.ndarray a = floats(x, "x"), y, before
        cdef fr_conv_call call
        cdef cnp.npy_intp[MAX_DIMENSIONS] shape
        cdef int32_t threads = num_threads()
        cdef fr_workspace *workspace
        self._call(&call, a, over_time, owner)
        before = self._past(&call, past, a)
        memcpy(shape, cnp.PyArray_DIMS(a), a.ndim * sizeof(shape[0]))
        shape[0 if over_time else a.ndim - 2] = fr_conv_length(&self.shape, call.length)
        shape[a.ndim - 1] = self.shape.outputs
        y = new_floats(a.ndim, shape)
        call.y = data_of(y)
        if <double>cnp.PyArray_SIZE(y) * self.shape.inputs // self.shape.groups * self.shape.kernel < RELEASE_GIL:
            threads = 1
        workspace = self.store.borrow(fr_conv_workspace_size(self.conv, threads))
        if threads == 1:
            fr_conv_forward(self.conv, &call, workspace.memory, 1)
        else:
            with nogil:
                fr_conv_forward(self.conv, &call, workspace.memory, threads)
        self.store.give_back(workspace)
        return y

    def next_past(self, x, bint over_time, owner, past=None):
        """The past that continues x, a new array like past."""
        cdef cnp.ndarray a = floats(x, "x"), before, after
        cdef fr_conv_call call
        self._call(&call, a, over_time, owner)
        before = self._past(&call, past, a)
        after = new_array(self._past_shape(a), float32)
        fr_conv_next_past(self.conv, &call, data_of(after))
        return after

    def run_back(self, x, bint over_time, dy, dweight, dbias, owner, past=None):
        """dx of dy, or with a past (dx, dpast); adds to dweight and dbias (None: there is none)."""
        cdef cnp.ndarray a = floats(x, "x"), c = floats(dy, "dy"), dx, before, dpast = None
        cdef Arrays arrays = Arrays()
        cdef fr_conv_call call
        cdef int32_t threads = num_threads()
        cdef fr_workspace *workspace
        self._call(&call, a, over_time, owner)
        before = self._past(&call, past, a)
        shape = (self.shape.outputs, self.shape.inputs // self.shape.groups, self.shape.kernel)
        call.dweight = <float *>arrays.take(dweight, "dweight", shape, False, True)
        call.dbias = <float *>arrays.take(dbias, "dbias", shape[:1], False, True)
        dx = new_floats(a.ndim, cnp.PyArray_DIMS(a))
        if before is not None:
            dpast = new_floats(before.ndim, cnp.PyArray_DIMS(before))
            call.dpast = data_of(dpast)
        call.dy, call.dx = data_of(c), data_of(dx)
        workspace = self.store.borrow(fr_conv_back_workspace_size(self.back, threads))
        with nogil:
            fr_conv_backward(self.back, &call, workspace.memory, threads)
        self.store.give_back(workspace)
        return dx if before is None else (dx, dpast)
