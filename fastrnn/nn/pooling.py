"""From a sequence to one value, and sequences in reverse: x (T, N, *), or (T, *) for one row.

The same bits as in a network, whose values may have several axes behind the rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastrnn._arrays import (
    AnyArray,
    ArrayLike,
    FloatArray,
    IntArray,
    as_choice,
    as_float32,
    as_lengths,
)
from fastrnn.nn.embedding import check_shape
from fastrnn.nn.module import Module
from fastrnn.nn.pullback import once
from fastrnn.nn.registry import registered

Back = Callable[[FloatArray], FloatArray]


def last(x: FloatArray, lengths: IntArray | None) -> tuple[FloatArray, Back]:
    """A row's own last step, 0 for a row without any."""
    if lengths is None:
        return _taken(x, np.full((1,) * x.ndim, len(x) - 1), lengths)
    return _taken(x, _against(np.maximum(lengths - 1, 0)[None], x), lengths)


def mean(x: FloatArray, lengths: IntArray | None) -> tuple[FloatArray, Back]:
    """The mean over a row's own steps, 0 for a row without any: one chain of sums, steps rising."""
    seen, weights = x, np.full((len(x), *[1] * (x.ndim - 1)), 1 / len(x), np.float32)
    if lengths is not None:
        alive = np.arange(len(x))[:, None] < lengths
        seen = np.where(_against(alive, x), x, np.float32(0))
        weights = _against((alive / np.maximum(lengths, 1)).astype(np.float32), x)
    # Not sum(), which adds in another order where a step is a single number.
    return (seen * weights).cumsum(axis=0)[-1], lambda dy: weights * dy


def maximum(x: FloatArray, lengths: IntArray | None) -> tuple[FloatArray, Back]:
    """The largest value of every feature over a row's own steps, 0 for a row without any."""
    seen = x
    if lengths is not None:
        alive = np.arange(len(x))[:, None] < lengths
        seen = np.where(_against(alive, x), x, np.float32(-np.inf))
    return _taken(x, seen.argmax(axis=0)[None], lengths)


def _against(mask: AnyArray, x: AnyArray) -> AnyArray:
    """(T, N) or (1, N) beside x (T, N, *)."""
    return mask.reshape(*mask.shape, *(1,) * (x.ndim - 2))


def _taken(x: FloatArray, places: AnyArray, lengths: IntArray | None) -> tuple[FloatArray, Back]:
    """The values at one place in time, for rows that have steps, and the pullback to x."""
    shape = x.shape
    empty = None if lengths is None else _against((lengths == 0)[None], x)[0]

    def kept(values: FloatArray) -> FloatArray:
        return values if empty is None else np.where(empty, np.float32(0), values)

    places = np.broadcast_to(places, (1, *shape[1:]))

    def back(dy: FloatArray) -> FloatArray:
        dx = np.zeros(shape, np.float32)
        np.put_along_axis(dx, places, kept(dy)[None], axis=0)
        return dx

    return kept(np.take_along_axis(x, places, axis=0)[0]), back


_KINDS = {"last": last, "mean": mean, "max": maximum}


class OverTime(Module):
    """No parameters; sequences with lengths in, whatever the subclass makes of them out."""

    def __init__(self) -> None:
        self._allocate([])

    def reset_parameters(self, seed: int | None = None) -> None:
        """There is nothing to draw."""

    def __call__(self, x: ArrayLike, *, lengths: ArrayLike | None = None) -> FloatArray:
        """y of x (T, N, F) and lengths (N,) from 0 to T, in any order; None: all T."""
        return self._forward(x, lengths)[0]

    def vjp(
        self, x: ArrayLike, *, lengths: ArrayLike | None = None
    ) -> tuple[FloatArray, Callable[[ArrayLike], FloatArray]]:
        """y as the call gives it, and a pullback from dy, of y's shape, to dx, of x's."""
        y, back = self._forward(x, lengths)
        shape = y.shape

        def pullback(dy: ArrayLike) -> FloatArray:
            dy = as_float32(dy, "dy")
            check_shape(dy, shape, "dy")
            return back(dy)

        return y, once(pullback, f"a {type(self).__name__}")

    def _forward(self, x: ArrayLike, lengths: ArrayLike | None) -> tuple[FloatArray, Back]:
        x = as_float32(x, "x")
        if x.ndim < 2:
            kind = type(self).__name__
            raise ValueError(f"x has {x.ndim} dimensions, this {kind} expects 2 or more")
        if not len(x):
            raise ValueError(f"x has 0 steps, this {type(self).__name__} expects at least 1")
        if lengths is None:
            return self._applied(x, None)
        if x.ndim == 2:
            raise ValueError(f"lengths are given for x of shape {x.shape}, expected (T, N, F)")
        return self._applied(x, as_lengths(lengths, x.shape[1], len(x)))

    def _applied(self, x: FloatArray, lengths: IntArray | None) -> tuple[FloatArray, Back]:
        raise NotImplementedError


@registered
class Pooling(OverTime):
    """x (T, N, F) -> (N, F): the `kind` "last", "mean" or "max" over a row's own steps.

    A row without steps gives 0.
    """

    _options = ("kind",)

    def __init__(self, kind: str = "last") -> None:
        self.kind = as_choice(kind, "kind", tuple(_KINDS))
        super().__init__()

    def _applied(self, x: FloatArray, lengths: IntArray | None) -> tuple[FloatArray, Back]:
        return _KINDS[self.kind](x, lengths)


@registered
class Flip(OverTime):
    """x (T, N, F) -> (T, N, F), the steps in reverse: a row's own ones, what follows them stays.

    Source: torch.flip along time, for rows of one length.
    """

    def _applied(self, x: FloatArray, lengths: IntArray | None) -> tuple[FloatArray, Back]:
        if lengths is None:
            return x[::-1].copy(), lambda dy: dy[::-1].copy()
        steps = np.arange(len(x))[:, None]
        order = _against(np.where(steps < lengths, lengths - 1 - steps, steps), x)
        flipped: FloatArray = np.take_along_axis(x, order, axis=0)
        return flipped, lambda dy: np.take_along_axis(dy, order, axis=0)
