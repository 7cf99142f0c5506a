# Layers that are functions of rows without packed weights. Part of _core.pyx.

def layer_norm(x, weight, bias, double eps, owner, normal=None, inverse=None):
    """A new y (*, size) of x (*, size), weight and bias (size,); see fr_norm in rows.h.

    Fills normal (rows, size) and inverse (rows,) as far as given. `owner`: the layer whose argument x is.
    """
    cdef cnp.ndarray a = floats(x, "x"), w = floats(weight, "weight"), b = floats(bias, "bias"), y
    cdef Arrays arrays
    cdef fr_norm n
    num_threads()  # one is enough here, but a wrong environment is an error of every call
    memset(&n, 0, sizeof(n))
    n.size, n.eps = cnp.PyArray_SIZE(w), eps
    if n.size == 0 or cnp.PyArray_SIZE(b) != n.size:
        raise ValueError(f"weight and bias have {n.size} and {b.size} values, expected as many, at least 1")
    if a.ndim == 0 or cnp.PyArray_DIMS(a)[a.ndim - 1] != n.size:
        raise ValueError(f"x has shape {(<object>a).shape}, {this(owner)} expects (*, {n.size})")
    n.rows = cnp.PyArray_SIZE(a) // n.size
    if normal is not None or inverse is not None:
        arrays = Arrays()
        n.normal = <float *>arrays.take(normal, "normal", (n.rows, n.size), False, True)
        n.inverse = <float *>arrays.take(inverse, "inverse", (n.rows,), False, True)
    y = new_like(a, n.size)
    n.x, n.weight, n.bias, n.y = data_of(a), data_of(w), data_of(b), data_of(y)
    if 8 * n.rows * n.size < RELEASE_GIL:
        fr_layer_norm(&n)
    else:
        with nogil:
            fr_layer_norm(&n)
    return y


def take_rows(table, indices, str name):
    """A new array (*, dim): the rows of table (num, dim) at `indices` (*), which errors call `name`."""
    cdef cnp.ndarray t = floats(table, "table"), i = integers(indices, name), y
    cdef const float *data = data_of(t)
    cdef const int64_t *at = <const int64_t *>cnp.PyArray_DATA(i)
    cdef int64_t limit, width, count = cnp.PyArray_SIZE(i), done
    cdef cnp.npy_intp[MAX_DIMENSIONS] shape
    cdef float *out
    num_threads()
    if t.ndim != 2 or i.ndim >= MAX_DIMENSIONS:
        raise ValueError(f"table has {t.ndim} dimensions and {name} {i.ndim}, expected 2 and below {MAX_DIMENSIONS}")
    limit, width = cnp.PyArray_DIMS(t)[0], cnp.PyArray_DIMS(t)[1]
    memcpy(shape, cnp.PyArray_DIMS(i), i.ndim * sizeof(shape[0]))
    shape[i.ndim] = width
    y = new_floats(i.ndim + 1, shape)
    out = data_of(y)
    if count * width < RELEASE_GIL:
        done = fr_take_rows(count, at, limit, width, data, out)
    else:
        with nogil:
            done = fr_take_rows(count, at, limit, width, data, out)
    if done < count:
        check_indices(i, limit, name)  # says which index is wrong, if nobody has written to them since
        raise ValueError(f"{name} held an index out of 0 to {limit - 1} while another thread wrote to it")
    return y


def add_scaled(x, float factor, y, str name):
    """y (*) += factor * x (*), for y None a new array; returns y. Errors call x `name`."""
    cdef cnp.ndarray a = floats(x, name), total
    cdef int64_t count = cnp.PyArray_SIZE(a)
    cdef bint add = y is not None
    cdef const float *data = data_of(a)
    cdef float *out
    num_threads()
    if add:
        total = y
        if not (total.ndim == a.ndim and cnp.PyArray_TYPE(total) == cnp.NPY_FLOAT and cnp.PyArray_ISCARRAY(total)
                and cnp.PyArray_CompareLists(cnp.PyArray_DIMS(total), cnp.PyArray_DIMS(a), a.ndim)):
            raise ValueError(f"{name} has shape {(<object>a).shape}, expected {(<object>total).shape}")
    else:
        total = new_floats(a.ndim, cnp.PyArray_DIMS(a))
    out = data_of(total)
    if count < RELEASE_GIL:
        fr_mix(count, factor, data, add, out)
    else:
        with nogil:
            fr_mix(count, factor, data, add, out)
    return total
