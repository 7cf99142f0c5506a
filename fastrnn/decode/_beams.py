"""Beam search over groups of beams, with Hugging Face's rules of ending.

Candidates are ordered by falling sum of log-probabilities (float64), then by parent beam, then by
token id. A group keeps its `size` best unfinished sequences as beams and collects finished ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastrnn.decode._ending import Ending
from fastrnn.decode._generation import Generation, Penalty, length_penalty_of
from fastrnn.decode._options import Options, kept_of

Candidate = tuple[float, int, int]  # sum, row, token


@dataclass(slots=True)
class Beam:
    """An unfinished sequence; `row` is its parent's in the stream until the rows are reordered."""

    tokens: list[int]
    logprobs: list[float]
    score: float
    state: int
    row: int = 0


class Group:
    """Beams that compete with each other, and what they have finished."""

    def __init__(self, o: Options, ending: Ending, start: int) -> None:
        self.size, self.kept = o.num_beams // o.num_beam_groups, kept_of(o)
        self.ending, self.early = ending, o.early_stopping
        self.penalty: Penalty = length_penalty_of(o.length_penalty_form, o.length_penalty)
        self.falls = o.length_penalty > 0
        self.beams = [Beam([], [], 0.0, start)]
        self.finished: list[Generation] = []
        self.chosen: list[int] = []  # tokens of the last step, for the groups behind this one
        self.is_done = False

    def advance(
        self,
        candidates: list[Candidate],
        parents: list[Beam],
        first: int,
        logprob: Callable[[int, int], float],
    ) -> None:
        """The next beams from the best candidates; parents[row - first] belongs to a row."""
        beams: list[Beam] = []
        for rank, (score, row, token) in enumerate(candidates):
            parent = parents[row - first]
            tokens = [*parent.tokens, token]
            state = self.ending.follow(parent.state, token)
            reason = self.ending.reason(tokens, state)
            if reason in ("eos", "stop", "constraint"):
                if rank < self.size:
                    logprobs = [*parent.logprobs, logprob(row, token)]
                    self._finish(tokens, logprobs, score, reason)
                continue
            beams.append(Beam(tokens, [*parent.logprobs, logprob(row, token)], score, state, row))
            if len(beams) == self.size:
                break
        length = len(parents[0].tokens) + 1
        self.chosen = [beam.tokens[-1] for beam in beams]
        if not beams or self._is_done(candidates[0][0], length):
            beams, self.is_done = [], True
        self.beams = beams
        if self.ending.grammar is not None or length == self.ending.most:
            self._cut()

    def _cut(self) -> None:
        """Beams that may not grow any more are finished as they are."""
        growing = []
        for beam in self.beams:
            reason = self.ending.reason(beam.tokens, beam.state)
            if reason is None:
                growing.append(beam)
            else:
                self._finish(beam.tokens, beam.logprobs, beam.score, reason)
        self.beams = growing
        self.is_done = self.is_done or not growing

    def _finish(self, tokens: list[int], logprobs: list[float], total: float, reason: str) -> None:
        """Keeps the best; of equal scores the one that was found first."""
        score = total / self.penalty(len(tokens))
        self.finished.append(Generation(tokens, logprobs, score, reason))
        self.finished.sort(key=lambda generation: -generation.score)
        del self.finished[self.kept :]

    def _is_done(self, best: float, length: int) -> bool:
        """Whether no beam can do better than what is finished, as far as the mode looks."""
        if len(self.finished) < self.kept:
            return False
        if self.early is True:
            return True
        if self.early == "never" and self.falls:
            length = self.ending.most
        return self.finished[-1].score >= best / self.penalty(length)


def common_prefix(sequences: list[list[int]], start: int) -> int:
    """How many first tokens all sequences share, at least `start` of them being known to."""
    shortest = min(map(len, sequences))
    first = sequences[0]
    for i in range(start, shortest):
        if any(sequence[i] != first[i] for sequence in sequences):
            return i
    return max(start, shortest)
