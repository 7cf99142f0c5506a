"""Sequence classification: one class for a whole sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastrnn._arrays import ArrayLike, FloatArray, as_choice, as_lengths
from fastrnn.models._objective import StatelessLoss
from fastrnn.models._parts import Sizes, head_of, is_recurrent
from fastrnn.models._pooling import POOLINGS, pooled
from fastrnn.models._sequence import SequenceModel, sequence_parts
from fastrnn.nn import Embedding, Linear
from fastrnn.nn.pullback import once
from fastrnn.nn.registry import registered


@registered
class SequenceClassifier(StatelessLoss, SequenceModel):
    """Recurrent layers, pooling over time and a linear head: a sequence -> logits of its class.

    inputs: tokens (T, N) ints below `vocab_size`, or features (T, N, input_size) floats; without N
    for one sequence. `lengths` (N,): steps past a row's end are skipped. Logits (N, num_classes).
    `pooling`: "last" state of each direction, or "mean" or "max" over a row's own steps.
    `embedding_dim` is hidden_size by default. `dropout` acts in training only, on the embedding's
    output, between recurrent layers and before the head. The loss is the mean cross-entropy of
    targets (N,) ints of all rows that have steps, with `label_smoothing` of every target spread
    over all classes.
    rnn: the recurrent layers, or others over sequences, such as a Sequential, in place of
    hidden_size, num_layers, cell (one LSTM by default) and bidirectional; embedding and head: those
    parts as they are. What is said of a part that is given must agree with it.
    Parameters: embedding.weight (for tokens), rnn.weight_ih_l0, ..., head.weight, head.bias.
    """

    _options = ("pooling", "dropout")
    _settings = ("label_smoothing",)

    def __init__(
        self,
        num_classes: int | None = None,
        hidden_size: int | None = None,
        num_layers: int | None = None,
        *,
        vocab_size: int | None = None,
        embedding_dim: int | None = None,
        input_size: int | None = None,
        cell: str | None = None,
        bidirectional: bool = False,
        pooling: str = "last",
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        embedding: Embedding | None = None,
        rnn: Any = None,
        head: Linear | None = None,
    ) -> None:
        sizes = Sizes(hidden_size, num_layers, cell, bidirectional)
        embedding, rnn = sequence_parts(
            embedding, rnn, sizes, vocab_size, embedding_dim, input_size, dropout
        )
        head = head_of(head, rnn.output_size, num_classes, "num_classes")
        self._take_parts(embedding, rnn, head, dropout, label_smoothing)
        self.pooling = as_choice(pooling, "pooling", tuple(POOLINGS))
        is_split = not is_recurrent(rnn) and getattr(rnn, "bidirectional", False)
        if pooling == "last" and is_split:
            raise ValueError(
                "pooling is 'last', but rnn reads in two directions, whose last states it does not "
                "tell: expected 'mean' or 'max'"
            )
        if getattr(rnn, "merge", "concat") != "concat":
            raise ValueError(f"merge is {rnn.merge!r}, a SequenceClassifier expects 'concat'")
        self._assemble()

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return self.head.out_features

    def __call__(self, inputs: ArrayLike, lengths: ArrayLike | None = None) -> FloatArray:
        """logits (N, num_classes), or (num_classes,) for one sequence."""
        y, state = self._run(self._checked(inputs), None, lengths)
        return self.head(self._pooled(y, state, lengths)[0])

    def vjp(
        self, inputs: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[FloatArray, Callable[[ArrayLike], Any]]:
        """As the call, in training mode, and pullback(dlogits) -> dinputs, None for tokens."""
        inputs = self._checked(inputs)
        (y, state), to_inputs = self._run_vjp(inputs, None, lengths)
        features, to_steps = self._pooled(y, state, lengths)
        logits, to_features = self._logits_vjp(features)

        def pullback(dlogits: ArrayLike) -> Any:
            return to_inputs(*to_steps(to_features(dlogits)))[0]

        return logits, once(pullback, "a SequenceClassifier")

    def _pooled(self, y: FloatArray, state: Any, lengths: ArrayLike | None) -> Any:
        """The head's input, and the pullback to (dy, dstate)."""
        ends = None if lengths is None else as_lengths(lengths, y.shape[1], len(y))
        return pooled(self.pooling, self.rnn, y, state, ends)

    def stream(self, batch_size: int = 1) -> Any:
        """A stream whose `step` gives the logits of the sequence so far; "last" pooling only."""
        if self.pooling != "last":
            raise ValueError(f"pooling {self.pooling!r} needs the whole sequence, it cannot stream")
        return self._step_stream(batch_size)
