"""Automata made ready for one set of end tokens, and what they allow within limits of length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastrnn._arrays import IntArray
from fastrnn._errors import ArgumentError
from fastrnn.decode._arrows import Arrows, Mask
from fastrnn.decode._checks import DecodingError
from fastrnn.decode.automaton import FAR, Automaton, backward_steps

ENDED = -2  # the state after an end token
_MAX_LAYER_BYTES = 1 << 27  # of the states that may be entered before min_new_tokens


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """An automaton with its end tokens, as arrays for the kernel."""

    automaton: Automaton
    arrows: Arrows  # with end tokens where a sequence may end, which lead to ENDED
    needed: IntArray  # (E,): number of tokens needed behind an arrow
    least: IntArray  # (S,): behind the best arrow of a state; FAR: none may follow
    final_tokens: int  # most tokens of a state after which a sequence may be over

    def follow(self, state: int, token: int) -> int:
        """The state after a token that is allowed."""
        following = self.automaton.follow(state, token)
        return ENDED if following < 0 else following

    def accepts(self, state: int) -> bool:
        """True if a sequence may end in this state."""
        return state in self.automaton.accepting

    def is_over(self, state: int, remaining: int) -> bool:
        """True if nothing may follow when `remaining` more tokens fit."""
        return state == ENDED or remaining <= self.least[state]

    def is_last(self, state: int) -> bool:
        """True if nothing may follow however much fits."""
        return bool(self.least[state] == FAR)


def compiled(automaton: Automaton, eos: tuple[int, ...]) -> Compiled:
    """The automaton with these end tokens, kept for the next call with the same."""
    kept = automaton.kept
    if kept is None or kept[0] != eos:
        kept = automaton.kept = eos, _compiled(automaton, eos)
    made: Compiled = kept[1]
    return made


def _compiled(automaton: Automaton, eos: tuple[int, ...]) -> Compiled:
    """Adds end tokens to accepting states.

    What the automaton puts behind an end token is out of reach: only a whole sequence may have one.
    """
    if np.isin(automaton.arrows.symbols, eos).any():
        automaton = _ended_by(automaton, eos)
    arrows = _with_ends(automaton, eos)
    needed = np.where(arrows.targets == ENDED, 0, automaton.needed[np.maximum(arrows.targets, 0)])
    least, some = np.full(len(arrows), FAR), arrows.counts > 0
    least[some] = np.minimum.reduceat(needed, arrows.offsets[:-1][some]) if some.any() else FAR
    final = np.bincount(arrows.sources[needed == 0], minlength=1)
    return Compiled(automaton, arrows, needed, least, int(final.max()))


def _ended_by(automaton: Automaton, eos: tuple[int, ...]) -> Automaton:
    """Without the end tokens that are not the last of a sequence."""
    arrows = automaton.arrows
    ends = np.isin(arrows.symbols, eos)
    kept = ~ends | (automaton.needed[arrows.targets] == 0)
    return Automaton.of_arrows(arrows.where(kept), automaton.accepting, automaton.start)


def _with_ends(automaton: Automaton, eos: tuple[int, ...]) -> Arrows:
    """The arrows, and one to ENDED for every end token that an accepting state has none of."""
    own, final = automaton.arrows, np.array(sorted(automaton.accepting), np.int64)
    known = {
        (int(own.sources[i]), int(own.symbols[i]))
        for i in np.flatnonzero(np.isin(own.symbols, eos))
    }
    added = [(state, token) for token in eos for state in final.tolist()]
    pairs = np.array([pair for pair in added if pair not in known], np.int64).reshape(-1, 2)
    return Arrows.of_triples(
        len(own),
        np.concatenate((own.sources, pairs[:, 0])),
        np.concatenate((own.symbols, pairs[:, 1])),
        np.concatenate((own.targets, np.full(len(pairs), ENDED))),
    )


class Lengths:
    """States that may be entered, so that a text has at least and at most so many tokens.

    The most is a matter of distances alone (`Compiled.needed`). The least is one of layers: layer n
    holds the states from which, n tokens written, a text of some length between both can be
    completed. Layers are found from the last to the first, until one comes again.
    """

    def __init__(self, grammar: Compiled, eos: tuple[int, ...], least: int, most: int) -> None:
        self.grammar, self.least = grammar, least
        automaton = grammar.automaton
        inner = automaton.arrows.where(~np.isin(automaton.arrows.symbols, eos))
        before = backward_steps(inner)
        self._layers: list[Mask] = [automaton.needed <= most - least]
        self._period, known = 0, {self._layers[0].tobytes(): 0}
        for i in range(1, least + 1):
            layer = np.zeros(len(inner), bool)
            layer[before.targets[self._layers[-1][before.sources]]] = True
            first = known.setdefault(layer.tobytes(), i)
            if first < i:
                self._period = i - first
                break
            self._layers.append(layer)
            if i * len(layer) > _MAX_LAYER_BYTES:
                raise DecodingError(
                    f"{{constraint}} has {len(layer)} states, too many for {{min_new_tokens}} "
                    f"{least}: expected at most {_MAX_LAYER_BYTES} for both multiplied"
                )

    def allows(self, state: int, length: int) -> bool:
        """True if a text of `length` tokens so far, less than the least, may be in this state."""
        return bool(self._layer(length)[state])

    def forbidden(self, state: int, length: int) -> IntArray:
        """The tokens that may not be number `length` (from 0) of a text, less than the least."""
        arrows = self.grammar.arrows
        own = slice(*arrows.offsets[state : state + 2])
        targets = arrows.targets[own]
        fits = (targets != ENDED) & self._layer(length + 1)[np.maximum(targets, 0)]
        tokens: IntArray = arrows.symbols[own][~fits]
        return tokens

    def _layer(self, length: int) -> Mask:
        at = self.least - length
        if at >= len(self._layers):
            first = len(self._layers) - self._period
            at = first + (at - first) % self._period
        return self._layers[at]


def check_fit(
    grammar: Compiled, vocab_size: int, least: int, most: int, lengths: Lengths | None
) -> None:
    """ValueError where nothing can be generated."""
    automaton = grammar.automaton
    largest = int(automaton.arrows.symbols.max(initial=0))
    if largest >= vocab_size:
        text = f"constraint holds token {largest}, the vocabulary is 0 to {vocab_size - 1}"
        raise ArgumentError("constraint", automaton, f"tokens below {vocab_size}", text)
    shortest = int(grammar.least[automaton.start])
    if shortest == FAR:
        text = "constraint allows nothing but the empty sequence"
        raise ArgumentError("constraint", automaton, "a sequence that is not empty", text)
    if shortest + 1 > most:
        raise DecodingError(
            f"{{constraint}} needs {shortest + 1} tokens at least, {{max_new_tokens}} is {most}"
        )
    if lengths is not None and not lengths.allows(automaton.start, 0):
        raise DecodingError(
            f"{{constraint}} has no text of {least} to {most} tokens, which are {{min_new_tokens}} "
            f"and {{max_new_tokens}}"
        )
