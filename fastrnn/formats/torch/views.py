"""Views of the objects in a pickle: dictionaries, pickled modules, lists, attributes.

A pickled `torch.nn.Module` and a module of TorchScript are inert here. Their tensors are found as
`Module.state_dict` finds them: parameters, buffers that persist, then the modules inside, in the
order of the file, each under all names that lead to it. Source: torch/nn/modules/module.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastrnn.formats.torch.budget import Budget
from fastrnn.formats.torch.describe import Record
from fastrnn.formats.torch.objects import Bag

__all__ = ["MODULE_PARTS", "View", "Views", "is_open"]

View = Mapping[object, object]

# The attributes of a module that its tensors are found by.
MODULE_PARTS = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
MAX_COUNT = 1 << 40  # end of counts of tensors, which shared containers multiply


def is_open(value: object) -> bool:
    """True for a container or an object that is not empty."""
    return isinstance(value, (dict, list, tuple, Bag)) and bool(value)


class Views:
    """The objects of one pickle as mappings of names to values; each is made once."""

    def __init__(
        self,
        budget: Budget,
        parameters: Mapping[str, list[str]] | None,
        kinds: tuple[type[Record], ...],
    ) -> None:
        """`parameters`: the names of TorchScript's tensors by class; see `script.py`.

        `kinds`: the records that count as tensors.
        """
        self._budget = budget
        self._kinds = kinds
        self._sets: dict[int, set[str]] = {}
        self._parameters = parameters or {}
        self._made: dict[int, View] = {}
        self._counts: dict[int, int] = {}

    def of(self, value: object) -> View | None:
        """A dictionary, an object used as one, or a module as its state_dict; else None."""
        if isinstance(value, dict):
            return value
        if not isinstance(value, Bag):
            return None
        if self.is_module(value):
            if id(value) not in self._made:
                self._made[id(value)] = self._state_dict(value)
            return self._made[id(value)]
        return value.entries

    def inside(self, value: object) -> View | None:
        """As `of`; lists by place and other objects by attribute as well."""
        found = self.of(value)
        if found is not None:
            return found
        if id(value) not in self._made:
            if isinstance(value, (list, tuple)):
                self._made[id(value)] = {str(i): entry for i, entry in enumerate(value)}
            elif isinstance(value, Bag):
                self._made[id(value)] = self._open(value)
        return self._made.get(id(value))

    def _open(self, bag: Bag) -> View:
        """The attributes of an object; what was appended to it, or its arguments, by place."""
        listed = bag.items if bag.items is not None else bag.arguments
        self._budget.spend(len(bag.attributes()) + len(listed))
        return dict(bag.attributes()) | {str(i): entry for i, entry in enumerate(listed)}

    def is_module(self, value: object) -> bool:
        """True for a pickled module, of Python or of TorchScript."""
        if not isinstance(value, Bag):
            return False
        if value.what in self._parameters:
            return True
        return _module_state(value) is not None

    def count(self, value: object, *, lists: bool = False) -> int:
        """Number of tensors in a value, the dictionaries and lists in it included.

        A container that is inside itself counts as empty there.
        """
        counts, start = self._counts, id(value) * 2 + lists
        stack = [(start, self._parts(value, lists))] if start not in counts else []
        while stack:
            place, parts = stack[-1]
            counts.setdefault(place, 0)  # a container inside itself
            for part in parts:
                below = id(part) * 2 + lists
                if isinstance(part, self._kinds):
                    counts[place] += 1
                elif is_open(part) and below in counts:
                    counts[place] = min(MAX_COUNT, counts[place] + counts[below])
                elif is_open(part):
                    stack.append((below, self._parts(part, lists)))
                    break
            else:
                stack.pop()
                if stack:
                    counts[stack[-1][0]] = min(MAX_COUNT, counts[stack[-1][0]] + counts[place])
        return counts[start]

    def _parts(self, value: object, lists: bool) -> Iterator[object]:
        view = self.of(value)
        if view is not None:
            yield from view.values()
        elif lists and isinstance(value, (list, tuple)):
            yield from value
        elif lists and isinstance(value, Bag):
            yield from (value.arguments, value.state, value.items)

    def _state_dict(self, root: Bag) -> View:
        """The tensors of a module and of those inside, by the names of `state_dict`."""
        flat: dict[object, object] = {}
        active: set[int] = set()
        todo: list[tuple[Bag, str, bool]] = [(root, "", False)]
        while todo:
            module, prefix, is_left = todo.pop()
            if is_left:
                active.discard(id(module))
                continue
            if id(module) in active:  # inside itself
                continue
            active.add(id(module))
            todo.append((module, prefix, True))
            inner: list[tuple[Bag, str, bool]] = []
            for name, value in self._entries(module):
                self._budget.spend(1)
                if self.is_module(value) and isinstance(value, Bag):
                    inner.append((value, self._budget.name(prefix, f"{name}."), False))
                else:
                    flat[self._budget.name(prefix, name)] = value
            todo += reversed(inner)
        return flat

    def _entries(self, module: Bag) -> Iterator[tuple[str, object]]:
        """Parameters, buffers that persist and inner modules of one module, without its None's."""
        if module.what in self._parameters:
            return self._script_entries(module)
        return self._module_entries(module)

    def _module_entries(self, module: Bag) -> Iterator[tuple[str, object]]:
        attributes = _module_state(module) or {}
        passing = self._members(attributes.get("_non_persistent_buffers_set"))
        for part in MODULE_PARTS[:3]:
            entries = attributes.get(part)
            for key, value in entries.items() if isinstance(entries, dict) else ():
                is_passing = part == "_buffers" and key in passing
                if isinstance(key, str) and value is not None and not is_passing:
                    yield key, value

    def _members(self, value: object) -> set[str]:
        """The texts in a set, which is a bag of what was added to it or given to it."""
        if not isinstance(value, Bag):
            return set()
        if id(value) not in self._sets:
            given = value.arguments[0] if value.arguments else ()
            listed = value.items or (given if isinstance(given, (list, tuple)) else ())
            self._sets[id(value)] = {name for name in listed if isinstance(name, str)}
        return self._sets[id(value)]

    def _script_entries(self, module: Bag) -> Iterator[tuple[str, object]]:
        attributes = module.attributes()
        self._budget.spend(len(attributes) + len(self._parameters[module.what]))
        for name in self._parameters[module.what]:
            if attributes.get(name) is not None:
                yield name, attributes[name]
        for key, value in attributes.items():
            if isinstance(key, str) and isinstance(value, Bag) and value.what in self._parameters:
                yield key, value


def _module_state(bag: Bag) -> View | None:
    """The attributes of a pickled module; None if `bag` is none.

    A `torch.fx.GraphModule` passes them as its first argument.
    """
    given = bag.arguments[0] if bag.arguments else None
    for attributes in (bag.attributes(), given):
        if isinstance(attributes, Mapping) and all(
            isinstance(attributes.get(part), dict) for part in ("_parameters", "_modules")
        ):
            return attributes
    return None
