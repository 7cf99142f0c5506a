"""Errors that know which argument they are about, and how errors show values."""

from __future__ import annotations

import math
import operator
import os
from numbers import Integral

_MOST_BITS = 128  # of an int that an error spells out; Python refuses beyond 4300 digits
_MOST_SHOWN = 100  # characters of a value in an error
_MOST_PARTS = 4  # entries of a container that are shown


class _ArgumentFaultError(Exception):
    """A refused argument: `argument` its name, `value` what came, `expected` what may come.

    The text is the sentence of the three, or `sentence` where one says it better.
    """

    def __init__(
        self, argument: str, value: object, expected: str, sentence: str | None = None
    ) -> None:
        super().__init__(argument, value, expected, sentence)  # what a pickle makes it of again
        self.argument, self.value, self.expected = argument, value, expected

    def __str__(self) -> str:
        sentence: str | None = self.args[3]
        return sentence or f"{self.argument} is {shown(self.value)}, expected {self.expected}"


class ArgumentError(_ArgumentFaultError, ValueError):
    """An argument of the right type and a wrong value; see the fields of `_ArgumentFaultError`."""


class ArgumentTypeError(_ArgumentFaultError, TypeError):
    """An argument of a wrong type, with the same fields."""


def cut(text: str, most: int = _MOST_SHOWN) -> str:
    """The text if it has at most `most` characters, else its beginning and three dots."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def shown(value: object) -> str:
    """A value as an error names it: its repr, cut, and of a huge int the first digits only."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        number = operator.index(value)
        if number.bit_length() > _MOST_BITS:
            more = int(number.bit_length() * math.log10(2)) - 8
            return f"{'-' if number < 0 else ''}{abs(number) // 10**more}... (about 1e{more + 8})"
    try:
        return cut(repr(value))
    except ValueError:  # a fraction of ints that have too many digits to be printed
        return with_article(type(value).__name__)


def with_article(noun: str) -> str:
    """The name of a class or of a cell with a or an before it: an LSTM, a GRU."""
    is_spelled_out = noun.startswith(("RNN", "LSTM", "nd"))  # "an ar-en-en"
    return f"{'an' if is_spelled_out or noun[:1] in 'aeioAEIO' else 'a'} {noun}"


def safe(value: object, limit: int = 120) -> str:
    """A value from an untrusted file, safe to print: no control characters, at most `limit` long.

    The text of a container is never made: it may be longer than any memory.
    """
    plain = value if isinstance(value, str) else _plain(value)
    plain = cut(plain, limit)
    if not plain.isprintable():
        plain = ascii(plain)[1:-1][:limit]
    return plain


def _plain(value: object) -> str:
    if isinstance(value, BaseException):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    return outline(value, 0)


def outline(value: object, depth: int = 1) -> str:
    """A few words on any value of a pickle: containers by kind and size, deeper than `depth`."""
    if value is None or isinstance(value, (bool, float)):
        return str(value)
    if isinstance(value, int):
        wide = value.bit_length()
        return str(value) if wide <= 256 else f"an integer of {wide} bits"
    if isinstance(value, str):
        return repr(cut(value, 40))
    if isinstance(value, (list, tuple)) and depth > 0:
        return "(" + ", ".join(outline_parts(value, depth - 1)) + ")"
    if isinstance(value, (list, tuple, dict, bytes)):
        return f"{type(value).__name__} of {len(value)}"
    described = getattr(value, "outline", None)
    return str(described(depth)) if callable(described) else f"object ({type(value).__name__})"


def outline_parts(values: list[object] | tuple[object, ...], depth: int) -> list[str]:
    """The first few values, each in a few words, and how many there are besides."""
    parts = [outline(value, depth) for value in values[:_MOST_PARTS]]
    return [*parts, f"and {len(values) - _MOST_PARTS} more"] if len(values) > _MOST_PARTS else parts
