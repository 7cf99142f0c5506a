"""Learned initial states: where they lie, and how they stand in for a state that is not given.

Letters as in `_recurrent.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._arrays import ArrayLike, as_array
from fastrnn.nn.module import TensorSpec
from fastrnn.nn.packed import checked, is_packed

if TYPE_CHECKING:
    from fastrnn.nn._layer import Recurrent

__all__ = ["for_input", "for_rows", "tensors_of"]


def tensors_of(layer: Recurrent) -> list[TensorSpec]:
    """Where the state lies, behind the weights: h_0 (L * D, R), an LSTM's c_0 (L * D, H)."""
    if not layer.learned_state:
        return []
    start, depth = layer._stack.num_parameters, layer.num_layers * layer.num_directions
    tensors: list[TensorSpec] = [("h_0", (depth, layer.state_size), start)]
    if layer.has_cell:
        tensors.append(("c_0", (depth, layer.hidden_size), start + depth * layer.state_size))
    return tensors


def for_rows(layer: Recurrent, rows: int | None) -> Any:
    """A copy for that many rows, h or (h, c); without their axis for None.

    None where the layer has no learned state, which is how a call says zeros.
    """
    if not layer.learned_state:
        return None
    every = [layer.parameters[name] for name in ("h_0", "c_0")[: 1 + layer.has_cell]]
    if rows is None:
        state = [tensor.copy() for tensor in every]
    else:
        state = [np.repeat(tensor[:, None], rows, axis=1) for tensor in every]
    return tuple(state) if layer.has_cell else state[0]


def for_input(layer: Recurrent, x: ArrayLike) -> Any:
    """The same for the rows of x; None as well for an x that no layer takes."""
    if not layer.learned_state:
        return None
    if is_packed(x):
        return for_rows(layer, int(checked(x).batch_sizes[0]))
    shape = as_array(x, "x").shape
    if len(shape) not in (2, 3):
        return None
    return for_rows(layer, None if len(shape) == 2 else shape[0 if layer.batch_first else 1])
