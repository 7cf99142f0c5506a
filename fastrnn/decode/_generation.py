"""Results of decoding, and the penalty by which long and short ones are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Penalty: TypeAlias = Callable[[int], float]  # what a sum of log-probabilities is divided by


@dataclass(frozen=True, slots=True)
class Generation:
    """One generated sequence: the new token ids, and how likely the model finds them.

    `tokens` holds the new ids, the end token (or stop sequence) included when it was produced;
    `logprobs` the natural logarithm of each one's probability; `score` is their sum divided by
    length ** length_penalty (or the GNMT form). `finish_reason` is "eos", "stop" (a stop
    sequence), "constraint" (nothing may follow) or "length" (nothing more fits). With a constraint,
    whatever the reason, `tokens` without an end token are a text that it accepts.
    """

    tokens: list[int]
    logprobs: list[float]
    score: float
    finish_reason: str


def length_penalty_of(form: str, alpha: float) -> Penalty:
    """length ** alpha, or ((5 + length) / 6) ** alpha (Wu et al. 2016)."""
    if form == "gnmt":
        return lambda length: float(((5 + length) / 6) ** alpha)
    return lambda length: float(length**alpha)
