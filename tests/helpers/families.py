"""The recurrent layers under test, one entry for every cell and variant."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

import fastrnn
from fastrnn import _core

FAMILIES: dict[str, tuple[type, dict[str, Any]]] = {
    "rnn_tanh": (fastrnn.RNN, {}),
    "rnn_relu": (fastrnn.RNN, {"nonlinearity": "relu"}),
    "rnn_sigmoid": (fastrnn.RNN, {"nonlinearity": "sigmoid"}),
    "rnn_identity": (fastrnn.RNN, {"nonlinearity": "identity"}),
    "lstm": (fastrnn.LSTM, {}),
    "lstm_peephole": (fastrnn.LSTM, {"peephole": True}),
    "lstm_projected": (fastrnn.LSTM, {"proj_size": -1}),
    "lstm_peephole_projected": (fastrnn.LSTM, {"proj_size": -1, "peephole": True}),
    "gru": (fastrnn.GRU, {}),
    "gru_reset_before": (fastrnn.GRU, {"reset": "before"}),
}
# A cell whose layer has no options to choose it by is there as well.
FAMILIES |= {
    cell.name: (getattr(fastrnn, cell.family), {})
    for cell in _core.cells()
    if cell.name not in FAMILIES
}
LSTMS = [name for name in FAMILIES if name.startswith("lstm")]
# Inputs and units of layers, by the chains of a sum: four (few units), two, one. tests/c has them
# around every width of a vector and a block.
SIZES = [(3, 5), (5, 64), (33, 130)]


def make(family: str, input_size: int, hidden_size: int, *args: Any, **options: Any) -> Any:
    """A layer of the family with reproducible parameters; a projection halves the units."""
    kind, own = FAMILIES[family]
    own = dict(own)
    if "proj_size" in own:
        own["proj_size"] = hidden_size // 2  # no projection for one unit
    layer = kind(input_size, hidden_size, *args, **own, **options)
    layer.reset_parameters(seed=input_size + 1000 * hidden_size)
    return layer


def of_ones(family: str, x: float) -> float:
    """First output of one unit of the family on x, all weights being 1."""
    layer = make(family, 1, 1 if "projected" not in family else 2)
    for name, parameter in layer.parameters.items():
        parameter.fill(float("weight" in name))
    layer.repack()
    return float(np.abs(call(layer, np.full((1, 1, 1), x, np.float32))[0]).max())


def is_bounded(family: str) -> bool:
    """True if no input makes an output large."""
    layer = make(family, 1, 64)
    return bool(np.abs(call(layer, np.full((1, 1, 1), 1e6, np.float32))[0]).max() < 10)


def has_dead_units(family: str) -> bool:
    """True if a unit can be where nothing passes, as that of a ReLU."""
    return of_ones(family, -3.0) == of_ones(family, -4.0)


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Standard normal float32 numbers."""
    return rng.standard_normal(shape, dtype=np.float32)


def call(layer: Any, x: Any, h: Any = None, c: Any = None, lengths: Any = None) -> Any:
    """The layer's y, h_n and c_n (None without a cell state), whatever the family."""
    if not layer.has_cell:
        y, h_n = layer(x, h, lengths=lengths)
        return y, h_n, None
    y, (h_n, c_n) = layer(x, None if h is None else (h, c), lengths=lengths)
    return y, h_n, c_n


def states(rng: np.random.Generator, layer: Any, rows: int) -> tuple[Any, Any]:
    """Random initial states; c is None where the layer has none."""
    depth = layer.num_layers * layer.num_directions
    h = normal(rng, depth, rows, layer.state_size)
    return h, normal(rng, depth, rows, layer.hidden_size) if layer.has_cell else None


def of_one(layer: Any, h: Any, c: Any) -> Any:
    """The layer's state argument from h and c: h, the pair, or None."""
    return (h, c) if layer.has_cell and h is not None else h


def vjp(layer: Any, x: Any, h: Any = None, c: Any = None, lengths: Any = None) -> tuple[Any, Any]:
    """y, h_n and c_n as from `call`, and a pullback dy, dh_n, dc_n -> dx, dh_0, dc_0."""
    (y, last), back = layer.vjp(x, of_one(layer, h, c), lengths=lengths)

    def pullback(dy: Any = None, dh: Any = None, dc: Any = None) -> Any:
        dx, dstate = back(dy, of_one(layer, dh, dc))
        return (dx, *dstate) if layer.has_cell else (dx, dstate, None)

    return (y, *last) if layer.has_cell else (y, last, None), pullback


def outer(rng: np.random.Generator, layer: Any, steps: int, rows: int) -> tuple[Any, Any, Any]:
    """Random gradients dy (T, N, *), dh_n and dc_n to start a pullback from."""
    return normal(rng, steps, rows, layer.output_size), *states(rng, layer, rows)


def rows_of(results: Any, rows: Any) -> list[Any]:
    """The part of some (T or layers, N, *) arrays that belongs to some rows."""
    return [None if part is None else np.ascontiguousarray(part[:, rows]) for part in results]


def same_bits(got: Any, wanted: Any) -> bool:
    """All arrays have the same bits; None stands for a state the family does not have."""
    pairs = [(a, b) for a, b in zip(got, wanted, strict=True) if a is not None or b is not None]
    return all(np.array_equal(a.view(np.uint32), b.view(np.uint32)) for a, b in pairs)


# The kernels that a processor of this kind can have; whether this one has them is another matter.
OWN_ISAS = ["neon"] if platform.machine() in ("aarch64", "arm64") else ["base", "avx2", "avx512"]
