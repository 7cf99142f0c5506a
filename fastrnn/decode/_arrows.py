"""The arrows of automata and of trees as arrays, so that millions of them cost little."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fastrnn._arrays import IntArray

Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Arrows:
    """Arrow i of state s, i from offsets[s] to offsets[s + 1]: symbols[i] leads to targets[i].

    Symbols are ints of 0 or more that rise within a state.
    """

    offsets: IntArray  # (S + 1,)
    symbols: IntArray  # (E,)
    targets: IntArray  # (E,)

    @classmethod
    def of_triples(
        cls, states: int, sources: IntArray, symbols: IntArray, targets: IntArray
    ) -> Arrows:
        """Arrows in any order."""
        order = np.lexsort((symbols, sources))
        offsets = np.searchsorted(sources[order], np.arange(states + 1))
        return cls(offsets, symbols[order], targets[order])

    @classmethod
    def of_mappings(cls, arrows: Sequence[Mapping[int, int]]) -> Arrows:
        """The arrows of every state as a mapping."""
        counts = [len(following) for following in arrows]
        total = sum(counts)
        symbols = np.fromiter((s for f in arrows for s in f), np.int64, total)
        targets = np.fromiter((t for f in arrows for t in f.values()), np.int64, total)
        sources = np.repeat(np.arange(len(arrows)), counts)
        return cls.of_triples(len(arrows), sources, symbols, targets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def counts(self) -> IntArray:
        """Numbers of arrows (S,) of the states."""
        return np.diff(self.offsets)

    @cached_property
    def sources(self) -> IntArray:
        """States (E,) that the arrows start from."""
        return np.repeat(np.arange(len(self)), self.counts)

    def where(self, kept: Mask) -> Arrows:
        """The arrows that `kept` (E,) is true for."""
        offsets = np.concatenate(([0], np.cumsum(kept)))[self.offsets]
        return Arrows(offsets, self.symbols[kept], self.targets[kept])

    @cached_property
    def _keys(self) -> tuple[int, IntArray]:
        """A number for every pair of a state and a symbol, in rising order."""
        size = int(self.symbols.max(initial=0)) + 1
        return size, self.sources * size + self.symbols

    def targets_of(self, states: IntArray, symbols: IntArray) -> IntArray:
        """Targets (N,) of symbols from states, -1 for none; symbols are small."""
        size, keys = self._keys
        if not len(keys):
            return np.full(len(states), -1)
        wanted = states * size + symbols
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((keys[at] == wanted) & (symbols < size), self.targets[at], -1)


def places(arrows: Arrows, states: IntArray) -> tuple[IntArray, IntArray]:
    """All arrows of all these states: the position within `states`, and that of the arrow."""
    counts = arrows.counts[states]
    rows = np.repeat(np.arange(len(states)), counts)
    starts = arrows.offsets[states] - (np.cumsum(counts) - counts)
    return rows, starts[rows] + np.arange(len(rows))


class PrefixTree:
    """The tree of all prefixes of sequences of ints; its root is 0."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, int], int] = {}

    def add(self, sequence: Iterable[int]) -> int:
        """The node of a sequence."""
        node, nodes = 0, self._nodes
        for symbol in sequence:
            node = nodes.setdefault((node, symbol), len(nodes) + 1)
        return node

    def arrows(self) -> Arrows:
        count = len(self._nodes)
        pairs = np.fromiter((part for pair in self._nodes for part in pair), np.int64, 2 * count)
        targets = np.arange(1, count + 1)
        return Arrows.of_triples(count + 1, pairs[::2], pairs[1::2], targets)
