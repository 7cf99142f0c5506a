"""From a sequence to one vector, forward and backward.

y (T, N, F) are the features of all steps, h (L * D, N, R) the last states, F = D * R. Without rows,
N is missing everywhere. Each function gives the vectors (N, F) and the way back from their gradient
to (dy, dh); None stands for zeros.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastrnn._arrays import FloatArray, IntArray

Back = Callable[[FloatArray], tuple[FloatArray | None, FloatArray | None]]


def last(
    y: FloatArray, h: FloatArray, lengths: IntArray | None, directions: int
) -> tuple[FloatArray, Back]:
    """Every direction's last state: the first step's for the direction that reads backwards."""

    def back(dfeatures: FloatArray) -> tuple[None, FloatArray]:
        dh = np.zeros_like(h)
        for place, part in enumerate(np.split(dfeatures, directions, axis=-1)):
            dh[place - directions] = part
        return None, dh

    return np.concatenate(list(h[-directions:]), axis=-1), back


def mean(
    y: FloatArray, h: FloatArray, lengths: IntArray | None, directions: int
) -> tuple[FloatArray, Back]:
    """The mean over a row's own steps; y is 0 after them."""
    if lengths is None:
        weights = np.full((len(y), *[1] * (y.ndim - 1)), 1 / len(y), np.float32)
    else:
        inside = np.arange(len(y))[:, None] < lengths
        weights = (inside / np.maximum(lengths, 1)).astype(np.float32)[..., None]

    def back(dfeatures: FloatArray) -> tuple[FloatArray, None]:
        return weights * dfeatures, None

    return (y * weights).sum(axis=0), back


def maximum(
    y: FloatArray, h: FloatArray, lengths: IntArray | None, directions: int
) -> tuple[FloatArray, Back]:
    """The largest value of every feature over a row's own steps, 0 for a row without any."""
    shown, empty = y, None
    if lengths is not None:
        inside = np.arange(len(y))[:, None] < lengths
        shown = np.where(inside[..., None], y, np.float32(-np.inf))
        empty = (lengths == 0)[:, None]
    steps = shown.argmax(axis=0)[None]

    def back(dfeatures: FloatArray) -> tuple[FloatArray, None]:
        dy = np.zeros_like(y)
        kept = dfeatures if empty is None else np.where(empty, np.float32(0), dfeatures)
        np.put_along_axis(dy, steps, kept[None], axis=0)
        return dy, None

    return np.take_along_axis(y, steps, axis=0)[0], back


POOLINGS = {"last": last, "mean": mean, "max": maximum}
