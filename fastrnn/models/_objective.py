"""From a model's outputs and its targets to a loss, and to its gradient by the outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastrnn import losses
from fastrnn._arrays import (
    MAX_ROWS,
    ArrayLike,
    FloatArray,
    as_array,
    as_float,
    as_float32,
    as_int,
    as_int64,
    as_lengths,
    shown,
    with_article,
)
from fastrnn.losses import LossResult
from fastrnn.nn.pullback import once

Backward = Callable[..., Any]

REGRESSIONS: dict[str, Callable[..., tuple[Any, FloatArray]]] = {
    "mse": losses.mse,
    "mae": losses.mae,
    "huber": losses.huber,
}


def as_smoothing(value: object) -> float:
    """How much of a target's probability is spread over all classes."""
    share = as_float(value)
    if not 0 <= share < 1:
        raise ValueError(f"label_smoothing is {shown(value)}, expected a number from 0 to below 1")
    return share


def as_ignored(value: int | None) -> int | None:
    """The target that does not count, if there is one."""
    return None if value is None else as_int(value, "ignore_index")


def refuse_state(state: object, model: object) -> None:
    """Models that start every sequence anew have no state to carry."""
    if state is not None:
        kind = type(model).__name__
        raise ValueError(f"state is given, but a {kind} starts every sequence from zero")


def classes(
    logits: FloatArray,
    targets: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    gradient: bool = True,
) -> tuple[LossResult, Any]:
    """Cross-entropy over all targets (*) but padded and ignored ones, and dlogits (*, C).

    `lengths` (N,) are for targets (T, N): what is past a row's end is padding. For targets (N,),
    one for a row, those of rows without steps do not count. The gradient takes the memory of the
    logits.
    """
    wanted = as_int64(targets, "targets")
    return losses.classify(
        logits,
        wanted,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        mask=None if lengths is None else _real_steps(lengths, wanted.shape),
        gradient=gradient,
        overwrite=True,
    )


def numbers(
    prediction: FloatArray, targets: ArrayLike, lengths: ArrayLike | None, kind: str
) -> tuple[LossResult, FloatArray]:
    """A regression's loss over all numbers but those of empty rows, and its gradient.

    prediction and targets (K, N, F), lengths (N,) of the inputs.
    """
    wanted = as_float32(targets, "targets")
    if wanted.shape != prediction.shape:
        raise ValueError(f"targets has shape {wanted.shape}, expected {prediction.shape}")
    mask = None
    if lengths is not None:
        mask = np.broadcast_to(filled_rows(lengths, wanted.shape[1]), wanted.shape[:2])
    count = wanted.size if mask is None else int(mask.sum()) * wanted.shape[2]
    if not count:
        return LossResult(0.0, 0, None, None), np.zeros_like(prediction)
    loss, gradient = REGRESSIONS[kind](prediction, wanted, mask=mask)
    return LossResult(loss, count, None, None), gradient


def filled_rows(lengths: ArrayLike, rows: int) -> npt.NDArray[np.bool_]:
    """(N,): whether a row has steps; what has none says nothing, so that its target does not count.

    The lengths (N,) have been checked against the steps before.
    """
    filled: npt.NDArray[np.bool_] = as_lengths(lengths, rows, MAX_ROWS) > 0
    return filled


def has_no_rows(inputs: Any, targets: ArrayLike) -> bool:
    """Whether a batch is empty, so that there is nothing to run."""
    parts = inputs if isinstance(inputs, tuple) else (inputs,)
    return not any(as_array(part, "inputs").size for part in (*parts, targets))


def nothing(
    state: Any = None, *, owner: str, is_regression: bool = False
) -> tuple[LossResult, Backward]:
    """The loss of an empty batch, through which state and gradient go as they are."""

    def backward(scale: float = 1.0, dstate: Any = None) -> Any:
        return dstate

    result = LossResult(0.0, 0, state, None if is_regression else 0)
    return result, once(backward, f"{owner}'s loss")


def scaled(gradient: FloatArray, scale: float) -> FloatArray:
    """The gradient times a number, in place: it is used once."""
    if scale != 1:
        gradient *= np.float32(scale)
    return gradient


def stateless_backward(
    pullback: Callable[[FloatArray], Any], gradient: FloatArray, owner: str
) -> Backward:
    """backward(scale=1.0) of a model without a state to carry."""

    def backward(scale: float = 1.0, dstate: None = None) -> None:
        pullback(scaled(gradient, scale))

    return once(backward, f"{owner}'s loss")


class StatelessLoss:
    """`loss` and `loss_vjp` of a model that starts every sequence from zero.

    They are made of its call, its `vjp`, and its `_objective(outputs, targets, lengths, gradient)`,
    which gives the loss and, unless `gradient` is False, the loss's gradient by the outputs.
    """

    _objective: Callable[..., tuple[LossResult, Any]]
    _is_regression: ClassVar[bool] = False

    def __call__(self, inputs: ArrayLike, lengths: ArrayLike | None = None) -> FloatArray:
        """The outputs, without dropout."""
        raise NotImplementedError

    def vjp(
        self, inputs: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[FloatArray, Callable[[ArrayLike], Any]]:
        """The outputs in training mode, and pullback(doutputs) -> dinputs, None for tokens."""
        raise NotImplementedError

    def loss(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        state: None = None,
        lengths: ArrayLike | None = None,
    ) -> LossResult:
        """The mean loss of `targets` without dropout; their shape is in the class's description."""
        refuse_state(state, self)
        if has_no_rows(inputs, targets):
            return self._nothing()[0]
        return self._objective(self(inputs, lengths), targets, lengths, gradient=False)[0]

    def loss_vjp(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        state: None = None,
        lengths: ArrayLike | None = None,
    ) -> tuple[LossResult, Backward]:
        """The same in training mode, and backward(scale=1.0), which adds to `grads`."""
        refuse_state(state, self)
        if has_no_rows(inputs, targets):
            return self._nothing()
        outputs, pullback = self.vjp(inputs, lengths)
        result, gradient = self._objective(outputs, targets, lengths)
        return result, stateless_backward(pullback, gradient, with_article(type(self).__name__))

    def _nothing(self) -> tuple[LossResult, Backward]:
        owner = with_article(type(self).__name__)
        return nothing(owner=owner, is_regression=self._is_regression)


def _real_steps(lengths: ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """(T, N): whether a step is before its row's end; (N,): whether a row has steps."""
    if len(shape) == 1:
        return filled_rows(lengths, shape[0])
    if len(shape) != 2:
        raise ValueError("lengths needs a batch, expected targets (T, N) or (N,)")
    ends = as_lengths(lengths, shape[1], shape[0])
    real: npt.NDArray[np.bool_] = np.arange(shape[0])[:, None] < ends
    return real
