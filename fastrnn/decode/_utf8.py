"""From characters to the bytes that write them, for tokens that end within a character."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

Piece: TypeAlias = tuple[int, int, int]  # first and last code point (or rest of one), target

# First and last code point, first byte, and how many bytes follow it with six bits each (RFC 3629).
_LENGTHS = (
    (0, 0x7F, 0, 0),
    (0x80, 0x7FF, 0xC0, 1),
    (0x800, 0xFFFF, 0xE0, 2),
    (0x10000, 0x10FFFF, 0xF0, 3),
)
_SURROGATES = (0xD800, 0xDFFF)  # no text in UTF-8 holds one


def over_bytes(
    arrows: list[dict[int, int]],
    ranges: Sequence[tuple[int, int, int]],
    spend: Callable[[int], None],
) -> list[dict[int, int]]:
    """The same states over bytes, and behind them those within a character.

    `arrows` are over classes of characters, `ranges` say which code points a class holds.
    """
    return _Bytes(len(arrows), spend).all(arrows, ranges)


class _Bytes:
    def __init__(self, states: int, spend: Callable[[int], None]) -> None:
        self.arrows: list[dict[int, int]] = [{} for _ in range(states)]
        self.inner: dict[tuple[int, tuple[Piece, ...]], int] = {}  # by what is still to come
        self.spend = spend

    def all(
        self, arrows: list[dict[int, int]], ranges: Sequence[tuple[int, int, int]]
    ) -> list[dict[int, int]]:
        for state, following in enumerate(arrows):
            self.spend(len(ranges))
            pieces = _joined(
                (first, last, following[symbol])
                for first, last, symbol in ranges
                if symbol in following
            )
            for low, high, lead, count in _LENGTHS:
                part = _within(pieces, low, high)
                self._add(self.arrows[state], part, lead, count)
        return self.arrows

    def _add(self, arrows: dict[int, int], pieces: Sequence[Piece], lead: int, count: int) -> None:
        """Arrows of the byte lead + (code point >> 6 * count), behind which `count` follow."""
        size = 1 << 6 * count
        for first, last, target in pieces:
            self.spend(last // size - first // size + 1)
            if not count:
                arrows.update(dict.fromkeys(range(lead + first, lead + last + 1), target))
        if not count:
            return
        inside: dict[int, list[Piece]] = {}
        for first, last, target in pieces:
            for top in range(first // size, last // size + 1):
                start = top * size
                rest = max(first - start, 0), min(last - start, size - 1), target
                inside.setdefault(top, []).append(rest)
        for top, rests in inside.items():
            arrows[lead + top] = self._state(tuple(rests), count - 1)

    def _state(self, pieces: tuple[Piece, ...], count: int) -> int:
        """The state before the last `count` + 1 bytes of a character."""
        key = count, pieces
        if key not in self.inner:
            number = self.inner[key] = len(self.arrows)
            self.arrows.append({})
            self._add(self.arrows[number], pieces, 0x80, count)
        return self.inner[key]


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Neighbours with one target as one piece, without surrogates."""
    found: list[Piece] = []
    for first, last, target in pieces:
        for a, b in (
            (first, min(last, _SURROGATES[0] - 1)),
            (max(first, _SURROGATES[1] + 1), last),
        ):
            if a > b:
                continue
            if found and found[-1][1] + 1 == a and found[-1][2] == target:
                found[-1] = found[-1][0], b, target
            else:
                found.append((a, b, target))
    return found


def _within(pieces: Sequence[Piece], low: int, high: int) -> list[Piece]:
    return [(max(a, low), min(b, high), t) for a, b, t in pieces if a <= high and b >= low]
