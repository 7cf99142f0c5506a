"""Whole networks of modules, called, streamed and trained as a layer is: by name, or in a row."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from fastrnn import _core
from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    as_float32,
    as_size,
    with_article,
)
from fastrnn._names import listed
from fastrnn.nn.composite import Composite
from fastrnn.nn.lowering import Carried, Lowering, Value, lowers
from fastrnn.nn.module import Module
from fastrnn.nn.network_call import Arguments, read_arguments
from fastrnn.nn.network_stream import NetworkStream, row_axis, state_in, state_out
from fastrnn.nn.packed import is_packed
from fastrnn.nn.recurrent_base import Recurrent
from fastrnn.nn.registry import registered, write
from fastrnn.nn.training import Pass, check_names, trained
from fastrnn.nn.weight_drop import WeightDrop

_MOST_NODES = 4096  # FR_MAX_OPERATIONS
Shape = int | tuple[int, ...] | list[int] | str | None  # channels, (length, channels), "tokens"


class Node(NamedTuple):
    """A module, and the names of the values it reads."""

    name: str
    module: Module
    inputs: tuple[str, ...]


class Lowered(NamedTuple):
    """The core's network, and of which versions of the parameters it is made."""

    versions: tuple[int, ...]
    network: _core.Network
    carried: list[Carried]
    pooled: frozenset[str]  # names of nodes, as those of states


class Network(Composite):
    """Base of Graph, Sequential and Residual: nodes in an order, inputs and outputs.

    Letters as in `recurrent.py`. y, state = net(x, state=None, *, lengths=None): x (T, N, I),
    (T, I) for one row, (N, T, I) if the recurrent layers inside are batch_first, or a
    PackedSequence of (*, I), which excludes lengths; frames have (L, C) in place of I, tokens
    nothing. Several inputs or outputs are tuples. y is laid out like x, 0 past the end of a row;
    of a pooled value it is (N, F). state: a dict of what every
    module carries by its name, (L, N, R) or a pair for a layer, (N, before, C) for a convolution
    along time; what is not given is learned or zero. The same bits by sequence, by step, by batch
    and in any split.
    """

    _derived = Composite._derived | {"_lowered"}
    _lowered: Lowered | None = None
    _nodes: list[Node]
    _shapes: dict[str, Shape]  # of the inputs; None: whatever it is part of gives
    _results: tuple[str, ...]

    def _build(self, nodes: list[Node], shapes: dict[str, Shape], results: tuple[str, ...]) -> None:
        """Take the nodes, check that they fit each other, and hold their parameters."""
        self._nodes, self._shapes, self._results = nodes, shapes, results
        if len(nodes) > _MOST_NODES:
            raise ValueError(f"a network has at most {_MOST_NODES} modules, got {len(nodes)}")
        self._batch_first = _one_order(self)
        if all(shape is not None for shape in shapes.values()):
            self._lower()
        self._assemble()

    def _title(self, name: str) -> str:
        """Name of a value in errors."""
        return f"input {name!r}" if name in self._shapes else f"node {name!r}"

    def _describe(self, node: Node) -> str:
        return f"{self._title(node.name)} ({type(node.module).__name__})"

    # ---- the core's network ----------------------------------------------------------------------

    def _lower(self) -> Lowered:
        low = Lowering()
        inputs = [self._input(low, name, shape) for name, shape in self._shapes.items()]
        outputs = self._lowered_from(low, inputs, "")
        places = [value.place for value in outputs]
        ports = [value.place for value in inputs]
        for name, place in zip(self._results, places, strict=True):
            if place in ports or places.count(place) > 1:
                raise ValueError(f"output {name!r} is an input or another output itself")
        network = _core.Network(type(self).__name__, low.operations, places)
        return Lowered(self._versions(), network, low.carried, frozenset(low.pooled))

    def _input(self, low: Lowering, name: str, shape: Shape) -> Value:
        title = self._title(name)
        if shape is None:
            raise ValueError(
                f"{title} has no shape, as no module tells how many features there are: expected "
                f"an input_shape"
            )
        if shape == "tokens":
            value = Value(-1, 1, 1, title, is_tokens=True)
            return low.add("tokens", (), value)._replace(is_tokens=True)
        length, channels = _as_shape(shape, title)
        value = Value(-1, length, channels, title)
        return low.add("input", (), value, length=length, channels=channels)

    def _lowered_from(self, low: Lowering, inputs: list[Value], path: str) -> list[Value]:
        """The operations of all nodes behind these values; `path` begins the names of states."""
        values = dict(zip(self._shapes, inputs, strict=True))
        for node in self._nodes:
            read = [values[name] for name in node.inputs]
            title = self._describe(node)
            values[node.name] = low.module(node.module, read, path + node.name, title)
            values[node.name] = values[node.name]._replace(name=self._title(node.name))
        return [values[name] for name in self._results]

    def _current(self) -> Lowered:
        """The network of the parameters as they are."""
        found = self._lowered
        if found is None or found.versions != self._versions():
            found = self._lowered = self._lower()
        return found

    def _forget(self) -> None:
        self._lowered = None

    # ---- calls -----------------------------------------------------------------------------------

    def __call__(
        self, x: Any, state: Mapping[str, Any] | None = None, *, lengths: ArrayLike | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """y and the last state of whole sequences; shapes as the class says."""
        lowered = self._current()
        error = lowered.network.run_error()
        if error is not None:
            raise ValueError(f"this {type(self).__name__} takes no sequences: {error}")
        x, counts, layout = given = self._arguments(x, lengths, lowered)
        slots = _core.Slots(lowered.network, given.rows)
        for part in state_in(lowered, state, given.rows, layout.flat, self):
            slots.write(*part)
        y = slots.run(x, counts, self._batch_first)
        results = [layout.outwards(*one) for one in zip(y, _ends(lowered), strict=True)]
        return _one_or_all(results), state_out(lowered, slots.read, layout.flat)

    def vjp(
        self,
        x: Any,
        state: Mapping[str, Any] | None = None,
        lengths: ArrayLike | None = None,
        *,
        flow: bool = False,
    ) -> tuple[tuple[Any, dict[str, Any]], Callable[..., tuple[Any, dict[str, Any]]]]:
        """(y, state), pullback: the outputs of the call in training mode, with dropout on.

        dx, dstate = pullback(dy, dstate=None), once, adds to `grads`: dy is shaped like y, dstate
        like the last state, what is missing in it being zero. x, y and the parameters must stay
        as they are until then. dx is None for tokens. With `flow`, the pullback sets `last_flow`
        of the recurrent layers inside (see GradientFlow).
        """
        lowered = self._current()
        x, counts, layout = given = self._arguments(x, lengths, lowered)
        parts, flat = state_in(lowered, state, given.rows, layout.flat, self), layout.flat
        trip = Pass(lowered.carried, lowered.pooled, parts, counts, self._batch_first, flow)
        _ = self.generator  # makes it the generator of all parts
        ends = _ends(lowered)
        y, back = trained(trip, self, x, ends, type(self).__name__)

        def pullback(
            dy: Any = None, dstate: Mapping[str, Any] | None = None
        ) -> tuple[Any, dict[str, Any]]:
            several = isinstance(dy, (tuple, list)) and len(y) > 1 and not is_packed(dy)
            dys = list(dy) if several else [dy]
            if len(dys) != len(y):
                raise ValueError(f"dy holds {len(dys)} gradients, expected {len(y)}")
            grads = [layout.inwards(one, "dy", end) for one, end in zip(dys, ends, strict=True)]
            dlast = check_names(dstate, trip.carried, f"this {type(self).__name__}")
            dx, dfirst = back(grads, _states(dlast, trip.carried, flat, _with_axis))
            dfirst = {name: dfirst[name] for name in trip.carried if name in dfirst}
            found = _one_or_all([layout.outwards(one) for one in dx])
            return found, _states(dfirst, trip.carried, flat, _without_axis)

        results = [layout.outwards(*one) for one in zip(y, ends, strict=True)]
        last = _states(trip.last, trip.carried, flat, _without_axis)
        return (_one_or_all(results), last), pullback

    def _arguments(self, x: Any, lengths: ArrayLike | None, lowered: Lowered) -> Arguments:
        names, ports = list(self._shapes), lowered.network.ports
        return read_arguments(x, lengths, names, ports, self._batch_first, self)

    def stream(self, batch_size: int = 1) -> NetworkStream:
        """A stream of `batch_size` rows from the first state; ValueError where a module needs the
        whole sequence: two directions, pooling, flipping, convolutions that are not causal.
        """
        self._check_streams()
        return NetworkStream.of(self._current(), batch_size, self.fingerprint())

    def _check_streams(self) -> None:
        """Refuse two directions; the rest is the core's to refuse."""
        for name, layer in self._recurrent():
            layer._check_streams(self._title(name))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .safetensors file, whole or not at all, that `fastrnn.load` reads."""
        write(self, path)

    # ---- parts -----------------------------------------------------------------------------------

    @property
    def _reads(self) -> Shape:
        return next(iter(self._shapes.values())) if len(self._shapes) == 1 else None

    @property
    def _parts(self) -> dict[str, Module]:
        return {node.name: node.module for node in self._nodes}

    @property
    def input_size(self) -> int:
        """Features of the one input; AttributeError for several, for frames and for tokens."""
        shapes = list(self._shapes.values())
        port = None if None in shapes or len(shapes) > 1 else self._current().network.ports[0]
        if port is None or isinstance(port, int) or port[0] > 1:
            raise AttributeError(f"this {type(self).__name__} does not read one vector for a step")
        return port[1]

    @property
    def output_size(self) -> int:
        """Features of the one output; AttributeError for several, frames and pooled values."""
        shapes = self._shapes.values()
        network = None if None in shapes else self._current().network
        length, channels, at_end = network.shape_of(network.places[0]) if network else (0, 0, True)
        if len(self._results) != 1 or length > 1 or at_end:
            raise AttributeError(f"this {type(self).__name__} does not give one vector for a step")
        return channels

    @property
    def batch_first(self) -> bool:
        """Whether x and y are (N, T, *), as the recurrent layers inside have them."""
        return self._batch_first

    @property
    def bidirectional(self) -> bool:
        """Whether a recurrent layer inside reads in both directions."""
        return any(layer.bidirectional for _, layer in self._recurrent())

    @property
    def recurrent(self) -> dict[str, Recurrent]:
        """The recurrent layers inside by the names of their states, in the order of the state."""
        return dict(self._recurrent())

    @property
    def carried(self) -> list[str]:
        """Names of the modules inside that have a state."""
        return [one.name for one in self._current().carried]

    def _recurrent(self) -> Iterator[tuple[str, Recurrent]]:
        """The recurrent layers inside, by the names of their states."""
        for node in self._nodes:
            if isinstance(node.module, WeightDrop):
                yield node.name, node.module.rnn
            elif isinstance(node.module, Recurrent):
                yield node.name, node.module
            elif isinstance(node.module, Network):
                for name, module in node.module._recurrent():
                    yield f"{node.name}.{name}", module


def _ends(lowered: Lowered) -> list[bool]:
    """Which outputs are one value for a whole sequence."""
    return [lowered.network.shape_of(place)[2] for place in lowered.network.places]


def _with_axis(value: Any, axis: int | None) -> Any:
    """A state's gradient that may lack the axis of rows, with it; None stays None."""
    if value is None:
        return None
    array = as_float32(value, "dstate")
    return array if axis is None else np.expand_dims(array, axis)


def _without_axis(value: Any, axis: int | None) -> Any:
    return value if value is None or axis is None else value.squeeze(axis)


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


def _states(
    states: Mapping[str, Any],
    carried: Mapping[str, Carried],
    flat: bool,
    change: Callable[[Any, int | None], Any],
) -> dict[str, Any]:
    """States, or their gradients, each part changed at its axis of rows (None unless flat)."""
    found: dict[str, Any] = {}
    for name, value in states.items():
        axis = row_axis(carried[name].module) if flat else None
        parts = value if isinstance(value, (tuple, list)) else (value,)
        found[name] = _one_or_all([change(part, axis) for part in parts])
    return found


def _one_order(network: Network) -> bool:
    """The common `batch_first` of the modules inside that have one, False without any."""
    orders = dict(_orders(network, ""))
    if len(orders) > 1:
        raise ValueError(
            f"{orders[True]} is batch_first and {orders[False]} is not, expected one order of x "
            f"for all modules"
        )
    return next(iter(orders), False)


def _orders(network: Network, path: str) -> Iterator[tuple[bool, str]]:
    """`batch_first` and name of the modules inside for which rows and steps are not the same."""
    for node in network._nodes:
        if isinstance(node.module, Network):
            yield from _orders(node.module, f"{path}{node.name}.")
        elif hasattr(node.module, "batch_first"):
            yield node.module.batch_first, path + node.name


@lowers(Network)
def _lower_network(low: Lowering, module: Network, x: list[Value], path: str, name: str) -> Value:
    """A network inside another one, whose own input's shape is what comes."""
    if len(x) != len(module._shapes):
        raise ValueError(f"{name} reads {len(x)} values, expected {len(module._shapes)}")
    for value, (key, shape) in zip(x, module._shapes.items(), strict=True):
        if shape in (None, "tokens"):
            continue
        length, channels = _as_shape(shape, key)
        if (value.length, value.channels) != (length, channels):
            if value.length == length == 1:
                raise ValueError(
                    f"{name} expects {channels} features, {value.name} gives {value.channels}"
                )
            raise ValueError(
                f"{name} expects {length} x {channels}, {value.name} gives {value.length} x "
                f"{value.channels}"
            )
    outputs = module._lowered_from(low, x, f"{path}.")
    if len(outputs) != 1:
        raise ValueError(f"{name} gives {len(outputs)} values, expected one")
    return outputs[0]


def _as_shape(shape: Any, title: str) -> tuple[int, int]:
    """(length, channels) of channels alone or of both."""
    sizes = list(shape) if isinstance(shape, (tuple, list)) else [shape]
    if len(sizes) not in (1, 2):
        raise ValueError(f"{title} has {len(sizes)} sizes, expected channels or (length, channels)")
    checked = [as_size(size, title, MAX_SIZE) for size in sizes]
    return (1, checked[0]) if len(checked) == 1 else (checked[0], checked[1])


@registered
class Graph(Network):
    """A network with branches, by name.

    inputs: names to shapes, channels or (length, channels) per row and step, or "tokens".
    modules: names to modules, in an order in which every one reads what stands before it; `Add`,
    `Multiply`, `Concatenate`, `Select`, `Reshape`, `Pooling` and `Flip` are modules too. wires: for
    a module the name, or names, of what it reads; without, it reads the module before it (the first
    one the first input). outputs: a name or several, by default the last module.

        Graph({"x": 257}, {"rnn": LSTM(257, 128, 2), "head": Linear(128, 257), "mask": Sigmoid(),
              "y": Multiply()}, wires={"y": ("mask", "x")})

    Calls, streams, training and files as of every network (`Network`); parameters are named
    `module.parameter`. Wrong names, and modules that do not fit each other, are a ValueError.
    """

    _modules = ("modules",)
    _options = ("inputs", "wires", "outputs")

    def __init__(
        self,
        inputs: Mapping[str, Any],
        modules: Mapping[str, Module],
        wires: Mapping[str, Any] | None = None,
        outputs: str | tuple[str, ...] | list[str] | None = None,
    ) -> None:
        _check_names(inputs, "inputs")
        _check_names(modules, "modules")
        self.inputs, self.modules = dict(inputs), dict(modules)
        self.wires = {name: _names(value) for name, value in (wires or {}).items()}
        self.outputs = [list(modules)[-1]] if outputs is None else _names(outputs)
        nodes = self._wired()
        shapes = {
            name: shape if shape == "tokens" else _as_shape(shape, f"input {name!r}")
            for name, shape in inputs.items()
        }
        unknown = [name for name in self.outputs if name not in modules]
        if unknown or not self.outputs:
            raise ValueError(f"outputs has {listed(unknown)}, expected names of modules")
        self._build(nodes, shapes, tuple(self.outputs))

    def _wired(self) -> list[Node]:
        """The modules with what they read."""
        known, nodes, before = set(self.inputs), [], next(iter(self.inputs))
        unknown = [name for name in self.wires if name not in self.modules]
        if unknown:
            raise ValueError(f"wires has {listed(unknown)}, expected names of modules")
        for name, module in self.modules.items():
            if name in known:
                raise ValueError(f"{name!r} is an input and a module, expected different names")
            read = tuple(self.wires.get(name, [before]))
            missing = [one for one in read if one not in known]
            if missing:
                raise ValueError(
                    f"node {name!r} reads {listed(missing)}, expected an input or a module "
                    f"before it"
                )
            if not isinstance(module, Module):
                kind = with_article(type(module).__name__)
                raise TypeError(f"node {name!r} is {kind}, expected a module")
            nodes.append(Node(name, module, read))
            known.add(name)
            before = name
        return nodes


def _names(value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else list(value)
    if not all(isinstance(name, str) for name in names):
        raise TypeError("wires and outputs are names, or lists of names")
    return names


def _check_names(mapping: Any, what: str) -> None:
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{what} is {with_article(type(mapping).__name__)}, expected a mapping")
    if not mapping:
        raise ValueError(f"{what} is empty, expected at least one name")
    for name in mapping:
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"{what} has the name {name!r}, expected text without dots")
