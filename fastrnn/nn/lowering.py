"""From modules to operations of the core's networks: which value has which shape, what is carried.

A module is lowered by what its class is; one of another class cannot be part of a network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastrnn._arrays import with_article
from fastrnn.nn.activation import Activation, Magnitude
from fastrnn.nn.conv import Conv1d
from fastrnn.nn.dropout import Dropout
from fastrnn.nn.elementwise import PReLU, ScaleShift
from fastrnn.nn.embedding import Embedding
from fastrnn.nn.joins import Add, Concatenate, Multiply, Reshape, Select
from fastrnn.nn.linear import Linear
from fastrnn.nn.module import Module
from fastrnn.nn.norm import LayerNorm
from fastrnn.nn.pooling import Flip, Pooling
from fastrnn.nn.recurrent_base import Recurrent
from fastrnn.nn.stream import Operation, stack_operation
from fastrnn.nn.weight_drop import WeightDrop

_SCALE_SHIFT, _PRELU = 0, 1  # enum fr_channel_rule
_POOLS = {"last": 0, "mean": 1, "max": 2}


class Value(NamedTuple):
    """Value of an operation: one per row and step, or one per row if it is `pooled`."""

    place: int  # of the operation
    length: int
    channels: int
    name: str  # how errors call it
    pooled: bool = False
    is_tokens: bool = False

    @property
    def width(self) -> int:
        return self.length * self.channels


class Carried(NamedTuple):
    """A module with a state, where its operation is, and its parts' shapes."""

    name: str
    module: Module
    place: int


class Lowering:
    """Operations as they are collected, and what they carry from step to step."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.carried: list[Carried] = []
        self.pooled: list[str] = []  # paths of modules that give one value for a sequence

    def add(self, kind: str, places: tuple[int, ...], value: Value, **options: Any) -> Value:
        """An operation whose value is like `value`, but for its place."""
        self.operations.append((kind, places, options))
        return value._replace(place=len(self.operations) - 1, is_tokens=False)

    def module(self, module: Module, inputs: list[Value], path: str, name: str) -> Value:
        """The operations of a module; `path` names its state, `name` is what errors call it."""
        if any(value.is_tokens for value in inputs) and not isinstance(module, Embedding):
            raise ValueError(f"{name} reads tokens, expected an Embedding there")
        for cls in type(module).__mro__:
            if cls in _LOWERED:
                if type(module).__call__ is not cls.__call__ and cls is not Recurrent:
                    break
                wanted = 2 if cls in (Add, Multiply) else None if cls is Concatenate else 1
                if wanted is not None and len(inputs) != wanted:
                    raise ValueError(f"{name} reads {len(inputs)} values, expected {wanted}")
                value = _LOWERED[cls](self, module, inputs, path, name)._replace(name=name)
                if value.pooled:
                    self.pooled.append(path)
                return value
        raise TypeError(
            f"{name} is {with_article(type(module).__name__)}, which cannot be part of a network"
        )

    def layer(self, layer: Any, value: Value) -> Value:
        """The operations of a layer over sequences, whose state has the names that it gives it."""
        if hasattr(layer, "_lowered_from"):
            found: Value = layer._lowered_from(self, [value], "")[0]
            return found
        return self.module(layer, [value], "", "rnn")


def _expect(value: Value, got: int, wanted: int, name: str, what: str = "features") -> None:
    if got != wanted:
        raise ValueError(f"{name} expects {wanted} {what}, {value.name} gives {got}")


def _steps_only(value: Value, name: str) -> None:
    if value.pooled:
        raise ValueError(f"{name} reads steps, {value.name} is one value for the whole sequence")


def _recurrent(low: Lowering, module: Any, x: list[Value], path: str, name: str) -> Value:
    (value,) = x
    _steps_only(value, name)
    _expect(value, value.width, module.input_size, name)
    module = module.rnn if isinstance(module, WeightDrop) else module
    place = len(low.operations)
    kind, places, options = stack_operation(
        module._shared_stack(), value.place, module._first_state
    )
    low.carried.append(Carried(path, module, place))
    shape = value._replace(length=1, channels=module.output_size)
    return low.add(kind, places, shape, **options)


def _linear(low: Lowering, module: Any, x: list[Value], path: str, name: str) -> Value:
    (value,) = x
    _expect(value, value.channels, module.in_features, name)
    shape = value._replace(channels=module.out_features)
    return low.add("linear", (value.place,), shape, weights=module._shared_dense())


def _convolution(low: Lowering, module: Any, x: list[Value], path: str, name: str) -> Value:
    (value,) = x
    _expect(value, value.channels, module.in_channels, name, "channels")
    before, after = module._around
    reach = (module.kernel_size - 1) * module.dilation
    if module.over == "frame":
        length = (value.length + before + after - reach - 1) // module.stride + 1
        if length < 1:
            raise ValueError(
                f"{name} expects at least {reach + 1 - before - after} vectors in a frame, "
                f"{value.name} gives {value.length}"
            )
        shape = value._replace(length=length, channels=module.out_channels)
        return low.add("conv", (value.place,), shape, weights=module._packed, positions=length)
    _steps_only(value, name)
    if value.length > 1:
        raise ValueError(f"{name} runs along time, {value.name} gives frames: over='frame'?")
    if module.stride != 1 or before + after != reach:
        raise ValueError(
            f"{name} gives another number of steps than it reads, expected padding='causal' or "
            f"'same' and stride 1"
        )
    if (before, after) == (reach, 0) and reach:
        low.carried.append(Carried(path, module, len(low.operations)))
    shape = value._replace(channels=module.out_channels)
    return low.add("conv_time", (value.place,), shape, weights=module._packed)


def _activation(low: Lowering, module: Any, x: list[Value], path: str, name: str) -> Value:
    (value,) = x
    shape = value
    if isinstance(module, Magnitude):
        if value.channels % 2:
            raise ValueError(
                f"{name} expects an even number of features, {value.name} gives {value.channels}"
            )
        shape = value._replace(channels=value.channels // 2)
    return low.add("activate", (value.place,), shape, weights=module._kernel)


def _scale(low: Lowering, module: Any, x: list[Value], path: str, name: str) -> Value:
    (value,) = x
    _expect(value, value.channels, module.num_features, name)
    scale, shift = (module.parameters[key].copy() for key in ("weight", "bias"))
    options = {"function": _SCALE_SHIFT, "scale": scale, "shift": shift}
    return low.add("channels", (value.place,), value, **options)


def _prelu(low: Lowering, module: Any, x: list[Value], path: str, name: str) -> Value:
    (value,) = x
    weight = module.parameters["weight"]
    if weight.size > 1:
        _expect(value, value.channels, weight.size, name)
    scale = np.broadcast_to(weight, (value.channels,)).copy()
    return low.add("channels", (value.place,), value, function=_PRELU, scale=scale)


def _layer_norm(low: Lowering, module: Any, x: list[Value], path: str, name: str) -> Value:
    (value,) = x
    _expect(value, value.channels, module.size, name)
    scale, shift = (module.parameters[key].copy() for key in ("weight", "bias"))
    return low.add("layer_norm", (value.place,), value, scale=scale, shift=shift, eps=module.eps)


def _dropout(low: Lowering, module: Any, x: list[Value], path: str, name: str) -> Value:
    return x[0]


def _embedding(low: Lowering, module: Any, x: list[Value], path: str, name: str) -> Value:
    (value,) = x
    if not value.is_tokens:
        raise ValueError(f"{name} reads tokens, {value.name} gives numbers")
    vocabulary = low.operations[value.place][2]
    vocabulary["vocabulary"] = min(vocabulary.get("vocabulary", module.num), module.num)
    shape = value._replace(channels=module.dim)
    return low.add("embed", (value.place,), shape, embedding=module.weight.copy())


def _combined(low: Lowering, module: Any, x: list[Value], path: str, name: str) -> Value:
    a, b = x
    wide = a if a.width >= b.width else b
    for value in x:
        if value.length not in (1, wide.length) or value.channels not in (1, wide.channels):
            raise ValueError(
                f"{name} expects two values of one shape, {a.name} gives {a.length} x {a.channels} "
                f"and {b.name} {b.length} x {b.channels}"
            )
    if a.pooled != b.pooled:
        raise ValueError(f"{name} expects steps, or one value for the sequence, in both inputs")
    kind = "add" if isinstance(module, Add) else "multiply"
    return low.add(kind, (a.place, b.place), wide)


def _concatenated(low: Lowering, module: Any, x: list[Value], path: str, name: str) -> Value:
    if not x:
        raise ValueError(f"{name} reads no values, expected at least 1")
    if len({(value.length, value.pooled) for value in x}) > 1:
        lengths = ", ".join(f"{value.name} has {value.length}" for value in x)
        raise ValueError(f"{name} expects values of one length, {lengths}")
    places = tuple(value.place for value in x)
    shape = x[0]._replace(channels=sum(value.channels for value in x))
    return low.add("concatenate", places, shape)


def _selected(low: Lowering, module: Any, x: list[Value], path: str, name: str) -> Value:
    (value,) = x
    if value.channels < module.stop:
        raise ValueError(
            f"{name} expects at least {module.stop} features, {value.name} gives {value.channels}"
        )
    shape = value._replace(channels=module.stop - module.start)
    options = {"first": module.start, "channels": shape.channels}
    return low.add("select", (value.place,), shape, **options)


def _reshaped(low: Lowering, module: Any, x: list[Value], path: str, name: str) -> Value:
    (value,) = x
    _expect(value, value.width, module.length * module.channels, name, "numbers")
    shape = value._replace(length=module.length, channels=module.channels)
    options = {"length": module.length, "channels": module.channels}
    return low.add("reshape", (value.place,), shape, **options)


def _pooled(low: Lowering, module: Any, x: list[Value], path: str, name: str) -> Value:
    (value,) = x
    _steps_only(value, name)
    shape = value._replace(pooled=True)
    return low.add("pool", (value.place,), shape, function=_POOLS[module.kind])


def _flipped(low: Lowering, module: Any, x: list[Value], path: str, name: str) -> Value:
    (value,) = x
    _steps_only(value, name)
    return low.add("flip", (value.place,), value)


_LOWERED: dict[type, Callable[[Lowering, Any, list[Value], str, str], Value]] = {
    Recurrent: _recurrent,
    WeightDrop: _recurrent,
    Linear: _linear,
    Conv1d: _convolution,
    Activation: _activation,
    ScaleShift: _scale,
    PReLU: _prelu,
    LayerNorm: _layer_norm,
    Dropout: _dropout,
    Embedding: _embedding,
    Add: _combined,
    Multiply: _combined,
    Concatenate: _concatenated,
    Select: _selected,
    Reshape: _reshaped,
    Pooling: _pooled,
    Flip: _flipped,
}


def lowers(kind: type[Module]) -> Callable[[Any], Any]:
    """Note how modules of a class are lowered: networks inside others."""

    def note(function: Any) -> Any:
        _LOWERED[kind] = function
        return function

    return note
