"""fastrnn: recurrent networks on a CPU, with PyTorch's names and without PyTorch."""

from typing import TYPE_CHECKING, Any

try:
    from fastrnn import _core as _core
except ImportError as error:
    if error.name != "fastrnn":  # the extension is here, but something that it needs is not
        raise
    raise ImportError(
        f"{__path__[0]} is the source tree of fastrnn and its extension is not built there: run "
        f"from another folder, or build it with `pip install -e .` or "
        f"`python setup.py build_ext --inplace`"
    ) from error

from fastrnn import models
from fastrnn.layers import Embedding, Linear
from fastrnn.packed import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
)
from fastrnn.process import get_num_threads, num_threads, set_num_threads, show_config
from fastrnn.rnn import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from fastrnn.streams import Stream

if TYPE_CHECKING:
    from fastrnn import data, decode, losses, optim, schedules
    from fastrnn.checkpoint import read_checkpoint
    from fastrnn.decode import Generation, generate, stream_generate

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Embedding",
    "GRUCell",
    "Generation",
    "LSTMCell",
    "Linear",
    "PackedSequence",
    "RNNCell",
    "Stream",
    "__version__",
    "data",
    "decode",
    "generate",
    "get_num_threads",
    "losses",
    "models",
    "num_threads",
    "optim",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "read_checkpoint",
    "schedules",
    "set_num_threads",
    "show_config",
    "stream_generate",
]


def __getattr__(name: str) -> Any:
    """What reads files or trains is imported on first use."""
    if name == "read_checkpoint":
        from fastrnn.checkpoint import read_checkpoint

        return read_checkpoint
    if name in ("Generation", "generate", "stream_generate"):
        from fastrnn import decode

        return getattr(decode, name)
    if name in ("data", "decode", "losses", "optim", "schedules"):
        from importlib import import_module

        return import_module(f"fastrnn.{name}")
    raise AttributeError(f"module 'fastrnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
