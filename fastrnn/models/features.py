"""From features, of whatever network, to a sequence of tokens: captioning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn._arrays import (
    MAX_LAYERS,
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    IntArray,
    as_choice,
    as_flag,
    as_float32,
    as_lengths,
    as_probability,
    as_size,
)
from fastrnn.models._base import RNNS
from fastrnn.models._bridge import Bridge
from fastrnn.models._decoder import Encoded
from fastrnn.models._transducer import Transducer
from fastrnn.models.seq2seq import ATTENTIONS, new_decoder
from fastrnn.nn import Embedding
from fastrnn.nn.module import Module


class FeaturesToSequence(Transducer):
    """features (N, F), or sets of them (S, N, F), and target (T, N) ints -> logits (T, N, V).

    The decoder starts from tanh(W x + b), x being the features, or their mean over the set's own
    `lengths` (N,); with `attention` ("additive", "multiplicative", "scaled_dot") it looks at the
    set, which has no order for it. A vector is a set of one. The other arguments, the loss and the
    decoder's parameters are those of Seq2Seq; the way back gives the gradient of the features.
    Source: Vinyals et al., Show and tell, 2015; Xu et al., Show, attend and tell, 2015.
    """

    _options = (
        "feature_size", "target_vocab", "hidden_size", "embedding_dim", "num_layers", "cell",
        "attention_kind", "dropout", "tie_weights", "input_feeding",
    )  # fmt: skip

    def __init__(
        self,
        feature_size: int,
        target_vocab: int,
        hidden_size: int,
        *,
        embedding_dim: int | None = None,
        num_layers: int = 1,
        cell: str = "lstm",
        attention: str = "none",
        dropout: float = 0.0,
        tie_weights: bool = False,
        input_feeding: bool = False,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        sampling_probability: float = 0.0,
        sampling_temperature: float = 1.0,
    ) -> None:
        self.feature_size = as_size(feature_size, "feature_size", MAX_SIZE)
        self.target_vocab = as_size(target_vocab, "target_vocab", MAX_SIZE)
        self.hidden_size = as_size(hidden_size, "hidden_size", MAX_SIZE)
        dim = hidden_size if embedding_dim is None else embedding_dim
        self.embedding_dim = as_size(dim, "embedding_dim", MAX_SIZE)
        self.num_layers = as_size(num_layers, "num_layers", MAX_LAYERS)
        self.cell = as_choice(cell, "cell", tuple(RNNS))
        self.attention_kind = as_choice(attention, "attention", ATTENTIONS)
        self.dropout = as_probability(dropout, "dropout")
        self.tie_weights = as_flag(tie_weights, "tie_weights")
        self.input_feeding = as_flag(input_feeding, "input_feeding")
        self._take_settings(
            label_smoothing, ignore_index, sampling_probability, sampling_temperature
        )
        rnn = RNNS[self.cell](
            self.embedding_dim + (self.hidden_size if self.input_feeding else 0),
            self.hidden_size,
            self.num_layers,
            dropout=self.dropout if num_layers > 1 else 0.0,
        )
        self.decoder = new_decoder(
            Embedding(self.target_vocab, self.embedding_dim),
            rnn,
            self.attention_kind,
            self.feature_size,
            self.tie_weights,
            self.dropout,
            self.input_feeding,
        )
        self._bridge = Bridge(self.feature_size, rnn)
        self._assemble()

    @property
    def config(self) -> dict[str, Any]:
        found = super().config
        return {{"attention_kind": "attention"}.get(k, k): v for k, v in found.items()}

    @property
    def _parts(self) -> dict[str, Module]:
        return {"bridge": self._bridge, "decoder": self.decoder}

    def _encode(self, source: ArrayLike, lengths: ArrayLike | None) -> Encoded:
        memory, counts = self._checked_source(source, lengths)
        mean, _ = _mean(memory, counts)
        return Encoded(self._bridge(self._copies(mean)), memory, counts)

    def _encode_vjp(
        self, source: ArrayLike, lengths: ArrayLike | None
    ) -> tuple[Encoded, Callable[[FloatArray | None, Any], Any]]:
        memory, counts = self._checked_source(source, lengths)
        shape = as_float32(source, "source").shape
        mean, weights = _mean(memory, counts)
        state, to_vectors = self._bridge.vjp(self._copies(mean))

        def back(dmemory: FloatArray | None, dstate: Any) -> FloatArray:
            dfeatures = sum(to_vectors(dstate)) * weights
            if dmemory is not None:
                dfeatures += dmemory
            return np.asarray(dfeatures).reshape(shape)

        return Encoded(state, memory, counts), back

    def _copies(self, vector: FloatArray) -> list[FloatArray]:
        """h and c start from the same features."""
        return [vector] * (2 if self.decoder.rnn.has_cell else 1)

    def _checked_source(
        self, source: ArrayLike, lengths: ArrayLike | None
    ) -> tuple[FloatArray, IntArray | None]:
        """Sets (S, N, F): vectors are sets of one."""
        x = as_float32(source, "source")
        if x.ndim not in (2, 3) or x.shape[-1] != self.feature_size or x.size == 0:
            raise ValueError(
                f"source has shape {x.shape}, expected (N, {self.feature_size}) or "
                f"(S, N, {self.feature_size}), all >= 1"
            )
        if lengths is not None and x.ndim == 2:
            raise ValueError("lengths needs sets (S, N, F), but source has 2 dimensions")
        x = x[None] if x.ndim == 2 else x
        return x, None if lengths is None else as_lengths(lengths, x.shape[1], len(x))


def _mean(memory: FloatArray, lengths: IntArray | None) -> tuple[FloatArray, FloatArray]:
    """The mean (N, M) over each row's positions, and the weights (S, N, 1) it took."""
    positions = np.arange(len(memory))[:, None]
    counts = np.full(memory.shape[1], len(memory)) if lengths is None else lengths
    inside = positions < counts
    weights = (inside / np.maximum(counts, 1)).astype(np.float32)[..., None]
    return np.where(inside[..., None], memory * weights, np.float32(0)).sum(axis=0), weights
