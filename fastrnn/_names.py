"""Names of parameters: shown in errors, renamed, and sorted into a language model's parts."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from fastrnn._arrays import as_prefix, cut, with_article

T = TypeVar("T")

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


def listed(names: Iterable[str], most: int = 8) -> str:
    """The first `most` names in quotes, each cut to 80 characters, and how many more there are."""
    every = list(names)
    first = [repr(cut(name, 80)) for name in every[:most]]
    return ", ".join(first) + (f" and {len(every) - most} more" if len(every) > most else "")


def other_prefix(mapping: Mapping[str, Any], wanted: Collection[str]) -> str:
    """A question for the end of an error: the prefix under which all `wanted` names are, if any."""
    first = next(iter(wanted), "")
    ends = (name[: len(name) - len(first)] for name in mapping if name.endswith(first))
    for prefix in islice(ends, 8):
        if all(prefix + name in mapping for name in wanted):
            return f"; did you mean prefix={listed([prefix])}?"
    return ""


def renamed(
    mapping: Mapping[str, T], rename: Mapping[str, str] | None, prefix: str = ""
) -> dict[str, T]:
    """The mapping with other names: `rename` from a name in it to the one that is expected.

    The first is a name under `prefix`, without it, or else a whole name of the mapping; the second
    is a name under `prefix`. All others stay. ValueError for a name that is not there, and where
    two tensors would get one name.
    """
    if rename is None:
        return dict(mapping)
    if not isinstance(rename, Mapping):
        kind = with_article(type(rename).__name__)
        raise TypeError(f"rename is {kind}, expected a mapping of names to names")
    new = {_old_name(mapping, old, prefix): prefix + _as_name(to) for old, to in rename.items()}
    if len(new) < len(rename):
        raise ValueError("rename has two keys for one name of the mapping, expected one")
    result: dict[str, T] = {}
    for name, value in mapping.items():
        target = new.get(name, name)
        if target in result:
            raise ValueError(f"rename gives two parameters the name {listed([target])}")
        result[target] = value
    return result


def _old_name(mapping: Mapping[str, Any], old: object, prefix: str) -> str:
    under = prefix + _as_name(old)
    name = under if under in mapping else _as_name(old)
    if name not in mapping:
        there = [n[len(prefix) :] for n in mapping if n.startswith(prefix)] or list(mapping)
        raise ValueError(
            f"rename has {listed([name])}, which is not among the names {listed(there)}"
        )
    return name


def _as_name(value: object) -> str:
    if not isinstance(value, str):
        kind = with_article(type(value).__name__)
        raise TypeError(f"rename holds {kind}, expected names to names")
    return value


def find_parts(mapping: Mapping[str, Any], prefix: str) -> Parts:
    """The parts of a language model under `prefix`; ValueError if they do not fit together."""
    from fastrnn.formats._architecture import find_layer
    from fastrnn.formats._layer_names import NameIndex

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
    from fastrnn.formats._layer_names import find_recurrent

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
    """Where in the sorted names those are that begin with `prefix`."""
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
    """Where the only recurrent layers are, or the list of them."""
    from fastrnn.formats._layer_names import list_owner

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
