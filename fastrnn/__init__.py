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

from fastrnn import _renamed, _startup
from fastrnn.config import get_num_threads, num_threads, set_num_threads, show_config
from fastrnn.nn import (
    ELU,
    GELU,
    GRU,
    LSTM,
    RNN,
    SELU,
    Abs,
    Add,
    Attention,
    Clip,
    Concatenate,
    Conv1d,
    Dropout,
    Embedding,
    EmbeddingDropout,
    Exp,
    Flip,
    Graph,
    GRUCell,
    HardSigmoid,
    Hardswish,
    Hardtanh,
    LayerNorm,
    LeakyReLU,
    Linear,
    LockedDropout,
    Log,
    LogSigmoid,
    LogSoftmax,
    LSTMCell,
    Magnitude,
    Mish,
    Multiply,
    PackedSequence,
    Pooling,
    PReLU,
    ReLU,
    Reshape,
    Residual,
    RNNCell,
    ScalarMix,
    ScaleShift,
    Select,
    Sequential,
    Shortlist,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Sqrt,
    Square,
    Stream,
    Tanh,
    WeightDrop,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    registry,
)

if TYPE_CHECKING:
    from fastrnn import data, decode, losses, models, nn, optim, plot, train
    from fastrnn.decode import Generation, generate, stream_generate
    from fastrnn.formats import read_checkpoint
    from fastrnn.io import load, save, save_pytorch
    from fastrnn.nn import init
    from fastrnn.nn.gates import from_gates
    from fastrnn.optim import schedules


def _save(module: Any, path: Any) -> None:
    from fastrnn.io import save

    save(module, path)


registry.write_with(_save)
_renamed.install()
_startup.start()

__version__ = "0.1.0"

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "SELU",
    "Abs",
    "Add",
    "Attention",
    "Clip",
    "Concatenate",
    "Conv1d",
    "Dropout",
    "Embedding",
    "EmbeddingDropout",
    "Exp",
    "Flip",
    "GRUCell",
    "Generation",
    "Graph",
    "HardSigmoid",
    "Hardswish",
    "Hardtanh",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LockedDropout",
    "Log",
    "LogSigmoid",
    "LogSoftmax",
    "Magnitude",
    "Mish",
    "Multiply",
    "PReLU",
    "PackedSequence",
    "Pooling",
    "RNNCell",
    "ReLU",
    "Reshape",
    "Residual",
    "ScalarMix",
    "ScaleShift",
    "Select",
    "Sequential",
    "Shortlist",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Square",
    "Stream",
    "Tanh",
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
    "nn",
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

# Where names are from that are imported on first use.
_LATER = {
    "Generation": "decode",
    "data": "",
    "decode": "",
    "from_gates": "nn.gates",
    "generate": "decode",
    "init": "nn",
    "load": "io",
    "losses": "",
    "models": "",
    "optim": "",
    "plot": "",
    "read_checkpoint": "formats",
    "save": "io",
    "save_pytorch": "io",
    "schedules": "optim",
    "stream_generate": "decode",
    "train": "",
}


def __getattr__(name: str) -> Any:
    """Import models, files and training on first use."""
    if name not in _LATER:
        raise AttributeError(f"module 'fastrnn' has no attribute {name!r}")
    from importlib import import_module

    owner = f"fastrnn.{_LATER[name]}".rstrip(".")
    if name in ("init", "schedules") or owner == "fastrnn":
        return import_module(f"{owner}.{name}")
    return getattr(import_module(owner), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
