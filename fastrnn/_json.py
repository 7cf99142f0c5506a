"""JSON from strangers: everything that it may hold has a bound that is ours, not Python's."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from fastrnn._arrays import cut, shown

MAX_DEPTH = 100  # lists and objects within each other
MAX_DIGITS = 640  # of an int: the least that Python may be told to read

_SHOWN = 60  # characters of a number in an error


class NestingError(ValueError):
    """Lists and objects are nested more deeply than anybody needs."""


class DigitsError(ValueError):
    """An int has more digits than anybody needs."""


def read_json(text: str | bytes, *, finite: bool = True) -> Any:
    """The value of a JSON text.

    ValueError for what is no JSON (NaN and Infinity are none), a key that an object has twice,
    numbers that a float or an int of 640 digits cannot hold, and a depth of more than 100.
    `finite`: False leaves NaN and floats beyond all floats to those who have a name for the value.
    """
    floats: dict[str, Any] = (
        {"parse_float": _as_float, "parse_constant": _refuse_constant} if finite else {}
    )
    try:
        value = json.loads(
            text,
            object_pairs_hook=_as_object,
            parse_int=_as_int,
            **floats,
        )
    except RecursionError:
        raise NestingError(_TOO_DEEP) from None
    check_depth(value)
    return value


_TOO_DEEP = f"it is nested too deeply, more than {MAX_DEPTH} levels"


def check_depth(value: Any, most: int = MAX_DEPTH) -> None:
    """ValueError for lists, tuples and dicts that are nested more deeply, or within themselves."""
    level = [value] if isinstance(value, (dict, list, tuple)) else []
    for _ in range(most):
        # What is shared is looked at once a level: there may be 2**depth ways to it.
        parts = {id(part): part for whole in level for part in _parts(whole)}
        level = list(parts.values())
    if level:
        raise NestingError(_TOO_DEEP)


def _parts(value: Any) -> list[Any]:
    """The lists and objects in a list or an object."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return []
    return [part for part in value if isinstance(part, (dict, list, tuple))]


def _as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {shown(twice)} comes twice")
    return found


def _as_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise DigitsError(f"an int of too many digits, {len(text)}, expected {MAX_DIGITS} or fewer")
    return int(text)


def _as_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{cut(text, _SHOWN)} is beyond all floats")
    return number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
