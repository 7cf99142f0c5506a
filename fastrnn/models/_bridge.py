"""From what an encoder ends with to what a decoder starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn._arrays import FloatArray
from fastrnn.models._decoder import tanh, tanh_back
from fastrnn.models._parts import layers_of
from fastrnn.nn import Linear
from fastrnn.nn.composite import Composite
from fastrnn.nn.module import Module

Vectors = list[FloatArray]  # (N, F): what h is made from and, if there is a c, what it is made from


class Part(NamedTuple):
    """A part of what recurrent layers carry: h or c of one of them."""

    layer: str  # its name within a network
    kind: int  # 0: h, 1: c
    depth: int  # L * D
    width: int
    directions: int

    @property
    def name(self) -> str:
        """What the map that makes it is called."""
        return ".".join(filter(None, (self.layer, "hc"[self.kind])))


def parts_of(rnn: Any) -> list[Part]:
    """What the recurrent layers of an encoder or a decoder carry, in the order of `as_list`."""
    return [
        Part(name, kind, layer.num_layers * layer.num_directions, width, layer.num_directions)
        for name, layer in layers_of(rnn).items()
        for kind, width in enumerate((layer.state_size, layer.hidden_size)[: 1 + layer.has_cell])
    ]


class Bridge(Composite):
    """h_0 = tanh(W x + b), and c_0 likewise, for all layers of a decoder at once.

    x (N, F) -> (L, N, R) or, for c, (L, N, H). h and c are made of vectors of their own, or of the
    one there is; a vector too many is not used. Parameters: h.weight (L * R, F) and h.bias, for an
    LSTM also c.*; of a decoder of several layers each layer's, behind its name: 0.h.weight, ....
    """

    # In pickles of 0.1 there are neither, but num_layers of the one layer that they are of.
    _sources: Sequence[int] = (0, 1)  # which vector each part of the state is made of
    _states: Sequence[Part] = ()
    num_layers: int

    def __init__(self, widths: tuple[int, ...], decoder: Any) -> None:
        """widths: F of each vector."""
        self._states = parts_of(decoder)
        self._sources = [min(part.kind, len(widths) - 1) for part in self._states]
        self._maps = {
            part.name: Linear(widths[source], part.depth * part.width)
            for part, source in zip(self._states, self._sources, strict=True)
        }
        self._assemble()

    @property
    def _parts(self) -> dict[str, Module]:
        return dict(self._maps)

    def __call__(self, vectors: Vectors) -> Any:
        """h_0, or (h_0, c_0); of several layers by their names."""
        maps = zip(self._maps.values(), self._sources, strict=False)
        return self._state([tanh(linear(vectors[k])) for linear, k in maps])

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

        return self._state(flat), pullback

    def _state(self, flat: Vectors) -> Any:
        """The state of vectors (N, L * H): their layers (L, N, H)."""
        parts = self._states or [
            Part("", kind, self.num_layers, y.shape[1] // self.num_layers, 1)
            for kind, y in enumerate(flat)
        ]
        layers = [
            np.ascontiguousarray(y.reshape(len(y), part.depth, -1).transpose(1, 0, 2))
            for part, y in zip(parts, flat, strict=True)
        ]
        return as_state(layers, parts)


def as_list(state: Any) -> Vectors:
    """The arrays of a state: h, or h and c; of a network those of each layer in turn."""
    if isinstance(state, Mapping):
        return [array for part in state.values() for array in as_list(part)]
    return list(state) if isinstance(state, (tuple, list)) else [state]


def as_state(arrays: Vectors, parts: Sequence[Part]) -> Any:
    """The inverse of `as_list`."""
    by_layer: dict[str, Vectors] = {}
    for part, array in zip(parts, arrays, strict=True):
        by_layer.setdefault(part.layer, []).append(array)
    states = {name: own[0] if len(own) == 1 else tuple(own) for name, own in by_layer.items()}
    return states.get("", states)


def row_vectors(state: Any, parts: list[Part]) -> Vectors:
    """All h of a state, each layer after the other, in one vector (N, F), and likewise all c."""
    flat: list[Vectors] = [[], []]
    for part, array in zip(parts, as_list(state), strict=True):
        flat[part.kind].append(array.transpose(1, 0, 2).reshape(array.shape[1], -1))
    return [own[0] if len(own) == 1 else np.concatenate(own, axis=1) for own in flat if own]


def vector_widths(parts: list[Part]) -> tuple[int, ...]:
    """The widths F of those vectors."""
    sums = [sum(p.depth * p.width for p in parts if p.kind == kind) for kind in (0, 1)]
    return tuple(width for width in sums if width)


def from_row_vectors(vectors: Vectors, parts: list[Part]) -> Any:
    """The inverse of `row_vectors`, for gradients."""
    starts, found = [0, 0], []
    for part in parts:
        end = starts[part.kind] + part.depth * part.width
        own = vectors[part.kind][:, starts[part.kind] : end]
        found.append(own.reshape(len(own), part.depth, part.width).transpose(1, 0, 2).copy())
        starts[part.kind] = end
    return as_state(found, parts)
