"""The recurrent layers that commands can make: the one list of them on the command line."""

from __future__ import annotations

from fastrnn.models._base import RNNS as LAYERS

__all__ = ["GATES", "LAYERS"]

# Rows of weight_ih for each unit.
GATES = {cell: len(layer(1, 1).state_dict()["weight_ih_l0"]) for cell, layer in LAYERS.items()}
