"""Safetensors files: read by the package of their authors, written straight from the arrays.

Eight bytes with the header's length, a JSON header with every tensor's type, shape and place, the
tensors one after another. Source: the format's description by its authors, version 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from typing import Any, BinaryIO

import numpy as np

from fastrnn._arrays import AnyArray
from fastrnn._atomic import FilePath, replacing
from fastrnn._errors import safe
from fastrnn.formats.aliases import find_aliases
from fastrnn.formats.dtypes import Array, decode
from fastrnn.formats.errors import CheckpointError

__all__ = ["is_whole", "read_safetensors", "write_safetensors"]

# Bytes; the format asks for 8. The first byte of a file is then never 0x80, a pickle's.
ALIGNMENT = 64

# The checksum has a fixed place, in which it is made of zeros while it is computed.
_BLANK = "0" * 32
_START = bytes(8) + b'{"__metadata__":{"checksum":"'
_BLOCK = 1 << 20  # bytes that are read at a time

_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
    "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
_TYPES = {name: kind for kind, name in _NAMES.items() if name not in ("bfloat16", "complex64")}


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
        dtype = _NAMES.get(entry["dtype"])
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
    """True if a file is as `write_safetensors` left it; None if it has no checksum."""
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
