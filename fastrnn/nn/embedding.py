"""A table of vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastrnn import _core
from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    IntArray,
    as_float32,
    as_int64,
    as_seed,
    as_size,
)
from fastrnn.nn.module import Module, one_after_another
from fastrnn.nn.pullback import adding_to, once
from fastrnn.nn.registry import registered


@registered
class Embedding(Module):
    """A table of vectors: indices (*) ints from 0 to num-1 -> (*, dim).

    Starts as standard normal draws. Source: torch.nn.Embedding.
    """

    _options = ("num", "dim")
    _reads = "tokens"

    def __init__(self, num: int, dim: int) -> None:
        self.num = as_size(num, "num")
        self.dim = as_size(dim, "dim", MAX_SIZE)
        self._allocate(one_after_another([("weight", (self.num, self.dim))]))
        self._fill()

    @property
    def weight(self) -> FloatArray:
        """The table (num, dim), a view."""
        return self.parameters["weight"]

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw all parameters anew."""
        generator = np.random.default_rng(as_seed(seed))
        generator.standard_normal(dtype=np.float32, out=self.weight)
        self.repack()

    def __call__(self, indices: ArrayLike) -> FloatArray:
        """The vectors at `indices`, a copy; an index outside is a ValueError."""
        return _core.take_rows(self.parameters["weight"], indices, "indices")

    def vjp(self, indices: ArrayLike) -> tuple[FloatArray, Callable[[ArrayLike], None]]:
        """The vectors, and a pullback (*, dim) -> None that adds to the rows that were taken."""
        return self._vjp(indices, "indices")

    def _vjp(self, indices: ArrayLike, name: str) -> tuple[FloatArray, Callable[[ArrayLike], None]]:
        """`vjp` of indices that errors call `name`."""
        positions = as_int64(indices, name).copy()  # what is added to is what was taken
        y = _core.take_rows(self.parameters["weight"], positions, name)

        def pullback(dy: ArrayLike) -> None:
            dy = as_float32(dy, "dy")
            check_shape(dy, (*positions.shape, self.dim), "dy")
            with adding_to(self.grads["weight"]):
                _add_rows(self.grads["weight"], positions, dy)

        return y, once(pullback, "an Embedding")


def _add_rows(table: FloatArray, positions: IntArray, rows: FloatArray) -> None:
    """Add every row at its position, last step first, as the recurrent layers' gradients are."""
    steps = len(positions) if positions.ndim else 1
    if positions.size:
        grid = positions.reshape(steps, -1)
        _core.add_rows(grid, rows.reshape(*grid.shape, table.shape[1]), table)


def check_shape(array: FloatArray, shape: tuple[int, ...], name: str) -> None:
    """The gradient of a result has the result's shape."""
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
