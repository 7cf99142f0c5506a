# Losses and updates. Part of _core.pyx.

def cross_entropy(logits, targets, losses=None, dlogits=None, double smoothing=0.0, double scale=1.0):
    """Losses (M,) and dlogits (M, V), as far as given, of logits (M, V) and targets (M,), -1 to V-1.

    A target of -1 is skipped. dlogits may be logits. Returns how many largest logits are the target's.
    """
    cdef Arrays arrays = Arrays()
    cdef fr_softmax s
    cdef int64_t correct = 0
    cdef int32_t threads = num_threads()
    cdef Py_buffer *view = add_rows_of(arrays, logits, "logits")
    s.rows, s.classes = view.shape[0], view.shape[1]
    s.stride = s.dstride = s.classes
    s.logits = <const float *>view.buf
    targets = copy_of_indices(targets, "targets", -1, s.classes)
    s.targets = <const int64_t *>arrays.take(targets, "targets", (s.rows,), True, False)
    s.losses = <float *>arrays.take(losses, "losses", (s.rows,), False, True)
    s.dlogits = <float *>arrays.take(dlogits, "dlogits", (s.rows, s.classes), False, True)
    s.correct = &correct
    s.smoothing, s.scale = smoothing, scale
    with nogil:
        fr_cross_entropy(&s, threads)
    return correct


def log_softmax(x, y):
    """y = log softmax of every row of x (M, V); y may be x."""
    cdef Arrays arrays = Arrays()
    cdef int32_t threads = num_threads()
    cdef Py_buffer *view = add_rows_of(arrays, x, "x")
    cdef int64_t rows = view.shape[0], classes = view.shape[1]
    source = <const float *>view.buf
    out = <float *>arrays.take(y, "y", (rows, classes), False, True)
    with nogil:
        fr_log_softmax(rows, classes, source, classes, out, classes, threads)


def update(str rule, parameters, gradient, m=None, v=None, a=None, *, float rate, float weight_decay=0.0,
           float shrink=1.0, float momentum=0.0, float gain=1.0, float nesterov=0.0, float decay=0.0,
           float rest=1.0, float root=1.0, float eps=0.0):
    """One step of "sgd", "adam", "rmsprop" or "adagrad" on vectors (n,); the names are fr_update's."""
    cdef Arrays arrays = Arrays()
    cdef fr_update u
    cdef int32_t threads = num_threads()
    cdef Py_buffer *view = arrays.add(parameters, "parameters", False, True)
    rules = {"sgd": (FR_SGD, False), "adam": (FR_ADAM, True), "rmsprop": (FR_RMSPROP, True),
             "adagrad": (FR_ADAGRAD, True)}
    if rule not in rules:
        raise ValueError(f"rule is {rule!r}, expected one of {', '.join(rules)}")
    u.rule, needs_v = rules[rule]
    if (needs_v and v is None) or (rule == "adam" and m is None):
        raise ValueError(f"the rule {rule} needs {'m and v' if rule == 'adam' else 'v'}")
    u.n = view.shape[0] if view.ndim else 0
    shape = (u.n,)
    check_shape("parameters", shape_of(view), shape)
    u.parameters = <float *>view.buf
    u.gradient = <const float *>arrays.take(gradient, "gradient", shape, False, False)
    u.m = <float *>arrays.take(m, "m", shape, False, True)
    u.v = <float *>arrays.take(v, "v", shape, False, True)
    u.a = <float *>arrays.take(a, "a", shape, False, True)
    if u.gradient is NULL:
        raise TypeError("gradient must be float32, got None")
    u.rate, u.weight_decay, u.shrink, u.momentum, u.gain = rate, weight_decay, shrink, momentum, gain
    u.nesterov, u.decay, u.rest, u.root, u.eps = nesterov, decay, rest, root, eps
    with nogil:
        fr_update_run(&u, threads)


def squared_norm(const float[::1] x not None):
    """The sum of squares of x (n,) in float64; the same bits for any number of threads."""
    cdef int32_t threads = num_threads()
    cdef size_t n = x.shape[0]
    cdef double[::1] partials = new_array(n // FR_NORM_BLOCK + 1)
    cdef double result
    if n == 0:
        return 0.0
    with nogil:
        result = fr_squared_norm(n, &x[0], &partials[0], threads)
    return result


def scale(float[::1] x not None, float factor):
    """x *= factor."""
    cdef int32_t threads = num_threads()
    if x.shape[0]:
        with nogil:
            fr_scale(x.shape[0], &x[0], factor, threads)


def clip(float[::1] x not None, float bound):
    """Limits x to [-bound, bound]; NaN stays."""
    cdef int32_t threads = num_threads()
    if x.shape[0]:
        with nogil:
            fr_clip(x.shape[0], &x[0], bound, threads)


def add_rows(tokens, dy, dw, bint batch_first=False):
    """dw[token] += dy for tokens (T, N), or (N, T) if batch_first, dy (..., I), dw (V, I).

    Steps in falling order, rows in rising order.
    """
    cdef Arrays arrays = Arrays()
    cdef fr_scatter s
    cdef int32_t threads = num_threads()
    cdef Py_buffer *view = arrays.add(dw, "dw", False, True)
    if view.ndim != 2:
        raise ValueError(f"dw has shape {shape_of(view)}, expected 2 dimensions")
    s.dw = <float *>view.buf
    s.columns = view.shape[1]
    tokens = copy_of_indices(tokens, "tokens", 0, view.shape[0])
    if tokens.ndim != 2:
        raise ValueError(f"tokens has shape {tokens.shape}, expected 2 dimensions")
    s.steps, s.rows = tokens.shape[batch_first], tokens.shape[not batch_first]
    s.step_stride = 1 if batch_first else s.rows
    s.row_stride = s.steps if batch_first else 1
    s.tokens = <const int64_t *>arrays.take(tokens, "tokens", tokens.shape, True, False)
    s.dy = <const float *>arrays.take(dy, "dy", (*tokens.shape, s.columns), False, False)
    if s.dy is NULL:
        raise TypeError("dy must be float32, got None")
    with nogil:
        fr_add_rows(&s, threads)
