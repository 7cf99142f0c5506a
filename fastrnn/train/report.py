"""Reports of a running training: progress for a person, records for a file."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from .gradient import Total
from .history import History
from .progress import described, progress
from .settings import RunState, Settings
from .step import Stepper


class Report:
    """Progress and history of one training; use it with `with`, then `open` it, then `start`."""

    def __init__(self, settings: Settings) -> None:
        records = settings.history if isinstance(settings.history, list) else None
        self.path: Path | None = settings.history_file()
        self._last = settings.file("last.safetensors")
        self._history = History(self.path, records)
        self._progress = progress(settings.progress)
        self._every = settings.log_every

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.close()
        self._history.close()

    def open(self, run: RunState) -> None:
        """Follow `run`; records that its history has behind the checkpoint are taken out."""
        self._run = run
        is_same = bool(run.history_name) and self._name() == run.history_name
        self._history.open(run.history_bytes if is_same else None)
        self._clock = self._began = time.monotonic()
        self._units = run.units

    def start(self, step: int, total: int | None) -> None:
        """Begin the progress at `step`, of `total` steps if that is known."""
        self._progress.start(step, total)

    def step(self, stepper: Stepper, total: Total, targets: Any) -> None:
        """One more optimiser step, whose last batch had these targets."""
        run, last = self._run, stepper.last
        assert last is not None
        run.unit = _counted(total, targets)
        run.units += total.count
        run.since_log[0] += total.loss * total.count
        run.since_log[1] += total.count
        rate = (run.units - self._units) / max(time.monotonic() - self._began, 1e-9)
        facts: dict[str, Any] = {"loss": total.loss, "norm": last.norm, "lr": last.lr}
        facts |= {"rate": rate, "unit": run.unit}
        self._progress.step(stepper.steps - run.first_step, facts)
        if stepper.steps % self._every == 0:
            loss, count = run.since_log
            facts["loss"] = loss / count if count else 0.0
            self._record("train", stepper, facts)
            run.since_log = [0.0, 0.0]

    def validation(self, stepper: Stepper, total: Total, is_best: bool) -> None:
        """One validation."""
        facts: dict[str, Any] = {"loss": total.loss, "unit": self._run.unit}
        if total.correct is not None:
            facts["accuracy"] = total.correct / total.count
        self._record("validation", stepper, {**facts, "best": is_best})
        place = f"epoch {self._run.epoch}  step {stepper.steps}"
        mark = "  (best)" if is_best else ""
        self._progress.say(f"{place}  validation {described(facts)}{mark}")

    def sync(self) -> None:
        """Bring the history to the disk and note its size and the time in the run's state."""
        self._run.seconds, self._clock = self.seconds(), time.monotonic()
        self._run.history_name = self._name()
        self._run.history_bytes = self._history.sync()

    def _name(self) -> str:
        """The history's place as seen from the checkpoint, so that both may move together."""
        last = self._last
        if self.path is None or last is None:
            return ""
        try:
            return os.path.relpath(os.path.abspath(self.path), os.path.abspath(last.parent))
        except ValueError:  # on another drive
            return os.path.abspath(self.path)

    def seconds(self) -> float:
        """Time spent on this training, parts before an interruption included."""
        return self._run.seconds + time.monotonic() - self._clock

    def _record(self, kind: str, stepper: Stepper, facts: dict[str, Any]) -> None:
        place = {"kind": kind, "step": stepper.steps, "epoch": self._run.epoch}
        times = {"units": self._run.units, "seconds": round(self.seconds(), 3)}
        self._history.add({**place, **facts, **times, "time": round(time.time(), 3)})


def _counted(total: Total, targets: Any) -> str:
    """Unit of the loss's count: numbers, tokens (targets with steps) or rows."""
    if total.correct is None:
        return "numbers"
    return "tokens" if np.ndim(targets) >= 2 else "rows"
