"""What can go wrong in a training, said so that the reader knows what to do."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn._digest import arrays_of

from ._protocols import Model

_SHOWN_NAMES = 5


class ResumeError(ValueError):
    """A training that cannot go on: its file is damaged, in use, or of another training."""


class TrainingDiverged(ArithmeticError):  # noqa: N818
    """The loss or the gradient is not finite or exploded; parameters are as before that step.

    `step`, `loss`, `norm` (None if no gradient was computed), `lr`; `parameters` and `gradients`:
    the names of those that are not finite.
    """

    def __init__(
        self,
        problem: str,
        *,
        step: int,
        loss: float,
        norm: float | None,
        lr: float,
        parameters: list[str],
        gradients: list[str],
        advice: str,
    ) -> None:
        self.step, self.loss, self.norm, self.lr = step, loss, norm, lr
        self.parameters, self.gradients = parameters, gradients
        facts = [f"loss {loss:.6g}", f"learning rate {lr:.3g}"]
        if norm is not None:
            facts.insert(1, f"gradient norm {norm:.6g}")
        facts += _counted("parameters that are not finite", parameters)
        facts += _counted("gradients that are not finite", gradients)
        super().__init__(
            f"training diverged at step {step}: {problem} ({'; '.join(facts)}). "
            f"The parameters are as before this step. {advice}"
        )


def _counted(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return [f"{what}: {', '.join(names[:_SHOWN_NAMES])}{more}"]


def diverged(
    problem: str,
    model: Model,
    *,
    step: int,
    loss: float,
    norm: float | None,
    lr: float,
    clip_norm: float | None,
    inputs: Any = None,
) -> TrainingDiverged:
    """The error with everything that helps to find the cause."""
    parameters = _not_finite(model.parameters)
    return TrainingDiverged(
        problem,
        step=step,
        loss=loss,
        norm=norm,
        lr=lr,
        parameters=parameters,
        gradients=[] if norm is None else _not_finite(model.grads),
        advice=_advice(lr, clip_norm, bool(parameters), inputs),
    )


def _not_finite(tensors: dict[str, Any]) -> list[str]:
    return [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]


def _advice(lr: float, clip_norm: float | None, broken: bool, inputs: Any) -> str:
    if inputs is not None and _holds_no_numbers(inputs):
        return "The inputs of this batch are not finite: look for gaps in the data."
    if broken:
        return "Start again from a checkpoint before it, with a lower learning rate."
    clipping = "clip_norm=1.0" if clip_norm is None else f"clip_norm below {clip_norm:g}"
    return f"Try {clipping}, a learning rate below {lr:.3g}, or a warm-up."


def _holds_no_numbers(inputs: Any) -> bool:
    return any(a.dtype.kind == "f" and not np.isfinite(a).all() for a in arrays_of(inputs))
