"""Constraints: finite automata over tokens, and word lists as one kind of them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn._arrays import IntArray, as_int, as_int64, with_article
from fastrnn.decode._texts import over_tokens, token_texts


class Automaton:
    """A finite automaton whose accepted token sequences are all that a decoder may write.

    `transitions[state]` maps the tokens that may follow in a state to the state they lead to;
    `accepting` are the states in which a sequence may end. States from which no accepting one can
    be reached are never entered. An automaton that accepts nothing at all is a ValueError.
    """

    def __init__(
        self,
        transitions: Sequence[Mapping[int, int]],
        accepting: Iterable[int],
        start: int = 0,
    ) -> None:
        size = len(transitions)
        self.accepting = frozenset(_as_state(s, "accepting", size) for s in accepting)
        self.start = _as_state(start, "start", size) if size else 0
        arrows = [_checked(arrows, size) for arrows in transitions]
        self.needed = _distances(arrows, self.accepting)
        if not size or math.isinf(self.needed[self.start]):
            raise ValueError("the constraint allows nothing: no accepting state can be reached")
        self.transitions = [
            {token: arrows[token] for token in sorted(arrows) if self.needed[arrows[token]] < size}
            for arrows in arrows
        ]

    def accepts(self, tokens: Iterable[int]) -> bool:
        """Whether this whole sequence is one of those the automaton describes."""
        state: int | None = self.start
        for token in tokens:
            state = self.transitions[state].get(int(token)) if state is not None else None
        return state in self.accepting

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.transitions)} states)"


class Trie(Automaton):
    """The automaton of a list of words: sequences of ids, or texts over a vocabulary.

    `vocabulary` (needed for texts only) gives the text of every id: a str or a sequence of texts
    in the order of the ids, a mapping from texts to ids, or a `fastrnn.data.Vocabulary` of
    characters. Tokens may be longer than a character; every way to write a word is allowed.
    """

    def __init__(self, words: Iterable[str | Iterable[int]], vocabulary: Any = None) -> None:
        words = list(words) if not isinstance(words, str) else [words]
        are_texts = [isinstance(word, str) for word in words]
        if any(are_texts) and not (all(are_texts) and vocabulary is not None):
            raise TypeError(
                "words are texts: expected texts only, and the vocabulary they are over"
            )
        arrows: list[dict[Any, int]] = [{}]
        ends = {_add(arrows, _symbols(word)) for word in words}
        if any(are_texts):
            super().__init__(over_tokens(arrows, token_texts(vocabulary)), ends)
        else:
            super().__init__(arrows, ends)


def _symbols(word: Any) -> list[Any]:
    if isinstance(word, str):
        return list(word)
    ids = as_int64(word, "words")
    if ids.ndim != 1:
        raise ValueError(f"words has a part of shape {ids.shape}, expected sequences of ids")
    return list(ids.tolist())


def _add(arrows: list[dict[Any, int]], word: list[Any]) -> int:
    state = 0
    for symbol in word:
        following = arrows[state].get(symbol)
        if following is None:
            following = arrows[state][symbol] = len(arrows)
            arrows.append({})
        state = following
    return state


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
    if checked and min(checked) < 0:
        raise ValueError(f"transitions holds token {min(checked)}, expected ids of 0 or more")
    return checked


def _distances(arrows: list[dict[int, int]], accepting: frozenset[int]) -> list[float]:
    """How many tokens every state is away from an accepting one, inf if there is no way."""
    before: list[set[int]] = [set() for _ in arrows]
    for state, following in enumerate(arrows):
        for target in following.values():
            before[target].add(state)
    distances = [math.inf] * len(arrows)
    queue = deque(sorted(accepting))
    for state in accepting:
        distances[state] = 0
    while queue:
        state = queue.popleft()
        for previous in sorted(before[state]):
            if math.isinf(distances[previous]):
                distances[previous] = distances[state] + 1
                queue.append(previous)
    return distances


ENDED = -2  # the state after an end token


@dataclass(frozen=True, slots=True)
class Compiled:
    """An automaton for one vocabulary with its end tokens, as arrays for the kernel."""

    start: int
    following: list[dict[int, int]]
    least: list[float]  # tokens still needed after the best token of a state; inf: none may follow
    final_tokens: int  # most tokens of a state after which a sequence may be over
    offsets: IntArray
    tokens: IntArray
    needed: IntArray

    def is_over(self, state: int, remaining: int) -> bool:
        """Whether nothing may follow when `remaining` more tokens fit."""
        return state == ENDED or remaining <= self.least[state]


def _ended_by(automaton: Automaton, eos: tuple[int, ...]) -> Automaton:
    """Without the end tokens that are not the last of a sequence."""
    arrows = [
        {t: s for t, s in following.items() if t not in eos or s in automaton.accepting}
        for following in automaton.transitions
    ]
    return Automaton(arrows, automaton.accepting, automaton.start)


def compile_constraint(
    automaton: Automaton, vocab_size: int, eos: tuple[int, ...], max_new_tokens: int
) -> Compiled:
    """Adds end tokens to accepting states; ValueError where nothing can be generated.

    What the automaton puts behind an end token is out of reach: only a whole sequence may have one.
    """
    if any(token in eos for arrows in automaton.transitions for token in arrows):
        automaton = _ended_by(automaton, eos)
    largest = max((max(arrows, default=0) for arrows in automaton.transitions), default=0)
    if largest >= vocab_size:
        raise ValueError(
            f"constraint holds token {largest}, the vocabulary is 0 to {vocab_size - 1}"
        )
    if automaton.needed[automaton.start] > max_new_tokens:
        raise ValueError(
            f"constraint needs {automaton.needed[automaton.start]:.0f} tokens at least, "
            f"max_new_tokens is {max_new_tokens}"
        )
    ends = dict.fromkeys(eos, ENDED)
    following = [
        dict(sorted({**(ends if state in automaton.accepting else {}), **arrows}.items()))
        for state, arrows in enumerate(automaton.transitions)
    ]
    if not following[automaton.start]:
        raise ValueError("constraint allows nothing but the empty sequence")
    needed = [
        [0 if s == ENDED else int(automaton.needed[s]) for s in arrows.values()]
        for arrows in following
    ]
    return Compiled(
        start=automaton.start,
        following=following,
        least=[min(n, default=math.inf) for n in needed],
        final_tokens=max(n.count(0) for n in needed),
        offsets=np.cumsum([0, *map(len, following)]),
        tokens=np.array([t for arrows in following for t in arrows], np.int64),
        needed=np.array([n for part in needed for n in part], np.int64),
    )
