"""What models over sequences share: an optional embedding, recurrent layers, a head.

Letters: T steps, N rows, I features, V tokens, R features of the recurrent layers' output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn import _core
from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    IntArray,
    as_float32,
    as_int64,
    as_probability,
    as_size,
)
from fastrnn._errors import ArgumentError, shown
from fastrnn.losses import LossResult
from fastrnn.models._base import Model
from fastrnn.models._layer_stream import LayerStream
from fastrnn.models._network_stream import lowered_model, network_stream, stream_kind
from fastrnn.models._objective import as_ignored, as_smoothing, classes
from fastrnn.models._parts import (
    Sizes,
    embedding_of,
    given_embedding,
    is_lowered,
    is_recurrent,
    sequence_layer,
)
from fastrnn.nn import Embedding, Linear
from fastrnn.nn.dropout import dropped, locked_shape
from fastrnn.nn.graph import Lowered
from fastrnn.nn.recurrent_base import Recurrent
from fastrnn.nn.tape import Tokens
from fastrnn.nn.weight_drop import dropped_vjp


class SequenceModel(Model):
    """Inputs (T, N) ints with an embedding, (T, N, I) floats without, or one row without N."""

    embedding: Embedding | None
    rnn: Any  # an RNN, an LSTM, a GRU, or another layer over sequences
    head: Linear
    dropout: float  # of the embedding's output and of the head's input
    label_smoothing: float
    ignore_index: int | None  # the target that does not count
    weight_drop: float = 0.0
    locked_dropout: bool = False
    flow: bool = False  # whether a backward pass leaves its GradientFlow in rnn.last_flow
    _inputs: str = "inputs"  # how errors call them
    _modules = ("embedding", "rnn", "head")

    def _take_parts(
        self,
        embedding: Embedding | None,
        rnn: Any,
        head: Linear,
        dropout: float,
        label_smoothing: float,
        ignore_index: int | None = None,
    ) -> None:
        """Keep parts that fit together, and what training wants of them."""
        if embedding is not None and embedding.dim != rnn.input_size:
            raise ValueError(
                f"embedding_dim is {embedding.dim}, the recurrent layers expect {rnn.input_size}"
            )
        self.embedding, self.rnn, self.head = embedding, rnn, head
        self.dropout = as_probability(dropout, "dropout")
        self.label_smoothing = as_smoothing(label_smoothing)
        self.ignore_index = as_ignored(ignore_index)

    _derived = Model._derived | {"_spare", "_network"}
    _spare: list[Any]  # twins for weight dropout
    _network: Lowered | None  # for streams

    def _forget(self) -> None:
        self._spare, self._network = [], None

    @property
    def vocab_size(self) -> int | None:
        """V, the number of tokens; None if the inputs are features."""
        return None if self.embedding is None else self.embedding.num

    def _checked(self, inputs: ArrayLike) -> Any:
        """Tokens (T, N) or (T,), or features (T, N, I) or (T, I)."""
        name = self._inputs
        if self.embedding is None:
            array: Any = as_float32(inputs, name)
            wanted = f"(T, N, {self.rnn.input_size}) or (T, {self.rnn.input_size})"
            if array.ndim not in (2, 3) or array.shape[-1] != self.rnn.input_size:
                raise ValueError(f"{name} has shape {array.shape}, expected {wanted}")
        else:
            array = as_int64(inputs, name)  # whoever takes them first looks at their range
            if array.ndim not in (1, 2):
                raise ValueError(f"{name} has {array.ndim} dimensions, expected (T, N) or (T,)")
        if len(array) == 0:
            raise ValueError(f"{name} has 0 steps, this {type(self).__name__} expects at least 1")
        return array

    def _run(self, inputs: Any, state: ArrayLike | None, lengths: ArrayLike | None) -> Any:
        """y and the last state of checked inputs."""
        if self.embedding is not None:
            inputs = _core.take_rows(self.embedding.weight, inputs, self._inputs)
        return self.rnn(inputs, state, lengths=lengths)

    def _run_vjp(
        self, inputs: Any, state: ArrayLike | None, lengths: ArrayLike | None
    ) -> tuple[Any, Callable[..., tuple[Any, Any]]]:
        """The same with the dropouts of training, and the pullback: (dy, dstate) -> dx, dstate_0.

        dx is None for tokens.
        """
        if self._folds_in_training(inputs):
            return self._folded_vjp(inputs, state, lengths)
        x, to_inputs = self._embedded_vjp(inputs)
        flow = {"flow": True} if self.flow else {}
        if self.weight_drop:
            results, to_x = dropped_vjp(
                self.rnn, self.weight_drop, self._spare, x, state, lengths=lengths, **flow
            )
        else:
            results, to_x = self.rnn.vjp(x, state, lengths=lengths, **flow)

        def back(dy: FloatArray | None, dstate: ArrayLike | None) -> tuple[Any, Any]:
            dx, dstate_0 = to_x(dy, dstate)
            return to_inputs(dx), dstate_0

        return results, back

    def _folds_in_training(self, inputs: Any) -> bool:
        """Whether the first layer's products with all tokens cost less than those with all steps.

        Dropout would make every step's vector another one.
        """
        if self.embedding is None or self.dropout or self.weight_drop:
            return False
        if not is_recurrent(self.rnn) or self.rnn.bidirectional:
            return False
        return 2 * self.embedding.num <= int(inputs.size)

    def _folded_vjp(
        self, inputs: IntArray, state: ArrayLike | None, lengths: ArrayLike | None
    ) -> tuple[Any, Callable[..., tuple[Any, Any]]]:
        assert self.embedding is not None
        tokens = Tokens(self.embedding.weight, self.embedding.grads["weight"], self._inputs)
        rnn: Recurrent = self.rnn
        return rnn._record(inputs, state, lengths, bool(self.flow), tokens)

    def _embedded_vjp(self, inputs: Any) -> tuple[FloatArray, Callable[[FloatArray], Any]]:
        generator = self.generator  # makes it the generator of all parts
        if self.embedding is None:
            return inputs, lambda dx: dx
        x, to_table = self.embedding._vjp(inputs, self._inputs)
        x, undropped = self._dropped(x, generator)
        return x, lambda dx: to_table(undropped(dx))

    def _dropped(
        self, x: FloatArray, generator: np.random.Generator
    ) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]]:
        shape = locked_shape(x) if self.locked_dropout else None
        return dropped(x, self.dropout, generator, shape)

    def _logits_vjp(self, y: FloatArray) -> tuple[FloatArray, Callable[[Any], FloatArray]]:
        """The head over every step of y, dropped, and the pullback."""
        y, undropped = self._dropped(y, self.generator)
        logits, to_y = self.head.vjp(y)
        return logits, lambda dlogits: undropped(to_y(dlogits))

    def _objective(
        self,
        logits: FloatArray,
        targets: ArrayLike,
        lengths: ArrayLike | None,
        gradient: bool = True,
    ) -> tuple[LossResult, Any]:
        """The mean cross-entropy of the targets that count, and its gradient by the logits."""
        return classes(
            logits,
            targets,
            lengths,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            gradient=gradient,
        )

    def _step_stream(self, batch_size: int) -> Any:
        """A stream of steps through all parts."""
        if not is_lowered(self.rnn):
            parts = self.embedding, self.head
            return LayerStream(self.rnn, batch_size, self.fingerprint(), *parts)
        kind, fingerprint = stream_kind(self.rnn), self.fingerprint()
        return network_stream(kind, self._lowered(), self.rnn, batch_size, fingerprint)

    def _lowered(self) -> Lowered:
        """All parts as one network of the core, of the parameters as they are."""
        found, versions = self._network, self._versions()
        if found is None or found.versions != versions:
            parts = self.rnn, self.embedding, self.head
            found = self._network = lowered_model(versions, *parts, self._table_of_steps())
        return found

    def _table_of_steps(self) -> _core.Table | None:
        """The embedding, folded into the recurrent layers, where that makes steps cheaper."""
        return None


def sequence_parts(
    embedding: Embedding | None,
    rnn: Any,
    sizes: Sizes,
    vocab_size: int | None,
    embedding_dim: int | None,
    input_size: int | None,
    dropout: float,
) -> tuple[Embedding | None, Any]:
    """An embedding where the inputs are tokens, and layers over it or over features."""
    dropout = as_probability(dropout, "dropout")
    if embedding is not None:
        given_embedding(embedding)
    if rnn is not None:
        sizes.check(sequence_layer(rnn), "rnn")
    has_tokens = embedding is not None or vocab_size is not None
    if has_tokens == (input_size is not None) and (has_tokens or rnn is None):
        raise ValueError(
            f"vocab_size is {shown(vocab_size)} and input_size is {shown(input_size)}, expected "
            f"one of them: vocab_size for tokens, input_size for features"
        )
    if has_tokens:
        if embedding_dim is None and embedding is None:
            embedding_dim = sizes.checked().hidden_size if rnn is None else rnn.input_size
        embedding = embedding_of(embedding, vocab_size, embedding_dim)
        return embedding, sizes.layers(embedding.dim, dropout) if rnn is None else rnn
    if embedding_dim is not None:
        raise ValueError(f"embedding_dim is {embedding_dim}, but features have no embedding")
    if rnn is None:
        return None, sizes.layers(as_size(input_size, "input_size", MAX_SIZE), dropout)
    if input_size not in (None, rnn.input_size):
        raise ArgumentError("input_size", input_size, f"the {rnn.input_size} of rnn")
    return None, rnn
