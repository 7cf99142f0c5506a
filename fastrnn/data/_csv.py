"""Rows of cells with commas (or another sign) between, quotes around what holds one, any length."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from fastrnn._arrays import shown

QUOTE = '"'


def csv_rows(
    lines: Iterable[str], path: str | os.PathLike[str], delimiter: str = ","
) -> Iterator[tuple[int, list[str]]]:
    """The number of the line where it begins, and the cells, of every row; a blank line has none.

    `lines` come without their ends. Quotes stand around a whole cell, spaces before a cell go, a
    doubled quote is one. ValueError names the line of a quote that never ends or that ends too
    early; `path` is what it calls the file. Source: RFC 4180.
    """
    rest, space = enumerate(lines, 1), f"{delimiter} "
    for number, line in rest:
        if QUOTE in line:
            yield number, list(_Quoted(path, delimiter, number, line, rest).cells())
        elif not line.strip(" "):
            yield number, []
        elif delimiter != " " and (space in line or line.startswith(" ")):
            yield number, [cell.lstrip(" ") for cell in line.split(delimiter)]
        else:
            yield number, line.split(delimiter)


def csv_line(cells: Iterable[str]) -> str:
    """A row as `csv_rows` reads it, with commas between."""
    return ",".join(
        f'"{cell.replace(QUOTE, QUOTE * 2)}"' if {QUOTE, ",", " "} & set(cell) else cell
        for cell in cells
    )


class _Quoted:
    """A row with quotes: `line` from `at` on, and the next lines if a quoted cell goes on there."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        delimiter: str,
        number: int,
        line: str,
        rest: Iterator[tuple[int, str]],
    ) -> None:
        self.path, self.delimiter, self.rest = path, delimiter, rest
        self.number, self.line, self.at = number, line, 0

    def cells(self) -> Iterator[str]:
        """The cells in order; reading stops behind the last one."""
        while self.at >= 0:
            if self.delimiter != " ":
                self._skip_spaces()
            if self.line.startswith(QUOTE, self.at):
                yield self._quoted()
                if self._to_delimiter().strip(" "):
                    raise ValueError(
                        f"{self.path} has a quote in line {self.number} that ends within a cell, "
                        f"expected {self.delimiter!r} behind it"
                    )
            else:
                yield self._to_delimiter()

    def _skip_spaces(self) -> None:
        while self.line.startswith(" ", self.at):
            self.at += 1

    def _to_delimiter(self) -> str:
        """Text up to the next delimiter; `at` is then behind it, or -1 in the last cell."""
        start, end = self.at, self.line.find(self.delimiter, self.at)
        self.at = end if end < 0 else end + 1
        return self.line[start:] if end < 0 else self.line[start:end]

    def _quoted(self) -> str:
        """The inside of quotes."""
        begun, parts = self.number, []
        self.at += 1
        while True:
            end = self.line.find(QUOTE, self.at)
            if end < 0:
                parts.append(f"{self.line[self.at :]}\n")
                self.number, self.line = next(self.rest, (0, ""))
                self.at = 0
                if not self.number:
                    raise ValueError(f"{self.path} has a quote in line {begun} that never ends")
            elif self.line.startswith(QUOTE, end + 1):
                parts.append(self.line[self.at : end + 1])
                self.at = end + 2
            else:
                parts.append(self.line[self.at : end])
                self.at = end + 1
                return "".join(parts)


def checked_delimiter(delimiter: object) -> str:
    """One character that can stand between cells."""
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in f"{QUOTE}\n\r":
        raise ValueError(f"delimiter is {shown(delimiter)}, expected one character and no quote")
    return delimiter
