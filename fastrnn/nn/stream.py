"""One step at a time with carried state: the low-latency path."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from fastrnn import _core
from fastrnn._arrays import (
    ArrayLike,
    FloatArray,
    as_float32,
    as_size,
    with_article,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from fastrnn.nn.shortlist import Shortlist

# Snapshot: this header, h and c as little-endian float32, then a checksum of all before it.
_HEADER = struct.Struct("<8sI16sIIII")  # magic, version, fingerprint, layers, rows, R, H (0: no c)
_MAGIC, _VERSION = b"fastrnn\0", 1
_CHECKSUM_BYTES = 16


class Stream(_core.Stream):
    """A running network: `step(x)` takes one time step through all layers and keeps the state.

    x (I,) or (N, I) gives y (R,) or (N, R) with N = batch_size; `step(x, out=y)` writes into y and
    allocates nothing; `reset()` returns to the first state (zeros, or the layer's learned one) with
    all rows. `reorder(indices)` makes row n a copy of what was row indices[n]: rows may be repeated
    and dropped, and `rows`, from 1 to batch_size (`capacity`), is how many `step` expects from then
    on. The stream of a model over tokens reads a prompt by `read(tokens (T, N))`, without outputs.
    A stream keeps the weights the model had when the stream was made, and shares them with the
    model's other streams. One stream belongs to one thread at a time. Made by `layer.stream()`, not
    by hand.
    """

    _fingerprint: bytes
    _layers: int
    _sizes_of_row: tuple[int, int]  # R, H (0: no c)
    _first: list[FloatArray]  # learned h and, for an LSTM, c; empty: zeros

    @classmethod
    def over(
        cls,
        stack: _core.Stack,
        batch_size: int,
        fingerprint: bytes,
        first_state: Sequence[FloatArray] = (),
        *,
        table: _core.Table | None = None,
        head: _core.Dense | None = None,
        embedding: FloatArray | None = None,
        look: _core.Look | None = None,
        shortlist: Shortlist | None = None,
    ) -> Self:
        """A stream through `stack`, with what stands before it (nothing, its table of tokens or
        their embedding (V, I), which is kept) and behind it: attention, a head, a shortlist's head.

        first_state: a learned h (L, R) and an LSTM's c (L, H), which are copied; zeros if empty.
        """
        rows = as_size(batch_size, "batch_size")
        listed = () if shortlist is None else (shortlist.ids, shortlist.out_features)
        stream = cls(stack, rows, table, head, embedding, look, *listed)
        stream._fingerprint = fingerprint
        stream._layers = stack.num_layers
        stream._sizes_of_row = (stack.state_size, stack.hidden_size if stack.has_cell else 0)
        stream._first = [np.repeat(part[:, None], rows, axis=1) for part in first_state]
        if stream._first:
            stream.reset()
        return stream

    def reset(self) -> None:
        """Return to the first state, zeros or what the layer has learned, with all rows."""
        super().reset()
        if self._first:
            self.set_state(*self._first)

    @property
    def _h_shape(self) -> tuple[int, int, int]:
        return self._layers, self.rows, self._sizes_of_row[0]

    @property
    def _c_shape(self) -> tuple[int, int, int] | None:
        size = self._sizes_of_row[1]
        return (self._layers, self.rows, size) if size else None

    @property
    def state(self) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Copies of the state: h (layers, N, R), for an LSTM the pair of it and c (layers, N, H).

        Setting copies as well; with one row, states without the row dimension are taken too.
        """
        h, c = self._read()
        return h if c is None else (h, c)

    @state.setter
    def state(self, value: ArrayLike) -> None:
        if self._c_shape is None:
            if isinstance(value, (tuple, list)):
                raise TypeError("state is a tuple, this stream expects one array h")
            self.set_state(_shaped(value, self._h_shape, "state"), None)
            return
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            kind = with_article(type(value).__name__)
            raise TypeError(f"state is {kind}, this stream expects a pair (h, c)")
        h = _shaped(value[0], self._h_shape, "state[0]")
        self.set_state(h, _shaped(value[1], self._c_shape, "state[1]"))

    def snapshot(self) -> bytes:
        """The state as bytes, marked with the model they belong to."""
        h, c = self._read()
        body = self._header() + h.astype("<f4").tobytes()
        body += b"" if c is None else c.astype("<f4").tobytes()
        return body + _checksum(body)

    def restore(self, snapshot: bytes) -> None:
        """Continue from a snapshot; damaged bytes or another model's are a ValueError."""
        if not isinstance(snapshot, (bytes, bytearray, memoryview)):
            raise TypeError(f"snapshot is {with_article(type(snapshot).__name__)}, expected bytes")
        h_bytes = self._check(bytes(snapshot))
        values = np.frombuffer(snapshot, "<f4", h_bytes // 4, _HEADER.size)
        h = values.astype(np.float32).reshape(self._h_shape)
        c = None
        if self._c_shape is not None:
            size = int(np.prod(self._c_shape))
            values = np.frombuffer(snapshot, "<f4", size, _HEADER.size + h_bytes)
            c = values.astype(np.float32).reshape(self._c_shape)
        self.set_state(h, c)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled, but its state can: pass the "
            f"bytes of snapshot() to restore() of another stream of the same model"
        )

    def _check(self, snapshot: bytes) -> int:
        """Refuse bytes that are not this stream's; returns how many of them hold h."""
        if len(snapshot) < _HEADER.size or not snapshot.startswith(_MAGIC):
            raise ValueError("snapshot does not hold a fastrnn stream")
        version, fingerprint, *sizes = _HEADER.unpack_from(snapshot)[1:]
        if version != _VERSION:
            raise ValueError(f"snapshot has format {version}, this fastrnn reads {_VERSION}")
        if _checksum(snapshot[:-_CHECKSUM_BYTES]) != snapshot[-_CHECKSUM_BYTES:]:
            raise ValueError("snapshot is damaged: its checksum does not fit")
        if fingerprint != self._fingerprint:
            raise ValueError("snapshot was taken from another model or from other weights")
        if sizes != self._sizes():
            raise ValueError(f"snapshot has {sizes[1]} rows, this stream has {self._h_shape[1]}")
        return int(np.prod(self._h_shape)) * 4

    def _read(self) -> tuple[FloatArray, FloatArray | None]:
        h = np.empty(self._h_shape, np.float32)
        c = None if self._c_shape is None else np.empty(self._c_shape, np.float32)
        self.get_state(h, c)
        return h, c

    def _sizes(self) -> list[int]:
        return [*self._h_shape, self._sizes_of_row[1]]

    def _header(self) -> bytes:
        return _HEADER.pack(_MAGIC, _VERSION, self._fingerprint, *self._sizes())


def _checksum(body: bytes) -> bytes:
    from hashlib import blake2b  # loads OpenSSL: not at import

    return blake2b(body, digest_size=_CHECKSUM_BYTES).digest()


def _shaped(value: ArrayLike, shape: tuple[int, ...], name: str) -> FloatArray:
    array = as_float32(value, name)
    if array.shape == (shape[0], shape[2]) and shape[1] == 1:
        array = array.reshape(shape)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, this stream expects {shape}")
    return array
