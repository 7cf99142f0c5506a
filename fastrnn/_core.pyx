# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False
"""Extension types over the C core: checks, ownership and the GIL. No mathematics, no loop over data.

Calls that shall cost no more than their work (`run`, `step`) take what callers hand in, and make their
results, through NumPy's C interface; all others take arrays of any kind through the buffer protocol.
Every shape is checked here once; behind it the core trusts its arguments.
"""

from collections import namedtuple
from math import prod

cimport cython
cimport numpy as cnp
from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

import numpy

from fastrnn._arrays import as_float32, as_int64, as_lengths, as_one, as_pair, check_indices, either, shown

cnp.import_array()

cdef object ndarray = numpy.ndarray
cdef object new_array = numpy.empty
cdef object float32 = numpy.dtype(numpy.float32)
cdef object int64 = numpy.dtype(numpy.int64)

# Work in multiply-adds from which the GIL is released: about five microseconds, and less than two threads are
# used for. Letting it go and taking it back costs 65 ns, 3 % of a step of 64 units.
cdef enum:
    RELEASE_GIL = 196608
    ACTIVATION_WORK = 8  # of one activated value
    MAX_DIMENSIONS = 64  # of a NumPy array
    MAX_PORTS = 16  # inputs or outputs of a network
    SPARE_BYTES = 32 << 20  # the largest workspace, and all tapes, kept from one call to the next

cdef extern from *:
    """
    static int32_t fr_chosen;  /* threads that a call may use; 0: the environment was not read yet */
    static inline int32_t fr_chosen_threads(void) { return __atomic_load_n(&fr_chosen, __ATOMIC_RELAXED); }
    static void fr_choose_threads(int32_t n) { __atomic_store_n(&fr_chosen, n, __ATOMIC_RELEASE); }
    static void fr_choose_first(int32_t n) {
        int32_t none = 0;
        __atomic_compare_exchange_n(&fr_chosen, &none, n, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
    }
    """
    int32_t fr_chosen_threads() noexcept nogil
    void fr_choose_threads(int32_t n) noexcept nogil
    void fr_choose_first(int32_t n) noexcept nogil

cdef object read_environment = None  # the function of `on_first_use`


cdef inline int32_t num_threads() except 0:
    """Threads that a call may use. Every way to a kernel asks: the first one reads the environment."""
    cdef int32_t n = fr_chosen_threads()
    return n if n else first_use()


cdef int32_t first_use() except 0:
    read_environment()
    return fr_chosen_threads()


def on_first_use(function not None):
    """Registers what the first use of threads or kernels calls, and the next ones while it raises.

    It calls `choose`. Several threads may come first, and call it, at the same time.
    """
    global read_environment
    read_environment = function


def choose(str isa, int threads):
    """Chooses kernels (None: the widest) and threads, unless that is done already.

    False, and nothing is chosen, if this CPU or build has no such kernels.
    """
    if fr_chosen_threads():
        return True
    if isa is not None and not fr_isa_select(isa.encode()):
        return False
    fr_choose_first(threads)
    return True


def set_num_threads(int n):
    """Sets how many threads a call may use, at least 1; the default of every later call."""
    if n < 1 or n > FR_MAX_THREADS:
        raise ValueError(f"num_threads must be 1 to {FR_MAX_THREADS}, got {n}")
    num_threads()  # later it would take the place of n
    fr_choose_threads(n)


def get_num_threads():
    """How many threads a call may use."""
    return num_threads()


def select_isa(str name):
    """Uses the kernels "base", "avx2", "avx512" or "neon"; ValueError if this CPU has none such."""
    num_threads()
    if not fr_isa_select(name.encode()):
        raise ValueError(f'this CPU or build has no "{name}" kernels')


def get_isa():
    """The name of the kernels in use."""
    num_threads()
    return fr_isa().decode()


def threads_available():
    """False in a build without threads and in a forked child of a process that used them."""
    return bool(fr_threads_available())


def calibrate_fma(int64_t rounds):
    """Does `rounds` of independent multiply-adds without the GIL; returns how many they were."""
    cdef int64_t count
    num_threads()
    with nogil:
        count = fr_calibrate_fma(rounds)
    return count


def calibrate_read(const float[::1] x not None, int64_t sweeps):
    """Reads x (n,), there and back in turn, without the GIL; returns how many floats were read."""
    cdef int64_t count
    if x.shape[0] == 0:
        return 0
    num_threads()
    with nogil:
        count = fr_calibrate_read(&x[0], x.shape[0], sweeps)
    return count


def allocation_size(size_t size):
    """Bytes that an allocation of `size` bytes takes: whole cache lines, or whole huge pages."""
    return fr_allocation_size(size)


cdef list tensors_of(const fr_shape *shape):
    """Name, shape and place in the flat vector of every parameter."""
    cdef fr_tensor tensor
    cdef int index = 0
    cdef list found = []
    while fr_parameter(shape, index, &tensor):
        sizes = [tensor.rows] if tensor.columns < 0 else [tensor.rows, tensor.columns]
        found.append((tensor.name.decode(), tuple(sizes), tensor.offset))
        index += 1
    return found


CellInfo = namedtuple(
    "CellInfo",
    "name family gates states phases direct project gate_activations unit_parameters unit_tensor",
)


def cells():
    """All cells: fr_cell_info of fastrnn.h as tuples with names."""
    cdef const fr_cell_info *cell
    found = []
    for i in range(fr_cell_count()):
        cell = fr_cell_at(i)
        found.append(CellInfo(cell.name.decode(), cell.family.decode(), cell.gates, cell.states, cell.phases,
                              bool(cell.direct), bool(cell.project), bool(cell.gate_activations),
                              cell.unit_parameters, cell.unit_tensor.decode()))
    return found


def families():
    """The families of cells and how many gates each has, the one with the most first."""
    return dict(sorted({cell.family: cell.gates for cell in cells()}.items(), key=lambda item: -item[1]))


cdef fr_shape new_shape(str cell, int input_size, int hidden_size, int num_layers, int num_directions, int proj_size,
                        bint bias, bint merge_sum, gates) except *:
    """A valid shape; gates: "sigmoid" or ("hard_sigmoid", alpha, beta)."""
    cdef fr_shape shape
    cdef const char *error
    memset(&shape, 0, sizeof(shape))
    shape.cell, shape.input_size, shape.hidden_size = fr_cell(cell.encode()), input_size, hidden_size
    shape.num_layers, shape.num_directions, shape.proj_size = num_layers, num_directions, proj_size
    shape.bias, shape.merge_sum = bias, merge_sum
    if gates != "sigmoid":
        shape.gate_activation = FR_GATE_HARD_SIGMOID
        _, shape.gate_alpha, shape.gate_beta = gates
    error = fr_shape_error(&shape)
    if error is not NULL:
        raise ValueError(error.decode())
    return shape


def parameter_tensors(str cell, int input_size, int hidden_size, int num_layers, int num_directions,
                      int proj_size, bint bias, bint merge_sum, gates="sigmoid"):
    """The `tensors` of a Stack with these arguments, before any memory is taken for it."""
    cdef fr_shape shape = new_shape(cell, input_size, hidden_size, num_layers, num_directions, proj_size, bias,
                                    merge_sum, gates)
    return tensors_of(&shape)


include "_bindings/buffers.pxi"
include "_bindings/store.pxi"
include "_bindings/layers.pxi"
include "_bindings/batch.pxi"
include "_bindings/tapes.pxi"
include "_bindings/linear.pxi"
include "_bindings/rows.pxi"
include "_bindings/overtime.pxi"
include "_bindings/activations.pxi"
include "_bindings/convolutions.pxi"
include "_bindings/network.pxi"
include "_bindings/streams.pxi"
include "_bindings/ports.pxi"
include "_bindings/losses.pxi"
include "_bindings/attention.pxi"
include "_bindings/decoding.pxi"
