# Attention over whole sequences. Part of _core.pyx.

cdef class Attended:
    """Queries (T, N, A) that looked at keys (S, B, A) and values (S, B, M); see fr_attention.

    score (A,) for additive scores, None for products times scale; lengths (B,); sources (N,) say
    which row of the memory each row looks at. Makes weights (T, N, S) and context (T, N, M).
    """

    def __init__(self, queries, keys, values, score, lengths, sources, float scale=1.0):
        cdef int32_t threads = num_threads()
        cdef fr_attention *a = &self.attention
        cdef cnp.ndarray q = floats(queries, "queries"), k = floats(keys, "keys"), m = floats(values, "values")
        cdef cnp.npy_intp[3] shape
        self.arrays = None  # until all is checked
        if q.ndim != 3 or m.ndim != 3 or 0 in (cnp.PyArray_DIMS(q)[2], cnp.PyArray_DIMS(m)[2]):
            raise ValueError(f"queries has shape {(<object>q).shape} and values {(<object>m).shape}, "
                             f"expected (T, N, A) and (S, B, M)")
        a.steps, a.rows, a.size = cnp.PyArray_DIMS(q)[0], cnp.PyArray_DIMS(q)[1], cnp.PyArray_DIMS(q)[2]
        a.positions, a.memory_rows = cnp.PyArray_DIMS(m)[0], cnp.PyArray_DIMS(m)[1]
        a.features, a.scale = cnp.PyArray_DIMS(m)[2], scale
        if sources is None and a.memory_rows != a.rows:
            raise ValueError(f"values has {a.memory_rows} rows, queries has {a.rows}")
        check_shape("keys", (<object>k).shape, (a.positions, a.memory_rows, a.size))
        if score is not None:
            score = floats(score, "score")
            check_shape("score", score.shape, (a.size,))
            a.score = data_of(score)
        # Copies: nobody may change between check and use what is an index in the core.
        if lengths is not None:
            lengths = copy_of_indices(lengths, "lengths", 0, a.positions + 1)
            check_shape("lengths", lengths.shape, (a.memory_rows,))
            a.lengths = <const int64_t *>cnp.PyArray_DATA(lengths)
        if sources is not None:
            sources = copy_of_indices(sources, "sources", 0, a.memory_rows)
            check_shape("sources", sources.shape, (a.rows,))
            a.sources = <const int64_t *>cnp.PyArray_DATA(sources)
        shape[0], shape[1], shape[2] = a.steps, a.rows, a.positions
        self.weights = new_floats(3, shape)
        shape[2] = a.features
        self.context = new_floats(3, shape)
        a.queries, a.keys, a.values = data_of(q), data_of(k), data_of(m)
        a.weights, a.context = data_of(self.weights), data_of(self.context)
        self.arrays = (q, k, m, score, lengths, sources)
        if <double>a.steps * a.rows * a.positions * (a.size + a.features) < RELEASE_GIL // 8:
            fr_attend(a, 1)
        else:
            with nogil:
                fr_attend(a, threads)

    def backward(self, dcontext, dqueries, dkeys, dvalues, dscore, workspace):
        """Adds to dqueries, dkeys and dvalues, and to dscore (N, A); workspace (T, N, S)."""
        cdef int32_t threads = num_threads()
        cdef Arrays arrays = Arrays()
        cdef fr_attention *a = &self.attention
        cdef fr_attention_gradients g
        if self.arrays is None or a.sources is not NULL or (dscore is None) != (a.score is NULL):
            raise ValueError("attention with sources has no way back, and dscore belongs to score")
        g.dcontext = <const float *>arrays.take(dcontext, "dcontext", (a.steps, a.rows, a.features), False, False)
        g.dqueries = <float *>arrays.take(dqueries, "dqueries", (a.steps, a.rows, a.size), False, True)
        g.dkeys = <float *>arrays.take(dkeys, "dkeys", (a.positions, a.rows, a.size), False, True)
        g.dvalues = <float *>arrays.take(dvalues, "dvalues", (a.positions, a.rows, a.features), False, True)
        g.dscore = <float *>arrays.take(dscore, "dscore", (a.rows, a.size), False, True)
        g.workspace = <float *>arrays.take(workspace, "workspace", (a.steps, a.rows, a.positions), False, True)
        if (g.dcontext is NULL or g.dqueries is NULL or g.dkeys is NULL or g.dvalues is NULL
                or g.workspace is NULL):
            raise TypeError("dcontext, dqueries, dkeys, dvalues and workspace must be float32 arrays, got None")
        if g.dkeys == g.dvalues and (a.keys != a.values or a.size != a.features):
            raise ValueError("dkeys is dvalues, but keys are not the values")
        with nogil:
            fr_attend_back(a, &g, threads)
