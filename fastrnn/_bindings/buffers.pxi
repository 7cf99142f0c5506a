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


cdef cnp.ndarray floats(object x, str name):
    """x itself if it is a C-contiguous float32 array, else x made one."""
    cdef cnp.ndarray a
    if type(x) is ndarray:
        a = <cnp.ndarray>x
        if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT and cnp.PyArray_ISCARRAY_RO(a):
            return a
    return as_float32(x, name)


cdef cnp.ndarray integers(object x, str name):
    """x itself if it is a C-contiguous int64 array, else x, one int or many, made one."""
    cdef cnp.ndarray one
    if type(x) is ndarray and cnp.PyArray_TYPE(x) == cnp.NPY_INT64 and cnp.PyArray_ISCARRAY_RO(x):
        return x
    if type(x) is int and -(1 << 62) < x < 1 << 62:
        one = cnp.PyArray_EMPTY(0, NULL, cnp.NPY_INT64, 0)
        (<int64_t *>cnp.PyArray_DATA(one))[0] = x
        return one
    if type(x) is list and x and type(x[0]) is int:
        try:
            one = cnp.PyArray_FROM_O(x)
        except Exception:
            return as_int64(x, name)  # says what is wrong
        return one if cnp.PyArray_TYPE(one) == cnp.NPY_INT64 else as_int64(one, name)
    return as_int64(x, name)


cdef float *data_of(cnp.ndarray array) noexcept:
    return <float *>cnp.PyArray_DATA(array)


cdef bint is_writable_array(object array, int ndim, const cnp.npy_intp *shape) noexcept:
    """A C-contiguous float32 array of this shape, to be written to."""
    if type(array) is not ndarray:
        return False
    cdef cnp.ndarray a = <cnp.ndarray>array
    return cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT and cnp.PyArray_ISCARRAY(a) and has_shape(a, ndim, shape)


cdef bint overlap(const void *a, size_t a_floats, const void *b, size_t b_floats) noexcept:
    """True if two blocks of floats share memory."""
    return <const float *>a < <const float *>b + b_floats and <const float *>b < <const float *>a + a_floats


cdef float *data_or_null(cnp.ndarray array) noexcept:
    return NULL if array is None else data_of(array)


cdef float *room_of(object array, str name, int64_t size) except NULL:
    """The memory of an array of at least `size` floats, which are about to be read or added to."""
    if (type(array) is not ndarray or cnp.PyArray_TYPE(array) != cnp.NPY_FLOAT or not cnp.PyArray_ISCARRAY(array)
            or cnp.PyArray_SIZE(array) < size):
        raise ValueError(f"{name} must be a C-contiguous float32 array of at least {size} numbers, and writable")
    return data_of(array)


cdef cnp.ndarray new_floats(int ndim, const cnp.npy_intp *shape):
    return cnp.PyArray_EMPTY(ndim, <cnp.npy_intp *>shape, cnp.NPY_FLOAT, 0)


cdef cnp.ndarray new_like(cnp.ndarray x, cnp.npy_intp last):
    """A new float32 array of x's shape, but with another last dimension."""
    cdef cnp.npy_intp[MAX_DIMENSIONS] shape
    memcpy(shape, cnp.PyArray_DIMS(x), x.ndim * sizeof(shape[0]))
    shape[x.ndim - 1] = last
    return new_floats(x.ndim, shape)


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
