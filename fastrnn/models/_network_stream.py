"""Models as one network of the core, from their inputs to their head: one call for every step."""

from __future__ import annotations

from typing import Any, TypeVar

from fastrnn import _core
from fastrnn.nn import Embedding, Linear
from fastrnn.nn.graph import Lowered, Network
from fastrnn.nn.lowering import Carried, Lowering, Value
from fastrnn.nn.network_stream import NetworkStream, carried_parts
from fastrnn.nn.stream import Stream, stack_operation
from fastrnn.nn.weight_drop import WeightDrop

Kind = TypeVar("Kind", bound=Stream)


def lowered_model(
    versions: tuple[int, ...],
    layer: Any,
    embedding: Embedding | None,
    head: Linear,
    table: _core.Table | None = None,
) -> Lowered:
    """Embedding or features, layer and head as a network, made of parameters of these `versions`.

    table: the embedding, folded into a recurrent layer.
    """
    low = Lowering()
    if table is not None:
        low.add("tokens", (), Value(-1, 1, 1, "x"), vocabulary=table.tokens)
        first = layer._first_state
        low.operations.append(stack_operation(table.stack, 0, first, table=table))
        low.carried.append(Carried("", layer, 1))
        value = Value(1, 1, layer.output_size, "rnn")
    else:
        value = low.layer(layer, _inputs(low, layer, embedding))
    place = low.add("linear", (value.place,), value, weights=head._shared_dense()).place
    network = _core.Network(type(layer).__name__, low.operations, [place])
    return Lowered(versions, network, low.carried, frozenset(low.pooled))


def _inputs(low: Lowering, layer: Any, embedding: Embedding | None) -> Value:
    """What the layer reads: features, or the vectors of tokens."""
    if embedding is None:
        size = layer.input_size
        return low.add("input", (), Value(-1, 1, size, "x"), channels=size)
    tokens = low.add("tokens", (), Value(-1, 1, embedding.dim, "x"), vocabulary=embedding.num)
    return low.add("embed", (tokens.place,), tokens, embedding=embedding.weight.copy())


def network_stream(
    kind: type[Kind], lowered: Lowered, layer: Any, batch_size: int, fingerprint: bytes
) -> Kind:
    """A stream through such a network; its state is that of the layer's own stream.

    kind: a NetworkStream if the layer is a network, with a dict for a state, else another Stream.
    """
    layer = layer.rnn if isinstance(layer, WeightDrop) else layer
    layer._check_streams()
    if issubclass(kind, NetworkStream):
        return kind.of(lowered, batch_size, fingerprint)
    parts = [part for one in lowered.carried for part in carried_parts(one, lowered.network)]
    return kind.over(lowered.network, batch_size, fingerprint, parts)


def stream_kind(layer: Any) -> type[Stream]:
    """Which kind of stream has the state of such a layer."""
    return NetworkStream if isinstance(layer, Network) else Stream
