"""From features, of whatever network, to a sequence of tokens: captioning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    IntArray,
    as_float32,
    as_lengths,
    as_size,
)
from fastrnn.models._bridge import Bridge, parts_of, vector_widths
from fastrnn.models._decoder import Encoded
from fastrnn.models._encoder_decoder import EncoderDecoder
from fastrnn.models._parts import Sizes, one_direction
from fastrnn.nn import Linear
from fastrnn.nn.module import Module
from fastrnn.nn.registry import registered


@registered
class FeaturesToSequence(EncoderDecoder):
    """features (N, F), or sets of them (S, N, F), and target (T, N) ints -> logits (T, N, V).

    The decoder starts from tanh(W x + b), x being the features, or their mean over the set's own
    `lengths` (N,); with `attention` ("additive", "multiplicative", "scaled_dot") it looks at the
    set, which has no order for it. A vector is a set of one. The other arguments, the loss and the
    decoder's parameters are those of Seq2Seq; the pullback gives the gradient of the features.
    Source: Vinyals et al., Show and tell, 2015; Xu et al., Show, attend and tell, 2015.
    """

    _modules = ("rnn", "head")
    _shorthands = ("hidden_size", "embedding_dim", "num_layers", "cell")
    _options = (
        "feature_size", "target_vocab", *_shorthands, "attention", "dropout", "tie_weights",
        "input_feeding",
    )  # fmt: skip

    def __init__(
        self,
        feature_size: int,
        target_vocab: int,
        hidden_size: int | None = None,
        *,
        embedding_dim: int | None = None,
        num_layers: int | None = None,
        cell: str | None = None,
        attention: str = "none",
        dropout: float = 0.0,
        tie_weights: bool = False,
        input_feeding: bool = False,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        sampling_probability: float = 0.0,
        sampling_temperature: float = 1.0,
        rnn: Any = None,
        head: Linear | None = None,
    ) -> None:
        self.feature_size = as_size(feature_size, "feature_size", MAX_SIZE)
        self._take_options(attention, dropout, tie_weights, input_feeding)
        self._take_settings(
            label_smoothing, ignore_index, sampling_probability, sampling_temperature
        )
        self._are_sizes_said = rnn is None and head is None
        if embedding_dim is not None:
            embedding_dim = as_size(embedding_dim, "embedding_dim", MAX_SIZE)
        sizes = Sizes(hidden_size, num_layers, cell)
        if rnn is not None:
            sizes.check(one_direction(rnn, "rnn"), "rnn")
        layers = self._decoder_layers(rnn, sizes, embedding_dim)
        kinds = len(vector_widths(parts_of(layers)))
        self._bridge = Bridge((self.feature_size,) * kinds, layers)
        self.decoder = self._new_decoder(target_vocab, layers, head, self.feature_size)
        self._assemble()

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
        return [vector] * len(vector_widths(parts_of(self.decoder.rnn)))

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
