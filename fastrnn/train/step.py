"""One optimiser step, with checks that keep a bad one from changing the parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fastrnn import _core
from fastrnn._arrays import as_number, as_size
from fastrnn._errors import ArgumentError
from fastrnn.optim import clip_grad_norm, clip_grad_value

from .errors import TrainingDiverged, diverged
from .gradient import Total, accumulated, connected, evaluated
from .protocols import Batch, Model, Optimizer, Outcome, Schedule, Source, State, kept_in_place
from .truncation import RandomTruncation

_EXPLODED = 1000.0  # times the first loss


@dataclass(frozen=True)
class StepReport:
    """One optimiser step; `loss` is the mean over `count`, `norm` is before clipping."""

    step: int
    loss: float
    count: int
    correct: int | None
    norm: float
    lr: float


class Stepper:
    """A model and its optimiser, with all that one step depends on and how many there were."""

    def __init__(
        self,
        model: Model,
        optimizer: Optimizer,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        schedule: Schedule | None = None,
        accumulate: int = 1,
        truncation: RandomTruncation | None = None,
        max_loss: float | None = None,
        max_norm: float | None = None,
    ) -> None:
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.clip_norm = _as_limit(clip_norm, "clip_norm")
        self.clip_value = _as_limit(clip_value, "clip_value")
        self.accumulate = as_size(accumulate, "accumulate")
        self.truncation = truncation
        self.max_loss = _as_limit(max_loss, "max_loss")
        self.max_norm = _as_limit(max_norm, "max_norm")
        self.steps = 0
        self.first_loss: float | None = None
        self.last: StepReport | None = None
        if truncation is not None and accumulate > 1:
            raise ArgumentError("accumulate", accumulate, "1: truncation decides what is one step")

    def step_on(self, batches: Iterable[Any], state: State = None) -> tuple[float, State]:
        """As `step`, for the mean over all that counts in several batches, one after another."""
        self.model.zero_grad()
        total = accumulated(self.model, batches, state, self._check_loss)
        if not total.batches:
            raise ValueError("batches is empty, expected at least one batch")
        self._apply(total)
        return total.loss, total.state

    def evaluate(self, source: Source) -> Total:
        """The loss over the rest of the epoch of `source`, all of it if it is new; no dropout.

        The source stays where it is. Gives loss, count, correct (None for regression) and state;
        if nothing counts, loss and count are 0.
        """
        with kept_in_place(source):
            return evaluated(self.model, source.batches())

    def step_from(
        self, batches: Iterator[Any], state: State, per_epoch: int | None
    ) -> Total | None:
        """One step on as many of `batches` as belong to it; None if there are none left.

        If nothing counts in them, there is no step; the state goes on.
        """
        self.model.zero_grad()
        if self.truncation is None:
            group = islice(batches, self.accumulate)
            total = accumulated(self.model, group, state, self._check_loss)
        else:
            cut = self.truncation
            total = connected(
                self.model,
                cut.segment(batches),
                state,
                self._check_loss,
                cut.weight,
                lambda windows: cut.scale(windows, per_epoch),
            )
        if not total.batches:
            return None
        self._apply(total)
        return total

    def _apply(self, total: Total) -> None:
        """Clip and take the step, unless nothing counted (all ignored or masked)."""
        if not total.count:
            return
        lr = self.next_lr()
        norm = self._clip(total.loss, lr)
        self.optimizer.lr = lr
        self.optimizer.step()
        if self.first_loss is None:
            self.first_loss = total.loss
        self.steps += 1
        self.last = StepReport(self.steps, total.loss, total.count, total.correct, norm, lr)

    def next_lr(self) -> float:
        """The learning rate of the next step."""
        lr = self.optimizer.lr if self.schedule is None else self.schedule.lr(self.steps)
        return float(lr)

    def _clip(self, loss: float, lr: float) -> float:
        norm = math.sqrt(_core.squared_norm(self.model.flat_grad))
        if not math.isfinite(norm):
            raise self.diverged("the gradient is not finite", loss, norm, lr)
        if self.max_norm is not None and norm > self.max_norm:
            raise self.diverged(f"the gradient exceeds {self.max_norm:g}", loss, norm, lr)
        if self.clip_norm is not None:
            clip_grad_norm(self.model, self.clip_norm)
        if self.clip_value is not None:
            clip_grad_value(self.model, self.clip_value)
        return norm

    def _check_loss(self, outcome: Outcome, batch: Batch) -> None:
        loss = float(outcome.loss)
        if not math.isfinite(loss):
            problem = "the loss is not finite"
        elif loss > self._loss_limit():
            problem = f"the loss exceeds {self._loss_limit():g}"
        else:
            return
        raise self.diverged(problem, loss, None, self.next_lr(), batch.inputs)

    def _loss_limit(self) -> float:
        if self.max_loss is not None:
            return self.max_loss
        return math.inf if self.first_loss is None else _EXPLODED * max(self.first_loss, 1.0)

    def diverged(
        self, problem: str, loss: float, norm: float | None, lr: float, inputs: Any = None
    ) -> TrainingDiverged:
        """The error of the next step."""
        return diverged(
            problem,
            self.model,
            step=self.steps + 1,
            loss=loss,
            norm=norm,
            lr=lr,
            clip_norm=self.clip_norm,
            inputs=inputs,
        )


def _as_limit(value: object, name: str) -> float | None:
    if value is None:
        return None
    limit = as_number(value, name)
    if not limit > 0:
        wanted = "a number above zero"
        raise ArgumentError(name, value, wanted, f"{name} is {limit:g}, expected {wanted}")
    return limit
