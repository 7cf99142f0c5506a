"""Language models: the next token from all tokens before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastrnn import _core
from fastrnn._arrays import (
    MAX_LAYERS,
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    as_choice,
    as_flag,
    as_float32,
    as_prefix,
    as_probability,
    as_seed,
    as_size,
)
from fastrnn._names import find_parts, renamed
from fastrnn.losses import LossResult
from fastrnn.models._base import RNNS, Folded, fits_table, folded
from fastrnn.models._objective import Backward, has_no_rows, nothing, scaled
from fastrnn.models._sequence import Rnn, SequenceModel
from fastrnn.nn import Embedding, Linear
from fastrnn.nn.module import LoadReport, fill_uniform, unfilled, with_shapes
from fastrnn.nn.pullback import once
from fastrnn.nn.stream import Stream, stack_stream


class LanguageModel(SequenceModel):
    """Embedding, recurrent layers and a linear head: tokens (T, N) ints -> logits (T, N, V).

    In training only: `dropout` acts on the embedding's output, between recurrent layers and before
    the head, with `locked_dropout` by one mask for all steps; `weight_drop` on recurrent weights.
    `tie_weights` makes the head use the embedding's table, which needs embedding_dim ==
    hidden_size and then starts like a head's weight. The loss is the mean cross-entropy of the
    targets that are not `ignore_index`, with `label_smoothing` of them spread over all tokens.
    Parameters are named embedding.weight, rnn.weight_ih_l0, ..., head.weight, head.bias.
    Source: the word language model of PyTorch's examples.
    """

    embedding: Embedding
    tie_weights: bool
    _inputs = "tokens"
    _derived = SequenceModel._derived | {"_table", "_rows"}
    # Of which versions of the parts, and made of them.
    _table: Folded | None
    _rows: tuple[tuple[int, ...], FloatArray] | None
    _options = ("dropout", "tie_weights")
    _settings = ("label_smoothing", "ignore_index", "weight_drop", "locked_dropout")

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        cell: str = "lstm",
        dropout: float = 0.0,
        tie_weights: bool = False,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        weight_drop: float = 0.0,
        locked_dropout: bool = False,
    ) -> None:
        vocab_size = as_size(vocab_size, "vocab_size", MAX_SIZE)
        embedding_dim = as_size(embedding_dim, "embedding_dim", MAX_SIZE)
        num_layers = as_size(num_layers, "num_layers", MAX_LAYERS)
        embedding = Embedding(vocab_size, embedding_dim)
        dropout = as_probability(dropout, "dropout")
        rnn = RNNS[as_choice(cell, "cell", tuple(RNNS))](
            embedding_dim,
            hidden_size,
            num_layers,
            dropout=dropout if num_layers != 1 else 0.0,
        )
        if as_flag(tie_weights, "tie_weights"):
            fill_uniform(embedding.weight, rnn.output_size**-0.5)
        self._compose(
            embedding,
            rnn,
            Linear(rnn.output_size, vocab_size),
            tie_weights=tie_weights,
            dropout=dropout,
            label_smoothing=label_smoothing,
            ignore_index=ignore_index,
            weight_drop=weight_drop,
            locked_dropout=locked_dropout,
        )

    def _compose(
        self,
        embedding: Embedding,
        rnn: Rnn,
        head: Linear,
        *,
        tie_weights: bool,
        dropout: float,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        weight_drop: float = 0.0,
        locked_dropout: bool = False,
    ) -> None:
        """Take the parts as they are."""
        if as_flag(tie_weights, "tie_weights") and embedding.dim != rnn.output_size:
            raise ValueError(
                f"tie_weights needs embedding_dim equal to the {rnn.output_size} features of the "
                f"recurrent layers, got embedding_dim {embedding.dim}"
            )
        if head.out_features != embedding.num:
            raise ValueError(
                f"the head gives {head.out_features} logits, expected {embedding.num} tokens"
            )
        self._take_parts(embedding, rnn, head, dropout, label_smoothing, ignore_index)
        self.weight_drop = as_probability(weight_drop, "weight_drop")
        self.locked_dropout = as_flag(locked_dropout, "locked_dropout")
        self.tie_weights = tie_weights
        if tie_weights:
            head.tie(embedding)
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

        The state is that of the recurrent layers: h, or (h, c) for an LSTM; `lengths` as theirs.
        """
        tokens = self._checked(tokens)
        if lengths is not None or tokens.size < self.vocab_size or not self._folds():
            y, state = self._run(tokens, state, lengths)
        else:  # fewer products with W_ih than steps, the same bits
            y, state = self.rnn._run_tokens(tokens, self._folded(), state)
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

    def stream(self, batch_size: int = 1) -> Stream:
        """A stream whose `step(token)` takes an int or ints (N,) and gives logits (V,) or (N, V).

        While V * G * H floats fit a small budget, tokens are looked up already multiplied with the
        first layer's weights, with the same bits as a result.
        """
        self.rnn._check_streams()
        arguments = (batch_size, self.fingerprint(), self.rnn._first_state)
        head = self.head._shared_dense()
        if self._folds():
            table = self._folded()
            return stack_stream(Stream, table.stack, *arguments, table=table, head=head)
        versions, rows = self._versions(), self._rows
        if rows is None or rows[0] != versions:
            rows = self._rows = versions, self.embedding.weight.copy()
        stack = self.rnn._shared_stack()
        return stack_stream(Stream, stack, *arguments, head=head, embedding=rows[1])

    def _folds(self) -> bool:
        """Whether there is one folded embedding (not one per direction) within the budget."""
        return not self.rnn.bidirectional and fits_table(self.rnn, self.vocab_size)

    def _folded(self) -> _core.Table:
        found = folded(self.rnn, self.embedding, self._versions(), self._table)
        self._table = found
        return found[1]

    def _forget(self) -> None:
        super()._forget()
        self._table = self._rows = None

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw all parameters anew; tied weights start like a head's."""
        super().reset_parameters(seed)
        if self.tie_weights:
            fill_uniform(self.embedding.weight, self.rnn.output_size**-0.5, as_seed(seed))
        self.repack()

    def load_state_dict(
        self, mapping: Mapping[str, ArrayLike], prefix: str = "", strict: bool = True
    ) -> LoadReport:
        """As `Module.load_state_dict`; with tied weights, one of the two names is enough."""
        if self.tie_weights:
            mapping = _with_both(with_shapes(mapping), prefix)
        return super().load_state_dict(mapping, prefix, strict)

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
        model._compose(embedding, rnn, head, tie_weights=is_tied, dropout=rnn.dropout)
        own_names = {"embedding.weight": names.embedding, "head.weight": names.head}
        found = {f"rnn.{key}": tensor for key, tensor in rnn.parameters.items()}
        for new, old in {**own_names, "head.bias": names.bias}.items():
            found |= {} if old is None else {new: mapping[old]}
        model.load_state_dict(found)
        return model


def _with_both(mapping: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Both names of a tied weight; they must not differ."""
    one, other = f"{prefix}embedding.weight", f"{prefix}head.weight"
    if one in mapping and other in mapping:
        if not np.array_equal(as_float32(mapping[one], one), as_float32(mapping[other], other)):
            raise ValueError(f"{one} and {other} differ, but this model ties them")
    elif one in mapping or other in mapping:
        weight = mapping.get(one, mapping.get(other))
        return {**mapping, one: weight, other: weight}
    return mapping
