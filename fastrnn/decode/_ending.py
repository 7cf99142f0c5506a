"""Stopping criteria: the end of a sequence, and its reason."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from fastrnn.decode._compiled import Compiled
from fastrnn.decode._options import Options


class Sequence(Protocol):
    """A sequence whose last token has just been added, as stopping criteria see it."""

    @property
    def token(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def state(self) -> int: ...

    def tokens(self, start: int = 0, /) -> list[int]:
        """New tokens from position `start` on."""


class Ending:
    """The stopping criteria of one call."""

    def __init__(self, o: Options, grammar: Compiled | None) -> None:
        self.most, self.least = o.max_new_tokens, o.min_new_tokens
        self.eos = frozenset(o.eos_token_id)
        self.stops: dict[int, list[list[int]]] = {}  # by their last token
        for stop in o.stop:
            self.stops.setdefault(stop[-1], []).append(list(stop))
        self.grammar = grammar
        self.only_eos = grammar is None and not self.stops  # nothing else ends a text early

    @property
    def final_tokens(self) -> int:
        """The largest number of tokens after any one sequence that can end it before the limit."""
        return len(self.eos | self.stops.keys()) + (
            self.grammar.final_tokens if self.grammar else 0
        )

    def marks(self, vocab_size: int) -> npt.NDArray[np.uint8]:
        """Marks (V,) of the tokens that may end a text; without a grammar no other can."""
        marks = np.zeros(vocab_size, np.uint8)
        marks[list(self.eos | self.stops.keys())] = 1
        return marks

    def follow(self, state: int, token: int) -> int:
        """The automaton's state after a token that it allows."""
        return self.grammar.follow(state, token) if self.grammar is not None else state

    def reason(self, sequence: Sequence) -> str | None:
        """The reason for which the sequence is over; None: it is not.

        With a grammar it ends only in a state that accepts: elsewhere end tokens and the last token
        that fits are forbidden, and a stop sequence does not count.
        """
        if sequence.token in self.eos:
            return "eos"
        length = sequence.length
        if self.stops and length >= self.least and self._is_stopped(sequence):
            return "stop"
        if self.grammar is not None and self.grammar.is_over(sequence.state, self.most - length):
            return "constraint" if self.grammar.is_last(sequence.state) else "length"
        return None if length < self.most else "length"

    def _is_stopped(self, sequence: Sequence) -> bool:
        if self.grammar is not None and not self.grammar.accepts(sequence.state):
            return False
        return any(
            len(stop) <= sequence.length and sequence.tokens(sequence.length - len(stop)) == stop
            for stop in self.stops.get(sequence.token, ())
        )
