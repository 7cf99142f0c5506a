# Choices of tokens. Part of _core.pyx.

cdef int check_rows(Py_buffer *view, str name) except -1:
    if view.ndim != 2 or view.shape[0] < 1 or view.shape[1] < 1:
        raise ValueError(f"{name} has shape {shape_of(view)}, expected (rows, V)")
    return 0


cdef int claim(int *busy, str kind) except -1:
    """Its memory is for one call at a time; indices in it would lead anywhere if two wrote them."""
    if not fr_enter(busy):
        raise RuntimeError(f"this {kind} is in use by another thread; make one {kind} per thread")
    return 0


cdef object view_of(object owner, const void *data, tuple shape, int kind, bint writable):
    """An array over memory that belongs to `owner`."""
    cdef cnp.npy_intp[2] sizes
    cdef cnp.ndarray array
    sizes[0], sizes[1] = shape[0], shape[1] if len(shape) > 1 else 0
    array = cnp.PyArray_SimpleNewFromData(len(shape), sizes, kind, <void *>data)
    cnp.set_array_base(array, owner)
    if not writable:
        array.flags.writeable = False
    return array


cdef class Sampler:
    """Draws a token for every row of logits; see fr_sampler in fastrnn_decode.h. One thread at a time.

    classes: V; capacity: N rows; ends (V,) marks the tokens that may end a text; steps: of the record. Its arrays:
    raw (N, V), what the model gave, and logits, the same or, if there are `processors`, what they made of it;
    keys, positions (N,) say which random number a row uses (a position below 0: none, the row is skipped);
    tokens, logprobs (steps, N): what every step of a run drew.
    """

    def __init__(self, int64_t classes, int64_t capacity, const uint8_t[::1] ends not None, int64_t steps, *,
                 bint processors=False, double temperature=1.0, int64_t top_k=0, double top_p=1.0, double min_p=0.0,
                 double typical_p=1.0):
        cdef fr_sampler_plan plan
        cdef fr_sampled a
        cdef Memory memory = Memory()
        if self.sampler is not NULL:
            raise RuntimeError("a Sampler is initialised once")
        if classes < 1 or capacity < 1 or steps < 1 or not temperature >= 0:
            raise ValueError(f"classes is {classes}, capacity {capacity}, steps {steps} and temperature {temperature}, "
                             f"expected 1 or more and a temperature from 0")
        check_shape("ends", (ends.shape[0],), (classes,))
        plan.how = fr_sampling(temperature, min_p, top_p, typical_p, top_k)
        plan.classes, plan.capacity, plan.steps = classes, capacity, steps
        plan.threads, plan.has_processors, plan.ends = num_threads(), processors, &ends[0]
        memory.size = fr_sampler_size(&plan)
        if memory.size == 0:
            raise MemoryError(f"{capacity} rows of {classes} logits need more memory than there can be")
        memory.data = allocate(memory.size)
        self.memory, self.sampler = memory, fr_sampler_create(&plan, memory.data)
        self.classes, self.capacity, self.steps, self.has_processors = classes, capacity, steps, processors
        a = fr_sampler_arrays(self.sampler)
        logits, record = (capacity, classes), (steps, capacity)
        self.raw = view_of(memory, a.raw, logits, cnp.NPY_FLOAT, True)
        self.logits = view_of(memory, a.logits, logits, cnp.NPY_FLOAT, True)
        self.keys = view_of(memory, a.keys, (capacity,), cnp.NPY_INT64, True)
        self.positions = view_of(memory, a.positions, (capacity,), cnp.NPY_INT64, True)
        self.tokens = view_of(memory, a.tokens, record, cnp.NPY_INT64, False)  # they are fed
        self.logprobs = view_of(memory, a.logprobs, record, cnp.NPY_FLOAT, False)

    def run(self, int64_t rows, Stream stream=None, int64_t steps=1):
        """Draws for the first `rows` rows, from logits that are there, and goes on; see fr_sampler_run.

        More than one step takes a stream of so many rows. Returns how many tokens every row has drawn.
        """
        cdef const fr_network *network = NULL
        cdef fr_slots *slots = NULL
        claim(&self.busy, "Sampler")
        try:
            if (self.sampler is NULL or not 0 <= rows <= self.capacity
                    or not 1 <= steps <= (1 if stream is None or self.has_processors else self.steps)):
                raise ValueError(f"rows is {rows} and steps {steps}, expected up to {self.capacity} and {self.steps}")
            if steps > 1:
                stream._enter_run(rows, self.classes)
                network, slots = stream.core, stream.state
            if network is NULL and rows * self.classes < 1024:
                steps = fr_sampler_run(self.sampler, network, slots, rows, steps)
            else:
                with nogil:
                    steps = fr_sampler_run(self.sampler, network, slots, rows, steps)
            return steps
        finally:
            if network is not NULL:
                fr_leave(&stream.busy)
            fr_leave(&self.busy)


cdef class Chooser:
    """Chooses the best continuations of groups of rows; see fr_search in fastrnn_decode.h. One thread at a time.

    classes: V; rows: N; groups, k, beams, branches, ends (V,) and steps as there. Its arrays: logits (N, V), what
    the model gave; first, last (G,), group g has the rows first[g] to last[g] - 1; best (G, k) float64, best_rows,
    best_tokens (G, k), the results; tokens, parents, scores (float64), logprobs (steps, N), what every step of a run
    took, from row 1 on, with the scores of all rows in row 0.
    """

    def __init__(self, int64_t classes, int64_t rows, int64_t groups, int64_t k, const uint8_t[::1] ends not None,
                 int64_t steps, int64_t beams, int64_t branches=0):
        cdef fr_search_plan plan
        cdef fr_searched a
        cdef Memory memory = Memory()
        if self.search is not NULL:
            raise RuntimeError("a Chooser is initialised once")
        if classes < 1 or rows < 1 or groups < 1 or steps < 1 or not 1 <= beams <= k or branches < 0:
            raise ValueError(f"rows is {rows}, groups {groups}, steps {steps}, k {k}, beams {beams} and branches {branches}")
        check_shape("ends", (ends.shape[0],), (classes,))
        plan.classes, plan.capacity, plan.steps, plan.groups = classes, rows, steps, groups
        plan.k, plan.beams, plan.branches, plan.threads, plan.ends = k, beams, branches, num_threads(), &ends[0]
        memory.size = fr_search_size(&plan)
        if memory.size == 0:
            raise MemoryError(f"{rows} rows of {classes} logits need more memory than there can be")
        memory.data = allocate(memory.size)
        self.memory, self.search = memory, fr_search_create(&plan, memory.data)
        self.classes, self.capacity, self.rows, self.steps, self.beams = classes, groups, rows, steps, beams
        a = fr_search_arrays(self.search)
        record, best = (steps, rows), (groups, k)
        self.first, self.last = numpy.zeros((2, groups), int64)
        self.logits = view_of(memory, a.logits, (rows, classes), cnp.NPY_FLOAT, True)
        self.scores = view_of(memory, a.scores, record, cnp.NPY_DOUBLE, True)
        self.best = view_of(memory, a.best, best, cnp.NPY_DOUBLE, False)
        self.best_rows = view_of(memory, a.rows, best, cnp.NPY_INT64, False)  # indices that are used
        self.best_tokens = view_of(memory, a.candidates, best, cnp.NPY_INT64, False)
        self.tokens = view_of(memory, a.tokens, record, cnp.NPY_INT64, False)
        self.parents = view_of(memory, a.parents, record, cnp.NPY_INT64, False)
        self.logprobs = view_of(memory, a.logprobs, record, cnp.NPY_FLOAT, False)

    def normalize(self, int64_t rows):
        """Log-softmax of the first `rows` rows of logits; returns the first row with NaN, or rows."""
        claim(&self.busy, "Chooser")
        try:
            if self.search is NULL or not 0 <= rows <= self.rows:
                raise ValueError(f"rows is {rows}, expected 0 to {self.rows}")
            if rows * self.classes < 1024:
                return fr_search_normalize(self.search, rows)
            with nogil:
                rows = fr_search_normalize(self.search, rows)
            return rows
        finally:
            fr_leave(&self.busy)

    def run(self, int64_t groups, Stream stream=None, int64_t steps=1):
        """Chooses for the first `groups` groups, and goes on; see fr_search_run.

        More than one step takes a stream of all these rows. Returns how many choices
        have been taken, and the first row with NaN, which is where it ended, or -1: one more choice waits.
        """
        cdef const int64_t *first
        cdef const int64_t *last
        cdef const fr_network *network = NULL
        cdef fr_slots *slots = NULL
        cdef int64_t taken, nan_row
        claim(&self.busy, "Chooser")
        try:
            if (self.search is NULL or not 0 <= groups <= self.capacity or not 1 <= steps <= self.steps
                    or (steps > 1 and (stream is None or not 1 <= groups <= self.rows // self.beams))):
                raise ValueError(f"groups is {groups} and steps {steps}, expected up to {self.capacity} and {self.steps}")
            ends = numpy.array((self.first[:groups], self.last[:groups]))  # nobody may change them after the check
            first = <const int64_t *>cnp.PyArray_DATA(ends)
            last = first + groups
            if (fr_first_outside(first, groups, self.rows) < groups
                    or fr_first_outside(last, groups, self.rows + 1) < groups):
                raise ValueError(f"first and last must lie in the {self.rows} rows")
            if steps > 1:
                if stream.capacity < groups * self.beams:
                    raise ValueError(f"the stream has {stream.capacity} rows, {groups} groups take {groups * self.beams}")
                stream._enter_run(ends[1].max(), self.classes)
                network, slots = stream.core, stream.state
            if network is NULL and groups * self.classes < 1024:
                taken = fr_search_run(self.search, network, slots, groups, first, last, steps, &nan_row)
            else:
                with nogil:
                    taken = fr_search_run(self.search, network, slots, groups, first, last, steps, &nan_row)
            return taken, nan_row
        finally:
            if network is not NULL:
                stream._take_rows()
                fr_leave(&stream.busy)
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
