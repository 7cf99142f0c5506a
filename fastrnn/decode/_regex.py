"""Regular expressions as constraints."""

from __future__ import annotations

from typing import Any

from fastrnn._arrays import with_article
from fastrnn.decode._pattern import Nfa, Parser
from fastrnn.decode._texts import over_tokens, token_texts
from fastrnn.decode.automaton import Automaton

_MAX_STATES = 20_000


def regex(pattern: str, vocabulary: Any) -> Automaton:
    """The automaton of all texts that match the whole pattern, written with these tokens.

    Known are literals, `.` (no newline), classes `[a-z]` and `[^...]`, `\\d \\w \\s \\D \\W \\S`,
    `* + ? {m} {m,} {m,n}`, `|` and groups; anything else is a ValueError that says where. Escape a
    special character by a backslash. `vocabulary` is as for `Trie`.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"pattern is {with_article(type(pattern).__name__)}, expected a str")
    texts = token_texts(vocabulary)
    parser = Parser(pattern, frozenset("".join(texts.values())))
    entry, end = parser.parse()
    characters, accepting = _deterministic(parser.nfa, entry, end)
    try:
        return Automaton(over_tokens(characters, texts), accepting)
    except ValueError:
        raise ValueError(
            f"pattern {pattern!r} allows nothing: no text over the vocabulary matches it"
        ) from None


def _deterministic(nfa: Nfa, entry: int, end: int) -> tuple[list[dict[str, int]], set[int]]:
    """The subset construction: every state stands for a set of states of the nfa."""
    first = _closure(nfa, {entry})
    numbers, pending = {first: 0}, [first]
    arrows: list[dict[str, int]] = []
    for states in pending:  # grows while it is walked
        arrows.append({})
        for character, targets in sorted(_moves(nfa, states).items()):
            closed = _closure(nfa, targets)
            if closed not in numbers:
                numbers[closed] = len(pending)
                pending.append(closed)
            arrows[-1][character] = numbers[closed]
        if len(pending) > _MAX_STATES:
            raise ValueError(
                f"pattern needs more than {_MAX_STATES} states, expected a smaller one"
            )
    return arrows, {number for states, number in numbers.items() if end in states}


def _closure(nfa: Nfa, states: set[int]) -> frozenset[int]:
    reached, pending = set(states), list(states)
    while pending:
        for target in nfa.jumps[pending.pop()]:
            if target not in reached:
                reached.add(target)
                pending.append(target)
    return frozenset(reached)


def _moves(nfa: Nfa, states: frozenset[int]) -> dict[str, set[int]]:
    moves: dict[str, set[int]] = {}
    for state in states:
        for characters, target in nfa.edges[state]:
            for character in characters:
                moves.setdefault(character, set()).add(target)
    return moves
