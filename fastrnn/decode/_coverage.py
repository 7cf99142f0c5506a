"""The coverage penalty: sequences that leave parts of the source unread score less."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn._arrays import as_float32
from fastrnn._errors import ArgumentError, with_article
from fastrnn.decode._stepper import Stepper


class Coverage:
    """The attention that every row has given to every position of its source, summed over steps.

    The penalty of a row is coverage_penalty * sum over s of log(min(a_s, 1)), a_s being the
    attention that position s got; positions that got none at all are padding.
    Source: Wu et al. 2016, Google's Neural Machine Translation System, section 7.
    """

    def __init__(self, stepper: Stepper, penalty: float) -> None:
        if getattr(stepper.stream, "weights", stepper) is stepper:
            kind = with_article(type(stepper.stream).__name__)
            text = (
                f"coverage_penalty is {penalty}, but {kind} has no attention to cover: expected "
                f"a stream with weights (N, S)"
            )
            raise ArgumentError("coverage_penalty", penalty, "0 without attention", text)
        self.stepper, self.penalty = stepper, penalty
        self.sums: Any = 0.0

    def add(self) -> None:
        """The attention of the step just done."""
        weights = as_float32(self.stepper.stream.weights, "weights")
        self.sums = self.sums + weights.astype(np.float64)

    def reorder(self, rows: list[int]) -> None:
        """Rows in the stream's new order."""
        self.sums = self.sums[rows]

    def missed(self, row: int) -> float:
        """The penalty, 0 or less, of what row `row` has read so far."""
        given = self.sums[row]
        return self.penalty * float(np.log(np.minimum(given[given > 0], 1.0)).sum())
