"""Search for the tensors in the object of a checkpoint: their dictionary and their names.

The order is: a dictionary (or a pickled module) under one of `WRAPPERS`, the first that holds
tensors, and so on inside it; without one, all tensors of the object itself and of the dictionaries
in it, whose names are joined by dots. State dicts beside the chosen one come too, under their own
names; optimiser states, averages and second copies do not. With a key, it is what lies there, with
all that is inside. All that is left out is reported, and every object that is no plain data.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TypeGuard

from fastrnn._errors import safe
from fastrnn.formats.errors import CheckpointError
from fastrnn.formats.names import clean_names
from fastrnn.formats.torch.budget import Budget
from fastrnn.formats.torch.describe import Record, is_optimiser, kind_of, label_of, problem_of
from fastrnn.formats.torch.files import Content
from fastrnn.formats.torch.keys import Key, find_key
from fastrnn.formats.torch.ndarrays import ArrayRecord
from fastrnn.formats.torch.objects import Bag, TensorRecord
from fastrnn.formats.torch.views import View, Views

__all__ = ["PlainValue", "Selection", "select_tensors"]

WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
MAX_DEPTH = 16
LISTED = 8  # entries in an error

# Parts of the names under which people keep another state of the same model.
_COPIES = frozenset(
    ("ema", "avg", "average", "averaged", "swa", "shadow", "best", "teacher", "target", "old",
     "previous", "prev", "initial", "init", "last")
)  # fmt: skip

# Errors about a file without tensors, by its format.
_EMPTY = {
    "pickle": "a plain pickle: ",
    "torchscript": "a TorchScript archive without parameters, which freezing takes away: ",
}

PlainValue = bool | int | float | str


def select_tensors(content: Content, key: Key | None = None) -> Selection:
    """The tensors of a file's object; CheckpointError when it holds none.

    NumPy's arrays beside PyTorch's tensors are other data; they are the tensors where the file
    has no others, or where `key` asks for them.
    """
    chosen = Selection(content, (TensorRecord,) if key is None else (TensorRecord, ArrayRecord))
    chosen.choose(key)
    if not chosen.records and key is None:
        arrays = Selection(content, (TensorRecord, ArrayRecord))
        arrays.choose(key)
        chosen = arrays if arrays.records else chosen
    is_model = isinstance(content.pickle.root, dict) and content.format not in _EMPTY
    if not chosen.records and (chosen.skipped or key is not None or not is_model):
        raise CheckpointError(f"{_EMPTY.get(content.format, '')}{_nothing(chosen)}")
    return chosen


class Selection:
    """The records taken, plain values beside them, what was skipped and why, and remarks.

    `places`: under which prefix the entries of a container are reported, by its id.
    """

    def __init__(self, content: Content, kinds: tuple[type[Record], ...]) -> None:
        self.root = content.pickle.root
        self.records: dict[str, Record] = {}
        self.values: dict[str, PlainValue] = {}
        self.skipped: dict[str, str] = {}
        self.notes: list[str] = []
        self.places: dict[int, str] = {}
        self.reported: set[int] = set()
        self._repeats: dict[str, int] = {}
        self._main: dict[str, Record] = {}
        self.budget = Budget(content.pickle.size)
        self.views = Views(self.budget, content.parameters, kinds)
        self._kinds = kinds

    def choose(self, key: Key | None) -> None:
        """Takes the tensors at `key`, or those of the model."""
        if key is not None:
            self._choose_at(key)
            return
        view = self.views.inside(self.root)
        if view is None:
            raise CheckpointError(
                f"the file holds {kind_of(self.root)}, expected a dictionary of tensors "
                f"(save model.state_dict())"
            )
        self._note_module(self.root)
        self.places[id(self.root)] = ""
        view, siblings = self._unwrapped(view)
        self.records = self.collect(view, "")
        self._main = dict(self.records)
        for path, name, value in siblings:
            self._take_sibling(path, name, value)

    def _choose_at(self, key: Key) -> None:
        found, path = find_key(self.root, key, self.views)
        self._note_module(found)
        if isinstance(found, (TensorRecord, ArrayRecord)):
            self._take_one(path.rpartition(".")[2], found)
            return
        view = self.views.inside(found)
        if view is None:
            raise CheckpointError(f"key is {safe(path)!r}, which is {kind_of(found)}")
        self.places[id(found)] = ""
        self.records = clean_names(self.collect(view, "", everything=True), self.notes)

    def _take_one(self, name: str, record: Record) -> None:
        problem = problem_of(record)
        if problem:
            self.skip("", name, record)
        else:
            self.records[name] = record

    def _unwrapped(self, view: View) -> tuple[View, list[tuple[str, object, object]]]:
        """The value inside the wrappers, and the values beside it: path, key and value."""
        path, siblings = "", []
        only = self._only_group(view) if isinstance(self.root, (list, tuple)) else None
        if only is not None:  # [model, criterion, optimiser]
            siblings += [("", key, value) for key, value in view.items() if key != only]
            path, value = f"{only}.", view[only]
            self._enter(value)
            view = self.views.of(value) or {}
        for _ in range(MAX_DEPTH):
            name = next((n for n in WRAPPERS if self.views.count(view.get(n)) > 0), None)
            inner = self.views.of(view[name]) if name else None
            if inner is None or name is None:
                if path:
                    self.notes.append(f"the tensors are those of {safe(path[:-1])!r}")
                return view, siblings
            siblings += [(path, key, value) for key, value in view.items() if key != name]
            self._enter(view[name])
            path, view = f"{path}{name}.", inner
        raise CheckpointError(f"dictionaries are nested deeper than {MAX_DEPTH} levels")

    def _only_group(self, view: View) -> str | None:
        """The place of the one entry with tensors in it; None if there are none, or several."""
        if any(isinstance(value, self._kinds) for value in view.values()):
            return None
        groups = [key for key in view if isinstance(key, str) and self._is_group(view[key], key)]
        return groups[0] if len(groups) == 1 else None

    def _enter(self, value: object) -> None:
        """Remembers that a container is taken, without its own name."""
        self.places[id(value)] = ""
        self._note_module(value)

    def _note_module(self, value: object) -> None:
        if isinstance(value, Bag) and self.views.is_module(value):
            self.notes.append(
                f"the pickled module {safe(value.what)} was read as data, by the names of its "
                f"state_dict"
            )

    def collect(self, view: View, prefix: str, *, everything: bool = False) -> dict[str, Record]:
        """The tensors of a dictionary, then those of the dictionaries in it, by joined names.

        `everything`: those in lists, in attributes of objects and under keys that are no text too.
        """
        records: dict[str, Record] = {}
        active: set[int] = set()
        todo: list[tuple[View | None, int, str]] = [(view, id(view), prefix)]
        while todo:
            mapping, place, where = todo.pop()
            if mapping is None:
                active.discard(place)
                continue
            active.add(place)
            todo.append((None, place, ""))
            own, groups = self._sorted(mapping, where, active, everything)
            for name, record in own.items():
                full = self.budget.name(where, name)
                if full in records:
                    raise CheckpointError(
                        f"two tensors of the checkpoint would be named {safe(full)!r}"
                    )
                records[full] = record
            if groups and not own and not where and not everything:
                names = ", ".join(safe(name, 40) for name in list(groups)[:8])
                self.notes.append(f"the tensors are joined by dots from the dictionaries {names}")
            inner: list[tuple[View | None, int, str]] = []
            for name, group in groups.items():
                found = self.views.inside(group) if everything else self.views.of(group)
                where_inside = self.budget.name(where, f"{name}.")
                self.places.setdefault(id(group), where_inside)
                self._note_module(group)
                inner.append((found, id(found), where_inside))
            todo += reversed(inner)
        return records

    def _sorted(
        self, mapping: View, where: str, active: set[int], everything: bool
    ) -> tuple[dict[str, Record], dict[str, object]]:
        """The tensors of one dictionary and the groups in it; the rest is skipped."""
        own: dict[str, Record] = {}
        groups: dict[str, object] = {}
        self.budget.spend(len(mapping))
        for key, value in mapping.items():
            name = label_of(key) if everything and not isinstance(key, int) else str(key)
            if not isinstance(key, str) and not everything:
                self.skip(where, key, value)
            elif self._is_usable(value):
                own[name] = value
            elif self._is_group(value, key, everything) and self._is_new(value, active, everything):
                groups[name] = value
            else:
                self.skip(where, key, value)
        return (own if everything else clean_names(own, self.notes)), groups

    def _is_group(self, value: object, key: object, everything: bool = False) -> bool:
        """True for a value that holds tensors to take."""
        if everything:
            return self.views.count(value, lists=True) > 0
        return not is_optimiser(key, value) and self.views.count(value) > 0

    def _is_new(self, value: object, active: set[int], everything: bool) -> bool:
        """False for a container inside itself."""
        return id(self.views.inside(value) if everything else self.views.of(value)) not in active

    def _is_usable(self, value: object) -> TypeGuard[Record]:
        return isinstance(value, self._kinds) and not problem_of(value)

    def _take_sibling(self, path: str, key: object, value: object) -> None:
        """A state dict beside the chosen one, unless it is the same again."""
        view = self.views.of(value)
        if view is None or not isinstance(key, str) or not self._is_state_dict(key, view):
            self.skip(path, key, value)
            return
        same = self._sameness(key, view)
        if same:
            self.skip(path, key, value, f", {same}; key={safe(path + key)!r} reads it")
            return
        prefix = self.budget.name("", f"{key}.")
        self.places.setdefault(id(value), prefix)
        found = self.collect(view, prefix)
        if any(name in self.records for name in found):
            self.skip(
                path, key, value, f", named as tensors of the model are; key={key!r} reads it"
            )
            return
        self._note_module(value)
        self.notes.append(f"{safe(key)!r} lies beside the model and comes under its own name")
        self.records |= found

    def _is_state_dict(self, key: object, view: View) -> bool:
        """True for a dictionary beside the model that holds parameters, and not a few numbers."""
        if is_optimiser(key, view) or self.views.count(view) == 0:
            return False
        self.budget.spend(len(view))
        wide = [k for k, v in view.items() if self._is_usable(v) and v.shape and _is_real(v)]
        if any(map(_is_parameter, wide)):
            return True
        if all(isinstance(v, (TensorRecord, ArrayRecord)) or v is None for v in view.values()):
            return bool(wide)
        inner = [self.views.of(v) for v in view.values()]
        return all(v is not None and any(map(_is_parameter, v)) for v in inner)

    def _sameness(self, key: str, view: View) -> str:
        """Reason why a state dict is another state of the model beside it; empty if it is none."""
        self.budget.spend(len(view))
        found = {
            k.removeprefix("module."): v
            for k, v in view.items()
            if isinstance(k, str) and self._is_usable(v)
        }
        main = self._main
        if found and all(k in main and _window(main[k]) == _window(v) for k, v in found.items()):
            return "which are the model's own again"
        words = set(re.split(r"[^a-z]+", key.lower()))
        alike = sum(k in main and main[k].shape == v.shape for k, v in found.items())
        if words & _COPIES and 2 * alike > len(found):
            return "another state of the model"
        return ""

    def skip(self, prefix: str, key: object, value: object, reason: str = "") -> None:
        """Reports an entry that is not taken."""
        name = self.unused(self.budget.name(prefix, label_of(key)))
        self.skipped[name] = self._what(key, value) + reason
        self.reported.add(id(value))
        if isinstance(value, (dict, list, tuple, Bag)):
            self.places.setdefault(id(value), f"{name}.")
        if isinstance(value, (bool, int, float, str)):
            self.values[name] = str(value) if isinstance(value, str) else value

    def _what(self, key: object, value: object) -> str:
        if isinstance(value, dict):
            kind = "optimiser state" if is_optimiser(key, value) else "dictionary"
            return f"{kind} with {self.views.count(value)} tensors"
        if isinstance(value, (TensorRecord, ArrayRecord)):
            usual = "a tensor" if isinstance(value, TensorRecord) else "a NumPy array"
            return problem_of(value) or usual
        return kind_of(value, self.views.count(value, lists=True))

    def unused(self, name: str) -> str:
        """`name`, with a number where something of that name was skipped already."""
        if name not in self.skipped:
            return name
        self._repeats[name] = self._repeats.get(name, 1) + 1
        return f"{name} ({self._repeats[name]})"


def _is_real(record: Record) -> bool:
    return "float" in record.dtype


def _window(record: Record) -> object:
    """Equal for two records of the same part of the same memory."""
    if isinstance(record, TensorRecord):
        return record.storage.key, record.dtype, record.offset, record.shape, record.strides
    return id(record)


def _is_parameter(name: object) -> bool:
    """True for a name whose last part is that of a weight or bias."""
    last = name.rpartition(".")[2] if isinstance(name, str) else ""
    return "weight" in last or "bias" in last


def _nothing(chosen: Selection) -> str:
    """Error about a file without tensors, with what it holds instead."""
    listed = [
        f"{safe(name, 60)} ({safe(what)})" for name, what in islice(chosen.skipped.items(), LISTED)
    ]
    more = f" and {len(chosen.skipped) - LISTED} more" if len(chosen.skipped) > LISTED else ""
    held = f" in it: {', '.join(listed)}{more}" if listed else ""
    return (
        f"the file holds {kind_of(chosen.root)}, with no tensors that can be read{held}; expected "
        f"a dictionary of tensors (save model.state_dict())"
    )
