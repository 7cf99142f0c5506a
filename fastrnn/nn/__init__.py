"""Modules that networks are made of: recurrent layers, what stands around them, regularisers.

`y = module(x)` is inference. `y, pullback = module.vjp(x)` is training: the same y with dropout on,
and `dx = pullback(dy)`, called once, which adds the parameters' gradients to `module.grads`.
"""

from fastrnn.nn.attention import Attention
from fastrnn.nn.dropout import Dropout, EmbeddingDropout, LockedDropout
from fastrnn.nn.embedding import Embedding
from fastrnn.nn.linear import Linear
from fastrnn.nn.norm import LayerNorm
from fastrnn.nn.packed import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
)
from fastrnn.nn.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from fastrnn.nn.scalar_mix import ScalarMix
from fastrnn.nn.shortlist import Shortlist
from fastrnn.nn.stream import Stream
from fastrnn.nn.weight_drop import WeightDrop

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Attention",
    "Dropout",
    "Embedding",
    "EmbeddingDropout",
    "GRUCell",
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
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
]
