# Activations and passes per channel. Part of _core.pyx.

def activations():
    """The table of activations: by name (over, reads, names of parameters, their usual values).

    over: "each", "pair" or "row"; reads: "x" or "y", what the backward pass reads. See activations.def.
    """
    cdef const fr_activation_info *info = fr_activations
    cdef dict found = {}
    while info < fr_activations + FR_ACTIVATIONS:
        names = tuple(filter(None, (info.parameter[0].decode(), info.parameter[1].decode())))
        found[info.name.decode()] = (("each", "pair", "row")[info.over], ("x", "y")[info.reads],
                                     names, (info.usual[0], info.usual[1])[:len(names)])
        info += 1
    return found


cdef class Activation:
    """One activation with its parameters a and b, 0 where it has fewer."""

    def __cinit__(self, str name, float a=0.0, float b=0.0):
        memset(&self.call, 0, sizeof(self.call))
        self.call.function = fr_activation_named(name.encode())
        if self.call.function < 0:
            raise ValueError(f"there is no activation {name!r}")
        self.call.a, self.call.b = a, b
        self.info = &fr_activations[self.call.function]
        self.kept = "xy"[self.info.reads]

    cdef int _rows(self, fr_activation *call, cnp.ndarray x, object owner) except -1:
        """M and C of an input x (*, C), of a pair (*, 2 C)."""
        cdef int64_t inputs = cnp.PyArray_DIMS(x)[x.ndim - 1] if x.ndim else 1
        if self.info.over == FR_OVER_EACH:
            call.rows, call.size = 1, cnp.PyArray_SIZE(x)
            return 0
        if x.ndim == 0 or inputs == 0:
            raise ValueError(f"x has shape {(<object>x).shape}, {this(owner)} expects (*, C) with values in it")
        if self.info.over == FR_OVER_PAIR and inputs % 2:
            raise ValueError(f"x has {inputs} features, {this(owner)} expects an even number: real, then imaginary parts")
        call.rows = cnp.PyArray_SIZE(x) // inputs
        call.size = inputs // 2 if self.info.over == FR_OVER_PAIR else inputs
        return 0

    def run(self, x, owner):
        """A new y of x; `owner`: the layer whose argument this is."""
        cdef cnp.ndarray a = floats(x, "x"), y
        cdef fr_activation call = self.call
        cdef int32_t threads = num_threads
        self._rows(&call, a, owner)
        y = new_like(a, call.size) if self.info.over == FR_OVER_PAIR else new_floats(a.ndim, cnp.PyArray_DIMS(a))
        call.x, call.y = data_of(a), data_of(y)
        if ACTIVATION_WORK * call.rows * call.size < RELEASE_GIL:
            fr_activate(&call, 1)
        else:
            with nogil:
                fr_activate(&call, threads)
        return y

    def back(self, kept, dy, owner):
        """A new dx from dy and from what `reads` names: the x that went into `run` or the y that came out."""
        cdef cnp.ndarray a = floats(kept, self.kept), c = floats(dy, "dy"), dx
        cdef fr_activation call = self.call
        cdef int32_t threads = num_threads
        self._rows(&call, a, owner)
        shape = (<object>a).shape
        if self.info.over == FR_OVER_PAIR:
            shape = (*shape[:len(shape) - 1], call.size)
        check_shape("dy", (<object>c).shape, shape)
        dx = new_floats(a.ndim, cnp.PyArray_DIMS(a))
        call.x = call.y = data_of(a)
        call.dy, call.dx = data_of(c), data_of(dx)
        with nogil:
            fr_activate_back(&call, threads)
        return dx


cdef fr_channels channels_of(cnp.ndarray x, cnp.ndarray weight, object owner) except *:
    cdef fr_channels call
    memset(&call, 0, sizeof(call))
    call.size = cnp.PyArray_SIZE(weight)
    if x.ndim == 0 or cnp.PyArray_DIMS(x)[x.ndim - 1] != call.size or call.size == 0:
        raise ValueError(f"x has shape {(<object>x).shape}, {this(owner)} expects (*, {call.size})")
    call.rows = cnp.PyArray_SIZE(x) // call.size
    call.x, call.weight = data_of(x), data_of(weight)
    return call


def scale_channels(x, weight, bias, owner):
    """A new y (*, C) = x weight + bias, weight and bias (C,), or for bias None: x, below 0 times weight."""
    cdef cnp.ndarray a = floats(x, "x"), w = floats(weight, "weight"), b = None, y
    cdef int32_t threads = num_threads
    cdef fr_channels call = channels_of(a, w, owner)
    call.rule = FR_PRELU
    if bias is not None:
        b = floats(bias, "bias")
        check_shape("bias", (<object>b).shape, (call.size,))
        call.rule, call.bias = FR_SCALE_SHIFT, data_of(b)
    y = new_floats(a.ndim, cnp.PyArray_DIMS(a))
    call.y = data_of(y)
    if ACTIVATION_WORK * call.rows * call.size < RELEASE_GIL:
        fr_apply_channels(&call, 1)
    else:
        with nogil:
            fr_apply_channels(&call, threads)
    return y


def scale_channels_back(x, weight, dy, dweight, dbias, owner):
    """A new dx (*, C) of dy (*, C); adds to dweight (C,) and to dbias (C,), None as for scale_channels."""
    cdef cnp.ndarray a = floats(x, "x"), w = floats(weight, "weight"), c = floats(dy, "dy"), dx
    cdef Arrays arrays = Arrays()
    cdef int32_t threads = num_threads
    cdef fr_channels call = channels_of(a, w, owner)
    check_shape("dy", (<object>c).shape, (<object>a).shape)
    call.rule = FR_PRELU if dbias is None else FR_SCALE_SHIFT
    call.dweight = <float *>arrays.take(dweight, "dweight", (call.size,), False, True)
    call.dbias = <float *>arrays.take(dbias, "dbias", (call.size,), False, True)
    dx = new_floats(a.ndim, cnp.PyArray_DIMS(a))
    call.dy, call.dx = data_of(c), data_of(dx)
    with nogil:
        fr_apply_channels_back(&call, threads)
    return dx
