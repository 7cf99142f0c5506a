"""The beams of all prompts in one stream: step, process, choose, reorder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from fastrnn import _core
from fastrnn.decode._beams import Finished, Group, Taken, shared_start
from fastrnn.decode._checks import DecodingError
from fastrnn.decode._coverage import Coverage
from fastrnn.decode._generation import Generation
from fastrnn.decode._options import Options
from fastrnn.decode._rules import Entry, Rules, refuse_row
from fastrnn.decode._stepper import RUN_STEPS, Decodable, Stepper, check_model


@dataclass(slots=True)
class _Prompt:
    """One prompt and its groups; every group has rows of its own."""

    number: int
    tokens: list[int]
    groups: list[Group]
    read: int = 1
    firsts: list[int] = field(default_factory=list)  # first row of every group

    @property
    def reads(self) -> bool:
        return self.read < len(self.tokens)


def _nothing(row: int) -> float:
    """Without a coverage penalty nothing is missed."""
    return 0.0


class Search:
    """One call of generate with beams."""

    def __init__(self, model: Decodable, prompts: list[list[int]], o: Options) -> None:
        self.options, G = o, o.num_beam_groups
        V, capacity = check_model(model), len(prompts) * o.num_beams
        self.rules = Rules(o, V)
        ending = self.rules.ending
        # A beam has at most `final_tokens` ways to end, so that enough candidates do not.
        k = o.num_beams // G * min(1 + ending.final_tokens, V)
        self.chooser = _core.Chooser(
            V, capacity, len(prompts), k, ending.marks(V), RUN_STEPS, o.num_beams // G, o.top_k
        )
        self.logits = self.chooser.logits
        self.stepper = Stepper(model, len(prompts), self.logits)
        self.rules.bind(self.logits)
        self.coverage = Coverage(self.stepper, o.coverage_penalty) if o.coverage_penalty else None
        missed = self.coverage.missed if self.coverage else _nothing
        self.prompts = [
            _Prompt(i, tokens, [Group(o, ending, self.rules.start, missed) for _ in range(G)])
            for i, tokens in enumerate(prompts)
        ]
        self.active = self.prompts
        self.same = list(range(capacity))
        runs = not (self.rules.change_logits or self.coverage or G > 1)
        self.core = self.stepper.core if runs else None
        # Per prompt: where the results of its choice are.
        c = self.chooser
        self.results_of = list(zip(c.best, c.best_rows, c.best_tokens, strict=True))

    def run(self, streams: bool = False) -> Iterator[int]:
        """Decodes to the end; with `streams` yields the first prompt's tokens once certain."""
        ahead = 1 if streams or self.core is None else RUN_STEPS
        given, feed = 0, self._read()
        while feed:
            writing = self._step(feed, ahead)
            if streams and writing:
                known = self._prefix(given)
                yield from known
                given += len(known)
            feed = self._reorder(writing)
        if streams:
            yield from self.results()[0].tokens[given:]

    def _read(self) -> list[int]:
        """The prompts as far as the model reads them at once; returns what to feed next."""
        groups = self.options.num_beam_groups
        read = self.stepper.read([prompt.tokens for prompt in self.prompts])
        for i, prompt in enumerate(self.prompts):
            prompt.read += read[i]
            prompt.firsts = list(range(i * groups, i * groups + groups))
        if groups > 1:
            self.stepper.reorder([p.number for p in self.prompts for _ in p.groups])
        return [p.tokens[p.read - 1] for p in self.prompts for _ in p.groups]

    def _step(self, feed: list[int], ahead: int) -> list[_Prompt]:
        """One step, and the next beams of the prompts that are read, which are returned.

        With `ahead` above 1, so many steps as long as no beam may end.
        """
        self.stepper.step(feed)
        if self.coverage:
            self.coverage.add()
        if self.chooser.normalize(len(feed)) < len(feed):
            self._refuse_nan()
        writing = [p for p in self.active if not p.reads]
        for g in range(self.options.num_beam_groups):
            for prompt in writing:
                prompt.groups[g].chosen = []
            prompts = [p for p in writing if not p.groups[g].is_done]
            if prompts:
                self._choose(prompts, g, ahead)
        return writing

    def _choose(self, prompts: list[_Prompt], g: int, ahead: int) -> None:
        """The next beams of group g."""
        for i, prompt in enumerate(prompts):
            self.chooser.first[i] = prompt.firsts[g]
            self.chooser.last[i] = prompt.firsts[g] + len(prompt.groups[g].beams)
        self._process(prompts, g)
        steps = 1
        if ahead > 1 and not any(prompt.groups[g].has_found_enough for prompt in prompts):
            longest = max(prompt.groups[g].beams[0].length for prompt in prompts)
            steps = min(ahead, self.rules.ending.most - longest)
        taken, nan = self.chooser.run(len(prompts), self.core, steps)
        if taken:
            self._grow(prompts, taken)
        if nan >= 0:
            self._refuse_nan()
        for i, prompt in enumerate(prompts):
            self._advance(prompt, g, i)

    def _grow(self, prompts: list[_Prompt], taken: int) -> None:
        """The beams behind the steps that a run took, in which none ended."""
        size, c = self.options.num_beams, self.chooser
        rows = len(prompts) * size
        record = (c.tokens, c.parents, c.scores, c.logprobs)
        steps = [
            Taken(*row)
            for row in zip(*(r[1 : taken + 1, :rows].tolist() for r in record), strict=True)
        ]
        for i, prompt in enumerate(prompts):
            prompt.groups[0].grow(prompt.firsts[0], i * size, steps)
            prompt.firsts[0] = i * size
        self.stepper.resize(rows)

    def _refuse_nan(self) -> None:
        """An error if a beam has NaN; what follows a part of a prompt is not used."""
        for prompt in self.active:
            for group, first in zip(prompt.groups, prompt.firsts, strict=True):
                rows = self.logits[first : first + len(group.beams)]
                if np.isnan(rows).any() and not prompt.reads:
                    refuse_row(True, prompt.number, group.beams[0].length)

    def _advance(self, prompt: _Prompt, g: int, i: int) -> None:
        """The next beams of a group from choice i."""
        group = prompt.groups[g]
        best, rows, tokens = self.results_of[i]
        candidates = zip(best.tolist(), rows.tolist(), tokens.tolist(), strict=True)
        length = group.beams[0].length
        if not group.advance(candidates, prompt.firsts[g], self.logits.item) and not group.finished:
            refuse_row(False, prompt.number, length)

    def _process(self, prompts: list[_Prompt], g: int) -> None:
        """Diversity, then processors, then the constraint, for the rows of group g."""
        if not (g or self.rules.change_logits):
            return
        entries: list[Entry] = []
        for prompt in prompts:
            chosen = Counter(token for group in prompt.groups[:g] for token in group.chosen)
            for row, beam in enumerate(prompt.groups[g].beams, prompt.firsts[g]):
                for token, count in chosen.items():
                    self.logits[row, token] -= self.options.diversity_penalty * count
                entries.append((row, prompt.tokens, beam.tokens(), beam.state))
        self.rules.apply(entries, self.stepper.rows)

    def _reorder(self, writing: list[_Prompt]) -> list[int]:
        """Moves the stream to the new beams; returns their last tokens, or the prompts' next."""
        rows: list[int] = []
        feed: list[int] = []
        scores: list[float] = []
        for prompt in self.active:
            if prompt.reads:
                rows += prompt.firsts
                feed += [prompt.tokens[prompt.read]] * len(prompt.groups)
                scores += [0.0] * len(prompt.groups)
                prompt.firsts = list(range(len(rows) - len(prompt.groups), len(rows)))
                prompt.read += 1
                continue
            for g, group in enumerate(prompt.groups):
                prompt.firsts[g] = len(rows)
                for beam in group.beams:
                    rows.append(beam.row)
                    feed.append(beam.token)
                    scores.append(beam.score)
        if any(group.is_done for prompt in writing for group in prompt.groups):
            self.active = [p for p in self.active if not all(g.is_done for g in p.groups)]
        self.chooser.scores[0, : len(scores)] = scores
        if rows and rows != self.same[: self.stepper.rows]:
            self.stepper.reorder(rows)
            if self.coverage:
                self.coverage.reorder(rows)
        return feed

    def _prefix(self, given: int) -> list[int]:
        """The tokens that all beams and finished sequences of the first prompt begin with."""
        prompt = self.prompts[0]
        beams = [beam for group in prompt.groups for beam in group.beams]
        ends = [finished.beam for group in prompt.groups for finished in group.finished]
        return shared_start([beam.tokens(given) for beam in beams + ends]) if beams else []

    def results(self) -> list[Generation]:
        """The best sequences of every prompt, by falling score."""
        found: list[Generation] = []
        for prompt in self.prompts:
            every: list[Finished] = [one for group in prompt.groups for one in group.finished]
            every.sort(key=lambda finished: -finished.score)
            if len(every) < self.options.num_return_sequences:
                raise DecodingError(
                    f"{{num_return_sequences}} is {self.options.num_return_sequences}, but the "
                    f"search found only {len(every)} for {{prompt}}",
                    prompt.number,
                )
            found += [one.generation() for one in every[: self.options.num_return_sequences]]
        return found
