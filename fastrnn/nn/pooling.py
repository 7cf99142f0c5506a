"""From a sequence to one value, and sequences in reverse: x (T, N, *), or (T, *) for one row.

The same bits as in a network, whose values may have several axes behind the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn import _core
from fastrnn._arrays import (
    ArrayLike,
    FloatArray,
    IntArray,
    as_choice,
    as_float32,
    as_lengths,
)
from fastrnn.nn.embedding import check_shape
from fastrnn.nn.module import Module
from fastrnn.nn.packed import PackedSequence, checked, is_packed, sorted_lengths, starts
from fastrnn.nn.pullback import once
from fastrnn.nn.registry import registered

Back = Callable[[FloatArray], FloatArray]

KINDS = ("last", "mean", "max")


def pooled(kind: str, x: FloatArray, lengths: IntArray | None) -> tuple[FloatArray, Back]:
    """y (N, *) of x (T, N, *), or (*) of one row (T, *), without lengths, and the pullback."""
    rows = x[:, None] if x.ndim == 2 else x
    steps = _core.OverTime(rows.shape, lengths)
    y = steps.pool(kind, rows, True)
    if x.ndim > 2:
        return y, lambda dy: steps.pool_back(kind, dy)
    return y[0], lambda dy: steps.pool_back(kind, dy[None])[:, 0]


class OverTime(Module):
    """No parameters; sequences with lengths in, whatever the subclass makes of them out."""

    def __init__(self) -> None:
        self._allocate([])

    def reset_parameters(self, seed: int | None = None) -> None:
        """There is nothing to draw."""

    def __call__(self, x: ArrayLike, *, lengths: ArrayLike | None = None) -> Any:
        """y of x (T, N, F) and lengths (N,) from 0 to T, in any order; None: all T.

        x may be a PackedSequence of (*, F), which has lengths of its own.
        """
        return self._run(x, lengths, False)[0]

    def vjp(
        self, x: ArrayLike, *, lengths: ArrayLike | None = None
    ) -> tuple[Any, Callable[[ArrayLike], Any]]:
        """y as the call gives it, and a pullback from dy, of y's shape, to dx, of x's."""
        y, back = self._run(x, lengths, True)
        return y, once(back, f"a {type(self).__name__}")

    def _run(
        self, x: Any, lengths: ArrayLike | None, keep: bool
    ) -> tuple[Any, Callable[[Any], Any]]:
        if is_packed(x):
            if lengths is not None:
                raise ValueError("lengths and a packed x exclude each other: x has its own lengths")
            return self._run_packed(checked(x), keep)
        x = as_float32(x, "x")
        self._check(x, lengths)
        counts = None if lengths is None else as_lengths(lengths, x.shape[1], len(x))
        rows = x[:, None] if x.ndim == 2 else x
        y, back = self._over(_core.OverTime(rows.shape, counts), rows, keep)
        axis = None if x.ndim > 2 else y.ndim - 2  # of the rows that x has not
        y = y if axis is None else y.squeeze(axis)
        shape = y.shape

        def pullback(dy: ArrayLike) -> FloatArray:
            dy = as_float32(dy, "dy")
            check_shape(dy, shape, "dy")
            dx = back(dy if axis is None else np.expand_dims(dy, axis))
            return dx if axis is None else dx[:, 0]

        return y, pullback

    def _run_packed(self, x: PackedSequence, keep: bool) -> tuple[Any, Callable[[Any], Any]]:
        data = as_float32(x.data, "x.data")
        if data.ndim < 2:
            kind = type(self).__name__
            raise ValueError(f"x.data has {data.ndim} dimensions, this {kind} expects 2 or more")
        sizes = x.batch_sizes
        steps = _core.OverTime(data.shape, sorted_lengths(sizes), starts=starts(sizes))
        y, back = self._over(steps, data, keep)
        return self._framed(y, x), lambda dy: x._replace(data=back(self._unframed(dy, x, y.shape)))

    def _check(self, x: FloatArray, lengths: ArrayLike | None) -> None:
        kind = type(self).__name__
        if x.ndim < 2:
            raise ValueError(f"x has {x.ndim} dimensions, this {kind} expects 2 or more")
        if not len(x):
            raise ValueError(f"x has 0 steps, this {kind} expects at least 1")
        if lengths is not None and x.ndim == 2:
            raise ValueError(f"lengths are given for x of shape {x.shape}, expected (T, N, F)")

    def _over(self, steps: _core.OverTime, x: FloatArray, keep: bool) -> tuple[FloatArray, Back]:
        """y of x, which has an axis of rows or is packed, and the pullback, if it shall `keep`."""
        raise NotImplementedError

    def _framed(self, y: FloatArray, x: PackedSequence) -> Any:
        """y of packed rows as the caller has it."""
        raise NotImplementedError

    def _unframed(self, dy: Any, x: PackedSequence, shape: tuple[int, ...]) -> FloatArray:
        """dy in the order of the packed rows."""
        raise NotImplementedError


@registered
class Pooling(OverTime):
    """x (T, N, F) -> (N, F): the `kind` "last", "mean" or "max" over a row's own steps.

    A row without steps gives 0. The rows of a PackedSequence come in their original order.
    """

    _options = ("kind",)

    def __init__(self, kind: str = "last") -> None:
        self.kind = as_choice(kind, "kind", KINDS)
        super().__init__()

    def _over(self, steps: _core.OverTime, x: FloatArray, keep: bool) -> tuple[FloatArray, Back]:
        return steps.pool(self.kind, x, keep), lambda dy: steps.pool_back(self.kind, dy)

    def _framed(self, y: FloatArray, x: PackedSequence) -> FloatArray:
        return y if x.unsorted_indices is None else y[x.unsorted_indices]

    def _unframed(self, dy: Any, x: PackedSequence, shape: tuple[int, ...]) -> FloatArray:
        rows = as_float32(dy, "dy")
        check_shape(rows, shape, "dy")
        return rows if x.sorted_indices is None else rows[x.sorted_indices]


@registered
class Flip(OverTime):
    """x (T, N, F) -> (T, N, F), the steps in reverse: a row's own ones, what follows them stays.

    Source: torch.flip along time, for rows of one length.
    """

    def _over(self, steps: _core.OverTime, x: FloatArray, keep: bool) -> tuple[FloatArray, Back]:
        return steps.flip(x), steps.flip

    def _framed(self, y: FloatArray, x: PackedSequence) -> PackedSequence:
        return x._replace(data=y)

    def _unframed(self, dy: Any, x: PackedSequence, shape: tuple[int, ...]) -> FloatArray:
        data = as_float32(dy.data if is_packed(dy) else dy, "dy.data")
        check_shape(data, shape, "dy.data")
        return data
