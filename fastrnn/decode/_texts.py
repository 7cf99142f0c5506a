"""From automata over characters or bytes to automata over the tokens of a vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from fastrnn._arrays import IntArray, as_int, with_article
from fastrnn.decode._arrows import Arrows, PrefixTree, places

MAX_ARROWS = 5_000_000  # of an automaton over tokens: 24 bytes each, and 24 while it is in use
_MAX_WORK = 30_000_000  # pairs of a state and a part of a token that are looked at: seconds
_AT_ONCE = 1 << 20  # of them, which bounds the memory in between

Triples: TypeAlias = tuple[IntArray, IntArray, IntArray]


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """The text of every id that has one: all of them characters, or all of them bytes."""

    by_token: dict[int, str] | dict[int, bytes]
    are_bytes: bool

    @classmethod
    def of(cls, vocabulary: Any) -> Texts:
        """A str or a sequence of texts, a mapping from texts to ids, or a Vocabulary."""
        found = {token: text for token, text in _entries(vocabulary) if _checked(text)}
        if any(isinstance(text, bytes) for text in found.values()):
            return cls({token: as_bytes(text) for token, text in found.items()}, True)
        return cls(found, False)

    def symbols(self, symbol_of: Callable[[Any], int]) -> dict[int, list[int]]:
        """Every text as numbers, those of its characters or bytes."""
        known = {part: symbol_of(part) for part in {p for t in self.by_token.values() for p in t}}
        return {token: [known[part] for part in text] for token, text in self.by_token.items()}


def as_bytes(text: str | bytes) -> bytes:
    """The bytes that write a text, UTF-8."""
    return text if isinstance(text, bytes) else text.encode(errors="surrogatepass")


def _entries(vocabulary: Any) -> Iterator[tuple[int, Any]]:
    if hasattr(vocabulary, "specials") and hasattr(vocabulary, "tokens"):
        if vocabulary.level != "characters":
            raise ValueError(f"vocabulary is over {vocabulary.level}, expected one of characters")
        yield from enumerate(vocabulary.tokens, len(vocabulary.specials))
    elif isinstance(vocabulary, Mapping):
        ids = [as_int(token, "vocabulary") for token in vocabulary.values()]
        if min(ids, default=0) < 0:
            raise ValueError(f"vocabulary holds id {min(ids)}, expected ids of 0 or more")
        if len(set(ids)) < len(ids):
            raise ValueError("vocabulary has several texts for one id, expected one for each")
        yield from zip(ids, vocabulary, strict=True)
    elif isinstance(vocabulary, Iterable) and not isinstance(vocabulary, (bytes, bytearray)):
        yield from enumerate(vocabulary)
    else:
        kind = with_article(type(vocabulary).__name__)
        raise TypeError(f"vocabulary is {kind}, expected the texts of the tokens")


def _checked(text: Any) -> bool:
    """True if the text of a token has anything in it."""
    if not isinstance(text, (str, bytes)):
        kind = with_article(type(text).__name__)
        raise TypeError(f"vocabulary holds {kind}, expected texts")
    return bool(text)


def over_tokens(
    automaton: Sequence[Mapping[int, int]] | Arrows, texts: Mapping[int, Sequence[int]]
) -> Arrows:
    """The same states, reached by whole tokens instead of single symbols.

    The automaton and the tree of all texts are walked together, from every state at once; of the
    two, the one with fewer ways on decides where a pair of them goes.
    """
    arrows = automaton if isinstance(automaton, Arrows) else Arrows.of_mappings(automaton)
    tree = PrefixTree()
    ends = {token: tree.add(text) for token, text in texts.items()}
    return _Product(arrows, tree.arrows(), ends).tokens()


class _Product:
    """Triples of the state that a token starts from, the state now, and the node of the tree."""

    def __init__(self, arrows: Arrows, tree: Arrows, ends: Mapping[int, int]) -> None:
        self.arrows, self.tree = arrows, tree
        nodes = np.array(list(ends.values()), np.int64)
        order = np.argsort(nodes, kind="stable")
        self.tokens_at = np.array(list(ends), np.int64)[order]
        self.ends = np.searchsorted(nodes[order], np.arange(len(tree) + 1))
        self.found: list[Triples] = []
        self.work, self.count = 0, 0

    def tokens(self) -> Arrows:
        states = np.arange(len(self.arrows))
        pending: list[Triples] = [(states, states, np.zeros_like(states))]
        while pending:
            origins, states, nodes = pending.pop()
            ways = np.minimum(self.arrows.counts[states], self.tree.counts[nodes])
            total, half = int(ways.sum()), len(ways) // 2
            if total > _AT_ONCE and half:
                pending.append((origins[half:], states[half:], nodes[half:]))
                pending.append((origins[:half], states[:half], nodes[:half]))
                continue
            self._spend(total)
            following = self._step(origins, states, nodes)
            if len(following[0]):
                self._take(*following)
                pending.append(following)
        parts = [np.concatenate(p) for p in zip(*self.found, strict=True)]
        return Arrows.of_triples(len(self.arrows), *(parts or np.zeros((3, 0), np.int64)))

    def _step(self, origins: IntArray, states: IntArray, nodes: IntArray) -> Triples:
        """The triples one symbol further."""
        by_state = self.arrows.counts[states] <= self.tree.counts[nodes]
        parts = []
        for walked, other, here, there in (
            (self.arrows, self.tree, states, nodes),
            (self.tree, self.arrows, nodes, states),
        ):
            chosen = np.flatnonzero(by_state if walked is self.arrows else ~by_state)
            rows, at = places(walked, here[chosen])
            rows = chosen[rows]
            target = other.targets_of(there[rows], walked.symbols[at])
            known = target >= 0
            rows, mine, its = rows[known], walked.targets[at][known], target[known]
            pair = (mine, its) if walked is self.arrows else (its, mine)
            parts.append((origins[rows], *pair))
        joined = [np.concatenate(pair) for pair in zip(*parts, strict=True)]
        return joined[0], joined[1], joined[2]

    def _take(self, origins: IntArray, states: IntArray, nodes: IntArray) -> None:
        """The tokens that end here."""
        counts = self.ends[nodes + 1] - self.ends[nodes]
        self.count += int(counts.sum())
        if self.count > MAX_ARROWS:
            raise ValueError(
                f"the constraint needs more than {MAX_ARROWS} arrows over this vocabulary, "
                f"expected a smaller one"
            )
        rows = np.repeat(np.arange(len(nodes)), counts)
        inside = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        tokens = self.tokens_at[self.ends[nodes[rows]] + inside]
        if len(rows):
            self.found.append((origins[rows], tokens, states[rows]))

    def _spend(self, pairs: int) -> None:
        self.work += pairs
        if self.work > _MAX_WORK:
            raise ValueError(
                f"the constraint takes more than {_MAX_WORK} steps to be written over this "
                f"vocabulary, expected a smaller one"
            )
