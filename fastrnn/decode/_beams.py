"""Beam search over groups of beams, with Hugging Face's rules of ending.

Candidates are ordered by falling sum of log-probabilities (float64), then by parent beam, then by
token id. A group keeps its `size` best unfinished sequences as beams and collects finished ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fastrnn.decode._ending import Ending
from fastrnn.decode._generation import Generation, Penalty, length_penalty_of
from fastrnn.decode._options import Options, kept_of

Candidate = tuple[float, int, int]  # sum, row, token


@dataclass(slots=True, eq=False)
class Beam:
    """A sequence as its last token and the beam before it, which other beams may share."""

    before: Beam | None
    token: int
    logprob: float
    score: float  # sum of logprobs
    length: int
    state: int  # of the constraint
    row: int  # of the beam before it in the stream

    def tokens(self, start: int = 0, /) -> list[int]:
        """The tokens from position `start` on."""
        found, beam = [], self
        while beam.before is not None and beam.length > start:
            found.append(beam.token)
            beam = beam.before
        return found[::-1]

    def logprobs(self) -> list[float]:
        found, beam = [], self
        while beam.before is not None:
            found.append(beam.logprob)
            beam = beam.before
        return found[::-1]


@dataclass(slots=True, eq=False)
class Finished:
    """A complete sequence: its last beam, the score and why it ended."""

    beam: Beam
    score: float
    reason: str

    def generation(self) -> Generation:
        return Generation(self.beam.tokens(), self.beam.logprobs(), self.score, self.reason)


class Taken(NamedTuple):
    """The tokens that one step of all groups took, by row."""

    tokens: list[int]
    parents: list[int]  # rows of the step before
    scores: list[float]
    logprobs: list[float]


class Group:
    """Beams that compete with each other, and what they have finished."""

    def __init__(
        self, o: Options, ending: Ending, start: int, missed: Callable[[int], float]
    ) -> None:
        self.missed = missed  # what the attention left out, of the row that a sequence ends on
        self.size, self.kept = o.num_beams // o.num_beam_groups, kept_of(o)
        self.ending, self.early = ending, o.early_stopping
        self.penalty: Penalty = length_penalty_of(o.length_penalty_form, o.length_penalty)
        self.falls = o.length_penalty > 0
        self.beams = [Beam(None, -1, 0.0, 0.0, 0, start, 0)]
        self.finished: list[Finished] = []
        self.chosen: list[int] = []  # tokens of the last step, for the groups behind this one
        self.is_done = False

    @property
    def has_found_enough(self) -> bool:
        """Enough finished sequences to be done, if no beam can do better."""
        return len(self.finished) == self.kept

    def advance(
        self, candidates: Iterable[Candidate], first: int, logprob: Callable[[int, int], float]
    ) -> bool:
        """The next beams from the best candidates; row - first is the number of a beam.

        A row below 0 ends the candidates; False if there is none.
        """
        ending, parents, beams = self.ending, self.beams, []
        size, eos, only_eos = self.size, ending.eos, ending.only_eos
        length, rank = parents[0].length + 1, -1
        for rank, (score, row, token) in enumerate(candidates):
            if row < 0:
                rank -= 1
                break
            parent = parents[row - first]
            state = parent.state if only_eos else ending.follow(parent.state, token)
            beam = Beam(parent, token, logprob(row, token), score, length, state, row)
            reason = ("eos" if token in eos else None) if only_eos else ending.reason(beam)
            if reason is None or reason == "length":
                beams.append(beam)
                if len(beams) == size:
                    break
            elif rank < size:
                self._finish(beam, reason)
        self.chosen = [beam.token for beam in beams]
        self.beams = beams
        if ending.grammar is not None or length == ending.most:
            self._cut()
        if not self.beams or self._is_done(self.beams[0].score, length):
            self.beams, self.is_done = [], True
        return rank >= 0

    def grow(self, before: int, first: int, steps: Sequence[Taken]) -> None:
        """The beams behind steps that ended none; their first row was `before` and is `first` now.

        Only what one of them comes from becomes a Beam.
        """
        alive = [set(range(first, first + self.size))]
        for step in reversed(steps):
            alive.append({step.parents[row] for row in alive[-1]})
        beams = dict(enumerate(self.beams, before))
        length, state = self.beams[0].length, self.beams[0].state
        for n, (step, rows) in enumerate(zip(steps, reversed(alive[:-1]), strict=True), length + 1):
            beams = {
                row: Beam(
                    beams[step.parents[row]],
                    step.tokens[row],
                    step.logprobs[row],
                    step.scores[row],
                    n,
                    state,
                    step.parents[row],
                )
                for row in rows
            }
        self.beams = [beams[row] for row in range(first, first + self.size)]

    def _cut(self) -> None:
        """Beams that may not grow any more are finished as they are."""
        growing = []
        for beam in self.beams:
            reason = self.ending.reason(beam)
            if reason is None:
                growing.append(beam)
            else:
                self._finish(beam, reason)
        self.beams = growing

    def _finish(self, beam: Beam, reason: str) -> None:
        """Keeps the best; of equal scores the one that was found first."""
        score = beam.score / self.penalty(beam.length) + self.missed(beam.row)
        self.finished.append(Finished(beam, score, reason))
        self.finished.sort(key=lambda finished: -finished.score)
        del self.finished[self.kept :]

    def _is_done(self, best: float, length: int) -> bool:
        """True if no beam can do better than what is finished, as far as the mode looks."""
        if not self.has_found_enough:
            return False
        if self.early is True:
            return True
        if self.early == "never" and self.falls:
            length = self.ending.most
        return self.finished[-1].score >= best / self.penalty(length)


def shared_start(sequences: list[list[int]]) -> list[int]:
    """The first tokens that all sequences have in common."""
    for i, tokens in enumerate(zip(*sequences, strict=False)):
        if any(token != tokens[0] for token in tokens):
            return sequences[0][:i]
    return min(sequences, key=len)
