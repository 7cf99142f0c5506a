"""Writer of PyTorch's zip format without PyTorch, for `torch.load(weights_only=True)`.

An uncompressed zip archive with `archive/data.pkl`, a pickle of the dictionary in which tensors
are references to storages, and `archive/data/KEY`, the bytes of each storage, 64-byte aligned.
"""

from __future__ import annotations

import struct
import sys
import zipfile
from collections.abc import Mapping, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

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
    """Numbers of one type on their way to the file, under the key that they have there."""

    key: str
    numbers: AnyArray  # (size,)


class Tensor(NamedTuple):
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def write_pytorch(tensors: Mapping[str, ArrayLike], path: FilePath) -> None:
    """Write a state dict; names whose arrays share memory share a storage in the file too.

    `_regions` defines what is shared.
    """
    views = _views(tensors)
    pickle = _pickle(views)
    unique = {view.storage.key: view.storage.numbers for view in views.values()}
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, file, "data.pkl", pickle)
        _add(archive, file, ".format_version", b"1")
        _add(archive, file, ".storage_alignment", str(ALIGNMENT).encode())
        _add(archive, file, "byteorder", sys.byteorder.encode())
        for key, numbers in unique.items():
            _add(archive, file, f"data/{key}", numbers.view(np.uint8).data)
        _add(archive, file, "version", b"3\n")


def _views(tensors: Mapping[str, ArrayLike]) -> dict[str, Tensor]:
    """The view that each name becomes; storages are numbered in the order of the names."""
    arrays = _arrays(tensors)
    unique = list({id(array): array for array in arrays.values()}.values())
    views: dict[int, Tensor] = {}
    for key, region in enumerate(_regions(unique)):
        found = _tensors(str(key), region)
        views |= {id(array): view for array, view in zip(region, found, strict=True)}
    return {name: views[id(array)] for name, array in arrays.items()}


def _arrays(tensors: Mapping[str, ArrayLike]) -> dict[str, AnyArray]:
    """Arrays in the byte order of this machine; one object under two names is one array."""
    items = list(tensors.items())  # alive to the end, so that an id is that of one object
    known: dict[int, AnyArray] = {}
    for name, value in items:
        if not isinstance(name, str):
            raise TypeError(f"mapping has the key {safe(repr(name))}, expected names")
        if id(value) in known:
            continue
        array = as_array(value, name)
        native = array.dtype.newbyteorder("=")
        if native.name not in _STORAGES:
            raise TypeError(f"{name} has dtype {array.dtype}, which PyTorch has no storage for")
        known[id(value)] = array.astype(native, copy=False)
    return {name: known[id(value)] for name, value in items}


def _regions(arrays: Sequence[AnyArray]) -> list[list[AnyArray]]:
    """Groups of arrays that become one storage, in the order of their first arrays.

    Arrays of one dtype belong together where the bytes from the first to the last element of each
    overlap. All arrays are alive, so bytes at one address are the same memory. Neighbours in one
    buffer, as a model's parameters are, stay apart, as do arrays without elements, which have no
    bytes. Where PyTorch has no view for an array (a negative stride, a stride that is no multiple
    of the element), only equal views of the group stay together.
    """
    groups = [[i] for i, array in enumerate(arrays) if not array.size]
    spans = sorted((a.dtype.name, *_span(a), i) for i, a in enumerate(arrays) if a.size)
    last, end = "", 0
    for kind, low, high, i in spans:
        if kind != last or low >= end:
            groups.append([])
            last, end = kind, high
        groups[-1].append(i)
        end = max(end, high)
    parts = [part for group in groups for part in _expressible([arrays[i] for i in group])]
    order = {id(array): i for i, array in enumerate(arrays)}
    for part in parts:
        part.sort(key=lambda array: order[id(array)])
    return sorted(parts, key=lambda part: order[id(part[0])])


def _span(array: AnyArray) -> tuple[int, int]:
    """Addresses of the first byte of an array with elements, and of the byte behind its last."""
    reach = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    start = array.ctypes.data
    end = start + sum(step for step in reach if step > 0) + array.itemsize
    return start + sum(step for step in reach if step < 0), end


def _place(array: AnyArray) -> tuple[object, ...]:
    return array.ctypes.data, array.shape, array.strides


def _expressible(group: list[AnyArray]) -> list[list[AnyArray]]:
    """The group as it is, or apart by equal views where one storage could not hold all of them."""
    size, start = group[0].itemsize, group[0].ctypes.data
    distances = [n for a in group for n in (a.ctypes.data - start, *a.strides)]
    strides = [stride for array in group for stride in array.strides]
    if min(strides, default=0) >= 0 and all(n % size == 0 for n in distances):
        return [group]
    parts: dict[tuple[object, ...], list[AnyArray]] = {}
    for array in group:
        parts.setdefault(_place(array), []).append(array)
    return list(parts.values())


def _tensors(key: str, region: list[AnyArray]) -> list[Tensor]:
    """Views of one new storage that hold these arrays; without gaps if they are equal views."""
    first = region[0]
    if len({_place(array) for array in region}) == 1:
        compact = np.asarray(first, order="C")
        return [Tensor(Storage(key, compact.reshape(-1)), 0, *_layout(compact))] * len(region)
    spans = [_span(array) for array in region]
    low, high = min(start for start, _ in spans), max(end for _, end in spans)
    # Zeros between the views: other data in the caller's buffer must not go to the file.
    storage = Storage(key, np.zeros((high - low) // first.itemsize, first.dtype))
    views = []
    for array in region:
        view = Tensor(storage, (array.ctypes.data - low) // array.itemsize, *_layout(array))
        as_strided(storage.numbers[view.offset :], array.shape, array.strides)[...] = array
        views.append(view)
    return views


def _layout(array: AnyArray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return array.shape, tuple(stride // array.itemsize for stride in array.strides)


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


def _pickle(views: Mapping[str, Tensor]) -> bytes:
    """Protocol 2, with the opcodes that PyTorch's restricted reader knows."""
    items = b"".join(_text(name) + _tensor(view) for name, view in views.items())
    return b"\x80\x02" + _EMPTY_ORDERED + b"(" + items + b"u."  # MARK, SETITEMS, STOP


_EMPTY_ORDERED = b"ccollections\nOrderedDict\n)R"


def _tensor(view: Tensor) -> bytes:
    """_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, backward hooks)."""
    key, numbers = view.storage
    kind = f"ctorch\n{_STORAGES[numbers.dtype.name]}\n".encode()
    reference = _text("storage") + kind + _text(key) + _text("cpu") + _int(numbers.size)
    place = _int(view.offset) + _ints(view.shape) + _ints(view.strides)
    arguments = b"(" + reference + b"tQ" + place + b"\x89"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + _EMPTY_ORDERED + b"tR"


def _ints(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_int, values)) + b"t"


def _int(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + value.to_bytes(4, "little")
    return b"\x8a\x08" + value.to_bytes(8, "little")


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + len(data).to_bytes(4, "little") + data
