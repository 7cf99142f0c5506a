"""Streams of models around a layer that has streams of its own."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from fastrnn._arrays import ArrayLike, FloatArray, as_int64, check_indices, with_article
from fastrnn.nn import Embedding, Linear

_FINGERPRINT_BYTES = 16


class LayerStream:
    """A running model: `step(x)` takes x (N, I), or tokens (N,), through embedding, layer and head.

    `step(x, out=y)`, `reset`, `reorder(indices)`, `state`, `snapshot` and `restore` as those of
    `fastrnn.Stream`; the state is that of the layer's own stream. Keeps the weights that the model
    has when the stream is made.
    """

    def __init__(
        self,
        layer: Any,
        batch_size: int,
        fingerprint: bytes,
        embedding: Embedding | None,
        head: Linear,
    ) -> None:
        self._stream = layer.stream(batch_size)
        self._table = None if embedding is None else embedding.weight.copy()
        self._head, self._owner = head._shared_dense(), head
        self._fingerprint = fingerprint
        self._rows, self.capacity = batch_size, batch_size

    @property
    def rows(self) -> int:
        """N, how many rows a step expects."""
        return self._rows

    def step(self, x: ArrayLike, out: FloatArray | None = None) -> FloatArray:
        """Outputs of the model for one step more of every row; written into `out` if given."""
        one = np.ndim(x) == (1 if self._table is None else 0)
        y: FloatArray = self._head.run(self._stream.step(self._inputs(x)), self._owner)
        y = y[0] if one and y.ndim == 2 else y
        if out is None:
            return y
        out[...] = y
        return out

    def _inputs(self, x: ArrayLike) -> Any:
        if self._table is None:
            return x
        tokens = as_int64(x, "tokens")
        check_indices(tokens, len(self._table), "tokens")
        if tokens.shape != (self.rows,) and not (tokens.ndim == 0 and self.rows == 1):
            raise ValueError(f"tokens has shape {tokens.shape}, expected ({self.rows},)")
        return self._table[tokens]

    def reset(self) -> None:
        """Return to the first state with all rows."""
        self._stream.reset()
        self._rows = self.capacity

    def reorder(self, indices: ArrayLike) -> None:
        """Row n becomes a copy of row indices[n]; from 1 to `capacity` of them, the new N."""
        self._stream.reorder(indices)
        self._rows = len(as_int64(indices, "indices"))

    @property
    def state(self) -> Any:
        """Copies of the layer's state; setting copies as well."""
        return self._stream.state

    @state.setter
    def state(self, value: Any) -> None:
        self._stream.state = value

    def snapshot(self) -> bytes:
        """The state as bytes, marked with the model they belong to."""
        inner: bytes = self._stream.snapshot()
        return self._fingerprint + inner

    def restore(self, snapshot: bytes) -> None:
        """Continue from a snapshot; damaged bytes or another model's are a ValueError."""
        if not isinstance(snapshot, (bytes, bytearray, memoryview)):
            raise TypeError(f"snapshot is {with_article(type(snapshot).__name__)}, expected bytes")
        snapshot = bytes(snapshot)
        if snapshot[:_FINGERPRINT_BYTES] != self._fingerprint:
            raise ValueError("snapshot was taken from another model or from other weights")
        self._stream.restore(snapshot[_FINGERPRINT_BYTES:])

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled, but its state can: pass the "
            f"bytes of snapshot() to restore() of another stream of the same model"
        )
