"""Turning what callers hand in into the arrays the kernels take, without importing anything.

Accepted everywhere: NumPy arrays of any layout, objects with `__array__`, DLPack or the buffer
protocol, nested lists of numbers, and PyTorch tensors (also those that require gradients or hold
bfloat16, which NumPy has no type for). Results share memory with the argument when they can.
"""

from __future__ import annotations

import math
import operator
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastrnn._errors import ArgumentError, ArgumentTypeError
from fastrnn._errors import cut as cut
from fastrnn._errors import shown as shown
from fastrnn._errors import with_article as with_article

FloatArray: TypeAlias = npt.NDArray[np.float32]
IntArray: TypeAlias = npt.NDArray[np.int64]
AnyArray: TypeAlias = npt.NDArray[Any]
ArrayLike: TypeAlias = Any  # wider than NumPy's: DLPack and PyTorch tensors too

ALIGNMENT = 64  # bytes: one cache line, one AVX-512 register
MAX_SIZE = 1 << 20  # FR_MAX_SIZE of the kernels: inputs, units, features
MAX_LAYERS = 1024  # FR_MAX_LAYERS
MAX_ROWS = (1 << 31) - 1  # rows are counted in 32 signed bits
_FLOAT32 = np.dtype(np.float32)  # NumPy's own; arrays of another object for it are converted


_LARGEST = float(np.finfo(np.float32).max)


def aligned_zeros(size: int) -> FloatArray:
    """A (size,) float32 buffer of zeros that starts on a cache line."""
    raw = np.zeros(size * 4 + ALIGNMENT, dtype=np.uint8)
    skip = -raw.ctypes.data % ALIGNMENT
    return raw[skip : skip + size * 4].view(np.float32)


def as_array(value: ArrayLike, name: str) -> AnyArray:
    """`value` as a NumPy array of its own type; `name` is what an error calls it."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, fill the masked values first")
    if isinstance(value, tuple) and hasattr(value, "batch_sizes"):
        kind = with_article(type(value).__name__)
        raise TypeError(
            f"{name} is {kind}, expected an array: pad_packed_sequence gives one, and the lengths"
        )
    try:
        if hasattr(value, "detach") and hasattr(value, "dtype"):
            value = _plain_tensor(value)
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:  # whatever a foreign object raises when asked for its values
        kind = with_article(type(value).__name__)
        raise TypeError(f"{name} is {kind} that cannot become an array: {error}") from error


def _plain_tensor(tensor: Any) -> Any:
    """A PyTorch tensor without gradient, widened to float32 when NumPy lacks its type."""
    tensor = tensor.detach()
    has_no_numpy_type = str(tensor.dtype).rsplit(".", 1)[-1].startswith(("bfloat", "float8"))
    return tensor.float() if has_no_numpy_type else tensor


def as_float32(value: ArrayLike, name: str) -> FloatArray:
    """`value` as C-contiguous float32; booleans, complex numbers and text are refused."""
    array = as_array(value, name)
    if array.dtype is _FLOAT32:
        flags = array.flags
        if flags.c_contiguous and flags.aligned:
            return array
    if not is_real(array.dtype):
        raise TypeError(f"{name} has dtype {array.dtype}, expected real numbers")
    return narrowed(array, name)


def narrowed(array: AnyArray, name: str) -> FloatArray:
    """Real numbers as C-contiguous float32, rounded; ValueError for finite ones beyond float32."""
    try:
        with np.errstate(over="raise"):
            return np.require(array, np.float32, ["C_CONTIGUOUS", "ALIGNED"])
    except FloatingPointError:
        wide = array[np.isfinite(array)]
        wrong = wide[np.abs(wide) > np.finfo(np.float32).max][0]
        raise ValueError(f"{name} holds {wrong}, beyond float32's largest number") from None


def is_real(dtype: np.dtype[Any]) -> bool:
    """Floats and integers, and extension types (bfloat16 of ml_dtypes) that widen to float32."""
    if dtype.kind == "V":
        return dtype.fields is None and dtype.type is not np.void and np.can_cast(dtype, np.float32)
    return dtype.kind in "fiu"


def as_int64(value: ArrayLike, name: str) -> IntArray:
    """`value` as C-contiguous int64; floats and booleans are refused."""
    array = as_array(value, name)
    if array.size == 0 and not isinstance(value, np.ndarray):
        array = array.astype(np.int64)  # an empty list has no type of its own
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {array.dtype}, expected integers")
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"{name} holds {array.max()}, which does not fit into 64 signed bits")
    return np.require(array, np.int64, ["C_CONTIGUOUS", "ALIGNED"])


def check_indices(indices: IntArray, size: int, name: str) -> None:
    """Every index must lie in [0, size)."""
    if indices.size == 0:
        return
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= size:
        wrong = low if low < 0 else high
        raise ValueError(f"{name} holds {wrong}, expected indices from 0 to {size - 1}")


def as_lengths(value: ArrayLike, rows: int, steps: int) -> IntArray:
    """Sequence lengths (rows,), each from 0 to `steps`, in any order."""
    lengths = as_int64(value, "lengths")
    if lengths.shape != (rows,):
        raise ValueError(f"lengths has shape {lengths.shape}, this batch expects ({rows},)")
    if rows and (int(lengths.min()) < 0 or int(lengths.max()) > steps):
        wrong = int(lengths.min()) if int(lengths.min()) < 0 else int(lengths.max())
        raise ValueError(f"lengths holds {wrong}, expected values from 0 to {steps} steps")
    return lengths


def as_int(value: object, name: str, bits: int = 63) -> int:
    """An int of at most `bits`, Python's or NumPy's (a bool here is a misplaced argument)."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        text = f"{name} should be of type int, got: {type(value).__name__}"
        raise ArgumentTypeError(name, value, "an int", text)
    number = operator.index(value)
    if number >> bits not in (0, -1):
        bound = f"of -2**{bits} or more" if number < 0 else f"below 2**{bits}"
        raise ArgumentError(name, number, f"an int {bound}")
    return number


def as_float(value: object) -> float:
    """A real number as a float; NaN where it is none, or an int or fraction beyond all floats."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def as_number(value: object, name: str) -> float:
    """A real number, and no bool, as a float; ValueError where no float can hold it."""
    if not isinstance(value, Real) or isinstance(value, bool):
        text = f"{name} is {with_article(type(value).__name__)}, expected a number"
        raise ArgumentTypeError(name, value, "a number", text)
    number = as_float(value)
    if math.isnan(number) and value == value:
        raise ArgumentError(name, value, "a number that a float can hold")
    return number


def as_finite(value: object, name: str) -> float:
    """A number that float32 holds as a finite one."""
    number = as_number(value, name)
    if not abs(number) <= _LARGEST:
        raise ValueError(f"{name} is {shown(value)}, expected a finite number of float32")
    return number


def as_size(value: object, name: str, limit: int = MAX_ROWS) -> int:
    """A size: an int from 1 to `limit`."""
    size = as_int(value, name)
    if size <= 0:
        text = f"{name} must be greater than zero, got: {size}"
        raise ArgumentError(name, size, f"an int from 1 to {limit}", text)
    if size > limit:
        text = f"{name} must be at most {limit}, got {size}"
        raise ArgumentError(name, size, f"an int from 1 to {limit}", text)
    return size


def as_seed(value: object) -> int | None:
    """What a random generator starts from: an int from 0, or None for the system's randomness."""
    if value is None:
        return None
    if not isinstance(value, Integral) or isinstance(value, bool):
        text = f"seed is {with_article(type(value).__name__)}, expected an int or None"
        raise ArgumentTypeError("seed", value, "an int or None", text)
    if value < 0:
        raise ArgumentError("seed", value, "an int of 0 or more")
    return operator.index(value)


def as_prefix(value: object) -> str:
    """What the names of a mapping start with."""
    if not isinstance(value, str):
        raise TypeError(f"prefix is {with_article(type(value).__name__)}, expected a str")
    return value


def as_flag(value: object, name: str) -> bool:
    """A bool, and nothing that merely looks like one."""
    if not isinstance(value, bool):
        text = f"{name} should be of type bool, got: {type(value).__name__}"
        raise ArgumentTypeError(name, value, "True or False", text)
    return value


def as_probability(value: object, name: str) -> float:
    """A number from 0 to 1."""
    number = as_float(value)
    if not 0 <= number <= 1:
        raise ArgumentError(name, value, "a number in the range [0, 1]")
    return number


def as_choice(value: object, name: str, choices: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in choices:
        options = ", ".join(repr(choice) for choice in choices)
        raise ArgumentError(name, value, f"one of {options}")
    return value


def as_pair(state: ArrayLike | None, name: str) -> tuple[ArrayLike | None, ArrayLike | None]:
    """The (h, c) of an LSTM's state argument, (None, None) if there is none."""
    if state is None:
        return None, None
    if isinstance(state, (tuple, list)) and len(state) == 2:
        h, c = state
        if h is not None and c is not None:
            return h, c
    kind = with_article(type(state).__name__)
    raise TypeError(f"{name} is {kind}, an LSTM expects a pair (h_0, c_0)")


def as_one(state: ArrayLike | None, name: str) -> ArrayLike | None:
    """The h of an RNN's or a GRU's state argument, which is not a tuple."""
    if isinstance(state, (tuple, list)):
        raise TypeError(f"{name} is a {type(state).__name__}, expected one array")
    return state


def either(state: ArrayLike | None, hx: ArrayLike | None, name: str) -> ArrayLike | None:
    """The state argument, which PyTorch calls `hx`, by whichever of its two names it came."""
    if hx is None:
        return state
    if state is not None:
        raise TypeError(f"{name} and hx are two names of one argument, expected one of them")
    return hx
