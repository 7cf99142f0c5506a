"""From what an encoder ends with to what a decoder starts from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn._arrays import FloatArray
from fastrnn.models._decoder import tanh, tanh_back
from fastrnn.nn import Linear
from fastrnn.nn.composite import Composite
from fastrnn.nn.module import Module
from fastrnn.nn.recurrent import GRU, LSTM, RNN

Vectors = list[FloatArray]  # (N, F): what h is made from and, for an LSTM, what c is made from


class Bridge(Composite):
    """h_0 = tanh(W x + b), and c_0 likewise, for all layers of a decoder at once.

    x (N, F) -> (L, N, H). Parameters: h.weight (L * H, F) and h.bias, for an LSTM also c.*.
    """

    def __init__(self, features: int, decoder: RNN | LSTM | GRU) -> None:
        self.num_layers, self.state_size = decoder.num_layers, decoder.state_size
        names = ("h", "c") if decoder.has_cell else ("h",)
        width = decoder.num_layers * decoder.state_size
        self._maps = {name: Linear(features, width) for name in names}
        self._assemble()

    @property
    def _parts(self) -> dict[str, Module]:
        return dict(self._maps)

    def __call__(self, vectors: Vectors) -> Any:
        """h_0, or (h_0, c_0), each (L, N, H), made from one of the vectors each."""
        maps = zip(self._maps.values(), vectors, strict=True)
        return as_state([self._layers(tanh(linear(x))) for linear, x in maps])

    def vjp(self, vectors: Vectors) -> tuple[Any, Callable[[Any], Vectors]]:
        """The same, and pullback(dstate) -> dvectors."""
        pairs = [m.vjp(x) for m, x in zip(self._maps.values(), vectors, strict=True)]
        flat = [tanh(z) for z, _ in pairs]

        def pullback(dstate: Any) -> Vectors:
            found = []
            for y, (_, back), dy in zip(flat, pairs, as_list(dstate), strict=True):
                found.append(back(tanh_back(y, dy.transpose(1, 0, 2).reshape(y.shape))))
            return found

        return as_state([self._layers(y) for y in flat]), pullback

    def _layers(self, flat: FloatArray) -> FloatArray:
        """(N, L * H) as (L, N, H)."""
        shape = len(flat), self.num_layers, self.state_size
        return np.ascontiguousarray(flat.reshape(shape).transpose(1, 0, 2))


def as_list(state: Any) -> Vectors:
    """The arrays of a state: h, or h and c."""
    return list(state) if isinstance(state, (tuple, list)) else [state]


def as_state(arrays: Vectors) -> Any:
    """The way back of `as_list`."""
    return arrays[0] if len(arrays) == 1 else (arrays[0], arrays[1])


def row_vectors(state: Any) -> Vectors:
    """The parts of a state (L * D, N, R), each with all its layers in one vector (N, L * D * R)."""
    return [part.transpose(1, 0, 2).reshape(part.shape[1], -1) for part in as_list(state)]


def from_row_vectors(vectors: Vectors, like: Any) -> Any:
    """The way back of `row_vectors`, for gradients."""
    return as_state(
        [
            np.ascontiguousarray(
                flat.reshape(part.shape[1], part.shape[0], part.shape[2]).transpose(1, 0, 2)
            )
            for flat, part in zip(vectors, as_list(like), strict=True)
        ]
    )
