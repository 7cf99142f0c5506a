"""From a sequence to one vector, forward and backward.

y (T, N, F) are the features of all steps, h (L * D, N, R) the last states, F = D * R. Without rows,
N is missing everywhere. Each function gives the vectors (N, F) and the way back from their gradient
to (dy, dh); None stands for zeros.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastrnn._arrays import FloatArray, IntArray
from fastrnn.nn import pooling

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
    """The mean over a row's own steps."""
    features, back = pooling.mean(y, lengths)
    return features, lambda dfeatures: (back(dfeatures), None)


def maximum(
    y: FloatArray, h: FloatArray, lengths: IntArray | None, directions: int
) -> tuple[FloatArray, Back]:
    """The largest value of every feature over a row's own steps, 0 for a row without any."""
    features, back = pooling.maximum(y, lengths)
    return features, lambda dfeatures: (back(dfeatures), None)


POOLINGS = {"last": last, "mean": mean, "max": maximum}
