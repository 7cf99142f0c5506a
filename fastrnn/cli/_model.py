"""Options of `fastrnn train` that are arguments of a model's constructor, made from it."""

from __future__ import annotations

import re
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from fastrnn.cli._parser import Parser
from fastrnn.cli._values import number, whole

_METAVARS = {int: "N", float: "X", str: "NAME"}


class Option(NamedTuple):
    """An argument on the command line; whatever is not given follows from the constructor."""

    help: str = ""  # else the sentences of the class's docstring that name the argument
    flag: str = ""
    default: Any = None
    type: Callable[[str], Any] | None = None
    metavar: str = ""
    choices: tuple[str, ...] = ()
    also: str = ""  # another argument that takes the value where it has none of its own


class Argument(NamedTuple):
    """A constructor's argument of a plain type: int, float, bool or str, or None beside them."""

    kind: type
    default: Any  # None also where there is none: the option is not required, the model says so
    choices: tuple[str, ...]  # of a Literal


def declared_arguments(model: type) -> dict[str, Argument]:
    """Arguments of plain types in the order of the constructor, so no modules and no arrays."""
    hints = get_type_hints(model.__init__)  # type: ignore[misc]
    found = {}
    for name, parameter in signature(model).parameters.items():
        kind: Any = hints.get(name, Any)
        choices: tuple[Any, ...] = ()
        if get_origin(kind) in (Union, UnionType):
            kinds = [k for k in get_args(kind) if k is not NoneType]
            kind = kinds[0] if len(kinds) == 1 else Any
        if get_origin(kind) is Literal:
            choices = get_args(kind)
            kind = type(choices[0])
        default = None if parameter.default is Parameter.empty else parameter.default
        if kind in (int, float, bool, str):
            found[name] = Argument(kind, default, choices)
    return found


def add_model_options(
    parser: Parser, model: type, options: Mapping[str, Option], decided: tuple[str, ...]
) -> None:
    """Options of the group "network": those with words of their own first, then all the others.

    decided: arguments that the data decides. An argument that the parser has an option for already
    gets no other.
    """
    declared, add = declared_arguments(model), parser.group("network")
    for name in (*options, *declared):
        if name in parser.setters or name in decided:
            continue
        argument, option = declared[name], options.get(name, Option())
        default = argument.default if option.default is None else option.default
        more: dict[str, Any] = {"argument": f"{name} {option.also}"}
        if argument.kind is bool:
            more["action"] = BooleanOptionalAction if default is not False else "store_true"
        elif option.choices or argument.choices:
            more["choices"] = option.choices or argument.choices
        else:
            more["type"] = option.type or {int: whole(), float: number(), str: str}[argument.kind]
            more["metavar"] = option.metavar or _METAVARS[argument.kind]
        flag = option.flag or f"--{name.replace('_', '-')}"
        add(flag, option.help or said_of(model, name), default, **more)


def model_arguments(model: type, options: Namespace) -> dict[str, Any]:
    """Arguments of the constructor by name, from the options that set them."""
    setters = options.parser.setters
    names = [name for name in declared_arguments(model) if name in setters]
    return {name: getattr(options, setters[name]) for name in names}


def said_of(model: type, name: str) -> str:
    """Help for an argument: the parts of the class's docstring that name it."""
    text = " ".join((model.__doc__ or "").split()).replace("`", "")
    sentences = [s for s in re.split(r"(?<=[.;])\s", text) if re.search(rf"\b{name}\b", s)]
    said = " ".join(sentences).rstrip(".;") or f"{name} of fastrnn.models.{model.__name__}"
    return said.replace("%", "%%")
