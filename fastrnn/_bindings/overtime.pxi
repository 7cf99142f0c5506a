# Pooling over time and flips. Part of _core.pyx.

_POOLS = {"last": FR_LAST, "mean": FR_MEAN, "max": FR_MAX}


cdef class OverTime:
    """How the steps of one call's rows lie in memory, checked, and the operations over them; see overtime.h.

    shape: of x, (T, N, *), (N, T, *) if batch_first, or (total, *) of packed rows, whose steps begin at starts (T,).
    lengths (N,) from 0 to T; None: all T; of packed rows they fall.
    """

    def __cinit__(self, tuple shape, lengths, bint batch_first=False, starts=None):
        cdef fr_over_time *q = &self.call
        memset(q, 0, sizeof(q[0]))
        self.shape, self.row = shape, shape[2 if starts is None else 1:]
        q.width = prod(self.row)
        if starts is None:
            q.steps, q.rows = shape[batch_first], shape[not batch_first]
            q.step_stride, q.row_stride = 1 if batch_first else q.rows, q.steps if batch_first else 1
        else:
            q.steps, q.rows = len(starts), len(lengths)
        if lengths is not None:
            self.lengths = copy_of_lengths(lengths, q.rows, q.steps)
            q.lengths = <const int64_t *>cnp.PyArray_DATA(self.lengths)
        if starts is not None:
            self.starts = copy_of_indices(starts, "starts", 0, shape[0])
            alive = (self.lengths > numpy.arange(q.steps)[:, None]).sum(axis=1)
            if alive.sum() != shape[0] or (self.starts + alive > shape[0]).any():
                raise ValueError("starts and lengths of packed rows do not fit x")
            q.starts = <const int64_t *>cnp.PyArray_DATA(self.starts)

    cdef cnp.ndarray _take(self, object given, str name, tuple shape, tuple result):
        """A new array of shape `result` for what comes of `given`, which has this shape."""
        cdef cnp.ndarray x = floats(given, name), y = new_array(result, float32)
        check_shape(name, (<object>x).shape, shape)
        self.x, self.call.x, self.call.y = x, data_of(x), data_of(y)
        self.threads = num_threads()
        if self.call.steps * self.call.rows * self.call.width < RELEASE_GIL:
            self.threads = 1
        return y

    def pool(self, str kind, x, bint keep):
        """A new y (N, *) of x, "last", "mean" or "max"; `keep` what the way back needs."""
        cdef int32_t pool = _POOLS[kind]
        y = self._take(x, "x", self.shape, (self.call.rows, *self.row))
        if keep and pool == FR_MAX:
            self.places = new_array((self.call.rows, *self.row), int64)
            self.call.places = <int64_t *>cnp.PyArray_DATA(self.places)
        with nogil:
            fr_pool(&self.call, pool, self.threads)
        return y

    def pool_back(self, str kind, dy):
        """A new dx of dy (N, *), after a `pool` that kept what this needs."""
        cdef int32_t pool = _POOLS[kind]
        if pool == FR_MAX and self.places is None:
            raise ValueError("the pool before has kept nothing")
        dx = self._take(dy, "dy", (self.call.rows, *self.row), self.shape)
        with nogil:
            fr_pool_back(&self.call, pool, self.threads)
        return dx

    def flip(self, x):
        """A new y, the steps of x in reverse."""
        y = self._take(x, "x", self.shape, self.shape)
        with nogil:
            fr_flip(&self.call, self.threads)
        return y
