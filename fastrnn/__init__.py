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

from fastrnn import _startup
from fastrnn.layers import (
    Attention,
    Dropout,
    Embedding,
    EmbeddingDropout,
    LayerNorm,
    Linear,
    LockedDropout,
    ScalarMix,
    Shortlist,
    WeightDrop,
)
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
    from fastrnn import data, decode, init, losses, models, optim, plot, schedules, train
    from fastrnn._gates import from_gates
    from fastrnn.checkpoint import read_checkpoint
    from fastrnn.decode import Generation, generate, stream_generate
    from fastrnn.files import load, save, save_pytorch

_startup.start()

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Attention",
    "Dropout",
    "Embedding",
    "EmbeddingDropout",
    "GRUCell",
    "Generation",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "LockedDropout",
    "PackedSequence",
    "RNNCell",
    "ScalarMix",
    "Shortlist",
    "Stream",
    "WeightDrop",
    "__version__",
    "data",
    "decode",
    "from_gates",
    "generate",
    "get_num_threads",
    "init",
    "load",
    "losses",
    "models",
    "num_threads",
    "optim",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "plot",
    "read_checkpoint",
    "save",
    "save_pytorch",
    "schedules",
    "set_num_threads",
    "show_config",
    "stream_generate",
    "train",
]

# Where names are from that are imported on first use; None: a module of this package.
_LATER = {
    "Generation": "decode",
    "data": None,
    "decode": None,
    "from_gates": "_gates",
    "generate": "decode",
    "init": None,
    "load": "files",
    "losses": None,
    "models": None,
    "optim": None,
    "plot": None,
    "read_checkpoint": "checkpoint",
    "save": "files",
    "save_pytorch": "files",
    "schedules": None,
    "stream_generate": "decode",
    "train": None,
}


def __getattr__(name: str) -> Any:
    """Models and files are imported on first use."""
    if name not in _LATER:
        raise AttributeError(f"module 'fastrnn' has no attribute {name!r}")
    from importlib import import_module

    owner = _LATER[name]
    module = import_module(f"fastrnn.{owner or name}")
    return module if owner is None else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
