"""Names every object in a pickle that is no plain data and was not taken.

Nothing of such an object is imported or run; what remains of it is the name of its class or
function, and the place where it lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from ._describe import kind_of, label_of
from ._errors import shown
from ._globals import is_part
from ._modules import MODULE_PARTS
from ._nested import Selection
from ._objects import Bag, Name, OddKey, is_quantised

__all__ = ["name_strangers"]

MAX_NAMED = 1000
MAX_PATH = 400  # characters
_SETS = ("builtins.set", "builtins.frozenset")  # plain data, as lists are


def name_strangers(chosen: Selection, names: list[str]) -> None:
    """Adds to `chosen.skipped` what lies inside the entries, by its path.

    `names` are all names of classes and functions in the pickle; those that are nowhere in its
    object, because the pickle dropped them, are reported in brackets.
    """
    found, reached = _walk(chosen)
    dropped = [(f"[{shown(n)}]", "a name that the pickle drops") for n in names if n not in reached]
    for path, what in islice(chain(found, dropped), MAX_NAMED):
        chosen.skipped[chosen.unused(path)] = what
    beyond = len(found) + len(dropped) - MAX_NAMED
    if beyond > 0:
        chosen.notes.append(f"{beyond} more objects were skipped than are named")


def _walk(chosen: Selection) -> tuple[list[tuple[str, str]], set[str]]:
    """Path and kind of each stranger, and the names of classes and functions that were found."""
    found: list[tuple[str, str]] = []
    reached: set[str] = set()
    seen: set[int] = set()
    todo: list[tuple[object, str, str, bool]] = [(chosen.root, "", "", False)]
    while todo:
        value, above, label, is_quiet = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        path = _joined(above, label)
        if isinstance(value, (Bag, Name)):
            reached.add(value.what if isinstance(value, Bag) else value.full)
        if not is_quiet and _is_stranger(value, chosen):
            found.append((path, kind_of(value) if len(found) < MAX_NAMED else ""))
        place = chosen.places.get(id(value))
        inside = path if place is None else place.removesuffix(".")
        children = [
            (child, inside, name, is_quiet or is_quantised(value))
            for name, child in _children(value, chosen)
            if isinstance(child, _WALKED)
        ]
        todo += reversed(children)
    return found, reached


_WALKED = (dict, list, tuple, Bag, Name, OddKey)


def _is_stranger(value: object, chosen: Selection) -> bool:
    """Whether a value is to be reported: an object that is not reported, nor looked into."""
    if id(value) in chosen.reported or id(value) in chosen.places:
        return False
    if isinstance(value, Name):
        return not value.is_part
    return isinstance(value, Bag) and not (
        value.what in _SETS or is_part(value.what) or chosen.views.is_module(value)
    )


def _children(value: object, chosen: Selection) -> Iterator[tuple[str, object]]:
    """The values in a value, with their labels; an empty label is that of the value itself."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if isinstance(key, (Bag, Name, OddKey)):
                yield label_of(key), key
            if isinstance(entry, _WALKED):
                yield label_of(key), entry
    elif isinstance(value, (list, tuple)):
        yield from ((str(i), entry) for i, entry in enumerate(value) if isinstance(entry, _WALKED))
    elif isinstance(value, OddKey):
        yield "", value.value
    elif isinstance(value, Bag):
        yield from _inside(value, chosen)


def _inside(bag: Bag, chosen: Selection) -> Iterator[tuple[str, object]]:
    if chosen.views.is_module(bag):
        yield from (("", part) for key, part in bag.attributes().items() if key in MODULE_PARTS)
    for part in (bag.arguments, bag.state, bag.items, bag.entries):
        yield "", part


def _joined(above: str, label: str) -> str:
    """The path of a value; long ones are cut, as a pickle may nest without end."""
    if not above or not label:
        return above or label
    return above if len(above) > MAX_PATH else f"{above}.{shown(label, 100)}"
