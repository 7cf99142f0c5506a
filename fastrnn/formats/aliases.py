"""Names of tied weights, which a safetensors file keeps in its metadata.

Such a file holds a shared tensor once. `safetensors.torch.save_model` notes every name that it left
out as a key of the metadata, with the name that it kept as the value. The same dictionary holds
whatever else a writer put there, so an entry counts as a tie only if both sides look like names of
one tensor.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

__all__ = ["find_aliases"]

_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*")


def find_aliases(metadata: Mapping[str, str], tensors: Collection[str]) -> dict[str, str]:
    """For each name that is tied to one of `tensors`, and is none itself: that tensor.

    Ties hold in both directions and form chains: all names that they join to a single tensor are
    that tensor. Where they join several, a name is the tensor that its own entry names, or none.
    Entries that are no ties, or lead nowhere, are passed over.
    """
    ties = {name: twin for name, twin in metadata.items() if _is_tie(name, twin, tensors)}
    found: dict[str, str] = {}
    for group in _groups(ties):
        kept = [name for name in group if name in tensors]
        for name in group:
            if name not in tensors and len(kept) == 1:
                found[name] = kept[0]
            elif name in ties and name not in tensors and ties[name] in tensors:
                found[name] = ties[name]
    return found


def _is_tie(name: str, twin: str, tensors: Collection[str]) -> bool:
    """Two names that end alike; or a tensor of the file and a dotted name as the key for it."""
    if name == twin or not (_NAME.fullmatch(name) and _NAME.fullmatch(twin)):
        return False
    ends_alike = name.rpartition(".")[2] == twin.rpartition(".")[2]
    return ends_alike or (twin in tensors and "." in name)


def _groups(ties: Mapping[str, str]) -> Iterator[list[str]]:
    """The names that ties join, group by group; in time linear in the ties."""
    neighbours: dict[str, list[str]] = {}
    for name, twin in ties.items():
        neighbours.setdefault(name, []).append(twin)
        neighbours.setdefault(twin, []).append(name)
    for start in ties:
        group, waiting = [], [start]
        while waiting:
            name = waiting.pop()
            if name in neighbours:
                group.append(name)
                waiting += neighbours.pop(name)
        yield group
