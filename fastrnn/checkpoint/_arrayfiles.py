"""The two other containers of tensors: safetensors and NumPy's npz."""

from __future__ import annotations

import json
import tokenize
import warnings
import zipfile
from typing import BinaryIO

import numpy as np

from ._aliases import find_aliases
from ._errors import CheckpointError, shown
from ._tensors import Array, decode
from ._torchfile import ZIP_ERRORS

__all__ = ["read_npz", "read_safetensors"]

MAX_UNPACKED = 1 << 30  # bytes; a compressed file may also grow to MAX_RATIO times its size
MAX_RATIO = 100

# What NumPy raises on a damaged header, beyond what `zipfile` does.
_HEADER_ERRORS = SyntaxError, tokenize.TokenError, TypeError, KeyError, MemoryError

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
        raise CheckpointError(f"truncated or corrupt safetensors file ({shown(error)})") from error
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    del data
    tensors: dict[str, Array] = {}
    skipped: dict[str, str] = {}
    widened = 0
    for name, entry in entries:
        dtype = _SAFETENSORS_TYPES.get(entry["dtype"])
        if dtype is None:
            skipped[name] = f"a tensor of type {shown(entry['dtype'])}, unknown to NumPy"
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
        raise CheckpointError(f"tensor {shown(name)} has the impossible shape {shape}") from error


def read_npz(archive: zipfile.ZipFile, size: int) -> tuple[dict[str, Array], dict[str, str]]:
    """Arrays and skipped entries of an npz archive of `size` bytes; never unpickles."""
    unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > max(MAX_UNPACKED, MAX_RATIO * size):
        raise CheckpointError(f"{size} bytes that claim to unpack to {unpacked}, which is refused")
    arrays: dict[str, Array] = {}
    skipped: dict[str, str] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename:
            skipped[name] = "a file that is no .npy array"
            continue
        try:
            array = _read_npy(archive, info)
        except CheckpointError:
            raise
        except (*ZIP_ERRORS, *_HEADER_ERRORS) as error:
            raise CheckpointError(f"array {shown(name)!r} is corrupt ({shown(error)})") from error
        if array is None:
            skipped[name] = "an array of objects, strings or records"
        else:
            arrays[name] = array
    return arrays, skipped


def _read_npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array | None:
    """One array; None if its elements are no numbers."""
    with archive.open(info) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers written by Python 2
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            return None
        shape, _, dtype = read(stream)
        if dtype.kind not in "biufc":
            return None
        count = 1
        for extent in shape:
            count *= extent
        if min(shape, default=0) < 0 or stream.tell() + count * dtype.itemsize > info.file_size:
            raise CheckpointError(
                f"array {shown(info.filename)!r} claims the shape {shape}, more than its data"
            )
    with archive.open(info) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
