"""From a model's outputs and its targets to a loss, its gradient, and what was counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn import losses
from fastrnn._arrays import ArrayLike, FloatArray, as_float32, as_int, as_int64, as_lengths
from fastrnn.losses import LossResult

Mask = npt.NDArray[np.bool_]
Backward = Callable[..., Any]

REGRESSIONS: dict[str, Callable[..., tuple[float, FloatArray]]] = {
    "mse": losses.mse,
    "mae": losses.mae,
    "huber": losses.huber,
}


@dataclass(frozen=True)
class Objective:
    """A loss (the mean over `count`), and its gradient by the model's outputs."""

    loss: float
    count: int
    correct: int | None
    gradient: FloatArray

    def result(self, state: Any) -> LossResult:
        return LossResult(self.loss, self.count, state, self.correct)


def refuse_state(state: object, model: object) -> None:
    """Models that start every sequence anew have no state to carry."""
    if state is not None:
        kind = type(model).__name__
        raise ValueError(f"state is given, but a {kind} starts every sequence from zero")


def scaled(gradient: FloatArray, scale: float) -> FloatArray:
    """The gradient times a number, in place: it is used once."""
    if scale != 1:
        gradient *= np.float32(scale)
    return gradient


def as_smoothing(value: object) -> float:
    """How much of a target's probability is spread over all classes."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"label_smoothing is {value!r}, expected a number from 0 to below 1")
    return float(value)


def as_ignored(value: int | None) -> int | None:
    """The target that does not count, if there is one."""
    return None if value is None else as_int(value, "ignore_index")


def classes(
    logits: FloatArray,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    count_correct: bool = True,
) -> Objective:
    """Cross-entropy over all targets (*), logits (*, C), but padded and ignored ones."""
    wanted = as_int64(targets, "targets")
    if wanted.shape != logits.shape[:-1]:
        raise ValueError(f"targets has shape {wanted.shape}, expected {logits.shape[:-1]}")
    mask = None if lengths is None else _real_steps(lengths, wanted.shape)
    counted: Mask = np.ones(wanted.shape, bool) if mask is None else mask
    if ignore_index is not None:
        counted = counted & (wanted != ignore_index)
    if mask is not None:
        wanted = np.where(mask, wanted, 0)  # padding may hold anything
    loss, gradient = losses.cross_entropy(
        logits, wanted, ignore_index=ignore_index, label_smoothing=label_smoothing, mask=mask
    )
    correct = None
    if count_correct:
        correct = int(np.count_nonzero((logits.argmax(axis=-1) == wanted) & counted))
    return Objective(_number(loss), int(np.count_nonzero(counted)), correct, gradient)


def numbers(prediction: FloatArray, targets: ArrayLike, kind: str) -> Objective:
    """A regression's loss over all numbers."""
    wanted = as_float32(targets, "targets")
    if wanted.shape != prediction.shape:
        raise ValueError(f"targets has shape {wanted.shape}, expected {prediction.shape}")
    loss, gradient = REGRESSIONS[kind](prediction, wanted)
    return Objective(_number(loss), wanted.size, None, gradient)


def _number(loss: Any) -> float:
    return float(loss)


def _real_steps(lengths: ArrayLike, shape: tuple[int, ...]) -> Mask:
    """(T, N): whether a step is before its row's end."""
    if len(shape) != 2:
        raise ValueError("lengths needs a batch, expected targets (T, N)")
    ends = as_lengths(lengths, shape[1], shape[0])
    real: Mask = np.arange(shape[0])[:, None] < ends
    return real
