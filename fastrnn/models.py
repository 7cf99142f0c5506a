"""Whole models made of layers."""

from __future__ import annotations

from collections.abc import Mapping
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
    as_int64,
    as_probability,
    as_seed,
    as_size,
    check_indices,
)
from fastrnn._composite import Composite
from fastrnn._module import LoadReport, Module, fill_uniform, unfilled, with_shapes
from fastrnn._names import find_parts
from fastrnn.layers import Embedding, Linear
from fastrnn.rnn import GRU, LSTM, RNN
from fastrnn.streams import Stream, TokenStream

__all__ = ["LanguageModel"]

_RNNS: dict[str, type[RNN | LSTM | GRU]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}

# A stream looks tokens up in a folded table (embedding times W_ih) up to this size, because a
# table that leaves the L2 cache would cost more to read than the product it saves.
_TABLE_BUDGET_BYTES = 4 << 20


class LanguageModel(Composite):
    """Embedding, recurrent layers and a linear head: tokens (T, N) ints -> logits (T, N, V).

    `dropout` acts in training only; `tie_weights` makes the head use the embedding's table, which
    needs embedding_dim == hidden_size and then starts like a head's weight. Parameters are named
    embedding.weight, rnn.weight_ih_l0, ..., head.weight, head.bias. Source: the word language
    model of PyTorch's examples.
    """

    embedding: Embedding
    rnn: RNN | LSTM | GRU
    head: Linear
    dropout: float
    tie_weights: bool

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
    ) -> None:
        vocab_size = as_size(vocab_size, "vocab_size", MAX_SIZE)
        embedding_dim = as_size(embedding_dim, "embedding_dim", MAX_SIZE)
        num_layers = as_size(num_layers, "num_layers", MAX_LAYERS)
        embedding = Embedding(vocab_size, embedding_dim)
        self.dropout = as_probability(dropout, "dropout")
        rnn = _RNNS[as_choice(cell, "cell", tuple(_RNNS))](
            embedding_dim,
            hidden_size,
            num_layers,
            dropout=self.dropout if num_layers != 1 else 0.0,
        )
        if as_flag(tie_weights, "tie_weights"):
            fill_uniform(embedding.weight, rnn.output_size**-0.5)
        self._compose(embedding, rnn, Linear(rnn.output_size, vocab_size), tie_weights)

    def _compose(
        self, embedding: Embedding, rnn: RNN | LSTM | GRU, head: Linear, tie_weights: bool
    ) -> None:
        """Take the parts as they are."""
        if tie_weights and embedding.dim != rnn.output_size:
            raise ValueError(
                f"tie_weights needs embedding_dim equal to the {rnn.output_size} features of the "
                f"recurrent layers, got embedding_dim {embedding.dim}"
            )
        self.embedding, self.rnn, self.head, self.tie_weights = embedding, rnn, head, tie_weights
        if tie_weights:
            head.tie(embedding.weight, embedding.grads["weight"])
        self._assemble()
        self._table: _core.Table | None = None
        self._rows: FloatArray | None = None
        self._seen = self._versions()

    @property
    def vocab_size(self) -> int:
        """V, the number of tokens."""
        return self.embedding.num

    @property
    def config(self) -> dict[str, Any]:
        parts = {name: (type(p).__name__, p.config) for name, p in self._parts.items()}
        return {**parts, "dropout": self.dropout, "tie_weights": self.tie_weights}

    @property
    def _parts(self) -> dict[str, Module]:
        return {"embedding": self.embedding, "rnn": self.rnn, "head": self.head}

    def _name_parameters(self) -> None:
        if self.tie_weights:  # the table has moved
            self.head.share(self.embedding.weight, self.embedding.grads["weight"])
        super()._name_parameters()

    def __call__(self, tokens: ArrayLike, state: ArrayLike | None = None) -> tuple[FloatArray, Any]:
        """logits (T, N, V) and the last state; tokens (T,) of one row give logits (T, V).

        The state is that of the recurrent layers: h, or (h, c) for an LSTM.
        """
        tokens = self._checked(tokens, "tokens")
        if tokens.ndim not in (1, 2):
            raise ValueError(f"tokens has {tokens.ndim} dimensions, expected (T, N) or (T,)")
        if len(tokens) == 0:
            raise ValueError("tokens has 0 steps, this LanguageModel expects at least 1")
        self._refresh()
        if tokens.size < self.vocab_size or not self._folds():
            y, state = self.rnn(np.take(self.embedding.weight, tokens, axis=0), state)
        else:  # fewer products with W_ih than steps, the same bits
            y, state = self.rnn._run_tokens(tokens, self._folded(), state)
        return self.head(y), state

    def _checked(self, tokens: ArrayLike, name: str) -> Any:
        indices = as_int64(tokens, name)
        check_indices(indices, self.vocab_size, name)
        return indices

    def stream(self, batch_size: int = 1) -> Stream:
        """A stream whose `step(token)` takes an int or ints (N,) and gives logits (V,) or (N, V).

        While V * G * H floats fit a small budget, tokens are looked up already multiplied with the
        first layer's weights, with the same bits as a result.
        """
        self.rnn._check_streams()
        self._refresh()
        arguments = (self.rnn, batch_size, self.fingerprint())
        head = self.head._shared_dense()
        if self._folds():
            return Stream.over(*arguments, self._folded(), head)
        if self._rows is None:
            self._rows = self.embedding.weight.copy()
        stream = TokenStream.over(*arguments, None, head)
        stream.embedding = self._rows
        return stream

    def _folds(self) -> bool:
        """Whether there is one folded embedding (not one per direction) within the budget."""
        table_bytes = 4 * len(self.rnn.parameters["weight_ih_l0"]) * self.vocab_size
        return not self.rnn.bidirectional and table_bytes <= _TABLE_BUDGET_BYTES

    def _folded(self) -> _core.Table:
        if self._table is None:
            self._table = _core.Table(self.rnn._shared_stack(), self.embedding.weight)
        return self._table

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw all parameters anew; tied weights start like a head's."""
        super().reset_parameters(seed)
        if self.tie_weights:
            fill_uniform(self.embedding.weight, self.rnn.output_size**-0.5, as_seed(seed))
        self.repack()

    def _refresh(self) -> None:
        """Follow changes that were made through a part, and not through the model."""
        if self._versions() == self._seen:
            return
        if self.tie_weights:
            self.head.repack()
        self._table = self._rows = None
        self._seen = self._versions()

    def load_state_dict(
        self, mapping: Mapping[str, ArrayLike], prefix: str = "", strict: bool = True
    ) -> LoadReport:
        """As `Module.load_state_dict`; with tied weights, one of the two names is enough."""
        if self.tie_weights:
            mapping = _with_both(with_shapes(mapping), prefix)
        return super().load_state_dict(mapping, prefix, strict)

    @classmethod
    def from_state_dict(
        cls, mapping: Mapping[str, ArrayLike], prefix: str = "", **overrides: Any
    ) -> LanguageModel:
        """A model with the parameters of `mapping`, its sizes taken from their names and shapes.

        The parts may have other common names: embedding, encoder, embed, emb; head, decoder, fc,
        linear, out; the recurrent layers any. Weights are tied if the head has none of its own or
        the same. `overrides` are arguments of the recurrent layers that shapes do not show, but
        not batch_first (ValueError): tokens are always (T, N).
        """
        if overrides.get("batch_first", False) is not False:
            raise ValueError(
                f"batch_first is {overrides['batch_first']!r}, but the tokens of a LanguageModel "
                f"are always (T, N)"
            )
        mapping = with_shapes(mapping)
        names = find_parts(mapping, prefix)
        rnn = _RNNS[names.cell.lower()].from_state_dict(mapping, names.rnn, **overrides)
        table = as_float32(mapping[names.embedding], names.embedding)
        own = None if names.head is None else as_float32(mapping[names.head], names.head)
        model = cls.__new__(cls)
        model.dropout = rnn.dropout
        with unfilled():
            embedding = Embedding(*table.shape)
            head = Linear(rnn.output_size, len(table), names.bias is not None)
        model._compose(embedding, rnn, head, own is None or np.array_equal(own, table))
        own_names = {"embedding.weight": names.embedding, "head.weight": names.head}
        renamed = {f"rnn.{key}": mapping[names.rnn + key] for key in rnn.parameters}
        for new, old in {**own_names, "head.bias": names.bias}.items():
            renamed |= {} if old is None else {new: mapping[old]}
        model.load_state_dict(renamed)
        return model

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.embedding, self.rnn, self.head, self.tie_weights)
        return _reassembled, (*parts, self.dropout)


def _reassembled(
    embedding: Embedding,
    rnn: RNN | LSTM | GRU,
    head: Linear,
    tie_weights: bool,
    dropout: float,
) -> LanguageModel:
    model = LanguageModel.__new__(LanguageModel)
    model.dropout = dropout
    model._compose(embedding, rnn, head, tie_weights)
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
