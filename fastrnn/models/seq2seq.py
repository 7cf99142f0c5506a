"""From one sequence of tokens to another: an encoder, a bridge, a decoder with attention."""

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
    as_flag,
    as_int64,
    as_lengths,
    as_size,
    check_indices,
)
from fastrnn.models._bridge import Bridge, from_row_vectors, parts_of, row_vectors, vector_widths
from fastrnn.models._decoder import Encoded
from fastrnn.models._encoder_decoder import EncoderDecoder
from fastrnn.models._parts import Sizes, depth_of, one_direction, recurrent_layer
from fastrnn.nn import Embedding, Linear
from fastrnn.nn.composite import Composite
from fastrnn.nn.dropout import dropped
from fastrnn.nn.module import Module
from fastrnn.nn.registry import registered


class Encoder(Composite):
    """Embedding and recurrent layers: tokens (S, N) -> memory (S, N, M) and the last state."""

    _modules = ("embedding", "rnn")
    _options = ("dropout",)

    def __init__(self, embedding: Embedding, rnn: Any, dropout: float) -> None:
        self.embedding, self.rnn, self.dropout = embedding, rnn, dropout
        self._assemble()

    def __call__(self, tokens: IntArray, lengths: IntArray | None) -> tuple[FloatArray, Any]:
        y, state = self.rnn(np.take(self.embedding.weight, tokens, axis=0), lengths=lengths)
        return y, state

    def vjp(
        self, tokens: IntArray, lengths: IntArray | None, flow: bool = False
    ) -> tuple[tuple[FloatArray, Any], Callable[[FloatArray | None, Any], None]]:
        generator = self.generator
        x, to_table = self.embedding.vjp(tokens)
        x, undropped = dropped(x, self.dropout, generator)
        results, to_x = self.rnn.vjp(x, None, lengths=lengths, flow=flow)

        def back(dmemory: FloatArray | None, dstate: Any) -> None:
            to_table(undropped(to_x(dmemory, dstate)[0]))

        return results, back


@registered
class Seq2Seq(EncoderDecoder):
    """source (S, N) and target (T, N) ints -> logits (T, N, V) of the target's next tokens.

    One source (S,) and its target (T,) give logits (T, V).
    An encoder (`bidirectional` or not), a bridge from its last state to the decoder's first, and a
    decoder that looks at the encoder's outputs after its recurrent layers: `attention` "none",
    "additive", "multiplicative" or "scaled_dot". The state is passed on as it is if the encoder has
    one direction and as many layers, else `bridge` maps it, h = tanh(W h_n + b), c likewise;
    bridge=True or False insists on one of them. `num_layers` are the decoder's, and the encoder's
    unless `encoder_layers` is given. `dropout` acts in training only, on embeddings, between
    recurrent layers and before the head. `tie_weights`: the head uses the target's embedding, which
    needs embedding_dim == hidden_size. `input_feeding`: the decoder's recurrent layers also read
    the attentional vector of the step before, so that they run step by step in training, too,
    which is slower and keeps a tape for every step, whatever a memory_budget says.
    encoder, rnn: the recurrent layers of encoder and decoder, RNN, LSTM, GRU or LiGRU of any
    options, or a Sequential of several, in place of hidden_size, num_layers, encoder_layers, cell
    (an LSTM by default) and bidirectional; head: that part. rnn takes embedding_dim features, and
    as many more as it gives where it is fed. What is said of a part that is given must agree with
    it.
    The loss is the mean cross-entropy of the targets within their lengths that are not
    `ignore_index`, with `label_smoothing`; `sampling_probability` and `sampling_temperature` are
    for scheduled sampling.
    Parameters: encoder.embedding.weight, encoder.rnn.weight_ih_l0, ..., bridge.h.weight, ...,
    decoder.embedding.weight, decoder.rnn.*, decoder.attention.query.weight, ...,
    decoder.combine.weight, decoder.head.weight. Source: Sutskever, Vinyals and Le 2014; Luong,
    Pham and Manning 2015.
    """

    _modules = ("encoder", "rnn", "head")
    _shorthands = (
        "hidden_size", "embedding_dim", "num_layers", "encoder_layers", "cell", "bidirectional"
    )  # fmt: skip
    _options = (
        "source_vocab", "target_vocab", *_shorthands, "attention", "bridge", "dropout",
        "tie_weights", "input_feeding",
    )  # fmt: skip
    encoder: Encoder

    def __init__(
        self,
        source_vocab: int,
        target_vocab: int,
        hidden_size: int | None = None,
        *,
        embedding_dim: int | None = None,
        num_layers: int | None = None,
        encoder_layers: int | None = None,
        cell: str | None = None,
        bidirectional: bool = False,
        attention: str = "none",
        bridge: bool | None = None,
        dropout: float = 0.0,
        tie_weights: bool = False,
        input_feeding: bool = False,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        sampling_probability: float = 0.0,
        sampling_temperature: float = 1.0,
        encoder: Any = None,
        rnn: Any = None,
        head: Linear | None = None,
    ) -> None:
        self.source_vocab = as_size(source_vocab, "source_vocab", MAX_SIZE)
        self._take_options(attention, dropout, tie_weights, input_feeding)
        self._take_settings(
            label_smoothing, ignore_index, sampling_probability, sampling_temperature
        )
        self._are_sizes_said = all(part is None for part in (encoder, rnn, head))
        if encoder_layers is not None:
            encoder_layers = as_size(encoder_layers, "encoder_layers", MAX_LAYERS)
        if embedding_dim is not None:
            embedding_dim = as_size(embedding_dim, "embedding_dim", MAX_SIZE)
        if encoder is not None and encoder is rnn:
            raise ValueError("encoder and rnn are the same layer, expected two")
        sizes = Sizes(hidden_size, num_layers, cell)
        if encoder is not None:
            said = Sizes(hidden_size, encoder_layers, cell, bidirectional)
            said.check(recurrent_layer(encoder, "encoder"), "encoder", "encoder_layers")
        if rnn is not None:
            sizes.check(one_direction(rnn, "rnn"), "rnn")
        layers = self._decoder_layers(rnn, sizes.like(encoder), embedding_dim)
        if encoder is None:
            depth = depth_of(layers) if encoder_layers is None else encoder_layers
            said = Sizes(hidden_size, depth, cell, bidirectional).like(layers)
            dim = said.hidden_size if embedding_dim is None else embedding_dim
            encoder = said.layers(as_size(dim, "embedding_dim", MAX_SIZE), self.dropout)
        elif embedding_dim not in (None, encoder.input_size):
            raise ValueError(
                f"encoder takes {encoder.input_size} features, expected embedding_dim "
                f"{embedding_dim}"
            )
        self._bridge = _new_bridge(bridge, encoder, layers)
        self.decoder = self._new_decoder(target_vocab, layers, head, encoder.output_size)
        self.encoder = Encoder(
            Embedding(self.source_vocab, encoder.input_size), encoder, self.dropout
        )
        self._assemble()

    def _argument(self, name: str) -> Any:
        if name == "encoder" and not self._are_sizes_said:
            return self.encoder.rnn
        return super()._argument(name)

    @property
    def encoder_layers(self) -> int:
        """The encoder's recurrent layers."""
        return depth_of(self.encoder.rnn)

    @property
    def bidirectional(self) -> bool:
        """True if the encoder reads in both directions."""
        both: bool = self.encoder.rnn.bidirectional
        return both

    @property
    def bridge(self) -> bool:
        """Whether a linear map is between the encoder's and the decoder's state."""
        return self._bridge is not None

    @property
    def _parts(self) -> dict[str, Module]:
        bridge: dict[str, Module] = {} if self._bridge is None else {"bridge": self._bridge}
        return {"encoder": self.encoder, **bridge, "decoder": self.decoder}

    def _with_rows(self, source: ArrayLike, *lengths: Any) -> tuple[IntArray, bool]:
        tokens = as_int64(source, "source")
        if tokens.ndim != 1 or not tokens.size:
            return tokens, True
        if any(part is not None for part in lengths):
            raise ValueError("lengths needs a batch, but source has 1 dimension")
        return tokens[:, None], False

    def _encode(self, source: ArrayLike, lengths: ArrayLike | None) -> Encoded:
        tokens, counts = self._checked_source(source, lengths)
        memory, state = self.encoder(tokens, counts)
        if self._bridge is not None:
            state = self._bridge(row_vectors(state, parts_of(self.encoder.rnn)))
        return Encoded(state, memory, counts)

    def _encode_vjp(
        self, source: ArrayLike, lengths: ArrayLike | None
    ) -> tuple[Encoded, Callable[[FloatArray | None, Any], Any]]:
        tokens, counts = self._checked_source(source, lengths)
        (memory, last), to_tokens = self.encoder.vjp(tokens, counts, self.flow)
        state, to_vectors, parts = last, None, parts_of(self.encoder.rnn)
        if self._bridge is not None:
            state, to_vectors = self._bridge.vjp(row_vectors(last, parts))

        def back(dmemory: FloatArray | None, dstate: Any) -> None:
            if to_vectors is not None:
                dstate = from_row_vectors(to_vectors(dstate), parts)
            to_tokens(dmemory, dstate)

        return Encoded(state, memory, counts), back

    def _checked_source(
        self, source: ArrayLike, lengths: ArrayLike | None
    ) -> tuple[IntArray, IntArray | None]:
        tokens = as_int64(source, "source")
        if tokens.ndim != 2 or tokens.size == 0:
            raise ValueError(f"source has shape {tokens.shape}, expected (S, N) or (S,), all >= 1")
        check_indices(tokens, self.source_vocab, "source")
        counts = None if lengths is None else as_lengths(lengths, tokens.shape[1], len(tokens))
        return tokens, counts


def _new_bridge(bridge: bool | None, encoder: Any, decoder: Any) -> Bridge | None:
    """A map where one is asked for, or where the states are not alike."""
    ours, theirs = parts_of(encoder), parts_of(decoder)
    if bridge is not None and not as_flag(bridge, "bridge") and ours != theirs:
        raise ValueError(
            f"bridge is False, but the encoder's state of {depth_of(encoder)} layers in "
            f"{1 + encoder.bidirectional} directions does not fit the decoder's "
            f"{depth_of(decoder)} in one"
        )
    if ours == theirs and not bridge:
        return None
    return Bridge(vector_widths(ours), decoder)
