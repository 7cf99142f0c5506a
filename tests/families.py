"""The recurrent layers under test, one entry for every cell and variant."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastrnn

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
LSTMS = [name for name in FAMILIES if name.startswith("lstm")]


def make(family: str, input_size: int, hidden_size: int, *args: Any, **options: Any) -> Any:
    """A layer of the family with reproducible parameters; a projection halves the units."""
    kind, own = FAMILIES[family]
    own = dict(own)
    if "proj_size" in own:
        own["proj_size"] = hidden_size // 2  # no projection for one unit
    layer = kind(input_size, hidden_size, *args, **own, **options)
    layer.reset_parameters(seed=input_size + 1000 * hidden_size)
    return layer


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
