"""Greedy search and sampling: one token per row and step.

All rows go through one stream, each at its own place, and none ever sees padding. A network has
read all prompts before the first draw; with a model in Python one row writes already while another
still reads. A row that is finished leaves the stream.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import numpy as np

from fastrnn import _core
from fastrnn.decode._generation import Generation, length_penalty_of
from fastrnn.decode._options import Options
from fastrnn.decode._rules import Rules, refuse_row
from fastrnn.decode._stepper import RUN_STEPS, Decodable, Stepper, check_model


@dataclass(slots=True)
class _Row:
    prompt: list[int]
    number: int  # of the prompt
    sequence: int  # of those returned for it
    state: int  # of the constraint
    read: int = 1  # tokens of the prompt that have been given to the stream
    written: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    reason: str = ""

    @property
    def reads_prompt(self) -> bool:
        return self.read < len(self.prompt)

    @property
    def token(self) -> int:
        return self.written[-1]

    @property
    def length(self) -> int:
        return len(self.written)

    def tokens(self, start: int = 0, /) -> list[int]:
        return self.written[start:]


class Sampling:
    """One call of generate without beams."""

    def __init__(self, model: Decodable, prompts: list[list[int]], o: Options) -> None:
        self.options, self.wanted = o, o.num_return_sequences
        vocab_size, capacity = check_model(model), len(prompts) * self.wanted
        self.rules = Rules(o, vocab_size)
        self.sampler = self._sampler(o, vocab_size, capacity)
        self.stepper = Stepper(model, len(prompts), self.sampler.raw)
        self.logits = self.sampler.logits
        self.keys, self.positions = self.sampler.keys, self.sampler.positions
        self.rules.bind(self.logits)
        self.rows = [_Row(prompt, i, 0, self.rules.start) for i, prompt in enumerate(prompts)]
        self.finished: list[_Row] = []
        self.core = None if self.rules.change_logits else self.stepper.core
        # With a seed, a prompt alone gives what it gives in a batch: its place is not in the key.
        self.seeds = [secrets.randbits(64) if o.seed is None else o.seed for _ in prompts]

    def _sampler(self, o: Options, vocab_size: int, capacity: int) -> _core.Sampler:
        return _core.Sampler(
            vocab_size,
            capacity,
            self.rules.ending.marks(vocab_size),
            RUN_STEPS,
            processors=self.rules.change_logits,
            temperature=o.temperature if o.do_sample else 0.0,
            top_k=o.top_k,
            top_p=o.top_p,
            min_p=o.min_p,
            typical_p=o.typical_p,
        )

    def run(self, streams: bool = False) -> Iterator[int]:
        """Decodes to the end; with `streams` yields every token as it is drawn."""
        ahead = 1 if streams or self.core is None else RUN_STEPS
        most, feed = self.rules.ending.most, self._read()
        while feed:
            self.stepper.step(feed)
            self._expand()
            self._process()
            steps = 1 if ahead == 1 else min(ahead, most - max(row.length for row in self.rows))
            drawn = self.sampler.run(self.stepper.rows, self.core, steps)
            if drawn > 1:
                self._take(drawn - 1)
            feed = yield from self._advance(drawn - 1)

    def _read(self) -> list[int]:
        """The prompts as far as the model reads them at once; returns what to feed next."""
        read = self.stepper.read([row.prompt for row in self.rows])
        for row, count in zip(self.rows, read, strict=True):
            row.read += count
        self._spread_keys()
        return [row.prompt[count] for row, count in zip(self.rows, read, strict=True)]

    def _expand(self) -> None:
        """A prompt that has just been read becomes as many rows as sequences are wanted."""
        if self.wanted == 1 or all(row.written or row.reads_prompt for row in self.rows):
            return
        sources: list[int] = []
        rows: list[_Row] = []
        for i, row in enumerate(self.rows):
            count = 1 if row.written or row.reads_prompt else self.wanted
            sources += [i] * count
            rows += (
                [row]
                if count == 1
                else [_Row(row.prompt, row.number, k, row.state, row.read) for k in range(count)]
            )
        self.rows = rows
        logits = self.stepper.valid[sources]
        self.stepper.reorder(sources)
        self.stepper.valid[...] = logits
        self._spread_keys()

    def _spread_keys(self) -> None:
        keys = [
            (self.seeds[row.number] + row.sequence * 0x9E3779B97F4A7C15) % (1 << 64)
            for row in self.rows
        ]
        self.keys[: len(keys)] = np.array(keys, np.uint64).view(np.int64)

    def _process(self) -> None:
        rows, count = self.rows, len(self.rows)
        self.positions[:count] = [-1 if row.reads_prompt else len(row.written) for row in rows]
        if self.rules.change_logits:
            self.logits[:count] = self.stepper.valid
            entries = [
                (i, row.prompt, row.written, row.state)
                for i, row in enumerate(rows)
                if not row.reads_prompt
            ]
            self.rules.apply(entries, count)

    def _take(self, count: int) -> None:
        """Hands the first tokens of a run, which end nothing, to their rows."""
        record = self.sampler.tokens, self.sampler.logprobs
        tokens, logprobs = (part[:count, : len(self.rows)].T.tolist() for part in record)
        for i, row in enumerate(self.rows):
            row.written += tokens[i]
            row.logprobs += logprobs[i]

    def _advance(self, last: int) -> Generator[int, None, list[int]]:
        """Hands the last tokens of a run to their rows; returns what to feed next."""
        count, ending = len(self.rows), self.rules.ending
        feed: list[int] = []
        kept: list[int] = []
        record = self.sampler.tokens, self.sampler.logprobs
        drawn = zip(*(part[last, :count].tolist() for part in record), strict=True)
        for i, (row, (token, logprob)) in enumerate(zip(self.rows, drawn, strict=True)):
            if row.reads_prompt:
                token = row.prompt[row.read]
                row.read += 1
            else:
                if token < 0:
                    refuse_row(token == -2, row.number, len(row.written))
                row.written.append(token)
                row.logprobs.append(logprob)
                row.state = ending.follow(row.state, token)
                reason = ending.reason(row)
                yield token
                if reason is not None:
                    row.reason = reason
                    self.finished.append(row)
                    continue
            feed.append(token)
            kept.append(i)
        if feed and len(kept) < count:
            self.rows = [self.rows[i] for i in kept]
            self.stepper.reorder(kept)
            self._spread_keys()
        return feed

    def results(self) -> list[Generation]:
        """All sequences, by prompt and then by falling score."""
        penalty = length_penalty_of(self.options.length_penalty_form, self.options.length_penalty)
        found = [
            (row.number, -sum(row.logprobs) / penalty(len(row.written)), row.sequence, row)
            for row in self.finished
        ]
        return [
            Generation(row.written, row.logprobs, -negative, row.reason)
            for _, negative, _, row in sorted(found, key=lambda entry: entry[:3])
        ]
