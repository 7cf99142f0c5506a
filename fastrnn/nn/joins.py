"""Modules without parameters between others: sums, products, pieces, other shapes, pooling.

Letters as in `recurrent.py`. Each is called on arrays of one layout, features last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    as_float32,
    as_int,
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
