"""Checks of single arguments; every error names the argument, what was expected and what came."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastrnn._arrays import as_int, as_number, with_article


def within(low: float, high: float, value: object, name: str) -> float:
    """A number from `low` to `high`."""
    number = as_number(value, name)
    if not low <= number <= high:
        raise ValueError(f"{name} is {number}, expected a number from {low:g} to {high:g}")
    return number


def at_least(low: int, value: object, name: str) -> int:
    """An int of `low` or more that 64 bits hold."""
    number = as_int(value, name)
    if number < low:
        raise ValueError(f"{name} is {number}, expected an int of {low} or more")
    return number


def as_id(value: object, name: str, vocab_size: int) -> int:
    """A token of the vocabulary."""
    token = as_int(value, name)
    if not 0 <= token < vocab_size:
        raise ValueError(f"{name} holds {token}, expected ids from 0 to {vocab_size - 1}")
    return token


def as_ids(values: Any, name: str, vocab_size: int) -> tuple[int, ...]:
    """Tokens of the vocabulary; None for none."""
    if values is None:
        return ()
    if not _is_list(values):
        raise TypeError(f"{name} is {with_article(type(values).__name__)}, expected token ids")
    return tuple(as_id(value, name, vocab_size) for value in values)


def as_lists(values: Any, name: str, vocab_size: int) -> tuple[tuple[int, ...], ...]:
    """Sequences of tokens, none of them empty; None for none."""
    if values is None:
        return ()
    if not _is_list(values):
        kind = with_article(type(values).__name__)
        raise TypeError(f"{name} is {kind}, expected a list of sequences of token ids")
    lists = tuple(as_ids(part, f"{name}[{i}]", vocab_size) for i, part in enumerate(values))
    if () in lists:
        raise ValueError(f"{name} holds an empty sequence, expected at least one id")
    return lists


def _is_list(values: Any) -> bool:
    """Whether there is something to go through: no text, no array without dimensions."""
    is_text = isinstance(values, (str, bytes, bytearray))
    return isinstance(values, Iterable) and not is_text and getattr(values, "ndim", 1) > 0
