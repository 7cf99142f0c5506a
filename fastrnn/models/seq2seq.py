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
    as_choice,
    as_flag,
    as_int64,
    as_lengths,
    as_probability,
    as_size,
    check_indices,
)
from fastrnn.models._base import RNNS
from fastrnn.models._bridge import Bridge, from_row_vectors, row_vectors
from fastrnn.models._decoder import Decoder, Encoded
from fastrnn.models._input_feeding import FeedingDecoder
from fastrnn.models._transducer import Transducer
from fastrnn.nn import Embedding
from fastrnn.nn.attention import KINDS, Attention
from fastrnn.nn.composite import Composite
from fastrnn.nn.dropout import dropped
from fastrnn.nn.module import Module
from fastrnn.nn.recurrent import GRU, LSTM, RNN

ATTENTIONS = ("none", *KINDS)


class Encoder(Composite):
    """Embedding and recurrent layers: tokens (S, N) -> memory (S, N, M) and the last state."""

    def __init__(self, embedding: Embedding, rnn: RNN | LSTM | GRU, dropout: float) -> None:
        self.embedding, self.rnn, self.dropout = embedding, rnn, dropout
        self._assemble()

    @property
    def _parts(self) -> dict[str, Module]:
        return {"embedding": self.embedding, "rnn": self.rnn}

    def __call__(self, tokens: IntArray, lengths: IntArray | None) -> tuple[FloatArray, Any]:
        y, state = self.rnn(np.take(self.embedding.weight, tokens, axis=0), lengths=lengths)
        return y, state

    def vjp(
        self, tokens: IntArray, lengths: IntArray | None, flow: bool = False
    ) -> tuple[tuple[FloatArray, Any], Callable[[FloatArray | None, Any], None]]:
        generator = self.generator
        x, to_table = self.embedding.vjp(tokens)
        x, undropped = dropped(x, self.dropout, generator)
        results, to_x = self.rnn.vjp(x, None, lengths, flow=flow)

        def back(dmemory: FloatArray | None, dstate: Any) -> None:
            to_table(undropped(to_x(dmemory, dstate)[0]))

        return results, back


class Seq2Seq(Transducer):
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
    The loss is the mean cross-entropy of the targets within their lengths that are not
    `ignore_index`, with `label_smoothing`; `sampling_probability` and `sampling_temperature` are
    for scheduled sampling.
    Parameters: encoder.embedding.weight, encoder.rnn.weight_ih_l0, ..., bridge.h.weight, ...,
    decoder.embedding.weight, decoder.rnn.*, decoder.attention.query.weight, ...,
    decoder.combine.weight, decoder.head.weight. Source: Sutskever, Vinyals and Le 2014; Luong,
    Pham and Manning 2015.
    """

    _options = (
        "source_vocab", "target_vocab", "hidden_size", "embedding_dim", "num_layers",
        "encoder_layers", "cell", "bidirectional", "attention_kind", "bridge", "dropout",
        "tie_weights", "input_feeding",
    )  # fmt: skip

    def __init__(
        self,
        source_vocab: int,
        target_vocab: int,
        hidden_size: int,
        *,
        embedding_dim: int | None = None,
        num_layers: int = 1,
        encoder_layers: int | None = None,
        cell: str = "lstm",
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
    ) -> None:
        self.source_vocab = as_size(source_vocab, "source_vocab", MAX_SIZE)
        self.target_vocab = as_size(target_vocab, "target_vocab", MAX_SIZE)
        self.hidden_size = as_size(hidden_size, "hidden_size", MAX_SIZE)
        self.embedding_dim = as_size(
            hidden_size if embedding_dim is None else embedding_dim, "embedding_dim", MAX_SIZE
        )
        self.num_layers = as_size(num_layers, "num_layers", MAX_LAYERS)
        self.encoder_layers = as_size(
            num_layers if encoder_layers is None else encoder_layers, "encoder_layers", MAX_LAYERS
        )
        self.cell = as_choice(cell, "cell", tuple(RNNS))
        self.bidirectional = as_flag(bidirectional, "bidirectional")
        self.attention_kind = as_choice(attention, "attention", ATTENTIONS)
        self.dropout = as_probability(dropout, "dropout")
        self.tie_weights = as_flag(tie_weights, "tie_weights")
        self.input_feeding = as_flag(input_feeding, "input_feeding")
        self._take_settings(
            label_smoothing, ignore_index, sampling_probability, sampling_temperature
        )
        encoder_rnn = self._rnn(self.embedding_dim, self.encoder_layers, self.bidirectional)
        fed = self.hidden_size if self.input_feeding else 0
        self.encoder = Encoder(
            Embedding(self.source_vocab, self.embedding_dim), encoder_rnn, self.dropout
        )
        self.decoder = new_decoder(
            Embedding(self.target_vocab, self.embedding_dim),
            self._rnn(self.embedding_dim + fed, self.num_layers, False),
            self.attention_kind,
            encoder_rnn.output_size,
            self.tie_weights,
            self.dropout,
            self.input_feeding,
        )
        self._bridge = self._new_bridge(bridge)
        self._assemble()

    def _rnn(self, input_size: int, num_layers: int, bidirectional: bool) -> RNN | LSTM | GRU:
        return RNNS[self.cell](
            input_size,
            self.hidden_size,
            num_layers,
            dropout=self.dropout if num_layers > 1 else 0.0,
            bidirectional=bidirectional,
        )

    def _new_bridge(self, bridge: bool | None) -> Bridge | None:
        fits = not self.bidirectional and self.encoder_layers == self.num_layers
        if bridge is not None and not as_flag(bridge, "bridge") and not fits:
            raise ValueError(
                f"bridge is False, but the encoder's state of {self.encoder_layers} layers in "
                f"{2 if self.bidirectional else 1} directions does not fit the decoder's "
                f"{self.num_layers} in one"
            )
        rnn = self.encoder.rnn
        width = rnn.num_layers * rnn.num_directions * rnn.state_size
        return Bridge(width, self.decoder.rnn) if bridge or not fits else None

    @property
    def bridge(self) -> bool:
        """Whether a linear map is between the encoder's and the decoder's state."""
        return self._bridge is not None

    @property
    def config(self) -> dict[str, Any]:
        found = super().config
        return {{"attention_kind": "attention"}.get(k, k): v for k, v in found.items()}

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
            state = self._bridge(row_vectors(state))
        return Encoded(state, memory, counts)

    def _encode_vjp(
        self, source: ArrayLike, lengths: ArrayLike | None
    ) -> tuple[Encoded, Callable[[FloatArray | None, Any], Any]]:
        tokens, counts = self._checked_source(source, lengths)
        (memory, last), to_tokens = self.encoder.vjp(tokens, counts, self.flow)
        state, to_vectors = last, None
        if self._bridge is not None:
            state, to_vectors = self._bridge.vjp(row_vectors(last))

        def back(dmemory: FloatArray | None, dstate: Any) -> None:
            if to_vectors is not None:
                dstate = from_row_vectors(to_vectors(dstate), last)
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


def new_decoder(
    embedding: Embedding,
    rnn: RNN | LSTM | GRU,
    attention: str,
    memory_size: int,
    tie_weights: bool,
    dropout: float,
    input_feeding: bool,
) -> Decoder:
    """A decoder whose parts fit together."""
    if input_feeding and attention == "none":
        raise ValueError("input_feeding is True, but attention is 'none': there is nothing to feed")
    if tie_weights and embedding.dim != rnn.output_size:
        raise ValueError(
            f"tie_weights needs embedding_dim equal to the {rnn.output_size} features of the "
            f"recurrent layers, got embedding_dim {embedding.dim}"
        )
    looks = None if attention == "none" else Attention(attention, rnn.output_size, memory_size)
    kind = FeedingDecoder if input_feeding else Decoder
    return kind(embedding, rnn, looks, tie_weights, dropout)
