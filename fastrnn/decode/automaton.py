"""Constraints: finite automata over tokens, and word lists as one kind of them."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn._arrays import IntArray, as_int, as_int64, with_article
from fastrnn.decode._arrows import Arrows, PrefixTree
from fastrnn.decode._texts import Texts, as_bytes, over_tokens

FAR = (1 << 63) - 1  # distance of a state without a way to an accepting one
_DERIVED = ("_symbols", "kept")  # attributes that a copy makes anew from the others


class Automaton:
    """A finite automaton whose accepted token sequences are all that a decoder may write.

    `transitions[state]` maps the tokens that may follow in a state to the state they lead to;
    `accepting` are the states in which a sequence may end. States from which no accepting one can
    be reached are never entered. An automaton that accepts nothing at all is a ValueError.
    """

    arrows: Arrows  # none of them to a state without a way to an accepting one
    needed: IntArray  # (S,): number of tokens from every state to an accepting one
    accepting: frozenset[int]
    start: int
    kept: tuple[tuple[int, ...], Any] | None = None  # end tokens, and what they make of this

    def __init__(
        self,
        transitions: Sequence[Mapping[int, int]],
        accepting: Iterable[int],
        start: int = 0,
    ) -> None:
        size = len(transitions)
        states = frozenset(_as_state(s, "accepting", size) for s in accepting)
        start = _as_state(start, "start", size) if size else 0
        checked = [_checked(arrows, size) for arrows in transitions]
        self._take(Arrows.of_mappings(checked), states, start)

    @classmethod
    def of_arrows(cls, arrows: Arrows, accepting: Iterable[int], start: int = 0) -> Automaton:
        """An automaton of arrows that fit its states."""
        made = Automaton.__new__(Automaton)
        made._take(arrows, frozenset(accepting), start)
        return made

    def _take(self, arrows: Arrows, accepting: frozenset[int], start: int) -> None:
        self.accepting, self.start = accepting, start
        self.needed = _distances(arrows, accepting)
        if not len(arrows) or self.needed[start] == FAR:
            raise ValueError("the constraint allows nothing: no accepting state can be reached")
        self.arrows = arrows.where(self.needed[arrows.targets] < FAR)
        self._symbols = self.arrows.symbols.data  # what bisect reads fastest

    def follow(self, state: int, token: int) -> int:
        """The state behind a token, -1 if it may not follow."""
        low, high = self.arrows.offsets[state : state + 2].tolist()
        at = bisect_left(self._symbols, token, low, high)
        return int(self.arrows.targets[at]) if at < high and self._symbols[at] == token else -1

    def accepts(self, tokens: Iterable[int]) -> bool:
        """True if this whole sequence is one of those the automaton describes."""
        state = self.start
        for token in tokens:
            state = self.follow(state, int(token))
            if state < 0:
                return False
        return state in self.accepting

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _DERIVED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._symbols = self.arrows.symbols.data

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.arrows)} states)"


class Trie(Automaton):
    """The automaton of a list of words: sequences of ids, or texts over a vocabulary.

    `vocabulary` (needed for texts only) gives the text of every id: a str or a sequence of texts
    in the order of the ids, a mapping from texts to ids, or a `fastrnn.data.Vocabulary` of
    characters. Tokens may be longer than a character, and every way to write a word is allowed; a
    text may be bytes, for tokens that hold parts of characters: then all are taken as UTF-8.
    """

    def __init__(self, words: Iterable[str | Iterable[int]], vocabulary: Any = None) -> None:
        words = list(words) if not isinstance(words, str) else [words]
        are_texts = [isinstance(word, str) for word in words]
        if any(are_texts) and not (all(are_texts) and vocabulary is not None):
            raise TypeError(
                "words are texts: expected texts only, and the vocabulary they are over"
            )
        texts = Texts.of(vocabulary) if any(are_texts) else None
        tree = PrefixTree()
        ends = frozenset(tree.add(_symbols(word, texts)) for word in words)
        arrows = tree.arrows()
        if texts is not None:
            arrows = over_tokens(arrows, texts.symbols(int if texts.are_bytes else ord))
        self._take(arrows, ends, 0)


def _symbols(word: Any, texts: Texts | None) -> Iterable[int]:
    if texts is not None:
        return as_bytes(word) if texts.are_bytes else map(ord, word)
    ids = as_int64(word, "words")
    if ids.ndim != 1:
        raise ValueError(f"words has a part of shape {ids.shape}, expected sequences of ids")
    if ids.size and ids.min() < 0:
        raise ValueError(f"words holds token {ids.min()}, expected ids of 0 or more")
    return list(ids.tolist())


def _as_state(state: object, name: str, size: int) -> int:
    number = as_int(state, name)
    if not 0 <= number < size:
        raise ValueError(f"{name} holds state {number}, the states are 0 to {size - 1}")
    return number


def _checked(arrows: Mapping[int, int], size: int) -> dict[int, int]:
    if not isinstance(arrows, Mapping):
        kind = with_article(type(arrows).__name__)
        raise TypeError(f"transitions holds {kind}, expected mappings from tokens to states")
    checked = {
        as_int(t, "transitions"): _as_state(s, "transitions", size) for t, s in arrows.items()
    }
    wrong = [token for token in checked if not 0 <= token < 1 << 63]
    if wrong:
        raise ValueError(f"transitions holds token {min(wrong)}, expected ids of 0 or more")
    return checked


def _distances(arrows: Arrows, accepting: frozenset[int]) -> IntArray:
    """The number of tokens from every state to an accepting one, FAR if there is no way."""
    backwards = backward_steps(arrows)
    before, starts = backwards.targets.tolist(), backwards.offsets.tolist()
    distances = [FAR] * len(arrows)
    queue = deque(sorted(accepting))
    for state in accepting:
        distances[state] = 0
    while queue:
        state = queue.popleft()
        for previous in before[starts[state] : starts[state + 1]]:
            if distances[previous] == FAR:
                distances[previous] = distances[state] + 1
                queue.append(previous)
    return np.array(distances, np.int64)


def backward_steps(arrows: Arrows) -> Arrows:
    """From every state to those before it, each once, whatever the tokens are."""
    size = max(1, len(arrows))
    pairs = np.unique(arrows.targets * size + arrows.sources)
    after, before = pairs // size, pairs % size
    return Arrows(np.searchsorted(after, np.arange(len(arrows) + 1)), before, before)
