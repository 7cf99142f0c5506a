# Choices of tokens. Part of _core.pyx.

cdef int check_rows(Py_buffer *view, str name) except -1:
    if view.ndim != 2 or view.shape[0] < 1 or view.shape[1] < 1:
        raise ValueError(f"{name} has shape {shape_of(view)}, expected (rows, V)")
    return 0


cdef class Sampler:
    """Draws a token for every row of logits (N, V), whose arrays it keeps; see fr_sample, fr_draw_steps.

    raw (N, V) are the logits before processors, perhaps the same array; keys, positions (N,) say which
    random number a row uses (a position below 0: none, the row is skipped); tokens, logprobs (S + 1, N)
    are the record of up to S steps; ends (V,) marks the tokens that may end a text.
    """

    def __init__(self, logits, raw, keys, positions, tokens, logprobs, const uint8_t[::1] ends not None, *,
                 double temperature=1.0, int64_t top_k=0, double top_p=1.0, double min_p=0.0, double typical_p=1.0):
        cdef fr_sampling *s = &self.sampling
        cdef fr_draws *d = &self.draws
        cdef Arrays arrays = Arrays()
        cdef Py_buffer *view = arrays.add(logits, "logits", False, False)
        check_rows(view, "logits")
        self.capacity, s.classes, s.logits = view.shape[0], view.shape[1], <const float *>view.buf
        d.raw = <float *>arrays.take(raw, "raw", shape_of(view), False, True)
        s.keys = <const int64_t *>arrays.take(keys, "keys", (self.capacity,), True, False)
        d.positions = <int64_t *>arrays.take(positions, "positions", (self.capacity,), True, True)
        self.steps = len(tokens) - 1
        d.tokens = <int64_t *>arrays.take(tokens, "tokens", (self.steps + 1, self.capacity), True, True)
        d.logprobs = <float *>arrays.take(logprobs, "logprobs", (self.steps + 1, self.capacity), False, True)
        if self.steps < 1:
            raise ValueError("tokens has room for no step")
        check_shape("ends", (ends.shape[0],), (s.classes,))
        s.raw, s.positions, s.tokens = d.raw, d.positions, d.tokens + self.capacity
        s.logprobs = d.logprobs + self.capacity
        s.temperature, s.top_k, s.top_p, s.min_p, s.typical_p = temperature, top_k, top_p, min_p, typical_p
        self.ends, d.ends, d.sampling, d.capacity = ends, &ends[0], s, self.capacity
        self.threads = num_threads
        self.memory = Memory()
        self.memory.data = allocate(fr_sample_size(s.classes, self.threads))
        self.arrays = arrays

    def draw(self, int64_t rows):
        """Draws for the first `rows` rows, into row 1 of the record."""
        if self.arrays is None or not 0 <= rows <= self.capacity:
            raise ValueError(f"rows is {rows}, expected 0 to {self.capacity}")
        self.sampling.rows = rows
        if rows * self.sampling.classes < 1024:
            fr_sample(&self.sampling, self.memory.data, 1)
        else:
            with nogil:
                fr_sample(&self.sampling, self.memory.data, self.threads)

    def run(self, Stream stream not None, int64_t rows, int64_t steps):
        """Feeds row 0 of the record and goes on; returns the decided steps, see fr_draw_steps."""
        if self.arrays is None or not 0 <= rows <= self.capacity or not 0 <= steps <= self.steps:
            raise ValueError(f"rows is {rows} and steps {steps}, expected up to {self.capacity} and {self.steps}")
        stream._enter_tokens(self.draws.tokens, rows, rows, self.sampling.classes)
        self.draws.network = &stream.network
        try:
            with nogil:
                steps = fr_draw_steps(&self.draws, steps, self.memory.data, self.threads)
        finally:
            fr_leave(&stream.busy)
        return steps


cdef class Chooser:
    """Chooses the best continuations of groups of rows, whose arrays it keeps; see fr_choose, fr_search_steps.

    logprobs (N, V); first, last (G,): group g has the rows first[g] to last[g] - 1; best (G, k) float64,
    best_rows, best_tokens (G, k) receive results. tokens, parents, scores (float64), logprobs_taken
    (S + 1, N) are the record of up to S steps, whose row 0 has the scores of all rows; ends (V,) marks the
    tokens that may end a text; beams <= k; a row offers at most `branches` tokens (0: any number).
    """

    def __init__(self, logprobs, first, last, double[:, ::1] best not None, best_rows, best_tokens, tokens, parents,
                 double[:, ::1] scores not None, logprobs_taken, const uint8_t[::1] ends not None, int64_t beams,
                 int64_t branches=0):
        cdef fr_choice *c = &self.choice
        cdef fr_search *s = &self.search
        cdef Arrays arrays = Arrays()
        cdef Py_buffer *view = arrays.add(logprobs, "logprobs", False, True)
        check_rows(view, "logprobs")
        self.rows, c.classes, s.logits = view.shape[0], view.shape[1], <float *>view.buf
        self.capacity, c.k, self.steps = best.shape[0], best.shape[1], scores.shape[0] - 1
        if self.capacity < 1 or self.steps < 1 or not 1 <= beams <= c.k:
            raise ValueError("best, scores or beams is empty")
        s.first = <int64_t *>arrays.take(first, "first", (self.capacity,), True, True)
        s.last = <int64_t *>arrays.take(last, "last", (self.capacity,), True, True)
        c.best_rows = <int64_t *>arrays.take(best_rows, "best_rows", (self.capacity, c.k), True, True)
        c.tokens = <int64_t *>arrays.take(best_tokens, "best_tokens", (self.capacity, c.k), True, True)
        record = (self.steps + 1, self.rows)
        s.tokens = <int64_t *>arrays.take(tokens, "tokens", record, True, True)
        s.parents = <int64_t *>arrays.take(parents, "parents", record, True, True)
        s.logprobs = <float *>arrays.take(logprobs_taken, "logprobs_taken", record, False, True)
        check_shape("scores", (scores.shape[0], scores.shape[1]), record)
        check_shape("ends", (ends.shape[0],), (c.classes,))
        self.scores, self.best, self.ends = scores, best, ends
        s.scores, s.ends, s.choice, s.beams, s.capacity = &scores[0, 0], &ends[0], c, beams, self.rows
        c.logprobs, c.first, c.last, c.best, c.branches = s.logits, s.first, s.last, &best[0, 0], branches
        self.arrays = arrays

    def normalize(self, int64_t rows):
        """Log-softmax of the first `rows` rows of logprobs; returns the first row with NaN, or rows."""
        cdef int32_t threads = num_threads
        if self.arrays is None or not 0 <= rows <= self.rows:
            raise ValueError(f"rows is {rows}, expected 0 to {self.rows}")
        if rows * self.choice.classes < 1024:
            return fr_normalize(rows, self.choice.classes, self.search.logits, 1)
        with nogil:
            rows = fr_normalize(rows, self.choice.classes, self.search.logits, threads)
        return rows

    def choose(self, int64_t groups):
        """Chooses for the first `groups` groups."""
        cdef int32_t threads = num_threads
        if self.arrays is None or not 0 <= groups <= self.capacity:
            raise ValueError(f"groups is {groups}, expected 0 to {self.capacity}")
        if (fr_first_outside(self.choice.first, groups, self.rows) < groups
                or fr_first_outside(self.choice.last, groups, self.rows + 1) < groups):
            raise ValueError(f"first and last must lie in the {self.rows} rows")
        self.choice.groups, self.choice.scores = groups, self.search.scores
        if groups * self.choice.classes < 1024:
            fr_choose(&self.choice, 1)
        else:
            with nogil:
                fr_choose(&self.choice, threads)

    def run(self, Stream stream not None, int64_t groups, int64_t rows, int64_t steps):
        """Feeds row 0 of the record, `rows` rows of `groups` groups, and goes on; see fr_search_steps.

        Returns the decided steps and the first row with NaN of the one that waits, or -1.
        """
        cdef int32_t threads = num_threads
        if (self.arrays is None or not 1 <= groups <= self.capacity or not 0 <= steps <= self.steps
                or (rows != groups and rows != groups * self.search.beams) or groups * self.search.beams > self.rows
                or self.rows > stream.capacity):
            raise ValueError(f"groups is {groups}, rows is {rows} and steps is {steps}, which do not fit")
        stream._enter_tokens(self.search.tokens, rows, rows, self.choice.classes)
        self.search.network, self.choice.groups = &stream.network, groups
        try:
            with nogil:
                steps = fr_search_steps(&self.search, steps, threads)
            stream.rows = fr_state_rows(stream.state)
        finally:
            fr_leave(&stream.busy)
        return steps, self.search.nan_row


cdef class Grammar:
    """The tokens that every state of an automaton allows, applied to rows of logits; see fr_constrain.

    offsets (S + 1,), tokens (E,), needed (E,); logits (N, V), states, remaining (N,) are kept.
    """

    def __init__(self, offsets, tokens, needed, logits, states, remaining):
        cdef fr_grammar *g = &self.grammar
        cdef Arrays arrays = Arrays(), table = Arrays()
        cdef Py_buffer *view = arrays.add(logits, "logits", False, True)
        check_rows(view, "logits")
        self.capacity, g.classes, g.logits = view.shape[0], view.shape[1], <float *>view.buf
        g.states = <const int64_t *>arrays.take(states, "states", (self.capacity,), True, False)
        g.remaining = <const int64_t *>arrays.take(remaining, "remaining", (self.capacity,), True, False)
        # Copies: nobody may change between check and use what is an index in the core.
        offsets, tokens, needed = [numpy.array(a, numpy.int64) for a in (offsets, tokens, needed)]
        self.num_states = len(offsets) - 1
        if (self.num_states < 0 or offsets[0] != 0 or offsets[self.num_states] != len(tokens) or (numpy.diff(offsets) < 0).any()
                or (len(tokens) and not 0 <= tokens.min() <= tokens.max() < g.classes)):
            raise ValueError("offsets and tokens do not describe an automaton over this vocabulary")
        g.offsets = <const int64_t *>table.take(offsets, "offsets", (self.num_states + 1,), True, False)
        g.tokens = <const int64_t *>table.take(tokens, "tokens", (len(tokens),), True, False)
        g.needed = <const int64_t *>table.take(needed, "needed", (len(tokens),), True, False)
        self.arrays, self.table, self.states = arrays, table, states

    def apply(self, int64_t rows):
        """Masks the first `rows` rows; a state below 0 leaves its row as it is."""
        if self.arrays is None or not 0 <= rows <= self.capacity:
            raise ValueError(f"rows is {rows}, expected 0 to {self.capacity}")
        if rows and self.states[:rows].max() >= self.num_states:
            raise ValueError(f"states holds {self.states[:rows].max()}, the states are 0 to {self.num_states - 1}")
        self.grammar.rows = rows
        with nogil:
            fr_constrain(&self.grammar)


def uniform(int64_t key, int64_t position):
    """The random number in [0, 1) of a position of a sequence; see fr_uniform."""
    return fr_uniform(key, position)
