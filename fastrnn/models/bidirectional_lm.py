"""Two language models, one in each direction, whose states say what a token means in its context.

Letters: T steps, N rows, V tokens, H units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastrnn._arrays import (
    ArrayLike,
    FloatArray,
    IntArray,
    as_int64,
    as_lengths,
    as_probability,
    check_indices,
    with_article,
)
from fastrnn.losses import LossResult
from fastrnn.models._base import SizedModel
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
from fastrnn.models._parts import (
    Sizes,
    cell_of,
    depth_of,
    embedding_of,
    head_of,
    last_of,
    one_direction,
)
from fastrnn.nn import Embedding, Linear, Sequential
from fastrnn.nn.dropout import Dropout, dropped
from fastrnn.nn.making import unfilled
from fastrnn.nn.recurrent_base import Recurrent
from fastrnn.nn.registry import registered
from fastrnn.nn.weight_drop import WeightDrop


@registered
class BidirectionalLanguageModel(SizedModel):
    """Predicts every token from those before it and, by other layers, from those after it.

    One embedding and one head serve both directions. `embed(tokens)` gives the states
    (T, N, 2 * H) that have read up to and with a token from either side: features of the token in
    its context for a SequenceTagger or a SequenceClassifier with input_size=2 * hidden_size;
    `embed_layers(tokens)` gives those of all layers, for a ScalarMix(num_layers + 1).
    inputs and targets as for a LanguageModel, targets one step later: forwards, inputs predict
    targets; backwards, targets predict inputs. The loss is the mean over both, without padding and
    targets equal to `ignore_index`. `dropout` as in a LanguageModel.
    forward and backward: the layers of the two directions, alike in sizes, RNN, LSTM, GRU or LiGRU
    of any options or a Sequential of several, in place of hidden_size, num_layers and cell (an LSTM
    of one layer by default); embedding and head: those parts.
    Parameters: embedding.weight, forward.weight_ih_l0, ..., backward.weight_ih_l0, ...,
    head.weight, head.bias. Source: Peters et al., Deep contextualized word representations, 2018.
    """

    _modules = ("embedding", "forward", "backward", "head")
    _shorthands = ("vocab_size", "embedding_dim", "hidden_size", "num_layers", "cell")
    _options = (*_shorthands, "dropout")
    _settings = ("label_smoothing", "ignore_index")

    def __init__(
        self,
        vocab_size: int | None = None,
        embedding_dim: int | None = None,
        hidden_size: int | None = None,
        num_layers: int | None = None,
        *,
        cell: str | None = None,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        embedding: Embedding | None = None,
        forward: Any = None,
        backward: Any = None,
        head: Linear | None = None,
    ) -> None:
        self._are_sizes_said = all(part is None for part in (embedding, forward, backward, head))
        self.dropout = as_probability(dropout, "dropout")
        self.label_smoothing = as_smoothing(label_smoothing)
        self.ignore_index = as_ignored(ignore_index)
        if forward is not None and forward is backward:
            raise ValueError("forward and backward are the same layer, expected two")
        sizes = Sizes(hidden_size, num_layers, cell)
        for layer, name in ((forward, "forward"), (backward, "backward")):
            if layer is not None:
                sizes.check(one_direction(layer, name), name)
        other = forward if backward is None else backward
        sizes, dim = sizes.like(other), other.input_size if other is not None else None
        self.embedding = embedding_of(
            embedding, vocab_size, dim if embedding_dim is None else embedding_dim
        )
        width = self.embedding.dim
        self.forward = sizes.layers(width, self.dropout) if forward is None else forward
        self.backward = sizes.layers(width, self.dropout) if backward is None else backward
        _check_alike(self.forward, self.backward, width)
        outputs = self.embedding.num
        self.head = head_of(head, self.forward.output_size, outputs, "vocab_size")
        self._assemble()

    @property
    def vocab_size(self) -> int:
        """V, the number of tokens."""
        return self.embedding.num

    @property
    def embedding_dim(self) -> int:
        """The width of a token's vector."""
        return self.embedding.dim

    @property
    def hidden_size(self) -> int:
        """H of each direction, of the last layer where they differ."""
        return last_of(self.forward).hidden_size

    @property
    def num_layers(self) -> int:
        """The layers of each direction."""
        return depth_of(self.forward)

    @property
    def cell(self) -> str:
        """Cell of the layers: "lstm", "gru", "rnn" or "ligru"."""
        return cell_of(self.forward)

    def embed(self, tokens: ArrayLike, lengths: ArrayLike | None = None) -> FloatArray:
        """The states (T, N, 2 * H) of tokens (T, N), forward half first; 0 past a row's end.

        Tokens (T,) give (T, 2 * H).
        """
        ids = as_int64(tokens, "tokens")
        if _is_one_row(ids, lengths):
            return self.embed(ids[:, None])[:, 0]
        ids, counts = self._checked(ids, lengths, "tokens")
        order = _reversed_steps(ids.shape, counts)
        x = np.take(self.embedding.weight, ids, axis=0)
        ahead, _ = self.forward(x, lengths=counts)
        behind, _ = self.backward(_along(x, order), lengths=counts)
        return np.concatenate((ahead, _along(behind, order)), axis=-1)

    def embed_layers(self, tokens: ArrayLike, lengths: ArrayLike | None = None) -> list[FloatArray]:
        """What every layer makes of tokens (T, N): num_layers + 1 arrays, 0 past a row's end.

        First the embeddings, twice, (T, N, 2 * E), then the states (T, N, 2 * H) of each layer, of
        which `embed` gives the last. All can be mixed where embedding_dim is hidden_size. Tokens
        (T,) give them without N. ValueError for directions that are networks of more than recurrent
        layers one after the other.
        """
        ids = as_int64(tokens, "tokens")
        if _is_one_row(ids, lengths):
            return [layer[:, 0] for layer in self.embed_layers(ids[:, None])]
        ids, counts = self._checked(ids, lengths, "tokens")
        order = _reversed_steps(ids.shape, counts)
        x = np.take(self.embedding.weight, ids, axis=0)
        if counts is not None:
            x[np.arange(len(ids))[:, None] >= counts] = 0
        found = [np.concatenate((x, x), axis=-1)]
        ahead = _each_layer(self.forward, "forward", x, counts)
        behind = _each_layer(self.backward, "backward", _along(x, order), counts)
        for one, other in zip(ahead, behind, strict=True):
            found.append(np.concatenate((one, _along(other, order)), axis=-1))
        return found

    def __call__(
        self, inputs: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """logits (T, N, V) of the targets given the inputs, and of the inputs given the targets."""
        first, second, counts = self._both(inputs, targets, lengths)
        order = _reversed_steps(first.shape, counts)
        weight = self.embedding.weight
        ahead, _ = self.forward(np.take(weight, first, axis=0), lengths=counts)
        x = np.take(weight, np.take_along_axis(second, order, axis=0), axis=0)
        behind, _ = self.backward(x, lengths=counts)
        return self.head(ahead), self.head(_along(behind, order))

    def loss(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        state: None = None,
        lengths: ArrayLike | None = None,
    ) -> LossResult:
        """The mean cross-entropy over both directions without dropout."""
        refuse_state(state, self)
        if has_no_rows(inputs, targets):
            return nothing(owner="a BidirectionalLanguageModel")[0]
        logits = np.concatenate(self(inputs, targets, lengths))
        return self._objective(logits, inputs, targets, lengths, gradient=False)[0]

    def loss_vjp(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        state: None = None,
        lengths: ArrayLike | None = None,
    ) -> tuple[LossResult, Backward]:
        """The same in training mode, and backward(scale=1.0), which adds to `grads`."""
        refuse_state(state, self)
        if has_no_rows(inputs, targets):
            return nothing(owner="a BidirectionalLanguageModel")
        first, second, counts = self._both(inputs, targets, lengths)
        order = _reversed_steps(first.shape, counts)
        ahead, to_ahead = self._states_vjp(self.forward, first, counts)
        turned = np.take_along_axis(second, order, axis=0)
        behind, to_behind = self._states_vjp(self.backward, turned, counts)
        joined, undropped = dropped(
            np.concatenate((ahead, _along(behind, order))), self.dropout, self.generator
        )
        logits, to_joined = self.head.vjp(joined)

        def pullback(dlogits: ArrayLike) -> None:
            dahead, dbehind = np.split(undropped(to_joined(dlogits)), 2)
            to_behind(_along(dbehind, order))
            to_ahead(dahead)

        result, gradient = self._objective(logits, inputs, targets, lengths)
        return result, stateless_backward(pullback, gradient, "a BidirectionalLanguageModel")

    def _states_vjp(
        self, rnn: Any, ids: IntArray, lengths: IntArray | None
    ) -> tuple[FloatArray, Callable[[FloatArray], None]]:
        generator = self.generator  # makes it the generator of all parts
        x, to_table = self.embedding.vjp(ids)
        x, undropped = dropped(x, self.dropout, generator)
        (y, _), to_x = rnn.vjp(x, None, lengths=lengths)

        def back(dy: FloatArray) -> None:
            to_table(undropped(to_x(dy)[0]))

        return y, back

    def _objective(
        self,
        logits: FloatArray,
        inputs: ArrayLike,
        targets: ArrayLike,
        lengths: ArrayLike | None,
        gradient: bool = True,
    ) -> tuple[LossResult, Any]:
        """Over targets, then inputs, as if the backward direction were more steps."""
        first, second = as_int64(inputs, "inputs"), as_int64(targets, "targets")
        ignored = -1 if self.ignore_index is None else self.ignore_index
        wanted = np.concatenate((second, first))
        if lengths is not None:
            inside = np.arange(len(first))[:, None] < as_int64(lengths, "lengths")
            wanted = np.where(np.concatenate((inside, inside)), wanted, ignored)
        smoothing = self.label_smoothing
        return classes(
            logits, wanted, ignore_index=ignored, label_smoothing=smoothing, gradient=gradient
        )

    def _both(
        self, inputs: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None
    ) -> tuple[IntArray, IntArray, IntArray | None]:
        """Both as tokens that can be read; what is past a row's end or ignored becomes 0."""
        second = as_int64(targets, "targets")
        if self.ignore_index is not None:
            second = np.where(second == self.ignore_index, 0, second)
        if lengths is not None and second.ndim == 2:
            ends = as_lengths(lengths, second.shape[1], len(second))
            second = np.where(np.arange(len(second))[:, None] < ends, second, 0)
        first, counts = self._checked(inputs, lengths, "inputs")
        second, _ = self._checked(second, lengths, "targets")
        if first.shape != second.shape:
            raise ValueError(f"targets has shape {second.shape}, inputs has {first.shape}")
        return first, second, counts

    def _checked(
        self, tokens: ArrayLike, lengths: ArrayLike | None, name: str
    ) -> tuple[IntArray, IntArray | None]:
        ids = as_int64(tokens, name)
        if ids.ndim != 2 or ids.size == 0:
            raise ValueError(f"{name} has shape {ids.shape}, expected (T, N), both >= 1")
        check_indices(ids, self.vocab_size, name)
        return ids, None if lengths is None else as_lengths(lengths, ids.shape[1], len(ids))


_STATES = ("h_0", "c_0")  # the learned ones, a row for each layer


def _is_one_row(tokens: IntArray, lengths: ArrayLike | None) -> bool:
    """Whether tokens are (T,) instead of (T, N)."""
    if tokens.ndim != 1 or not tokens.size:
        return False
    if lengths is not None:
        raise ValueError("lengths needs a batch, but tokens has 1 dimension")
    return True


def _check_alike(forward: Any, backward: Any, width: int) -> None:
    for name, layer in (("forward", forward), ("backward", backward)):
        if layer.input_size != width:
            raise ValueError(
                f"{name} takes {layer.input_size} features, expected the {width} of the embedding"
            )
    sizes = (
        ("num_layers", depth_of(forward), depth_of(backward)),
        ("output_size", forward.output_size, backward.output_size),
    )
    for what, one, other in sizes:
        if one != other:
            raise ValueError(f"backward has {what} {other}, expected {one}, as forward has it")


def _each_layer(
    rnn: Any, name: str, x: FloatArray, lengths: IntArray | None
) -> Iterator[FloatArray]:
    """What every layer of a direction gives, one after the other."""
    for layer in _stacked(rnn, name):
        for k in range(layer.num_layers):
            x, _ = _layer(layer, k)(x, lengths=lengths)
            yield x


def _stacked(module: Any, name: str) -> Iterator[Recurrent]:
    """The recurrent layers that a direction is made of; ValueError where it has other parts."""
    if isinstance(module, Recurrent):
        yield module
    elif isinstance(module, WeightDrop):
        yield module.rnn
    elif isinstance(module, Sequential):
        for part in module.modules:
            yield from _stacked(part, name)
    elif not isinstance(module, Dropout):
        raise ValueError(
            f"{name} has {with_article(type(module).__name__)} in it, expected recurrent layers "
            f"one after the other, whose results can be told apart"
        )


def _layer(rnn: Recurrent, k: int) -> Any:
    """Layer k alone, which has the bits that it has within the stack."""
    sizes = {"input_size": rnn.output_size if k else rnn.input_size, "num_layers": 1}
    with unfilled():
        alone = type(rnn)(**{**rnn.config, **sizes, "dropout": 0.0})
    states = {name: rnn.parameters[name][k : k + 1] for name in rnn.parameters if name in _STATES}
    names = {name: name.removesuffix("0") + str(k) for name in alone.parameters}
    weights = {name: rnn.parameters[own] for name, own in names.items() if name not in _STATES}
    alone.load_state_dict({**weights, **states})
    return alone


def _reversed_steps(shape: tuple[int, ...], lengths: IntArray | None) -> IntArray:
    """(T, N): the step that stands at each place when every row is read from its own end."""
    steps = np.broadcast_to(np.arange(shape[0])[:, None], shape)
    ends = np.full(shape[1], shape[0]) if lengths is None else lengths
    return np.where(steps < ends, ends - 1 - steps, steps)


def _along(x: FloatArray, order: IntArray) -> FloatArray:
    """x (T, N, F) in that order, which undoes itself."""
    return np.take_along_axis(x, order[..., None], axis=0)
