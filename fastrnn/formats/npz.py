"""NumPy's npz: a zip archive of arrays."""

from __future__ import annotations

import io
import math
import tokenize
import warnings
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastrnn._errors import safe
from fastrnn.formats.archive import Archive
from fastrnn.formats.dtypes import Array
from fastrnn.formats.errors import CheckpointError

__all__ = ["read_npz"]

MAX_HEADER = 10_000  # characters of an array's header in an npz file; 120 are usual

# Errors of NumPy on a damaged header.
_HEADER_ERRORS = (
    ValueError, EOFError, OverflowError, RecursionError, SyntaxError, tokenize.TokenError,
    TypeError, KeyError, MemoryError,
)  # fmt: skip


def read_npz(archive: Archive) -> tuple[dict[str, Array], dict[str, str]]:
    """Arrays and skipped entries of an npz archive; never unpickles."""
    arrays: dict[str, Array] = {}
    skipped: dict[str, str] = {}
    for entry in archive.entries:
        name = entry.removesuffix(".npy")
        if name == entry:
            skipped[name] = "a file that is no .npy array"
            continue
        array = _read_npy(archive.read(entry), name)
        if array is None:
            skipped[name] = "an array of objects, strings or records"
        else:
            arrays[name] = array
    return arrays, skipped


def _read_npy(content: NDArray[np.uint8], name: str) -> Array | None:
    """One array, in the memory of `content`; None if its elements are no numbers."""
    start = io.BytesIO(content[: MAX_HEADER + 16].tobytes())
    try:
        header = _read_header(start)
    except _HEADER_ERRORS as error:
        raise CheckpointError(f"array {safe(name)!r} is corrupt ({safe(error)})") from error
    if header is None:
        return None
    shape, is_fortran, dtype = header
    data = content[start.tell() :]
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > len(data):
        raise CheckpointError(
            f"array {safe(name)!r} claims the shape {safe(str(shape))}, more than its data"
        )
    try:
        flat = data[: math.prod(shape) * dtype.itemsize].view(dtype)
        shaped: Array = flat.reshape(shape, order="F" if is_fortran else "C")
    except (ValueError, TypeError, OverflowError) as error:
        raise CheckpointError(f"array {safe(name)!r} is corrupt ({safe(error)})") from error
    aligned = shaped if shaped.flags.aligned else shaped.copy(order="K")
    return aligned.astype(dtype.newbyteorder("="), copy=False)


def _read_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]] | None:
    """Shape, order and type of an array; None if its elements are no numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers written by Python 2
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            return None
        shape, is_fortran, dtype = read(stream, max_header_size=MAX_HEADER)
    if dtype.kind not in "biufc" or dtype.subdtype is not None:
        return None
    if not all(type(n) is int for n in shape):
        raise ValueError("a shape that is no tuple of integers")
    return shape, bool(is_fortran), dtype
