"""From the records of a pickle to NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastrnn._errors import safe
from fastrnn.formats.dtypes import Array, decode, item_size
from fastrnn.formats.errors import CheckpointError
from fastrnn.formats.torch.ndarrays import ArrayRecord
from fastrnn.formats.torch.objects import MAX_EXTENT, Storage, TensorRecord

__all__ = ["Tensors"]

MAX_EXPANSION = 1 << 28  # elements that the file's tensors may show beyond what it stores


class Tensors:
    """Turns records into arrays; each storage is read once, so tied tensors share memory."""

    def __init__(self, fetch: Callable[[str, int], NDArray[np.uint8]], byteorder: str) -> None:
        """`fetch(key, nbytes)` returns the bytes of one storage."""
        self._fetch = fetch
        self._byteorder = byteorder
        self._vectors: dict[tuple[str, str], Array] = {}
        self._contents: dict[int, NDArray[np.uint8]] = {}
        self._sizes: dict[str, tuple[str, int]] = {}
        self._expansion = 0
        self._expanded: set[int] = set()
        self.widened = 0

    def array(self, record: TensorRecord | ArrayRecord) -> Array:
        """The tensor, writable, a view into its storage; CheckpointError if it does not fit."""
        if isinstance(record, ArrayRecord):
            return self._numpy_array(record)
        shape, strides = _checked_window(record)
        vector = self._vector(record)
        self._count_expansion(record, math.prod(shape))
        self.widened += record.dtype == "bfloat16"
        size = vector.itemsize
        start = (_first(record) + record.offset) * size if 0 not in shape else 0
        try:
            return np.ndarray(shape, vector.dtype, vector, start, [s * size for s in strides])
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"a tensor of shape {shape} does not fit: {error}") from error

    def _numpy_array(self, record: ArrayRecord) -> Array:
        """An array that the pickle itself holds; those of the same bytes share memory."""
        if id(record.data) not in self._contents:
            self._contents[id(record.data)] = np.frombuffer(record.data, np.uint8).copy()
        return record.array(self._contents[id(record.data)])

    def _vector(self, record: TensorRecord) -> Array:
        storage = record.storage
        stored = storage.dtype, storage.root_numel
        if self._sizes.setdefault(storage.key, stored) != stored:
            raise CheckpointError(f"storage {safe(storage.key)} is described in two ways")
        name = storage.key, record.dtype
        if name not in self._vectors:
            raw = self._raw(storage, storage.root_numel * item_size(storage.dtype))
            if len(raw) % item_size(record.dtype):
                raise CheckpointError(
                    f"storage {safe(storage.key)} has {len(raw)} bytes, "
                    f"not a whole number of {record.dtype}"
                )
            self._vectors[name] = decode(raw, record.dtype, self._byteorder)
        return self._vectors[name]

    def _raw(self, storage: Storage, nbytes: int) -> NDArray[np.uint8]:
        if storage.data is None:
            return self._fetch(storage.key, nbytes)
        if len(storage.data) != nbytes:
            raise CheckpointError(
                f"a storage in the pickle has {len(storage.data)} bytes, expected {nbytes}"
            )
        return np.frombuffer(storage.data, np.uint8).copy()

    def _count_expansion(self, record: TensorRecord, numel: int) -> None:
        if id(record) in self._expanded:
            return
        self._expanded.add(id(record))
        self._expansion += max(0, numel - record.storage.root_numel)
        if self._expansion > MAX_EXPANSION:
            raise CheckpointError(
                f"tensors repeat their storage to {numel} elements, "
                f"expected at most {MAX_EXPANSION} beyond what the file stores"
            )


def _first(record: TensorRecord) -> int:
    """Start of the record's storage in the file's storage, in elements of the tensor."""
    start = record.storage.start * item_size(record.storage.dtype)
    if start % item_size(record.dtype):
        raise CheckpointError(f"storage {safe(record.storage.key)} starts inside an element")
    return start // item_size(record.dtype)


def _checked_window(record: TensorRecord) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and strides, once they are known to stay inside the storage."""
    shape, storage = record.shape, record.storage
    if math.prod(max(1, size) for size in shape) > MAX_EXTENT:
        raise CheckpointError(f"a tensor of shape {shape} is too large")
    if 0 in shape:
        return shape, (0,) * len(shape)
    strides = tuple(
        step if size > 1 else 0 for size, step in zip(shape, record.strides, strict=True)
    )
    last = record.offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    room = storage.numel * item_size(storage.dtype) // item_size(record.dtype)
    if last >= room:
        raise CheckpointError(
            f"a tensor of shape {shape} reaches element {last} of storage {safe(storage.key)}, "
            f"which has {room}"
        )
    return shape, strides
