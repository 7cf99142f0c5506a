"""Errors of a training, which tell the reader what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fastrnn._digest import arrays_of

from .protocols import Model

_SHOWN_NAMES = 5


class ResumeError(ValueError):
    """A training that cannot go on: its file is damaged, in use, or of another training.

    `differences`: what is not as in the other training, in short texts; empty for other reasons.
    """

    def __init__(self, *args: object, differences: Iterable[str] = ()) -> None:
        super().__init__(*args)
        self.differences = tuple(differences)


class TrainingDiverged(ArithmeticError):  # noqa: N818
    """The loss or the gradient is not finite or exploded; parameters are as before that step.

    `step`, `loss`, `norm` (None if no gradient was computed), `lr`, `clip_norm` (None for none);
    `parameters` and `gradients`: the names of those that are not finite; `has_wrong_inputs`:
    True if the batch held values that are not finite; `checkpoint`: the last one, None without.
    """

    def __init__(
        self,
        problem: str,
        *,
        step: int,
        loss: float,
        norm: float | None,
        lr: float,
        clip_norm: float | None,
        parameters: list[str],
        gradients: list[str],
        has_wrong_inputs: bool,
    ) -> None:
        super().__init__(problem)
        self.problem, self.step, self.loss, self.norm, self.lr = problem, step, loss, norm, lr
        self.clip_norm, self.has_wrong_inputs = clip_norm, has_wrong_inputs
        self.parameters, self.gradients = parameters, gradients
        self.checkpoint: Path | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (self.problem, vars(self))

    def __str__(self) -> str:
        return self.told("clip_norm=1.0", "clip_norm")

    def told(self, start_clipping: str, clip_norm: str) -> str:
        """The text for readers who ask for clipping by `start_clipping` and call its limit so."""
        facts = [f"loss {self.loss:.6g}", f"learning rate {self.lr:.3g}"]
        if self.norm is not None:
            facts.insert(1, f"gradient norm {self.norm:.6g}")
        facts += _counted("parameters that are not finite", self.parameters)
        facts += _counted("gradients that are not finite", self.gradients)
        if self.clip_norm is not None:
            start_clipping = f"{clip_norm} below {self.clip_norm:g}"
        saved = f" The last checkpoint is {self.checkpoint}." if self.checkpoint else ""
        return (
            f"training diverged at step {self.step}: {self.problem} ({'; '.join(facts)}). "
            f"The parameters are as before this step. {self._advice(start_clipping)}{saved}"
        )

    def _advice(self, clipping: str) -> str:
        if self.has_wrong_inputs:
            return "The inputs of this batch are not finite: look for gaps in the data."
        if self.parameters:
            return "Start again from a checkpoint before it, with a lower learning rate."
        return f"Try {clipping}, a learning rate below {self.lr:.3g}, or a warm-up."


def _remade(problem: str, fields: dict[str, Any]) -> TrainingDiverged:
    error = TrainingDiverged.__new__(TrainingDiverged, problem)
    vars(error).update(fields)
    return error


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
    return TrainingDiverged(
        problem,
        step=step,
        loss=loss,
        norm=norm,
        lr=lr,
        clip_norm=clip_norm,
        parameters=_not_finite(model.parameters),
        gradients=[] if norm is None else _not_finite(model.grads),
        has_wrong_inputs=inputs is not None and _has_wrong_numbers(inputs),
    )


def _not_finite(tensors: dict[str, Any]) -> list[str]:
    return [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]


def _has_wrong_numbers(inputs: Any) -> bool:
    return any(a.dtype.kind == "f" and not np.isfinite(a).all() for a in arrays_of(inputs))
