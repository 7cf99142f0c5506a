"""The two other containers of tensors: safetensors and NumPy's npz."""

from __future__ import annotations

import io
import json
import math
import tokenize
import warnings
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ._aliases import find_aliases
from ._archive import Archive
from ._errors import CheckpointError, safe
from ._tensors import Array, decode

__all__ = ["read_npz", "read_safetensors"]

MAX_HEADER = 10_000  # characters of an array's header in an npz file; 120 are usual

# What NumPy raises on a damaged header.
_HEADER_ERRORS = (
    ValueError, EOFError, OverflowError, RecursionError, SyntaxError, tokenize.TokenError,
    TypeError, KeyError, MemoryError,
)  # fmt: skip

_SAFETENSORS_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
    "BOOL": "bool", "C64": "complex64",
}  # fmt: skip


def read_safetensors(
    file: BinaryIO, size: int
) -> tuple[dict[str, Array], dict[str, str], dict[str, str], int]:
    """Tensors, skipped entries, the file's own metadata and the number of bfloat16 tensors.

    Tied weights, which the file holds once, have all their names and share one array.
    """
    try:
        import safetensors
    except ImportError as error:
        raise ImportError(
            "a safetensors file needs the package safetensors: pip install safetensors"
        ) from error
    data = file.read(size)
    try:
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"truncated or corrupt safetensors file ({safe(error)})") from error
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length], parse_int=len)  # no number of it is needed
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"corrupt safetensors header ({safe(error)})") from error
    del data
    tensors: dict[str, Array] = {}
    skipped: dict[str, str] = {}
    widened = 0
    for name, entry in entries:
        dtype = _SAFETENSORS_TYPES.get(entry["dtype"])
        if dtype is None:
            skipped[name] = f"a tensor of type {safe(entry['dtype'])}, unknown to NumPy"
            continue
        widened += dtype == "bfloat16"
        vector = decode(np.frombuffer(entry["data"], np.uint8), dtype)
        tensors[name] = _shaped(vector, entry["shape"], name)
    order = {name: place for place, name in enumerate(header)}
    tensors = dict(sorted(tensors.items(), key=lambda item: order.get(item[0], 0)))
    metadata = header.get("__metadata__") or {}
    tied = find_aliases(metadata, tensors)
    tensors |= {name: tensors[twin] for name, twin in tied.items() if name not in skipped}
    return tensors, skipped, metadata, widened


def _shaped(vector: Array, shape: list[int], name: str) -> Array:
    try:
        return vector.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise CheckpointError(
            f"tensor {safe(name)} has the impossible shape {safe(str(shape[:40]))}"
        ) from error


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
