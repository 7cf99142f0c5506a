"""Sequence tagging: one class for every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastrnn._arrays import ArrayLike, FloatArray
from fastrnn.models._objective import StatelessLoss
from fastrnn.models._parts import Sizes, head_of
from fastrnn.models._sequence import SequenceModel, sequence_parts
from fastrnn.nn import Embedding, Linear
from fastrnn.nn.pullback import once
from fastrnn.nn.registry import registered


@registered
class SequenceTagger(StatelessLoss, SequenceModel):
    """Recurrent layers and one linear head for every step: logits (T, N, num_tags).

    inputs: tokens (T, N) ints below `vocab_size`, or features (T, N, input_size) floats; without N
    for one sequence. `lengths` (N,): steps past a row's end are skipped and do not count in the
    loss, the mean cross-entropy of targets (T, N) ints that are not `ignore_index`, with
    `label_smoothing` of every tag spread over all. `embedding_dim` is hidden_size by default.
    `dropout` acts in training only, on the embedding's output, between recurrent layers and before
    the head.
    rnn: the recurrent layers, or others over sequences, such as a Sequential, in place of
    hidden_size, num_layers, cell (one LSTM by default) and bidirectional; embedding and head: those
    parts as they are. What is said of a part that is given must agree with it.
    Parameters: embedding.weight (for tokens), rnn.weight_ih_l0, ..., head.weight, head.bias.
    """

    _options = ("dropout",)
    _settings = ("label_smoothing", "ignore_index")

    def __init__(
        self,
        num_tags: int | None = None,
        hidden_size: int | None = None,
        num_layers: int | None = None,
        *,
        vocab_size: int | None = None,
        embedding_dim: int | None = None,
        input_size: int | None = None,
        cell: str | None = None,
        bidirectional: bool = False,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        embedding: Embedding | None = None,
        rnn: Any = None,
        head: Linear | None = None,
    ) -> None:
        sizes = Sizes(hidden_size, num_layers, cell, bidirectional)
        embedding, rnn = sequence_parts(
            embedding, rnn, sizes, vocab_size, embedding_dim, input_size, dropout
        )
        head = head_of(head, rnn.output_size, num_tags, "num_tags")
        self._take_parts(embedding, rnn, head, dropout, label_smoothing, ignore_index)
        self._assemble()

    @property
    def num_tags(self) -> int:
        """How many tags there are."""
        return self.head.out_features

    def __call__(self, inputs: ArrayLike, lengths: ArrayLike | None = None) -> FloatArray:
        """logits (T, N, num_tags), or (T, num_tags) for one sequence."""
        y, _ = self._run(self._checked(inputs), None, lengths)
        return self.head(y)

    def vjp(
        self, inputs: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[FloatArray, Callable[[ArrayLike], Any]]:
        """As the call, in training mode, and pullback(dlogits) -> dinputs, None for tokens."""
        (y, _), to_inputs = self._run_vjp(self._checked(inputs), None, lengths)
        logits, to_y = self._logits_vjp(y)

        def pullback(dlogits: ArrayLike) -> Any:
            return to_inputs(to_y(dlogits), None)[0]

        return logits, once(pullback, "a SequenceTagger")

    def stream(self, batch_size: int = 1) -> Any:
        """A stream whose `step` gives one step's logits; not for two directions (ValueError)."""
        return self._step_stream(batch_size)
