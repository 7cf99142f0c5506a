"""Encoder and decoder: what models share that write a sequence about a source of any kind.

Letters: T steps of the target, N rows, S positions of the source, V tokens of the target.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    IntArray,
    as_choice,
    as_flag,
    as_float32,
    as_int64,
    as_lengths,
    as_probability,
    as_size,
    check_indices,
    with_article,
)
from fastrnn.losses import LossResult
from fastrnn.models._base import SizedModel
from fastrnn.models._bridge import as_list, as_state, parts_of
from fastrnn.models._decoder import Decoder, Encoded
from fastrnn.models._decoder_stream import Conditioned, DecoderStream
from fastrnn.models._input_feeding import FeedingDecoder
from fastrnn.models._objective import (
    Backward,
    as_ignored,
    as_smoothing,
    classes,
    has_no_rows,
    nothing,
    refuse_state,
    stateless_backward,
)
from fastrnn.models._parts import Sizes, cell_of, depth_of, head_of, last_of, layers_of, tie_head
from fastrnn.models._scheduled_sampling import ScheduledSampling
from fastrnn.nn import Embedding, Linear
from fastrnn.nn.attention import KINDS, Attention
from fastrnn.nn.embedding import check_shape
from fastrnn.nn.pullback import once
from fastrnn.nn.shortlist import Shortlist

Lengths = Any  # None, or the pair (source (N,), target (N,)), each of which may be None


ATTENTIONS = ("none", *KINDS)


class EncoderDecoder(ScheduledSampling, SizedModel):
    """A source, and a decoder with the state and the memory that come from it."""

    decoder: Decoder
    tie_weights: bool
    input_feeding: bool
    attention_kind: str
    label_smoothing: float
    ignore_index: int | None
    flow: bool = False  # whether a backward pass leaves the GradientFlow of all layers in last_flow
    _settings = ("label_smoothing", "ignore_index", "sampling_probability", "sampling_temperature")

    def _take_settings(
        self,
        label_smoothing: float,
        ignore_index: int | None,
        sampling_probability: float,
        sampling_temperature: float,
    ) -> None:
        self.label_smoothing = as_smoothing(label_smoothing)
        self.ignore_index = as_ignored(ignore_index)
        self.sampling_probability = sampling_probability
        self.sampling_temperature = sampling_temperature

    def _take_options(
        self, attention: str, dropout: float, tie_weights: bool, input_feeding: bool
    ) -> None:
        self.attention_kind = as_choice(attention, "attention", ATTENTIONS)
        self.dropout = as_probability(dropout, "dropout")
        self.tie_weights = as_flag(tie_weights, "tie_weights")
        self.input_feeding = as_flag(input_feeding, "input_feeding")
        if self.input_feeding and self.attention_kind == "none":
            raise ValueError(
                "input_feeding is True, but attention is 'none': there is nothing to feed"
            )

    def _decoder_layers(self, rnn: Any, sizes: Sizes, embedding_dim: int | None) -> Any:
        """The layers that are given, if they can be a decoder's; else new ones."""
        if rnn is None:
            hidden_size = as_size(sizes.hidden_size, "hidden_size", MAX_SIZE)
            dim = hidden_size if embedding_dim is None else embedding_dim
            return sizes.layers(dim + hidden_size * self.input_feeding, self.dropout)
        if any(layer.learned_state for layer in layers_of(rnn).values()):
            raise ValueError("rnn has a learned state, but a decoder starts from its source's")
        fed = rnn.output_size * self.input_feeding
        if rnn.input_size <= fed or embedding_dim not in (None, rnn.input_size - fed):
            wanted = "more than" if embedding_dim is None else f"embedding_dim {embedding_dim} and"
            also = f"{wanted} {fed} that are fed" if fed else f"embedding_dim {embedding_dim}"
            raise ValueError(f"rnn takes {rnn.input_size} features, expected {also}")
        return rnn

    def _new_decoder(
        self, target_vocab: int, rnn: Any, head: Linear | None, memory_size: int
    ) -> Decoder:
        dim = rnn.input_size - rnn.output_size * self.input_feeding
        embedding = Embedding(as_size(target_vocab, "target_vocab", MAX_SIZE), dim)
        head = head_of(head, rnn.output_size, embedding.num, "target_vocab")
        if self.tie_weights:
            tie_head(head, embedding, is_new=True)
        kind, looks = self.attention_kind, None
        if kind != "none":
            looks = Attention(kind, rnn.output_size, memory_size)
        cls = FeedingDecoder if self.input_feeding else Decoder
        return cls(embedding, rnn, looks, head, self.dropout)

    def _argument(self, name: str) -> Any:
        # What the method `attention` and the parts of encoder and decoder would hide.
        if name == "attention":
            return self.attention_kind
        if name in ("rnn", "head") and not self._are_sizes_said:
            return getattr(self.decoder, name)
        return super()._argument(name)

    @property
    def target_vocab(self) -> int:
        """V, the number of the target's tokens."""
        return self.vocab_size

    @property
    def hidden_size(self) -> int:
        """H of the decoder's recurrent layers, of the last where they differ."""
        return last_of(self.decoder.rnn).hidden_size

    @property
    def embedding_dim(self) -> int:
        """The width of the target's embedding."""
        return self.decoder.embedding.dim

    @property
    def num_layers(self) -> int:
        """The decoder's recurrent layers."""
        return depth_of(self.decoder.rnn)

    @property
    def cell(self) -> str:
        """Cell of the decoder's layers, as hidden_size: "lstm", "gru", "rnn" or "ligru"."""
        return cell_of(self.decoder.rnn)

    @property
    def vocab_size(self) -> int:
        """V, the number of the target's tokens."""
        return self.decoder.embedding.num

    def encode(self, source: ArrayLike, lengths: ArrayLike | None = None) -> Encoded:
        """The decoder's first state, and the memory (S, N, M) with its lengths.

        State and memory are without N if the source is one row without it.
        """
        source, has_rows = self._with_rows(source, lengths)
        encoded = self._encode(source, lengths)
        if has_rows or encoded.memory is None:
            return encoded
        parts = [part[:, 0] for part in as_list(encoded.state)]
        state = as_state(parts, parts_of(self.decoder.rnn))
        return Encoded(state, encoded.memory[:, 0])

    def _with_rows(self, source: ArrayLike, *lengths: Any) -> tuple[Any, bool]:
        """The source with its row axis, and whether it had it; one row without has no lengths."""
        return source, True

    def _encode(self, source: ArrayLike, lengths: ArrayLike | None) -> Encoded:
        """The decoder's first state and the memory of a source with rows."""
        raise NotImplementedError

    def _encode_vjp(
        self, source: ArrayLike, lengths: ArrayLike | None
    ) -> tuple[Encoded, Callable[[FloatArray | None, Any], Any]]:
        """The same in training mode, and back(dmemory, dstate) -> dsource, None for tokens."""
        raise NotImplementedError

    def __call__(self, source: ArrayLike, target: ArrayLike, lengths: Lengths = None) -> FloatArray:
        """logits (T, N, V) after every token of target (T, N), which starts with BOS.

        lengths: the pair of the sources' and the targets' (N,), or None. One source without N and
        target (T,) give logits (T, V).
        """
        return self._forward(source, target, lengths)[0]

    def attention(
        self, source: ArrayLike, target: ArrayLike, lengths: Lengths = None
    ) -> FloatArray:
        """The attention weights (T, S, N): where every step of the target looks; sums over S are 1.

        (T, S) for one source without N. ValueError for a model without attention.
        """
        weights = self._forward(source, target, lengths)[1]
        if weights is None:
            raise ValueError(f"this {type(self).__name__} has no attention")
        return weights if weights.ndim == 2 else weights.transpose(0, 2, 1)

    def _forward(
        self, source: ArrayLike, target: ArrayLike, lengths: Lengths
    ) -> tuple[FloatArray, FloatArray | None]:
        of_source, of_target = _pair(lengths)
        source, has_rows = self._with_rows(source, of_source, of_target)
        encoded = self._encode(source, of_source)
        tokens, counts = self._checked(target, encoded, of_target, has_rows)
        logits, weights = self.decoder(tokens, encoded, counts)
        if has_rows:
            return logits, weights
        return logits[:, 0], None if weights is None else weights[:, 0]

    def vjp(
        self, source: ArrayLike, target: ArrayLike, lengths: Lengths = None
    ) -> tuple[FloatArray, Callable[[ArrayLike], Any]]:
        """As the call, in training mode, and pullback(dlogits) -> dsource, None for tokens."""
        generator = self.generator  # makes it the generator of all parts
        of_source, of_target = _pair(lengths)
        source, has_rows = self._with_rows(source, of_source, of_target)
        encoded, to_source = self._encode_vjp(source, of_source)
        tokens, counts = self._checked(target, encoded, of_target, has_rows)
        if self.sampling_probability > 0:
            tokens = self._sampled(DecoderStream(self.decoder, encoded), tokens, generator)
        logits, to_encoded = self.decoder.vjp(tokens, encoded, counts, self.flow)
        shown = logits if has_rows else logits[:, 0]

        def pullback(dlogits: ArrayLike) -> Any:
            dlogits = as_float32(dlogits, "dlogits")
            check_shape(dlogits, shown.shape, "dlogits")
            return to_source(*to_encoded(dlogits.reshape(logits.shape)))

        return shown, once(pullback, f"a {type(self).__name__}")

    def loss(
        self, inputs: Any, targets: ArrayLike, state: None = None, lengths: Lengths = None
    ) -> LossResult:
        """The mean cross-entropy of targets (T, N) or (T,) without dropout and without sampling.

        inputs: the pair (source, shifted target), as `fastrnn.data.Pairs` gives them.
        """
        refuse_state(state, self)
        if has_no_rows(_inputs(inputs), targets):
            return nothing(owner=with_article(type(self).__name__))[0]
        logits = self(*_inputs(inputs), lengths)
        return self._objective(logits, targets, lengths, gradient=False)[0]

    def loss_vjp(
        self, inputs: Any, targets: ArrayLike, state: None = None, lengths: Lengths = None
    ) -> tuple[LossResult, Backward]:
        """The same in training mode, and backward(scale=1.0), which adds to `grads`."""
        refuse_state(state, self)
        if has_no_rows(_inputs(inputs), targets):
            return nothing(owner=with_article(type(self).__name__))
        logits, pullback = self.vjp(*_inputs(inputs), lengths)
        result, gradient = self._objective(logits, targets, lengths)
        return result, stateless_backward(pullback, gradient, f"a {type(self).__name__}")

    def _objective(
        self, logits: FloatArray, targets: ArrayLike, lengths: Lengths, gradient: bool = True
    ) -> tuple[LossResult, Any]:
        return classes(
            logits,
            targets,
            _pair(lengths)[1],
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            gradient=gradient,
        )

    def given(
        self,
        source: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        shortlist: ArrayLike | None = None,
    ) -> Conditioned:
        """The old name of `with_source`, until 0.3."""
        message = "given is with_source now; the old name goes with fastrnn 0.3"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return self.with_source(source, lengths, shortlist=shortlist)

    def with_source(
        self,
        source: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        shortlist: ArrayLike | None = None,
    ) -> Conditioned:
        """The model with its sources fixed, encoded once: what `fastrnn.generate` takes.

        It serves until the parameters change, then it is a ValueError that asks for a new one.
        shortlist: the only tokens to be considered, ids (K,); the others get logits of -inf.
        """
        head = None if shortlist is None else Shortlist(self.decoder.head, shortlist)
        source, _ = self._with_rows(source, lengths)
        return Conditioned(self.decoder, self._encode(source, lengths), head, self._versions)

    def decoder_stream(
        self,
        source: ArrayLike,
        lengths: ArrayLike | None = None,
        batch_size: int | None = None,
        *,
        shortlist: ArrayLike | None = None,
    ) -> DecoderStream:
        """A stream of `batch_size` rows, by default one for each source; see `with_source`."""
        return self.with_source(source, lengths, shortlist=shortlist).stream(batch_size)

    def translate(
        self,
        source: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        bos: int,
        eos: int,
        max_new_tokens: int = 100,
    ) -> Any:
        """For every source the tokens that are most probable one by one, without BOS and EOS.

        A list of arrays (L,); one array for one source without N. For beams, draws and the rest:
        fastrnn.generate(model.with_source(source, lengths), [[bos]] * N, eos_token_id=eos, ...).
        """
        from fastrnn.decode import generate  # what decodes is above what is decoded

        limit = as_size(max_new_tokens, "max_new_tokens")
        for name, token in (("bos", bos), ("eos", eos)):
            check_indices(as_int64(token, name), self.vocab_size, name)
        source, has_rows = self._with_rows(source, lengths)
        given = self.with_source(source, lengths)
        starts = [[bos]] * given.num_sources
        answers = generate(given, starts, max_new_tokens=limit, eos_token_id=eos)
        found = [np.array([i for i in one.tokens if i != eos], np.int64) for one in answers]
        return found if has_rows else found[0]

    def _checked(
        self, target: ArrayLike, encoded: Encoded, lengths: ArrayLike | None, has_rows: bool
    ) -> tuple[IntArray, IntArray | None]:
        """tokens (T, N), whether they were given so or as (T,), and their lengths."""
        tokens = as_int64(target, "target")
        rows = as_list(encoded.state)[0].shape[1]
        tail = (rows,) if has_rows else ()
        if tokens.ndim == 0 or tokens.shape[1:] != tail or len(tokens) == 0:
            wanted = f"(T, {rows})" if has_rows else "(T,), as source has no rows,"
            raise ValueError(f"target has shape {tokens.shape}, expected {wanted} with T >= 1")
        check_indices(tokens, self.vocab_size, "target")
        counts = None if lengths is None else as_lengths(lengths, rows, len(tokens))
        return tokens.reshape(-1, rows), counts


def _pair(lengths: Lengths) -> tuple[Any, Any]:
    if lengths is None:
        return None, None
    if not isinstance(lengths, (tuple, list)) or len(lengths) != 2:
        raise ValueError("lengths is not a pair, expected those of the source and of the target")
    return lengths[0], lengths[1]


def _inputs(inputs: Any) -> tuple[Any, Any]:
    if not isinstance(inputs, (tuple, list)) or len(inputs) != 2:
        raise ValueError("inputs is not a pair, expected (source, shifted target)")
    return inputs[0], inputs[1]
