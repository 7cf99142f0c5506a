# Layers that are functions of rows without packed weights. Part of _core.pyx.

cdef fr_norm norm_of(cnp.ndarray x, cnp.ndarray weight, str name, object owner) except *:
    """A normalisation of rows as long as the weight."""
    cdef fr_norm n
    memset(&n, 0, sizeof(n))
    n.size = cnp.PyArray_SIZE(weight)
    if n.size == 0 or x.ndim == 0 or cnp.PyArray_DIMS(x)[x.ndim - 1] != n.size:
        raise ValueError(f"{name} has shape {(<object>x).shape}, {this(owner)} expects (*, {n.size})")
    n.rows, n.weight = cnp.PyArray_SIZE(x) // n.size, data_of(weight)
    return n


def layer_norm(x, weight, bias, double eps, owner, normal=None, inverse=None):
    """A new y (*, size) of x (*, size), weight and bias (size,); see fr_norm in kernels.h.

    Fills normal (rows, size) and inverse (rows,) as far as given. `owner`: the layer whose argument x is.
    """
    cdef cnp.ndarray a = floats(x, "x"), w = floats(weight, "weight"), b = floats(bias, "bias"), y
    cdef Arrays arrays
    cdef int32_t threads = num_threads()
    cdef fr_norm n = norm_of(a, w, "x", owner)
    if cnp.PyArray_SIZE(b) != n.size:
        raise ValueError(f"weight and bias have {n.size} and {b.size} values, expected as many")
    if normal is not None or inverse is not None:
        arrays = Arrays()
        n.normal = <float *>arrays.take(normal, "normal", (n.rows, n.size), False, True)
        n.inverse = <float *>arrays.take(inverse, "inverse", (n.rows,), False, True)
    y = new_like(a, n.size)
    n.eps, n.x, n.bias, n.y = eps, data_of(a), data_of(b), data_of(y)
    if 8 * n.rows * n.size < RELEASE_GIL:
        fr_layer_norm(&n, 1)
    else:
        with nogil:
            fr_layer_norm(&n, threads)
    return y


def layer_norm_back(dy, weight, normal, inverse, dweight, dbias, owner):
    """A new dx (*, size) of dy (*, size) and of what `layer_norm` filled; adds to dweight and dbias (size,)."""
    cdef cnp.ndarray c = floats(dy, "dy"), w = floats(weight, "weight"), dx
    cdef Arrays arrays = Arrays()
    cdef int32_t threads = num_threads()
    cdef fr_norm n = norm_of(c, w, "dy", owner)
    n.normal = <float *>arrays.take(normal, "normal", (n.rows, n.size), False, False)
    n.inverse = <float *>arrays.take(inverse, "inverse", (n.rows,), False, False)
    n.dweight = <float *>arrays.take(dweight, "dweight", (n.size,), False, True)
    n.dbias = <float *>arrays.take(dbias, "dbias", (n.size,), False, True)
    dx = new_like(c, n.size)
    n.dy, n.dx = data_of(c), data_of(dx)
    with nogil:
        fr_layer_norm_back(&n, threads)
    return dx


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
