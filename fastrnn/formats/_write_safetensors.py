"""Writes a safetensors file straight from the arrays' memory, without a second copy of them.

Eight bytes with the header's length, a JSON header with every tensor's type, shape and place, the
tensors one after another. Source: the format's description by its authors, version 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np

from fastrnn._arrays import AnyArray
from fastrnn._atomic import FilePath, replacing

__all__ = ["is_whole", "write_safetensors"]

# Bytes; the format asks for 8. The first byte of a file is then never 0x80, a pickle's.
ALIGNMENT = 64

# The checksum has a fixed place, in which it is made of zeros while it is computed.
_BLANK = "0" * 32
_START = bytes(8) + b'{"__metadata__":{"checksum":"'
_BLOCK = 1 << 20  # bytes that are read at a time

_TYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def write_safetensors(
    tensors: Mapping[str, AnyArray],
    metadata: Mapping[str, str],
    path: FilePath,
    *,
    checksum: bool = False,
) -> None:
    """Write tensors and strings about them, atomically.

    `checksum`: one of the whole file is the first of the strings; `is_whole` then knows damage.
    TypeError for a type that the format has not.
    """
    sealed = {"checksum": _BLANK} if checksum else {}
    header: dict[str, object] = {"__metadata__": {**sealed, **metadata}}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        kind, places = _type_of(name, tensor), [begin, end]
        header[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": places}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    digest = _new_digest()
    with replacing(path) as file:
        head = (memoryview(len(text).to_bytes(8, "little")), memoryview(text))
        for part in chain(head, map(_little_endian, tensors.values())):
            file.write(part)
            if checksum:
                digest.update(part)
        if checksum:
            file.seek(len(_START))
            file.write(digest.hexdigest().encode())


def is_whole(path: FilePath) -> bool | None:
    """Whether a file is as `write_safetensors` left it; None if it has no checksum."""
    digest = _new_digest()
    with open(path, "rb") as file:
        start = file.read(len(_START))
        if start[8:] != _START[8:]:
            return None
        found = file.read(len(_BLANK))
        digest.update(start + _BLANK.encode())
        while part := file.read(_BLOCK):
            digest.update(part)
    expected: bytes = digest.hexdigest().encode()
    return found == expected


def _new_digest() -> Any:
    from hashlib import blake2b  # loads OpenSSL: not at import

    return blake2b(digest_size=len(_BLANK) // 2)


def _type_of(name: str, tensor: AnyArray) -> str:
    if tensor.dtype.name not in _TYPES:
        raise TypeError(f"{name} has dtype {tensor.dtype}, which safetensors has no name for")
    return _TYPES[tensor.dtype.name]


def _little_endian(tensor: AnyArray) -> memoryview:
    values = np.ascontiguousarray(tensor)
    return values.astype(values.dtype.newbyteorder("<"), copy=False).data
