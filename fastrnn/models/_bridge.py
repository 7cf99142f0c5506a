"""From what an encoder ends with to what a decoder starts from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn._arrays import FloatArray
from fastrnn.models._base import Rnn
from fastrnn.models._decoder import tanh, tanh_back
from fastrnn.nn import Linear
from fastrnn.nn.composite import Composite
from fastrnn.nn.module import Module

Vectors = list[FloatArray]  # (N, F): what h is made from and, for an LSTM, what c is made from


class Bridge(Composite):
    """h_0 = tanh(W x + b), and c_0 likewise, for all layers of a decoder at once.

    x (N, F) -> (L, N, R) or, for c, (L, N, H). h and c are made of vectors of their own, or of the
    one there is; a vector too many is not used. Parameters: h.weight (L * R, F) and h.bias, for an
    LSTM also c.*.
    """

    _sources: tuple[int, ...] = (0, 1)  # which vector h is made of, and c

    def __init__(self, widths: tuple[int, ...], decoder: Rnn) -> None:
        """widths: F of each vector."""
        self.num_layers = decoder.num_layers
        names = ("h", "c") if decoder.has_cell else ("h",)
        sizes = (decoder.state_size, decoder.hidden_size)
        self._sources = tuple(min(k, len(widths) - 1) for k in range(len(names)))
        self._maps = {
            name: Linear(widths[source], self.num_layers * size)
            for name, source, size in zip(names, self._sources, sizes, strict=False)
        }
        self._assemble()

    @property
    def _parts(self) -> dict[str, Module]:
        return dict(self._maps)

    def __call__(self, vectors: Vectors) -> Any:
        """h_0, or (h_0, c_0)."""
        maps = zip(self._maps.values(), self._sources, strict=False)
        return as_state([self._layers(tanh(linear(vectors[k]))) for linear, k in maps])

    def vjp(self, vectors: Vectors) -> tuple[Any, Callable[[Any], Vectors]]:
        """The same, and pullback(dstate) -> dvectors."""
        maps = zip(self._maps.values(), self._sources, strict=False)
        pairs = [linear.vjp(vectors[k]) for linear, k in maps]
        flat = [tanh(z) for z, _ in pairs]

        def pullback(dstate: Any) -> Vectors:
            dvectors: list[FloatArray | None] = [None] * len(vectors)
            parts = zip(flat, pairs, self._sources, as_list(dstate), strict=False)
            for y, (_, back), k, dy in parts:
                found = back(tanh_back(y, dy.transpose(1, 0, 2).reshape(y.shape)))
                known = dvectors[k]
                dvectors[k] = found if known is None else known + found
            every = zip(dvectors, vectors, strict=True)
            return [np.zeros_like(x) if dx is None else dx for dx, x in every]

        return as_state([self._layers(y) for y in flat]), pullback

    def _layers(self, flat: FloatArray) -> FloatArray:
        """(N, L * H) as (L, N, H)."""
        return np.ascontiguousarray(flat.reshape(len(flat), self.num_layers, -1).transpose(1, 0, 2))


def as_list(state: Any) -> Vectors:
    """The arrays of a state: h, or h and c."""
    return list(state) if isinstance(state, (tuple, list)) else [state]


def as_state(arrays: Vectors) -> Any:
    """The inverse of `as_list`."""
    return arrays[0] if len(arrays) == 1 else (arrays[0], arrays[1])


def row_vectors(state: Any) -> Vectors:
    """The parts of a state (L * D, N, R), each with all its layers in one vector (N, L * D * R)."""
    return [part.transpose(1, 0, 2).reshape(part.shape[1], -1) for part in as_list(state)]


def from_row_vectors(vectors: Vectors, like: Any) -> Any:
    """The inverse of `row_vectors`, for gradients."""
    return as_state(
        [
            np.ascontiguousarray(
                flat.reshape(part.shape[1], part.shape[0], part.shape[2]).transpose(1, 0, 2)
            )
            for flat, part in zip(vectors, as_list(like), strict=True)
        ]
    )
