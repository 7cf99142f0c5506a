"""The parser of a command: options in groups, and errors of the library with an option's name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fastrnn._errors import ArgumentError, ArgumentTypeError

# add(flag, help, default=None, *, argument=None, may_change=False, **more of argparse)
Add = Callable[..., None]


class Parser(argparse.ArgumentParser):
    """`predict MODEL --top 3 TEXT` works as `predict MODEL TEXT --top 3` does.

    `many`: the argument that takes words without an option. The options that are parsed hold the
    parser of their command, as `parser`, and its `error`, as `refuse`.
    """

    many: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.set_defaults(parser=self, refuse=self.error)
        self.may_change: set[str] = set()  # options that may differ when a training goes on
        self._arguments: dict[str, list[argparse.Action]] = {}  # by their names in the library
        self.setters: dict[str, str] = {}  # those names: the option that is first of all for it
        self._owner: str | None = None
        self._owners: dict[str, str] = {}  # the tasks of options that are about one task's models

    def group(self, title: str | None = None, *, exclusive: bool = False) -> Add:
        """A function that adds options; the help of each ends with its default.

        `argument`: what the library calls the option, if not by its own name; a text of several
        names where it stands for several, its own first. `may_change`: a training that goes on
        takes another value.
        """
        group: Any = self
        if title is not None:
            same = (g for g in self._action_groups if g.title == title)
            group = next(same, None) or self.add_argument_group(title)
        if exclusive:
            group = group.add_mutually_exclusive_group()

        def add(
            flag: str,
            help: str,
            default: Any = None,
            *,
            argument: str | None = None,
            may_change: bool = False,
            **more: Any,
        ) -> None:
            if default is not None and default is not False:
                help += f" (default: {_shown(default)})"
            action = group.add_argument(flag, help=help, default=default, **more)
            self.setters.setdefault((argument or action.dest).split()[0], action.dest)
            for name in (argument or action.dest).split():
                self._arguments.setdefault(name, []).append(action)
            if may_change:
                self.may_change.add(action.dest)
            if self._owner is not None:
                self._owners[action.dest] = self._owner

        return add

    @contextmanager
    def owned_by(self, task: str) -> Iterator[None]:
        """Options that are added inside `with` are for models of this task."""
        self._owner = task
        yield
        self._owner = None

    def refuse_others(self, options: argparse.Namespace, task: str) -> None:
        """Exit code 2 for an option that is about models of another task."""
        for name, owner in self._owners.items():
            if owner != task and self.given(options, name):
                self.error(f"argument --{name.replace('_', '-')}: this model is one of train "
                           f"{task}, expected one of train {owner}")  # fmt: skip

    def given(self, options: argparse.Namespace, name: str) -> bool:
        """True if an option has another value than its default."""
        return bool(getattr(options, name) != self.get_default(name))

    def flag_of(
        self, options: argparse.Namespace, argument: str, value: object = None
    ) -> str | None:
        """The option that sets an argument of the library; of several the one that was given.

        `value`: that of the argument, which may be one option's and not the other's.
        """

        def likeness(action: argparse.Action) -> tuple[bool, bool]:
            own = getattr(options, action.dest, None)
            is_same = type(own) is type(value) and bool(own == value)  # arrays are no options
            return own is not None and is_same, self.given(options, action.dest)

        actions = self._arguments.get(argument, [])
        return max(actions, key=likeness).option_strings[0] if actions else None

    def value_of(self, options: argparse.Namespace, argument: str) -> Any:
        """The value of the one option that sets an argument of the library; None without one."""
        actions = self._arguments.get(argument)
        return getattr(options, actions[0].dest) if actions else None

    def told(self, options: argparse.Namespace, error: ArgumentError | ArgumentTypeError) -> str:
        """The sentence of an error, which calls the argument as the command line does."""
        flag = self.flag_of(options, error.argument, error.value)
        return str(error) if flag is None else error.named(flag)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        options, rest = super().parse_known_args(args, namespace)
        unknown = [word for word in rest if self.many is None or word.startswith("-")]
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        if rest and self.many is not None:
            setattr(options, self.many, [*getattr(options, self.many), *rest])
        return options, []


def _shown(default: Any) -> str:
    if default is True:
        return "yes"
    return f"{default:g}" if isinstance(default, float) else str(default)
