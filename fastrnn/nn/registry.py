"""The classes that a file may name, and how one of them is made from what a file says.

A file names a class and its arguments; what it names is looked up here and nowhere else, so that
nothing is called that is not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any, TypeVar

from fastrnn._errors import shown, with_article
from fastrnn.nn.module import Module

__all__ = ["KINDS", "make", "registered", "unlisted", "write", "write_with"]

Kind = TypeVar("Kind", bound=type[Module])

KINDS: dict[str, type[Module]] = {}


def registered(kind: Kind) -> Kind:
    """List a class, whose constructor takes all arguments that the class declares."""
    KINDS[kind.__name__] = kind
    return kind


_writers: list[Callable[[Module, Any], None]] = []


def write_with(writer: Callable[[Module, Any], None]) -> None:
    """Setter of the function behind a module's `save`: files are known above the modules."""
    _writers[:] = [writer]


def write(module: Module, path: Any) -> None:
    """The module as a file from which `fastrnn.load` makes it again."""
    _writers[-1](module, path)


def make(kind: str, arguments: Mapping[str, Any], what: str) -> Module:
    """The module that these arguments make, with a pair of kind and arguments for each inside.

    ValueError says what is wrong with `what`: an unknown or a missing name, or a value.
    """
    cls = KINDS[kind]
    inner = {
        name: _inside(arguments[name], f"{what}: {name}")
        for name in cls._modules
        if arguments.get(name) is not None
    }
    try:
        return _called(cls, {**arguments, **inner})
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise ValueError(f"{what}: {error}") from error


def _called(cls: type[Module], arguments: dict[str, Any]) -> Module:
    """cls(**arguments), with the list that a constructor takes as *modules in its place."""
    parameters = signature(cls).parameters.values()
    many = [p.name for p in parameters if p.kind is Parameter.VAR_POSITIONAL]
    items = [item for name in many for item in arguments.pop(name, ())]
    signature(cls).bind(*items, **arguments)
    return cls(*items, **arguments)


def _inside(described: Any, what: str) -> Any:
    """A module from its pair; a list or a dictionary of modules from theirs."""
    if isinstance(described, dict):
        return {name: _inside(part, f"{what}[{shown(name)}]") for name, part in described.items()}
    is_pair = isinstance(described, (list, tuple)) and len(described) == 2
    if isinstance(described, (list, tuple)) and all(map(_is_pair, described)):
        return [_inside(part, f"{what}[{i}]") for i, part in enumerate(described)]
    if not is_pair:
        raise ValueError(f"{what} is no pair of a kind and its arguments")
    kind, arguments = described
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{what} is a {shown(kind)}, expected one of {', '.join(KINDS)}")
    if not isinstance(arguments, dict):
        raise ValueError(f"{what} has no mapping of names to arguments")
    return make(kind, arguments, what)


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2


def unlisted(module: object, name: str) -> str | None:
    """Reason why a module cannot be saved: it, or one inside it, is of no listed class; else None.

    A subclass is not what its base is, even under the name of it.
    """
    if isinstance(module, (list, tuple, dict)):
        parts = module.items() if isinstance(module, dict) else enumerate(module)
        return next(filter(None, (unlisted(part, f"{name}[{i!r}]") for i, part in parts)), None)
    kind = type(module)
    if KINDS.get(kind.__name__) is not kind:
        bases = [base.__name__ for base in kind.__mro__[1:] if KINDS.get(base.__name__) is base]
        derived = f", a subclass of fastrnn's {bases[0]}" if bases else ""
        return f"{name} is {with_article(kind.__name__)}{derived}"
    assert isinstance(module, Module)
    inside = {key: module._argument(key) for key in kind._modules}
    found = (unlisted(part, f"{name}.{key}") for key, part in inside.items() if part is not None)
    return next(filter(None, found), None)
