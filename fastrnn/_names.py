"""Names of parameters: shown in errors, and renamed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Any, TypeVar

from fastrnn._errors import cut, with_article

T = TypeVar("T")


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
