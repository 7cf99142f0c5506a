"""One step at a time with carried state: the low-latency path."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

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


# Snapshot: this header, the state's parts as little-endian float32, then a checksum of all before
# it. Its sizes are layers, rows, R and H (0: no c) of recurrent layers; of a whole network parts,
# rows and floats of a row.
_HEADER = struct.Struct("<8sI16sIIII")  # magic, version, fingerprint, sizes
_MAGIC, _VERSION = b"fastrnn\0", 1
_CHECKSUM_BYTES = 16

Operation = tuple[str, tuple[int, ...], dict[str, Any]]  # kind, places, options: see _core.Network
Part = tuple[int, int]  # an operation of the network, and which part of what it carries


class Stream(_core.Stream):
    """A running network: `step(x)` takes one time step through all layers and keeps the state.

    x (I,) or (N, I) gives y (R,) or (N, R) with N = batch_size; `step(x, out=y)` writes into y and
    allocates nothing; `bind(x, y)` gives a callable that does that with the same two arrays for
    good, in less time beside the kernels; `reset()` returns to the first state (zeros, or the
    layer's learned one) with all rows. `reorder(indices)` makes row n a copy of what was row
    indices[n]: rows may be repeated and dropped, and `rows`, from 1 to batch_size (`capacity`), is
    how many `step` expects from then on. The stream of a model over tokens reads a prompt by
    `read(tokens (T, N), lengths (N,) or None)`, as a whole sequence without outputs. A stream keeps
    the weights the model had when the stream was made, and shares them with the model's other
    streams. One stream belongs to one thread at a time. Made by `layer.stream()`, not by hand.
    """

    _fingerprint: bytes
    _parts: list[Part]

    @classmethod
    def over(
        cls, network: _core.Network, batch_size: int, fingerprint: bytes, parts: list[Part]
    ) -> Self:
        """A stream through `network`, whose state is made of `parts`."""
        stream = cls(network, as_size(batch_size, "batch_size"))
        stream._fingerprint, stream._parts = fingerprint, parts
        return stream

    @property
    def _shapes(self) -> list[tuple[int, int, int]]:
        """(states, N, width) of every part."""
        sizes = [self.network.part_of(*part) for part in self._parts]
        return [(size[0], self.rows, size[1]) for size in sizes if size is not None]

    @property
    def state(self) -> Any:
        """Copies of the state: h (layers, N, R), for an LSTM the pair of it and c (layers, N, H).

        Setting copies as well; with one row, states without the row dimension are taken too.
        """
        return as_state(self._read())

    @state.setter
    def state(self, value: ArrayLike) -> None:
        self._write(state_arrays(value, self._shapes, "state"))

    def snapshot(self) -> bytes:
        """The state as bytes, marked with the model they belong to."""
        body = self._header() + b"".join(part.astype("<f4").tobytes() for part in self._read())
        return body + _checksum(body)

    def restore(self, snapshot: bytes) -> None:
        """Continue from a snapshot; damaged bytes or another model's are a ValueError."""
        if not isinstance(snapshot, (bytes, bytearray, memoryview)):
            raise TypeError(f"snapshot is {with_article(type(snapshot).__name__)}, expected bytes")
        self._check(bytes(snapshot))
        start, parts = _HEADER.size, []
        for shape in self._shapes:
            values = np.frombuffer(snapshot, "<f4", math.prod(shape), start)
            parts.append(values.astype(np.float32).reshape(shape))
            start += values.nbytes
        self._write(parts)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled, but its state can: pass the "
            f"bytes of snapshot() to restore() of another stream of the same model"
        )

    def _check(self, snapshot: bytes) -> None:
        """Refuse bytes that are not this stream's."""
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
            raise ValueError(f"snapshot has {sizes[1]} rows, this stream has {self.rows}")

    def _read(self) -> list[FloatArray]:
        return [self.read_part(*part) for part in self._parts]

    def _write(self, parts: list[FloatArray]) -> None:
        self.write_parts([(*at, part) for at, part in zip(self._parts, parts, strict=True)])

    def _sizes(self) -> list[int]:
        """Sizes of the parts that a snapshot holds."""
        (layers, rows, width), *others = self._shapes
        return [layers, rows, width, others[0][2] if others else 0]

    def _header(self) -> bytes:
        return _HEADER.pack(_MAGIC, _VERSION, self._fingerprint, *self._sizes())


def _checksum(body: bytes) -> bytes:
    from hashlib import blake2b  # loads OpenSSL: not at import

    return blake2b(body, digest_size=_CHECKSUM_BYTES).digest()


def stack_operation(
    stack: _core.Stack, place: int, first_state: Sequence[FloatArray] = (), **options: Any
) -> Operation:
    """A stack as an operation of a network, on the value of operation `place`.

    first_state: a learned h (L, R) and an LSTM's c (L, H), which are copied; zeros if empty.
    """
    first = {name: part.copy() for name, part in zip(("h0", "c0"), first_state, strict=False)}
    return "recurrent", (place,), {"weights": stack, **first, **options}


def stack_stream(
    stack: _core.Stack,
    batch_size: int,
    fingerprint: bytes,
    first_state: Sequence[FloatArray] = (),
) -> Stream:
    """A stream through a stack alone, whose state is h or, if there is a c, the pair of both."""
    operations: list[Operation] = [
        ("input", (), {"channels": stack.input_size}),
        stack_operation(stack, 0, first_state),
    ]
    network = _core.Network(stack.kind, operations, [1])
    parts = [(1, part) for part in range(1 + stack.has_cell)]
    return Stream.over(network, batch_size, fingerprint, parts)


def as_state(parts: list[FloatArray]) -> Any:
    """One part alone, several as a tuple."""
    return parts[0] if len(parts) == 1 else tuple(parts)


def state_arrays(value: Any, shapes: list[tuple[int, int, int]], name: str) -> list[FloatArray]:
    """The parts of a state (h, or h and c) as arrays of these shapes, copies."""
    if len(shapes) == 1:
        if isinstance(value, (tuple, list)):
            raise TypeError(f"{name} is a tuple, this stream expects one array h")
        return [_shaped(value, shapes[0], name)]
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        kind = with_article(type(value).__name__)
        raise TypeError(f"{name} is {kind}, this stream expects a pair (h, c)")
    return [
        _shaped(v, shape, f"{name}[{i}]")
        for i, (v, shape) in enumerate(zip(value, shapes, strict=True))
    ]


def _shaped(value: ArrayLike, shape: tuple[int, ...], name: str) -> FloatArray:
    array = as_float32(value, name)
    if array.shape == (shape[0], shape[2]) and shape[1] == 1:
        array = array.reshape(shape)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, this stream expects {shape}")
    return array
