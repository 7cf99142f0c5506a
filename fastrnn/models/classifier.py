"""Sequence classification: one class for a whole sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn._arrays import MAX_SIZE, ArrayLike, FloatArray, as_choice, as_lengths, as_size
from fastrnn.models._objective import StatelessLoss
from fastrnn.models._pooling import POOLINGS
from fastrnn.models._sequence import Rnn, SequenceModel, new_parts
from fastrnn.nn import Embedding, Linear
from fastrnn.nn.pullback import once
from fastrnn.nn.stream import Stream


class SequenceClassifier(StatelessLoss, SequenceModel):
    """Recurrent layers, pooling over time and a linear head: a sequence -> logits of its class.

    inputs: tokens (T, N) ints below `vocab_size`, or features (T, N, input_size) floats; without N
    for one sequence. `lengths` (N,): steps past a row's end are skipped. Logits (N, num_classes).
    `pooling`: "last" state of each direction, or "mean" or "max" over a row's own steps.
    `embedding_dim` is hidden_size by default. `dropout` acts in training only, on the embedding's
    output, between recurrent layers and before the head. The loss is the mean cross-entropy of
    targets (N,) ints of all rows that have steps, with `label_smoothing` of every target spread
    over all classes.
    Parameters: embedding.weight (for tokens), rnn.weight_ih_l0, ..., head.weight, head.bias.
    """

    _options = ("pooling", "dropout")
    _settings = ("label_smoothing",)

    def __init__(
        self,
        num_classes: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        vocab_size: int | None = None,
        embedding_dim: int | None = None,
        input_size: int | None = None,
        cell: str = "lstm",
        bidirectional: bool = False,
        pooling: str = "last",
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        embedding, rnn = new_parts(
            vocab_size, embedding_dim, input_size, hidden_size, num_layers, cell, dropout,
            bidirectional,
        )  # fmt: skip
        head = Linear(rnn.output_size, as_size(num_classes, "num_classes", MAX_SIZE))
        self._compose(
            embedding=embedding, rnn=rnn, head=head, pooling=pooling, dropout=dropout,
            label_smoothing=label_smoothing,
        )  # fmt: skip

    def _compose(
        self,
        *,
        rnn: Rnn,
        head: Linear,
        pooling: str,
        dropout: float,
        embedding: Embedding | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self._take_parts(embedding, rnn, head, dropout, label_smoothing)
        if rnn.merge != "concat":
            raise ValueError(f"merge is {rnn.merge!r}, a SequenceClassifier expects 'concat'")
        self.pooling = as_choice(pooling, "pooling", tuple(POOLINGS))
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
            dy, dh = to_steps(to_features(dlogits))
            return to_inputs(dy, self._dstate(dh, state))[0]

        return logits, once(pullback, "a SequenceClassifier")

    def _pooled(self, y: FloatArray, state: Any, lengths: ArrayLike | None) -> Any:
        """The head's input, and the way back to (dy, dh)."""
        h = state[0] if self.rnn.has_cell else state
        ends = None if lengths is None else as_lengths(lengths, y.shape[1], len(y))
        return POOLINGS[self.pooling](y, h, ends, self.rnn.num_directions)

    def _dstate(self, dh: FloatArray | None, state: Any) -> Any:
        """The gradient of the layers' whole last state."""
        return (dh, np.zeros_like(state[1])) if dh is not None and self.rnn.has_cell else dh

    def stream(self, batch_size: int = 1) -> Stream:
        """A stream whose `step` gives the logits of the sequence so far; "last" pooling only."""
        if self.pooling != "last":
            raise ValueError(f"pooling {self.pooling!r} needs the whole sequence, it cannot stream")
        return self._step_stream(batch_size)
