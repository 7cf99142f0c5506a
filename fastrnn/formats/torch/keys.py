"""Search for the part of a checkpoint that a key names, with an error that lists other keys."""

from __future__ import annotations

from fastrnn._errors import safe
from fastrnn.formats.errors import CheckpointError
from fastrnn.formats.torch.describe import kind_of, label_of
from fastrnn.formats.torch.objects import Bag
from fastrnn.formats.torch.views import View, Views

__all__ = ["Key", "checked_key", "find_key"]

Key = str | tuple[str | int, ...]
LISTED = 12  # names in an error
_ABSENT = object()


def checked_key(key: object) -> Key | None:
    """`key` as `read_checkpoint` takes it; TypeError if it is something else."""
    if key is None or isinstance(key, str):
        return key
    if isinstance(key, tuple) and all(isinstance(part, (str, int)) for part in key):
        return key
    kind = type(key).__name__
    raise TypeError(f"key has type {kind}, expected a str such as 'generator' or a tuple of keys")


def find_key(root: object, key: Key, views: Views) -> tuple[object, str]:
    """The object at `key`, and the key as text.

    A text may lead through several dictionaries, joined by dots: "models.generator". At the end
    it may also be the beginning of the names in a flat dictionary, up to a dot.
    """
    parts: list[str | int] = [key] if isinstance(key, str) else list(key)
    path = ".".join(map(str, parts))
    found = root
    for part in parts:
        found = _descend(found, part, path, views)
    return found, path


def _descend(found: object, part: str | int, path: str, views: Views) -> object:
    """The value under one part of the key, which may name several levels."""
    rest: str | int | None = part
    while rest is not None:
        view = views.inside(found)
        if view is None:
            raise CheckpointError(f"key is {safe(path)!r}, but that leads into {kind_of(found)}")
        name = _longest(view, rest, found)
        if name is None:
            below = _below(view, f"{rest}.")
            if below:
                return below
            raise CheckpointError(f"key is {safe(path)!r}, expected one of {_listed(view)}")
        found = _child(view, name, found)
        is_whole = rest == name or not (isinstance(rest, str) and isinstance(name, str))
        rest = None if is_whole else str(rest)[len(str(name)) + 1 :]
    return found


def _longest(view: View, rest: str | int, owner: object) -> str | int | None:
    """The longest beginning of `rest`, up to a dot, that is a key of `view`."""
    name = rest
    while _child(view, name, owner) is _ABSENT:
        if not isinstance(name, str) or "." not in name:
            return None
        name = name.rpartition(".")[0]
    return name


def _child(view: View, name: str | int, owner: object) -> object:
    """The entry, or the attribute of an object that is also looked into as a dictionary."""
    for key in (name, str(name)):
        if key in view:
            return view[key]
    if isinstance(name, str) and name.isdecimal() and len(name) < 18 and int(name) in view:
        return view[int(name)]
    if not isinstance(owner, Bag):
        return _ABSENT
    attributes = owner.attributes()
    modules = attributes.get("_modules")
    for place in (modules if isinstance(modules, dict) else {}, attributes):
        if name in place:
            return place[name]
    return _ABSENT


def _below(view: View, prefix: str) -> dict[object, object]:
    """The entries whose names begin with `prefix`, without it."""
    names = [name for name in view if isinstance(name, str) and name.startswith(prefix)]
    return {name[len(prefix) :]: view[name] for name in names}


def _listed(view: View) -> str:
    """The keys that are there, for an error."""
    names = [safe(label_of(key), 60) for key in list(view)[:LISTED]]
    more = f" and {len(view) - LISTED} more" if len(view) > LISTED else ""
    return (", ".join(map(repr, names)) or "none: it is empty") + more
