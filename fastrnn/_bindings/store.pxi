# Memory that one call leaves to the next. Part of _core.pyx.

cdef class Memory:
    """A block of memory."""

    def __dealloc__(self):
        free(self.data)


cdef class Store:
    """Memory that a layer's calls leave to the next ones: a workspace, tapes, and blocks for packed weights.

    Kept are a workspace of up to SPARE_BYTES, tapes of up to SPARE_BYTES together, and of a layer that is trained
    the blocks of its last packed weights. Larger tapes are kept while training calls of their size follow each
    other: the second one keeps what it took, and a call that is no training lets it go. A process forked in between
    has its own copy of all of it. Any number of threads may share a store: blocks change hands by one atomic
    exchange, tapes within a critical section, which the GIL is where there is one.
    """

    def __cinit__(self, int max_tapes):
        self.max_tapes, self.tapes = max_tapes, []

    def __dealloc__(self):
        free(self.workspace)
        free(self.weights)
        free(self.backward_weights)

    @property
    def nbytes(self):
        """Bytes of what is kept for later: tapes and a workspace, without blocks for weights."""
        cdef fr_workspace *block = <fr_workspace *>fr_swap(&self.workspace, NULL)
        cdef size_t size = 0 if block is NULL else block.size + sizeof(fr_workspace)
        if block is not NULL:
            free(fr_swap(&self.workspace, block))
        with cython.critical_section(self):
            size += self._tape_bytes()
        return size

    def trim(self):
        """Lets go of all of it."""
        self._drop_tapes()
        free(fr_swap(&self.workspace, NULL))
        free(fr_swap(&self.weights, NULL))
        free(fr_swap(&self.backward_weights, NULL))

    cdef fr_workspace *borrow(self, size_t size) except NULL:
        """A workspace of at least `size` bytes."""
        cdef fr_workspace *block = <fr_workspace *>fr_swap(&self.workspace, NULL)
        if block is not NULL and block.size < size:
            free(block)
            block = NULL
        if block is NULL:
            block = <fr_workspace *>allocate(sizeof(fr_workspace) + size)
            block.size, block.steps = size, 0
        return block

    cdef fr_workspace *borrow_for(self, const fr_model *model, int64_t steps, int64_t rows, int32_t threads) except NULL:
        """A workspace for a forward pass, measured anew where the one that is kept was for other sizes."""
        cdef fr_workspace *block = <fr_workspace *>fr_swap(&self.workspace, NULL)
        cdef size_t size
        if block is not NULL:
            if block.steps == steps and block.rows == rows and block.threads == threads:
                return block
            self.give_back(block)
        size = fr_workspace_size(model, steps, rows, threads)
        if size == 0:
            raise MemoryError(f"{steps} steps of {rows} rows need more memory than there can be")
        block = self.borrow(size)
        block.steps, block.rows, block.threads = steps, rows, threads
        return block

    cdef void give_back(self, fr_workspace *block) noexcept nogil:
        free(fr_swap(&self.workspace, block) if block.size <= SPARE_BYTES else block)

    cdef Memory take_tape(self, size_t size):
        """A block of at least `size` bytes; whoever of several threads comes first has the spare one."""
        cdef Memory memory = None
        if fr_is_marked(&self.returned, fr_size_bit(size)):
            fr_mark(&self.repeated, fr_size_bit(size))
        with cython.critical_section(self):
            if self.tapes:
                memory = self.tapes.pop()
        if memory is not None and size <= memory.size <= 2 * size:
            return memory
        memory = Memory()
        memory.data, memory.size = allocate(size), size
        return memory

    cdef int give_tape(self, Memory memory) except -1:
        cdef size_t bit = fr_size_bit(memory.size)
        cdef bint fits
        fr_mark(&self.returned, bit)
        with cython.critical_section(self):
            fits = self._tape_bytes() + memory.size <= SPARE_BYTES
            if len(self.tapes) < self.max_tapes and (fits or fr_is_marked(&self.repeated, bit)):
                self.tapes.append(memory)
                if not fits:
                    fr_mark(&self.large, 1)
        return 0

    cdef size_t _tape_bytes(self) except? 0:
        """Within a critical section only."""
        return sum([(<Memory>memory).size for memory in self.tapes])

    cdef int _drop_tapes(self) except -1:
        fr_unmark(&self.returned)
        fr_unmark(&self.repeated)
        fr_unmark(&self.large)
        with cython.critical_section(self):
            tapes, self.tapes = self.tapes, []
        return 0  # what they hold is freed outside

    cdef int settle(self) except -1:
        """A call that is no training: what only its repetition would need is let go."""
        if fr_is_marked(&self.large, 1):
            self._drop_tapes()
        return 0

    cdef void *block(self, void **spare, size_t size) except NULL:
        """A block for packed weights, all of which are of one size."""
        cdef void *memory = fr_swap(spare, NULL)
        return allocate(size) if memory is NULL else memory

    cdef void put(self, void **spare, void *memory) noexcept nogil:
        free(fr_swap(spare, memory) if self.trained else memory)
