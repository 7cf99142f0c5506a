"""When a sequence is over, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastrnn.decode._options import Options
from fastrnn.decode.automaton import Compiled


class Ending:
    """The rules of one call."""

    def __init__(self, o: Options, grammar: Compiled | None) -> None:
        self.most, self.least = o.max_new_tokens, o.min_new_tokens
        self.eos = frozenset(o.eos_token_id)
        self.stops: list[list[int]] = [list(stop) for stop in o.stop]
        self.grammar = grammar

    @property
    def final_tokens(self) -> int:
        """The most tokens after any one sequence that can end it before the limit."""
        last = {stop[-1] for stop in self.stops}
        return len(self.eos | last) + (self.grammar.final_tokens if self.grammar else 0)

    def follow(self, state: int, token: int) -> int:
        """The automaton's state after a token that it allows."""
        return self.grammar.following[state][token] if self.grammar is not None else state

    def reason(self, tokens: list[int], state: int) -> str | None:
        """Why a sequence whose last token has just been added is over; None: it is not."""
        if tokens[-1] in self.eos:
            return "eos"
        if self.stops and len(tokens) >= self.least and ends_with(tokens, self.stops):
            return "stop"
        remaining = self.most - len(tokens)
        if self.grammar is not None and self.grammar.is_over(state, remaining):
            return "constraint" if math.isinf(self.grammar.least[state]) else "length"
        return None if remaining else "length"


def ends_with(tokens: list[int], stops: Sequence[list[int]]) -> bool:
    """Whether the tokens end with one of these sequences."""
    return any(tokens[-len(stop) :] == stop for stop in stops)
