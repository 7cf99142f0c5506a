"""Losses, each with its gradient: `loss, dprediction = mse(prediction, target)`.

With `reduction="mean"` the loss is a float, the mean over what counts (not ignored, not masked
out), and the gradient is that of the mean; "sum" likewise; "none" gives the losses one by one, 0
where nothing counts, with the gradient of their sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fastrnn import _core
from fastrnn._arrays import (
    ArrayLike,
    FloatArray,
    IntArray,
    as_array,
    as_choice,
    as_float,
    as_float32,
    as_int,
    as_int64,
    as_probability,
    shown,
)

Loss: TypeAlias = Any  # a float; with reduction="none" an array
BoolArray: TypeAlias = npt.NDArray[np.bool_]
_Pair: TypeAlias = tuple[FloatArray, FloatArray]  # losses and their derivatives, element by element

_SIGMOID = _core.Activation("sigmoid")
_REDUCTIONS = ("mean", "sum", "none")


class LossResult(NamedTuple):
    """Loss of a model over one batch.

    `loss`: the mean over `count` tokens, rows or numbers, 0 where nothing counts (all targets are
    ignored, all lengths are 0, or there are no rows). `state`: the last recurrent state as NumPy
    arrays, or None. `correct`: number of targets with the largest logit; None for regression.
    """

    loss: float
    count: int  # type: ignore[assignment]  # a tuple has a method of this name
    state: Any = None
    correct: int | None = None


def cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    mask: ArrayLike | None = None,
) -> tuple[Loss, FloatArray]:
    """Softmax cross-entropy of logits (*, V) and targets (*) ints from 0 to V-1 -> loss, dlogits.

    Targets equal to `ignore_index` and those where `mask` (*) is False count nothing. A mean over
    nothing is a ValueError. Source: torch.nn.functional.cross_entropy, classes last.
    """
    reduction = as_choice(reduction, "reduction", _REDUCTIONS)
    x, wanted = _classes(logits, targets, ignore_index, mask)
    count = _count(wanted >= 0, reduction)
    losses, dlogits = np.empty(wanted.shape, np.float32), np.empty_like(x)
    smoothing = as_probability(label_smoothing, "label_smoothing")
    _run(x, wanted, losses, dlogits, smoothing, 1.0 / count)
    return _reduced(losses, count, reduction), dlogits


def classify(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    mask: ArrayLike | None = None,
    scale: float = 1.0,
    gradient: bool = True,
    overwrite: bool = False,
) -> tuple[LossResult, FloatArray | None]:
    """`cross_entropy` as a LossResult with its hits, and scale * d(mean)/d(logits) if wanted.

    If nothing counts, count, loss and gradient are 0.
    `overwrite`: the gradient may take the memory of `logits`, if they are contiguous float32.
    """
    x, wanted = _classes(logits, targets, ignore_index, mask)
    count = int(np.count_nonzero(wanted >= 0))
    losses = np.empty(wanted.shape, np.float32)
    dlogits = None
    if gradient:
        dlogits = x if overwrite and x.flags.writeable else np.empty_like(x)
    smoothing = as_probability(label_smoothing, "label_smoothing")
    correct = _run(x, wanted, losses, dlogits, smoothing, scale / max(count, 1))
    return LossResult(_reduced(losses, max(count, 1), "mean"), count, None, correct), dlogits


def log_softmax(logits: ArrayLike) -> FloatArray:
    """The logarithm of softmax over the last dimension: (*, V) -> (*, V)."""
    x = _vectors(logits)
    y = np.empty_like(x)
    if x.size:
        _core.log_softmax(x.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1]))
    return y


def perplexity(loss: float) -> float:
    """e^loss of a mean cross-entropy; infinite where that is too large for a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def mse(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[Loss, FloatArray]:
    """Squared error of prediction (*) and target (*) -> loss, dprediction.

    `mask`: False for what does not count, of the shape (*) or of its leading dimensions, as (T, N)
    for (T, N, F). Source: torch.nn.functional.mse_loss.
    """
    return _regression(lambda d: (d * d, 2 * d), prediction, target, mask, reduction)


def mae(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[Loss, FloatArray]:
    """Absolute error, otherwise as `mse`. Source: torch.nn.functional.l1_loss."""
    return _regression(lambda d: (np.abs(d), np.sign(d)), prediction, target, mask, reduction)


def huber(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    delta: float = 1.0,
    mask: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[Loss, FloatArray]:
    """Squared error / 2 up to `delta`, linear beyond, otherwise as `mse`.

    Source: torch.nn.functional.huber_loss.
    """
    if not 0 < as_float(delta) <= np.finfo(np.float32).max:
        raise ValueError(f"delta is {shown(delta)}, expected a number above 0 that float32 holds")
    limit = np.float32(delta)

    def error(d: FloatArray) -> _Pair:
        size = np.abs(d)
        losses = np.where(size < limit, d * d / 2, limit * (size - limit / 2))
        return losses, np.clip(d, -limit, limit)

    return _regression(error, prediction, target, mask, reduction)


def binary_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[Loss, FloatArray]:
    """Cross-entropy of sigmoid(logits) (*) and targets (*) from 0 to 1, otherwise as `mse`.

    Source: torch.nn.functional.binary_cross_entropy_with_logits.
    """
    x, y = _alike(logits, targets, "logits", "targets")
    counts = _mask(mask, x.shape)
    _check_probabilities(y, counts)

    def error(x: FloatArray) -> _Pair:
        losses = np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))
        return losses, _SIGMOID.run(x, None) - y

    return _evaluate(error, x, counts, reduction)


def _vectors(logits: ArrayLike) -> FloatArray:
    x = as_float32(logits, "logits")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"logits has shape {x.shape}, expected (..., V) with at least one class")
    return x


def _classes(
    logits: ArrayLike, targets: ArrayLike, ignore_index: int | None, mask: ArrayLike | None
) -> tuple[FloatArray, IntArray]:
    """Logits (*, V) and targets (*), -1 where nothing counts."""
    x, wanted = _vectors(logits), as_int64(targets, "targets")
    if wanted.shape != x.shape[:-1]:
        raise ValueError(
            f"targets has shape {wanted.shape}, logits {x.shape} expect {x.shape[:-1]}"
        )
    counts = _mask(mask, wanted.shape)
    if ignore_index is not None:
        kept = wanted != as_int(ignore_index, "ignore_index")
        counts = kept if counts is None else counts & kept
    if counts is not None:
        _check_targets(wanted[counts], x.shape[-1])
        return x, np.where(counts, wanted, -1)
    _check_targets(wanted, x.shape[-1])
    return x, wanted


def _check_targets(targets: IntArray, classes: int) -> None:
    wrong = targets[(targets < 0) | (targets >= classes)]
    if wrong.size:
        raise ValueError(f"targets holds {wrong.flat[0]}, expected classes from 0 to {classes - 1}")


def _check_probabilities(targets: FloatArray, counts: BoolArray | None) -> None:
    kept = targets if counts is None else targets[counts]
    wrong = kept[~((kept >= 0) & (kept <= 1))]
    if wrong.size:
        raise ValueError(f"targets holds {wrong.flat[0]}, expected numbers from 0 to 1")


def _run(
    x: FloatArray,
    targets: IntArray,
    losses: FloatArray,
    dlogits: FloatArray | None,
    smoothing: float,
    scale: float,
) -> int:
    rows = (-1, x.shape[-1])
    gradient = None if dlogits is None else dlogits.reshape(rows)
    return _core.cross_entropy(
        x.reshape(rows), targets.reshape(-1), losses.reshape(-1), gradient, smoothing, scale
    )


def _alike(a: ArrayLike, b: ArrayLike, a_name: str, b_name: str) -> _Pair:
    first, second = as_float32(a, a_name), as_float32(b, b_name)
    if first.shape != second.shape:
        raise ValueError(f"{b_name} has shape {second.shape}, {a_name} has {first.shape}")
    return first, second


def _mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> BoolArray | None:
    """The mask (*) in full shape; it may lack trailing dimensions."""
    if mask is None:
        return None
    counts = as_array(mask, "mask")
    if counts.dtype != np.bool_:
        raise TypeError(f"mask has dtype {counts.dtype}, expected bool")
    if counts.shape != shape[: counts.ndim]:
        raise ValueError(f"mask has shape {counts.shape}, expected {shape} or a leading part of it")
    trailing = (1,) * (len(shape) - counts.ndim)
    return np.broadcast_to(counts.reshape(counts.shape + trailing), shape)


def _regression(
    error: Callable[[FloatArray], _Pair],
    prediction: ArrayLike,
    target: ArrayLike,
    mask: ArrayLike | None,
    reduction: str,
) -> tuple[Loss, FloatArray]:
    p, t = _alike(prediction, target, "prediction", "target")
    with np.errstate(invalid="ignore", over="ignore"):
        difference = p - t
    return _evaluate(error, difference, _mask(mask, p.shape), reduction)


def _evaluate(
    error: Callable[[FloatArray], _Pair], x: FloatArray, counts: BoolArray | None, reduction: str
) -> tuple[Loss, FloatArray]:
    """Losses and gradient of the elements that count; the others may hold anything."""
    reduction = as_choice(reduction, "reduction", _REDUCTIONS)
    count = _count(np.True_ if counts is None else counts, reduction, x.size)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        losses, gradient = error(x)
        if counts is not None:  # a product would keep NaN
            losses, gradient = (
                np.where(counts, part, np.float32(0)) for part in (losses, gradient)
            )
        return _reduced(losses, count, reduction), gradient * np.float32(1.0 / count)


def _count(counts: Any, reduction: str, size: int | None = None) -> int:
    """Number of values to average over; 1 where nothing is averaged."""
    if reduction != "mean":
        return 1
    total = int(np.size(counts)) if size is None else size
    count = total if counts is np.True_ else int(np.count_nonzero(counts))
    if count == 0:
        raise ValueError(
            f"there is nothing to average over: {total} targets, all ignored or masked out"
            if total
            else "there is nothing to average over: no targets were given"
        )
    return count


def _reduced(losses: FloatArray, count: int, reduction: str) -> Loss:
    if reduction == "none":
        return losses
    return float(losses.sum(dtype=np.float64)) / count
