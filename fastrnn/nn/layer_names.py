"""The names that the tensors of a recurrent layer go by, and which tensor of ours each one is.

Ours are PyTorch's: `weight_ih_l{k}`, with `_reverse` for the second direction. Others write the
names of a cell without a suffix, a stack as a list of cells or of single layers (`0.weight_ih`,
...), one bias in place of two (`bias_l{k}`, or `bias`), learned initial states as `h0`, `c0`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastrnn._errors import safe
from fastrnn._names import listed

__all__ = ["LayerNames", "NameIndex", "find_recurrent", "list_owner", "other_bias"]

_KINDS = "weight_ih|weight_hh|weight_hr|weight_ch|bias_ih|bias_hh|bias"
_KEY = re.compile(rf"({_KINDS})(_l(?:0|[1-9][0-9]{{0,8}})(?:_reverse)?)?")
_STATES = {"h_0": "h_0", "h0": "h_0", "c_0": "c_0", "c0": "c_0"}
_LEVELS = 8  # how many modules above a layer its initial state is looked for


def find_recurrent(names: Iterable[str]) -> list[str]:
    """The prefixes ("", "rnn.", ...) under which recurrent weights lie, in order of appearance."""
    found: dict[str, None] = {}
    for name in names:
        owner, dot, last = name.rpartition(".")
        key = _KEY.fullmatch(last)
        if key and key[1] == "weight_hh":
            found[owner + dot] = None
    return list(found)


@dataclass(frozen=True)
class LayerNames:
    """Which name of a mapping stands for which tensor of a layer.

    `sources`: our name to that of the mapping, or None for the bias of zeros that goes with a
    single one. `single_step`: the names are those of a cell. `is_list`: each layer has a prefix of
    its own.
    """

    prefix: str
    sources: dict[str, str | None]
    single_step: bool = False
    is_list: bool = False

    def name_of(self, key: str) -> str:
        """The name of a tensor of ours as the mapping has it, or would have it."""
        name = self.sources.get(key)
        if name is None:
            kind, layer, side = re.fullmatch(r"(.*)_l([0-9]+)(.*)", key).groups()  # type: ignore[union-attr]
            tail = "" if self.single_step else f"_l0{side}" if self.is_list else f"_l{layer}{side}"
            name = f"{self.prefix}{f'{layer}.' if self.is_list else ''}{kind}{tail}"
        return safe(name)


class NameIndex:
    """The names of a mapping by their owners, so that all layers together are found in one pass."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self.recurrent = find_recurrent(self._names)
        self._sorted = sorted(self.recurrent)
        self._groups: dict[str, dict[str, str]] = {}
        for name in self._names:
            owner, dot, last = name.rpartition(".")
            if _is_known(last):
                self._groups.setdefault(owner + dot, {})[last] = name

    def layer(self, prefix: str) -> LayerNames:
        """The tensors of the layer under `prefix`; ValueError where there is none, or a mixture."""
        keys = {k: name for k, name in self._group(prefix).items() if k not in _STATES}
        tails = [_tail(key) for key in keys if key.startswith("weight")]
        if not tails:
            return self._listed_layers(prefix)
        single = "" in tails
        if single and any(tails):
            raise ValueError(f"prefix {safe(prefix)!r} holds the weights of a cell and of a layer")
        if not single and "bias" in keys and not any(k.startswith("bias_") for k in keys):
            if set(tails) != {"_l0"}:
                raise ValueError(
                    f"{safe(keys['bias'])} could be the bias of any of several layers or "
                    f"directions, expected one for each"
                )
            keys["bias_l0"] = keys["bias"]
        own = {k: name for k, name in keys.items() if bool(_tail(k)) != single}
        sources = {f"{key}_l0" if single else key: name for key, name in own.items()}
        return LayerNames(prefix, _with_two_biases(sources), single)

    def states(self, prefix: str) -> dict[str, str]:
        """The names of learned initial states right under `prefix`, by ours: `h_0`, `c_0`."""
        found: dict[str, str] = {}
        for key, name in self._group(prefix).items():
            state = _STATES.get(key)
            if state in found:
                both = f"{safe(found[state])} and {safe(name)}"
                raise ValueError(f"mapping has both {both}, expected one of them")
            if state is not None:
                found[state] = name
        return found

    def above(self, prefix: str) -> Iterator[str]:
        """The prefixes of the modules that hold the layer under `prefix`, the nearest first."""
        end = len(prefix) - prefix.endswith(".")
        for _ in range(_LEVELS):
            if end <= 0:
                return
            end = prefix.rfind(".", 0, end)
            yield prefix[: end + 1]

    def recurrent_under(self, prefix: str, most: int) -> list[str]:
        """At most `most` of the recurrent layers whose names begin with `prefix`."""
        start = bisect_left(self._sorted, prefix)
        found = self._sorted[start : start + most]
        return [owner for owner in found if owner.startswith(prefix)]

    def _group(self, prefix: str) -> dict[str, str]:
        """What may belong to a layer: the rest of the names that begin with `prefix`, to them."""
        if not prefix or prefix.endswith("."):
            return self._groups.get(prefix, {})
        under = {n[len(prefix) :]: n for n in self._names if n.startswith(prefix)}
        return {key: name for key, name in under.items() if _is_known(key)}

    def _listed_layers(self, prefix: str) -> LayerNames:
        """Layers that stand under `prefix` one by one, as cells or as single layers."""
        parts: list[LayerNames] = []
        while any(key.startswith("weight") for key in self._group(f"{prefix}{len(parts)}.")):
            parts.append(self.layer(f"{prefix}{len(parts)}."))
        if not parts:
            raise ValueError(f"no recurrent weights under prefix {safe(prefix)!r}{self._hint()}")
        first, sources = parts[0], dict[str, str | None]()
        for k, part in enumerate(parts):
            if part.single_step != first.single_step or any("_l0" not in s for s in part.sources):
                raise ValueError(
                    f"prefix {safe(prefix)!r} holds a list, expected cells or single layers in it"
                )
            sources |= {key.replace("_l0", f"_l{k}"): name for key, name in part.sources.items()}
        if any(_zeros(part) != _zeros(first) for part in parts):  # a bias of some is missing
            sources = {key: name for key, name in sources.items() if name is not None}
        return LayerNames(prefix, sources, first.single_step, is_list=True)

    def _hint(self) -> str:
        """What there is instead."""
        places = self.recurrent or list(dict.fromkeys(_loose_prefixes(self._names)))
        if len(places) == 1:
            return f", did you mean prefix={safe(places[0])!r}?"
        if places:
            return f"; they are under the prefixes {listed(places)}"
        return f"; its names are {listed(self._names)}" if self._names else "; it is empty"


def list_owner(prefix: str) -> str | None:
    """The prefix of the list whose first layer is under `prefix`; None if it is no such layer."""
    owner = prefix.removesuffix("0.")
    is_list = owner != prefix and (not owner or owner.endswith("."))
    return owner if is_list else None


def _zeros(names: LayerNames) -> set[str]:
    return {key for key, name in names.sources.items() if name is None}


def _is_known(key: str) -> bool:
    return key in _STATES or _KEY.fullmatch(key) is not None


def _tail(key: str) -> str:
    """`_l{k}`, or `_l{k}_reverse`; nothing for a cell."""
    match = _KEY.fullmatch(key)
    return (match[2] or "") if match else ""


def _with_two_biases(sources: dict[str, str]) -> dict[str, str | None]:
    """The same with zeros for the bias that is not there, if every layer has just one.

    A bias that does not say which it is becomes bias_ih: in a GRU the recurrent bias of n is then
    zero. Beside bias_ih or bias_hh such a bias belongs to something else.
    """
    found: dict[str, str | None] = dict(sources)
    kinds = {key.partition("_l")[0] for key in sources if key.startswith("bias")}
    if len(kinds) > 1:
        return {k: name for k, name in found.items() if not k.startswith("bias_l")}
    if kinds == {"bias"}:
        found = {k.replace("bias_l", "bias_ih_l"): name for k, name in found.items()}
    for key in list(found):
        if key.startswith(("bias_ih", "bias_hh")):
            found[other_bias(key)] = None
    return found


def other_bias(key: str) -> str:
    """bias_hh for bias_ih and the other way round, of the same layer."""
    return key.replace("_ih", "_hh") if "_ih" in key else key.replace("_hh", "_ih")


def _loose_prefixes(names: Iterable[str]) -> Iterator[str]:
    """Prefixes without a dot, as in `encoder_weight_hh_l0`."""
    for name in names:
        start = name.rfind("weight_hh")
        if start >= 0 and _KEY.fullmatch(name, start):
            yield name[:start]
