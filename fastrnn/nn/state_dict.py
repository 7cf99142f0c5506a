"""From the parameters of a recurrent layer, as others name them, to a layer's own."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np

from fastrnn._arrays import ArrayLike, FloatArray, as_float32, as_prefix, with_article
from fastrnn._names import listed, renamed
from fastrnn.nn.architecture import Architecture, find_layer, find_states
from fastrnn.nn.layer_names import NameIndex
from fastrnn.nn.module import with_shapes

__all__ = ["agreed", "read_layer", "refuse_states_around"]


def read_layer(
    mapping: Mapping[str, ArrayLike], prefix: str, rename: Mapping[str, str] | None, family: str
) -> tuple[dict[str, Any], dict[str, FloatArray]]:
    """The constructor arguments that `mapping` tells of a layer or cell, and its tensors by name.

    ValueError for the parameters of another family, and for names under `prefix` that such a layer
    does not have.
    """
    mapping = renamed(with_shapes(mapping), rename, as_prefix(prefix))
    index = NameIndex(mapping)
    found = find_layer(mapping, index, prefix)
    layer = found.architecture
    if layer.cell != family.removesuffix("Cell"):
        given = with_article(layer.cell + ("Cell" if layer.single_step else ""))
        raise ValueError(f"mapping has the parameters of {given}, expected {with_article(family)}")
    used = set(found.sources.values())
    unused = [name for name in mapping if name.startswith(prefix) and name not in used]
    if unused:
        kind, places = with_article(family), [p for p in index.recurrent if p != prefix]
        hint = f"; did you mean prefix={listed(places)}?" if len(places) == 1 else ""
        raise ValueError(f"these parameters do not fit {kind}: unexpected {listed(unused)}{hint}")
    tensors = {
        key: np.zeros(found.shapes[key], np.float32)
        if name is None
        else as_float32(mapping[name], name).reshape(found.shapes[key])
        for key, name in found.sources.items()
    }
    if not family.endswith("Cell"):
        return _layer_arguments(layer), tensors
    return _cell_arguments(layer, family), {n.removesuffix("_l0"): t for n, t in tensors.items()}


def agreed(told: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments: those that parameters tell, and `overrides`, which may not differ."""
    for name, value in overrides.items():
        comparable = isinstance(value, (str, Integral))  # the constructor refuses others
        if name in told and comparable and value != told[name]:
            raise ValueError(f"{name} is {value!r}, but the parameters have {told[name]!r}")
    arguments = {**told, **overrides}
    if arguments.get("learned_state") is False:
        del arguments["learned_state"]  # constructors of subclasses need not know it
    return arguments


def _layer_arguments(found: Architecture) -> dict[str, Any]:
    """The constructor arguments that the names and shapes of a layer's parameters tell."""
    told: dict[str, Any] = {
        "input_size": found.input_size,
        "hidden_size": found.hidden_size,
        "num_layers": found.num_layers,
        "bidirectional": found.bidirectional,
        "bias": found.bias,
        "learned_state": found.learned_state,
    }
    if found.cell == "LSTM":
        told |= {"proj_size": found.proj_size, "peephole": found.peephole}
    if found.bidirectional and found.num_layers > 1:
        told["merge"] = found.merge
    return told


def _cell_arguments(found: Architecture, family: str) -> dict[str, Any]:
    """The same of a cell; ValueError for what is more than one layer's step."""
    steps = found.num_layers, found.bidirectional, found.proj_size, found.learned_state
    if steps != (1, False, 0, False):
        raise ValueError(
            f"mapping has the parameters of {found.constructor()}, expected those of "
            f"{with_article(family)}: one layer, one direction, no projection, no learned initial "
            f"state"
        )
    every = _layer_arguments(found)
    kept = ("input_size", "hidden_size", "bias", "peephole")
    return {name: every[name] for name in kept if name in every}


def refuse_states_around(
    mapping: Mapping[str, ArrayLike], prefix: str, layer: tuple[Any, int, int, int, bool, int]
) -> None:
    """ValueError where a module around `prefix` holds an initial state that a layer would lose.

    layer: its family, input and hidden size, layers, whether bidirectional, projected size.
    """
    mapping = with_shapes(mapping)
    index = NameIndex(mapping)
    if index.states(prefix):
        return  # right there, where they are unexpected like any other name
    states = find_states(mapping, index, prefix, Architecture(*layer))
    if states:
        raise ValueError(
            f"mapping has the learned initial state {listed(states.values())}, expected a layer "
            f"with learned_state=True for it, which from_state_dict makes"
        )
