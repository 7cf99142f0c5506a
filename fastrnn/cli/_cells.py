"""The recurrent layers that commands can make: the one list of them on the command line."""

from __future__ import annotations

from fastrnn import _core
from fastrnn.models._base import RNNS as LAYERS
from fastrnn.models._base import Rnn

__all__ = ["GATES", "LAYERS", "Rnn"]

GATES = {family.lower(): gates for family, gates in _core.families().items()}
