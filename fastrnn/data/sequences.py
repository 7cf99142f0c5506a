"""Sequences of different lengths, end to end in one array."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastrnn._arrays import AnyArray, ArrayLike, IntArray, as_array, as_float32, as_int, as_int64
from fastrnn._errors import counted


def smallest_dtype(largest: int) -> np.dtype[Any]:
    """The unsigned type of the fewest bytes that holds 0 to `largest`."""
    return np.min_scalar_type(largest)


def as_tokens(value: ArrayLike, name: str) -> AnyArray:
    """Ids (S,) from 0: an array stays as it is, a list gets the smallest type."""
    tokens = as_array(value, name)
    if tokens.size == 0:
        raise ValueError(f"{name} is empty")
    if tokens.ndim != 1:
        raise ValueError(f"{name} has shape {tokens.shape}, expected one dimension")
    if tokens.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {tokens.dtype}, expected integers")
    check_from_zero(tokens, name)
    return _narrow(tokens) if isinstance(value, (list, tuple)) else tokens


def as_id(value: object, name: str) -> int:
    """An int from 0."""
    number = as_int(value, name)
    if number < 0:
        raise ValueError(f"{name} is {number}, expected an id from 0")
    return number


def check_from_zero(ids: AnyArray, name: str) -> None:
    """Ids and lengths are never negative, and fit into the int64 that batches hold."""
    if ids.size and ids.min() < 0:
        raise ValueError(f"{name} holds {ids.min()}, expected ints of 0 or more")
    if ids.dtype == np.uint64:
        as_int64(ids, name)


def _narrow(ids: AnyArray) -> AnyArray:
    """Ints in the smallest type: unsigned where none is negative."""
    if not ids.size or ids.min() < 0:
        return ids
    return ids.astype(smallest_dtype(int(ids.max())), copy=False)


class Sequences:
    """Sequences of different lengths, held once: `values` (sum of lengths, ...) end to end.

    `lengths` (count,) ints. Integers keep their type, other numbers become float32.
    `sequences[i]` is a view; `Sequences.of` makes one object of a list.
    """

    def __init__(self, values: ArrayLike, lengths: ArrayLike) -> None:
        self.values, self.lengths = as_array(values, "values"), as_int64(lengths, "lengths")
        if self.values.ndim == 0:
            raise ValueError("values has no dimension, expected (steps, ...)")
        if self.lengths.ndim != 1:
            raise ValueError(f"lengths has shape {self.lengths.shape}, expected one dimension")
        if self.values.dtype.kind not in "iu":
            self.values = as_float32(self.values, "values")
        check_from_zero(self.lengths, "lengths")
        self.offsets = np.concatenate(([0], np.cumsum(self.lengths)))
        if self.offsets[-1] != len(self.values):
            raise ValueError(
                f"lengths sum to {self.offsets[-1]}, values has {counted(len(self.values), 'step')}"
            )

    @classmethod
    def of(cls, sequences: Sequences | Iterable[ArrayLike], name: str = "sequences") -> Sequences:
        """One object made of arrays (steps, ...); ids take the smallest type.

        Another Sequences object is returned as it is. `name` is what an error calls them.
        """
        if isinstance(sequences, Sequences):
            return sequences
        parts = [as_array(part, f"{name}[{i}]") for i, part in enumerate(sequences)]
        if not parts:
            raise ValueError(f"{name} is empty")
        filled = [part for part in parts if part.size] or parts[:1]
        for i, part in enumerate(parts):
            if part.ndim == 0 or (part.size and part.shape[1:] != filled[0].shape[1:]):
                raise ValueError(
                    f"{name}[{i}] has shape {part.shape}, expected "
                    f"{('steps', *filled[0].shape[1:])} like the others"
                )
        types = {part.dtype for part in filled}
        if all(t.kind in "iu" for t in types) and np.result_type(*types).kind == "f":
            filled = [as_int64(part, name) for part in filled]  # int64 beside uint64
        values = np.concatenate(filled)
        lengths = [len(part) for part in parts]
        return cls(_narrow(values) if values.dtype.kind in "iu" else values, lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> AnyArray:
        i = range(len(self))[index]
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def __repr__(self) -> str:
        return f"Sequences({len(self)} with {len(self.values)} steps in all)"

    def _held(self) -> dict[str, list[AnyArray]]:
        return {"sequences": [self.values, self.lengths]}

    def check_filled(self, name: str) -> None:
        """There are sequences, each has a step, and ids are not negative."""
        if not len(self):
            raise ValueError(f"{name} is empty")
        if not self.lengths.all():
            raise ValueError(f"{name}[{int(np.argmin(self.lengths))}] has no steps")
        if self.values.dtype.kind in "iu":
            check_from_zero(self.values, name)

    def padded(self, rows: IntArray, fill: int) -> tuple[AnyArray, IntArray]:
        """The sequences at `rows` (N,) as (T, N, ...) int64 or float32, and their lengths (N,)."""
        lengths = self.lengths[rows]
        time = np.arange(lengths.max())[:, None]
        outside = time >= lengths
        places = self.offsets[rows] + time
        places[outside] = 0
        dtype = np.float32 if self.values.dtype.kind == "f" else np.int64
        batch = self.values[places].astype(dtype, copy=False)
        batch[outside] = fill
        return batch, lengths
