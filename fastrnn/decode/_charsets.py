"""Sets of characters as ranges of code points, and classes that a pattern can tell apart."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TypeAlias

LAST = 0x10FFFF
Charset: TypeAlias = tuple[tuple[int, int], ...]  # first and last of every range, rising, apart


def charset(ranges: Iterable[tuple[int, int]]) -> Charset:
    """The union of ranges in any order."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return tuple(found)


def complement(characters: Charset) -> Charset:
    """All other characters."""
    starts = [0, *(last + 1 for _, last in characters)]
    ends = [*(first - 1 for first, _ in characters), LAST]
    return tuple((a, b) for a, b in zip(starts, ends, strict=True) if a <= b)


_CLASSES: dict[str, Callable[[str], bool]] = {
    "d": str.isdecimal,
    "s": str.isspace,
    "w": lambda c: c.isalnum() or c == "_",
}


@cache
def named(name: str) -> Charset | None:
    """Characters of \\d, \\s, \\w as in Python, all others for capitals; None for other letters."""
    if name.lower() not in _CLASSES:
        return None
    if name.isupper():
        inside = named(name.lower())
        return None if inside is None else complement(inside)
    belongs = _CLASSES[name]
    return charset((code, code) for code in range(LAST + 1) if belongs(chr(code)))


class Partition:
    """Classes of characters that no set tells apart: numbers from 0, for any code point."""

    def __init__(self, sets: Sequence[Charset], spend: Callable[[int], None]) -> None:
        points = {point for ranges in sets for a, b in ranges for point in (a, b + 1)}
        self._starts = sorted({0, *points})
        members: list[list[int]] = [[] for _ in self._starts]
        for number, ranges in enumerate(sets):
            for first, last in ranges:
                segments = range(bisect_left(self._starts, first), bisect_right(self._starts, last))
                spend(len(segments))
                for segment in segments:
                    members[segment].append(number)
        classes: dict[tuple[int, ...], int] = {}
        self._classes = [classes.setdefault(tuple(found), len(classes)) for found in members]
        self.of_set: list[list[int]] = [[] for _ in sets]  # the classes that make up every set
        for found, number in classes.items():
            for owner in found:
                self.of_set[owner].append(number)

    def __len__(self) -> int:
        return max(self._classes) + 1

    def of(self, character: str) -> int:
        """The class of a character."""
        return self._classes[bisect_right(self._starts, ord(character)) - 1]

    def ranges(self) -> list[tuple[int, int, int]]:
        """First, last and class of all code points in rising order."""
        ends = [start - 1 for start in self._starts[1:]] + [LAST]
        return [
            (first, last, number)
            for first, last, number in zip(self._starts, ends, self._classes, strict=True)
            if first <= last
        ]
