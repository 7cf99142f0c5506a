"""Declarations of a class about its constructor, made once and read by texts, files and copies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import Parameter, signature
from typing import Any, ClassVar


class Declared:
    """Something made by the arguments that its class declares.

    Every argument is an attribute of the same name, unless the class has an `_argument` of its own.
    `_modules`: arguments that are modules, or lists or dictionaries of them; None is left out.
    `_options`: the others that make the architecture; `_settings`: those that only training knows.
    `_shorthands`: options that modules among the arguments make superfluous; None is left out.
    `_unsaid`: options that are left out where they have their default, as in files of old versions.
    `_notes`: attributes that are no arguments and are kept in files; anything that JSON can hold.
    """

    _modules: ClassVar[tuple[str, ...]] = ()
    _options: ClassVar[tuple[str, ...]] = ()
    _shorthands: ClassVar[tuple[str, ...]] = ()
    _settings: ClassVar[tuple[str, ...]] = ()
    _unsaid: ClassVar[frozenset[str]] = frozenset()
    _notes: ClassVar[tuple[str, ...]] = ()

    @property
    def config(self) -> dict[str, Any]:
        """Architecture of the module: arguments that make such a one, without its settings.

        A module among them is the pair of its class's name and its arguments.
        """
        return self._said((*self._modules, *self._options))

    def _said(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Arguments as JSON holds them, without those that go without saying."""
        values = {name: self._argument(name) for name in names}
        usual = _defaults(type(self), self._unsaid) if self._unsaid else {}
        return {
            name: plain(value)
            for name, value in values.items()
            if not (value is None and name in (*self._modules, *self._shorthands))
            and not (name in usual and value == usual[name])
        }

    def _argument(self, name: str) -> Any:
        """The value of an argument of the constructor."""
        return getattr(self, name)

    def __repr__(self) -> str:
        config, usual = self.config, _defaults(type(self), self.config)
        shown = [
            repr(value) if usual[name] is Parameter.empty else f"{name}={value!r}"
            for name, value in ((name, self._argument(name)) for name in config)
            if value != usual[name]
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def _defaults(kind: type[Declared], names: Iterable[str]) -> dict[str, Any]:
    """The usual values of a constructor's arguments; of its base's, if a subclass has others."""
    for owner in kind.__mro__:
        parameters = signature(owner).parameters
        if all(name in parameters for name in names):
            return {name: parameters[name].default for name in names}
    return dict.fromkeys(names, object())  # nothing is usual


def plain(value: Any) -> Any:
    """A value as JSON holds it; a module is the pair of its class's name and its arguments."""
    if isinstance(value, Declared):
        names = (*value._modules, *value._options, *value._settings)
        return type(value).__name__, value._said(names)
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value.to_dict() if hasattr(value, "to_dict") else value
