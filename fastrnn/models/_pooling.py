"""From a sequence to one vector, forward and backward.

y (T, N, F) are the features of all steps, h (L * D, N, R) the last states, F = D * R. Without rows,
N is missing everywhere. Each function gives the vectors (N, F) and the pullback from their gradient
to (dy, dh); None stands for zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn._arrays import FloatArray, IntArray
from fastrnn.models._parts import is_recurrent
from fastrnn.nn import pooling as nn_pooling

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
    features, back = nn_pooling.pooled("mean", y, lengths)
    return features, lambda dfeatures: (back(dfeatures), None)


def maximum(
    y: FloatArray, h: FloatArray, lengths: IntArray | None, directions: int
) -> tuple[FloatArray, Back]:
    """The largest value of every feature over a row's own steps, 0 for a row without any."""
    features, back = nn_pooling.pooled("max", y, lengths)
    return features, lambda dfeatures: (back(dfeatures), None)


def pooled(
    pooling: str, layer: Any, y: FloatArray, state: Any, lengths: IntArray | None
) -> tuple[FloatArray, Callable[[FloatArray], tuple[Any, Any]]]:
    """One vector for each row of what `layer` gave, and back(dfeatures) -> dy, dstate.

    The last state of a layer that is no recurrent one is what it gave last.
    """
    if not is_recurrent(layer):
        if pooling == "last":
            features, to_y = nn_pooling.pooled("last", y, lengths)
            return features, lambda dfeatures: (to_y(dfeatures), None)
        features, to_steps = POOLINGS[pooling](y, y, lengths, 1)
        return features, lambda dfeatures: (to_steps(dfeatures)[0], None)
    h = state[0] if layer.has_cell else state
    features, to_steps = POOLINGS[pooling](y, h, lengths, layer.num_directions)

    def back(dfeatures: FloatArray) -> tuple[Any, Any]:
        dy, dh = to_steps(dfeatures)
        if dh is None or not layer.has_cell:
            return dy, dh
        return dy, (dh, np.zeros_like(state[1]))

    return features, back


POOLINGS = {"last": last, "mean": mean, "max": maximum}
