"""The parts of models: given as they are, or made to the sizes that are said."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastrnn._arrays import MAX_LAYERS, MAX_SIZE, as_choice, as_flag, as_size
from fastrnn._errors import ArgumentError, ArgumentTypeError, with_article
from fastrnn._names import listed
from fastrnn.models._base import RNNS, Rnn
from fastrnn.nn import Embedding, Linear
from fastrnn.nn.composite import check_free
from fastrnn.nn.graph import Network
from fastrnn.nn.module import Module
from fastrnn.nn.recurrent_base import Recurrent
from fastrnn.nn.weight_drop import WeightDrop

_PROTOCOL = ("input_size", "output_size", "vjp", "stream")


class Sizes(NamedTuple):
    """Options of recurrent layers; None where one is not given, for directions False."""

    hidden_size: int | None = None
    num_layers: int | None = None
    cell: str | None = None
    bidirectional: bool = False

    def checked(self) -> Sizes:
        """The same, if it is what layers can have."""
        hidden, layers, cell, both = self
        return Sizes(
            None if hidden is None else as_size(hidden, "hidden_size", MAX_SIZE),
            None if layers is None else as_size(layers, "num_layers", MAX_LAYERS),
            None if cell is None else as_choice(cell, "cell", tuple(RNNS)),
            as_flag(both, "bidirectional"),
        )

    def layers(self, input_size: int, dropout: float) -> Rnn:
        """New layers; one layer, an LSTM in one direction, where nothing else is said."""
        hidden, count, cell, both = self.checked()
        count = 1 if count is None else count
        return RNNS[cell or "lstm"](
            input_size,
            as_size(hidden, "hidden_size", MAX_SIZE),
            count,
            dropout=dropout if count > 1 else 0.0,
            bidirectional=both,
        )

    def like(self, layer: Any) -> Sizes:
        """The same, and what is not said as in the last of the layers that are given."""
        if layer is None:
            return self
        said = {name: size for name, size in self._asdict().items() if size is not None}
        own = Sizes(last_of(layer).hidden_size, depth_of(layer), cell_of(layer))
        return own._replace(**said)

    def check(self, layer: Any, name: str, depth: str = "num_layers") -> None:
        """Refuse layers that are not as it is said; `depth`: what num_layers is called."""
        for size, said in self.checked()._asdict().items():
            if said is None or said is False:
                continue
            if size == "cell":
                wanted = RNNS[said].__name__
                agrees = isinstance(layer, RNNS[said])
                found = f"{name} is {with_article(type(layer).__name__)}"
            else:
                own = getattr(layer, size, None)
                wanted, agrees, found = repr(said), own == said, f"{name} has {size} {own}"
                if not hasattr(layer, size):
                    found = f"{name} is {with_article(type(layer).__name__)} of sizes of its own"
            if not agrees:
                size = depth if size == "num_layers" else size
                text = f"{size} is {said!r}, but {found}: expected one of them, or the same"
                raise ArgumentError(size, said, f"{wanted}, as {name} has it", text)


def sequence_layer(layer: object, name: str = "rnn") -> Any:
    """A layer over sequences (T, N, *), which is called as the recurrent ones are.

    It has input_size, output_size, vjp, stream, and `y, state = layer(x, state, lengths=lengths)`.
    """
    if isinstance(layer, Network):
        _check_vectors(layer, name)
    if not isinstance(layer, Module) or not all(hasattr(layer, part) for part in _PROTOCOL):
        raise _of_wrong_kind(layer, name, "a layer over sequences, such as fastrnn.LSTM")
    check_free(layer, name)
    if getattr(layer, "batch_first", False):
        raise ValueError(f"{name} has batch_first=True, but a model's inputs are always (T, N, *)")
    return layer


def _check_vectors(network: Network, name: str) -> None:
    """Refuse a network that reads or gives anything but one vector for every step."""
    try:
        _ = network.input_size, network.output_size
    except AttributeError as error:
        raise ValueError(f"{name} is no layer over sequences of vectors: {error}") from None


def recurrent_layer(layer: object, name: str = "rnn") -> Any:
    """A recurrent layer, or a network of them, over sequences (T, N, *); its state is theirs."""
    kinds = ", ".join(with_article(kind.__name__) for kind in RNNS.values())
    expected = f"{kinds}, or a Sequential of them"
    if isinstance(layer, Network):
        if not layer.recurrent:
            raise _of_wrong_kind(layer, name, f"{expected}, got one without recurrent layers")
        others = [each for each in layer.carried if each not in layer.recurrent]
        if others:
            raise ValueError(
                f"{name} carries a state of {listed(others)}, expected states of recurrent layers "
                f"alone, which are handed from one part of the model to another"
            )
    elif not isinstance(layer, (*RNNS.values(), WeightDrop)):
        raise _of_wrong_kind(layer, name, expected)
    return sequence_layer(layer, name)


def one_direction(layer: object, name: str) -> Any:
    """The same, where it reads forwards alone."""
    rnn = recurrent_layer(layer, name)
    if rnn.bidirectional:
        raise ValueError(f"{name} is bidirectional, expected layers in one direction")
    return rnn


def layers_of(rnn: Any) -> dict[str, Recurrent]:
    """The recurrent layers of what `recurrent_layer` let through, in the order of its state.

    By the names of their states; the name of a layer that is no network is empty.
    """
    if isinstance(rnn, Network):
        return rnn.recurrent
    return {"": rnn.rnn if isinstance(rnn, WeightDrop) else rnn}


def depth_of(rnn: Any) -> int:
    """The layers on top of each other, each direction's once."""
    return sum(layer.num_layers for layer in layers_of(rnn).values())


def last_of(rnn: Any) -> Recurrent:
    """The last of those layers, which stands for all of them where one size is asked for."""
    return list(layers_of(rnn).values())[-1]


def cell_of(rnn: Any) -> str:
    """Name of its class as models' `cell`: "lstm", "gru", "rnn" or "ligru"."""
    last = last_of(rnn)
    return next(name for name, kind in RNNS.items() if isinstance(last, kind))


def is_recurrent(layer: object) -> bool:
    """True for a layer that the kernels run whole: tokens may be folded, and weights dropped."""
    return isinstance(layer, Recurrent)


def is_lowered(layer: object) -> bool:
    """True for a layer that the core runs together with what is before and behind it."""
    return isinstance(layer, (Recurrent, WeightDrop, Network))


def embedding_of(embedding: object, vocab_size: int | None, dim: int | None) -> Embedding:
    """The table that is given, if it has the sizes that are said; else a new one."""
    sizes = {"vocab_size": vocab_size, "embedding_dim": dim}
    checked = {k: None if v is None else as_size(v, k, MAX_SIZE) for k, v in sizes.items()}
    if embedding is None:
        as_size(vocab_size, "vocab_size", MAX_SIZE)
        return Embedding(*(as_size(value, name, MAX_SIZE) for name, value in checked.items()))
    table = given_embedding(embedding)
    for (name, said), own in zip(checked.items(), (table.num, table.dim), strict=True):
        if said not in (None, own):
            raise ArgumentError(name, said, f"the {own} of embedding")
    return table


def given_embedding(embedding: object) -> Embedding:
    """A table of vectors."""
    if not isinstance(embedding, Embedding):
        raise _of_wrong_kind(embedding, "embedding", "an Embedding")
    check_free(embedding, "embedding")
    return embedding


def head_of(head: object, in_features: int, outputs: int | None, name: str) -> Linear:
    """The linear map that is given, if it gives as many `outputs` as are said; else a new one.

    name: what the argument for `outputs` is called.
    """
    outputs = None if outputs is None else as_size(outputs, name, MAX_SIZE)
    if head is None:
        return Linear(in_features, as_size(outputs, name, MAX_SIZE))
    if not isinstance(head, Linear):
        raise _of_wrong_kind(head, "head", "a Linear")
    check_free(head, "head")
    if head.in_features != in_features:
        raise ValueError(
            f"the head takes {head.in_features} features, expected the {in_features} of the "
            f"recurrent layers"
        )
    if outputs not in (None, head.out_features):
        text = f"the head gives {head.out_features} numbers, expected {outputs} ({name})"
        raise ArgumentError(name, outputs, f"the {head.out_features} of head", text)
    return head


def tie_head(head: Linear, embedding: Embedding, is_new: bool) -> None:
    """Let the head use the embedding's table, which starts like a head's weight if it is new."""
    if embedding.dim != head.in_features:
        raise ValueError(
            f"tie_weights needs embedding_dim equal to the {head.in_features} features of the "
            f"recurrent layers, got embedding_dim {embedding.dim}"
        )
    head.tie(embedding)
    if is_new:
        head._fill_tied()


def _of_wrong_kind(value: object, name: str, expected: str) -> ArgumentTypeError:
    text = f"{name} is {with_article(type(value).__name__)}, expected {expected}"
    return ArgumentTypeError(name, value, expected, text)
