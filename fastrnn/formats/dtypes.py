"""The types of numbers in files, by PyTorch's names, and their bytes as NumPy arrays."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "decode", "item_size", "stored_size"]

Array = NDArray[Any]

_SIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1,
    "bool": 1, "complex64": 8, "complex128": 16,
}  # fmt: skip
_QUANTISED_SIZES = {"qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1}


def item_size(dtype: str) -> int:
    """Bytes per element of PyTorch's `dtype`; 0 when NumPy has nothing to hold it."""
    return _SIZES.get(dtype, 0)


def stored_size(dtype: str) -> int:
    """Bytes per element in a file, of quantised types too; 0 for a type that is unknown."""
    return item_size(dtype) or _QUANTISED_SIZES.get(dtype, 0)


def decode(raw: NDArray[np.uint8], dtype: str, byteorder: str = "little") -> Array:
    """Bytes (n,) as a vector of native elements; bfloat16 is widened to float32 exactly."""
    order: Literal["<", ">"] = "<" if byteorder == "little" else ">"
    if dtype == "bool":
        return np.not_equal(raw, 0)
    if dtype == "bfloat16":
        half = raw.view(np.dtype(np.uint16).newbyteorder(order))
        wide = half.astype(np.uint32)
        wide <<= 16
        exact: Array = wide.view(np.float32)
        return exact
    foreign = np.dtype(dtype).newbyteorder(order)
    return raw.view(foreign).astype(np.dtype(dtype), copy=False)
