# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False
"""Extension types over the C core: checks, ownership and the GIL. No mathematics, no loop over data.

Calls that shall cost no more than their work (`run`, `step`) take what callers hand in, and make their
results, through NumPy's C interface; all others take arrays of any kind through the buffer protocol.
Every shape is checked here once; behind it the core trusts its arguments.
"""

cimport cython
cimport numpy as cnp
from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

import numpy

from fastrnn._arrays import as_float32, as_int64, as_lengths, as_one, as_pair, check_indices, shown

cnp.import_array()

cdef object ndarray = numpy.ndarray
cdef object new_array = numpy.empty
cdef object float32 = numpy.dtype(numpy.float32)
cdef object int64 = numpy.dtype(numpy.int64)

# Work in multiply-adds from which the GIL is released: about a microsecond.
cdef enum:
    RELEASE_GIL = 16384
    ACTIVATION_WORK = 8  # of one activated value
    MAX_DIMENSIONS = 64  # of a NumPy array
    MAX_PORTS = 16  # inputs or outputs of a network
    SPARE_BYTES = 32 << 20  # the largest workspace, and all tapes, kept from one call to the next

cdef int32_t num_threads = 1


def set_num_threads(int n):
    """Sets how many threads a call may use, at least 1; the default of every later call."""
    global num_threads
    if n < 1 or n > FR_MAX_THREADS:
        raise ValueError(f"num_threads must be 1 to {FR_MAX_THREADS}, got {n}")
    num_threads = n


def get_num_threads():
    """How many threads a call may use."""
    return num_threads


def select_isa(str name):
    """Uses the kernels "base", "avx2", "avx512" or "neon"; ValueError if this CPU has none such."""
    if not fr_isa_select(name.encode()):
        raise ValueError(f'this CPU or build has no "{name}" kernels')


def get_isa():
    """The name of the kernels in use."""
    return fr_isa().decode()


def threads_available():
    """False in a build without threads and in a forked child of a process that used them."""
    return bool(fr_threads_available())


def calibrate_fma(int64_t rounds):
    """Does `rounds` of independent multiply-adds without the GIL; returns how many they were."""
    cdef int64_t count
    with nogil:
        count = fr_calibrate_fma(rounds)
    return count


def calibrate_read(const float[::1] x not None, int64_t sweeps):
    """Reads x (n,), there and back in turn, without the GIL; returns how many floats were read."""
    cdef int64_t count
    if x.shape[0] == 0:
        return 0
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


def parameter_tensors(str cell, int input_size, int hidden_size, int num_layers, int num_directions,
                      int proj_size, bint bias, bint merge_sum):
    """The `tensors` of a Stack with these arguments, before any memory is taken for it."""
    cdef fr_shape shape = fr_shape(fr_cell(cell.encode()), input_size, hidden_size, proj_size,
                                   num_layers, num_directions, bias, merge_sum)
    cdef const char *error = fr_shape_error(&shape)
    if error is not NULL:
        raise ValueError(error.decode())
    return tensors_of(&shape)


include "_bindings/buffers.pxi"
include "_bindings/store.pxi"
include "_bindings/layers.pxi"
include "_bindings/batch.pxi"
include "_bindings/tapes.pxi"
include "_bindings/linear.pxi"
include "_bindings/rows.pxi"
include "_bindings/activations.pxi"
include "_bindings/convolutions.pxi"
include "_bindings/network.pxi"
include "_bindings/streams.pxi"
include "_bindings/losses.pxi"
include "_bindings/attention.pxi"
include "_bindings/decoding.pxi"
