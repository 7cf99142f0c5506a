"""Types of options: functions from a word to its value, or to an error about it."""

from __future__ import annotations

import math
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile

from fastrnn._arrays import shown

MAX_THREADS = 256  # of fastrnn.set_num_threads
_MOST_DIGITS = 40  # more than any bound here has, and fewer than Python refuses to read


def whole(low: int | None = None, high: int = 1 << 31) -> Callable[[str], int]:
    """The type of ints from `low` to `high`; without `low` from -high."""
    least = -high if low is None else low

    def read(text: str) -> int:
        digits = text.strip().removeprefix("+").lstrip("0") or "0"
        is_beyond = digits.isdecimal() and len(digits) > _MOST_DIGITS
        try:
            value = high + 1 if is_beyond else int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= high:
            bound = "" if low is None else f" of {low} or more"
            most = f", at most {high}" if value > high else ""
            raise ArgumentTypeError(f"must be a whole number{bound}{most}, got {_given(text)}")
        return value

    return read


def number(
    low: float = -math.inf, high: float = math.inf, *, above: bool = False
) -> Callable[[str], float]:
    """The type of finite numbers from `low` (`above`: greater than it) to `high`."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low < value if above else low <= value) or value > high or math.isinf(value):
            least = (
                "" if low == -math.inf else f" above {low:g}" if above else f" of {low:g} or more"
            )
            most = f", at most {min(high, sys.float_info.max):.3g}" if value > low else ""
            raise ArgumentTypeError(f"must be a number{least}{most}, got {_given(text)}")
        return value

    return read


def _given(text: str) -> str:
    """The word as it came, if it is short and plain."""
    return text if text.isprintable() and len(text) <= _MOST_DIGITS else shown(text)


def some_text(text: str) -> str:
    """The type of texts that are not empty; \\n and \\t stand for a new line and a tab."""
    if not text:
        raise ArgumentTypeError("expected some text")
    return text.replace("\\n", "\n").replace("\\t", "\t")


def names(text: str) -> list[str]:
    """The type of lists: names with commas between them, in quotes where one has a comma."""
    from fastrnn.data._csv import csv_rows

    try:
        rows = [row for _, row in csv_rows([text], "the list")]
    except ValueError as error:
        raise ArgumentTypeError(f"must be names with commas between them: {error}") from None
    found = [name.strip() for name in rows[0]]
    if not found or not all(found):
        raise ArgumentTypeError(f"must be names with commas between them, got {shown(text)}")
    return found


def check_place(option: str, path: str) -> None:
    """ValueError where no file can be written, before the work is done for it.

    A folder that is not there yet will be made, so the one that it will be made in is tried.
    """
    folder = next(place for place in Path(path).absolute().parents if place.exists())
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        wanted = "expected a folder that can be written"
        raise ValueError(f"{option} {path}: {folder}: {error.strerror}, {wanted}") from error


def check_picture(option: str, path: str) -> None:
    """ValueError where a picture cannot be written, before the work is done for it."""
    try:
        import_module("matplotlib")
    except ImportError:
        raise ValueError(f"{option} needs matplotlib: pip install fastrnn[plot]") from None
    if Path(path).suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(f"{option} {path}: expected a name that ends with .png, .pdf or .svg")
    check_place(option, path)
