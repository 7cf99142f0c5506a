"""Writes PyTorch's zip format without PyTorch: what `torch.load(weights_only=True)` opens.

An uncompressed zip archive with `archive/data.pkl`, a pickle of the dictionary in which tensors
are references to storages, and `archive/data/KEY`, the bytes of each storage, 64-byte aligned.
"""

from __future__ import annotations

import struct
import sys
import zipfile
from collections.abc import Mapping
from typing import BinaryIO, NamedTuple

import numpy as np

from fastrnn._arrays import AnyArray, ArrayLike, as_array
from fastrnn._atomic import FilePath, replacing
from fastrnn._errors import safe

__all__ = ["write_pytorch"]

ALIGNMENT = 64  # of storages in the file, as PyTorch has written them since 2.1
_ZIP64_FROM = 1 << 31  # bytes; above half of it `zipfile` is asked for the larger header

_STORAGES = {
    "float64": "DoubleStorage", "float32": "FloatStorage", "float16": "HalfStorage",
    "int64": "LongStorage", "int32": "IntStorage", "int16": "ShortStorage",
    "int8": "CharStorage", "uint8": "ByteStorage", "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage", "complex128": "ComplexDoubleStorage",
}  # fmt: skip


class Storage(NamedTuple):
    """An array on its way to the file, under the key it has there."""

    key: str
    array: AnyArray


def write_pytorch(tensors: Mapping[str, ArrayLike], path: FilePath) -> None:
    """Write a state dict; names that share one array share one storage in the file too."""
    storages = _storages(tensors)
    pickle = _pickle(storages)
    unique = {storage.key: storage.array for storage in storages.values()}
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, file, "data.pkl", pickle)
        _add(archive, file, ".format_version", b"1")
        _add(archive, file, ".storage_alignment", str(ALIGNMENT).encode())
        _add(archive, file, "byteorder", sys.byteorder.encode())
        for key, array in unique.items():
            _add(archive, file, f"data/{key}", array.reshape(-1).view(np.uint8).data)
        _add(archive, file, "version", b"3\n")


def _storages(tensors: Mapping[str, ArrayLike]) -> dict[str, Storage]:
    keys: dict[tuple[object, ...], Storage] = {}
    storages: dict[str, Storage] = {}
    for name, value in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"mapping has the key {safe(repr(name))}, expected names")
        array = as_array(value, name)
        if array.dtype.newbyteorder("=").name not in _STORAGES:
            raise TypeError(f"{name} has dtype {array.dtype}, which PyTorch has no storage for")
        place = (array.ctypes.data, array.dtype, array.shape, array.strides)
        if place not in keys or array.size == 0:
            native = array.astype(array.dtype.newbyteorder("="), copy=False)
            keys[place] = Storage(str(len(keys)), np.asarray(native, order="C"))
        storages[name] = keys[place]
    return storages


def _add(archive: zipfile.ZipFile, file: BinaryIO, name: str, data: bytes | memoryview) -> None:
    """An entry whose bytes start at a multiple of ALIGNMENT, by an extra field as padding."""
    info = zipfile.ZipInfo(f"archive/{name}")
    info.file_size = len(data)
    is_large = len(data) >= _ZIP64_FROM // 2
    start = file.tell() + 30 + len(info.filename) + (20 if is_large else 0) + 4
    padding = -start % ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    with archive.open(info, "w", force_zip64=is_large) as entry:
        entry.write(data)


def _pickle(storages: Mapping[str, Storage]) -> bytes:
    """Protocol 2, with the opcodes that PyTorch's restricted reader knows."""
    items = b"".join(_text(name) + _tensor(storage) for name, storage in storages.items())
    return b"\x80\x02" + _EMPTY_ORDERED + b"(" + items + b"u."  # MARK, SETITEMS, STOP


_EMPTY_ORDERED = b"ccollections\nOrderedDict\n)R"


def _tensor(storage: Storage) -> bytes:
    """_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, backward hooks)."""
    key, array = storage
    kind = f"ctorch\n{_STORAGES[array.dtype.name]}\n".encode()
    reference = _text("storage") + kind + _text(key) + _text("cpu") + _int(array.size)
    strides = [stride // array.itemsize for stride in array.strides]
    arguments = b"(" + reference + b"tQ" + _int(0) + _ints(array.shape) + _ints(strides) + b"\x89"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + _EMPTY_ORDERED + b"tR"


def _ints(values: tuple[int, ...] | list[int]) -> bytes:
    return b"(" + b"".join(map(_int, values)) + b"t"


def _int(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + value.to_bytes(4, "little")
    return b"\x8a\x08" + value.to_bytes(8, "little")


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + len(data).to_bytes(4, "little") + data
