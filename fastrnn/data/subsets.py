"""Some of the examples, for training or held out from it."""

from __future__ import annotations

import numpy as np

from fastrnn._arrays import (
    AnyArray,
    ArrayLike,
    IntArray,
    as_int64,
    as_probability,
    as_seed,
    check_indices,
)
from fastrnn._errors import ArgumentError, counted
from fastrnn.data._batch import Batch
from fastrnn.data.examples import Examples, held_by


class Subset:
    """The examples at `rows` (count,) of others, which are not copied."""

    def __init__(self, examples: Examples, rows: ArrayLike) -> None:
        self.examples, self.rows = examples, as_int64(rows, "rows")
        check_indices(self.rows, len(examples.sizes), "rows")

    def __repr__(self) -> str:
        return f"Subset({len(self.rows)} of {self.examples!r})"

    def _held(self) -> dict[str, list[AnyArray]]:
        return {**held_by(self.examples), "rows": [self.rows]}

    @property
    def sizes(self) -> IntArray:
        return self.examples.sizes[self.rows]

    def gather(self, rows: IntArray) -> Batch:
        return self.examples.gather(self.rows[rows])


def hold_out(
    examples: Examples, share: float = 0.1, *, seed: int | None = None
) -> tuple[Subset, Subset]:
    """Examples to train on, and a random `share` (0 to 1, at least one) to validate on."""
    count = len(examples.sizes)
    held = max(1, round(as_probability(share, "share") * count))
    if held >= count:
        text = f"share {share} of {counted(count, 'example')} leaves none to train on"
        raise ArgumentError("share", share, f"less for {counted(count, 'example')}", text)
    order = np.random.default_rng(as_seed(seed)).permutation(count)
    return Subset(examples, np.sort(order[held:])), Subset(examples, np.sort(order[:held]))
