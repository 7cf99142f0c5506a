"""Training: one step at a time, or a whole run."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any

from .fit import Fit
from .protocols import OneBatch, Source, State
from .settings import FitResult, Settings
from .step import Stepper


class Trainer(Stepper):
    """Trains `model` with `optimizer`, whose learning rate follows `schedule` if there is one.

    `clip_norm`, `clip_value`: limits of the gradient's norm and of its elements, in this order.
    `accumulate`: batches that `fit` takes for one optimiser step, equal to one batch of them all.
    `truncation`: a RandomTruncation, which decides how many windows are one step instead.
    `max_loss`, `max_norm`: beyond these (by default a loss of 1000 times the first or 1000, and
    any finite norm) a step raises TrainingDiverged, as it does for what is not finite.
    """

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
