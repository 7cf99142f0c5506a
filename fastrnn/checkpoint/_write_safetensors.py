"""Writes a safetensors file straight from the arrays' memory, without a second copy of them.

Eight bytes with the header's length, a JSON header with every tensor's type, shape and place, the
tensors one after another. Source: the format's description by its authors, version 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from fastrnn._arrays import AnyArray
from fastrnn._atomic import FilePath, replacing

__all__ = ["write_safetensors"]

# Bytes; the format asks for 8. The first byte of a file is then never 0x80, a pickle's.
ALIGNMENT = 64

_TYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def write_safetensors(
    tensors: Mapping[str, AnyArray], metadata: Mapping[str, str], path: FilePath
) -> None:
    """Write tensors and strings about them, atomically.

    TypeError for a type that the format has not.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        kind, places = _type_of(name, tensor), [begin, end]
        header[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": places}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for tensor in tensors.values():
            file.write(_little_endian(tensor))


def _type_of(name: str, tensor: AnyArray) -> str:
    if tensor.dtype.name not in _TYPES:
        raise TypeError(f"{name} has dtype {tensor.dtype}, which safetensors has no name for")
    return _TYPES[tensor.dtype.name]


def _little_endian(tensor: AnyArray) -> memoryview:
    values = np.ascontiguousarray(tensor)
    return values.astype(values.dtype.newbyteorder("<"), copy=False).data
