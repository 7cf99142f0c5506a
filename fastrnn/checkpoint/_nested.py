"""Finds the tensors in the object of a checkpoint: which dictionary, and under which names.

The order is: a dictionary under one of `WRAPPERS`, the first that holds tensors, and so on inside
it; without one, all tensors of the object itself and of the dictionaries in it, whose names are
joined by dots. Optimiser states are never taken. All that is left out is reported.
"""

from __future__ import annotations

from typing import TypeGuard

from ._errors import CheckpointError, shown
from ._names import clean_names
from ._objects import Opaque, TensorRecord
from ._tensors import item_size

__all__ = ["PlainValue", "Selection", "select_tensors"]

WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
MAX_DEPTH = 16
MAX_ENTRIES = 1_000_000
MAX_TEXT = 1 << 26  # characters of all names together, so that long prefixes cannot multiply

Mapping = dict[object, object]
PlainValue = bool | int | float | str


def select_tensors(root: object) -> Selection:
    """The tensors of a checkpoint's object; CheckpointError when it is no dictionary."""
    if not isinstance(root, dict):
        raise CheckpointError(f"the file holds {_kind(root)}, expected a dictionary of tensors")
    chosen = Selection()
    chosen.take(_unwrapped(chosen, root), "", ())
    return chosen


def _unwrapped(chosen: Selection, root: Mapping) -> Mapping:
    """The dictionary inside the wrappers; what lies beside it is skipped."""
    path = ""
    for _ in range(MAX_DEPTH):
        name = next((n for n in WRAPPERS if chosen.count(root.get(n)) > 0), None)
        inner = root[name] if name else None
        if not isinstance(inner, dict):
            if path:
                chosen.notes.append(f"the tensors are those of {shown(path[:-1])!r}")
            return root
        for other, value in root.items():
            if other != name:
                chosen.skip(path, other, value)
        path, root = f"{path}{name}.", inner
    raise CheckpointError(f"dictionaries are nested deeper than {MAX_DEPTH} levels")


class Selection:
    """The records taken, plain values beside them, what was skipped and why, and remarks."""

    def __init__(self) -> None:
        self.records: dict[str, TensorRecord] = {}
        self.values: dict[str, PlainValue] = {}
        self.skipped: dict[str, str] = {}
        self.notes: list[str] = []
        self._counts: dict[int, int] = {}
        self._entries = 0
        self._text = 0

    def take(self, mapping: Mapping, prefix: str, above: tuple[int, ...]) -> None:
        """Takes the tensors of `mapping`, then those of the dictionaries in it."""
        self._check_size(mapping, above)
        above = (*above, id(mapping))
        own: dict[str, TensorRecord] = {}
        groups: dict[str, Mapping] = {}
        for key, value in mapping.items():
            if isinstance(key, str) and _is_usable(value):
                own[key] = value
            elif isinstance(key, str) and self._is_group(value, key) and id(value) not in above:
                groups[key] = value
            else:
                self.skip(prefix, key, value)
        for name, record in clean_names(own, self.notes).items():
            self._add(self._name(prefix, name), record)
        if groups and not own and not prefix:
            names = ", ".join(shown(name, 40) for name in list(groups)[:8])
            self.notes.append(f"the tensors are joined by dots from the dictionaries {names}")
        for name, group in groups.items():
            self.take(group, self._name(prefix, f"{name}."), above)

    def skip(self, prefix: str, key: object, value: object) -> None:
        """Reports an entry that is not taken."""
        if isinstance(value, dict):
            kind = "optimiser state" if _is_optimiser(key, value) else "dictionary"
            what = f"{kind} with {self.count(value)} tensors"
        else:
            what = (
                _problem(value) or "a tensor" if isinstance(value, TensorRecord) else _kind(value)
            )
        label = key if isinstance(key, str) else f"[{_kind(key)}]"
        name = self._name(prefix, label)
        self.skipped[name] = what
        if isinstance(value, (bool, int, float, str)):
            self.values[name] = value

    def count(self, value: object, depth: int = 0) -> int:
        """How many tensors a dictionary holds, in dictionaries of it too; each is counted once."""
        if not isinstance(value, dict):
            return 0
        if depth > 2 * MAX_DEPTH:
            raise CheckpointError(f"dictionaries are nested deeper than {2 * MAX_DEPTH} levels")
        if id(value) not in self._counts:
            self._counts[id(value)] = 0  # what a cycle finds
            total = sum(isinstance(entry, TensorRecord) for entry in value.values())
            total += sum(self.count(entry, depth + 1) for entry in value.values())
            self._counts[id(value)] = total
        return self._counts[id(value)]

    def _is_group(self, value: object, key: str) -> TypeGuard[Mapping]:
        return isinstance(value, dict) and not _is_optimiser(key, value) and self.count(value) > 0

    def _add(self, name: str, record: TensorRecord) -> None:
        if name in self.records:
            raise CheckpointError(f"two tensors of the checkpoint would be named {shown(name)!r}")
        self.records[name] = record

    def _name(self, prefix: str, key: str) -> str:
        self._text += len(prefix) + len(key)
        if self._text > MAX_TEXT:
            raise CheckpointError(f"the names in the checkpoint exceed {MAX_TEXT} characters")
        return prefix + key

    def _check_size(self, mapping: Mapping, above: tuple[int, ...]) -> None:
        self._entries += len(mapping)
        if self._entries > MAX_ENTRIES or len(above) >= MAX_DEPTH:
            raise CheckpointError(
                f"dictionaries hold more than {MAX_ENTRIES} entries, or are nested deeper than "
                f"{MAX_DEPTH} levels"
            )


def _is_usable(value: object) -> TypeGuard[TensorRecord]:
    return isinstance(value, TensorRecord) and not _problem(value)


def _problem(record: TensorRecord) -> str:
    """Why a tensor cannot be had as an array; empty when it can."""
    if record.problem:
        return record.problem
    return "" if item_size(record.dtype) else f"a tensor of type {record.dtype}, unknown to NumPy"


def _is_optimiser(key: object, value: Mapping) -> bool:
    named = isinstance(key, str) and ("optim" in key.lower() or key.lower() == "opt")
    return named or "param_groups" in value


def _kind(value: object) -> str:
    """A short description of an inert object; never looks inside containers."""
    if value is None:
        return "None"
    if isinstance(value, (bool, int, float)):
        return f"{type(value).__name__} {shown(value, 40)}"
    if isinstance(value, str):
        return f"str {shown(value, 40)!r}"
    if isinstance(value, (list, tuple, dict, bytes)):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, TensorRecord):
        return "a bare tensor"
    return f"object ({value.what if isinstance(value, Opaque) else type(value).__name__})"
