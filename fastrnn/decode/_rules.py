"""Logits processors and the constraint of one call, applied to its rows of logits."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fastrnn import _core
from fastrnn._arrays import FloatArray
from fastrnn.decode._checks import DecodingError
from fastrnn.decode._compiled import Lengths, check_fit, compiled
from fastrnn.decode._ending import Ending
from fastrnn.decode._options import Options
from fastrnn.decode._processors import processors

Entry = tuple[int, list[int], list[int], int]  # row, prompt, new tokens, state of the constraint


class Rules:
    """Logits processors, the constraint and the stopping criteria (`ending`) of one call."""

    def __init__(self, o: Options, vocab_size: int) -> None:
        self._processors = processors(o)
        self._compiled, self._lengths = None, None
        if o.constraint is not None:
            self._compiled = compiled(o.constraint, o.eos_token_id)
            least, most = o.min_new_tokens, o.max_new_tokens
            if least:
                self._lengths = Lengths(self._compiled, o.eos_token_id, least, most)
            check_fit(self._compiled, vocab_size, least, most, self._lengths)
        self._grammar: _core.Grammar | None = None
        self.ending = Ending(o, self._compiled)
        self.start = o.constraint.start if o.constraint is not None else 0
        self.change_logits = bool(self._processors or self._compiled)

    def bind(self, logits: FloatArray) -> None:
        """Take the logits (N, V) that are changed from now on."""
        self._logits = logits
        self._states, self._remaining = np.zeros((2, len(logits)), np.int64)
        if self._compiled is not None:
            c = self._compiled
            self._grammar = _core.Grammar(
                c.arrows.offsets, c.arrows.symbols, c.needed, logits, self._states, self._remaining
            )

    def apply(self, entries: Iterable[Entry], rows: int) -> None:
        """Changes the logits of these entries, all of them among the first `rows` rows."""
        self._states[:rows] = -1
        for row, prompt, tokens, state in entries:
            for process in self._processors:
                process(self._logits[row], prompt, tokens)
            if self._lengths is not None and len(tokens) < self.ending.least:
                self._logits[row, self._lengths.forbidden(state, len(tokens))] = -np.inf
            self._states[row], self._remaining[row] = state, self.ending.most - 1 - len(tokens)
        if self._grammar is not None:
            self._grammar.apply(rows)


def refuse_row(is_nan: bool, prompt: int, position: int) -> None:
    """The error where no token could be chosen."""
    where = f"of {{prompt}} at new token {position}"
    if is_nan:
        raise DecodingError(f"the model's logits {where} hold NaN or infinity", prompt)
    raise DecodingError(
        f"no token is allowed {where}: {{constraint}}, {{bad_words_ids}}, {{suppress_tokens}}, "
        f"{{min_new_tokens}} and the like leave none",
        prompt,
    )
