"""Regular expressions as constraints."""

from __future__ import annotations

from typing import Any

from fastrnn._arrays import with_article
from fastrnn.decode._charsets import Partition
from fastrnn.decode._pattern import Budget, Nfa, Parser, shown
from fastrnn.decode._texts import Texts, over_tokens
from fastrnn.decode._utf8 import over_bytes
from fastrnn.decode.automaton import Automaton

Arrows = list[dict[int, int]]  # of every state: symbols to states


def regex(pattern: str, vocabulary: Any) -> Automaton:
    """The automaton of all texts that match the whole pattern, written with these tokens.

    Known are literals, `.` (no newline), classes `[a-z]` and `[^...]`, `\\d \\w \\s \\D \\W \\S`,
    `* + ? {m} {m,} {m,n}`, `|` and groups; anything else is a ValueError that says where. Escape a
    special character by a backslash. `vocabulary` is as for `Trie`. A pattern that would take more
    than a few seconds or some hundred megabytes is a ValueError that names the limit.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"pattern is {with_article(type(pattern).__name__)}, expected a str")
    texts, budget = Texts.of(vocabulary), Budget()
    parser = Parser(pattern, budget)
    entry, end = parser.parse()
    partition = Partition(list(parser.nfa.sets), budget.spend)
    arrows, accepting = _deterministic(parser.nfa, partition, entry, end, budget)
    if texts.are_bytes:
        arrows = over_bytes(arrows, partition.ranges(), budget.spend)
        automaton = over_tokens(arrows, texts.symbols(int))
    else:
        automaton = over_tokens(arrows, texts.symbols(partition.of))
    try:
        return Automaton.of_arrows(automaton, accepting)
    except ValueError:
        raise ValueError(
            f"pattern {shown(pattern)} allows nothing: no text over the vocabulary matches it"
        ) from None


def _deterministic(
    nfa: Nfa, partition: Partition, entry: int, end: int, budget: Budget
) -> tuple[Arrows, set[int]]:
    """The subset construction: every state stands for a set of states of the nfa."""
    first = _closure(nfa, {entry}, budget)
    numbers, pending = {first: 0}, [first]
    arrows: Arrows = []
    for states in pending:  # grows while it is walked
        arrows.append({})
        closures: dict[frozenset[int], int] = {}
        for symbol, targets in _moves(nfa, partition, states, budget).items():
            reached = frozenset(targets)
            if reached not in closures:
                closed = _closure(nfa, reached, budget)
                if closed not in numbers:
                    numbers[closed] = len(pending)
                    pending.append(closed)
                closures[reached] = numbers[closed]
            arrows[-1][symbol] = closures[reached]
    return arrows, {number for states, number in numbers.items() if end in states}


def _closure(nfa: Nfa, states: set[int] | frozenset[int], budget: Budget) -> frozenset[int]:
    """States reached without a character: those of them with an edge or without jumps."""
    reached, pending = set(states), list(states)
    while pending:
        targets = nfa.jumps[pending.pop()]
        budget.spend(1 + len(targets))
        for target in targets:
            if target not in reached:
                reached.add(target)
                pending.append(target)
    return frozenset(s for s in reached if nfa.edges[s] is not None or not nfa.jumps[s])


def _moves(
    nfa: Nfa, partition: Partition, states: frozenset[int], budget: Budget
) -> dict[int, list[int]]:
    """The states behind every class of characters."""
    moves: dict[int, list[int]] = {}
    for state in states:
        edge = nfa.edges[state]
        if edge is not None:
            symbols = partition.of_set[edge[0]]
            budget.spend(1 + len(symbols))
            for symbol in symbols:
                moves.setdefault(symbol, []).append(edge[1])
    return moves
