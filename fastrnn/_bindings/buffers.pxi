# The memory of arrays, and the checks of what they hold. Part of _core.pyx.

cdef int check_shape(str name, tuple got, tuple expected) except -1:
    if got != expected:
        raise ValueError(f"{name} has shape {got}, expected {expected}")
    return 0


cdef void *allocate(size_t size) except NULL:
    cdef void *memory = fr_allocate(size)
    if memory is NULL:
        raise MemoryError(f"cannot allocate {size} bytes")
    return memory


cdef int acquire(Py_buffer *view, object array, str name, bint integer, bint writable) except -1:
    """Borrows the memory of a C-contiguous float32 (or int64) array."""
    cdef int flags = PyBUF_FORMAT | PyBUF_ND | PyBUF_STRIDES | (PyBUF_WRITABLE if writable else 0)
    cdef char code
    try:
        PyObject_GetBuffer(array, view, flags)
    except (TypeError, ValueError, BufferError):
        kind = "a writable" if writable else "an"
        raise TypeError(f"{name} must be {kind} array with a plain buffer, got {type(array).__name__}") from None
    code = view.format[0] if view.format is not NULL and view.format[0] and not view.format[1] else 0
    if not (view.itemsize == 8 and code in (b"l", b"q") if integer else view.itemsize == 4 and code == b"f"):
        wanted = "int64" if integer else "float32"
        got = view.format.decode() if view.format is not NULL else "bytes"
        PyBuffer_Release(view)
        raise TypeError(f"{name} must be {wanted}, got buffer format {got!r}")
    if not PyBuffer_IsContiguous(view, b"C") or <size_t>view.buf % <size_t>view.itemsize:
        PyBuffer_Release(view)
        raise ValueError(f"{name} must be C-contiguous and aligned")
    return 0


cdef tuple shape_of(Py_buffer *view, Py_ssize_t last=-1):
    """The shape of a buffer, optionally with another last dimension."""
    shape = [view.shape[i] for i in range(view.ndim)]
    if last >= 0:
        shape[view.ndim - 1] = last
    return tuple(shape)


cdef class Arrays:
    """The borrowed arrays of one call; released together."""

    def __dealloc__(self):
        for i in range(self.count):
            PyBuffer_Release(&self.views[i])

    cdef Py_buffer *add(self, object array, str name, bint integer, bint writable) except NULL:
        if self.count == 10:
            raise SystemError("a call borrows at most 10 arrays")
        acquire(&self.views[self.count], array, name, integer, writable)
        self.count += 1
        return &self.views[self.count - 1]

    cdef void *take(self, object array, str name, tuple shape, bint integer, bint writable) except? NULL:
        """The memory of an array of this shape; NULL for None."""
        if array is None:
            return NULL
        cdef Py_buffer *view = self.add(array, name, integer, writable)
        check_shape(name, shape_of(view), shape)
        return view.buf


cdef int check_range(str name, str kind, const int64_t *values, int64_t count, str range_is,
                     int64_t limit) except -1:
    """Every value must be 0 to limit - 1."""
    cdef int64_t wrong = fr_first_outside(values, count, limit)
    if wrong < count:
        raise ValueError(f"{name} holds {kind} {values[wrong]}, {range_is} 0 to {limit - 1}")
    return 0


cdef int borrow_float32(object x, Py_buffer *view) except -1:
    """The memory of x, which is first made a C-contiguous float32 array if it is none."""
    if type(x) is ndarray:
        PyObject_GetBuffer(x, view, PyBUF_FORMAT | PyBUF_ND | PyBUF_STRIDES)
        if (view.itemsize == 4 and view.format[0] == b"f" and not view.format[1]
                and PyBuffer_IsContiguous(view, b"C") and <size_t>view.buf % 4 == 0):
            return 0
        PyBuffer_Release(view)
    PyObject_GetBuffer(as_float32(x, "x"), view, PyBUF_FORMAT | PyBUF_ND | PyBUF_STRIDES)
    return 0


cdef object copy_of_indices(object indices, str name, int64_t low, int64_t size):
    """Indices from `low` to size - 1, copied: nobody may change them between check and use."""
    indices = numpy.array(indices, numpy.int64)
    if indices.size and not low <= indices.min() <= indices.max() < size:
        raise ValueError(f"{name} must be {low} to {size - 1}, got {indices.min()} to {indices.max()}")
    return indices


cdef Py_buffer *add_rows_of(Arrays arrays, object array, str name) except NULL:
    cdef Py_buffer *view = arrays.add(array, name, False, False)
    if view.ndim != 2 or view.shape[1] == 0:
        raise ValueError(f"{name} has shape {shape_of(view)}, expected rows of at least one value")
    return view
