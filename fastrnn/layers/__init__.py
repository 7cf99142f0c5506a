"""The layers around a recurrent one, and the regularisers of training.

`y = layer(x)` is inference. `y, pullback = layer.vjp(x)` is training: the same y with dropout on,
and `dx = pullback(dy)`, called once, which adds the parameters' gradients to `layer.grads`.
"""

from fastrnn.layers.attention import Attention
from fastrnn.layers.dropout import Dropout, EmbeddingDropout, LockedDropout
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.linear import Linear
from fastrnn.layers.norm import LayerNorm
from fastrnn.layers.scalar_mix import ScalarMix
from fastrnn.layers.shortlist import Shortlist
from fastrnn.layers.weight_drop import WeightDrop

__all__ = [
    "Attention",
    "Dropout",
    "Embedding",
    "EmbeddingDropout",
    "LayerNorm",
    "Linear",
    "LockedDropout",
    "ScalarMix",
    "Shortlist",
    "WeightDrop",
]
