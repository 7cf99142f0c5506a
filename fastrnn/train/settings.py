"""Settings, state and result of a training."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from fastrnn._arrays import AnyArray, as_flag, as_size, with_article

from .protocols import State


class FitResult(NamedTuple):
    """The end of a training.

    `stopped`: "epochs", "max_steps", "patience" or "interrupted". `loss` is that of the last step,
    `best_loss` the lowest validation loss (None without validation), of `best_step`. `best`,
    `last`, `history`: the files, None where there are none. `seconds`: earlier parts included.
    """

    stopped: str
    steps: int
    epochs: int
    loss: float
    best_loss: float | None
    best_step: int
    best: Path | None
    last: Path | None
    history: Path | None
    seconds: float


@dataclass
class Settings:
    """The arguments of `Trainer.fit`, described there."""

    epochs: int | None
    max_steps: int | None
    out: str | os.PathLike[str] | None
    patience: int | None
    validate_every: int | None
    restore_best: bool
    checkpoint_every: int | None
    log_every: int
    resume: bool
    history: str | os.PathLike[str] | list[dict[str, Any]] | None
    progress: bool | None
    on_begin: Callable[[], None] | None

    def check(self, has_validation: bool) -> None:
        """TypeError or ValueError for arguments that cannot be meant."""
        for name in ("epochs", "max_steps", "patience", "validate_every", "checkpoint_every"):
            if getattr(self, name) is not None:
                as_size(getattr(self, name), name)
        as_size(self.log_every, "log_every")
        as_flag(self.restore_best, "restore_best")
        as_flag(self.resume, "resume")
        if self.epochs is None and self.max_steps is None:
            raise ValueError("epochs and max_steps are both None, expected an end of the training")
        for name in ("patience", "validate_every", "restore_best"):
            if getattr(self, name) not in (None, False) and not has_validation:
                raise ValueError(f"{name} needs validation, expected a source of batches for it")
        if self.on_begin is not None and not callable(self.on_begin):
            kind = with_article(type(self.on_begin).__name__)
            raise TypeError(f"on_begin is {kind}, expected a function without arguments")
        if self.resume and self.out is None:
            raise ValueError("resume needs out, expected where the training was saved")

    def file(self, name: str) -> Path | None:
        """The file of this name in the folder `out`, or with `out` before its name."""
        if self.out is None:
            return None
        text = os.fspath(self.out)
        separators = (os.sep, os.altsep) if os.altsep else (os.sep,)
        if text.endswith(separators) or os.path.isdir(text):
            return Path(text) / name
        return Path(f"{text}.{name}")

    def history_file(self) -> Path | None:
        """File of the JSON lines; None for a list or without one."""
        if isinstance(self.history, list):
            return None
        return self.file("history.jsonl") if self.history is None else Path(self.history)


@dataclass
class RunState:
    """State of a training beside model, optimiser and data; all of it is in a checkpoint."""

    first_step: int = 0  # steps of the trainer when it began
    epoch: int = 0
    epoch_batches: bool = False  # True once the epoch has given a batch
    epoch_step: int = 0  # steps of the trainer when it began
    exhausted: bool = False  # True once the source is in the next epoch
    unit: str = "rows"  # of the loss's count: tokens, rows or numbers
    units: int = 0  # of them trained on
    seconds: float = 0.0
    loss: float = 0.0
    validated_step: int = 0
    validated_epoch: int = 0
    best_loss: float | None = None
    best_step: int = 0
    best_flat: AnyArray | None = None  # the model's parameters then, if they are to be restored
    without_gain: int = 0  # validations since the best one
    history_name: str = ""
    history_bytes: int = 0
    since_log: list[float] = field(default_factory=lambda: [0.0, 0.0])  # sum of losses, count
    carried: State = None  # of the recurrent layers
    data: dict[str, Any] = field(default_factory=dict)  # first positions and fingerprints
