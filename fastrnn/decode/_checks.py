"""Checks of single arguments; every error names the argument, what was expected and what came."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastrnn._arrays import as_int, as_number
from fastrnn._errors import ArgumentError, ArgumentTypeError, with_article


class DecodingError(ValueError):
    """A search in which nothing can be chosen, for all prompts or for number `prompt`, from 0.

    `problem` is the text with {prompt} in the place of the prompt, and in that of an argument of
    `generate` its name in braces.
    """

    def __init__(self, problem: str, prompt: int | None = None) -> None:
        super().__init__(problem, prompt)
        self.problem, self.prompt = problem, prompt

    def __str__(self) -> str:
        return self.told(f"prompt {self.prompt}", lambda argument: argument)

    def told(self, prompt: str, name_of: Callable[[str], str]) -> str:
        """The text with what the reader calls the prompt and the arguments."""
        return self.problem.format_map(_Names(prompt, name_of))


class _Names(dict[str, str]):
    def __init__(self, prompt: str, name_of: Callable[[str], str]) -> None:
        super().__init__(prompt=prompt)
        self._name_of = name_of

    def __missing__(self, argument: str) -> str:
        return self._name_of(argument)


def within(low: float, high: float, value: object, name: str) -> float:
    """A number from `low` to `high`."""
    number = as_number(value, name)
    if not low <= number <= high:
        wanted = f"a number from {low:g} to {high:g}"
        raise ArgumentError(name, value, wanted, f"{name} is {number}, expected {wanted}")
    return number


def at_least(low: int, value: object, name: str) -> int:
    """An int of `low` or more that 64 bits hold."""
    number = as_int(value, name)
    if number < low:
        raise ArgumentError(name, number, f"an int of {low} or more")
    return number


def as_id(value: object, name: str, vocab_size: int) -> int:
    """A token of the vocabulary."""
    token = as_int(value, name)
    if not 0 <= token < vocab_size:
        wanted = f"ids from 0 to {vocab_size - 1}"
        raise ArgumentError(name, token, wanted, f"{name} holds {token}, expected {wanted}")
    return token


def as_ids(values: Any, name: str, vocab_size: int) -> tuple[int, ...]:
    """Tokens of the vocabulary; None for none."""
    if values is None:
        return ()
    if not _is_list(values):
        text = f"{name} is {with_article(type(values).__name__)}, expected token ids"
        raise ArgumentTypeError(name, values, "token ids", text)
    return tuple(as_id(value, name, vocab_size) for value in values)


def as_lists(values: Any, name: str, vocab_size: int) -> tuple[tuple[int, ...], ...]:
    """Sequences of tokens, none of them empty; None for none."""
    if values is None:
        return ()
    if not _is_list(values):
        kind = with_article(type(values).__name__)
        wanted = "a list of sequences of token ids"
        raise ArgumentTypeError(name, values, wanted, f"{name} is {kind}, expected {wanted}")
    lists = tuple(as_ids(part, f"{name}[{i}]", vocab_size) for i, part in enumerate(values))
    if () in lists:
        text = f"{name} holds an empty sequence, expected at least one id"
        raise ArgumentError(name, values, "no empty sequence", text)
    return lists


def _is_list(values: Any) -> bool:
    """True for what can be gone through: no text, no array without dimensions."""
    is_text = isinstance(values, (str, bytes, bytearray))
    return isinstance(values, Iterable) and not is_text and getattr(values, "ndim", 1) > 0
