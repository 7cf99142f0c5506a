"""The loop of a training, which can be stopped at any moment and continued with the same bits."""

from __future__ import annotations

import glob
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .checkpoint import load_training, save_best, save_training
from .errors import TrainingDiverged
from .fingerprint import beginning
from .gradient import Total, evaluated
from .lock import RunLock
from .protocols import Source, kept_in_place
from .report import Report
from .settings import FitResult, RunState, Settings
from .signals import Interruption
from .step import Stepper

_SAVE_SECONDS = 60.0  # between two checkpoints unless the caller says when


class Fit:
    """The loop of one call of `Trainer.fit`.

    A turn of the loop ends where everything can be saved: after a step, after an epoch, after a
    validation. What is due next follows from the saved state alone, so a resumed run finds it too.
    """

    def __init__(
        self, stepper: Stepper, source: Source, validation: Source | None, settings: Settings
    ) -> None:
        self.stepper, self.source, self.validation = stepper, source, validation
        self.settings = settings
        self.run_state = RunState()
        self.last = settings.file("last.safetensors")
        self.best = settings.file("best.safetensors")
        self.report = Report(settings)
        self.stop = Interruption()
        self._targets: Any = None

    def run(self) -> FitResult:
        try:
            with RunLock(self.last), self.report, self.stop:
                self._begin()
                stopped = self._loop()
                self._save()
                if stopped != "interrupted":
                    self._restore_best()
        except TrainingDiverged as error:
            error.checkpoint = self.last
            raise
        finally:
            self._let_go()
        return self._result(stopped)

    def _let_go(self) -> None:
        """Free the memory that the model keeps for a next step, if it has a `trim`."""
        trim = getattr(self.stepper.model, "trim", None)
        if callable(trim):
            trim()

    def _begin(self) -> None:
        exists = self.last is not None and self.last.exists()
        if exists and not self.settings.resume:
            raise FileExistsError(
                f"{self.last} is an earlier training: go on with it by resume=True, remove it, or "
                f"choose another out"
            )
        if exists and self.last is not None:
            self.run_state = load_training(
                self.last, self.stepper, self.source, self.validation, self.settings.restore_best
            )
            if self.validation is not None and self.run_state.data["validation"] is None:
                self.run_state.data["validation"] = beginning(self.validation)
            self._settle_best()
        else:
            self._start_state()
        if self.settings.on_begin is not None:
            self.settings.on_begin()
        self.report.open(self.run_state)
        self._saved = time.monotonic()
        if not exists:
            self._save()  # an error of writing comes now, not in an hour
        self.report.start(self._steps(), self._total_steps())

    def _start_state(self) -> None:
        run, steps = self.run_state, self.stepper.steps
        run.first_step = run.validated_step = run.epoch_step = steps
        if self.last is not None:
            sources = {"source": self.source, "validation": self.validation}
            run.data = {k: None if s is None else beginning(s) for k, s in sources.items()}

    def _loop(self) -> str:
        """Turn until the training ends; returns the reason."""
        batches = self.source.batches()
        while not self.stop.requested:
            finished = self._finished()
            if self._validation_is_due(finished):
                self._validate()
            elif finished:
                return finished
            elif self.run_state.exhausted:
                self._end_epoch()
                batches = self.source.batches()
            else:
                self._step(batches)
        return "interrupted"

    def _finished(self) -> str | None:
        settings, run = self.settings, self.run_state
        if settings.patience is not None and run.without_gain >= settings.patience:
            return "patience"
        if settings.max_steps is not None and self._steps() >= settings.max_steps:
            return "max_steps"
        if settings.epochs is not None and run.epoch >= settings.epochs:
            return "epochs"
        return None

    def _step(self, batches: Iterator[Any]) -> None:
        """One optimiser step, unless the epoch has no batches left or nothing counts in them."""
        stepper, run = self.stepper, self.run_state
        total = stepper.step_from(self._rest(batches), run.carried, self.source.num_batches)
        if total is None:
            return
        run.carried, run.epoch_batches = total.state, True
        if not total.count:
            return
        run.loss = total.loss
        self.report.step(stepper, total, self._targets)
        self._save_if_due()

    def _rest(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The rest of the epoch, whose end a step may find before or while it asks for a batch."""
        for batch in batches:
            self._targets = batch.targets
            yield batch
        self.run_state.exhausted = True

    def _end_epoch(self) -> None:
        run, steps = self.run_state, self.stepper.steps
        if not run.epoch_batches:
            raise ValueError("source gave no batches in a whole epoch, expected at least one")
        if run.epoch and run.epoch_step == steps and self.settings.epochs is None:
            raise ValueError(  # the first one may have begun anywhere
                "source gave no target that counts in a whole epoch, so max_steps is out of reach"
            )
        if run.validated_step == steps:  # these parameters are validated already
            run.validated_epoch = run.epoch + 1
        run.epoch, run.epoch_step = run.epoch + 1, steps
        run.epoch_batches = run.exhausted = False

    def _validation_is_due(self, finished: str | None) -> bool:
        run, every, steps = self.run_state, self.settings.validate_every, self.stepper.steps
        if self.validation is None or run.validated_step == steps:
            return False
        if finished is not None:
            return True
        if every is None:
            return run.epoch > run.validated_epoch
        return steps // every > run.validated_step // every

    def _validate(self) -> None:
        """The loss on validation data; when interrupted, as if it had not begun."""
        assert self.validation is not None
        with kept_in_place(self.validation):
            batches = self.validation.batches()
            total = evaluated(self.stepper.model, batches, lambda: self.stop.requested)
        if self.stop.requested:
            return
        if not total.count:
            raise ValueError("validation has nothing that counts, expected at least one target")
        self._judge(total)

    def _judge(self, total: Total) -> None:
        stepper, run = self.stepper, self.run_state
        if not math.isfinite(total.loss):
            raise stepper.diverged(
                "the validation loss is not finite", total.loss, None, stepper.next_lr()
            )
        run.validated_step, run.validated_epoch = stepper.steps, run.epoch
        is_best = run.best_loss is None or total.loss < run.best_loss
        run.without_gain = 0 if is_best else run.without_gain + 1
        if is_best:
            run.best_loss, run.best_step = total.loss, stepper.steps
            run.best_flat = stepper.model.flat.copy() if self.settings.restore_best else None
            about = {"step": stepper.steps, "loss": total.loss}
            if self.best is not None:
                save_best(self._best_of(stepper.steps), stepper.model, about)
        self.report.validation(stepper, total, is_best)
        observe = getattr(stepper.schedule, "observe", None)
        if observe is not None:
            observe(total.loss)
        if is_best and self.best is not None:
            self._save()
            self._settle_best()

    def _best_of(self, step: int) -> Path:
        """Place of the best model until a checkpoint knows of it, so that both are of one run.

        A run that is killed in between goes on from before it, perhaps to something else.
        """
        assert self.best is not None
        return self.best.with_name(f".{self.best.name}.{step}")

    def _settle_best(self) -> None:
        """Move the best model that the checkpoint knows of to its place; delete the others."""
        if self.best is None:
            return
        folder, name = self.best.parent, glob.escape(self.best.name)
        known = self._best_of(self.run_state.best_step)
        if self.run_state.best_loss is not None and known.exists():
            os.replace(known, self.best)
        for left in (*folder.glob(f".{name}.[0-9]*"), *folder.glob(f"..{name}.[0-9]*.part")):
            left.unlink()

    def _save_if_due(self) -> None:
        every = self.settings.checkpoint_every
        if every is not None:
            due = self.stepper.steps % every == 0
        else:
            due = time.monotonic() - self._saved > _SAVE_SECONDS
        if due:
            self._save()

    def _save(self) -> None:
        if self.last is not None:
            self.report.sync()
            save_training(self.last, self.stepper, self.source, self.validation, self.run_state)
        self._saved = time.monotonic()

    def _restore_best(self) -> None:
        model, best = self.stepper.model, self.run_state.best_flat
        if self.settings.restore_best and best is not None:
            model.flat[...] = best
            model.repack()

    def _steps(self) -> int:
        """Optimiser steps of this training; the trainer may have made others before it."""
        return self.stepper.steps - self.run_state.first_step

    def _total_steps(self) -> int | None:
        """Steps of the whole training, as far as it can be known."""
        settings, per_epoch = self.settings, self.source.num_batches
        ends = [] if settings.max_steps is None else [settings.max_steps]
        if settings.epochs is not None and per_epoch and self.stepper.truncation is None:
            ends.append(settings.epochs * -(-per_epoch // self.stepper.accumulate))
        return min(ends, default=None)

    def _result(self, stopped: str) -> FitResult:
        run = self.run_state
        return FitResult(
            stopped=stopped,
            steps=self._steps(),
            epochs=run.epoch,
            loss=run.loss,
            best_loss=run.best_loss,
            best_step=run.best_step,
            best=self.best if run.best_loss is not None else None,
            last=self.last,
            history=self.report.path,
            seconds=self.report.seconds(),
        )
