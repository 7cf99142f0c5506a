"""Modules that networks are made of: recurrent layers, what stands around them, regularisers.

`y = module(x)` is inference. `y, pullback = module.vjp(x)` is training: the same y with dropout on,
and `dx = pullback(dy)`, called once, which adds the parameters' gradients to `module.grads`.
"""

from fastrnn.nn.activation import (
    ELU,
    GELU,
    SELU,
    Abs,
    Clip,
    Exp,
    HardSigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    Log,
    LogSigmoid,
    LogSoftmax,
    Magnitude,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Sqrt,
    Square,
    Tanh,
)
from fastrnn.nn.attention import Attention
from fastrnn.nn.conv import Conv1d
from fastrnn.nn.dropout import Dropout, EmbeddingDropout, LockedDropout
from fastrnn.nn.elementwise import PReLU, ScaleShift
from fastrnn.nn.embedding import Embedding
from fastrnn.nn.graph import Graph
from fastrnn.nn.joins import Add, Concatenate, Multiply, Reshape, Select
from fastrnn.nn.linear import Linear
from fastrnn.nn.norm import LayerNorm
from fastrnn.nn.packed import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
)
from fastrnn.nn.pooling import Flip, Pooling
from fastrnn.nn.recurrent import GRU, LSTM, RNN, GRUCell, LiGRU, LSTMCell, RNNCell
from fastrnn.nn.scalar_mix import ScalarMix
from fastrnn.nn.sequential import Residual, Sequential
from fastrnn.nn.shortlist import Shortlist
from fastrnn.nn.stream import Stream
from fastrnn.nn.weight_drop import WeightDrop

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
    "Graph",
    "HardSigmoid",
    "Hardswish",
    "Hardtanh",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "LiGRU",
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
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
]
