"""The parts of a language model among the names of any library: table, layers, head."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fastrnn._arrays import as_prefix
from fastrnn._names import listed
from fastrnn.nn.architecture import find_layer
from fastrnn.nn.layer_names import NameIndex, find_recurrent, list_owner

__all__ = ["Parts", "find_model", "find_parts"]

_EMBEDDINGS = ("embedding", "encoder", "embed", "emb")
_HEADS = ("head", "decoder", "fc", "linear", "out")
_MOST_AROUND = 5  # tensors of a model around its layers: table, head, bias, initial states


class Parts(NamedTuple):
    """Full names in the mapping; `rnn` is a prefix; None where there is no such tensor."""

    cell: str
    embedding: str
    rnn: str
    head: str | None
    bias: str | None
    states: tuple[str, ...] = ()  # a learned initial state of the recurrent layers beside them


def find_parts(mapping: Mapping[str, Any], prefix: str) -> Parts:
    """The parts of a language model under `prefix`; ValueError if they do not fit together."""
    names = [name for name in mapping if name.startswith(as_prefix(prefix))]
    index = NameIndex(names)
    place = _only_place(index.recurrent, names)
    found = find_layer(mapping, index, place)
    embedding = _only(mapping, prefix, _EMBEDDINGS)
    if embedding is None:
        options = ", ".join(_EMBEDDINGS)
        raise ValueError(
            f"mapping has no embedding under {prefix!r}, looked for {options} among the names "
            f"{listed(names)}"
        )
    head = _only(mapping, prefix, _HEADS)
    owners = _HEADS if head is None else (head[len(prefix) : -len(".weight")],)
    biases = [f"{prefix}{owner}.bias" for owner in owners if f"{prefix}{owner}.bias" in mapping]
    states = tuple(n for k, n in found.sources.items() if k in ("h_0", "c_0") and n is not None)
    bias = biases[0] if biases else None
    parts = Parts(found.architecture.cell, embedding, place, head, bias, states)
    _check_fit(mapping, parts, found.architecture)
    _check_all_used(names, parts)
    return parts


def find_model(mapping: Mapping[str, Any]) -> str | None:
    """The shortest prefix under which everything is one language model; None if there is none."""
    names = sorted(mapping)
    try:
        place = _only_place(find_recurrent(names), mapping)
    except ValueError:
        return None
    layer = _range_under(names, place)
    for prefix in sorted(_owners_of_tables(names), key=len):
        inside = _range_under(names, prefix)
        if not place.startswith(prefix) or len(inside) > len(layer) + _MOST_AROUND:
            continue
        try:
            find_parts({names[i]: mapping[names[i]] for i in inside}, prefix)
        except ValueError:
            continue
        return prefix
    return None


def _range_under(names: list[str], prefix: str) -> range:
    """Range of the sorted names that begin with `prefix`."""
    return range(bisect_left(names, prefix), bisect_right(names, prefix + chr(0x10FFFF)))


def _owners_of_tables(names: Iterable[str]) -> set[str]:
    """The prefixes under which there is something named like an embedding."""
    owners = set()
    for name in names:
        part, _, last = name.rpartition(".")
        above, dot, word = part.rpartition(".")
        if last == "weight" and word in _EMBEDDINGS:
            owners.add(above + dot)
    return owners


def _only_place(places: list[str], names: Iterable[str]) -> str:
    """Prefix of the only recurrent layers, or of the list of them."""
    if len(places) == 1:
        return places[0]
    owner = list_owner(places[0]) if places else None
    if owner is not None and set(places) == {f"{owner}{k}." for k in range(len(places))}:
        return owner
    there = listed(places) if places else f"none, its names are {listed(names)}"
    raise ValueError(f"mapping has recurrent layers at {there}, expected exactly one place")


def _only(mapping: Mapping[str, Any], prefix: str, owners: tuple[str, ...]) -> str | None:
    names = [f"{prefix}{owner}.weight" for owner in owners]
    present = [name for name in names if name in mapping]
    if len(present) > 1:
        raise ValueError(f"mapping has both {present[0]} and {present[1]}, expected one of them")
    return present[0] if present else None


def _check_fit(mapping: Mapping[str, Any], parts: Parts, rnn: Any) -> None:
    """The embedding feeds the recurrent layers, they feed the head, and the vocabulary is one."""
    table = tuple(mapping[parts.embedding].shape)
    if len(table) != 2 or table[1] != rnn.input_size:
        raise ValueError(f"{parts.embedding} has shape {table}, expected (V, {rnn.input_size})")
    width = rnn.proj_size or rnn.hidden_size
    width *= 2 if rnn.bidirectional and rnn.merge == "concat" else 1
    if parts.head is None and width != table[1]:
        raise ValueError(f"mapping has no head, and {parts.embedding} has not {width} columns")
    for name, shape in ((parts.head, (table[0], width)), (parts.bias, (table[0],))):
        if name is not None and tuple(mapping[name].shape) != shape:
            raise ValueError(f"{name} has shape {tuple(mapping[name].shape)}, expected {shape}")


def _check_all_used(names: list[str], parts: Parts) -> None:
    own = {parts.embedding, parts.head, parts.bias, *parts.states}
    unused = [name for name in names if name not in own and not name.startswith(parts.rnn)]
    if unused:
        raise ValueError(f"mapping has parameters no language model has: {listed(unused)}")
