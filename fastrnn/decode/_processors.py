"""Logits processors, in the order of Hugging Face's generate.

A processor takes one row of logits (V,), which it changes, the prompt and the new tokens so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from fastrnn._arrays import FloatArray, as_float32
from fastrnn.decode._options import Options

Processor: TypeAlias = Callable[[FloatArray, list[int], list[int]], None]
Words: TypeAlias = Sequence[tuple[int, ...]]


def processors(o: Options) -> list[Processor]:
    """The processors that these options ask for; temperature and filters are in the kernels."""
    found: list[Processor] = []
    if o.repetition_penalty != 1.0:
        found.append(_repetition(np.float32(o.repetition_penalty)))
    if o.no_repeat_ngram_size:
        found.append(_no_repeat(o.no_repeat_ngram_size))
    if o.bad_words_ids:
        found.append(_bad_words(o.bad_words_ids))
    if o.min_new_tokens and o.eos_token_id:
        found.append(_forbid(o.eos_token_id, range(o.min_new_tokens)))
    if o.forced_tokens:
        found.append(_force(o.forced_tokens))
    if o.suppress_tokens:
        found.append(_forbid(o.suppress_tokens, range(o.max_new_tokens)))
    if o.begin_suppress_tokens:
        begin = next(i for i in range(o.max_new_tokens + 1) if i not in o.forced_tokens)
        found.append(_forbid(o.begin_suppress_tokens, range(begin, begin + 1)))
    return found + [_hook(function) for function in o.logits_processor]


def _repetition(penalty: np.float32) -> Processor:
    """Logits of tokens that occurred: divided by the penalty above 0, multiplied below (CTRL)."""

    def process(x: FloatArray, prompt: list[int], tokens: list[int]) -> None:
        seen = list({*prompt, *tokens})
        values = x[seen]
        x[seen] = np.where(values < 0, values * penalty, values / penalty)

    return process


def _no_repeat(size: int) -> Processor:
    """No sequence of `size` tokens twice, the prompt included."""

    def process(x: FloatArray, prompt: list[int], tokens: list[int]) -> None:
        text = prompt + tokens
        tail = text[len(text) - size + 1 :]
        starts = range(len(text) - size + 1)
        banned = [text[i + size - 1] for i in starts if text[i : i + size - 1] == tail]
        x[banned] = -np.inf

    return process


def _bad_words(words: Words) -> Processor:
    """The last token of a word is forbidden behind the others, and everywhere if it is alone."""
    always = np.array([word[0] for word in words if len(word) == 1], np.int64)
    behind: dict[int, list[tuple[list[int], int]]] = {}  # by the token before the last one
    for word in words:
        if len(word) > 1:
            behind.setdefault(word[-2], []).append((list(word[:-1]), word[-1]))

    def process(x: FloatArray, prompt: list[int], tokens: list[int]) -> None:
        x[always] = -np.inf
        text = prompt + tokens
        for before, last in behind.get(text[-1], ()):
            if text[-len(before) :] == before:
                x[last] = -np.inf

    return process


def _forbid(ids: Sequence[int], positions: range) -> Processor:
    """None of these tokens at these positions."""
    banned = np.array(ids)

    def process(x: FloatArray, prompt: list[int], tokens: list[int]) -> None:
        if len(tokens) in positions:
            x[banned] = -np.inf

    return process


def _force(forced: dict[int, int]) -> Processor:
    """At these positions one token and no other, whatever came before: its logit is 0."""

    def process(x: FloatArray, prompt: list[int], tokens: list[int]) -> None:
        token = forced.get(len(tokens))
        if token is not None:
            x[...] = -np.inf
            x[token] = 0

    return process


def _hook(function: Callable[[Any, Any], Any]) -> Processor:
    """A caller's function(prompt and new tokens (T,), logits (V,)); it may return new ones."""

    def process(x: FloatArray, prompt: list[int], tokens: list[int]) -> None:
        changed = function(np.array(prompt + tokens), x)
        if changed is not None and changed is not x:
            changed = as_float32(changed, "the result of logits_processor")
            if changed.shape != x.shape:
                raise ValueError(
                    f"logits_processor gave shape {changed.shape}, expected {x.shape} or None"
                )
            x[...] = changed
        if np.isnan(x).any() or np.isposinf(x).any():
            raise ValueError("logits_processor gave NaN or infinity, expected numbers or -inf")

    return process
