"""Old names of modules: they lead to the new ones, with a DeprecationWarning, until 0.3.

Pickles and programs of fastrnn 0.1 name them.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_NEW = {
    "checkpoint": "formats",
    "files": "io",
    "init": "nn.init",
    "layers": "nn",
    "layers.attention": "nn.attention",
    "layers.dropout": "nn.dropout",
    "layers.embedding": "nn.embedding",
    "layers.linear": "nn.linear",
    "layers.norm": "nn.norm",
    "layers.scalar_mix": "nn.scalar_mix",
    "layers.shortlist": "nn.shortlist",
    "layers.weight_drop": "nn.weight_drop",
    "packed": "nn.packed",
    "process": "config",
    "rnn": "nn.recurrent",
    "schedules": "optim.schedules",
    "streams": "nn.stream",
    "train._errors": "train",
    "train._run": "train",
    "train._trainer": "train",
    "train._truncation": "train",
}


class _Finder(MetaPathFinder, Loader):
    """A finder that comes last: for names that no file has."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, rest = name.partition(".")
        if package != "fastrnn" or rest not in _NEW:
            return None
        return ModuleSpec(name, self, is_package=rest == "layers")

    def exec_module(self, module: ModuleType) -> None:
        new = f"fastrnn.{_NEW[module.__name__.partition('.')[2]]}"
        owner = import_module(new)

        def attribute(name: str) -> Any:
            return getattr(owner, name)

        module.__doc__ = owner.__doc__
        vars(module)["__getattr__"] = attribute
        vars(module)["__dir__"] = lambda: dir(owner)
        message = f"{module.__name__} is {new} now; the old name goes with fastrnn 0.3"
        warnings.warn(message, DeprecationWarning, stacklevel=2)


def install() -> None:
    """Make the old names importable."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
