"""One long text as batches of windows that follow each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn._arrays import AnyArray, ArrayLike, IntArray, as_choice, as_size
from fastrnn._errors import counted
from fastrnn.data._batch import Batch, Source
from fastrnn.data.sequences import as_tokens


class TextStream(Source):
    """A contiguous stream for language models: inputs and targets (T, N), targets one step ahead.

    `tokens` (S,) ints are laid out as N = `batch_size` rows of equal length side by side, each
    read in windows of T = `steps`; a row starts where the row before it ends. Every batch but the
    first of an epoch carries the state on. The last window of an epoch may be shorter; `dropped`
    tokens at the end of the text, fewer than N, have no place in equal rows.

    `lengths`: "fixed", or "random": a window ends after each step with probability 1 / `steps`,
    drawn anew in every epoch, so that T is geometric with mean `steps` and no step of the text is
    always the first of its window (the cuts of Tallec and Ollivier 2017, without their weights).
    The tokens are held once, as they came: each batch is gathered from views.
    """

    def __init__(
        self,
        tokens: ArrayLike,
        batch_size: int,
        steps: int,
        *,
        lengths: str = "fixed",
        seed: int | None = None,
    ) -> None:
        self.tokens = as_tokens(tokens, "tokens")
        self.batch_size = as_size(batch_size, "batch_size")
        self.steps = as_size(steps, "steps")
        self.lengths = as_choice(lengths, "lengths", ("fixed", "random"))
        self.row_steps = (len(self.tokens) - 1) // self.batch_size
        if self.row_steps < 1:
            raise ValueError(
                f"tokens has {counted(len(self.tokens), 'token')}, {self.batch_size} rows need "
                f"at least {self.batch_size + 1}"
            )
        used = self.batch_size * self.row_steps
        self.dropped = len(self.tokens) - 1 - used
        self._inputs = self.tokens[:used].reshape(self.batch_size, -1)
        self._targets = self.tokens[1 : used + 1].reshape(self.batch_size, -1)
        super().__init__(seed)

    def _describe(self) -> dict[str, Any]:
        sizes = {"tokens": len(self.tokens), "batch_size": self.batch_size}
        return {**sizes, "steps": self.steps, "lengths": self.lengths}

    def _held(self) -> dict[str, list[AnyArray]]:
        return {"tokens": [self.tokens]}

    def _draw(self, generator: np.random.Generator) -> IntArray:
        """The steps at which windows start, and the end of the last one."""
        if self.lengths == "fixed":
            return np.append(np.arange(0, self.row_steps, self.steps), self.row_steps)
        ends = generator.random(self.row_steps - 1) < 1 / self.steps
        return np.concatenate(([0], np.flatnonzero(ends) + 1, [self.row_steps]))

    def _batch(self, plan: IntArray, index: int) -> Batch:
        window = slice(plan[index], plan[index + 1])
        inputs, targets = (
            _time_first(self._inputs[:, window]),
            _time_first(self._targets[:, window]),
        )
        return Batch(inputs, targets, fresh=index == 0)


def _time_first(rows: AnyArray) -> IntArray:
    """(N, T) tokens of any type -> (T, N) int64."""
    return np.ascontiguousarray(rows.T, np.int64)
