"""One optimiser step at a time, with the checks that keep a bad step out of the parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from os import PathLike
from typing import Any

from fastrnn import _core
from fastrnn._arrays import as_number, as_size
from fastrnn.optim import clip_grad_norm, clip_grad_value

from ._errors import TrainingDiverged, diverged
from ._gradient import Total, accumulated, connected, evaluated
from ._protocols import Batch, Model, OneBatch, Optimizer, Outcome, Schedule, Source, State
from ._run import FitResult, Settings
from ._truncation import RandomTruncation

_EXPLODED = 1000.0  # times the first loss


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did; `loss` is the mean over `count`, `norm` is before clipping."""

    step: int
    loss: float
    count: int
    correct: int | None
    norm: float
    lr: float


class Trainer:
    """Trains `model` with `optimizer`, whose learning rate follows `schedule` if there is one.

    `clip_norm`, `clip_value`: limits of the gradient's norm and of its elements, in this order.
    `accumulate`: batches that `fit` takes for one optimiser step, equal to one batch of them all.
    `truncation`: a RandomTruncation, which decides how many windows are one step instead.
    `max_loss`, `max_norm`: beyond these (by default a loss of 1000 times the first or 1000, and
    any finite norm) a step raises TrainingDiverged, as it does for what is not finite.
    """

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
            raise ValueError(
                f"accumulate is {accumulate}, expected 1: truncation decides what is one step"
            )

    def step(
        self, inputs: Any, targets: Any, state: State = None, lengths: Any = None
    ) -> tuple[float, State]:
        """One optimiser step on one batch; gives its loss and the detached last state.

        Passing the state on to the next step is truncated backpropagation through time. `last`
        holds the norm and the learning rate. A batch in which nothing counts (all targets ignored,
        all lengths 0, no rows) is no step: its loss is 0, and `steps` and `last` stay.
        TrainingDiverged if the loss or the gradient is not finite or explodes; the parameters are
        then as before.
        """
        return self.step_on([OneBatch(inputs, targets, lengths)], state)

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
        where nothing counts, loss and count are 0.
        """
        place = source.state_dict()
        total = evaluated(self.model, source.batches())
        source.load_state_dict(place)
        return total

    def fit(
        self,
        source: Source,
        *,
        validation: Source | None = None,
        epochs: int | None = None,
        max_steps: int | None = None,
        out: str | PathLike[str] | None = None,
        patience: int | None = None,
        validate_every: int | None = None,
        restore_best: bool = False,
        checkpoint_every: int | None = None,
        log_every: int = 10,
        resume: bool = False,
        history: str | PathLike[str] | list[dict[str, Any]] | None = None,
        progress: bool | None = None,
        on_begin: Callable[[], None] | None = None,
    ) -> FitResult:
        """Train until `epochs` or `max_steps` in all are done, or Ctrl-C, which saves and returns.

        `validation`: a source whose loss is taken after every epoch or every `validate_every`
        steps; training stops when `patience` of them in a row were no improvement.
        `restore_best`: give the model the parameters of the lowest validation loss at the end, as
        Keras' restore_best_weights does; the optimiser stays where it is. Until then checkpoints
        hold both, so an interrupted training keeps the last ones, and goes on from them.
        `out`: a folder (there, or written with a / at its end) or the start of file names, for
        last.safetensors (every `checkpoint_every` steps, or once a minute, and with every best),
        best.safetensors (the lowest validation loss) and history.jsonl.
        `resume`: go on from last.safetensors, if there is one, with the bits that the run would
        have had without the interruption. What is given now is used: the optimiser's options, the
        schedule (the same one goes on where it was, another or one with other arguments starts
        from them), limits, ends, `patience`, and what is written when. What the saved state was
        made with must be the same: the model and its loss, the optimiser's kind and vectors,
        `accumulate`, truncation, batches and their data (all of it, or a sample from everywhere in
        more than 2**26 values), and seeds that are given; else a ResumeError names it.
        `history`: another file for the JSON lines, or a list for their objects, one every
        `log_every` steps and one per validation. `progress`: False for none; by default a bar on
        a terminal, lines elsewhere, on the standard error stream. `on_begin`: called when it is
        certain that the training begins or goes on, before anything is written.
        Batches in which nothing counts are no steps; the state is carried over them. At the end the
        model's memory for further steps is let go of (`trim`).
        ResumeError if the checkpoint is damaged or of another training, or if another training
        writes to `out` at this moment; FileExistsError if `out` holds a training and `resume` is
        not asked for.
        """
        from ._fit import Fit

        settings = Settings(
            epochs=epochs,
            max_steps=max_steps,
            out=out,
            patience=patience,
            validate_every=validate_every,
            restore_best=restore_best,
            checkpoint_every=checkpoint_every,
            log_every=log_every,
            resume=resume,
            history=history,
            progress=progress,
            on_begin=on_begin,
        )
        settings.check(validation is not None)
        return Fit(self, source, validation, settings).run()

    def _step_from(self, batches: Any, state: State, per_epoch: int | None) -> Total | None:
        """One step on as many of `batches` as belong to it; None if there are none left.

        Where nothing counts in them, there is no step; the state goes on.
        """
        from itertools import islice

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
        lr = self._next_lr()
        norm = self._clip(total.loss, lr)
        self.optimizer.lr = lr
        self.optimizer.step()
        if self.first_loss is None:
            self.first_loss = total.loss
        self.steps += 1
        self.last = StepReport(self.steps, total.loss, total.count, total.correct, norm, lr)

    def _next_lr(self) -> float:
        lr = self.optimizer.lr if self.schedule is None else self.schedule.lr(self.steps)
        return float(lr)

    def _clip(self, loss: float, lr: float) -> float:
        norm = math.sqrt(_core.squared_norm(self.model.flat_grad))
        if not math.isfinite(norm):
            raise self._diverged("the gradient is not finite", loss, norm, lr)
        if self.max_norm is not None and norm > self.max_norm:
            raise self._diverged(f"the gradient exceeds {self.max_norm:g}", loss, norm, lr)
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
        raise self._diverged(problem, loss, None, self._next_lr(), batch.inputs)

    def _loss_limit(self) -> float:
        if self.max_loss is not None:
            return self.max_loss
        return math.inf if self.first_loss is None else _EXPLODED * max(self.first_loss, 1.0)

    def _diverged(
        self, problem: str, loss: float, norm: float | None, lr: float, inputs: Any = None
    ) -> TrainingDiverged:
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
        raise ValueError(f"{name} is {limit:g}, expected a number above zero")
    return limit
