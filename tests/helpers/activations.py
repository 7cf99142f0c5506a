"""The classes of all activations."""

from __future__ import annotations

from fastrnn.nn.activation import Activation
from fastrnn.nn.registry import KINDS

ACTIVATIONS = tuple(kind for kind in KINDS.values() if issubclass(kind, Activation))
