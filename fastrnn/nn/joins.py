"""Modules without parameters between others: sums, products, pieces, other shapes, pooling.

Letters as in `recurrent.py`. Each is called on arrays of one layout, features last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from fastrnn._arrays import (
    MAX_SIZE,
    AnyArray,
    ArrayLike,
    FloatArray,
    IntArray,
    as_choice,
    as_float32,
    as_int,
    as_lengths,
    as_size,
)
from fastrnn.nn.embedding import check_shape
from fastrnn.nn.module import Module
from fastrnn.nn.pullback import once
from fastrnn.nn.registry import registered

Back = Callable[[ArrayLike], Any]


class Join(Module):
    """A module without parameters, of one value or several."""

    num_inputs: ClassVar[int | None] = 1  # None: any number from 1 on

    def __init__(self) -> None:
        self._allocate([])

    def reset_parameters(self, seed: int | None = None) -> None:
        """There is nothing to draw."""

    def __call__(self, *x: ArrayLike) -> FloatArray:
        """The result of the values x."""
        y, _ = self._run([as_float32(value, "x") for value in x])
        return y

    def vjp(self, *x: ArrayLike) -> tuple[FloatArray, Back]:
        """y as the call gives it, and pullback(dy) -> dx, a tuple if there are several inputs."""
        y, back = self._run([as_float32(value, "x") for value in x])

        def pullback(dy: ArrayLike) -> Any:
            dy = as_float32(dy, "dy")
            check_shape(dy, y.shape, "dy")
            return back(dy)

        return y, once(pullback, f"a {type(self).__name__}")

    def _run(self, x: list[FloatArray]) -> tuple[FloatArray, Back]:
        raise NotImplementedError

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.config.items())
        return f"{type(self).__name__}({options})"


def _pair(x: list[FloatArray], owner: str) -> None:
    if len(x) != 2:
        raise ValueError(f"{owner} of {len(x)} values, expected two")


def _summed_to(dy: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """The gradient of what was repeated to dy's shape."""
    dy = dy.sum(axis=tuple(range(dy.ndim - len(shape))))
    axes = tuple(i for i, size in enumerate(shape) if size == 1 != dy.shape[i])
    return np.ascontiguousarray(dy.sum(axis=axes, keepdims=True) if axes else dy)


@registered
class Add(Join):
    """y = a + b, of one shape; one vector, or one channel, of a value stands for all."""

    num_inputs = 2

    def _run(self, x: list[FloatArray]) -> tuple[FloatArray, Back]:
        _pair(x, "a sum")
        a, b = x
        y: FloatArray = a + b
        return y, lambda dy: (_summed_to(dy, a.shape), _summed_to(dy, b.shape))


@registered
class Multiply(Join):
    """y = a b, elementwise, of one shape; one vector, or one channel, stands for all."""

    num_inputs = 2

    def _run(self, x: list[FloatArray]) -> tuple[FloatArray, Back]:
        _pair(x, "a product")
        a, b = x
        y: FloatArray = a * b
        return y, lambda dy: (_summed_to(dy * b, a.shape), _summed_to(dy * a, b.shape))


@registered
class Concatenate(Join):
    """The features of all values, one after the other: (*, C), (*, D), ... -> (*, C + D + ...)."""

    num_inputs = None

    def _run(self, x: list[FloatArray]) -> tuple[FloatArray, Back]:
        y = np.concatenate(x, axis=-1)
        ends = np.cumsum([value.shape[-1] for value in x])[:-1]

        def back(dy: ArrayLike) -> Any:
            parts = tuple(np.ascontiguousarray(part) for part in np.split(dy, ends, axis=-1))
            return parts if len(parts) > 1 else parts[0]

        return y, back


@registered
class Select(Join):
    """Features `start` to `stop` - 1: (*, C) -> (*, stop - start)."""

    _options = ("start", "stop")

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = as_int(start, "start"), as_size(stop, "stop", MAX_SIZE)
        if not 0 <= self.start < self.stop:
            raise ValueError(f"start is {start}, expected 0 to stop - 1, which is {stop - 1}")
        super().__init__()

    def _run(self, x: list[FloatArray]) -> tuple[FloatArray, Back]:
        (value,) = x
        if value.ndim == 0 or value.shape[-1] < self.stop:
            raise ValueError(f"x has shape {value.shape}, this Select expects {self.stop} features")

        def back(dy: ArrayLike) -> Any:
            dx = np.zeros_like(value)
            dx[..., self.start : self.stop] = dy
            return dx

        return np.ascontiguousarray(value[..., self.start : self.stop]), back


@registered
class Reshape(Join):
    """Within a step, the same floats as (length, channels), or (channels,) for length 1.

    Part of a network: called alone it takes x (T, N, ...).
    """

    _options = ("length", "channels")

    def __init__(self, length: int, channels: int) -> None:
        self.length = as_size(length, "length", MAX_SIZE)
        self.channels = as_size(channels, "channels", MAX_SIZE)
        super().__init__()

    def _run(self, x: list[FloatArray]) -> tuple[FloatArray, Back]:
        (value,) = x
        shape = (self.length, self.channels) if self.length > 1 else (self.channels,)
        return value.reshape(*value.shape[:2], *shape), lambda dy: np.reshape(dy, value.shape)


class OverTime(Join):
    """A join that sees whole sequences: x (T, N, *), or (N, T, *) with batch_first."""

    def __call__(
        self, x: ArrayLike, lengths: ArrayLike | None = None, batch_first: bool = False
    ) -> FloatArray:
        """The result of the sequences x, of `lengths` (N,) steps each."""
        return self.vjp(x, lengths, batch_first)[0]

    def vjp(
        self, x: ArrayLike, lengths: ArrayLike | None = None, batch_first: bool = False
    ) -> tuple[FloatArray, Back]:
        """y as the call gives it, and pullback(dy) -> dx."""
        x = as_float32(x, "x")
        if x.ndim < 3:
            raise ValueError(f"x has {x.ndim} dimensions, this {type(self).__name__} expects 3")
        steps, rows = (1, 0) if batch_first else (0, 1)
        counts = np.full(x.shape[rows], x.shape[steps])
        if lengths is not None:
            counts = as_lengths(lengths, x.shape[rows], x.shape[steps])
        by_row = x if batch_first else x.swapaxes(0, 1)
        y, to_rows = self._sequences(by_row, counts)

        def pullback(dy: ArrayLike) -> FloatArray:
            dy = as_float32(dy, "dy")
            check_shape(dy, y.shape, "dy")
            dx = to_rows(dy)
            return np.ascontiguousarray(dx if batch_first else dx.swapaxes(0, 1))

        if y.ndim == x.ndim and not batch_first:
            y, inner = np.ascontiguousarray(y.swapaxes(0, 1)), to_rows
            to_rows = lambda dy: inner(dy.swapaxes(0, 1))  # noqa: E731
        return y, once(pullback, f"a {type(self).__name__}")

    def _sequences(
        self, x: FloatArray, counts: IntArray
    ) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]]:
        """y of x (N, T, *), and the way back."""
        raise NotImplementedError


@registered
class Pool(OverTime):
    """One value for a whole sequence: its "last" step, the "mean", or the "max": -> (N, *).

    Of a row without steps it is 0. Means are summed in float64.
    """

    _options = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = as_choice(kind, "kind", ("last", "mean", "max"))
        super().__init__()

    def _sequences(
        self, x: FloatArray, counts: IntArray
    ) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]]:
        share = self._shares(x, counts)
        alive = np.arange(x.shape[1]) < counts[:, None]
        inside = np.where(_spread(alive, x), x, 0)
        if self.kind == "mean":
            sums = np.zeros((x.shape[0], *x.shape[2:]))
            for t in range(x.shape[1]):
                sums += inside[:, t]
            y = (sums / np.maximum(counts, 1).reshape(-1, *[1] * (x.ndim - 2))).astype(np.float32)
        else:
            y = (inside * share).sum(axis=1, dtype=np.float32)
            if self.kind == "max":
                y = np.where(_spread(alive, x), x, -np.inf).max(axis=1)
                y = np.where((counts > 0).reshape(-1, *[1] * (x.ndim - 2)), y, 0).astype(np.float32)
        return y, lambda dy: (dy[:, None] * share).astype(np.float32)

    def _shares(self, x: FloatArray, counts: IntArray) -> AnyArray:
        """How much every step has of the result."""
        steps = np.arange(x.shape[1])
        if self.kind == "last":
            return _spread(steps == (counts - 1)[:, None], x).astype(np.float32)
        alive = steps < counts[:, None]
        if self.kind == "mean":
            return _spread((alive / np.maximum(counts, 1)[:, None]).astype(np.float32), x)
        first = np.where(_spread(alive, x), x, -np.inf).argmax(axis=1)
        found = _spread(steps[None], x) == first[:, None]
        share: AnyArray = (found & _spread(alive, x)).astype(np.float32)
        return share


@registered
class Flip(OverTime):
    """The steps of every row from its last to its first; steps past its end stay where they are."""

    def _sequences(
        self, x: FloatArray, counts: IntArray
    ) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]]:
        steps = np.arange(x.shape[1])
        ends = counts[:, None]
        places = np.where(steps < ends, ends - 1 - steps, steps)
        rows = np.arange(len(x))[:, None]
        return x[rows, places], lambda dy: dy[rows, places]


def _spread(mask: AnyArray, x: AnyArray) -> AnyArray:
    """(N, T) or (1, T) against x (N, T, *)."""
    return mask.reshape(*mask.shape, *[1] * (x.ndim - 2))
