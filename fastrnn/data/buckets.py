"""Batches of sequences that are about equally long."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastrnn._arrays import AnyArray, IntArray, as_flag, as_size
from fastrnn.data._batch import Batch, Source
from fastrnn.data.examples import Examples, held_by


class _Plan(NamedTuple):
    order: IntArray  # (count,) examples, batch after batch
    bounds: IntArray  # (batches + 1,) starts of the batches in `order`, and its end
    sequence: IntArray  # (batches,) the order in which the batches come


class Buckets(Source):
    """Batches of examples of similar length, so that little is padded; the last may be smaller.

    Give either `batch_size` rows, or `tokens`: as many rows as keep rows times longest row (summed
    over the parts of a pair) within this budget. `shuffle` draws a new order in every epoch; the
    rows of `pool` batches at a time are then sorted by length and the batches are shuffled, so a
    small pool is more random and a large one pads less (1 does not sort). `padding` is the share of
    padded positions in this epoch.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int | None = None,
        *,
        tokens: int | None = None,
        shuffle: bool = True,
        pool: int = 100,
        seed: int | None = None,
    ) -> None:
        if (batch_size is None) == (tokens is None):
            raise ValueError("expected either batch_size or tokens")
        self.examples, self._sizes = examples, examples.sizes
        self.batch_size = None if batch_size is None else as_size(batch_size, "batch_size")
        self.tokens = None if tokens is None else as_size(tokens, "tokens")
        self.shuffle, self.pool = as_flag(shuffle, "shuffle"), as_size(pool, "pool")
        if not len(self._sizes):
            raise ValueError("examples is empty")
        self._positions = self._sizes.sum(axis=1)
        largest = int(self._positions.argmax())
        if self.tokens is not None and self._positions[largest] > self.tokens:
            raise ValueError(
                f"tokens is {self.tokens}, example {largest} alone has {self._positions[largest]}"
            )
        super().__init__(seed)

    @property
    def padding(self) -> float:
        """The share of padded positions among all positions of the current epoch, 0 to 1."""
        plan: _Plan = self._plan
        longest = np.maximum.reduceat(self._sizes[plan.order], plan.bounds[:-1], axis=0)
        positions = longest.sum(axis=1) @ np.diff(plan.bounds)
        return 1 - float(self._positions.sum() / positions)

    def _describe(self) -> dict[str, Any]:
        sizes = {"examples": len(self._sizes), "positions": int(self._positions.sum())}
        settings = {"batch_size": self.batch_size, "tokens": self.tokens, "pool": self.pool}
        return {**sizes, **settings, "shuffle": self.shuffle}

    def _held(self) -> dict[str, list[AnyArray]]:
        return held_by(self.examples)

    def _draw(self, generator: np.random.Generator) -> _Plan:
        count = len(self._sizes)
        order = generator.permutation(count) if self.shuffle else np.arange(count)
        if self.pool > 1:
            pools = np.arange(count) // (self.pool * self._typical_rows())
            # The last key counts most. Stable: equal lengths stay in random order.
            order = order[np.lexsort((*self._sizes[order].T, pools))]
        bounds = self._cut(order)
        batches = len(bounds) - 1
        sequence = generator.permutation(batches) if self.shuffle else np.arange(batches)
        return _Plan(order, bounds, sequence)

    def _typical_rows(self) -> int:
        """Typical number of rows of a batch."""
        if self.batch_size is not None:
            return self.batch_size
        assert self.tokens is not None
        return max(1, int(self.tokens / self._positions.mean()))

    def _cut(self, order: IntArray) -> IntArray:
        """(batches + 1,) starts of the batches in `order`, and its end."""
        count = len(order)
        if self.tokens is None:
            return np.append(np.arange(0, count, self._typical_rows()), count)
        bounds = [0]
        while bounds[-1] < count:  # once for each batch
            bounds.append(bounds[-1] + self._fitting(order[bounds[-1] :], self.tokens))
        return np.array(bounds)

    def _fitting(self, order: IntArray, tokens: int) -> int:
        """Number of the next examples that fit into one batch."""
        some = self._sizes[order[: tokens // self._positions[order[0]]]]
        longest = np.maximum.accumulate(some, axis=0).sum(axis=1)
        return int(np.searchsorted(longest * np.arange(1, len(some) + 1), tokens, side="right"))

    def _count(self, plan: _Plan) -> int:
        return len(plan.sequence)

    def _batch(self, plan: _Plan, index: int) -> Batch:
        at = plan.sequence[index]
        return self.examples.gather(plan.order[plan.bounds[at] : plan.bounds[at + 1]])
