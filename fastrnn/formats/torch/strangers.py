"""Names every object in a pickle that is no plain data and was not taken.

Nothing of such an object is imported or run; what remains of it is the name of its class or
function, and the place where it lies.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastrnn._errors import safe
from fastrnn.formats.torch.describe import kind_of, label_of
from fastrnn.formats.torch.globals import is_part
from fastrnn.formats.torch.objects import SETS, Bag, Name, OddKey, is_quantised
from fastrnn.formats.torch.select import Selection
from fastrnn.formats.torch.views import MODULE_PARTS, is_open

__all__ = ["name_strangers"]

MAX_NAMED = 1000
MAX_PATH = 400  # characters


def name_strangers(chosen: Selection, names: list[str]) -> None:
    """Adds to `chosen.skipped` what lies inside the entries, by its path.

    `names` are all names of classes and functions in the pickle; those that are nowhere in its
    object, because the pickle dropped them, are reported in brackets.
    """
    found, reached = _walk(chosen)
    for name in names:
        if name not in reached:
            found.add("", f"[{safe(name)}]", "a name that the pickle drops")
    for path, what in found.listed:
        chosen.skipped[chosen.unused(path)] = what
    if found.beyond:
        chosen.notes.append(f"{found.beyond} more objects were skipped than are named")


class _Found:
    """Path and kind of each stranger up to MAX_NAMED, and how many there are beyond."""

    def __init__(self) -> None:
        self.listed: list[tuple[str, str]] = []
        self.beyond = 0

    def add(self, above: str, label: str, value: object) -> None:
        if len(self.listed) >= MAX_NAMED:
            self.beyond += 1
            return
        what = value if isinstance(value, str) else kind_of(value)
        self.listed.append((_joined(above, label), what))


def _walk(chosen: Selection) -> tuple[_Found, set[str]]:
    """The strangers in the object, and the names of classes and functions that were met.

    Every container is entered once; a class or function is reported wherever it is.
    """
    found, reached = _Found(), set[str]()
    seen: set[int] = set()
    stack: list[tuple[str, bool, bool, Iterator[tuple[str, object]]]] = []
    stack.append(("", False, False, iter([("", chosen.root)])))
    while stack:
        above, is_quiet, in_module, children = stack[-1]
        label, value = next(children, (None, None))
        if label is None:
            stack.pop()
        elif isinstance(value, Name):
            reached.add(value.full)
            if not (is_quiet or value.is_part or id(value) in chosen.reported):
                found.add(above, label, value)
        elif (is_open(value) or isinstance(value, OddKey)) and id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, Bag):
                reached.add(value.what)
                is_module = chosen.views.is_module(value) and not is_quantised(value)
                if not (is_quiet or (is_module and in_module)) and _is_stranger(value, chosen):
                    found.add(above, label, value)
                in_module = in_module or is_module
            place = chosen.places.get(id(value))
            inside = _joined(above, label) if place is None else place.removesuffix(".")
            is_quiet = is_quiet or is_quantised(value)
            stack.append((inside, is_quiet, in_module, _children(value, chosen)))
    return found, reached


def _is_stranger(value: Bag, chosen: Selection) -> bool:
    """True for an object to be reported: it is neither reported yet nor looked into."""
    if id(value) in chosen.reported or id(value) in chosen.places:
        return False
    return value.what not in SETS and not is_part(value.what)


def _children(value: object, chosen: Selection) -> Iterator[tuple[str, object]]:
    """The values in a value, with their labels; an empty label is that of the value itself."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if isinstance(key, (Bag, Name, OddKey)):
                yield label_of(key), key
            if isinstance(entry, (Name, OddKey)) or is_open(entry):
                yield label_of(key), entry
    elif isinstance(value, (list, tuple)):
        for place, entry in enumerate(value):
            if isinstance(entry, Name) or is_open(entry):
                yield str(place), entry
    elif isinstance(value, OddKey):
        yield "", value.value
    elif isinstance(value, Bag):
        yield from _inside(value, chosen)


def _inside(bag: Bag, chosen: Selection) -> Iterator[tuple[str, object]]:
    if chosen.views.is_module(bag):
        yield from (("", bag.attributes().get(part)) for part in MODULE_PARTS)
    yield from (("", part) for part in (bag.arguments, bag.state, bag.items, bag.entries))


def _joined(above: str, label: str) -> str:
    """The path of a value; long ones are cut, as a pickle may nest without end."""
    if not above or not label:
        return above or label
    return above if len(above) > MAX_PATH else f"{above}.{safe(label, 100)}"
