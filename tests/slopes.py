"""Finite differences, for functions computed in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def assert_slope(
    value: Callable[[], float], array: Any, gradient: Any, rng: np.random.Generator, changed: Any
) -> None:
    """`gradient` of `value` by `array` in some random directions; `changed` is told of writes.

    Central differences with step e err by e^2 f''' and by rounding / e: a step of 1e-2 leaves
    about 1e-3 of a slope for functions of the size of 1.
    """
    step = 1e-2
    start = array.copy()
    for _ in range(3):
        direction = rng.standard_normal(array.shape)
        direction /= np.sqrt((direction**2).sum())
        ends = []
        for sign in (1, -1):
            array[...] = start + sign * step * direction
            changed()
            ends.append(value())
        array[...] = start
        changed()
        slope = (ends[0] - ends[1]) / (2 * step)
        wanted = float((np.float64(gradient) * direction).sum())
        scale = float(np.sqrt((np.float64(gradient) ** 2).sum()))
        assert abs(slope - wanted) <= 3e-3 * max(scale, 1e-2), (slope, wanted, scale)


def gradient_of(value: Callable[[Any], float], x: Any) -> Any:
    """The gradient of a function of float64 (*) by central differences, good to about 1e-8."""
    step, wide = 1e-6, np.array(x, np.float64)
    gradient = np.empty_like(wide)
    for index in np.ndindex(wide.shape):
        middle, ends = wide[index], []
        for sign in (1, -1):
            wide[index] = middle + sign * step
            ends.append(value(wide))
        wide[index] = middle
        gradient[index] = (ends[0] - ends[1]) / (2 * step)
    return gradient
