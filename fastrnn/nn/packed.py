"""Sequences of different lengths without padding between them: torch.nn.utils.rnn in NumPy.

A packed batch holds all rows' first steps, then all second steps, and so on; rows are sorted by
falling length, so that step t is `batch_sizes[t]` neighbouring entries of `data`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from math import prod
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import numpy as np

from fastrnn._arrays import (
    MAX_ROWS,
    AnyArray,
    ArrayLike,
    IntArray,
    as_array,
    as_choice,
    as_flag,
    as_int,
    as_int64,
    is_real,
    with_article,
)

if TYPE_CHECKING:
    from typing_extensions import Self


_MAX_BYTES = 1 << 62  # of an array whose size is still computed without overflow


class _Fields(NamedTuple):
    data: AnyArray
    batch_sizes: IntArray
    sorted_indices: IntArray | None
    unsorted_indices: IntArray | None


class PackedSequence(_Fields):
    """A packed batch: data (total, *), batch_sizes (T,), sorted_indices and unsorted_indices (N,).

    The indices say how rows were sorted and how to undo it; None means that they already were.
    Made by `pack_sequence` and `pack_padded_sequence`, not by hand.
    Source: torch.nn.utils.rnn.PackedSequence.
    """

    __slots__ = ()

    def __new__(
        cls,
        data: ArrayLike,
        batch_sizes: ArrayLike | None = None,
        sorted_indices: ArrayLike | None = None,
        unsorted_indices: ArrayLike | None = None,
    ) -> Self:
        if batch_sizes is None:
            if not (isinstance(data, (list, tuple)) and len(data) == 2):
                raise TypeError("data without batch_sizes must be a (data, batch_sizes) pair")
            data, batch_sizes = data
        order = None if sorted_indices is None else as_int64(sorted_indices, "sorted_indices")
        if unsorted_indices is not None:
            inverse: IntArray | None = as_int64(unsorted_indices, "unsorted_indices")
        else:
            inverse = None if order is None else np.argsort(order)
        sizes = as_int64(batch_sizes, "batch_sizes")
        return super().__new__(cls, as_array(data, "data"), sizes, order, inverse)


def is_packed(x: object) -> TypeGuard[PackedSequence]:
    """Whether `x` is a packed batch, ours or PyTorch's (told by its fields)."""
    return isinstance(x, tuple) and hasattr(x, "batch_sizes") and hasattr(x, "unsorted_indices")


def checked(sequence: Any) -> PackedSequence:
    """The packed batch as NumPy arrays, its fields consistent with each other."""
    packed = PackedSequence(*sequence)
    data, sizes = packed.data, packed.batch_sizes.copy()  # nobody may change it after the check
    if sizes.ndim != 1 or sizes.size == 0 or sizes[-1] < 1 or np.any(np.diff(sizes) > 0):
        raise ValueError("batch_sizes of a packed sequence must be a falling list of sizes >= 1")
    if data.ndim == 0 or len(data) != int(sizes.sum()):
        raise ValueError(
            f"data of a packed sequence has shape {data.shape}, "
            f"its batch_sizes expect {int(sizes.sum())} entries"
        )
    for name in ("sorted_indices", "unsorted_indices"):
        order = getattr(packed, name)
        if order is not None and not np.array_equal(np.sort(order), np.arange(sizes[0])):
            raise ValueError(f"{name} of a packed sequence must order its {int(sizes[0])} rows")
    return packed._replace(batch_sizes=sizes)


def sorted_lengths(batch_sizes: IntArray) -> IntArray:
    """The rows' lengths (N,), falling: row n lives while the batch is larger than n."""
    rows = np.arange(int(batch_sizes[0]))
    return np.searchsorted(-batch_sizes, -rows, side="left").astype(np.int64)


def starts(batch_sizes: IntArray) -> IntArray:
    """Where each step's entries begin in the packed data (T,)."""
    return np.cumsum(batch_sizes) - batch_sizes


class Places(NamedTuple):
    """A packed batch, checked, and where its entries stand in a padded one, rows in their order."""

    sequence: PackedSequence
    steps: IntArray  # (total,): the step of every entry
    rows: IntArray  # (total,): and its row
    lengths: IntArray  # (N,)

    @classmethod
    def of(cls, sequence: Any) -> Self:
        """The places of a packed batch, ours or PyTorch's."""
        packed = checked(sequence)
        sizes, order = packed.batch_sizes, packed.sorted_indices
        steps = np.repeat(np.arange(len(sizes)), sizes)
        rows = np.arange(len(steps)) - np.repeat(starts(sizes), sizes)
        lengths = sorted_lengths(sizes)
        if packed.unsorted_indices is not None:
            lengths = lengths[packed.unsorted_indices]
            rows = (np.argsort(packed.unsorted_indices) if order is None else order)[rows]
        return cls(packed, steps, rows, lengths)

    def fits(self, other: Places) -> bool:
        """Whether both have the same rows, sorted alike."""
        return np.array_equal(self.steps, other.steps) and np.array_equal(self.rows, other.rows)

    def padded(self, data: AnyArray, batch_first: bool) -> AnyArray:
        """data (total, *) as (T, N, *), or (N, T, *) if batch_first, 0 past the end of a row."""
        sizes = len(self.sequence.batch_sizes), len(self.lengths)
        padded = np.zeros((*(sizes[::-1] if batch_first else sizes), *data.shape[1:]), data.dtype)
        padded[self._at(batch_first)] = data
        return padded

    def packed(self, padded: AnyArray, batch_first: bool) -> PackedSequence:
        """The inverse: the packed batch of such values."""
        return self.sequence._replace(data=padded[self._at(batch_first)])

    def _at(self, batch_first: bool) -> tuple[IntArray, IntArray]:
        return (self.rows, self.steps) if batch_first else (self.steps, self.rows)


def pack_padded_sequence(
    input: ArrayLike,
    lengths: ArrayLike,
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> PackedSequence:
    """Pack a padded batch (T, N, *), or (N, T, *) if batch_first, of rows with `lengths` (N,) >= 1.

    With `enforce_sorted` the lengths must fall already; otherwise rows are sorted here.
    Source: torch.nn.utils.rnn.pack_padded_sequence.
    """
    batch_first = as_flag(batch_first, "batch_first")
    enforce_sorted = as_flag(enforce_sorted, "enforce_sorted")
    padded = as_array(input, "input")
    _check_numbers(padded, "input")
    if padded.ndim < 2:
        raise ValueError(f"input has {padded.ndim} dimensions, packing expects at least 2")
    padded = padded.swapaxes(0, 1) if batch_first else padded
    counts = _packable(lengths, *padded.shape[:2])
    order = None
    if not enforce_sorted:
        order = np.argsort(-counts, kind="stable")
        counts, padded = counts[order], padded[:, order]
    elif np.any(np.diff(counts) > 0):
        raise ValueError("lengths must fall from row to row, or pass enforce_sorted=False")
    inside = np.arange(int(counts[0]))[:, None] < counts
    return PackedSequence(padded[: len(inside)][inside], inside.sum(axis=1), order)


def _packable(lengths: ArrayLike, steps: int, rows: int) -> IntArray:
    counts = as_int64(lengths, "lengths")
    if counts.shape != (rows,):
        raise ValueError(f"lengths has shape {counts.shape}, this batch expects ({rows},)")
    if rows == 0:
        raise ValueError("input has 0 rows, packing expects at least 1")
    if int(counts.min()) < 1:
        raise ValueError(f"lengths holds {int(counts.min())}, packing expects at least 1 step")
    if int(counts.max()) > steps:
        raise ValueError(f"lengths holds {int(counts.max())}, the input has {steps} steps")
    return counts


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[AnyArray, IntArray]:
    """The padded batch (T, N, *), or (N, T, *) if batch_first, and the lengths (N,).

    Rows come in their original order; T is the longest length, or `total_length` if given.
    Source: torch.nn.utils.rnn.pad_packed_sequence.
    """
    if not is_packed(sequence):
        kind = with_article(type(sequence).__name__)
        raise TypeError(f"sequence is {kind}, expected a PackedSequence")
    batch_first = as_flag(batch_first, "batch_first")
    data, sizes, _, inverse = checked(sequence)
    rows, steps = int(sizes[0]), len(sizes)
    total = steps if total_length is None else as_int(total_length, "total_length")
    if total < steps:
        raise ValueError(f"total_length is {total}, the longest row has {steps} steps")
    _check_numbers(data, "data of a packed sequence")
    padded = _padding((total, rows, *data.shape[1:]), padding_value, data.dtype, "total_length")
    padded[:steps][np.arange(rows) < sizes[:, None]] = data
    lengths = sorted_lengths(sizes)
    if inverse is not None:
        padded, lengths = padded[:, inverse], lengths[inverse]
    return np.ascontiguousarray(padded.swapaxes(0, 1) if batch_first else padded), lengths


def pad_sequence(
    sequences: Sequence[ArrayLike] | AnyArray,
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> AnyArray:
    """Stack rows (L, *) of different lengths into (T, N, *), or (N, T, *) if batch_first.

    Source: torch.nn.utils.rnn.pad_sequence.
    """
    as_choice(padding_side, "padding_side", ("right", "left"))
    batch_first = as_flag(batch_first, "batch_first")
    rows = _rows(sequences)
    steps = max(len(row) for row in rows)
    shape = (len(rows), steps, *rows[0].shape[1:])
    padded = _padding(shape, padding_value, np.result_type(*rows), "sequences")
    for target, row in zip(padded, rows, strict=True):
        start = steps - len(row) if padding_side == "left" else 0
        target[start : start + len(row)] = row
    return padded if batch_first else np.ascontiguousarray(padded.swapaxes(0, 1))


def pack_sequence(sequences: Sequence[ArrayLike], enforce_sorted: bool = True) -> PackedSequence:
    """Pack rows (L, *) of different lengths >= 1, which must fall if `enforce_sorted`.

    Source: torch.nn.utils.rnn.pack_sequence.
    """
    enforce_sorted = as_flag(enforce_sorted, "enforce_sorted")
    rows = _rows(sequences)
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return pack_padded_sequence(pad_sequence(rows), lengths, enforce_sorted=enforce_sorted)


def _rows(sequences: Sequence[ArrayLike] | AnyArray) -> list[AnyArray]:
    given = _listed(sequences)
    if not given:
        raise ValueError("sequences is empty, expected at least one row")
    try:
        rows = [as_array(row, f"sequences[{i}]") for i, row in enumerate(given)]
    except TypeError as error:
        raise TypeError(f"sequences must be a list of arrays: {error}") from error
    for i, row in enumerate(rows):
        _check_numbers(row, f"sequences[{i}]")
        if row.ndim == 0 or row.shape[1:] != rows[0].shape[1:]:
            raise ValueError(
                f"sequences[{i}] has shape {row.shape}, expected (L, *{rows[0].shape[1:]})"
            )
    return rows


def _listed(sequences: Any) -> list[Any]:
    """The rows, at most as many as can be counted in 32 bits."""
    if isinstance(sequences, np.ma.MaskedArray):
        raise TypeError("sequences is a masked array, fill the masked values first")
    try:
        count = len(sequences) if hasattr(sequences, "__len__") else 0
        rows = list(islice(sequences, MAX_ROWS)) if count <= MAX_ROWS else []
    except MemoryError:
        raise
    except Exception as error:  # whatever a foreign object raises when asked for its rows
        raise TypeError(f"sequences must be a list of arrays: {error}") from error
    if count > MAX_ROWS:
        raise ValueError(f"sequences has {count} rows, expected at most {MAX_ROWS}")
    return rows


def _check_numbers(array: AnyArray, name: str) -> None:
    if array.dtype.kind not in "bc" and not is_real(array.dtype):
        raise TypeError(f"{name} has dtype {array.dtype}, expected numbers")


def _padding(shape: tuple[int, ...], value: object, dtype: np.dtype[Any], name: str) -> AnyArray:
    """An array full of `value`; `name` is the argument that made it large."""
    if not isinstance(value, Real):
        kind = with_article(type(value).__name__)
        raise TypeError(f"padding_value is {kind}, expected a real number")
    too_large = f"{name} asks for a batch of shape {shape}, which does not fit into memory"
    if prod(shape) * dtype.itemsize > _MAX_BYTES:
        raise ValueError(too_large)
    one = np.empty((), dtype)
    try:
        with np.errstate(over="ignore", invalid="raise"):
            one[()] = value
    except (ValueError, OverflowError, TypeError, FloatingPointError) as error:
        raise ValueError(f"padding_value does not fit into the data's {dtype}: {error}") from error
    try:
        return np.full(shape, one, dtype)
    except MemoryError as error:
        raise MemoryError(too_large) from error
