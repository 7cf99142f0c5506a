# Choices of tokens. Part of _core.pyx.

cdef int check_rows(Py_buffer *view, str name) except -1:
    if view.ndim != 2 or view.shape[0] < 1 or view.shape[1] < 1:
        raise ValueError(f"{name} has shape {shape_of(view)}, expected (rows, V)")
    return 0


cdef int put_tokens(int64_t *to, list tokens) except -1:
    """Copies tokens, for which there is room."""
    cdef Arrays arrays = Arrays()
    values = <const int64_t *>arrays.take(numpy.array(tokens, int64), "feed", (len(tokens),), True, False)
    memcpy(to, values, len(tokens) * sizeof(int64_t))
    return 0


cdef int claim(int *busy, str kind) except -1:
    """Its memory is for one call at a time; indices in it would lead anywhere if two wrote them."""
    if not fr_enter(busy):
        raise RuntimeError(f"this {kind} is in use by another thread; make one {kind} per thread")
    return 0


cdef class Sampler:
    """Draws a token for every row of logits (N, V), whose arrays it keeps; see fr_sample, fr_draw_steps.

    raw (N, V) are the logits before processors, perhaps the same array; keys, positions (N,) say which
    random number a row uses (a position below 0: none, the row is skipped); ends (V,) marks the tokens
    that may end a text. tokens, logprobs (steps + 1, N) are its own: what was fed and drawn. One thread at a time.
    """

    def __init__(self, logits, raw, keys, positions, const uint8_t[::1] ends not None, int64_t steps, *,
                 double temperature=1.0, int64_t top_k=0, double top_p=1.0, double min_p=0.0, double typical_p=1.0):
        cdef fr_sampling *s = &self.sampling
        cdef fr_draws *d = &self.draws
        cdef Arrays arrays = Arrays()
        cdef Py_buffer *view
        claim(&self.busy, "Sampler")
        try:
            self.arrays = None  # until all is checked
            view = arrays.add(logits, "logits", False, False)
            check_rows(view, "logits")
            if steps < 1 or not temperature >= 0:
                raise ValueError(f"steps is {steps} and temperature {temperature}, expected 1 or more and 0 or more")
            self.capacity, s.classes, s.logits = view.shape[0], view.shape[1], <const float *>view.buf
            d.raw = <float *>arrays.take(raw, "raw", shape_of(view), False, True)
            s.keys = <const int64_t *>arrays.take(keys, "keys", (self.capacity,), True, False)
            d.positions = <int64_t *>arrays.take(positions, "positions", (self.capacity,), True, True)
            if d.raw is NULL or s.keys is NULL or d.positions is NULL:
                raise TypeError("raw, keys and positions must be arrays, got None")
            check_shape("ends", (ends.shape[0],), (s.classes,))
            self.steps, record = steps, (steps + 1, self.capacity)
            self.tokens, self.logprobs = numpy.zeros(record, int64), numpy.zeros(record, float32)
            d.tokens = <int64_t *>arrays.take(self.tokens, "tokens", record, True, True)
            d.logprobs = <float *>arrays.take(self.logprobs, "logprobs", record, False, True)
            self.tokens.flags.writeable = False  # they are fed
            s.raw, s.positions, s.tokens = d.raw, d.positions, d.tokens + self.capacity
            s.logprobs = d.logprobs + self.capacity
            s.temperature, s.top_k, s.top_p, s.min_p, s.typical_p = temperature, top_k, top_p, min_p, typical_p
            self.ends, d.ends, d.sampling, d.capacity = ends, &ends[0], s, self.capacity
            self.threads = num_threads()
            self.memory = Memory()
            self.memory.data = allocate(fr_sample_size(s.classes, self.threads))
            self.arrays = arrays
        finally:
            fr_leave(&self.busy)

    def draw(self, int64_t rows):
        """Draws for the first `rows` rows, into row 1 of the record."""
        claim(&self.busy, "Sampler")
        try:
            if self.arrays is None or not 0 <= rows <= self.capacity:
                raise ValueError(f"rows is {rows}, expected 0 to {self.capacity}")
            self.sampling.rows = rows
            if rows * self.sampling.classes < 1024:
                fr_sample(&self.sampling, self.memory.data, 1)
            else:
                with nogil:
                    fr_sample(&self.sampling, self.memory.data, self.threads)
        finally:
            fr_leave(&self.busy)

    def run(self, Stream stream not None, list feed not None, int64_t steps):
        """Feeds a token to every row and goes on; returns the decided steps, see fr_draw_steps."""
        cdef int64_t rows = len(feed)
        claim(&self.busy, "Sampler")
        try:
            if self.arrays is None or not 0 <= rows <= self.capacity or not 0 <= steps <= self.steps:
                raise ValueError(f"feed has {rows} rows and steps is {steps}, expected up to {self.capacity} and {self.steps}")
            put_tokens(self.draws.tokens, feed)
            stream._enter_tokens(self.draws.tokens, rows, rows, self.sampling.classes, self.sampling.classes)
            self.draws.network = &stream.network
            try:
                with nogil:
                    steps = fr_draw_steps(&self.draws, steps, self.memory.data, self.threads)
            finally:
                fr_leave(&stream.busy)
            return steps
        finally:
            fr_leave(&self.busy)


cdef class Chooser:
    """Chooses the best continuations of groups of rows of logprobs (N, V); see fr_choose, fr_search_steps.

    All other arrays are its own: first, last (G,), group g has the rows first[g] to last[g] - 1; best (G, k)
    float64, best_rows, best_tokens (G, k), the results; tokens, parents, scores (float64), logprobs (steps +
    1, N), what was fed and taken, with the scores of all rows in row 0. ends (V,) marks the tokens that may
    end a text; beams <= k; a row offers at most `branches` tokens (0: any number).
    """

    def __init__(self, logprobs, int64_t groups, int64_t k, const uint8_t[::1] ends not None, int64_t steps,
                 int64_t beams, int64_t branches=0):
        cdef fr_choice *c = &self.choice
        cdef fr_search *s = &self.search
        cdef Arrays arrays = Arrays()
        cdef Py_buffer *view
        claim(&self.busy, "Chooser")
        try:
            self.arrays = None  # until all is checked
            view = arrays.add(logprobs, "logprobs", False, True)
            check_rows(view, "logprobs")
            self.rows, c.classes, s.logits = view.shape[0], view.shape[1], <float *>view.buf
            if groups < 1 or steps < 1 or not 1 <= beams <= k or branches < 0:
                raise ValueError(f"groups is {groups}, steps {steps}, k {k}, beams {beams} and branches {branches}")
            check_shape("ends", (ends.shape[0],), (c.classes,))
            self.capacity, c.k, self.steps, record = groups, k, steps, (steps + 1, self.rows)
            self.first, self.last = numpy.zeros((2, groups), int64)
            self.best_rows, self.best_tokens = numpy.zeros((2, groups, k), int64)
            self.tokens, self.parents = numpy.zeros((2, *record), int64)
            self.best = self.best_view = numpy.zeros((groups, k))
            self.scores = self.score_view = numpy.zeros(record)
            self.logprobs = numpy.zeros(record, float32)
            self.given_first = <const int64_t *>arrays.take(self.first, "first", (groups,), True, True)
            self.given_last = <const int64_t *>arrays.take(self.last, "last", (groups,), True, True)
            s.first = <int64_t *>arrays.take(numpy.zeros(groups, int64), "first", (groups,), True, True)
            s.last = <int64_t *>arrays.take(numpy.zeros(groups, int64), "last", (groups,), True, True)
            c.best_rows = <int64_t *>arrays.take(self.best_rows, "best_rows", (groups, k), True, True)
            c.tokens = <int64_t *>arrays.take(self.best_tokens, "best_tokens", (groups, k), True, True)
            s.tokens = <int64_t *>arrays.take(self.tokens, "tokens", record, True, True)
            s.parents = <int64_t *>arrays.take(self.parents, "parents", record, True, True)
            s.logprobs = <float *>arrays.take(self.logprobs, "logprobs", record, False, True)
            self.best_rows.flags.writeable = self.best_tokens.flags.writeable = False  # indices that are used
            self.tokens.flags.writeable = self.parents.flags.writeable = False
            self.ends, s.ends, s.choice, s.beams, s.capacity = ends, &ends[0], c, beams, self.rows
            s.scores, c.best, c.branches = &self.score_view[0, 0], &self.best_view[0, 0], branches
            c.logprobs, c.first, c.last = s.logits, s.first, s.last
            self.arrays = arrays
        finally:
            fr_leave(&self.busy)

    def normalize(self, int64_t rows):
        """Log-softmax of the first `rows` rows of logprobs; returns the first row with NaN, or rows."""
        cdef int32_t threads = num_threads()
        claim(&self.busy, "Chooser")
        try:
            if self.arrays is None or not 0 <= rows <= self.rows:
                raise ValueError(f"rows is {rows}, expected 0 to {self.rows}")
            if rows * self.choice.classes < 1024:
                return fr_normalize(rows, self.choice.classes, self.search.logits, 1)
            with nogil:
                rows = fr_normalize(rows, self.choice.classes, self.search.logits, threads)
            return rows
        finally:
            fr_leave(&self.busy)

    def choose(self, int64_t groups):
        """Chooses for the first `groups` groups."""
        cdef int32_t threads = num_threads()
        claim(&self.busy, "Chooser")
        try:
            if self.arrays is None or not 0 <= groups <= self.capacity:
                raise ValueError(f"groups is {groups}, expected 0 to {self.capacity}")
            memcpy(self.search.first, self.given_first, groups * sizeof(int64_t))  # nobody may change them after
            memcpy(self.search.last, self.given_last, groups * sizeof(int64_t))  # the check
            if (fr_first_outside(self.choice.first, groups, self.rows) < groups
                    or fr_first_outside(self.choice.last, groups, self.rows + 1) < groups):
                raise ValueError(f"first and last must lie in the {self.rows} rows")
            self.choice.groups, self.choice.scores = groups, self.search.scores
            if groups * self.choice.classes < 1024:
                fr_choose(&self.choice, 1)
            else:
                with nogil:
                    fr_choose(&self.choice, threads)
        finally:
            fr_leave(&self.busy)

    def run(self, Stream stream not None, list feed not None, int64_t groups, int64_t steps):
        """Feeds a token to every row of `groups` groups and goes on; see fr_search_steps.

        Returns the decided steps and the first row with NaN of the one that waits, or -1.
        """
        cdef int32_t threads = num_threads()
        cdef int64_t rows = len(feed)
        claim(&self.busy, "Chooser")
        try:
            if (self.arrays is None or not 1 <= groups <= self.capacity or not 0 <= steps <= self.steps
                    or (rows != groups and rows != groups * self.search.beams) or groups * self.search.beams > self.rows
                    or self.rows > stream.capacity):
                raise ValueError(f"feed has {rows} rows for {groups} groups and {steps} steps, which do not fit")
            put_tokens(self.search.tokens, feed)
            stream._enter_tokens(self.search.tokens, rows, rows, self.choice.classes, self.choice.classes)
            self.search.network, self.choice.groups = &stream.network, groups
            try:
                with nogil:
                    steps = fr_search_steps(&self.search, steps, threads)
                stream.rows = fr_state_rows(stream.state)
            finally:
                fr_leave(&stream.busy)
            return steps, self.search.nan_row
        finally:
            fr_leave(&self.busy)


cdef class Grammar:
    """The tokens that every state of an automaton allows, applied to rows of logits; see fr_constrain.

    offsets (S + 1,), tokens (E,), needed (E,); logits (N, V), states, remaining (N,) are kept. One thread at
    a time.
    """

    def __init__(self, offsets, tokens, needed, logits, states, remaining):
        cdef fr_grammar *g = &self.grammar
        cdef Arrays arrays = Arrays(), table = Arrays()
        cdef Py_buffer *view
        claim(&self.busy, "Grammar")
        try:
            self.arrays = None  # until all is checked
            view = arrays.add(logits, "logits", False, True)
            check_rows(view, "logits")
            self.capacity, g.classes, g.logits = view.shape[0], view.shape[1], <float *>view.buf
            self.given_states = <const int64_t *>arrays.take(states, "states", (self.capacity,), True, False)
            self.states = numpy.zeros(self.capacity, int64)
            g.states = <const int64_t *>arrays.take(self.states, "states", (self.capacity,), True, True)
            g.remaining = <const int64_t *>arrays.take(remaining, "remaining", (self.capacity,), True, False)
            if self.given_states is NULL or g.remaining is NULL:
                raise TypeError("states and remaining must be arrays, got None")
            # Copies: nobody may change between check and use what is an index in the core.
            offsets, tokens, needed = [numpy.array(a, numpy.int64) for a in (offsets, tokens, needed)]
            self.num_states = len(offsets) - 1
            if (self.num_states < 0 or offsets[0] != 0 or offsets[self.num_states] != len(tokens) or (numpy.diff(offsets) < 0).any()
                    or (len(tokens) and not 0 <= tokens.min() <= tokens.max() < g.classes)):
                raise ValueError("offsets and tokens do not describe an automaton over this vocabulary")
            g.offsets = <const int64_t *>table.take(offsets, "offsets", (self.num_states + 1,), True, False)
            g.tokens = <const int64_t *>table.take(tokens, "tokens", (len(tokens),), True, False)
            g.needed = <const int64_t *>table.take(needed, "needed", (len(tokens),), True, False)
            self.arrays, self.table = arrays, table
        finally:
            fr_leave(&self.busy)

    def apply(self, int64_t rows):
        """Masks the first `rows` rows; a state below 0 leaves its row as it is."""
        claim(&self.busy, "Grammar")
        try:
            if self.arrays is None or not 0 <= rows <= self.capacity:
                raise ValueError(f"rows is {rows}, expected 0 to {self.capacity}")
            memcpy(<int64_t *>self.grammar.states, self.given_states, rows * sizeof(int64_t))  # as in a Chooser
            if rows and self.states[:rows].max() >= self.num_states:
                raise ValueError(f"states holds {self.states[:rows].max()}, the states are 0 to {self.num_states - 1}")
            self.grammar.rows = rows
            with nogil:
                fr_constrain(&self.grammar)
        finally:
            fr_leave(&self.busy)


def uniform(int64_t key, int64_t position):
    """The random number in [0, 1) of a position of a sequence; see fr_uniform."""
    return fr_uniform(key, position)
