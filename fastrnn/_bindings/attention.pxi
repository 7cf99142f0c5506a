# Attention over whole sequences. Part of _core.pyx.

cdef class Attended:
    """Queries (T, N, A) that looked at keys (S, B, A) and values (S, B, M); see fr_attention.

    score (A,) for additive scores, None for products times scale; lengths (B,); sources (N,) say
    which row of the memory each row looks at. Fills weights (T, N, S) and context (T, N, M).
    """

    def __init__(self, queries, keys, values, score, lengths, sources, weights, context, float scale=1.0):
        cdef int32_t threads = num_threads
        cdef Arrays arrays = Arrays()
        cdef fr_attention *a = &self.attention
        self.arrays = None  # until all is checked
        cdef Py_buffer *view = arrays.add(queries, "queries", False, False)
        cdef Py_buffer *memory = arrays.add(values, "values", False, False)
        if view.ndim != 3 or memory.ndim != 3 or 0 in (view.shape[2], memory.shape[2]):
            raise ValueError(f"queries has shape {shape_of(view)} and values {shape_of(memory)}, "
                             f"expected (T, N, A) and (S, B, M)")
        a.steps, a.rows, a.size = view.shape[0], view.shape[1], view.shape[2]
        a.positions, a.memory_rows, a.features = memory.shape[0], memory.shape[1], memory.shape[2]
        if sources is None and a.memory_rows != a.rows:
            raise ValueError(f"values has {a.memory_rows} rows, queries has {a.rows}")
        # Copies: nobody may change between check and use what is an index in the core.
        lengths = None if lengths is None else copy_of_indices(lengths, "lengths", 0, a.positions + 1)
        sources = None if sources is None else copy_of_indices(sources, "sources", 0, a.memory_rows)
        a.queries, a.values, a.scale = <const float *>view.buf, <const float *>memory.buf, scale
        a.keys = <const float *>arrays.take(keys, "keys", (a.positions, a.memory_rows, a.size), False, False)
        a.score = <const float *>arrays.take(score, "score", (a.size,), False, False)
        a.lengths = <const int64_t *>arrays.take(lengths, "lengths", (a.memory_rows,), True, False)
        a.sources = <const int64_t *>arrays.take(sources, "sources", (a.rows,), True, False)
        a.weights = <float *>arrays.take(weights, "weights", (a.steps, a.rows, a.positions), False, True)
        a.context = <float *>arrays.take(context, "context", (a.steps, a.rows, a.features), False, True)
        if a.keys is NULL or a.weights is NULL or a.context is NULL:
            raise TypeError("keys, weights and context must be float32 arrays, got None")
        self.arrays = arrays
        with nogil:
            fr_attend(a, threads)

    def backward(self, dcontext, dqueries, dkeys, dvalues, dscore, workspace):
        """Adds to dqueries, dkeys and dvalues, and to dscore (N, A); workspace (T, N, S)."""
        cdef int32_t threads = num_threads
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
