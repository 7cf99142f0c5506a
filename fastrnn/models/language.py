"""Language models: the next token from all tokens before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastrnn import _core
from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    as_flag,
    as_float32,
    as_prefix,
    as_probability,
    as_size,
    with_article,
)
from fastrnn._names import renamed
from fastrnn.formats.language_model import find_parts
from fastrnn.losses import LossResult
from fastrnn.models._base import RNNS, Folded, fits_table, folded
from fastrnn.models._objective import Backward, has_no_rows, nothing, scaled
from fastrnn.models._parts import Sizes, head_of, is_recurrent, tie_head
from fastrnn.models._sequence import SequenceModel, sequence_parts
from fastrnn.nn import Embedding, Linear
from fastrnn.nn.making import unfilled
from fastrnn.nn.module import with_shapes
from fastrnn.nn.pullback import once
from fastrnn.nn.registry import registered


@registered
class LanguageModel(SequenceModel):
    """Embedding, recurrent layers and a linear head: tokens (T, N) ints -> logits (T, N, V).

    In training only: `dropout` acts on the embedding's output, between recurrent layers and before
    the head, with `locked_dropout` by one mask for all steps; `weight_drop` on recurrent weights.
    rnn: the recurrent layers, or others over sequences, such as a Sequential, in place of
    hidden_size, num_layers and cell (an LSTM of one layer by default); embedding and head: those
    parts as they are. What is said of a part that is given must agree with it.
    `tie_weights` makes the head use the embedding's table, which needs embedding_dim ==
    hidden_size and then starts like a head's weight. The loss is the mean cross-entropy of the
    targets that are not `ignore_index`, with `label_smoothing` of them spread over all tokens.
    Parameters are named embedding.weight, rnn.weight_ih_l0, ..., head.weight, head.bias.
    Source: the word language model of PyTorch's examples.
    """

    embedding: Embedding
    tie_weights: bool
    _inputs = "tokens"
    _derived = SequenceModel._derived | {"_table"}
    _table: Folded | None
    _options = ("dropout", "tie_weights")
    _settings = ("label_smoothing", "ignore_index", "weight_drop", "locked_dropout")

    def __init__(
        self,
        vocab_size: int | None = None,
        embedding_dim: int | None = None,
        hidden_size: int | None = None,
        num_layers: int | None = None,
        *,
        cell: str | None = None,
        dropout: float = 0.0,
        tie_weights: bool = False,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        weight_drop: float = 0.0,
        locked_dropout: bool = False,
        embedding: Embedding | None = None,
        rnn: Any = None,
        head: Linear | None = None,
    ) -> None:
        sizes = Sizes(hidden_size, num_layers, cell)
        is_new = embedding is None
        if is_new:  # not features, as other models may have instead
            as_size(vocab_size, "vocab_size", MAX_SIZE)
        embedding, rnn = sequence_parts(
            embedding, rnn, sizes, vocab_size, embedding_dim, None, dropout
        )
        assert embedding is not None
        head = head_of(head, rnn.output_size, embedding.num, "vocab_size")
        self._take_parts(embedding, rnn, head, dropout, label_smoothing, ignore_index)
        self.weight_drop = as_probability(weight_drop, "weight_drop")
        if self.weight_drop and not is_recurrent(rnn):
            raise ValueError(
                f"weight_drop is {weight_drop}, which needs a recurrent layer as rnn, not "
                f"{with_article(type(rnn).__name__)}: expected its layers to be in a WeightDrop"
            )
        self.locked_dropout = as_flag(locked_dropout, "locked_dropout")
        self.tie_weights = as_flag(tie_weights, "tie_weights")
        if tie_weights:
            tie_head(head, embedding, is_new)
        self._assemble()

    @property
    def vocab_size(self) -> int:
        """V, the number of tokens."""
        return self.embedding.num

    def __call__(
        self,
        tokens: ArrayLike,
        state: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> tuple[FloatArray, Any]:
        """logits (T, N, V) and the last state; tokens (T,) of one row give logits (T, V).

        The state is that of the layers: h, or (h, c) for an LSTM, a dict for a Sequential;
        `lengths` as theirs.
        """
        tokens = self._checked(tokens)
        if lengths is not None or tokens.size < self.vocab_size or not self._folds():
            y, state = self._run(tokens, state, lengths)
        else:  # fewer products with W_ih than steps, the same bits
            y, state = self.rnn._forward_folded(tokens, state, self._folded())
        return self.head(y), state

    def vjp(
        self,
        tokens: ArrayLike,
        state: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> tuple[tuple[FloatArray, Any], Callable[..., tuple[None, Any]]]:
        """As the call, in training mode, and pullback(dlogits, dstate=None) -> None, dstate_0."""
        tokens = self._checked(tokens)
        (y, state_n), to_tokens = self._run_vjp(tokens, state, lengths)
        logits, to_y = self._logits_vjp(y)

        def pullback(dlogits: ArrayLike, dstate: ArrayLike | None = None) -> tuple[None, Any]:
            return None, to_tokens(to_y(dlogits), dstate)[1]

        return (logits, state_n), once(pullback, "a LanguageModel")

    def loss(
        self,
        tokens: ArrayLike,
        targets: ArrayLike,
        state: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> LossResult:
        """The mean cross-entropy of targets (T, N) without dropout, and the last state.

        `lengths` (N,): steps past a row's end do not count.
        """
        if has_no_rows(tokens, targets):
            return nothing(state, owner="a LanguageModel")[0]
        logits, state_n = self(tokens, state, lengths=lengths)
        result, _ = self._objective(logits, targets, lengths, gradient=False)
        return result._replace(state=state_n)

    def loss_vjp(
        self,
        tokens: ArrayLike,
        targets: ArrayLike,
        state: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> tuple[LossResult, Backward]:
        """The same in training mode, and backward(scale=1.0, dstate=None) -> dstate_0.

        backward adds scale times the loss's gradient to `grads`.
        """
        if has_no_rows(tokens, targets):
            return nothing(state, owner="a LanguageModel")
        (logits, state_n), pullback = self.vjp(tokens, state, lengths=lengths)
        result, gradient = self._objective(logits, targets, lengths)

        def backward(scale: float = 1.0, dstate: ArrayLike | None = None) -> Any:
            return pullback(scaled(gradient, scale), dstate)[1]

        return result._replace(state=state_n), once(backward, "a LanguageModel's loss")

    def stream(self, batch_size: int = 1) -> Any:
        """A stream whose `step(token)` takes an int or ints (N,) and gives logits (V,) or (N, V).

        While V * G * H floats fit a small budget, tokens are looked up already multiplied with the
        first layer's weights, with the same bits as a result.
        """
        return self._step_stream(batch_size)

    def _table_of_steps(self) -> _core.Table | None:
        return self._folded() if self._folds() else None

    def _folds(self) -> bool:
        """Whether there is one folded embedding (not one per direction) within the budget."""
        if not is_recurrent(self.rnn) or self.rnn.bidirectional:
            return False
        return fits_table(self.rnn, self.vocab_size)

    def _folded(self) -> _core.Table:
        found = folded(self.rnn, self.embedding, self._versions(), self._table)
        self._table = found
        return found[1]

    def _forget(self) -> None:
        super()._forget()
        self._table = None

    @classmethod
    def from_state_dict(
        cls,
        mapping: Mapping[str, ArrayLike],
        prefix: str = "",
        *,
        rename: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> LanguageModel:
        """A model with the parameters of `mapping`, its sizes taken from their names and shapes.

        The parts may have other common names: embedding, encoder, embed, emb; head, decoder, fc,
        linear, out; the recurrent layers any, and the forms that theirs takes. `rename`: exact
        names, without `prefix`, to others, e.g. {"table": "embedding.weight"}. Weights are tied if
        the head has none of its own or the same. `overrides` are arguments of the recurrent layers
        that shapes do not show, but not batch_first (ValueError): tokens are always (T, N).
        """
        if overrides.get("batch_first", False) is not False:
            raise ValueError(
                f"batch_first is {overrides['batch_first']!r}, but the tokens of a LanguageModel "
                f"are always (T, N)"
            )
        mapping = renamed(with_shapes(mapping), rename, as_prefix(prefix))
        names = find_parts(mapping, prefix)
        rnn = RNNS[names.cell.lower()].from_state_dict(mapping, names.rnn, **overrides)
        table = as_float32(mapping[names.embedding], names.embedding)
        own = None if names.head is None else as_float32(mapping[names.head], names.head)
        model = cls.__new__(cls)
        with unfilled():
            embedding = Embedding(*table.shape)
            head = Linear(rnn.output_size, len(table), names.bias is not None)
        is_tied = own is None or np.array_equal(own, table)
        LanguageModel.__init__(
            model,
            tie_weights=is_tied,
            dropout=rnn.dropout,
            embedding=embedding,
            rnn=rnn,
            head=head,
        )
        own_names = {"embedding.weight": names.embedding, "head.weight": names.head}
        found = {f"rnn.{key}": tensor for key, tensor in rnn.parameters.items()}
        for new, old in {**own_names, "head.bias": names.bias}.items():
            found |= {} if old is None else {new: mapping[old]}
        model.load_state_dict(found)
        return model
